"""The first minutes in a real browser: the demo by a click, a CSV to its first pair, a run that outlives its page."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from browser import FINISHED, running_app

import feedbackloop as fl
from feedbackloop import queries

_pause = time.sleep


@pytest.fixture
def page(chromium) -> Iterator[object]:
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, timezone_id="Asia/Kolkata")
    context.set_default_timeout(30_000)
    yield context.new_page()
    context.close()


def button(page, name: str):
    return page.get_by_role("button", name=name, exact=True)


def test_the_demo_is_one_click_away(page, tmp_path, record_property) -> None:
    with running_app(tmp_path / "loop.duckdb", tmp_path) as url:
        page.goto(url)
        began = time.monotonic()
        button(page, "Try the demo").click()
        page.wait_for_url("**demo=1*")
        page.get_by_test_id("stMetricValue").first.wait_for()
        record_property("seconds", time.monotonic() - began)
        page.wait_for_selector(FINISHED)
        assert page.get_by_test_id("stMetricValue").all_inner_texts() == ["428", "166", "0", "0"]
        assert not (tmp_path / "loop.duckdb").exists()
        # A reload stays there, and the way back leads to the user's own, empty store.
        page.reload()
        page.locator(".st-key-next-act button").wait_for()
        button(page, "Leave the demo").click()
        button(page, "Bring your data").wait_for()
        assert "demo" not in page.url


def test_a_csv_with_two_columns_of_answers_leads_to_the_first_vote(page, tmp_path, record_property) -> None:
    file = tmp_path / "answers.csv"
    file.write_text(
        "prompt,model_a,model_b\n" + "".join(f"Question {n}?,short {n},a longer answer {n}\n" for n in range(20))
    )
    with running_app(tmp_path / "loop.duckdb", tmp_path) as url:
        page.goto(url)
        button(page, "Bring your data").click()
        page.wait_for_selector("input[type=file]", state="attached")
        began = time.monotonic()
        page.set_input_files("input[type=file]", str(file))
        button(page, "Rate them").click()
        assert "a longer answer 1" not in page.content()
        button(page, "Import").click()
        page.get_by_role("textbox", name="Your name").fill("Anna")
        button(page, "Rate blind").click()
        page.wait_for_url("**/rate?*queue=*")
        page.get_by_text("a longer answer").first.wait_for()
        # A vote counts when its pair was on the screen for a second.
        _pause(1.2)
        page.keyboard.press("1")
        store = fl.Store(tmp_path / "loop.duckdb")
        until = time.monotonic() + 10
        while store.sql("SELECT count(*) AS n FROM comparisons")["n"][0] == 0:
            assert time.monotonic() < until, "the vote did not arrive"
            _pause(0.2)
        record_property("seconds", time.monotonic() - began)
        (vote,) = store.sql("SELECT rater, winner, task, blind FROM comparisons").to_dict("records")
        assert vote["rater"] == "Anna"
        assert vote["task"] == "answers"


def test_a_run_started_here_goes_on_when_the_page_is_closed_and_is_seen_from_any_page(chromium, tmp_path) -> None:
    rows = "".join(json.dumps({"input": f"Question {n}"}) + "\n" for n in range(12))
    (tmp_path / "rows.jsonl").write_text(rows)
    store = fl.Store(tmp_path / "loop.duckdb")
    with running_app(store.path, tmp_path) as url:
        context = chromium.new_context(viewport={"width": 1280, "height": 1400})
        first = context.new_page()
        first.goto(f"{url}/runs?new=run")
        first.get_by_label("or choose one that is here").click()
        first.get_by_role("option", name="rows.jsonl").click()
        first.get_by_text("12 rows", exact=True).wait_for()
        # A model of one's own words stays in its box.
        box = first.get_by_role("combobox", name="Model").first
        box.fill("simulated:of-my-own")
        box.press("Enter")
        first.wait_for_selector(FINISHED)
        more = first.get_by_label("More, as JSON").first
        first.get_by_text("Parameters").first.click()
        more.fill('{"realtime": true, "latency_ms": 15000, "latency_sigma": 0}')
        more.press("Control+Enter")
        first.get_by_text("latency_ms: 15000").first.wait_for(state="attached")
        button(first, "Start").click()
        first.wait_for_url("**run=*")
        context.close()
        (status,) = queries.runs(store)
        assert status.state == "running"

        again = chromium.new_page()
        again.goto(url)
        button(again, "Watch the run").click()
        again.wait_for_url(f"**run={status.run.id}*")
        # The page notices the end by itself.
        button(again, "Compare the answers").wait_for()
        again.get_by_text("finished").wait_for()
        again.close()
    (status,) = queries.runs(store)
    assert status.state == "finished"
    assert status.counts["completed"] == 24
    assert {variant.model for variant in queries.variants(store)} == {"simulated:of-my-own", "simulated:small"}
