"""What holds for every test: no socket but loopback, a clean environment, no long sleeps, files in a temporary folder."""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser import CHROMIUM, FLAGS
from postgres_server import PostgresServer, why_not
from streamlit.components.v2 import manifest_scanner

from feedbackloop.store import Store

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SHARED = Path(__file__).parents[2] / "shared" / "data"

LONGEST_SLEEP_S = 0.3
"""Longer waits belong to an injected clock."""


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "FEEDBACKLOOP_", "PG")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def checked(inner: Callable[..., object]) -> Callable[..., object]:
        def guarded(self: socket.socket, address: object) -> object:
            if self.family in (socket.AF_INET, socket.AF_INET6):
                host = str(address[0])  # type: ignore[index]
                if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
                    pytest.fail(f"a test tried to reach {host}")
            return inner(self, address)

        return guarded

    monkeypatch.setattr(socket.socket, "connect", checked(connect))
    monkeypatch.setattr(socket.socket, "connect_ex", checked(connect_ex))


@pytest.fixture(autouse=True)
def _no_long_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    sleep, pause = asyncio.sleep, time.sleep

    async def short_sleep(delay: float, result: object = None) -> object:
        assert delay <= LONGEST_SLEEP_S, f"asyncio.sleep({delay}) in a test: inject a clock"
        return await sleep(delay, result)

    def short_pause(seconds: float) -> None:
        assert seconds <= LONGEST_SLEEP_S, f"time.sleep({seconds}) in a test: inject a clock"
        pause(seconds)

    monkeypatch.setattr(asyncio, "sleep", short_sleep)
    monkeypatch.setattr(time, "sleep", short_pause)


@pytest.fixture(autouse=True, scope="session")
def _packages_are_scanned_once() -> None:
    """Each AppTest has Streamlit look for components in all that is installed, which does not change meanwhile."""
    manifest_scanner.scan_component_manifests = functools.cache(manifest_scanner.scan_component_manifests)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data; tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("the folder with real data (../shared/data) is not here")
    return SHARED


@pytest.fixture
def store_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the app looks for its store: in the present folder, which is this test's own. Nothing is there yet."""
    path = tmp_path / "loop.duckdb"
    monkeypatch.setenv("FEEDBACKLOOP_STORE", str(path))
    monkeypatch.chdir(tmp_path)
    return path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No second to wait, for tests that vote as fast as they can."""
    monkeypatch.setattr("feedbackloop.comparisons.attention.READ_FOR_S", 0.0)
    monkeypatch.setattr("feedbackloop.comparisons.attention.APART_S", 0.0)


@pytest.fixture(scope="session")
def demo_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that holds the demo; copy it before writing to it."""
    from feedbackloop.demo import make_demo

    path = tmp_path_factory.mktemp("demo") / "demo.duckdb"
    # In a thread: where a browser is open, its driver's event loop runs in this one.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, make_demo(Store(path))).result()
    return path


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A real browser; tests that need it skip where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"there is no browser at {CHROMIUM}")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A real server on loopback; tests that need it skip where none can be started or DuckDB has no way to it."""
    if reason := why_not():
        pytest.skip(reason)
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A database that is empty: all tests have the same, since making one takes longer than emptying it."""
    postgres_server.execute("DROP SCHEMA IF EXISTS feedbackloop CASCADE", "test")
    url = postgres_server.url("test")
    yield url
    Store(url).close()


@pytest.fixture(params=["file", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a store can be, of each kind; nothing is there yet."""
    return str(tmp_path / "loop.duckdb") if request.param == "file" else request.getfixturevalue("postgres_url")


@pytest.fixture
def store(place: str) -> Store:
    """A store of each kind, not made yet."""
    return Store(place)
