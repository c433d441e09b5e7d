"""One part of a run: workers that ask, grade and hand over to the writer, until all is done or something stops them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from feedbackloop import queries
from feedbackloop.datasets import Checked, Dataset
from feedbackloop.errors import BudgetExceeded, Halted, StoreError
from feedbackloop.graders import Grader
from feedbackloop.models import (
    AIRequest,
    AIResponse,
    Case,
    ProcessingStatus,
    Rating,
    Record,
    Run,
    RunEvent,
    Task,
    Variant,
)
from feedbackloop.pipeline.budget import Assumed
from feedbackloop.pipeline.cache import Keys, reusable
from feedbackloop.pipeline.cells import Asking, Cell, cell_hash, cell_mark, cells
from feedbackloop.pipeline.engine import Dropped, Engine
from feedbackloop.pipeline.grading import grade
from feedbackloop.pipeline.plan import Plan
from feedbackloop.pipeline.progress import Progress, RunResult, Tally
from feedbackloop.pipeline.resilience import Clock
from feedbackloop.pipeline.writer import Writer
from feedbackloop.queries.overview import NO_FIGURES, run_figures
from feedbackloop.queries.reuse import Ended, ended_cells
from feedbackloop.store import Store
from feedbackloop.wording import file_name

HEARTBEAT_S = 5.0
TICK_S = 0.25
"""Between two calls of the progress callback."""
LOOK_AHEAD = 512
"""Cells that are looked up in one go where earlier answers may be used again."""
BACKLOG = 20_000
"""Records that may wait for the store before the run waits for it too."""


@dataclass
class Part:
    """From a run's start, or from a resume, to its end or a stop."""

    store: Store
    run: Run
    variants: Sequence[Variant]
    dataset: Dataset
    graders: Sequence[Grader]
    engine: Engine
    clock: Clock
    progress: Callable[[Progress], None] | None
    stop: asyncio.Event
    task: Task | None = None
    """As it is to be from now on; none leaves it as the store has it."""
    before: Run | None = None
    """How the store has the run, when going on with it; none at its start."""
    only_failed: bool = False
    """Ask none of the cells that were never asked."""

    def __post_init__(self) -> None:
        self.tally = Tally()
        self.reason: str | None = None
        """Why this part ends early; set by whatever ends it."""
        self.cached_before = self.passed = self.unasked = 0
        """Cells that an earlier part took from another run; that were done when they came up; that are left alone, as only
        what failed is asked."""
        self.began = self.clock.now()
        self.ready: deque[Cell] = deque()
        self.callback_error: Exception | None = None
        self.assumed = Assumed(self._worst)
        self.ended: Ended | None = None
        """What earlier parts have asked, without what this one asks again."""
        self.answered = Keys()
        """What was asked in this part: found again in the store where the same comes up much later."""
        self.left: list[Record] = []
        """Answers that came when the store had just refused; written at the end, if it can be."""

    async def go(self) -> RunResult:
        """Ask, grade and store what is missing.

        Raises:
            DatasetError: a row cannot be read or rendered; nothing was asked or stored.
            PromptError: a prompt says the same to every case; nothing was asked or stored.
            FeedbackLoopError: a variant cannot be asked at all, or not within the budget; nothing was asked or stored.
            StoreError: the store refused; what it took before stays.
        """
        asking = [Asking.of(variant, self.engine) for variant in self.variants]
        self.reusable = queries.reusable_keys(self.store) if self.engine.answers and self.store.exists() else set()
        if self.before:
            self._take_stock()
        self.plan = Plan(
            self.dataset, asking, self.run.repeats, self.engine, self._worst, self.ended, reusable=self.reusable
        )
        # In a thread, so that Ctrl-C and the progress of others are not held up by a large file.
        checked = await asyncio.to_thread(self.plan.check)
        notes = self._notes(checked)
        self.run = self.run.model_copy(update={"fingerprint": checked.fingerprint})
        self.started = self._event("started")
        self.store.append(
            [*self._opening(), self.started],
            # Of two that would go on with it at once, the second finds the first one's event.
            unless=lambda connection: queries.refuse_if_running(connection, self.run.id),
        )
        self.done = queries.finished_cells(self.store, self.run.id) if self.before else set()
        # The budget is the run's, and not each part's anew. Only now can no other part spend any of it.
        if self.before:
            self._count_spent()
        self.known = queries.known_cases(self.store)
        self.cells = cells(
            self.dataset,
            asking,
            repeats=self.run.repeats,
            priority=int(self.run.settings.get("priority") or 5),
            priorities=checked.priorities,
            utc=self.clock.utc,
            run_id=self.run.id,
            task=self.run.task,
        )
        self.began = self.clock.now()
        self.writer = Writer(self.store)
        try:
            await self._work()
        finally:
            # Also when this task was cancelled: what was answered is kept, and the run is known to have stopped.
            gone_through = self.passed + self.tally.asked
            if self.unasked and gone_through + self.unasked == self.plan.cells:
                self._stop("only what had failed was asked again")
            elif gone_through < self.plan.cells:
                self._stop("it was asked to stop" if self.stop.is_set() else "it was interrupted")
            self.writer.close(*self.left, self._event("finished" if self.reason is None else "stopped"))
            self._report()
            await self.engine.aclose()
        if (error := self.writer.error or self.callback_error) is not None:
            raise error
        if self._limit_usd is not None:
            notes += self.assumed.notes
        return RunResult(self.run, self._progress(), self.reason, dict(self.tally.failures), checked, notes)

    def _take_stock(self) -> None:
        self.ended = ended_cells(self.store, self.run.id)
        self.tally.skipped, self.tally.unretried = len(self.ended.answered), len(self.ended.failed)
        self._count_spent()

    def _count_spent(self) -> None:
        before = run_figures(self.store, [self.run.id]).get(self.run.id, NO_FIGURES)
        self.tally.spent_usd, self.tally.unpriced = before.spent_usd, before.unpriced
        self.cached_before = before.cached
        self.assumed = Assumed(self._worst)
        if self._limit_usd is not None:
            self.assumed.add_stored(self.store, self.run.id)
        self.engine.purse.spent_usd = before.spent_usd + self.assumed.usd

    @property
    def _limit_usd(self) -> float | None:
        return self.engine.purse.limit_usd

    def _worst(self, request: AIRequest) -> float | None:
        return self.engine.worst(request)

    async def _work(self) -> None:
        beside = [asyncio.create_task(beside()) for beside in (self._tick, self._beat, self._obey)]
        try:
            async with asyncio.TaskGroup() as group:
                for worker in self._workers():
                    group.create_task(worker)
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    def _workers(self) -> list[Coroutine[Any, Any, None]]:
        filling = asyncio.Lock()
        return [self._worker(filling) for _ in range(self.engine.limits.concurrency)]

    async def _worker(self, filling: asyncio.Lock) -> None:
        while not self._stopping():
            if not self.ready:
                async with filling:
                    if not self.ready and not await self._fill():
                        return
                continue
            await self._answer(self.ready.popleft())
            # Providers that answer from memory never wait for anything; others want their turn all the same.
            await asyncio.sleep(0)
            await self._written()

    async def _written(self, but: int = BACKLOG) -> None:
        """Wait until all but so many of the records are in the store, or it has refused."""
        while self.writer.backlog > but and self.writer.error is None:
            await asyncio.sleep(0.01)

    async def _fill(self) -> bool:
        """Put the next missing cells into `ready`, and known answers to them at hand; false at the end of the dataset."""
        passed = list(islice(self.cells, LOOK_AHEAD if self.reusable else 64))
        found = [cell for cell in passed if cell_mark(cell.request) not in self.done] if self.done else passed
        self.passed += len(passed) - len(found)
        if self.only_failed:
            missing, found = len(found), [cell for cell in found if self._has_failed(cell.request)]
            self.unasked += missing - len(found)
        if self.engine.answers:
            keys = [
                cell.request.key
                for cell in found
                if cell.request.key
                and reusable(cell.request)
                and (hash((cell.request.key,)) in self.reusable or cell.request.key in self.answered)
            ]
            if keys:
                known = await asyncio.to_thread(queries.answers_by_key, self.store, keys)
                for key, response in known.items():
                    self.engine.answers.add(key, response)
        self.ready.extend(found)
        await asyncio.sleep(0)  # a resume may pass by a million cells before it finds one to ask
        return bool(passed)

    async def _answer(self, cell: Cell) -> None:
        try:
            response = await self.engine.complete(cell.request, cell.models)
        except BudgetExceeded as error:
            self._stop(str(error))
            return
        except Halted:
            return
        except Dropped as cut:
            # It may have been charged for all the same.
            self._write(cell.case, cut.response, cell.request)
            self._pay(cell.request, cut.response)
            raise
        if response.error_type == "BudgetExceeded":
            self._stop(response.error or "")
        if response.error_type == "CircuitOpen":
            # The row is not at fault, its target is: the cell stays missing, to be asked by `resume`.
            self._stop(f"{response.error}; go on with `feedbackloop resume` when it is back")
            if response.spent_usd == 0:
                return
        if response.status is ProcessingStatus.COMPLETED and not response.cached and cell.request.key:
            self.answered.add(cell.request.key)
        await self._keep(cell.case, response, cell.request)
        if response.error_type == "AuthenticationFailed":
            self._stop(f"{response.error}; the other rows would meet the same")

    async def _keep(self, case: Case, response: AIResponse, request: AIRequest, *, known: bool = False) -> None:
        """Grade a response and hand it to the writer, with the request where the store has not got that yet (`known`)."""
        ratings: list[Rating] = []
        try:
            if self.graders:
                await grade(self.graders, case, response, ratings)
        finally:
            # Also when this is cut short: it was paid for.
            self._write(case, response, *([] if known else [request]), *ratings)
            self.tally.add(response)
            self._count_again(request)
            self._pay(request, response)

    def _count_again(self, request: AIRequest) -> None:
        """Count a cell once that an earlier part has asked too."""
        cell = cell_hash(request)
        if self.ended is not None and cell in self.ended.failed:
            self.ended.failed.remove(cell)
            self.tally.unretried -= 1
        elif self.ended is not None and cell in self.ended.answered:
            # Its key is another now, as of a function that was changed.
            self.ended.answered.remove(cell)
            self.tally.skipped -= 1

    def _pay(self, request: AIRequest, response: AIResponse) -> None:
        self.tally.add_spend(response)
        if self._limit_usd is not None:
            self.assumed.add(request, response)

    def _write(self, case: Case, response: AIResponse, *others: Record) -> None:
        records: list[Record] = [response, *others]
        # With whichever answer comes first, so that no answer is ever stored without its case.
        mark = queries.case_mark(case)
        if mark not in self.known:
            self.known.add(mark)
            records.append(case)
        try:
            self.writer.put(*records)
        except StoreError as error:
            self._stop(str(error))
            self.left += records

    def _has_failed(self, request: AIRequest) -> bool:
        return self.ended is not None and cell_hash(request) in self.ended.failed

    def _opening(self) -> list[Record]:
        """What the store must know before the first answer: names and tasks that are new or have changed, and the run."""
        records: list[Record] = []
        names = {variant.id: variant.name for variant in queries.variants(self.store)} if self.store.exists() else {}
        records += [variant for variant in self.variants if names.get(variant.id) != variant.name]
        if self.before:
            changed = self.run != self.before
            return [*records, self.run.model_copy(update={"created_at": self.clock.utc()})] if changed else records
        known = queries.task(self.store, self.run.task) if self.store.exists() else None
        wanted = self.task or known or Task(name=self.run.task)
        if known is None or known.model_dump(exclude={"created_at"}) != wanted.model_dump(exclude={"created_at"}):
            records.append(wanted)
        return [*records, self.run]

    def _notes(self, checked: Checked) -> tuple[str, ...]:
        notes = []
        if checked.repeats_told:
            notes.append(f"{file_name(self.dataset.name)}: {checked.repeats_told}")
        if self.before and checked.fingerprint != self.run.fingerprint:
            asked = "what failed" if self.only_failed else "what is new or changed"
            notes.append(f"{file_name(self.dataset.name)} has changed since the run began: only {asked} is asked")
        return tuple(notes)

    def _stop(self, reason: str) -> None:
        self.reason = self.reason or reason
        # What waits for its turn must not be sent, and paid for, after all.
        self.engine.halt()

    async def _obey(self) -> None:
        await self.stop.wait()
        self.engine.halt()

    def _stopping(self) -> bool:
        return self.reason is not None or self.stop.is_set()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._report()

    async def _beat(self) -> None:
        # Apart from `_tick`: while somebody else keeps the store, this waits for it.
        # The first one soon, so that what is under way is known of a run that is killed early too.
        beat = self.clock.now() - HEARTBEAT_S + 2 * TICK_S
        while True:
            await asyncio.sleep(TICK_S)
            if self.clock.now() - beat < HEARTBEAT_S:
                continue
            beat = self.clock.now()
            with contextlib.suppress(StoreError):
                self.writer.put(self._event("heartbeat"))
                if await asyncio.to_thread(queries.stop_asked, self.store, self.run.id, self.started.created_at):
                    self._stop("it was asked to stop")

    def _progress(self) -> Progress:
        tally = self.tally
        return Progress(
            run_id=self.run.id,
            total=self.plan.cells + self.plan.outside,
            done=tally.done,
            completed=tally.completed,
            failed=tally.failed + tally.unretried,
            cached=tally.cached,
            skipped=tally.skipped,
            unretried=tally.unretried,
            spent_usd=tally.spent_usd,
            unpriced=tally.unpriced,
            elapsed_s=self.clock.now() - self.began,
            late=tally.late,
            refused=tally.refused,
            places=self.engine.controller.places(),
            paces=self.engine.controller.paces(),
        )

    def _report(self) -> None:
        if self.progress is None:
            return
        try:
            self.progress(self._progress())
        except Exception as error:
            # Raised once what is in flight is stored; raised here, it would end the heartbeats and leave the run going.
            self._stop(f"its progress callback failed: {type(error).__name__}: {error}")
            self.progress, self.callback_error = None, error

    def _event(self, kind: Any) -> RunEvent:
        counts = self._progress().counts
        counts["cached"] += self.cached_before
        if kind == "heartbeat":
            counts["under_way"] = self.engine.purse.under_way
        if kind == "stopped":
            counts["reason"] = self.reason
        # Whether a process lives can be told on its own machine only.
        counts["host"] = socket.gethostname()
        return RunEvent(run_id=self.run.id, kind=kind, pid=os.getpid(), counts=counts, created_at=self.clock.utc())
