"""Where everything lives: append-only tables, one per record class, in a DuckDB file or a Postgres database.

`Store(url)` is the one thing that the rest of the package knows. How a kind of place is opened, locked and written is that
place's business (`feedbackloop.places`); SQL is DuckDB's everywhere. What `append` has returned from is stored.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pandas as pd
import pyarrow as pa

from feedbackloop import schema
from feedbackloop.errors import RowsRefused, StoreError
from feedbackloop.models import TABLES, AIResponse, ProcessingStatus, Record
from feedbackloop.places import FilePlace, Place, PostgresPlace, ServerGone, Use, first_line, same, scalar
from feedbackloop.rows import AnyRecord, from_rows

WRITING_MB = 100
READING_MB = 200
"""What the package's own writes and reads make do with in a file, by way of the disk. DuckDB by itself takes what it likes: for
a checkpoint of a million answers 800 MB, for their summary 1.3 GB."""

SQL_LIMIT_S = 10.0
"""How long a query of `Store.sql` may hold the lease."""

Answer = TypeVar("Answer")

_TABLE_OF: dict[type[Record], str] = {record: table for table, record in TABLES.items()}

# What a database or Arrow says when it will not take a row as it is.
_REFUSALS = (duckdb.Error, pa.ArrowException, ValueError, OverflowError, UnicodeError)


class Store:
    """A store by its URL: a path of a DuckDB file, or `postgres:...`; it is made at the first write.

    Args:
        url: the file's path; or `postgresql://USER@HOST/DATABASE`, or `postgres:` and what libpq calls a connection string. A
            password is better left to `PGPASSWORD` or `~/.pgpass`.
        timeout_s: how long an operation waits for others before it gives up and says so.

    Raises:
        StoreError: the URL is of a kind that this version does not know, or cannot be read.
    """

    def __init__(self, url: str | os.PathLike[str] = "loop.duckdb", *, timeout_s: float = 30.0) -> None:
        self._place = _place(os.fspath(url))
        self.timeout_s = timeout_s

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    @property
    def url(self) -> str:
        """The URL as it may be shown: a password in it is hidden."""
        return self._place.url

    @property
    def address(self) -> str:
        """What opens this very store from anywhere, password included: for a child's environment, never to be shown."""
        return self._place.address

    @property
    def is_shared(self) -> bool:
        """Whether processes on several machines can use it at once, as they cannot use a file."""
        return self._place.is_shared

    @property
    def folder(self) -> Path:
        """Where files that belong beside the store go, such as logs: the file's folder, else the working directory."""
        return self._place.folder

    @property
    def path(self) -> Path:
        """The file.

        Raises:
            StoreError: the store is none.
        """
        if isinstance(self._place, FilePlace):
            return self._place.path
        raise StoreError(f"{self.url}: this store is not a file")

    def exists(self) -> bool:
        """Whether there is a store yet.

        Raises:
            StoreError: the server that would know does not answer.
        """
        return self._place.exists()

    def must_exist(self) -> None:
        """Go on only if there is a store.

        Raises:
            StoreError: there is none yet, or its server does not answer.
        """
        if not self.exists():
            raise StoreError(
                f"{self.url}: there is no such store yet; `feedbackloop run` or `feedbackloop import` makes it"
            )

    @property
    def version(self) -> tuple[int | str, ...]:
        """Changes whenever something was written, by whomever: what pages key their caches by."""
        return self._place.version()

    def close(self) -> None:
        """Give back connections that are kept open between uses; the store opens them again when it is used again."""
        self._place.close()

    @contextlib.contextmanager
    def lease(
        self, *, timeout_s: float | None = None, memory_mb: int | None = None
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection to the store; in a file, others wait meanwhile. Fetch inside, think outside.

        Args:
            memory_mb: what DuckDB may use for a file before it goes by way of the disk; none means most of the machine's memory.

        Raises:
            StoreError: the store is in use, cannot be written, or is none.
        """
        with self._open("anything", timeout_s=timeout_s, memory_mb=memory_mb) as connection:
            yield connection

    def _open(
        self, use: Use, *, timeout_s: float | None = None, memory_mb: int | None = None
    ) -> contextlib.AbstractContextManager[duckdb.DuckDBPyConnection]:
        return self._place.open(use, timeout_s=self.timeout_s if timeout_s is None else timeout_s, memory_mb=memory_mb)

    def append(
        self,
        records: Iterable[Record],
        *,
        new_only: bool = False,
        unless: Callable[[duckdb.DuckDBPyConnection], None] | None = None,
    ) -> int:
        """Write records as they are, of any mix of classes, in one transaction; returns how many rows were written.

        When this has returned, the rows are in the file. A batch that the database refuses is written row by row: a
        response at fault is stored as failed, with the reason.

        Args:
            new_only: leave out rows whose id stands in their table already (makes an import repeatable).
            unless: looks at the store before anything is written, while nobody else writes; what it raises leaves the store as it was.

        Raises:
            StoreError: nothing was written, or (after a refusal) all but the rows that the message names.
        """
        batches: dict[str, list[Record]] = {}
        count = 0
        for record in records:
            batches.setdefault(_TABLE_OF[type(record)], []).append(record)
            count += 1
        if not count:
            return 0
        try:
            return self._append(batches, new_only=new_only, unless=unless)
        except ServerGone:
            # What was looked at before it went may be our own rows by now: only the caller knows whether to look again.
            if unless is not None:
                raise
        self._place.wait_for_return(self.timeout_s)
        written = self._append(batches, new_only=True, unless=None)
        return written if new_only else count

    def _append(
        self,
        batches: dict[str, list[Record]],
        *,
        new_only: bool,
        unless: Callable[[duckdb.DuckDBPyConnection], None] | None,
    ) -> int:
        alone = new_only or unless is not None
        with self._open("alone" if alone else "writing", memory_mb=WRITING_MB) as connection:
            if unless is not None:
                unless(connection)

            def write(batches: dict[str, list[Record]]) -> int:
                return self._place.write(connection, batches, new_only=new_only, timeout_s=self.timeout_s, alone=alone)

            try:
                return write(batches)
            except _REFUSALS as error:
                return _write_singly(write, batches, self.url, cause=error)

    def read(self, query: str, parameters: Sequence[Any] | None = None) -> pd.DataFrame:
        """One query's result; times are aware, in UTC. For the package's own SQL, which lives in `queries.py`."""
        return self.query(lambda connection: fetch(connection, query, parameters))

    def query(self, work: Callable[[duckdb.DuckDBPyConnection], Answer]) -> Answer:
        """What `work` returns, with little memory if that will do. It must only read: where it will not do, it is begun again.

        All that it reads is of one state of the store.
        """
        try:
            with self._open("reading", memory_mb=READING_MB) as connection:
                return work(connection)
        except duckdb.OutOfMemoryException:
            pass
        except ServerGone:
            self._place.wait_for_return(self.timeout_s)
        with self._open("reading") as connection:
            return work(connection)

    def load(self, record: type[AnyRecord], query: str, parameters: Sequence[Any] | None = None) -> list[AnyRecord]:
        """One query's rows as records; the query gives the record's columns by name, others are passed over."""

        def rows(connection: duckdb.DuckDBPyConnection) -> tuple[list[str], list[Any]]:
            connection.execute(query, parameters) if parameters else connection.execute(query)
            return [column[0] for column in connection.description or ()], connection.fetchall()

        return from_rows(record, *self.query(rows))

    def sql(self, query: str, parameters: Sequence[Any] | None = None) -> pd.DataFrame:
        """One SELECT of yours as a DataFrame; times are aware, in UTC. Start from the views `answers` and `votes`.

        Raises:
            StoreError: it is not a single SELECT, is wrong, or took longer than 10 s (others wait meanwhile).
        """
        try:
            statements = duckdb.extract_statements(query)
        except duckdb.Error as error:
            raise StoreError(f"this SQL cannot be read: {first_line(error)}") from error
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT or _RUNS_ANYTHING.search(query):
            raise StoreError(
                "store.sql() runs a single SELECT; to change data, work on a copy of the store with duckdb itself"
            )
        self.must_exist()
        with self._open("reading") as connection:
            timer = threading.Timer(SQL_LIMIT_S, connection.interrupt)
            timer.start()
            try:
                return fetch(connection, query, parameters)
            except duckdb.InterruptException as error:
                raise StoreError(
                    f"this query took longer than {SQL_LIMIT_S:g} s, and others wait for the store meanwhile; "
                    f"{self._place.to_copy}"
                ) from error
            except duckdb.Error as error:
                raise StoreError(f"this SQL failed: {first_line(error)}") from error
            finally:
                timer.cancel()

    def merge(self, other: Store) -> dict[str, int]:
        """Copy every row of another store that this one lacks (by id); returns new rows by table.

        Raises:
            StoreError: the other is missing, in use, no store, or this very one.
        """
        if not other.exists():
            raise StoreError(f"{other.url}: there is no such store")
        mine, theirs = self._place.order(), other._place.order()
        if mine == theirs:
            raise StoreError(f"{other.url}: this is the store itself; name another one to merge into it")
        # Opening it once brings an older store to the present schema. Leases are taken in one order always, so that two
        # merges in opposite directions do not wait for each other for ever.
        with other.lease():
            pass
        with contextlib.ExitStack() as stack:
            if theirs < mine:
                stack.enter_context(other._place.hold(self.timeout_s))
            connection = stack.enter_context(self._open("alone"))
            if theirs > mine:
                stack.enter_context(other._place.hold(self.timeout_s))
            source = stack.enter_context(other._place.attach_to(connection))
            target = self._place.prefix()
            counts = {}
            connection.begin()
            for table, record in TABLES.items():
                columns = ", ".join(schema.columns(record))
                connection.execute(
                    f"INSERT INTO {target}{table} BY NAME SELECT {columns} FROM {source}{table} theirs "
                    f"WHERE NOT EXISTS (FROM {target}{table} mine WHERE {same(record)})"
                )
                counts[table] = int(scalar(connection))
            connection.commit()
        return counts


def _place(url: str) -> Place:
    scheme = url.partition(":")[0]
    if scheme in {"postgres", "postgresql"}:
        return PostgresPlace(url)
    if scheme == "ducklake":
        raise StoreError(
            "'ducklake:' stores are not supported yet; give the path of a file, such as loop.duckdb, or postgres:..."
        )
    return FilePlace(url)


# A table function that hands any statement on to Postgres.
_RUNS_ANYTHING = re.compile("postgres_execute", re.IGNORECASE)


def fetch(connection: duckdb.DuckDBPyConnection, query: str, parameters: Sequence[Any] | None = None) -> pd.DataFrame:
    """A query's result as a DataFrame whose times are aware, in UTC."""
    frame = connection.execute(query, parameters).df() if parameters else connection.execute(query).df()
    for name in frame.columns:
        if str(frame[name].dtype).startswith("datetime64[") and frame[name].dt.tz is None:
            frame[name] = frame[name].dt.tz_localize("UTC")
    return frame


def number(cell: Any) -> float | None:
    """What stands in a cell of such a frame, in a column of numbers; None where nothing does."""
    return None if pd.isna(cell) else float(cell)


def _unstorable(response: AIResponse, error: Exception) -> AIResponse:
    return AIResponse(
        id=response.id,
        request_id=response.request_id,
        output="",
        model_used="none",
        status=ProcessingStatus.FAILED,
        tokens_used=0,
        cost_usd=0.0,
        spent_usd=response.spent_usd,
        total_ms=response.total_ms,
        error_type="Unstorable",
        error=f"the database refused this answer: {first_line(error)}",
        created_at=response.created_at,
    )


def _write_singly(
    write: Callable[[dict[str, list[Record]]], int], batches: dict[str, list[Record]], url: str, *, cause: Exception
) -> int:
    """Row by row, after a whole batch was refused; a response at fault is stored as failed, with the reason."""
    written = 0
    refused: list[str] = []
    for table, records in batches.items():
        for record in records:
            try:
                written += write({table: [record]})
            except _REFUSALS as error:
                if isinstance(record, AIResponse):
                    written += write({table: [_unstorable(record, error)]})
                else:
                    refused.append(f"{table} {getattr(record, 'id', getattr(record, 'name', ''))}: {first_line(error)}")
    if refused:
        raise RowsRefused(f"{url}: {len(refused)} of the rows could not be stored: {'; '.join(refused[:3])}") from cause
    return written
