"""The ledger: what was paid, for what, and what it would come to by other prices."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fakes import Scripted, answer

import feedbackloop as fl
from feedbackloop.cli import main
from feedbackloop.errors import OutputInvalid, RateLimited
from feedbackloop.findings.costs import costs, recompute_costs
from feedbackloop.models import AIRequest, AIResponse, Attempt, ProcessingStatus, Run, Variant
from feedbackloop.pipeline.engine import Engine
from feedbackloop.pipeline.resilience import Clock
from feedbackloop.queries.costs import SUMS, ledger
from feedbackloop.settings import Limits, Price, ProviderSettings, Settings

NOON = datetime(2026, 11, 18, 12, tzinfo=UTC)
CHEAP = Price(input_per_million=10, output_per_million=20, cached_per_million=1)
SETTINGS = Settings(
    providers={name: ProviderSettings(base_url="https://models.example/v1") for name in ("up", "other")},
    prices={"up:m": CHEAP, "other:m": CHEAP},
)
VARIANTS = [Variant(name="terse", model="up:m"), Variant(name="terse", model="up:m", prompt="Short: {{ input }}")]


def paid(usd=1.0, *, day=0, task="support", variant=VARIANTS[0], purpose="answer", model="up:m", **fields):
    """A request and its answer, with a cost of its own."""
    at = NOON + timedelta(days=day)
    request = AIRequest(
        input="?", model=model, task=task, variant_id=variant.id if variant else None, purpose=purpose, created_at=at,
        run_id=fields.pop("run_id", None),
    )  # fmt: skip
    figures = {"input_tokens": 100, "output_tokens": 50, "cached_tokens": 20, "reasoning_tokens": 30, **fields}
    attempts = [Attempt(model=model, start=at, cost_usd=usd)]
    known = {"model_used": model, "cost_usd": usd, "spent_usd": usd, "attempts": attempts, "created_at": at, **figures}
    return [request, AIResponse(request_id=request.id, output="!", **known)]


@pytest.fixture
def filled(store):
    store.append(
        [
            *VARIANTS,
            *paid(1.0),
            *paid(2.0, day=1, variant=VARIANTS[1]),
            *paid(4.0, day=1, task="sales"),
            *paid(8.0, day=2, variant=None, purpose="judge", model="other:m"),
            *paid(None, day=2),
        ]
    )
    return store


def column(found, name="spent_usd"):
    return dict(zip(found.frame[found.by], found.frame[name], strict=True))


def test_spend_is_told_by_day_task_variant_purpose_and_model(filled):
    by_day = costs(filled)
    assert (by_day.spent_usd, by_day.unpriced) == (15.0, 1)
    assert column(by_day) == {"2026-11-18": 1.0, "2026-11-19": 6.0, "2026-11-20": 8.0}
    assert column(costs(filled, by="task")) == {"support": 11.0, "sales": 4.0}
    # Two versions of a name are two variants.
    one, two = (variant.label for variant in VARIANTS)
    assert column(costs(filled, by="variant")) == {None: 8.0, one: 5.0, two: 2.0}
    assert column(costs(filled, by="purpose")) == {"judges": 8.0, "answers": 7.0}
    assert column(costs(filled, by="model")) == {"other:m": 8.0, "up:m": 7.0}
    assert column(costs(filled, by="model"), "unpriced") == {"other:m": 0, "up:m": 1}
    row = costs(filled, by="model").frame.set_index("model").loc["up:m"]
    assert (row["calls"], row["answers"], row["input_tokens"], row["cached_tokens"]) == (4, 4, 400, 80)
    assert (row["output_tokens"], row["reasoning_tokens"], row["cache_write_tokens"]) == (200, 120, 0)


def test_all_ways_of_cutting_it_come_to_the_same(filled):
    whole = ledger(filled)[list(SUMS)].sum().to_dict()
    for by in ("day", "task", "variant", "purpose", "model"):
        assert costs(filled, by=by).frame[list(SUMS)].sum().to_dict() == whole


def test_printed_they_are_a_sentence(filled):
    assert repr(costs(filled)) == "Spent: at least $15.00, 1 unpriced."
    assert repr(recompute_costs(filled, settings=SETTINGS)).startswith("Recorded: $15.00; by the prices of now: $")


def test_since_leaves_out_what_came_before(filled):
    assert costs(filled, since=NOON + timedelta(days=1)).spent_usd == 14.0
    assert costs(filled, since=NOON + timedelta(days=9)).frame.empty


def test_an_answer_used_again_is_paid_once(store):
    store.append([*paid(1.0), *paid(1.0, cached=True)])
    assert (costs(store).spent_usd, costs(store, by="model").frame["calls"].sum()) == (1.0, 1)


def test_what_was_paid_elsewhere_stands_apart(store):
    run = Run(task="support", dataset="old.csv", fingerprint="", variants=[], settings={"imported": "old.csv"})
    judged = paid(8.0, purpose="judge")
    judged[0] = judged[0].model_copy(update={"metadata": {"imported": "battles.jsonl"}})
    store.append([run, *paid(1.0), *paid(16.0, run_id=run.id), *paid(32.0, model="recorded:a.jsonl"), *judged])
    found = costs(store)
    assert (found.spent_usd, found.elsewhere, found.elsewhere_usd) == (1.0, 3, 56.0)
    assert column(found) == {"2026-11-18": 1.0}


def test_there_may_be_nothing(store):
    assert (costs(store).frame.empty, costs(store).spent_usd) == (True, 0.0)
    assert recompute_costs(store, settings=SETTINGS).frame.empty
    assert not store.exists()


async def asked(store, script, models=("up:m",), settings=SETTINGS, **figures):
    """What an engine makes of a script, stored as a run would."""

    async def at_once(_: float) -> None: ...

    made = Engine(settings, limits=Limits(retries=2), clock=Clock(utc=lambda: NOON, sleep=at_once))
    for name, steps in zip(("up", "other"), script, strict=False):
        made._providers[name] = Scripted(steps, **figures)
        made._providers[name].base_url = "https://models.example/v1"
    request = AIRequest(input="?", model=models[0], task="support")
    response = await made.complete(request, models)
    store.append([request, response])
    return response


def billed(read, written, cached=0):
    """An answer with its usage, as the wire has it."""
    usage = {"prompt_tokens": read, "completion_tokens": written, "prompt_tokens_details": {"cached_tokens": cached}}
    figures = {"input_tokens": read, "output_tokens": written, "cached_tokens": cached, "tokens_used": read + written}

    def make(text):
        return lambda request: answer(request, text, usage=usage, **figures)

    return make


async def test_what_was_paid_in_vain_counts_and_each_model_has_its_own(store):
    refused, empty = RateLimited("x", retryable=False), billed(1000, 100)(" ")
    last = await asked(store, [[empty, empty, empty], [refused, billed(2000, 50, 500)("fine")]], ("up:m", "other:m"))
    assert last.status is ProcessingStatus.FAILED
    await asked(store, [[empty, billed(3000, 10)("fine")]])
    by_model = costs(store, by="model").frame.set_index("model")
    vain = (1000 * 10 + 100 * 20) / 1e6
    assert by_model.loc["up:m", "spent_usd"] == pytest.approx(4 * vain + (3000 * 10 + 10 * 20) / 1e6)
    assert (by_model.loc["up:m", "calls"], by_model.loc["up:m", "input_tokens"]) == (5, 7000)
    assert (by_model.loc["up:m", "answers"], by_model.loc["other:m", "failed"]) == (1, 1)
    assert (by_model.loc["other:m", "spent_usd"], by_model.loc["other:m", "calls"]) == (0.0, 1)
    responses = store.read("SELECT sum(spent_usd) AS usd FROM responses")
    assert costs(store).spent_usd == pytest.approx(float(responses["usd"].iloc[0]))


async def test_the_ledger_and_the_records_agree_where_a_price_is_unknown(store):
    none = SETTINGS.model_copy(update={"prices": {"up:m": CHEAP}})
    script = [[billed(1000, 100)(" ")] * 3, [billed(2000, 50, 500)("fine")]]
    response = await asked(store, script, ("up:m", "other:m"), none)
    assert response.spent_usd is None
    found = costs(store, by="model")
    assert (found.unpriced, column(found, "unpriced")) == (1, {"up:m": 0, "other:m": 1})
    assert found.spent_usd == pytest.approx(3 * 12_000 / 1e6)


# Restated


async def test_the_same_prices_restate_to_the_same(store):
    await asked(store, [[billed(1000, 100)(" "), billed(3000, 10, 2000)("fine")]])
    await asked(store, [[billed(1000, 100, 50)("fine")]])
    await asked(store, [[OutputInvalid("x")] * 3])
    found = recompute_costs(store, settings=SETTINGS)
    row = found.frame.iloc[0]
    assert found.restated_usd == pytest.approx(found.recorded_usd)
    assert (row["model"], row["difference_usd"]) == ("up:m", pytest.approx(0, abs=1e-12))
    # Three attempts left no usage behind: what they cost was not known and is not.
    assert (row["unpriced_before"], row["unpriced_now"]) == (3, 3)


async def test_a_corrected_price_shows_its_difference_and_changes_nothing(store):
    first = await asked(store, [[billed(1000, 100)(" "), billed(3000, 10, 2000)("fine")]])
    second = await asked(store, [[billed(1000, 100, 50)("fine")]])
    before = store.read("SELECT id, cost_usd, spent_usd FROM responses ORDER BY id")
    dearer = Price(input_per_million=20, output_per_million=40, cached_per_million=2)
    found = recompute_costs(store, settings=SETTINGS.model_copy(update={"prices": {"up:m": dearer}}))
    spent = first.spent_usd + second.spent_usd
    assert found.recorded_usd == pytest.approx(spent)
    assert found.restated_usd == pytest.approx(2 * spent)
    assert found.frame.iloc[0]["difference_usd"] == pytest.approx(spent)
    assert store.read("SELECT id, cost_usd, spent_usd FROM responses ORDER BY id").equals(before)


async def test_a_price_that_has_become_known_is_filled_in_and_one_forgotten_is_kept(store):
    none = SETTINGS.model_copy(update={"prices": {"up:m": CHEAP}})
    await asked(store, [["unused"], [billed(1000, 100)("fine")]], ("other:m",), none)
    await asked(store, [[billed(1000, 100)("fine")]], ("up:m",), none)
    found = recompute_costs(store, settings=SETTINGS.model_copy(update={"prices": {"other:m": CHEAP}}))
    rows = found.frame.set_index("model")
    assert rows.loc["other:m", ["recorded_usd", "restated_usd", "unpriced_before", "unpriced_now"]].tolist() == [
        0.0, pytest.approx(0.012), 1, 0,
    ]  # fmt: skip
    assert rows.loc["up:m", ["recorded_usd", "restated_usd", "kept"]].tolist() == [
        pytest.approx(0.012), pytest.approx(0.012), 1,
    ]  # fmt: skip


def test_an_answer_is_restated_by_the_price_of_its_hour(store):
    own = Settings(providers={"deepseek": ProviderSettings(base_url="https://api.deepseek.com")})
    tokens = {"input_tokens": 1_000_000, "output_tokens": 0, "cached_tokens": 0}
    peak = (datetime(2026, 11, 18, 2, 59, tzinfo=UTC) - NOON) / timedelta(days=1)
    store.append(
        [
            *paid(9.0, model="deepseek:deepseek-flash", **tokens),
            *paid(9.0, model="deepseek:deepseek-flash", day=peak, **tokens),
        ]
    )
    assert recompute_costs(store, settings=own).restated_usd == pytest.approx(0.15 + 0.30)


def test_a_line_of_a_batch_is_restated_at_the_price_of_batches(store):
    tokens = {"input_tokens": 1000, "output_tokens": 100, "cached_tokens": 0}
    store.append([*paid(0.006, metadata={"batch": "batch_1"}, **tokens), *paid(0.012, **tokens)])
    assert recompute_costs(store, settings=SETTINGS).frame["difference_usd"].tolist() == [pytest.approx(0, abs=1e-12)]


def test_a_provider_that_is_gone_keeps_its_costs(store):
    store.append(paid(3.0, model="gone:m"))
    found = recompute_costs(store, settings=Settings())
    assert (found.recorded_usd, found.restated_usd, found.frame["kept"].tolist()) == (3.0, 3.0, [1])


# The command


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def called(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(["cost", *arguments])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return called


@pytest.fixture
def here(tmp_path):
    store = fl.Store(tmp_path / "loop.duckdb")
    store.append(
        [*VARIANTS, *paid(1.0), *paid(2.0, day=1, task="sales"), *paid(None, day=1), *paid(5.0, model="recorded:x")]
    )
    return store


def test_the_command_shows_a_table_with_its_total(command, here):
    code, out, _ = command()
    lines = [line.split() for line in out.splitlines() if line.strip()]
    assert code == 0
    assert lines[0] == ["day", "calls", "answers", "input", "cached", "output", "reasoning", "unpriced", "spent"]
    assert lines[1] == ["2026-11-18", "1", "1", "100", "20", "50", "30", "0", "$1.0000"]
    assert lines[3] == ["total", "3", "3", "300", "60", "150", "90", "1", "$3.0000"]
    assert "Spent: at least $3.00, 1 unpriced." in out
    assert "Not counted: 1 answer imported or replayed, which say $5.00." in out
    assert "sales" in command("--by", "task")[1]


def test_the_command_never_says_that_an_unknown_price_is_none(command, here):
    rows = [line.split() for line in command("--by", "model", "--since", "2026-11-19")[1].splitlines()]
    assert rows[1][-1] == "$2.0000"
    here.append(paid(None, model="far:llama"))
    assert (
        next(row for row in map(str.split, command("--by", "model")[1].splitlines()) if "far:llama" in row)[-1]
        == "unknown"
    )
    recomputed = command("--recompute")[1]
    assert next(row for row in map(str.split, recomputed.splitlines()) if "far:llama" in row)[2:4] == ["1", "unpriced"]


def test_the_help_keeps_what_stands_in_brackets(command, here):
    assert "`prices` in feedbackloop.toml" in " ".join(command("--help")[1].split())


def test_the_command_speaks_json(command, here):
    told = json.loads(command("--by", "task", "--json")[1])
    assert told["total"] == {"spent_usd": 3.0, "unpriced": 1}
    assert {row["task"]: row["spent_usd"] for row in told["rows"]} == {"support": 1.0, "sales": 2.0}
    assert json.loads(command("--since", "2026-11-19", "--json")[1])["total"]["spent_usd"] == 2.0
    assert json.loads(command("--since", "1d", "--json")[1])["total"]["spent_usd"] <= 3.0


def test_the_command_compares_by_the_prices_of_now(command, here):
    Path("feedbackloop.toml").write_text(
        '[providers.up]\nbase_url = "https://models.example/v1"\n'
        '[prices."up:m"]\ninput_per_million = 10000\noutput_per_million = 0\n'
    )
    code, out, _ = command("--recompute")
    lines = [line.split() for line in out.splitlines() if line.strip()]
    assert code == 0
    assert lines[1] == ["up:m", "3", "$3.0000", "+", "1", "unpriced", "$3.0000", "-"]
    assert "The records stay as they are" in out
    told = json.loads(command("--recompute", "--json")[1])
    assert told["total"] == {"recorded_usd": 3.0, "restated_usd": 3.0}


@pytest.mark.parametrize("wrong", [("--since", "yesterday"), ("--recompute", "--by", "day")])
def test_wrong_usage_is_said(command, here, wrong):
    assert command(*wrong)[0] == 2


def test_a_store_without_answers_has_cost_nothing(command):
    for arguments in ((), ("--by", "model"), ("--recompute",)):
        assert "loop.duckdb: nothing was spent here yet." in command(*arguments)[1]
    assert not Path("loop.duckdb").exists()
