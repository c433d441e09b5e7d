from __future__ import annotations

import asyncio

import pytest
from engines import COMPLETED, FAILED, SETTINGS, Slow
from fakes import FakeTime, Scripted, answer
from openai_server import OpenAIServer

import feedbackloop as fl
from feedbackloop.errors import AuthenticationFailed, ProviderUnavailable, SettingsError, StoreError, UnknownName
from feedbackloop.models import AIRequest
from feedbackloop.pipeline.loop import FeedbackLoop
from feedbackloop.settings import ProviderSettings, Settings
from feedbackloop.store import Store

PATTERN = {"primary_model": "a:m", "fallback_model": "b:m", "max_retries": 3}


def made(*providers, config=PATTERN, **options):
    processor = FeedbackLoop(config, settings=SETTINGS, clock=FakeTime().clock(), **options)
    processor._engine._providers.update(zip("abc", providers, strict=False))
    return processor


# Made as the pattern's guide says


def test_it_is_made_with_a_mapping_a_keyword_or_nothing():
    for processor in (
        FeedbackLoop({"primary_model": "gpt-4o", "fallback_model": "gpt-4o-mini", "max_retries": 3}),
        FeedbackLoop(config={"primary_model": "gpt-4o"}),
        FeedbackLoop(),
        FeedbackLoop({}),
        FeedbackLoop(None),
    ):
        assert processor.config.fallback_model == "gpt-4o-mini"
        assert processor.config.max_retries == 3
        assert processor.store is None
    assert FeedbackLoop().config.primary_model == "gpt-4o-mini"


def test_it_has_the_patterns_own_name_too():
    assert fl.FeedbackLoopArchitecture is fl.FeedbackLoop is FeedbackLoop


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"primary_modle": "x"}, "did you mean 'primary_model'"),
        ({"max_retrys": 3}, "did you mean 'max_retries'"),
        ({"max_retries": -1}, "max_retries"),
        ({"max_retries": "many"}, "max_retries"),
        ({"primary_model": None}, "primary_model"),
        ({"timeout_s": 0}, "timeout_s"),
    ],
)
def test_a_config_that_makes_no_sense_is_one_sentence(config, says):
    with pytest.raises(SettingsError) as caught:
        FeedbackLoop(config)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_provider_is_named_when_it_is_made():
    with pytest.raises(UnknownName, match="openai"):
        FeedbackLoop({"primary_model": "opnai:gpt-4o"})


# Answers


async def test_the_primary_model_answers():
    processor = made(first := Scripted(["one"]), second := Scripted(["two"]))
    request = AIRequest(input="hi")
    response = await processor.process(request)
    assert (response.output, response.model_used, response.status) == ("one", "a:m", COMPLETED)
    assert (response.request_id, response.latency_ms, response.tokens_used, response.cost_usd) == (
        request.id,
        10.0,
        15,
        0.015,
    )
    assert (len(first.requests), len(second.requests)) == (1, 0)


async def test_a_failing_primary_gives_the_fallbacks_answer_with_its_figures():
    first = Scripted([ProviderUnavailable("down")])
    second = Scripted(["two"], latency_ms=77.0, input_tokens=1, output_tokens=1, tokens_used=2)
    response = await made(first, second).process(AIRequest(input="hi"))
    assert (response.output, response.model_used, response.status) == ("two", "b:m", COMPLETED)
    assert (response.latency_ms, response.tokens_used, response.cost_usd) == (77.0, 2, 0.002)
    assert len(first.requests) == 4
    assert response.total_ms > 0


async def test_both_failing_is_a_failed_response_and_no_exception():
    processor = made(Scripted([ProviderUnavailable("down")]), Scripted([ValueError("worse")]))
    response = await processor.process(AIRequest(input="hi"))
    assert (response.status, response.output, response.model_used) == (FAILED, "", "none")
    assert "worse" in response.error
    assert len(response.attempts) == 5


async def test_without_a_fallback_only_the_primary_is_asked():
    processor = made(
        Scripted([AuthenticationFailed("no")]), second := Scripted(["two"]), config=PATTERN | {"fallback_model": None}
    )
    assert (await processor.process(AIRequest(input="hi"))).status is FAILED
    assert second.requests == []


async def test_max_retries_is_what_was_asked_though_the_provider_has_limits_of_its_own():
    table = ProviderSettings(base_url="http://127.0.0.1:9/v1", limits=fl.Limits(concurrency=2))
    own = SETTINGS.model_copy(update={"providers": SETTINGS.providers | {"a": table}})
    processor = FeedbackLoop(
        {"primary_model": "a:m", "fallback_model": None, "max_retries": 0}, settings=own, clock=FakeTime().clock()
    )
    processor._engine._providers["a"] = provider = Scripted([ProviderUnavailable("x")])
    await processor.process(AIRequest(input="hi"))
    assert len(provider.requests) == 1


async def test_a_missing_key_is_a_failed_response_that_names_its_variable():
    async with FeedbackLoop(
        {"primary_model": "gpt-4o", "fallback_model": "gpt-4o-mini", "max_retries": 3}
    ) as processor:
        response = await processor.process(AIRequest(input="What is a feedback loop?"))
    assert (response.status, response.output, response.model_used) == (FAILED, "", "none")
    assert (response.error_type, response.error.partition(":")[0]) == (
        "AuthenticationFailed",
        "OPENAI_API_KEY is not set",
    )


async def test_a_request_that_names_its_model_goes_there_and_then_to_the_fallback():
    first, second, third = Scripted(["one"]), Scripted(["two"]), Scripted([ProviderUnavailable("x")])
    processor = made(first, second, third)
    response = await processor.process(AIRequest(input="hi", model="c:m"))
    assert (response.output, [attempt.model for attempt in response.attempts]) == ("two", ["c:m"] * 4 + ["b:m"])
    assert first.requests == []


async def test_naming_the_default_model_is_naming_a_model():
    processor = made(Scripted(["one"]), Scripted(["two"]))
    processor._engine._providers["openai"] = named = Scripted(["named"])
    assert (await processor.process(AIRequest(input="hi", model="gpt-4o-mini"))).output == "named"
    assert len(named.requests) == 1


async def test_a_request_that_names_the_fallback_asks_it_once():
    response = await made(Scripted(["one"]), Scripted([AuthenticationFailed("x")])).process(
        AIRequest(input="hi", model="b:m")
    )
    assert len(response.attempts) == 1


async def test_a_request_for_an_unknown_provider_is_the_callers_mistake():
    with pytest.raises(UnknownName):
        await made(Scripted(["one"])).process(AIRequest(input="hi", model="nobody:m"))


async def test_many_at_once():
    processor = made(slow := Slow(0.01))
    responses = await asyncio.gather(*(processor.process(AIRequest(input=str(n))) for n in range(200)))
    assert [response.status for response in responses] == [COMPLETED] * 200
    assert len(slow.requests) == 200
    assert slow.most <= 64


# What a caller sees


async def test_the_text_is_stripped():
    assert (await made(Scripted(["\n  fine \t"])).process(AIRequest(input="hi"))).output == "fine"


async def test_the_text_is_cut_and_marked_while_the_store_keeps_all_of_it(tmp_path):
    whole = " " + "x" * 60_000 + "end "
    async with made(Scripted([whole]), store=tmp_path / "a.duckdb") as processor:
        response = await processor.process(AIRequest(input="hi"))
    assert (len(response.output), response.truncated) == (50_000, True)
    assert Store(tmp_path / "a.duckdb").sql("SELECT output, truncated FROM responses").iloc[0].tolist() == [whole, True]


async def test_a_recorded_answer_is_handed_on_as_it_is():
    recorded = Scripted([text := "  " + "x" * 60_000 + "\n"])
    recorded.live = False
    response = await made(recorded).process(AIRequest(input="hi"))
    assert (response.output, response.truncated) == (text, False)


# Storing


async def test_nothing_is_stored_unless_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with made(Scripted(["fine"])) as processor:
        await processor.process(AIRequest(input="hi"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["path", "text", "store"])
async def test_with_a_store_requests_and_responses_are_in_it_when_process_returns(tmp_path, kind):
    place = tmp_path / "a.duckdb"
    store = {"path": place, "text": str(place), "store": Store(place)}[kind]
    processor = made(Scripted(["fine"]), Scripted([AuthenticationFailed("x")]), store=store)
    request = AIRequest(input="hi", metadata={"who": "me"})
    response = await processor.process(request)
    failed = await processor.process(AIRequest(input="ho", model="b:m"))
    rows = Store(place).sql(
        "SELECT q.id, q.model, q.key, p.id AS response, p.output, p.status FROM requests q JOIN responses p ON p.request_id = q.id"
        " ORDER BY p.created_at"
    )
    assert rows["id"].tolist() == [request.id, failed.request_id]
    assert rows["model"].tolist() == ["a:m", "b:m"]
    assert rows["response"].tolist() == [response.id, failed.id]
    assert rows["output"].tolist() == ["fine", ""]
    assert rows["key"].notna().all()
    assert rows["key"].nunique() == 2
    await processor.aclose()


async def test_many_at_once_are_all_stored(tmp_path):
    async with made(Slow(0.01), store=tmp_path / "a.duckdb") as processor:
        responses = await asyncio.gather(*(processor.process(AIRequest(input=str(n))) for n in range(60)))
    stored = Store(tmp_path / "a.duckdb").sql("SELECT id FROM responses")["id"]
    assert set(stored) == {response.id for response in responses}
    assert len(stored) == 60


async def test_a_store_that_refuses_is_said_and_asked_again_the_next_time(tmp_path, monkeypatch):
    store = Store(tmp_path / "a.duckdb")
    append, broken = store.append, True

    def refusing(records, **options):
        if broken:
            raise StoreError("somebody else holds it")
        append(records, **options)

    monkeypatch.setattr(store, "append", refusing)
    async with made(Scripted(["fine"]), store=store) as processor:
        with pytest.raises(StoreError, match="somebody else"):
            await processor.process(AIRequest(input="one"))
        broken = False
        response = await processor.process(AIRequest(input="two"))
    # The one that was refused was paid for: it is written as soon as that works.
    assert store.sql("SELECT output FROM responses")["output"].tolist() == ["fine", "fine"]
    assert response.id in store.sql("SELECT id FROM responses")["id"].tolist()


async def test_closing_twice_and_going_on_afterwards_is_fine(tmp_path):
    processor = made(Scripted(["fine"]), store=tmp_path / "a.duckdb")
    await processor.process(AIRequest(input="one"))
    await processor.aclose()
    await processor.aclose()
    assert (await processor.process(AIRequest(input="two"))).status is COMPLETED
    await processor.aclose()
    assert len(Store(tmp_path / "a.duckdb").sql("SELECT id FROM responses")) == 2


def test_one_processor_serves_one_event_loop_after_the_other():
    processor = made(Slow(0.001))

    async def some():
        return await asyncio.gather(*(processor.process(AIRequest(input="x")) for _ in range(50)))

    for _ in range(3):
        assert {response.status for response in asyncio.run(some())} == {COMPLETED}


# Over real sockets


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    with OpenAIServer(key="sk-test") as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.url)
        yield running


CONFIG = {"primary_model": "gpt-4o", "fallback_model": "gpt-4o-mini", "max_retries": 0}


async def test_over_http_the_primary_answers(server):
    async with FeedbackLoop(CONFIG) as processor:
        response = await processor.process(AIRequest(input="What is a feedback loop?"))
    assert response.output == "You said: What is a feedback loop?"
    assert (response.model_used, response.provider_model) == ("openai:gpt-4o", "gpt-4o-2026-01-01")
    assert response.tokens_used == 6 + 8
    assert response.latency_ms > 0


@pytest.mark.parametrize("fault", ["error", "drop", "empty", "broken_json", "not_found", "quota"])
async def test_over_http_the_fallback_takes_over(server, fault):
    server.plans = {"gpt-4o": [fault] * 5}
    async with FeedbackLoop(CONFIG) as processor:
        response = await processor.process(AIRequest(input="hi"))
    assert (response.status, response.model_used) == (COMPLETED, "openai:gpt-4o-mini")
    assert [attempt.model for attempt in response.attempts] == ["openai:gpt-4o", "openai:gpt-4o-mini"]
    assert response.tokens_used is not None
    assert [asked.model for asked in server.requests] == ["gpt-4o", "gpt-4o-mini"]


async def test_over_http_a_silent_primary_times_out(server):
    server.plans = {"gpt-4o": ["silent"]}
    async with FeedbackLoop(CONFIG | {"timeout_s": 0.2}) as processor:
        response = await processor.process(AIRequest(input="hi"))
    assert response.model_used == "openai:gpt-4o-mini"
    assert [attempt.error_type for attempt in response.attempts] == ["ProviderTimeout", None]
    assert response.spent_usd is None
    assert response.total_ms >= 200 > response.latency_ms


async def test_over_http_both_failing_is_a_failed_response(server):
    server.plan = ["error"] * 2
    async with FeedbackLoop(CONFIG) as processor:
        response = await processor.process(AIRequest(input="hi"))
    assert (response.status, response.model_used, response.error_type) == (FAILED, "none", "ProviderUnavailable")


async def test_over_http_a_429_is_waited_for(server):
    server.plan = ["rate_limited"]
    async with FeedbackLoop(CONFIG, clock=FakeTime().clock()) as processor:
        response = await processor.process(AIRequest(input="hi"))
    assert (response.model_used, [a.error_type for a in response.attempts]) == ("openai:gpt-4o", ["RateLimited", None])
    assert response.total_ms >= 1000


async def test_over_http_a_wrong_key_is_named_and_not_shown(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-secret")
    async with FeedbackLoop(CONFIG) as processor:
        response = await processor.process(AIRequest(input="hi"))
    assert response.error_type == "AuthenticationFailed"
    assert "OPENAI_API_KEY" in response.error
    assert "secret" not in response.model_dump_json()


async def test_over_http_many_at_once_are_stored(server, tmp_path):
    async with FeedbackLoop(CONFIG, store=tmp_path / "a.duckdb") as processor:
        responses = await asyncio.gather(*(processor.process(AIRequest(input=f"{n}")) for n in range(40)))
    assert [response.output for response in responses] == [f"You said: {n}" for n in range(40)]
    assert len(Store(tmp_path / "a.duckdb").sql("SELECT id FROM responses")) == 40


async def test_settings_may_be_given():
    processor = FeedbackLoop(
        {"primary_model": "m", "fallback_model": None}, settings=Settings(default_provider="simulated")
    )
    response = await processor.process(AIRequest(input="hi"))
    assert (response.model_used, response.status) == ("simulated:m", COMPLETED)
    assert answer(AIRequest(input="x"), "y").output == "y"
