"""What a session brought: how the win rates moved, where raters differ, and which variant was which."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypeVar

import pandas as pd

from feedbackloop.comparisons.exposure import expose_all
from feedbackloop.comparisons.items import Verdict
from feedbackloop.identity import utcnow
from feedbackloop.models import Case, Comparison, Queue, Rating, Variant
from feedbackloop.queries import judgements, records
from feedbackloop.queries import pairs as reading
from feedbackloop.stats.interval import Interval
from feedbackloop.stats.significance import mean_interval
from feedbackloop.store import Store

BREAK = timedelta(minutes=30)
"""Who has judged nothing for so long begins a new session."""

_SHOWN = 50
_LONGEST_S = 600.0

Row = TypeVar("Row", Comparison, Rating)


@dataclass(frozen=True)
class Standing:
    """A variant before and after the session, by the blind judgements of all people on this task."""

    variant: str
    name: str
    metric: str
    """`preference`: the share of comparisons won, ties counting half; else the mean rating."""
    before: Interval
    after: Interval


@dataclass(frozen=True)
class Said:
    """One rater's verdict, with the name of the variant that it prefers where it prefers one."""

    rater: str
    winner: Literal["a", "b", "tie", "both_bad"]
    name: str | None


@dataclass(frozen=True)
class Difference:
    """A pair that raters judged differently."""

    case_id: str
    text: str
    said: tuple[Said, ...]
    responses: tuple[str, ...] = ()
    """Of the answers."""


@dataclass(frozen=True)
class Revealed:
    """Which variant was which in something that the rater judged."""

    case_id: str
    text: str
    names: tuple[str, ...]
    """From left to right as they stood on the screen, or the single one."""
    verdict: Verdict | None
    scores: tuple[tuple[str, float], ...] = ()
    """Of a single answer: metric and value."""
    blind: bool = True
    responses: tuple[str, ...] = ()
    """Of the answers."""


@dataclass(frozen=True)
class SessionSummary:
    """One rater's session at a queue."""

    judged: int
    seconds: float
    """Spent looking, as far as it was measured; who stayed away for long has not looked for longer than ten minutes."""
    not_blind: int
    """Of what was judged, how much counts apart, since its names were seen before."""
    standings: tuple[Standing, ...]
    """In the queue's order of variants."""
    differences: tuple[Difference, ...]
    """In the whole queue; those that this rater has a part in first."""
    revealed: tuple[Revealed, ...]
    """The last of the session, newest first."""


def session_summary(store: Store, queue: Queue, rater: str, since: datetime | None = None) -> SessionSummary:
    """What a rater's session at a queue brought.

    Args:
        since: when it began; unless given, after their last break of half an hour.
    """
    names = variant_names(store, tuple(queue.variants))
    if queue.purpose == "single":
        return _of_singles(store, queue, rater, since, names)
    everyone = judgements.queue_votes(store, queue)
    votes = _session([vote for vote in everyone if vote.rater == rater], since)
    cases = _cases(store, [vote.case_id for vote in everyone])
    own = {vote.id for vote in votes}
    frame = judgements.scored_votes(store, queue.task, queue.variants)
    standings = tuple(
        Standing(id_, names[id_], "preference", *_before_and_after(_sides(frame, id_), own)) for id_ in queue.variants
    )
    return SessionSummary(
        judged=len(votes),
        seconds=sum(min(vote.seconds or 0.0, _LONGEST_S) for vote in votes),
        not_blind=sum(not vote.blind for vote in votes),
        standings=standings,
        differences=_differences(everyone, rater, names, cases),
        revealed=tuple(_revealed(vote, names, cases) for vote in reversed(votes[-_SHOWN:])),
    )


def reveal(store: Store, queue: Queue, rater: str, since: datetime | None = None) -> tuple[Revealed, ...]:
    """Which variant was which in the last things that a rater judged; from now on they are not blind to these answers.

    Raises:
        StoreError: it cannot be stored that they were shown.
    """
    shown = session_summary(store, queue, rater, since).revealed
    expose_all(store, rater, [(one.case_id, one.responses) for one in shown], "reveal")
    return shown


def heading(case: Case | None) -> str:
    """A case in a few words: its input, its only variable, or what was said last."""
    if case is None:
        return ""
    only = case.inputs.get("input", next(iter(case.inputs.values())) if len(case.inputs) == 1 else None)
    if only is None and case.messages and not case.inputs:
        only = case.messages[-1].get("content")
    text = only if isinstance(only, str) else json.dumps(only or case.inputs, ensure_ascii=False, default=str)
    return " ".join(text.split())


def _of_singles(
    store: Store, queue: Queue, rater: str, since: datetime | None, names: dict[str, str]
) -> SessionSummary:
    ratings = _session(_ratings(store, queue, rater), since)
    own = {rating.id for rating in ratings}
    frame = judgements.scored_ratings(store, queue.task, queue.variants, reading.metrics(queue))
    standings = []
    for id_ in queue.variants:
        for metric in reading.metrics(queue):
            mine = frame[(frame["variant_id"] == id_) & (frame["metric"] == metric)]
            sides = pd.DataFrame(
                {"id": mine["id"], "case_id": mine["case_id"], "rater": mine["rater"], "y": mine["value"]}
            )
            bounds = (0.0, 1.0) if metric == "thumbs" else (1.0, 5.0)
            standings.append(Standing(id_, names[id_], metric, *_before_and_after(sides, own, bounds)))
    by_answer: dict[str, list[Rating]] = {}
    for rating in ratings:
        by_answer.setdefault(rating.response_id, []).append(rating)
    shown = list(by_answer)[-_SHOWN:][::-1]
    cells = {id_: judgements.cell(store, id_) for id_ in shown}
    cases = _cases(store, [cell.case_id for cell in cells.values()])
    revealed = tuple(
        Revealed(
            cells[id_].case_id,
            heading(cases.get(cells[id_].case_id)),
            (names.get(cells[id_].variant_id, cells[id_].variant_id[:4]),),
            None,
            tuple((rating.metric, float(rating.value or 0)) for rating in by_answer[id_]),
            all(rating.blind for rating in by_answer[id_]),
            (id_,),
        )
        for id_ in shown
    )
    return SessionSummary(
        judged=len(by_answer),
        seconds=sum(min(max(one.seconds or 0.0 for one in answer), _LONGEST_S) for answer in by_answer.values()),
        not_blind=sum(not one.blind for one in revealed),
        standings=tuple(standings),
        differences=(),
        revealed=revealed,
    )


def _ratings(store: Store, queue: Queue, rater: str) -> list[Rating]:
    wanted = reading.metrics(queue)
    return [rating for rating in judgements.queue_ratings(store, queue, rater) if rating.metric in wanted]


def _session(rows: Sequence[Row], since: datetime | None) -> list[Row]:
    """The rows of the session: those since a moment, or those after the last break."""
    if since is not None:
        return [row for row in rows if row.created_at >= since]
    found: list[Row] = []
    moment = utcnow()
    for row in reversed(rows):
        if found and moment - row.created_at > BREAK:
            break
        found.append(row)
        moment = row.created_at
    return found[::-1]


def _sides(votes: pd.DataFrame, variant: str) -> pd.DataFrame:
    """A variant's comparisons: id, case_id, rater, y (1 for a win, 0.5 for a tie or both bad, 0 for a loss)."""
    mine = votes[(votes["variant_a"] == variant) | (votes["variant_b"] == variant)]
    is_a = mine["variant_a"] == variant
    won = ((mine["winner"] == "a") & is_a) | ((mine["winner"] == "b") & ~is_a)
    lost = ((mine["winner"] == "b") & is_a) | ((mine["winner"] == "a") & ~is_a)
    y = 0.5 + 0.5 * won.astype(float) - 0.5 * lost.astype(float)
    return pd.DataFrame({"id": mine["id"], "case_id": mine["case_id"], "rater": mine["rater"], "y": y})


def _before_and_after(
    sides: pd.DataFrame, own: set[str], bounds: tuple[float, float] = (0.0, 1.0)
) -> tuple[Interval, Interval]:
    earlier = sides[~sides["id"].isin(own)]
    before, after = (
        mean_interval(part["y"].to_numpy(), list(part["case_id"]), list(part["rater"]), bounds=bounds)
        for part in (earlier, sides)
    )
    return before, after


def _differences(
    votes: Sequence[Comparison], rater: str, names: dict[str, str], cases: dict[str, Case]
) -> tuple[Difference, ...]:
    by_pair: dict[tuple[str, ...], list[Comparison]] = {}
    for vote in votes:
        by_pair.setdefault((vote.case_id, vote.variant_a, vote.variant_b), []).append(vote)
    found = []
    for (case_id, a, b), together in by_pair.items():
        if len({vote.winner for vote in together}) > 1:
            said = tuple(
                Said(vote.rater, vote.winner, {"a": names.get(a), "b": names.get(b)}.get(vote.winner))
                for vote in together
                if vote.winner is not None
            )
            answers = tuple({id_: None for vote in together for id_ in (vote.response_a, vote.response_b)})
            found.append(Difference(case_id, heading(cases.get(case_id)), said, answers))
    found.sort(key=lambda one: all(said.rater != rater for said in one.said))
    return tuple(found[:_SHOWN])


def _revealed(vote: Comparison, names: dict[str, str], cases: dict[str, Case]) -> Revealed:
    a, b = names.get(vote.variant_a, vote.variant_a[:4]), names.get(vote.variant_b, vote.variant_b[:4])
    verdict: Verdict
    if vote.winner in ("tie", "both_bad"):
        verdict = vote.winner
    else:
        verdict = "left" if (vote.winner == "a") == bool(vote.a_shown_left) else "right"
    shown = (a, b) if vote.a_shown_left else (b, a)
    answers = (vote.response_a, vote.response_b)
    return Revealed(vote.case_id, heading(cases.get(vote.case_id)), shown, verdict, blind=vote.blind, responses=answers)


def _cases(store: Store, ids: Sequence[str]) -> dict[str, Case]:
    wanted = list(dict.fromkeys(ids))
    return store.query(lambda connection: reading.cases(connection, wanted)) if wanted else {}


def variant_names(store: Store, ids: Sequence[str]) -> dict[str, str]:
    """What variants are called, with the version where two of them have one name."""
    found: list[Variant] = records.variants(store, ids)
    names = [variant.name for variant in found]
    known = {one.id: one.label if names.count(one.name) > 1 else one.name for one in found}
    return {id_: known.get(id_, id_[:4]) for id_ in ids}
