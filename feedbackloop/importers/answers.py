"""Answers made elsewhere, in columns: stored as a run of their own."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from feedbackloop.datasets import KEYS, Dataset, Row, as_text, case_of, fault, find_file, open_dataset, rows
from feedbackloop.errors import DatasetError
from feedbackloop.identity import content_id
from feedbackloop.importers.figures import figures_of
from feedbackloop.importers.intake import Answer, Imported, Passage, imported_variant
from feedbackloop.importers.mapping import INPUT_COLUMNS, AnswerMapping, guess_id_column, guess_ignored, guess_mapping
from feedbackloop.importers.records import write
from feedbackloop.models import Case, Run, Variant
from feedbackloop.registry import near
from feedbackloop.store import Store
from feedbackloop.text import storable

_PEEKED = 20  # rows that a mapping is guessed from


def import_answers(
    source: str | Path,
    store: Store,
    *,
    task: str = "default",
    mapping: AnswerMapping | None = None,
    cases: Dataset | str | Path | None = None,
    id_column: str | None = None,
    ignore: Sequence[str] = (),
    keep: Sequence[str] = (),
) -> Imported:
    """Store the answers of a file as a run. Again with the same file, it adds nothing; after an interruption, the rest.

    Args:
        source: a file of any kind that `open_dataset` reads.
        store: where to.
        task: the feature that these answers are about; made if the store has none of that name.
        mapping: which columns hold the answers; guessed if not given.
        cases: the dataset that the answers' ids refer to, where the file has no prompts of its own. It is held in memory.
        id_column: the column with the case's id, in both files; guessed if not given.
        ignore: columns that are left out, beside those that are plainly about an answer or a verdict (`guess_ignored`).
        keep: columns that are part of the case, though they seem to be about an answer or a verdict.

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
    _refuse_both(mapping, ignore, keep, path)
    seeming = (*mapping.ignored, *ignore, *guess_ignored(columns, peeked, mapping))
    mapping = replace(mapping, ignored=tuple(dict.fromkeys(name for name in seeming if name not in keep)))
    id_column = id_column or guess_id_column(columns)
    of_file = Dataset(path.name, lambda: _stripped(path, mapping), source=None, file=str(path), id_column=id_column)
    if cases is None:
        known, dataset = None, of_file
    else:
        dataset = cases if isinstance(cases, Dataset) else _keyed(find_file(cases), id_column)
        if id_column is None:
            raise fault(f"no column holds the case's id; there is {', '.join(columns)}. Name it: --id-column", path)
        known = cases_by_id(dataset)

    cases_print = dataset.check().fingerprint
    reading = _Reading(path, mapping, id_column, known)
    first = Passage(path, reading.answers())
    # Other answers to the same cases are another run: last week's and this week's do not displace each other.
    answers_print = first.print()
    names = tuple(dict.fromkeys([*mapping.answers, *first.variants]))
    if missing := [name for name in mapping.columns if name not in reading.columns]:
        raise fault(f"there is no column '{missing[0]}'; there is {', '.join(reading.columns)}", path)
    for name in (*ignore, *keep):
        if name not in reading.columns:
            raise fault(f"there is no column '{name}'{near(name, reading.columns)}", path)
    if not first.count:
        raise fault("there is no answer in any row", path)
    variants = [imported_variant(name) for name in names]
    run = Run(
        # What is left out shows in the cases.
        id=content_id("run", task, cases_print, answers_print, names, asdict(replace(mapping, ignored=()))),
        task=task,
        dataset=path.name,
        fingerprint=cases_print,
        variants=[variant.id for variant in variants],
        repeats=first.repeats,
        settings={"imported": path.name},
    )
    new = write(store, run, variants, Passage(path, _Reading(path, mapping, id_column, known).answers()))
    notes, case = reading.notes(first), reading.case_columns() if known is None else ()
    return Imported(run.id, len(first.answered), names, first.count, new, first.repeated, mapping, notes, case=case)


def _refuse_both(mapping: AnswerMapping, ignore: Sequence[str], keep: Sequence[str], path: Path) -> None:
    for name in ignore:
        if name in keep or name in mapping.columns:
            other = "kept" if name in keep else "read as answers or as their variant"
            raise fault(f"the column '{name}' cannot be both left out and {other}; choose one", path)


@dataclass
class _Reading:
    """One pass over the file; what it counts is complete when `answers` has ended."""

    path: Path
    mapping: AnswerMapping
    id_column: str | None
    known: dict[str, Case] | None
    columns: dict[str, None] = field(default_factory=dict)
    missing: int = 0
    converted: int = 0
    _variants: dict[str, Variant] = field(default_factory=dict)

    def answers(self) -> Iterator[Answer]:
        """Every answer as it stands."""
        for row in rows(self.path):
            self.columns.update(dict.fromkeys(row.values))
            case = self._case(row)
            for name, output, figures in self._outputs(row):
                text = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
                self.converted += not isinstance(output, str)
                text, repaired = storable(text)
                if (variant := self._variants.get(name)) is None:
                    variant = self._variants[name] = imported_variant(name)
                yield Answer(row.line, case, variant, text, figures, figures.pop("repeat", None), repaired)

    def notes(self, first: Passage) -> tuple[str, ...]:
        """What is worth telling of this pass."""
        found = []
        if self.converted:
            found.append(f"{self.converted} answers were no texts (true, 3, null ...) and are kept as their JSON text.")
        if self.missing:
            found.append(f"{self.missing} answers are missing (null) and were left out.")
        if len(first.variants) > 1 and len(first.answered) == first.count:
            found.append(
                f"No case has answers of two variants: {self._apart()} may have been taken for the case though it differs by "
                "answer; --ignore COLUMN leaves a column out."
            )
        return tuple(found)

    def case_columns(self) -> tuple[str, ...]:
        """The columns that make the case, by which it is known and which raters see."""
        others = {*self.mapping.not_of_the_case, *KEYS, self.id_column} - {"inputs", "messages", "context"}
        return tuple(name for name in self.columns if name not in others)

    def _apart(self) -> str:
        """The columns that tell apart what asks the same, if anything shows which these are."""
        columns = self.case_columns()
        text = next((name for known in INPUT_COLUMNS for name in columns if name.lower() == known), None)
        if self.known is not None or text is None:
            return "a column"
        first: dict[int, dict[str, int]] = {}
        differing: dict[str, None] = {}
        for row in rows(self.path):
            marks = {name: hash(json.dumps(row.values.get(name), sort_keys=True)) for name in columns}
            known = first.setdefault(marks[text], marks)
            differing.update((name, None) for name in columns if marks[name] != known[name])
        return " or ".join(f"the column '{name}'" for name in differing) or "a column"

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


def _stripped(path: Path, mapping: AnswerMapping) -> Iterator[Row]:
    for row in rows(path):
        yield _case_row(row, mapping)


def _case_row(row: Row, mapping: AnswerMapping) -> Row:
    return Row(row.line, {name: value for name, value in row.values.items() if name not in mapping.not_of_the_case})


def _keyed(path: Path, id_column: str | None) -> Dataset:
    columns = [name for row in itertools.islice(rows(path), _PEEKED) for name in row.values]
    return open_dataset(path, id_column=id_column if id_column in columns else guess_id_column(columns))


def cases_by_id(dataset: Dataset) -> dict[str, Case]:
    """Cases by their own id and by the dataset's; where a row is repeated under another id, both lead to the first."""
    first: dict[str, Case] = {}
    found: dict[str, Case] = {}
    for item in dataset.numbered():
        case = first.setdefault(item.case.id, item.case)
        found.setdefault(case.id, case)
        if item.case.external_id is not None:
            found.setdefault(item.case.external_id, case)
    return found
