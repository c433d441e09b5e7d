"""What Home and Runs ask of the store: counts, figures, how far a live run is."""

from __future__ import annotations

import shutil
from datetime import timedelta

import pytest

import feedbackloop as fl
from feedbackloop import queries
from feedbackloop.demo import TASK
from feedbackloop.identity import utcnow
from feedbackloop.models import AIRequest, AIResponse, Comparison, Decision, Policy, ProcessingStatus, Run, RunEvent
from feedbackloop.queries import overview

NOW = utcnow()


@pytest.fixture
def store(tmp_path) -> fl.Store:
    return fl.Store(tmp_path / "loop.duckdb")


@pytest.fixture
def demo(demo_file, tmp_path) -> fl.Store:
    return fl.Store(shutil.copy(demo_file, tmp_path / "demo.duckdb"))


def cell(run: str | None, case: str, *, failed: bool = False, minutes: float = 0, **response: object) -> list[object]:
    at = NOW + timedelta(minutes=minutes)
    request = AIRequest(input="?", task="t", run_id=run, case_id=case, variant_id="v", model="m:x", created_at=at)
    values = {"spent_usd": 0.5, "latency_ms": None if failed else 100.0, "output_tokens": 10, **response}
    answer = AIResponse(
        request_id=request.id,
        output="" if failed else "!",
        model_used="none" if failed else "m:x",
        status=ProcessingStatus.FAILED if failed else ProcessingStatus.COMPLETED,
        created_at=at,
        **values,
    )
    return [request, answer]


def event(run: str, kind: str, minutes: float = 0, **counts: object) -> RunEvent:
    return RunEvent(run_id=run, kind=kind, pid=1, counts=counts, created_at=NOW + timedelta(minutes=minutes))


def vote(id_: str, winner: str | None = "a", **more: object) -> Comparison:
    fixed = {"task": "t", "case_id": "c", "response_a": "x", "response_b": "y", "variant_a": "v", "variant_b": "w"}
    return Comparison(id=id_, winner=winner, rater="Anna", rater_kind="human", **fixed, **more)


def test_the_loop_counts_as_the_views_do(demo) -> None:
    found, known = overview.loop(demo, TASK), queries.counts(demo)
    assert (found.answers, found.failed, found.votes) == (known["answers"], known["failed"], known["votes"])
    assert (found.decisions, found.live) == (0, 0)
    assert overview.loop(demo, "another") == overview.Loop(0, 0, 0, 0, 0)
    lately = overview.loop(demo, TASK, utcnow() - timedelta(days=10))
    assert (lately.answers, lately.failed) == (144, 0)
    assert 0 < lately.votes < found.votes


def test_a_cell_counts_once_however_often_it_was_asked(store) -> None:
    store.append(
        [
            Run(id="r", task="t", dataset="d", fingerprint="", variants=["v"]),
            event("r", "started"),
            event("r", "started", 1),
            *cell("r", "1", failed=True),
            *cell("r", "1", minutes=2),
            *cell("r", "2", failed=True),
            *cell("r", "2", failed=True, minutes=2),
            *cell("r", "3"),
            *cell("r", "3", minutes=2, cached=True, spent_usd=0.0),
            *cell(None, "4"),
            *cell(None, "4", spent_usd=None),
        ]
    )
    loop = overview.loop(store, "t")
    assert (loop.answers, loop.failed) == (4, 1)
    counts = queries.counts(store)
    assert (counts["answers"], counts["failed"]) == (4, 1)
    assert overview.run_figures(store, ["r", "none"]) == {"r": overview.RunFigures(2, 1, 1, 2.5, 0)}
    (row,) = queries.summary(store, "r").to_dict("records")
    # What a later answer replaced was paid for too.
    assert (row["answers"], row["failed"], row["cached"], row["spent_usd"]) == (2, 1, 1, 2.5)
    (failure,) = queries.failures(store, "r").to_dict("records")
    assert failure["failed"] == 1


def test_votes_that_were_taken_back_do_not_count_and_live_is_what_the_newest_policy_says(store) -> None:
    store.append(
        [
            vote("1"),
            vote("2"),
            vote("3", None, supersedes="2"),
            vote("4", "b", supersedes="1"),
            Decision(task="t", baseline="v", candidate="w", goal="better", verdict="keep", reason="worse"),
            Policy(task="t", weights={"*": {"v": 1.0}}, created_at=NOW - timedelta(days=1)),
            Policy(task="t", weights={"*": {"v": 0.9, "w": 0.1, "x": 0.0}, "de": {"w": 1.0}}, created_at=NOW),
        ]
    )
    assert overview.loop(store, "t") == overview.Loop(answers=0, failed=0, votes=1, decisions=1, live=2)
    (row,) = overview.voting(store, "t").to_dict("records")
    assert (row["rater"], row["votes"]) == ("Anna", 1)


def test_figures_of_runs_are_those_of_their_reports(demo) -> None:
    ids = [status.run.id for status in queries.runs(demo)]
    found = overview.run_figures(demo, ids)
    for run_id in ids:
        summary = queries.summary(demo, run_id)
        told = found[run_id]
        assert (told.answers, told.failed) == (summary["answers"].sum(), summary["failed"].sum())
        assert told.unpriced == summary["unpriced"].sum()
        assert told.spent_usd == pytest.approx(summary["spent_usd"].sum())
        assert told.spent_usd == pytest.approx(queries.spent(demo, run_id))
    latency = overview.latency(demo, ids[0])
    assert latency is not None
    assert 0 < latency.p50_ms < latency.p95_ms
    assert overview.latency(demo, "none") is None
    assert overview.run_figures(demo, []) == {}


def test_a_live_run_is_its_last_sign_of_life_and_what_came_since(store) -> None:
    assert overview.live_run(store, "r") is None
    store.append(
        [
            event("r", "started", total=10, done=0),
            *cell("r", "1", minutes=1),
            event("r", "heartbeat", 2, total=10, done=1, failed=0, spent_usd=0.5, skipped=0),
            *cell("r", "2", minutes=3),
            *cell("r", "3", minutes=3, failed=True, spent_usd=None),
            *cell("other", "3", minutes=3),
        ]
    )
    live = overview.live_run(store, "r")
    assert live is not None
    assert (live.total, live.done, live.failed, live.spent_usd, live.unpriced) == (10, 3, 1, 1.0, 1)
    assert not live.ended
    assert not live.stopping
    assert live.rate(NOW + timedelta(minutes=3)) == pytest.approx(3 / 180)
    assert live.seconds_left(NOW + timedelta(minutes=3)) == pytest.approx(7 * 60)
    assert live.seconds_left(NOW) is None

    store.append([event("r", "stop_asked", 4)])
    assert overview.live_run(store, "r").stopping  # type: ignore[union-attr]
    store.append([event("r", "stopped", 5, total=10, done=3)])
    assert overview.live_run(store, "r").ended  # type: ignore[union-attr]
    store.append([event("r", "started", 6, total=10, done=0)])
    again = overview.live_run(store, "r")
    assert again is not None
    assert (again.ended, again.stopping, again.began) == (False, False, NOW + timedelta(minutes=6))


def test_a_run_that_goes_on_shows_what_it_had_before_and_paces_itself_by_what_came_since(store) -> None:
    store.append(
        [
            event("r", "started", total=600, done=0),
            event("r", "heartbeat", 5, total=600, done=194, failed=4, spent_usd=1.0, unpriced=2, skipped=0),
            # It begins with all that it has counted, and asks again what failed.
            event("r", "started", 60, total=600, done=194, failed=3, skipped=194, spent_usd=2.0, unpriced=2),
        ]
    )
    live = overview.live_run(store, "r")
    assert live is not None
    assert (live.total, live.done, live.failed, live.skipped) == (600, 194, 3, 194)
    assert (live.spent_usd, live.unpriced) == (2.0, 2)
    assert live.seconds_left(NOW + timedelta(minutes=61)) is None
    store.append([*cell("r", "3", minutes=61), *cell("r", "5", minutes=61)])
    live = overview.live_run(store, "r")
    assert live is not None
    assert (live.done, live.skipped) == (196, 194)
    assert live.seconds_left(NOW + timedelta(minutes=61)) == pytest.approx(404 / 2 * 60)


def test_a_process_is_known_by_what_it_began_since(store) -> None:
    assert overview.run_of_process(store, 1, NOW) is None
    store.append([event("old", "started", -10), event("new", "started", 1)])
    assert overview.run_of_process(store, 1, NOW) == "new"
    assert overview.run_of_process(store, 2, NOW) is None
    assert overview.run_of_process(store, 1, NOW + timedelta(minutes=5)) is None


def test_a_models_history_is_of_answers_that_were_asked_for(store) -> None:
    assert overview.model_history(store, ["m:x"]) == {}
    store.append([*cell("r", "1"), *cell("r", "2", output_tokens=30, latency_ms=300.0), *cell("r", "3", failed=True)])
    store.append(cell("r", "4", cached=True, output_tokens=1000))
    assert overview.model_history(store, ["m:x", "m:y"]) == {"m:x": overview.ModelHistory(20.0, 200.0)}
