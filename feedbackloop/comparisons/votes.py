"""Votes: cast, annotated, taken back. A vote is never changed; a later row replaces it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from feedbackloop.comparisons.dealing import dealer
from feedbackloop.comparisons.items import Item, Pair, Slot, Verdict
from feedbackloop.comparisons.rounds import ELSEWHERE, Outcome, close
from feedbackloop.comparisons.seats import assignment
from feedbackloop.comparisons.step import step
from feedbackloop.errors import StoreError
from feedbackloop.identity import new_id, utcnow
from feedbackloop.models import Comparison, Rating, Record
from feedbackloop.queries import judgements
from feedbackloop.queries import pairs as reading
from feedbackloop.store import Store

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@dataclass(frozen=True)
class Voted:
    """What came of a vote."""

    outcome: Outcome
    comparison: Comparison | None
    """The vote that is in the store: this one, or the one that this rater gave before; None where it was passed on."""
    next: Item | None = None
    """The pair that the rater was given in the same step, if this process knew of one."""


def vote(
    store: Store, pair: Pair, winner: Verdict, rater: str, seconds: float | None = None, *, comment: str | None = None
) -> Comparison:
    """Store what a rater says of a pair they were given. Said twice, it counts once: the first vote is returned.

    Args:
        winner: as the answers stand on the screen: `left`, `right`, `tie` or `both_bad`.
        seconds: how long the rater looked at it.

    Raises:
        StoreError: it is not the pair that this rater was given last, or the store cannot be written.
    """
    voted = vote_and_deal(store, pair, winner, rater, seconds, comment=comment)
    if voted.comparison is None:
        raise StoreError(ELSEWHERE)
    return voted.comparison


def vote_and_deal(
    store: Store, pair: Pair, winner: Verdict, rater: str, seconds: float | None = None, *, comment: str | None = None
) -> Voted:
    """As `vote`, with the next pair, which is given to the rater in the same step; a pair that was passed on is no error here."""
    made = Comparison(
        task=pair.queue.task,
        case_id=pair.case.id,
        response_a=pair.response_a,
        response_b=pair.response_b,
        variant_a=pair.variant_a,
        variant_b=pair.variant_b,
        winner=pair.winner(winner),
        rater=rater,
        rater_kind="human",
        blind=pair.blind,
        queue=pair.queue.id,
        a_shown_left=pair.a_shown_left,
        pair_propensity=pair.propensity,
        seconds=seconds,
        comment=comment,
    )
    stored: list[Comparison] = []

    def rows(blind: bool) -> list[Record]:
        stored[:] = [made.model_copy(update={"blind": blind})]
        return [*stored]

    closed = close(store, pair, rater, rows, made.id)
    if closed.outcome == "stored":
        return Voted("stored", stored[0], closed.next)
    existing = closed.existing
    if existing is None:
        return Voted("passed on", None)
    return Voted("repeated", store.query(lambda connection: judgements.standing_comparison(connection, existing)))


def undo(store: Store, comparison: Comparison) -> Comparison:
    """Take a vote back, with the issues that were named for it; in a queue the pair is then the rater's next one again.

    Returns:
        The row that withdraws it. What was taken back already stays so.

    Raises:
        StoreError: there is no such vote, or the store cannot be written.
    """
    responses, queue = (comparison.response_a, comparison.response_b), comparison.queue

    @dataclass(frozen=True)
    class Undo:
        standing: Comparison
        issues: tuple[Rating, ...]

    def plan(connection: DuckDBPyConnection) -> Undo:
        issues = judgements.standing_ratings(connection, comparison.rater, responses, queue)
        named = (rating for rating in issues if rating.metric == "issue" and rating.created_at >= comparison.created_at)
        return Undo(_standing(connection, comparison), tuple(named))

    now = utcnow()
    made: list[Comparison] = []
    slot = Slot(comparison.case_id, (comparison.variant_a, comparison.variant_b), responses, 1.0)
    record = None if queue is None else reading.find_queue(store, queue)
    given = None
    if record is not None:
        seat = dealer(store, record).number(slot.key, comparison.rater, now)
        given = assignment(record, slot, comparison.rater, seat, now)

    def records(wanted: Undo) -> Sequence[Record]:
        if wanted.standing.winner is None:
            made[:] = [wanted.standing]
            return []
        made[:] = [_after(wanted.standing, winner=None, comment=None)]
        withdrawn = [withdrawal(rating) for rating in wanted.issues]
        return [*made, *withdrawn, *([given] if given else [])]

    step(store, plan, records)
    if record is not None and given is not None:
        dealer(store, record).remember(slot.key, comparison.rater, None)
        dealer(store, record).gave(given)
    return made[0]


def note(store: Store, comparison: Comparison, comment: str) -> Comparison:
    """Add a comment to a vote, or replace the one it has.

    Returns:
        The row that stands from now on.

    Raises:
        StoreError: there is no such vote, it was taken back, or the store cannot be written.
    """
    made: list[Comparison] = []

    def records(standing: Comparison) -> Sequence[Record]:
        if standing.winner is None:
            raise StoreError("this vote was taken back; vote again before you write a note")
        made[:] = [_after(standing, comment=comment.strip() or None)]
        return [] if made[0].comment == standing.comment else [*made]

    standing = step(store, lambda connection: _standing(connection, comparison), records, comparison)
    return made[0] if made[0].comment != standing.comment else standing


def vote_openly(
    store: Store,
    *,
    task: str,
    case_id: str,
    response_a: str,
    response_b: str,
    variant_a: str,
    variant_b: str,
    winner: Literal["a", "b", "tie", "both_bad"],
    rater: str,
    comment: str | None = None,
) -> Comparison:
    """Store a vote that was cast with the names in view: not blind. The rater's earlier open vote on the same two is replaced.

    Raises:
        StoreError: the store cannot be written.
    """
    made: list[Comparison] = []
    base = Comparison(
        task=task,
        case_id=case_id,
        response_a=response_a,
        response_b=response_b,
        variant_a=variant_a,
        variant_b=variant_b,
        winner=winner,
        rater=rater,
        rater_kind="human",
        blind=False,
        comment=comment,
    )

    def plan(connection: DuckDBPyConnection) -> tuple[str, ...]:
        return tuple(earlier.id for earlier in judgements.open_votes(connection, rater, (response_a, response_b)))

    def records(earlier: tuple[str, ...]) -> Sequence[Record]:
        made[:] = [base.model_copy(update={"supersedes": earlier[0] if earlier else None})]
        return [*made]

    none: tuple[str, ...] = ()
    step(store, plan, records, none)
    return made[0]


def withdrawal(rating: Rating) -> Rating:
    """The row that takes a rating back."""
    nothing = {"value": None, "label": None, "reason": None, "correction": None, "comment": None, "error": None}
    return rating.model_copy(update={**nothing, "id": new_id(), "created_at": utcnow(), "supersedes": rating.id})


def _standing(connection: DuckDBPyConnection, comparison: Comparison) -> Comparison:
    found = judgements.standing_comparison(connection, comparison.id)
    if found is None:
        raise StoreError(f"this store holds no vote {comparison.id[:8]}")
    return found


def _after(standing: Comparison, **changes: object) -> Comparison:
    return standing.model_copy(update={"id": new_id(), "created_at": utcnow(), "supersedes": standing.id, **changes})
