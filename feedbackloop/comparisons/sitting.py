"""One rater at one queue: what is before them, what a press does, what they said last. The store knows all of it but the hint."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from feedbackloop import queries
from feedbackloop.comparisons.attention import Attention
from feedbackloop.comparisons.dealing import dealer
from feedbackloop.comparisons.items import Item, Pair, Single, Verdict
from feedbackloop.comparisons.ratings import (
    ISSUE,
    THUMBS,
    correct,
    label_issue,
    rate_and_deal,
    unrate,
)
from feedbackloop.comparisons.rounds import next_item, skip
from feedbackloop.comparisons.votes import note, undo, vote_and_deal
from feedbackloop.models import Comparison, Queue, Rating, Task
from feedbackloop.queries import judgements
from feedbackloop.queries import pairs as reading
from feedbackloop.store import Store

Hint = Literal["", "too quick", "elsewhere", "noted", "corrected"]
"""What there is to say about the last press: it came too early; it was judged in another window; a text was stored."""

Writing = Literal["", "note", "correction"]


@dataclass(frozen=True)
class Last:
    """What the rater said last in this queue."""

    id: str
    """Of the row that stands for it; buttons that are about it name it."""
    said: Literal["left", "right", "tie", "both_bad", "up", "down", "rated"]
    answers: tuple[str, ...]
    """The answers that it was said of."""
    faulty: tuple[str, ...]
    """Those of them that an issue can be said of: the ones that did not win."""
    blind: bool
    labels: frozenset[str] = frozenset()
    comment: str | None = None


class Sitting:
    """A rater at a queue.

    Args:
        clock: seconds that only go up.

    Raises:
        StoreError: the store cannot be used.
    """

    def __init__(self, store: Store, queue: Queue, rater: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.store, self.queue, self.rater = store, queue, rater
        self.task = queries.task(store, queue.task) or Task(name=queue.task)
        self.hint: Hint = ""
        self.problem = ""
        """What went wrong at the last press, in a sentence."""
        self.finished = False
        """The rater has done enough for now."""
        self.writing: Writing = ""
        """A text is being written, so that keys are letters."""
        self._attention = Attention(clock)
        self._votes: list[Comparison] = []
        self._ratings: list[Rating] = []
        self._seconds = reading.vote_seconds(store, queue.task)
        self._usual_pace = reading.pace(self._seconds)
        self.item: Item | None = None
        self.read()

    def read(self, *, again: bool = False) -> None:
        """Take up where the store says that this rater is.

        Args:
            again: with what they passed on.
        """
        self.item = next_item(self.store, self.queue, self.rater, again=again)
        if self.queue.purpose == "single":
            self._ratings = judgements.queue_ratings(self.store, self.queue, self.rater)
            self._seconds = [rating.seconds for rating in self._ratings if rating.seconds]
        else:
            self._votes = judgements.queue_votes(self.store, self.queue, self.rater)
            responses = [id_ for vote in self._votes[-1:] for id_ in (vote.response_a, vote.response_b)]
            self._ratings = self.store.query(
                lambda connection: judgements.standing_ratings(connection, self.rater, responses, self.queue.id)
            )
        dealing = dealer(self.store, self.queue)
        self.done, self.skipped = dealing.judged(self.rater), dealing.skipped(self.rater)
        self.left = dealing.left(self.rater)
        self.over = self.item is None and dealing.is_over(self.rater)
        """Nothing of this queue can come to this rater any more."""

    def resume(self, *, again: bool = False) -> None:
        """Go on after a pause, or (`again`) with what was passed on."""
        self.finished = False
        self.read(again=again)

    @property
    def pace(self) -> float:
        """Seconds that a verdict takes: of pairs what all pages go by (`seconds_per_vote`), of single answers this rater's own."""
        return reading.pace(self._seconds, self._usual_pace)

    @property
    def minutes_left(self) -> int:
        """How long the rest will take."""
        return max(1, round(self.left * self.pace / 60)) if self.left else 0

    @property
    def votes(self) -> tuple[Comparison, ...]:
        """What the rater said of pairs in this queue, as far as it stands, oldest first."""
        return tuple(self._votes)

    @property
    def last(self) -> Last | None:
        """What the rater said last, as far as it stands."""
        if self.queue.purpose == "single":
            return self._last_rating()
        if not self._votes:
            return None
        vote = self._votes[-1]
        faulty = {"a": (vote.response_b,), "b": (vote.response_a,), "both_bad": (vote.response_a, vote.response_b)}
        labels = frozenset(rating.label for rating in self._ratings if rating.metric == ISSUE and rating.label)
        answers = (vote.response_a, vote.response_b)
        return Last(
            vote.id, _as_shown(vote), answers, faulty.get(str(vote.winner), ()), vote.blind, labels, vote.comment
        )

    @property
    def scores(self) -> dict[str, int]:
        """What the rater has said so far of the single answer on the screen, by criterion."""
        item = self.item
        if not isinstance(item, Single):
            return {}
        known = (rating for rating in self._ratings if rating.response_id == item.response_id)
        return {rating.metric: int(rating.value) for rating in known if rating.value is not None and not rating.label}

    def shown(self) -> None:
        """What there is to judge is on the screen now."""
        self._attention.show(self.item.id if self.item else None)

    def vote(self, id_: str, verdict: Verdict) -> None:
        """A press that says which of the two is better. It counts if that pair was on the screen for a second.

        Raises:
            StoreError: the store cannot be written.
        """
        pair = self._meant(id_, verdict)
        if not isinstance(pair, Pair):
            return
        voted = vote_and_deal(self.store, pair, verdict, self.rater, round(self._attention.seconds(), 1))
        if voted.outcome != "stored" or voted.comparison is None:
            self._elsewhere()
            return
        self._votes.append(voted.comparison)
        self._ratings = []
        self._seconds += [voted.comparison.seconds] if voted.comparison.seconds else []
        self.done += 1
        self._go_on(voted.next)

    def score(self, id_: str, metric: str, value: int) -> None:
        """A press that rates the single answer on the screen: a thumb (1 or 0), or a criterion from 1 to 5.

        Raises:
            StoreError: the store cannot be written.
        """
        single = self._meant(id_, str(value))
        if not isinstance(single, Single) or metric in self.scores:
            return
        rated = rate_and_deal(self.store, single, metric, value, seconds=round(self._attention.seconds(), 1))
        if rated.outcome != "stored" or rated.rating is None:
            self._elsewhere()
            return
        self._ratings.append(rated.rating)
        if rated.complete:
            self._seconds += [rated.rating.seconds] if rated.rating.seconds else []
            self.done += 1
            self._go_on(rated.next)

    def skip(self, id_: str) -> None:
        """A press that passes on what is on the screen.

        Raises:
            StoreError: the store cannot be written.
        """
        item = self._meant(id_, "skip")
        if item is None:
            return
        closed = skip(self.store, item, self.rater)
        if closed.outcome != "stored":
            self._elsewhere()
            return
        self.skipped += 1
        self._go_on(closed.next)

    def undo(self, id_: str) -> None:
        """A press that takes back what was said last; it is then on the screen again.

        Raises:
            StoreError: the store cannot be written.
        """
        last = self.last
        if not self._attention.is_apart("undo") or last is None or last.id != id_:
            return
        if self.queue.purpose == "single":
            unrate(self.store, self.queue, last.answers[0], self.rater)
        else:
            undo(self.store, self._votes[-1])
        self.hint = ""
        self.read()

    def label(self, id_: str, label: str) -> None:
        """A press that says what is wrong with the answer that lost, or with both bad ones.

        Raises:
            StoreError: the store cannot be written.
        """
        last = self.last
        if last is None or last.id != id_ or label in last.labels:
            return
        for response_id in last.faulty:
            made = label_issue(self.store, response_id, label, self.rater, self.queue.id, blind=last.blind)
            self._ratings.append(made)

    def write(self, what: Writing) -> None:
        """Begin to write a text, or (nothing) end it."""
        self.writing = what

    def note(self, id_: str, text: str) -> None:
        """A comment on what was said last.

        Raises:
            StoreError: the store cannot be written.
        """
        if self._votes and self._votes[-1].id == id_:
            self._votes[-1] = note(self.store, self._votes[-1], text)
            self.hint = "noted"

    def correct(self, id_: str, text: str) -> None:
        """How the single answer on the screen should have read.

        Raises:
            StoreError: it is the same as the answer, or the store cannot be written.
        """
        item = self.item
        if isinstance(item, Single) and item.id == id_:
            made = correct(self.store, item.response_id, text, self.rater, queue=self.queue.id, blind=item.blind)
            self._ratings.append(made)
            self.hint = "corrected"

    def _last_rating(self) -> Last | None:
        wanted = reading.metrics(self.queue)
        item = self.item
        here = item.response_id if isinstance(item, Single) else None
        rated = [one for one in self._ratings if one.metric in wanted and one.response_id != here]
        if not rated:
            return None
        id_ = rated[-1].response_id
        mine = [one for one in self._ratings if one.response_id == id_]
        labels = frozenset(one.label for one in mine if one.metric == ISSUE and one.label)
        said: Literal["up", "down", "rated"] = "rated"
        if wanted == [THUMBS]:
            said = "up" if rated[-1].value else "down"
        return Last(rated[-1].id, said, (id_,), () if said == "up" else (id_,), rated[-1].blind, labels)

    def _meant(self, id_: str, key: str) -> Item | None:
        """What is on the screen, if the press was meant for it."""
        item = self.item
        if item is None or item.id != id_:
            # It was on its way while the screen changed: what it was meant for has been judged.
            self._attention.is_apart(key)
            return None
        if not self._attention.accepts(id_, key):
            self.hint = "too quick"
            return None
        return item

    def _go_on(self, following: Item | None) -> None:
        self.hint = ""
        self.left = max(self.left - 1, 0)
        if following is not None:
            self.item = following
        else:
            self.read()

    def _elsewhere(self) -> None:
        self.read()
        self.hint = "elsewhere"


def _as_shown(vote: Comparison) -> Literal["left", "right", "tie", "both_bad"]:
    if vote.winner in ("tie", "both_bad"):
        return vote.winner
    return "left" if (vote.winner == "a") == bool(vote.a_shown_left) else "right"
