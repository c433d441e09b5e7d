"""Checks of the text itself. Each maker takes the spec's argument and returns the grader."""

from __future__ import annotations

import json
import re
from typing import Any

import regex as regular

from feedbackloop.graders import GraderFunction
from feedbackloop.models import AIResponse, Case

REGEX_LIMIT_S = 1.0


def equals(wanted: Any = None) -> GraderFunction:
    """The answer is `wanted` (the case's `expected` if none is named), white space around it aside. No opinion without either."""

    def grade(case: Case, response: AIResponse) -> bool | None:
        text = _wanted(wanted, case)
        return None if text is None else response.output.strip() == text.strip()

    return grade


def contains(wanted: Any = None) -> GraderFunction:
    """The answer has `wanted` (the case's `expected` if none is named) in it, upper or lower case. No opinion without either."""

    def grade(case: Case, response: AIResponse) -> bool | None:
        text = _wanted(wanted, case)
        return None if text is None else text.strip().casefold() in response.output.casefold()

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


def json_valid(argument: Any = None) -> GraderFunction:
    """The answer is JSON, whole; a Markdown fence around it is forgiven.

    Raises:
        ValueError: it was given an argument.
    """
    if argument not in (None, True):
        raise ValueError("it takes no argument")

    def grade(case: Case, response: AIResponse) -> bool:  # noqa: ARG001  the shape of all graders
        text = response.output.strip()
        if fenced := re.fullmatch(r"```(?:json)?[ \t]*\r?\n(.*)\n[ \t]*```", text, re.DOTALL | re.IGNORECASE):
            text = fenced[1]
        try:
            # Python reads NaN and Infinity, which are no JSON, and refuses numbers of more than 4,300 digits, which are.
            json.loads(text, parse_constant=_refuse, parse_int=str)
        except (ValueError, RecursionError):
            return False
        return True

    return grade


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _wanted(wanted: Any, case: Case) -> str | None:
    value = case.expected if wanted is None else wanted
    if value is None:
        return None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
