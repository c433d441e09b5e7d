"""How fast a target may be asked: the rate that refusals teach, and the one that headers tell."""

from __future__ import annotations

import asyncio
import math
import random
from dataclasses import dataclass, field

import pytest
from engines import COMPLETED, ask, engine
from fakes import _real_sleep, answer
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_time import run

from feedbackloop.errors import RateLimited
from feedbackloop.models import AIRequest, AIResponse
from feedbackloop.pipeline.pacing import PAUSE_MAX_S, PAUSE_S, Bucket, Pace, told
from feedbackloop.providers import Allowance, Quota
from feedbackloop.settings import Limits


@dataclass
class Hidden:
    """Answers `per_s` requests a second and refuses the rest; says nothing of it beforehand.

    With `window_s` so many are let in within each such span; otherwise they flow back evenly, and `burst` of them are kept.
    """

    per_s: float = 50.0
    burst: float = 50.0
    window_s: float | None = None
    names_time: bool = False
    latency_s: float = 0.5
    refusal_s: float = 0.05
    open_at: float = 0.0
    answered: int = 0
    refused: int = 0
    chance: random.Random = field(default_factory=lambda: random.Random(1))
    base_url: str | None = None

    def __post_init__(self) -> None:
        self.left, self.at, self.window = self.burst, 0.0, -1

    def admits(self, now: float) -> bool:
        if now < self.open_at:
            return False
        if self.window_s is None:
            self.left = min(self.left + (now - self.at) * self.per_s, self.burst)
        elif int(now / self.window_s) != self.window:
            self.window, self.left = int(now / self.window_s), self.per_s * self.window_s
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True

    async def complete(self, request: AIRequest) -> AIResponse:
        now = asyncio.get_running_loop().time()
        if not self.admits(now):
            self.refused += 1
            again = (self.window + 1) * self.window_s - now if self.window_s else (1 - self.left) / self.per_s
            await _real_sleep(self.refusal_s)
            raise RateLimited("too fast", retry_after=again if self.names_time else None)
        self.answered += 1
        seconds = self.latency_s * math.exp(0.4 * self.chance.gauss(0, 1))
        await _real_sleep(seconds)
        return answer(request, "fine", latency_ms=seconds * 1000)


def put(provider: Hidden, calls: int, concurrency: int = 64) -> tuple[float, float]:
    """Answers a second as a share of what the provider bears, and refusals as a share of all calls."""

    async def scenario(clock) -> float:
        made = engine(clock, provider, limits=Limits(concurrency=concurrency, timeout_s=120, retries=0))
        waiting = iter(range(calls))

        async def worker() -> None:
            for number in waiting:
                response = await made.complete(ask(f"{number}"))
                # Although not one retry is allowed: a 429 uses up none.
                assert response.status is COMPLETED, response.error

        await asyncio.gather(*(worker() for _ in range(concurrency)))
        took = clock.now()
        await made.aclose()
        return took

    took = run(scenario)
    return calls / took / provider.per_s, provider.refused / (provider.refused + provider.answered)


@pytest.mark.parametrize(
    "provider",
    [Hidden(), Hidden(burst=10, latency_s=0.2), Hidden(window_s=1.0, names_time=True)],
    ids=["a second's worth at once", "ten at once", "by the second"],
)
def test_a_hidden_limit_is_found_and_kept_to(provider: Hidden) -> None:
    reached, refused = put(provider, 2000)
    assert reached >= 0.9
    assert refused < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("latency_s", [0.05, 0.1, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("burst", [50, 10, 5])
@pytest.mark.parametrize("refusal_s", [0.03, 0.1])
def test_whatever_the_provider_lets_pass_at_once(latency_s: float, burst: float, refusal_s: float) -> None:
    reached, refused = put(Hidden(burst=burst, latency_s=latency_s, refusal_s=refusal_s), 6000)
    print(f"{latency_s=} {burst=} {refusal_s=}: {reached:.1%} of the limit, {refused:.2%} refused")
    assert reached >= 0.9
    assert refused < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("latency_s", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("names_time", [False, True])
@pytest.mark.parametrize("concurrency", [64, 500])
def test_a_limit_by_the_second_is_kept_to_as_well(latency_s: float, names_time: bool, concurrency: int) -> None:
    provider = Hidden(window_s=1.0, latency_s=latency_s, names_time=names_time)
    reached, refused = put(provider, 6000, concurrency)
    print(f"{latency_s=} {names_time=} {concurrency=}: {reached:.1%} of the limit, {refused:.2%} refused")
    assert reached >= 0.9
    assert refused < 0.02


@pytest.mark.slow
def test_refusals_that_take_as_long_as_answers_are_learned_from_too() -> None:
    reached, refused = put(Hidden(latency_s=1.0, refusal_s=1.0), 10_000)
    print(f"{reached:.1%} of the limit, {refused:.2%} refused")
    assert reached >= 0.9
    assert refused < 0.02


def test_without_a_refusal_there_is_no_pace() -> None:
    reached, refused = put(Hidden(per_s=1e6, burst=1e6), 1000)
    assert refused == 0
    assert reached * 1e6 > 64 / 0.5 * 0.6  # the places alone


def test_a_limit_that_rises_is_found_again() -> None:
    provider = Hidden(per_s=20, burst=20, latency_s=0.2)
    put(provider, 400)

    async def scenario(clock) -> float:
        made = engine(clock, provider, limits=Limits(concurrency=64, timeout_s=120))
        provider.at = 0.0

        async def asked(count: int) -> float:
            began, waiting = clock.now(), iter(range(count))

            async def worker() -> None:
                for _ in waiting:
                    await made.complete(ask())

            await asyncio.gather(*(worker() for _ in range(64)))
            return count / (clock.now() - began)

        assert await asked(400) < 24
        provider.per_s = provider.burst = 80
        await asked(1500)
        rate = await asked(1500)
        await made.aclose()
        return rate

    assert run(scenario) > 0.9 * 80


def test_a_target_that_refuses_everything_is_given_longer_and_longer_pauses_and_found_open_again() -> None:
    provider = Hidden(open_at=60.0)

    async def scenario(clock) -> None:
        made = engine(clock, provider, limits=Limits(concurrency=16, timeout_s=120))
        responses = await asyncio.gather(*(made.complete(ask()) for _ in range(200)))
        assert {response.status for response in responses} == {COMPLETED}
        assert clock.now() < 60 + PAUSE_MAX_S + 20
        await made.aclose()

    run(scenario)
    assert provider.refused < 16 + 3 * 9  # those under way at first, and a few probes after each pause


def test_pauses_count_against_a_requests_deadline() -> None:
    async def scenario(clock) -> None:
        made = engine(clock, Hidden(open_at=1e9), limits=Limits(concurrency=4, timeout_s=2, deadline_s=20))
        responses = await asyncio.gather(*(made.complete(ask()) for _ in range(40)))
        assert {response.error_type for response in responses} == {"RateLimited"}
        assert clock.now() < 60
        await made.aclose()

    run(scenario)


@given(st.lists(st.sampled_from(["send", "answer", "refuse", "wait"]), max_size=200), st.floats(0.01, 10))
@settings(max_examples=100, deadline=None)
def test_whatever_happens_the_pace_stays_a_sensible_number(steps: list[str], pause: float) -> None:
    pace, now = Pace(0.0), 0.0
    for step in steps:
        if step == "wait":
            now += pause
        elif step == "send":
            now += pace.wait(now)
            pace.sent(now)
        elif step == "answer":
            pace.answered(now)
        else:
            pace.refused()
            assert 0.0 <= pace.cut(now, None) <= PAUSE_MAX_S
        assert 0.0 <= pace.wait(now) <= 61.0
        assert pace.per_s(now) > 0


def test_the_first_pause_is_a_short_one() -> None:
    pace = Pace(0.0)
    for number in range(100):
        pace.sent(number / 100)
    pace.refused()
    assert pace.cut(1.0, None) == PAUSE_S
    assert pace.wait(1.2) == pytest.approx(PAUSE_S - 0.2)
    pace.wait(1.0 + PAUSE_S)
    assert pace.per_s(1.0 + PAUSE_S) == pytest.approx(99, abs=1)


# What a target tells of itself


class Telling:
    """Keeps to a rate of `limit` a minute, and says with each answer what is left of it."""

    base_url = None

    def __init__(self, limit: float, left: float | None = None) -> None:
        self.limit = limit
        self.left = limit if left is None else left
        self.at = 0.0
        self.sent_at: list[float] = []
        self.refused = 0

    def allowance(self, model: str) -> Allowance:
        missing = self.limit - self.left
        return Allowance(requests=Quota(self.limit, max(math.floor(self.left), 0), missing * 60 / self.limit))

    async def complete(self, request: AIRequest) -> AIResponse:
        now = asyncio.get_running_loop().time()
        self.left = min(self.left + (now - self.at) * self.limit / 60, self.limit)
        self.at = now
        if self.left < 1:
            self.refused += 1
            raise RateLimited("none left")
        self.left -= 1
        self.sent_at.append(now)
        await _real_sleep(0.2)
        return answer(request, "fine")


def test_what_a_target_says_that_it_still_takes_is_kept_to() -> None:
    provider = Telling(600, left=30)

    async def scenario(clock) -> float:
        made = engine(clock, provider, limits=Limits(concurrency=8))
        await asyncio.gather(*(made.complete(ask()) for _ in range(330)))
        return clock.now()

    took = run(scenario)
    assert took == pytest.approx(30, rel=0.1)
    assert provider.refused <= 1


def test_what_is_told_with_a_refusal_closes_the_gate_without_a_named_time() -> None:
    provider = Telling(60, left=0)

    async def scenario(clock) -> None:
        made = engine(clock, provider, limits=Limits(concurrency=8))
        responses = await asyncio.gather(*(made.complete(ask()) for _ in range(20)))
        assert {response.status for response in responses} == {COMPLETED}
        assert clock.now() < 40

    run(scenario)
    assert provider.refused < 12


def test_tokens_are_told_too() -> None:
    bucket = told(None, Quota(60_000, 20_000, 40.0), 0.0, of_tokens=True)
    assert bucket is not None
    bucket.take(30_000)
    assert bucket.wait(0.0) == pytest.approx(10.0, abs=0.01)
    # Believed where it is less than was counted here, and not where it is more: some of it is under way.
    assert told(bucket, Quota(60_000, 1000, 59.0), 0.0, of_tokens=True) is bucket
    assert bucket.level == -10_000


@pytest.mark.parametrize("quota", [Quota(60, 60, 0.0), Quota(60, 60, 5.0), Quota(60, 3, 0.0)])
def test_an_untouched_rate_tells_nothing(quota: Quota) -> None:
    assert told(None, quota, 0.0, of_tokens=False) is None
    bucket = Bucket(60, 5.0, 0.0)
    assert told(bucket, quota, 0.0, of_tokens=False) is bucket
    assert bucket == Bucket(60, 5.0, 0.0)
