from __future__ import annotations

import asyncio

import pytest
from engines import COMPLETED, FAILED, Slow, ask, engine, idle
from fakes import Scripted, answer
from virtual_time import run

from feedbackloop.errors import InvalidRequest
from feedbackloop.pipeline.cache import RECENT, Answers
from feedbackloop.settings import Limits

NO_RETRY = Limits(retries=0)


def test_an_equal_key_gets_the_answer_again_marked_and_not_paid_for():
    async def scenario(clock):
        provider = Slow(2.0)
        made = engine(clock, provider, cache=True)
        first, second = await made.complete(ask(key="k")), await made.complete(again := ask(key="k"))
        assert len(provider.requests) == 1
        assert (second.output, second.latency_ms, second.cost_usd) == (first.output, first.latency_ms, first.cost_usd)
        assert (second.cached, second.spent_usd, second.attempts, second.request_id) == (True, 0.0, [], again.id)
        assert second.id != first.id
        assert not first.cached

    run(scenario)


@pytest.mark.parametrize("key", [None, "other"])
def test_without_an_equal_key_it_is_asked(key):
    async def scenario(clock):
        provider = Slow()
        made = engine(clock, provider, cache=True)
        await made.complete(ask(key=key and "k"))
        await made.complete(ask(key=key))
        assert len(provider.requests) == 2

    run(scenario)


def test_without_a_cache_equal_keys_are_asked_apart():
    async def scenario(clock):
        provider = Slow()
        made = engine(clock, provider)
        await asyncio.gather(*(made.complete(ask(key="k")) for _ in range(3)))
        assert len(provider.requests) == 3

    run(scenario)


def test_equal_keys_in_flight_wait_for_the_first():
    async def scenario(clock):
        provider = Slow(2.0)
        made = engine(clock, provider, cache=True)
        responses = await asyncio.gather(*(made.complete(ask(key="k")) for _ in range(200)))
        assert len(provider.requests) == 1
        assert sorted(response.cached for response in responses) == [False] + [True] * 199
        assert len({response.id for response in responses}) == 200
        assert clock.now() == pytest.approx(2.0)
        assert idle(made)

    run(scenario)


def test_after_a_failure_the_next_asks_for_itself():
    async def scenario(clock):
        def first_fails(request, number):
            if number == 0:
                raise InvalidRequest("no")
            return answer(request, "fine")

        provider = Slow(1.0, first_fails)
        made = engine(clock, provider, cache=True)
        responses = await asyncio.gather(*(made.complete(ask(key="k")) for _ in range(5)))
        assert len(provider.requests) == 2
        assert [response.status for response in responses].count(FAILED) == 1
        assert [response.cached for response in responses if response.status is COMPLETED].count(False) == 1
        assert idle(made)

    run(scenario)


def test_the_time_spent_behind_the_first_is_not_held_against_the_next():
    async def scenario(clock):
        def fails(request, number):
            if number < 4:
                raise InvalidRequest("no")
            return answer(request, "fine")

        made = engine(clock, Slow(3.0, fails), limits=Limits(timeout_s=4.0, deadline_s=5.0, retries=0), cache=True)
        responses = await asyncio.gather(*(made.complete(ask(key="k")) for _ in range(5)))
        assert [response.error_type for response in responses] == ["InvalidRequest"] * 4 + [None]
        assert {round(response.total_ms) for response in responses} == {3000}

    run(scenario)


def test_a_fallbacks_answer_is_not_used_again():
    async def scenario(clock):
        first, second = Scripted([InvalidRequest("no"), InvalidRequest("no"), "own"]), Scripted(["other"])
        made = engine(clock, first, second, cache=True)
        responses = [await made.complete(ask(key="k"), ["a:m", "b:m"]) for _ in range(4)]
        assert [response.output for response in responses] == ["other", "other", "own", "own"]
        assert [response.cached for response in responses] == [False, False, False, True]

    run(scenario)


def test_when_the_first_is_cancelled_the_next_asks():
    async def scenario(clock):
        provider = Slow(2.0)
        made = engine(clock, provider, cache=True)
        tasks = [asyncio.create_task(made.complete(ask(key="k"))) for _ in range(3)]
        await clock.sleep(1.0)
        tasks[0].cancel()
        second, third = await asyncio.gather(*tasks[1:])
        assert tasks[0].cancelled()
        assert (second.cached, third.cached) == (False, True)
        assert len(provider.requests) == 2
        assert idle(made)

    run(scenario)


def test_whoever_waits_may_be_cancelled_without_harm_to_the_first():
    async def scenario(clock):
        made = engine(clock, Slow(2.0), cache=True)
        first, second = (asyncio.create_task(made.complete(ask(key="k"))) for _ in range(2))
        await clock.sleep(1.0)
        second.cancel()
        assert (await first).status is COMPLETED
        assert second.cancelled()
        assert idle(made)

    run(scenario)


def test_an_error_that_is_none_of_ours_lets_the_next_ask_too():
    class Bye(BaseException):
        pass

    class Leaving:
        async def complete(self, request):
            await asyncio.sleep(0)
            raise Bye

    async def scenario(clock):
        made = engine(clock, Leaving(), cache=True)
        results = await asyncio.gather(*(made.complete(ask(key="k")) for _ in range(3)), return_exceptions=True)
        assert [type(result) for result in results] == [Bye] * 3
        assert idle(made)

    run(scenario)


async def test_only_the_most_recent_answers_stay_at_hand():
    answers = Answers()
    for number in range(RECENT + 10):
        answers.add(str(number), answer(ask(), str(number)))
    assert answers.get("9") is None
    assert answers.get("10").output == "10"
