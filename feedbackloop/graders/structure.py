"""Checks of an answer that should be JSON, and how JSON is read out of one."""

from __future__ import annotations

import json
import re
from typing import Any

from feedbackloop.graders.grader import GraderFunction
from feedbackloop.models import AIResponse, Case

READ = 1_000_000
"""Characters of an answer that are searched for JSON, and that a schema is tried on; valid JSON may be longer."""
TRIES = 200
"""Brackets at which JSON may begin: each that begins none can cost a look through the whole rest."""
_BRACKET = re.compile(r"[{\[]")


def json_valid(argument: Any = None) -> GraderFunction:
    """The answer is JSON, whole; a Markdown fence around it is forgiven.

    Raises:
        ValueError: it was given an argument.
    """
    if argument not in (None, True):
        raise ValueError("it takes no argument")

    def grade(case: Case, response: AIResponse) -> bool:  # noqa: ARG001  the shape of all graders
        try:
            # Python refuses numbers of more than 4,300 digits, which JSON does not.
            json.loads(unfenced(response.output), parse_constant=_refuse, parse_int=str)
        except (ValueError, RecursionError):
            return False
        return True

    return grade


def unfenced(answer: str) -> str:
    """The answer without the white space and the one Markdown fence around it."""
    text = answer.strip()
    if fenced := re.fullmatch(r"```(?:json)?[ \t]*\r?\n(.*)\n[ \t]*```", text, re.DOTALL | re.IGNORECASE):
        return fenced[1]
    return text


def document(answer: str) -> Any:
    """What an answer that is JSON, whole, says.

    Raises:
        ValueError: it is no JSON, or nested too deep, or has a number of more than 4,300 digits.
    """
    try:
        return json.loads(unfenced(answer), parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def documents(answer: str) -> list[Any]:
    """The first JSON objects and lists (200 at most) that stand in an answer, between whatever other words.

    Raises:
        ValueError: there is none, and too many brackets that begin none to go on trying.
    """
    decoder = json.JSONDecoder(parse_constant=_refuse)
    text = answer[:READ]
    found: list[Any] = []
    tries = 0
    at = _BRACKET.search(text)
    while at and len(found) < TRIES and tries < TRIES:
        try:
            value, end = decoder.raw_decode(text, at.start())
            found.append(value)
        except (ValueError, RecursionError):
            tries += 1
            end = at.end()
        at = _BRACKET.search(text, end)
    if at and not found:
        raise ValueError(f"the answer has {TRIES} brackets that begin no JSON, and is read no further")
    return found


def _refuse(constant: str) -> None:
    # Python reads NaN and Infinity, which are no JSON.
    raise ValueError(f"{constant} is no JSON")
