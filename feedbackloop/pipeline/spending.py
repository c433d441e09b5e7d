"""What calls cost: `Priced` knows it afterwards, `Budget` keeps the sum below a limit beforehand."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime

from feedbackloop.errors import BudgetExceeded, OutputInvalid, ProviderError, ProviderTimeout
from feedbackloop.models import AIRequest, AIResponse, Attempt
from feedbackloop.pipeline.resilience import Clock
from feedbackloop.pricing import Prices, Tokens
from feedbackloop.providers import Provider

CHARACTERS_PER_TOKEN = 3.0
"""Fewer than real text has, so that an estimate errs on the dear side."""

DEFAULT_MAX_TOKENS = 2048


class Priced:
    """The innermost layer: calls the provider, prices the answer, and writes down the attempt."""

    def __init__(self, provider: Provider, prices: Prices, clock: Clock) -> None:
        self._provider = provider
        self._prices = prices
        self._clock = clock
        self._base_url: str | None = getattr(provider, "base_url", None)

    async def complete(self, request: AIRequest) -> AIResponse:
        """The provider's answer, with its cost and its attempt.

        Raises:
            ProviderError: the provider's own, or one that stands for any other exception that escaped it.
        """
        start = self._clock.utc()
        try:
            response = await self._provider.complete(request)
        except ProviderError as error:
            error.attempts = [_failed(request, start, error)]
            raise
        except Exception as escaped:
            fault = ProviderError(f"{request.model}: {type(escaped).__name__}: {escaped}")
            fault.attempts = [_failed(request, start, fault)]
            raise fault from escaped
        cost = response.cost_usd
        if cost is None and response.input_tokens is not None and response.output_tokens is not None:
            tokens = Tokens(
                response.input_tokens,
                response.output_tokens,
                response.cached_tokens or 0,
                response.cache_write_tokens or 0,
            )
            cost = self._prices.cost(
                request.model, tokens, base_url=self._base_url, reported=response.provider_model, at=start
            )
        attempt = Attempt(
            model=request.model,
            provider_model=response.provider_model,
            start=start,
            latency_ms=response.latency_ms,
            usage=response.usage,
            cost_usd=cost,
        )
        return response.model_copy(update={"cost_usd": cost, "attempts": [attempt], "created_at": self._clock.utc()})


def _failed(request: AIRequest, start: datetime, error: ProviderError) -> Attempt:
    return Attempt(model=request.model, start=start, error_type=type(error).__name__, error=str(error))


def spent(attempts: list[Attempt]) -> float | None:
    """USD over all attempts: the sum of the known costs, or None if something may have been charged and nothing is known.

    An attempt that was refused before a model worked on it cost nothing.
    """
    known = [attempt.cost_usd for attempt in attempts if attempt.cost_usd is not None]
    if known:
        return sum(known)
    charged = {None, ProviderTimeout.__name__, OutputInvalid.__name__}
    return None if any(attempt.error_type in charged for attempt in attempts) else 0.0


@dataclass
class Purse:
    """What a run may spend; shared by its requests."""

    limit_usd: float | None
    spent_usd: float = 0.0
    reserved_usd: float = 0.0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def reserve(self, worst_usd: float) -> None:
        """Put aside what the next attempt could cost, waiting for calls in flight where only these stand in the way.

        Raises:
            BudgetExceeded: what is already spent leaves too little.
        """
        if self.limit_usd is None:
            return
        while self.spent_usd + self.reserved_usd + worst_usd > self.limit_usd:
            if self.spent_usd + worst_usd > self.limit_usd or not self.reserved_usd:
                raise BudgetExceeded(
                    f"the budget of ${self.limit_usd:g} is used up: ${self.spent_usd:.4f} is spent and the next call could "
                    f"cost ${worst_usd:.4f}; raise budget_usd and resume"
                )
            self._changed.clear()
            await self._changed.wait()
        self.reserved_usd += worst_usd

    def settle(self, worst_usd: float, cost_usd: float) -> None:
        """Replace a reservation by what the attempt did cost."""
        self.spent_usd += cost_usd
        if self.limit_usd is not None:
            self.reserved_usd -= worst_usd
            self._changed.set()


class Budget:
    """Lets an attempt pass only if its worst case fits what is left, and settles with what it did cost."""

    def __init__(self, inner: Provider, purse: Purse, prices: Prices, base_url: str | None) -> None:
        self._inner = inner
        self._purse = purse
        self._prices = prices
        self._base_url = base_url

    async def complete(self, request: AIRequest) -> AIResponse:
        """The inner answer.

        Raises:
            BudgetExceeded: the attempt could cost more than is left; nothing was sent.
        """
        worst = self._worst(request) if self._purse.limit_usd is not None else 0.0
        await self._purse.reserve(worst)
        # What was sent and left no usage behind may have been charged in full.
        cost = worst
        try:
            response = await self._inner.complete(request)
            cost = _known(response.attempts, unknown=worst)
        except ProviderError as error:
            cost = _known(error.attempts, unknown=worst)
            raise
        finally:
            self._purse.settle(worst, cost)
        return response

    def _worst(self, request: AIRequest) -> float:
        size = sum(len(str(message.get("content", ""))) for message in request.messages) or len(request.input)
        asked = request.params.get("max_completion_tokens") or request.params.get("max_tokens") or DEFAULT_MAX_TOKENS
        tokens = Tokens(int(size / CHARACTERS_PER_TOKEN) + 16, int(asked))
        return self._prices.cost(request.model, tokens, base_url=self._base_url) or 0.0


def _known(attempts: list[Attempt], unknown: float) -> float:
    """USD of attempts that were sent; those that may have been charged and say nothing count as `unknown`."""
    total = 0.0
    for attempt in attempts:
        cost = spent([attempt])
        total += unknown if cost is None else cost
    return total
