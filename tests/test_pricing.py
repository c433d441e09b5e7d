"""Prices: what is known is exact, what is unknown is None."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import genai_prices
import pytest

from feedbackloop.pricing import BatchPrices, Prices, Tokens
from feedbackloop.settings import Price, Settings

MODELS = [
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-4.1",
    "gpt-4.1-mini",
    "gpt-4.1-nano",
    "o3",
    "o4-mini",
    "gpt-3.5-turbo",
    "gpt-5",
    "gpt-5-mini",
]


@pytest.mark.parametrize("model", MODELS)
def test_costs_are_those_of_the_price_table(model: str) -> None:
    tokens = Tokens(input=1_234, output=567, cached=89)
    usage = genai_prices.Usage(input_tokens=1_234, output_tokens=567, cache_read_tokens=89)
    wanted = float(genai_prices.calc_price(usage, model_ref=model, provider_id="openai").total_price)
    assert Prices(Settings()).cost(f"openai:{model}", tokens) == pytest.approx(wanted, rel=1e-12)


def test_tiered_prices_are_left_to_the_table() -> None:
    wanted = genai_prices.calc_price(
        genai_prices.Usage(input_tokens=300_000, output_tokens=10), model_ref="gemini-2.5-pro", provider_id="google"
    )
    cost = Prices(Settings()).cost("google:gemini-2.5-pro", Tokens(300_000, 10))
    assert cost == pytest.approx(float(wanted.total_price))


def test_an_unknown_price_is_none() -> None:
    prices = Prices(Settings())
    assert prices.cost("openai:no-such-model", Tokens(1, 1)) is None
    assert prices.cost("nobody:gpt-4o", Tokens(1, 1)) is None


def test_a_local_model_is_not_charged_a_clouds_price() -> None:
    prices = Prices(Settings())
    assert prices.cost("openai:gpt-4o", Tokens(1, 1), base_url="http://127.0.0.1:8000/v1") is None
    assert prices.cost("x:gpt-4o", Tokens(1, 1), base_url="https://api.openai.com/v1") is not None


def test_the_reported_model_is_tried_where_the_configured_name_is_unknown() -> None:
    prices = Prices(Settings())
    assert prices.cost("openai:my-deployment", Tokens(10, 10), reported="gpt-4o-2024-08-06") == prices.cost(
        "openai:gpt-4o", Tokens(10, 10)
    )


def test_an_override_wins() -> None:
    override = Price(input_per_million=1, output_per_million=10, cached_per_million=0.5)
    prices = Prices(Settings(prices={"openai:gpt-4o": override}))
    assert prices.cost("openai:gpt-4o", Tokens(input=1_000_000, output=100_000, cached=400_000)) == pytest.approx(1.8)


def test_prices_are_looked_up_once_per_model_and_quarter_of_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = genai_prices.calc_price
    monkeypatch.setattr(genai_prices, "calc_price", lambda *a, **k: calls.append(1) or real(*a, **k))
    prices = Prices(Settings())
    for second in range(60):
        prices.cost("openai:gpt-4o", Tokens(1, 1), at=datetime(2026, 1, 1, 12, 14, second, tzinfo=UTC))
    assert len(calls) == 1
    prices.cost("openai:gpt-4o", Tokens(1, 1), at=datetime(2026, 1, 1, 12, 15, tzinfo=UTC))
    prices.cost("openai:gpt-4o", Tokens(1, 1), at=datetime(2026, 1, 2, 12, 15, tzinfo=UTC))
    assert len(calls) == 3


def test_a_price_is_that_of_the_day() -> None:
    # o3 became cheaper by four fifths on 2025-06-10 (https://openai.com/api/pricing).
    prices, tokens = Prices(Settings()), Tokens(1_000_000, 1_000_000)
    assert prices.cost("openai:o3", tokens, at=datetime(2025, 6, 9, 23, 59, tzinfo=UTC)) == pytest.approx(50)
    assert prices.cost("openai:o3", tokens, at=datetime(2025, 6, 10, 0, 1, tzinfo=UTC)) == pytest.approx(10)


@pytest.mark.parametrize(("hour", "minute", "usd"), [(0, 59, 0.15), (1, 0, 0.30), (3, 59, 0.30), (4, 0, 0.15)])
def test_a_price_is_that_of_the_hour_whatever_zone_it_is_told_in(hour: int, minute: int, usd: float) -> None:
    # DeepSeek's peak hours: 01:00 to 04:00 and 06:00 to 10:00 UTC, Monday to Friday
    # (https://api-docs.deepseek.com/quick_start/pricing).
    at = datetime(2026, 11, 18, hour, minute, tzinfo=UTC).astimezone(timezone(timedelta(hours=5, minutes=45)))
    assert Prices(Settings()).cost("deepseek:deepseek-flash", Tokens(1_000_000, 0), at=at) == pytest.approx(usd)


def test_a_fault_of_the_price_table_leaves_the_cost_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("table on fire")

    monkeypatch.setattr(genai_prices, "calc_price", broken)
    assert Prices(Settings()).cost("openai:gpt-4o", Tokens(1, 1)) is None


@pytest.mark.parametrize("model", ["gpt-4o-mini", "gpt-5-mini", "o3"])
def test_a_batch_costs_what_the_table_says_for_batches(model: str) -> None:
    # https://platform.openai.com/docs/pricing, "Batch": input and output at half, what was read from the cache by model.
    tokens = Tokens(input=1_000_000, output=1_000_000)
    call = Prices(Settings()).cost(f"openai:{model}", tokens)
    assert call
    assert BatchPrices(Settings()).cost(f"openai:{model}", tokens) == pytest.approx(call / 2, rel=1e-12)


def test_a_batch_costs_half_where_the_table_knows_no_price_for_batches() -> None:
    long_ago = datetime(2024, 8, 1, tzinfo=UTC)
    call = Prices(Settings()).cost("openai:gpt-4o-mini", Tokens(100, 50), at=long_ago)
    assert call
    assert BatchPrices(Settings()).cost("openai:gpt-4o-mini", Tokens(100, 50), at=long_ago) == pytest.approx(call / 2)
    own = Settings(prices={"local:small": Price(input_per_million=2.0, output_per_million=6.0)})
    assert BatchPrices(own).cost("local:small", Tokens(1_000_000, 1_000_000)) == 4.0
    assert BatchPrices(Settings()).cost("openai:no-such-model", Tokens(1, 1)) is None
