from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal

import genai_prices
import pytest
from engines import COMPLETED, FAILED, SETTINGS, Slow, ask, engine, idle
from fakes import FakeTime, Scripted, answer
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_time import run

from feedbackloop.errors import (
    CANCELLED,
    AuthenticationFailed,
    BudgetExceeded,
    OutputInvalid,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
)
from feedbackloop.models import Attempt
from feedbackloop.pipeline.engine import Dropped, Engine
from feedbackloop.pipeline.spending import Purse, prompt_size, worst_cost
from feedbackloop.pricing import Prices, Tokens, spent
from feedbackloop.settings import Limits, Price, Settings

SMALL = {"max_tokens": 100}
"""A request "hi" with these could cost (2 + 8 + 8 + 100) / 1000 dollars."""
WORST = 0.118


def tried(cost=None, error=None):
    return Attempt(model="a:m", start=datetime.now(UTC), cost_usd=cost, error_type=error)


# What was spent


@pytest.mark.parametrize(
    ("attempts", "total"),
    [
        ([], 0.0),
        ([tried(0.2)], 0.2),
        ([tried(0.1, "OutputInvalid"), tried(0.2)], pytest.approx(0.3)),
        ([tried(None, "ProviderUnavailable"), tried(None, "RateLimited"), tried(0.2)], 0.2),
        ([tried(None, "AuthenticationFailed")], 0.0),
        ([tried()], None),
        ([tried(None, "ProviderTimeout"), tried(0.2)], None),
        ([tried(None, "OutputInvalid"), tried(0.2)], None),
        ([tried(0.0)], 0.0),
    ],
)
def test_what_was_spent_is_the_sum_or_unknown_but_never_half_of_it(attempts, total):
    assert spent(attempts) == total


# The purse


@given(
    st.lists(st.tuples(st.integers(1, 40), st.floats(0, 1), st.integers(0, 5)), min_size=1, max_size=40),
    st.integers(1, 200),
)
@settings(max_examples=80, deadline=None)
def test_a_purse_never_holds_more_than_its_limit(calls, limit):
    async def scenario(clock):
        purse, seen = Purse(limit / 100), []

        async def one(worst, share, seconds):
            await purse.reserve(worst / 100)
            seen.append(purse.spent_usd + purse.reserved_usd)
            await clock.sleep(seconds)
            purse.settle(worst / 100, worst / 100 * share)
            seen.append(purse.spent_usd + purse.reserved_usd)

        results = await asyncio.gather(*(one(*call) for call in calls), return_exceptions=True)
        assert all(result is None or isinstance(result, BudgetExceeded) for result in results)
        assert max(seen, default=0.0) <= limit / 100 + 1e-9
        assert (purse.reservations, purse.reserved_usd) == (0, 0.0)

    run(scenario)


def test_a_call_waits_for_those_in_flight_where_only_they_stand_in_the_way():
    async def scenario(clock):
        purse = Purse(1.0)
        await purse.reserve(0.9)
        waiting = asyncio.create_task(purse.reserve(0.5))
        await clock.sleep(1.0)
        assert not waiting.done()
        purse.settle(0.9, 0.1)
        await waiting
        assert purse.reserved_usd == 0.5

    run(scenario)


def test_a_call_that_can_never_be_paid_is_refused_at_once():
    async def scenario(clock):
        purse = Purse(1.0)
        await purse.reserve(0.2)
        purse.settle(0.2, 0.2)
        await purse.reserve(0.1)
        with pytest.raises(BudgetExceeded, match=r"budget of \$1.00 is used up: \$0.20 is spent.*cost \$0.90"):
            await purse.reserve(0.9)

    run(scenario)


def test_crumbs_of_floating_point_are_waited_for_by_nobody():
    async def scenario(clock):
        purse = Purse(0.3)
        for worst in (0.1, 0.2, 0.05):
            task = asyncio.create_task(purse.reserve(worst))
            await asyncio.sleep(0)
            purse.settle(worst, 0.0)
            await task
        assert purse.reserved_usd == 0.0
        await purse.reserve(0.3)

    run(scenario)


def test_a_cancelled_wait_for_money_leaves_nothing_behind():
    async def scenario(clock):
        purse = Purse(1.0)
        await purse.reserve(1.0)
        waiting = [asyncio.create_task(purse.reserve(1.0)) for _ in range(3)]
        await clock.sleep(1.0)
        waiting[0].cancel()
        purse.settle(1.0, 0.0)
        await waiting[1]
        purse.settle(1.0, 0.0)
        await waiting[2]
        assert purse.reservations == 1
        assert waiting[0].cancelled()

    run(scenario)


# The budget


def made_with(clock, *providers, budget=1.0, **limits):
    return engine(clock, *providers, budget_usd=budget, limits=Limits(**{"retries": 0, **limits}))


@pytest.mark.parametrize("concurrency", [1, 7, 64])
def test_many_at_once_spend_nearly_all_of_the_budget_and_never_more(concurrency):
    async def scenario(clock):
        provider = Slow(1.0, lambda request, _: answer(request, "fine", input_tokens=10, output_tokens=100))
        made = made_with(clock, provider, concurrency=concurrency)
        calls = (made.complete(ask(params=SMALL)) for _ in range(50))
        results = await asyncio.gather(*calls, return_exceptions=True)
        refused = [result for result in results if isinstance(result, BudgetExceeded)]
        assert made.purse.spent_usd == pytest.approx(0.110 * len(provider.requests))
        assert 1.0 - WORST < made.purse.spent_usd <= 1.0
        assert len(provider.requests) + len(refused) == 50
        assert idle(made)

    run(scenario)


def test_the_wait_for_money_is_our_own():
    async def scenario(clock):
        made = made_with(clock, Slow(2.0), budget=0.2, timeout_s=3.0)
        responses = await asyncio.gather(*(made.complete(ask(params=SMALL)) for _ in range(5)))
        assert [response.status for response in responses] == [COMPLETED] * 5
        assert {round(response.total_ms) for response in responses} == {2000}
        assert clock.now() == pytest.approx(10.0)

    run(scenario)


@pytest.mark.parametrize(
    ("error", "charged"),
    [
        (ProviderTimeout("x"), WORST),
        (OutputInvalid("x"), WORST),
        (ProviderUnavailable("x"), 0.0),
        (RateLimited("x", retryable=False), 0.0),
        (AuthenticationFailed("x"), 0.0),
    ],
)
async def test_unknown_usage_charges_the_reservation_and_a_refusal_nothing(error, charged):
    made = made_with(FakeTime().clock(), Scripted([error]))
    await made.complete(ask(params=SMALL))
    assert made.purse.spent_usd == pytest.approx(charged)
    assert idle(made)


async def test_an_answer_without_usage_charges_the_reservation():
    made = made_with(FakeTime().clock(), Scripted(["fine"], input_tokens=None, output_tokens=None, tokens_used=None))
    response = await made.complete(ask(params=SMALL))
    assert (response.cost_usd, response.spent_usd) == (None, None)
    assert made.purse.spent_usd == pytest.approx(WORST)


async def test_an_answer_that_is_refused_afterwards_is_charged_as_it_was():
    made = made_with(FakeTime().clock(), Scripted([" "]))
    await made.complete(ask(params=SMALL))
    assert made.purse.spent_usd == 0.015


async def test_each_attempt_is_reserved_and_charged():
    made = made_with(FakeTime().clock(), Scripted([" ", " ", "fine"]), retries=2)
    response = await made.complete(ask(params=SMALL))
    assert made.purse.spent_usd == response.spent_usd == 0.045


async def test_when_the_money_ends_between_two_attempts_nothing_more_is_sent():
    provider = Scripted([ProviderTimeout("x")])
    made = made_with(FakeTime().clock(), provider, budget=0.2, retries=5)
    response = await made.complete(ask(params=SMALL))
    assert len(provider.requests) == 1
    # It may have been charged, so that it is a response and no exception: its attempt goes into the store.
    assert (response.status, response.error_type, response.spent_usd) == (FAILED, "BudgetExceeded", None)
    assert [attempt.error_type for attempt in response.attempts] == ["ProviderTimeout"]


async def test_a_spent_budget_is_not_passed_to_a_cheaper_fallback():
    second = Scripted(["fine"])
    made = made_with(FakeTime().clock(), Scripted(["x"]), second, budget=0.1)
    with pytest.raises(BudgetExceeded):
        await made.complete(ask(params=SMALL), ["a:m", "b:m"])
    assert second.requests == []


def test_each_probe_of_a_target_that_is_down_is_paid_from_a_reservation_of_its_own():
    async def scenario(clock):
        def silent(request, number):
            raise ProviderTimeout("x")

        made = made_with(clock, Slow(1.0, silent), budget=9 * WORST + 0.01, concurrency=1)
        results = await asyncio.gather(*(made.complete(ask(params=SMALL)) for _ in range(12)), return_exceptions=True)
        assert any(isinstance(result, BudgetExceeded) for result in results)
        assert made.purse.spent_usd <= 9 * WORST + 0.01
        assert idle(made)

    run(scenario)


@pytest.mark.parametrize(("after_s", "charged"), [(0.5, WORST), (None, 0.0)])
def test_a_cancelled_call_is_charged_only_if_it_was_sent(after_s, charged):
    async def scenario(clock):
        made = made_with(clock, Slow(10.0), concurrency=1)
        held = asyncio.create_task(made.complete(ask(params=SMALL)))
        await clock.sleep(0.1)
        queued = asyncio.create_task(made.complete(ask(params=SMALL)))
        await clock.sleep(0.5)
        (held if after_s else queued).cancel()
        await asyncio.wait([held, queued])
        assert made.purse.spent_usd == pytest.approx(0.015 + charged)
        assert idle(made)

    run(scenario)


def test_what_waits_in_the_queue_past_all_patience_was_never_sent_and_costs_nothing():
    async def scenario(clock):
        def throttled(request, number):
            raise RateLimited("x", retry_after=86400.0)

        made = made_with(clock, Slow(1.0, throttled), concurrency=1)
        responses = await asyncio.gather(*(made.complete(ask(params=SMALL)) for _ in range(5)))
        assert {response.status for response in responses} == {FAILED}
        assert made.purse.spent_usd == 0.0
        assert idle(made)

    run(scenario)


def worst(request):
    return worst_cost(request, Prices(SETTINGS), None)


@given(
    text=st.text(max_size=300),
    params=st.fixed_dictionaries(
        {}, optional={name: st.integers(1, 5000) for name in ("max_tokens", "max_completion_tokens")}
    ),
)
@settings(max_examples=60, deadline=None)
def test_the_worst_case_covers_every_text(text, params):
    asked = params.get("max_completion_tokens") or params.get("max_tokens") or 2048
    # A tokeniser of bytes has at most one token per byte.
    assert worst_cost(ask(text, params=params), Prices(SETTINGS), None) >= (len(text.encode()) + asked) / 1000
    messages = [{"role": "system", "content": text}, {"role": "user", "content": [{"type": "text", "text": text}]}]
    assert (
        worst_cost(ask("", messages=messages, params=params), Prices(SETTINGS), None)
        >= (2 * len(text.encode()) + asked) / 1000
    )


@pytest.mark.parametrize("junk", ["lots", -5, 0, None, 1.5, True, [], {"a": 1}])
async def test_a_limit_of_tokens_that_makes_no_sense_is_left_to_the_endpoint(junk):
    made = made_with(FakeTime().clock(), Scripted(["fine"]), budget=100.0)
    response = await made.complete(ask(params={"max_tokens": junk, "n": junk, "max_completion_tokens": junk}))
    assert response.status is COMPLETED


async def test_several_answers_to_one_question_are_reserved_all():
    assert worst_cost(ask(params={"max_tokens": 100, "n": 5}), Prices(SETTINGS), None) == pytest.approx(0.518)


async def test_what_costs_nothing_passes_any_budget():
    made = engine(
        FakeTime().clock(), Scripted(["fine"]), settings=Settings(providers=SETTINGS.providers), budget_usd=0.0
    )
    assert (await made.complete(ask())).status is COMPLETED


def test_the_size_of_a_prompt_is_all_of_it():
    assert prompt_size(ask("four")) == 4
    assert prompt_size(ask("four", messages=[{"role": "user", "content": "sixsix"}, {"role": "assistant"}])) == 6


# Prices

MODELS = (
    "gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano", "gpt-4-turbo", "gpt-3.5-turbo", "o1", "o3", "o3-mini",
    "o4-mini", "gpt-5", "gpt-5-mini", "gpt-5-nano",
)  # fmt: skip
OTHERS = (
    "anthropic:claude-3-5-sonnet-latest", "anthropic:claude-sonnet-4-5", "google:gemini-2.5-pro", "google:gemini-2.5-flash",
    "mistral:mistral-large-latest", "deepseek:deepseek-chat",
)  # fmt: skip


@pytest.mark.parametrize("model", [*(f"openai:{name}" for name in MODELS), *OTHERS])
@pytest.mark.parametrize(
    "tokens", [Tokens(1000, 500), Tokens(5000, 10, 4000), Tokens(300_000, 2000, 1000, 0), Tokens(0, 0)]
)
def test_costs_are_those_of_genai_prices(model, tokens):
    at = datetime(2026, 6, 1, 12, tzinfo=UTC)
    provider, _, name = model.partition(":")
    usage = genai_prices.Usage(
        input_tokens=tokens.input, output_tokens=tokens.output,
        cache_read_tokens=tokens.cached, cache_write_tokens=tokens.cache_write,
    )  # fmt: skip
    whole = genai_prices.calc_price(usage, model_ref=name, provider_id=provider, genai_request_timestamp=at)
    cost = Prices(Settings()).cost(model, tokens, at=at)
    assert cost == pytest.approx(float(whole.total_price), rel=1e-9, abs=1e-12)


def test_some_of_these_models_are_priced_in_tiers():
    found = genai_prices.calc_price(
        genai_prices.Usage(input_tokens=1), model_ref="gemini-2.5-pro", provider_id="google"
    )
    assert not isinstance(found.model_price.input_mtok, Decimal)


async def test_cached_tokens_are_priced_as_such():
    own = SETTINGS.model_copy(
        update={"prices": {"a:m": Price(input_per_million=10, output_per_million=20, cached_per_million=1)}}
    )
    provider = Scripted(["fine"], input_tokens=1_000_000, output_tokens=100_000, cached_tokens=400_000)
    made = engine(FakeTime().clock(), provider, settings=own)
    assert (await made.complete(ask())).cost_usd == pytest.approx(6 + 0.4 + 2)


async def test_a_price_that_nobody_knows_is_null():
    made = engine(FakeTime().clock(), Scripted(["fine"]), settings=Settings(providers=SETTINGS.providers))
    response = await made.complete(ask(model="a:unheard-of"))
    assert (response.cost_usd, response.spent_usd) == (None, None)


async def test_a_provider_that_knows_its_cost_is_believed():
    made = engine(FakeTime().clock(), Scripted(["fine"], cost_usd=0.5))
    assert (await made.complete(ask())).cost_usd == 0.5


async def test_a_local_model_is_not_charged_a_clouds_price():
    class Local(Scripted):
        base_url = "http://127.0.0.1:9/v1"

    made = Engine(Settings())
    made._providers["openai"] = Local(["fine"])
    assert (await made.complete(ask(model="openai:gpt-4o"))).cost_usd is None
    made = Engine(Settings())
    made._providers["openai"] = provider = Local(["fine"])
    provider.base_url = "https://api.openai.com/v1"
    assert (await made.complete(ask(model="openai:gpt-4o"))).cost_usd > 0


async def test_replaying_a_recording_spends_nothing_of_the_budget():
    provider = Scripted(["fine"], cost_usd=5.0)
    provider.live = False
    made = made_with(FakeTime().clock(), provider, budget=1.0)
    for _ in range(3):
        assert (await made.complete(ask())).cost_usd == 5.0
    assert made.purse.spent_usd == 0.0


@pytest.mark.parametrize("kind", ["ProviderTimeout", "OutputInvalid", "ProviderUnavailable"])
async def test_made_up_failures_cost_nothing(kind):
    made = Engine(Settings(), limits=Limits(retries=1), clock=FakeTime().clock())
    failing = {"failure_rate": 1.0, "failures": {kind: 1}}
    response = await made.complete(ask(model="simulated:a", params=failing))
    assert (response.status, len(response.attempts), response.spent_usd) == (FAILED, 2, 0.0)


@pytest.mark.parametrize(("paid", "spends"), [(True, None), (False, 0.0)])
def test_what_nobody_is_paid_for_costs_nothing_when_it_comes_too_late_or_is_cut_short(paid, spends):
    async def scenario(clock):
        slow = Slow(10.0)
        slow.paid = paid
        made = engine(clock, slow, limits=Limits(timeout_s=1.0, retries=0))
        assert (await made.complete(ask())).spent_usd == spends
        made = engine(clock, slow, limits=Limits(retries=0))
        async with made.stream(ask()) as stream:
            await clock.sleep(0.5)
        assert (stream.response.error_type, stream.response.spent_usd) == (CANCELLED, spends)
        task = asyncio.create_task(made.complete(ask()))
        await clock.sleep(0.5)
        task.cancel()
        with pytest.raises(Dropped) as cut:
            await task
        assert cut.value.response.spent_usd == spends

    run(scenario)
