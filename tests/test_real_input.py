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


@pytest.fixture
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


async def test_all_recorded_answers_are_stored_as_they_are(real, store, tmp_path) -> None:
    result = await replay(real, tmp_path, store)
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


async def test_exports_lose_nothing(real, store, tmp_path) -> None:
    await replay(real, tmp_path, store)
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
