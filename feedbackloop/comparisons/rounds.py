"""What a rater is given next, and the one step in which a verdict is stored and the next thing is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from feedbackloop.comparisons.dealing import Dealer, Look, dealer
from feedbackloop.comparisons.items import Item, Pair, Single, Slot
from feedbackloop.comparisons.seats import assignment, is_skip
from feedbackloop.errors import StoreError
from feedbackloop.identity import utcnow
from feedbackloop.models import Assignment, Queue, Record
from feedbackloop.store import Store

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


Outcome = Literal["stored", "repeated", "passed on"]
"""A verdict is stored; or this rater had given one before, which stands; or it is not what the rater was given last, perhaps
because of another window."""

ELSEWHERE = "this is not what you were given last, perhaps because of another window; nothing was stored"


@dataclass(frozen=True)
class Closed:
    """What came of a verdict."""

    outcome: Outcome
    existing: str | None = None
    """Id of the verdict that was there before."""
    next: Item | None = None
    """What the rater was given in the same step, if this process knew of something."""


@dataclass(frozen=True)
class _Deal:
    """What a rater is to be given."""

    slot: Slot | None
    seat: int = 0
    own: Assignment | None = None
    """It is theirs already."""


@dataclass(frozen=True)
class _Closing:
    """What is to be done with a verdict."""

    existing: str | None
    current: bool
    blind: bool
    then: _Deal


def next_pair(store: Store, queue: Queue, rater: str, *, again: bool = False) -> Pair | None:
    """The pair that a rater is to judge now: the one they hold, else the next of the queue, which they then hold for 15 minutes.

    Args:
        again: one of those that they passed on.

    Raises:
        StoreError: the store cannot be used.
    """
    item = next_item(store, queue, rater, again=again)
    assert item is None or isinstance(item, Pair)
    return item


def next_single(store: Store, queue: Queue, rater: str, *, again: bool = False) -> Single | None:
    """The answer that a rater is to rate now, in a queue of single answers; otherwise as `next_pair`."""
    item = next_item(store, queue, rater, again=again)
    assert item is None or isinstance(item, Single)
    return item


def next_item(store: Store, queue: Queue, rater: str, *, again: bool = False) -> Item | None:
    """The pair or the single answer that a rater is to judge now."""
    dealing = dealer(store, queue)
    dealing.refresh(rater)
    found = _deal(dealing, rater, again=again)
    if found is None and not again:
        # Exhausted as far as is known here: perhaps there are new answers, or somebody took a verdict back.
        dealing.refresh(rater, renew=True)
        found = _deal(dealing, rater, again=again)
    return found


def _deal(dealing: Dealer, rater: str, *, again: bool = False) -> Item | None:
    while slots := dealing.candidates(rater, utcnow(), again=again):
        made: list[Assignment] = []

        def plan(look: Look, connection: DuckDBPyConnection, slots: Sequence[Slot] = slots) -> _Deal:
            return _choose(dealing, look, connection, slots, rater)

        def records(deal: _Deal, made: list[Assignment] = made) -> list[Record]:
            if deal.slot is None or deal.own is not None:
                return []
            made[:] = [assignment(dealing.queue, deal.slot, rater, deal.seat, utcnow())]
            return [*made]

        done, look = dealing.settle(rater, slots, plan, records)
        if done.slot is not None:
            given = done.own or made[0]
            dealing.gave(given)
            return dealing.item(done.slot, given, look)
        # All of them went to others meanwhile, which is known by now.
    return None


def _choose(dealing: Dealer, look: Look, connection: DuckDBPyConnection, slots: Sequence[Slot], rater: str) -> _Deal:
    """The first of these slots that is free by what the store holds, with its texts fetched."""
    now = utcnow()
    for place, slot in enumerate(slots):
        if look.seats.is_free(slot.key, rater, now):
            dealing.fetch(connection, slots[place:])
            return _Deal(slot, look.seats.number(slot.key, rater, now), look.seats.held(slot.key, rater, now))
    return _Deal(None)


def close(store: Store, item: Item, rater: str, verdict: Callable[[bool], Sequence[Record]], id_: str | None) -> Closed:
    """Store what a rater says of what they were given, and give them the next thing, in one step.

    Said twice, it counts once.

    Args:
        verdict: the rows, given whether this rater judges blind.
        id_: of the verdict; None where it is passed on without one.

    Raises:
        StoreError: it was given to somebody else, or the store cannot be written.
    """
    if item.assignment.rater != rater:
        raise StoreError(f"this was given to {item.assignment.rater}, not to {rater}")
    dealing, slot = dealer(store, item.queue), item.slot
    slots = [other for other in dealing.candidates(rater, utcnow()) if other.key != slot.key]
    made: list[Assignment] = []

    def records(closing: _Closing) -> list[Record]:
        if closing.existing is not None or not closing.current:
            return []
        made[:] = [
            assignment(item.queue, deal.slot, rater, deal.seat, utcnow())
            for deal in (closing.then,)
            if deal.slot is not None
        ]
        return [*verdict(closing.blind), *made]

    first = _Deal(slots[0], dealing.number(slots[0].key, rater, utcnow())) if slots else _Deal(None)
    done, look = dealing.settle(
        rater,
        [slot, *slots],
        lambda look, connection: _closing(dealing, look, connection, item, slots),
        records,
        _Closing(None, current=True, blind=item.blind, then=first),
    )
    if done.existing is not None:
        return Closed("repeated", done.existing)
    if not done.current:
        return Closed("passed on")
    if id_ is not None:
        dealing.remember(slot.key, rater, id_)
    for given in made:
        dealing.gave(given)
    then = done.then.slot
    return Closed("stored", next=None if then is None else dealing.item(then, made[0], look))


def _closing(
    dealing: Dealer, look: Look, connection: DuckDBPyConnection, item: Item, slots: Sequence[Slot]
) -> _Closing:
    """What is to be done with a verdict on this item, by what the store holds."""
    slot, rater, last = item.slot, item.assignment.rater, look.last
    existing = look.seats.verdict(slot.key, rater)
    current = last is not None and not is_skip(last) and (last.case_id, *last.pair) == slot.key
    if existing is not None or not current:
        return _Closing(existing, current, blind=False, then=_Deal(None))
    texts = [item.output] if isinstance(item, Single) else [item.output_a, item.output_b]
    deal = _choose(dealing, look, connection, slots, rater)
    # Whether the next one is theirs already makes no difference: it is given to them anew, as what they were given last.
    then = _Deal(deal.slot, deal.seat)
    return _Closing(None, current=True, blind=look.is_blind(item.queue, slot, texts), then=then)


def skip(store: Store, item: Item, rater: str) -> Closed:
    """Pass on without a verdict: it goes to somebody else, and comes back to this rater only if asked for.

    Raises:
        StoreError: it was given to somebody else, or the store cannot be written.
    """
    row = assignment(item.queue, item.slot, rater, item.assignment.seat, utcnow(), skip=True)
    closed = close(store, item, rater, lambda _: [row], None)
    if closed.outcome == "stored":
        dealer(store, item.queue).gave(row)
    return closed
