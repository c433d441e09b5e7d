"""Numbers and texts of imported rows, which a CSV writes as text and JSON as what they are."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from feedbackloop.datasets import Row, fault
from feedbackloop.text import storable

Figure = TypeVar("Figure")


def figures_of(row: Row, path: Path) -> dict[str, Any]:
    """What a row of the long format says of its answer; blank cells say nothing.

    Raises:
        DatasetError: a figure is no number, or one that cannot be.
    """
    found = {name: figure(row, name, read, path) for name, read in FIGURES.items()}
    return {name: value for name, value in found.items() if value is not None}


def figure(row: Row, column: str, read: Callable[[Any], Figure], path: Path) -> Figure | None:
    """What a cell of a row says; None for a blank one.

    Raises:
        DatasetError: it is not as `read` takes it.
    """
    value = row.values.get(column)
    if value is None or value == "":
        return None
    try:
        return read(value)
    except (TypeError, ValueError) as error:
        raise fault(f"'{column}' is {json.dumps(value)}; it must be {error}", path, row.line) from error


def amount(value: Any) -> float:
    """A number from 0 on, also when written as text."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise ValueError("a number from 0 on")
    return number


def whole(value: Any) -> int:
    """The same without a fraction."""
    try:
        number = amount(value)
    except ValueError:
        number = math.nan
    if not number.is_integer():
        raise ValueError("a whole number from 0 on")
    return int(number)


def words(value: Any) -> str:
    """A text that a store can keep; what is no text as its JSON."""
    return storable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))[0]


def mapping(value: Any) -> Mapping[str, Any]:
    """The value where it is a mapping, else an empty one: other tools' files hold anything anywhere."""
    return value if isinstance(value, Mapping) else {}


def listed(value: Any) -> list[Any]:
    """The value where it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def spoken(message: Mapping[str, Any]) -> str | None:
    """What a chat message says: its text, the texts of its parts, its refusal, or the calls it makes as JSON; None for nothing."""
    content = message.get("content")
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(text for text in texts if isinstance(text, str)) if any(texts) else None
    if isinstance(content, str) and (content or not message.get("tool_calls")):
        return content
    if isinstance(message.get("refusal"), str):
        return str(message["refusal"])
    calls = message.get("tool_calls") or message.get("function_call")
    return json.dumps(calls, ensure_ascii=False) if calls else None


def tokens_of(usage: Any) -> dict[str, Any]:
    """The fields of a response that its raw usage tells, whether it calls them prompt and completion or input and output."""
    if not isinstance(usage, dict):
        return {}
    given, made = ("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens")
    found = {
        "usage": usage,
        "input_tokens": _count(usage, *given),
        "output_tokens": _count(usage, *made),
        "cached_tokens": _count(_details(usage, given), "cached_tokens"),
        "reasoning_tokens": _count(_details(usage, made), "reasoning_tokens"),
    }
    return {name: value for name, value in found.items() if value is not None}


def _details(usage: Mapping[str, Any], names: tuple[str, ...]) -> Mapping[str, Any]:
    found = (usage.get(f"{name}_details") for name in names)
    return next((details for details in found if isinstance(details, dict)), {})


def _count(usage: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = usage.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None


def moment(value: Any) -> datetime | None:
    """A time as files write it: seconds since 1970, or ISO 8601, in UTC unless it says otherwise; None for none.

    Raises:
        ValueError: it is neither; says what it must be.
    """
    if value is None or value == "":
        return None
    try:
        if isinstance(value, str) and not _NUMBER.fullmatch(value):
            at = datetime.fromisoformat(value)
            return at if at.tzinfo else at.replace(tzinfo=UTC)
        return datetime.fromtimestamp(float(value), UTC)
    except (ValueError, TypeError, OverflowError, OSError) as error:
        raise ValueError("seconds since 1970, or a time like 2026-01-31T12:00:00+00:00") from error


_NUMBER = re.compile(r"[0-9]+([.][0-9]+)?")


def error_of_status(status: int) -> str:
    """What the engine calls the error that an endpoint reports with this HTTP status."""
    if status >= 500:
        return "ProviderUnavailable"
    return {401: "AuthenticationFailed", 403: "AuthenticationFailed", 408: "ProviderTimeout", 429: "RateLimited"}.get(
        status, "InvalidRequest"
    )


FIGURES: dict[str, Callable[[Any], Any]] = {
    "latency_ms": amount,
    "input_tokens": whole,
    "output_tokens": whole,
    "cost_usd": amount,
    "finish_reason": words,
    "repeat": whole,
    "error_type": words,
    "error": words,
}
"""Columns of the long format that describe the answer and go into its record, and how each is read."""
