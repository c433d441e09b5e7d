"""One request in, one response out: the onion of layers around a provider, and the one place where errors become responses."""

from __future__ import annotations

import asyncio
import functools
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from feedbackloop.errors import CANCELLED, Halted, ProviderError
from feedbackloop.models import AIRequest, AIResponse, Attempt, ProcessingStatus
from feedbackloop.pipeline.cache import Answers, Cache
from feedbackloop.pipeline.controller import Controller, RateLimit
from feedbackloop.pipeline.resilience import CALL, Breaker, Call, CircuitBreaker, Clock, Fallback, Halt, Retry, Timeout
from feedbackloop.pipeline.spending import Budget, Priced, Purse, worst_of
from feedbackloop.pipeline.streaming import Feed, Stream, Unheard
from feedbackloop.pipeline.validation import Validate, presented
from feedbackloop.pricing import Prices, spent
from feedbackloop.providers import Provider, create, model_name, provider_name
from feedbackloop.settings import Limits, Settings

logger = logging.getLogger(__name__)


class Dropped(asyncio.CancelledError):
    """A request was cancelled when something had been sent for it: `response` is what is known of that."""

    def __init__(self, response: AIResponse) -> None:
        super().__init__()
        self.response = response


class Engine:
    """Answers requests; what batch runs, the app and the gateway all call.

    Args:
        settings: providers, prices, defaults.
        limits: how targets may be asked; what a provider's own `limits` table names wins.
        budget_usd: what all requests together may cost.
        cache: whether equal keys share an answer.
        stream: let providers stream the answers of `complete` too, so that the time to their first token is known.
        wrap: put around each provider, such as a recorder.
        clock: where time comes from.
        chance: where jitter comes from.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        limits: Limits | None = None,
        budget_usd: float | None = None,
        cache: bool = False,
        stream: bool = False,
        wrap: Callable[[Provider], Provider] | None = None,
        clock: Clock | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self.settings = settings
        self.limits = limits or settings.limits
        self.purse = Purse(budget_usd)
        self.answers = Answers() if cache else None
        self._stream = stream
        self._wrap = wrap
        self._clock = clock or Clock()
        self._chance = chance or random.Random()  # noqa: S311  jitter, not a secret
        self._prices = Prices(settings)
        self.controller = Controller(self._limits_of, self._clock)
        self._halt = Halt()
        self._providers: dict[str, Provider] = {}
        self._breakers: dict[str, Breaker] = {}
        self._onions: dict[tuple[str, ...], _Onion] = {}

    def prepare(self, models: Sequence[str]) -> dict[str, str | None]:
        """Meet now the error that every call would meet: no key, no file, no function.

        Returns:
            By model, what besides messages and parameters decides its answers (a function's source), if anything.

        Raises:
            FeedbackLoopError: a model cannot be asked at all.
        """
        found = {}
        for model in models:
            prepare = getattr(self.provider(model), "prepare", None)
            found[model] = prepare(model) if prepare else None
        return found

    async def complete(self, request: AIRequest, models: Sequence[str] = ()) -> AIResponse:
        """The answer to a request, or a FAILED response that says why there is none.

        Args:
            models: whom to ask, in turn, as `provider:model`; none means `request.model` alone.

        Raises:
            BudgetExceeded: the next call could cost more than is left.
            Halted: nothing is to be sent any more. No model's fault raises anything, and whatever may have been charged has a
                response, so that its price is on record.
        """
        return await self._complete(request, models, Unheard(self._clock.now) if self._stream else None)

    def stream(self, request: AIRequest, models: Sequence[str] = (), *, whole: bool = False) -> Stream:
        """The answer while it is made: `async with engine.stream(request) as stream`, then `async for text in stream`.

        Before the first text all is as in `complete`. Afterwards nothing is asked again: an answer that breaks off is FAILED
        and keeps its text. Leaving the block early cancels the call. `stream.response` is there at the block's end.

        Args:
            whole: hand the text on in one piece at the end; all is as in `complete`, but for a reader who may leave.
        """
        feed = Feed(self._clock.now, whole=whole)
        answer = functools.partial(self._complete, request, models, feed)
        return Stream(answer, feed, lambda: cancelled(request, feed, self._clock))

    async def _complete(self, request: AIRequest, models: Sequence[str], feed: Feed | None) -> AIResponse:
        targets = tuple(models) or (model_name(request.model, self.settings),)
        asked = request if request.model == targets[0] else request.model_copy(update={"model": targets[0]})
        onion = self._onions.get(targets) or self._onion(targets)
        began = self._clock.now()
        call = Call(deadline=began + onion.deadline_s, halt=self._halt, feed=feed)
        token = CALL.set(call)
        try:
            response = await onion.provider.complete(asked)
        except (ProviderError, Halted) as error:
            if isinstance(error, Halted) and spent(error.attempts) == 0:
                raise
            response = failure(request, error, self._clock)
            if feed is not None and feed.begun:
                response = response.model_copy(
                    update={"output": feed.text, "model_used": feed.model, "ttft_ms": feed.ttft_ms}
                )
        except asyncio.CancelledError as cut:
            tried = [*call.tried, call.cut] if call.cut else call.tried
            if not tried or isinstance(cut, Dropped):
                raise
            raise Dropped(_given_up(request, tried, self._clock)) from cut
        else:
            if feed is not None and not feed.begun:
                feed.put((presented(response) if self.live(response.model_used) else response).output)
        finally:
            CALL.reset(token)
        waited = (self._clock.now() - began - call.queued_s) * 1000
        if response.cached:
            return response
        return response.model_copy(update={"total_ms": waited, "spent_usd": spent(response.attempts)})

    def provider(self, model: str) -> Provider:
        """The provider of a model, one instance for all its models."""
        name = provider_name(model, self.settings)
        if name not in self._providers:
            provider = create(name, self.settings)
            self._providers[name] = self._wrap(provider) if self._wrap else provider
        return self._providers[name]

    def worst(self, request: AIRequest, prices: Prices | None = None) -> float | None:
        """The most USD that one attempt at a request can cost; None where the price is unknown.

        Args:
            prices: other ones than those of calls.
        """
        return worst_of(self.provider(request.model), request, prices or self._prices)

    def live(self, model: str) -> bool:
        """Whether a model's answers are made now, rather than replayed."""
        return bool(getattr(self.provider(model), "live", True))

    def halt(self) -> None:
        """Send nothing more: requests that wait to be sent are given up, calls in flight are answered."""
        self._halt.call()

    async def aclose(self) -> None:
        """Close what the providers keep open on the running event loop."""
        self.controller.close()
        for name, provider in self._providers.items():
            if aclose := getattr(provider, "aclose", None):
                try:
                    await aclose()
                except Exception:
                    # The answers are there all the same, and the other providers want to be closed too.
                    logger.warning("the provider '%s' could not be closed", name, exc_info=True)

    def _onion(self, targets: tuple[str, ...]) -> _Onion:
        chain = tuple(dict.fromkeys(targets))
        provider: Provider = Fallback([(model, self._target(model, last=model == chain[-1])) for model in chain])
        if self.answers is not None:
            provider = Cache(provider, self.answers, self._clock)
        made = self._onions[targets] = _Onion(provider, max(self._limits_of(model).deadline for model in chain))
        return made

    def _target(self, model: str, *, last: bool) -> Provider:
        provider = self.provider(model)
        limits, clock, prices = self._limits_of(model), self._clock, self._prices
        target: Provider = Timeout(Priced(provider, prices, clock), limits.timeout_s, clock)
        if not self.live(model):
            # A recording is neither asked too often, nor down, nor paid for: its failures are replayed without a wait.
            return Retry(target, limits.retries, replace(clock, sleep=_no_wait), self._chance)
        target = RateLimit(target, self.controller, getattr(provider, "allowance", None))
        target = Budget(target, self.purse, functools.partial(worst_of, provider, prices=prices), clock)
        target = CircuitBreaker(target, self._breakers.setdefault(model, Breaker()), clock, last=last)
        return Retry(Validate(target), limits.retries, clock, self._chance)

    def _limits_of(self, model: str) -> Limits:
        return self.settings.limits_of(provider_name(model, self.settings), self.limits)


@dataclass(frozen=True)
class _Onion:
    """The layers around one chain of targets, and how long a request to it may take."""

    provider: Provider
    deadline_s: float


async def _no_wait(_: float) -> None:
    await asyncio.sleep(0)


def _given_up(request: AIRequest, attempts: list[Attempt], clock: Clock) -> AIResponse:
    gone = ProviderError("the run was cut short before this was answered")
    gone.attempts = attempts
    return failure(request, gone, clock).model_copy(update={"error_type": CANCELLED, "spent_usd": spent(attempts)})


def cancelled(request: AIRequest, feed: Feed, clock: Clock) -> AIResponse:
    """The response that stands for an answer which its reader did not wait for; it keeps the text that had come."""
    attempts = feed.attempts()
    return AIResponse(
        request_id=request.id,
        output=feed.text,
        model_used=feed.model if feed.begun else "none",
        status=ProcessingStatus.FAILED,
        error_type=CANCELLED,
        error="the client left before the answer was complete",
        ttft_ms=feed.ttft_ms,
        total_ms=(clock.now() - feed.began) * 1000,
        spent_usd=spent(attempts),
        attempts=attempts,
        created_at=clock.utc(),
    )


def failure(request: AIRequest, error: ProviderError | Halted, clock: Clock) -> AIResponse:
    """The response that stands for an error: no text poses as an answer."""
    return AIResponse(
        request_id=request.id,
        output="",
        model_used="none",
        tokens_used=0,
        cost_usd=0.0,
        status=ProcessingStatus.FAILED,
        error_type=type(error).__name__,
        error=str(error),
        attempts=error.attempts,
        created_at=clock.utc(),
    )
