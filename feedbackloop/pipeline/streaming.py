"""An answer while it is made: `Feed` takes the text from the innermost layer to the reader, `Stream` is the reader's side.

The layers of the engine do not know of it: to them a streamed call is one that ends with its last token. Only retries and
fallbacks look whether something was handed on already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from types import TracebackType
from typing import Self

from feedbackloop.errors import CANCELLED
from feedbackloop.models import AIResponse, Attempt


class Feed:
    """The text of one request as it comes, and what had been tried should the reader leave.

    Args:
        now: a monotonic clock, in seconds.
        whole: the reader wants the answer in one piece, so that it can be asked again until its end.
    """

    def __init__(self, now: Callable[[], float], *, whole: bool = False) -> None:
        self._now = now
        self.whole = whole
        self._pieces: list[str] = []
        self._tried: list[Attempt] = []
        self._start: datetime | None = None
        self.queue: asyncio.Queue[str | None] = asyncio.Queue()
        self.began = self._opened = now()
        self.model = "none"
        self.ttft_ms: float | None = None

    @property
    def begun(self) -> bool:
        """Whether some text has been handed on."""
        return bool(self._pieces)

    @property
    def text(self) -> str:
        """All that has been handed on."""
        return "".join(self._pieces)

    def opened(self, model: str, start: datetime, *, paid: bool) -> None:
        """An attempt is sent to a model that is or is not paid."""
        self.model, self._start, self._opened, self._paid = model, start, self._now(), paid

    def put(self, text: str) -> None:
        """Hand on a piece."""
        if not self._pieces:
            self.ttft_ms = (self._now() - self._opened) * 1000
        self._pieces.append(text)
        self.queue.put_nowait(text)

    def ended(self, attempt: Attempt) -> None:
        """An attempt has failed."""
        self._start = None
        self._tried.append(attempt)

    def attempts(self) -> list[Attempt]:
        """What has been tried so far; an attempt under way counts as cancelled."""
        if self._start is None:
            return list(self._tried)
        open_for = (self._now() - self._opened) * 1000
        error = "the client left before the answer was complete"
        last = Attempt(
            model=self.model,
            start=self._start,
            latency_ms=open_for,
            cost_usd=None if self._paid else 0.0,
            error_type=CANCELLED,
            error=error,
        )
        return [*self._tried, last]


class Unheard(Feed):
    """A feed that nobody listens to: it only tells when the first text came.

    Nothing is handed on, so that an answer which breaks off can be asked again like any other.
    """

    def opened(self, model: str, start: datetime, *, paid: bool) -> None:
        """An attempt is sent; times are its own."""
        super().opened(model, start, paid=paid)
        self.ttft_ms = None

    def put(self, text: str) -> None:  # noqa: ARG002 - it is in the response too
        """Note when the first piece came."""
        if self.ttft_ms is None:
            self.ttft_ms = (self._now() - self._opened) * 1000


class Stream:
    """The reader's side: an async context manager, and an async iterator of texts.

        async with engine.stream(request) as stream:
            async for text in stream:
                ...
        stream.response

    Args:
        answer: makes the response; what it feeds is iterated.
        feed: where the texts come from.
        cancelled: the response that stands for an answer which nobody waits for any more.
    """

    response: AIResponse
    """The whole response, once the iteration has ended or the block was left."""

    def __init__(
        self, answer: Callable[[], Awaitable[AIResponse]], feed: Feed, cancelled: Callable[[], AIResponse]
    ) -> None:
        self._answer = answer
        self._feed = feed
        self._cancelled = cancelled
        self._task: asyncio.Task[AIResponse] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        """The next piece of text.

        Raises:
            Halted: nothing was sent, for nothing is to be sent any more.
        """
        text = await self._feed.queue.get()
        if text is not None:
            return text
        self._feed.queue.put_nowait(None)  # for whoever asks again
        assert self._task is not None
        self.response = self._task.result()
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        self._task = asyncio.ensure_future(self._answer())
        self._task.add_done_callback(lambda _: self._feed.queue.put_nowait(None))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task = self._task
        assert task is not None
        if not task.done():
            self.response = self._cancelled()
            task.cancel()
            await asyncio.wait([task])
        if not task.cancelled() and task.exception() is None:
            self.response = task.result()
