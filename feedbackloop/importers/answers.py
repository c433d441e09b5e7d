"""Answers made elsewhere, stored as a run of their own."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from feedbackloop import queries
from feedbackloop.datasets import Dataset, Row, as_text, case_of, fault, find_file, open_dataset, rows
from feedbackloop.errors import DatasetError
from feedbackloop.identity import content_id, fingerprint
from feedbackloop.importers.figures import figures_of
from feedbackloop.importers.mapping import INPUT_COLUMNS, AnswerMapping, guess_id_column, guess_mapping
from feedbackloop.models import AIRequest, AIResponse, Case, ProcessingStatus, Record, Run, RunEvent, Task, Variant
from feedbackloop.store import Store
from feedbackloop.text import storable

BATCH = 2_000
"""Answers written at a time: what an interruption can cost, and what is in memory."""

_PEEKED = 20  # rows that a mapping is guessed from


@dataclass(frozen=True)
class Imported:
    """What an import found in the file, and how much of it was new."""

    run_id: str
    cases: int
    """Those with an answer."""
    variants: tuple[str, ...]
    answers: int
    new: int
    """Rows newly written, of all tables: 0 when all of it was there."""
    repeated: int
    """Answers that stand in the file more than once, to the letter."""
    mapping: AnswerMapping
    notes: tuple[str, ...]
    """What a reader of the results should know, a sentence each."""


@dataclass(frozen=True)
class _Answer:
    case: Case
    variant: str
    repeat: int
    output: str
    repaired: int
    figures: dict[str, Any]

    @property
    def identity(self) -> tuple[Any, ...]:
        """What makes it the same answer in another reading."""
        return self.case.id, self.variant, self.repeat, self.output, self.figures

    @property
    def failed(self) -> bool:
        """Whether it is the record of an error."""
        return "error" in self.figures or "error_type" in self.figures


def import_answers(
    source: str | Path,
    store: Store,
    *,
    task: str = "default",
    mapping: AnswerMapping | None = None,
    cases: Dataset | str | Path | None = None,
    id_column: str | None = None,
) -> Imported:
    """Store the answers of a file as a run. Again with the same file, it adds nothing; after an interruption, the rest.

    Args:
        source: a file of any kind that `open_dataset` reads.
        store: where to.
        task: the feature that these answers are about; made if the store has none of that name.
        mapping: which columns hold the answers; guessed if not given.
        cases: the dataset that the answers' ids refer to, where the file has no prompts of its own. It is held in memory.
        id_column: the column with the case's id, in both files; guessed if not given.

    Raises:
        DatasetError: a row cannot be read, refers to a case that is not there, or nothing tells where the answers are.
    """
    path = find_file(source)
    peeked = [row.values for row in itertools.islice(rows(path), _PEEKED)]
    columns = list(dict.fromkeys(name for values in peeked for name in values))
    if mapping is None:
        try:
            mapping = guess_mapping(columns, peeked)
        except DatasetError as error:
            raise fault(str(error), path) from error
    id_column = id_column or guess_id_column(columns)
    of_file = Dataset(path.name, lambda: _stripped(path, mapping), source=None, file=str(path), id_column=id_column)
    if cases is None:
        known, dataset = None, of_file
    else:
        dataset = cases if isinstance(cases, Dataset) else _keyed(find_file(cases), id_column)
        if id_column is None:
            raise fault(f"no column holds the case's id; there is {', '.join(columns)}. Name it: --id-column", path)
        known = _by_id(dataset)

    def reading() -> _Reading:
        return _Reading(path, mapping, id_column, known)

    cases_print = dataset.check().fingerprint
    first = reading()
    # Other answers to the same cases are another run: last week's and this week's do not displace each other.
    answers_print = fingerprint(content_id(*answer.identity) for answer in first.answers())
    names = tuple(dict.fromkeys([*mapping.answers, *first.variants]))
    if missing := [name for name in mapping.columns if name not in first.columns]:
        raise fault(f"there is no column '{missing[0]}'; there is {', '.join(first.columns)}", path)
    if not first.count:
        raise fault("there is no answer in any row", path)
    variants = {name: Variant.model_validate({"name": name, "model": f"imported:{name}"}) for name in names}
    run = Run(
        id=content_id("run", task, cases_print, answers_print, names, asdict(mapping)),
        task=task,
        dataset=path.name,
        fingerprint=cases_print,
        variants=[variant.id for variant in variants.values()],
        repeats=first.repeats,
        settings={"imported": path.name},
    )
    new = _write(store, run, variants, reading().answers())
    return Imported(run.id, len(first.answered), names, first.count, new, first.repeated, mapping, first.notes())


@dataclass
class _Reading:
    """One pass over the file; what it counts is complete when `answers` has ended."""

    path: Path
    mapping: AnswerMapping
    id_column: str | None
    known: dict[str, Case] | None
    columns: dict[str, None] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)
    count: int = 0
    repeated: int = 0
    repeats: int = 1
    missing: int = 0
    converted: int = 0
    variants: dict[str, None] = field(default_factory=dict)
    _cells: dict[int, int] = field(default_factory=dict)
    _same: set[int] = field(default_factory=set)

    def answers(self) -> Iterator[_Answer]:
        """Every answer, each to a cell of its own."""
        for row in rows(self.path):
            self.columns.update(dict.fromkeys(row.values))
            case = self._case(row)
            for variant, output, figures in self._outputs(row):
                text = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
                self.converted += not isinstance(output, str)
                text, repaired = storable(text)
                # 64 bits each instead of the texts: a million answers cost some 200 MB.
                same = hash((case.id, variant, text, json.dumps(figures, sort_keys=True)))
                if same in self._same:
                    self.repeated += 1
                    continue
                self._same.add(same)
                repeat = self._cell(row.line, case, variant, figures.pop("repeat", None))
                self.answered.add(case.id)
                self.variants[variant] = None
                self.count += 1
                self.repeats = max(self.repeats, repeat + 1)
                yield _Answer(case, variant, repeat, text, repaired, figures)

    def notes(self) -> tuple[str, ...]:
        """What is worth telling of this pass."""
        found = []
        if self.converted:
            found.append(f"{self.converted} answers were no texts (true, 3, null ...) and are kept as their JSON text.")
        if self.missing:
            found.append(f"{self.missing} answers are missing (null) and were left out.")
        if len(self.variants) > 1 and len(self.answered) == self.count:
            found.append(
                "No case has answers of two variants: a column that differs by answer may have been taken for the case."
            )
        return tuple(found)

    def _case(self, row: Row) -> Case:
        if self.known is None:
            return case_of(_case_row(row, self.mapping), self.path, self.id_column)
        name = as_text(row.values.get(self.id_column or "id"))
        if name is None or name not in self.known:
            told = f"there is no case '{name}'" if name else f"'{self.id_column}' is empty, and there is no such case"
            raise fault(f"{told} in the dataset that the answers refer to", self.path, row.line)
        return self.known[name]

    def _outputs(self, row: Row) -> Iterator[tuple[str, Any, dict[str, Any]]]:
        if self.mapping.answers:
            found: list[tuple[str, Any, dict[str, Any]]] = [
                (name, row.values.get(name), {}) for name in self.mapping.answers
            ]
        else:
            name = as_text(row.values.get(str(self.mapping.variant)))
            if name is None:
                raise fault(
                    f"'{self.mapping.variant}' is empty: nothing says whose answer this is", self.path, row.line
                )
            figures = figures_of(row, self.path)
            output = row.values.get(str(self.mapping.output))
            failed = output is None and ("error" in figures or "error_type" in figures)
            found = [(storable(name)[0], "" if failed else output, figures)]
        for variant, output, figures in found:
            if output is None:
                self.missing += 1
            else:
                yield variant, output, figures

    def _cell(self, line: int, case: Case, variant: str, given: int | None) -> int:
        repeat = given or 0
        while (key := hash((case.id, variant, repeat))) in self._cells:
            if given is not None:
                raise fault(
                    f"'{variant}' answers this case for repeat {given} at line {self._cells[key]} already, with another answer",
                    self.path,
                    line,
                )
            repeat += 1
        self._cells[key] = line
        return repeat


def _write(store: Store, run: Run, variants: dict[str, Variant], answers: Iterable[_Answer]) -> int:
    records: list[Record] = [run, _event(run, "started", pid=os.getpid())]
    if queries.task(store, run.task) is None:
        records.append(Task(name=run.task))
    stored = {variant.id for variant in queries.variants(store, run.variants)}
    records += [variant for variant in variants.values() if variant.id not in stored]
    written: set[str] = set()
    new = done = failed = 0
    stream = iter(answers)
    batch = list(itertools.islice(stream, BATCH))
    while batch:
        cases: dict[str, Case] = {}
        for answer in batch:
            if answer.case.id not in written:
                cases.setdefault(answer.case.id, answer.case)
            records += _records(answer, variants[answer.variant], run)
            done += 1
            failed += answer.failed
        written.update(cases)
        records += _unknown(store, cases)
        batch = list(itertools.islice(stream, BATCH))
        if not batch:
            counts = {"done": done, "completed": done - failed, "failed": failed, "cached": 0, "total": done}
            records.append(_event(run, "finished", counts=counts))
        new += store.append(records, new_only=True)
        records = []
    return new


def _event(run: Run, kind: str, **fields: Any) -> RunEvent:
    return RunEvent.model_validate({"id": content_id(run.id, kind), "run_id": run.id, "kind": kind, **fields})


def _records(answer: _Answer, variant: Variant, run: Run) -> list[Record]:
    request = AIRequest(
        id=content_id("request", run.id, *answer.identity),
        input=_input(answer.case),
        model=variant.model,
        created_at=run.created_at,
        task=run.task,
        run_id=run.id,
        case_id=answer.case.id,
        variant_id=variant.id,
        repeat=answer.repeat,
    )
    figures = dict(answer.figures)
    failed = answer.failed
    latency, cost = figures.pop("latency_ms", None), figures.pop("cost_usd", None)
    tokens = (figures.get("input_tokens"), figures.get("output_tokens"))
    response = AIResponse(
        id=content_id("response", request.id),
        request_id=request.id,
        output=answer.output,
        model_used="none" if failed else variant.model,
        status=ProcessingStatus.FAILED if failed else ProcessingStatus.COMPLETED,
        # A failure has no successful attempt; what was waited and paid for it is in the totals.
        latency_ms=None if failed else latency,
        total_ms=latency,
        cost_usd=None if failed else cost,
        spent_usd=cost,
        tokens_used=None if failed or None in tokens else sum(t for t in tokens if t is not None),
        metadata={"repaired": answer.repaired} if answer.repaired else {},
        created_at=run.created_at,
        **figures,
    )
    return [request, response]


def _unknown(store: Store, cases: dict[str, Case]) -> Iterator[Case]:
    """The cases that the store has not, and new editions of those of which this file knows more."""
    query = "SELECT * FROM cases WHERE id IN (SELECT unnest(?)) ORDER BY created_at"
    stored = {case.id: case for case in store.load(Case, query, [list(cases)])}
    for case in cases.values():
        known = stored.get(case.id)
        if known is None:
            yield case
            continue
        details = {name: getattr(case, name) for name in ("external_id", "expected", "segment", "metadata")}
        more = {
            name: value for name, value in details.items() if value not in (None, {}) and value != getattr(known, name)
        }
        if more:
            yield known.model_copy(update={**more, "created_at": case.created_at})


def _input(case: Case) -> str:
    for name in (*INPUT_COLUMNS, *(name.title() for name in INPUT_COLUMNS)):
        if isinstance(case.inputs.get(name), str):
            return str(case.inputs[name])
    if case.inputs or not isinstance(case.messages[-1].get("content"), str):
        return json.dumps(case.inputs or case.messages, ensure_ascii=False)
    return str(case.messages[-1]["content"])


def _stripped(path: Path, mapping: AnswerMapping) -> Iterator[Row]:
    for row in rows(path):
        yield _case_row(row, mapping)


def _case_row(row: Row, mapping: AnswerMapping) -> Row:
    return Row(row.line, {name: value for name, value in row.values.items() if name not in mapping.not_of_the_case})


def _keyed(path: Path, id_column: str | None) -> Dataset:
    columns = [name for row in itertools.islice(rows(path), _PEEKED) for name in row.values]
    return open_dataset(path, id_column=id_column if id_column in columns else guess_id_column(columns))


def _by_id(dataset: Dataset) -> dict[str, Case]:
    """Cases by their own id and by the dataset's; where a row is repeated under another id, both lead to the first."""
    first: dict[str, Case] = {}
    found: dict[str, Case] = {}
    for item in dataset.numbered():
        case = first.setdefault(item.case.id, item.case)
        found.setdefault(case.id, case)
        if item.case.external_id is not None:
            found.setdefault(item.case.external_id, case)
    return found
