"""The rule of a decision: what must be shown before a candidate is released, named before the votes come in."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

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

    @property
    def unusual(self) -> dict[str, Any]:
        """What differs from the usual rule: what a queue keeps of the one that it was opened under."""
        usual = asdict(Rule())
        return {name: value for name, value in asdict(self).items() if value != usual[name]}


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
