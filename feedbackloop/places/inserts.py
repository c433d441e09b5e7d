"""What the kinds of places have in common when they write."""

from __future__ import annotations

from typing import Any

import duckdb

from feedbackloop import schema
from feedbackloop.models import Record


def insert(table: str, record: type[Record], known: str | None = None, *, prefix: str = "") -> str:
    """SQL that writes the rows registered as `incoming_TABLE`.

    Args:
        known: a relation with the identities that are there already; rows that stand in it are left out.
        prefix: goes before the table's name.
    """
    unless = f" WHERE NOT EXISTS (FROM {known} mine WHERE {same(record)})" if known else ""
    return f"INSERT INTO {prefix}{table} BY NAME SELECT * FROM incoming_{table} theirs{unless}"


def same(record: type[Record]) -> str:
    """SQL for: the row `theirs` stands in the table already."""
    return " AND ".join(f"mine.{key} IS NOT DISTINCT FROM theirs.{key}" for key in schema.identity(record))


def scalar(connection: duckdb.DuckDBPyConnection) -> Any:
    """The first value of the result, 0 without one."""
    rows = connection.fetchall()  # all: DuckDB 2.0 takes a result as unfinished until a fetch finds no more
    return rows[0][0] if rows else 0


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
