"""What is put before a rater: two answers to one case side by side, or a single one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from feedbackloop.models import Assignment, Case, Queue

Verdict = Literal["left", "right", "tie", "both_bad"]
"""What a rater says of the two answers as they stand on the screen."""


@dataclass(frozen=True)
class Slot:
    """One thing to be judged in a queue, without its texts."""

    case_id: str
    variants: tuple[str, ...]
    """Two, in the queue's order, or a single one."""
    responses: tuple[str, ...]
    propensity: float
    """Probability with which these variants were drawn for this case."""

    @property
    def key(self) -> tuple[str, ...]:
        """What makes it the same thing, also when a variant has answered anew."""
        return (self.case_id, *self.variants)


@dataclass(frozen=True)
class Pair:
    """Two answers to the same case, for one rater. A vote names it."""

    queue: Queue
    case: Case
    """Without what is right, its group and its metadata: they are not the rater's."""
    response_a: str
    response_b: str
    variant_a: str
    """Never shown before the vote."""
    variant_b: str
    output_a: str
    output_b: str
    a_shown_left: bool
    propensity: float
    blind: bool
    """False if this rater has seen one of these answers with its name."""
    assignment: Assignment

    @property
    def id(self) -> str:
        """Names the pair on the page, and gives nothing away."""
        return self.assignment.id

    @property
    def left(self) -> str:
        """The text on the left."""
        return self.output_a if self.a_shown_left else self.output_b

    @property
    def right(self) -> str:
        """The text on the right."""
        return self.output_b if self.a_shown_left else self.output_a

    @property
    def slot(self) -> Slot:
        """What it is, without its texts."""
        return Slot(self.case.id, (self.variant_a, self.variant_b), (self.response_a, self.response_b), self.propensity)

    def winner(self, verdict: Verdict) -> Literal["a", "b", "tie", "both_bad"]:
        """What the verdict says of answers A and B of the record, which may stand either way round."""
        if verdict in ("tie", "both_bad"):
            return verdict
        return "a" if (verdict == "left") == self.a_shown_left else "b"


@dataclass(frozen=True)
class Single:
    """One answer to a case, for one rater."""

    queue: Queue
    case: Case
    response_id: str
    variant: str
    """Never shown before it is rated."""
    output: str
    propensity: float
    blind: bool
    assignment: Assignment

    @property
    def id(self) -> str:
        """Names the answer on the page, and gives nothing away."""
        return self.assignment.id

    @property
    def slot(self) -> Slot:
        """What it is, without its text."""
        return Slot(self.case.id, (self.variant,), (self.response_id,), self.propensity)


Item = Pair | Single


def shown(case: Case) -> Case:
    """A case as raters see it."""
    return case.model_copy(update={"expected": None, "segment": None, "metadata": {}})


def a_left(seed: int, rater: str, slot: Slot) -> bool:
    """Whether answer A stands on the left: drawn from the queue's seed for this rater, case and pair, so the same at each look."""
    return draw(seed, "side", rater, *slot.key)[0] % 2 == 0


def draw(seed: int, *parts: str) -> bytes:
    """Bytes that are random in the seed and the parts, and the same on every machine."""
    return hashlib.sha256("\x1f".join((str(seed), *parts)).encode("utf-8", "surrogatepass")).digest()
