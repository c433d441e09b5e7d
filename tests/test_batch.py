"""Runs by OpenAI's Batch API: half the price, submitted once whatever happens, fetched by whoever comes next."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from batch_server import BatchServer
from fakes import FakeTime
from openai_server import FAULTS, OpenAIServer, Reply
from typer.testing import CliRunner
from waiting import until

import feedbackloop as fl
from feedbackloop import queries
from feedbackloop.cli import app
from feedbackloop.errors import DatasetError, SettingsError, UnknownName
from feedbackloop.identity import utcnow
from feedbackloop.pipeline.batch import PATIENCE
from feedbackloop.providers import batches
from feedbackloop.providers.openai import OpenAIProvider
from feedbackloop.queries.batches import open_batches
from feedbackloop.settings import Price, ProviderSettings, Settings

ROWS = [{"id": f"r{n}", "input": f"question {n}"} for n in range(10)]
ONE = [{"name": "a", "model": "openai:gpt-4o-mini"}]
PRICE = Price(input_per_million=1_000_000.0, output_per_million=2_000_000.0)


@pytest.fixture
def store(tmp_path: Path) -> fl.Store:
    return fl.Store(tmp_path / "loop.duckdb")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(base=tmp_path, prices={"openai:gpt-4o-mini": PRICE})


@pytest.fixture
def serve(monkeypatch):
    """Start a server with these options, and put OpenAI there."""
    running = []

    def serve(**options) -> BatchServer:
        server = BatchServer(**options).__enter__()
        running.append(server)
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        return server

    yield serve
    for server in running:
        server.__exit__()


@pytest.fixture
def run(store, settings):
    async def run(dataset=ROWS, variants=ONE, **options):
        known = {"store": store, "settings": settings, "executor": "batch", "clock": FakeTime().clock(), **options}
        return await fl.run(dataset, variants, **known)

    return run


@pytest.fixture
def resume(store, settings):
    async def resume(dataset=ROWS, **options):
        known = {"dataset": dataset, "settings": settings, "clock": FakeTime().clock(), **options}
        return await fl.resume(store, **known)

    return resume


def answers(store: fl.Store):
    return store.sql(
        "SELECT request.input, response.* FROM responses response JOIN requests request ON request.id = response.request_id"
    )


def each_once(store: fl.Store, cells: int) -> bool:
    """Whether every cell has one completed answer."""
    found = store.sql(
        "SELECT count(*) AS n FROM requests JOIN responses ON request_id = requests.id WHERE status = 'completed' "
        "GROUP BY run_id, case_id, variant_id, repeat"
    )
    return found["n"].tolist() == [1] * cells


# From submitting to fetching


async def test_what_is_missing_is_submitted_waited_for_and_stored(serve, run, store) -> None:
    server = serve(polls=3)
    result = await run(graders=["contains"], dataset=[{**row, "expected": row["input"]} for row in ROWS])
    assert result.finished
    assert (result.progress.completed, result.progress.failed, result.progress.waiting) == (10, 0, "")
    assert (server.asked("POST /files"), server.asked("POST /batches"), server.counts["ok"]) == (1, 1, 10)
    assert each_once(store, 10)
    # The output comes in another order, and every answer is put to its own question.
    found = answers(store)
    assert all(f"You said: {row.input}" == row.output for row in found.itertuples())
    ratings = store.sql("SELECT value FROM ratings")
    assert ratings["value"].tolist() == [1.0] * 10
    (batch,) = server.batches.values()
    assert batch.metadata["feedbackloop_run"] == result.run.id
    assert {json.loads(text)["batch"] for text in found["metadata"]} == {batch.id}
    assert open_batches(store, result.run.id) == []


async def test_an_answer_costs_half_and_has_no_latency(serve, run, store) -> None:
    serve(answers=lambda model, text: "12345678")
    result = await run(ROWS[:1])
    (row,) = answers(store).to_dict("records")
    read, written = len("question 0") // 4, 2
    # Half of the cached input is half the input: the settings name no price of its own for it.
    assert row["cost_usd"] == row["spent_usd"] == (read * 1.0 + written * 2.0) / 2
    assert result.progress.spent_usd == row["spent_usd"]
    assert row["latency_ms"] is None or row["latency_ms"] != row["latency_ms"]
    (attempt,) = json.loads(row["attempts"])
    assert attempt["latency_ms"] is None
    assert attempt["cost_usd"] == row["cost_usd"]
    assert (row["model_used"], row["provider_model"]) == ("openai:gpt-4o-mini", "gpt-4o-mini-2026-01-01")


async def test_what_is_sent_is_what_a_call_would_send(serve, run, tmp_path) -> None:
    server = serve()
    system = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "{{ input }}"}]
    await run(ROWS[:1], [{**ONE[0], "prompt": system, "params": {"temperature": 0.2, "max_tokens": 50}}])
    (line,) = next(iter(server.batches.values())).requests
    assert line["method"] == "POST"
    assert line["body"] == {
        "model": "gpt-4o-mini",
        "temperature": 0.2,
        "max_completion_tokens": 50,
        "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "question 0"}],
    }


async def test_a_batch_has_one_model_and_no_more_than_the_api_takes(serve, run, store, monkeypatch) -> None:
    server = serve()
    monkeypatch.setattr(batches, "MAX_REQUESTS", 4)
    await run(variants=[*ONE, {"name": "b", "model": "openai:gpt-4o"}])
    assert sorted(len(batch.requests) for batch in server.batches.values()) == [2, 2, 4, 4, 4, 4]
    assert each_once(store, 20)
    monkeypatch.setattr(batches, "MAX_REQUESTS", 50_000)
    monkeypatch.setattr(batches, "MAX_BYTES", 500)
    await run(cache=False)
    later = list(server.batches.values())[6:]
    assert max(len(server.files[batch.file]) for batch in later) <= 500
    assert [len(batch.requests) for batch in later] == [2] * 5


async def test_separators_of_lines_within_an_answer_do_not_break_it(serve, run, store) -> None:
    text = "one\u2028two\x85three\u2029four"
    serve(answers=lambda model, asked: text)
    await run(ROWS[:2])
    assert answers(store)["output"].tolist() == [text, text]


async def test_looks_grow_rarer(serve, run) -> None:
    server, time_ = serve(polls=12), FakeTime()
    await run(clock=time_.clock())
    assert server.asked("GET /batches") == 12
    assert 60 < sum(time_.slept) < 1000
    assert max(time_.slept) <= 0.3  # a stop is noticed meanwhile


# What goes wrong


async def test_what_failed_has_its_reason_and_resume_asks_that_alone(serve, run, resume, store) -> None:
    server = serve(faults=[None, "filter", "rate_limited", "context", "empty"])
    first = await run()
    assert first.finished
    assert Counter(first.failures) == {"ContentFiltered": 1, "RateLimited": 1, "ContextTooLong": 1, "OutputInvalid": 1}
    assert first.progress.completed == 6
    # The empty one was paid for, those that were refused were not.
    failed = answers(store).query("status == 'failed'").set_index("error_type")["spent_usd"]
    assert failed["OutputInvalid"] > 0
    assert failed["ContentFiltered"] == 0
    second = await resume(run_id=first.run.id)
    assert (second.progress.completed, second.progress.skipped) == (4, 6)
    assert [len(batch.requests) for batch in server.batches.values()] == [10, 4]
    assert each_once(store, 10)


@pytest.mark.parametrize("end", ["expired", "cancelled"])
async def test_a_batch_that_ends_early_keeps_what_it_has(serve, run, resume, store, end: str) -> None:
    server = serve(ends=(end,))
    first = await run()
    assert (first.progress.completed, dict(first.failures)) == (5, {"BatchIncomplete": 5})
    failed = answers(store).query("status == 'failed'")
    assert failed["error"].str.contains(end).all()
    assert failed["spent_usd"].tolist() == [0.0] * 5
    assert (await resume(run_id=first.run.id)).progress.completed == 5
    assert [len(batch.requests) for batch in server.batches.values()] == [10, 5]
    assert each_once(store, 10)


async def test_a_batch_whose_input_is_refused_fails_with_its_reason(serve, run, store) -> None:
    serve(ends=("failed",))
    result = await run()
    assert dict(result.failures) == {"BatchIncomplete": 10}
    assert answers(store)["error"].str.contains(r"not parseable as valid JSON\. \(line 2\)").all()
    assert result.progress.spent_usd == 0


async def test_lines_that_make_no_sense_cost_only_their_own_rows(serve, run, store) -> None:
    def rewrite(lines: list[str]) -> list[str]:
        stranger = json.dumps({"custom_id": "nobody", "response": {"status_code": 200, "body": {}}})
        return [lines[0][:40], lines[1], lines[1], "", "[1]", stranger, *lines[2:]]

    serve(rewrite=rewrite)
    result = await run()
    assert (result.progress.completed, dict(result.failures)) == (9, {"OutputInvalid": 1})
    (failed,) = answers(store).query("status == 'failed'").to_dict("records")
    assert failed["input"] == "question 9"
    assert "does not hold this answer; 2 lines of it could not be read" in failed["error"]
    # It may have been charged: its price is unknown, not nothing.
    assert failed["spent_usd"] != failed["spent_usd"]
    assert result.progress.unpriced == 1


async def test_an_upload_that_is_refused_is_one_sentence_and_nothing_is_paid(serve, run, resume, store) -> None:
    server = serve(on={"POST /files": ["bad_request"]})
    result = await run()
    assert result.stopped == "no batch could be submitted: openai refuses the request (400): top_p must be at most 1"
    assert server.batches == {}
    assert (await resume()).finished
    assert len(server.batches) == 1
    assert each_once(store, 10)


@pytest.mark.parametrize("fault", ["rate_limited", "error", "drop"])
async def test_trouble_on_the_way_is_waited_out(serve, run, store, fault: str) -> None:
    ways = ("POST /files", "POST /batches", "GET /batches", "GET /files")
    server, time_ = serve(on={way: [fault, fault] for way in ways}), FakeTime()
    result = await run(clock=time_.clock())
    assert result.finished
    assert len(server.batches) == 1
    assert each_once(store, 10)
    assert result.progress.spent_usd == pytest.approx(answers(store)["spent_usd"].sum())


async def test_an_endpoint_that_says_when_to_look_again_is_heeded(serve, run) -> None:
    serve(on={"GET /batches": [replace(FAULTS["rate_limited"], headers={"retry-after": "300"})]})
    time_ = FakeTime()
    assert (await run(ROWS[:1], clock=time_.clock())).finished
    assert 300 <= sum(time_.slept) < 400


async def test_a_file_of_answers_that_breaks_off_is_fetched_again_and_nothing_twice(serve, run, store) -> None:
    server = serve(answers=lambda model, text: text * 2000, on={"GET /files": [cut_off(), cut_off()]})
    result = await run()
    assert result.stopped is None
    assert (result.progress.completed, server.asked("GET /files")) == (10, 3)
    assert len(answers(store)) == 10


def cut_off():
    # A mere delay of nothing: the work is done, and half of what came of it is sent.
    return Reply(how="cut", delay_s=0.001)


async def test_an_endpoint_that_stays_away_stops_the_run_and_the_batch_is_fetched_later(
    serve, run, resume, store
) -> None:
    server = serve(on={"GET /batches": ["unavailable"] * PATIENCE})
    result = await run()
    assert result.stopped is not None
    assert result.stopped.startswith("its batch cannot be looked at: openai cannot answer at the moment (503)")
    assert result.progress.waiting == "batch of 10 with OpenAI, 0 done"
    assert (await resume()).finished
    assert len(server.batches) == 1
    assert each_once(store, 10)


async def test_a_lost_answer_to_submitting_does_not_pay_twice(serve, run, store) -> None:
    server = serve(on={"POST /batches": ["drop"]})
    assert (await run()).finished
    assert server.asked("POST /batches") == 1
    assert server.asked("GET /batches?") >= 1
    assert each_once(store, 10)


async def test_a_batch_is_found_among_many_others(serve, run, store) -> None:
    server = serve()
    for _ in range(7):
        server.files["file-x"] = b'{"custom_id": "x", "url": "/v1/chat/completions", "body": {"model": "m"}}'
        server._make(
            {
                "input_file_id": "file-x",
                "endpoint": "/v1/chat/completions",
                "completion_window": "24h",
                "metadata": None,
            }
        )
    batch = next(iter(server.batches))
    found = server.batches.pop(batch)
    api = OpenAIProvider("openai", Settings()).batches()
    server.batches = {batch: found, **server.batches}
    found.metadata = {batches.LABEL: "mine"}
    assert (await api.find("mine", utcnow())).id == batch
    assert await api.find("another", utcnow()) is None


async def test_too_much_at_once_waits_for_room(serve, run, store, monkeypatch) -> None:
    monkeypatch.setattr(batches, "MAX_REQUESTS", 5)
    server = serve(polls=2, ends=("crowded",))
    result = await run()
    assert result.finished
    assert [batch.status for batch in server.batches.values()] == ["failed", "completed", "completed"]
    assert each_once(store, 10)
    assert server.counts["ok"] == 10


async def test_a_batch_too_large_for_the_account_is_asked_in_smaller_ones(serve, run, store) -> None:
    server = serve(ends=("crowded",))
    result = await run()
    assert result.finished
    assert [(batch.status, len(batch.requests)) for batch in server.batches.values()] == [
        ("failed", 10),
        ("completed", 5),
        ("completed", 5),
    ]
    assert each_once(store, 10)
    assert open_batches(store, result.run.id) == []


# Going on with it


async def stopped_while_waiting(server, run, **options):
    stop = asyncio.Event()

    def look(progress) -> None:
        if progress.waiting:
            stop.set()

    server.polls = 10_000_000
    result = await run(stop=stop, progress=look, **options)
    server.polls = 1
    return result


async def test_a_stop_leaves_the_batch_going_and_resume_fetches_it(serve, run, resume, store) -> None:
    server = serve()
    first = await stopped_while_waiting(server, run)
    assert first.stopped == "it was asked to stop"
    assert first.progress.waiting.startswith("batch of 10 with OpenAI, ")
    status = queries.find_run(store)
    assert (status.state, status.counts["batches"][0]["requests"]) == ("stopped", 10)
    words = ["status", "--store", str(store.path)]
    for shown in (CliRunner().invoke(app, words), CliRunner().invoke(app, [*words, status.run.id])):
        assert re.search(r"batch of 10 with OpenAI, \d done", shown.output), shown.output
    second = await resume()
    assert (second.finished, second.progress.completed) == (True, 10)
    assert len(server.batches) == 1
    assert each_once(store, 10)
    assert queries.find_run(store).state == "finished"
    assert "batch of" not in CliRunner().invoke(app, words).output


async def test_rows_added_meanwhile_are_asked_beside_what_is_awaited(serve, run, resume, store) -> None:
    server = serve()
    await stopped_while_waiting(server, run)
    more = [*ROWS[2:], {"id": "new", "input": "new"}]
    second = await resume(more)
    assert second.finished
    # What was taken out of the dataset was paid for, and is kept.
    assert [len(batch.requests) for batch in server.batches.values()] == [10, 1]
    assert each_once(store, 11)


async def test_what_was_written_before_a_crash_is_not_written_again(serve, run, resume, store) -> None:
    server = serve()
    await stopped_while_waiting(server, run)
    (batch,) = open_batches(store, queries.find_run(store).run.id)
    requests = store.load(fl.AIRequest, "SELECT * FROM requests LIMIT 4")
    assert all(request.metadata["batch"] == batch.label for request in requests)
    store.append([fl.AIResponse(request_id=r.id, output="here", model_used=r.model) for r in requests])
    second = await resume()
    assert (second.progress.completed, second.progress.skipped) == (6, 4)
    assert each_once(store, 10)
    assert len(server.batches) == 1


# Money


async def test_a_budget_submits_only_what_cannot_pass_it_and_goes_on_once_the_rest_is_known(serve, run, store) -> None:
    server = serve(answers=lambda model, text: "1234")
    asked = {"max_tokens": 10}
    # At worst 10 tokens out at $1 and 26 in at $0.50 each, so that two fit at a time; then each comes to $2.
    result = await run(variants=[{**ONE[0], "params": asked}], budget_usd=50.0)
    sizes = [len(batch.requests) for batch in server.batches.values()]
    assert result.finished
    assert len(sizes) > 1
    assert sum(sizes) == 10
    assert result.progress.spent_usd <= 50.0

    stopped = await run(variants=[{**ONE[0], "params": asked}], budget_usd=30.0, cache=False)
    assert stopped.stopped is not None
    assert stopped.stopped.startswith("the budget of $30.00 is used up: $8.00 is spent")
    assert stopped.progress.completed == 4


async def test_a_budget_counts_what_an_earlier_part_is_waiting_for(serve, run, resume, store) -> None:
    server = serve(answers=lambda model, text: "1234")
    variants = [{**ONE[0], "params": {"max_tokens": 10}}]
    await stopped_while_waiting(server, run, variants=variants, dataset=ROWS[:2], budget_usd=50.0)
    second = await resume(ROWS[:4])
    assert second.finished
    # The further two had to wait until the first two were known to cost less.
    assert [len(batch.requests) for batch in server.batches.values()] == [2, 2]


async def test_known_answers_are_used_again_before_anything_is_submitted(serve, run, store) -> None:
    server = serve()
    await run(ROWS[:4])
    result = await run()
    assert (result.progress.completed, result.progress.cached) == (10, 4)
    assert [len(batch.requests) for batch in server.batches.values()] == [4, 6]


async def test_the_very_same_question_is_asked_once(serve, run, store) -> None:
    server = serve(faults=[None, None, "error"])
    variants = [*ONE, {"name": "b", "model": "openai:gpt-4o-mini", "fallbacks": ["openai:gpt-4o"]}]
    result = await run(ROWS[:3], variants)
    # The one that failed is asked again for the other variant, as it would be call by call.
    assert [len(batch.requests) for batch in server.batches.values()] == [3, 1]
    assert (result.progress.completed, result.progress.cached, result.progress.failed) == (5, 2, 1)
    assert result.notes == ("fallbacks are not asked in a batch (b): what fails is asked again by `resume`",)


# What cannot be


@pytest.mark.parametrize("model", ["simulated:small", "python:mine.py:answer", "recorded:answers.jsonl"])
async def test_a_provider_without_batches_is_refused_before_anything_is_stored(
    run, store, tmp_path, model: str
) -> None:
    (tmp_path / "mine.py").write_text("def answer(inputs): return 'x'")
    (tmp_path / "answers.jsonl").write_text("")
    with pytest.raises(SettingsError, match=f"the variant 'own' asks {re.escape(model)}, which has no batches"):
        await run(variants=[{"name": "own", "model": model}])
    assert not store.exists()


async def test_an_endpoint_that_knows_no_batches_says_so(run, store, tmp_path) -> None:
    with OpenAIServer() as server:
        table = {"local": ProviderSettings(base_url=server.url)}
        result = await run(
            variants=[{"name": "x", "model": "local:m"}], settings=Settings(base=tmp_path, providers=table)
        )
    assert result.stopped == "no batch could be submitted: local refuses the request (404): No such path /v1/files"


async def test_answers_of_a_batch_cannot_be_recorded_and_executors_are_known(run, store) -> None:
    with pytest.raises(SettingsError, match="cannot be recorded"):
        await run(wrap=lambda provider: provider)
    with pytest.raises(UnknownName, match=r"there is no executor 'bach'.*batch"):
        await run(executor="bach")


async def test_a_missing_variable_is_told_before_anything_is_submitted(serve, run, store) -> None:
    server = serve()
    with pytest.raises(DatasetError, match="needs what this case lacks"):
        await run(variants=[{**ONE[0], "prompt": "{{ inputt }}"}])
    assert server.seen == []
    assert not store.exists()


# Across processes


def start(tmp_path: Path, server: BatchServer, *words: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OPENAI_BASE_URL": server.url, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-m", "feedbackloop", *words, "--store", str(tmp_path / "loop.duckdb")]
    return subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    file = tmp_path / "spec.yaml"
    file.write_text("dataset: rows.jsonl\nvariants: [{name: a, model: 'openai:gpt-4o-mini'}]\nexecutor: batch\n")
    return file


@pytest.mark.parametrize("lost", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_process_killed_after_submitting_leaves_a_batch_that_another_one_fetches(
    serve, spec, store, tmp_path, lost: bool
) -> None:
    """Killed while it waits, or (`lost`) before it was told what its batch is called."""
    server = serve(polls=10_000_000, on={"POST /batches": ["silent"]} if lost else {})
    process = start(tmp_path, server, "run", str(spec))
    until(lambda: server.batches if lost else server.asked("GET /batches/"), 60)
    process.kill()
    process.communicate()
    status = queries.find_run(store)
    assert status.state == "interrupted"
    (batch,) = open_batches(store, status.run.id)
    assert (batch.stage, batch.requests) == ("made" if lost else "submitted", 10)
    server.polls = 1
    told = CliRunner().invoke(app, ["resume", "--store", str(store.path)])
    assert told.exit_code == 0, told.output
    assert len(server.batches) == 1
    assert server.counts["ok"] == 10
    assert each_once(store, 10)


@pytest.mark.slow
def test_ctrl_c_leaves_the_batch_going_and_says_how_to_fetch_it(serve, spec, store, tmp_path) -> None:
    server = serve(polls=10_000_000)
    process = start(tmp_path, server, "run", str(spec), "--batch")
    until(lambda: server.asked("GET /batches/"), 60)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 130, told
    assert "Stopping; the batch goes on by itself." in told
    assert "The batch of 10 with OpenAI, 0 done, goes on by itself." in told
    assert "fetches its answers, and asks only what is missing" in told
    listed = CliRunner().invoke(app, ["status", "--store", str(store.path)]).output
    assert "batch of 10 with OpenAI, 0 done" in listed
    shown = CliRunner().invoke(app, ["status", queries.find_run(store).run.id, "--store", str(store.path)]).output
    assert re.search(r"waiting for +batch of 10 with OpenAI, 0 done", shown)
    server.polls = 1
    done = CliRunner().invoke(app, ["resume", "--store", str(store.path)])
    assert done.exit_code == 0, done.output
    assert len(server.batches) == 1
    assert "batch of" not in CliRunner().invoke(app, ["status", "--store", str(store.path)]).output


async def test_batches_are_found_again_in_every_kind_of_store(serve, settings, place) -> None:
    server, store = serve(), fl.Store(place)
    known = {"settings": settings, "clock": FakeTime().clock()}

    async def run(**options):
        return await fl.run(ROWS, ONE, store=store, executor="batch", **known, **options)

    await stopped_while_waiting(server, run)
    assert (await fl.resume(store, dataset=ROWS, **known)).finished
    assert len(server.batches) == 1
    assert each_once(store, 10)
    store.close()
