"""Real input, both ways: 805 prompts x 6 real models, replayed from a recording, and over HTTP through a server that misbehaves."""

from __future__ import annotations

import asyncio
import csv
import gzip
import json
import random
from dataclasses import dataclass
from pathlib import Path

import openai_server
import pandas as pd
import pytest
from openai_server import OpenAIServer, Reply, refused

import feedbackloop as fl
from feedbackloop import queries
from feedbackloop.importers import import_file
from feedbackloop.improve.export import export
from feedbackloop.pipeline.resilience import Clock
from feedbackloop.settings import ProviderSettings, Settings

# A provider that asks to come back in 10 ms, so that the tests need not wait for it.
openai_server.FAULTS["busy"] = Reply(429, refused("Rate limit reached"), {"retry-after": "0.01"}, name="busy")
FAULTS = dict.fromkeys(("busy", "error", "broken_json", "empty", "drop"), 0.03)
BRISK = Clock(sleep=lambda seconds: asyncio.sleep(min(seconds / 100, 0.01)))
"""Back-off as it is, a hundred times faster."""


@dataclass(frozen=True)
class Real:
    """The files: the prompts as a dataset, and who answered what to which of them."""

    path: Path
    prompts: dict[int, str]
    outputs: dict[tuple[str, int], str]

    @property
    def models(self) -> list[str]:
        return list(dict.fromkeys(model for model, _ in self.outputs))


@pytest.fixture(scope="module")
def real(shared: Path) -> Real:
    path = shared / "prompts.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    with gzip.open(shared / "outputs.jsonl.gz", "rt", encoding="utf-8") as file:
        outputs = {(row["model"], row["prompt_id"]): row["output"] for row in map(json.loads, file)}
    return Real(path, {line["prompt_id"]: line["prompt"] for line in lines}, outputs)


@pytest.fixture
def store(tmp_path: Path) -> fl.Store:
    return fl.Store(tmp_path / "real.duckdb")


def stored(store: fl.Store) -> dict[tuple[str, int], str]:
    rows = store.sql("SELECT variant, external_id, output FROM answers WHERE status = 'completed'")
    assert not rows.duplicated(["variant", "external_id"]).any()
    return {(variant, int(number)): output for variant, number, output in rows.itertuples(index=False)}


def differing(found: dict, wanted: dict) -> list:
    """Where they differ; as sets, since a failing test that prints all texts helps nobody."""
    return [key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key)]


def recorded_variants(real: Real, folder: Path) -> list[dict]:
    with (folder / "outputs.jsonl").open("w", encoding="utf-8") as file:
        for (model, number), output in real.outputs.items():
            file.write(json.dumps({"case_id": number, "group": model, "output": output}, ensure_ascii=False) + "\n")
    return [
        {"name": model, "model": f"recorded:outputs.jsonl#{model}", "prompt": "{{ prompt }}"} for model in real.models
    ]


async def replay(real: Real, folder: Path, store: fl.Store, **options) -> fl.RunResult:
    return await fl.run(
        real.path,
        recorded_variants(real, folder),
        store=store,
        id_column="prompt_id",
        settings=Settings(base=folder),
        **options,
    )


@pytest.fixture(scope="module")
def replayed(real, tmp_path_factory) -> tuple[fl.Store, fl.RunResult]:
    """A store with every recorded answer, which nobody writes to, and the run that brought them."""
    folder = tmp_path_factory.mktemp("replayed")
    store = fl.Store(folder / "real.duckdb")
    return store, asyncio.run(replay(real, folder, store))


def test_all_recorded_answers_are_stored_as_they_are(real, replayed) -> None:
    store, result = replayed
    assert (result.progress.completed, result.progress.failed) == (4830, 0)
    assert differing(stored(store), real.outputs) == []
    asked = store.sql(
        "SELECT DISTINCT external_id, requests.input FROM answers JOIN requests ON requests.id = request_id"
    )
    assert {int(number): text for number, text in asked.itertuples(index=False)} == real.prompts
    longest = store.sql("SELECT max(length(output)) AS n, count(*) FILTER (contains(output, chr(8))) AS b FROM answers")
    assert longest.iloc[0].tolist() == [65477, sum("\b" in text for text in real.outputs.values())]
    assert queries.summary(store, result.run.id)["answers"].tolist() == [805] * 6


async def test_a_limited_run_and_its_full_resume_are_the_same_as_one(real, store, tmp_path) -> None:
    stop = asyncio.Event()

    def soon(progress: fl.Progress) -> None:
        if progress.done:
            stop.set()

    part = await replay(real, tmp_path, store, stop=stop, progress=soon, limit=200)
    rest = await fl.resume(store, part.run.id, settings=Settings(base=tmp_path))
    assert rest.finished
    assert (
        differing(
            stored(store), {key: text for key, text in real.outputs.items() if key[1] in list(real.prompts)[:200]}
        )
        == []
    )


async def over_http(
    real: Real, store: fl.Store, numbers: list[int], seed: int = 1
) -> tuple[fl.RunResult, OpenAIServer]:
    texts = {(model, real.prompts[number]): real.outputs[model, number] for model in real.models for number in numbers}
    jitter = random.Random(seed)
    with OpenAIServer(answers=texts, rates=FAULTS, seed=seed, delay_s=jitter.uniform(0.001, 0.005)) as server:
        result = await fl.run(
            [{"prompt_id": number, "prompt": real.prompts[number]} for number in numbers],
            [{"name": model, "model": f"fake:{model}", "prompt": "{{ prompt }}"} for model in real.models],
            store=store,
            id_column="prompt_id",
            settings=Settings(providers={"fake": ProviderSettings(base_url=server.url)}),
            limits=fl.Limits(retries=8),
            clock=BRISK,
        )
    return result, server


async def check_over_http(real: Real, store: fl.Store, numbers: list[int]) -> None:
    result, server = await over_http(real, store, numbers)
    assert result.finished
    count = len(numbers) * 6
    assert (result.progress.completed, result.progress.failed) == (count, 0)
    assert differing(stored(store), {key: text for key, text in real.outputs.items() if key[1] in numbers}) == []
    # Every fault came up, every one was met by a further attempt, and what each request went through is written down.
    assert all(server.counts[name] > count * 0.01 for name in FAULTS)
    assert server.counts["ok"] == count
    attempts = store.sql(
        "SELECT a.value->>'error_type' AS kind, count(*) AS n FROM responses, json_each(attempts) a GROUP BY kind"
    )
    kinds = dict(attempts.itertuples(index=False, name=None))
    assert sum(kinds.values()) == len([request for request in server.requests if request.path.endswith("completions")])
    assert kinds["RateLimited"] == server.counts["busy"]
    assert kinds["ProviderUnavailable"] == server.counts["error"] + server.counts["drop"]
    assert kinds["OutputInvalid"] == server.counts["broken_json"] + server.counts["empty"]


async def test_over_http_every_answer_arrives_whatever_the_server_does(real, store) -> None:
    ugly = [
        301,
        390,
        334,
        410,
        429,
        727,
        30,
        216,
        196,
        73,
        511,
        598,
        626,
        716,
        628,
        704,
        339,
        658,
        136,
        158,
        203,
        141,
        146,
    ]
    numbers = ugly + [number for number in real.prompts if number not in ugly][: 120 - len(ugly)]
    await check_over_http(real, store, numbers)


@pytest.mark.slow
async def test_over_http_in_full(real, store) -> None:
    await check_over_http(real, store, list(real.prompts))


def plain(text: str) -> str:
    """A text of a CSV export without the apostrophe that keeps a spreadsheet from running it."""
    return text[1:] if text.startswith("'") and text[1:2] in {"=", "+", "-", "@", "\t", "\r"} else text


def exported(path: Path) -> list[tuple[str, int, str]]:
    if path.suffix == ".parquet":
        frame = pd.read_parquet(path)[["variant", "external_id", "output"]]
        return [(variant, int(number), text) for variant, number, text in frame.itertuples(index=False)]
    if path.suffix == ".csv":
        csv.field_size_limit(2**31 - 1)
        with path.open(encoding="utf-8", newline="") as file:
            return [(row["variant"], int(row["external_id"]), plain(row["output"])) for row in csv.DictReader(file)]
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [(row["variant"], int(row["external_id"]), row["output"]) for row in rows]


def test_exports_lose_nothing(real, replayed, tmp_path) -> None:
    store, _ = replayed
    for ending in ("csv", "jsonl.gz", "parquet"):
        path = tmp_path / f"answers.{ending}"
        assert export(store, path) == 4830
        rows = exported(path)
        assert len(rows) == 4830
        assert differing({(variant, number): text for variant, number, text in rows}, real.outputs) == []


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_answers_made_elsewhere_come_in_without_loss_and_only_once(real, store, tmp_path, ending: str) -> None:
    frame = pd.DataFrame(
        [(number, real.prompts[number], model, text) for (model, number), text in real.outputs.items()],
        columns=["id", "prompt", "model", "output"],
    )
    path = tmp_path / f"made_elsewhere.{ending}"
    frame.to_csv(path, index=False) if ending == "csv" else frame.to_parquet(path)
    done = fl.import_answers(path, store)
    assert (done.cases, done.answers) == (805, 4830)
    assert differing(stored(store), real.outputs) == []
    assert fl.import_answers(path, store).new == 0
    assert len(stored(store)) == 4830


# --- measured and judged elsewhere ---

MEASURED = {
    "ttft_s": "ttft_ms / 1000",
    "end_to_end_latency_s": "latency_ms / 1000",
    "number_output_tokens": "output_tokens",
}
SHARES = {"p25": 0.25, "p50": 0.5, "p75": 0.75, "p90": 0.9, "p95": 0.95, "p99": 0.99}


def test_latencies_measured_elsewhere_have_the_published_percentiles(shared, store) -> None:
    done = import_file(shared / "latency_requests_7b.csv.gz", store)
    assert (done.format, done.answers, len(done.variants)) == ("llmperf", 750, 5)
    published = pd.read_csv(shared / "latency_published_7b.csv").set_index("run")
    # What `feedbackloop status RUN` shows, and the page of the run.
    summary = queries.summary(store, done.run_id).set_index("variant").loc[published.index]
    for column, place in (("latency_p50_ms", "p50"), ("latency_p95_ms", "p95")):
        wanted = published[f"end_to_end_latency_s_quantiles_{place}"] * 1000
        assert summary[column].tolist() == pytest.approx(wanted.tolist(), rel=1e-12)
    assert summary["answers"].tolist() == published["num_completed_requests"].tolist()
    assert summary["failed"].tolist() == published["number_errors"].tolist()
    assert summary["failed"]["lepton_7b"] == 130
    failed = queries.failures(store, done.run_id)
    assert failed[["error_type", "variant", "failed"]].to_numpy().tolist() == [["RateLimited", "lepton_7b", 130]]
    # All that is published, from the view that people work with.
    for measured, column in MEASURED.items():
        shares = ", ".join(f"quantile_cont({column}, {share}) AS {name}" for name, share in SHARES.items())
        found = store.sql(
            f"SELECT variant, {shares}, avg({column}) AS mean, stddev_samp({column}) AS sd FROM answers "
            "WHERE status = 'completed' GROUP BY variant"
        ).set_index("variant")
        found = found.loc[published.index]
        for name in SHARES:
            wanted = published[f"{measured}_quantiles_{name}"].tolist()
            assert found[name].tolist() == pytest.approx(wanted, rel=1e-12), (measured, name)
        assert found["mean"].tolist() == pytest.approx(published[f"{measured}_mean"].tolist(), rel=1e-12)
        assert found["sd"].tolist() == pytest.approx(published[f"{measured}_stddev"].tolist(), rel=1e-9)
    assert import_file(shared / "latency_requests_7b.csv.gz", store).new == 0


@pytest.mark.parametrize("place", [("ae2", "vicuna-7b-v1.3"), ("ae1", "alpaca-7b"), ("ae1", "ghost-7b-alpha")])
def test_a_judges_annotations_come_to_the_published_win_rate(real, shared, store, tmp_path, place) -> None:
    board, model = place
    frame = pd.read_csv(shared / "judge_annotations.csv.gz")
    frame = frame[(frame["board"] == board) & (frame["model"] == model)]
    annotations = [
        {
            "instruction": real.prompts[row["prompt_id"]],
            "generator_1": row["baseline"],
            "output_1": f"what the baseline said to {row['prompt_id']}",
            "generator_2": model,
            "output_2": real.outputs[model, row["prompt_id"]],
            "annotator": row["judge"],
            "preference": None if pd.isna(row["preference"]) else row["preference"],
            "price_per_example": None if pd.isna(row["price_usd"]) else row["price_usd"],
        }
        for row in frame.to_dict("records")
    ]
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(annotations), encoding="utf-8")
    done = import_file(path, store)
    published = pd.read_csv(shared / "judge_published.csv").set_index(["board", "model"]).loc[place]
    assert done.votes == published["n_total"]
    assert done.left_out == (() if done.votes == 805 else done.left_out[:1])
    summary = queries.summary(store, done.run_id).set_index("variant").loc[model]
    counted = [int(summary[name]) for name in ("wins", "losses", "ties")]
    assert counted == [published[name] for name in ("n_wins", "n_wins_base", "n_draws")]
    # The judge's own figure between 1 and 2 is kept too.
    judged = store.sql(
        "SELECT avg(if(p = 0, 1.5, p) - 1) * 100 AS rate, sum(usd) AS usd FROM (SELECT spent_usd AS usd, "
        "CAST(responses.metadata->>'preference' AS DOUBLE) AS p FROM responses JOIN requests ON requests.id = request_id "
        "WHERE purpose = 'judge')"
    ).iloc[0]
    assert judged["rate"] == pytest.approx(published["win_rate"], rel=1e-12)
    assert judged["usd"] == pytest.approx(frame["price_usd"].sum(), rel=1e-9)
