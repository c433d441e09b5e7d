"""Answers that need not be paid for again: equal key, equal question."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from feedbackloop.identity import new_id
from feedbackloop.models import AIRequest, AIResponse
from feedbackloop.pipeline.resilience import CALL, Clock
from feedbackloop.providers import Provider

RECENT = 1024
"""Answers of this very run that are kept at hand: variants that share a prompt ask the same within a few cells."""


class Answers:
    """What is already answered, by key; shared by the onions of an engine."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, AIResponse] = OrderedDict()
        self.in_flight: dict[str, asyncio.Future[None]] = {}

    def add(self, key: str, response: AIResponse) -> None:
        """Keep an answer at hand."""
        self._known.pop(key, None)  # what is needed anew is not the oldest
        self._known[key] = response
        while len(self._known) > RECENT:
            self._known.popitem(last=False)

    def get(self, key: str) -> AIResponse | None:
        """The answer to a key, if it is at hand."""
        return self._known.get(key)


class Keys:
    """Which keys there may be, in a few megabytes however many they are: of a million, two in ten thousand others seem to be there too."""

    _BITS = 2**27

    def __init__(self) -> None:
        self._bits: bytearray | None = None

    def add(self, key: str) -> None:
        """Note a key."""
        if self._bits is None:
            self._bits = bytearray(self._BITS // 8)
        for place in self._places(key):
            self._bits[place >> 3] |= 1 << (place & 7)

    def __contains__(self, key: str) -> bool:
        bits = self._bits
        return bits is not None and all(bits[place >> 3] >> (place & 7) & 1 for place in self._places(key))

    def _places(self, key: str) -> tuple[int, int]:
        number = hash(key)
        return number % self._BITS, (number >> 27) % self._BITS


def reusable(request: AIRequest) -> bool:
    """Whether an answer to the same question would do: not from a function of one's own, which gets inputs and no messages."""
    return request.inputs is None


class Cache:
    """Gives a known answer again, marked as cached; equal keys in flight wait for the first.

    A cached answer keeps the latency and cost of the call that made it. Only the answer of the target that was asked is kept,
    never a fallback's. A function of one's own is always asked: its key knows its file, but not the modules, prompts and indexes
    that it reads besides.
    """

    def __init__(self, inner: Provider, answers: Answers, clock: Clock) -> None:
        self._inner = inner
        self._answers = answers
        self._clock = clock

    async def complete(self, request: AIRequest) -> AIResponse:
        """A known answer, or the inner one."""
        key = request.key
        if key is None or not reusable(request):
            return await self._inner.complete(request)
        while True:
            if known := self._answers.get(key):
                return _again(known, request, self._clock)
            first = self._answers.in_flight.get(key)
            if first is None:
                break
            began = self._clock.now()
            call = CALL.get()
            await call.halt.wait(asyncio.wait([first]))
            call.queued(self._clock.now() - began)
        done = self._answers.in_flight[key] = asyncio.get_running_loop().create_future()
        try:
            response = await self._inner.complete(request)
            if response.model_used == request.model:
                self._answers.add(key, response)
            return response
        finally:
            # Whether it worked or not, whoever waits looks again; after a failure the next one asks for itself.
            del self._answers.in_flight[key]
            done.set_result(None)


def _again(known: AIResponse, request: AIRequest, clock: Clock) -> AIResponse:
    return known.model_copy(
        update={
            "id": new_id(),
            "request_id": request.id,
            "cached": True,
            "attempts": [],
            "spent_usd": 0.0,
            "created_at": clock.utc(),
        }
    )
