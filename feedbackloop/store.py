"""Where everything lives: append-only tables, one per record class, in one DuckDB file that many processes share.

DuckDB lets one process write to a file. So each operation takes a lease (an exclusive `flock` on `<file>.lease`), attaches the
file to an in-memory connection that stays (5 ms, where opening a database anew takes 20), works, detaches it, and gives the lease
back: the app, a run and a notebook use one file at the same time. Whoever waits too long is told who holds it. What `append` has
returned from is in the file.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pandas as pd
import pyarrow as pa

from feedbackloop import schema
from feedbackloop.errors import RowsRefused, StoreError
from feedbackloop.lease import Lease
from feedbackloop.models import TABLES, AIResponse, ProcessingStatus, Record
from feedbackloop.rows import AnyRecord, from_rows, to_arrow

# A new file is written in this version's format: one in DuckDB 2.0's own does not open on 1.5.
_NEW = "(STORAGE_VERSION 'v1.5.0')"

WRITING_MB = 100
READING_MB = 200
"""What the package's own writes and reads make do with, by way of the disk. DuckDB by itself takes what it likes: for a checkpoint
of a million answers 800 MB, for their summary 1.3 GB."""

SQL_LIMIT_S = 10.0
"""How long a query of `Store.sql` may hold the lease."""

_ALL_MEMORY = "RESET GLOBAL memory_limit"

Answer = TypeVar("Answer")

_TABLE_OF: dict[type[Record], str] = {record: table for table, record in TABLES.items()}


_of_parents: list[duckdb.DuckDBPyConnection] = []


class Store:
    """A store by its URL: a path of a DuckDB file, made at the first write.

    Args:
        url: the file's path.
        timeout_s: how long an operation waits for other users of the file before it gives up and names them.

    Raises:
        StoreError: the URL is of a kind that this version does not know.
    """

    def __init__(self, url: str | os.PathLike[str] = "loop.duckdb", *, timeout_s: float = 30.0) -> None:
        self.url = os.fspath(url)
        scheme = self.url.partition(":")[0]
        if scheme in {"postgres", "postgresql", "ducklake"}:
            raise StoreError(f"'{scheme}:' stores are not supported yet; give the path of a file, such as loop.duckdb")
        self.path = Path(self.url).absolute()
        self.timeout_s = timeout_s
        self._lease = Lease(self.path)
        self._ready_inode: int | None = None
        self._memory: duckdb.DuckDBPyConnection | None = None
        self._memory_pid = 0

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    def exists(self) -> bool:
        """Whether there is a file yet."""
        return self.path.is_file()

    @property
    def version(self) -> tuple[int, int]:
        """Changes whenever something was written: what pages key their caches by."""
        total = newest = 0
        for file in (self.path, self.path.with_name(self.path.name + ".wal")):
            with contextlib.suppress(FileNotFoundError):
                stat = file.stat()
                total += stat.st_size
                newest = max(newest, stat.st_mtime_ns)
        return newest, total

    @contextlib.contextmanager
    def lease(
        self, *, timeout_s: float | None = None, memory_mb: int | None = None
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection with the file attached, under the lease. Fetch inside, think outside: others wait meanwhile.

        Args:
            memory_mb: what DuckDB may use before it goes by way of the disk; none means most of the machine's memory.

        Raises:
            StoreError: the file is in use, cannot be written, or is no store.
        """
        with self._lease(self.timeout_s if timeout_s is None else timeout_s):
            memory = self._attach()
            try:
                # A cursor is a connection of its own: what is left open on it, a transaction or a result, ends with it.
                connection = memory.cursor()
                try:
                    connection.execute(f"SET GLOBAL memory_limit='{memory_mb}MB'" if memory_mb else _ALL_MEMORY)
                    self._open(connection)
                    yield connection
                except duckdb.OutOfMemoryException:
                    raise  # `query` begins again with more
                except (duckdb.IOException, duckdb.FatalException, duckdb.InternalException) as error:
                    raise StoreError(f"{self.url}: this file cannot be used: {_first_line(error)}") from error
                finally:
                    connection.close()
            finally:
                self._detach(memory)

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
            unless: looks at the store before anything is written, under the same lease; what it raises leaves the store as it was.

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
        with self.lease(memory_mb=WRITING_MB) as connection:
            if unless is not None:
                unless(connection)
            try:
                return _write(connection, batches, new_only=new_only)
            except (duckdb.Error, pa.ArrowException, ValueError, OverflowError, UnicodeError) as error:
                return self._write_singly(connection, batches, new_only=new_only, cause=error)

    def read(self, query: str, parameters: Sequence[Any] | None = None) -> pd.DataFrame:
        """One query's result; times are aware, in UTC. For the package's own SQL, which lives in `queries.py`."""
        return self.query(lambda connection: fetch(connection, query, parameters))

    def query(self, work: Callable[[duckdb.DuckDBPyConnection], Answer]) -> Answer:
        """What `work` returns, with little memory if that will do. It must only read: where it will not do, it is begun again."""
        try:
            with self.lease(memory_mb=READING_MB) as connection:
                return work(connection)
        except duckdb.OutOfMemoryException:
            with self.lease() as connection:
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
            raise StoreError(f"this SQL cannot be read: {_first_line(error)}") from error
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise StoreError(
                "store.sql() runs a single SELECT; to change data, work on a copy of the file with duckdb itself"
            )
        if not self.exists():
            raise StoreError(
                f"{self.url}: there is no such store yet; `feedbackloop run` or `feedbackloop import` makes it"
            )
        with self.lease() as connection:
            timer = threading.Timer(SQL_LIMIT_S, connection.interrupt)
            timer.start()
            try:
                return fetch(connection, query, parameters)
            except duckdb.InterruptException as error:
                raise StoreError(
                    f"this query took longer than {SQL_LIMIT_S:g} s, and others wait for the store meanwhile; "
                    f"copy the file and work on the copy: duckdb.connect('copy.duckdb').sql(...)"
                ) from error
            except duckdb.Error as error:
                raise StoreError(f"this SQL failed: {_first_line(error)}") from error
            finally:
                timer.cancel()

    def merge(self, other: Store) -> dict[str, int]:
        """Copy every row of another store that this one lacks (by id); returns new rows by table.

        Raises:
            StoreError: the other is missing, in use, no store, or this very file.
        """
        if not other.exists():
            raise StoreError(f"{other.url}: there is no such store")
        if self.path.resolve() == other.path.resolve():
            raise StoreError(f"{other.url}: this is the store itself; name another one to merge into it")
        # Opening it once brings an older file to the present schema. Leases are taken in the order of paths, so that two
        # merges in opposite directions do not wait for each other for ever.
        with other.lease():
            pass
        with contextlib.ExitStack() as stack:
            if other.path < self.path:
                stack.enter_context(other._lease(self.timeout_s))
            connection = stack.enter_context(self.lease())
            if other.path > self.path:
                stack.enter_context(other._lease(self.timeout_s))
            place = str(other.path).replace("'", "''")
            connection.execute(f"ATTACH '{place}' AS other (READ_ONLY)")
            counts = {}
            connection.begin()
            for table, record in TABLES.items():
                columns = ", ".join(schema.columns(record))
                connection.execute(
                    f"INSERT INTO {table} BY NAME SELECT {columns} FROM other.{table} theirs "
                    f"WHERE NOT EXISTS (FROM {table} mine WHERE {_same(record)})"
                )
                counts[table] = int(_scalar(connection))
            connection.commit()
            connection.execute("DETACH other")
        return counts

    def _attach(self) -> duckdb.DuckDBPyConnection:
        # A forked process must not work on its parent's connection, nor close it: that waits for threads it has not got.
        if self._memory is not None and self._memory_pid != os.getpid():
            _of_parents.append(self._memory)
            self._memory = None
        if self._memory is None:
            config: dict[str, Any] = {
                # Looking for extensions on the network costs an off-line machine 1.5 s at the first insert.
                "autoinstall_known_extensions": "false",
                # What does not fit into memory goes beside the store, into a folder that this process deletes at its end.
                "temp_directory": f"{self.path}.{os.getpid()}.tmp",
            }
            self._memory, self._memory_pid = duckdb.connect(":memory:", config=config), os.getpid()
            self._memory.execute("SET GLOBAL TimeZone='UTC'")
        place = str(self.path).replace("'", "''")
        try:
            self._memory.execute(f"ATTACH '{place}' AS store {'' if self.exists() else _NEW}")
        except (duckdb.Error, OSError) as error:
            raise StoreError(f"{self.url}: this file cannot be opened as a store: {_first_line(error)}") from error
        return self._memory

    def _open(self, connection: duckdb.DuckDBPyConnection) -> None:
        try:
            connection.execute("USE store")
            inode = self.path.stat().st_ino
            if inode != self._ready_inode:
                schema.migrate(connection, self.url)
                self._ready_inode = inode
        except duckdb.Error as error:
            raise StoreError(f"{self.url}: this is not a feedbackloop store: {_first_line(error)}") from error

    def _detach(self, memory: duckdb.DuckDBPyConnection) -> None:
        try:
            memory.execute("DETACH store")
        except duckdb.Error:
            # Whatever holds on to the file goes with the connection; the lease must not be given back before.
            memory.close()
            self._memory = None

    def _write_singly(
        self,
        connection: duckdb.DuckDBPyConnection,
        batches: dict[str, list[Record]],
        *,
        new_only: bool,
        cause: Exception,
    ) -> int:
        written = 0
        refused: list[str] = []
        for table, records in batches.items():
            for record in records:
                try:
                    written += _write(connection, {table: [record]}, new_only=new_only)
                except (duckdb.Error, pa.ArrowException, ValueError, OverflowError, UnicodeError) as error:
                    if isinstance(record, AIResponse):
                        written += _write(connection, {table: [_unstorable(record, error)]}, new_only=new_only)
                    else:
                        refused.append(
                            f"{table} {getattr(record, 'id', getattr(record, 'name', ''))}: {_first_line(error)}"
                        )
        if refused:
            raise RowsRefused(
                f"{self.url}: {len(refused)} of the rows could not be stored: {'; '.join(refused[:3])}"
            ) from cause
        return written


def fetch(connection: duckdb.DuckDBPyConnection, query: str, parameters: Sequence[Any] | None = None) -> pd.DataFrame:
    """A query's result as a DataFrame whose times are aware, in UTC."""
    frame = connection.execute(query, parameters).df() if parameters else connection.execute(query).df()
    for name in frame.columns:
        if str(frame[name].dtype).startswith("datetime64[") and frame[name].dt.tz is None:
            frame[name] = frame[name].dt.tz_localize("UTC")
    return frame


def _write(connection: duckdb.DuckDBPyConnection, batches: dict[str, list[Record]], *, new_only: bool) -> int:
    script = ["BEGIN"]
    size_mb = 0.0
    for table, records in batches.items():
        incoming = to_arrow(records)
        size_mb += incoming.nbytes / 1e6
        connection.register(f"incoming_{table}", incoming)
        unless = f" WHERE NOT EXISTS (FROM {table} mine WHERE {_same(TABLES[table])})" if new_only else ""
        script.append(f"INSERT INTO {table} BY NAME SELECT * FROM incoming_{table} theirs{unless}")
    try:
        if size_mb > WRITING_MB / 5:
            connection.execute(_ALL_MEMORY)  # squeezed, a batch of 200 MB takes 30 s instead of 4
        before = _count(connection, batches) if new_only else 0
        # One script and not a call for each statement: every call waits anew for Python's lock, which a busy run holds.
        connection.execute("; ".join([*script, "COMMIT"]))
        return _count(connection, batches) - before if new_only else sum(len(records) for records in batches.values())
    except BaseException:
        with contextlib.suppress(
            duckdb.Error
        ):  # where it failed before BEGIN or within COMMIT there is nothing to undo
            connection.rollback()
        raise
    finally:
        for table in batches:
            connection.unregister(f"incoming_{table}")


def _count(connection: duckdb.DuckDBPyConnection, tables: Iterable[str]) -> int:
    return sum(int(_scalar(connection.execute(f"SELECT count(*) FROM {table}"))) for table in tables)


def _same(record: type[Record]) -> str:
    """SQL for: the row `theirs` stands in the table already."""
    return " AND ".join(f"mine.{key} IS NOT DISTINCT FROM theirs.{key}" for key in schema.identity(record))


def _scalar(connection: duckdb.DuckDBPyConnection) -> Any:
    rows = connection.fetchall()  # all: DuckDB 2.0 takes a result as unfinished until a fetch finds no more
    return rows[0][0] if rows else 0


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
        error=f"the database refused this answer: {_first_line(error)}",
        created_at=response.created_at,
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
