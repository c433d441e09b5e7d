"""Engines with providers of a test's own under the names `a`, `b` and `c`, whose models cost a dollar per thousand tokens."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from fakes import _real_sleep, answer

from feedbackloop.models import AIRequest, AIResponse, ProcessingStatus
from feedbackloop.pipeline.engine import Engine
from feedbackloop.pipeline.resilience import Clock
from feedbackloop.settings import Limits, Price, ProviderSettings, Settings

NAMES = ("a", "b", "c")
SETTINGS = Settings(
    providers={name: ProviderSettings(base_url="http://127.0.0.1:9/v1") for name in NAMES},
    prices={f"{name}:m": Price(input_per_million=1000, output_per_million=1000) for name in NAMES},
)

FAILED, COMPLETED = ProcessingStatus.FAILED, ProcessingStatus.COMPLETED


class Slow:
    """Takes its time, counts who is there, and then does what it is told."""

    def __init__(self, seconds: float = 1.0, then: Callable[[AIRequest, int], AIResponse] | None = None) -> None:
        self.seconds = seconds
        self.then = then
        self.requests: list[AIRequest] = []
        self.sent_at: list[float] = []
        self.cancelled = 0
        self.here = self.most = 0

    async def complete(self, request: AIRequest) -> AIResponse:
        number = len(self.requests)
        self.requests.append(request)
        self.sent_at.append(asyncio.get_running_loop().time())
        self.here += 1
        self.most = max(self.most, self.here)
        try:
            await _real_sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.here -= 1
        return self.then(request, number) if self.then else answer(request, "fine", latency_ms=self.seconds * 1000)


def engine(
    clock: Clock, *providers: Any, limits: Limits | None = None, settings: Settings = SETTINGS, **options: Any
) -> Engine:
    made = Engine(settings, limits=limits or Limits(), clock=clock, chance=random.Random(1), **options)
    made._providers.update(zip(NAMES, providers, strict=False))
    return made


def ask(text: str = "hi", model: str = "a:m", **fields: Any) -> AIRequest:
    return AIRequest(input=text, model=model, **fields)


def idle(made: Engine) -> bool:
    """Whether nothing is held: no place, no reservation, no probe, nobody waiting."""
    gates = made.controller._gates.values()
    return (
        all(gate.in_flight == 0 and not [w for w in gate.waiting if not w.future.done()] for gate in gates)
        and made.purse.reservations == 0
        and made.purse.reserved_usd == 0.0
        and not any(breaker.probing for breaker in made._breakers.values())
        and not (made.answers and made.answers.in_flight)
    )
