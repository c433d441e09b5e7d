"""Money where the parts meet: what was worked on is charged for, however it ended, and every place tells the same sum."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import FakeTime
from openai_server import FAULTS, OpenAIServer, Reply

from feedbackloop.models import AIRequest
from feedbackloop.pipeline.engine import Engine
from feedbackloop.settings import Limits, Price, ProviderSettings, Settings
from feedbackloop.store import Store

PRICE = Price(input_per_million=1_000_000.0, output_per_million=2_000_000.0)
DEAR = Price(input_per_million=3_000_000.0, output_per_million=5_000_000.0)
USED = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


@pytest.fixture
def server():
    with OpenAIServer() as running:
        yield running


@pytest.fixture
def settings(server, tmp_path: Path) -> Settings:
    return Settings(
        base=tmp_path,
        providers={"up": ProviderSettings(base_url=server.url), "other": ProviderSettings(base_url=server.url)},
        prices={"up:m": PRICE, "other:n": DEAR, "openai:gpt-4o-mini": PRICE},
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "loop.duckdb")


async def one(settings: Settings, *, stream: bool = False, **params):
    """An answer to one request, without retries, and what the budget was charged for it."""
    engine = Engine(settings, limits=Limits(retries=0), budget_usd=1e6, stream=stream, clock=FakeTime().clock())
    try:
        response = await engine.complete(AIRequest(input="hi", model="up:m", params=params))
    finally:
        await engine.aclose()
    return response, engine.purse.spent_usd


# What was worked on is charged for, however it ended


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "reply",
    [
        Reply(content=None, finish_reason="length", usage=USED),
        Reply(content={"role": "assistant", "refusal": "no"}, usage=USED),
        Reply(content="no", finish_reason="content_filter", usage=USED),
    ],
    ids=["nothing said", "refusal", "withheld"],
)
async def test_an_answer_that_cannot_be_used_costs_what_it_says_it_used(server, settings, reply, stream) -> None:
    server.plan = [reply]
    response, charged = await one(settings, stream=stream)
    assert response.status == "failed"
    assert response.spent_usd == charged == pytest.approx(3 * 1.0 + 4 * 2.0)
    assert response.attempts[0].usage == USED


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["reset", "cut", "drop"])
async def test_an_answer_that_breaks_off_may_have_been_charged(server, settings, fault, stream) -> None:
    server.plan = [FAULTS[fault]]
    response, charged = await one(settings, stream=stream, max_tokens=5)
    assert (response.error_type, response.spent_usd) == ("ProviderUnavailable", None)
    assert charged > 10.0


async def test_a_connection_that_was_refused_cost_nothing(settings) -> None:
    nobody = settings.model_copy(update={"providers": {"up": ProviderSettings(base_url="http://127.0.0.1:9/v1")}})
    response, charged = await one(nobody, max_tokens=5)
    assert (response.error_type, response.spent_usd, charged) == ("ProviderUnavailable", 0.0, 0.0)


async def test_an_error_amid_a_stream_may_have_been_charged(server, settings) -> None:
    begun = 'data: {"choices": [{"index": 0, "delta": {"content": "So "}, "finish_reason": null}]}\n\n'
    broke = 'data: {"error": {"message": "Upstream failed", "code": 502}}\n\n'
    server.plan = [Reply(body=begun + broke, headers={"content-type": "text/event-stream"})]
    response, charged = await one(settings, stream=True, max_tokens=5)
    assert (response.status, response.spent_usd) == ("failed", None)
    assert charged > 10.0
