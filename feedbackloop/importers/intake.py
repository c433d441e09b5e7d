"""What was made elsewhere, on its way in: answers each get a cell of their run, votes the answers that they are about."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from feedbackloop.datasets import fault
from feedbackloop.identity import content_id, fingerprint
from feedbackloop.importers.mapping import AnswerMapping
from feedbackloop.models import Case, Message, RaterKind, Variant

Winner = Literal["a", "b", "tie", "both_bad"]

WINNERS: dict[str, Winner] = {
    "a": "a",
    "model_a": "a",
    "b": "b",
    "model_b": "b",
    "tie": "tie",
    "both_bad": "both_bad",
    "tie (bothbad)": "both_bad",
}
"""How files write who won."""


@dataclass(frozen=True)
class Imported:
    """What an import found in the file, and how much of it was new."""

    run_id: str
    """Empty where the file holds no answers."""
    cases: int
    """Those with an answer; where the file holds no answers, all."""
    variants: tuple[str, ...]
    answers: int
    new: int
    """Rows newly written, of all tables: 0 when all of it was there."""
    repeated: int
    """Answers and votes that stand in the file more than once, to the letter."""
    mapping: AnswerMapping | None
    """Which columns held the answers, and which were left out, where the file is a table of them."""
    notes: tuple[str, ...]
    """What a reader of the results should know, a sentence each."""
    votes: int = 0
    ratings: int = 0
    """What was said of single answers."""
    left_out: tuple[str, ...] = ()
    """What could not be carried over, with where it stands."""
    format: str = "answers"
    files: tuple[Path, ...] = ()
    """What was written beside the file, where it asks and does not answer."""
    raters: tuple[str, ...] = ()
    """Who cast the votes."""
    case: tuple[str, ...] = ()
    """Columns that make the case, which raters see, where the file is a table of answers with its own questions."""


@dataclass(frozen=True)
class Said:
    """What somebody or something said of a single answer, elsewhere."""

    metric: str
    rater: str
    rater_kind: RaterKind
    value: float | None = None
    label: str | None = None
    reason: str | None = None
    error: str | None = None
    blind: bool = True


@dataclass(frozen=True)
class Answer:
    """An answer as its file tells it."""

    line: int
    case: Case
    variant: Variant
    """No other variant of the file has its name."""
    output: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    """Fields of its response: times, tokens, costs, errors."""
    repeat: int | None = None
    """Which of several answers to the same question it is, if the file says so."""
    repaired: int = 0
    messages: tuple[Message, ...] = ()
    """As they were sent, if the case does not say it."""
    at: datetime | None = None
    said: tuple[Said, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether it is the record of an error."""
        return "error" in self.figures or "error_type" in self.figures


@dataclass(frozen=True)
class Judged:
    """The call of a model judge that a vote rests on."""

    output: str
    cost_usd: float | None = None
    latency_ms: float | None = None
    error: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Duel:
    """Two answers to a case, and which of them somebody found better."""

    line: int
    a: Answer
    b: Answer
    winner: Winner | None
    """None: the judge failed; there is no vote then."""
    rater: str
    rater_kind: RaterKind
    blind: bool = True
    at: datetime | None = None
    comment: str | None = None
    judged: Judged | None = None


def imported_variant(name: str, model: str | None = None, **content: Any) -> Variant:
    """What answered elsewhere: a model, called as the variant unless told, with its prompt and parameters if they are known."""
    return Variant.model_validate({"name": name, "model": f"imported:{model or name}", **content})


@dataclass
class Variants:
    """The variants of a file, each with a name of its own."""

    _by_id: dict[str, Variant] = field(default_factory=dict)
    _names: set[str] = field(default_factory=set)

    def of(self, name: str, model: str | None = None, **content: Any) -> Variant:
        """The variant of this content; where its name is taken by another one, it gets a number."""
        made = imported_variant(name, model, **content)
        if made.id not in self._by_id:
            number = 1
            while made.name in self._names:
                number += 1
                made = made.model_copy(update={"name": f"{name} ({number})"})
            self._names.add(made.name)
            self._by_id[made.id] = made
        return self._by_id[made.id]


Entry = Answer | Duel | Case
"""What a file holds; a case alone is a question without an answer."""


@dataclass(frozen=True)
class Placed:
    """An answer in its cell."""

    answer: Answer
    repeat: int

    @property
    def identity(self) -> tuple[Any, ...]:
        """What makes it the same answer in another reading."""
        answer = self.answer
        return answer.case.id, answer.variant.name, self.repeat, answer.output, dict(answer.figures)


@dataclass(frozen=True)
class Vote:
    """A duel whose answers are in their cells."""

    duel: Duel
    a: Placed
    b: Placed

    @property
    def identity(self) -> tuple[Any, ...]:
        """What makes it the same vote in another reading."""
        duel = self.duel
        return (
            *(self.a.identity, self.b.identity, duel.winner, duel.rater, duel.at, duel.comment),
            duel.judged and (duel.judged.output, duel.judged.cost_usd, duel.judged.latency_ms, duel.judged.error),
        )


@dataclass
class Passage:
    """One pass over the entries of a file; what it counts is complete when `placed` has ended."""

    path: Path
    entries: Iterable[Entry]
    answered: dict[str, None] = field(default_factory=dict)
    """Ids of cases with an answer."""
    variants: dict[str, Variant] = field(default_factory=dict)
    """By name."""
    count: int = 0
    asked: int = 0
    votes: int = 0
    ratings: int = 0
    raters: dict[str, None] = field(default_factory=dict)
    repeated: int = 0
    repeats: int = 1
    _cells: dict[int, int] = field(default_factory=dict)
    _same: dict[int, int] = field(default_factory=dict)
    _votes: set[str] = field(default_factory=set)

    def placed(self) -> Iterator[Placed | Vote | Case]:
        """Every answer once, each in a cell of its own, and every vote after its answers."""
        for entry in self.entries:
            if isinstance(entry, Case):
                self.asked += 1
                yield entry
            elif isinstance(entry, Answer):
                placed, known = self._place(entry)
                self.repeated += known
                if not known:
                    yield placed
            else:
                sides = []
                for answer in (entry.a, entry.b):
                    placed, known = self._place(answer)
                    sides.append(placed)
                    if not known:
                        yield placed
                vote = Vote(entry, *sides)
                if (key := content_id(vote.identity)) in self._votes:
                    self.repeated += 1
                    continue
                self._votes.add(key)
                if entry.winner is not None:
                    self.votes += 1
                    self.raters[entry.rater] = None
                yield vote

    def print(self) -> str:
        """Hash over all that the file holds."""
        return fingerprint(
            placed.id if isinstance(placed, Case) else content_id(*placed.identity) for placed in self.placed()
        )

    def _place(self, answer: Answer) -> tuple[Placed, bool]:
        """The answer in its cell, and whether it is there already."""
        # 64 bits each instead of the texts: a million answers cost some 200 MB.
        figures = json.dumps(dict(answer.figures), sort_keys=True, default=str)
        same = hash((answer.case.id, answer.variant.name, answer.output, figures, answer.repeat))
        if (known := self._same.get(same)) is not None:
            return Placed(answer, known), True
        repeat = self._same[same] = self._cell(answer)
        self.answered[answer.case.id] = None
        self.variants.setdefault(answer.variant.name, answer.variant)
        self.count += 1
        self.ratings += len(answer.said)
        self.repeats = max(self.repeats, repeat + 1)
        return Placed(answer, repeat), False

    def _cell(self, answer: Answer) -> int:
        repeat = answer.repeat or 0
        while (key := hash((answer.case.id, answer.variant.name, repeat))) in self._cells:
            if answer.repeat is not None:
                raise fault(
                    f"'{answer.variant.name}' answers this case for repeat {repeat} at line {self._cells[key]} already, "
                    "with another answer",
                    self.path,
                    answer.line,
                )
            repeat += 1
        self._cells[key] = answer.line
        return repeat
