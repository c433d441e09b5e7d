"""What a grader is: a function with the name and version that its verdicts are kept under, and what its verdicts count for."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from feedbackloop.models import AIResponse, Case

Grade = bool | float | int | str | None | Mapping[str, Any]
GraderFunction = Callable[[Case, AIResponse], Grade | Awaitable[Grade]]

VERDICT = frozenset({"value", "label", "reason"})
"""A mapping with no other keys is one verdict with its reason; any other is several metrics."""

PASS_MARK = 0.5
"""From here on a check is passed, unless its spec says otherwise: true is 1 and false is 0."""


@dataclass(frozen=True)
class Grader:
    """A grader with the name of its metric and the version that its scores are kept under."""

    name: str
    version: str
    """Hash of its argument or source: a changed grader's old scores can be told apart."""
    function: GraderFunction
    weight: float = 1.0
    """What it counts for in a row's score; 0: it is shown, but counts for nothing."""
    threshold: float = PASS_MARK
    """The value from which on it is passed. Not part of the version: it judges a score and does not change it."""
    required: bool = False
    """A row that does not pass this check has failed, whatever its score."""
    negated: bool = False
    """Its value is 1 less what was found, and it is passed where the check itself would not have been."""

    @property
    def rater(self) -> str:
        """As it stands in a rating: `contains@3f2a`."""
        return f"{self.name}@{self.version[:4]}"

    def passes(self, value: float) -> bool:
        """Whether a verdict of this value is a pass."""
        return value > 1 - self.threshold if self.negated else value >= self.threshold


def verdict(passed: bool, reason: str) -> Grade:
    """A yes or no; a no says why, in at most 300 characters."""
    return True if passed else {"value": False, "reason": reason if len(reason) <= 300 else f"{reason[:299]}…"}


def as_text(value: Any) -> str:
    """A wanted text as it is, anything else as the JSON that a model would write for it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def wanted_text(wanted: Any, case: Case) -> str | None:
    """What the spec names, else what the case expects; None if neither says anything."""
    value = case.expected if wanted is None else wanted
    return None if value is None else as_text(value)
