"""The rule of a decision: what must be shown before a candidate is released, named before the votes come in."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args
from urllib.parse import quote, unquote

from pydantic import TypeAdapter, ValidationError

from feedbackloop.errors import SettingsError
from feedbackloop.models import Decision, Queue, RaterKind
from feedbackloop.stats.interval import Scope


@dataclass(frozen=True)
class Rule:
    """What must be shown before a candidate is released."""

    goal: Literal["better", "no_worse"] = "better"
    """`better`: preferred in more than half of the comparisons. `no_worse`: loses at most the margin, and is cheaper or faster."""
    margin: float = 0.05
    """Of a win rate: what `no_worse` may lose."""
    min_saving: float = 0.0
    """What `no_worse` must save of the mean cost or of the median latency, as a share; more than nothing in any case."""
    rater_kind: RaterKind = "human"
    """Whose blind votes count."""
    metric: str = "preference"
    scope: Scope = "these raters"
    """`raters like these` needs five raters, and an interval by case and rater besides."""
    alpha: float = 0.05
    planned: int | None = None
    """Cases that the interval is tuned to; by default those that both variants answered."""
    strict: bool = False
    """The betting interval: right without any approximation, and wider."""
    max_cost_increase: float | None = None
    """Guard: how much dearer the candidate's mean answer may be, as a share of the baseline's; None for no guard."""
    max_p95_increase: float | None = None
    """Guard: the same of the 95th percentile of its latency."""
    max_failure_increase: float | None = 0.02
    """Guard: how many more of its requests may fail, as a difference of rates."""

    def __post_init__(self) -> None:
        """Refuse what no rule can mean: a wrong unit would release whatever there is.

        Raises:
            SettingsError: a figure is out of its range, or a word none of those that there are.
        """
        for name, words in _WORDS.items():
            if getattr(self, name) not in words:
                raise SettingsError(f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(words)}")
        for name, (least, most, meaning) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise SettingsError(f"{name} is {value:g}; {meaning}")

    @property
    def unusual(self) -> dict[str, Any]:
        """What differs from the usual rule: what a queue keeps of the one that it was opened under."""
        usual = asdict(Rule())
        return {name: value for name, value in asdict(self).items() if value != usual[name]}


_WORDS = {"goal": ("better", "no_worse"), "rater_kind": get_args(RaterKind), "scope": get_args(Scope)}
_SHARE = "it is a share: 20 percent are 0.2"
_LEAST = 1e-6
_RANGES = {
    "margin": (_LEAST, 0.45, "it is a part of the win rate, above 0 and at most 0.45: 5 points are 0.05"),
    "min_saving": (0.0, 0.99, f"{_SHARE}, and it must be 0 or more and less than 1"),
    "alpha": (
        _LEAST,
        0.5,
        "it is how often an equal candidate may be released, above 0 and at most 0.5: 5 percent are 0.05",
    ),
    "planned": (1, math.inf, "it is a number of cases, at least 1"),
    "max_cost_increase": (0.0, math.inf, f"{_SHARE}, and it must be 0 or more"),
    "max_p95_increase": (0.0, math.inf, f"{_SHARE}, and it must be 0 or more"),
    "max_failure_increase": (0.0, 1.0, "it is a difference of rates, from 0 to 1: 2 points are 0.02"),
}


_USUAL = "usual"
_READER: TypeAdapter[Rule] = TypeAdapter(Rule)


def written(rule: Rule) -> str:
    """A rule as one word for an address: what is unusual in it, as `goal:no_worse,max_p95_increase:0.5`; `usual` if nothing is."""
    return ",".join(f"{name}:{quote(str(value), safe='')}" for name, value in rule.unusual.items()) or _USUAL


def parsed(text: str) -> Rule | None:
    """The rule that `written` made this of; None where it is none, since anybody may change an address."""
    if text == _USUAL:
        return Rule()
    given = {name: unquote(value) for name, _, value in (part.partition(":") for part in text.split(","))}
    if not given.keys() <= {field.name for field in fields(Rule)}:
        return None
    try:
        return _READER.validate_python({name: None if value == "None" else value for name, value in given.items()})
    except (ValidationError, SettingsError):
        return None


def rule_of(kept: Queue | Decision) -> Rule:
    """The rule that a queue was opened under or a decision made by; what a later version of this program wrote there is passed over."""
    known = {field.name for field in fields(Rule)}
    return Rule(**{name: value for name, value in kept.rule.items() if name in known})


def line(rule: Rule) -> float:
    """The win rate that the whole interval must lie above."""
    return 0.5 if rule.goal == "better" else 0.5 - rule.margin


def running_alpha(rule: Rule) -> float:
    """Of the interval that may be looked at after every vote. For `no_worse` it is one-sided: only its lower bound is claimed."""
    return 2 * rule.alpha if rule.goal == "no_worse" else rule.alpha
