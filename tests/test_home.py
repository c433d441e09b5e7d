"""Home: an empty store's two ways in, and for each state of the loop the one thing to do next."""

from __future__ import annotations

import os
import shutil
import socket
from datetime import timedelta
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import feedbackloop as fl
from feedbackloop import queries
from feedbackloop.identity import utcnow
from feedbackloop.improve.gate import decide
from feedbackloop.improve.policy import promote, rollback
from feedbackloop.models import AIRequest, AIResponse, Case, Comparison, Queue, Run, RunEvent, Task, Variant

ROOT = Path(__file__).parents[1]


@pytest.fixture
def store(store_path) -> fl.Store:
    return fl.Store(store_path)


def home(**query: str) -> AppTest:
    made = AppTest.from_file(str(ROOT / "app.py"), default_timeout=30)
    for name, value in query.items():
        made.query_params[name] = value
    made.run()
    assert not made.exception
    assert not [error.value for error in made.error]
    return made


def fill(
    store: fl.Store,
    *names: str,
    cases: int = 30,
    votes: int = 0,
    wins: int | None = None,
    state: str = "finished",
    begun_ago_s: float = 60,
    **settings,
) -> Run:
    """A run of these variants with an answer in each cell, and votes of which the second one wins so many, all by default."""
    at = utcnow() - timedelta(seconds=begun_ago_s)
    variants = [Variant(name=name, model=f"simulated:{name}", created_at=at) for name in names]
    items = [Case(inputs={"input": f"Question {n}"}, created_at=at) for n in range(cases)]
    ids = [variant.id for variant in variants]
    run = Run(task="support", dataset="rows.jsonl", fingerprint="", variants=ids, settings=settings, created_at=at)
    records: list[object] = [Task(name="support", created_at=at), *variants, *items, run]
    answers: dict[tuple[str, str], str] = {}
    for case in items:
        for variant in variants:
            request = AIRequest(
                input="?", task="support", run_id=run.id, case_id=case.id, variant_id=variant.id, created_at=at
            )
            response = AIResponse(
                request_id=request.id,
                output=f"{variant.name} on {case.inputs['input']}",
                model_used=variant.model,
                latency_ms=100.0,
                cost_usd=0.01,
                spent_usd=None if case is items[0] else 0.01,
                created_at=at,
            )
            answers[case.id, variant.id] = response.id
            records += [request, response]
    for number, case in enumerate(items[:votes]):
        records.append(
            Comparison(
                task="support",
                case_id=case.id,
                response_a=answers[case.id, ids[0]],
                response_b=answers[case.id, ids[1]],
                variant_a=ids[0],
                variant_b=ids[1],
                winner="b" if wins is None or number % votes < wins else "a",
                rater="Anna",
                rater_kind="human",
                seconds=9.0,
                created_at=at,
            )
        )
    total = len(items) * len(names)
    counts = {"total": total, "done": total, "completed": total, "failed": 0, "host": socket.gethostname()}
    if state != "nothing said":
        pid = os.getpid() if state == "running" else 2**22 + 1  # which no process can have
        records.append(RunEvent(run_id=run.id, kind="started", pid=pid, counts={**counts, "done": 0}, created_at=at))
    if state in {"finished", "stopped"}:
        records.append(RunEvent(run_id=run.id, kind=state, pid=1, counts=counts, created_at=at + timedelta(seconds=1)))
    store.append(records)  # type: ignore[arg-type]
    return run


def in_url(page: AppTest, name: str) -> str:
    value = page.query_params[name]
    return value if isinstance(value, str) else value[0]


def plain(text: object) -> str:
    """As it is read: without the signs that keep Markdown from being one."""
    return str(text).replace("\\", "").replace("\u2060", "")


def next_act(page: AppTest):
    return page.button(key="next-act")


def counts(page: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in page.metric}


def test_an_empty_store_offers_the_demo_and_ones_own_data(store) -> None:
    page = home()
    assert [button.label for button in page.button] == ["Try the demo", "Bring your data"]
    assert not page.metric
    page.button[1].click().run()
    assert page.title[0].value == "New run"
    assert not store.exists()


def test_the_demo_is_made_by_a_click_in_a_store_of_its_own(store) -> None:
    page = home()
    page.button[0].click().run()
    assert not page.exception
    assert (Path.cwd() / "demo.duckdb").exists()
    assert not store.exists()
    assert in_url(page, "demo") == "1"
    assert counts(page) == {"Answers": "428", "Votes": "166", "Decisions": "0", "Live": "0"}
    assert "steps" in page.subheader[0].value
    assert "preferred" in page.subheader[0].value


def test_the_demo_leads_to_its_decision_and_tells_what_happened(store, demo_file) -> None:
    shutil.copy(demo_file, "demo.duckdb")
    page = home(demo="1")
    assert next_act(page).label.startswith("Release steps@")
    links = [link.label for link in page.get("page_link")]
    assert any("votes by Ben" in link for link in links)
    assert any("new steps" in link for link in links)
    told = " ".join(element.value for element in page.markdown)
    assert "144 answers" in told
    assert "Half of the answers within 694 ms" in told


def test_answers_without_votes_are_to_be_rated_in_a_queue_of_twenty(store) -> None:
    fill(store, "terse", "steps")
    page = home()
    assert next_act(page).label == "Rate 20 pairs, 7 minutes"
    assert "no votes" in page.subheader[0].value
    next_act(page).click().run()
    (queue,) = store.sql("SELECT * FROM queues").to_dict("records")
    assert in_url(page, "queue") == queue["id"]
    assert len(queue["cases"]) == 20
    assert queue["purpose"] == "decision"


def test_three_variants_make_a_queue_of_all(store) -> None:
    fill(store, "terse", "steps", "third", cases=25)
    page = home(rater="Anna")
    assert next_act(page).label == "Rate 20 pairs, 7 minutes"
    next_act(page).click().run()
    (queue,) = store.sql("SELECT purpose, len(variants) AS n FROM queues").to_dict("records")
    assert queue == {"purpose": "leaderboard", "n": 3}
    assert "0 judged · 20 left, about 7 minutes" in [caption.value for caption in page.caption]


def test_a_few_votes_want_more(store) -> None:
    fill(store, "terse", "steps", votes=5)
    page = home()
    assert next_act(page).label.startswith("Rate ")
    assert "more pairs" in next_act(page).label
    assert "Few votes yet" in page.subheader[0].value


def test_what_the_gate_promotes_is_to_be_released_and_then_watched(store) -> None:
    fill(store, "terse", "steps", cases=60, votes=60)
    page = home()
    assert next_act(page).label == "Release steps"
    assert "preferred to terse" in page.subheader[0].value.replace("\\", "")
    assert counts(page)["Votes"] == "60"
    next_act(page).click().run()
    assert page.title[0].value == "Decide"
    assert "Release steps" in page.subheader[0].value
    decision = decide(store, "support", "steps")
    promote(store, "support", "terse")
    promote(store, "support", "steps", canary=0.1, decision_id=decision.id)
    page = home()
    assert next_act(page).label == "Release steps"
    assert counts(page)["Live"] == "2"
    promote(store, "support", "steps", decision_id=decision.id)
    page = home()
    assert next_act(page).label == "See how it fares"
    assert counts(page) == {"Answers": "120", "Votes": "60", "Decisions": "1", "Live": "1"}
    assert "Released terse 90%, steps 10%" in [plain(link.label) for link in page.get("page_link")]
    next_act(page).click().run()
    assert page.title[0].value == "Trends"
    assert in_url(page, "by") == "day"
    rollback(store, "support")
    assert "Rolled back to terse 90%, steps 10%" in [plain(link.label) for link in home().get("page_link")]


def test_a_decision_that_wants_more_votes_opens_its_queue(store) -> None:
    fill(store, "terse", "steps", cases=60, votes=36, wins=18)
    page = home()
    assert next_act(page).label.startswith("Rate ")
    assert "more pairs, " in next_act(page).label
    assert "Too early to say whether steps" in "".join(plain(caption.value) for caption in page.caption)
    assert "Decide" in [link.label for link in page.get("page_link")]
    next_act(page).click().run()
    (queue,) = store.sql("SELECT id, purpose, cases, rule->>'goal' AS goal FROM queues").to_dict("records")
    assert in_url(page, "queue") == queue["id"]
    assert (queue["purpose"], list(queue["cases"]), queue["goal"]) == ("decision", [], None)


def test_the_rule_that_people_were_asked_under_goes_on_to_hold(store) -> None:
    run = fill(store, "terse", "steps", cases=60, votes=36, wins=30)
    assert next_act(home()).label == "Release steps"
    store.append([Queue(task="support", purpose="decision", variants=run.variants, rule={"goal": "no_worse"})])
    page = home()
    assert next_act(page).label == "See the decision"
    assert "is not shown to be cheaper or faster" in "".join(plain(caption.value) for caption in page.caption)


def test_a_worse_candidate_leads_to_another_one(store) -> None:
    fill(store, "terse", "steps", cases=60, votes=60, wins=5, source="rows.jsonl")
    page = home()
    assert next_act(page).label == "Add another variant"
    next_act(page).click().run()
    assert page.title[0].value == "New run"


def test_one_variant_wants_a_second(store) -> None:
    run = fill(store, "terse", source="rows.jsonl")
    page = home()
    assert next_act(page).label == "Add a second variant"
    next_act(page).click().run()
    assert page.title[0].value == "New run"
    assert in_url(page, "like") == run.id


@pytest.mark.parametrize("state", ["stopped", "interrupted"])
def test_a_run_that_did_not_end_is_gone_on_with(store, state, monkeypatch) -> None:
    Path("rows.jsonl").write_text('{"input": "x"}')
    run = fill(store, "terse", "steps", state=state, source=str(Path("rows.jsonl").absolute()))
    asked = []
    monkeypatch.setattr("feedbackloop.pipeline.launch.resume", lambda _, run_id: asked.append(run_id))
    page = home()
    assert next_act(page).label == f"Resume the {state} run"
    next_act(page).click().run()
    assert asked == [run.id]
    assert in_url(page, "run") == run.id


def test_a_run_that_cannot_be_gone_on_with_is_no_act(store) -> None:
    fill(store, "terse", "steps", state="interrupted")
    assert next_act(home()).label.startswith("Rate")


def test_a_running_run_is_shown_as_it_goes_and_can_be_stopped(store) -> None:
    run = fill(store, "terse", "steps", cases=2, state="running", begun_ago_s=5)
    page = home()
    assert next_act(page).label == "Watch the run"
    assert page.get("progress")
    page.button(key=f"stop-{run.id[:8]}").click().run()
    assert queries.stop_asked(store, run.id, run.created_at)
    assert any("Stopping" in caption.value for caption in page.caption)


def test_spend_that_is_partly_unknown_says_so(store) -> None:
    fill(store, "terse", "steps", cases=11)
    told = " ".join(element.value for element in home().markdown).replace("\\", "")
    assert "at least $0.20, 2 unpriced" in told


def test_a_period_without_anything_still_opens(store) -> None:
    fill(store, "terse", "steps", cases=3, begun_ago_s=20 * 86_400)
    page = home(period="last 7 days")
    assert counts(page)["Answers"] == "0"
    assert next_act(page).label == "New run"


def test_names_are_shown_and_never_obeyed(store) -> None:
    fill(store, "**bold** $a$ :material/home:", "<b>x</b>", cases=3)
    page = home()
    assert not [element.value for element in page.markdown if "**bold**" in element.value]
