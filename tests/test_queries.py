"""What is read back: runs and how they stand, counts, summaries, and the two views column by column."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from feedbackloop import queries
from feedbackloop.errors import StoreError
from feedbackloop.models import (
    AIRequest,
    AIResponse,
    Attempt,
    Case,
    Comparison,
    Decision,
    ProcessingStatus,
    Rating,
    Run,
    RunEvent,
    Task,
    Variant,
)

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def a_run(name: str, *, task: str = "t", seconds: float = 0, variants: tuple[Variant, ...] = ()) -> Run:
    ids = [variant.id for variant in variants]
    return Run(id=name, task=task, dataset="d", fingerprint="f", variants=ids, created_at=at(seconds))


def event(run: str, kind, seconds: float, pid: int | None = None, **counts) -> RunEvent:
    return RunEvent(run_id=run, kind=kind, pid=pid, counts=counts, created_at=at(seconds))


# Runs


def test_a_store_that_is_not_there_holds_nothing(store) -> None:
    assert queries.runs(store) == []
    assert set(queries.counts(store).values()) == {0}
    with pytest.raises(StoreError, match="no runs in this store yet"):
        queries.find_run(store)
    assert not store.exists()


def test_an_empty_store_holds_nothing_either(store) -> None:
    store.append([Task(name="t")])
    assert queries.runs(store) == []
    assert queries.counts(store) == dict.fromkeys(
        ("runs", "cases", "answers", "failed", "votes", "ratings", "decisions", "policies"), 0
    )
    assert queries.summary(store, "none").empty
    assert queries.failures(store, "none").empty
    assert queries.finished_cells(store, "none") == queries.reusable_keys(store) == queries.known_cases(store) == set()
    assert queries.answers_by_key(store, ["x"]) == {}
    assert queries.variants(store) == queries.variants(store, ["x"]) == []
    assert queries.task(store, "nobody") is None


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([], "running"),
        ([("started", 0)], "running"),
        ([("started", 0), ("heartbeat", 10)], "running"),
        ([("started", -30), ("heartbeat", -6)], "interrupted"),
        ([("started", 0), ("finished", 5)], "finished"),
        ([("started", -60), ("finished", -50)], "finished"),
        ([("started", 0), ("stopped", 5)], "stopped"),
        ([("started", 0), ("stopped", 5), ("started", 6)], "running"),
        ([("started", 0), ("stopped", 5), ("started", 6), ("finished", 7)], "finished"),
        ([("started", 0), ("stop_asked", 3)], "running"),
        ([("started", 0), ("stopped", 5), ("stop_asked", 6)], "stopped"),
        ([("started", 0), ("heartbeat", 5), ("finished", 5)], "finished"),
    ],
)
def test_its_events_say_how_a_run_stands(store, events, state: str) -> None:
    store.append([a_run("r"), *(event("r", kind, seconds) for kind, seconds in events)])
    assert queries.runs(store, now=at(9.9))[0].state == state


def test_a_run_whose_process_is_gone_is_interrupted_at_once(store) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    here = socket.gethostname()
    store.append(
        [
            *(a_run(name, seconds=-number) for number, name in enumerate(("gone", "lives", "elsewhere"))),
            event("gone", "heartbeat", 0, gone.pid, done=4, host=here),
            event("lives", "heartbeat", 0, os.getpid(), host=here),
            event("elsewhere", "heartbeat", 0, gone.pid, host="another machine"),
        ]
    )
    found = queries.runs(store, now=at(1))
    assert {one.run.id: one.state for one in found} == {
        "gone": "interrupted",
        "lives": "running",
        "elsewhere": "running",
    }
    assert found[0].counts == {"done": 4}


def test_runs_come_newest_first_with_names_and_the_last_counts(store) -> None:
    terse, steps = Variant(name="terse", model="m:a"), Variant(name="steps", model="m:b")
    unknown = Variant(name="never stored", model="m:c")
    store.append(
        [
            terse,
            steps,
            a_run("old", variants=(steps, terse, unknown)),
            a_run("new", seconds=5, task="other"),
            event("old", "started", 0, done=0),
            event("old", "finished", 3, done=7, spent_usd=0.5),
        ]
    )
    new, old = queries.runs(store, now=at(6))
    assert (new.run.id, old.run.id) == ("new", "old")
    assert old.variants == ["steps", "terse", unknown.id[:4]]
    assert old.counts == {"done": 7, "spent_usd": 0.5}
    assert old.last_event == at(3)
    assert [one.run.id for one in queries.runs(store, "other")] == ["new"]


def test_a_run_is_found_by_the_beginning_of_its_id(store) -> None:
    store.append([a_run("abc1", seconds=1), a_run("abd2", seconds=2), event("abd2", "finished", 3)])
    assert queries.find_run(store, "abc").run.id == "abc1"
    assert queries.find_run(store).run.id == "abd2"
    assert queries.find_run(store, unfinished=True).run.id == "abc1"
    with pytest.raises(StoreError, match="2 runs begin with 'ab'"):
        queries.find_run(store, "ab")
    with pytest.raises(StoreError, match="no run 'abx1'; did you mean"):
        queries.find_run(store, "abx1")
    store.append([event("abc1", "finished", 4)])
    with pytest.raises(StoreError, match="all runs are finished"):
        queries.find_run(store, unfinished=True)


def test_a_stop_counts_only_for_the_part_that_it_came_in(store) -> None:
    store.append([a_run("r"), event("r", "stop_asked", 5), event("other", "stop_asked", 9)])
    assert queries.stop_asked(store, "r", at(4))
    assert not queries.stop_asked(store, "r", at(6))


# Two answered cases, rated and voted on


TERSE = Variant(name="terse", model="m:a")
STEPS = Variant(name="steps", model="m:b", prompt="Step by step: {{ input }}")
ONE = Case(external_id="1", inputs={"input": "one"}, expected="1", segment="easy")
TWO = Case(external_id="2", inputs={"a": 1, "b": 2}, segment="hard")


def an_answer(case: Case, variant: Variant, text: str | None, *, seconds: float = 1, run: str | None = "r", **figures):
    request_figures = {name: figures.pop(name) for name in ("repeat", "key", "model") if name in figures}
    request = AIRequest(
        input=str(case.inputs.get("input")),
        **{"model": variant.model, **request_figures},
        case_id=case.id,
        variant_id=variant.id,
        run_id=run,
        task="t",
    )
    failed = {"status": ProcessingStatus.FAILED, "error_type": "ProviderTimeout", "error": "late"}
    response = AIResponse(
        request_id=request.id,
        output=text or "",
        model_used=variant.model if text is not None else "none",
        created_at=at(seconds),
        **({} if text is not None else failed),
        **figures,
    )
    return request, response


@pytest.fixture
def world(store):
    answered = {
        "terse1": an_answer(ONE, TERSE, "1", latency_ms=100.0, cost_usd=0.2, spent_usd=0.3, total_ms=150.0),
        "steps1": an_answer(ONE, STEPS, "it is 1", latency_ms=300.0, cost_usd=0.4, spent_usd=0.4, input_tokens=7),
        "terse2": an_answer(TWO, TERSE, "3", latency_ms=200.0, cost_usd=None, spent_usd=None),
        "steps2": an_answer(TWO, STEPS, None),
    }
    ids = {name: response.id for name, (_, response) in answered.items()}
    store.append(
        [
            TERSE, STEPS, ONE, TWO, Task(name="t"), a_run("r", variants=(TERSE, STEPS)),
            *(record for pair in answered.values() for record in pair),
        ]
    )  # fmt: skip
    return ids


def a_vote(
    ids, winner, *, blind: bool = True, rater: str = "Anna", supersedes: str | None = None, a="terse1", b="steps1"
):
    return Comparison(
        task="t", case_id=ONE.id, response_a=ids[a], response_b=ids[b], variant_a=TERSE.id, variant_b=STEPS.id,
        winner=winner, rater=rater, rater_kind="human", blind=blind, supersedes=supersedes, seconds=4.5,
        comment="why", a_shown_left=True, created_at=at(60),
    )  # fmt: skip


def a_rating(response: str, metric: str, **verdict) -> Rating:
    known = {"rater": "contains@1", "rater_kind": "grader", **verdict}
    return Rating(response_id=response, metric=metric, **known)


ANSWERS = [
    "task", "run_id", "case_id", "external_id", "segment", "variant", "variant_id", "repeat", "input", "inputs", "expected",
    "output", "status", "error_type", "error", "model_used", "provider_model", "latency_ms", "total_ms", "ttft_ms",
    "tokens_per_s", "input_tokens", "output_tokens", "tokens_used", "cost_usd", "spent_usd", "cached", "finish_reason", "grades", "checks",
    "mean_rating", "issues", "win_rate", "votes", "purpose", "user_id", "created_at", "request_id", "response_id",
]  # fmt: skip

VOTES = [
    "task", "metric", "case_id", "external_id", "segment", "variant_a", "variant_b", "winner", "winning_variant", "rater",
    "rater_kind", "blind", "seconds", "comment", "input", "output_a", "output_b", "run_id", "queue", "a_shown_left",
    "pair_propensity", "created_at", "answered_at", "variant_a_id", "variant_b_id", "response_a", "response_b", "id",
]  # fmt: skip


def test_the_answers_view_has_a_row_per_answer_with_its_case_and_variant(store, world) -> None:
    frame = store.sql("SELECT * FROM answers").set_index("response_id", drop=False)
    assert frame.columns.tolist() == ANSWERS
    assert len(frame) == 4
    row = frame.loc[world["terse1"]]
    assert (row.task, row.run_id, row.case_id, row.external_id, row.segment) == ("t", "r", ONE.id, "1", "easy")
    assert (row.variant, row.variant_id, row["repeat"], row.input) == ("terse", TERSE.id, 0, "one")
    assert (json.loads(row.inputs), json.loads(row.expected)) == ({"input": "one"}, "1")
    assert (row.output, row.status, row.model_used) == ("1", "completed", "m:a")
    assert (row.latency_ms, row.total_ms, row.cost_usd, row.spent_usd) == (100.0, 150.0, 0.2, 0.3)
    assert row.created_at.to_pydatetime() == at(1)
    assert (row.votes, list(row.issues), bool(row.cached), row.purpose) == (0, [], False, "answer")
    assert frame.loc[world["steps1"]].input_tokens == 7
    assert frame[["grades", "checks", "mean_rating", "win_rate", "ttft_ms", "user_id"]].isna().all().all()
    other = frame.loc[world["terse2"]]
    assert json.loads(other.input) == {"a": 1, "b": 2}  # several variables: all of them, as JSON
    failed = frame.loc[world["steps2"]]
    assert (failed.status, failed.error_type, failed.error, failed.output) == ("failed", "ProviderTimeout", "late", "")


def test_the_answers_view_shows_grades_ratings_issues_and_win_rates(store, world) -> None:
    thumb = a_rating(world["terse1"], "thumbs", value=0.0, rater="u", rater_kind="user")
    store.append(
        [
            a_rating(world["terse1"], "contains", value=1.0),
            a_rating(world["terse1"], "tone", label="kind", rater="tone@1"),
            a_rating(world["terse1"], "broken", error="oops", rater="broken@1"),
            a_rating(world["terse1"], "helpful", value=4.0, rater="Anna", rater_kind="human"),
            a_rating(world["terse1"], "helpful", value=1.0, rater="Ben", rater_kind="human", blind=False),
            a_rating(world["terse1"], "judged", value=5.0, rater="judge:x@1", rater_kind="judge"),
            thumb,
            a_rating(world["terse1"], "thumbs", value=1.0, rater="u", rater_kind="user", supersedes=thumb.id),
            *(
                a_rating(world["terse1"], "issue", label=label, rater=rater, rater_kind="human")
                for label, rater in (("too long", "Anna"), ("too long", "Ben"), ("unsafe", "Anna"))
            ),
            a_vote(world, "a"),
            a_vote(world, "b", rater="Ben"),
            a_vote(world, "tie", rater="Cleo"),
            a_vote(world, "both_bad", rater="Dan"),
            a_vote(world, "a", rater="Eve"),
            a_vote(world, "b", rater="seen", blind=False),
        ]
    )
    frame = store.sql("SELECT * FROM answers").set_index("response_id")
    row = frame.loc[world["terse1"]]
    assert json.loads(row.grades) == {"contains": 1.0, "tone": "kind", "broken": None}
    assert row.checks == 1.0
    assert row.mean_rating == pytest.approx(
        (4 + 1) / 2
    )  # Anna's and the user's; Ben saw the names, a judge is no person
    assert sorted(row.issues) == ["too long", "unsafe"]
    assert (row.win_rate, row.votes) == (pytest.approx((1 + 0 + 0.5 + 0.5 + 1) / 5), 5)
    assert frame.loc[world["steps1"]].win_rate == pytest.approx(0.4)
    assert len(frame) == 4


def test_the_votes_view_has_a_row_per_vote_with_names_and_texts(store, world) -> None:
    vote = a_vote(world, "b")
    store.append([vote, a_vote(world, "tie", rater="Ben", blind=False), a_vote(world, "both_bad", rater="Cleo")])
    frame = store.sql("SELECT * FROM votes").set_index("rater", drop=False)
    assert frame.columns.tolist() == VOTES
    row = frame.loc["Anna"]
    assert (row.task, row.metric, row.case_id, row.external_id, row.segment) == ("t", "preference", ONE.id, "1", "easy")
    assert (row.variant_a, row.variant_b, row.winner, row.winning_variant) == ("terse", "steps", "b", "steps")
    assert (row.rater_kind, bool(row.blind), row.seconds, row.comment) == ("human", True, 4.5, "why")
    assert (row.input, row.output_a, row.output_b, row.run_id) == ("one", "1", "it is 1", "r")
    assert (row.created_at.to_pydatetime(), row.answered_at.to_pydatetime()) == (at(60), at(1))
    assert (row.variant_a_id, row.variant_b_id) == (TERSE.id, STEPS.id)
    assert (row.response_a, row.response_b, row.id) == (world["terse1"], world["steps1"], vote.id)
    assert frame["winning_variant"].isna().sum() == 2
    assert not frame.loc["Ben"].blind


def test_a_superseded_vote_counts_no_more_and_a_withdrawn_one_not_at_all(store, world) -> None:
    first, other = a_vote(world, "a"), a_vote(world, "a", rater="Ben")
    store.append([first, other])
    store.append([a_vote(world, "b", supersedes=first.id), a_vote(world, None, rater="Ben", supersedes=other.id)])
    assert store.sql("SELECT rater, winner FROM votes").to_dict("records") == [{"rater": "Anna", "winner": "b"}]
    frame = store.sql("SELECT response_id, win_rate, votes FROM answers WHERE votes > 0").set_index("response_id")
    assert frame.loc[world["terse1"]].tolist() == [0.0, 1.0]
    assert queries.counts(store)["votes"] == 1
    assert queries.summary(store, "r")["wins"].tolist() == [0, 1]


def test_a_cell_has_one_answer_the_newest_completed_one(store, world) -> None:
    store.append(an_answer(TWO, STEPS, "now it works", seconds=5))
    store.append(an_answer(TWO, STEPS, None, seconds=9))  # a failure later on takes nothing away
    store.append(an_answer(ONE, TERSE, "asked anew", seconds=9))
    store.append(an_answer(ONE, TERSE, "second", seconds=1, repeat=1))
    store.append(an_answer(ONE, TERSE, "in another run", run="other"))
    store.append([*an_answer(ONE, TERSE, "live 1", run=None), *an_answer(ONE, TERSE, "live 2", run=None)])
    outputs = store.sql("SELECT output FROM answers WHERE run_id = 'r'")["output"]
    assert sorted(outputs) == ["3", "asked anew", "it is 1", "now it works", "second"]
    assert (
        len(store.sql("SELECT * FROM answers WHERE run_id IS NULL")) == 2
    )  # outside of runs each answer stands for itself
    store.append([event("r", "started", 0), event("r", "started", 3)])  # it was gone on with, as asking again needs
    counts = queries.counts(store)
    assert (counts["answers"], counts["failed"]) == (8, 0)


def test_the_counts_are_of_what_is_current(store, world) -> None:
    store.append([a_vote(world, "a"), a_rating(world["terse1"], "contains", value=1.0)])
    store.append([a_rating(world["terse1"], "helpful", value=4.0, rater="Anna", rater_kind="human")])
    store.append([ONE.model_copy(update={"expected": "one", "created_at": at(99)})])
    store.append([Decision(task="t", baseline="a", candidate="b", goal="better", verdict="keep", reason="too_few")])
    assert queries.counts(store) == {
        "runs": 1, "cases": 2, "answers": 3, "failed": 1, "votes": 1, "ratings": 1, "decisions": 1, "policies": 0,
    }  # fmt: skip


def test_the_summary_has_a_row_per_variant_in_the_order_of_the_run(store, world) -> None:
    never = Variant(name="never asked", model="m:c")
    store.append([never, a_run("q", variants=(never, STEPS, TERSE), seconds=1)])
    store.append([a_vote(world, "a"), a_vote(world, "tie", rater="Ben"), a_vote(world, "b", rater="C", blind=False)])
    store.append(
        [
            a_rating(world["terse1"], "contains", value=1.0),
            a_rating(world["terse2"], "contains", value=0.0),
            a_rating(world["steps1"], "issue", label="too long", rater="Anna", rater_kind="human"),
        ]
    )
    summary = queries.summary(store, "r").set_index("variant")
    assert summary.index.tolist() == ["terse", "steps"]
    terse, steps = summary.loc["terse"], summary.loc["steps"]
    assert (terse.variant_id, terse.answers, terse.failed, terse.cached) == (TERSE.id, 2, 0, 0)
    assert (terse.latency_p50_ms, terse.latency_p95_ms) == (150.0, pytest.approx(195.0))
    assert (terse.checks, terse.cost_usd, terse.spent_usd, terse.unpriced) == (0.5, 0.2, 0.3, 1)
    assert (terse.wins, terse.losses, terse.ties, terse.issues) == (1, 0, 1, 0)
    assert (steps.answers, steps.failed, steps.wins, steps.losses, steps.ties, steps.issues) == (1, 1, 0, 1, 1, 1)
    empty = queries.summary(store, "q")
    assert empty["variant"].tolist() == ["never asked", "steps", "terse"]
    assert empty["answers"].tolist() == [0, 0, 0]


def test_cached_answers_stay_out_of_latency_and_spend(store, world) -> None:
    store.append([a_run("c", variants=(TERSE,))])
    store.append(an_answer(ONE, TERSE, "1", run="c", cached=True, latency_ms=9.0, cost_usd=0.2, spent_usd=0.0))
    store.append(an_answer(TWO, TERSE, "2", run="c", latency_ms=50.0, cost_usd=0.4, spent_usd=0.4))
    (row,) = queries.summary(store, "c").to_dict("records")
    assert (row["answers"], row["cached"], row["latency_p50_ms"], row["spent_usd"], row["unpriced"]) == (
        2,
        1,
        50.0,
        0.4,
        0,
    )


def test_a_spend_known_in_part_is_told_whatever_a_failure_in_vain_cost(store, world) -> None:
    store.append([a_run("p", variants=(TERSE,)), event("p", "started", 0), event("p", "started", 3)])
    store.append(an_answer(ONE, TERSE, None, run="p", spent_usd=0.0))
    tried = [Attempt(model=TERSE.model, start=at(4), cost_usd=usd) for usd in (0.2, None)]
    store.append(an_answer(ONE, TERSE, "1", run="p", seconds=5, spent_usd=None, attempts=tried))
    (row,) = queries.summary(store, "p").to_dict("records")
    assert (row["failed"], row["spent_usd"], row["unpriced"]) == (0, 0.2, 1)


def test_failures_are_listed_by_kind_and_variant(store, world) -> None:
    assert queries.failures(store, "r").to_dict("records") == [
        {"error_type": "ProviderTimeout", "variant": "steps", "failed": 1, "example": "late"}
    ]


# What a run looks up


def test_finished_cells_are_those_with_a_completed_answer_for_their_key(store) -> None:
    store.append(an_answer(ONE, TERSE, "1", key="k1"))
    store.append(an_answer(ONE, STEPS, None, key="k2"))
    store.append(an_answer(TWO, TERSE, "3", key="k3", run="another"))
    store.append(an_answer(TWO, TERSE, "3", key="k4", repeat=2))
    assert queries.finished_cells(store, "r") == {hash((ONE.id, TERSE.id, 0, "k1")), hash((TWO.id, TERSE.id, 2, "k4"))}


def test_only_first_hand_answers_of_the_target_that_was_asked_are_reused(store) -> None:
    old, new = an_answer(ONE, TERSE, "old", key="k", seconds=1), an_answer(ONE, TERSE, "new", key="k", seconds=2)
    store.append([*old, *new])
    store.append(an_answer(ONE, TERSE, "again", key="k", seconds=3, cached=True))
    store.append(an_answer(ONE, TERSE, None, key="failed"))
    store.append(an_answer(ONE, TERSE, "a fallback's", key="fell", model="m:other"))
    store.append(an_answer(ONE, TERSE, "no key"))
    assert queries.reusable_keys(store) == {hash(("k",))}
    found = queries.answers_by_key(store, ["k", "failed", "fell", "unheard of"])
    assert found == {"k": new[1]}


def test_a_case_is_known_as_it_stands_now(store) -> None:
    later = ONE.model_copy(update={"expected": {"x": [1, 2.5, "ü"]}, "metadata": {"q": '"'}, "created_at": at(9)})
    store.append([ONE.model_copy(update={"created_at": at(1)}), TWO, later])
    assert queries.known_cases(store) == {queries.case_mark(later), queries.case_mark(TWO)}
    assert queries.case_mark(ONE) not in queries.known_cases(store)


def test_variants_come_in_the_order_that_was_asked_for_under_their_latest_name(store) -> None:
    renamed = TERSE.model_copy(update={"name": "short", "created_at": TERSE.created_at + timedelta(hours=1)})
    store.append([TERSE, STEPS, renamed])
    found = queries.variants(store, [STEPS.id, "nobody", TERSE.id])
    assert found == [STEPS, renamed]


def test_a_query_that_needs_more_memory_than_is_spared_is_begun_again_with_all_of_it(store, world, monkeypatch) -> None:
    import duckdb

    limits = []

    def work(connection):
        connection.execute("SELECT current_setting('memory_limit')")
        limits.append(connection.fetchall()[0][0])
        if len(limits) == 1:
            raise duckdb.OutOfMemoryException("too little")
        return "done"

    assert store.query(work) == "done"
    assert limits[0] == "190.7 MiB" or store.is_shared  # of a whole process's memory, one query takes no part
    assert limits[1].endswith("GiB")
