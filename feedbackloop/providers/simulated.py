"""Answers made up on the spot: for the demo, the tutorials, tests and power simulations. Nothing is asked or paid."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import re
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Annotated, Any, Literal

from pydantic import Field

from feedbackloop import errors
from feedbackloop.errors import InvalidRequest, ProviderError, SettingsError
from feedbackloop.models import AIRequest, AIResponse
from feedbackloop.providers import Chunk
from feedbackloop.settings import Options, Settings, parse
from feedbackloop.text import storable

Failure = Literal[
    "RateLimited",
    "ProviderTimeout",
    "ProviderUnavailable",
    "AuthenticationFailed",
    "InvalidRequest",
    "ContextTooLong",
    "ContentFiltered",
    "OutputInvalid",
]

REMEMBERED_FAILURES = 100_000
"""Requests whose failures are counted at the same time; the oldest are forgotten."""

_NORMAL = NormalDist()

_GOOD = (
    "It starts from what was asked.",
    "It names the one thing to do first.",
    "It says why, with a figure where there is one.",
    "It ends with what to expect next.",
    "Nothing in it has to be guessed.",
)
_POOR = (
    "It talks around what was asked.",
    "It promises things that nobody can keep.",
    "The main point comes last, and then twice.",
    "What to do is left open.",
    "Half of it belongs to another question.",
)


class Behaviour(Options):
    """How a simulated model behaves: the `params` of a variant whose model is `simulated:NAME`."""

    quality: float = Field(default=0.8, ge=0, le=1)
    """Probability that the text contains "a good answer" rather than "a poor answer"."""
    latency_ms: float = Field(default=800.0, ge=0)
    """Median."""
    latency_sigma: float = Field(default=0.4, ge=0)
    """Standard deviation of the latency's natural logarithm."""
    tail: float = Field(default=0.0, ge=0, le=1)
    """Share of answers that take ten times as long."""
    failure_rate: float = Field(default=0.0, ge=0, le=1)
    failures: dict[Failure, Annotated[float, Field(ge=0)]] = Field(
        default={"RateLimited": 1.0, "ProviderTimeout": 1.0, "ProviderUnavailable": 1.0, "OutputInvalid": 1.0}
    )
    """Error class to weight: what the failures are."""
    retry_after_s: float | None = Field(default=None, ge=0)
    """What a `RateLimited` asks to wait."""
    output_tokens: float = Field(default=60.0, ge=1)
    """Mean; the text grows with it, up to about 2,000 characters."""
    seed: int = 0
    realtime: bool = False
    """Take the time in earnest instead of only reporting it."""


@dataclass(frozen=True)
class _Drawn:
    """What was drawn for one request."""

    identity: bytes
    latency_ms: float
    outcome: AIResponse | ProviderError


class SimulatedProvider:
    """Plays `simulated:NAME`, steered by the request's params (`Behaviour`).

    Everything follows from the seed, the model's name, the request (its key, else messages and repeat) and how often this
    request has just failed, so order and concurrency change nothing. Every text begins with `[simulated]`.

    Args:
        sleep: waits in real time, where that is asked for.
    """

    live = True
    paid = False

    def __init__(
        self,
        name: str,
        settings: Settings,  # noqa: ARG002 - all providers are made alike
        *,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        self.name = name
        self._sleep = sleep
        self._failed: dict[bytes, int] = {}
        self._behaviour: tuple[dict[str, Any], Behaviour] = ({}, Behaviour())

    async def complete(self, request: AIRequest) -> AIResponse:
        """Make up an answer, or a failure.

        Raises:
            InvalidRequest: `params` holds a key or a value that makes no sense.
            ProviderError: the failure that was drawn.
        """
        behaviour = self._read(request)
        drawn = self._draw(request, behaviour)
        if behaviour.realtime:
            await self._sleep(drawn.latency_ms / 1000)
        return self._ended(drawn)

    async def stream(self, request: AIRequest) -> AsyncIterator[Chunk]:
        """The same answer, word by word after a quarter of its time; a failure comes before the first word.

        Raises:
            InvalidRequest: `params` holds a key or a value that makes no sense.
            ProviderError: the failure that was drawn.
        """
        behaviour = self._read(request)
        drawn = self._draw(request, behaviour)
        first_ms = drawn.latency_ms / 4
        if behaviour.realtime:
            await self._sleep(first_ms / 1000)
        response = self._ended(drawn)
        words = re.findall(r"\S+\s*", response.output)
        for place, word in enumerate(words):
            if place and behaviour.realtime:
                await self._sleep((drawn.latency_ms - first_ms) / (len(words) - 1) / 1000)
            yield Chunk(word)
        yield Chunk(response=response.model_copy(update={"ttft_ms": first_ms}))

    def _draw(self, request: AIRequest, behaviour: Behaviour) -> _Drawn:
        asked = request.key or json.dumps([request.messages or request.input, request.repeat], default=str)
        identity = hashlib.blake2b(
            f"{behaviour.seed}|{request.model}|{asked}".encode("utf-8", "surrogatepass"), digest_size=16
        ).digest()
        failed = self._failed.get(identity, 0)
        drawn = hashlib.blake2b(identity + failed.to_bytes(8, "little"), digest_size=48).digest()
        fails, which, good, speed, slow, length = ((number + 0.5) / 2**64 for number in struct.unpack("<6Q", drawn))
        latency_ms = behaviour.latency_ms * math.exp(behaviour.latency_sigma * _NORMAL.inv_cdf(min(speed, 1 - 2**-53)))
        if slow < behaviour.tail:
            latency_ms *= 10
        if fails < behaviour.failure_rate and (error := _failure(behaviour, which)) is not None:
            return _Drawn(identity, latency_ms, error)
        output_tokens = max(1, round(behaviour.output_tokens * (0.5 + length)))
        output, repaired = storable(_text(request.input, good < behaviour.quality, output_tokens))
        characters = sum(len(str(message.get("content"))) for message in request.messages) or len(request.input)
        input_tokens = max(1, characters // 4)
        response = AIResponse(
            request_id=request.id,
            output=output,
            model_used=request.model,
            latency_ms=latency_ms,
            tokens_used=input_tokens + output_tokens,
            cost_usd=0.0,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cached_tokens=0,
            reasoning_tokens=0,
            usage={"prompt_tokens": input_tokens, "completion_tokens": output_tokens},
            finish_reason="stop",
            provider_model="simulated",
            metadata={"repaired": repaired} if repaired else {},
        )
        return _Drawn(identity, latency_ms, response)

    def _ended(self, drawn: _Drawn) -> AIResponse:
        if isinstance(drawn.outcome, ProviderError):
            self._remember(drawn.identity, self._failed.get(drawn.identity, 0) + 1)
            raise drawn.outcome
        self._failed.pop(drawn.identity, None)
        return drawn.outcome

    def _read(self, request: AIRequest) -> Behaviour:
        # A run asks thousands of times in a row with equal parameters.
        params, behaviour = self._behaviour
        if params != request.params:
            values = {name: value for name, value in request.params.items() if value is not None}
            try:
                behaviour = parse(Behaviour, values, f"params of {request.model}")
            except SettingsError as error:
                raise InvalidRequest(str(error)) from error
            self._behaviour = dict(request.params), behaviour
        return behaviour

    def _remember(self, identity: bytes, failed: int) -> None:
        self._failed[identity] = failed
        if len(self._failed) > REMEMBERED_FAILURES:
            del self._failed[next(iter(self._failed))]


def _failure(behaviour: Behaviour, which: float) -> ProviderError | None:
    remaining = which * sum(behaviour.failures.values())
    for name, weight in behaviour.failures.items():
        remaining -= weight
        if remaining < 0:
            made: type[ProviderError] = getattr(errors, name)
            message = f"[simulated] {(made.__doc__ or name).splitlines()[0]}"
            return made(message, retry_after=behaviour.retry_after_s if name == "RateLimited" else None)
    return None


def _text(question: str, good: bool, tokens: int) -> str:
    about = " ".join(question[:80].split())
    if len(question) > 80:
        about += "…"
    lead = f'[simulated] On "{about}", this is a {"good" if good else "poor"} answer.'
    sentences = _GOOD if good else _POOR
    # A sentence is about nine tokens, the lead about twenty.
    count = min(max(0, (tokens - 20) // 9), 50)
    return " ".join((lead, *(sentences[index % len(sentences)] for index in range(count))))
