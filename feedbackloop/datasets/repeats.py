"""Rows that ask the same again: they are one case, and what they say beyond the question must not get lost in silence."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable
from typing import Any

from feedbackloop.models import Case
from feedbackloop.wording import count

_DETAILS = {"expected": "expected answer", "external_id": "id", "segment": "segment", "metadata": "metadata"}
"""What a case has beside what makes it this case, and what it is called."""

_SHOWN = 20  # repeated rows that are told by line; all of them are counted
_SHORT = 60


class Known:
    """The cases of a dataset so far, and the rows that repeat them.

    It keeps the line of each and marks of its details, 40 bytes of a case, and no case.

    Attributes:
        repeated: line of a repeated row and of the first one like it; the first 20.
        repeats: how many there are.
    """

    def __init__(self) -> None:
        self.repeated: list[tuple[int, int]] = []
        self.repeats = 0
        self._losing = 0
        self._loser: tuple[int, int, Case] | None = None
        self._order: dict[int, int] = {}
        self._lines = array("Q")
        self._marks = {name: array("Q") for name in _DETAILS}

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, key: int) -> bool:
        return key in self._order

    def line(self, key: int) -> int:
        """Where the case of this key stands first."""
        return self._lines[self._order[key]]

    def add(self, key: int, line: int, case: Case) -> None:
        """Keep a case that was not there before."""
        self._order[key] = len(self._lines)
        self._lines.append(line)
        for name, marks in self._marks.items():
            marks.append(_mark(getattr(case, name)))

    def expects_otherwise(self, key: int, case: Case) -> bool:
        """Whether a row that asks the same expects another answer than the first one does."""
        first, again = self._marks["expected"][self._order[key]], _mark(case.expected)
        return bool(first and again) and first != again

    def repeat(self, key: int, line: int, case: Case) -> None:
        """Count a row that asks the same as the case of this key."""
        at = self._order[key]
        self.repeats += 1
        if len(self.repeated) < _SHOWN:
            self.repeated.append((line, self._lines[at]))
        if any((mark := _mark(getattr(case, name))) and mark != self._marks[name][at] for name in _DETAILS):
            self._losing += 1
            self._loser = self._loser or (line, self._lines[at], case)

    def told(self, read: Callable[[int], Case]) -> str | None:
        """What a reader must know of the repeats: `2 repeated rows count once (line 13 repeats line 5)`; None without any.

        Args:
            read: gives the case of a line.
        """
        if not self.repeats:
            return None
        if self._loser is None:
            line, earlier = self.repeated[0]
            where = f"line {line} repeats line {earlier}"
        else:
            line, earlier, case = self._loser
            first = read(earlier)
            where = f"line {line}{_named(case)} repeats line {earlier}{_named(first)}: {_lost(case, first)} not used"
            where += f", and so with {self._losing - 1:,} more" if self._losing > 1 else ""
        return f"{count(self.repeats, 'repeated row counts', 'repeated rows count')} once ({where})"


def quoted(value: Any) -> str:
    """A value as a sentence shows it."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"'{text if len(text) <= _SHORT else text[:_SHORT] + '...'}'"


def unlike(case: Case, first: Case) -> list[str]:
    """Where two cases differ that one id stands for: the variables, or messages or context."""
    names = dict.fromkeys([*first.inputs, *case.inputs])
    found = [name for name in names if case.inputs.get(name, ...) != first.inputs.get(name, ...)]
    return found + [name for name in ("messages", "context") if getattr(case, name) != getattr(first, name)]


def _lost(case: Case, first: Case) -> str:
    names = [
        name
        for name in _DETAILS
        if getattr(case, name) not in (None, {}) and getattr(case, name) != getattr(first, name)
    ]
    parts = [f"{_DETAILS[name]} {quoted(getattr(case, name))}" for name in names if name != "external_id"]
    parts = parts or ["id"]  # which stands before it
    return f"its {' and '.join(parts)} {'is' if len(parts) == 1 else 'are'}"


def _named(case: Case) -> str:
    return "" if case.external_id is None else f" (id '{case.external_id}')"


def _mark(value: Any) -> int:
    """64 bits of a value; 0 for none."""
    if value is None or value == {}:
        return 0
    return hash(value if isinstance(value, str) else json.dumps(value, sort_keys=True)) & 0xFFFF_FFFF_FFFF_FFFF or 1
