"""Admission: the one queue in front of all targets. Priority 10 first, equals in order of arrival.

A request passes when its target has a free place and its rates allow one more. How many places there are is found out: it
starts low and doubles with success, and is cut by a fifth when the target says 429 (once per episode, not per 429), unless it
had places to spare: then it was not how many were asked at a time but how fast, which is found out too (`pacing`).

Waiting for a place or a rate is our own doing and does not count against a request's deadline. Waiting because the provider
named a time does; a request that cannot wait that long is told at once, so that a fallback can take it.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field

from feedbackloop.errors import RateLimited
from feedbackloop.models import AIRequest, AIResponse
from feedbackloop.pipeline.pacing import Bucket, Pace, told
from feedbackloop.pipeline.resilience import CALL, Clock
from feedbackloop.pipeline.spending import prompt_size
from feedbackloop.providers import Allowance, Provider
from feedbackloop.settings import Limits

START = 16
"""Places of a target that nothing is known of yet."""
DOUBLING_S = 0.25
"""They double no faster than this: a target that answers at once would otherwise have hundreds of calls before it can refuse one."""
CUT = 0.8
REGROWTH = 0.25
"""Places that an answer adds after the first refusal; before it adds one, which doubles them with every round of answers."""
FEWEST_CHARACTERS_PER_TOKEN = 3.0
"""Fewer than usual text has: until its answer tells, a prompt rather counts as more tokens than it is."""


@dataclass(order=True)
class _Waiter:
    rank: tuple[int, int]
    future: asyncio.Future[RateLimited | None] = field(compare=False)
    """None lets it in."""
    tokens: float = field(compare=False)
    target: str = field(compare=False)
    patience: float = field(compare=False)
    """How far the gate's `closings` may grow before its deadline is lost."""


@dataclass
class Gate:
    """One target's places, rates and queue."""

    limits: Limits
    clock: Clock
    places: float
    in_flight: int = 0
    slow_start: bool = True
    closed_until: float = float("-inf")
    """After a 429: nothing is sent before the time that the provider named."""
    closings: float = 0.0
    """Seconds that the provider has closed the gate for, all in all; what is still to come of them included."""
    episode: float = float("-inf")
    """When the last cut was made: 429s of requests sent before it belong to the same episode."""
    told_at: float = float("inf")
    """When the target first said how much it takes: its refusals of what was sent before need not teach it."""
    waiting: list[_Waiter] = field(default_factory=list)
    rates: dict[str, Bucket] = field(default_factory=dict)
    """Those of the settings, and those that the target tells of itself."""
    pump: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.began = self.clock.now()
        self.pace = Pace(self.began)

    def open_in(self) -> float:
        """Seconds until the rates let one more pass; infinite while every place is taken."""
        if self.in_flight >= max(int(self.places), 1):
            return float("inf")
        if not (self.closings or self.rates):
            return 0.0
        now = self.clock.now()
        wait = max(self.closed_until - now, self.pace.wait(now))
        for rate in self.rates.values():
            wait = max(wait, rate.wait(now))
        return wait if wait > 0 else 0.0

    def closed_s(self, now: float) -> float:
        """Seconds that the provider has kept the gate closed so far: a difference of two says how much of a wait is its doing."""
        return self.closings - max(self.closed_until - now, 0.0)

    def enter(self, tokens: float) -> None:
        """Take a place."""
        self.in_flight += 1
        self.pace.sent(self.clock.now())
        for rate in self.rates.values():
            rate.take(tokens)

    def admit(self) -> None:
        """Let in whoever is first and may."""
        while self.waiting:
            if self.waiting[0].future.done():
                heapq.heappop(self.waiting)
                continue
            wait = self.open_in()
            if wait:
                if wait != float("inf") and (self.pump is None or self.pump.done()):
                    self.pump = asyncio.ensure_future(self._later(wait))
                return
            waiter = heapq.heappop(self.waiting)
            self.enter(waiter.tokens)
            waiter.future.set_result(None)

    async def _later(self, wait: float) -> None:
        await self.clock.sleep(wait)
        self.pump = None
        self.admit()

    def leave(self) -> None:
        """Give the place back."""
        self.in_flight -= 1
        self.admit()

    def grow(self, sent_at: float) -> None:
        """The target answered: it may bear more. Places that nobody uses prove nothing, so they do not grow."""
        self.pace.answered(sent_at)
        if self.places < self.limits.concurrency and self.in_flight * 2 > self.places:
            more = REGROWTH
            if self.slow_start:
                age = self.clock.now() - self.began
                more = 1.0 if self.places < START * 2 ** min(age / DOUBLING_S, 30) else 0.0
            self.places = min(self.places + more, float(self.limits.concurrency))

    def cut(self, sent_at: float, error: RateLimited) -> None:
        """The target said 429: send less at a time and less often, and nothing before the time that it named."""
        now = self.clock.now()
        named = error.retry_after
        if named is not None and not 0 < named < math.inf:
            named = None
        self.pace.refused()
        if sent_at > self.episode:
            full = self.in_flight >= int(self.places)
            untold = sent_at > self.told_at or self.told_at == math.inf
            self._close(now, self.pace.cut(now, named) if untold else named or 0.0)
            # With places to spare it was not how many there were at a time.
            if full or self.slow_start:
                self.places = max(self.places * CUT, 1.0)
            self.episode, self.slow_start = now, False
        elif named is not None:
            self._close(now, named)

    def tell(self, allowance: Allowance) -> None:
        """Keep to what the target says that it still takes."""
        now = self.clock.now()
        for name, quota in (("requests told", allowance.requests), ("tokens told", allowance.tokens)):
            if quota is not None:
                rate = told(self.rates.get(name), quota, now, of_tokens=name == "tokens told")
                if rate is not None:
                    self.rates[name] = rate
                    self.told_at = min(self.told_at, now)

    def _close(self, now: float, seconds: float) -> None:
        if seconds <= 0 or now + seconds <= self.closed_until:
            return
        self.closings += now + seconds - max(self.closed_until, now)
        self.closed_until = now + seconds
        for waiter in self.waiting:
            if waiter.patience <= self.closings and not waiter.future.done():
                waiter.future.set_result(self._refusal(waiter.target, now))

    def check(self, target: str, patience: float) -> None:
        """Refuse whoever cannot wait until the provider's time is over.

        Raises:
            RateLimited: it has the seconds still to wait.
        """
        if patience <= self.closings:
            raise self._refusal(target, self.clock.now())

    def _refusal(self, target: str, now: float) -> RateLimited:
        seconds = self.closed_until - now
        return RateLimited(
            f"{target} wants no request for another {seconds:.0f} s, which is later than this one can wait",
            retry_after=seconds,
        )


class Controller:
    """The queue of one engine.

    Args:
        limits_of: limits of a target, `provider:model`.
    """

    def __init__(self, limits_of: Callable[[str], Limits], clock: Clock) -> None:
        self._limits_of = limits_of
        self._clock = clock
        self._gates: dict[str, Gate] = {}
        self._arrivals = itertools.count()

    def gate(self, target: str) -> Gate:
        """A target's gate, made at the first request."""
        if target not in self._gates:
            limits, now = self._limits_of(target), self._clock.now()
            gate = Gate(limits, self._clock, places=float(min(START, limits.concurrency)))
            for name, rate in (("requests", limits.requests_per_minute), ("tokens", limits.tokens_per_minute)):
                if rate:
                    gate.rates[name] = Bucket(rate, rate / 60, now, of_tokens=name == "tokens")
            self._gates[target] = gate
        return self._gates[target]

    async def enter(self, target: str, priority: int, tokens: float) -> Gate:
        """Wait for a place at the target; whoever gets one must `leave` the gate.

        Raises:
            RateLimited: the provider wants nothing before a time that is past the request's deadline; nothing was sent.
            Halted: nothing is to be sent any more.
        """
        gate, call = self.gate(target), CALL.get()
        call.halt.check()
        if not gate.waiting and not gate.open_in():
            gate.enter(tokens)
            return gate
        began = self._clock.now()
        closed_before = gate.closed_s(began)
        patience = closed_before + call.deadline - began
        gate.check(target, patience)
        future: asyncio.Future[RateLimited | None] = asyncio.get_running_loop().create_future()
        heapq.heappush(gate.waiting, _Waiter((-priority, next(self._arrivals)), future, tokens, target, patience))
        gate.admit()
        try:
            refusal = await call.halt.wait(future)
        except BaseException:
            if future.done() and not future.cancelled() and future.result() is None:
                gate.leave()  # the place was given in the same instant
            raise
        now = self._clock.now()
        call.queued(now - began - (gate.closed_s(now) - closed_before))
        if refusal is not None:
            raise refusal
        return gate

    def places(self) -> dict[str, int]:
        """How many calls each target is allowed at present."""
        return {target: int(gate.places) for target, gate in self._gates.items()}

    def paces(self) -> dict[str, float]:
        """How many requests a second each target is asked at most at present, where it has refused some."""
        now = self._clock.now()
        paces = {target: gate.pace.per_s(now) for target, gate in self._gates.items()}
        return {target: pace for target, pace in paces.items() if pace < math.inf}

    def close(self) -> None:
        """Stop what would wake those who wait."""
        for gate in self._gates.values():
            if gate.pump is not None:
                gate.pump.cancel()


class RateLimit:
    """Asks the controller for a place before each attempt, retries and fallbacks included.

    Args:
        allowance: what the target said last of how much it still takes, by model.
    """

    def __init__(
        self, inner: Provider, controller: Controller, allowance: Callable[[str], Allowance | None] | None = None
    ) -> None:
        self._inner = inner
        self._controller = controller
        self._allowance = allowance

    async def complete(self, request: AIRequest) -> AIResponse:
        """The inner answer, once there was a place for it."""
        rates = self._controller.gate(request.model).rates
        tokens = prompt_size(request) / FEWEST_CHARACTERS_PER_TOKEN if rates else 0.0
        gate = await self._controller.enter(request.model, request.priority, tokens)
        sent_at = gate.clock.now()
        try:
            response = await self._inner.complete(request)
        except RateLimited as error:
            self._hear(gate, request.model)
            gate.cut(sent_at, error)
            raise
        else:
            self._hear(gate, request.model)
            gate.grow(sent_at)
            if (rate := rates.get("tokens")) and response.tokens_used is not None:
                rate.level += tokens - response.tokens_used
            return response
        finally:
            gate.leave()

    def _hear(self, gate: Gate, model: str) -> None:
        if self._allowance is not None and (known := self._allowance(model)) is not None:
            gate.tell(known)
