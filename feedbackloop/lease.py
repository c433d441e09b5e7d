"""Taking turns on a file: one process, and one thread of it, at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from feedbackloop.errors import StoreError


class Lease:
    """The right to have a file open: exclusive among all processes and threads, freed by the system when its holder dies."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(path.name + ".lease")

    @contextlib.contextmanager
    def __call__(self, timeout_s: float) -> Iterator[None]:
        """Hold the lease.

        Raises:
            StoreError: somebody else held it for all of `timeout_s`; names their process.
        """
        try:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise StoreError(
                f"{self.path.parent}: cannot write here ({error.strerror}); choose another place with --store"
            ) from error
        try:
            self._acquire(handle, timeout_s)
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()} {Path(sys.argv[0]).name or 'python'}".encode(), 0)
            yield
        finally:
            os.close(handle)  # which frees the lock

    def _acquire(self, handle: int, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        pause = 0.001
        waiting = threading.Event()  # never set: its wait is a sleep that tests of time leave alone
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    holder = os.pread(handle, 200, 0).decode(errors="replace").partition(" ")
                    raise StoreError(
                        f"{self.path.with_suffix('')} has been in use for {timeout_s:g} s by process {holder[0] or '?'} "
                        f"({holder[2] or 'unknown program'}); wait for it, or stop it, and try again"
                    ) from None
                waiting.wait(pause)
                # Short at first, since most leases last 20 ms; never long, so that nobody starves behind a busy run.
                pause = min(pause * 1.5, 0.01)
            else:
                return
