"""OpenAI's files and batches on 127.0.0.1, beside the chat completions of `openai_server`, misbehaving as it is told.

    with BatchServer(polls=2) as server:
        ...  # base_url=server.url; server.batches says what was made, server.seen what was asked

A batch is worked through over so many looks at it, and each of its requests is answered as a call would be: `faults` and
`answers` are those of `OpenAIServer`, and a refusal is a line of the error file.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from openai_server import FAULTS, Fault, OpenAIServer, Reply, refused


@dataclass
class Batch:
    """One batch as the server keeps it."""

    id: str
    file: str
    metadata: dict[str, str]
    requests: list[dict[str, Any]]
    created_at: int
    status: str = "validating"
    looks: int = 0
    answers: str | None = None
    failures: str | None = None
    counts: dict[str, int] = field(default_factory=dict)
    errors: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "errors": {"object": "list", "data": self.errors} if self.errors else None,
            "input_file_id": self.file,
            "completion_window": "24h",
            "status": self.status,
            "output_file_id": self.answers,
            "error_file_id": self.failures,
            "created_at": self.created_at,
            "request_counts": {"total": len(self.requests), "completed": 0, "failed": 0, **self.counts},
            "metadata": self.metadata,
        }


class BatchServer(OpenAIServer):
    """See the module's docstring.

    Args:
        polls: looks at a batch until it is completed.
        ends: how batches end, in turn: `completed`, `expired` or `cancelled` (after half of their requests), `failed` (its input is
            refused), `crowded` (too much is waiting already); completed afterwards.
        on: a path's beginning (`POST /files`, `GET /batches`) to what is done to such requests in turn, as `faults`; after `drop` or
            `silent` it is the answer alone that is lost.
        rewrite: what becomes of the lines of an output file.
    """

    def __init__(
        self,
        *,
        polls: int = 2,
        ends: tuple[str, ...] = (),
        on: Mapping[str, list[Fault]] | None = None,
        rewrite: Callable[[list[str]], list[str]] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.polls = polls
        self.ends = list(ends)
        self.on = {path: list(plan) for path, plan in (on or {}).items()}
        self.rewrite = rewrite
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, Batch] = {}
        self.seen: list[str] = []

    def asked(self, what: str) -> int:
        """How many requests began so, such as `POST /batches`."""
        return sum(one.startswith(what) for one in self.seen)

    def reply_to(self, method: str, path: str, raw: bytes, headers: dict[str, str]) -> Reply:
        what = f"{method} {path.removeprefix('/v1')}"
        if not re.match(r"\w+ /(files|batches)", what):
            return super().reply_to(method, path, raw, headers)
        self.seen.append(what)
        if self.key is not None and headers.get("authorization") != f"Bearer {self.key}":
            return self._wrong_key(headers.get("authorization", ""))
        plan = next((plan for start, plan in self.on.items() if what.startswith(start) and plan), [])
        fault = plan.pop(0) if plan else None
        done = FAULTS[fault] if isinstance(fault, str) else fault
        if done is not None and done.how != "drop" and not done.delay_s:
            return done
        found = self._work(what, raw, headers)
        return found if done is None else replace(found, how=done.how, delay_s=done.delay_s)

    def _work(self, what: str, raw: bytes, headers: dict[str, str]) -> Reply:
        method, _, path = what.partition(" ")
        path, _, query = path.partition("?")
        _, kind, *rest = path.split("/")
        if method == "POST":
            return Reply(body=self._take(raw, headers)) if kind == "files" else self._make(json.loads(raw))
        if rest and rest[0] not in (self.files if kind == "files" else self.batches):
            return Reply(404, refused(f"There is no {rest[0]}"))
        if kind == "files":
            return Reply(body=self.files[rest[0]].decode(), headers={"content-type": "application/octet-stream"})
        if rest:
            return Reply(body=self._look(self.batches[rest[0]]).as_json())
        listed = [batch.as_json() for batch in reversed(self.batches.values())]
        after = re.search(r"after=([^&]+)", query)
        if after:
            listed = listed[[one["id"] for one in listed].index(after[1]) + 1 :]
        return Reply(body={"object": "list", "data": listed[:2], "has_more": len(listed) > 2})

    def _take(self, raw: bytes, headers: dict[str, str]) -> dict[str, Any]:
        boundary = headers["content-type"].partition("boundary=")[2].encode()
        parts = {
            re.search(rb'name="(\w+)"', head)[1].decode(): content  # type: ignore[index]
            for part in raw.split(b"--" + boundary)
            if b"\r\n\r\n" in part
            for head, _, content in [part.partition(b"\r\n\r\n")]
        }
        assert parts["purpose"].strip() == b"batch"
        name = f"file-{len(self.files)}"
        self.files[name] = parts["file"].removesuffix(b"\r\n")
        return {"id": name, "object": "file", "bytes": len(self.files[name]), "purpose": "batch", "filename": "x"}

    def _make(self, body: dict[str, Any]) -> Reply:
        requests = [json.loads(line) for line in self.files[body["input_file_id"]].splitlines()]
        assert body["completion_window"] == "24h"
        assert {one["url"] for one in requests} == {body["endpoint"]} == {"/v1/chat/completions"}
        assert len({one["body"]["model"] for one in requests}) == 1
        assert len({one["custom_id"] for one in requests}) == len(requests)
        name = f"batch_{len(self.batches)}"
        made = Batch(name, body["input_file_id"], body["metadata"], requests, int(time.time()))
        self.batches[name] = made
        return Reply(body=made.as_json())

    def _look(self, batch: Batch) -> Batch:
        batch.looks += 1
        if batch.status in {"validating", "in_progress"}:
            batch.status = "in_progress"
            batch.counts = {"completed": len(batch.requests) * min(batch.looks, self.polls) // (self.polls + 1)}
            if batch.looks >= self.polls:
                self._end(batch, self.ends.pop(0) if self.ends else "completed")
        return batch

    def _end(self, batch: Batch, how: str) -> None:
        if how in {"failed", "crowded"}:
            crowded = {"code": "token_limit_exceeded", "message": "Enqueued token limit reached for this model."}
            broken = {"code": "invalid_json_line", "message": "This line is not parseable as valid JSON.", "line": 2}
            batch.status, batch.counts = "failed", {}
            batch.errors = [crowded if how == "crowded" else broken]
            return
        batch.status = how
        done = batch.requests if how == "completed" else batch.requests[: len(batch.requests) // 2]
        good, bad = [], []
        for one in done:
            reply = self.reply("/v1/chat/completions", one["body"], {"authorization": f"Bearer {self.key}"})
            response = {"status_code": reply.status, "request_id": "r", "body": reply.body}
            line = {"id": "x", "custom_id": one["custom_id"], "response": response, "error": None}
            (good if reply.status == 200 else bad).append(json.dumps(line, ensure_ascii=False))
        for one in batch.requests[len(done) :] if how == "expired" else []:
            told = {"code": "batch_expired", "message": "This request could not be executed before it expired."}
            bad.append(json.dumps({"id": "x", "custom_id": one["custom_id"], "response": None, "error": told}))
        batch.counts = {"completed": len(good), "failed": len(bad)}
        # The order of an output is nobody's promise.
        good.reverse()
        if self.rewrite:
            good = self.rewrite(good)
        for lines, name in ((good, "answers"), (bad, "failures")):
            if lines:
                file = f"file-{len(self.files)}"
                self.files[file] = "\n".join(lines).encode() + b"\n"
                setattr(batch, name, file)
