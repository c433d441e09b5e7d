"""Files that are written row by row, so that none is ever held in memory."""

from __future__ import annotations

import contextlib
import csv
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from feedbackloop.errors import FeedbackLoopError, SettingsError, StoreError
from feedbackloop.identity import new_id
from feedbackloop.improve.export.spreadsheet import harmless

# Line ends to some readers of "one object per line", though not to JSON.
_LINE_ENDS = str.maketrans({"\u0085": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"})

_BATCH = 1000

# Made once: a new encoder for each row would take longer than the row.
_encode = json.JSONEncoder(ensure_ascii=False).encode


def refuse_misplaced(target: Path) -> None:
    """Go on only if a file can be put there.

    Raises:
        SettingsError: it is a folder, or lies in one that is not there.
    """
    if target.is_dir():
        raise SettingsError(f"{target}: this is a folder; give the name of a file")
    refuse_orphaned(target)


def refuse_orphaned(target: Path) -> None:
    """Go on only if a file or folder can be made there.

    Raises:
        SettingsError: the folder that it lies in is not there.
    """
    if not target.absolute().parent.is_dir():
        raise SettingsError(f"{target}: there is no folder {target.absolute().parent}; make it first")


@contextlib.contextmanager
def beside(target: Path) -> Iterator[Path]:
    """A path in the file's own folder, to be made a file or a folder and then moved to its place; what is left of it goes away.

    Raises:
        StoreError: whatever went wrong, as one sentence about the file.
    """
    temporary = target.absolute().with_name(f".{target.name}.{new_id()[:8]}.part")
    try:
        yield temporary
    except FeedbackLoopError:
        raise
    except Exception as error:
        told = (error.strerror if isinstance(error, OSError) else None) or str(error).strip() or type(error).__name__
        reason = told.splitlines()[0]
        raise StoreError(f"{target}: could not be written: {reason}") from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


class Sink(Protocol):
    """Where rows go."""

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a row; all have the same keys."""

    def close(self) -> None:
        """Finish the file."""


class JsonLines:
    """A JSON object on each line, in UTF-8."""

    def __init__(self, path: Path, *, raw: bool = False) -> None:  # noqa: ARG002 - all sinks are made alike
        self._file = path.open("w", encoding="utf-8", newline="\n")

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a line."""
        line = _encode(row)
        self._file.write(f"{line if line.isascii() else line.translate(_LINE_ENDS)}\n")

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


class Csv:
    """A header and rows; what is not a single value is JSON text. Formulas are disarmed unless it is to be raw."""

    def __init__(self, path: Path, *, raw: bool = False) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._raw = raw
        self._begun = False

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a row."""
        if not self._begun:
            self._writer.writerow(row)
            self._begun = True
        self._writer.writerow([self._cell(value) for value in row.values()])

    def _cell(self, value: Any) -> Any:
        plain = _plain(value)
        return harmless(plain) if isinstance(plain, str) and not self._raw else plain

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


class Parquet:
    """Columns; what is not a single value is JSON text."""

    def __init__(self, path: Path, *, raw: bool = False) -> None:  # noqa: ARG002 - all sinks are made alike
        self._path = path
        self._rows: list[dict[str, Any]] = []
        self._writer: pq.ParquetWriter | None = None

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a row."""
        self._rows.append({name: _plain(value) for name, value in row.items()})
        if len(self._rows) == _BATCH:
            self._flush()

    def _flush(self) -> None:
        names: Sequence[str] = list(self._rows[0]) if self._rows else []
        schema = pa.schema([(name, _COLUMNS.get(name, pa.string())) for name in names])
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, schema, compression="zstd")
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=schema))
        self._rows = []

    def close(self) -> None:
        """Finish the file."""
        if self._rows or self._writer is None:
            self._flush()
        if self._writer is not None:
            self._writer.close()


_COLUMNS = {
    **dict.fromkeys(("q", "weight"), pa.float64()),
    **dict.fromkeys(("for", "against", "undecided", "n_votes"), pa.int64()),
}
"""Columns that are no texts; told beforehand, since the first rows of a column may all be empty."""


def _plain(value: Any) -> Any:
    return _encode(value) if isinstance(value, list | dict) else value
