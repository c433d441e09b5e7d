"""What is heard of an answer before it is read: how much more its endpoint takes, and that it is not to fill the memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any

from feedbackloop.providers import Allowance
from feedbackloop.providers.endpoint import allowance

LARGEST_ANSWER = 8 * 2**20
"""Bytes of one answer. 128,000 tokens with their log probabilities take less."""

ASKED: ContextVar[str] = ContextVar("asked")
"""The model that a call is for, to be set before it."""


class TooLarge(Exception):
    """An answer that is not read to its end."""


class Arrivals:
    """What the answers of an endpoint say of themselves; `hook` is for the HTTP client's event hooks."""

    def __init__(self) -> None:
        self.allowances: dict[str, Allowance] = {}
        """By model: what was said last."""

    async def hook(self, response: Any) -> None:
        """Called with the headers of every answer, before its body is read.

        Its body then raises `TooLarge` where it goes on beyond `LARGEST_ANSWER`.
        """
        # One pass over them: a look-up by name would be one each.
        names = {name.lower(): value for name, value in response.headers.raw}
        if b"x-ratelimit-limit-requests" in names or b"x-ratelimit-limit-tokens" in names:
            model, known = ASKED.get(None), allowance(response.headers)
            if model is not None and known is not None:
                self.allowances[model] = known
        size = names.get(b"content-length", b"")
        # What is packed may be larger than it says.
        if b"content-encoding" not in names and size.isdigit() and int(size) <= LARGEST_ANSWER:
            return
        if response.request.url.path.endswith("/chat/completions"):  # files of a batch may be larger
            response.aiter_bytes = _bounded(response.aiter_bytes)


def _bounded(read: Callable[..., AsyncGenerator[bytes, None]]) -> Callable[..., AsyncGenerator[bytes, None]]:
    async def bounded(chunk_size: int | None = None) -> AsyncGenerator[bytes, None]:
        size = 0
        async with aclosing(read(chunk_size)) as parts:
            async for part in parts:
                size += len(part)
                if size > LARGEST_ANSWER:
                    raise TooLarge
                yield part

    return bounded
