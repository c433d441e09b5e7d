"""Once nothing more is to be sent, nobody waits to send, and what was sent is kept."""

from __future__ import annotations

import asyncio

import pytest
from engines import COMPLETED, FAILED, Slow, ask, engine, idle
from fakes import Scripted
from virtual_time import run

from feedbackloop.errors import Halted, OutputInvalid, ProviderUnavailable, RateLimited
from feedbackloop.models import AIResponse
from feedbackloop.pipeline.resilience import Breaker
from feedbackloop.settings import Limits


def halted_after(seconds, provider, *, requests=6, limits=None, **options):
    """What `requests` at once come to when the engine is halted after `seconds`, and when the last of them ended."""

    async def scenario(clock):
        made = engine(clock, provider, limits=limits, **options)
        tasks = [
            asyncio.create_task(made.complete(ask(f"q{n}", key=options.get("cache") and "same")))
            for n in range(requests)
        ]
        await clock.sleep(seconds)
        made.halt()
        made.halt()  # saying it twice changes nothing
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert idle(made)
        assert all(task.cancelling() == 0 for task in tasks)
        now = clock.now()
        await made.aclose()
        return results, now

    return run(scenario)


@pytest.mark.parametrize("limits", [Limits(requests_per_minute=6), Limits(concurrency=1)])
def test_whoever_waits_for_a_turn_is_let_go_and_calls_in_flight_are_answered(limits):
    provider = Slow(seconds=2.0)
    results, ended = halted_after(1.0, provider, limits=limits)
    assert len(provider.requests) == 1
    assert provider.cancelled == 0
    assert [type(result) for result in results] == [AIResponse] + [Halted] * 5
    assert ended == pytest.approx(2.0)


def test_a_retry_is_not_waited_for():
    results, ended = halted_after(1.0, Scripted([RateLimited("later", retry_after=20.0)]), requests=1)
    assert isinstance(results[0], Halted)
    assert [attempt.error_type for attempt in results[0].attempts] == ["RateLimited"]
    assert ended == pytest.approx(1.0)


def test_a_call_in_flight_that_fails_is_neither_retried_nor_passed_on():
    async def scenario(clock):
        first, second = Slow(2.0, then=lambda *_: (_ for _ in ()).throw(ProviderUnavailable("down"))), Slow()
        made = engine(clock, first, second, limits=Limits(retries=0))
        task = asyncio.create_task(made.complete(ask(), ["a:m", "b:m"]))
        await clock.sleep(1.0)
        made.halt()
        with pytest.raises(Halted):
            await task
        assert (len(first.requests), len(second.requests)) == (1, 0)
        await made.aclose()

    run(scenario)


def test_what_may_have_been_charged_has_a_response_that_says_so():
    provider = Scripted([OutputInvalid("not JSON")])
    results, _ = halted_after(0.1, provider, requests=1)
    assert results[0].status is FAILED
    assert results[0].error_type == "Halted"
    assert results[0].spent_usd is None
    assert len(results[0].attempts) == 1


def test_whoever_waits_for_money_is_let_go():
    # Each may cost 2 dollars, so that the second waits for the first one's bill.
    provider = Slow(seconds=2.0)
    results, ended = halted_after(1.0, provider, requests=3, budget_usd=3.0)
    assert [type(result) for result in results] == [AIResponse, Halted, Halted]
    assert ended == pytest.approx(2.0)


def test_whoever_waits_for_an_equal_question_is_let_go():
    results, _ = halted_after(1.0, Slow(seconds=2.0), requests=3, cache=True)
    assert [type(result) for result in results] == [AIResponse, Halted, Halted]


def test_whoever_waits_for_a_target_to_come_back_is_let_go():
    async def scenario(clock):
        made = engine(clock, Slow(0.1, then=lambda *_: (_ for _ in ()).throw(ProviderUnavailable("down"))))
        made._breakers["a:m"] = Breaker(failures=8, open_since=0.0, probe_at=30.0)
        task = asyncio.create_task(made.complete(ask()))
        await clock.sleep(1.0)
        made.halt()
        with pytest.raises(Halted):
            await task
        assert clock.now() == pytest.approx(1.0)
        await made.aclose()

    run(scenario)


def test_nothing_is_sent_afterwards():
    async def scenario(clock):
        provider = Slow()
        made = engine(clock, provider)
        made.halt()
        with pytest.raises(Halted, match="asked to stop"):
            await made.complete(ask())
        assert provider.requests == []
        await made.aclose()

    run(scenario)


def test_a_callers_own_cancellation_goes_before():
    async def scenario(clock):
        made = engine(clock, Slow(seconds=5.0), limits=Limits(concurrency=1))
        first = asyncio.create_task(made.complete(ask()))
        waiting = asyncio.create_task(made.complete(ask("other")))
        await clock.sleep(1.0)
        made.halt()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (await first).status is COMPLETED
        assert idle(made)
        await made.aclose()

    run(scenario)
