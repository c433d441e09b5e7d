"""Postgres databases as this process has them attached: one in-memory DuckDB with the extension, each database once."""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from feedbackloop import schema
from feedbackloop.errors import MissingDependency
from feedbackloop.models import TABLES
from feedbackloop.places.inserts import first_line
from feedbackloop.places.server_url import ServerUrl

SCHEMA = "feedbackloop"
"""Where the tables live in the database: names such as `cases` and `runs` others have as well."""

_GONE = re.compile(
    r"server closed the connection|terminating connection|unable to connect|no connection to the server|connection to server"
    r"|could not (send|receive) data|SSL (connection|SYSCALL)|connection (has been closed|not open|is closed|reset)"
    r"|system is (starting up|shutting down)|in recovery mode"
    r'|query "[^"]*": *$',  # on a connection that is known to be closed, it gives no reason
    re.IGNORECASE,
)

_REFUSAL = re.compile(
    r"ERROR: +(permission denied|cannot execute|could not extend|canceling|deadlock|out of|disk full)"
)


@dataclass(eq=False)
class Attached:
    """A database under its name in the in-memory connection."""

    memory: duckdb.DuckDBPyConnection
    name: str
    is_ready: bool = False
    """Whether the tables are known to be there, at their present version, and the views."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while that is seen to."""

    @property
    def path(self) -> str:
        """Where names are looked for: the views in memory, then the tables in Postgres."""
        return f"memory.{self.name},{self.name}.{SCHEMA}"

    @property
    def tables(self) -> str:
        """What goes before a table's name where it is written to."""
        return f"{self.name}.{SCHEMA}."


class _Process:
    """What belongs to this process; a forked one begins anew, and leaves its parent's alone."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.memory: duckdb.DuckDBPyConnection | None = None
        self.databases: dict[tuple[str, str | None], Attached] = {}


_numbers = itertools.count(1)
_processes = [_Process()]


def _here() -> _Process:
    return _processes[-1]


os.register_at_fork(after_in_child=lambda: _processes.append(_Process()))


def get(server: ServerUrl, timeout_s: float) -> Attached:
    """The database, attached if it is not yet.

    Raises:
        MissingDependency: DuckDB's extension is not there.
        duckdb.Error: the server does not answer, or refuses.
    """
    process = _here()
    found = process.databases.get(_key(server))
    if found is not None:
        return found
    with process.lock:
        found = process.databases.get(_key(server))
        if found is None:
            if process.memory is None:
                memory = duckdb.connect(":memory:", config=_config())
                load_extension(memory)
                memory.execute("SET GLOBAL TimeZone='UTC'")
                process.memory = memory
            found = Attached(process.memory, f"store_{next(_numbers)}")
            with process.memory.cursor() as cursor:
                attach(cursor, found.name, server, timeout_s)
            process.databases[_key(server)] = found
    return found


def forget(server: ServerUrl) -> None:
    """Close the connections to a database."""
    process = _here()
    with process.lock:
        found = process.databases.pop(_key(server), None)
        if found is not None:
            with found.memory.cursor() as cursor:
                cursor.execute(f"DROP SCHEMA IF EXISTS memory.{found.name} CASCADE")
                cursor.execute(f"DETACH {found.name}")


def attach(cursor: duckdb.DuckDBPyConnection, name: str, server: ServerUrl, timeout_s: float) -> None:
    """Attach a database by this name.

    Raises:
        duckdb.Error: the server does not answer, or refuses.
    """
    dsn = server.connection_string(
        connect_timeout=str(max(2, round(timeout_s))),  # libpq knows no shorter one
        client_encoding="UTF8",
        fallback_application_name="feedbackloop",
    )
    options = f"TYPE postgres, SCHEMA '{SCHEMA}'"
    if server.password is not None:
        # Not in the connection string: DuckDB's errors repeat that, and lists of databases show it.
        cursor.execute(
            f"CREATE OR REPLACE TEMPORARY SECRET {name} (TYPE postgres, PASSWORD {_literal(server.password)})"
        )
        options += f", SECRET {name}"
    cursor.execute(f"ATTACH {_literal(dsn)} AS {name} ({options})")


def make_views(cursor: duckdb.DuckDBPyConnection, here: Attached) -> None:
    """Make the views, in memory: their SQL is DuckDB's.

    So is JSON as a type: a column of Postgres's JSON arrives as text. Each table has a view of its name, which makes it JSON.
    """
    cursor.execute("CALL pg_clear_cache()")  # the tables may be another process's, made since this one looked
    cursor.execute(f"CREATE SCHEMA IF NOT EXISTS memory.{here.name}")
    for table, record in TABLES.items():
        # Column by column: a view of all columns breaks when a newer feedbackloop adds one meanwhile.
        columns = ", ".join(
            f"CAST({name} AS JSON) AS {name}" if column.type == "JSON" else name
            for name, column in schema.columns(record).items()
        )
        cursor.execute(
            f"CREATE OR REPLACE VIEW memory.{here.name}.{table} AS SELECT {columns} FROM {here.tables}{table}"
        )
    cursor.execute(f"SET search_path = '{here.path}'")
    schema.create_views(cursor, f"memory.{here.name}.")


def load_extension(connection: duckdb.DuckDBPyConnection) -> None:
    """Load DuckDB's postgres extension: from its Python package, else as it is installed, else from the network.

    Raises:
        MissingDependency: it is nowhere.
    """
    file = packaged_extension()
    try:
        connection.execute(f"LOAD {_literal(str(file))}" if file else "LOAD postgres")
    except duckdb.Error:
        try:
            connection.execute("INSTALL postgres")
            connection.execute("LOAD postgres")
        except duckdb.Error as error:
            raise MissingDependency(
                f"a postgres store needs DuckDB's extension, which DuckDB {duckdb.__version__} has not here: "
                "pip install 'feedbackloop[shared]' (DuckDB 1.5.5), or on line: python -c \"import duckdb; duckdb.sql('INSTALL postgres')\""
            ) from error


def packaged_extension() -> Path | None:
    """The extension's file in the package of the extra `shared`, if it is for this very DuckDB."""
    found = importlib.util.find_spec("duckdb_extension_postgres_scanner")
    for folder in (found.submodule_search_locations or []) if found else []:
        file = Path(folder) / "extensions" / f"v{duckdb.__version__}" / "postgres_scanner.duckdb_extension"
        if file.is_file():
            return file
    return None


def wait_for(here: Attached, timeout_s: float) -> None:
    """Ask until the server answers again.

    Raises:
        duckdb.Error: it did not.
    """
    deadline = time.monotonic() + timeout_s
    waiting = threading.Event()  # never set: its wait is a sleep that tests of time leave alone
    pause = 0.05
    while True:
        with here.memory.cursor() as cursor:
            try:
                cursor.execute(f"FROM postgres_query('{here.name}', 'SELECT 1')").fetchall()
            except duckdb.Error:
                if time.monotonic() >= deadline:
                    raise
            else:
                return
        waiting.wait(pause)
        pause = min(pause * 1.5, 1.0)


def is_gone(error: duckdb.Error) -> bool:
    """Whether the connection broke, or none could be made."""
    return _GONE.search(str(error)) is not None


def is_refusal(error: duckdb.Error) -> bool:
    """Whether the server would not do it, whatever the rows are."""
    return _REFUSAL.search(str(error)) is not None


def reason(error: BaseException) -> str:
    """What a server or the driver says, without the query or the connection string that they repeat."""
    text = str(error).strip()
    if match := re.search(r'Unable to connect to Postgres at ".*": (.*)', text, re.DOTALL):
        return f"the database cannot be opened: {' '.join(match[1].split())}"
    if match := re.search(r"(?:ERROR|FATAL): +([^\n]*)", text):
        return f"the server says: {match[1]}"
    return first_line(error)


def _key(server: ServerUrl) -> tuple[str, str | None]:
    return server.connection_string(), server.password


def _config() -> dict[str, Any]:
    return {
        # Looking for extensions on the network costs an off-line machine 1.5 s at the first insert.
        "autoinstall_known_extensions": "false",
        # What does not fit into memory; the folder is made when it is needed, and deleted at the end.
        "temp_directory": str(Path(tempfile.gettempdir()) / f"feedbackloop-{os.getpid()}.tmp"),
    }


def _literal(text: str) -> str:
    escaped = text.replace("'", "''")
    return f"'{escaped}'"
