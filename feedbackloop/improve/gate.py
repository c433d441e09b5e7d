"""The gate: whether a candidate may take the baseline's place, by a rule that was named before the votes came in.

The interval is one that stays right however often it is looked at, since people look after every vote. A case enters it once, when
its last planned vote is in; what is corrected later changes the share of votes that stands beside it, and not the running decision.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import pandas as pd

from feedbackloop import queries
from feedbackloop.errors import FeedbackLoopError
from feedbackloop.improve.evidence import Evidence, collect, running_interval
from feedbackloop.improve.guards import Guard, guards
from feedbackloop.improve.rules import Rule, line, rule_of, running_alpha
from feedbackloop.models import Decision, Variant
from feedbackloop.queries import headtohead, pairs
from feedbackloop.queries.headtohead import Ballot
from feedbackloop.queries.records import known_task
from feedbackloop.registry import near
from feedbackloop.stats.planning import sequence_needed
from feedbackloop.stats.sequences import ConfidenceSequence
from feedbackloop.store import Store

LEAST_EFFECT = 0.05
"""Of a win rate, the smallest difference that votes still needed are planned for."""


@dataclass(frozen=True)
class Question:
    """A candidate against a baseline, with everything that votes do not change."""

    task: str
    baseline: Variant
    candidate: Variant
    rule: Rule
    guards: tuple[Guard, ...]
    answered_cases: int
    """Which both were asked."""
    cost_usd: tuple[float | None, float | None]
    """The mean of an answer: the baseline's, the candidate's."""

    @property
    def planned(self) -> int | None:
        """Cases that the interval is tuned to."""
        return self.rule.planned or self.answered_cases or None

    def ballots(self, store: Store) -> list[Ballot]:
        """The votes on it, as they are now."""
        rule, pair = self.rule, (self.baseline.id, self.candidate.id)
        return headtohead.ballots(store, self.task, *pair, metric=rule.metric, rater_kind=rule.rater_kind)


@dataclass(frozen=True)
class Assessment:
    """A verdict as it stands, with the way it took to get there."""

    decision: Decision
    """Not stored."""
    evidence: Evidence
    sequence: ConfidenceSequence
    """The interval after each complete case."""
    rule: Rule
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
    asked = question(store, task, candidate, baseline, rule=rule)
    return weigh(asked, asked.ballots(store), ended=ended)


def asked_rule(store: Store, task: str, candidate: str, baseline: str) -> Rule:
    """The rule under which people were last asked to decide between two variants (ids); the usual one if never."""
    for queue in pairs.queues(store, task):
        if queue.purpose == "decision" and queue.variants == [baseline, candidate]:
            return rule_of(queue)
    return Rule()


def question(
    store: Store, task: str, candidate: str, baseline: str | None = None, *, rule: Rule | None = None
) -> Question:
    """What `assess` is about, before the votes are looked at; arguments and errors as there."""
    rule = rule or Rule()
    known = queries.task_variants(store, task)
    if not known:
        known_task(store, task)
    one = _variant(known, candidate, task)
    first = queries.baseline(store, task) if baseline is None else _variant(known, baseline, task)
    if first is None or one.id == first.id:
        raise FeedbackLoopError(f"'{one.name}' is the baseline itself; name a candidate that is to take its place")
    answered = headtohead.performance(store, task, first.id, one.id)
    looked = guards(
        answered,
        max_cost_increase=rule.max_cost_increase,
        max_p95_increase=rule.max_p95_increase,
        max_failure_increase=rule.max_failure_increase,
        min_saving=rule.min_saving if rule.goal == "no_worse" else None,
    )
    costs = _mean(answered["baseline_cost_usd"]), _mean(answered["candidate_cost_usd"])
    return Question(task, first, one, rule, looked, len(answered), costs)


def weigh(asked: Question, ballots: Iterable[Ballot], *, ended: bool = False) -> Assessment:
    """The verdict by these votes.

    Args:
        asked: what they are about.
        ballots: oldest first.
        ended: as in `assess`.
    """
    rule, first, one = asked.rule, asked.baseline, asked.candidate
    evidence = collect(ballots, rule, ended=ended)
    sequence = running_interval(evidence.running, rule, planned=asked.planned)
    verdict, reason = _verdict(rule, evidence, sequence, asked.guards)
    decision = Decision(
        task=asked.task,
        baseline=first.id,
        candidate=one.id,
        goal=rule.goal,
        verdict=verdict,
        reason=reason,
        estimate=sequence.interval.estimate,
        lower=sequence.interval.lower,
        upper=sequence.interval.upper,
        n=evidence.votes,
        raters=list(evidence.raters),
        guards={guard.name: asdict(guard) for guard in asked.guards},
        rule=asdict(rule),
        evidence={
            "cases": evidence.cases,
            "open_cases": evidence.open_cases,
            "answered_cases": asked.answered_cases,
            "both_bad": evidence.both_bad,
            "settled_at": sequence.first_excluding(line(rule)),
            "method": sequence.interval.method,
            "scope": sequence.interval.scope,
            "of_votes": {
                "estimate": evidence.estimate.estimate,
                "lower": evidence.estimate.lower,
                "upper": evidence.estimate.upper,
                "scope": evidence.estimate.scope,
            },
            "confidence": 1 - rule.alpha,
            "names": {first.id: first.label, one.id: one.label},
            "cost_usd": list(asked.cost_usd),
        },
        more_needed=_more(rule, evidence, planned=asked.planned) if reason == "too_few" else 0,
    )
    return Assessment(decision, evidence, sequence, rule, line(rule))


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
    goal = line(rule)
    seen, seen_effect = 0, 0.0
    if evidence.cases < 2:
        effect, variance = (0.1, 0.1775) if rule.goal == "better" else (rule.margin, 0.1875)
    else:
        estimate = float(np.mean(evidence.running))
        least = LEAST_EFFECT if rule.goal == "better" else rule.margin / 2
        # That it is worse is shown as well, where the question is which of the two is better.
        towards = -1 if rule.goal == "better" and estimate < goal else 1
        effect = max(towards * (estimate - goal), least)
        variance = float(np.var(evidence.running))
        seen, seen_effect = evidence.cases, towards * (estimate - goal)
    cases = sequence_needed(effect, variance, planned, alpha=running_alpha(rule), seen=seen, seen_effect=seen_effect)
    return max(1, math.ceil((cases - evidence.cases) * max(per_case, 1.0)))


def _mean(figures: pd.Series[float]) -> float | None:
    known = figures.dropna()
    return float(known.mean()) if len(known) else None


def _variant(known: Sequence[Variant], name: str, task: str) -> Variant:
    for variant in known:
        if name in (variant.id, variant.label, variant.name):
            return variant
    raise FeedbackLoopError(
        f"the task '{task}' has no variant '{name}'{near(name, [variant.name for variant in known])}"
    )
