"""Stand-ins that the product itself does not ship: a clock that does not wait, and a provider that follows a script."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from feedbackloop.models import AIRequest, AIResponse
from feedbackloop.pipeline.resilience import Clock

_real_sleep = asyncio.sleep


@dataclass
class FakeTime:
    """Time that moves only by sleeping."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await _real_sleep(0)

    def clock(self) -> Clock:
        return Clock(now=lambda: self.now, sleep=self.sleep)


class Scripted:
    """Answers as its script says, one entry a call: a text, an exception, or a function of the request. The last one repeats."""

    base_url: str | None = None

    def __init__(
        self, script: Iterable[str | Exception | Callable[[AIRequest], AIResponse]], **figures: object
    ) -> None:
        self.script = list(script)
        self.figures = figures
        self.requests: list[AIRequest] = []

    async def complete(self, request: AIRequest) -> AIResponse:
        step = self.script[min(len(self.requests), len(self.script) - 1)]
        self.requests.append(request)
        if isinstance(step, Exception):
            raise step
        if callable(step):
            return step(request)
        return answer(request, step, **self.figures)


def answer(request: AIRequest, text: str, **figures: object) -> AIResponse:
    known = {"latency_ms": 10.0, "input_tokens": 10, "output_tokens": 5, "tokens_used": 15, **figures}
    return AIResponse(request_id=request.id, output=text, model_used=request.model, **known)
