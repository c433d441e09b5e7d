"""An event loop whose time passes only while nobody has anything to do, so that ten minutes of an engine take a moment.

    run(scenario)   # scenario(clock) is awaited; the loop's own timers (asyncio.timeout) follow the same time

It fails if everybody waits for nobody, if a task is left behind, or if an error is left unseen.
"""

from __future__ import annotations

import asyncio
import gc
import selectors
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fakes import _real_sleep

from feedbackloop.pipeline.resilience import Clock

T = TypeVar("T")


class Deadlock(AssertionError):
    """Everybody waits, and no timer is set."""


class _Skipping(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise Deadlock
        self.now += max(timeout, 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.now


def run(scenario: Callable[[Clock], Awaitable[T]]) -> T:
    unseen: list[dict[str, Any]] = []

    async def whole() -> T:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: unseen.append(context))
        result = await scenario(Clock(now=loop.time, sleep=_real_sleep))
        for _ in range(3):
            await _real_sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left
        return result

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        result = runner.run(whole())
        gc.collect(1)
    assert not unseen, unseen
    return result
