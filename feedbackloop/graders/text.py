"""Checks of the words themselves. Each maker takes the spec's argument and returns the grader."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import regex as regular

from feedbackloop.graders.arguments import FLAG, TEXT, TEXTS, read
from feedbackloop.graders.grader import Grade, GraderFunction, as_text, verdict, wanted_text
from feedbackloop.models import AIResponse, Case

REGEX_LIMIT_S = 1.0


def equals(wanted: Any = None) -> GraderFunction:
    """The answer is `wanted` (the case's `expected` if none is named), white space around it aside. No opinion without either.

    A mapping or list is compared as JSON, whatever the order of keys and the white space in the answer.
    """

    def grade(case: Case, response: AIResponse) -> bool | None:
        value = case.expected if wanted is None else wanted
        if value is None:
            return None
        answer = response.output.strip()
        if isinstance(value, dict | list):
            try:
                return bool(json.loads(answer) == value)
            except (ValueError, RecursionError):
                return False
        return answer == as_text(value).strip()

    return grade


def contains(wanted: Any = None) -> GraderFunction:
    """The answer has `wanted` (the case's `expected` if none is named) in it, upper or lower case. No opinion without either.

    `{text: Refund, case: true}` heeds upper and lower case.

    Raises:
        TypeError: an option is not what it should be.
        ValueError: there is no such option.
    """
    options = read(wanted, {"text": TEXT, "case": FLAG}) if isinstance(wanted, dict) else {"text": wanted}
    plain = _plain(options.get("case", False))

    def grade(case: Case, response: AIResponse) -> bool | None:
        text = wanted_text(options.get("text"), case)
        return None if text is None else plain(text.strip()) in plain(response.output)

    return grade


def contains_any(wanted: Any = None) -> GraderFunction:
    """The answer has at least one of these texts in it (of the case's `expected` if none are named), upper or lower case.

    `{texts: [Refund, Credit], case: true}` heeds upper and lower case.

    Raises:
        TypeError: an option is not what it should be.
        ValueError: there is no such option.
    """

    def judge(texts: list[str], found: list[bool]) -> Grade:
        return verdict(any(found), f"has none of {_listed(texts)}")

    return _texts_in(wanted, judge)


def contains_all(wanted: Any = None) -> GraderFunction:
    """The answer has all of these texts in it (of the case's `expected` if none are named), upper or lower case.

    `{texts: [Refund, Credit], case: true}` heeds upper and lower case.

    Raises:
        TypeError: an option is not what it should be.
        ValueError: there is no such option.
    """

    def judge(texts: list[str], found: list[bool]) -> Grade:
        missing = [text for text, there in zip(texts, found, strict=True) if not there]
        return verdict(not missing, f"lacks {_listed(missing)}")

    return _texts_in(wanted, judge)


def _texts_in(wanted: Any, judge: Callable[[list[str], list[bool]], Grade]) -> GraderFunction:
    """A check that looks for several texts, and leaves to `judge` what it says of which were found."""
    options = read(wanted, {"texts": TEXTS, "case": FLAG}, short="texts")
    plain = _plain(options.get("case", False))

    def grade(case: Case, response: AIResponse) -> Grade:
        texts = _wanted_texts(options.get("texts"), case)
        if texts is None:
            return None
        answer = plain(response.output)
        return judge(texts, [plain(text) in answer for text in texts])

    return grade


def starts_with(wanted: Any = None) -> GraderFunction:
    """The answer begins with `wanted` (the case's `expected` if none is named), white space before it aside.

    Upper and lower case are heeded, unless `{text: dear, case: false}` says otherwise.

    Raises:
        TypeError: an option is not what it should be.
        ValueError: there is no such option.
    """
    options = read(wanted, {"text": TEXT, "case": FLAG}, short="text")
    plain = _plain(options.get("case", True))

    def grade(case: Case, response: AIResponse) -> Grade:
        text = wanted_text(options.get("text"), case)
        if text is None:
            return None
        answer = response.output.lstrip()
        return verdict(plain(answer).startswith(plain(text.strip())), f"begins with {answer[:60]!r}")

    return grade


def regex(pattern: Any) -> GraderFunction:
    """The pattern is found somewhere in the answer. A search that takes longer than a second is an error of the check.

    Raises:
        TypeError: it is no text.
        ValueError: it is no regular expression.
    """
    if not isinstance(pattern, str):
        raise TypeError("give it a pattern, as in {regex: '^Dear'}")
    try:
        # Not the standard library's: a pattern and an answer that go badly together would hold the whole run for ever.
        compiled = regular.compile(pattern)
    except regular.error as error:
        raise ValueError(f"this is no regular expression: {error}") from error

    def grade(case: Case, response: AIResponse) -> bool:  # noqa: ARG001  the shape of all graders
        return compiled.search(response.output, timeout=REGEX_LIMIT_S) is not None

    return grade


def _plain(case: bool) -> Callable[[str], str]:
    return str if case else str.casefold


def _wanted_texts(wanted: list[Any] | None, case: Case) -> list[str] | None:
    values = case.expected if wanted is None else wanted
    if values is None:
        return None
    return [as_text(value).strip() for value in (values if isinstance(values, list) else [values])]


def _listed(texts: list[str]) -> str:
    return ", ".join(repr(text) for text in texts)
