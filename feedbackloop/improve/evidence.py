"""Votes on one pair of variants as the gate sees them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import fmean

from feedbackloop.improve.rules import Rule, running_alpha
from feedbackloop.queries.headtohead import Ballot
from feedbackloop.stats.interval import Interval
from feedbackloop.stats.sequences import ConfidenceSequence, betting_interval, confidence_sequence
from feedbackloop.stats.significance import mean_interval


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
class _Vote:
    """A vote that stands: as it was cast, and as it is now."""

    cast: Ballot
    first: float
    """The score when it was cast."""
    now: float
    both_bad: bool


def collect(ballots: Iterable[Ballot], rule: Rule, *, ended: bool = False) -> Evidence:
    """What `queries.headtohead.ballots` amounts to.

    A withdrawn vote counts as never cast. A changed one counts as it was first in the running decision, and as it is now in the
    estimate. Outside of queues nothing is planned: a case is complete with the votes that it has.
    """
    votes = _standing(ballots)
    by_case: dict[str, list[_Vote]] = {}
    for vote in votes:
        by_case.setdefault(vote.cast.case_id, []).append(vote)
    complete: list[tuple[datetime, float]] = []
    for group in by_case.values():
        wanted = max((vote.cast.overlap for vote in group if vote.cast.overlap), default=len(group))
        if len(group) < wanted and not ended:
            continue
        counted = group[:wanted]
        complete.append((counted[-1].cast.created_at, fmean(vote.first for vote in counted)))
    complete.sort(key=lambda case: case[0])
    estimate = mean_interval(
        [vote.now for vote in votes],
        [vote.cast.case_id for vote in votes],
        [vote.cast.rater for vote in votes],
        scope=rule.scope,
        alpha=rule.alpha,
    )
    return Evidence(
        running=tuple(score for _, score in complete),
        estimate=estimate,
        votes=len(votes),
        cases=len(complete),
        open_cases=len(by_case) - len(complete),
        raters=tuple(name for name, _ in Counter(vote.cast.rater for vote in votes).most_common()),
        both_bad=fmean(vote.both_bad for vote in votes) if votes else None,
    )


def running_interval(running: Sequence[float], rule: Rule, *, planned: int | None) -> ConfidenceSequence:
    """The interval that may be looked at after every vote."""
    if rule.strict:
        return betting_interval(running, alpha=running_alpha(rule))
    return confidence_sequence(running, planned, alpha=running_alpha(rule))


def _standing(ballots: Iterable[Ballot]) -> list[_Vote]:
    """The votes that stand, in the order in which they were first cast."""
    cast: dict[str, Ballot] = {}
    now: dict[str, Ballot] = {}
    origins: dict[str, str] = {}
    for ballot in ballots:
        origin = origins.get(ballot.supersedes or "", ballot.id)
        origins[ballot.id] = origin
        cast.setdefault(origin, ballot)
        now[origin] = ballot
    return [
        _Vote(first, first.score, last.score, last.both_bad)
        for first, last in zip(cast.values(), now.values(), strict=True)
        if first.score is not None and last.score is not None
    ]
