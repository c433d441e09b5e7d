"""Layers that make a call reliable: each is a provider around a provider.

Errors travel up with the attempts that they ended, so that whoever catches one knows what was tried and paid.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from feedbackloop.errors import (
    CircuitOpen,
    Halted,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
)
from feedbackloop.identity import utcnow
from feedbackloop.models import AIRequest, AIResponse, Attempt
from feedbackloop.pipeline.streaming import Feed
from feedbackloop.providers import Provider

T = TypeVar("T")

BACKOFF_S = 0.5
"""Wait before the first retry; doubled for each further one."""
BACKOFF_MAX_S = 30.0

LOOK_S = 0.25
"""How often those who wait behind a probe look whether it is back."""


@dataclass(frozen=True)
class Clock:
    """Where layers take time from; tests put in one that does not wait."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    utc: Callable[[], datetime] = utcnow
    """The time of day that records carry."""


class Halt:
    """Told once that nothing more is to be sent: it wakes all who wait to send, and leaves calls in flight alone."""

    def __init__(self) -> None:
        self._called = False
        self._waiting: set[asyncio.Task[Any]] = set()

    def call(self) -> None:
        """Send nothing from now on."""
        if not self._called:
            self._called = True
            for task in self._waiting:
                task.cancel()

    def check(self) -> None:
        """To be asked before anything is sent.

        Raises:
            Halted: nothing is to be sent any more.
        """
        if self._called:
            raise Halted("it was asked to stop before this could be sent")

    async def wait(self, waiting: Awaitable[T]) -> T:
        """What `waiting` returns. Every wait before a call, for a place, a rate, a retry or money, goes through here.

        Raises:
            Halted: nothing is to be sent any more, so that there is nothing to wait for.
        """
        task = asyncio.current_task()
        if self._called or task is None:
            if asyncio.iscoroutine(waiting):
                waiting.close()
            self.check()
            return await waiting
        cancelled_before = task.cancelling()
        self._waiting.add(task)
        try:
            return await waiting
        except asyncio.CancelledError:
            # As asyncio.timeout does: a cancellation of the caller's own goes before ours.
            if self._called and task.uncancel() <= cancelled_before:
                self.check()
            raise
        finally:
            self._waiting.discard(task)


@dataclass
class Call:
    """What all layers know of the request in flight."""

    deadline: float
    """On the engine's clock; moves on while the request waits for a turn of our own."""
    halt: Halt = field(default_factory=Halt)
    queued_s: float = 0.0
    """Time spent in our own queues, which is not the model's fault."""
    sent: int = 0
    """Attempts that reached a provider."""
    feed: Feed | None = None
    """Where the text goes while it is made, if somebody wants to see it so."""
    tried: list[Attempt] = field(default_factory=list)
    """Attempts that have ended."""
    cut: Attempt | None = None
    """The attempt that was cancelled, where the request was."""

    @property
    def begun(self) -> bool:
        """Whether some of the answer has been handed on: from then on nothing can be asked again."""
        return self.feed is not None and self.feed.begun

    def queued(self, seconds: float) -> None:
        """Do not hold a wait of our own making against the request."""
        self.queued_s += seconds
        self.deadline += seconds


CALL: ContextVar[Call] = ContextVar("call")
"""Set by the engine for each request."""


class Fallback:
    """Asks the first target, and the next where one is exhausted. Its answer is the answer: figures and `model_used` included."""

    def __init__(self, targets: Sequence[tuple[str, Provider]]) -> None:
        self._targets = targets

    async def complete(self, request: AIRequest) -> AIResponse:
        """The first answer that a target gives.

        Raises:
            ProviderError: the last target's, when none answered.
        """
        attempts: list[Attempt] = []
        for number, (model, target) in enumerate(self._targets, start=1):
            asked = request if request.model == model else request.model_copy(update={"model": model})
            try:
                return _after(attempts, await target.complete(asked))
            except ProviderError as error:
                attempts += error.attempts
                error.attempts = attempts
                if number == len(self._targets) or CALL.get().begun:
                    raise
            except Halted as error:
                error.attempts = attempts + error.attempts
                raise
        raise ProviderError("there is no target to ask")


class Retry:
    """Asks again where that may help, with exponential back-off and jitter, and never past the deadline.

    A 429 is waited for and uses up no retry: the provider said when to come back.
    """

    def __init__(self, inner: Provider, retries: int, clock: Clock, chance: random.Random) -> None:
        self._inner = inner
        self._retries = retries
        self._clock = clock
        self._chance = chance

    async def complete(self, request: AIRequest) -> AIResponse:
        """The first answer.

        Raises:
            ProviderError: it makes no sense to ask again, or the retries or the time are used up.
        """
        attempts: list[Attempt] = []
        failures = throttled = 0
        while True:
            try:
                return _after(attempts, await self._inner.complete(request))
            except (ProviderError, Halted) as error:
                attempts += error.attempts
                error.attempts = attempts
                if isinstance(error, Halted) or not error.retryable or CALL.get().begun:
                    raise
                if isinstance(error, RateLimited):
                    throttled += 1
                    named = error.retry_after
                    # "Come back in 0 seconds", said again and again, would be a loop at full speed until the deadline.
                    wait = named if named is not None and named > 0 else self._backoff(throttled)
                else:
                    failures += 1
                    if failures > self._retries:
                        raise
                    wait = max(self._backoff(failures), error.retry_after or 0.0)
                if self._clock.now() + wait >= CALL.get().deadline:
                    raise
            try:
                await CALL.get().halt.wait(self._clock.sleep(wait))
            except Halted as halted:
                halted.attempts = attempts
                raise

    def _backoff(self, failures: int) -> float:
        ceiling = min(BACKOFF_S * 2.0 ** min(failures - 1, 16), BACKOFF_MAX_S)
        return ceiling * (0.5 + 0.5 * self._chance.random())


@dataclass
class Breaker:
    """What is known of a target's health; shared by all requests that go to it.

    Closed, it lets everything through. `THRESHOLD` failures in a row open it; after a pause (doubled up to `PAUSE_MAX_S`) one
    probe may pass, whose end closes or reopens it.
    """

    THRESHOLD = 8  # random failures of 30% come eight in a row once in 15,000 calls
    PAUSE_S = 5.0
    PAUSE_MAX_S = 30.0

    failures: int = 0
    open_since: float | None = None
    probe_at: float = 0.0
    pause_s: float = PAUSE_S
    probing: bool = False

    def may_pass(self, now: float) -> bool:
        """Whether a request may be sent now; a probe's place is taken by asking."""
        if self.open_since is None:
            return True
        if self.probing or now < self.probe_at:
            return False
        self.probing = True
        return True

    def succeeded(self) -> None:
        """The target answered, if only with a refusal."""
        self.failures, self.open_since, self.pause_s, self.probing = 0, None, self.PAUSE_S, False

    def failed(self, now: float, *, probe: bool) -> None:
        """The target timed out, was not reachable, or answered 5xx."""
        self.failures += 1
        if self.open_since is not None:
            # While it is open, those that were sent before say nothing new; only the probe does.
            if probe:
                self.pause_s = min(self.pause_s * 2, self.PAUSE_MAX_S)
                self.probing, self.probe_at = False, now + self.pause_s
        elif self.failures >= self.THRESHOLD:
            self.open_since, self.probe_at = now, now + self.pause_s


class CircuitBreaker:
    """Does not ask a target that keeps failing.

    With a further target to fall back to it gives up at once; on the last one it waits for a probe to succeed, until the
    deadline or until the target was down for `patience_s`.
    """

    def __init__(
        self, inner: Provider, breaker: Breaker, clock: Clock, *, last: bool, patience_s: float = 60.0
    ) -> None:
        self._inner = inner
        self._breaker = breaker
        self._clock = clock
        self._last = last
        self._patience_s = patience_s

    async def complete(self, request: AIRequest) -> AIResponse:
        """The inner answer.

        Raises:
            CircuitOpen: the target is down.
        """
        attempts: list[Attempt] = []
        breaker = self._breaker
        while True:
            try:
                probe = await self._pass(request.model)
            except (CircuitOpen, Halted) as error:
                error.attempts = attempts
                raise
            try:
                response = await self._inner.complete(request)
            except (ProviderError, Halted) as error:
                attempts += error.attempts
                down = isinstance(error, ProviderTimeout | ProviderUnavailable)
                if not error.attempts:
                    # It was given up before it was sent: nothing was learned.
                    breaker.probing = breaker.probing and not probe
                elif not down:
                    breaker.succeeded()
                else:
                    breaker.failed(self._clock.now(), probe=probe)
                    if probe and self._last and not CALL.get().begun:
                        continue  # a failed probe says nothing of this request: it goes on waiting
                error.attempts = attempts
                raise
            except BaseException:
                breaker.probing = breaker.probing and not probe
                raise
            breaker.succeeded()
            return _after(attempts, response)

    async def _pass(self, model: str) -> bool:
        """Wait until the request may be sent; returns whether it is a probe."""
        breaker = self._breaker
        if breaker.open_since is None:
            return False
        while not breaker.may_pass(now := self._clock.now()):
            opened = now if breaker.open_since is None else breaker.open_since
            until = min(CALL.get().deadline, opened + self._patience_s)
            if not self._last or now >= until:
                raise CircuitOpen(f"{model} has kept failing for {now - opened:.0f} s; it is not asked for now")
            wait = breaker.probe_at - now if breaker.probe_at > now else LOOK_S
            await CALL.get().halt.wait(self._clock.sleep(min(wait, until - now, 1.0)))
        return breaker.probing


class Timeout:
    """Bounds one attempt, and never lets it outlive the request's deadline.

    The SDK's own bound is per read: an answer that drips in outlives it. An answer that comes all the same, from a provider that
    does not stop when told to, is ignored: its attempt has timed out, and says what it cost.
    """

    def __init__(self, inner: Provider, timeout_s: float, clock: Clock) -> None:
        self._inner = inner
        self._timeout_s = timeout_s
        self._clock = clock

    async def complete(self, request: AIRequest) -> AIResponse:
        """The inner answer.

        Raises:
            ProviderTimeout: it did not come in time, or there was no time left to send it (then without an attempt).
        """
        began = self._clock.now()
        seconds = min(self._timeout_s, CALL.get().deadline - began)
        if seconds <= 0:
            raise ProviderTimeout(f"no time was left to ask {request.model}: the request's deadline has passed")
        start = self._clock.utc()
        try:
            async with asyncio.timeout(seconds) as bound:
                response = await self._inner.complete(request)
        except TimeoutError as error:
            if not bound.expired():
                raise
            late = ProviderTimeout(f"{request.model} gave no complete answer within {seconds:.3g} s")
            known = CALL.get().cut or Attempt(model=request.model, start=start)
            raise self._ended(late, known, began) from error
        if bound.expired():
            late = ProviderTimeout(f"{request.model} answered after more than {seconds:.3g} s, which was too late")
            raise self._ended(late, response.attempts[-1], began)
        return response

    def _ended(self, late: ProviderTimeout, known: Attempt, began: float) -> ProviderTimeout:
        waited = (self._clock.now() - began) * 1000
        ended = {"latency_ms": waited, "error_type": type(late).__name__, "error": str(late)}
        late.attempts = [known.model_copy(update=ended)]
        call = CALL.get()
        call.cut = None
        call.tried.append(late.attempts[0])
        if call.feed:
            call.feed.ended(late.attempts[0])
        return late


def _after(attempts: list[Attempt], response: AIResponse) -> AIResponse:
    """The response with what was tried before it."""
    return response.model_copy(update={"attempts": attempts + response.attempts}) if attempts else response
