from __future__ import annotations

import asyncio
import math
import random
import statistics
import time
from collections import Counter

import pytest

from feedbackloop.errors import InvalidRequest, ProviderError, RateLimited
from feedbackloop.models import AIRequest
from feedbackloop.providers import create, simulated
from feedbackloop.providers.simulated import SimulatedProvider
from feedbackloop.settings import Settings


@pytest.fixture
def provider():
    return create("simulated", Settings())


def ask(number=0, model="simulated:steady", **params):
    return AIRequest(input=f"Where is order {number}?", model=model, key=f"k{number}", params=params)


async def outcome(provider, request):
    try:
        response = await provider.complete(request)
    except ProviderError as error:
        return type(error).__name__
    return response.output, response.latency_ms, response.output_tokens


async def test_an_answer_says_that_it_is_simulated_and_costs_nothing(provider):
    request = ask(7)
    response = await provider.complete(request)
    assert response.output.startswith('[simulated] On "Where is order 7?", this is a ')
    assert (response.provider_model, response.cost_usd, response.finish_reason) == ("simulated", 0.0, "stop")
    assert (response.request_id, response.model_used) == (request.id, "simulated:steady")
    assert response.tokens_used == response.input_tokens + response.output_tokens
    assert response.usage == {"prompt_tokens": response.input_tokens, "completion_tokens": response.output_tokens}


async def test_all_follows_from_the_request_whatever_the_order_and_concurrency():
    params = {"failure_rate": 0.3, "tail": 0.1, "seed": 3}
    numbers = list(range(200))
    first = SimulatedProvider("simulated", Settings())
    expected = {n: [await outcome(first, ask(n, **params)) for _ in range(3)] for n in numbers}
    random.Random(1).shuffle(numbers)
    second = SimulatedProvider("simulated", Settings())
    for turn in range(3):
        results = await asyncio.gather(*(outcome(second, ask(n, **params)) for n in numbers))
        assert results == [expected[n][turn] for n in numbers]


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"model": "simulated:other"},
        {"number": 1},
    ],
)
async def test_seed_model_and_request_each_make_another_answer(provider, other):
    assert await outcome(provider, ask()) != await outcome(provider, ask(**other))


async def test_without_a_key_messages_and_repeat_tell_requests_apart(provider):
    def plain(**fields):
        return AIRequest(input="Hi", model="simulated:a", **fields)

    one = await outcome(provider, plain())
    assert await outcome(provider, plain()) == one
    assert await outcome(provider, plain(repeat=1)) != one
    assert await outcome(provider, plain(messages=[{"role": "user", "content": "Ho"}])) != one


async def test_a_request_that_failed_gets_another_chance_and_then_the_same_again(provider):
    longest = 0
    for n in range(20):
        request = ask(n, failure_rate=0.5)
        first = [await outcome(provider, request)]
        while isinstance(first[-1], str):
            first.append(await outcome(provider, request))
        assert [await outcome(provider, request) for _ in first] == first
        longest = max(longest, len(first))
    assert longest > 2


async def test_quality_is_the_share_of_good_answers(provider):
    texts = [(await provider.complete(ask(n, quality=0.7))).output for n in range(4000)]
    good = sum("a good answer" in text for text in texts) / 4000
    assert abs(good - 0.7) < 4 * math.sqrt(0.7 * 0.3 / 4000)
    assert all(("a good answer" in text) != ("a poor answer" in text) for text in texts)


@pytest.mark.parametrize(("quality", "word"), [(0, "a poor answer"), (1, "a good answer")])
async def test_extreme_qualities_are_certain(provider, quality, word):
    assert all([word in (await provider.complete(ask(n, quality=quality))).output for n in range(200)])


async def test_latency_is_log_normal_with_a_tail(provider):
    logs = [
        math.log((await provider.complete(ask(n, latency_ms=500, latency_sigma=0.3))).latency_ms) for n in range(4000)
    ]
    assert abs(statistics.fmean(logs) - math.log(500)) < 0.02
    assert abs(statistics.stdev(logs) - 0.3) < 0.015
    slow = [
        (await provider.complete(ask(n, latency_ms=500, latency_sigma=0, tail=0.1))).latency_ms for n in range(4000)
    ]
    assert set(map(round, slow)) == {500, 5000}
    assert abs(sum(value > 1000 for value in slow) / 4000 - 0.1) < 0.02


async def test_output_tokens_have_the_mean_asked_for_and_the_text_grows_with_them(provider):
    few = [await provider.complete(ask(n, output_tokens=30)) for n in range(2000)]
    many = [await provider.complete(ask(n, output_tokens=400)) for n in range(200)]
    assert abs(statistics.fmean(r.output_tokens for r in few) - 30) < 1
    assert 1000 < statistics.fmean(len(r.output) for r in many) < 3000
    assert statistics.fmean(len(r.output) for r in few) < 250


async def test_failures_come_at_their_rate_and_weights(provider):
    params = {"failure_rate": 0.4, "failures": {"RateLimited": 1, "ContextTooLong": 3}}
    kinds = Counter()
    for n in range(3000):
        result = await outcome(provider, ask(n, **params))
        kinds[result if isinstance(result, str) else "ok"] += 1
    assert set(kinds) == {"ok", "RateLimited", "ContextTooLong"}
    assert abs(kinds["ok"] / 3000 - 0.6) < 0.04
    assert abs(kinds["ContextTooLong"] / (3000 - kinds["ok"]) - 0.75) < 0.06


async def test_default_failures_are_of_four_kinds(provider):
    kinds = {await outcome(provider, ask(n, failure_rate=1)) for n in range(100)}
    assert kinds == {"RateLimited", "ProviderTimeout", "ProviderUnavailable", "OutputInvalid"}


async def test_a_rate_limit_says_how_long_to_wait(provider):
    with pytest.raises(RateLimited, match=r"^\[simulated\] 429") as caught:
        await provider.complete(ask(failure_rate=1, failures={"RateLimited": 1}, retry_after_s=1.5))
    assert caught.value.retry_after == 1.5


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"qualty": 1}, "unknown key 'qualty'; did you mean 'quality'"),
        ({"quality": 2}, "'quality'"),
        ({"failure_rate": "often"}, "'failure_rate'"),
        ({"failures": {"RateLimit": 1}}, "RateLimited"),
        ({"failures": {"RateLimited": -1}}, "greater than or equal to 0"),
    ],
)
async def test_parameters_that_make_no_sense_are_an_invalid_request(provider, params, says):
    with pytest.raises(InvalidRequest, match=says) as caught:
        await provider.complete(ask(**params))
    assert "simulated:steady" in str(caught.value)


async def test_null_parameters_mean_the_default(provider):
    assert await outcome(provider, ask(quality=None)) == await outcome(provider, ask())


async def test_time_is_only_reported_unless_realtime_is_asked_for():
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    provider = SimulatedProvider("simulated", Settings(), sleep=sleep)
    await provider.complete(ask(latency_ms=90_000))
    assert slept == []
    response = await provider.complete(ask(latency_ms=90_000, realtime=True))
    assert slept == [response.latency_ms / 1000]
    with pytest.raises(ProviderError):
        await provider.complete(ask(realtime=True, failure_rate=1))
    assert len(slept) == 2


async def test_odd_inputs_are_answered_in_storable_text(provider):
    response = await provider.complete(AIRequest(input="\x00\ud800" + "漢" * 200, model="simulated:a"))
    assert response.metadata == {"repaired": 2}
    response.output.encode()


async def test_memory_of_failures_is_bounded(provider, monkeypatch):
    monkeypatch.setattr(simulated, "REMEMBERED_FAILURES", 100)
    for n in range(500):
        await outcome(provider, ask(n, failure_rate=1))
    assert len(provider._failed) == 100


async def test_a_call_is_cheap(provider):
    requests = [ask(n, quality=0.7, failure_rate=0.01) for n in range(2000)]
    started = time.process_time()
    for request in requests:
        await outcome(provider, request)
    # About 30 µs where nothing else runs; a busy machine gets ten times that.
    assert (time.process_time() - started) / 2000 < 300e-6


async def test_a_stream_says_the_same_word_by_word():
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    made = SimulatedProvider("simulated", Settings(), sleep=sleep)
    request = AIRequest(input="hi", model="simulated:m", params={"realtime": True})
    whole = await made.complete(request)
    slept.clear()
    *chunks, last = [chunk async for chunk in made.stream(request)]
    assert "".join(chunk.text for chunk in chunks) == whole.output == last.response.output
    assert len(chunks) > 5
    assert sum(slept) * 1000 == pytest.approx(whole.latency_ms)
    assert last.response.ttft_ms == pytest.approx(slept[0] * 1000)


async def test_a_streams_failure_comes_before_its_first_word():
    made = SimulatedProvider("simulated", Settings())
    request = AIRequest(input="hi", model="simulated:m", params={"failure_rate": 1.0})
    with pytest.raises(ProviderError):
        await anext(made.stream(request))
