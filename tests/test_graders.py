from __future__ import annotations

import asyncio
import json
import math
import sys
import time

import pytest
from engines import ask
from fakes import answer
from hypothesis import given, settings
from hypothesis import strategies as st

from feedbackloop.errors import MissingDependency, SettingsError, UnknownName
from feedbackloop.graders import GRADERS, Grader, create, schemas, similarity
from feedbackloop.graders.promptfoo import ALIASES, translate
from feedbackloop.models import AIRequest, Case

ARGUMENTS = {
    "contains_any": ["x", "y"],
    "contains_all": ["x", "y"],
    "json_valid": None,
    "json_schema": {"type": "object"},
    "contains_json": None,
    "numeric": 42,
    "length": 400,
    "latency": 2000,
    "cost": 0.01,
    "refusal": None,
    "case_checks": None,
}
"""An argument that makes sense for each grader; for those not listed a text does."""


def verdict(spec, text, expected=None, **figures):
    return create(spec).function(Case(inputs={"input": "hi"}, expected=expected), answer(ask(), text, **figures))


def value(spec, text, expected=None, **figures):
    """The verdict without its reason."""
    said = verdict(spec, text, expected, **figures)
    return said["value"] if isinstance(said, dict) else said


@pytest.mark.parametrize(
    ("spec", "text", "expected", "said"),
    [
        ("equals", " 4 \n", "4", True),
        ("equals", "4.", "4", False),
        ("equals", "4", None, None),
        ("equals", "4", 4, True),
        ("equals", '{"a": 1}', {"a": 1}, True),
        ("equals", '{"b":[1],\n"a":1}', {"a": 1, "b": [1]}, True),
        ("equals", '{"a": 2}', {"a": 1}, False),
        ("equals", "a: 1", {"a": 1}, False),
        ("equals", "[" * 100_000, [1], False),
        ({"equals": "Yes"}, "yes", "ignored", False),
        ({"equals": "Yes"}, "Yes", None, True),
        ("contains", "Your REFUND is on its way", "refund", True),
        ("contains", "nothing", "refund", False),
        ("contains", "nothing", None, None),
        ({"contains": "straße"}, "in der STRASSE", None, True),
        ({"contains": " refund "}, "refunded", None, True),
        ({"contains": {"text": "Refund", "case": True}}, "a refund", None, False),
        ({"contains": {"text": "Refund", "case": True}}, "a Refund", None, True),
        ({"contains": {"case": True}}, "a Refund", "refund", False),
        ({"contains": 42}, "it is 42", None, True),
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
    assert time.perf_counter() - began < 5  # what takes time that grows with the square takes minutes


def test_every_name_of_the_table_has_a_grader():
    for name in GRADERS.entries:
        made = create({name: ARGUMENTS.get(name, "x")})
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
        ({"contains": {"txt": "a"}}, "no option 'txt'; did you mean 'text'"),
        ({"contains": {"text": "a", "case": "yes"}}, "`case` is true or false, not 'yes'"),
        ({"contains_any": "a"}, "`texts` is a list of texts, not 'a'"),
        ({"contains_all": []}, "`texts` is a list of texts"),
        ({"starts_with": ""}, "`text` is a text, not ''"),
        ({"numeric": "forty-two"}, "no number in the wanted answer"),
        ({"numeric": {"pick": "best"}}, "`pick` is one of last, first, any"),
        ({"numeric": {"absolute": -1}}, "`absolute` is a number from 0 up"),
        ({"numeric": {"absolute": math.nan}}, "`absolute` is a number from 0 up"),
        ("length", "give it a limit"),
        ({"length": {"unit": "words"}}, "give it a limit"),
        ({"length": {"min": 9, "max": 3}}, "at least 9 and at most 3"),
        ({"length": {"max": 3, "unit": "lines"}}, "`unit` is one of characters, words"),
        ({"length": True}, "`max` is a whole number from 0 up, not True"),
        ({"length": 0.5}, "`max` is a whole number"),
        ("latency", "limit in milliseconds"),
        ({"cost": "cheap"}, "limit in USD"),
        ({"levenshtein": {"max": -1}}, "`max` is a whole number"),
        ({"bleu": {"text": "a", "tokenize": "spm"}}, "`tokenize` is one of 13a"),
        ({"refusal": "x"}, "takes no argument"),
        ("json_schema", "give it a schema"),
        ({"json_schema": ["a"]}, "give it a schema"),
        ({"json_schema": {"type": "objekt"}}, r"no JSON Schema: 'objekt' .* \(at type\)"),
        ({"json_schema": {"pattern": "("}}, "'\\('"),
        ({"json_schema": {"$ref": "#/$defs/none"}}, "refers to #/\\$defs/none, which is not in it"),
        ({"json_schema": {"$ref": "https://example.org/schema.json"}}, "nothing is fetched"),
        ({"json_schema": {"unevaluatedProperties": False, "patternProperties": {"a": True}}}, "with a time limit"),
        ({"json_schema": "none.json"}, "none.json: cannot be read as a JSON Schema"),
        ({"contains": "a", "weight": -1}, "'contains': `weight` is a number from 0 up, not -1"),
        ({"contains": "a", "weight": True}, "`weight` is a number"),
        ({"contains": "a", "required": 1}, "`required` is true or false"),
        ({"contains": "a", "metric": ""}, "`metric` is a text"),
        ({"contains": "a", "threshold": 5}, "from 0 to 1, not 5"),
        ({"weight": 2}, "a grader is a name"),
        ({"not": {"contains": "a", "weight": 2}}, "write them beside it"),
        ({"not": "not_refusal"}, "turned round twice"),
        ({"not_not_refusal": None}, "turned round twice"),
        ({"not": None}, "a grader is a name"),
        ({"python": "polite"}, "'polite' names no function"),
        ({"python": None}, "None names no function"),
        ({"my.py:polite": None, "weight": 2}, "write it as {python: my.py:polite, weight: 2}"),
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


@pytest.mark.parametrize(
    ("spec", "text", "expected", "said"),
    [
        ({"contains_any": ["refund", "credit"]}, "a CREDIT note", None, True),
        ({"contains_any": ["refund", "credit"]}, "nothing", None, False),
        ({"contains_any": {"texts": ["Refund"], "case": True}}, "a refund", None, False),
        ("contains_any", "a CREDIT note", ["refund", "credit"], True),
        ("contains_any", "a CREDIT note", "credit", True),
        ("contains_any", "a CREDIT note", None, None),
        ({"contains_all": ["refund", "five days"]}, "Refund within FIVE days", None, True),
        ({"contains_all": ["refund", "five days"]}, "Refund", None, False),
        ({"contains_all": ["42", 7]}, "7 and 42", None, True),
        ({"contains_all": {"case": True}}, "A b", ["a", "b"], False),
        ("contains_all", "x", None, None),
        ({"starts_with": "Dear"}, "  Dear Ann", None, True),
        ({"starts_with": "Dear"}, "dear Ann", None, False),
        ({"starts_with": {"text": "dear", "case": False}}, "DEAR Ann", None, True),
        ("starts_with", "Yes, of course", "Yes", True),
        ("starts_with", "Yes", None, None),
        ({"length": 5}, " 12345 ", None, True),
        ({"length": 5}, "123456", None, False),
        ({"length": {"min": 2}}, "1", None, False),
        ({"length": {"min": 2, "max": 3, "unit": "words"}}, "one  two\nthree", None, True),
        ({"length": {"min": 2, "max": 3, "unit": "words"}}, "one two three four", None, False),
        ({"length": 0}, "", None, True),
        ({"levenshtein": {"text": "sitting", "max": 3}}, "kitten", None, True),
        ({"levenshtein": {"text": "sitting", "max": 2}}, "kitten", None, False),
        ({"levenshtein": {"max": 0}}, " yes\n", "yes", True),
        ("levenshtein", "x", None, None),
        ("rouge_l", "x", None, None),
        ("bleu", "x", None, None),
        ("numeric", "x", None, None),
    ],
)
def test_what_the_graders_of_words_say(spec, text, expected, said):
    assert value(spec, text, expected) is said


@pytest.mark.parametrize(
    ("spec", "text", "expected", "said"),
    [
        ({"numeric": 42}, "6 times 7 is 42.", None, True),
        ({"numeric": 42}, "42, that is 6 times 7", None, False),
        ({"numeric": {"value": 42, "pick": "first"}}, "42, that is 6 times 7", None, True),
        ({"numeric": {"value": 6, "pick": "any"}}, "42, that is 6 times 7", None, True),
        ({"numeric": 42}, "none", None, False),
        ({"numeric": -5}, "it is \u22125 degrees", None, True),
        ({"numeric": -5}, "(-5)", None, True),
        ({"numeric": 20}, "10-20", None, True),
        ({"numeric": 1234.5}, "$1,234.50 in all", None, True),
        ({"numeric": -7}, "-$7", None, True),
        ({"numeric": 1234567}, "1,234,567", None, True),
        ({"numeric": 2345}, "1,2345", None, True),
        ({"numeric": 1234.5}, "1,234.5", "ignored", True),
        ({"numeric": {"value": "1.234,5", "decimal": ","}}, "macht 1.234,50 €", None, True),
        ({"numeric": 0.5}, "about .5", None, True),
        ({"numeric": 42}, "so ...42", None, True),
        ({"numeric": 1500}, "1.5e3", None, True),
        ({"numeric": 42}, "GPT42", None, False),
        ({"numeric": 42}, "約42個", None, True),
        ({"numeric": 0.3}, "0.30000000000000004", None, True),
        ({"numeric": {"value": 42, "absolute": 0.5}}, "42.5", None, True),
        ({"numeric": {"value": 42, "absolute": 0.5}}, "42.6", None, False),
        ({"numeric": {"relative": 0.1}}, "110", 100, True),
        ({"numeric": {"relative": 0.1}}, "111", 100, False),
        ({"numeric": {"relative": 0.1, "absolute": 20}}, "111", 100, True),
        ("numeric", "the answer is 18", "16 - 3 - 4 = 9, times 2\n#### 18", True),
        ("numeric", "1e999", 5, False),
        ("numeric", "9" * 5000, 5, False),
        ("numeric", "5" + " x" * 100_000, 5, False),
    ],
)
def test_a_number_is_found_in_the_text(spec, text, expected, said):
    assert value(spec, text, expected) is said


def test_an_expected_answer_without_a_number_is_an_error_of_the_check():
    with pytest.raises(ValueError, match="no number in the wanted answer 'forty'"):
        verdict("numeric", "40", "forty")


def test_a_no_says_why():
    assert verdict({"numeric": 42}, "41")["reason"] == "found 41, wanted 42"
    assert verdict({"contains_all": ["a", "b", "c"]}, "b")["reason"] == "lacks 'a', 'c'"
    assert verdict({"length": 3}, "1234")["reason"] == "4 characters, at most 3 wanted"
    assert verdict({"latency": 5}, "x", latency_ms=1234.4)["reason"] == "1,234 ms, at most 5 wanted"
    assert (
        verdict({"json_schema": SCHEMA}, '{"answer": [1, "x"]}')["reason"] == "answer[1]: 'x' is not of type 'integer'"
    )
    assert len(verdict({"json_schema": {"type": "string"}}, json.dumps(["x" * 5000]))["reason"]) == 300


def test_figures_that_were_measured():
    assert verdict({"latency": 10}, "x", latency_ms=10.0) is True
    assert verdict({"latency": 10}, "x", latency_ms=10.0, cached=True) is None
    assert verdict({"cost": 0.01}, "x", cost_usd=0.01) is True
    assert value({"cost": 0.01}, "x", cost_usd=0.02) is False
    assert value({"cost": 0}, "x", cost_usd=0.0, cached=True) is True
    for spec, says in (({"latency": 1}, "how long this answer took is not known"), ({"cost": 1}, "name its price")):
        with pytest.raises(ValueError, match=says):
            verdict(spec, "x", latency_ms=None)


# What Google's rouge_score 0.1.2 gives (rougeL, no stemmer); the first is the example of its page.
@pytest.mark.parametrize(
    ("wanted", "text", "said"),
    [
        ("The quick brown fox jumps over the lazy dog", "The quick brown dog jumps on the log.", 0.5882352941176471),
        ("police killed the gunman", "police kill the gunman", 0.75),
        ("police killed the gunman", "the gunman kill police", 0.5),
        ("a", "b", 0.0),
        ("a", "", 0.0),
        ("", "", 0.0),
        ("Don't stop", "don t STOP", 1.0),
    ],
)
def test_rouge_l_is_what_the_published_implementation_gives(wanted, text, said):
    assert verdict("rouge_l", text, wanted) == pytest.approx(said)


def test_words_are_counted_in_any_script():
    assert verdict("rouge_l", "ответ да", "да ответ") == 0.5
    assert verdict("rouge_l", "今日は雨", "今日は晴") == 0.75
    assert verdict({"bleu": {"text": "今日は雨です", "tokenize": "char"}}, "今日は雨です") == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("wanted", "text", "said"),
    [
        ("sitting", "kitten", 1 - 3 / 7),
        ("yes", " yes ", 1.0),
        ("yes", "", 0.0),
        ("", "", 1.0),
        ("flaw", "lawn", 0.5),
    ],
)
def test_levenshtein_is_the_share_that_need_not_be_changed(wanted, text, said):
    assert verdict("levenshtein", text, wanted) == pytest.approx(said)


def test_bleu_is_what_sacrebleu_gives():
    # `sacrebleu.sentence_bleu(text, [wanted])`, over 100; of several wanted texts the nearest counts.
    fox, text = "The quick brown fox jumps over the lazy dog", "The quick brown dog jumps on the log."
    assert verdict("bleu", text, fox) == pytest.approx(0.2110534)
    assert verdict("bleu", text, [fox, text]) == pytest.approx(1.0)
    assert verdict({"bleu": text}, text) == pytest.approx(1.0)
    assert verdict("bleu", "", fox) == 0.0


def test_bleu_keeps_no_answers():
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
    from sacrebleu.tokenizers.tokenizer_re import TokenizerRegexp

    verdict("bleu", "an answer of many megabytes", "wanted")
    assert Tokenizer13a.__call__.cache_info().currsize == TokenizerRegexp.__call__.cache_info().currsize == 0


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.bleu", None)
    monkeypatch.delitem(sys.modules, "feedbackloop.graders.bleu", raising=False)
    with pytest.raises(MissingDependency, match=r"pip install 'feedbackloop\[metrics\]'"):
        create("bleu")


SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}},
    "patternProperties": {"^x-": {"type": "string"}},
    "additionalProperties": False,
    "required": ["answer"],
}


@pytest.mark.parametrize(
    ("schema", "text", "said"),
    [
        (SCHEMA, '{"answer": [1, 2]}', True),
        (SCHEMA, '```json\n{"answer": []}\n```', True),
        (SCHEMA, '{"answer": [1, 1.0]}', False),
        (SCHEMA, '{"answer": [], "x-more": "a"}', True),
        (SCHEMA, '{"answer": [], "x-more": 1}', False),
        (SCHEMA, '{"answer": [], "more": 1}', False),
        (SCHEMA, "{}", False),
        (SCHEMA, "no JSON at all", False),
        (SCHEMA, '{"answer": NaN}', False),
        (SCHEMA, '{"answer": [' + "9" * 5000 + "]}", False),
        (SCHEMA, "[" * 100_000, False),
        ({"additionalProperties": {"type": "integer"}}, '{"a": 1, "b": "x"}', False),
        ({"uniqueItems": True}, '[{"a": 1, "b": 2}, {"b": 2.0, "a": 1}]', False),
        ({"uniqueItems": True}, "[1, true, [], {}]", True),
        ({"pattern": "^a+$"}, '"aaa"', True),
        ({"pattern": "^a+$"}, '"b"', False),
        ({"$defs": {"n": {"type": "null"}}, "items": {"$ref": "#/$defs/n"}}, "[null]", True),
        ({"$ref": "https://json-schema.org/draft/2020-12/schema"}, '{"type": "nothing"}', False),
        ({"$schema": "http://json-schema.org/draft-04/schema#", "maximum": 5, "exclusiveMaximum": True}, "5", False),
        (True, "1", True),
        (False, "1", False),
    ],
)
def test_an_answer_fits_a_schema_or_not(schema, text, said):
    assert value({"json_schema": schema}, text) is said


def test_a_schema_may_stand_in_a_file(tmp_path):
    (tmp_path / "s.json").write_text(json.dumps(SCHEMA))
    (tmp_path / "s.yaml").write_text("type: object\n")
    made = create({"json_schema": "s.json"}, tmp_path)
    assert made.function(Case(inputs={}), answer(ask(), '{"answer": []}')) is True
    # The version is that of what the file says, not of its name.
    assert made.version == create({"json_schema": SCHEMA}).version
    assert create({"json_schema": "s.yaml"}, tmp_path).version == create({"json_schema": {"type": "object"}}).version


@pytest.mark.parametrize(
    ("spec", "text", "said"),
    [
        ("contains_json", 'Here you are: {"a": [1]} and more', True),
        ("contains_json", "Here you are: [1]", True),
        ("contains_json", "Here {you} are [", False),
        ("contains_json", "5", False),
        ({"contains_json": {"type": "object"}}, 'see [1] and {"a": 1}', True),
        ({"contains_json": {"type": "object"}}, "see [1]", False),
    ],
)
def test_json_is_found_between_other_words(spec, text, said):
    assert value(spec, text) is said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("I\u2019m sorry, but I can\u2019t help with that.", True),
        ("I cannot assist with this request.", True),
        ("I'm unable to provide medical advice.", True),
        ("As an AI language model, I don't have access to that.", True),
        ("I must respectfully decline.", True),
        ("Sorry, that goes against my guidelines.", True),
        ("Leider kann ich Ihnen dabei nicht helfen.", True),
        ("Je ne peux pas vous aider.", True),
        ("Lo siento, no puedo ayudar con eso.", True),
        ("I can't find your order, but here is how to look it up.", False),
        ("You can't return it after 30 days.", False),
        ("Sure, I can help with that.", False),
        ("Here is the poem. " * 30 + "I can't help with that.", False),
        ("", False),
    ],
)
def test_a_refusal_is_known_by_its_first_words(text, said):
    assert verdict("refusal", text) is said
    assert verdict("not_refusal", text) == (not said)


def test_a_refusal_is_known_by_what_the_endpoint_said():
    assert verdict("refusal", "...", finish_reason="content_filter") is True


# Negation


@pytest.mark.parametrize(
    ("spec", "same_as"),
    [
        ({"not_contains": "x"}, {"not": {"contains": "x"}}),
        ({"not-contains": "x"}, {"not": {"contains": "x"}}),
        ("not_json_valid", {"not": "json_valid"}),
        ({"not-icontains": "x"}, {"not_contains": "x"}),
    ],
)
def test_a_negation_may_be_written_in_several_ways(spec, same_as):
    made, other = create(spec), create(same_as)
    assert (made.name, made.version, made.negated) == (other.name, other.version, True)
    assert made.name.startswith("not_")


def test_a_negated_check_is_another_one_than_the_check():
    assert create({"not_contains": "x"}).version != create({"contains": "x"}).version


def test_a_verdict_turned_round():
    assert verdict({"not_contains": "x"}, "x") == 0.0
    assert verdict({"not_contains": "x"}, "y") == 1.0
    assert verdict("not_contains", "y") is None
    assert verdict({"not_rouge_l": "a b"}, "a c") == 0.5
    # A no's reason is what makes the negated check pass.
    assert verdict({"not_numeric": 5}, "6") == {"value": 1.0, "reason": "found 6, wanted 5"}


def test_ones_own_function_turned_round(tmp_path):
    (tmp_path / "g.py").write_text("async def polite(case, response):\n    return {'value': 0.25, 'reason': 'r'}\n")
    made = create({"not": "g.py:polite", "weight": 3}, tmp_path)
    assert (made.name, made.weight) == ("not_polite", 3)
    assert asyncio.run(made.function(Case(inputs={}), answer(ask(), "x"))) == {"value": 0.75, "reason": "r"}


@pytest.mark.parametrize("result", ["label", 7, {"a": True}, {"label": "x"}, {"value": 1, "label": "x"}])
def test_what_has_no_opposite_is_an_error_of_the_check(result):
    with pytest.raises(ValueError, match="turned round"):
        create({"not": lambda case, response: result}).function(None, None)


# What beside the name says


def test_options_change_what_a_verdict_counts_for_and_not_its_version():
    plain = create({"contains": "x"})
    made = create({"contains": "x", "weight": 2, "threshold": 0.8, "required": True})
    assert (made.weight, made.threshold, made.required) == (2, 0.8, True)
    assert made.rater == plain.rater
    assert (plain.weight, plain.threshold, plain.required, plain.negated) == (1.0, 0.5, False, False)
    assert create({"contains": "x", "metric": "mentions_x"}).name == "mentions_x"


def test_ones_own_function_takes_options_too(tmp_path):
    (tmp_path / "g.py").write_text("def polite(case, response):\n    return 7\n")
    made = create({"python": "g.py:polite", "threshold": 6, "weight": 2}, tmp_path)
    assert (made.name, made.threshold, made.function(None, None)) == ("polite", 6, 7)
    assert made.version == create("g.py:polite", tmp_path).version == create("python:g.py:polite", tmp_path).version


def test_a_threshold_may_be_met():
    score = create({"rouge_l": "x", "threshold": 0.6})
    assert [score.passes(number) for number in (0.59, 0.6, 1.0)] == [False, True, True]
    turned = create({"not_rouge_l": "x", "threshold": 0.6})
    # Passed where the likeness stays below 0.6, that is where its opposite is above 0.4.
    assert [turned.passes(1 - number) for number in (0.59, 0.6, 1.0)] == [True, False, False]


# promptfoo


def test_promptfoos_names_mean_the_same():
    assert create({"icontains": "x"}).rater == create({"contains": "x"}).rater
    assert create({"contains-any": "a, b"}).rater == create({"contains_any": {"texts": ["a", "b"], "case": True}}).rater
    assert create({"icontains-all": ["a", "b"]}).rater == create({"contains_all": ["a", "b"]}).rater
    assert create("is-json").rater == create("json_valid").rater
    assert create({"is-json": SCHEMA}).rater == create({"json_schema": SCHEMA}).rater
    assert create({"word-count": 3}).rater == create({"length": {"min": 3, "max": 3, "unit": "words"}}).rater
    assert create("not-is-refusal").name == "not_refusal"
    assert not set(ALIASES) & set(GRADERS.entries)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("icontain", "did you mean 'icontains'"),
        ("contains-an", "did you mean 'contains-any'"),
        ("javascript", "write it as a Python function"),
        ("not-javascript", "write it as a Python function"),
        ("llm-rubric", "a model judge is what does that"),
        ("llm_rubric", "a model judge is what does that"),
        ("rouge-n", "rouge_l is the nearest"),
        ("perplexity", "log probabilities"),
        ("assert-set", "one by one"),
        ("select-best", "compares answers"),
    ],
)
def test_a_name_that_is_none_here_says_what_to_do(name, says):
    with pytest.raises(UnknownName, match=says):
        create({name: "x"})
    with pytest.raises(UnknownName, match=says):
        translate({"type": name, "value": "x"})


@pytest.mark.parametrize(
    ("assertion", "spec", "notes"),
    [
        ({"type": "icontains", "value": "x", "weight": 2}, {"contains": "x", "weight": 2}, 0),
        ({"type": "contains", "value": "x"}, {"contains": {"text": "x", "case": True}}, 0),
        ({"type": "not-contains", "value": "x"}, {"not_contains": {"text": "x", "case": True}}, 0),
        ({"type": "contains-any", "value": ["a"]}, {"contains_any": {"texts": ["a"], "case": True}}, 0),
        ({"type": "equals", "value": "x", "metric": "m"}, {"equals": "x", "metric": "m"}, 1),
        ({"type": "levenshtein", "value": "x"}, {"levenshtein": {"text": "x", "max": 5}}, 0),
        ({"type": "levenshtein", "value": "x", "threshold": 9}, {"levenshtein": {"text": "x", "max": 9}}, 0),
        ({"type": "latency", "threshold": 5000}, {"latency": 5000}, 0),
        ({"type": "cost", "threshold": 0.002, "weight": 0}, {"cost": 0.002, "weight": 0}, 0),
        ({"type": "bleu", "value": "x y", "threshold": 0.4}, {"bleu": "x y", "threshold": 0.4}, 1),
        ({"type": "rouge-l", "value": "x y"}, {"rouge_l": "x y", "threshold": 0.75}, 1),
        ({"type": "is-json"}, {"json_valid": None}, 1),
        ({"type": "is-json", "value": {"type": "object"}}, {"json_schema": {"type": "object"}}, 1),
        ({"type": "contains-json"}, {"contains_json": None}, 0),
        ({"type": "regex", "value": "^a", "transform": "x", "provider": "y"}, {"regex": "^a"}, 1),
        ({"type": "word-count", "value": {"max": 3}}, {"length": {"max": 3, "unit": "words"}}, 0),
    ],
)
def test_an_assertion_of_promptfoos_is_carried_over(assertion, spec, notes):
    made = translate(assertion)
    assert (made.spec, len(made.notes)) == (spec, notes)
    create(made.spec)


@pytest.mark.parametrize(
    ("assertion", "says"),
    [
        ({"value": "x"}, "has a `type`"),
        ({"type": "latency"}, "has no `threshold`"),
        ({"type": "contains", "value": "file://x.txt"}, "write the value itself"),
        ({"type": "equals", "value": "{{ wanted }}"}, "into the dataset as `expected`"),
    ],
)
def test_an_assertion_that_cannot_be_carried_over_says_why(assertion, says):
    with pytest.raises(SettingsError, match=says):
        translate(assertion)


def test_promptfoos_own_python_is_called_with_something_else():
    with pytest.raises(UnknownName, match="calls it with"):
        translate({"type": "python", "value": "file://check.py"})


# Whatever the answer is

ANY_SPEC = [
    {name: ARGUMENTS.get(name, "the answer is 42")} for name in GRADERS.entries if name not in {"regex", "case_checks"}
] + [
    {"regex": "(?i)[aeiou]{2}"},
    {"json_schema": SCHEMA},
    {"contains_json": SCHEMA},
    {"levenshtein": {"text": "abc", "max": 2}},
    {"bleu": {"text": "a b c", "tokenize": "intl"}},
    {"numeric": {"value": 1, "pick": "any", "decimal": ","}},
    {"not_contains_any": ["a", "é"]},
]


@pytest.mark.parametrize("spec", ANY_SPEC, ids=lambda spec: next(iter(spec)))
@given(
    text=st.text() | st.text("0123456789.,-+eE$\u2212 ") | st.text('{}[]",:0 `\njson'),
    expected=st.none() | st.text(max_size=9),
)
@settings(max_examples=60, deadline=None)
def test_no_text_makes_a_grader_fail(spec, text, expected):
    case = Case(inputs={"input": "hi"}, expected=expected)
    said = create(spec).function(case, answer(ask(), text, cost_usd=0.001))
    assert 0 <= (said["value"] if isinstance(said, dict) else said) <= 1


@pytest.mark.parametrize(
    ("spec", "piece"),
    [
        *(({name: ARGUMENTS.get(name, "abc")}, "1.5 ") for name in GRADERS.entries),
        ({"rouge_l": "a b c"}, "a b "),
        ({"numeric": {"value": 1, "pick": "any"}}, "1,"),
        ({"numeric": {"value": 1, "pick": "first"}}, "x "),
        ("json_valid", "```\n"),
        ("contains_json", '{"a":'),
        ("contains_json", "[1,"),
        ("contains_json", "[] "),
        ("refusal", "i am not allowed "),
    ],
)
def test_twice_as_long_an_answer_is_not_much_more_than_twice_the_work(spec, piece):
    grader = create(spec)

    def calls(length):
        response = answer(ask(), (piece * length)[:length], cost_usd=0.001)
        counted = 0

        def count(*_):
            nonlocal counted
            counted += 1

        sys.setprofile(count)
        try:
            grader.function(Case(inputs={}), response)
        except ValueError:
            pass  # Too much for the check, and said so.
        finally:
            sys.setprofile(None)
        return counted

    calls(100)
    assert calls(65_477) <= 2.5 * calls(32_738) + 100


def test_comparing_two_long_texts_is_refused_before_it_is_begun(monkeypatch):
    began = []
    monkeypatch.setattr(similarity.Levenshtein, "normalized_similarity", lambda *texts: began.append(texts) or 1.0)
    monkeypatch.setattr(similarity.LCSseq, "similarity", lambda *words: began.append(words) or 0)
    long = "ab " * 27_000
    with pytest.raises(ValueError, match="80,999 by 80,999 characters are too many to compare"):
        verdict("levenshtein", long, long)
    with pytest.raises(ValueError, match="words are counted in 200,000 at most"):
        verdict("rouge_l", long * 3, "ab")
    with pytest.raises(ValueError, match="words are counted in 200,000 at most"):
        verdict("bleu", "ab", long * 3)
    assert began == []
    # The longest answers of real data are let through, also against one another.
    verdict("levenshtein", "a" * 65_477, "b" * 65_477)
    assert len(began) == 1


def test_a_schema_takes_so_many_steps_and_no_more():
    items = {"json_schema": {"items": {"type": "integer"}}}
    assert verdict(items, json.dumps([1] * (schemas.STEPS - 1))) is True
    with pytest.raises(ValueError, match="more than 30,000 steps"):
        verdict(items, json.dumps([1] * schemas.STEPS))
    # Also where a schema calls itself by its root, dialect and all; and every answer has its own steps.
    tree = {"$schema": "https://json-schema.org/draft/2020-12/schema", "items": {"$ref": "#"}}
    grader = create({"json_schema": tree})
    with pytest.raises(ValueError, match="more than 30,000 steps"):
        grader.function(Case(inputs={}), answer(ask(), json.dumps([[]] * schemas.STEPS)))
    assert grader.function(Case(inputs={}), answer(ask(), "[[[]]]")) is True
    with pytest.raises(ValueError, match="a schema is tried on 1,000,000 at most"):
        verdict(items, " " * 1_000_001)


@pytest.mark.parametrize(
    ("schema", "document"),
    [
        ({"pattern": "(a|aa)+$"}, "a" * 60 + "b"),
        ({"patternProperties": {"(a|aa)+$": {}}}, {"a" * 60 + "b": 1}),
        ({"patternProperties": {"(a|aa)+$": {}}, "additionalProperties": False}, {"a" * 60 + "b": 1}),
    ],
)
def test_a_schemas_patterns_have_a_time_limit(schema, document, monkeypatch):
    monkeypatch.setattr("feedbackloop.graders.schemas.PATTERNS_S", 0.02)
    grader = create({"json_schema": schema})
    with pytest.raises(TimeoutError):
        grader.function(Case(inputs={}), answer(ask(), json.dumps(document)))
