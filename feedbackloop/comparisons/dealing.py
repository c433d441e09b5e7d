"""A queue as this process knows it: what it consists of, who has judged and holds what, and the texts of the next few things.

The store has the last word: before anything is written, the few rows it depends on are read again under the same lease (`step`).
No lock is held here while the store is waited for, since what is done under the store's lease takes the lock.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from feedbackloop.comparisons.deck import Deck
from feedbackloop.comparisons.items import Item, Pair, Single, Slot, a_left, shown
from feedbackloop.comparisons.seats import Key, Seats
from feedbackloop.comparisons.step import step
from feedbackloop.identity import utcnow
from feedbackloop.models import Assignment, Case, Queue, Record
from feedbackloop.queries import pairs as reading
from feedbackloop.store import Store

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

AHEAD = 12
"""So many things ahead are looked at and their texts fetched: rarely more than one reading for as many votes."""

_KEPT_TEXTS = 400
_KEPT_QUEUES = 8

_DECK_LASTS_S = 60.0
"""After this, answers that came meanwhile are looked for when somebody sits down."""

Plan = TypeVar("Plan")


@dataclass(frozen=True)
class Look:
    """What the store holds about some cases of a queue, and about one rater there."""

    seats: Seats
    last: Assignment | None
    """What the rater was given last."""
    exposed: tuple[reading.Exposed, ...]

    def is_blind(self, queue: Queue, slot: Slot, texts: Sequence[str]) -> bool:
        """Whether this rater has seen neither of these answers with its name; equal texts are the same answer."""
        known = {text.strip() for text in texts}
        return queue.blind and not any(
            seen.case_id == slot.case_id and (seen.response_id in slot.responses or seen.text.strip() in known)
            for seen in self.exposed
        )


class Dealer:
    """A queue as this process knows it."""

    def __init__(self, store: Store, queue: Queue) -> None:
        self.store, self.queue = store, queue
        self.deck = Deck(store, queue)
        self.deck.read_on()
        self._seats = Seats(queue)
        self._lock = threading.Lock()
        self._decked = time.monotonic()
        self._texts: dict[str, str] = {}
        self._cases: dict[str, Case] = {}
        self._elsewhere: dict[str, set[frozenset[str]]] = {}
        self._from: dict[str, int] = {}

    def refresh(self, rater: str, *, renew: bool = False) -> None:
        """Read anew who has judged and holds what, and (`renew`, or after a while) what the queue consists of."""

        def work(connection: DuckDBPyConnection) -> Seats:
            seats = Seats.of(
                self.queue, reading.judged(connection, self.queue), reading.assignments(connection, self.queue.id)
            )
            if self.queue.purpose != "single":
                self._elsewhere[rater] = reading.compared(connection, self.queue.task, rater)
            return seats

        seats = self.store.query(work)
        deck = None
        if renew or time.monotonic() - self._decked > _DECK_LASTS_S:
            deck = Deck(self.store, self.queue)
            deck.read_on()
        with self._lock:
            self._seats = seats
            self._from.pop(rater, None)
            if deck is not None:
                self.deck, self._decked = deck, time.monotonic()
                self._from.clear()

    def candidates(self, rater: str, now: datetime, *, again: bool = False) -> list[Slot]:
        """The next few things for a rater, as far as is known here: what they hold already comes first.

        Args:
            again: those that they passed on.
        """
        with self._lock:
            keys = self._seats.holds(rater, now)
        held = [slot for slot in map(self.deck.find, keys) if slot is not None]
        while True:
            with self._lock:
                further = self._passed_on(rater, now) if again else self._open(rater, now, set(keys))
            if len(further) == AHEAD or not self.deck.read_on():
                return [*held, *further]

    def left(self, rater: str) -> int:
        """How many things are still there for a rater; exact if the whole queue is read, else about."""
        now = utcnow()
        with self._lock:
            read = self.deck.read
            free = sum(not self._is_over(slot, rater) and self._seats.is_free(slot.key, rater, now) for slot in read)
            return free + max(self.deck.size - len(read), 0)

    def is_over(self, rater: str) -> bool:
        """Whether nothing can come to a rater any more: not what they passed on, nor what others hold and may leave."""
        with self._lock:
            return self.deck.complete and not any(
                self._seats.skipped(slot.key, rater) or not self._is_over(slot, rater) for slot in self.deck.read
            )

    def skipped(self, rater: str) -> int:
        """How many things a rater has passed on."""
        with self._lock:
            return sum(self._seats.skipped(slot.key, rater) for slot in self.deck.read)

    def judged(self, rater: str) -> int:
        """How many things a rater has judged."""
        with self._lock:
            return self._seats.count(rater)

    def settle(
        self,
        rater: str,
        slots: Sequence[Slot],
        plan: Callable[[Look, DuckDBPyConnection], Plan],
        records: Callable[[Plan], Sequence[Record]],
        guess: Plan | None = None,
    ) -> tuple[Plan, Look]:
        """Take a step that depends on what is known of these slots and of the rater.

        Returns:
            The plan that was carried out, and what it rests on.
        """
        looks: list[Look] = []
        case_ids = list(dict.fromkeys(slot.case_id for slot in slots))

        def plan_(connection: DuckDBPyConnection) -> Plan:
            given = reading.assignments(connection, self.queue.id, case_ids)
            seats = Seats.of(self.queue, self._judged(connection, slots, case_ids), given)
            last = reading.last_assignment(connection, self.queue.id, rater)
            looks.append(Look(seats, last, tuple(reading.exposed(connection, rater, case_ids))))
            return plan(looks[-1], connection)

        done = step(self.store, plan_, records, guess)
        with self._lock:
            self._seats.replace([slot.key for slot in slots], looks[-1].seats)
        return done, looks[-1]

    def fetch(self, connection: DuckDBPyConnection, slots: Sequence[Slot]) -> None:
        """Have the texts of the first of these slots, and while at it those of the others."""
        if not slots or self._has(slots[0]):
            return
        if len(self._texts) > _KEPT_TEXTS:
            self._texts, self._cases = {}, {}
        texts = reading.texts(connection, [id_ for slot in slots for id_ in slot.responses])
        cases = reading.cases(connection, [slot.case_id for slot in slots])
        self._texts, self._cases = self._texts | texts, self._cases | cases

    def texts(self, slot: Slot) -> list[str]:
        """The answers' texts, as far as they were fetched."""
        return [text for id_ in slot.responses if (text := self._texts.get(id_)) is not None]

    def item(self, slot: Slot, given: Assignment, look: Look) -> Item:
        """A slot with its texts, for the rater to whom it was given."""
        queue = self.queue
        case = shown(self._cases.get(slot.case_id) or Case(id=slot.case_id, inputs={}))
        texts = [self._texts.get(id_, "") for id_ in slot.responses]
        blind = look.is_blind(queue, slot, texts)
        if len(slot.responses) == 1:
            return Single(queue, case, slot.responses[0], slot.variants[0], texts[0], slot.propensity, blind, given)
        return Pair(
            queue=queue,
            case=case,
            response_a=slot.responses[0],
            response_b=slot.responses[1],
            variant_a=slot.variants[0],
            variant_b=slot.variants[1],
            output_a=texts[0],
            output_b=texts[1],
            a_shown_left=a_left(queue.seed, given.rater, slot),
            propensity=slot.propensity,
            blind=blind,
            assignment=given,
        )

    def remember(self, key: Key, rater: str, verdict: str | None) -> None:
        """A verdict was stored here, or (None) taken back."""
        with self._lock:
            self._seats.judge(key, rater, verdict)
            if verdict is None:
                self._from.pop(rater, None)

    def gave(self, given: Assignment) -> None:
        """Something was given to a rater here, or passed on by them."""
        with self._lock:
            self._seats.give(given)

    def number(self, key: Key, rater: str, now: datetime) -> int:
        """The seat that this rater would get."""
        with self._lock:
            return self._seats.number(key, rater, now)

    def _judged(
        self, connection: DuckDBPyConnection, slots: Sequence[Slot], case_ids: Sequence[str]
    ) -> list[reading.Judged]:
        if self.queue.purpose != "single":
            return reading.judged(connection, self.queue, case_ids)
        places = {slot.responses[0]: slot for slot in slots}
        rated = reading.rated(connection, self.queue, list(places))
        return [
            reading.Judged(slot.case_id, slot.variants, one.rater, one.id)
            for one in rated
            for slot in (places[one.response_id],)
        ]

    def _has(self, slot: Slot) -> bool:
        return slot.case_id in self._cases and all(id_ in self._texts for id_ in slot.responses)

    def _is_over(self, slot: Slot, rater: str) -> bool:
        """Whether a slot is done with for this rater, unless somebody takes a verdict back."""
        key = slot.key
        return (
            self._seats.verdict(key, rater) is not None
            or self._seats.skipped(key, rater)
            or self._seats.is_full(key)
            or frozenset(slot.responses) in self._elsewhere.get(rater, ())
        )

    def _open(self, rater: str, now: datetime, but: set[Key]) -> list[Slot]:
        """The next free slots that are none of these; those at the beginning that are over are not looked at again."""
        found: list[Slot] = []
        read, start = self.deck.read, self._from.get(rater, 0)
        for place in range(start, len(read)):
            slot = read[place]
            if self._is_over(slot, rater):
                if place == self._from.get(rater, 0):
                    self._from[rater] = place + 1
            elif slot.key not in but and self._seats.is_free(slot.key, rater, now):
                found.append(slot)
                if len(found) == AHEAD:
                    break
        return found

    def _passed_on(self, rater: str, now: datetime) -> list[Slot]:
        seats = self._seats
        return [
            slot for slot in self.deck.read if seats.skipped(slot.key, rater) and seats.is_free(slot.key, rater, now)
        ][:AHEAD]


_dealers: OrderedDict[tuple[str, str], Dealer] = OrderedDict()
_dealers_lock = threading.Lock()


def dealer(store: Store, queue: Queue) -> Dealer:
    """The queue as this process knows it; it is read when first asked for."""
    known = known_dealer(store, queue)
    if known is not None:
        return known
    made = Dealer(store, queue)
    with _dealers_lock:
        known = _dealers.setdefault((store.address, queue.id), made)
        while len(_dealers) > _KEPT_QUEUES:
            _dealers.popitem(last=False)
        return known


def known_dealer(store: Store, queue: Queue) -> Dealer | None:
    """The queue if this process knows it already."""
    place = (store.address, queue.id)
    with _dealers_lock:
        if place in _dealers:
            _dealers.move_to_end(place)
        return _dealers.get(place)
