"""Cases from rows: which keys mean what, what makes two rows the same, and the check before anything is paid for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from feedbackloop.datasets.files import find_file, rows
from feedbackloop.datasets.repeats import Known, quoted, unlike
from feedbackloop.datasets.row import Row, check_header, fault, row_of
from feedbackloop.errors import DatasetError, FeedbackLoopError
from feedbackloop.identity import fingerprint
from feedbackloop.models import Case
from feedbackloop.text import storable_value

KEYS = ("id", "inputs", "messages", "context", "expected", "segment", "metadata")
"""Keys of a row that are not template variables."""


@dataclass(frozen=True)
class Numbered:
    """A case and where it stands."""

    line: int
    case: Case


@dataclass(frozen=True)
class Checked:
    """What a whole dataset was found to hold."""

    cases: int
    """Unique ones."""
    fingerprint: str
    """`models.fingerprint` of their ids."""
    repeated: list[tuple[int, int]]
    """Line of a repeated row and of the first one like it; the first 20."""
    repeated_count: int
    repeats_told: str | None
    """The same as a sentence's part, with what of a repeated row is not used; none where nothing is repeated."""
    priorities: frozenset[int | None]
    """Values of `metadata.priority` that occur; None for cases without one."""
    segments: dict[str, int]
    """Number of cases by segment; those without one are not in it."""
    conversations: int = 0
    """Cases with messages of their own."""


class Dataset:
    """Cases that can be gone through as often as needed, never all in memory. Made by `open_dataset`."""

    def __init__(
        self,
        name: str,
        read: Callable[[], Iterator[Row | Numbered]],
        *,
        source: str | None,
        file: str | None,
        id_column: str | None,
    ) -> None:
        self.name = name
        self.source = source
        self.id_column = id_column
        self._read = read
        self._file = file
        # Found by `check`: then going through it again need not remember every id, 65 MB for a million of them.
        self._no_repeats = False

    def __repr__(self) -> str:
        return f"Dataset({self.source or self.name!r})"

    def keyed_by(self, id_column: str) -> Dataset:
        """The same rows, their ids taken from another column."""
        return Dataset(self.name, self._read, source=self.source, file=self._file, id_column=id_column)

    def head(self, count: int) -> Dataset:
        """The first rows only."""
        return Dataset(
            self.name,
            lambda: islice(self._read(), count),
            source=self.source,
            file=self._file,
            id_column=self.id_column,
        )

    def rows(self) -> Iterator[Row | Numbered]:
        """Every row as it stands there, no case made of it yet."""
        return self._read()

    def __iter__(self) -> Iterator[Case]:
        """Unique cases, in the order of the file."""
        seen: set[int] = set()
        for item in self.numbered():
            if self._no_repeats:
                yield item.case
            elif (key := _key(item.case.id)) not in seen:
                seen.add(key)
                yield item.case

    def numbered(self) -> Iterator[Numbered]:
        """Every row's case with its line, repeated ones included."""
        empty = True
        for row in self._read():
            empty = False
            yield row if isinstance(row, Numbered) else Numbered(row.line, case_of(row, self._file, self.id_column))
        if empty:
            raise DatasetError("there are no rows in it", file=self._file or self.name)

    def check(self, visit: Callable[[Case], None] | None = None) -> Checked:
        """Go through everything once, before anything is paid for.

        Args:
            visit: is shown each unique case; what it raises is told with the case's file and line.

        Raises:
            DatasetError: a row cannot be read, an id stands for two different cases, a case is to have two different answers,
                or `visit` refused a case.
        """
        known = Known()
        owners: dict[str, int] = {}
        conversations = 0
        priorities: set[int | None] = set()
        segments: Counter[str] = Counter()

        def ids() -> Iterator[str]:
            nonlocal conversations
            for item in self.numbered():
                case, key = item.case, _key(item.case.id)
                if case.external_id is not None and (owner := owners.setdefault(case.external_id, key)) != key:
                    raise self._two_of_an_id(item, known.line(owner))
                if key in known:
                    if known.expects_otherwise(key, case):
                        raise self._two_expectations(item, known.line(key))
                    known.repeat(key, item.line, case)
                    continue
                known.add(key, item.line, case)
                priorities.add(self._priority(case, item.line))
                conversations += bool(case.messages)
                if case.segment is not None:
                    segments[case.segment] += 1
                if visit is not None:
                    self._show(item, visit)
                yield case.id

        digest = fingerprint(ids())
        self._no_repeats = not known.repeats
        told = known.told(self._at)
        return Checked(
            len(known),
            digest,
            known.repeated,
            known.repeats,
            told,
            frozenset(priorities),
            dict(segments),
            conversations,
        )

    def _show(self, item: Numbered, visit: Callable[[Case], None]) -> None:
        try:
            visit(item.case)
        except FeedbackLoopError as error:
            raise fault(str(error), self._file, item.line) from error

    def _at(self, line: int) -> Case:
        """The case of a line, read anew, since no case is kept."""
        return next(item.case for item in self.numbered() if item.line == line)

    def _two_of_an_id(self, item: Numbered, line: int) -> DatasetError:
        columns = ", ".join(f"'{name}'" for name in unlike(item.case, self._at(line)))
        return fault(
            f"the id '{item.case.external_id}' stands at line {line} already, with different content (in {columns}); give each "
            "case an id of its own",
            self._file,
            item.line,
        )

    def _two_expectations(self, item: Numbered, line: int) -> DatasetError:
        expected, first = quoted(item.case.expected), quoted(self._at(line).expected)
        return fault(
            f"this asks the same as line {line}, but expects {expected} instead of {first}; tell them apart by an input, or drop "
            "one",
            self._file,
            item.line,
        )

    def _priority(self, case: Case, line: int) -> int | None:
        value = case.metadata.get("priority")
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 10):
            return value
        raise fault(
            f"metadata.priority is {json.dumps(value)}; it must be a whole number from 1 to 10", self._file, line
        )


def open_dataset(
    source: str | Path | Dataset | pd.DataFrame | Iterable[Mapping[str, Any] | Case | str],
    *,
    id_column: str | None = None,
) -> Dataset:
    """A dataset from a file's path, a DataFrame, or rows in memory.

    Args:
        source: mappings, texts and cases in memory are kept as they are given, so that they can be gone through again.
        id_column: the column that holds a row's id, where it is not called `id`.

    Raises:
        DatasetError: there is no such file, or it is of an unknown kind. What is in it shows when it is read.
    """
    if isinstance(source, Dataset):
        return source if id_column is None else source.keyed_by(id_column)
    if isinstance(source, str | Path):
        path = find_file(source)
        return Dataset(path.name, lambda: rows(path), source=str(path.absolute()), file=str(path), id_column=id_column)
    if isinstance(source, pd.DataFrame):
        names = [str(name) for name in source.columns]
        check_header(names, None, None)
        frame = source

        def of_frame() -> Iterator[Row]:
            for number, values in enumerate(frame.itertuples(index=False, name=None), 1):
                yield row_of(dict(zip(names, values, strict=True)), number, None)

        return Dataset("records", of_frame, source=None, file=None, id_column=id_column)
    if not isinstance(source, Iterable):
        raise DatasetError(f"a dataset is a file's path, a DataFrame or a list of rows; {source!r} is none of these")
    records = source if isinstance(source, list | tuple) else list(source)

    def of_records() -> Iterator[Row | Numbered]:
        for number, record in enumerate(records, 1):
            yield Numbered(number, record) if isinstance(record, Case) else row_of(record, number, None)

    return Dataset("records", of_records, source=None, file=None, id_column=id_column)


def case_of(row: Row, file: str | Path | None = None, id_column: str | None = None) -> Case:
    """The case that a row stands for: known keys to their fields, everything else a template variable.

    Raises:
        DatasetError: a known key holds something else than it should, or nothing is there to ask.
    """
    found = storable_value(row.values)
    values: dict[str, Any] = found.value
    if id_column not in (None, "id") and id_column not in values:
        raise fault(
            f"there is no column '{id_column}' to take the id from; there is {', '.join(values)}", file, row.line
        )
    external = values.pop(id_column or "id", None)
    if isinstance(external, list | dict):
        raise fault(f"'{id_column or 'id'}' must be a text or a number", file, row.line)
    messages = _json_cell(values.pop("messages", None)) or []
    if not isinstance(messages, list) or not all(
        isinstance(m, dict) and isinstance(m.get("role"), str) for m in messages
    ):
        raise fault('\'messages\' must be a list of messages like {"role": "user", "content": "..."}', file, row.line)
    context = _documents(values.pop("context", None))
    if context is None:
        raise fault("'context' must be a text or a list of documents: texts, or mappings with a 'text'", file, row.line)
    metadata = _json_cell(values.pop("metadata", None)) or {}
    if not isinstance(metadata, dict):
        raise fault('\'metadata\' must be a mapping; in a CSV write it as JSON: {"team": "a"}', file, row.line)
    expected = values.pop("expected", None)
    segment = values.pop("segment", None)
    if isinstance(segment, list | dict):
        raise fault("'segment' must be a text", file, row.line)
    inputs = values
    if isinstance(values.get("inputs"), dict):
        inputs = values.pop("inputs")
        if values:
            raise fault(
                f"unknown key '{next(iter(values))}' beside 'inputs'; move it into 'inputs', or use one of {', '.join(KEYS)}",
                file,
                row.line,
            )
    if not inputs and not messages:
        raise fault("there is nothing to ask: the row has neither a variable nor messages", file, row.line)
    return Case.model_validate(
        {
            "external_id": as_text(external),
            "inputs": inputs,
            "messages": messages,
            "context": context,
            "expected": None if expected == "" else expected,
            "segment": as_text(segment),
            "metadata": {**metadata, "repaired": found.repaired} if found.repaired else metadata,
        }
    )


def as_text(value: Any) -> str | None:
    """A name or an id as text; none for a blank one. 3.0 is 3: pandas makes floats of whole numbers where one is missing."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = value if isinstance(value, str) else json.dumps(value)
    return None if value is None or not text.strip() else text


def _key(case_id: str) -> int:
    # 64 bits of the hash: a third of the memory, and one chance in 37 million that two of a million cases collide.
    return int(case_id[:16], 16)


def _json_cell(value: Any) -> Any:
    """What a JSON text holds; anything else, and a text that is no JSON, as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value.strip() else None
    except (ValueError, RecursionError):
        return value


def _documents(value: Any) -> list[Any] | None:
    """The list of documents that `value` stands for, or None if it stands for none. A text alone is one document."""
    if value is None or value == "":
        return []
    parsed = _json_cell(value) if isinstance(value, str) and value.lstrip().startswith(("[", "{")) else value
    items = parsed if isinstance(parsed, list) else [parsed]
    if all(isinstance(item, str) or (isinstance(item, dict) and isinstance(item.get("text"), str)) for item in items):
        return items
    return [value] if isinstance(value, str) else None
