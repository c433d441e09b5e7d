from __future__ import annotations

import time

import pytest
from engines import ask
from fakes import answer

from feedbackloop.errors import SettingsError, UnknownName
from feedbackloop.graders import GRADERS, Grader, create
from feedbackloop.models import AIRequest, Case


def verdict(spec, text, expected=None):
    return create(spec).function(Case(inputs={"input": "hi"}, expected=expected), answer(ask(), text))


@pytest.mark.parametrize(
    ("spec", "text", "expected", "said"),
    [
        ("equals", " 4 \n", "4", True),
        ("equals", "4.", "4", False),
        ("equals", "4", None, None),
        ("equals", "4", 4, True),
        ("equals", '{"a": 1}', {"a": 1}, True),
        ({"equals": "Yes"}, "yes", "ignored", False),
        ({"equals": "Yes"}, "Yes", None, True),
        ("contains", "Your REFUND is on its way", "refund", True),
        ("contains", "nothing", "refund", False),
        ("contains", "nothing", None, None),
        ({"contains": "straße"}, "in der STRASSE", None, True),
        ({"contains": " refund "}, "refunded", None, True),
        ({"regex": "^Dear"}, "Dear Ann", None, True),
        ({"regex": "^Dear"}, "My Dear", None, False),
        ({"regex": "(?i)yes$"}, "oh YES", None, True),
        ("json_valid", '{"a": [1, 2]}', None, True),
        ("json_valid", " [] \n", None, True),
        ("json_valid", '```json\n{"a": 1}\n```', None, True),
        ("json_valid", '```JSON \r\n{"a": 1}\n  ```', None, True),
        ("json_valid", "```\n1\n```", None, True),
        ("json_valid", 'Here: {"a": 1}', None, False),
        ("json_valid", "{'a': 1}", None, False),
        ("json_valid", "", None, False),
        ("json_valid", "NaN", None, False),
        ("json_valid", '{"a": -Infinity}', None, False),
        ("json_valid", "[" * 100_000, None, False),
        ("json_valid", "9" * 10_000, None, True),
        ({"json_valid": True}, "1", None, True),
    ],
)
def test_what_the_graders_of_text_say(spec, text, expected, said):
    assert verdict(spec, text, expected) is said


@pytest.mark.parametrize("text", ["```" + "\n" * 60_000, "```json" + " " * 60_000, "```\n" + "\n```x" * 20_000])
def test_a_long_answer_of_nothing_is_judged_quickly(text):
    began = time.perf_counter()
    assert verdict("json_valid", text) is False
    assert time.perf_counter() - began < 0.5


def test_every_name_of_the_table_has_a_grader():
    for name in GRADERS.entries:
        made = create({name: "x"} if name != "json_valid" else name)
        assert isinstance(made, Grader)
        assert made.name == name
        assert made.rater == f"{name}@{made.version[:4]}"


def test_the_version_is_that_of_the_argument():
    assert create({"contains": "a"}).version == create({"contains": "a"}).version != create({"contains": "b"}).version
    assert create("contains").version == create({"contains": None}).version


def test_a_function_is_a_grader_named_by_its_name_and_versioned_by_its_source():
    def polite(case, response):
        return "please" in response.output

    first = create(polite)

    def polite(case, response):
        return "thanks" in response.output

    assert (first.name, create(polite).name) == ("polite", "polite")
    assert first.version != create(polite).version
    assert create(first) is first


def test_an_object_that_can_be_called_is_a_grader():
    class Strict:
        def __call__(self, case, response):
            return False

    assert create(Strict()).name == "Strict"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (7, "a grader is a name"),
        (["contains"], "a grader is a name"),
        ({}, "a grader is a name"),
        ({"contains": "a", "equals": "b"}, "a grader is a name"),
        ("regex", "cannot use None"),
        ({"regex": 7}, "give it a pattern"),
        ({"regex": "("}, "no regular expression"),
        ({"json_valid": "x"}, "takes no argument"),
        ("nowhere.py:polite", "There is no file"),
        ("nowhere/at_all.py:polite", "There is no file"),
    ],
)
def test_a_spec_that_makes_no_sense_is_one_sentence(spec, says, tmp_path):
    with pytest.raises(SettingsError, match=says) as caught:
        create(spec, tmp_path)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_lists_the_near_ones():
    with pytest.raises(UnknownName, match="did you mean 'contains'"):
        create({"contain": "x"})


def own(tmp_path, source, name="polite", file="my_graders.py"):
    (tmp_path / file).write_text(source)
    return create(f"{file}:{name}", tmp_path)


def test_a_function_in_a_file_of_ones_own(tmp_path):
    made = own(tmp_path, "def polite(case, response):\n    return 'please' in response.output\n")
    assert made.name == "polite"
    assert made.function(Case(inputs={}), answer(ask(), "please")) is True


def test_a_file_may_import_its_neighbours_and_leaves_the_path_as_it_was(tmp_path):
    import sys

    before = list(sys.path)
    (tmp_path / "words_of_politeness.py").write_text("WORDS = ['please']\n")
    made = own(tmp_path, "from words_of_politeness import WORDS\ndef polite(case, response):\n    return WORDS[0]\n")
    assert made.function(None, None) == "please"
    assert sys.path == before


def test_a_file_may_define_dataclasses(tmp_path):
    source = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass Verdict:\n    value: float\n"
        "def polite(case, response):\n    return Verdict(0.5).value\n"
    )
    assert own(tmp_path, source).function(None, None) == 0.5


def test_an_edited_file_is_read_again_at_once(tmp_path):
    first = own(tmp_path, "def polite(case, response):\n    return 1\n")
    second = own(tmp_path, "def polite(case, response):\n    return 2\n")
    assert (first.function(None, None), second.function(None, None)) == (1, 2)
    assert first.version != second.version
    assert not (tmp_path / "__pycache__").exists()


def test_a_file_may_be_in_an_encoding_of_its_own(tmp_path):
    (tmp_path / "g.py").write_bytes(
        "# coding: latin-1\ndef polite(case, response):\n    return 'é'\n".encode("latin-1")
    )
    assert create("g.py:polite", tmp_path).function(None, None) == "é"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def polite(:\n", "this is not valid Python"),
        ("1 / 0\n", "cannot be imported: ZeroDivisionError"),
        ("import nowhere_at_all\n", "cannot be imported: No module named"),
        ("raise SystemExit(3)\n", "cannot be imported: SystemExit"),
        ("def polit(case, response): ...\n", "no function 'polite'; did you mean 'polit'"),
        ("polite = 7\n", "is no function, but a value of type int"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path, source, says):
    with pytest.raises(SettingsError, match=says):
        own(tmp_path, source)


def test_a_missing_file_names_the_near_one(tmp_path):
    (tmp_path / "my_graders.py").write_text("")
    with pytest.raises(SettingsError, match=r"did you mean 'my_graders\.py'"):
        create("my_grader.py:polite", tmp_path)


def test_a_pattern_that_an_answer_keeps_busy_is_an_error_and_not_the_end_of_the_run(monkeypatch):
    monkeypatch.setattr("feedbackloop.graders.text.REGEX_LIMIT_S", 0.05)
    grader = create({"regex": "(a|aa)+$"})
    with pytest.raises(TimeoutError):
        grader.function(Case(inputs={"input": "x"}), answer(AIRequest(input="x"), "a" * 60 + "b"))
