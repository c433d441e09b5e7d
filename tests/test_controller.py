from __future__ import annotations

import asyncio
import random

import pytest
from engines import COMPLETED, SETTINGS, Slow, ask, engine, idle
from fakes import Scripted, answer
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_time import run

from feedbackloop.errors import ProviderUnavailable, RateLimited
from feedbackloop.pipeline.controller import START, Controller, Gate, RateLimit
from feedbackloop.pipeline.pacing import PAUSE_S, Bucket
from feedbackloop.pipeline.resilience import CALL, Call
from feedbackloop.settings import Limits, ProviderSettings

FOREVER = 1e9


def one(clock, **limits):
    """A controller whose only target has one place, unless told otherwise."""
    return Controller(lambda _: Limits(**{"concurrency": 1, **limits}), clock)


def everything(made, requests, models=()):
    return asyncio.gather(*(made.complete(request, models) for request in requests))


def test_priority_ten_first_then_by_arrival():
    async def scenario(clock):
        provider = Slow(1.0)
        made = engine(clock, provider, limits=Limits(concurrency=1))
        priorities = [5, 1, 10, 5, 10, 1, 7]
        await everything(made, [ask(f"{n}", priority=p) for n, p in enumerate(priorities)])
        # The first finds an empty queue; the others are ordered.
        assert [request.input for request in provider.requests] == ["0", "2", "4", "6", "3", "1", "5"]

    run(scenario)


@given(st.lists(st.integers(1, 10), min_size=2, max_size=40))
@settings(max_examples=40, deadline=None)
def test_whoever_waits_is_admitted_by_priority_and_arrival(priorities):
    async def scenario(clock):
        provider = Slow(1.0)
        made = engine(clock, provider, limits=Limits(concurrency=1))
        await everything(made, [ask(f"{n}", priority=p) for n, p in enumerate(priorities)])
        waited = sorted(range(1, len(priorities)), key=lambda n: (-priorities[n], n))
        assert [int(request.input) for request in provider.requests] == [0, *waited]

    run(scenario)


@pytest.mark.parametrize("concurrency", [1, 3, 64])
def test_the_limit_is_reached_and_never_passed(concurrency):
    async def scenario(clock):
        provider = Slow(1.0)
        made = engine(clock, provider, limits=Limits(concurrency=concurrency))
        await everything(made, [ask() for _ in range(400)])
        assert provider.most == concurrency
        assert idle(made)

    run(scenario)


def test_slow_start_doubles_with_each_round_trip():
    async def scenario(clock):
        provider = Slow(1.0)
        made = engine(clock, provider, limits=Limits(concurrency=200))
        await everything(made, [ask() for _ in range(600)])
        rounds = [provider.sent_at.count(second) for second in range(4)]
        assert rounds == [START, 2 * START, 4 * START, 8 * START]

    run(scenario)


def test_a_lone_429_does_not_take_everybodys_places():
    async def scenario(clock):
        gate = Gate(Limits(), clock, places=20.0, in_flight=1)
        gate.cut(1.0, RateLimited("x"))
        assert gate.places == 16

    run(scenario)


def test_places_that_nobody_uses_do_not_grow():
    async def scenario(clock):
        made = engine(clock, Slow(1.0))
        for _ in range(30):
            await made.complete(ask())
        assert made.controller.places() == {"a:m": START}

    run(scenario)


@pytest.mark.parametrize("error", [ProviderUnavailable("x"), ValueError("x")])
def test_failures_earn_no_further_places(error):
    async def scenario(clock):
        made = engine(clock, Scripted([error]), limits=Limits(retries=0))
        await everything(made, [ask() for _ in range(7)])
        assert made.controller.places() == {"a:m": START}

    run(scenario)


def test_one_cut_for_all_429s_of_an_episode():
    async def scenario(clock):
        def throttled(request, number):
            if number < START:
                raise RateLimited("x", retry_after=5.0)
            return answer(request, "fine")

        provider = Slow(1.0, throttled)
        made = engine(clock, provider)
        tasks = [asyncio.create_task(made.complete(ask())) for _ in range(START)]
        await clock.sleep(1.5)
        assert made.controller.places() == {"a:m": int(START * 0.8)}
        assert made.controller.gate("a:m").slow_start is False
        assert {(await task).status for task in tasks} == {COMPLETED}

    run(scenario)


def test_a_second_episode_cuts_again_and_places_come_back_slowly():
    async def scenario(clock):
        gate = Gate(Limits(concurrency=100), clock, places=100.0, in_flight=100)
        await clock.sleep(1.0)
        gate.cut(0.0, RateLimited("x"))
        assert gate.places == 80
        gate.cut(0.5, RateLimited("x"))
        assert gate.places == 80
        await clock.sleep(1.0)
        gate.cut(1.5, RateLimited("x"))
        assert gate.places == 64
        gate.in_flight = 64
        for _ in range(64):
            gate.grow(2.0)
        assert gate.places == 64 * 1.25  # a quarter with every round of answers, where slow start doubles

    run(scenario)


def test_the_very_first_request_may_begin_an_episode_at_time_zero():
    async def scenario(clock):
        gate = Gate(Limits(), clock, places=10.0, in_flight=10)
        assert clock.now() == 0.0
        gate.cut(0.0, RateLimited("x"))
        assert gate.places == 8

    run(scenario)


def test_there_is_always_one_place():
    async def scenario(clock):
        gate = Gate(Limits(), clock, places=1.0, in_flight=1)
        for now in range(1, 50):
            await clock.sleep(1.0)
            gate.cut(now, RateLimited("x"))
        assert gate.places == 1.0

    run(scenario)


def test_nothing_is_sent_before_the_time_that_the_provider_named():
    async def scenario(clock):
        def throttled(request, number):
            if number == 0:
                raise RateLimited("x", retry_after=30.0)
            return answer(request, "fine")

        provider = Slow(1.0, throttled)
        made = engine(clock, provider, limits=Limits(concurrency=1))
        responses = await everything(made, [ask() for _ in range(5)])
        assert min(provider.sent_at[1:]) >= 31.0
        # What the provider made them wait is its doing; each other's calls are our own queue.
        assert all(31_000 <= response.total_ms <= 32_100 for response in responses[1:])

    run(scenario)


@pytest.mark.parametrize("named", [-5.0, float("inf"), float("nan"), 0.0])
def test_a_time_that_makes_no_sense_closes_nothing(named):
    async def scenario(clock):
        gate = Gate(Limits(), clock, places=10.0)
        gate.cut(1.0, RateLimited("x", retry_after=named))
        assert gate.closings == gate.open_in() == PAUSE_S  # our own, until what was sent with it has come back

    run(scenario)


def test_whoever_cannot_wait_that_long_is_told_at_once_and_takes_the_fallback():
    async def scenario(clock):
        def throttled(request, number):
            raise RateLimited("x", retry_after=86_400.0)

        first, second = Slow(1.0, throttled), Slow(1.0)
        made = engine(clock, first, second, limits=Limits(concurrency=1))
        responses = await everything(made, [ask() for _ in range(5)], ["a:m", "b:m"])
        later = await made.complete(ask(), ["a:m", "b:m"])
        alone = await made.complete(ask())
        assert clock.now() < 10
        assert len(first.requests) == 1
        assert {response.model_used for response in [*responses, later]} == {"b:m"}
        assert (alone.error_type, alone.attempts, alone.spent_usd) == ("RateLimited", [], 0.0)
        assert "8639" in alone.error
        assert idle(made)

    run(scenario)


def test_repeated_closings_end_a_request_that_waits_in_the_queue():
    async def scenario(clock):
        def throttled(request, number):
            raise RateLimited("x", retry_after=4.0)

        made = engine(clock, Slow(0.1, throttled), limits=Limits(concurrency=1, timeout_s=1.0))
        responses = await everything(made, [ask() for _ in range(4)])
        assert {response.error_type for response in responses} == {"RateLimited"}
        # The deadline is ten seconds, plus what they waited for one another.
        assert clock.now() < 4 * 10 + 20

    run(scenario)


def test_waiting_for_one_another_is_not_held_against_anyone():
    async def scenario(clock):
        provider = Slow(1.0)
        made = engine(clock, provider, limits=Limits(concurrency=1, timeout_s=2.0, retries=0))
        responses = await everything(made, [ask() for _ in range(100)])
        assert {response.status for response in responses} == {COMPLETED}
        assert {round(response.total_ms) for response in responses} == {1000}

    run(scenario)


@pytest.mark.parametrize("per_minute", [3, 20, 500, 6000])
def test_requests_per_minute_are_kept_over_ten_minutes(per_minute):
    async def scenario(clock):
        provider = Slow(0.5)
        made = engine(clock, provider, limits=Limits(requests_per_minute=per_minute, timeout_s=1000))
        count = min(per_minute * 10, 5000)
        await everything(made, [ask() for _ in range(count)])
        expected = count * 60 / per_minute
        assert provider.sent_at[-1] == pytest.approx(expected, rel=0.05)
        a_minute = [
            sum(1 for at in provider.sent_at if start <= at < start + 60) for start in range(0, int(expected), 60)
        ]
        assert max(a_minute) <= per_minute * 1.05 + 1

    run(scenario)


def test_tokens_per_minute_are_kept_by_what_was_really_used():
    async def scenario(clock):
        chance = random.Random(3)
        used = []

        def told(request, number):
            tokens = chance.randint(100, 2000)
            used.append((clock.now(), tokens))
            return answer(request, "fine", tokens_used=tokens)

        made = engine(clock, Slow(0.8, told), limits=Limits(tokens_per_minute=60_000, timeout_s=1000))
        messages = [{"role": "system", "content": "be brief " * 50}, {"role": "user", "content": "hi"}]
        await everything(made, [ask(messages=messages) for _ in range(600)])
        total = sum(tokens for _, tokens in used)
        assert total / used[-1][0] * 60 == pytest.approx(60_000, rel=0.05)

    run(scenario)


def test_a_long_conversation_counts_whole():
    async def scenario(clock):
        provider = Slow(0.1, lambda request, _: answer(request, "x", tokens_used=None))
        made = engine(clock, provider, limits=Limits(tokens_per_minute=600))
        messages = [{"role": "user", "content": "x" * 3000}]
        await everything(made, [ask(messages=messages), ask(messages=messages)])
        assert provider.sent_at[1] - provider.sent_at[0] >= 98

    run(scenario)


def test_a_rate_does_not_save_up_while_nobody_asks():
    bucket = Bucket(600, 10.0, 0.0)
    bucket.wait(3600.0)
    assert bucket.level == 10.0


@given(st.floats(0.01, 1e6), st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1e5)), min_size=1, max_size=50))
@settings(max_examples=100, deadline=None)
def test_the_wait_that_a_bucket_names_is_enough(per_minute, steps):
    bucket, now = Bucket(per_minute, per_minute / 60, 0.0), 0.0
    for pause, tokens in steps:
        now += pause
        wait = bucket.wait(now)
        assert 0 <= wait < float("inf")
        now += wait
        assert bucket.wait(now) == 0.0
        bucket.level -= tokens


@pytest.mark.parametrize("given_way", ["waiting", "admitted", "both"])
def test_a_cancelled_waiter_leaks_no_place(given_way):
    async def scenario(clock):
        controller = one(clock)
        CALL.set(Call(deadline=FOREVER))
        gate = await controller.enter("t", 5, 0)
        waiting = [asyncio.create_task(controller.enter("t", 5, 0)) for _ in range(3)]
        await asyncio.sleep(0)
        if given_way != "waiting":
            gate.leave()  # admits the first, which is cancelled before it runs
        waiting[0].cancel()
        if given_way == "both":
            waiting[1].cancel()
        await asyncio.wait(waiting[:1])
        assert waiting[0].cancelled()
        if given_way == "waiting":
            gate.leave()
        for task in waiting[1:]:
            if not task.cancelled() and task.cancelling() == 0:
                await task
                gate.leave()
        assert gate.in_flight == 0
        assert gate.places == 1.0

    run(scenario)


def test_a_crowd_cancelled_at_random_moments_leaves_nothing_behind():
    async def scenario(clock):
        chance = random.Random(7)

        def moody(request, number):
            if chance.random() < 0.2:
                raise RateLimited("x", retry_after=chance.choice([None, 0.5, 3.0]))
            if chance.random() < 0.2:
                raise ProviderUnavailable("x")
            return answer(request, "fine")

        provider = Slow(0.7, moody)
        made = engine(
            clock, provider, limits=Limits(concurrency=8, requests_per_minute=900), budget_usd=1e6, cache=True
        )
        tasks = []
        for number in range(400):
            tasks.append(asyncio.create_task(made.complete(ask(key=f"{number % 150}", priority=1 + number % 10))))
            if chance.random() < 0.3:
                await clock.sleep(chance.random() * 0.3)
                chance.choice(tasks).cancel()
        await asyncio.wait(tasks)
        assert provider.most <= 8
        assert idle(made)
        assert all(task.cancelled() or task.result() for task in tasks)
        assert provider.here == 0
        await made.aclose()

    run(scenario)


def test_the_dead_in_the_queue_do_not_hold_up_the_living():
    async def scenario(clock):
        made = engine(clock, Slow(1.0), limits=Limits(concurrency=1, requests_per_minute=60))
        tasks = [asyncio.create_task(made.complete(ask())) for _ in range(100)]
        await clock.sleep(0.5)
        for task in tasks[1:]:
            task.cancel()
        assert (await made.complete(ask())).status is COMPLETED
        assert clock.now() < 5
        await asyncio.wait(tasks)

    run(scenario)


def test_targets_do_not_wait_for_one_another():
    async def scenario(clock):
        slow, quick = Slow(100.0), Slow(1.0)
        made = engine(clock, slow, quick, limits=Limits(concurrency=1, timeout_s=1000))
        held = [asyncio.create_task(made.complete(ask())) for _ in range(3)]
        await everything(made, [ask(model="b:m") for _ in range(3)])
        assert clock.now() == pytest.approx(3.0)
        await asyncio.wait(held)

    run(scenario)


def test_what_a_providers_own_limits_name_wins_and_the_rest_stays():
    table = ProviderSettings(base_url="http://127.0.0.1:9/v1", limits=Limits(concurrency=2))
    own = SETTINGS.model_copy(update={"providers": SETTINGS.providers | {"a": table}})

    async def scenario(clock):
        provider, failing = Slow(1.0), Scripted([ProviderUnavailable("x")])
        made = engine(clock, provider, failing, settings=own, limits=Limits(concurrency=9, retries=0))
        await everything(made, [ask() for _ in range(20)])
        assert provider.most == 2
        made._providers["a"] = failing
        made._onions.clear()
        await made.complete(ask())
        assert len(failing.requests) == 1

    run(scenario)


def test_places_say_how_it_stands():
    async def scenario(clock):
        made = engine(clock, Slow(1.0), limits=Limits(concurrency=4))
        assert made.controller.places() == {}
        await made.complete(ask())
        assert made.controller.places() == {"a:m": 4}

    run(scenario)


def test_closing_ends_the_alarm_clock():
    async def scenario(clock):
        made = engine(clock, Slow(1.0), limits=Limits(requests_per_minute=1))
        tasks = [asyncio.create_task(made.complete(ask())) for _ in range(3)]
        await clock.sleep(5.0)
        for task in tasks:
            task.cancel()
        await made.aclose()
        await asyncio.wait(tasks)

    run(scenario)


def test_a_rate_limit_hands_on_whatever_happens_inside():
    class Bye(BaseException):
        pass

    class Leaving:
        async def complete(self, request):
            raise Bye

    async def scenario(clock):
        controller = one(clock)
        CALL.set(Call(deadline=FOREVER))
        with pytest.raises(Bye):
            await RateLimit(Leaving(), controller).complete(ask())
        assert controller.gate("a:m").in_flight == 0

    run(scenario)
