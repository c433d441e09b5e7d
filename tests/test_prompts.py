"""Prompts: from a case to the messages that a model is sent."""

from __future__ import annotations

import pytest

from feedbackloop.errors import PromptError
from feedbackloop.models import Case, Exemplar, Variant
from feedbackloop.prompts import Prompt, last_user_text

TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


def render(prompt: object, case: Case, **more: object) -> list:
    return Prompt.of(Variant(name="v", model="a:b", prompt=prompt, **more)).render(case)


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def test_a_text_is_one_user_message() -> None:
    assert render("Say {{ input }}!\n", Case(inputs={"input": "a {{ b }}"})) == [user("Say a {{ b }}!\n")]


def test_without_a_prompt_the_input_is_sent_as_it_is() -> None:
    assert render(None, Case(inputs={"input": " x "})) == [user(" x ")]


def test_an_empty_value_is_rendered_as_nothing() -> None:
    prompt = "{{ name }}: {{ city or 'unknown' }}{% if not name %}!{% endif %}"
    assert render(prompt, Case(inputs={"name": None, "city": None})) == [user(": unknown!")]


def test_a_list_keeps_roles_and_every_other_key() -> None:
    prompt = [
        {"role": "system", "content": "Be {{ tone }}."},
        {"role": "user", "content": "{{ input }}", "name": "{{x}}"},
    ]
    assert render(prompt, Case(inputs={"tone": "kind", "input": "q"})) == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "q", "name": "{{x}}"},
    ]


def test_parts_of_a_message_are_rendered_too() -> None:
    prompt = [{"role": "user", "content": [{"type": "text", "text": "{{ input }}"}]}]
    assert render(prompt, Case(inputs={"input": "q"})) == [{"role": "user", "content": [{"type": "text", "text": "q"}]}]


def test_a_conversation_goes_before_the_last_user_message_and_is_no_template() -> None:
    talk = [*TALK, user("{{ not_a_variable }}")]
    prompt = [{"role": "system", "content": "S"}, {"role": "user", "content": "{{ input }}"}]
    rendered = render(prompt, Case(inputs={"input": "q"}, messages=talk))
    assert rendered == [{"role": "system", "content": "S"}, *talk, user("q")]


def test_a_case_that_is_only_a_conversation_needs_no_input() -> None:
    assert render(None, Case(inputs={}, messages=TALK)) == TALK


def test_exemplars_are_rendered_by_the_prompts_own_template() -> None:
    shots = [Exemplar(inputs={"input": "1"}, output="one"), Exemplar(inputs={"input": "2"}, output="two")]
    prompt = [{"role": "system", "content": "S"}, {"role": "user", "content": "Name {{ input }}"}]
    assert render(prompt, Case(inputs={"input": "3"}, messages=TALK), exemplars=shots) == [
        {"role": "system", "content": "S"},
        user("Name 1"),
        {"role": "assistant", "content": "one"},
        user("Name 2"),
        {"role": "assistant", "content": "two"},
        *TALK,
        user("Name 3"),
    ]


def test_slots_can_be_placed() -> None:
    shots = [Exemplar(inputs={"input": "1"}, output="one")]
    prompt = ["messages", "exemplars", {"role": "user", "content": "{{ input }}"}]
    rendered = render(prompt, Case(inputs={"input": "3"}, messages=TALK), exemplars=shots)
    assert [m["content"] for m in rendered] == ["Hi", "Hello", "1", "one", "3"]


def test_documents_are_the_variable_context() -> None:
    prompt = "{% for document in context %}[{{ document.text or document }}]{% endfor %} {{ input }}"
    case = Case(inputs={"input": "q"}, context=[{"title": "A", "text": "alpha"}])
    assert render(prompt, case) == [user("[alpha] q")]


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [
        ("{{ inptu }}", "the prompt of 'v' needs what this case lacks: 'inptu' is undefined (it has: input)"),
        (
            "{{ input.x.y }}",
            "the prompt of 'v' needs what this case lacks: 'str object' has no attribute 'x' (it has: input)",
        ),
        ("{{ 1 / 0 }}", "the prompt of 'v' fails on this case: ZeroDivisionError: division by zero"),
        ("{{ ''.__class__.__mro__ }}", "the prompt of 'v' fails on this case: SecurityError"),
        ("{{ context.append(1) }}", "the prompt of 'v' fails on this case: SecurityError"),
    ],
)
def test_what_cannot_be_rendered_is_one_sentence(prompt: str, sentence: str) -> None:
    with pytest.raises(PromptError) as caught:
        render(prompt, Case(inputs={"input": "q"}))
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [
        ("{{ input", "message 1 of the prompt of 'v', line 1:"),
        ("a\n{% if x %}", "message 1 of the prompt of 'v', line 2:"),
        ([], "the prompt of 'v' is an empty list"),
        (["history"], "message 1 of the prompt of 'v' is the text 'history'"),
        ([{"content": "x"}], "message 1 of the prompt of 'v' needs a role and a content"),
    ],
)
def test_what_is_no_prompt_is_one_sentence(prompt: object, sentence: str) -> None:
    with pytest.raises(PromptError) as caught:
        Prompt.of(Variant(name="v", model="a:b", prompt=prompt))
    assert str(caught.value).startswith(sentence)


def test_exemplars_without_a_user_message_are_refused() -> None:
    shots = [Exemplar(inputs={"input": "1"}, output="one")]
    with pytest.raises(PromptError, match="no user message"):
        Prompt.of(Variant(name="v", model="a:b", prompt=[{"role": "system", "content": "S"}], exemplars=shots))


def test_the_last_user_text_is_found() -> None:
    assert last_user_text([user("a"), {"role": "assistant", "content": "b"}]) == "a"
    assert last_user_text([{"role": "system", "content": "s"}]) == "s"
    assert last_user_text([]) == ""


@pytest.mark.parametrize(
    ("prompt", "varies"),
    [
        (None, True),
        ("Answer: {input}", False),
        ("{{ 'a' }} {% set x = 1 %}{{ x }} {{ range(3) | list }}", False),
        ("{% for d in context %}{{ d }}{% endfor %}", True),
        ("{% if messages %}Again.{% endif %}", True),
        ([{"role": "system", "content": "{{ tone }}"}, {"role": "user", "content": "Hi"}], True),
        ([{"role": "user", "content": [{"type": "text", "text": "{{ input }}"}]}], True),
        ([{"role": "user", "content": "Hi", "name": "{{ input }}"}, "messages"], False),
    ],
)
def test_whether_a_prompt_depends_on_the_case(prompt, varies) -> None:
    shots = [Exemplar(inputs={"input": "x"}, output="y")]
    assert Prompt.of(Variant(name="v", model="a:b", prompt=prompt, exemplars=shots)).varies is varies
