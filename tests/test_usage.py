"""What an endpoint's figures stand for, and that four providers' are priced as their price pages say.

Prices are USD per million tokens as these pages gave them in November 2026; amounts are worked out by hand from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import genai_prices
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_server import OpenAIServer, Reply

from feedbackloop.models import AIRequest
from feedbackloop.pipeline.engine import Engine
from feedbackloop.pipeline.resilience import Clock
from feedbackloop.pricing import Prices, Tokens
from feedbackloop.providers.openai import OpenAIProvider
from feedbackloop.settings import ProviderSettings, Settings
from feedbackloop.usage import Usage, read_usage


@dataclass(frozen=True)
class Billed:
    """One call's usage as it comes, and what the provider charges for it."""

    model: str
    url: str
    usage: dict[str, Any]
    plain: int
    """Input at the full price."""
    cached: int
    written: int
    output: int
    prices: tuple[str, str, str, str]
    """Of these four, in their order."""
    at: datetime = datetime(2026, 11, 18, 12, tzinfo=UTC)

    @property
    def usd(self) -> Fraction:
        counts = (self.plain, self.cached, self.written, self.output)
        return sum(count * Fraction(price) for count, price in zip(counts, self.prices, strict=True)) / 1_000_000


OPENAI, ANTHROPIC = "https://api.openai.com/v1", "https://api.anthropic.com/v1/"
GOOGLE, DEEPSEEK = "https://generativelanguage.googleapis.com/v1beta/openai/", "https://api.deepseek.com"

# https://developers.openai.com/api/docs/pricing: gpt-5-mini input 0.25, cached input 0.025, output 2.00. Reasoning is billed as output and
# is part of completion_tokens, cached tokens are part of prompt_tokens: https://developers.openai.com/api/docs/guides/reasoning
MINI = ("0.25", "0.025", "0.25", "2")
# https://platform.claude.com/docs/en/about-claude/pricing: Haiku 4.5 input 1, cache read 0.10, 5-minute cache write 1.25, output 5.
# Read and written tokens stand beside input_tokens: https://platform.claude.com/docs/en/build-with-claude/prompt-caching
HAIKU = ("1", "0.1", "1.25", "5")
# https://ai.google.dev/gemini-api/docs/pricing: 2.5 Flash input 0.30, cached 0.03, output 2.50 "including thinking tokens"; 2.5 Pro
# input 1.25, cached 0.125, output 10 up to 200k tokens of prompt, above 2.50, 0.25 and 15.
FLASH, PRO, LONG_PRO = ("0.3", "0.03", "0.3", "2.5"), ("1.25", "0.125", "1.25", "10"), ("2.5", "0.25", "2.5", "15")
# https://api-docs.deepseek.com/quick_start/pricing: deepseek-flash cache hit 0.003, cache miss 0.15, output 0.60; at peak (01:00 to 04:00
# and 06:00 to 10:00 UTC, Monday to Friday) 0.006, 0.30 and 1.20.
SEEK, PEAK = ("0.15", "0.003", "0.15", "0.6"), ("0.3", "0.006", "0.3", "1.2")

BILLED = {
    "openai, cached and reasoned": Billed(
        "gpt-5-mini",
        OPENAI,
        {
            "prompt_tokens": 2006,
            "completion_tokens": 1300,
            "total_tokens": 3306,
            "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 1024, "accepted_prediction_tokens": 0},
        },
        plain=86, cached=1920, written=0, output=1300, prices=MINI,
    ),
    "anthropic, its compatible endpoint, which caches nothing": Billed(
        "claude-haiku-4-5",
        ANTHROPIC,
        {"prompt_tokens": 1412, "completion_tokens": 506, "total_tokens": 1918},
        plain=1412, cached=0, written=0, output=506, prices=HAIKU,
    ),
    # As https://github.com/Portkey-AI/gateway/issues/1564 has it of that gateway.
    "anthropic, a gateway that counts the cache beside the prompt": Billed(
        "claude-haiku-4-5",
        ANTHROPIC,
        {
            "prompt_tokens": 100,
            "completion_tokens": 100,
            "total_tokens": 1250,
            "prompt_tokens_details": {"cached_tokens": 50},
            "cache_read_input_tokens": 50,
            "cache_creation_input_tokens": 1000,
        },
        plain=100, cached=50, written=1000, output=100, prices=HAIKU,
    ),
    # As https://docs.litellm.ai/docs/completion/prompt_caching has it of that one.
    "anthropic, a gateway that counts the cache within the prompt": Billed(
        "claude-haiku-4-5",
        ANTHROPIC,
        {
            "prompt_tokens": 2006,
            "completion_tokens": 300,
            "total_tokens": 2306,
            "prompt_tokens_details": {"cached_tokens": 1920},
            "completion_tokens_details": {"reasoning_tokens": 0},
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 1920,
        },
        plain=86, cached=1920, written=0, output=300, prices=HAIKU,
    ),
    "anthropic, its own shape": Billed(
        "claude-haiku-4-5",
        ANTHROPIC,
        {
            "input_tokens": 1,
            "output_tokens": 67,
            "cache_creation_input_tokens": 287,
            "cache_read_input_tokens": 30433,
        },
        plain=1, cached=30433, written=287, output=67, prices=HAIKU,
    ),
    # The figures of https://github.com/mozilla-ai/any-llm/issues/1290: 405 tokens of thought that only the total holds.
    "gemini, thought left out of completion_tokens": Billed(
        "gemini-2.5-flash",
        GOOGLE,
        {"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 623},
        plain=20, cached=0, written=0, output=603, prices=FLASH,
    ),
    "gemini, cached": Billed(
        "gemini-2.5-pro",
        GOOGLE,
        {
            "prompt_tokens": 11500,
            "completion_tokens": 1000,
            "total_tokens": 22500,
            "prompt_tokens_details": {"cached_tokens": 10000},
        },
        plain=1500, cached=10000, written=0, output=11000, prices=PRO,
    ),
    "gemini, a long prompt": Billed(
        "gemini-2.5-pro",
        GOOGLE,
        {"prompt_tokens": 250_000, "completion_tokens": 2000, "total_tokens": 252_000,
         "prompt_tokens_details": {"cached_tokens": 40_000}},
        plain=210_000, cached=40_000, written=0, output=2000, prices=LONG_PRO,
    ),
    # https://api-docs.deepseek.com/api/create-chat-completion: prompt_tokens is the sum of hits and misses.
    "deepseek, off peak": Billed(
        "deepseek-flash",
        DEEPSEEK,
        {
            "prompt_tokens": 1710,
            "completion_tokens": 930,
            "total_tokens": 2640,
            "prompt_cache_hit_tokens": 1664,
            "prompt_cache_miss_tokens": 46,
            "completion_tokens_details": {"reasoning_tokens": 801},
        },
        plain=46, cached=1664, written=0, output=930, prices=SEEK,
    ),
    "deepseek, at peak": Billed(
        "deepseek-flash",
        DEEPSEEK,
        {
            "prompt_tokens": 1710,
            "completion_tokens": 930,
            "total_tokens": 2640,
            "prompt_tokens_details": {"cached_tokens": 1664},
            "prompt_cache_hit_tokens": 1664,
            "prompt_cache_miss_tokens": 46,
        },
        plain=46, cached=1664, written=0, output=930, prices=PEAK, at=datetime(2026, 11, 18, 2, tzinfo=UTC),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BILLED)
async def test_usage_is_priced_as_the_price_page_says(case, monkeypatch):
    """As in a run: read from the wire and priced."""
    billed = BILLED[case]

    class Cloud(OpenAIProvider):
        base_url = billed.url

    with OpenAIServer(faults=[Reply(usage=billed.usage)]) as server:
        settings = Settings(providers={"cloud": ProviderSettings(base_url=server.url)})
        engine = Engine(settings, clock=Clock(utc=lambda: billed.at))
        engine._providers["cloud"] = Cloud("cloud", settings)
        response = await engine.complete(AIRequest(input="?", model=f"cloud:{billed.model}"))
        await engine.aclose()
    assert response.cost_usd == pytest.approx(float(billed.usd), rel=1e-12)
    assert response.attempts[0].cost_usd == response.spent_usd == response.cost_usd
    assert response.usage == billed.usage
    assert response.input_tokens == billed.plain + billed.cached + billed.written
    assert (response.cached_tokens or 0, response.cache_write_tokens or 0) == (billed.cached, billed.written)
    assert response.output_tokens == billed.output


@pytest.mark.parametrize("case", BILLED)
def test_these_pages_and_the_price_table_agree(case):
    """So that a price that has changed since is told apart from a fault of ours."""
    billed = BILLED[case]
    usage = genai_prices.Usage(
        input_tokens=billed.plain + billed.cached + billed.written,
        output_tokens=billed.output,
        cache_read_tokens=billed.cached,
        cache_write_tokens=billed.written,
    )
    found = genai_prices.calc_price(
        usage, model_ref=billed.model, provider_api_url=billed.url, genai_request_timestamp=billed.at
    )
    assert float(found.total_price) == pytest.approx(float(billed.usd), rel=1e-12)


def test_what_was_thought_is_told_where_it_shows():
    assert read_usage(BILLED["openai, cached and reasoned"].usage).reasoning == 1024
    assert read_usage(BILLED["gemini, thought left out of completion_tokens"].usage).reasoning == 405
    assert read_usage(BILLED["deepseek, off peak"].usage).reasoning == 801
    assert read_usage(BILLED["anthropic, its own shape"].usage).reasoning is None
    # xAI counts it beside completion_tokens, and says so in the details.
    grok = {"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 135}
    found = read_usage({**grok, "completion_tokens_details": {"reasoning_tokens": 94}})
    assert (found.output, found.reasoning) == (103, 94)
    del grok["total_tokens"]
    found = read_usage({**grok, "completion_tokens_details": {"reasoning_tokens": 94}})
    assert (found.output, found.reasoning, found.total) == (103, 94, 135)


def test_openais_newer_shape_counts_as_its_older_one():
    found = read_usage(
        {
            "input_tokens": 75,
            "input_tokens_details": {"cached_tokens": 50},
            "output_tokens": 1186,
            "output_tokens_details": {"reasoning_tokens": 1024},
            "total_tokens": 1261,
        }
    )
    assert found == Usage(input=75, output=1186, cached=50, cache_write=None, reasoning=1024, total=1261)


@pytest.mark.parametrize("junk", [None, 7, "x", [], {}, {"prompt_tokens": "many", "completion_tokens": True}])
def test_what_makes_no_sense_is_unknown(junk):
    assert read_usage(junk) == Usage(None, None, None, None, None, None)


COUNTS = st.integers(0, 10**6)


@given(plain=COUNTS, cached=COUNTS, written=COUNTS, shown=COUNTS, thought=COUNTS)
def test_all_shapes_of_one_call_come_to_the_same(plain, cached, written, shown, thought):
    whole, answer = plain + cached + written, shown + thought
    total = whole + answer
    details = {"cached_tokens": cached, "cache_write_tokens": written}
    reasoning = {"completion_tokens_details": {"reasoning_tokens": thought}}
    native = {"cache_read_input_tokens": cached, "cache_creation_input_tokens": written}
    shapes = [
        {"prompt_tokens": whole, "completion_tokens": answer, "total_tokens": total, "prompt_tokens_details": details, **reasoning},
        {"prompt_tokens": whole, "completion_tokens": shown, "total_tokens": total, "prompt_tokens_details": details, **reasoning},
        {"input_tokens": plain, "output_tokens": answer, **native, "output_tokens_details": {"thinking_tokens": thought}},
        {"prompt_tokens": whole, "completion_tokens": answer, "total_tokens": total, **native, **reasoning},
    ]  # fmt: skip
    if not thought:
        shapes.append({"prompt_tokens": plain, "completion_tokens": answer, "total_tokens": total, **native})
    for shape in shapes:
        found = read_usage(shape)
        assert (found.input, found.output, found.total) == (whole, answer, total)
        assert (found.cached or 0, found.cache_write or 0, found.reasoning or 0) == (cached, written, thought)


def test_a_price_fits_whatever_was_read():
    """Cached and written tokens are never more than the input, so that no price comes out below 0."""
    found = read_usage({"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 9}})
    assert found.input == 14
    assert Prices(Settings()).cost("openai:gpt-4o", Tokens(found.input, 1, found.cached)) > 0
