"""A part of a run that asks by batches: half the price, answers within a day.

Whatever could be paid twice is written down first. A batch's requests are in the store, under a label, before it is submitted;
the label travels with it, so that after a crash the provider is asked whether it has the batch before it is given it again. Its
answers are written to the requests that are there, so that fetching them again adds nothing.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from feedbackloop import queries
from feedbackloop.datasets import Checked
from feedbackloop.errors import BudgetExceeded, ProviderError, SettingsError
from feedbackloop.identity import new_id
from feedbackloop.models import AIRequest, AIResponse, Case, ProcessingStatus, RunEvent
from feedbackloop.pipeline.batch_answers import taken_in, unsaid
from feedbackloop.pipeline.cells import Cell, cell_mark
from feedbackloop.pipeline.engine import failure
from feedbackloop.pipeline.part import TICK_S, Part
from feedbackloop.pipeline.progress import Progress
from feedbackloop.pipeline.resilience import CALL, Call
from feedbackloop.pipeline.spending import too_small
from feedbackloop.pricing import BatchPrices
from feedbackloop.providers import batches as limits
from feedbackloop.providers import model_name
from feedbackloop.providers.batches import Batches, BatchState
from feedbackloop.queries.batches import Batch, cases, open_batches, unanswered
from feedbackloop.wording import batches

FIRST_LOOK_S = 1.0
LOOKS_GROW = 1.5
LONGEST_LOOK_S = 60.0
"""Between two looks at a batch: soon at first, since small ones take a minute, and then ever later."""

PATIENCE = 12
"""Errors in a row that asking again may mend, before the run stops; the batch goes on by itself."""


@dataclass
class Draft:
    """What is gathered for the next batch of one model."""

    lines: list[bytes] = field(default_factory=list)
    requests: list[AIRequest] = field(default_factory=list)
    cases: dict[int, Case] = field(default_factory=dict)
    size: int = 0
    worst_usd: float = 0.0


@dataclass
class BatchPart(Part):
    """As `Part`, but what is missing is submitted as batches, which are waited for and fetched.

    Raises:
        SettingsError: a variant's provider has no batches.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.open: list[Batch] = []
        """Batches whose answers are not all here."""
        self._apis: dict[str, Batches] = {}
        for variant in self.variants:
            self._offer(model_name(variant.model, self.engine.settings), variant.name)
        self._prices = BatchPrices(self.engine.settings)
        self._drafts: dict[str, Draft] = {}
        self._awaited: set[int] = set()
        """Cells whose answers an earlier part of this run has asked for."""
        self._twins: dict[str, list[Cell]] = {}
        """By key of what is asked: further cells that ask the very same, and wait for its answer."""
        self._again: list[Cell] = []
        self._costs: dict[str, float] = {}
        self._look_s = FIRST_LOOK_S
        self._errors = 0
        self._most = limits.MAX_REQUESTS

    def _offer(self, model: str, variant: str) -> None:
        offered = getattr(self.engine.provider(model), "batches", None)
        if offered is None:
            raise SettingsError(
                f"the variant '{variant}' asks {model}, which has no batches; leave the variant out, or run without --batch"
            )
        self._apis[model] = offered()

    def _workers(self) -> list[Coroutine[Any, Any, None]]:
        return [self._go_through()]

    async def _go_through(self) -> None:
        CALL.set(Call(deadline=math.inf))
        await self._take_up()
        while True:
            while not self._stopping() and (self.ready or await self._fill()):
                while self.ready and not self._stopping():
                    await self._draft(self.ready.popleft())
            await self._submit_drafts()
            while self.open and not self._stopping():
                await self._look()
            if self._stopping() or not self._again:
                return
            self.ready.extend(self._again)
            self._again = []

    async def _take_up(self) -> None:
        """Find the batches that an earlier part of this run has left behind."""
        for batch in await asyncio.to_thread(open_batches, self.store, self.run.id):
            requests = await asyncio.to_thread(unanswered, self.store, self.run.id, batch.label)
            self._reserve(batch.worst_usd)
            self.open.append(batch)
            if not requests:
                await self._close(batch)
                continue
            for request in requests:
                self._awaited.add(cell_mark(request))
                if request.key:
                    self._twins.setdefault(request.key, [])
            if batch.stage == "made" and not self._stopping():
                await self._submit(batch, requests, unsure=True)

    async def _draft(self, cell: Cell) -> None:
        """Put a cell into the next batch, unless its answer is known or on its way."""
        request, model = cell.request, cell.models[0]
        if cell_mark(request) in self._awaited:
            return
        if self.engine.answers is not None and request.key:
            if self.engine.answers.get(request.key):
                await self._answer(cell)
                return
            if request.key in self._twins:
                self._twins[request.key].append(cell)
                return
        try:
            line = self._apis[model].line(request)
        except ProviderError as error:
            await self._keep(cell.case, failure(request, error, self.clock), request)
            return
        worst = self._worst(request) or 0.0
        draft = self._drafts.setdefault(model, Draft())
        if len(draft.requests) >= self._most or (draft.requests and draft.size + len(line) > limits.MAX_BYTES):
            await self._submit_draft(model)
        if not await self._afford(request, worst):
            return
        draft = self._drafts.setdefault(model, Draft())
        draft.lines.append(line)
        draft.size += len(line)
        draft.worst_usd += worst
        draft.requests.append(request)
        if (mark := queries.case_mark(cell.case)) not in self.known:
            draft.cases[mark] = cell.case
        if request.key:
            self._twins[request.key] = []

    async def _afford(self, request: AIRequest, worst_usd: float) -> bool:
        """Whether one more may be asked; where only batches on their way stand against it, that is known once they are back."""
        purse = self.engine.purse
        if purse.limit_usd is not None and worst_usd > purse.limit_usd:
            self._stop(too_small(request, worst_usd, purse.limit_usd))
            return False
        if sum(draft.worst_usd for draft in self._drafts.values()) + worst_usd <= self._left_usd():
            return True
        await self._submit_drafts()
        while self.open and not self._stopping() and self._left_usd() < worst_usd:
            await self._look()
        if self._stopping():
            return False
        if not self.open:
            try:
                await purse.reserve(worst_usd)
            except BudgetExceeded as error:
                self._stop(str(error))
                return False
            purse.settle(worst_usd, 0.0)
        return True

    def _left_usd(self) -> float:
        purse = self.engine.purse
        return math.inf if purse.limit_usd is None else purse.limit_usd - purse.spent_usd - purse.reserved_usd

    def _reserve(self, worst_usd: float) -> None:
        # What is here already is asked already: it counts, and is refused no more.
        self.engine.purse.reserved_usd += worst_usd
        self.engine.purse.reservations += 1

    async def _submit_drafts(self) -> None:
        for model in list(self._drafts):
            if not self._stopping():
                await self._submit_draft(model)

    async def _submit_draft(self, model: str) -> None:
        draft = self._drafts.pop(model)
        if not draft.requests:
            return
        batch = Batch(new_id(), model, len(draft.requests), draft.worst_usd, self.clock.utc())
        requests = [
            request.model_copy(update={"metadata": {**request.metadata, "batch": batch.label}})
            for request in draft.requests
        ]
        self._reserve(batch.worst_usd)
        self.open.append(batch)
        await asyncio.to_thread(
            self.store.append, [*draft.cases.values(), *requests, self._event("batch", batch=batch)]
        )
        self.known.update(draft.cases)
        await self._submit(batch, requests, lines=draft.lines)

    async def _submit(
        self, batch: Batch, requests: Sequence[AIRequest], *, lines: Sequence[bytes] = (), unsure: bool = False
    ) -> None:
        """See to it that the provider has a batch once, and write down what it calls it.

        Args:
            unsure: it may have it already.
        """
        api = self._apis[batch.model]
        errors = 0
        while True:
            try:
                state = await api.find(batch.label, batch.made_at) if unsure else None
                if state is None and unsure and self._left_usd() < 0:
                    # The budget was lowered since: what was never asked is asked as far as that goes.
                    await self._give_back(batch, requests)
                    return
                if state is None:
                    file_id = await api.upload(lines or [api.line(request) for request in requests], batch.label)
                    unsure = True
                    state = await api.create(file_id, batch.label, self.run.id)
                break
            except ProviderError as error:
                errors += 1
                if not error.retryable or errors >= PATIENCE:
                    self._stop(f"no batch could be submitted: {error}")
                if self._stopping():
                    return
                await self._rest(max(FIRST_LOOK_S * LOOKS_GROW**errors, error.retry_after or 0.0))
        batch.batch_id, batch.stage = state.id, "submitted"
        self._look_s = FIRST_LOOK_S
        await self._note(batch)

    async def _give_back(self, batch: Batch, requests: Sequence[AIRequest]) -> None:
        await self._close(batch)
        self._awaited.difference_update(map(cell_mark, requests))
        for request in requests:
            self._twins.pop(request.key or "", None)

    async def _look(self) -> None:
        """Wait, look at every batch once, and fetch those that have ended."""
        await self._rest(self._look_s)
        self._look_s = min(self._look_s * LOOKS_GROW, LONGEST_LOOK_S)
        before = len(self.open)
        for batch in [batch for batch in self.open if batch.batch_id]:
            if self._stopping():
                return
            try:
                state = await self._apis[batch.model].state(str(batch.batch_id))
                batch.done = state.done
                if state.ended:
                    await self._end(batch, state)
            except ProviderError as error:
                self._errors += 1
                if not error.retryable or self._errors >= PATIENCE:
                    self._stop(f"its batch cannot be looked at: {error}")
                self._look_s = max(self._look_s, error.retry_after or 0.0)
                return
            self._errors = 0
        held = [batch for batch in self.open if not batch.batch_id]
        if held and (len(self.open) < before or len(held) == len(self.open)) and not self._stopping():
            requests = await asyncio.to_thread(unanswered, self.store, self.run.id, held[0].label)
            await self._submit(held[0], requests, unsure=True)

    async def _end(self, batch: Batch, state: BatchState) -> None:
        if not state.crowded:
            await self._fetch(batch, state)
        elif any(other.batch_id for other in self.open if other is not batch):
            # There will be room once another one is through.
            batch.batch_id, batch.stage = None, "made"
            await self._note(batch)
        elif batch.requests == 1:
            self._stop(f"no batch could be submitted: {state.refusal}")
        else:
            await self._split(batch)

    async def _split(self, batch: Batch) -> None:
        """Give up a batch that was refused for being too much, and ask the same in smaller ones."""
        self._most = batch.requests // 2
        requests = await asyncio.to_thread(unanswered, self.store, self.run.id, batch.label)
        known = await self._cases(requests)
        await self._close(batch)
        for request in requests:
            self._awaited.discard(cell_mark(request))
            metadata = {name: value for name, value in request.metadata.items() if name != "batch"}
            anew = request.model_copy(update={"id": new_id(), "metadata": metadata, "created_at": self.clock.utc()})
            self._again += [
                Cell(known[str(request.case_id)], anew, (request.model,)),
                *self._twins.pop(request.key or "", []),
            ]

    async def _fetch(self, batch: Batch, state: BatchState) -> None:
        """Take in what a batch that has ended holds; what it says nothing of has failed."""
        api = self._apis[batch.model]
        # What of it was taken in before a connection broke must be seen below.
        await self._written(but=0)
        missing = {
            request.id: request for request in await asyncio.to_thread(unanswered, self.store, self.run.id, batch.label)
        }
        known = await self._cases(list(missing.values()))
        broken = 0
        for file_id in filter(None, (state.answers, state.failures)):
            async for line in api.lines(file_id):
                if not line.strip():
                    continue
                read = api.custom_id(line)
                broken += read is None
                request = missing.pop(read[0], None) if read else None
                if read is None or request is None:
                    continue
                outcome: AIResponse | ProviderError
                try:
                    outcome = await api.answer(read[1], request)
                except ProviderError as error:
                    outcome = error
                await self._take_in(batch, request, known[str(request.case_id)], outcome)
                await self._written()
        for request in missing.values():
            await self._take_in(batch, request, known[str(request.case_id)], unsaid(batch, state, broken))
        await self._close(batch)

    async def _take_in(self, batch: Batch, request: AIRequest, case: Case, outcome: AIResponse | ProviderError) -> None:
        """Grade and keep one answer of a batch, and give it to the cells that ask the same."""
        response = await taken_in(batch, request, outcome, prices=self._prices, engine=self.engine, clock=self.clock)
        cost = response.spent_usd if response.spent_usd is not None else self._worst(request) or 0.0
        self._costs[batch.label] = self._costs.get(batch.label, 0.0) + cost
        await self._keep(case, response, request, known=True)
        twins = self._twins.pop(request.key or "", [])
        if response.status is not ProcessingStatus.COMPLETED or self.engine.answers is None:
            self._again += twins
            return
        for twin in twins:
            self.engine.answers.add(str(request.key), response)
            await self._answer(twin)

    async def _close(self, batch: Batch) -> None:
        self.open.remove(batch)
        batch.stage = "fetched"
        self.engine.purse.settle(batch.worst_usd, self._costs.pop(batch.label, 0.0))
        # In order, behind the answers: once it says that they are here, they are.
        self.writer.put(self._event("batch", batch=batch))

    async def _note(self, batch: Batch) -> None:
        await asyncio.to_thread(self.store.append, [self._event("batch", batch=batch)])

    async def _cases(self, requests: Sequence[AIRequest]) -> dict[str, Case]:
        ids = list(dict.fromkeys(str(request.case_id) for request in requests))
        return await asyncio.to_thread(cases, self.store, ids)

    async def _rest(self, seconds: float) -> None:
        until = self.clock.now() + seconds
        while (left := until - self.clock.now()) > 0 and not self._stopping():
            await self.clock.sleep(min(left, TICK_S))

    def _worst(self, request: AIRequest) -> float | None:
        return self.engine.worst(request, self._prices)

    def _open_ones(self) -> list[dict[str, Any]]:
        return [
            {"provider": batch.model.partition(":")[0], "requests": batch.requests, "done": batch.done}
            for batch in self.open
            if batch.batch_id
        ]

    def _event(self, kind: Any, *, batch: Batch | None = None) -> RunEvent:
        event = super()._event(kind)
        counts: dict[str, Any] = {**event.counts, "batches": self._open_ones()}
        # A batch is not lost with this process.
        counts.pop("under_way", None)
        if batch is not None:
            counts["batch"] = batch.facts()
        return event.model_copy(update={"counts": counts})

    def _progress(self) -> Progress:
        return replace(super()._progress(), waiting=batches(self._open_ones()))

    def _notes(self, checked: Checked) -> tuple[str, ...]:
        notes = super()._notes(checked)
        if self.run.settings.get("stream"):
            notes += ("nothing is streamed in a batch: no time to the first token is recorded",)
        if named := ", ".join(variant.name for variant in self.variants if variant.fallbacks):
            notes += (f"fallbacks are not asked in a batch ({named}): what fails is asked again by `resume`",)
        return notes
