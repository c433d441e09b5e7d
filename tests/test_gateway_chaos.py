"""Many clients, an upstream that fails in all its ways, and a SIGTERM in the middle: everybody is told, nothing is lost."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import openai
import pytest
from gateways import Gateway
from released import make_store

from feedbackloop.improve.policy import promote
from feedbackloop.settings import Limits
from feedbackloop.store import Store

ROOT = Path(__file__).parents[1]
FAULTS = {
    "error": 0.06,
    "drop": 0.03,
    "cut": 0.03,
    "reset": 0.02,
    "empty": 0.02,
    "broken_json": 0.02,
    "unprocessable": 0.02,
}


@dataclass
class Told:
    """What the clients were told: ids of answers and of failed requests, and who heard nothing."""

    answered: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    broken_off: list[str] = field(default_factory=list)
    """Answers that broke off with an error event."""
    unanswered: Counter[str] = field(default_factory=Counter)
    odd: list[str] = field(default_factory=list)
    """Errors that are not of OpenAI's shape, or make no sense."""

    @property
    def all(self) -> int:
        return len(self.answered) + len(self.refused) + len(self.broken_off)


async def ask(client: openai.AsyncOpenAI, number: int, told: Told, *, stream: bool) -> None:
    """One request as a client makes it, and what it was told."""
    messages = [{"role": "user", "content": f"question {number}"}]
    identity = None
    try:
        if not stream:
            answer = await client.chat.completions.create(model="support", messages=messages, user=f"u{number % 50}")
            assert answer.choices[0].message.content.endswith(f"question {number}")
            told.answered.append(answer.id)
            return
        texts = []
        async for chunk in await client.chat.completions.create(model="support", messages=messages, stream=True):
            identity = chunk.id
            texts += [choice.delta.content or "" for choice in chunk.choices]
        assert "".join(texts).endswith(f"question {number}")
        told.answered.append(identity)
    except openai.APIStatusError as error:
        told.odd += [error.response.text] * (not expected(error))
        told.refused.append(error.request_id)
    except openai.APIConnectionError as error:
        told.unanswered[type(error).__name__] += 1
    except openai.APIError as error:
        # An error event within a stream.
        told.odd += [repr(error.body)] * (error.body["code"] != "upstream_unavailable")
        told.broken_off.append(identity)


def expected(error: openai.APIStatusError) -> bool:
    shaped = isinstance(error.body, dict) and set(error.body) == {"message", "type", "param", "code"}
    return shaped and error.status_code in (400, 429, 502, 503, 504)


async def crowd(
    url: str, clients: int, seconds: float, *, told: Told | None = None, until: asyncio.Event | None = None
) -> Told:
    """So many clients, one request after the other each, some of them streamed."""
    told, numbers = told or Told(), iter(range(10**9))
    end = time.monotonic() + seconds
    chance = random.Random(1)
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60) as client:

        async def one() -> None:
            while time.monotonic() < end and not (until and until.is_set()):
                await ask(client, next(numbers), told, stream=chance.random() < 0.3)

        await asyncio.gather(*(one() for _ in range(clients)))
    return told


def check(store: Store, told: Told) -> None:
    """Every client was told something, and the store holds exactly that."""
    rows = store.sql("SELECT id, request_id, status, error_type FROM responses")
    completed = rows[rows["status"] == "completed"]
    failed = rows[rows["status"] == "failed"]
    assert not told.odd
    assert not told.unanswered
    assert set(completed["id"]) == set(told.answered)
    assert set(failed["request_id"]) >= set(told.refused)
    assert set(failed["id"]) >= set(told.broken_off)
    assert len(rows) == told.all
    requests = store.sql("SELECT count(*) AS n FROM requests")["n"][0]
    assert requests == told.all


async def test_sixteen_clients_and_an_upstream_that_fails_a_fifth_of_all_calls(tmp_path):
    limits = Limits(retries=0, timeout_s=2)
    with Gateway(tmp_path, limits=limits, rates=FAULTS, seed=3, keep=False) as gateway:
        gateway.promote("steps", canary=0.3)
        told = await crowd(gateway.url, 16, 2.0)
        gateway.stop()
        check(gateway.store, told)
        assert told.answered
        assert told.refused


class Process:
    """The service as users start it, and the upstream, in processes of their own."""

    def __init__(self, folder: Path, rates: str = "{}", delay_ms: int = 0) -> None:
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        server = (sys.executable, ROOT / "tests" / "openai_server.py", "--rates", rates, "--delay-ms", str(delay_ms))
        self.upstream = self._start(*server)
        up = self._line(self.upstream, "http").split()[-1]
        (folder / "feedbackloop.toml").write_text(
            f'[providers.up]\nbase_url = "{up}"\n[limits]\nretries = 2\ntimeout_s = 10\n'
        )
        self.store = make_store(folder / "loop.duckdb")
        promote(self.store, "support", "steps", canary=0.5)
        self.service = self._start(sys.executable, "-m", "feedbackloop", "serve", "--port", "0", cwd=folder)
        said = self._line(self.service, "running on")
        self.url = next(word for word in said.split() if word.startswith("http"))

    def _start(self, *command: object, cwd: Path | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(part) for part in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=cwd,
            env=self.environment,
        )

    def _line(self, process: subprocess.Popen[str], text: str) -> str:
        said = []
        for line in process.stdout:
            if text in line:
                return line
            said.append(line)
        raise AssertionError("".join(said))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self.service, self.upstream):
            if process.poll() is None:
                process.kill()
            process.communicate()

    def terminate(self) -> str:
        self.service.send_signal(signal.SIGTERM)
        out, _ = self.service.communicate(timeout=60)
        return out


async def test_sigterm_in_the_middle_loses_nothing_that_was_answered(tmp_path):
    with Process(tmp_path, delay_ms=30) as process:
        told, until = Told(), asyncio.Event()
        crowding = asyncio.ensure_future(crowd(process.url, 16, 30, told=told, until=until))
        while len(told.answered) < 100:
            assert not crowding.done()
            await asyncio.sleep(0.05)
        ending = asyncio.ensure_future(asyncio.to_thread(process.terminate))
        await asyncio.sleep(0.2)
        until.set()
        await crowding
        out = await ending
        assert not told.odd
        assert "Traceback" not in out
        assert process.service.returncode == 0
        stored = process.store.sql("SELECT id, request_id, status FROM responses")
        assert set(told.answered) <= set(stored["id"])
        assert set(told.refused) <= set(stored["request_id"])


@pytest.mark.slow
async def test_sixty_four_clients_for_half_a_minute(tmp_path):
    rates = '{"error": 0.06, "rate_limited": 0.005, "drop": 0.04, "cut": 0.03, "reset": 0.02, "empty": 0.02, "unprocessable": 0.025}'
    with Process(tmp_path, rates) as process:
        told = await crowd(process.url, 64, 30.0)
        out = process.terminate()
        assert "Traceback" not in out
        check(process.store, told)
        print(f"{len(told.answered)} answered, {len(told.refused)} refused, {len(told.broken_off)} broke off")
        assert len(told.answered) > 500
