"""A Chromium and a running app, for tests that look at what people see."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
FINISHED = "[data-testid=stApp][data-test-script-state=notRunning]"
"""The page's script has run to its end."""

_pause = time.sleep


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_app(store: Path, folder: Path, script: Path = ROOT / "app.py", **environment: str) -> Iterator[str]:
    """The app, or another page, on a store, from a folder; gives its address. Its log is app.log there."""
    port = free_port()
    command = [sys.executable, "-m", "streamlit", "run", str(script)]
    with (folder / "app.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--server.headless=true", f"--server.port={port}", "--server.fileWatcherType=none"],
            cwd=folder,
            env={**os.environ, "FEEDBACKLOOP_STORE": str(store), "PYTHONPATH": str(ROOT), **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        until = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(f"{url}/_stcore/health", timeout=1).read()
                break
            except OSError:
                assert process.poll() is None, (folder / "app.log").read_text()
                assert time.monotonic() < until, "the app did not start within 30 s"
                _pause(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=10)
