"""A Postgres server of the tests' own, on a free port of loopback, in a folder that goes with it."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Self
from urllib.parse import quote

from feedbackloop.places.attached import packaged_extension

PASSWORD = "p@ss wo'rd/:%"
"""With everything that makes a password hard to carry."""


def binaries() -> Path | None:
    """The folder of the newest installed server's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda file: int(file.parts[-3]))
    on_path = shutil.which("postgres")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def why_not() -> str | None:
    """Why no test can use Postgres here."""
    if packaged_extension() is None:
        return "this DuckDB has no postgres extension here: it comes with pip install -e '.[dev,shared]'"
    if binaries() is None:
        return "no Postgres server is installed: apt-get install postgresql"
    if os.geteuid() == 0 and shutil.which("runuser") is None:
        return "Postgres does not run as root, and there is no runuser"
    return None


class PostgresServer:
    """Started when entered, stopped and deleted when left."""

    def __init__(self) -> None:
        found = binaries()
        assert found is not None
        self._binaries = found
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="feedbackloop-postgres-"))
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        options = "-U postgres -A scram-sha-256 -E UTF8 --locale=C --no-sync"
        self._run("initdb", "-D", str(self.data), *options.split(), f"--pwfile={secret}")
        self.start()
        self.execute("CREATE DATABASE test")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def start(self) -> None:
        # fsync is for power cuts, which the tests do not have.
        settings = (
            f"-p {self.port} -h 127.0.0.1 -c unix_socket_directories= -c fsync=off -c max_connections=200 -c jit=off"
        )
        self._run("pg_ctl", "-D", str(self.data), "-w", "-l", str(self.folder / "log"), "-o", settings, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self.data), "-w", "-m", "immediate", "stop")

    def url(self, database: str, *, user: str = "postgres", password: str = PASSWORD) -> str:
        return f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def make_database(self) -> str:
        """A new, empty database; its URL."""
        name = f"another{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def execute(self, statement: str, database: str = "postgres") -> str:
        """Run SQL as nobody's store would."""
        place = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-d", database]
        return self._run("psql", *place, "-qtAc", statement, PGPASSWORD=PASSWORD).strip()

    def _run(self, program: str, *arguments: str, **environment: str) -> str:
        as_postgres = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 and program != "psql" else []
        done = subprocess.run(
            [*as_postgres, str(self._binaries / program), *arguments],
            env={**os.environ, "LC_ALL": "C", **environment},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if program == "psql" else subprocess.DEVNULL,  # a server would keep a pipe open
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{program}: {done.stdout}"
        return done.stdout or ""
