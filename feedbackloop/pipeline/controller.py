"""Admission: the one queue in front of all targets. Priority 10 first, equals in order of arrival.

A request passes when its target has a free place and its rate allows one more. How many places there are is found out: it
starts low and doubles with success, and is cut by a fifth when the target says 429 (once per episode, not per 429).
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from feedbackloop.errors import RateLimited
from feedbackloop.models import AIRequest, AIResponse
from feedbackloop.pipeline.resilience import CALL, Clock
from feedbackloop.pipeline.spending import CHARACTERS_PER_TOKEN
from feedbackloop.providers import Provider
from feedbackloop.settings import Limits

START = 16
"""Places of a target that nothing is known of yet."""
CUT = 0.8


@dataclass
class Bucket:
    """A rate: `per_minute` units flow in, at most a second's worth is kept, and a large request may overdraw."""

    per_minute: float
    level: float
    at: float

    def wait(self, now: float) -> float:
        """Seconds until something is left."""
        self.level = min(self.level + (now - self.at) * self.per_minute / 60, max(self.per_minute / 60, 1.0))
        self.at = now
        return 0.0 if self.level > 0 else -self.level * 60 / self.per_minute + 1e-3


@dataclass(order=True)
class _Waiter:
    rank: tuple[int, int]
    future: asyncio.Future[None] = field(compare=False)
    tokens: float = field(compare=False)


@dataclass
class Gate:
    """One target's places, rates and queue."""

    limits: Limits
    clock: Clock
    places: float
    in_flight: int = 0
    slow_start: bool = True
    closed_until: float = 0.0
    """After a 429: nothing is sent before the time that the provider named."""
    episode: float = 0.0
    """When the last cut was made: 429s of requests sent before it belong to the same episode."""
    waiting: list[_Waiter] = field(default_factory=list)
    requests: Bucket | None = None
    tokens: Bucket | None = None
    pump: asyncio.Task[None] | None = None

    def open_in(self) -> float:
        """Seconds until the rates let one more pass; infinite while every place is taken."""
        if self.in_flight >= max(int(self.places), 1):
            return float("inf")
        if not (self.closed_until or self.requests or self.tokens):
            return 0.0
        now = self.clock.now()
        waits = [bucket.wait(now) for bucket in (self.requests, self.tokens) if bucket]
        return max([self.closed_until - now, *waits, 0.0])

    def enter(self, tokens: float) -> None:
        """Take a place."""
        self.in_flight += 1
        if self.requests:
            self.requests.level -= 1
        if self.tokens:
            self.tokens.level -= tokens

    def admit(self) -> None:
        """Let in whoever is first and may."""
        while self.waiting:
            wait = self.open_in()
            if wait:
                if wait != float("inf") and (self.pump is None or self.pump.done()):
                    self.pump = asyncio.ensure_future(self._later(wait))
                return
            waiter = heapq.heappop(self.waiting)
            if not waiter.future.done():
                self.enter(waiter.tokens)
                waiter.future.set_result(None)

    async def _later(self, wait: float) -> None:
        await self.clock.sleep(wait)
        self.pump = None
        self.admit()

    def leave(self, sent_at: float, error: RateLimited | None) -> None:
        """Give the place back, and learn from how it went."""
        self.in_flight -= 1
        ceiling = self.limits.concurrency
        if error is None:
            if self.places < ceiling:
                self.places = min(self.places + (1.0 if self.slow_start else 1.0 / self.places), ceiling)
        else:
            now = self.clock.now()
            if error.retry_after:
                self.closed_until = max(self.closed_until, now + error.retry_after)
            if sent_at > self.episode:
                self.episode, self.slow_start = now, False
                self.places = max(min(self.places, self.in_flight + 1) * CUT, 1.0)
        self.admit()


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
            if limits.requests_per_minute:
                gate.requests = Bucket(limits.requests_per_minute, 1.0, now)
            if limits.tokens_per_minute:
                gate.tokens = Bucket(limits.tokens_per_minute, limits.tokens_per_minute / 60, now)
            self._gates[target] = gate
        return self._gates[target]

    async def enter(self, target: str, priority: int, tokens: float) -> Gate:
        """Wait for a place at the target; whoever gets one must `leave` the gate."""
        gate = self.gate(target)
        if not gate.waiting and not gate.open_in():
            gate.enter(tokens)
            return gate
        waiter = _Waiter((-priority, next(self._arrivals)), asyncio.get_running_loop().create_future(), tokens)
        heapq.heappush(gate.waiting, waiter)
        gate.admit()
        began = self._clock.now()
        try:
            await waiter.future
        except asyncio.CancelledError:
            if waiter.future.done() and not waiter.future.cancelled():
                gate.leave(began, None)  # the place was given in the same instant
            raise
        CALL.get().queued_s += self._clock.now() - began
        return gate

    def places(self) -> dict[str, int]:
        """How many calls each target is allowed at present."""
        return {target: int(gate.places) for target, gate in self._gates.items()}


class RateLimit:
    """Asks the controller for a place before each attempt, retries and fallbacks included."""

    def __init__(self, inner: Provider, controller: Controller) -> None:
        self._inner = inner
        self._controller = controller

    async def complete(self, request: AIRequest) -> AIResponse:
        """The inner answer, once there was a place for it."""
        tokens = len(request.input) / CHARACTERS_PER_TOKEN
        gate = await self._controller.enter(request.model, request.priority, tokens)
        sent_at = gate.clock.now()
        throttled: RateLimited | None = None
        try:
            return await self._inner.complete(request)
        except RateLimited as error:
            throttled = error
            raise
        finally:
            gate.leave(sent_at, throttled)
