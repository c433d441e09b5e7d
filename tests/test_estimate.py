"""What a run is guessed to cost and take, and what is said of variants that cannot be asked."""

from __future__ import annotations

import pytest

import feedbackloop as fl
from feedbackloop.errors import PromptError, UnknownName
from feedbackloop.models import AIRequest, AIResponse, Case
from feedbackloop.pipeline.estimate import ASSUMED_OUTPUT_TOKENS, cannot_ask, estimate, is_function, rendered
from feedbackloop.settings import Limits, Price, ProviderSettings, Settings
from feedbackloop.spec import RunSpec, VariantSpec

CASES = [Case.model_validate({"inputs": {"input": "x" * 400}})]
SETTINGS = Settings(
    prices={"openai:dear": Price(input_per_million=10, output_per_million=100)},
    providers={"local": ProviderSettings(base_url="http://127.0.0.1:1/v1")},
)


@pytest.fixture
def store(tmp_path) -> fl.Store:
    return fl.Store(tmp_path / "loop.duckdb")


def spec(*models: str, **more: object) -> RunSpec:
    variants = [VariantSpec(name=f"v{n}", model=model, **more) for n, model in enumerate(models)]
    return RunSpec(dataset="d.jsonl", variants=variants, limits=Limits(concurrency=10), repeats=2)


def test_calls_are_rows_times_variants_times_repeats(store) -> None:
    found = estimate(spec("simulated:a", "simulated:b"), store, SETTINGS, cases=50, sample=CASES)
    assert (found.calls, found.cost_usd, found.unpriced, found.assumed) == (200, 0.0, (), False)
    assert found.seconds < 1


def test_cost_is_by_price_and_assumed_length(store) -> None:
    found = estimate(spec("openai:dear"), store, SETTINGS, cases=10, sample=CASES)
    # 20 calls of 100 tokens in and 250 out.
    assert found.cost_usd == pytest.approx(20 * (100 * 10 + ASSUMED_OUTPUT_TOKENS * 100) / 1e6)
    assert found.assumed
    assert found.seconds == pytest.approx(6.0)  # 20 calls of 3 s, ten at once


def test_a_limit_of_tokens_bounds_the_length(store) -> None:
    found = estimate(spec("openai:dear", params={"max_tokens": 10}), store, SETTINGS, cases=10, sample=CASES)
    assert found.variants[0].output_tokens == 200


def test_earlier_answers_tell_length_and_time(store) -> None:
    request = AIRequest(input="?", model="openai:dear")
    store.append(
        [
            request,
            AIResponse(
                request_id=request.id, output="!", model_used="openai:dear", output_tokens=1000, latency_ms=10_000.0
            ),
        ]
    )
    found = estimate(spec("openai:dear"), store, SETTINGS, cases=10, sample=CASES)
    assert not found.assumed
    assert found.variants[0].output_tokens == 20_000
    assert found.seconds == pytest.approx(20.0)


def test_an_unknown_price_is_said_and_never_taken_for_nothing(store) -> None:
    found = estimate(spec("openai:dear", "local:llama"), store, SETTINGS, cases=10, sample=CASES)
    assert found.unpriced == ("local:llama",)
    assert found.variants[1].cost_usd is None
    assert found.cost_usd > 0


def test_limits_of_the_provider_make_it_slower(store) -> None:
    slow = SETTINGS.model_copy(
        update={
            "providers": {
                "local": ProviderSettings(base_url="http://127.0.0.1:1/v1", limits=Limits(requests_per_minute=10))
            }
        }
    )
    assert estimate(spec("local:llama"), store, slow, cases=10, sample=CASES).seconds == pytest.approx(120)


def test_a_prompt_that_fails_is_told(store) -> None:
    with pytest.raises(PromptError, match="needs what this case lacks"):
        estimate(spec("simulated:a", prompt="{{ question }}"), store, SETTINGS, cases=1, sample=CASES)
    with pytest.raises(UnknownName, match="nowhere"):
        estimate(spec("nowhere:a"), store, SETTINGS, cases=1, sample=CASES)


def test_why_a_variant_cannot_be_asked(tmp_path) -> None:
    here = SETTINGS.model_copy(update={"base": tmp_path})

    def why(model: str, **more: object) -> str | None:
        return cannot_ask(VariantSpec(name="v", model=model, **more), here)

    assert why("simulated:a") is None
    assert why("local:llama") is None
    assert str(why("openai:gpt-4o")).startswith("OPENAI_API_KEY is not set")
    assert str(why("simulated:a", fallbacks=["gpt-4o"])).startswith("OPENAI_API_KEY is not set")
    assert "is not known" in str(why("opena:gpt-4o"))
    assert "no recording" in str(why("recorded:none.jsonl"))
    assert "unknown key 'temperature'" in str(why("simulated:a", params={"temperature": 1}))


def test_a_function_is_never_run_to_see_whether_it_could_be(tmp_path) -> None:
    (tmp_path / "mine.py").write_text("open('ran', 'w')\ndef answer(inputs): return 'x'")
    here = SETTINGS.model_copy(update={"base": tmp_path})
    variant = VariantSpec(name="v", model="python:mine.py:answer")
    assert is_function(variant.model, here)
    assert cannot_ask(variant, here) is None
    assert rendered(variant, CASES[0], here) is None
    assert not (tmp_path / "ran").exists()
    assert not is_function("openai:x", here)
