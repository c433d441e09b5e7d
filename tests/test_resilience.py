from __future__ import annotations

import asyncio
import random

import pytest
from engines import Slow, ask, engine
from fakes import FakeTime, Scripted, answer
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_time import run

from feedbackloop.errors import (
    AuthenticationFailed,
    BudgetExceeded,
    CircuitOpen,
    ContextTooLong,
    InvalidRequest,
    OutputInvalid,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
)
from feedbackloop.models import Attempt
from feedbackloop.pipeline.progress import Tally
from feedbackloop.pipeline.resilience import (
    BACKOFF_MAX_S,
    BACKOFF_S,
    CALL,
    Breaker,
    Call,
    CircuitBreaker,
    Fallback,
    Retry,
    Timeout,
)
from feedbackloop.pipeline.spending import Priced
from feedbackloop.pricing import Prices
from feedbackloop.settings import Limits, Settings

FOREVER = 1e9


@pytest.fixture
def time():
    return FakeTime()


@pytest.fixture(autouse=True)
def call(time):
    token = CALL.set(Call(deadline=time.now + FOREVER))
    yield CALL.get()
    CALL.reset(token)


def priced(provider, time):
    return Priced(provider, Prices(Settings()), time.clock())


def retry(script, time, retries=3, chance=None):
    provider = Scripted(script)
    return provider, Retry(priced(provider, time), retries, time.clock(), chance or random.Random(1))


async def error_of(layer, kind=ProviderError, request=None):
    with pytest.raises(kind) as caught:
        await layer.complete(request or ask())
    return caught.value


# Retry


async def test_an_answer_at_once_is_neither_waited_for_nor_changed(time):
    _, layer = retry(["fine"], time)
    response = await layer.complete(ask())
    assert (response.output, len(response.attempts), time.slept) == ("fine", 1, [])


async def test_retries_are_further_attempts_after_the_first(time):
    provider, layer = retry([ProviderUnavailable("down")], time, retries=3)
    error = await error_of(layer, ProviderUnavailable)
    assert len(provider.requests) == len(error.attempts) == 4
    assert len(time.slept) == 3


async def test_no_retries_means_one_attempt(time):
    provider, layer = retry([ProviderUnavailable("down")], time, retries=0)
    await error_of(layer)
    assert (len(provider.requests), time.slept) == (1, [])


async def test_the_answer_carries_the_failed_attempts_before_its_own(time):
    _, layer = retry([ProviderUnavailable("x"), OutputInvalid("y"), "fine"], time)
    response = await layer.complete(ask())
    assert [attempt.error_type for attempt in response.attempts] == ["ProviderUnavailable", "OutputInvalid", None]
    assert response.latency_ms == 10.0


@pytest.mark.parametrize("error", [AuthenticationFailed, InvalidRequest, ContextTooLong])
async def test_what_cannot_get_better_is_not_asked_again(time, error):
    provider, layer = retry([error("no")], time)
    await error_of(layer, error)
    assert len(provider.requests) == 1


async def test_an_error_can_say_itself_that_asking_again_is_vain(time):
    provider, layer = retry([RateLimited("quota", retryable=False)], time)
    await error_of(layer, RateLimited)
    assert len(provider.requests) == 1


@given(seed=st.integers(0, 10**6), failures=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_back_off_doubles_within_its_jitter_up_to_its_ceiling(seed, failures):
    time = FakeTime()
    wait = retry([], time, chance=random.Random(seed))[1]._backoff(failures)
    ceiling = min(BACKOFF_S * 2 ** (failures - 1), BACKOFF_MAX_S)
    assert ceiling / 2 <= wait <= ceiling


async def test_equal_failures_do_not_come_back_at_the_same_moment(time):
    waits = {retry([], time, chance=random.Random(seed))[1]._backoff(1) for seed in range(20)}
    assert len(waits) == 20


async def test_a_429_waits_as_told_and_uses_up_no_retry(time):
    script = [RateLimited("slow down", retry_after=7.0)] * 9 + ["fine"]
    _, layer = retry(script, time, retries=0)
    response = await layer.complete(ask())
    assert response.output == "fine"
    assert time.slept == [7.0] * 9
    assert len(response.attempts) == 10


async def test_a_429_without_a_time_backs_off(time):
    _, layer = retry([RateLimited("x")] * 4 + ["fine"], time, retries=0)
    await layer.complete(ask())
    assert all(2 ** (n - 1) * BACKOFF_S / 2 <= wait <= 2 ** (n - 1) * BACKOFF_S for n, wait in enumerate(time.slept, 1))


@pytest.mark.parametrize("named", [0.0, -3.0, float("nan")])
async def test_a_429_that_names_no_time_to_speak_of_is_no_hot_loop(time, call, named):
    call.deadline = time.now + 600
    provider, layer = retry([RateLimited("x", retry_after=named)], time, retries=0)
    await error_of(layer, RateLimited)
    assert len(provider.requests) < 40


async def test_429s_and_failures_are_counted_apart(time):
    script = [RateLimited("x", retry_after=1), ProviderUnavailable("y")] * 2 + ["fine"]
    _, layer = retry(script, time, retries=2)
    assert (await layer.complete(ask())).output == "fine"


async def test_a_failure_may_name_a_time_too_and_the_longer_wait_counts(time):
    _, layer = retry([ProviderUnavailable("x", retry_after=9.0), "fine"], time)
    await layer.complete(ask())
    assert time.slept == [9.0]


@pytest.mark.parametrize("wait", [60.0, 61.0, float("inf")])
async def test_a_time_beyond_the_deadline_ends_it_at_once(time, call, wait):
    call.deadline = time.now + 60
    provider, layer = retry([RateLimited("x", retry_after=wait)], time)
    await error_of(layer, RateLimited)
    assert (len(provider.requests), time.slept) == (1, [])


async def test_retrying_never_goes_past_the_deadline(time, call):
    call.deadline = time.now + 5
    _, layer = retry([ProviderUnavailable("x")], time, retries=1000)
    await error_of(layer)
    assert time.now < call.deadline


async def test_a_spent_budget_is_not_retried_and_keeps_what_was_tried(time):
    class Broke:
        calls = 0

        async def complete(self, request):
            self.calls += 1
            if self.calls == 1:
                error = ProviderUnavailable("x")
                error.attempts = [Attempt(model="a:m", start="2026-01-01T00:00:00Z", error_type="ProviderUnavailable")]
                raise error
            raise BudgetExceeded("no money")

    layer = Retry(Broke(), 5, time.clock(), random.Random(1))
    error = await error_of(layer, BudgetExceeded)
    assert len(error.attempts) == 1


# Fallback


async def test_the_first_target_answers_and_the_second_is_not_asked(time):
    first, second = Scripted(["one"]), Scripted(["two"])
    response = await Fallback([("a:m", priced(first, time)), ("b:m", priced(second, time))]).complete(ask())
    assert (response.output, response.model_used, len(second.requests)) == ("one", "a:m", 0)


async def test_a_fallbacks_answer_is_its_own(time):
    first, second = Scripted([InvalidRequest("no")]), Scripted(["two"], latency_ms=77.0, input_tokens=3, tokens_used=8)
    response = await Fallback([("a:m", priced(first, time)), ("b:m", priced(second, time))]).complete(ask())
    assert (response.output, response.model_used, response.latency_ms, response.tokens_used) == ("two", "b:m", 77.0, 8)
    assert [(a.model, a.error_type) for a in response.attempts] == [("a:m", "InvalidRequest"), ("b:m", None)]
    assert second.requests[0].model == "b:m"


async def test_all_failing_raises_the_last_with_all_attempts_in_order(time):
    layers = [(f"{name}:m", priced(Scripted([InvalidRequest(name)]), time)) for name in "abc"]
    error = await error_of(Fallback(layers))
    assert str(error) == "c"
    assert [attempt.error for attempt in error.attempts] == ["a", "b", "c"]


async def test_a_spent_budget_is_not_passed_to_a_fallback(time):
    second = Scripted(["two"])

    class Broke:
        async def complete(self, request):
            raise BudgetExceeded("no money")

    await error_of(Fallback([("a:m", Broke()), ("b:m", second)]), BudgetExceeded)
    assert second.requests == []


async def test_without_targets_there_is_an_error():
    await error_of(Fallback([]))


# Breaker


def opened(now=0.0):
    breaker = Breaker()
    for _ in range(Breaker.THRESHOLD):
        breaker.failed(now, probe=False)
    return breaker


def test_a_breaker_opens_after_its_threshold_of_failures_in_a_row():
    breaker = Breaker()
    for _ in range(Breaker.THRESHOLD - 1):
        breaker.failed(0.0, probe=False)
        assert breaker.may_pass(0.0)
    breaker.failed(0.0, probe=False)
    assert not breaker.may_pass(0.0)


def test_a_success_in_between_starts_the_count_again():
    breaker = Breaker()
    for _ in range(5):
        for _ in range(Breaker.THRESHOLD - 1):
            breaker.failed(0.0, probe=False)
        breaker.succeeded()
    assert breaker.may_pass(0.0)


def test_one_probe_passes_after_the_pause():
    breaker = opened()
    assert not breaker.may_pass(Breaker.PAUSE_S - 0.01)
    assert breaker.may_pass(Breaker.PAUSE_S)
    assert not breaker.may_pass(Breaker.PAUSE_S)
    assert not breaker.may_pass(Breaker.PAUSE_S + 100)


def test_a_failed_probe_doubles_the_pause_up_to_its_ceiling():
    breaker, now, pauses = opened(), 0.0, []
    for _ in range(6):
        now = breaker.probe_at
        assert breaker.may_pass(now)
        breaker.failed(now, probe=True)
        pauses.append(breaker.probe_at - now)
    assert pauses == [10.0, 20.0, 30.0, 30.0, 30.0, 30.0]


def test_a_successful_probe_closes_it_and_forgets_the_pause():
    breaker = opened()
    assert breaker.may_pass(5.0)
    breaker.succeeded()
    assert breaker.may_pass(5.0)
    assert (breaker.failures, breaker.pause_s) == (0, Breaker.PAUSE_S)


def test_a_late_failure_of_an_earlier_request_does_not_end_the_probe():
    breaker = opened()
    assert breaker.may_pass(5.0)
    breaker.failed(5.5, probe=False)
    assert not breaker.may_pass(100.0)


@given(st.lists(st.sampled_from(["ask", "ok", "fail", "wait", "cancel"]), max_size=60))
@settings(max_examples=200, deadline=None)
def test_a_breaker_never_has_two_probes_out(steps):
    breaker, now, out = Breaker(), 0.0, []
    for step in steps:
        if step == "wait":
            now += 3.0
        elif step == "ask":
            was_open = breaker.open_since is not None
            if breaker.may_pass(now):
                out.append(was_open)
        elif out:
            probe = out.pop(0)
            if step == "ok":
                breaker.succeeded()
                out = [False] * len(out)  # closed: whoever was a probe is one among many
            elif step == "fail":
                breaker.failed(now, probe=probe)
            elif probe:
                breaker.probing = False
        assert sum(out) <= 1
        assert sum(out) == breaker.probing


def breaking(provider, time, breaker=None, *, last=False):
    return CircuitBreaker(priced(provider, time), breaker or Breaker(), time.clock(), last=last)


@pytest.mark.parametrize(
    ("error", "opens"),
    [
        (ProviderTimeout, True),
        (ProviderUnavailable, True),
        (RateLimited, False),
        (OutputInvalid, False),
        (AuthenticationFailed, False),
        (InvalidRequest, False),
        (ProviderError, False),
    ],
)
async def test_only_a_target_that_is_down_opens_it(time, error, opens):
    provider = Scripted([error("x")])
    layer = breaking(provider, time)
    for _ in range(Breaker.THRESHOLD):
        await error_of(layer, error)
    await error_of(layer, CircuitOpen if opens else error)
    assert len(provider.requests) == Breaker.THRESHOLD + (not opens)


async def test_an_open_one_falls_through_at_once_when_there_is_a_further_target(time):
    provider = Scripted(["never"])
    error = await error_of(breaking(provider, time, opened(time.now)), CircuitOpen)
    assert (provider.requests, time.slept, error.attempts) == ([], [], [])


async def test_the_last_target_waits_for_a_probe_and_goes_on(time):
    began, provider = time.now, Scripted(["back"])
    response = await breaking(provider, time, opened(time.now), last=True).complete(ask())
    assert response.output == "back"
    assert time.now - began == pytest.approx(Breaker.PAUSE_S)


async def test_a_failed_probe_of_the_last_target_waits_on_and_keeps_its_attempt(time):
    provider = Scripted([ProviderUnavailable("still"), ProviderTimeout("still"), "back"])
    response = await breaking(provider, time, opened(time.now), last=True).complete(ask())
    assert [a.error_type for a in response.attempts] == ["ProviderUnavailable", "ProviderTimeout", None]
    assert sum(time.slept) == pytest.approx(5 + 10 + 20)


async def test_the_last_target_gives_up_after_a_minute(time):
    began = time.now
    error = await error_of(breaking(Scripted([ProviderUnavailable("x")]), time, opened(began), last=True), CircuitOpen)
    assert time.now - began == pytest.approx(60.0)
    assert [attempt.error_type for attempt in error.attempts] == ["ProviderUnavailable"] * 3
    assert "60 s" in str(error)


async def test_the_last_target_gives_up_at_the_deadline(time, call):
    call.deadline = time.now + 3
    await error_of(breaking(Scripted(["x"]), time, opened(time.now), last=True), CircuitOpen)
    assert time.now == pytest.approx(call.deadline)


async def test_a_refusal_shows_that_the_target_is_back(time):
    breaker = opened(time.now)
    await error_of(breaking(Scripted([InvalidRequest("x")]), time, breaker, last=True), InvalidRequest)
    assert breaker.may_pass(time.now)
    assert breaker.open_since is None


@pytest.mark.parametrize("error", [BudgetExceeded("x"), RateLimited("our own gate"), ProviderTimeout("no time left")])
async def test_what_was_never_sent_says_nothing_of_the_target(time, error):
    class Unsent:
        async def complete(self, request):
            raise error

    breaker = opened(time.now)
    layer = CircuitBreaker(Unsent(), breaker, time.clock(), last=True)
    await error_of(layer, type(error))
    assert (breaker.open_since, breaker.probing) == (1000.0, False)
    healthy = Breaker()
    for _ in range(20):
        await error_of(CircuitBreaker(Unsent(), healthy, time.clock(), last=True), type(error))
    assert healthy.may_pass(time.now)


def test_one_probe_for_many_who_wait_and_all_go_on_after_it():
    async def scenario(clock):
        provider = Slow(2.0)
        breaker = opened(clock.now())
        layer = CircuitBreaker(Priced(provider, Prices(Settings()), clock), breaker, clock, last=True)
        CALL.set(Call(deadline=FOREVER))
        await asyncio.gather(*(layer.complete(ask()) for _ in range(50)))
        return provider

    provider = run(scenario)
    assert min(provider.sent_at[1:]) >= provider.sent_at[0] + 2.0
    assert max(provider.sent_at) <= provider.sent_at[0] + 2.0 + 1.0


def test_a_cancelled_probe_lets_the_next_one_try():
    async def scenario(clock):
        provider, breaker = Slow(2.0), opened(clock.now())
        layer = CircuitBreaker(Priced(provider, Prices(Settings()), clock), breaker, clock, last=True)
        CALL.set(Call(deadline=FOREVER))
        first = asyncio.create_task(layer.complete(ask()))
        second = asyncio.create_task(layer.complete(ask()))
        await clock.sleep(6.0)
        assert breaker.probing
        first.cancel()
        assert (await second).output == "fine"
        assert first.cancelled()

    run(scenario)


def test_a_request_with_a_further_target_goes_there_while_the_first_is_down():
    async def scenario(clock):
        down, up = Scripted([ProviderUnavailable("x")]), Scripted(["fine"])
        made = engine(clock, down, up, limits=Limits(retries=0))
        for _ in range(20):
            response = await made.complete(ask(), ["a:m", "b:m"])
            assert (response.output, response.model_used) == ("fine", "b:m")
        assert len(down.requests) == Breaker.THRESHOLD
        assert response.attempts[-1].model == "b:m"
        assert len(response.attempts) == 1

    run(scenario)


def test_two_chains_share_what_is_known_of_a_target():
    async def scenario(clock):
        down = Scripted([ProviderUnavailable("x")])
        made = engine(clock, down, Scripted(["b"]), Scripted(["c"]), limits=Limits(retries=0))
        for _ in range(Breaker.THRESHOLD):
            await made.complete(ask(), ["a:m", "b:m"])
        await made.complete(ask(), ["a:m", "c:m"])
        assert len(down.requests) == Breaker.THRESHOLD

    run(scenario)


# Timeout


def test_an_attempt_ends_at_its_bound_and_is_written_down():
    async def scenario(clock):
        provider = Slow(100.0)
        CALL.set(Call(deadline=FOREVER))
        layer = Timeout(Priced(provider, Prices(Settings()), clock), 2.5, clock)
        error = await error_of(layer, ProviderTimeout)
        assert clock.now() == pytest.approx(2.5)
        assert [a.error_type for a in error.attempts] == ["ProviderTimeout"]
        assert error.attempts[0].latency_ms == pytest.approx(2500)
        assert provider.cancelled == 1

    run(scenario)


def test_an_attempt_never_outlives_the_deadline():
    async def scenario(clock):
        CALL.set(Call(deadline=1.0))
        await error_of(Timeout(Slow(100.0), 60.0, clock), ProviderTimeout)
        assert clock.now() == pytest.approx(1.0)

    run(scenario)


@pytest.mark.parametrize("left", [0.0, -5.0])
async def test_nothing_is_sent_after_the_deadline(time, call, left):
    call.deadline = time.now + left
    provider = Scripted(["fine"])
    error = await error_of(Timeout(priced(provider, time), 60.0, time.clock()), ProviderTimeout)
    assert (provider.requests, error.attempts) == ([], [])


def test_cancelling_is_no_timeout():
    async def scenario(clock):
        CALL.set(Call(deadline=FOREVER))
        task = asyncio.create_task(Timeout(Slow(100.0), 60.0, clock).complete(ask()))
        await clock.sleep(1.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(scenario)


def test_a_late_answer_is_ignored_and_its_attempt_says_what_it_cost():
    class Stubborn:
        base_url = None
        calls = 0

        async def complete(self, request):
            self.calls += 1
            if self.calls > 1:
                return answer(request, "in time")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return answer(request, "all the same")

    async def scenario(clock):
        made = engine(clock, Stubborn(), limits=Limits(timeout_s=1.0))
        task = asyncio.create_task(made.complete(ask()))
        response = await task
        assert task.cancelling() == 0
        assert (response.output, response.cost_usd, response.spent_usd) == ("in time", 0.015, 0.03)
        assert [attempt.error_type for attempt in response.attempts] == ["ProviderTimeout", None]
        assert response.attempts[0].latency_ms == pytest.approx(1000)
        assert "too late" in response.attempts[0].error
        tally = Tally()
        tally.add(response)
        assert (tally.completed, tally.late, tally.refused) == (1, 1, 0)

    run(scenario)
