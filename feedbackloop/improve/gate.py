"""The gate: whether a candidate may take the baseline's place, by a rule that was named before the votes came in.

The interval is one that stays right however often it is looked at, since people look after every vote. A case enters it once, when
its last planned vote is in; what is corrected later changes the estimate that is shown, and not the running decision.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from feedbackloop import queries
from feedbackloop.errors import FeedbackLoopError
from feedbackloop.improve.guards import Guard, guards
from feedbackloop.models import Decision, RaterKind, Variant
from feedbackloop.queries import headtohead
from feedbackloop.registry import near
from feedbackloop.stats.interval import Interval, Scope
from feedbackloop.stats.planning import sequence_needed
from feedbackloop.stats.sequences import ConfidenceSequence, betting_interval, confidence_sequence
from feedbackloop.stats.significance import mean_interval
from feedbackloop.store import Store

LEAST_EFFECT = 0.05
"""Of a win rate, the smallest difference that votes still needed are planned for."""


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


@dataclass(frozen=True)
class Evidence:
    """Votes on one pair, as the gate sees them."""

    running: tuple[float, ...]
    """The candidate's share of each complete case, in the order in which cases were complete, as it was then."""
    estimate: Interval
    """Of all votes as they stand now, at one look."""
    votes: int
    cases: int
    open_cases: int
    """With a vote, but not yet all that are planned."""
    raters: tuple[str, ...]
    """Who voted most first."""
    both_bad: float | None
    """Share of the votes."""


@dataclass(frozen=True)
class Assessment:
    """A verdict as it stands, with the way it took to get there."""

    decision: Decision
    """Not stored."""
    evidence: Evidence
    sequence: ConfidenceSequence
    """The interval after each complete case."""
    line: float
    """The win rate that the whole interval must lie above."""


def assess(
    store: Store,
    task: str,
    candidate: str,
    baseline: str | None = None,
    *,
    rule: Rule | None = None,
    ended: bool = False,
) -> Assessment:
    """Look at the votes as they are now.

    Args:
        store: where the votes are.
        task: the feature that is judged.
        candidate: a variant's name, `name@version` or id; a bare name means its newest version.
        baseline: the same; by default what the task names, else its first variant.
        rule: what must be shown.
        ended: no further votes will come: cases with fewer than planned count as well.

    Raises:
        FeedbackLoopError: a name that the task does not know, or the same variant twice.
    """
    rule = rule or Rule()
    known = queries.task_variants(store, task)
    one = _variant(known, candidate, task)
    first = queries.baseline(store, task) if baseline is None else _variant(known, baseline, task)
    if first is None or one.id == first.id:
        raise FeedbackLoopError(f"'{one.name}' is the baseline itself; name a candidate that is to take its place")
    ballots = headtohead.ballots(store, task, first.id, one.id, metric=rule.metric, rater_kind=rule.rater_kind)
    evidence = collect(ballots, rule, ended=ended)
    answered = headtohead.performance(store, task, first.id, one.id)
    sequence = running_interval(evidence.running, rule, planned=rule.planned or len(answered) or None)
    looked = guards(
        answered,
        max_cost_increase=rule.max_cost_increase,
        max_p95_increase=rule.max_p95_increase,
        max_failure_increase=rule.max_failure_increase,
        min_saving=rule.min_saving if rule.goal == "no_worse" else None,
    )
    verdict, reason = _verdict(rule, evidence, sequence, looked)
    decision = Decision(
        task=task,
        baseline=first.id,
        candidate=one.id,
        goal=rule.goal,
        verdict=verdict,
        reason=reason,
        estimate=evidence.estimate.estimate,
        lower=_bound(sequence.decided_lower, 0.0),
        upper=_bound(sequence.decided_upper, 1.0),
        n=evidence.votes,
        raters=list(evidence.raters),
        guards={guard.name: asdict(guard) for guard in looked},
        rule=asdict(rule),
        evidence={
            "cases": evidence.cases,
            "open_cases": evidence.open_cases,
            "answered_cases": len(answered),
            "both_bad": evidence.both_bad,
            "method": sequence.interval.method,
            "one_look": [evidence.estimate.lower, evidence.estimate.upper],
            "scope": evidence.estimate.scope,
            "confidence": 1 - rule.alpha,
            "names": {first.id: first.label, one.id: one.label},
            "cost_usd": [_mean(answered["baseline_cost_usd"]), _mean(answered["candidate_cost_usd"])],
        },
        more_needed=_more(rule, evidence, planned=rule.planned or len(answered) or None) if reason == "too_few" else 0,
    )
    return Assessment(decision, evidence, sequence, line(rule))


def decide(
    store: Store,
    task: str,
    candidate: str,
    baseline: str | None = None,
    *,
    rule: Rule | None = None,
    ended: bool = False,
) -> Decision:
    """The verdict, stored; otherwise as `assess`."""
    decision = assess(store, task, candidate, baseline, rule=rule, ended=ended).decision
    store.append([decision])
    return decision


def collect(ballots: pd.DataFrame, rule: Rule, *, ended: bool = False) -> Evidence:
    """What `queries.headtohead.ballots` amounts to.

    A withdrawn vote counts as never cast. A changed one counts as it was first in the running decision, and as it is now in the
    estimate. Outside of queues nothing is planned: a case is complete with the votes that it has.
    """
    votes = _chains(ballots)
    running: list[tuple[Any, float]] = []
    open_cases = 0
    for _, group in votes.groupby("case_id", sort=False):
        planned = group["overlap"].max()
        wanted = len(group) if math.isnan(planned) else int(planned)
        if len(group) < wanted and not ended:
            open_cases += 1
            continue
        counted = group.iloc[:wanted]
        running.append((counted["created_at"].iloc[-1], float(counted["first"].mean())))
    running.sort(key=lambda case: case[0])
    estimate = mean_interval(
        votes["now"].to_numpy(dtype=float),
        votes["case_id"].tolist(),
        votes["rater"].tolist(),
        scope=rule.scope,
        alpha=rule.alpha,
    )
    return Evidence(
        running=tuple(score for _, score in running),
        estimate=estimate,
        votes=len(votes),
        cases=len(running),
        open_cases=open_cases,
        raters=tuple(str(name) for name in votes["rater"].value_counts().index),
        both_bad=float(votes["both_bad"].mean()) if len(votes) else None,
    )


def running_interval(running: Sequence[float], rule: Rule, *, planned: int | None) -> ConfidenceSequence:
    """The interval that may be looked at after every vote. For `no_worse` it is one-sided: only its lower bound is claimed."""
    alpha = 2 * rule.alpha if rule.goal == "no_worse" else rule.alpha
    if rule.strict:
        return betting_interval(running, alpha=alpha)
    return confidence_sequence(running, planned, alpha=alpha)


def line(rule: Rule) -> float:
    """The win rate that the whole interval must lie above."""
    return 0.5 if rule.goal == "better" else 0.5 - rule.margin


def _verdict(
    rule: Rule, evidence: Evidence, sequence: ConfidenceSequence, looked: Sequence[Guard]
) -> tuple[Literal["promote", "keep", "undecided"], str]:
    at = sequence.first_excluding(line(rule))
    if at is not None and sequence.upper[at - 1] < line(rule):
        return "keep", "worse"
    shown = at is not None
    if rule.scope == "raters like these":
        # The running interval is clustered by case alone: it speaks of these raters.
        wide = evidence.estimate
        shown = shown and wide.scope == rule.scope and wide.lower is not None and wide.lower > line(rule)
    for guard in looked:
        if guard.state == "fails":
            return "keep", f"guard:{guard.name}"
    if not shown:
        return "undecided", "too_few"
    for guard in looked:
        if guard.blocks:
            return "undecided", f"guard:{guard.name}"
    return "promote", rule.goal


def _more(rule: Rule, evidence: Evidence, *, planned: int | None) -> int:
    """Votes still missing, if what was seen so far is true."""
    per_case = evidence.votes / (evidence.cases + evidence.open_cases) if evidence.votes else 1.0
    estimate = evidence.estimate.estimate
    if estimate is None or evidence.cases < 2:
        effect, variance = (0.1, 0.1775) if rule.goal == "better" else (rule.margin, 0.1875)
    else:
        effect = (
            max(abs(estimate - 0.5), LEAST_EFFECT)
            if rule.goal == "better"
            else max(estimate - line(rule), rule.margin / 2)
        )
        variance = float(np.var(evidence.running)) if evidence.running else 0.2
    alpha = 2 * rule.alpha if rule.goal == "no_worse" else rule.alpha
    cases = sequence_needed(effect, variance, planned, alpha=alpha)
    return max(1, math.ceil((cases - evidence.cases) * max(per_case, 1.0)))


def _chains(ballots: pd.DataFrame) -> pd.DataFrame:
    """A row per vote that stands: case_id, rater, overlap, created_at (of the first), first (its score then), now, both_bad."""
    rows: dict[str, dict[str, Any]] = {}
    root: dict[str, str] = {}
    for row_of in ballots.to_dict("records"):
        ballot = {str(name): value for name, value in row_of.items()}
        origin = root.get(str(ballot["supersedes"]), str(ballot["id"]))
        root[str(ballot["id"])] = origin
        row = rows.setdefault(origin, {**ballot, "first": ballot["score"]})
        row["now"], row["both_bad"] = ballot["score"], ballot["both_bad"]
    columns = ["case_id", "rater", "overlap", "created_at", "first", "now", "both_bad"]
    frame = pd.DataFrame(list(rows.values()), columns=columns)
    frame["overlap"] = frame["overlap"].astype(float)
    return frame[frame["now"].notna() & frame["first"].notna()]


def _mean(figures: pd.Series[float]) -> float | None:
    known = figures.dropna()
    return float(known.mean()) if len(known) else None


def _bound(value: float, otherwise: float) -> float:
    return value if math.isfinite(value) else otherwise


def _variant(known: Sequence[Variant], name: str, task: str) -> Variant:
    for variant in known:
        if name in (variant.id, variant.label, variant.name):
            return variant
    raise FeedbackLoopError(
        f"the task '{task}' has no variant '{name}'{near(name, [variant.name for variant in known])}"
    )
