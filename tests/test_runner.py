"""Runs: every cell asked once, kept whatever happens, and only what is missing asked again."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
from fakes import FakeTime, Scripted, answer
from openai_server import OpenAIServer

import feedbackloop as fl
from feedbackloop import queries
from feedbackloop.errors import (
    AuthenticationFailed,
    DatasetError,
    InvalidRequest,
    PromptError,
    ProviderUnavailable,
    SettingsError,
    StoreError,
    UnknownName,
)
from feedbackloop.identity import utcnow
from feedbackloop.importers.mapping import AnswerMapping
from feedbackloop.models import AIRequest, AIResponse, Case, Rating, Run, RunEvent, Variant
from feedbackloop.pipeline import part
from feedbackloop.pipeline.cells import Asking, cells
from feedbackloop.pipeline.engine import Engine
from feedbackloop.settings import Price, ProviderSettings, Settings

ROWS = [{"id": f"r{n}", "input": f"question {n}", "expected": str(n)} for n in range(12)]
TWO = [{"name": "a", "model": "simulated:a"}, {"name": "b", "model": "simulated:b", "prompt": "Briefly: {{ input }}"}]


class Noting:
    """Wraps every provider of a run and keeps what it was asked; `hook` is called before each answer."""

    def __init__(self, hook=None) -> None:
        self.asked: list[AIRequest] = []
        self.hook = hook

    def __call__(self, inner):
        noting = self

        class Wrapped:
            def __getattr__(self, name: str):
                return getattr(inner, name)

            async def complete(self, request: AIRequest) -> AIResponse:
                noting.asked.append(request)
                if noting.hook is not None and (waiting := noting.hook(request)) is not None:
                    await waiting
                return await inner.complete(request)

        return Wrapped()


@pytest.fixture
def store(tmp_path: Path) -> fl.Store:
    return fl.Store(tmp_path / "loop.duckdb")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(base=tmp_path)


@pytest.fixture
def run(store, settings):
    async def run(dataset=ROWS, variants=TWO, **options):
        return await fl.run(dataset, variants, **{"store": store, "settings": settings, **options})

    return run


@pytest.fixture
def resume(store, settings):
    async def resume(run=None, **options):
        return await fl.resume(store, run.run.id if run else None, **{"settings": settings, **options})

    return resume


def write_rows(path: Path, rows=ROWS) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def slow_by(milliseconds: float) -> dict:
    return {"realtime": True, "latency_ms": milliseconds, "latency_sigma": 0.0}


def completed_cells(store: fl.Store) -> Counter:
    rows = store.sql(
        "SELECT run_id, case_id, variant_id, repeat FROM requests JOIN responses ON request_id = requests.id "
        "WHERE status = 'completed'"
    )
    return Counter(rows.itertuples(index=False, name=None))


def events(store: fl.Store) -> list[RunEvent]:
    return store.load(RunEvent, "SELECT * FROM run_events ORDER BY created_at")


def scripted(*script, **figures):
    return lambda provider: Scripted(script, **figures)


# Every cell once


async def test_every_case_is_put_to_every_variant_as_often_as_asked(run, store) -> None:
    noting = Noting()
    result = await run(repeats=3, wrap=noting)
    assert result.finished
    assert (result.progress.total, result.progress.completed, result.progress.done) == (72, 72, 72)
    assert set(completed_cells(store).values()) == {1}
    assert len(completed_cells(store)) == len(noting.asked) == 72
    assert len({request.key for request in noting.asked}) == 72
    answers = store.sql("SELECT * FROM answers")
    assert answers.groupby(["variant", "repeat"]).size().tolist() == [12] * 6
    assert set(answers["external_id"]) == {row["id"] for row in ROWS}
    assert json.loads(answers[answers["external_id"] == "r3"]["expected"].iloc[0]) == "3"


async def test_what_a_run_was_made_from_is_stored(run, store, tmp_path) -> None:
    path = write_rows(tmp_path / "rows.jsonl")
    result = await run(path, limit=5, graders=["json_valid"], budget_usd=3.0, priority=7)
    (kept,) = store.load(Run, "SELECT * FROM runs")
    assert kept == result.run
    assert kept.dataset == "rows.jsonl"
    assert kept.settings["source"] == str(path)
    assert kept.settings["graders"] == ["json_valid"]
    assert (kept.settings["limit"], kept.settings["budget_usd"], kept.settings["priority"]) == (5, 3.0, 7)
    assert set(store.sql("SELECT priority FROM requests")["priority"]) == {7}
    assert [event.kind for event in events(store)] == ["started", "finished"]
    assert events(store)[-1].counts["completed"] == 10


async def test_variants_take_turns_in_time(run) -> None:
    noting = Noting()
    three = [*TWO, {"name": "c", "model": "simulated:c"}]
    await run([{"input": f"q{n}"} for n in range(60)], three, wrap=noting, limits=fl.Limits(concurrency=4))
    names = [request.metadata["variant"] for request in noting.asked]
    for end in range(12, len(names)):
        counts = Counter(names[:end])
        assert max(counts.values()) - min(counts[name] for name in "abc") <= 5
    assert set(names[::3]) == {"a", "b", "c"}  # none of them is always first


async def test_higher_priorities_are_asked_first(run, store) -> None:
    noting = Noting()
    rows = [{"input": f"q{n}", "metadata": {"priority": n % 10 + 1}} for n in range(20)] + [{"input": "plain"}]
    await run(rows, TWO[:1], wrap=noting, limits=fl.Limits(concurrency=1))
    asked = [request.priority for request in noting.asked]
    assert asked == sorted(asked, reverse=True)
    assert len(asked) == 21
    assert noting.asked[asked.index(5)].priority == 5
    assert set(completed_cells(store).values()) == {1}


async def test_a_result_is_printed_as_a_sentence(run) -> None:
    result = await run(limit=3)
    told = f"Run {result.run.id[:8]} is complete: {result.progress.total} answers; spent: $0.00."
    assert repr(result) == told


async def test_a_limit_takes_the_first_rows(run) -> None:
    noting = Noting()
    result = await run(limit=3, wrap=noting)
    assert result.progress.total == 6
    assert {request.input[-1] for request in noting.asked} == {"0", "1", "2"}


async def test_a_repeated_row_is_one_case_and_is_told(run, store) -> None:
    result = await run([*ROWS, ROWS[4], ROWS[4]])
    assert result.progress.total == 24
    assert result.notes == ("records: 2 repeated rows count once (line 13 repeats line 5)",)
    assert len(store.sql("SELECT * FROM cases")) == 12


@pytest.mark.parametrize(
    "dataset",
    [
        pd.DataFrame([{"id": 1, "input": "x"}, {"id": 2, "input": "y"}]),
        [{"id": 1, "input": "x"}, {"id": 2, "input": "y"}],
        (row for row in [{"id": 1, "input": "x"}, {"id": 2, "input": "y"}]),
        ["x", "y"],
    ],
    ids=["frame", "list", "generator", "texts"],
)
async def test_a_dataset_may_come_from_python(run, store, dataset) -> None:
    assert (await run(dataset)).progress.completed == 4
    assert set(store.sql("SELECT input FROM answers")["input"]) == {"x", "y"}


async def test_it_may_be_given_a_store_by_its_path(tmp_path, settings) -> None:
    result = await fl.run(["x"], TWO, store=tmp_path / "by_path.duckdb", settings=settings)
    assert queries.counts(fl.Store(tmp_path / "by_path.duckdb"))["answers"] == result.progress.completed == 2


# While it runs


async def test_answers_are_written_in_batches_while_the_run_goes_on(run, store, monkeypatch) -> None:
    seen, appends = [], []
    append = fl.Store.append

    def counted(self, records, **options):
        records = list(records)
        appends.append(len(records))
        return append(self, records, **options)

    monkeypatch.setattr(fl.Store, "append", counted)
    slow = [{"name": "s", "model": "simulated:s", "params": slow_by(100)}]
    rows = [{"input": f"q{n}"} for n in range(80)]
    other = fl.Store(store.path)
    result = await run(
        rows, slow, limits=fl.Limits(concurrency=10), progress=lambda _: seen.append(queries.counts(other)["answers"])
    )
    assert result.finished
    assert [count for count in seen if 0 < count < 80]
    assert seen == sorted(seen)
    assert seen[-1] == 80
    assert sum(appends) >= 160
    assert len(appends) < 20


async def test_progress_only_grows_and_ends_complete(run) -> None:
    seen: list[fl.Progress] = []
    slow = [{"name": "s", "model": "simulated:s", "params": slow_by(60)}]
    result = await run(
        [{"input": f"q{n}"} for n in range(100)], slow, progress=seen.append, limits=fl.Limits(concurrency=8)
    )
    assert len(seen) >= 3
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert {p.total for p in seen} == {100}
    assert seen[-1].done == 100
    assert (seen[-1].completed, seen[-1].spent_usd) == (result.progress.completed, result.progress.spent_usd)
    assert seen[-1].eta_s == 0
    assert seen[-1].places == {"simulated:s": 8}


async def test_an_error_of_the_progress_callback_is_raised_once_all_in_flight_is_kept(run, resume, store) -> None:
    def broken(progress) -> None:
        raise ZeroDivisionError("no terminal")

    slow = [{"name": "s", "model": "simulated:s", "params": slow_by(100)}]
    noting = Noting()
    with pytest.raises(ZeroDivisionError, match="no terminal"):
        await run(ROWS, slow, progress=broken, limits=fl.Limits(concurrency=2), wrap=noting)
    assert events(store)[-1].kind == "stopped"
    assert "callback failed" in events(store)[-1].counts["reason"]
    assert len(completed_cells(store)) == len(noting.asked) < 12
    assert (await resume(dataset=ROWS)).finished


async def test_signs_of_life_are_stored(run, store, monkeypatch) -> None:
    monkeypatch.setattr(part, "HEARTBEAT_S", 0.2)
    slow = [{"name": "s", "model": "simulated:s", "params": slow_by(150)}]
    await run(ROWS, slow, limits=fl.Limits(concurrency=2))
    kinds = [event.kind for event in events(store)]
    assert kinds[0] == "started"
    assert kinds[-1] == "finished"
    assert set(kinds[1:-1]) == {"heartbeat"}
    assert {event.pid for event in events(store)} == {os.getpid()}
    beats = [event.counts["done"] for event in events(store)]
    assert beats == sorted(beats)


async def test_two_runs_at_once_share_a_store(run, store) -> None:
    one, two = await asyncio.gather(
        run(task="first", cache=False), run([{"input": f"other {n}"} for n in range(30)], task="second")
    )
    assert one.run.id != two.run.id
    assert queries.counts(store)["answers"] == 24 + 60
    assert set(completed_cells(store).values()) == {1}
    assert {status.state for status in queries.runs(store)} == {"finished"}


# Stopping


async def test_a_stop_waits_for_what_is_in_flight_and_keeps_it(run, resume, store) -> None:
    stop = asyncio.Event()
    noting = Noting(lambda request: stop.set() if len(noting.asked) == 9 else None)
    slow = [{**variant, "params": slow_by(20)} for variant in TWO]
    result = await run(ROWS, slow, stop=stop, wrap=noting, limits=fl.Limits(concurrency=4))
    assert not result.finished
    assert result.stopped == "it was asked to stop"
    assert 9 <= len(noting.asked) <= 12
    assert len(completed_cells(store)) == result.progress.completed == len(noting.asked)
    assert queries.runs(store)[0].state == "stopped"
    rest = Noting()
    again = await resume(dataset=ROWS, wrap=rest)
    assert again.finished
    assert (again.progress.skipped, again.progress.done) == (len(noting.asked), 24)
    assert len(rest.asked) == 24 - len(noting.asked)
    assert set(completed_cells(store).values()) == {1}
    assert queries.runs(store)[0].state == "finished"


async def test_a_stop_lets_go_of_what_waits_for_its_turn(run, resume, store) -> None:
    stop = asyncio.Event()
    noting = Noting(lambda request: stop.set())
    result = await run(ROWS, TWO, stop=stop, wrap=noting, limits=fl.Limits(requests_per_minute=6))
    assert result.stopped == "it was asked to stop"
    assert len(noting.asked) == result.progress.completed == len(completed_cells(store)) == 1
    assert (await resume(dataset=ROWS, clock=FakeTime().clock())).finished
    assert set(completed_cells(store).values()) == {1}


async def test_a_stop_that_comes_with_the_last_answer_finds_the_run_finished(run) -> None:
    stop = asyncio.Event()
    noting = Noting(lambda request: stop.set() if len(noting.asked) == 24 else None)
    result = await run(stop=stop, wrap=noting)
    assert result.finished
    assert result.progress.completed == 24


async def test_a_run_that_stops_by_itself_leaves_the_callers_event_alone(run) -> None:
    stop = asyncio.Event()
    result = await run(stop=stop, wrap=scripted(AuthenticationFailed("no")))
    assert not result.finished
    assert not stop.is_set()


async def test_a_cancelled_run_keeps_what_is_done_and_is_known_to_have_stopped(run, resume, store) -> None:
    reached = asyncio.Event()

    def hook(request):
        if request.input == "question 7":
            reached.set()
            return asyncio.Event().wait()
        return None

    task = asyncio.create_task(run(ROWS, TWO[:1], wrap=Noting(hook)))
    await reached.wait()
    while queries.counts(store)["answers"] < 11:
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    last = events(store)[-1]
    assert (last.kind, last.counts["reason"], last.counts["done"]) == ("stopped", "it was interrupted", 11)
    rest = Noting()
    assert (await resume(dataset=ROWS, wrap=rest)).finished
    assert [request.input for request in rest.asked] == ["question 7"]


async def test_another_process_may_ask_it_to_stop_and_the_next_part_goes_on(run, resume, store, monkeypatch) -> None:
    monkeypatch.setattr(part, "HEARTBEAT_S", 0.1)
    slow = [{"name": "s", "model": "simulated:s", "params": slow_by(100)}]

    def ask_to_stop(progress) -> None:
        if progress.done and not asked:
            asked.append(fl.Store(store.path).append([RunEvent(run_id=progress.run_id, kind="stop_asked")]))

    asked: list[int] = []
    result = await run(
        [{"input": f"q{n}"} for n in range(60)], slow, progress=ask_to_stop, limits=fl.Limits(concurrency=2)
    )
    assert result.stopped == "it was asked to stop"
    assert 0 < result.progress.done < 60
    again = await resume(dataset=[{"input": f"q{n}"} for n in range(60)])
    assert again.finished


async def test_a_budget_stops_the_run_before_it_is_exceeded(store, resume, tmp_path) -> None:
    priced = Settings(base=tmp_path, prices={"simulated:a": Price(input_per_million=1000, output_per_million=1000)})
    variant = [{"name": "a", "model": "simulated:a", "params": {"max_tokens": 20}}]
    result = await fl.run(ROWS, variant, store=store, settings=priced, budget_usd=0.1, wrap=scripted("ok"))
    assert result.stopped is not None
    assert result.stopped.startswith("the budget of $0.10 is used up: $")
    assert result.stopped.endswith("feedbackloop resume --max-cost USD")
    assert 0 < result.progress.completed < 12
    assert result.progress.spent_usd <= 0.1
    assert store.sql("SELECT sum(spent_usd) AS s FROM responses")["s"][0] == pytest.approx(result.progress.spent_usd)
    assert not store.sql("SELECT * FROM responses WHERE status = 'failed'").shape[0]
    unchanged = await resume(dataset=ROWS, settings=priced, wrap=scripted("ok"))
    assert (unchanged.progress.completed, unchanged.stopped) == (
        0,
        result.stopped,
    )  # the budget is the run's, not the part's
    again = await resume(dataset=ROWS, settings=priced, budget_usd=9.0, wrap=scripted("ok"))
    assert again.finished
    assert set(completed_cells(store).values()) == {1}
    assert len(completed_cells(store)) == 12


async def test_a_target_that_stays_down_pauses_the_run_instead_of_failing_its_rows(run, resume, store) -> None:
    rows = [{"input": f"q{n}"} for n in range(100)]
    result = await run(
        rows,
        TWO[:1],
        wrap=scripted(ProviderUnavailable("down")),
        clock=FakeTime().clock(),
        limits=fl.Limits(retries=0, concurrency=16),
    )
    assert result.stopped is not None
    assert result.stopped.startswith("simulated:a has kept failing for ")
    assert result.stopped.endswith("go on with `feedbackloop resume` when it is back")
    stored = store.sql("SELECT status, error_type FROM responses")
    assert set(stored["error_type"]) == {"ProviderUnavailable"}
    assert len(stored) == result.progress.failed < 30
    again = await resume(dataset=rows)
    assert again.finished
    assert len(completed_cells(store)) == 100


async def test_a_wrong_key_stops_the_run(run, resume, store) -> None:
    rows = [{"input": f"q{n}"} for n in range(200)]
    result = await run(
        rows, TWO[:1], wrap=scripted(AuthenticationFailed("the key was refused")), limits=fl.Limits(concurrency=4)
    )
    assert result.stopped == "the key was refused; the other rows would meet the same"
    assert result.failures == {"AuthenticationFailed": result.progress.failed}
    assert result.progress.failed <= 8
    assert (await resume(dataset=rows)).finished


HOLDER = """
import fcntl, os, sys
handle = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(handle, fcntl.LOCK_EX)
os.ftruncate(handle, 0)
os.pwrite(handle, f"{os.getpid()} holder.py".encode(), 0)
print("held", flush=True)
sys.stdin.read()
"""


def keep(store: fl.Store) -> subprocess.Popen[bytes]:
    """Another process that keeps the store until its input ends or it is killed."""
    command = [sys.executable, "-c", HOLDER, f"{store.path}.lease"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    return process


async def test_a_store_that_another_process_keeps_ends_the_run_and_resume_completes_it(
    tmp_path, settings, monkeypatch
) -> None:
    store = fl.Store(tmp_path / "loop.duckdb", timeout_s=1)
    rows = [{"input": f"q{n}"} for n in range(200)]
    holders: list[subprocess.Popen] = []

    def hold(progress) -> None:
        if progress.done and not holders:
            holders.append(keep(store))

    slow = [{"name": "s", "model": "simulated:s", "params": slow_by(50)}]
    limits = fl.Limits(concurrency=4)
    try:
        with pytest.raises(
            StoreError, match=r"loop.duckdb has been in use for 1 s by process \d+ \(holder.py\)"
        ) as told:
            await fl.run(rows, slow, store=store, settings=settings, progress=hold, limits=limits)
        assert f"process {holders[0].pid} " in str(told.value)
    finally:
        for holder in holders:
            holder.kill()
            holder.communicate()
    assert queries.runs(store)[0].state != "finished"
    some = len(completed_cells(store))
    assert 0 < some < 200
    # Its end could not be written and its process lives, since that is us: only a missing heartbeat tells.
    with pytest.raises(StoreError, match="still going on"):
        await fl.resume(store, dataset=rows, settings=settings)
    monkeypatch.setattr("feedbackloop.queries.states.HEARTBEAT_LATE", timedelta(0))
    result = await fl.resume(store, dataset=rows, settings=settings)
    assert result.finished
    assert (result.progress.skipped, len(completed_cells(store))) == (some, 200)
    assert set(completed_cells(store).values()) == {1}


async def hold_for(store: fl.Store, settings: Settings, seconds: float) -> None:
    """A run whose store another process keeps for so long in the middle of it."""
    count = int(seconds / 0.05) * 4 + 200
    rows = [{"input": f"q{n}"} for n in range(count)]
    held: list[float] = []
    meanwhile: list[int] = []
    holders: list[subprocess.Popen] = []

    def hold(progress) -> None:
        if progress.done and not holders:
            holders.append(keep(store))
            held.append(time.monotonic())
        if len(held) == 1:
            meanwhile.append(progress.done)
            if time.monotonic() - held[0] >= seconds:
                holders[0].communicate()  # its input ends, and so does it
                held.append(time.monotonic())

    slow = [{"name": "s", "model": "simulated:s", "params": slow_by(50)}]
    noting = Noting()
    result = await fl.run(
        rows, slow, store=store, settings=settings, progress=hold, limits=fl.Limits(concurrency=4), wrap=noting
    )
    assert len(held) == 2
    assert result.finished
    assert meanwhile[-1] > meanwhile[0]  # it went on asking
    assert len(noting.asked) == count == len(completed_cells(store))
    assert set(completed_cells(store).values()) == {1}
    assert queries.runs(store)[0].state == "finished"


async def test_a_store_that_is_kept_for_a_while_is_waited_for_and_nothing_is_lost(store, settings) -> None:
    await hold_for(store, settings, 1.0)


@pytest.mark.slow
async def test_a_store_that_is_kept_for_twenty_seconds_is_waited_for_and_nothing_is_lost(store, settings) -> None:
    await hold_for(store, settings, 20.0)


# Before anything is asked


async def test_a_missing_variable_costs_nothing_and_makes_no_store(store, tmp_path) -> None:
    with OpenAIServer() as server:
        settings = Settings(base=tmp_path, providers={"fake": ProviderSettings(base_url=server.url)})
        variants = [{"name": "v", "model": "fake:m", "prompt": "{{ input }} in {{ tone }}"}]
        rows = [*({**row, "tone": "kind"} for row in ROWS), {"input": "the last one has no tone"}]
        path = write_rows(tmp_path / "rows.jsonl", rows)
        with pytest.raises(DatasetError, match=r"rows.jsonl:13: the prompt of 'v' needs .*'tone' is undefined"):
            await fl.run(path, variants, store=store, settings=settings)
        assert not server.counts
    assert not store.exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"variants": []}, "no variant"),
        ({"variants": [TWO[0], TWO[0]]}, "two variants are called 'a'"),
        ({"variants": [TWO[0], {**TWO[0], "name": "again"}]}, "'a' and 'again' are the same but for their names"),
        ({"variants": [{"name": "x", "model": "simulated:x", "promt": "{{ input }}"}]}, "did you mean 'prompt'"),
        ({"variants": [{"name": "x", "model": "nobody:x"}]}, "nobody"),
        ({"graders": ["contians"]}, "did you mean 'contains'"),
        ({"repeats": 0}, "repeats is 0; it must be at least 1"),
        ({"limit": 0}, "limit is 0; it must be at least 1"),
        ({"priority": 11}, "priority is 11; it must be from 1 to 10"),
        ({"budget_usd": 0}, "budget_usd is 0; it must be more than 0"),
        ({"dataset": []}, "no rows"),
        ({"dataset": "nowhere.jsonl"}, "no such file"),
    ],
)
async def test_what_cannot_work_is_told_before_anything_is_stored(run, store, options, sentence: str) -> None:
    with pytest.raises((SettingsError, DatasetError, UnknownName), match=sentence):
        await run(**options)
    assert not store.exists()


# Failures


async def test_a_failed_row_is_stored_with_its_reason_and_asked_again_by_resume(run, resume, store) -> None:
    def flaky(request: AIRequest) -> AIResponse:
        if request.input.endswith(("3", "8")):
            raise InvalidRequest("not this one")
        return answer(request, "fine")

    result = await run(variants=TWO[:1], wrap=scripted(flaky))
    assert result.finished
    assert (result.progress.completed, result.progress.failed) == (10, 2)
    assert result.failures == {"InvalidRequest": 2}
    failed = queries.failures(store, result.run.id)
    assert failed.to_dict("records") == [
        {"error_type": "InvalidRequest", "variant": "a", "failed": 2, "example": "not this one"}
    ]
    rest = Noting()
    again = await resume(result, dataset=ROWS, wrap=rest)
    assert sorted(request.input for request in rest.asked) == ["question 3", "question 8"]
    assert (again.progress.skipped, again.progress.completed) == (10, 2)
    answers = store.sql("SELECT status, count(*) AS n FROM answers GROUP BY status")
    assert answers.to_dict("records") == [{"status": "completed", "n": 12}]


async def test_what_graders_say_is_stored_and_their_failures_are_ratings(run, store) -> None:
    def length(case, response) -> int:
        return len(response.output)

    async def broken(case, response):
        raise RuntimeError("no dictionary")

    await run(variants=TWO[:1], graders=[{"contains": "answer"}, length, broken])
    ratings = store.load(Rating, "SELECT * FROM ratings")
    assert len(ratings) == 36
    by_metric = {metric: [r for r in ratings if r.metric == metric] for metric in ("contains", "length", "broken")}
    assert {r.value for r in by_metric["contains"]} == {1.0}
    assert all(r.value and r.value > 10 for r in by_metric["length"])
    assert {(r.value, r.error) for r in by_metric["broken"]} == {(None, "RuntimeError: no dictionary")}
    assert {r.rater_kind for r in ratings} == {"grader"}
    assert all("@" in r.rater for r in ratings)


async def test_an_answer_is_never_stored_without_its_case(run, store) -> None:
    reached = asyncio.Event()

    def hook(request):
        if request.metadata["variant"] == "a":
            reached.set()
            return asyncio.Event().wait()  # never answers, and so never brings the case along
        return None

    task = asyncio.create_task(run(wrap=Noting(hook)))
    await reached.wait()
    while queries.counts(store)["answers"] < 12:
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    answers = store.sql("SELECT variant, external_id FROM answers WHERE status = 'completed'")
    assert set(answers["variant"]) == {"b"}
    # What was given up is on record too, and has its case.
    assert store.sql("SELECT count(*) AS n FROM answers WHERE external_id IS NULL")["n"].item() == 0
    assert set(answers["external_id"]) == {row["id"] for row in ROWS}


# Going on


async def test_resume_asks_only_what_was_added(run, resume, tmp_path) -> None:
    path = write_rows(tmp_path / "rows.jsonl")
    first = await run(path)
    assert (await resume(first, wrap=(none := Noting()))).notes == ()
    assert not none.asked
    write_rows(path, [{"input": "brand new"}, *ROWS])
    added = Noting()
    result = await resume(first, wrap=added)
    assert [request.input for request in added.asked] == ["brand new", "Briefly: brand new"]
    assert result.notes == ("rows.jsonl has changed since the run began: only what is new or changed is asked",)
    assert (result.progress.total, result.progress.skipped) == (26, 24)


async def test_resume_asks_again_where_a_variable_changed(run, resume, store, tmp_path) -> None:
    path = write_rows(tmp_path / "rows.jsonl")
    first = await run(path)
    write_rows(path, [{**row, "input": "another question"} if row["id"] == "r5" else row for row in ROWS])
    changed = Noting()
    await resume(first, wrap=changed)
    assert sorted(request.input for request in changed.asked) == ["Briefly: another question", "another question"]
    assert set(completed_cells(store).values()) == {1}


async def test_resume_asks_a_function_again_once_its_source_is_edited(run, resume, store, tmp_path) -> None:
    source = tmp_path / "my_app.py"
    source.write_text("def answer(inputs):\n    return 'old ' + inputs['input']\n")
    variants = [{"name": "mine", "model": "python:my_app.py:answer"}, TWO[0]]
    first = await run(variants=variants)
    source.write_text("def answer(inputs):\n    return 'new and longer ' + inputs['input']\n")
    changed = Noting()
    result = await resume(first, dataset=ROWS, wrap=changed)
    assert {request.metadata["variant"] for request in changed.asked} == {"mine"}
    assert (len(changed.asked), result.progress.skipped) == (12, 12)
    now = store.sql("SELECT output FROM answers WHERE variant = 'mine'")["output"]
    assert len(now) == 12
    assert all(output.startswith("new and longer question") for output in now)


async def test_resume_goes_on_with_the_graders_limit_and_repeats_of_the_run(run, resume, store, tmp_path) -> None:
    path = write_rows(tmp_path / "rows.jsonl")
    stop = asyncio.Event()
    noting = Noting(lambda request: stop.set() if len(noting.asked) == 5 else None)
    options = {"graders": [{"contains": "answer"}], "limit": 6, "repeats": 2, "limits": fl.Limits(concurrency=1)}
    await run(path, stop=stop, wrap=noting, **options)
    result = await resume()
    assert result.finished
    assert result.progress.total == 24
    assert len(store.sql("SELECT * FROM ratings")) == 24


async def test_what_came_from_python_must_be_given_again(run, resume) -> None:
    first = await run(graders=[lambda case, response: True])
    with pytest.raises(SettingsError, match=r"dataset of run .* give it again"):
        await resume(first)
    with pytest.raises(SettingsError, match="graders given from Python; give them again"):
        await resume(first, dataset=ROWS)
    assert (await resume(first, dataset=ROWS, graders=[])).finished


async def test_a_run_that_goes_on_is_not_resumed(run, store, resume) -> None:
    going = asyncio.Event()
    task = asyncio.create_task(
        run(wrap=Noting(lambda request: going.set() or asyncio.Event().wait()), limits=fl.Limits(concurrency=1))
    )
    await going.wait()
    with pytest.raises(StoreError, match=r"still going on; stop it first"):
        await resume(dataset=ROWS)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_of_two_that_go_on_with_a_run_at_once_one_is_told_that_it_goes_on(run, resume, store) -> None:
    stop = asyncio.Event()
    noting = Noting(lambda request: stop.set() if len(noting.asked) == 5 else None)
    await run(stop=stop, wrap=noting, limits=fl.Limits(concurrency=1))
    both = await asyncio.gather(resume(dataset=ROWS), resume(dataset=ROWS), return_exceptions=True)
    refused = [result for result in both if isinstance(result, StoreError)]
    assert [str(error).endswith("is still going on; stop it first, or wait for its end") for error in refused] == [True]
    assert len(store.sql("SELECT id FROM responses")) == 24
    assert queries.runs(store)[0].state == "finished"


async def test_an_interrupted_run_shows_what_is_stored_and_not_its_last_sign_of_life(run, store) -> None:
    result = await run(wrap=scripted("fine"))
    store.append(
        [
            RunEvent(
                run_id=result.run.id,
                kind="started",
                counts={"total": 24, "done": 0},
                created_at=utcnow() + timedelta(seconds=1),
            )
        ]
    )
    later = utcnow() + timedelta(minutes=5)
    status = queries.runs(store, now=later)[0]
    assert status.state == "interrupted"
    assert (status.counts["total"], status.counts["done"], status.counts["completed"]) == (24, 24, 24)


async def test_an_imported_run_is_not_resumed(store, tmp_path) -> None:
    file = tmp_path / "answers.csv"
    file.write_text("input,terse,long\nWhat is 2+2?,4,It is four.\nAnd 3+3?,6,It is six.\n")
    imported = fl.import_answers(file, store, mapping=AnswerMapping(answers=("terse", "long")))
    with pytest.raises(StoreError, match="holds answers made elsewhere; import them again"):
        await fl.resume(store, imported.run_id, settings=Settings())


async def test_without_an_unfinished_run_there_is_nothing_to_go_on_with(run, store, resume) -> None:
    await run()
    with pytest.raises(StoreError, match="all runs are finished"):
        await resume()
    with pytest.raises(StoreError, match="there is no run 'zzz'"):
        await fl.resume(store, "zzz", settings=Settings())


# The cache


async def test_the_same_question_is_not_paid_twice(run, store, tmp_path) -> None:
    priced = Settings(base=tmp_path, prices={"simulated:a": Price(input_per_million=1000, output_per_million=1000)})
    first = await run(variants=TWO[:1], settings=priced, wrap=scripted("paid", latency_ms=123.0))
    assert first.progress.spent_usd == pytest.approx(12 * 0.015)
    second = await run(variants=TWO[:1], settings=priced, wrap=(none := Noting()))
    assert not none.asked
    assert (second.progress.completed, second.progress.cached, second.progress.spent_usd) == (12, 12, 0.0)
    assert second.progress.unpriced == 0
    stored = store.load(
        AIResponse,
        "SELECT responses.* FROM responses JOIN requests ON requests.id = request_id WHERE run_id = ?",
        [second.run.id],
    )
    assert {(r.cached, r.output, r.latency_ms, r.spent_usd, tuple(r.attempts)) for r in stored} == {
        (True, "paid", 123.0, 0.0, ())
    }
    assert [r.cost_usd for r in stored] == pytest.approx([0.015] * 12)
    summary = queries.summary(store, second.run.id)
    assert summary["cached"].tolist() == [12]
    assert summary["latency_p50_ms"].isna().all()
    assert len({r.id for r in stored}) == 12


async def test_a_third_run_reuses_what_was_asked_and_not_what_was_reused(run, store) -> None:
    for _ in range(3):
        await run()
    assert store.sql("SELECT cached, count(*) AS n FROM responses GROUP BY cached ORDER BY cached")["n"].tolist() == [
        24,
        48,
    ]


async def test_without_the_cache_everything_is_asked_anew(run) -> None:
    await run()
    noting = Noting()
    result = await run(cache=False, wrap=noting)
    assert (len(noting.asked), result.progress.cached) == (24, 0)


async def test_failures_and_other_parameters_are_not_reused(run) -> None:
    await run(variants=TWO[:1], wrap=scripted(InvalidRequest("no")))
    noting = Noting()
    await run(variants=TWO[:1], wrap=noting)
    assert len(noting.asked) == 12
    other = Noting()
    await run(variants=[{**TWO[0], "params": {"seed": 5}}], wrap=other)
    assert len(other.asked) == 12


# What the store learns


async def test_a_corrected_expected_is_a_new_row_of_the_same_case(run, store) -> None:
    await run()
    assert len(store.sql("SELECT * FROM cases")) == 12
    await run()
    assert len(store.sql("SELECT * FROM cases")) == 12
    await run([{**row, "expected": "corrected"} if row["id"] == "r2" else row for row in ROWS])
    assert len(store.sql("SELECT * FROM cases")) == 13
    assert store.sql("SELECT DISTINCT id FROM cases").shape[0] == 12
    now = store.sql("SELECT DISTINCT expected FROM answers WHERE external_id = 'r2'")
    assert [json.loads(value) for value in now["expected"]] == ["corrected"]
    await run([{**row, "metadata": {"n": 1.5, "text": 'a "quoted" ünïcode'}} for row in ROWS])
    await run([{**row, "metadata": {"n": 1.5, "text": 'a "quoted" ünïcode'}} for row in ROWS])
    assert len(store.sql("SELECT * FROM cases")) == 13 + 12


async def test_a_renamed_variant_is_the_same_variant_under_its_new_name(run, store) -> None:
    await run()
    await run(variants=[{**TWO[0], "name": "terse"}, TWO[1]])
    assert len(store.sql("SELECT * FROM variants")) == 3
    assert {variant.name for variant in queries.variants(store)} == {"terse", "b"}


async def test_a_task_is_written_when_it_is_new_or_has_changed(run, store) -> None:
    await run(task="support")
    await run(task="support")
    await run(task=fl.Task(name="support", question="Which is kinder?"))
    await run(task="support")
    assert len(store.sql("SELECT * FROM tasks")) == 2
    assert queries.task(store, "support").question == "Which is kinder?"


async def test_a_long_resume_lets_others_work_meanwhile(run, resume, monkeypatch) -> None:
    rows = [{"input": f"q{n}"} for n in range(2000)]
    first = await run(rows, TWO[:1], cache=False)
    turns = 0
    work = part.Part._work

    async def beside_others(self) -> None:
        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        await work(self)
        task.cancel()

    monkeypatch.setattr(part.Part, "_work", beside_others)
    result = await resume(first, dataset=rows)
    assert result.progress.skipped == 2000
    assert turns >= 2000 / 64


def test_turns_rotate_with_cases_and_repeats() -> None:
    engine = Engine(Settings())
    asking = [Asking.of(Variant(**variant), engine) for variant in TWO]
    cases = [Case(inputs={"input": str(n)}) for n in range(2)]
    made = cells(cases, asking, repeats=2, priority=5, priorities=[None])
    assert "".join(cell.request.metadata["variant"] for cell in made) == "abbabaab"


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        (
            "Answer: {input}",
            "the prompt of 'a' uses no variable, so every case gets the same text; a variable is written {{ input }}",
        ),
        ("prompts/a.txt", "the prompt of 'a' is 'prompts/a.txt', which looks like a file's name"),
        ("mine", "the prompt of 'a' is 'mine', which looks like a file's name"),
        ([{"role": "system", "content": "Be brief."}], "uses no variable"),
    ],
)
async def test_a_prompt_that_puts_the_same_to_every_case_is_refused_before_anything_is_asked(
    run, store, tmp_path, prompt, said
) -> None:
    (tmp_path / "mine").write_text("{{ input }}")
    variants = [{"name": "a", "model": "simulated:a", "prompt": prompt}, TWO[1]]
    noting = Noting()
    with pytest.raises(PromptError, match=re.escape(said)):
        await run(variants=variants, wrap=noting)
    assert not noting.asked
    assert not store.exists()
    # One row may well be asked a text of its own.
    assert (await run(variants=variants, limit=1)).finished


async def test_conversations_differ_where_the_prompt_does_not(run) -> None:
    rows = [{"messages": [{"role": "user", "content": f"Hi {n}"}]} for n in range(3)]
    assert (
        await run(rows, [{"name": "a", "model": "simulated:a", "prompt": [{"role": "system", "content": "S"}]}])
    ).finished


async def test_a_variable_that_the_cases_have_is_named(run) -> None:
    with pytest.raises(PromptError, match=re.escape("a variable is written {{ question }}")):
        await run(
            [{"my id": "1", "question": "x"}, {"question": "y"}],
            [{"name": "a", "model": "simulated:a", "prompt": "Go"}],
        )


async def test_failures_are_not_told_as_answers(run) -> None:
    down = {"name": "a", "model": "simulated:a", "params": {"failure_rate": 1, "failures": {"ContentFiltered": 1}}}
    assert "is complete: 12 answers, 12 failed; spent" in repr(
        await run(variants=[down, TWO[1]], limits=fl.Limits(retries=0))
    )


# A run that was gone on with, as a whole


async def test_a_resume_that_asks_little_keeps_the_failures_in_sight(run, resume, store) -> None:
    """What failed and was not asked again has failed still, and what was answered is answered."""
    down = {"failure_rate": 0.5, "failures": {"ContentFiltered": 1}}
    first = await run(variants=[{**TWO[0], "params": down}, TWO[1]], limits=fl.Limits(retries=0))
    failed = first.progress.failed
    assert 0 < failed < 12
    stop = asyncio.Event()
    stop.set()
    again = await resume(first, dataset=ROWS, stop=stop)
    assert (again.progress.done, again.progress.total, again.progress.failed) == (24, 24, failed)
    assert (again.progress.asked, again.progress.completed, again.stopped) == (0, 0, "it was asked to stop")
    counts = queries.find_run(store).counts
    assert (counts["done"], counts["completed"], counts["failed"]) == (24, 24 - failed, failed)
    # The first sign of life says it already, before anything is answered.
    started = [event.counts for event in events(store) if event.kind == "started"][-1]
    assert (started["total"], started["done"], started["failed"]) == (24, 24, failed)


async def test_a_run_that_is_gone_on_with_for_fewer_rows_keeps_the_others(run, resume, store) -> None:
    first = await run()
    more = await resume(first, dataset=ROWS, repeats=2, limit=5)
    assert (more.progress.total, more.progress.done, more.progress.asked) == (24 + 10, 24 + 10, 10)
    counts = queries.find_run(store).counts
    assert (counts["done"], counts["total"], counts["completed"]) == (34, 34, 34)


async def test_failures_that_are_answered_at_last_are_failures_no_more(run, resume, store) -> None:
    fails = [InvalidRequest("no"), InvalidRequest("no")]
    noting = Noting(lambda _: _raise(fails.pop()) if fails else None)
    first = await run(variants=TWO[:1], wrap=noting, limits=fl.Limits(concurrency=1, retries=0))
    assert first.progress.failed == 2
    seen = []
    second = await resume(first, dataset=ROWS, progress=seen.append)
    assert (second.progress.done, second.progress.failed, second.progress.asked) == (12, 0, 2)
    assert all(progress.done <= progress.total for progress in seen)
    assert "is complete: 12 answers; spent" in repr(second)


def _raise(error: Exception) -> None:
    raise error
