"""Votes made elsewhere, tied to answers that the store holds."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

from feedbackloop.datasets import Row, as_text, fault, find_file, rows
from feedbackloop.errors import SettingsError
from feedbackloop.identity import content_id, utcnow
from feedbackloop.importers.figures import amount, figure, words
from feedbackloop.importers.intake import WINNERS, Winner
from feedbackloop.importers.mapping import guess_id_column
from feedbackloop.models import Comparison, RaterKind, Rating
from feedbackloop.registry import near
from feedbackloop.store import Store

_MOST_DAYS = 36_525  # a century; a mistaken unit (seconds, a time stamp) is far beyond it

# Newest last, so that it stays in a dictionary; of the repeats of one moment the first counts.
_ANSWERS = """
    SELECT request.run_id, request.case_id, request.variant_id, response.id AS response_id, variant.name, item.external_id
    FROM responses response
    JOIN requests request ON request.id = response.request_id
    JOIN (SELECT DISTINCT id, name FROM variants) variant ON variant.id = request.variant_id
    JOIN (SELECT DISTINCT id, external_id FROM cases) item ON item.id = request.case_id
    WHERE request.task = ? AND request.purpose = 'answer' AND response.status = 'completed'
      AND (item.id IN (SELECT unnest(?)) OR item.external_id IN (SELECT unnest(?)))
    ORDER BY response.created_at, request.repeat DESC, response.id
"""


@dataclass(frozen=True)
class ImportedVotes:
    """What an import of votes found in the file, and how much of it was new."""

    votes: int
    issues: int
    new: int
    """Rows newly written, comparisons and ratings together: 0 when all of it was there."""
    repeated: int
    """Rows that stand in the file more than once, to the letter."""
    raters: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """What was guessed, a sentence each."""


@dataclass(frozen=True)
class _Answer:
    response_id: str
    variant_id: str


@dataclass(frozen=True)
class _Answers:
    """The newest completed answers to the cases voted on, by run (None: by whichever run), case and variant."""

    task: str
    cases: dict[tuple[str | None, str], str]
    answers: dict[tuple[str | None, str, str], _Answer]
    names: frozenset[str]

    def case(self, run: str | None, name: str) -> str | None:
        return self.cases.get((run, name))

    def answer(self, run: str | None, case_id: str, variant: str) -> _Answer | None:
        return self.answers.get((run, case_id, variant))


def import_votes(
    source: str | Path,
    store: Store,
    *,
    task: str = "default",
    blind: bool = True,
    now: datetime | None = None,
    runs: Mapping[int, str] | None = None,
    columns: Mapping[str, str] | None = None,
    winners: Mapping[str, str] | None = None,
) -> ImportedVotes:
    """Store the votes of a file as comparisons, and their issues as ratings. Again with the same file, it adds nothing.

    A row has case_id, variant_a, variant_b (or model_a, model_b) and winner (a, b, tie, both_bad, as arenas write it, or the name
    that stands in variant_a or variant_b), and perhaps a_shown_left, rater, rater_kind, seconds, comment, created_at or days_ago, run, and issues.

    Args:
        source: a file of any kind that `open_dataset` reads.
        store: where the answers are.
        task: whose answers were voted on.
        blind: whether the raters did not know whose answers they saw.
        now: what `days_ago` counts from; the present moment unless given.
        runs: run ids by the numbers that rows give in `run`; a row without one means the newest answers.
        columns: what the file calls these columns, by the names above: `{"case_id": "question", "winner": "label"}`. Where
            nothing is called case_id, it is guessed as that of answers is.
        winners: what its words for the winner mean: `{"1": "a", "2": "b", "0": "tie"}`.

    Raises:
        SettingsError: `columns` or `winners` names something that there is not.
        DatasetError: a row cannot be read, or the store lacks its case, variant or answer. Nothing is written then.
    """
    path = find_file(source)
    reader = _Reader(path, task, blind, now or utcnow(), runs or {}, _words(winners or {}))
    found = list(rows(path))
    guessed = {} if "case_id" in (columns or {}) else _guessed(found)
    found = _renamed(found, guessed | dict(columns or {}), path)
    names = list({name for row in found if (name := as_text(row.values.get("case_id"))) is not None})
    answers = _load(store, task, names)
    comparisons: dict[str, Comparison] = {}
    ratings: dict[str, Rating] = {}
    for row in found:
        comparison, issues = reader.vote(row, answers)
        comparisons.setdefault(comparison.id, comparison)
        for issue in issues:
            ratings.setdefault(issue.id, issue)
    new = store.append([*comparisons.values(), *ratings.values()], new_only=True)
    raters = tuple(dict.fromkeys(comparison.rater for comparison in comparisons.values()))
    notes = tuple(f"The cases are told by the column '{theirs}'." for theirs in guessed.values())
    return ImportedVotes(len(comparisons), len(ratings), new, len(found) - len(comparisons), raters, notes)


COLUMNS = (
    *("case_id", "variant_a", "variant_b", "winner", "a_shown_left", "rater", "rater_kind", "seconds", "comment"),
    *("created_at", "days_ago", "run", "issues"),
)
"""What a row of a file of votes may hold."""


def _guessed(found: list[Row]) -> dict[str, str]:
    """What is most likely called case_id, where nothing is."""
    names = list(found[0].values) if found else []
    if "case_id" in names:
        return {}
    # Beside another one, `id` is that of the vote.
    column = guess_id_column([name for name in names if name.lower() != "id"]) or guess_id_column(names)
    return {} if column is None else {"case_id": column}


def _renamed(found: list[Row], columns: Mapping[str, str], path: Path) -> list[Row]:
    """The rows with their columns called as they are here."""
    for ours, theirs in columns.items():
        if ours not in COLUMNS:
            raise SettingsError(f"votes have no column '{ours}'{near(ours, COLUMNS)}")
        if theirs not in found[0].values:
            raise fault(f"there is no column '{theirs}'{near(theirs, found[0].values)}", path)
    if not columns:
        return found
    taken = {*columns, *columns.values()}
    return [
        Row(
            row.line,
            {name: value for name, value in row.values.items() if name not in taken}
            | {ours: row.values.get(theirs) for ours, theirs in columns.items()},
        )
        for row in found
    ]


def _words(winners: Mapping[str, str]) -> dict[str, Winner]:
    """The words for a winner that this file has."""
    for word, meant in winners.items():
        if meant not in WINNERS:
            raise SettingsError(
                f"the winner '{word}' is said to mean '{meant}'; it must be one of {', '.join(WINNERS)}"
            )
    return {word.strip().lower(): WINNERS[meant] for word, meant in winners.items()}


def _load(store: Store, task: str, names: list[str]) -> _Answers:
    known = _Answers(task, {}, {}, frozenset())
    if not store.exists():
        return known
    variants: set[str] = set()
    for row in store.read(_ANSWERS, [task, names, names]).to_dict("records"):
        answer = _Answer(row["response_id"], row["variant_id"])
        for run in (row["run_id"], None):
            for name in (row["case_id"], row["external_id"]):
                if isinstance(name, str):
                    known.cases[run, name] = row["case_id"]
            for variant in (answer.variant_id, row["name"], f"{row['name']}@{answer.variant_id[:4]}"):
                known.answers[run, row["case_id"], variant] = answer
        variants.add(row["name"])
    return _Answers(task, known.cases, known.answers, frozenset(variants))


@dataclass(frozen=True)
class _Reader:
    path: Path
    task: str
    blind: bool
    now: datetime
    runs: Mapping[int, str]
    winners: Mapping[str, Winner]
    """What this file's own words for the winner mean."""

    def vote(self, row: Row, known: _Answers) -> tuple[Comparison, list[Rating]]:
        """The comparison of a row and the issues it names."""
        values = row.values
        name_a = self._required(row, "variant_a", "model_a")
        name_b = self._required(row, "variant_b", "model_b")
        run = self._run(row)
        case_id = self._case(row, run, known)
        a, b = (self._answer(row, run, case_id, name, known) for name in (name_a, name_b))
        if a.variant_id == b.variant_id:
            raise fault(f"'{name_a}' is compared with itself", self.path, row.line)
        rater = as_text(values.get("rater")) or "imported"
        kind = as_text(values.get("rater_kind")) or "human"
        if kind not in get_args(RaterKind):
            raise fault(
                f"rater_kind is '{kind}'; it must be one of {', '.join(get_args(RaterKind))}", self.path, row.line
            )
        at = self._time(row)
        comment = values.get("comment")
        # The row itself is its identity: not the answers, which are newer ones after the next run, nor `now`.
        id_ = content_id("vote", self.task, run, values)
        comparison = Comparison.model_validate(
            {
                "id": id_,
                "task": self.task,
                "case_id": case_id,
                "response_a": a.response_id,
                "response_b": b.response_id,
                "variant_a": a.variant_id,
                "variant_b": b.variant_id,
                "winner": self._winner(row, name_a, name_b),
                "rater": words(rater),
                "rater_kind": kind,
                "blind": self.blind,
                "a_shown_left": self._truth(row, "a_shown_left"),
                "seconds": figure(row, "seconds", amount, self.path),
                "comment": None if comment in (None, "") else words(comment),
                "created_at": at,
            }
        )
        ratings = []
        for variant, label in self._issues(row):
            response_id = self._answer(row, run, case_id, variant, known).response_id
            ratings.append(
                Rating(
                    id=content_id("issue", id_, variant, label),
                    response_id=response_id,
                    metric="issue",
                    label=words(label),
                    rater=comparison.rater,
                    rater_kind=comparison.rater_kind,
                    blind=self.blind,
                    created_at=at,
                )
            )
        return comparison, ratings

    def _required(self, row: Row, *names: str) -> str:
        for name in names:
            if (text := as_text(row.values.get(name))) is not None:
                return text
        hint = ""
        if not set(names) & row.values.keys():
            hint = f"; say which column it is: --column {names[0]}=NAME (the file has {', '.join(row.values)})"
        raise fault(f"'{names[0]}' is missing{hint}", self.path, row.line)

    def _winner(self, row: Row, name_a: str, name_b: str) -> Winner:
        word = self._required(row, "winner").strip()
        if (told := self.winners.get(word.lower())) is not None:
            return told
        known = WINNERS.get(word.lower())
        sides: dict[str, Winner] = {name_b.strip(): "b", name_a.strip(): "a"}
        side = sides.get(word)
        if known is not None and side not in (None, known):
            raise fault(
                f"winner is '{word}', which is the name of variant_{side} and a word for '{known}' too; write a, b, tie or both_bad",
                self.path,
                row.line,
            )
        if (winner := known or side) is None:
            raise fault(
                f"winner is '{word}'; it must be one of {', '.join({**WINNERS, **self.winners})}, or the name of one of the two "
                f"variants ({name_a}, {name_b})",
                self.path,
                row.line,
            )
        return winner

    def _run(self, row: Row) -> str | None:
        name = as_text(row.values.get("run"))
        if name is None:
            return None
        return self.runs.get(int(name), name) if name.isdecimal() else name

    def _case(self, row: Row, run: str | None, known: _Answers) -> str:
        name = self._required(row, "case_id")
        case_id = known.case(run, name)
        if case_id is None:
            place = "" if run is None else f" in run '{run}'"
            raise fault(
                f"the store has no answer to a case '{name}'{place} for task '{self.task}'", self.path, row.line
            )
        return case_id

    def _answer(self, row: Row, run: str | None, case_id: str, variant: str, known: _Answers) -> _Answer:
        answer = known.answer(run, case_id, variant)
        if answer is None:
            case = self._required(row, "case_id")
            place = "" if run is None else f" in run '{run}'"
            hint = "" if variant in known.names else near(variant, known.names)
            raise fault(
                f"the store has no answer of variant '{variant}' to case '{case}'{place}{hint}", self.path, row.line
            )
        return answer

    def _time(self, row: Row) -> datetime:
        text = as_text(row.values.get("created_at"))
        if text is None:
            days = figure(row, "days_ago", amount, self.path) or 0.0
            if days > _MOST_DAYS:
                raise fault(f"days_ago is {days:g}: that is before there were models", self.path, row.line)
            return self.now - timedelta(days=days)
        try:
            at = datetime.fromisoformat(text)
        except ValueError as error:
            raise fault(
                f"created_at is '{text}'; write it like 2026-01-31T12:00:00+00:00", self.path, row.line
            ) from error
        return at if at.tzinfo else at.replace(tzinfo=UTC)

    def _truth(self, row: Row, name: str) -> bool | None:
        value = row.values.get(name)
        meanings = {"true": True, "1": True, "false": False, "0": False, "": None, "none": None}
        word = "" if value is None else str(value).lower()
        if word not in meanings:
            raise fault(f"'{name}' is {json.dumps(value)}; it must be true or false", self.path, row.line)
        return meanings[word]

    def _issues(self, row: Row) -> list[tuple[str, str]]:
        value = row.values.get("issues")
        if isinstance(value, str):
            with contextlib.suppress(ValueError):
                value = json.loads(value) if value.strip() else None
        value = [] if value is None else value
        if not isinstance(value, list) or not all(map(_is_issue, value)):
            raise fault(
                '\'issues\' must be a list like [{"variant": "terse", "label": "incomplete"}]', self.path, row.line
            )
        return [(item["variant"], item["label"]) for item in value]


def _is_issue(item: Any) -> bool:
    return isinstance(item, dict) and all(isinstance(item.get(key), str) and item[key] for key in ("variant", "label"))
