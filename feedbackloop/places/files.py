"""A DuckDB file that many processes share.

DuckDB lets one process write to a file. So each operation takes a lease (an exclusive `flock` on `<file>.lease`), attaches the
file to an in-memory connection that stays (5 ms, where opening a database anew takes 20), works, detaches it, and gives the lease
back: the app, a run and a notebook use one file at the same time. Whoever waits too long is told who holds it. What was written
is in the file.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import duckdb

from feedbackloop import schema
from feedbackloop.errors import StoreError
from feedbackloop.lease import Lease
from feedbackloop.models import TABLES
from feedbackloop.places.inserts import first_line, insert, scalar
from feedbackloop.places.place import Batches, Use
from feedbackloop.rows import to_arrow

# A new file is written in this version's format: one in DuckDB 2.0's own does not open on 1.5.
_NEW = "(STORAGE_VERSION 'v1.5.0')"

_ALL_MEMORY = "RESET GLOBAL memory_limit"

MUCH_MB = 20
"""Rows of this size are written with all the memory that there is: squeezed, a batch of 200 MB takes 30 s instead of 4."""

_of_parents: list[duckdb.DuckDBPyConnection] = []


class FilePlace:
    """A file, made at the first write."""

    is_shared = False
    to_copy = "copy the file and work on the copy: duckdb.connect('copy.duckdb').sql(...)"

    def __init__(self, url: str) -> None:
        self.url = url
        self.path = Path(url).absolute()
        self.address = str(self.path)
        self.folder = self.path.parent
        self._lease = Lease(self.path)
        self._ready_inode: int | None = None
        self._memory: duckdb.DuckDBPyConnection | None = None
        self._memory_pid = 0

    def exists(self) -> bool:
        """Whether there is a file yet."""
        return self.path.is_file()

    def version(self) -> tuple[int | str, ...]:
        """Of the file and what is still to be moved into it: the newest change, and the size."""
        total = newest = 0
        for file in (self.path, self.path.with_name(self.path.name + ".wal")):
            with contextlib.suppress(FileNotFoundError):
                stat = file.stat()
                total += stat.st_size
                newest = max(newest, stat.st_mtime_ns)
        return newest, total

    @contextlib.contextmanager
    def open(self, use: Use, *, timeout_s: float, memory_mb: int | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection with the file attached, under the lease, which keeps all others out whatever it is for."""
        del use
        with self._lease(timeout_s):
            memory = self._attach()
            try:
                # A cursor is a connection of its own: what is left open on it, a transaction or a result, ends with it.
                connection = memory.cursor()
                try:
                    connection.execute(f"SET GLOBAL memory_limit='{memory_mb}MB'" if memory_mb else _ALL_MEMORY)
                    self._open(connection)
                    yield connection
                except duckdb.OutOfMemoryException:
                    raise  # the store begins again with more
                except (duckdb.IOException, duckdb.FatalException, duckdb.InternalException) as error:
                    raise StoreError(f"{self.url}: this file cannot be used: {first_line(error)}") from error
                finally:
                    connection.close()
            finally:
                self._detach(memory)

    def write(
        self, connection: duckdb.DuckDBPyConnection, batches: Batches, *, new_only: bool, timeout_s: float, alone: bool
    ) -> int:
        """Write all of it or nothing; returns how many rows."""
        del timeout_s, alone
        script = ["BEGIN"]
        size_mb = 0.0
        for table, records in batches.items():
            incoming = to_arrow(records)
            size_mb += incoming.nbytes / 1e6
            connection.register(f"incoming_{table}", incoming)
            script.append(insert(table, TABLES[table], table if new_only else None))
        try:
            if size_mb > MUCH_MB:
                connection.execute(_ALL_MEMORY)
            before = _count(connection, batches) if new_only else 0
            # One script and not a call for each statement: every call waits anew for Python's lock, which a busy run holds.
            connection.execute("; ".join([*script, "COMMIT"]))
            return (
                _count(connection, batches) - before if new_only else sum(len(records) for records in batches.values())
            )
        except BaseException:
            # Where it failed before BEGIN or within COMMIT there is nothing to undo.
            with contextlib.suppress(duckdb.Error):
                connection.rollback()
            raise
        finally:
            for table in batches:
                connection.unregister(f"incoming_{table}")

    def hold(self, timeout_s: float) -> contextlib.AbstractContextManager[None]:
        """Keep others out of the file."""
        return self._lease(timeout_s)

    @contextlib.contextmanager
    def attach_to(self, connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
        """Make the tables readable on another store's connection; the file has to be held."""
        name = f"other_{os.getpid()}_{id(self)}"
        place = str(self.path).replace("'", "''")
        connection.execute(f"ATTACH '{place}' AS {name} (READ_ONLY)")
        try:
            yield f"{name}."
        finally:
            connection.execute(f"DETACH {name}")

    def prefix(self) -> str:
        """Nothing."""
        return ""

    def order(self) -> str:
        """The path: two merges in opposite directions do not wait for each other for ever."""
        return f"file:{self.path.resolve()}"

    def wait_for_return(self, timeout_s: float) -> None:
        """A file does not go away."""

    def close(self) -> None:
        """Give back the connection."""
        if self._memory is not None and self._memory_pid == os.getpid():
            self._memory.close()
            self._memory = None

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
            raise StoreError(f"{self.url}: this file cannot be opened as a store: {first_line(error)}") from error
        return self._memory

    def _open(self, connection: duckdb.DuckDBPyConnection) -> None:
        try:
            connection.execute("USE store")
            inode = self.path.stat().st_ino
            if inode != self._ready_inode:
                schema.migrate(connection, self.url)
                self._ready_inode = inode
        except duckdb.Error as error:
            raise StoreError(f"{self.url}: this is not a feedbackloop store: {first_line(error)}") from error

    def _detach(self, memory: duckdb.DuckDBPyConnection) -> None:
        try:
            memory.execute("DETACH store")
        except duckdb.Error:
            # Whatever holds on to the file goes with the connection; the lease must not be given back before.
            memory.close()
            self._memory = None


def _count(connection: duckdb.DuckDBPyConnection, tables: Iterable[str]) -> int:
    total = 0
    for table in tables:
        connection.execute(f"SELECT count(*) FROM {table}")
        total += int(scalar(connection))
    return total
