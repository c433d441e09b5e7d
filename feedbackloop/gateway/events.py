"""An answer as a stream of events, which ends the call behind it when its reader leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from feedbackloop.gateway.refusals import Refused, failed
from feedbackloop.gateway.service import Service, heading
from feedbackloop.gateway.wire import dumps, event, finish_reason, usage
from feedbackloop.identity import new_id, utcnow
from feedbackloop.models import AIResponse, ProcessingStatus
from feedbackloop.pipeline.router import Routed
from feedbackloop.pipeline.streaming import Stream
from feedbackloop.pipeline.validation import MAX_CHARACTERS

Result = TypeVar("Result")


class EventStream(Response):
    """Asks, and tells the text as it comes. What fails before the first text is an ordinary error with its own status.

    Args:
        include_usage: whether the last event but one says how many tokens it was.
    """

    def __init__(self, service: Service, routed: Routed, *, include_usage: bool) -> None:
        super().__init__()
        self._service = service
        self._routed = routed
        self._include_usage = include_usage
        self._id = new_id()
        self._created = int(utcnow().timestamp())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Speak until the end, or until nobody listens."""
        await unless_left(receive, self._speak(send))

    async def _speak(self, send: Send) -> None:
        async with self._service.asking(self._routed, id=self._id) as stream:
            begun = await self._tell(stream, send)
        await self._end(stream.response, send, begun=begun)

    async def _tell(self, stream: Stream, send: Send) -> bool:
        """Hand the texts on; returns whether there were any."""
        told = 0
        async for text in stream:
            if not told:
                await self._head(send, 200, "text/event-stream; charset=utf-8")
                await self._say(send, {"role": "assistant", "content": "", "refusal": None})
            # As with whole answers, what is longer is cut for the caller and kept whole.
            if told < MAX_CHARACTERS:
                await self._say(send, {"content": text[: MAX_CHARACTERS - told]})
            told += max(len(text), 1)
        return told > 0

    async def _end(self, response: AIResponse, send: Send, *, begun: bool) -> None:
        if response.status is ProcessingStatus.FAILED:
            refusal = failed(response)
            if begun:
                await send({"type": "http.response.body", "body": event({"error": refusal.error})})
            else:
                await self._refuse(refusal, send)
                return
        else:
            await self._say(send, {}, finish_reason(response), model=response.model_used)
            if self._include_usage:
                last = self._chunk(response.model_used) | {"choices": [], "usage": usage(response)}
                await send({"type": "http.response.body", "body": event(last), "more_body": True})
            await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    async def _say(
        self, send: Send, delta: dict[str, Any], finished: str | None = None, model: str | None = None
    ) -> None:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finished}
        chunk = self._chunk(model or self._routed.models[0]) | {"choices": [choice]}
        if self._include_usage:
            chunk["usage"] = None
        await send({"type": "http.response.body", "body": event(chunk), "more_body": True})

    def _chunk(self, model: str) -> dict[str, Any]:
        return {"id": self._id, "object": "chat.completion.chunk", "created": self._created, "model": model}

    async def _refuse(self, refusal: Refused, send: Send) -> None:
        await self._head(send, refusal.status, "application/json", refusal.headers)
        await send({"type": "http.response.body", "body": dumps({"error": refusal.error})})

    async def _head(self, send: Send, status: int, kind: str, more: dict[str, str] | None = None) -> None:
        headers = {"content-type": kind, "cache-control": "no-cache", **heading(self._routed), **(more or {})}
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})


async def unless_left(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result | None:
    """What `work` returns; or None if the client has left meanwhile, and then the work is cancelled.

    Args:
        receive: of the request, whose body has been read.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait([working])
    return None if working.cancelled() else working.result()


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
