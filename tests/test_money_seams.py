"""Money where the parts meet: what was worked on is charged for, however it ended, and every place tells the same sum."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from pathlib import Path

import pytest
from batch_server import BatchServer
from fakes import FakeTime
from openai_server import FAULTS, OpenAIServer, Reply, refused

import feedbackloop as fl
from feedbackloop import queries
from feedbackloop.errors import SettingsError
from feedbackloop.models import AIRequest, RunEvent
from feedbackloop.pipeline import cache
from feedbackloop.pipeline.budget import gone
from feedbackloop.pipeline.engine import Engine
from feedbackloop.queries.overview import live_run, run_figures
from feedbackloop.queries.paid import Lost, lost_calls
from feedbackloop.reports import outcome
from feedbackloop.settings import Limits, Price, ProviderSettings, Settings
from feedbackloop.spec import RunSpec
from feedbackloop.store import Store

PRICE = Price(input_per_million=1_000_000.0, output_per_million=2_000_000.0)
DEAR = Price(input_per_million=3_000_000.0, output_per_million=5_000_000.0)
USED = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


@pytest.fixture
def server():
    with OpenAIServer() as running:
        yield running


@pytest.fixture
def settings(server, tmp_path: Path) -> Settings:
    return Settings(
        base=tmp_path,
        providers={"up": ProviderSettings(base_url=server.url), "other": ProviderSettings(base_url=server.url)},
        prices={"up:m": PRICE, "other:n": DEAR, "openai:gpt-4o-mini": PRICE},
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "loop.duckdb")


async def one(settings: Settings, *, stream: bool = False, **params):
    """An answer to one request, without retries, and what the budget was charged for it."""
    engine = Engine(settings, limits=Limits(retries=0), budget_usd=1e6, stream=stream, clock=FakeTime().clock())
    try:
        response = await engine.complete(AIRequest(input="hi", model="up:m", params=params))
    finally:
        await engine.aclose()
    return response, engine.purse.spent_usd


# What was worked on is charged for, however it ended


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "reply",
    [
        Reply(content=None, finish_reason="length", usage=USED),
        Reply(content={"role": "assistant", "refusal": "no"}, usage=USED),
        Reply(content="no", finish_reason="content_filter", usage=USED),
    ],
    ids=["nothing said", "refusal", "withheld"],
)
async def test_an_answer_that_cannot_be_used_costs_what_it_says_it_used(server, settings, reply, stream) -> None:
    server.plan = [reply]
    response, charged = await one(settings, stream=stream)
    assert response.status == "failed"
    assert response.spent_usd == charged == pytest.approx(3 * 1.0 + 4 * 2.0)
    assert response.attempts[0].usage == USED


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["reset", "cut", "drop"])
async def test_an_answer_that_breaks_off_may_have_been_charged(server, settings, fault, stream) -> None:
    server.plan = [FAULTS[fault]]
    response, charged = await one(settings, stream=stream, max_tokens=5)
    assert (response.error_type, response.spent_usd) == ("ProviderUnavailable", None)
    assert charged > 10.0


async def test_a_connection_that_was_refused_cost_nothing(settings) -> None:
    nobody = settings.model_copy(update={"providers": {"up": ProviderSettings(base_url="http://127.0.0.1:9/v1")}})
    response, charged = await one(nobody, max_tokens=5)
    assert (response.error_type, response.spent_usd, charged) == ("ProviderUnavailable", 0.0, 0.0)


async def test_an_error_amid_a_stream_may_have_been_charged(server, settings) -> None:
    begun = 'data: {"choices": [{"index": 0, "delta": {"content": "So "}, "finish_reason": null}]}\n\n'
    broke = 'data: {"error": {"message": "Upstream failed", "code": 502}}\n\n'
    server.plan = [Reply(body=begun + broke, headers={"content-type": "text/event-stream"})]
    response, charged = await one(settings, stream=True, max_tokens=5)
    assert (response.status, response.spent_usd) == ("failed", None)
    assert charged > 10.0


# The same run, the same spend, wherever it is told


def told(store: Store, run_id: str, task: str) -> dict[str, float]:
    """What each place says that a run has spent."""
    return {
        "cost": float(fl.costs(store, by="task").frame.set_index("task")["spent_usd"].get(task, 0.0)),
        "status": float(queries.summary(store, run_id)["spent_usd"].fillna(0.0).sum()),
        "Home": run_figures(store, [run_id])[run_id].spent_usd,
        "live": found.spent_usd if (found := live_run(store, run_id)) else 0.0,
        "list": queries.find_run(store, run_id).counts.get("spent_usd", 0.0),
        "report": sum(variant.spent_usd or 0.0 for variant in outcome(store, run_id).variants),
        "budget": queries.spent(store, run_id),
    }


def agree(store: Store, run: fl.Run) -> float:
    """The spend of a run, once every place has told the same."""
    places = told(store, run.id, run.task)
    assert places == pytest.approx(dict.fromkeys(places, places["cost"]))
    return places["cost"]


ROWS = [{"id": f"r{n}", "input": f"question {n}"} for n in range(12)]


def options(store, settings, **more):
    limits = Limits(retries=1, concurrency=1, timeout_s=1.5)
    return {"store": store, "settings": settings, "limits": limits, "clock": FakeTime().clock(), **more}


async def test_a_run_with_faults_fallbacks_and_known_answers_costs_the_same_everywhere(server, settings, store) -> None:
    variants = [
        {"name": "a", "model": "up:m", "fallbacks": ["other:n"]},
        {"name": "b", "model": "up:m", "prompt": "Say {{ input }}"},
    ]
    empty, used = Reply(content="", usage=USED), Reply(content=None, usage=USED)
    server.plan = [
        "cut",
        None,
        empty,
        empty,
        "error",
        "error",
        used,
        "no_usage",
        "drop",
        empty,
        "filtered",
        "bad_request",
    ]
    first = await fl.run(ROWS[:6], variants, task="calls", **options(store, settings))
    assert agree(store, first.run) > 0
    assert first.progress.failed
    # What failed is asked again: what was paid in vain stays paid.
    again = await fl.resume(store, first.run.id, dataset=ROWS[:6], settings=settings, clock=FakeTime().clock())
    assert (again.progress.failed, again.progress.spent_usd) == (0, pytest.approx(agree(store, first.run)))
    # The same questions are known now, and cost nothing more.
    known = await fl.run(ROWS, variants, task="known", **options(store, settings))
    assert known.progress.cached
    assert agree(store, known.run) == pytest.approx(known.progress.spent_usd)


async def test_replayed_and_imported_answers_were_paid_elsewhere_everywhere(server, settings, store, tmp_path) -> None:
    file = tmp_path / "said.jsonl"
    lines = [{"case_id": row["id"], "group": "a", "output": "x", "cost_usd": 0.5} for row in ROWS[:4]]
    lines[1] |= {"error_type": "ProviderTimeout", "output": None}
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    # The first answers come from the recording, a call makes up for what it lacks.
    variants = [{"name": "a", "model": "recorded:said.jsonl#a", "fallbacks": ["up:m"]}]
    replayed = await fl.run(ROWS[:6], variants, task="replayed", **options(store, settings))
    assert agree(store, replayed.run) == pytest.approx(replayed.progress.spent_usd)
    assert len(server.requests) == 3
    assert fl.costs(store).elsewhere_usd == pytest.approx(1.5)
    table = tmp_path / "answers.jsonl"
    table.write_text(
        "".join(
            json.dumps({"id": f"e{n}", "input": f"q{n}", "output": "x", "cost_usd": 0.25, "variant": "a"}) + "\n"
            for n in range(3)
        )
    )
    fl.import_answers(table, store=store, task="imported")
    (run,) = (status.run for status in queries.runs(store, "imported"))
    assert agree(store, run) == 0.0
    assert fl.costs(store).elsewhere_usd == pytest.approx(1.5 + 0.75)


async def test_a_batch_that_is_taken_up_again_costs_the_same_everywhere(monkeypatch, settings, store) -> None:
    with BatchServer(polls=1, faults=[None, Reply(content="", usage=USED), "no_usage", "error"]) as batches:
        monkeypatch.setenv("OPENAI_BASE_URL", batches.url)
        variants = [{"name": "a", "model": "openai:gpt-4o-mini"}]
        first = await fl.run(ROWS, variants, task="batches", **options(store, settings, executor="batch"))
        assert first.progress.failed == 2
        assert agree(store, first.run) > 0
        await fl.resume(store, first.run.id, dataset=ROWS, settings=settings, clock=FakeTime().clock())
        agree(store, first.run)


# A budget holds over all parts of a run


async def test_what_may_have_been_charged_counts_after_a_resume_too(server, settings, store) -> None:
    server.rates = {"no_usage": 1.0}
    variants = [{"name": "a", "model": "up:m", "params": {"max_tokens": 5}}]
    first = await fl.run(ROWS, variants, **options(store, settings, budget_usd=120.0))
    assert "budget" in first.stopped
    asked = len(server.requests)
    assert asked >= 2
    second = await fl.resume(store, first.run.id, dataset=ROWS, settings=settings, clock=FakeTime().clock())
    assert "budget" in second.stopped
    assert len(server.requests) == asked


async def test_a_lowered_budget_keeps_a_batch_that_was_never_made_from_being_made(monkeypatch, settings, store) -> None:
    with BatchServer(polls=1, on={"POST /files": [Reply(400, refused("no"))]}) as batches:
        monkeypatch.setenv("OPENAI_BASE_URL", batches.url)
        variants = [{"name": "a", "model": "openai:gpt-4o-mini", "params": {"max_tokens": 5}}]
        first = await fl.run(ROWS, variants, **options(store, settings, executor="batch", budget_usd=1000.0))
        assert (first.progress.done, batches.asked("POST /batches")) == (0, 0)
        again = {"dataset": ROWS, "settings": settings, "clock": FakeTime().clock()}
        second = await fl.resume(store, first.run.id, budget_usd=45.0, **again)
        assert sum(len(batch.requests) for batch in batches.batches.values()) < len(ROWS)
        assert "budget" in second.stopped
        assert agree(store, first.run) <= 45.0
        third = await fl.resume(store, first.run.id, budget_usd=1000.0, **again)
        assert third.finished
        assert sum(len(batch.requests) for batch in batches.batches.values()) == len(ROWS)


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
async def test_a_budget_that_makes_no_sense_is_refused_when_a_run_goes_on(server, settings, store, limit) -> None:
    run = (await fl.run(ROWS[:1], [{"name": "a", "model": "up:m"}], **options(store, settings))).run
    with pytest.raises(SettingsError, match="budget_usd"):
        await fl.resume(store, run.id, dataset=ROWS, settings=settings, budget_usd=limit)


# What was paid for is kept, whatever comes after it


async def test_a_check_that_raises_what_ends_a_task_loses_no_answer(server, settings, store) -> None:
    def gives_up(case, response):
        raise asyncio.CancelledError

    result = await fl.run(ROWS[:3], [{"name": "a", "model": "up:m"}], graders=[gives_up], **options(store, settings))
    assert (result.finished, result.progress.completed, len(server.requests)) == (True, 3, 3)
    assert store.sql("SELECT count(*) AS n FROM ratings WHERE error LIKE 'CancelledError%'")["n"].item() == 3


async def test_a_run_that_is_cut_short_amid_a_check_keeps_the_answer(server, settings, store) -> None:
    checking = asyncio.Event()

    async def hangs(case, response):
        checking.set()
        await asyncio.Event().wait()

    going = asyncio.create_task(
        fl.run(ROWS[:1], [{"name": "a", "model": "up:m"}], graders=["json_valid", hangs], **options(store, settings))
    )
    await checking.wait()
    going.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await going
    assert store.sql("SELECT status FROM responses")["status"].tolist() == ["completed"]
    said = store.sql("SELECT metric, error FROM ratings ORDER BY error NULLS FIRST")
    assert said["metric"].tolist() == ["json_valid", "hangs"]


async def test_a_call_that_is_cut_short_is_on_record(server, settings, store) -> None:
    server.plan = ["silent"]
    seen = asyncio.Event()
    going = asyncio.create_task(
        fl.run(
            ROWS[:1],
            [{"name": "a", "model": "up:m"}],
            progress=lambda progress: seen.set() if server.requests else None,
            **options(store, settings, limits=Limits(concurrency=1)),
        )
    )
    await seen.wait()
    going.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await going
    row = store.sql("SELECT status, error_type, spent_usd FROM responses").iloc[0]
    assert (row["status"], row["error_type"]) == ("failed", "cancelled")
    assert fl.costs(store).unpriced == 1


async def test_the_same_question_far_apart_is_paid_once(server, settings, store, monkeypatch) -> None:
    monkeypatch.setattr(cache, "RECENT", 128)
    far = [{"input": "the same", "number": n} if n % 300 == 0 else {"input": f"q{n}"} for n in range(601)]
    variants = [{"name": "a", "model": "up:m", "prompt": "{{ input }}"}]
    result = await fl.run(far, variants, **options(store, settings, limits=Limits(concurrency=16)))
    assert (result.progress.completed, result.progress.cached) == (601, 2)


async def test_the_budget_that_a_run_went_on_with_holds_from_then_on(server, settings, store) -> None:
    variants = [{"name": "a", "model": "up:m", "params": {"max_tokens": 5}}]
    first = await fl.run(ROWS[:1], variants, **options(store, settings))
    again = {"settings": settings, "clock": FakeTime().clock()}
    lowered = await fl.resume(store, first.run.id, dataset=ROWS, budget_usd=60.0, **again)
    assert "budget of $60" in lowered.stopped
    # Whoever goes on without a word goes on with that.
    assert "budget of $60" in (await fl.resume(store, first.run.id, dataset=ROWS, **again)).stopped
    # What the spec says now counts where it is asked to.
    spec = RunSpec(task="default", dataset="x", variants=variants, budget_usd=70.0)
    assert "budget of $70" in (await fl.resume(store, first.run.id, dataset=ROWS, spec=spec, **again)).stopped
    assert queries.spent(store, first.run.id) <= 70.0


async def test_streams_are_said_to_be_none_in_a_batch(monkeypatch, settings, store) -> None:
    with BatchServer(polls=1) as batches:
        monkeypatch.setenv("OPENAI_BASE_URL", batches.url)
        variants = [{"name": "a", "model": "openai:gpt-4o-mini"}]
        done = await fl.run(ROWS, variants, **options(store, settings, executor="batch", stream=True))
    assert done.finished
    assert [note for note in done.notes if "stream" in note]


async def test_a_budget_holds_for_streams_that_say_nothing_of_their_usage(server, settings, store) -> None:
    server.rates = {"no_usage": 0.5, "cut": 0.5}
    variants = [{"name": "a", "model": "up:m", "params": {"max_tokens": 5}, "fallbacks": ["other:n"]}]
    ended = await fl.run(ROWS, variants, **options(store, settings, stream=True, budget_usd=400.0))
    assert "budget" in ended.stopped
    asked = len(server.requests)
    # Each may have cost the most that it could: at least what the model was allowed to write.
    assert 2 <= asked <= 400 / 10
    again = await fl.resume(store, ended.run.id, dataset=ROWS, settings=settings, clock=FakeTime().clock())
    assert "budget" in again.stopped
    assert len(server.requests) == asked


async def test_what_was_under_way_when_a_run_was_killed_is_counted(server, settings, store) -> None:
    server.delay_s = 0.4
    variants = [{"name": "a", "model": "up:m", "params": {"max_tokens": 5}}]
    rows = [{"input": f"q{n}"} for n in range(6)]
    kept = {"settings": settings, "budget_usd": 1000.0}
    first = await fl.run(rows, variants, store=store, limits=Limits(concurrency=2, retries=0), **kept)
    beats = store.load(RunEvent, "SELECT * FROM run_events WHERE kind = 'heartbeat'")
    assert any(beat.counts["under_way"]["calls"] and beat.counts["under_way"]["usd"] > 10 for beat in beats)
    assert lost_calls(store) == {}  # it has ended
    # Two parts that were killed: of each its last heartbeat counts.
    here = {"host": socket.gethostname()}
    for _ in range(2):
        for kind, calls in (("started", None), ("heartbeat", 4), ("heartbeat", 3)):
            told = {} if calls is None else {"under_way": {"calls": calls, "usd": calls * 10.0}}
            store.append([RunEvent(run_id=first.run.id, kind=kind, pid=2**22 + 1, counts=told | here)])
    assert lost_calls(store) == {first.run.id: Lost(6, 60.0)}
    assert gone(store, first.run, settings) == pytest.approx(queries.spent(store, first.run.id) + 60.0)
    again = await fl.resume(store, first.run.id, dataset=[*rows, {"input": "new"}], settings=settings)
    assert (
        again.notes[-1]
        == "$60.00 of the budget is gone for 6 calls that broke off or left no usage, counted at worst case"
    )
    ended = await fl.resume(
        store, first.run.id, dataset=[*rows, {"input": "newer"}], settings=settings, budget_usd=60.0
    )
    assert "the budget of $60.00 is used up" in ended.stopped
