"""Rows from files: each format is read here and nowhere else, and each fault is told with file, line and column."""

from __future__ import annotations

import csv
import difflib
import functools
import gzip
import json
import re
import zlib
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import yaml

from feedbackloop.datasets.row import Row, check_header, fault, row_of
from feedbackloop.errors import DatasetError

_LISTS = ("cases", "data")  # what a JSON or YAML mapping may call its list of rows
_FETCHED = 2_000  # parquet rows in memory at a time

LONGEST_LINE = 256 * 2**20
"""Bytes of one line, which is held in memory."""
LARGEST_TEXT = 512 * 2**20
"""Bytes of a JSON or YAML file, unpacked; as it has no rows of its own, it is held in memory, several times as large."""
MOST_VALUES = 5_000_000
"""Values of a YAML file with its references written out: a few lines of them can stand for billions."""
_UNPACKED = 256 * 2**20
_RATIO = 250
"""Text shrinks to a tenth, logs to a fiftieth; what unpacks to more than both of these is made to fill memory or disk."""


def find_file(source: str | Path) -> Path:
    """The path of a file that `rows` can read.

    Raises:
        DatasetError: it is not there (near names are told), is a folder, or has an ending that nothing here reads.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        known = sorted(p.name for p in path.iterdir() if _kind(p) in _READERS)[:5]
        raise DatasetError(
            f"this is a folder; name a file in it{': ' + ', '.join(known) if known else ''}", file=str(path)
        )
    if not path.exists():
        if not path.parent.is_dir():
            raise DatasetError(f"there is no such file, nor the folder '{path.parent}'", file=str(path))
        close = difflib.get_close_matches(path.name, [p.name for p in path.parent.iterdir() if p.is_file()], n=3)
        tail = "; did you mean " + " or ".join(f"'{name}'" for name in close) + "?" if close else f" in '{path.parent}'"
        raise DatasetError(f"there is no such file{tail}", file=str(path))
    if _kind(path) not in _READERS:
        raise DatasetError(
            f"files ending in '{path.suffix}' cannot be read; known are {', '.join(_READERS)}", file=str(path)
        )
    return path


def rows(path: Path) -> Iterator[Row]:
    """The rows of a file of any known kind, as a stream. A text alone is `{"input": text}`.

    Raises:
        DatasetError: the file or a row cannot be read as what its ending says, or there are no rows.
    """
    empty = True
    for row in _READERS[_kind(path)](path):
        empty = False
        yield row
    if empty:
        raise fault("the file is empty" if path.stat().st_size == 0 else "there are no rows in it", path)


def _kind(path: Path) -> str:
    """The ending that says how to read it: `.csv`, or `.csv.gz`."""
    last = path.suffix.lower()
    return Path(path.stem).suffix.lower() + last if last == ".gz" else last


def _lines(path: Path) -> Generator[str, None, None]:
    """Physical lines, each with its end, decoded one by one so that a wrong byte is told by its line.

    To be closed by whoever goes through them: an error amid the rows must not leave the file open.
    """
    number = offset = 0
    packed = path.suffix.lower() == ".gz"
    try:
        most = max(_UNPACKED, _RATIO * path.stat().st_size)
        with gzip.open(path) if packed else path.open("rb") as stream:
            # Never more of a line than may be: a packed file of a few kilobytes can hold one of gigabytes.
            for number, raw in enumerate(iter(functools.partial(stream.readline, LONGEST_LINE + 1), b""), 1):
                if len(raw) > LONGEST_LINE:
                    raise fault(f"this line is longer than {LONGEST_LINE // 2**20} MB; no row is", path, number)
                text = _first(raw, path) if number == 1 else raw
                try:
                    yield text.decode("utf-8")
                except UnicodeDecodeError as error:
                    raise _undecodable(error, path, number, offset + len(raw) - len(text)) from error
                offset += len(raw)
                if packed and offset > most:
                    raise fault(
                        f"this unpacks to more than {_RATIO} times its size, as no data do; unpack it yourself if it is right",
                        path,
                        number,
                    )
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        message = "the compressed file is cut off or damaged here; make or download it again"
        if number == 0 and isinstance(error, gzip.BadGzipFile):
            message = "this is not a gzip file, though its name ends in .gz; rename it or compress it"
        raise fault(message, path, number + 1) from error
    except OSError as error:
        raise fault(f"the file cannot be read: {error.strerror or error}", path) from error


def _text(path: Path) -> str:
    """The whole of a file that has no rows of its own."""
    parts, size = [], 0
    with closing(_lines(path)) as lines:
        for line in lines:
            size += len(line)
            if size > LARGEST_TEXT:
                raise fault(
                    f"this is more than {LARGEST_TEXT // 2**20} MB, too much to be held in memory as one; "
                    "write it as JSON Lines, an object on each line (jq -c '.[]')",
                    path,
                )
            parts.append(line)
    return "".join(parts)


def document(path: Path) -> Any:
    """All that a JSON or YAML file holds, as one value.

    Raises:
        DatasetError: it cannot be read as what its ending says, or is too large.
    """
    if ".json" in _kind(path):
        return _loads(_text(path), path)
    node, loader = _composed(path)
    try:
        return None if node is None else loader.construct_document(node)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise fault(f"this YAML cannot be read: {' '.join(str(error).split())}", path) from error


def _first(raw: bytes, path: Path) -> bytes:
    # NUL as first or second byte: UTF-16 without its mark, since no text format begins with NUL.
    if raw.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) or b"\0" in raw[:2]:
        raise fault("this looks like UTF-16; save the file as UTF-8", path, 1)
    return raw.removeprefix(BOM_UTF8)


def _undecodable(error: UnicodeDecodeError, path: Path, line: int, offset: int) -> DatasetError:
    byte = error.object[error.start : error.start + 1]
    seen = byte.decode("cp1252", "replace")
    guess = f" (in Latin-1 or Windows-1252 it is '{seen}')" if seen.isprintable() and seen != "\ufffd" else ""
    column = len(error.object[: error.start].decode("utf-8")) + 1
    return fault(
        f"byte 0x{byte.hex()} at offset {offset + error.start} is not UTF-8{guess}; save the file as UTF-8",
        path,
        line,
        column,
    )


def _loads(text: str, path: Path, line: int | None = None) -> Any:
    hint = "" if line is None else "; each line must be one JSON object"
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = (error.lineno if line is None else line), error.colno
        raise fault(f"this is not valid JSON: {error.msg}{hint}", path, *place) from error
    except (ValueError, RecursionError) as error:
        raise fault(f"this JSON cannot be read: {error}", path, line) from error


def _jsonl(path: Path) -> Iterator[Row]:
    with closing(_lines(path)) as lines:
        for number, text in enumerate(lines, 1):
            if text.strip():
                yield row_of(_loads(text.rstrip("\r\n"), path, number), number, path)


def _json(path: Path) -> Iterator[Row]:
    text = _text(path)
    if not text.strip():
        return
    at = _list_start(_loads(text, path), text, path)
    decoder = json.JSONDecoder()
    line, counted = 1, 0
    while text[at := _skip(text, at)] != "]":
        value, end = decoder.raw_decode(text, at)
        line += text.count("\n", counted, at)
        counted = at
        yield row_of(value, line, path)
        at = end


def _list_start(whole: Any, text: str, path: Path) -> int:
    """Where the list of rows begins in valid JSON, so that its rows can be told by line."""
    if isinstance(whole, list):
        return text.index("[") + 1
    name = _list_name(whole, path)
    decoder = json.JSONDecoder()
    at = text.index("{") + 1
    while True:
        key, at = decoder.raw_decode(text, _skip(text, at))
        at = _skip(text, at)
        if key == name and text[at] == "[":
            return at + 1
        _, at = decoder.raw_decode(text, at)


def _skip(text: str, at: int) -> int:
    between = re.compile(r"[ \t\r\n,:]*").match(text, at)
    return between.end() if between else at


def _list_name(whole: Any, path: Path) -> str:
    if isinstance(whole, dict):
        for name in _LISTS:
            if isinstance(whole.get(name), list):
                return name
    raise fault("expected a list of rows, or a mapping with that list under 'cases' or 'data'", path)


def _composed(path: Path) -> tuple[yaml.Node | None, yaml.SafeLoader]:
    """A YAML file as nodes, which know their lines, and what makes values of them."""
    try:
        loader = yaml.SafeLoader(_text(path))
        node = loader.get_single_node()
        if node is not None and _size(node, {}) > MOST_VALUES:
            raise fault(f"its references stand for more than {MOST_VALUES:,} values; write out what is meant", path)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (None, None)
        raise fault(f"this is not valid YAML: {error.problem or error.context}", path, *place) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise fault(f"this YAML cannot be read: {' '.join(str(error).split())}", path) from error
    return node, loader


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node comes to, what it refers to counted each time; a node within itself is more than any number."""
    if id(node) not in known:
        known[id(node)] = MOST_VALUES + 1
        if isinstance(node, yaml.MappingNode):
            size = sum(_size(key, known) + _size(value, known) for key, value in node.value)
        else:
            size = sum(_size(item, known) for item in node.value) if isinstance(node, yaml.SequenceNode) else 0
        known[id(node)] = 1 + size
    return known[id(node)]


def _yaml(path: Path) -> Iterator[Row]:
    line: int | None = None
    node, loader = _composed(path)
    try:
        if isinstance(node, yaml.MappingNode):
            lists = {key.value: item for key, item in node.value if isinstance(item, yaml.SequenceNode)}
            node = lists.get(_list_name({key: [] for key in lists}, path))
        if node is None:
            return
        if not isinstance(node, yaml.SequenceNode):
            raise fault("expected a list of rows, or a mapping with that list under 'cases' or 'data'", path)
        for item in node.value:
            line = item.start_mark.line + 1
            yield row_of(loader.construct_object(item, deep=True), line, path)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (line, None)
        raise fault(f"this is not valid YAML: {error.problem or error.context}", path, *place) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise fault(f"this YAML cannot be read: {' '.join(str(error).split())}", path, line) from error


def _csv(path: Path) -> Iterator[Row]:
    with closing(_lines(path)) as lines:
        yield from _table(path, lines)


def _table(path: Path, lines: Iterator[str]) -> Iterator[Row]:
    # A cell may hold a whole document; csv's own limit is 131,072 characters, for the whole process.
    csv.field_size_limit(2**31 - 1)
    delimiter = "\t" if ".tsv" in _kind(path) else ","
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    line, found = 1, False
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            raise _broken_csv(error, path, line, reader.line_num) from error
        if header is None:
            header = _header(cells, delimiter, path, line) if cells else None
        elif cells:
            found = True
            if len(cells) != len(header):
                raise fault(
                    f"this row has {len(cells)} cells, the header has {len(header)}; "
                    f"put cells that hold a delimiter or a line break into double quotes",
                    path,
                    line,
                )
            yield Row(line, dict(zip(header, cells, strict=True)))
    if header is not None and not found:
        raise fault("there is a header, but no row below it", path)


def _header(cells: list[str], delimiter: str, path: Path, line: int) -> list[str]:
    header = [cell.strip() for cell in cells]
    other = next((mark for mark in ",;\t|" if mark != delimiter and mark in header[0]), None)
    if len(header) == 1 and other is not None:
        raise fault(
            f"the header's cells are separated by {other!r} here; save the file with {delimiter!r} between cells",
            path,
            line,
        )
    check_header(header, path, line)
    return header


def _broken_csv(error: csv.Error, path: Path, start: int, line: int) -> DatasetError:
    message = str(error)
    if "unexpected end" in message:
        return fault(
            "a double quote that opens in this row is never closed; close it, or double it inside a cell", path, start
        )
    if "expected after" in message:
        return fault("text follows a closing double quote; double the quotes inside a cell", path, line)
    if "new-line character" in message:
        return fault("lines end with CR alone; save the file with LF or CRLF line ends", path, line)
    return fault(f"this is not valid CSV: {message}", path, line)


def _parquet(path: Path) -> Iterator[Row]:
    # DuckDB takes *, ? and [ in a path for patterns.
    pattern = re.sub(r"([*?\[])", r"[\1]", str(path))
    connection = duckdb.connect()
    try:
        columns = connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", [pattern]).fetchall()
        query = "SELECT * FROM read_parquet(?)"
        if aware := [column[0].replace('"', '""') for column in columns if column[1] == "TIMESTAMP WITH TIME ZONE"]:
            # Fetching an aware time would need pytz.
            made = (
                f'strftime(make_timestamp(epoch_us("{name}")), \'%Y-%m-%dT%H:%M:%S.%f+00:00\') AS "{name}"'
                for name in aware
            )
            query = query.replace("*", f"* REPLACE ({', '.join(made)})", 1)
        result = connection.execute(query, [pattern])
        names = [column[0] for column in columns]
        number = 0
        while batch := result.fetchmany(_FETCHED):
            for values in batch:
                number += 1
                yield row_of(dict(zip(names, values, strict=True)), number, path)
    except duckdb.Error as error:
        raise fault(f"this parquet file cannot be read: {str(error).splitlines()[0]}", path) from error
    finally:
        connection.close()


_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".csv": _csv,
    ".csv.gz": _csv,
    ".json": _json,
    ".json.gz": _json,
    ".jsonl": _jsonl,
    ".jsonl.gz": _jsonl,
    ".ndjson": _jsonl,
    ".ndjson.gz": _jsonl,
    ".parquet": _parquet,
    ".tsv": _csv,
    ".tsv.gz": _csv,
    ".yaml": _yaml,
    ".yml": _yaml,
}
"""By ending; the sentence about an unknown one lists them in this order."""
