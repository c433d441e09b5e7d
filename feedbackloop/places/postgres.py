"""A Postgres database that many machines share.

DuckDB's postgres extension attaches it to one in-memory connection per process, once; from then on it is read and written in
DuckDB's SQL like a file, but by any number of processes at once. The tables live in a schema of their own, `feedbackloop`; the
views are DuckDB's and live in memory, since their SQL is not Postgres's.

Writers share a lock that an append takes alone if it looks before it writes (`unless`, `new_only`): between look and write nobody
else writes, as in a file under its lease. It is a lock on a table and not an advisory one, because a transaction that waits for
the latter has chosen by then what it sees.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import duckdb
import pyarrow as pa

from feedbackloop import schema
from feedbackloop.errors import StoreError
from feedbackloop.models import TABLES, Record
from feedbackloop.places import attached
from feedbackloop.places.attached import SCHEMA, Attached
from feedbackloop.places.inserts import insert, scalar
from feedbackloop.places.place import Batches, ServerGone, Use
from feedbackloop.places.server_url import parse
from feedbackloop.rows import to_arrow

_LOCKED = f"{SCHEMA}.schema_version"
# These two exclude each other, the first excludes itself as well, and neither keeps anybody from reading.
_ALONE, _TOGETHER = "SHARE ROW EXCLUSIVE", "ROW EXCLUSIVE"

_MIGRATING = 0x666C6F6F70
"""The key of the advisory lock under which tables are made: there is none to lock before."""

CONNECT_S = 10
"""How long a server may take to accept a connection."""


class PostgresPlace:
    """A Postgres database, whose tables are made at the first write."""

    is_shared = True
    to_copy = "copy it into a file and work on that: fl.Store('copy.duckdb').merge(store)"

    def __init__(self, url: str) -> None:
        self._server = parse(url)
        self.url = self._server.shown
        self.address = url
        self.folder = Path.cwd()

    def exists(self) -> bool:
        """Whether the tables are there.

        Raises:
            StoreError: the server does not answer, or refuses.
        """
        here = self._attach(CONNECT_S)
        if here.is_ready:
            return True
        with self._cursor(here) as cursor:
            return _schema_version(cursor, here) > 0

    def version(self) -> tuple[int | str, ...]:
        """What the server calls a snapshot: which transactions are visible. It also moves on for those of other databases."""
        here = self._attach(CONNECT_S)
        with self._cursor(here) as cursor:
            return (str(_ask(cursor, here, "SELECT pg_current_snapshot()::text")[0][0]),)

    @contextlib.contextmanager
    def open(self, use: Use, *, timeout_s: float, memory_mb: int | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection of its own, on which the store's names are found; no other use waits for it but `alone`."""
        del memory_mb  # it would be the whole process's, where others work at the same time
        here = self._attach(timeout_s)
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(self._cursor(here))
            self._prepare(here)
            connection.execute(f"SET search_path = '{here.path}'")
            if use == "alone":
                stack.enter_context(self._alone(here, timeout_s))
            if use == "reading":
                connection.begin()  # so that all its queries see one state; it ends with the connection
            yield connection

    def write(
        self, connection: duckdb.DuckDBPyConnection, batches: Batches, *, new_only: bool, timeout_s: float, alone: bool
    ) -> int:
        """Write all of it or nothing; returns how many rows."""
        here = self._attach(timeout_s)
        script = ["BEGIN"]
        if not alone:
            script.append(_run(here, _lock(_TOGETHER, timeout_s)))
        count = sum(len(records) for records in batches.values())
        registered = []
        try:
            for table, records in batches.items():
                incoming = to_arrow(records)
                known = None
                if new_only:
                    known = f"known_{table}"
                    there = _known(connection, here, table, records)
                    registered.append(known)
                    connection.register(known, there)
                    count -= _standing(incoming, there, schema.identity(TABLES[table]))
                registered.append(f"incoming_{table}")
                connection.register(f"incoming_{table}", incoming)
                script.append(insert(table, TABLES[table], known, prefix=here.tables))
            connection.execute("; ".join([*script, "COMMIT"]))
        except BaseException as error:
            # Where it failed before BEGIN or within COMMIT there is nothing to undo.
            with contextlib.suppress(duckdb.Error):
                connection.rollback()
            if isinstance(error, duckdb.Error) and _says_more_than_the_rows(error):
                self._explain(error, timeout_s)
            raise
        else:
            return count
        finally:
            for name in registered:
                connection.unregister(name)

    def hold(self, timeout_s: float) -> contextlib.AbstractContextManager[None]:
        """Nothing: a merge reads one snapshot."""
        del timeout_s
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def attach_to(self, connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
        """Make the tables readable on another store's connection."""
        here = self._attach(CONNECT_S)
        connection.execute("SELECT 1 FROM duckdb_databases() WHERE database_name = ?", [here.name])
        if scalar(connection):  # two databases of this process
            yield here.tables
            return
        name = f"{here.name}_other"
        attached.load_extension(connection)
        attached.attach(connection, name, self._server, CONNECT_S)
        try:
            yield f"{name}.{SCHEMA}."
        finally:
            connection.execute(f"DETACH {name}")

    def prefix(self) -> str:
        """The tables themselves: their bare names are those of views."""
        return self._attach(CONNECT_S).tables

    def order(self) -> str:
        """The database as it is named; by two names, it merely finds nothing new in itself."""
        return f"postgres:{self._server.connection_string()}"

    def wait_for_return(self, timeout_s: float) -> None:
        """Ask until the server answers again."""
        try:
            attached.wait_for(self._attach(timeout_s), timeout_s)
        except duckdb.Error as error:
            raise StoreError(f"{self.url}: {attached.reason(error)}") from error

    def close(self) -> None:
        """Close the connections of this process to the database; other stores on it open new ones."""
        attached.forget(self._server)

    def _attach(self, timeout_s: float) -> Attached:
        try:
            return attached.get(self._server, min(timeout_s, CONNECT_S))
        except duckdb.Error as error:
            raise StoreError(f"{self.url}: {attached.reason(error)}") from error

    @contextlib.contextmanager
    def _cursor(self, here: Attached) -> Iterator[duckdb.DuckDBPyConnection]:
        cursor = here.memory.cursor()
        try:
            yield cursor
        except duckdb.Error as error:
            if _says_more_than_the_rows(error):
                self._explain(error, None)
            raise
        finally:
            # A transaction whose server has gone must not be left to `close`: failing there ends the whole process.
            with contextlib.suppress(duckdb.Error):
                cursor.rollback()
            cursor.close()

    def _explain(self, error: duckdb.Error, timeout_s: float | None) -> NoReturn:
        reason = attached.reason(error)
        if attached.is_gone(error):
            raise ServerGone(f"{self.url}: {reason}") from error
        if "lock timeout" in str(error) and timeout_s is not None:
            reason = f"others have been writing for {timeout_s:g} s without a break; try again"
        raise StoreError(f"{self.url}: {reason}") from error

    @contextlib.contextmanager
    def _alone(self, here: Attached, timeout_s: float) -> Iterator[None]:
        """Hold the lock on a connection beside the one that works, which may begin and end transactions under it."""
        with self._cursor(here) as guard:
            guard.begin()
            try:
                guard.execute(_run(here, _lock(_ALONE, timeout_s)))
            except duckdb.Error as error:
                self._explain(error, timeout_s)
            yield

    def _prepare(self, here: Attached) -> None:
        """Have the tables, at their present version, and the views, once for each process."""
        with here.lock:
            if here.is_ready:
                return
            with self._cursor(here) as guard, self._cursor(here) as cursor:
                if _schema_version(cursor, here) != len(schema.MIGRATIONS):
                    guard.begin()
                    guard.execute(_run(here, f"SELECT pg_advisory_xact_lock({_MIGRATING})"))
                    # Only now, in a transaction begun after those who were first have ended theirs.
                    self._migrate(cursor, here)
                attached.make_views(cursor, here)
            here.is_ready = True

    def _migrate(self, cursor: duckdb.DuckDBPyConnection, here: Attached) -> None:
        version = _schema_version(cursor, here)
        if not version:
            cursor.begin()
            cursor.execute(_run(here, f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
            cursor.execute(f"USE {here.name}.{SCHEMA}")
            schema.create_whole(cursor)
            for table, record in TABLES.items():
                # What `new_only` looks for.
                cursor.execute(_run(here, f"CREATE INDEX ON {SCHEMA}.{table} ({schema.identity(record)[0]})"))
            cursor.commit()
            return
        cursor.execute("CALL pg_clear_cache()")
        cursor.execute(f"USE {here.name}.{SCHEMA}")
        schema.upgrade(cursor, self.url, version, views=False)


def _schema_version(cursor: duckdb.DuckDBPyConnection, here: Attached) -> int:
    """0 where there is no store yet."""
    if _ask(cursor, here, f"SELECT to_regclass('{_LOCKED}')::text")[0][0] is None:
        return 0
    return int(_ask(cursor, here, f"SELECT coalesce(max(version), 0) FROM {_LOCKED}")[0][0])


def _ask(cursor: duckdb.DuckDBPyConnection, here: Attached, query: str) -> list[Any]:
    cursor.execute(f"FROM postgres_query('{here.name}', ?)", [query])
    return cursor.fetchall()


def _run(here: Attached, statement: str) -> str:
    """DuckDB's SQL for a statement in Postgres's own, within the transaction at hand."""
    escaped = statement.replace("'", "''")
    return f"CALL postgres_execute('{here.name}', '{escaped}')"


def _lock(mode: str, timeout_s: float) -> str:
    return f"SET LOCAL lock_timeout = {max(1, math.ceil(timeout_s * 1000))}; LOCK TABLE {_LOCKED} IN {mode} MODE"


def _known(connection: duckdb.DuckDBPyConnection, here: Attached, table: str, records: Sequence[Record]) -> pa.Table:
    """Identities of rows that are there already and could be those of these records: the server looks, by its index."""
    keys = schema.identity(TABLES[table])
    values = json.dumps([getattr(record, keys[0]) for record in records]).replace("'", "''")
    query = (
        f"SELECT {', '.join(keys)} FROM {SCHEMA}.{table} "
        f"WHERE {keys[0]} IN (SELECT json_array_elements_text('{values}'::json))"
    )
    connection.execute(f"FROM postgres_query('{here.name}', ?)", [query])
    return connection.to_arrow_table()


def _standing(incoming: pa.Table, known: pa.Table, keys: Sequence[str]) -> int:
    there = set(zip(*(known[key].to_pylist() for key in keys), strict=True))
    return sum(row in there for row in zip(*(incoming[key].to_pylist() for key in keys), strict=True))


def _says_more_than_the_rows(error: duckdb.Error) -> bool:
    """Whether an error is of the server or the way to it, so that writing row by row would not help."""
    if isinstance(error, duckdb.InterruptException):
        return False
    return attached.is_gone(error) or isinstance(error, duckdb.IOException) or attached.is_refusal(error)
