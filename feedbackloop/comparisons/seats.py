"""Who has judged what of a queue and who is at it: a pair has as many seats as the queue wants raters for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from feedbackloop.comparisons.items import Slot
from feedbackloop.models import Assignment, Queue
from feedbackloop.queries.pairs import Judged

HELD_FOR = timedelta(minutes=15)
"""So long a pair is kept for the rater who was given it; then it may go to another one."""

Key = tuple[str, ...]


@dataclass
class _Rater:
    """One rater at one pair."""

    judged: str | None = None
    """Id of their verdict."""
    given: Assignment | None = None


class Seats:
    """The seats of some pairs of a queue, or of all."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self._at: dict[Key, dict[str, _Rater]] = {}
        self._holding: dict[str, set[Key]] = {}

    @classmethod
    def of(cls, queue: Queue, judged: Iterable[Judged], assignments: Iterable[Assignment]) -> Self:
        """As the store has them."""
        seats = cls(queue)
        for verdict in judged:
            seats.judge((verdict.case_id, *verdict.variants), verdict.rater, verdict.id)
        for assignment in assignments:
            seats.give(assignment)
        return seats

    def judge(self, key: Key, rater: str, id_: str | None) -> None:
        """A rater has judged a pair, or (None) has taken that back."""
        self._raters(key).setdefault(rater, _Rater()).judged = id_
        if id_ is None:
            self._holding.setdefault(rater, set()).add(key)

    def give(self, assignment: Assignment) -> None:
        """A rater was given a pair, or has passed it on."""
        key = (assignment.case_id, *assignment.pair)
        self._raters(key).setdefault(assignment.rater, _Rater()).given = assignment
        self._holding.setdefault(assignment.rater, set()).add(key)

    def replace(self, keys: Iterable[Key], newer: Seats) -> None:
        """Take over what is known by now about these pairs."""
        for key in keys:
            self._at[key] = dict(newer._raters(key))
        for rater, held in newer._holding.items():
            self._holding.setdefault(rater, set()).update(held)

    def verdict(self, key: Key, rater: str) -> str | None:
        """Id of a rater's verdict on a pair."""
        found = self._raters(key).get(rater)
        return found.judged if found else None

    def skipped(self, key: Key, rater: str) -> bool:
        """Whether a rater has passed a pair on without judging it."""
        found = self._raters(key).get(rater)
        return bool(found and found.judged is None and found.given and is_skip(found.given))

    def held(self, key: Key, rater: str, now: datetime) -> Assignment | None:
        """A rater's own hold on a pair, as long as it lasts."""
        found = self._raters(key).get(rater)
        if found is None or found.judged or found.given is None or found.given.expires <= now:
            return None
        return found.given

    def holds(self, rater: str, now: datetime) -> list[Key]:
        """The pairs that a rater holds, the one given last first."""
        mine = {key: held for key in self._holding.get(rater, ()) if (held := self.held(key, rater, now)) is not None}
        self._holding[rater] = set(mine)
        return sorted(mine, key=lambda key: mine[key].created_at, reverse=True)

    def is_free(self, key: Key, rater: str, now: datetime) -> bool:
        """Whether there is a seat for this rater: their own, or one that nobody has judged from or holds."""
        return self.verdict(key, rater) is None and len(self._taken(key, rater, now)) < self.queue.overlap

    def is_full(self, key: Key) -> bool:
        """Whether as many raters as wanted have judged a pair."""
        return sum(one.judged is not None for one in self._raters(key).values()) >= self.queue.overlap

    def number(self, key: Key, rater: str, now: datetime) -> int:
        """The seat that this rater gets: their own, else the first free one."""
        mine = self.held(key, rater, now)
        taken = self._taken(key, rater, now)
        if mine is not None and mine.seat not in taken:
            return mine.seat
        return next(seat for seat in range(len(taken) + 1) if seat not in taken)

    def count(self, rater: str) -> int:
        """How many pairs a rater has judged."""
        return sum((one := at.get(rater)) is not None and one.judged is not None for at in self._at.values())

    def _taken(self, key: Key, rater: str, now: datetime) -> set[int]:
        """The seats that others have judged from or hold. A verdict without an assignment, merged from another store, has the next."""
        taken: set[int] = set()
        for name, one in self._raters(key).items():
            if name == rater or (one.judged is None and (one.given is None or one.given.expires <= now)):
                continue
            seat = one.given.seat if one.given else 0
            while seat in taken:
                seat += 1
            taken.add(seat)
        return taken

    def _raters(self, key: Key) -> dict[str, _Rater]:
        return self._at.setdefault(key, {})


def is_skip(assignment: Assignment) -> bool:
    """Whether the row says that a pair was passed on: it expired as it was made."""
    return assignment.expires <= assignment.created_at


def assignment(queue: Queue, slot: Slot, rater: str, seat: int, now: datetime, *, skip: bool = False) -> Assignment:
    """A rater's seat at a pair from now on, or (`skip`) given back."""
    return Assignment(
        queue=queue.id,
        case_id=slot.case_id,
        pair=list(slot.variants),
        seat=seat,
        rater=rater,
        expires=now if skip else now + HELD_FOR,
        created_at=now,
    )
