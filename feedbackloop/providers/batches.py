"""Batches of an OpenAI-compatible endpoint: a file of requests, answered within a day at half the price.

Input and output are JSON Lines (https://platform.openai.com/docs/guides/batch). Every call here is a single one, as with the
provider itself: when to ask again, and what was asked already, is the caller's business.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from feedbackloop.errors import BatchIncomplete, OutputInvalid, ProviderError
from feedbackloop.models import AIRequest, AIResponse
from feedbackloop.providers.endpoint import Endpoint

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai._types import RequestOptions

MAX_REQUESTS = 50_000
MAX_BYTES = 200_000_000
"""What the API takes in one file."""

PATH = "/chat/completions"
LABEL = "feedbackloop_batch"
"""Under which metadata a batch carries the name that we gave it before it was made."""

ANSWERED_WITHIN_S = 60.0
UPLOADED_WITHIN_S = 1800.0

_ENDED = frozenset({"completed", "expired", "cancelled", "failed"})
_TOO_MUCH_AT_ONCE = "token_limit_exceeded"


@dataclass(frozen=True)
class BatchState:
    """How a batch stands, as the endpoint says.

    Attributes:
        status: `validating`, `in_progress`, `finalizing`, `completed`, `expired`, `cancelling`, `cancelled`, or `failed`, which means
            that its input was refused and nothing of it asked.
        done: requests that are answered or have failed.
        answers, failures: ids of the files with the one and the other, where there are any.
        refusal: why it failed.
        crowded: it failed because too much is waiting there already, which passes.
    """

    id: str
    status: str
    done: int = 0
    answers: str | None = None
    failures: str | None = None
    refusal: str | None = None
    crowded: bool = False

    @property
    def ended(self) -> bool:
        """Whether nothing more comes of it."""
        return self.status in _ENDED


@dataclass(frozen=True)
class Batches:
    """What an endpoint does with batches.

    Args:
        name: of the provider.
        connect: its connection.
        body: what it would send for a request.
        read: the answer in what it is sent for a request; raises a `ProviderError` where there is none.
        typed: what an exception of the libraries below means.
        options: what is sent with every call.
    """

    name: str
    connect: Callable[[], Awaitable[tuple[AsyncOpenAI, Endpoint]]]
    body: Callable[[AIRequest], dict[str, Any]]
    read: Callable[[object, AIRequest, Endpoint, None], AIResponse]
    typed: Callable[[Exception, Endpoint], ProviderError]
    options: RequestOptions

    def line(self, request: AIRequest) -> bytes:
        """A request as a line of an input file; its id is the line's `custom_id`.

        Raises:
            InvalidRequest: its parameters cannot be sent, or not be written as JSON.
        """
        body = self.body(request)
        if self.name == "openai" and "max_tokens" in body:
            # All of OpenAI's models know the newer name, newer models that one alone, and a batch cannot be asked which.
            body["max_completion_tokens"] = body.pop("max_tokens")
        line = {"custom_id": request.id, "method": "POST", "url": f"/v1{PATH}", "body": body}
        return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"

    async def upload(self, lines: Sequence[bytes], label: str) -> str:
        """Send the lines as a file, and return its id. Nothing is to be paid until a batch is made of it.

        Raises:
            ProviderError: the file is refused, or did not arrive.
        """
        client, endpoint = await self.connect()
        file = (f"feedbackloop-{label}.jsonl", b"".join(lines), "application/jsonl")
        try:
            async with asyncio.timeout(UPLOADED_WITHIN_S):
                uploaded = await client.files.create(file=file, purpose="batch")
        except Exception as error:
            raise self._meant(error, endpoint) from None
        file_id = getattr(uploaded, "id", None)
        if not isinstance(file_id, str):
            raise OutputInvalid(f"{self.name} took a file for a batch and did not say what it is called")
        return file_id

    async def create(self, file_id: str, label: str, run_id: str) -> BatchState:
        """Make a batch of a file. After an error it may have been made all the same: `find` tells.

        Raises:
            ProviderError: it is refused, or whether it was made is not known.
        """
        body = {
            "input_file_id": file_id,
            "endpoint": f"/v1{PATH}",
            "completion_window": "24h",
            "metadata": {LABEL: label, "feedbackloop_run": run_id},
        }
        return await self._read_state(await self._asked("post", "/batches", body))

    async def find(self, label: str, since: datetime) -> BatchState | None:
        """The batch that carries this label, if it was made; one whose input was refused does not count.

        Args:
            since: it was made after that, if at all.

        Raises:
            ProviderError: the endpoint does not list its batches now.
        """
        after = ""
        while True:
            data = await self._asked("get", f"/batches?limit=100{after}")
            listed = data.get("data")
            batches = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
            for one in batches:
                if (one.get("metadata") or {}).get(LABEL) == label and one.get("status") != "failed":
                    return await self._read_state(one)
            # The newest stand first. An hour, since their clock need not be ours.
            oldest = min((_number(one.get("created_at")) for one in batches), default=0)
            if not data.get("has_more") or oldest < since.timestamp() - 3600:
                return None
            after = f"&after={quote(str(batches[-1].get('id')), safe='')}"

    async def state(self, batch_id: str) -> BatchState:
        """How a batch stands now.

        Raises:
            ProviderError: it cannot be asked for now, or there is none.
        """
        return await self._read_state(await self._asked("get", f"/batches/{quote(batch_id, safe='')}"))

    async def lines(self, file_id: str) -> AsyncIterator[bytes]:
        """The lines of a file, one after the other.

        Raises:
            ProviderError: it breaks off, or there is none.
        """
        client, endpoint = await self.connect()
        rest = b""
        try:
            async with client.with_streaming_response.files.content(file_id) as response:
                # By the byte: what decodes lines for us takes other signs than a newline for an end, too.
                async for piece in response.iter_bytes():
                    *whole, rest = (rest + piece).split(b"\n")
                    for line in whole:
                        yield line
        except Exception as error:
            meant = self._meant(error, endpoint)
            # A body that breaks off comes by other names than a connection does.
            raise endpoint.broken(error) if type(meant) is ProviderError else meant from None
        yield rest

    def custom_id(self, line: bytes) -> tuple[str, dict[str, Any]] | None:
        """Which request a line of an output file is about, and what it says; None where it cannot be read."""
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            return None
        custom_id = said.get("custom_id") if isinstance(said, dict) else None
        return (custom_id, said) if isinstance(custom_id, str) else None

    async def answer(self, said: dict[str, Any], request: AIRequest) -> AIResponse:
        """The answer that a line of an output file holds; without a latency, since a batch's is not the model's.

        Raises:
            ProviderError: it holds none, of the class that says why.
        """
        _, endpoint = await self.connect()
        error, response = said.get("error"), said.get("response")
        if isinstance(error, dict) and str(error.get("code") or "").startswith("batch_"):
            raise BatchIncomplete(endpoint.scrub(f"{self.name}: {error.get('message') or error['code']}"))
        if not isinstance(response, dict):
            raise endpoint.refusal_in_200(error or "the batch says nothing of this request")
        status, body = response.get("status_code"), response.get("body")
        if isinstance(status, int) and status != 200:
            raise endpoint.refusal(status, (body.get("error") if isinstance(body, dict) else None) or body, {})
        return self.read(body, request, endpoint, None)

    async def _read_state(self, data: dict[str, Any]) -> BatchState:
        _, endpoint = await self.connect()
        batch_id, status = data.get("id"), data.get("status")
        if not isinstance(batch_id, str) or not isinstance(status, str):
            raise OutputInvalid(f"{self.name} did not say how the batch stands")
        counts, errors = data.get("request_counts"), data.get("errors")
        counts = counts if isinstance(counts, dict) else {}
        listed = errors.get("data") if isinstance(errors, dict) else None
        faults = [fault for fault in listed if isinstance(fault, dict)] if isinstance(listed, list) else []
        told = [f"{f.get('message')}" + (f" (line {f['line']})" if f.get("line") else "") for f in faults[:3]]
        return BatchState(
            batch_id,
            status,
            done=_number(counts.get("completed")) + _number(counts.get("failed")),
            answers=data.get("output_file_id") or None,
            failures=data.get("error_file_id") or None,
            refusal=endpoint.scrub("; ".join(told)) or None,
            crowded=any(fault.get("code") == _TOO_MUCH_AT_ONCE for fault in faults),
        )

    async def _asked(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        client, endpoint = await self.connect()
        try:
            async with asyncio.timeout(ANSWERED_WITHIN_S):
                if method == "post":
                    data = await client.post(path, cast_to=object, body=body, options=self.options)
                else:
                    data = await client.get(path, cast_to=object, options=self.options)
        except Exception as error:
            raise self._meant(error, endpoint) from None
        if not isinstance(data, dict):
            raise OutputInvalid(f"{self.name} did not answer with a JSON object")
        return data

    def _meant(self, error: Exception, endpoint: Endpoint) -> ProviderError:
        return error if isinstance(error, ProviderError) else self.typed(error, endpoint)


def _number(value: object) -> int:
    return int(value) if isinstance(value, int | float) else 0
