"""The votes that a rating pack's page saves: taken in once, however often the file is sent.

The file is a log that only grows, so an earlier file is the beginning of a later one, and each entry has its id by its content.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from feedbackloop.errors import DatasetError
from feedbackloop.identity import content_id, utcnow
from feedbackloop.importers.figures import words
from feedbackloop.importers.intake import Winner
from feedbackloop.models import Assignment, Comparison, Queue, Rating
from feedbackloop.queries import packs
from feedbackloop.queries.pairs import find_queue
from feedbackloop.store import Store

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

FORMAT = "feedbackloop-rating-pack-votes"
"""What the file says of itself."""

_LARGEST = 64 * 1024 * 1024
_TRIES = 10

Verdict = Literal["left", "right", "tie", "both_bad"]
Key = tuple[str, ...]


@dataclass(frozen=True)
class ImportedPack:
    """What the file of a rating pack holds, and how much of it was new."""

    task: str
    rater: str
    votes: int
    """Votes that stand at the end of the file."""
    issues: int
    """Faults named for them."""
    new: int
    """Rows newly written: 0 when all of it was there."""
    older: int
    """Entries left out because the store has something newer by this rater on the same pair."""
    not_blind: int
    """Of the votes, those on answers that this rater had seen with their names before."""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    pair: str
    at: AwareDatetime


class _Vote(_Entry):
    do: Literal["vote"]
    left: str
    right: str
    propensity: float = Field(gt=0, le=1)
    verdict: Verdict
    proof: str
    seconds: float = Field(ge=0)


class _Undo(_Entry):
    do: Literal["undo"]


class _Issue(_Entry):
    do: Literal["issue"]
    label: str = Field(min_length=1, max_length=500)


class _Note(_Entry):
    do: Literal["note"]
    text: str = Field(max_length=20_000)


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["feedbackloop-rating-pack-votes"]
    version: Literal[1]
    queue: str
    rater: str
    entries: list[Annotated[_Vote | _Undo | _Issue | _Note, Field(discriminator="do")]]


class _Changed(Exception):
    """Somebody wrote votes of this rater meanwhile."""


def pair_id(given: Assignment) -> str:
    """Names a pair in a pack. The assignment's own id never leaves the store: all that a pack holds is sealed with it."""
    return content_id("rating pack, pair", given.id)


def answer_seal(given: Assignment, response_id: str) -> str:
    """Names an answer in a pack, and says nothing to whoever lacks the assignment's id."""
    return content_id("rating pack, answer", given.id, response_id)


def verdict_proof(given: Assignment, verdict: str, left: str, right: str, propensity: float) -> str:
    """Goes with a verdict from the page into the file: whoever edits the verdict there lacks the proof of another one."""
    return content_id("rating pack, verdict", given.id, verdict, left, right, float(propensity))


def is_rating_pack(source: str | Path) -> bool:
    """Whether this file holds the votes of a rating pack."""
    path = Path(source)
    if path.suffix.lower() != ".json" or not path.is_file() or path.stat().st_size > _LARGEST:
        return False
    raw = path.read_bytes()
    if FORMAT.encode() not in raw:
        return False
    try:
        read = json.loads(raw)
    except (ValueError, RecursionError):
        # Cut short on its way, perhaps: the import says so.
        return raw.lstrip()[:1] == b"{"
    return isinstance(read, dict) and read.get("format") == FORMAT


def import_rating_pack(source: str | Path, store: Store, *, now: datetime | None = None) -> ImportedPack:
    """Store the votes that a rating pack's page saved. Sent again, a file adds nothing; a later one adds what is new in it.

    Times of votes are kept, but for clocks that go wrong: none is before the export or after `now`.

    Raises:
        DatasetError: the file cannot be read, is not as the page saved it, or belongs to another store. Nothing is written then.
        StoreError: the store cannot be used.
    """
    path = Path(source)
    file = _read(path)
    queue = find_queue(store, file.queue) if store.exists() else None
    if queue is None:
        raise DatasetError(
            f"{store.url} has no queue '{file.queue[:8]}'; import it into the store that the pack was made from",
            file=path.name,
        )
    reader = _Reader.of(path, file, store, queue, now or utcnow())
    for _ in range(_TRIES):
        known = store.query(lambda connection: packs.said(connection, queue.id, file.rater))
        taken = reader.take(known)

        def check(connection: DuckDBPyConnection, known: list[Comparison] = known) -> None:
            there = packs.said(connection, queue.id, file.rater)
            if {row.id for row in there} != {row.id for row in known}:
                raise _Changed

        try:
            rows = [*taken.comparisons, *taken.ratings]
            new = store.append(rows, new_only=True, unless=check)
        except _Changed:
            continue
        return ImportedPack(queue.task, file.rater, taken.votes, taken.issues, new, taken.older, taken.not_blind)
    raise DatasetError(f"others are storing votes of {file.rater} at this very moment; import it again", file=path.name)


def _read(path: Path) -> _File:
    try:
        return _File.model_validate(json.loads(path.read_text(encoding="utf-8-sig")))
    except OSError as error:
        raise DatasetError(f"it cannot be read: {error.strerror}", file=str(path)) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DatasetError(
            f"'{place}' is not as a rating pack saves it ({first['msg'].lower()}); ask for the file again",
            file=path.name,
        ) from error
    except (ValueError, RecursionError) as error:
        raise DatasetError("it is cut short or damaged; ask for the file again", file=path.name) from error


@dataclass
class _Taken:
    """What a file comes to, by what the store has."""

    there: dict[str, Comparison]
    """All that the store has of this rater's votes in the queue, by id."""
    comparisons: list[Comparison] = field(default_factory=list)
    ratings: list[Rating] = field(default_factory=list)
    votes: int = 0
    issues: int = 0
    older: int = 0
    not_blind: int = 0


@dataclass
class _Pair:
    """A pair on the way through the file."""

    given: Assignment
    head: Comparison | None
    """The row that stands for this rater, in the store or by now."""
    at: datetime
    """When the last entry was made."""
    vote: Comparison | None = None
    """The vote that stands by the file."""
    stored: bool = False
    """It is in the store, or will be."""
    said: Verdict = "tie"
    issues: list[Rating] = field(default_factory=list)


@dataclass(frozen=True)
class _Reader:
    path: Path
    file: _File
    queue: Queue
    now: datetime
    given: dict[str, Assignment]
    """By the pair's name in the pack."""
    answers: dict[tuple[str, str], list[packs.Answered]]
    """By case and variant."""
    seen: list[packs.Seen]
    texts: dict[str, str]

    @classmethod
    def of(cls, path: Path, file: _File, store: Store, queue: Queue, now: datetime) -> _Reader:
        """With all that it takes from the store but the votes."""
        named = {entry.pair for entry in file.entries}
        given = {id_: one for one in packs.given(store, queue.id, file.rater) if (id_ := pair_id(one)) in named}
        case_ids = sorted({one.case_id for one in given.values()})
        answers: dict[tuple[str, str], list[packs.Answered]] = {}
        for answer in packs.answered(store, queue.task, case_ids, queue.variants):
            answers.setdefault((answer.case_id, answer.variant_id), []).append(answer)
        seen = packs.seen(store, file.rater, case_ids)
        cases = {one.case_id for one in seen}
        ids = [one.response_id for answers_ in answers.values() for one in answers_ if one.case_id in cases]
        return cls(path, file, queue, now, given, answers, seen, packs.answer_texts(store, ids) if ids else {})

    def take(self, known: Iterable[Comparison]) -> _Taken:
        """The rows that the file stands for, given all that the store has of this rater's votes in the queue."""
        there = {row.id: row for row in known}
        replaced = {row.supersedes for row in there.values()}
        heads = {_key(row): row for row in there.values() if row.id not in replaced}
        pairs: dict[Key, _Pair] = {}
        taken = _Taken(there)
        for number, entry in enumerate(self.file.entries, start=1):
            given = self.given.get(entry.pair)
            if given is None:
                raise DatasetError(
                    f"entry {number} is on a pair that this store gave to nobody called {self.file.rater}; "
                    "import the file as it was saved, into the store that the pack was made from",
                    file=self.path.name,
                )
            key = (given.case_id, *given.pair)
            pair = pairs.setdefault(key, _Pair(given, heads.get(key), given.created_at))
            pair.given = given
            # A clock may be wrong; the order of the file is right.
            pair.at = max(min(entry.at, self.now), pair.at)
            id_ = content_id("rating pack, entry", given.id, entry.model_dump(mode="json"))
            self._take(number, entry, id_, pair, taken)
        for pair in pairs.values():
            if pair.vote is not None:
                taken.votes += 1
                taken.issues += len(pair.issues)
                taken.not_blind += not pair.vote.blind
        return taken

    def _take(self, number: int, entry: _Entry, id_: str, pair: _Pair, taken: _Taken) -> None:
        if isinstance(entry, _Vote):
            made = self._vote(number, entry, id_, pair)
            self._withdraw(pair, id_, taken)
            self._add(made, pair, taken)
            pair.vote, pair.said = made, entry.verdict
            return
        if pair.vote is None:
            self._refuse(number)
        if isinstance(entry, _Issue):
            self._issue(number, entry, id_, pair, taken)
            return
        after = {"id": id_, "created_at": pair.at}
        if isinstance(entry, _Note):
            pair.vote = pair.vote.model_copy(update={**after, "comment": words(entry.text).strip() or None})
            self._add(pair.vote, pair, taken)
            return
        self._withdraw(pair, id_, taken)
        self._add(pair.vote.model_copy(update={**after, "winner": None, "comment": None}), pair, taken)
        pair.vote = None

    def _add(self, row: Comparison, pair: _Pair, taken: _Taken) -> None:
        """Put a row in the place of the one that stands, unless it is there or something newer is."""
        if row.id in taken.there:
            pair.stored = True
            return
        head = pair.head
        pair.stored = head is None or head.created_at <= row.created_at
        if not pair.stored:
            taken.older += 1
            return
        pair.head = row.model_copy(update={"supersedes": head.id if head else None})
        taken.comparisons.append(pair.head)

    def _vote(self, number: int, entry: _Vote, id_: str, pair: _Pair) -> Comparison:
        given = pair.given
        if entry.proof != verdict_proof(given, entry.verdict, entry.left, entry.right, entry.propensity):
            self._refuse(number)
        variant_a, variant_b = given.pair
        a, b = (self._sealed(given, variant, (entry.left, entry.right)) for variant in (variant_a, variant_b))
        if a is None or b is None:
            self._refuse(number)
        a_left = answer_seal(given, a) == entry.left
        winner: Winner
        if entry.verdict in ("tie", "both_bad"):
            winner = entry.verdict
        else:
            winner = "a" if (entry.verdict == "left") == a_left else "b"
        return Comparison(
            id=id_,
            task=self.queue.task,
            case_id=given.case_id,
            response_a=a,
            response_b=b,
            variant_a=given.pair[0],
            variant_b=given.pair[1],
            winner=winner,
            rater=given.rater,
            rater_kind="human",
            blind=self._is_blind(given.case_id, (a, b), pair.at),
            queue=self.queue.id,
            a_shown_left=a_left,
            pair_propensity=entry.propensity,
            seconds=entry.seconds,
            created_at=pair.at,
        )

    def _issue(self, number: int, entry: _Issue, id_: str, pair: _Pair, taken: _Taken) -> None:
        vote = pair.vote
        if vote is None or pair.said == "tie":
            self._refuse(number)
        if not pair.stored:
            taken.older += 1
            return
        faulty = {"a": [vote.response_b], "b": [vote.response_a]}.get(
            str(vote.winner), [vote.response_a, vote.response_b]
        )
        for response_id in faulty:
            made = Rating(
                id=content_id(id_, response_id),
                response_id=response_id,
                metric="issue",
                value=1.0,
                label=words(entry.label),
                rater=vote.rater,
                rater_kind="human",
                blind=vote.blind,
                queue=self.queue.id,
                created_at=pair.at,
            )
            if (response_id, made.label) not in {(one.response_id, one.label) for one in pair.issues}:
                pair.issues.append(made)
                taken.ratings.append(made)

    def _withdraw(self, pair: _Pair, id_: str, taken: _Taken) -> None:
        """The issues named for a vote go with it."""
        for issue in pair.issues:
            gone = {"id": content_id(id_, issue.id), "supersedes": issue.id, "created_at": pair.at}
            taken.ratings.append(issue.model_copy(update={**gone, "value": None, "label": None}))
        pair.issues = []

    def _sealed(self, given: Assignment, variant: str, seals: tuple[str, str]) -> str | None:
        """The answer of this variant that the page showed."""
        ids = (one.response_id for one in self.answers.get((given.case_id, variant), ()))
        return next((id_ for id_ in ids if answer_seal(given, id_) in seals), None)

    def _is_blind(self, case_id: str, answers: tuple[str, str], at: datetime) -> bool:
        """Whether the rater had seen neither of these answers with its name by then; equal texts are the same answer."""
        texts = {self.texts[id_].strip() for id_ in answers if id_ in self.texts}
        return self.queue.blind and not any(
            one.case_id == case_id and one.at <= at and (one.response_id in answers or one.text.strip() in texts)
            for one in self.seen
        )

    def _refuse(self, number: int) -> NoReturn:
        raise DatasetError(
            f"entry {number} was changed after the page saved it; ask {self.file.rater} for the file as it was saved",
            file=self.path.name,
        )


def _key(row: Comparison) -> Key:
    return (row.case_id, row.variant_a, row.variant_b)
