"""What a queue consists of, in the order of its seed: read a part at a time, since nobody rates a million answers in one go."""

from __future__ import annotations

import threading
from itertools import combinations

from feedbackloop.comparisons.items import Slot, draw
from feedbackloop.models import Queue
from feedbackloop.queries import pairs as reading
from feedbackloop.store import Store

_PART = 4000
"""Slots that are read at a time, about."""


class Deck:
    """The slots of a queue.

    Cases come in a random order that the seed fixes, each as likely as any other at any place. Where there are more than two
    variants, a case's first pair is one of its pairs with equal probability, the second another one, and so on; each case has had
    its first before one has its second (within a part of some hundred cases). Two answers of the same text are no pair. A sample is
    the first so many of these, kept by the queue itself, so that answers that come later do not change it.
    """

    def __init__(self, store: Store, queue: Queue) -> None:
        self.queue = queue
        self.left_out = 0
        """Pairs of equal texts among those read so far."""
        self._store = store
        self._cases = reading.case_order(store, queue)
        self._drawn = {tuple(key) for key in queue.slots}
        self._by_key: dict[tuple[str, ...], Slot] = {}
        self._read = 0
        self._reading = threading.Lock()
        self._slots: list[Slot] = []
        count = len(queue.variants)
        self._part = max(20, min(_PART // max(count * (count - 1) // 2, 1), 2000))

    @property
    def read(self) -> list[Slot]:
        """The slots read so far, in order."""
        return self._slots

    @property
    def complete(self) -> bool:
        """Whether all of it is read."""
        return self._read >= len(self._cases)

    @property
    def size(self) -> int:
        """How many slots there are: exact if all of it is read, else as many for each further case as for those read."""
        if self.complete or not self._read:
            return len(self._slots)
        return round(len(self._slots) * len(self._cases) / self._read)

    def find(self, key: tuple[str, ...]) -> Slot | None:
        """The slot of this case and these variants."""
        if key not in self._by_key and key[0] in self._cases:
            place = self._cases.index(key[0])
            while self._read <= place:
                self.read_on()
        return self._by_key.get(key)

    def read_on(self) -> bool:
        """Read the next part that has a slot; false if there is none."""
        known = len(self._slots)
        with self._reading:
            while len(self._slots) <= known and not self.complete:
                ids = self._cases[self._read : self._read + self._part]
                rounds: list[list[Slot]] = []
                for answers in reading.case_answers(self._store, self.queue, ids):
                    for number, slot in enumerate(self._of_case(answers)):
                        if number == len(rounds):
                            rounds.append([])
                        rounds[number].append(slot)
                added = [slot for slots in rounds for slot in slots]
                self._by_key.update((slot.key, slot) for slot in added)
                # One list that is only ever added to: whoever goes through it meanwhile is not disturbed.
                self._slots += added
                self._read += len(ids)
        return len(self._slots) > known

    def _of_case(self, answers: reading.CaseAnswers) -> list[Slot]:
        queue, width = self.queue, 1 if self.queue.purpose == "single" else 2
        found = []
        for group in combinations(range(len(answers.places)), width):
            variants = tuple(queue.variants[answers.places[index]] for index in group)
            if width == 2 and answers.marks[group[0]] == answers.marks[group[1]]:
                self.left_out += not self._drawn or (answers.case_id, *variants) in self._drawn
                continue
            found.append((variants, tuple(answers.responses[index] for index in group)))
        found.sort(key=lambda one: draw(queue.seed, "pair", answers.case_id, *one[0]))
        slots = [Slot(answers.case_id, variants, responses, 1 / len(found)) for variants, responses in found]
        return [slot for slot in slots if not self._drawn or slot.key in self._drawn]
