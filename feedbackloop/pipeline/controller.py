"""Admission: the one queue in front of all targets. Priority 10 first, equals in order of arrival.

A request passes when its target has a free place and its rate allows one more. How many places there are is found out: it
starts low and doubles with success, and is cut by a fifth when the target says 429 (once per episode, not per 429).

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
from feedbackloop.pipeline.resilience import CALL, Clock
from feedbackloop.pipeline.spending import CHARACTERS_PER_TOKEN, prompt_size
from feedbackloop.providers import Provider
from feedbackloop.settings import Limits

START = 16
"""Places of a target that nothing is known of yet."""
CUT = 0.8


@dataclass
class Bucket:
    """A rate: `per_minute` units flow in, at most a second's worth is kept, and whoever finds anything in it may overdraw."""

    per_minute: float
    level: float
    at: float

    def wait(self, now: float) -> float:
        """Seconds until something is left."""
        self.level = min(self.level + (now - self.at) * self.per_minute / 60, self.per_minute / 60)
        self.at = now
        return 0.0 if self.level > 0 else -self.level * 60 / self.per_minute + 1e-3


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
    waiting: list[_Waiter] = field(default_factory=list)
    requests: Bucket | None = None
    tokens: Bucket | None = None
    pump: asyncio.Task[None] | None = None

    def open_in(self) -> float:
        """Seconds until the rates let one more pass; infinite while every place is taken."""
        if self.in_flight >= max(int(self.places), 1):
            return float("inf")
        if not (self.closings or self.requests or self.tokens):
            return 0.0
        now = self.clock.now()
        waits = [bucket.wait(now) for bucket in (self.requests, self.tokens) if bucket]
        return max([self.closed_until - now, *waits, 0.0])

    def closed_s(self, now: float) -> float:
        """Seconds that the provider has kept the gate closed so far: a difference of two says how much of a wait is its doing."""
        return self.closings - max(self.closed_until - now, 0.0)

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

    def grow(self) -> None:
        """The target answered: it may bear more. Places that nobody uses prove nothing, so they do not grow."""
        if self.places < self.limits.concurrency and self.in_flight * 2 > self.places:
            more = 1.0 if self.slow_start else 1.0 / self.places
            self.places = min(self.places + more, float(self.limits.concurrency))

    def cut(self, sent_at: float, error: RateLimited) -> None:
        """The target said 429: send less at a time, and nothing before the time that it named."""
        now = self.clock.now()
        named = error.retry_after
        if named is not None and 0 < named < math.inf and now + named > self.closed_until:
            self.closings += now + named - max(self.closed_until, now)
            self.closed_until = now + named
            for waiter in self.waiting:
                if waiter.patience <= self.closings and not waiter.future.done():
                    waiter.future.set_result(self._refusal(waiter.target, now))
        if sent_at > self.episode:
            self.episode, self.slow_start = now, False
            self.places = max(self.places * CUT, 1.0)

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
            if limits.requests_per_minute:
                gate.requests = Bucket(limits.requests_per_minute, limits.requests_per_minute / 60, now)
            if limits.tokens_per_minute:
                gate.tokens = Bucket(limits.tokens_per_minute, limits.tokens_per_minute / 60, now)
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

    def close(self) -> None:
        """Stop what would wake those who wait."""
        for gate in self._gates.values():
            if gate.pump is not None:
                gate.pump.cancel()


class RateLimit:
    """Asks the controller for a place before each attempt, retries and fallbacks included."""

    def __init__(self, inner: Provider, controller: Controller) -> None:
        self._inner = inner
        self._controller = controller

    async def complete(self, request: AIRequest) -> AIResponse:
        """The inner answer, once there was a place for it."""
        rate = self._controller.gate(request.model).tokens
        tokens = prompt_size(request) / CHARACTERS_PER_TOKEN if rate else 0.0
        gate = await self._controller.enter(request.model, request.priority, tokens)
        sent_at = gate.clock.now()
        try:
            response = await self._inner.complete(request)
        except RateLimited as error:
            gate.cut(sent_at, error)
            raise
        else:
            gate.grow()
            if rate and response.tokens_used is not None:
                rate.level += tokens - response.tokens_used
            return response
        finally:
            gate.leave()
