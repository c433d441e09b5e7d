"""What works on this machine: one check each for what the rest of the package rests on. Needs no network and no settings."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib.metadata
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from feedbackloop import providers, queries
from feedbackloop.bundled import bundled
from feedbackloop.errors import AuthenticationFailed, FeedbackLoopError, MissingDependency, ProviderError, StoreError
from feedbackloop.settings import FILE, Settings
from feedbackloop.store import Store
from feedbackloop.wording import count

PACKAGES = ("duckdb", "pydantic", "pandas", "pyarrow", "openai", "genai-prices", "jinja2", "streamlit", "typer", "rich")
"""Whose versions are worth a line in a bug report."""

STORE_TIMEOUT_S = 3.0
LITTLE_SPACE = 1_000_000_000
NO_SPACE = 100_000_000


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: Literal["ok", "warning", "problem"]
    found: str
    advice: str | None = None
    """What to do about it."""


async def examine(store: str | None = None, directory: str | Path | None = None) -> list[Check]:
    """Look at everything, in the order in which one thing rests on another.

    Args:
        store: its URL; by default what the settings say.
        directory: where `feedbackloop.toml` is looked for; the working directory unless given.
    """
    settings, check = _settings(store, directory)
    endpoints = await asyncio.gather(*(_provider(name, settings) for name in _provider_names(settings)))
    return [_python(), _packages(), check, *endpoints, *_places(settings.store), *_extras(), _files()]


def _python() -> Check:
    return Check("python", "ok", f"Python {platform.python_version()} on {platform.system()} {platform.machine()}")


def _packages() -> Check:
    versions = {name: _version(name) for name in ("feedbackloop", *PACKAGES)}
    versions["feedbackloop"] = versions["feedbackloop"] or "(from source)"
    found = ", ".join(f"{name} {version or '(not installed)'}" for name, version in versions.items())
    if missing := [name for name in PACKAGES if versions[name] is None]:
        return Check("packages", "problem", found, f"pip install {' '.join(missing)}")
    return Check("packages", "ok", found)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _settings(store: str | None, directory: str | Path | None) -> tuple[Settings, Check]:
    file = Path(directory or Path.cwd()) / FILE
    try:
        settings = Settings.load(directory, store=store)
    except FeedbackLoopError as error:
        return _defaults(store), Check("settings", "problem", str(error), "the checks below assume the defaults")
    if not file.is_file():
        return settings, Check("settings", "ok", f"no {FILE} here: the defaults are in force")
    return settings, Check("settings", "ok", f"{file} is valid")


def _defaults(store: str | None) -> Settings:
    return Settings(store=store) if store else Settings()


def _provider_names(settings: Settings) -> list[str]:
    """Those that ask somebody else: the default one, and all that have a table."""
    return list(dict.fromkeys([settings.default_provider, *settings.providers]))


async def _provider(name: str, settings: Settings) -> Check:
    what = f"provider {name}"
    try:
        provider = providers.create(name, settings)
    except FeedbackLoopError as error:
        return Check(what, "problem", str(error), f"mend it in {FILE}")
    reachable = getattr(provider, "reachable", None)
    if reachable is None:
        return Check(what, "ok", "needs neither a key nor a network")
    key = _key(name, settings)
    try:
        # Before the network: without a key there is nothing to try, and nobody is told that we are here.
        if (prepare := getattr(provider, "prepare", None)) is not None:
            prepare(f"{name}:doctor")
    except FeedbackLoopError as error:
        advice = "models can be asked when it is set; the demo, simulated and recorded models need none"
        return Check(what, "warning", str(error), advice)
    try:
        return Check(what, "ok", f"{await reachable()}; {key}")
    except AuthenticationFailed as error:
        return Check(what, "problem", str(error))
    except ProviderError as error:
        return Check(what, "warning", f"{error}; {key}", "nothing can be asked there at present")
    finally:
        if (aclose := getattr(provider, "aclose", None)) is not None:
            await aclose()


def _key(name: str, settings: Settings) -> str:
    table = settings.providers.get(name)
    variable = table.api_key_env if table and table.api_key_env else "OPENAI_API_KEY" if name == "openai" else None
    if variable is None:
        return "it wants no key"
    return f"its key is in {variable}" if os.environ.get(variable) else f"{variable} is not set, and it wants no key"


def _places(url: str) -> list[Check]:
    try:
        store = Store(url, timeout_s=STORE_TIMEOUT_S)
    except StoreError as error:
        return [Check("store", "problem", str(error), "name another one with --store"), _space(Path.cwd())]
    if store.is_shared:
        return [_shared(store), _space(store.folder)]
    return [_store(store), _locks(store.folder), _space(store.folder)]


def _store(store: Store) -> Check:
    try:
        if not store.exists():
            with _scratch(store.folder):
                return Check("store", "ok", f"{store.url} is not there yet; the first run makes it")
        if not os.access(store.path, os.W_OK):
            return Check(
                "store", "problem", f"{store.url} cannot be written", "change its permissions, or name another --store"
            )
        held = _held(store)
    except StoreError as error:
        return Check("store", "problem", str(error))
    except OSError as error:
        return Check("store", "problem", f"{store.url}: {error.strerror}", "name another place with --store")
    size = store.path.stat().st_size / 1e6
    return Check("store", "ok", f"{store.url} can be written; {size:,.1f} MB, {held}")


def _shared(store: Store) -> Check:
    """A store on a server. What it lets us do, its own answers tell: nothing is written to try."""
    try:
        if not store.exists():
            return Check("store", "ok", f"{store.url} can be reached, and is empty; the first run makes its tables")
        held = _held(store)
    except MissingDependency as error:
        return Check("store", "problem", str(error))
    except StoreError as error:
        return Check(
            "store", "problem", str(error), "see that the server runs and can be reached from here, and who may log in"
        )
    return Check("store", "ok", f"{store.url} can be reached; {held}")


def _held(store: Store) -> str:
    with store.lease() as connection:
        row = connection.execute("SELECT max(version) FROM schema_version").fetchone()
    counts = queries.counts(store)
    held = ", ".join(count(counts[f"{noun}s"], noun) for noun in ("run", "answer", "vote"))
    return f"schema {row[0] if row else '?'}, {held}"


def _locks(folder: Path) -> Check:
    """Whether a lock keeps others out: on some network file systems it does not, and two writers would spoil the file."""
    advice = "keep the store on a local disk"
    try:
        with _scratch(folder) as file, file.open("rb") as first, file.open("rb") as second:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return Check("file locks", "ok", f"they work in {folder}")
    except OSError as error:
        return Check("file locks", "problem", f"{folder}: {error.strerror}", advice)
    return Check("file locks", "problem", f"{folder}: two programs can hold the same lock", advice)


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".feedbackloop-doctor-") as file:
        yield Path(file.name)


def _space(folder: Path) -> Check:
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Check("disk space", "problem", f"{folder}: {error.strerror}")
    found = f"{free / 1e9:,.1f} GB free in {folder}"
    if free < NO_SPACE:
        return Check("disk space", "problem", found, "make room before the next run")
    if free < LITTLE_SPACE:
        return Check("disk space", "warning", found, "10,000 answers take some 20 MB")
    return Check("disk space", "ok", found)


def _extras() -> list[Check]:
    """The package's extras but those of developers: which of their packages are here."""
    needed: dict[str, list[str]] = {}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for line in importlib.metadata.requires("feedbackloop") or []:
            found = re.match(r"([\w.-]+).*extra == ['\"]([\w-]+)['\"]", line)
            if found and found[2] != "dev":
                needed.setdefault(found[2], []).append(found[1])
    checks = []
    for extra, names in needed.items():
        missing = [name for name in names if _version(name) is None]
        state = f"not installed (pip install 'feedbackloop[{extra}]' if you need it)" if missing else "installed"
        checks.append(Check(f"extra {extra}", "ok", state))
    return checks


def _files() -> Check:
    try:
        return Check("demo data", "ok", f"in {bundled('data')}")
    except FeedbackLoopError as error:
        return Check("demo data", "problem", str(error))
