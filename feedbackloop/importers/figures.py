"""Numbers and texts of imported rows, which a CSV writes as text and JSON as what they are."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from feedbackloop.datasets import Row, fault
from feedbackloop.text import storable


def figures_of(row: Row, path: Path) -> dict[str, Any]:
    """What a row of the long format says of its answer; blank cells say nothing.

    Raises:
        DatasetError: a figure is no number, or one that cannot be.
    """
    found = {}
    for name, read in FIGURES.items():
        value = row.values.get(name)
        if value is None or value == "":
            continue
        try:
            found[name] = read(value)
        except (TypeError, ValueError) as error:
            raise fault(f"'{name}' is {json.dumps(value)}; it must be {error}", path, row.line) from error
    return found


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
