"""The demo: made once, in the past, with the story that data/README.md tells."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from feedbackloop import Store, load_spec, queries
from feedbackloop.bundled import bundled
from feedbackloop.demo import TASK, TITLES, make_demo
from feedbackloop.errors import FeedbackLoopError

NOW = datetime(2026, 3, 30, 12, tzinfo=UTC)


@pytest.fixture
async def made(place: str):
    store = Store(place)
    return store, await make_demo(store, now=NOW)


async def test_three_runs_answer_all_cases_at_their_time(made) -> None:
    store, result = made
    assert len(TITLES) == len(set(result.runs)) == 3
    runs = {status.run.id: status for status in queries.runs(store, TASK)}
    for run_id, days in zip(result.runs, (42, 24, 8), strict=True):
        assert runs[run_id].state == "finished"
        times = store.sql(
            "SELECT min(created_at) AS first, max(created_at) AS last, count(DISTINCT created_at) AS n FROM answers WHERE run_id = ?",
            [run_id],
        )
        began = NOW - timedelta(days=days)
        assert began < times["first"].iloc[0] < times["last"].iloc[0] < began + timedelta(hours=1)
        assert times["n"].iloc[0] == 144
    counts = queries.counts(store)
    assert (counts["runs"], counts["cases"], counts["answers"] + counts["failed"]) == (3, 48, 432)


async def test_every_vote_of_the_file_counts_and_is_after_its_answers(made) -> None:
    store, _ = made
    lines = (bundled("data") / "demo" / "votes.jsonl").read_text().splitlines()
    votes = store.sql("SELECT * FROM votes")
    assert len(votes) == len(lines)
    assert votes["blind"].all()
    assert (votes["created_at"] > votes["answered_at"]).all()
    assert votes["created_at"].max() < NOW
    issues = sum(len(json.loads(line).get("issues", [])) for line in lines)
    assert len(store.sql("SELECT * FROM ratings WHERE metric = 'issue'")) == issues
    task = queries.task(store, TASK)
    assert task is not None
    assert set(store.sql("SELECT DISTINCT label FROM ratings WHERE metric = 'issue'")["label"]) <= set(task.issues)


async def test_one_prompt_changed_before_the_third_run(made) -> None:
    store, result = made
    first, second, third = (
        {v.name: v for v in queries.variants(store, queries.find_run(store, r).run.variants)} for r in result.runs
    )
    assert {name: v.id for name, v in first.items()} == {name: v.id for name, v in second.items()}
    assert [name for name in third if third[name].id != second[name].id] == ["steps"]
    assert "at most six lines" in str(third["steps"].prompt)
    assert third["steps"].created_at > NOW - timedelta(days=9)


async def test_the_story_shows(made) -> None:
    store, result = made
    before, after = (queries.summary(store, run).set_index("variant") for run in (result.runs[0], result.runs[2]))
    assert before.loc["terse", "wins"] >= before.loc["steps", "wins"]
    assert after.loc["steps", "wins"] > 2 * after.loc["steps", "losses"]
    assert before["checks"]["careless"] < 0.5
    assert before["checks"]["steps"] > 0.9
    failures = {one["error_type"] for run in result.runs for one in queries.failures(store, run).to_dict("records")}
    assert failures == {"ContentFiltered", "OutputInvalid", "ProviderTimeout"}


async def test_it_is_made_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "demo.duckdb")
    first = await make_demo(store)
    assert first.made
    version = store.version
    again = await make_demo(store)
    assert not again.made
    assert again.runs == first.runs
    assert store.version == version


async def test_an_interrupted_demo_is_completed(tmp_path: Path) -> None:
    store = Store(tmp_path / "demo.duckdb")

    class Cut(Exception):
        pass

    def cut(progress) -> None:
        if queries.counts(store)["runs"] == 2 and progress.done:
            raise Cut

    with pytest.raises(Cut):
        await make_demo(store, now=NOW, progress=cut)
    result = await make_demo(store, now=NOW)
    assert result.made
    assert queries.counts(store) | {"ratings": 0} == queries.counts(store) | {"runs": 3, "votes": 166, "ratings": 0}
    assert (
        queries.find_run(store, result.runs[0]).run.created_at < queries.find_run(store, result.runs[1]).run.created_at
    )


async def test_it_leaves_what_else_is_in_the_store(tmp_path: Path) -> None:
    from feedbackloop import run

    store = Store(tmp_path / "mine.duckdb")
    mine = await run([{"input": "x"}], [{"name": "a", "model": "simulated:x"}], store=store, task="mine")
    await make_demo(store)
    assert [status.run.id for status in queries.runs(store, "mine")] == [mine.run.id]


@pytest.mark.parametrize("name", ["spec.yaml", "spec-answer-first.yaml"])
def test_its_specs_are_specs(name: str) -> None:
    spec = load_spec(bundled("data") / "demo" / name)
    assert [variant.name for variant in spec.variants] == ["terse", "steps", "careless"]
    assert spec.dataset_path.is_file()


def test_what_is_not_bundled_is_an_error() -> None:
    with pytest.raises(FeedbackLoopError, match=r"nothing\.txt"):
        bundled("nothing.txt")


def test_a_neighbour_in_site_packages_does_not_pass_for_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "feedbackloop"
    (tmp_path / "data").mkdir()
    monkeypatch.setattr("feedbackloop.bundled._PACKAGE", package)
    with pytest.raises(FeedbackLoopError):
        bundled("data")
    (package / "_bundled" / "data").mkdir(parents=True)
    assert bundled("data") == package / "_bundled" / "data"
