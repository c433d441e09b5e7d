"""A server on 127.0.0.1 that speaks OpenAI's chat completions and misbehaves as it is told.

In a test, in a thread of its own:

    with OpenAIServer(answers={"What is 2+2?": "4"}, faults=["rate_limited", "drop"]) as server:
        ...  # base_url=server.url; server.requests says what was asked and what was done to it

For a benchmark, in a process of its own (it prints its address; GET /counts says what was done):

    python tests/openai_server.py --port 8001 --delay-ms 200 --rates '{"rate_limited": 0.05}'
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import pytest


@dataclass(frozen=True)
class Reply:
    """How one request is answered.

    `body` none means the proper answer; a mapping is sent as JSON, a text as it is. `how`: `whole`; `drop` closes without a
    word; `reset` sends half of the body and then a TCP reset; `cut` sends half and closes; `drip` spreads the body's second
    half over `drip_s`.
    """

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    drip_s: float = 0.04
    how: Literal["whole", "drop", "reset", "cut", "drip"] = "whole"
    content: Any = ...
    finish_reason: str = "stop"
    usage: Any = ...
    name: str = "ok"


def refused(message: str, code: Any = None, kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


FAULTS: dict[str, Reply] = {
    "rate_limited": Reply(429, refused("Rate limit reached", "rate_limit_exceeded", "requests"), {"retry-after": "1"}),
    "quota": Reply(429, refused("You exceeded your current quota", "insufficient_quota", "insufficient_quota")),
    "error": Reply(500, refused("The server had an error", None, "server_error")),
    "unavailable": Reply(503, refused("Overloaded", None, "server_error"), {"retry-after": "2"}),
    "forbidden": Reply(403, refused("You have no access to this model")),
    "not_found": Reply(404, refused("The model does not exist", "model_not_found")),
    "request_timeout": Reply(408, refused("Took too long")),
    "conflict": Reply(409, refused("Try again")),
    "unprocessable": Reply(422, {"detail": [{"loc": ["body", "top_p"], "msg": "too large"}]}),
    "bad_request": Reply(400, refused("top_p must be at most 1", "invalid_value")),
    "context": Reply(400, refused("This model's maximum context length is 8192 tokens.", "context_length_exceeded")),
    "filter": Reply(400, refused("The response was filtered", "content_filter")),
    "filtered": Reply(finish_reason="content_filter", content=""),
    "broken_json": Reply(body='{"choices": [{"mess', headers={"content-type": "application/json"}),
    "html": Reply(body="<html>Welcome</html>", headers={"content-type": "text/html"}),
    "list": Reply(body=[1, 2]),
    "no_choices": Reply(body={"id": "x", "choices": []}),
    "error_in_200": Reply(body=refused("Upstream failed", 502)),
    "empty": Reply(content=""),
    "no_content": Reply(content=None),
    "parts": Reply(content=[{"type": "text", "text": "4"}]),
    "no_usage": Reply(usage=None),
    "junk_usage": Reply(usage={"prompt_tokens": "many", "completion_tokens": True, "prompt_tokens_details": 7}),
    "drop": Reply(how="drop"),
    "reset": Reply(how="reset"),
    "cut": Reply(how="cut"),
    "drip": Reply(how="drip"),
    "late": Reply(delay_s=0.05),
    "silent": Reply(delay_s=3600.0),
}
FAULTS = {name: replace(reply, name=name) for name, reply in FAULTS.items()}

Fault = str | Reply | None


@dataclass(frozen=True)
class Asked:
    """One request, and what was done to it (`ok` or a fault's name)."""

    path: str
    model: str | None
    text: str | None
    body: dict[str, Any]
    headers: dict[str, str]
    done: str

    @property
    def authorization(self) -> str:
        return self.headers.get("authorization", "")


def _events(whole: dict[str, Any], body: dict[str, Any]) -> str:
    """A completion as the events of a stream, a word each."""
    choice = whole["choices"][0]
    shared = {
        "id": whole["id"],
        "object": "chat.completion.chunk",
        "created": whole["created"],
        "model": whole["model"],
    }
    content = choice["message"].get("content")
    words = re.findall(r"\s*\S+\s*$|\s*\S+|\s+", content) if isinstance(content, str) else []
    deltas: list[Any] = [({"role": "assistant", "content": ""}, None), *(({"content": word}, None) for word in words)]
    deltas.append(({}, choice["finish_reason"]))
    events = [{**shared, "choices": [{"index": 0, "delta": d, "finish_reason": f}]} for d, f in deltas]
    if (body.get("stream_options") or {}).get("include_usage") and whole["usage"] is not None:
        events.append({**shared, "choices": [], "usage": whole["usage"]})
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"


def tokens(text: str) -> int:
    """What the server counts for a text."""
    return max(1, len(text) // 4)


class OpenAIServer:
    """See the module's docstring.

    Args:
        answers: texts by last user message, or by (model, last user message), or a function of the two; else an echo.
        faults: for each request in turn a name from FAULTS, a Reply, or None for a proper answer; proper ones afterwards.
            A mapping holds one such list for each model.
        rates: a fault's name to its share of requests, drawn with `seed`, once `faults` is used up.
        key: what the bearer token must be; none accepts all.
        wants_completion_tokens: models that refuse `max_tokens`.
        keep: whether `requests` is kept (a benchmark only counts).
    """

    def __init__(
        self,
        *,
        answers: Mapping[Any, str] | Callable[[str, str], Any] | None = None,
        faults: Iterable[Fault] | Mapping[str, Iterable[Fault]] = (),
        rates: Mapping[str, float] | None = None,
        seed: int = 0,
        delay_s: float = 0.0,
        key: str | None = None,
        wants_completion_tokens: Iterable[str] = (),
        models: Iterable[str] = ("gpt-4o", "gpt-4o-mini"),
        keep: bool = True,
        port: int = 0,
    ) -> None:
        self.answers = answers
        self.plans = {model: list(plan) for model, plan in faults.items()} if isinstance(faults, Mapping) else {}
        self.plan: list[Fault] = [] if isinstance(faults, Mapping) else list(faults)
        self.rates = dict(rates or {})
        self.random = random.Random(seed)
        self.delay_s = delay_s
        self.key = key
        self.wants_completion_tokens = set(wants_completion_tokens)
        self.models = list(models)
        self.keep = keep
        self.port = port
        self.requests: list[Asked] = []
        self.counts: Counter[str] = Counter()
        self.connections = 0
        self.most_at_once = 0
        self.at_once = 0
        self.open: set[_Connection] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._in_thread(started)), daemon=True)
        self._thread.start()
        assert started.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(5)

    async def _in_thread(self, started: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await self.listen()
        started.set()
        await self._stop.wait()
        server.close()
        for connection in list(self.open):
            connection.transport.abort()
        await asyncio.sleep(0)

    async def listen(self) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", self.port, backlog=2048)
        self.port = server.sockets[0].getsockname()[1]
        return server

    def reply_to(self, method: str, path: str, raw: bytes, headers: dict[str, str]) -> Reply:
        """Decide on the answer to a request as it came."""
        sent = "json" in headers.get("content-type", "")
        return self.reply(path, json.loads(raw) if raw and sent else {}, headers)

    def reply(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> Reply:
        """Decide on the answer, and note it."""
        authorization = headers.get("authorization", "")
        model, text = body.get("model"), None
        if path.endswith("/chat/completions"):
            text = next((m["content"] for m in reversed(body["messages"]) if m.get("role") == "user"), "")
            reply = self._decide(str(model), str(text), body, authorization)
        elif self.key is not None and authorization != f"Bearer {self.key}":
            reply = self._wrong_key(authorization)
        elif path.endswith("/models"):
            fault = self.plan.pop(0) if self.plan else None
            reply = Reply(body={"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]})
            reply = (FAULTS[fault] if isinstance(fault, str) else fault) or reply
        elif path == "/counts":
            return Reply(body=dict(self.counts) | {"connections": self.connections, "most_at_once": self.most_at_once})
        else:
            reply = replace(FAULTS["not_found"], body=refused(f"No such path {path}"))
        self.counts[reply.name] += 1
        if self.keep:
            self.requests.append(Asked(path, model, text, body, headers, reply.name))
        return reply

    def _wrong_key(self, authorization: str) -> Reply:
        # A careless server quotes the key, so that the tests see whether it is taken out.
        message = f"Incorrect API key provided: {authorization.removeprefix('Bearer ')} (sent as '{authorization}')."
        return Reply(401, refused(message, "invalid_api_key"), name="wrong_key")

    def _decide(self, model: str, text: str, body: dict[str, Any], authorization: str) -> Reply:
        if self.key is not None and authorization != f"Bearer {self.key}":
            return self._wrong_key(authorization)
        if model in self.wants_completion_tokens and "max_tokens" in body:
            message = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
            return Reply(400, refused(message, "unsupported_parameter"), name="max_tokens")
        fault = self._fault(model)
        reply = (FAULTS[fault] if isinstance(fault, str) else fault) or Reply()
        if self.delay_s:
            reply = replace(reply, delay_s=reply.delay_s + self.delay_s)
        if reply.body is not None:
            return reply
        whole = self._completion(model, text, body, reply)
        if body.get("stream"):
            events = {**reply.headers, "content-type": "text/event-stream"}
            return replace(reply, body=_events(whole, body), headers=events)
        return replace(reply, body=whole)

    def _fault(self, model: str) -> Fault:
        plan = self.plans.get(model, self.plan)
        if plan:
            return plan.pop(0)
        if self.rates:
            drawn = self.random.random()
            for name, share in self.rates.items():
                drawn -= share
                if drawn < 0:
                    return name
        return None

    def _completion(self, model: str, text: str, body: dict[str, Any], reply: Reply) -> dict[str, Any]:
        content = reply.content
        if content is ...:
            content = self._answer(model, text)
        message = content if isinstance(content, dict) else {"role": "assistant", "content": content}
        usage = reply.usage
        if usage is ...:
            read = sum(tokens(str(m.get("content"))) for m in body["messages"])
            written = tokens(str(message.get("content")))
            usage = {
                "prompt_tokens": read,
                "completion_tokens": written,
                "total_tokens": read + written,
                "prompt_tokens_details": {"cached_tokens": read // 2},
                "completion_tokens_details": {"reasoning_tokens": 0},
            }
        return {
            "id": f"chatcmpl-{self.counts.total()}",
            "object": "chat.completion",
            "created": 1750000000,
            "model": f"{model}-2026-01-01",
            "choices": [{"index": 0, "message": message, "finish_reason": reply.finish_reason}],
            "usage": usage,
        }

    def _answer(self, model: str, text: str) -> Any:
        if callable(self.answers):
            return self.answers(model, text)
        if self.answers is None:
            return f"You said: {text}"
        found = self.answers.get((model, text))
        return found if found is not None else self.answers[text]


class _Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, as much of it as the SDK uses."""

    transport: asyncio.Transport

    def __init__(self, server: OpenAIServer) -> None:
        self.server = server
        self.buffer = b""
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.server.connections += 1
        self.server.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.open.discard(self)
        if self.busy:
            self.server.at_once -= 1

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self._next()

    def _next(self) -> None:
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if self.busy or not found:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        size = int(headers.get("content-length", 0))
        if len(rest) < size:
            return
        body, self.buffer = rest[:size], rest[size:]
        server = self.server
        self.busy = True
        server.at_once += 1
        server.most_at_once = max(server.most_at_once, server.at_once)
        method, path = first.split(" ")[:2]
        reply = server.reply_to(method, path, body, headers)
        if reply.delay_s:
            asyncio.get_running_loop().call_later(reply.delay_s, self._send, reply)
        else:
            self._send(reply)

    def _send(self, reply: Reply) -> None:
        if self.transport.is_closing():
            return
        if reply.how == "drop":
            self.transport.close()
            return
        body = reply.body.encode() if isinstance(reply.body, str) else json.dumps(reply.body).encode()
        headers = {"content-type": "application/json", "content-length": str(len(body)), **reply.headers}
        head = f"HTTP/1.1 {reply.status} X\r\n" + "".join(f"{n}: {v}\r\n" for n, v in headers.items()) + "\r\n"
        if reply.how == "whole":
            self.transport.write(head.encode() + body)
            self._done()
            return
        half = len(body) // 2
        self.transport.write(head.encode() + body[:half])
        loop = asyncio.get_running_loop()
        if reply.how == "cut":
            self.transport.close()
        elif reply.how == "reset":
            loop.call_later(0.01, self._reset)
        else:
            steps = 8
            for step in range(steps):
                part = body[half + (len(body) - half) * step // steps : half + (len(body) - half) * (step + 1) // steps]
                loop.call_later(reply.drip_s * (step + 1) / steps, self._drip, part, step == steps - 1)

    def _drip(self, part: bytes, last: bool) -> None:
        self.transport.write(part)
        if last:
            self._done()

    def _reset(self) -> None:
        # Lingering for zero seconds makes the kernel send a reset instead of a proper end.
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _done(self) -> None:
        self.busy = False
        self.server.at_once -= 1
        self._next()


@pytest.fixture
def openai_server():
    """A server that echoes; set its `answers`, `plan`, `rates` or `key` before asking."""
    with OpenAIServer() as server:
        yield server


async def _serve(arguments: argparse.Namespace) -> None:
    server = OpenAIServer(
        answers=(lambda model, text: "4" * arguments.answer_length) if arguments.answer_length else None,
        rates=json.loads(arguments.rates),
        seed=arguments.seed,
        delay_s=arguments.delay_ms / 1000,
        key=arguments.key,
        keep=False,
        port=arguments.port,
    )
    listening = await server.listen()
    print(server.url, flush=True)
    await listening.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description="A fake OpenAI-compatible server on 127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--delay-ms", type=float, default=0.0)
    parser.add_argument("--rates", default="{}", help='shares of faults, e.g. \'{"rate_limited": 0.05, "drop": 0.01}\'')
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--key", default=None)
    parser.add_argument("--answer-length", type=int, default=0, help="characters; 0 echoes the question")
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
