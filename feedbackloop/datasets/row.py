"""A row as every format gives it, and the sentence for what is wrong with one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd

from feedbackloop.errors import DatasetError


@dataclass(frozen=True)
class Row:
    """A row as its file holds it, its values as JSON knows them."""

    line: int
    """Physical line on which it begins; its number (from 1) where there are no lines, in parquet and in memory."""
    values: dict[str, Any]


def fault(message: str, file: str | Path | None, line: int | None = None, column: int | None = None) -> DatasetError:
    """The error at a row of `file`, told by its line, or by its number where there are no lines."""
    name = None if file is None else str(file)
    if line is not None and (name is None or name.lower().endswith(".parquet")):
        return DatasetError(f"row {line}: {message}", file=name)
    return DatasetError(message, file=name, line=line, column=column)


def row_of(value: Any, line: int, file: str | Path | None) -> Row:
    """A row from a mapping or a text; other values as the JSON that they come nearest to.

    Raises:
        DatasetError: it is neither, or it holds bytes or an object.
    """
    if isinstance(value, str):
        return Row(line, {"input": value})
    if not isinstance(value, Mapping):
        raise fault(
            f"this is {_called(value)}, not a row: give an object with a key for each variable, or a text", file, line
        )
    plain = {}
    for key, item in value.items():
        try:
            plain[str(key)] = _plain(item)
        except RecursionError as error:
            raise fault(f"'{key}' is nested too deep to be kept", file, line) from error
        except TypeError as error:
            raise fault(
                f"'{key}' holds {error}; only text, numbers, dates, lists and mappings can be used", file, line
            ) from error
    return Row(line, plain)


def check_header(names: list[str], file: str | Path | None, line: int | None) -> None:
    """Refuse column names that cannot be told apart.

    Raises:
        DatasetError: a name is empty or stands there twice.
    """
    for column, name in enumerate(names, 1):
        if not name:
            raise fault(f"column {column} has no name in the header; give it one or delete it", file, line)
        if name in names[: column - 1]:
            raise fault(f"two columns are called '{name}'; rename one", file, line)


def _called(value: Any) -> str:
    if value is None:
        return "null"
    names = {list: "a list", bool: "a boolean", int: "a number", float: "a number", bytes: "bytes", bytearray: "bytes"}
    return names.get(type(value), f"a value of type {type(value).__name__}")


def _plain(value: Any) -> Any:
    """The value as JSON knows it; NaN and infinities, which JSON has not, are null."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    return _plain_object(value)


def _plain_object(value: Any) -> Any:
    """The same for what parquet, YAML and pandas know beyond JSON: times become ISO text."""
    if value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, UUID | timedelta):
        return str(value)
    if isinstance(value, Decimal):
        return _plain(int(value) if value.is_finite() and value == value.to_integral_value() else float(value))
    if isinstance(value, np.datetime64):
        return _plain(pd.Timestamp(value))
    if isinstance(value, np.ndarray | np.generic) and not isinstance(value, np.bytes_ | np.void):
        return _plain(value.tolist())
    raise TypeError(_called(value))
