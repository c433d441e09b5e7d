from __future__ import annotations

import asyncio
import gc
import math
import random

import pytest
from engines import COMPLETED, FAILED, SETTINGS, Slow, ask, engine, idle
from fakes import FakeTime, Scripted, answer
from virtual_time import run

from feedbackloop.errors import (
    AuthenticationFailed,
    BudgetExceeded,
    InvalidRequest,
    OutputInvalid,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    SettingsError,
    UnknownName,
)
from feedbackloop.models import AIRequest, AIResponse, Attempt
from feedbackloop.pipeline.engine import Engine
from feedbackloop.settings import Limits, ProviderSettings, Settings

NO_RETRY = Limits(retries=0)


@pytest.fixture
def time():
    return FakeTime()


# An answer


async def test_an_answer_is_priced_timed_and_written_down(time):
    request = ask()
    response = await engine(time.clock(), Scripted(["fine"])).complete(request)
    assert (response.request_id, response.output, response.status) == (request.id, "fine", COMPLETED)
    assert (response.model_used, response.latency_ms, response.tokens_used) == ("a:m", 10.0, 15)
    assert (response.cost_usd, response.spent_usd, response.total_ms) == (0.015, 0.015, 0.0)
    assert [(a.model, a.cost_usd, a.error_type) for a in response.attempts] == [("a:m", 0.015, None)]


async def test_without_models_the_requests_own_is_asked(time):
    provider = Scripted(["fine"])
    made = engine(time.clock(), provider)
    assert (await made.complete(ask(model="a/m"))).model_used == "a:m"
    assert provider.requests[0].model == "a:m"


async def test_a_target_named_twice_is_asked_once(time):
    provider = Scripted([InvalidRequest("x")])
    response = await engine(time.clock(), provider).complete(ask(), ["a:m", "a:m"])
    assert len(provider.requests) == len(response.attempts) == 1


async def test_a_failure_is_a_response_and_no_text(time):
    response = await engine(time.clock(), Scripted([AuthenticationFailed("A_KEY is not set")])).complete(ask())
    assert (response.status, response.output, response.model_used) == (FAILED, "", "none")
    assert (response.latency_ms, response.tokens_used, response.cost_usd, response.spent_usd) == (None, 0, 0.0, 0.0)
    assert (response.error_type, response.error) == ("AuthenticationFailed", "A_KEY is not set")


async def test_all_attempts_of_all_targets_are_told_in_order(time):
    first = Scripted([ProviderUnavailable("1"), RateLimited("2", retry_after=1), OutputInvalid("3")])
    second = Scripted([ProviderTimeout("4"), "fine"])
    made = engine(time.clock(), first, second, limits=Limits(retries=1))
    response = await made.complete(ask(), ["a:m", "b:m"])
    assert [(a.model, a.error or None) for a in response.attempts] == [
        ("a:m", "1"), ("a:m", "2"), ("a:m", "3"), ("b:m", "4"), ("b:m", None),
    ]  # fmt: skip
    assert len(first.requests) + len(second.requests) == len(response.attempts)
    assert (response.model_used, response.cost_usd, response.spent_usd) == ("b:m", 0.015, None)


async def test_total_time_has_the_waits_of_retries_in_it_and_latency_has_not(time):
    made = engine(time.clock(), Scripted([RateLimited("x", retry_after=5.0), "fine"]))
    response = await made.complete(ask())
    assert response.total_ms == pytest.approx(5000)
    assert response.latency_ms == 10.0


def test_total_time_leaves_our_own_queue_out():
    async def scenario(clock):
        made = engine(clock, Slow(2.0), limits=Limits(concurrency=1))
        responses = await asyncio.gather(*(made.complete(ask()) for _ in range(10)))
        assert {round(response.total_ms) for response in responses} == {2000}
        assert clock.now() == pytest.approx(20.0)

    run(scenario)


def test_sums_equal_what_the_providers_saw():
    async def scenario(clock):
        chance = random.Random(11)
        faults = [ProviderUnavailable, RateLimited, OutputInvalid, InvalidRequest, ValueError, None, None, None]

        def moody(request, number):
            fault = chance.choice(faults)
            if fault is not None:
                raise fault("x")
            return answer(request, chance.choice(["fine", " "]))

        first, second = Slow(0.3, moody), Slow(0.3, moody)
        made = engine(clock, first, second, budget_usd=1e6)
        responses = await asyncio.gather(*(made.complete(ask(), ["a:m", "b:m"]) for _ in range(300)))
        attempts = [attempt for response in responses for attempt in response.attempts]
        assert sum(attempt.model == "a:m" for attempt in attempts) == len(first.requests)
        assert sum(attempt.model == "b:m" for attempt in attempts) == len(second.requests)
        for response in responses:
            assert [a.start for a in response.attempts] == sorted(a.start for a in response.attempts)
            assert [a.model for a in response.attempts] == sorted(a.model for a in response.attempts)
            if response.status is COMPLETED:
                assert response.model_used == response.attempts[-1].model
                assert response.attempts[-1].error_type is None
            assert all(attempt.error_type for attempt in response.attempts[:-1])
        known = sum(attempt.cost_usd or 0.0 for attempt in attempts)
        worst = made.purse.spent_usd - known
        # What the purse holds beyond the known costs is one reservation for each attempt of unknown cost.
        unknown = sum(attempt.error_type == "OutputInvalid" and attempt.cost_usd is None for attempt in attempts)
        assert worst == pytest.approx(unknown * (2 + 8 + 8 + 2048) / 1000)
        assert idle(made)

    run(scenario)


# Deadlines


def test_the_deadline_bounds_all_targets_together():
    async def scenario(clock):
        made = engine(clock, Slow(100.0), Slow(100.0), limits=Limits(timeout_s=4.0, deadline_s=10.0, retries=9))
        response = await made.complete(ask(), ["a:m", "b:m"])
        assert (response.status, response.error_type) == (FAILED, "ProviderTimeout")
        assert clock.now() <= 10.0
        assert response.total_ms <= 10_000

    run(scenario)


def test_a_target_that_there_was_no_time_for_is_not_blamed():
    async def scenario(clock):
        healthy = Scripted(["fine"])
        made = engine(clock, Slow(100.0), healthy, limits=Limits(timeout_s=10.0, deadline_s=10.0, retries=0))
        for _ in range(7):
            response = await made.complete(ask(), ["a:m", "b:m"])
        assert "b:m" not in {attempt.model for attempt in response.attempts}
        assert made._breakers["b:m"].failures == 0
        assert (await made.complete(ask(model="b:m"))).output == "fine"

    run(scenario)


@pytest.mark.parametrize("deadline", [1e-12, 1e-300, 5e-324])
def test_a_deadline_of_nothing_sends_nothing(deadline):
    async def scenario(clock):
        await clock.sleep(5.0)
        provider = Slow(1.0)
        made = engine(clock, provider, limits=Limits(deadline_s=deadline), budget_usd=1e9)
        response = await made.complete(ask())
        assert (response.error_type, response.spent_usd) == ("ProviderTimeout", 0.0 if not provider.requests else None)
        assert len(provider.requests) == len(response.attempts) <= 1
        assert idle(made)

    run(scenario)


def test_the_longest_deadline_of_the_targets_counts():
    table = ProviderSettings(base_url="http://127.0.0.1:9/v1", limits=Limits(timeout_s=900.0))
    own = SETTINGS.model_copy(update={"providers": SETTINGS.providers | {"a": table}})

    async def scenario(clock):
        made = engine(clock, Slow(800.0), settings=own)
        assert (await made.complete(ask())).status is COMPLETED

    run(scenario)


# Providers that do what they should not


class Bye(BaseException):
    pass


@pytest.mark.parametrize(
    "error", [ValueError("bad"), KeyError("x"), RecursionError(), StopAsyncIteration(), TimeoutError(), OSError()]
)
async def test_any_exception_of_a_provider_becomes_a_failed_response(time, error):
    made = engine(time.clock(), Scripted([error]))
    response = await made.complete(ask())
    assert (response.status, response.error_type, len(response.attempts)) == (FAILED, "ProviderError", 1)
    assert type(error).__name__ in response.error
    assert idle(made)


def test_what_ends_the_program_passes_and_leaves_nothing_held():
    class Leaving:
        async def complete(self, request):
            raise Bye

    async def scenario(clock):
        made = engine(clock, Leaving(), budget_usd=1e6, cache=True)
        with pytest.raises(Bye):
            await made.complete(ask(key="k"))
        assert idle(made)

    run(scenario)


def test_a_cancellation_that_nobody_asked_for_is_the_providers_fault():
    class Careless:
        async def complete(self, request):
            inner = asyncio.create_task(asyncio.Event().wait())
            inner.cancel()
            await inner

    async def scenario(clock):
        made = engine(clock, Careless(), Scripted(["fine"]), budget_usd=1e6, cache=True)
        response = await made.complete(ask(key="k"))
        assert (response.status, response.error_type) == (FAILED, "ProviderError")
        assert "CancelledError" in response.error
        assert (await made.complete(ask(key="k"), ["a:m", "b:m"])).output == "fine"
        assert idle(made)

    run(scenario)


@pytest.mark.parametrize("returned", [None, "text", {"output": "x"}, 7, AIRequest(input="x")])
async def test_a_provider_that_returns_something_else_has_failed(time, returned):
    made = engine(time.clock(), Scripted([lambda _: returned]), limits=NO_RETRY)
    response = await made.complete(ask())
    assert (response.status, response.error_type) == (FAILED, "OutputInvalid")
    assert type(returned).__name__ in response.error


async def test_a_provider_that_returns_a_failed_response_has_failed(time):
    def failed(request):
        return answer(request, "partial", status=FAILED, error="it was the weather", cost_usd=0.25)

    second = Scripted(["fine"])
    made = engine(time.clock(), Scripted([failed]), second)
    response = await made.complete(ask())
    assert (response.output, response.error_type, response.error) == ("", "ProviderError", "it was the weather")
    assert response.spent_usd == 0.25
    assert (await made.complete(ask(), ["a:m", "b:m"])).output == "fine"


async def test_a_failed_response_without_a_reason_gets_one(time):
    made = engine(time.clock(), Scripted([lambda request: answer(request, "", status=FAILED)]))
    assert "without a reason" in (await made.complete(ask())).error


@pytest.mark.parametrize("figure", [None, -1.0, math.nan, math.inf])
def test_a_latency_that_makes_no_sense_is_measured(figure):
    async def scenario(clock):
        made = engine(clock, Slow(2.0, lambda request, _: answer(request, "fine", latency_ms=figure)))
        response = await made.complete(ask())
        assert response.latency_ms == response.attempts[0].latency_ms == pytest.approx(2000)

    run(scenario)


async def test_a_recorded_answer_without_a_latency_stays_without(time):
    provider = Scripted(["fine"], latency_ms=None)
    provider.live = False
    assert (await engine(time.clock(), provider).complete(ask())).latency_ms is None


@pytest.mark.parametrize(
    "name", ["input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens", "tokens_used"]
)
async def test_negative_counts_are_unknown(time, name):
    response = await engine(time.clock(), Scripted(["fine"], **{name: -5})).complete(ask())
    assert (response.status, getattr(response, name), response.cost_usd) == (COMPLETED, None, None)


async def test_more_cached_tokens_than_there_were_make_the_cost_unknown(time):
    response = await engine(time.clock(), Scripted(["fine"], cached_tokens=11)).complete(ask())
    assert response.cost_usd is None


@pytest.mark.parametrize("cost", [-1.0, math.nan, math.inf])
async def test_a_cost_that_makes_no_sense_is_not_believed(time, cost):
    made = engine(time.clock(), Scripted(["fine"], cost_usd=cost), budget_usd=10.0)
    assert (await made.complete(ask())).cost_usd == 0.015
    assert made.purse.spent_usd == 0.015


async def test_tokens_used_are_the_sum_where_only_the_parts_are_known(time):
    assert (await engine(time.clock(), Scripted(["fine"], tokens_used=None)).complete(ask())).tokens_used == 15


async def test_what_the_engine_knows_better_is_not_taken_from_the_provider(time):
    def lies(request):
        attempt = Attempt(model="x:y", start=request.created_at)
        return answer(request, "fine", attempts=[attempt], cached=True, spent_usd=9.0).model_copy(
            update={"request_id": "other", "model_used": "gpt-something"}
        )

    request = ask()
    response = await engine(time.clock(), Scripted([lies])).complete(request)
    assert (response.request_id, response.model_used, response.cached) == (request.id, "a:m", False)
    assert ([a.model for a in response.attempts], response.spent_usd) == (["a:m"], 0.015)


async def test_an_error_raised_again_and_again_does_not_collect_attempts(time):
    error = ProviderUnavailable("the same object each time")
    made = engine(time.clock(), Scripted([error]), limits=Limits(retries=1))
    for _ in range(3):
        assert len((await made.complete(ask())).attempts) == 2


async def test_a_huge_answer_is_marked_and_kept(time):
    response = await engine(time.clock(), Scripted(["x" * 3_000_000])).complete(ask())
    assert (len(response.output), response.truncated) == (3_000_000, True)


async def test_a_recording_is_replayed_without_waiting_and_its_failures_open_nothing(time):
    provider = Scripted(
        [RateLimited("x", retry_after=60), "fine", *([ProviderTimeout("x", retryable=False)] * 20), "later"]
    )
    provider.live = False
    made = engine(time.clock(), provider, limits=Limits(requests_per_minute=1))
    responses = [await made.complete(ask()) for _ in range(22)]
    assert time.slept == []
    assert [response.status for response in responses].count(FAILED) == 20
    assert responses[-1].output == "later"


# Crowds and cancellation


def test_ten_thousand_at_once():
    async def scenario(clock):
        provider = Slow(0.5)
        made = engine(clock, provider, limits=Limits(concurrency=100), cache=True)
        responses = await asyncio.gather(*(made.complete(ask(key=f"{n % 5000}")) for n in range(10_000)))
        assert len(provider.requests) == 5000
        assert provider.most == 100
        assert {response.status for response in responses} == {COMPLETED}
        assert len({response.id for response in responses}) == 10_000
        assert idle(made)

    run(scenario)


@pytest.mark.parametrize("options", [{}, {"budget_usd": 2.1}, {"cache": True}])
def test_cancelling_at_every_single_step_leaves_nothing_held(options):
    def moody(request, number):
        faults = [RateLimited("x", retry_after=1.0), ProviderUnavailable("x"), None]
        if (fault := faults[number % 3]) is not None:
            raise fault
        return answer(request, "fine")

    async def scenario(clock):
        for step in range(60):
            made = engine(clock, Slow(0.3, moody), Slow(0.3, moody), limits=Limits(concurrency=1, retries=1), **options)
            others = [asyncio.create_task(made.complete(ask(key="k", params={"max_tokens": 10}))) for _ in range(2)]
            victim = asyncio.create_task(made.complete(ask(key="k"), ["a:m", "b:m"]))
            for _ in range(step):
                await clock.sleep(0.05 if step > 30 else 0.0)
            victim.cancel()
            await asyncio.wait([victim, *others])
            assert all(task.result().status is COMPLETED or task.result().error for task in others)
            assert idle(made)
            await made.aclose()

    run(scenario)


async def test_no_error_is_left_unseen(time, recwarn):
    unseen = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
    made = engine(time.clock(), Scripted([ValueError("x")]), Scripted([RateLimited("x", retryable=False)]))
    tasks = [asyncio.create_task(made.complete(ask(), ["a:m", "b:m"])) for _ in range(5)]
    tasks[0].cancel()
    await asyncio.wait(tasks)
    del tasks
    gc.collect()
    assert unseen == []


async def test_one_request_can_be_put_inside_another(time):
    inner = engine(time.clock(), Scripted(["inner"]))

    async def nested(request):
        return await inner.complete(ask())

    class Outer:
        async def complete(self, request):
            return await nested(request)

    response = await engine(time.clock(), Outer()).complete(request := ask())
    assert (response.output, response.request_id, len(response.attempts)) == ("inner", request.id, 1)


# Settings and life cycle


async def test_a_model_of_an_unknown_provider_names_the_near_one():
    with pytest.raises(UnknownName, match="openai"):
        await Engine(Settings()).complete(ask(model="opnai:gpt-4o"))


async def test_preparing_meets_the_error_of_every_call():
    with pytest.raises(AuthenticationFailed, match="OPENAI_API_KEY"):
        Engine(Settings()).prepare(["openai:gpt-4o"])
    with pytest.raises(SettingsError):
        Engine(Settings()).prepare(["python:nowhere.py:answer"])


def test_preparing_tells_what_else_decides_an_answer(time, tmp_path):
    (tmp_path / "app.py").write_text("def answer(inputs):\n    return 'x'\n")
    made = Engine(Settings(base=tmp_path, providers=SETTINGS.providers))
    made._providers["a"] = Scripted(["x"])
    found = made.prepare(["a:m", "python:app.py:answer"])
    assert found["a:m"] is None
    assert len(found["python:app.py:answer"]) == 32


async def test_a_wrapped_provider_is_the_one_that_is_asked(time):
    made = engine(time.clock(), wrap=lambda provider: Scripted(["wrapped"]))
    assert (await made.complete(ask())).output == "wrapped"
    assert made.provider("a:x") is made.provider("a:y")


async def test_closing_closes_all_providers_though_one_refuses(time, caplog):
    closed = []

    class Closing(Scripted):
        async def aclose(self):
            closed.append(self)
            if len(closed) == 1:
                raise OSError("no")

    made = engine(time.clock(), Closing(["x"]), Closing(["x"]), Scripted(["x"]))
    await made.aclose()
    assert len(closed) == 2
    assert "could not be closed" in caplog.text


async def test_a_spent_budget_is_the_callers_to_hear(time):
    made = engine(time.clock(), Scripted(["fine"]), budget_usd=0.001)
    with pytest.raises(BudgetExceeded, match="budget"):
        await made.complete(ask())
    assert made.purse.spent_usd == 0.0


async def test_records_carry_the_clocks_time_of_day():
    response = await engine(FakeTime().clock(), Scripted(["fine"])).complete(ask())
    assert response.created_at.tzinfo is not None
    assert response.attempts[0].start <= response.created_at
    assert isinstance(response, AIResponse)


async def test_an_error_without_a_message_still_has_a_type(time):
    response = await engine(time.clock(), Scripted([ProviderError("")])).complete(ask())
    assert (response.status, response.error_type) == (FAILED, "ProviderError")
