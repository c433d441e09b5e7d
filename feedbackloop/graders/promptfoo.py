"""promptfoo's assertions in our words: its names where they mean the same, and its whole assertions for who imports them."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from feedbackloop.errors import SettingsError, UnknownName
from feedbackloop.registry import near


@dataclass(frozen=True)
class Named:
    """One of our graders with its argument."""

    name: str
    argument: Any = None


@dataclass(frozen=True)
class Translation:
    """An assertion as an entry of a spec's `graders`, and what is not quite the same about it."""

    spec: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def _texts(value: Any) -> Any:
    # promptfoo takes a list, or one text with commas in it.
    return (
        [item.strip() for item in next(csv.reader([value], skipinitialspace=True), [])]
        if isinstance(value, str)
        else value
    )


def _json(value: Any) -> Named:
    return Named("json_valid") if value in (None, "", True) else Named("json_schema", value)


def _count(unit: str) -> Callable[[Any], Named]:
    def named(value: Any) -> Named:
        limits = dict(value) if isinstance(value, Mapping) else {"min": value, "max": value}
        return Named("length", {**limits, "unit": unit})

    return named


ALIASES: dict[str, Callable[[Any], Named]] = {
    "icontains": lambda value: Named("contains", value),
    "contains-any": lambda value: Named("contains_any", {"texts": _texts(value), "case": True}),
    "contains-all": lambda value: Named("contains_all", {"texts": _texts(value), "case": True}),
    "icontains-any": lambda value: Named("contains_any", _texts(value)),
    "icontains-all": lambda value: Named("contains_all", _texts(value)),
    "starts-with": lambda value: Named("starts_with", value),
    "is-json": _json,
    "contains-json": lambda value: Named("contains_json", value or None),
    "is-refusal": lambda value: Named("refusal", value),
    "rouge-l": lambda value: Named("rouge_l", value),
    "word-count": _count("words"),
    "character-count": _count("characters"),
}
"""Names that a spec may use as well. `contains` alone means something else here: ours takes upper and lower case alike."""

_FUNCTION = "write it as a Python function (case, response) and name it: my_graders.py:check"
_JUDGE = "it asks a model, and a grader is code; a model judge is what does that"
_ELSEWHERE: dict[str, str] = {
    **dict.fromkeys(("javascript", "ruby", "webhook", "is-html", "contains-html", "is-xml", "contains-xml"), _FUNCTION),
    **dict.fromkeys(("is-sql", "contains-sql", "finish-reason", "is-valid-function-call", "guardrails"), _FUNCTION),
    **dict.fromkeys(("is-valid-openai-function-call", "is-valid-openai-tools-call", "tool-call-f1"), _FUNCTION),
    **dict.fromkeys(
        ("llm-rubric", "agent-rubric", "search-rubric", "model-graded-closedqa", "factuality", "g-eval"), _JUDGE
    ),
    **dict.fromkeys(("model-graded-factuality", "answer-relevance", "context-faithfulness", "context-recall"), _JUDGE),
    **dict.fromkeys(
        ("context-relevance", "conversation-relevance", "similar", "classifier", "moderation", "pi"), _JUDGE
    ),
    **dict.fromkeys(
        ("select-best", "max-score"), "it compares answers with each other, which is what rating them does"
    ),
    **dict.fromkeys(("perplexity", "perplexity-score"), "it needs the log probabilities of tokens, which are not kept"),
    **dict.fromkeys(("rouge-n", "rouge-s"), "rouge_l is the nearest"),
    **dict.fromkeys(("gleu", "meteor"), "bleu is the nearest"),
    "assert-set": "list its assertions one by one, with their weights",
}


MODEL_GRADED = frozenset(name for name, advice in _ELSEWHERE.items() if advice is _JUDGE)
"""Names of assertions that a model judges."""


def unknown(name: str, known: list[str]) -> UnknownName:
    """The error for a name that is no grader: what to do instead where promptfoo knows it, else the near names."""
    if (advice := _ELSEWHERE.get(name.replace("_", "-"))) is not None:
        return UnknownName(f"There is no grader '{name}': {advice}")
    # Our own names first, unless it was one of promptfoo's that was mistyped.
    nearest = difflib.get_close_matches(name, [*known, *ALIASES], n=1)
    return UnknownName(
        f"There is no grader called '{name}'{near(name, ALIASES if set(nearest) & set(ALIASES) else known)}"
    )


_OURS: dict[str, Callable[[Any, Any], Named]] = {
    "contains": lambda value, _: Named("contains", {"text": value, "case": True}),
    "equals": lambda value, _: Named("equals", value),
    "regex": lambda value, _: Named("regex", value),
    "bleu": lambda value, _: Named("bleu", value),
    # Their threshold is a limit, that of the edit distance 5 unless it is said.
    "levenshtein": lambda value, threshold: Named("levenshtein", {"text": value, "max": threshold or 5}),
    "latency": lambda _, threshold: Named("latency", threshold),
    "cost": lambda _, threshold: Named("cost", threshold),
}
"""Names that both have: from their value and threshold to ours."""
_MARKS = {"bleu": 0.5, "rouge-l": 0.75}
"""promptfoo's own marks for passing, where a check gives a score."""
_NOTES = {
    "bleu": "promptfoo splits words at white space only, so its figures differ a little",
    "rouge-l": "promptfoo splits words in its own way, so its figures differ a little",
    "equals": "white space around the answer is forgiven here",
    "is-json": "a Markdown fence around the answer is forgiven here",
    "is-refusal": "the words that tell a refusal are others here",
}
_KEPT = {"type", "value", "threshold", "weight", "metric"}


def translate(assertion: Mapping[str, Any]) -> Translation:
    """A promptfoo assertion (`{type: icontains, value: refund, weight: 2}`) as an entry of a spec's `graders`.

    Raises:
        UnknownName: there is no such check here; says what to do instead, or the near names.
        SettingsError: it cannot be carried over as it stands.
    """
    whole = assertion.get("type")
    if not isinstance(whole, str):
        raise SettingsError(f"a promptfoo assertion has a `type`, and this has none: {dict(assertion)!r}")
    type_ = whole.removeprefix("not-")
    value, threshold = assertion.get("value"), assertion.get("threshold")
    _refuse(whole, type_, value, threshold)
    meant = ALIASES[type_](value) if type_ in ALIASES else _OURS[type_](value, threshold)
    spec = {f"not_{meant.name}" if whole != type_ else meant.name: meant.argument}
    if type_ in _MARKS:
        spec["threshold"] = _MARKS[type_] if threshold is None else threshold
    spec |= {name: assertion[name] for name in ("weight", "metric") if assertion.get(name) is not None}
    lost = ", ".join(f"`{name}`" for name in sorted(assertion.keys() - _KEPT))
    notes = [f"what it says of {lost} is left out"] if lost else []
    return Translation(spec, [*notes, _NOTES[type_]] if type_ in _NOTES else notes)


def _refuse(whole: str, type_: str, value: Any, threshold: Any) -> None:
    """Raise for an assertion that cannot be carried over."""
    if type_ == "python":
        raise UnknownName(f"There is no grader '{whole}': promptfoo calls it with (output, context); {_FUNCTION}")
    if type_ not in ALIASES and type_ not in _OURS:
        raise unknown(type_, list(_OURS))
    if type_ in {"latency", "cost"} and threshold is None:
        raise SettingsError(f"the assertion '{whole}' has no `threshold`, which is its limit; name one")
    if isinstance(value, str) and value.startswith("file://") and type_ not in {"is-json", "contains-json"}:
        raise SettingsError(f"the assertion '{whole}' reads its value from {value}; write the value itself")
    if isinstance(value, str) and "{{" in value:
        raise SettingsError(
            f"the assertion '{whole}' has a template as its value ({value}); put the text into the dataset as `expected`"
        )
