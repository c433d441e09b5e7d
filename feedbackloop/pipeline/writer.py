"""Records on their way to the store: collected from any thread, written in batches by one."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
import time
from collections.abc import Sequence

from feedbackloop.errors import RowsRefused, StoreError
from feedbackloop.models import Record
from feedbackloop.store import Store

logger = logging.getLogger(__name__)

FLUSH_S = 0.22
"""From one flush's start to the next: what a crash can cost is this, and the flush under way."""

AGAIN_S = 1.0
"""How long a writer that insists waits before it asks the store again."""

SWITCH_S = 0.0005
"""Python's switch interval while a writer lives. At the usual 5 ms, a flush that takes 20 ms alone takes 150 beside a busy event
loop, since each of its steps waits for the interpreter anew."""

_living = 0
_usual = sys.getswitchinterval()
_counting = threading.Lock()


def _count_living(change: int) -> None:
    global _living, _usual  # noqa: PLW0603  the interval is the process's own, and so is the count of who wants it short
    with _counting:
        if not _living:
            _usual = sys.getswitchinterval()
            # What is there already stays: not to go through half a million imported objects again and again saves a tenth
            # of a run's CPU.
            gc.freeze()
        _living += change
        sys.setswitchinterval(min(_usual, SWITCH_S) if _living else _usual)
        if not _living:
            gc.unfreeze()


class Writer:
    """Writes what it is given every 0.22 s.

    When the store refuses (somebody else holds it past the deadline), `error` is set and nothing more is taken. What was
    answered is paid for, so closing tries once more to write what is left: whoever was in the way may be gone by then.

    Args:
        flush_s: from one flush's start to the next.
        insist: keep everything and ask the store again until it takes it, for a service that must go on; `error` then says
            why the store is behind, and is None again once it has caught up.
    """

    def __init__(self, store: Store, *, flush_s: float = FLUSH_S, insist: bool = False) -> None:
        self._store = store
        self._flush_s = flush_s
        self._insist = insist
        self._pending: list[Record] = []
        self._changed = threading.Condition()
        self._closed = False
        self._given = self._written = 0
        self.error: StoreError | None = None
        _count_living(+1)
        self._thread = threading.Thread(target=self._work, name="feedbackloop-writer", daemon=True)
        self._thread.start()

    def put(self, *records: Record) -> int:
        """Give records to be written together; returns the mark to wait for with `written`.

        Raises:
            StoreError: the store refused an earlier batch.
        """
        with self._changed:
            if self.error is not None and not self._insist:
                raise self.error
            if not self._pending:
                self._changed.notify()
            self._pending.extend(records)
            self._given += len(records)
            return self._given

    @property
    def backlog(self) -> int:
        """How many records are not written yet."""
        return self._given - self._written

    async def written(self, mark: int) -> None:
        """Wait until everything up to `mark` is in the file.

        Raises:
            StoreError: the store refused it.
        """
        while self._written < mark:
            if self.error is not None:
                raise self.error
            await asyncio.sleep(0.005)

    def close(self, *last: Record) -> None:
        """Write what is left, with these as the last, and stop the thread. An error that stays is left in `error`."""
        with self._changed:
            self._pending.extend(last)
            self._given += len(last)
            self._closed = True
            self._changed.notify()
        self._thread.join()
        _count_living(-1)
        if self._pending:
            self._write(self._pending, again=True)
            self._pending = []

    def _work(self) -> None:
        last = 0.0
        again = False
        while True:
            with self._changed:
                while not self._pending and not self._closed:
                    self._changed.wait()
                # Fill the batch until it is time; closing cuts the wait short.
                while not self._closed and (rest := last + self._flush_s - time.monotonic()) > 0:
                    self._changed.wait_for(lambda: self._closed, rest)
                batch, self._pending = self._pending, []
                if not batch and self._closed:
                    return
            last = time.monotonic()
            written = self._write(batch, again=again)
            again = not written
            if not written:
                with self._changed:
                    self._pending = [*batch, *self._pending]
                    if not self._insist or self._closed:
                        return
                    self._changed.wait_for(lambda: self._closed, AGAIN_S)

    def _write(self, batch: Sequence[Record], *, again: bool = False) -> bool:
        try:
            # The first try may have written a part: all but the rows that the database refuses.
            self._store.append(batch, new_only=again)
        except RowsRefused as error:
            if not self._insist:
                self.error = error
                return False
            # Asking again would not change what these rows are, and everything else is written.
            logger.error("%s", error)  # noqa: TRY400 - the sentence says it all
        except Exception as error:
            named = f"{self._store.url}: {type(error).__name__}: {error}"
            self.error = error if isinstance(error, StoreError) else StoreError(named)
            return False
        self.error = None
        self._written += len(batch)
        return True
