"""A decision queue on its way to its verdict, as one rater goes through it: how many more votes, and whether it is settled."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from feedbackloop import queries
from feedbackloop.improve import gate
from feedbackloop.improve.rules import rule_of
from feedbackloop.models import Comparison, Decision, Queue
from feedbackloop.queries import headtohead
from feedbackloop.store import Store

MOST_VOTES = 2000
"""More than these nobody is asked for: where so many are needed, the two hardly differ."""

LOOK_AGAIN_S = 20.0
"""After this, what others have said meanwhile is read."""


def countdown(store: Store, queue: Queue) -> Countdown | None:
    """The countdown of a queue; None where its votes decide nothing: more than two variants, single answers, names in view.

    Raises:
        FeedbackLoopError: the task does not know a variant of the queue, or the store cannot be read.
    """
    decides = queue.purpose == "decision" and len(queue.variants) == 2 and queue.blind
    decides = decides and rule_of(queue).rater_kind == "human"
    return Countdown(store, queue) if decides else None


class Countdown:
    """What the gate makes of the votes on a queue's two variants, without asking the store at each vote.

    This rater's votes are added as they come; what others say is read now and then. What votes do not change is read once.

    Args:
        clock: seconds that only go up.
    """

    def __init__(self, store: Store, queue: Queue, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.queue = queue
        self.rating_on = False
        """The rater wants to go on though it is settled."""
        self._store, self._clock = store, clock
        baseline, candidate = queue.variants
        if not queue.rule:
            # Whoever opened it may have named the two in any order.
            usual = queries.baseline(store, queue.task)
            if usual is not None and usual.id == candidate:
                baseline, candidate = candidate, baseline
        self._asked = gate.question(store, queue.task, candidate, baseline, rule=rule_of(queue))
        self._mine: tuple[str, ...] = ()
        self._looked = -math.inf
        self.look()

    @property
    def more(self) -> int:
        """Votes that are still needed, about; 0 where it is settled."""
        return self.decision.more_needed or 0

    @property
    def settled(self) -> bool:
        """No further vote would change the verdict."""
        return self.decision.reason != "too_few"

    @property
    def stops(self) -> bool:
        """It is settled, and the rater has not chosen to go on."""
        return self.settled and not self.rating_on

    def follow(self, votes: Sequence[Comparison]) -> None:
        """Take in the votes of this rater in this queue, as they stand now; only new ones cost anything.

        Args:
            votes: oldest first.
        """
        ids = tuple(vote.id for vote in votes)
        if ids == self._mine:
            return
        fresh = [vote for vote in votes if vote.id not in self._known]
        replaced = {vote.supersedes for vote in fresh}
        taken_back = set(self._mine) - set(ids) - replaced
        self._mine = ids
        if taken_back:
            self.look()
            return
        candidate, overlap = self._asked.candidate.id, self.queue.overlap
        counted = [vote for vote in fresh if vote.blind and vote.metric == self._asked.rule.metric]
        if counted:
            added = [headtohead.ballot(vote, candidate, overlap) for vote in counted]
            self._ballots += added
            self._known |= {ballot.id for ballot in added}
            # What is decided stays decided; the figures are looked up at the end.
            if not self.settled:
                self._weigh()

    def look(self, *, after_s: float = 0.0) -> None:
        """Read from the store what all have said.

        Args:
            after_s: only if the last look is so long ago.
        """
        if self._clock() - self._looked < after_s:
            return
        self._ballots = self._asked.ballots(self._store)
        self._known = {ballot.id for ballot in self._ballots}
        self._looked = self._clock()
        self._weigh()

    def _weigh(self) -> None:
        self.decision: Decision = gate.weigh(self._asked, self._ballots).decision
        """The verdict as it stands; not stored."""
