"""What calls cost: `Priced` knows it afterwards, `Budget` keeps the sum below a limit beforehand."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from feedbackloop.errors import CANCELLED, BudgetExceeded, OutputInvalid, ProviderError
from feedbackloop.models import AIRequest, AIResponse, Attempt, ProcessingStatus
from feedbackloop.pipeline.resilience import CALL, Clock
from feedbackloop.pipeline.streaming import Feed
from feedbackloop.pricing import Prices, Tokens, spent
from feedbackloop.providers import Provider
from feedbackloop.providers.endpoint import DEFAULT_MAX_TOKENS, scrub
from feedbackloop.usage import read_usage
from feedbackloop.wording import dollars

COUNTS = ("tokens_used", "input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens")


class Priced:
    """The innermost layer: calls the provider, prices the answer, and writes down the attempt.

    Whatever a provider of somebody else's does or returns leaves here as an answer whose figures make sense, or as a
    `ProviderError`.
    """

    def __init__(self, provider: Provider, prices: Prices, clock: Clock) -> None:
        self._provider = provider
        self._prices = prices
        self._clock = clock
        self._base_url: str | None = getattr(provider, "base_url", None)
        self._live: bool = getattr(provider, "live", True)
        self._paid: bool = getattr(provider, "paid", True)

    async def complete(self, request: AIRequest) -> AIResponse:
        """The provider's answer, with its cost and its attempt.

        Raises:
            ProviderError: the provider's own, or one that stands for any other exception that escaped it.
        """
        start, began = self._clock.utc(), self._clock.now()
        call = CALL.get()
        call.sent += 1
        try:
            if call.feed is None:
                response = await self._provider.complete(request)
            else:
                response = await self._streamed(request, call.feed, start)
        except ProviderError as error:
            error.attempts = [self._failed(request, start, began, error)]
            raise
        except asyncio.CancelledError as cancelled:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                call.cut = Attempt(
                    model=request.model,
                    start=start,
                    cost_usd=None if self._paid else 0.0,
                    error_type=CANCELLED,
                    error="it was given up",
                )
                raise
            # Nobody cancelled this call: the provider let out what was meant for a task of its own.
            raise self._escaped(request, start, began, cancelled) from cancelled
        except Exception as escaped:
            raise self._escaped(request, start, began, escaped) from escaped
        if not isinstance(response, AIResponse):
            odd = OutputInvalid(f"{request.model} must return an AIResponse, but returned {type(response).__name__}")
            odd.attempts = [self._failed(request, start, began, odd)]
            raise odd
        return self._answer(request, response, start, began)

    async def _streamed(self, request: AIRequest, feed: Feed, start: datetime) -> AIResponse:
        """The provider's answer, its text handed on as it comes where the provider can do that."""
        feed.opened(request.model, start, paid=self._paid)
        stream = None if feed.whole else getattr(self._provider, "stream", None)
        if stream is None:
            return await self._provider.complete(request)
        last: AIResponse | None = None
        async with aclosing(stream(request)) as chunks:
            async for chunk in chunks:
                if chunk.response is not None:
                    last = chunk.response
                elif chunk.text:
                    feed.put(chunk.text)
        if last is None:
            raise OutputInvalid(f"{request.model} ended its stream without a response")
        return last if last.ttft_ms is not None else last.model_copy(update={"ttft_ms": feed.ttft_ms})

    def _answer(self, request: AIRequest, response: AIResponse, start: datetime, began: float) -> AIResponse:
        known: dict[str, Any] = {
            name: None for name in COUNTS if (count := getattr(response, name)) is not None and count < 0
        }
        latency_ms = _figure(response.latency_ms)
        if latency_ms is None and self._live:
            latency_ms = (self._clock.now() - began) * 1000
        cost = _figure(response.cost_usd)
        # Prices change, some with the hour: what counts is when the answer came, which the response keeps.
        answered = self._clock.utc()
        read, written = response.input_tokens, response.output_tokens
        if read is not None and written is not None and not known:
            tokens = Tokens(read, written, response.cached_tokens or 0, response.cache_write_tokens or 0)
            if cost is None and tokens.cached + tokens.cache_write <= read:
                cost = self._prices.cost(
                    request.model, tokens, base_url=self._base_url, reported=response.provider_model, at=answered
                )
            if response.tokens_used is None:
                known["tokens_used"] = read + written
        failed = response.status is ProcessingStatus.FAILED
        attempt = Attempt(
            model=request.model,
            provider_model=response.provider_model,
            start=start,
            latency_ms=latency_ms,
            usage=response.usage,
            # A replayed answer keeps what it cost, which was paid when it was made.
            cost_usd=cost if self._paid else 0.0,
            error_type="ProviderError" if failed else None,
            error=response.error if failed else None,
        )
        if failed:
            refusal = ProviderError(response.error or f"{request.model} returned a FAILED response without a reason")
            refusal.attempts = [attempt]
            raise refusal
        CALL.get().tried.append(attempt)
        known |= {
            "request_id": request.id,
            "model_used": request.model,
            "latency_ms": latency_ms,
            "cost_usd": cost,
            "cached": False,
            "attempts": [attempt],
            "created_at": answered,
        }
        return response.model_copy(update=known)

    def _escaped(self, request: AIRequest, start: datetime, began: float, escaped: BaseException) -> ProviderError:
        fault = ProviderError(scrub(f"{request.model}: {type(escaped).__name__}: {escaped}"))
        fault.attempts = [self._failed(request, start, began, fault)]
        return fault

    def _failed(self, request: AIRequest, start: datetime, began: float, error: ProviderError) -> Attempt:
        waited = (self._clock.now() - began) * 1000 if self._live else None
        attempt = Attempt(
            model=request.model,
            provider_model=error.provider_model,
            start=start,
            latency_ms=waited,
            usage=error.usage,
            cost_usd=self._cost_in_vain(request, error),
            error_type=type(error).__name__,
            error=str(error),
            maybe_charged=error.maybe_charged,
        )
        call = CALL.get()
        call.tried.append(attempt)
        if call.feed:
            call.feed.ended(attempt)
        return attempt

    def _cost_in_vain(self, request: AIRequest, error: ProviderError) -> float | None:
        """What an answer cost that came and cannot be used, if its endpoint says what it used."""
        if not self._paid:
            return 0.0
        used = read_usage(error.usage)
        if used.input is None or used.output is None:
            return None
        tokens = Tokens(used.input, used.output, used.cached or 0, used.cache_write or 0)
        if tokens.cached + tokens.cache_write > tokens.input:
            return None
        return self._prices.cost(
            request.model, tokens, base_url=self._base_url, reported=error.provider_model, at=self._clock.utc()
        )


def prompt_size(request: AIRequest) -> int:
    """Characters that are sent."""
    return sum(len(str(message.get("content", ""))) for message in request.messages) or len(request.input)


@dataclass
class Purse:
    """What a run may spend; shared by its requests."""

    limit_usd: float | None
    spent_usd: float = 0.0
    reserved_usd: float = 0.0
    reservations: int = 0
    _waiting: list[asyncio.Future[None]] = field(default_factory=list)

    @property
    def under_way(self) -> dict[str, float]:
        """What is lost if this process is killed now: calls that are sent or about to be, and the most that they can cost."""
        return {"calls": self.reservations, "usd": self.reserved_usd}

    async def reserve(self, worst_usd: float) -> None:
        """Put aside what the next attempt could cost, waiting for calls in flight where only these stand in the way.

        Raises:
            BudgetExceeded: what is already spent leaves too little.
        """
        while self.limit_usd is not None and self.spent_usd + self.reserved_usd + worst_usd > self.limit_usd:
            if self.spent_usd + worst_usd > self.limit_usd or not self.reservations:
                raise BudgetExceeded(
                    f"the budget of {dollars(self.limit_usd)} is used up: {dollars(self.spent_usd)} is spent and the next call "
                    f"could cost {dollars(worst_usd)}; go on with a larger one: feedbackloop resume --max-cost USD"
                )
            settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(settled)
            await settled
        self.reserved_usd += worst_usd
        self.reservations += 1

    def settle(self, worst_usd: float, cost_usd: float) -> None:
        """Replace a reservation by what the attempt did cost."""
        self.spent_usd += cost_usd
        self.reservations -= 1
        # Sums of floats leave crumbs, which somebody would wait for in vain.
        self.reserved_usd = self.reserved_usd - worst_usd if self.reservations else 0.0
        waiting, self._waiting = self._waiting, []
        for settled in waiting:
            if not settled.done():
                settled.set_result(None)


class Budget:
    """Lets an attempt pass only if its worst case fits what is left, and settles with what it did cost."""

    def __init__(self, inner: Provider, purse: Purse, worst: Callable[[AIRequest], float | None], clock: Clock) -> None:
        self._inner = inner
        self._purse = purse
        self._worst = worst
        self._clock = clock

    async def complete(self, request: AIRequest) -> AIResponse:
        """The inner answer.

        Raises:
            BudgetExceeded: the attempt could cost more than is left; nothing was sent.
        """
        call, worst = CALL.get(), 0.0
        if self._purse.limit_usd is not None:
            worst, began = self._worst(request) or 0.0, self._clock.now()
            if worst > self._purse.limit_usd:
                raise BudgetExceeded(too_small(request, worst, self._purse.limit_usd))
            await call.halt.wait(self._purse.reserve(worst))
            call.queued(self._clock.now() - began)
        else:
            await self._purse.reserve(worst)
        sent = call.sent
        cost: float | None = None
        try:
            response = await self._inner.complete(request)
            cost = _known(response.attempts, unknown=worst)
        except ProviderError as error:
            cost = _known(error.attempts, unknown=worst)
            raise
        finally:
            if cost is None:
                # Cancelled: what was sent and left no usage behind may have been charged in full.
                cost = worst if call.sent > sent else 0.0
            self._purse.settle(worst, cost)
        return response


def too_small(request: AIRequest, worst_usd: float, limit_usd: float) -> str:
    """The sentence about a budget that does not hold one call, and what to do; the same before a run and in it."""
    who = f"'{variant}'" if (variant := request.metadata.get("variant")) else request.model
    if _most_tokens(request.params) is None:
        why = f": max_tokens is not set, so {DEFAULT_MAX_TOKENS:,} output tokens are assumed; set params.max_tokens"
    else:
        why = "; lower params.max_tokens"
    return (
        f"the budget of {dollars(limit_usd)} is less than one call of {who} could cost, {dollars(worst_usd)}{why}, or allow "
        "more (--max-cost USD)"
    )


def worst_of(provider: Provider, request: AIRequest, prices: Prices) -> float | None:
    """The most USD that one attempt with a provider can cost; None where the price is unknown."""
    if not getattr(provider, "paid", True):
        return 0.0
    return worst_cost(request, prices, getattr(provider, "base_url", None))


def worst_cost(request: AIRequest, prices: Prices, base_url: str | None) -> float | None:
    """The most USD that one attempt can cost; None where the price is unknown."""
    params = request.params
    texts = [str(message.get("content", "")) for message in request.messages] or [request.input]
    # Schemas and tools are read by the model too.
    texts += [str(value) for value in params.values() if isinstance(value, list | Mapping)]
    # No token is shorter than a byte; each message has a frame of a few tokens.
    size = sum(len(text.encode("utf-8", "surrogatepass")) + 8 for text in texts) + 8
    tokens = Tokens(size, (_most_tokens(params) or DEFAULT_MAX_TOKENS) * (_whole(params.get("n")) or 1))
    return prices.cost(request.model, tokens, base_url=base_url)


def _most_tokens(params: Mapping[str, Any]) -> int | None:
    return _whole(params.get("max_completion_tokens")) or _whole(params.get("max_tokens"))


def _whole(value: Any) -> int | None:
    """A positive whole number, or None: what else an endpoint will make of it is its own affair."""
    return value if type(value) is int and value > 0 else None


def _figure(value: float | None) -> float | None:
    """A number that can be a duration or a price."""
    return value if value is not None and 0 <= value < math.inf else None


def _known(attempts: list[Attempt], unknown: float) -> float:
    """USD of attempts that were sent; those that may have been charged and say nothing count as `unknown`."""
    total = 0.0
    for attempt in attempts:
        cost = spent([attempt])
        total += unknown if cost is None else cost
    return total
