"""A key is in no file, whatever a careless endpoint says of it."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from batch_server import Batch, BatchServer
from fakes import FakeTime
from openai_server import OpenAIServer, Reply, refused

import feedbackloop as fl
from feedbackloop.settings import Limits, ProviderSettings, Settings
from feedbackloop.store import Store

KEY = "Zq7-Distinct/ive+Key=8842"
"""Of a shape that nobody would take for a key."""
SPELLINGS = (
    KEY,
    json.dumps(KEY)[1:-1],
    KEY.replace("/", "\\/"),
    KEY.replace("/", "%2F").replace("+", "%2B").replace("=", "%3D"),
)

ROWS = [{"id": f"r{n}", "input": f"question {n}"} for n in range(14)]


def leaks(folder: Path, *texts: str) -> list[str]:
    """Where the key stands, in however it may be spelt, or half of it."""
    found = [str(file) for file in folder.rglob("*") if file.is_file() and _holds(file.read_bytes())]
    return found + [text[:200] for text in texts if _holds(text.encode())]


def _holds(content: bytes) -> bool:
    return any(part.encode() in content for part in (*SPELLINGS, "Zq7-Distinct", "Key=8842"))


def echoes(key: str) -> list[Reply]:
    """An endpoint that says what it was sent in all the places where it may speak."""
    said = f"you sent Authorization: Bearer {key}"
    event = {"content-type": "text/event-stream"}
    return [
        Reply(400, refused(said, key)),
        Reply(400, refused("bad", None, key)),
        Reply(500, refused(f"upstream: {key}")),
        Reply(429, refused(said), {"retry-after": "0"}),
        Reply(502, f"<html>{key}</html>"),
        Reply(503, f"header was {key}"),
        Reply(422, {"detail": [{"loc": ["header", "authorization"], "input": f"Bearer {key}"}]}),
        Reply(body=refused(said, 502)),
        Reply(body=f'{{"key": "{key}"', headers={"content-type": "application/json"}),
        Reply(content={"role": "assistant", "refusal": said}),
        Reply(400, refused("x" * 9990 + " " * 20 + key)),
        Reply(400, refused(" " * 9985 + key)),
        Reply(400, json.dumps(refused(said)).replace("/", "\\/"), {"content-type": "text/plain"}),
        Reply(400, refused("sent " + key.replace("/", "%2F").replace("+", "%2B").replace("=", "%3D"))),
        Reply(200, f'data: {{"error": {{"message": "{said}", "code": 500}}}}\n\n', event),
    ]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("UP_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def test_no_file_holds_a_key_that_an_endpoint_says_back(folder, capfd, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    store = Store(folder / "loop.duckdb")
    with OpenAIServer(key=KEY) as server:
        settings = Settings(base=folder, providers={"up": ProviderSettings(base_url=server.url, api_key_env="UP_KEY")})
        server.plan = list(echoes(KEY))
        options = {"store": store, "settings": settings, "clock": FakeTime().clock(), "allow_unknown_price": True}
        limits = Limits(retries=0, concurrency=1)
        result = await fl.run(ROWS, [{"name": "a", "model": "up:m"}], limits=limits, **options)
        assert result.progress.failed > 10
        server.key = "another one"  # the error that quotes the key
        wrong = await fl.run(ROWS[:2], [{"name": "a", "model": "up:m"}], limits=limits, cache=False, **options)
        assert "refuses the key in UP_KEY" in wrong.stopped
    for ending in ("html", "xml", "json", "csv", "md"):
        fl.report(store, result.run.id, folder / f"report.{ending}")
    out = capfd.readouterr()
    assert not leaks(folder, out.out, out.err, result.stopped or "", wrong.stopped or "", str(result.failures))
    assert not leaks(folder, *(record.getMessage() + str(record.exc_text) for record in caplog.records))


async def test_no_file_holds_a_key_that_a_check_or_a_strange_provider_says(folder) -> None:
    store, key = Store(folder / "loop.duckdb"), "sk-proj-Distinct8842"

    def asks_a_judge(case, response):
        raise RuntimeError(f"Incorrect API key provided: {key}")

    (folder / "own.py").write_text(f"def answer(inputs):\n    raise RuntimeError('refused: Bearer {key}')\n")
    variants = [{"name": "a", "model": "simulated:x"}, {"name": "b", "model": "python:own.py:answer"}]
    result = await fl.run(
        ROWS[:2],
        variants,
        store=store,
        settings=Settings(base=folder),
        graders=[asks_a_judge],
        limits=Limits(retries=0),
    )
    assert result.progress.failed == 2
    (folder / "own.py").unlink()
    errors = [*store.sql("SELECT error FROM ratings")["error"], *store.sql("SELECT error FROM responses")["error"]]
    assert sum("[key]" in str(error) for error in errors) == 4
    assert not [file for file in folder.rglob("*") if file.is_file() and b"Distinct8842" in file.read_bytes()]


async def test_no_file_holds_a_key_that_batches_say_back(folder, monkeypatch, capfd, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    store = Store(folder / "loop.duckdb")
    settings = Settings(base=folder)
    options = {"store": store, "settings": settings, "executor": "batch", "allow_unknown_price": True}
    told = []
    said = Reply(400, refused(f"you sent {KEY}"))
    for more in (
        {"on": {"POST /files": [said]}},
        {"on": {"POST /batches": [said]}},
        {"faults": echoes(KEY)},
        {"ends": ("quoting",)},
    ):
        with Quoting(polls=1, **more) as server:
            monkeypatch.setenv("OPENAI_BASE_URL", server.url)
            result = await fl.run(
                ROWS, [{"name": "a", "model": "openai:m"}], cache=False, clock=FakeTime().clock(), **options
            )
            told.append(result.stopped or str(result.failures))
    out = capfd.readouterr()
    assert not leaks(folder, out.out, out.err, *told, *(record.getMessage() for record in caplog.records))


class Quoting(BatchServer):
    """A batch of it may end with the key as its reason."""

    def _end(self, batch: Batch, how: str) -> None:
        if how != "quoting":
            super()._end(batch, how)
            return
        batch.status, batch.counts = "failed", {}
        batch.errors = [{"code": "invalid", "message": f"the file of {KEY} is not yours"}]
