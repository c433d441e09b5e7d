"""What a run is guessed to cost and take, and what is said of variants that cannot be asked."""

from __future__ import annotations

import time

import pandas as pd
import pytest
from openai_server import OpenAIServer

import feedbackloop as fl
from feedbackloop.datasets import counting, open_dataset, survey
from feedbackloop.errors import InvalidRequest, PromptError, SettingsError, UnknownName
from feedbackloop.models import AIRequest, AIResponse, Case
from feedbackloop.pipeline.charges import is_paid, unknown_price
from feedbackloop.pipeline.estimate import (
    ASSUMED_OUTPUT_TOKENS,
    estimate,
    estimate_rest,
    estimate_spec,
    power,
    used_again,
)
from feedbackloop.pipeline.foresight import cannot_ask, is_function, rendered
from feedbackloop.providers import create
from feedbackloop.settings import Limits, Price, ProviderSettings, Settings
from feedbackloop.spec import RunSpec, VariantSpec

CASES = [Case.model_validate({"inputs": {"input": "x" * 400}})]
SETTINGS = Settings(
    prices={"openai:dear": Price(input_per_million=10, output_per_million=100)},
    providers={
        "local": ProviderSettings(base_url="http://127.0.0.1:1/v1"),
        "far": ProviderSettings(base_url="https://models.example/v1"),
    },
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


def test_a_model_of_this_machine_needs_no_price_and_one_elsewhere_does(store) -> None:
    found = estimate(spec("local:llama", "simulated:a", "far:llama"), store, SETTINGS, cases=1, sample=CASES)
    assert found.unknown_prices == ("far:llama",)
    found = estimate(spec("openai:dear", fallbacks=["far:b", "local:c"]), store, SETTINGS, cases=1, sample=CASES)
    assert found.unknown_prices == ("far:b",)


@pytest.mark.parametrize(
    ("url", "paid"),
    [
        ("http://127.0.0.1:8000/v1", False),
        ("http://127.8.9.10/v1", False),
        ("http://[::1]:8000/v1", False),
        ("http://localhost:11434/v1", False),
        ("https://api.openai.com/v1", True),
        ("http://192.168.0.7:8000/v1", True),
        ("http://localhost.example/v1", True),
        ("https://127.0.0.1.example/v1", True),
    ],
)
def test_who_may_want_money(url, paid) -> None:
    own = Settings(providers={"x": ProviderSettings(base_url=url)})
    assert is_paid("x", create("x", own)) is paid
    for name in ("simulated", "recorded", "python"):
        assert not is_paid(name, create(name, own))


# Whole specs


def rows(path, count: int) -> None:
    path.write_text("".join(f'{{"input": "Question {n}, which is {n % 7}"}}\n' for n in range(count)))


def test_a_small_dataset_is_counted(store, tmp_path) -> None:
    rows(tmp_path / "d.jsonl", 20)
    with (tmp_path / "d.jsonl").open("a") as file:
        file.write('{"input": "Question 1, which is 1"}\n')
    own = spec("simulated:a", "simulated:b").model_copy(update={"base": tmp_path})
    found = estimate_spec(own, store, SETTINGS)
    assert (found.cases, found.calls, found.exact) == (20, 80, True)
    assert estimate_spec(own, store, SETTINGS, limit=5).cases == 5
    assert estimate_spec(own.model_copy(update={"limit": 7}), store, SETTINGS).cases == 7


@pytest.mark.parametrize("name", ["d.jsonl", "d.jsonl.gz", "d.csv", "d.csv.gz", "d.parquet", "d.json"])
def test_a_large_one_is_reckoned_from_its_first_rows_and_its_length(tmp_path, monkeypatch, name) -> None:
    monkeypatch.setattr(counting, "READ", 100)
    # Every second text has a line break within, as CSV cells may.
    frame = pd.DataFrame({"input": [f"Question {n}" + ("\nand more" if n % 2 else "") for n in range(5_000)]})
    path = tmp_path / name
    if ".csv" in name:
        frame.to_csv(path, index=False)
    elif name.endswith("parquet"):
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines="jsonl" in name)
    read = []
    real = counting.islice
    monkeypatch.setattr(counting, "islice", lambda rows, n: (read.append(row) or row for row in real(rows, n)))
    found = survey(open_dataset(path))
    assert found.cases == pytest.approx(5_000, rel=0.02)
    assert (found.exact, len(read) <= 300) == (False, True)
    assert survey(open_dataset(path), 1_000).cases == 1_000


@pytest.mark.slow
def test_a_million_rows_are_reckoned_in_seconds(store, tmp_path) -> None:
    rows(tmp_path / "d.jsonl", 1_000_000)
    began = time.monotonic()
    found = estimate_spec(spec("openai:dear").model_copy(update={"base": tmp_path}), store, SETTINGS)
    assert found.cases == pytest.approx(1_000_000, rel=0.05)
    assert time.monotonic() - began < 30


def test_batches_cost_half_and_take_their_time(store, tmp_path) -> None:
    rows(tmp_path / "d.jsonl", 20)
    own = spec("openai:dear").model_copy(update={"base": tmp_path})
    calls, batches = (
        estimate_spec(own.model_copy(update={"executor": name}), store, SETTINGS) for name in ("async", "batch")
    )
    assert batches.cost_usd == pytest.approx(calls.cost_usd / 2)
    assert (calls.by_batch, batches.by_batch) == (False, True)


def test_what_it_can_show_depends_on_the_number_of_cases(store) -> None:
    def told(cases: int, *models: str) -> str:
        return power(estimate(spec(*models), store, SETTINGS, cases=cases, sample=CASES))

    # 139 votes find 60% with 80% power where a quarter are ties: the published figure, the other way round.
    assert "smallest win rate that shows is 60% (80% power, 25% ties)" in told(139, "simulated:a", "simulated:b")
    assert "cannot tell two variants apart" in told(2, "simulated:a", "simulated:b")
    assert "nothing to compare" in told(139, "simulated:a")


async def test_what_is_left_of_a_run_is_estimated_alone(store, tmp_path) -> None:
    rows(tmp_path / "d.jsonl", 10)
    own = SETTINGS.model_copy(update={"base": tmp_path})
    down = {"failure_rate": 1, "failures": {"ContentFiltered": 1}}
    variants = [{"name": "a", "model": "simulated:a"}, {"name": "b", "model": "simulated:b", "params": down}]
    result = await fl.run(tmp_path / "d.jsonl", variants, store=store, settings=own)
    left = estimate_rest(store, result.run.id, own)
    assert left.calls == 20 - result.progress.completed
    assert {one.name: one.calls for one in left.variants}["b"] == 10


# Answers that are there already


class Answering:
    base_url = "https://models.example/v1"

    async def complete(self, request: AIRequest) -> AIResponse:
        return AIResponse(request_id=request.id, model_used=request.model, output="Paris", output_tokens=2)


async def test_answers_that_are_there_already_are_no_calls(store, tmp_path) -> None:
    rows(tmp_path / "d.jsonl", 10)
    own = SETTINGS.model_copy(update={"base": tmp_path, "prices": {"far:llama": SETTINGS.prices["openai:dear"]}})
    both = spec("far:llama", "far:other").model_copy(update={"base": tmp_path})

    def reused(asked: RunSpec, **more: object) -> list[tuple[int, int]]:
        return [(one.calls, one.reused) for one in estimate_spec(asked, store, own, **more).variants]

    assert reused(both) == [(20, 0), (20, 0)]
    await fl.run(
        tmp_path / "d.jsonl", both.variants[:1], store=store, settings=own, repeats=2, wrap=lambda _: Answering()
    )
    assert reused(both) == [(0, 20), (20, 0)]
    assert estimate_spec(both, store, own).variants[0].cost_usd == 0
    # A third answer to the same question is another one, and so is an answer to other words.
    assert reused(both.model_copy(update={"repeats": 3}))[0] == (10, 20)
    assert reused(spec("far:llama", prompt="{{ input }}!").model_copy(update={"base": tmp_path})) == [(20, 0)]
    # Who asks anew, or only tries, uses none of them.
    assert reused(both, cache=False)[0] == (20, 0)
    assert reused(both, limit=4)[0] == (8, 0)


async def test_only_what_was_looked_up_is_said_to_be_there(store, tmp_path, monkeypatch) -> None:
    rows(tmp_path / "d.jsonl", 40)
    asked = spec("far:llama").model_copy(update={"base": tmp_path})
    more = {"store": store, "settings": SETTINGS, "allow_unknown_price": True, "wrap": lambda _: Answering()}
    await fl.run(tmp_path / "d.jsonl", asked.variants, repeats=2, **more)
    assert used_again(estimate_spec(asked, store, SETTINGS)) == ", 80 answers are there already"
    monkeypatch.setattr(counting, "READ", 10)
    found = estimate_spec(asked, store, SETTINGS)
    assert (found.calls, found.reused) == (60, 20)
    assert used_again(found) == ", at least 20 answers are there already"
    assert used_again(estimate_spec(asked, store, SETTINGS, cache=False)) == ""


# Prices that nobody knows


async def test_a_run_refuses_a_price_that_nobody_knows_before_anything_is_stored(store) -> None:
    with pytest.raises(SettingsError) as refused:
        await fl.run([{"input": "?"}], [{"name": "a", "model": "far:llama"}], store=store, settings=SETTINGS)
    assert str(refused.value) == unknown_price(["far:llama"])
    assert "--allow-unknown-price" in str(refused.value)
    assert not store.exists()


async def test_what_was_allowed_once_is_allowed_when_it_goes_on(store, tmp_path) -> None:
    rows(tmp_path / "d.jsonl", 2)
    own = SETTINGS.model_copy(update={"base": tmp_path, "limits": Limits(retries=0)})

    class Down:
        base_url = "https://models.example/v1"

        async def complete(self, request):
            raise InvalidRequest("not today")

    variants = [{"name": "a", "model": "far:llama"}]
    more = {"store": store, "settings": own, "wrap": lambda _: Down()}
    result = await fl.run(tmp_path / "d.jsonl", variants, allow_unknown_price=True, **more)
    assert result.progress.failed == 2
    assert (await fl.resume(run_id=result.run.id, **more)).progress.failed == 2
    with pytest.raises(SettingsError, match="far:llama is not known"):
        await fl.resume(run_id=result.run.id, allow_unknown_price=False, **more)


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


# A budget that holds no call


@pytest.fixture
def server():
    with OpenAIServer() as running:
        yield running


async def test_a_budget_less_than_one_call_is_refused_before_a_run_begins(store, tmp_path, server) -> None:
    path = tmp_path / "d.jsonl"
    rows(path, 10)
    prices = {"up:b": SETTINGS.prices["openai:dear"]}
    own = Settings(base=tmp_path, prices=prices, providers={"up": ProviderSettings(base_url=server.url)})
    said = (
        r"the budget of \$0.10 is less than one call of 'b' could cost, \$0.21: max_tokens is not set, so 2,048 output tokens "
        r"are assumed; set params.max_tokens, or allow more"
    )
    variants = [{"name": "a", "model": "simulated:a"}, {"name": "b", "model": "up:b"}]
    with pytest.raises(SettingsError, match=said):
        await fl.run(path, variants, store=store, settings=own, budget_usd=0.1)
    assert not store.exists()
    spec = RunSpec(dataset="d.jsonl", variants=[VariantSpec(**one) for one in variants], budget_usd=0.1, base=tmp_path)
    with pytest.raises(SettingsError, match=said):
        estimate_spec(spec, store, own)
    # Answers that are there already are no calls.
    assert (await fl.run(path, variants, store=store, settings=own)).finished
    assert estimate_spec(spec, store, own).calls == 0
    assert (await fl.run(path, variants, store=store, settings=own, budget_usd=0.1)).finished
    # A run that goes on meets the same sentence when it would be asked.
    with pytest.raises(SettingsError, match=said):
        await fl.run(path, variants, store=store, settings=own, budget_usd=0.1, cache=False)
    first = await fl.run(path, variants[:1], store=store, settings=own, cache=False)
    ended = await fl.resume(store, first.run.id, variants=variants, settings=own, budget_usd=0.1)
    assert ended.stopped.startswith("the budget of $0.10 is less than one call of 'b' could cost")
    assert ended.progress.failed == 0
