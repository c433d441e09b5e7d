"""A run on the terminal: its progress while it goes on, and Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable

from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task
from rich.progress import Progress as Bar
from rich.text import Text

from feedbackloop.cli.drawing import console
from feedbackloop.pipeline import Progress, RunResult
from feedbackloop.wording import duration, spend

PLAIN_EVERY_S = 5.0
"""Between two lines where there is no terminal to draw on."""

Going = Callable[[Callable[[Progress], None], asyncio.Event], Awaitable[RunResult]]
"""What is watched: a run, or a part of one, that takes a progress callback and an event that stops it."""


class Watch:
    """Draws the progress of a run, and stops it at Ctrl-C or SIGTERM: cleanly at the first, dropping calls at the second.

    The third ends the process on the spot, for a function of one's own that never comes back.

    Attributes:
        asked: how often it was asked to stop.
        last: the last progress seen.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.last: Progress | None = None
        self._console = console()
        self._bar: Bar | None = None
        self._line_at = time.monotonic()

    def watch(self, go: Going) -> RunResult | None:
        """See a run to its end; None if it was cut off by a second Ctrl-C."""
        if not self._console.is_terminal:
            return asyncio.run(self._go(go))
        columns = (SpinnerColumn(finished_text=" "), BarColumn(bar_width=16, complete_style="cyan"), _Figures())
        with Bar(*columns, console=self._console, transient=True) as self._bar:
            self._bar.add_task("run", total=None, figures="reading the dataset")
            return asyncio.run(self._go(go))

    async def _go(self, go: Going) -> RunResult | None:
        stop = asyncio.Event()
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()

        def interrupted() -> None:
            if self.asked > 1:
                task.cancel()
                return
            stop.set()
            batch = self.last is not None and self.last.waiting
            calls = "Stopping: waiting for the calls in flight; Ctrl-C again drops them."
            self._tell("Stopping; the batch goes on by itself." if batch else calls)

        # Not the loop's own handlers: these run even while somebody's function keeps the loop from turning.
        def received(number: int, frame: object) -> None:  # noqa: ARG001 - the shape that `signal` wants
            self.asked += 1
            if self.asked > 2:
                os._exit(130)
            loop.call_soon_threadsafe(interrupted)

        before = {number: signal.signal(number, received) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            return await go(self._update, stop)
        except asyncio.CancelledError:
            if self.asked < 2:
                raise
            return None
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _tell(self, sentence: str) -> None:
        (self._bar.console if self._bar else self._console).print(Text(sentence, style="yellow"), soft_wrap=True)
        sys.stdout.flush()

    def _update(self, progress: Progress) -> None:
        self.last = progress
        if self._bar is not None:
            figures = ("stopping, " if self.asked else "") + _figures(progress)
            self._bar.update(self._bar.task_ids[0], total=progress.total, completed=progress.done, figures=figures)
        elif time.monotonic() - self._line_at >= PLAIN_EVERY_S:
            self._line_at = time.monotonic()
            self._console.print(Text(_figures(progress)), soft_wrap=True)
            sys.stdout.flush()


class _Figures(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(task.fields["figures"], no_wrap=True, overflow="ellipsis")


def _limits(progress: Progress) -> str:
    """What targets are asked at present: so many calls at a time and, where some were refused, so many a second."""
    told = []
    for target, places in progress.places.items():
        pace = progress.paces.get(target)
        limit = f"{places:,} at once" + ("" if pace is None else f" and {_rate(pace)}")
        told.append(limit if len(progress.places) == 1 else f"{target.partition(':')[2]} {limit}")
    refused = f" ({progress.refused:,} refused)" if progress.refused else ""
    late = f", {progress.late:,} late" if progress.late else ""
    return "; ".join(told) + refused + late if told else ""


def _rate(per_s: float) -> str:
    return f"{per_s:,.0f}/s" if per_s >= 10 else f"{per_s:.1f}/s"


def _figures(progress: Progress) -> str:
    parts = [f"{progress.done:,}/{progress.total:,}"]
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    if progress.rate:
        parts.append(_rate(progress.rate))
    parts.append(spend(progress.spent_usd, progress.unpriced))
    if progress.waiting:
        return ", ".join([*parts, progress.waiting])
    if progress.eta_s is not None and progress.done < progress.total:
        parts.append(f"{duration(progress.eta_s)} left")
    if limits := _limits(progress):
        parts.append(f"limit {limits}")
    return ", ".join(parts)
