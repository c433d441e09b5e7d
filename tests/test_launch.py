"""Runs as processes of their own: started, watched, stopped, killed, gone on with, all through the store."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import yaml
from waiting import until

import feedbackloop as fl
from feedbackloop import queries
from feedbackloop.errors import StoreError
from feedbackloop.identity import utcnow
from feedbackloop.pipeline import launch
from feedbackloop.pipeline.launch import Launched
from feedbackloop.queries import overview
from feedbackloop.settings import Limits
from feedbackloop.spec import RunSpec, TaskSpec, VariantSpec

ROWS = 40
QUICK = VariantSpec(name="quick", model="simulated:a", prompt="Say it briefly: {{ input }}")
SLOW = VariantSpec(name="slow", model="simulated:b", params={"realtime": True, "latency_ms": 150, "latency_sigma": 0})


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> fl.Store:
    monkeypatch.chdir(tmp_path)
    rows = [json.dumps({"id": str(n), "input": f"Question {n}"}) for n in range(ROWS)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    return fl.Store(tmp_path / "loop.duckdb")


def spec(store: fl.Store, *variants: VariantSpec, **more: object) -> RunSpec:
    return RunSpec(
        task=TaskSpec(name="support"), dataset="rows.jsonl", variants=list(variants), base=store.path.parent, **more
    )


def run_id(store: fl.Store, launched: Launched) -> str:
    """The run that a process came to."""
    return str(until(lambda: overview.run_of_process(store, launched.pid, launched.began)))


def state(store: fl.Store, run: str) -> str:
    return queries.find_run(store, run).state


# A run


def test_a_run_goes_on_in_a_session_of_its_own_and_its_spec_and_log_lie_beside_the_store(store) -> None:
    file = launch.save_spec(spec(store, QUICK, SLOW, limits=Limits(concurrency=8)), store.path.parent, "support")
    launched = launch.start(file, store)
    run = run_id(store, launched)
    assert os.getsid(launched.pid) == launched.pid != os.getsid(0)
    assert until(lambda: launched.ended)
    assert launched.error is None
    assert state(store, run) == "finished"
    assert overview.run_figures(store, [run])[run].answers == 2 * ROWS
    assert "is complete" in launched.log.read_text()
    assert sorted(p.name for p in store.path.parent.glob("support-*")) == [file.with_suffix(".log").name, file.name]


def test_what_ends_it_before_there_is_a_run_is_told_as_the_command_line_tells_it(store) -> None:
    broken = spec(store, QUICK.model_copy(update={"prompt": "{{ inputt }}"}))
    launched = launch.start(launch.save_spec(broken, store.path.parent, "broken"), store)
    assert launched.wait(40)
    assert launched.error is not None
    assert "rows.jsonl:1: the prompt of 'quick' needs what this case lacks" in launched.error
    assert overview.run_of_process(store, launched.pid, launched.began) is None
    # The process is gone from the table too, so that nobody takes it for living.
    with pytest.raises(ProcessLookupError):
        os.kill(launched.pid, 0)


def test_a_missing_key_is_named_by_its_variable(store) -> None:
    launched = launch.start(
        launch.save_spec(spec(store, QUICK.model_copy(update={"model": "openai:gpt-4o-mini"})), store.path.parent, "x"),
        store,
    )
    assert launched.wait(40)
    assert launched.error is not None
    assert launched.error.startswith("OPENAI_API_KEY is not set")


def test_stop_and_resume(store) -> None:
    # A run looks every five seconds whether it is asked to stop; this one takes seven.
    slower = SLOW.model_copy(update={"params": {**SLOW.params, "latency_ms": 350}})
    many = spec(store, slower, limits=Limits(concurrency=2))
    launched = launch.start(launch.save_spec(many, store.path.parent, "slow"), store)
    run = run_id(store, launched)
    seen = until(lambda: (live := overview.live_run(store, run)) and live.done >= 2 and live)
    assert seen.total == ROWS
    assert not seen.stopping
    assert seen.rate(utcnow()) > 0
    launch.stop(store, run)
    stopping = overview.live_run(store, run)
    assert stopping is not None
    assert stopping.stopping
    assert until(lambda: launched.ended)
    stopped = queries.find_run(store, run)
    assert (stopped.state, stopped.counts["reason"]) == ("stopped", "it was asked to stop")
    before = overview.run_figures(store, [run])[run].answers
    assert 0 < before < ROWS
    assert launch.cannot_resume(stopped) is None

    again = launch.resume(store, run)
    assert run_id(store, again) == run
    assert until(lambda: again.ended)
    assert again.error is None
    assert state(store, run) == "finished"
    figures = overview.run_figures(store, [run])[run]
    assert (figures.answers, figures.failed) == (ROWS, 0)
    # A later stop belongs to a later part.
    ended = overview.live_run(store, run)
    assert ended is not None
    assert (ended.ended, ended.stopping, ended.skipped) == (True, False, before)


def test_a_killed_run_is_interrupted_at_once_and_can_be_gone_on_with(store) -> None:
    launched = launch.start(
        launch.save_spec(spec(store, SLOW, limits=Limits(concurrency=2)), store.path.parent, "slow"), store
    )
    run = run_id(store, launched)
    until(lambda: (live := overview.live_run(store, run)) and live.done >= 2)
    os.kill(launched.pid, signal.SIGKILL)
    assert until(lambda: launched.ended)
    assert launched.error == "the run's process was ended from outside (signal 9)"
    assert state(store, run) == "interrupted"
    again = launch.resume(store, run)
    assert until(lambda: again.ended)
    assert state(store, run) == "finished"
    assert overview.run_figures(store, [run])[run].answers == ROWS


def test_a_try_is_a_run_of_the_first_rows_that_leaves_no_file(store) -> None:
    launched = launch.attempt(spec(store, QUICK, SLOW), store, rows=3)
    assert launched.wait(40)
    assert launched.error is None
    run = run_id(store, launched)
    assert queries.find_run(store, run).run.settings["limit"] == 3
    frame = overview.answers_of(store, run)
    assert frame["variant"].tolist() == ["quick", "slow"] * 3
    assert frame["external_id"].tolist() == ["0", "0", "1", "1", "2", "2"]
    assert {file.name for file in store.path.parent.iterdir()} <= {"rows.jsonl", "loop.duckdb", "loop.duckdb.lease"}


def test_nothing_can_be_started_where_nothing_can_be_written(tmp_path) -> None:
    with pytest.raises(StoreError, match="cannot be started here"):
        launch.start(tmp_path / "missing" / "spec.yaml", fl.Store(tmp_path / "loop.duckdb"))


# What can be gone on with


def test_what_cannot_be_gone_on_with_from_here_says_why(store) -> None:
    def status(**settings: object) -> queries.RunStatus:
        run = fl.Run(task="t", dataset="d", fingerprint="", variants=[], settings=settings)
        return queries.RunStatus(run, "stopped", [], {}, utcnow())

    assert "made elsewhere" in str(launch.cannot_resume(status(imported="answers.csv")))
    assert "from Python" in str(launch.cannot_resume(status(source=None)))
    assert "from Python" in str(launch.cannot_resume(status(source="rows.jsonl", own_graders=1)))
    assert "not there any more" in str(launch.cannot_resume(status(source="gone.jsonl")))
    assert launch.cannot_resume(status(source="rows.jsonl")) is None


# The spec


def test_a_saved_spec_says_the_same_when_it_is_read(store, tmp_path) -> None:
    long = VariantSpec(
        name="long",
        model="openai:gpt-4o",
        prompt=[
            {"role": "system", "content": "Be kind.\n\nAnd: short; #1"},
            {"role": "user", "content": "{{ input }}"},
        ],
        params={"temperature": 0.2},
        fallbacks=["openai:gpt-4o-mini"],
        exemplars=[{"input": "Hi", "output": "Hello\nyou"}],
    )
    made = spec(store, QUICK, long, repeats=2, budget_usd=1.5, graders=["contains", {"regex": "a: b"}])
    folder = tmp_path / "deep"
    file = launch.save_spec(made, folder, "support")
    read = fl.load_spec(file)
    assert read.dataset == "../rows.jsonl"
    assert read.dataset_path.resolve() == made.dataset_path.resolve()
    assert read.model_copy(update={"dataset": made.dataset, "base": made.base}) == made
    assert [v.record().id for v in read.variants] == [v.record().id for v in made.variants]
    assert launch.save_spec(made, folder, "support") == file
    assert "Be kind.\n" in file.read_text()  # texts of several lines stand as such


def test_a_spec_leaves_out_what_goes_without_saying(store) -> None:
    text = launch.spec_text(spec(store, QUICK))
    assert yaml.safe_load(text) == {
        "task": "support",
        "dataset": "rows.jsonl",
        "variants": [{"name": "quick", "model": "simulated:a", "prompt": "Say it briefly: {{ input }}"}],
    }
