"""What is added to a run that was begun, and failures that are asked again."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from fakes import Scripted, answer
from openai_server import OpenAIServer, Reply
from test_runner import ROWS, TWO, Noting, completed_cells, events, write_rows
from typer.testing import CliRunner

import feedbackloop as fl
from feedbackloop import queries
from feedbackloop.cli import app
from feedbackloop.errors import InvalidRequest, SettingsError
from feedbackloop.models import AIRequest, AIResponse, Run
from feedbackloop.queries.shown import task_runs
from feedbackloop.settings import ProviderSettings, Settings
from feedbackloop.spec import load_spec

THIRD = {"name": "c", "model": "simulated:c"}


@pytest.fixture
def store(tmp_path: Path) -> fl.Store:
    return fl.Store(tmp_path / "loop.duckdb")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(base=tmp_path)


@pytest.fixture
async def begun(store, settings, tmp_path) -> fl.RunResult:
    return await fl.run(write_rows(tmp_path / "rows.jsonl"), TWO, store=store, settings=settings)


@pytest.fixture
def go_on(store, settings, begun):
    async def go_on(**options):
        noting = Noting()
        result = await fl.resume(store, begun.run.id, **{"settings": settings, "wrap": noting, **options})
        return result, noting.asked

    return go_on


# Rows, variants, repeats


async def test_an_added_variant_is_asked_all_rows_and_the_others_none(store, begun, go_on) -> None:
    result, asked = await go_on(variants=[THIRD])
    assert result.finished
    assert {request.metadata["variant"] for request in asked} == {"c"}
    assert (len(asked), result.progress.skipped, result.progress.total) == (12, 24, 36)
    assert set(completed_cells(store).values()) == {1}
    assert queries.runs(store)[0].variants == ["a", "b", "c"]
    assert queries.summary(store, begun.run.id)["variant"].tolist() == ["a", "b", "c"]


async def test_what_was_added_stays_and_is_gone_on_with_without_being_said_again(store, begun, go_on) -> None:
    stop = asyncio.Event()
    stopping = Noting(lambda request: stop.set() if len(stopping.asked) == 5 else None)
    await go_on(variants=[THIRD], repeats=2, wrap=stopping, stop=stop, limits=fl.Limits(concurrency=1))
    result, asked = await go_on()
    assert (result.progress.total, result.progress.skipped, len(asked)) == (72, 24 + 5, 72 - 24 - 5)
    assert set(completed_cells(store).values()) == {1}
    (status,) = queries.runs(store)
    assert (status.run.repeats, len(status.run.variants), status.state) == (2, 3, "finished")


async def test_a_run_keeps_its_beginning_and_has_a_row_for_each_addition(store, begun, go_on) -> None:
    await go_on()
    assert len(store.sql("SELECT * FROM runs")) == 1
    await go_on(repeats=2)
    kept = store.load(Run, "SELECT * FROM runs ORDER BY created_at")
    assert [run.repeats for run in kept] == [1, 2]
    (current,) = store.load(Run, "SELECT * FROM current_runs")
    assert (current.repeats, current.created_at, current.id) == (2, begun.run.created_at, begun.run.id)
    assert queries.counts(store)["runs"] == 1
    assert [run.id for run in task_runs(store, "default")] == [begun.run.id]


async def test_added_repeats_ask_the_further_ones_alone(store, go_on) -> None:
    _, asked = await go_on(repeats=3)
    assert sorted({request.repeat for request in asked}) == [1, 2]
    assert len(asked) == 48
    assert set(completed_cells(store).values()) == {1}


async def test_added_rows_variants_and_repeats_at_once(store, go_on, tmp_path) -> None:
    more = write_rows(tmp_path / "more.jsonl", [*ROWS, {"input": "brand new"}])
    result, asked = await go_on(dataset=more, variants=[THIRD, TWO[0]], repeats=2)
    assert (result.progress.total, len(asked)) == (13 * 3 * 2, 13 * 3 * 2 - 24)
    assert set(completed_cells(store).values()) == {1}
    (status,) = queries.runs(store)
    assert (status.run.dataset, status.run.settings["source"]) == ("more.jsonl", str(more))
    assert status.run.fingerprint == result.checked.fingerprint
    assert (await go_on())[1] == []


async def test_a_run_of_the_first_rows_is_completed(store, settings, tmp_path) -> None:
    path = write_rows(tmp_path / "rows.jsonl")
    tried = await fl.run(path, TWO, store=store, settings=settings, limit=3)
    noting = Noting()
    result = await fl.resume(store, tried.run.id, limit=0, settings=settings, wrap=noting)
    assert (result.progress.total, len(noting.asked)) == (24, 18)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"variants": [{**TWO[0], "prompt": "Now: {{ input }}"}]},
            "has another variant called 'a'; give the new one a",
        ),
        ({"repeats": 0}, "repeats is 0, and run .* has 1 already: it can only be given more"),
        ({"variants": [{"name": "d", "model": "nobody:d"}]}, "nobody"),
    ],
)
async def test_what_cannot_be_added_is_told_and_changes_nothing(store, go_on, options, sentence: str) -> None:
    before = len(events(store))
    with pytest.raises(fl.FeedbackLoopError, match=sentence):
        await go_on(**options)
    assert len(events(store)) == before
    assert len(store.sql("SELECT * FROM runs")) == 1


async def test_a_run_is_brought_to_what_its_spec_says_now(store, begun, go_on, tmp_path) -> None:
    write_rows(tmp_path / "rows.jsonl", [*ROWS, {"input": "brand new"}])
    spec = tmp_path / "spec.yaml"
    spec.write_text(json.dumps({"dataset": "rows.jsonl", "variants": [*TWO, THIRD], "repeats": 2}))
    result, asked = await go_on(spec=load_spec(spec))
    assert (result.progress.total, len(asked)) == (13 * 3 * 2, 13 * 3 * 2 - 24)
    spec.write_text(json.dumps({"task": "other", "dataset": "rows.jsonl", "variants": TWO}))
    with pytest.raises(SettingsError, match=r"the spec is about the task 'other', and run .* about 'default'"):
        await go_on(spec=load_spec(spec))


def test_the_command_adds_too(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "rows.jsonl", ROWS[:4])
    spec = tmp_path / "spec.yaml"
    spec.write_text(json.dumps({"dataset": "rows.jsonl", "variants": TWO}))
    cli = CliRunner()
    assert cli.invoke(app, ["run", "spec.yaml"]).exit_code == 0
    store = fl.Store(tmp_path / "loop.duckdb")
    run = queries.runs(store)[0].run.id[:8]
    spec.write_text(json.dumps({"dataset": "rows.jsonl", "variants": [*TWO, THIRD]}))
    told = cli.invoke(app, ["resume", run, "--spec", "spec.yaml"])
    assert told.exit_code == 0, told.output
    assert "Estimate: 4 calls left" in told.output  # said before, as for every run
    assert len(completed_cells(store)) == 12
    write_rows(tmp_path / "more.jsonl", ROWS[:6])
    told = cli.invoke(app, ["resume", run, "--dataset", "more.jsonl", "--repeats", "2"])
    assert told.exit_code == 0, told.output
    assert len(completed_cells(store)) == 36
    assert set(completed_cells(store).values()) == {1}
    told = cli.invoke(app, ["resume", run, "--repeats", "1"])
    assert told.exit_code == 1
    assert "it can only be given more" in str(told.exception)


# Failures


def failing(*places: str):
    def flaky(request: AIRequest) -> AIResponse:
        if request.input.endswith(places):
            raise InvalidRequest("not this one")
        return answer(request, "fine")

    return lambda provider: Scripted([flaky])


async def test_a_failure_is_shown_until_there_is_an_answer(store, settings) -> None:
    first = await fl.run(ROWS, TWO[:1], store=store, settings=settings, wrap=failing("3", "8"))

    def shown() -> list[tuple[str, str]]:
        rows = store.sql(
            "SELECT external_id, status FROM answers WHERE external_id IN ('r3', 'r8') ORDER BY external_id"
        )
        return list(rows.itertuples(index=False, name=None))

    assert shown() == [("r3", "failed"), ("r8", "failed")]
    again = await fl.resume(store, first.run.id, dataset=ROWS, retry_failed=True, settings=settings, wrap=failing("8"))
    assert (again.progress.skipped, again.progress.completed, again.progress.failed) == (10, 1, 1)
    assert shown() == [("r3", "completed"), ("r8", "failed")]
    assert store.sql("SELECT count(*) AS n FROM responses WHERE status = 'failed'")["n"][0] == 3  # nothing is deleted
    assert len(store.sql("SELECT * FROM answers")) == 12
    assert queries.failures(store, first.run.id)["failed"].tolist() == [1]


async def test_an_answer_is_never_hidden_by_a_later_failure(store, settings, tmp_path) -> None:
    source = tmp_path / "my_app.py"
    source.write_text("def answer(inputs):\n    return 'fine'\n")
    variants = [{"name": "mine", "model": "python:my_app.py:answer"}]
    first = await fl.run(ROWS[:2], variants, store=store, settings=settings)
    source.write_text("def answer(inputs):\n    raise RuntimeError('broken by an edit')\n")
    again = await fl.resume(store, first.run.id, dataset=ROWS[:2], settings=settings)
    assert again.progress.failed == 2
    assert store.sql("SELECT DISTINCT status, output FROM answers").values.tolist() == [["completed", "fine"]]


async def test_retrying_what_failed_leaves_alone_what_was_never_asked(store, settings) -> None:
    stop = asyncio.Event()

    def flaky(request: AIRequest) -> AIResponse:
        if request.input.endswith("5"):
            stop.set()
        if request.input.endswith("3"):
            raise InvalidRequest("not this one")
        return answer(request, "fine")

    first = await fl.run(
        ROWS,
        TWO[:1],
        store=store,
        settings=settings,
        wrap=lambda provider: Scripted([flaky]),
        stop=stop,
        limits=fl.Limits(concurrency=1),
    )
    assert (first.progress.completed, first.progress.failed) == (5, 1)
    noting = Noting()
    again = await fl.resume(store, dataset=ROWS, retry_failed=True, settings=settings, wrap=noting)
    assert [request.input for request in noting.asked] == ["question 3"]
    assert again.stopped == "only what had failed was asked again"
    assert queries.runs(store)[0].state == "stopped"
    rest = Noting()
    assert (await fl.resume(store, dataset=ROWS, settings=settings, wrap=rest)).finished
    assert len(rest.asked) == 6


async def test_retrying_without_a_failure_asks_nothing(store, begun, go_on) -> None:
    result, asked = await go_on(retry_failed=True)
    assert result.finished
    assert asked == []


# Streaming


def test_a_streamed_run_tells_the_time_to_the_first_token_and_asks_the_same(tmp_path) -> None:
    store, spec = fl.Store(tmp_path / "loop.duckdb"), tmp_path / "spec.yaml"
    write_rows(tmp_path / "rows.jsonl", [{"input": "word " * 40 + str(number)} for number in range(6)])
    variant = {"name": "v", "model": "up:m"}
    spec.write_text(json.dumps({"dataset": "rows.jsonl", "variants": [variant], "stream": True}))
    with OpenAIServer() as server:
        server.plan = [Reply(how="drip", drip_s=0.2), Reply(how="cut"), "error"]
        settings = Settings(base=tmp_path, providers={"up": ProviderSettings(base_url=server.url)})
        result = asyncio.run(fl.run_spec(load_spec(spec), store, settings=settings))
        assert (result.progress.completed, result.progress.failed) == (6, 0)
        assert all(asked.body["stream_options"] == {"include_usage": True} for asked in server.requests)
        # What broke off after its first words was asked again: nobody had been given them.
        assert len(server.requests) == 8
        rows = store.sql("SELECT latency_ms, ttft_ms, tokens_per_s, output_tokens, tokens_used FROM answers")
        assert (rows["ttft_ms"] > 0).all()
        assert (rows["ttft_ms"] <= rows["latency_ms"]).all()
        assert rows["latency_ms"].max() - rows["ttft_ms"][rows["latency_ms"].idxmax()] > 100
        assert (rows["tokens_per_s"].dropna() > 0).all()
        for stored in store.load(AIResponse, "SELECT * FROM responses"):
            if stored.tokens_per_s is not None:
                assert any(rows["tokens_per_s"].sub(stored.tokens_per_s).abs() < 1e-6)
        # The key is that of an answer that is not streamed, so that the one stands for the other.
        again = asyncio.run(fl.run(tmp_path / "rows.jsonl", [variant], store=store, settings=settings))
        assert again.progress.cached == 6
        assert len(server.requests) == 8
        # A part that goes on with it streams too.
        write_rows(tmp_path / "rows.jsonl", [{"input": "one more"}])
        asyncio.run(fl.resume(store, result.run.id, settings=settings))
        assert server.requests[-1].body["stream"] is True


@pytest.mark.parametrize(
    ("figures", "speed"),
    [
        ({"latency_ms": 3000, "ttft_ms": 1000, "output_tokens": 101}, 50.0),
        ({"latency_ms": 3000, "ttft_ms": 1000, "output_tokens": 201, "reasoning_tokens": 100}, 50.0),
        ({"latency_ms": 3000, "output_tokens": 101}, None),
        ({"latency_ms": 1000, "ttft_ms": 1000, "output_tokens": 101}, None),
        ({"latency_ms": 3000, "ttft_ms": 1000, "output_tokens": 1}, None),
        ({"latency_ms": 3000, "ttft_ms": 1000}, None),
    ],
)
def test_tokens_a_second_are_those_after_the_first(store, figures, speed) -> None:
    request = AIRequest(input="hi")
    response = AIResponse(request_id=request.id, output="x", model_used="a:m", **figures)
    assert response.tokens_per_s == speed
    store.append([request, response])
    stored = store.sql("SELECT tokens_per_s FROM answers")["tokens_per_s"].dropna().tolist()
    assert stored == ([] if speed is None else [speed])
