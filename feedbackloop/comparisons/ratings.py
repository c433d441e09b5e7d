"""What people say of one answer: an issue, a thumb, a criterion from 1 to 5, a correction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from feedbackloop.comparisons.dealing import dealer
from feedbackloop.comparisons.items import Item, Single, Slot
from feedbackloop.comparisons.rounds import Outcome, close
from feedbackloop.comparisons.seats import assignment
from feedbackloop.comparisons.step import step
from feedbackloop.comparisons.votes import withdrawal
from feedbackloop.errors import SettingsError, StoreError
from feedbackloop.identity import utcnow
from feedbackloop.models import Queue, Rating, Record
from feedbackloop.queries import judgements
from feedbackloop.queries import pairs as reading
from feedbackloop.store import Store

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

ISSUE = "issue"
THUMBS = "thumbs"
CORRECTION = "correction"

_NONE: tuple[Rating, ...] = ()


@dataclass(frozen=True)
class Rated:
    """What came of a rating of the answer that a rater was given."""

    outcome: Outcome
    rating: Rating | None
    """The rating that is in the store: this one, or the one that this rater gave before; None where it was passed on."""
    complete: bool = False
    """The answer has now all the ratings that the queue asks for."""
    next: Item | None = None
    """The answer that the rater was given in the same step, if this process knew of one."""


def label_issue(
    store: Store,
    response_id: str,
    label: str,
    rater: str,
    queue: str | None = None,
    *,
    blind: bool = True,
    comment: str | None = None,
) -> Rating:
    """Say that an answer has a known fault. Said twice, it counts once.

    Args:
        queue: id of the queue in which it was said.
        blind: whether the rater knew neither name nor metrics of the answer.

    Raises:
        StoreError: the store cannot be written.
    """
    made = Rating(
        response_id=response_id,
        metric=ISSUE,
        value=1.0,
        label=label,
        rater=rater,
        rater_kind="human",
        blind=blind,
        queue=queue,
        comment=comment,
    )

    def plan(connection: DuckDBPyConnection) -> tuple[Rating, ...]:
        standing = judgements.standing_ratings(connection, rater, [response_id], queue)
        return tuple(rating for rating in standing if (rating.metric, rating.label) == (ISSUE, label))

    there = step(store, plan, lambda there: [] if there else [made], _NONE)
    return there[0] if there else made


def unlabel_issue(store: Store, rating: Rating) -> None:
    """Take back that an answer has a fault. What was taken back already stays so.

    Raises:
        StoreError: the store cannot be written.
    """

    def plan(connection: DuckDBPyConnection) -> bool:
        standing = judgements.standing_ratings(connection, rating.rater, [rating.response_id], rating.queue)
        return any(one.id == rating.id for one in standing)

    step(store, plan, lambda stands: [withdrawal(rating)] if stands else [], True)


def rate(
    store: Store,
    response_id: str,
    metric: str,
    value: float,
    rater: str,
    *,
    queue: str | None = None,
    blind: bool = True,
    seconds: float | None = None,
    comment: str | None = None,
) -> Rating:
    """Rate one answer: metric `thumbs` with 1 or 0, or a criterion with 1 to 5. An earlier rating by this rater is replaced.

    Raises:
        SettingsError: the value is none that the metric knows.
        StoreError: the store cannot be written.
    """
    made = _rating(response_id, metric, value, rater, queue, blind=blind, seconds=seconds, comment=comment)

    return _replace(store, made)


def rate_and_deal(store: Store, single: Single, metric: str, value: float, *, seconds: float | None = None) -> Rated:
    """Rate the answer that a rater was given by its queue; with its last rating comes the next answer, in the same step.

    Raises:
        SettingsError: the value is none that the metric knows.
        StoreError: the store cannot be written.
    """
    queue, rater = single.queue, single.assignment.rater
    made = _rating(single.response_id, metric, value, rater, queue.id, blind=single.blind, seconds=seconds)
    missing = set(reading.metrics(queue)) - {metric}
    if missing and missing - {rating.metric for rating in ratings_of(store, queue, single.response_id, rater)}:
        return Rated("stored", _replace(store, made), complete=False, next=single)
    stored: list[Rating] = []

    def rows(blind: bool) -> list[Record]:
        stored[:] = [made.model_copy(update={"blind": blind})]
        return [*stored]

    closed = close(store, single, rater, rows, made.id)
    if closed.outcome == "repeated":
        stored[:] = [one for one in ratings_of(store, queue, single.response_id, rater) if one.metric == metric]
    elif closed.outcome == "passed on":
        return Rated("passed on", None)
    return Rated(closed.outcome, stored[0] if stored else None, complete=True, next=closed.next)


def ratings_of(store: Store, queue: Queue, response_id: str, rater: str) -> list[Rating]:
    """What a rater says of an answer in a queue, as far as it stands."""
    return store.query(lambda connection: judgements.standing_ratings(connection, rater, [response_id], queue.id))


def unrate(store: Store, queue: Queue, response_id: str, rater: str) -> None:
    """Take back all that a rater said of a single answer in a queue; it is then their next one again.

    Raises:
        StoreError: the store cannot be written.
    """
    cell = judgements.cell(store, response_id)
    slot = Slot(cell.case_id, (cell.variant_id,), (response_id,), 1.0)
    now, dealing = utcnow(), dealer(store, queue)
    given = assignment(queue, slot, rater, dealing.number(slot.key, rater, now), now)

    def plan(connection: DuckDBPyConnection) -> tuple[Rating, ...]:
        return tuple(judgements.standing_ratings(connection, rater, [response_id], queue.id))

    def records(standing: tuple[Rating, ...]) -> Sequence[Record]:
        return [*map(withdrawal, standing), given] if standing else []

    if step(store, plan, records):
        dealing.remember(slot.key, rater, None)
        dealing.gave(given)


def correct(
    store: Store,
    response_id: str,
    text: str,
    rater: str,
    *,
    queue: str | None = None,
    blind: bool = True,
    comment: str | None = None,
) -> Rating:
    """Store how an answer should have read. An earlier correction by this rater is replaced.

    Raises:
        StoreError: there is no such answer, the text is empty or the same, or the store cannot be written.
    """
    if not text.strip() or text.strip() == judgements.cell(store, response_id).output.strip():
        raise StoreError("the correction is empty or says what the answer says; nothing was stored")
    made = Rating(
        response_id=response_id,
        metric=CORRECTION,
        correction=text,
        comment=comment,
        rater=rater,
        rater_kind="human",
        blind=blind,
        queue=queue,
    )
    return _replace(store, made)


def _rating(
    response_id: str,
    metric: str,
    value: float,
    rater: str,
    queue: str | None,
    *,
    blind: bool,
    seconds: float | None = None,
    comment: str | None = None,
) -> Rating:
    known = (0, 1) if metric == THUMBS else range(1, 6)
    if value not in known or metric in (ISSUE, CORRECTION):
        raise SettingsError(
            f"'{metric}' is rated with {'0 or 1' if metric == THUMBS else '1 to 5'}, not with {value:g}"
        )
    return Rating(
        response_id=response_id,
        metric=metric,
        value=float(value),
        rater=rater,
        rater_kind="human",
        blind=blind,
        queue=queue,
        seconds=seconds,
        comment=comment,
    )


def _replace(store: Store, made: Rating) -> Rating:
    """Store a rating in the place of the one that this rater gave for the same metric; the same said again is stored once."""
    stored: list[Rating] = []

    def plan(connection: DuckDBPyConnection) -> tuple[Rating, ...]:
        standing = judgements.standing_ratings(connection, made.rater, [made.response_id], made.queue)
        return tuple(rating for rating in standing if rating.metric == made.metric)

    def records(earlier: tuple[Rating, ...]) -> Sequence[Record]:
        last = earlier[-1] if earlier else None
        if last is not None and (last.value, last.correction, last.comment) == (
            made.value,
            made.correction,
            made.comment,
        ):
            stored[:] = [last]
            return []
        stored[:] = [made.model_copy(update={"supersedes": last.id if last else None})]
        return [*stored]

    step(store, plan, records, _NONE)
    return stored[0]
