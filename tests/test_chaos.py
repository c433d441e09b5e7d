"""A provider that fails three calls in ten in all its ways: every row ends with an answer or a reason, and all is accounted for."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

import openai_server
import pytest
from fakes import _real_sleep
from openai_server import FAULTS, OpenAIServer, Reply

import feedbackloop as fl
from feedbackloop.models import AIResponse, ProcessingStatus
from feedbackloop.pipeline.resilience import Clock
from feedbackloop.settings import ProviderSettings, Settings

SHARE = 0.3
WAYS = ("error", "rate_limited", "silent", "reset", "broken_json", "empty", "huge", "dripping")
FASTER = 10
"""The engine's own waits, for a retry or a turn, take a tenth of their time; what the provider does takes its own."""
LIMITS = fl.Limits(concurrency=48, timeout_s=2.0, deadline_s=30 * FASTER, retries=1)
LATE_S = 5.0
"""What a busy machine may add to a time that is kept."""


@pytest.fixture(autouse=True)
def more_faults(monkeypatch) -> None:
    monkeypatch.setitem(FAULTS, "huge", Reply(content="x" * 10_000_000, name="huge"))
    monkeypatch.setitem(FAULTS, "dripping", Reply(how="drip", drip_s=600.0, name="dripping"))
    refusal = openai_server.refused("Rate limit reached", "rate_limit_exceeded", "requests")
    monkeypatch.setitem(FAULTS, "rate_limited", Reply(429, refusal, {"retry-after-ms": "50"}, name="rate_limited"))


async def chaos(folder: Path, calls: int, *, limits: fl.Limits = LIMITS, stream: bool = False) -> None:
    store = fl.Store(folder / "loop.duckdb")
    rates = dict.fromkeys(WAYS, SHARE / len(WAYS))
    with OpenAIServer(rates=rates, seed=7, keep=False) as server:
        settings = Settings(base=folder, providers={"up": ProviderSettings(base_url=server.url)})
        before, began = asyncio.all_tasks(), time.monotonic()
        result = await fl.run(
            [{"input": f"question {number}"} for number in range(calls)],
            [{"name": "v", "model": "up:m"}],
            store=store,
            settings=settings,
            limits=limits,
            stream=stream,
            clock=Clock(now=lambda: time.monotonic() * FASTER, sleep=lambda seconds: _real_sleep(seconds / FASTER)),
        )
        took = time.monotonic() - began
        assert asyncio.all_tasks() == before  # no task leaks
        assert result.finished
        asked = Counter(server.counts)

    # Every row ends as completed, or as failed with its reason.
    responses = store.load(AIResponse, "SELECT * FROM responses")
    assert len(responses) == len({response.request_id for response in responses}) == calls
    failed = [response for response in responses if response.status is ProcessingStatus.FAILED]
    assert all(response.output.startswith("You said: question") for response in responses if response not in failed)
    assert all(response.error_type and response.error and not response.output for response in failed)
    assert result.progress.completed + result.progress.failed == calls
    assert len(failed) == result.progress.failed == sum(result.failures.values())

    # Attempts add up with what the server says that it did.
    attempts = [attempt for response in responses for attempt in response.attempts]
    assert len(attempts) == asked.total()
    ended = Counter(attempt.error_type for attempt in attempts)
    # A body that is no event at all is to a reader of events a stream that ended too soon.
    broken = "ProviderUnavailable" if stream else "OutputInvalid"
    done = Counter({None: asked["ok"], "RateLimited": asked["rate_limited"]})
    done["ProviderUnavailable"] = asked["error"] + asked["reset"]
    done["OutputInvalid"] = asked["empty"] + asked["huge"]
    done[broken] += asked["broken_json"]
    assert set(ended) == {*done, "ProviderTimeout"}
    # On a busy machine one or the other comes too late, and 8 MB of a single event take seconds to take in.
    may_be_late = {"OutputInvalid": asked["huge"]} if stream else {}
    for kind, count in done.items():
        assert count - may_be_late.get(kind, 3) <= ended[kind] <= count, (kind, ended, asked)
    assert (result.progress.refused, result.progress.late) == (ended["RateLimited"], ended["ProviderTimeout"])
    assert all(asked[way] for way in WAYS)

    # A failure is one only where its retries were used up, and a 429 uses up none.
    for response in responses:
        paid = [attempt for attempt in response.attempts if attempt.error_type != "RateLimited"]
        assert len(paid) == limits.retries + 1 if response in failed else len(paid) <= limits.retries + 1

    # No call hangs past its deadline, and no attempt past its own.
    assert max(attempt.latency_ms for attempt in attempts) < (limits.timeout_s + LATE_S) * 1000 * FASTER
    assert max(response.total_ms for response in responses) < (limits.deadline + LATE_S * FASTER) * 1000
    print(f"{calls} calls in {took:.0f} s: {dict(ended)}; failed {len(failed)}; the server: {dict(asked)}")


async def test_every_row_ends_with_an_answer_or_a_reason(tmp_path: Path) -> None:
    await chaos(tmp_path, 100)


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_two_thousand_calls_to_a_provider_that_fails_in_all_its_ways(tmp_path: Path, stream: bool) -> None:
    # Time enough for many answers of 10 MB at once on a busy machine.
    await chaos(tmp_path, 2000, limits=LIMITS.model_copy(update={"timeout_s": 6.0}), stream=stream)
