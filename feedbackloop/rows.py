"""Records to rows and back: what the store writes for each type of column, and how it reads it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import pyarrow as pa

from feedbackloop import schema
from feedbackloop.models import Record

AnyRecord = TypeVar("AnyRecord", bound=Record)


def to_arrow(records: Sequence[Record]) -> pa.Table:
    """Records of one class as a table with that class's columns."""
    columns = schema.columns(type(records[0]))
    arrays = []
    for name, column in columns.items():
        values = [getattr(record, name) for record in records]
        encode = _ENCODERS.get(column.type)
        if encode is not None:
            values = [None if value is None else encode(value) for value in values]
        arrays.append(pa.array(values, type=column.arrow))
    return pa.table(arrays, names=list(columns))


def _utc(value: datetime) -> datetime:
    # An aware time put into a TIMESTAMP column would be stored as local time; a naive one is taken for UTC.
    return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value


def _json(value: Any) -> str:
    if not value and isinstance(value, dict | list):
        return "{}" if isinstance(value, dict) else "[]"
    try:
        return _ENCODE(value)
    except ValueError:
        return _ENCODE(_finite(value))


def _finite(value: Any) -> Any:
    """NaN and infinities, which JSON has not, as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, Record):
        return _finite(value.__dict__)
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.__dict__
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)


_ENCODE = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain).encode
_DECODERS: dict[str, Callable[[Any], Any]] = {"TIMESTAMP": lambda value: value.replace(tzinfo=UTC), "JSON": json.loads}
_ENCODERS: dict[str, Callable[[Any], Any]] = {"TIMESTAMP": _utc, "JSON": _json}


def from_rows(record: type[AnyRecord], names: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[AnyRecord]:
    """Rows with these columns as records; columns that are not the record's are passed over."""
    kinds = schema.columns(record)
    wanted = [(place, name, _DECODERS.get(kinds[name].type)) for place, name in enumerate(names) if name in kinds]
    return [
        record(
            **{
                name: row[place] if decode is None or row[place] is None else decode(row[place])
                for place, name, decode in wanted
            }
        )
        for row in rows
    ]


def encoded(record: Record, names: Sequence[str]) -> tuple[Any, ...]:
    """Some of a record's fields as the store writes them, for comparing with what it holds."""
    kinds = schema.columns(type(record))
    values = ((getattr(record, name), _ENCODERS.get(kinds[name].type)) for name in names)
    return tuple(value if value is None or encode is None else encode(value) for value, encode in values)
