from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from engines import SETTINGS
from fakes import Scripted
from hypothesis import given, settings
from hypothesis import strategies as st

from feedbackloop.errors import AuthenticationFailed, PromptError, SettingsError, UnknownName
from feedbackloop.models import Case, Exemplar, Variant
from feedbackloop.pipeline.cells import Asking, cells
from feedbackloop.pipeline.engine import Engine
from feedbackloop.settings import Settings


class TakesInputs(Scripted):
    takes_inputs = True

    def __init__(self, source="v1"):
        super().__init__(["x"])
        self.source = source

    def prepare(self, model):
        return self.source


@pytest.fixture
def made():
    engine = Engine(SETTINGS)
    engine._providers |= {"a": Scripted(["x"]), "b": Scripted(["x"]), "c": TakesInputs()}
    return engine


def asking(engine, *names, **fields):
    return [Asking.of(Variant(**{"name": name, "model": f"a:{name}", **fields}), engine) for name in names]


def one(engine, **fields):
    return asking(engine, "m", **fields)[0]


def case(text="hi", **fields):
    return Case(**{"inputs": {"input": text}, **fields})


def every(some, ready, repeats=1, priority=5, **known):
    levels = {item.metadata.get("priority") for item in some}
    return list(cells(some, ready, repeats=repeats, priority=priority, priorities=levels, **known))


# Order


def test_each_case_is_put_to_each_variant_as_often_as_said(made):
    found = every([case(str(n)) for n in range(5)], asking(made, "x", "y", "z"), repeats=2)
    counted = Counter((cell.request.case_id, cell.request.variant_id, cell.request.repeat) for cell in found)
    assert len(counted) == len(found) == 5 * 3 * 2


def test_variants_take_turns_at_being_first(made):
    found = every([case(str(n)) for n in range(6)], asking(made, "x", "y", "z"))
    assert [cell.request.model[-1] for cell in found] == list("xyzyzxzxy") * 2


def test_repeats_take_turns_too(made):
    found = every([case()], asking(made, "x", "y"), repeats=3)
    assert [(cell.request.repeat, cell.request.model[-1]) for cell in found] == [
        (0, "x"), (0, "y"), (1, "y"), (1, "x"), (2, "x"), (2, "y"),
    ]  # fmt: skip


def test_higher_priorities_come_first_and_each_level_takes_turns_of_its_own(made):
    some = [case(f"{n}", metadata={"priority": 9} if n % 2 else {}) for n in range(8)]
    found = every(some, asking(made, "x", "y"))
    assert [cell.request.priority for cell in found] == [9] * 8 + [5] * 8
    assert [cell.request.model[-1] for cell in found] == list("xyyx") * 4


def test_cases_without_a_priority_have_the_runs(made):
    found = every([case("1"), case("2", metadata={"priority": 3})], asking(made, "x"), priority=7)
    assert [cell.request.priority for cell in found] == [7, 3]
    assert {cell.request.priority for cell in every([case()], asking(made, "x"), priority=10)} == {10}


@given(
    st.lists(st.sampled_from([None, 1, 5, 10]), max_size=12), st.integers(1, 3), st.integers(1, 4), st.integers(1, 10)
)
@settings(max_examples=60, deadline=None)
def test_every_cell_comes_once_in_order_of_priority(levels, repeats, variants, priority):
    engine = Engine(SETTINGS)
    engine._providers["a"] = Scripted(["x"])
    some = [case(str(n), metadata={} if level is None else {"priority": level}) for n, level in enumerate(levels)]
    found = every(some, asking(engine, *"wxyz"[:variants]), repeats, priority)
    ids = [(cell.request.case_id, cell.request.variant_id, cell.request.repeat) for cell in found]
    assert len(set(ids)) == len(ids) == len(levels) * repeats * variants
    order = [cell.request.priority for cell in found]
    assert order == sorted(order, reverse=True)
    # A bad hour falls on all variants alike: at no moment is one ahead of another by more than its turn.
    seen = Counter()
    for cell in found:
        seen[cell.request.variant_id] += 1
        assert max(seen.values()) - min(seen.values() if len(seen) == variants else [0]) <= 2


def test_cells_are_made_one_at_a_time(made):
    def endless():
        number = 0
        while True:
            yield case(str(number))
            number += 1

    found = cells(endless(), asking(made, "x"), repeats=1, priority=5, priorities={None})
    assert [next(found).request.input for _ in range(3)] == ["0", "1", "2"]


def test_an_empty_dataset_has_no_cells(made):
    assert every([], asking(made, "x")) == []


def test_what_all_requests_share_is_in_each(made):
    [cell] = every([case(external_id="row-1")], asking(made, "x"), run_id="r", task="t")
    assert (cell.request.run_id, cell.request.task) == ("r", "t")
    assert cell.request.metadata == {"variant": "x", "external_id": "row-1"}
    assert cell.models == ("a:x",)


# Keys


def key(engine, item=None, repeat=0, **fields):
    return one(engine, **fields).request(item or case(), repeat).key


def test_equal_content_has_an_equal_key_whatever_its_names(made):
    assert (
        key(made)
        == key(made, name="other")
        == key(made, prompt="{{ input }}")
        == key(made, case(expected="4", segment="s"))
    )
    assert key(made) == key(made, case(messages=[], metadata={"priority": 3}))


def test_two_templates_that_render_alike_have_an_equal_key(made):
    assert key(made, prompt="Say hi") == key(made, prompt="Say {{ input }}")
    assert key(made, prompt=[{"role": "user", "content": "hi"}]) == key(made)


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "a:other"},
        {"model": "b:m"},
        {"params": {"temperature": 1}},
        {"prompt": "{{ input }}!"},
        {"prompt": [{"role": "system", "content": "hi"}]},
        {"exemplars": [Exemplar(inputs={"input": "a"}, output="b")]},
        {"repeat": 1},
        {"item": case("ho")},
    ],
)
def test_what_changes_the_question_changes_the_key(made, fields):
    assert key(made, **fields) != key(made)


def test_the_order_of_parameters_does_not_matter(made):
    assert key(made, params={"a": 1, "b": 2}) == key(made, params={"b": 2, "a": 1})


def test_fallbacks_do_not_change_the_key(made):
    assert key(made, fallbacks=["b:m"]) == key(made)


def test_a_model_has_one_key_however_it_is_written():
    engine = Engine(SETTINGS.model_copy(update={"default_provider": "a"}))
    engine._providers["a"] = Scripted(["x"])
    assert key(engine, model="a:m") == key(engine, model="a/m") == key(engine, model="m")


def test_the_source_of_a_function_is_part_of_the_key(made):
    before = key(made, model="c:f")
    made._providers["c"] = TakesInputs("v2")
    assert key(made, model="c:f") != before


# What is asked


def test_a_plain_message_is_not_kept_twice(made):
    request = one(made).request(case("hi"), 0)
    assert (request.input, request.messages) == ("hi", [])


@pytest.mark.parametrize(
    ("fields", "item", "text"),
    [
        (
            {"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "{{ input }}"}]},
            case("hi"),
            "hi",
        ),
        ({"prompt": [{"role": "user", "content": "{{ input }}", "name": "ann"}]}, case("hi"), "hi"),
        ({}, case("hi", messages=[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]), "hi"),
        ({"prompt": [{"role": "system", "content": "only {{ input }}"}]}, case("hi"), "only hi"),
    ],
)
def test_anything_else_is_kept_whole(made, fields, item, text):
    request = one(made, **fields).request(item, 0)
    assert request.messages == one(made, **fields).render(item)
    assert request.input == text


def test_a_function_gets_the_inputs_instead_of_messages(made):
    asked = one(made, model="c:f")
    item = Case(inputs={"question": "q", "n": 3}, context=["doc"], messages=[{"role": "user", "content": "before"}])
    request = asked.request(item, 0)
    assert asked.prompt is None
    assert request.inputs == {
        "question": "q",
        "n": 3,
        "context": ["doc"],
        "messages": [{"role": "user", "content": "before"}],
    }
    assert request.input == '{"question": "q", "n": 3}'
    assert asked.request(case("hi"), 0).input == "hi"
    assert asked.request(case("hi"), 0).inputs == {"input": "hi"}


@pytest.mark.parametrize("fields", [{"prompt": "{{ input }}"}, {"exemplars": [Exemplar(inputs={}, output="x")]}])
def test_a_function_with_a_prompt_is_a_mistake(made, fields):
    with pytest.raises(SettingsError, match="leave its prompt and exemplars out"):
        one(made, model="c:f", **fields)


def test_what_cannot_be_asked_is_said_before_anything_is(made):
    with pytest.raises(AuthenticationFailed, match="OPENAI_API_KEY"):
        Asking.of(Variant(name="x", model="openai:gpt-4o"), Engine(Settings()))
    with pytest.raises(AuthenticationFailed):
        one(made, fallbacks=["openai:gpt-4o"])
    with pytest.raises(UnknownName):
        one(made, model="nobody:m")
    with pytest.raises(PromptError):
        one(made, prompt="{{ input")


def test_a_case_that_lacks_a_variable_names_it(made):
    with pytest.raises(PromptError, match="'city' is undefined"):
        one(made, prompt="{{ city }}").request(case(), 0)


def test_a_fallback_that_is_the_model_itself_is_asked_once(made):
    assert one(made, fallbacks=["a:m", "b:m", "b/m"]).models == ("a:m", "b:m")


def test_the_function_provider_itself_takes_inputs_and_no_prompt(tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text("def answer(inputs):\n    return str(sorted(inputs))\n")
    engine = Engine(Settings(base=tmp_path))
    asking = Asking.of(Variant(name="f", model="python:my.py:answer"), engine)
    case = Case(inputs={"question": "q", "lang": "en"}, context=["d"], messages=[{"role": "user", "content": "hi"}])
    request = asking.request(case, 0)
    assert request.inputs == {"question": "q", "lang": "en", "context": ["d"], "messages": case.messages}
    with pytest.raises(SettingsError, match="leave its prompt"):
        Asking.of(Variant(name="f", model="python:my.py:answer", prompt="x"), engine)
