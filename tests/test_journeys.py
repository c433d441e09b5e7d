"""What people do with the app from their first minute on, in a real browser; and three processes at one file at once."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from browser import FINISHED, ROOT, running_app

import feedbackloop as fl

sync_api = pytest.importorskip("playwright.sync_api")

SEEN_MS = 1_150
"""A vote counts once its pair was on screen for a second."""


@pytest.fixture
def page(chromium) -> Iterator[sync_api.Page]:
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(20_000)
    yield context.new_page()
    context.close()


@pytest.fixture(scope="module")
def demo(demo_file, tmp_path_factory) -> Iterator[tuple[fl.Store, str]]:
    """The demo under the name of one's own store, and the app on it."""
    folder = tmp_path_factory.mktemp("demo")
    shutil.copy(demo_file, folder / "loop.duckdb")
    with running_app(folder / "loop.duckdb", folder) as url:
        yield fl.Store(folder / "loop.duckdb"), url


def settle(page) -> None:
    page.wait_for_selector(FINISHED)
    page.wait_for_timeout(100)
    page.wait_for_selector(FINISHED)


def vote(page, store: fl.Store, key: str) -> None:
    """Press a key once the pair was seen, and wait until the vote is in the store."""
    before = votes(store)
    page.wait_for_timeout(SEEN_MS)
    page.keyboard.press(key)
    until = time.monotonic() + 20
    while votes(store) == before:
        assert time.monotonic() < until, "the vote did not reach the store"
        page.wait_for_timeout(50)


def votes(store: fl.Store) -> int:
    return int(store.sql("SELECT count(*) AS n FROM comparisons")["n"][0])


def test_the_first_two_minutes(page, tmp_path, record_property) -> None:
    """From nothing to a result: try the demo, five votes by keyboard, and what they say."""
    began = time.monotonic()
    with running_app(tmp_path / "loop.duckdb", tmp_path) as url:
        page.goto(url)
        page.get_by_role("button", name=re.compile("Try the demo")).click()
        page.get_by_text(re.compile("steps.* is preferred to terse")).first.wait_for()
        assert not (tmp_path / "loop.duckdb").exists()
        store = fl.Store(tmp_path / "demo.duckdb")
        page.get_by_role("link", name="Rate", exact=True).click()
        page.get_by_label("Your name", exact=True).fill("Cleo")
        page.get_by_label("Your name", exact=True).press("Enter")
        settle(page)
        page.get_by_role("button", name=re.compile("Start rating")).click()
        page.get_by_role("button", name=re.compile("A is better")).wait_for()
        settle(page)
        for key in ("1", "2", "3", "1", "2"):
            vote(page, store, key)
        page.get_by_role("link", name="Results", exact=True).click()
        page.get_by_text(re.compile(r"Cleo")).first.wait_for()
    assert store.sql("SELECT count(*) AS n FROM comparisons WHERE rater = 'Cleo' AND blind")["n"][0] == 5
    record_property("seconds", time.monotonic() - began)


READER = """
import json, sys, time
import feedbackloop as fl
store = fl.Store(sys.argv[1])
looks = 0
while looks < 5 or store.sql("SELECT count(*) AS n FROM run_events WHERE kind = 'finished' AND run_id NOT IN (SELECT id FROM runs WHERE task = 'demo-support')")["n"][0] < 1:
    store.sql("SELECT variant, count(*), avg(checks) FROM answers GROUP BY variant")
    fl.results(store, task="demo-support").to_frame()
    looks += 1
    time.sleep(0.2)
print(json.dumps(looks))
"""


def test_a_rater_a_run_and_a_notebook_use_one_file_at_once(page, tmp_path, demo) -> None:
    store, url = demo
    before = votes(store)
    queue = fl.open_queue(store, "demo-support", ["terse", "careless"])
    (tmp_path / "cases.jsonl").write_text("".join(json.dumps({"input": f"question {n}"}) + "\n" for n in range(300)))
    (tmp_path / "spec.yaml").write_text(
        "task: other\ndataset: cases.jsonl\nvariants:\n"
        "  - {name: a, model: 'simulated:a', params: {latency_ms: 120}}\n"
        "  - {name: b, model: 'simulated:b', params: {latency_ms: 120}}\n"
        "limits: {concurrency: 8}\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    page.goto(f"{url}/rate?queue={queue.id}&rater=Cleo&only=rate")
    page.get_by_role("button", name=re.compile("A is better")).wait_for()
    settle(page)
    command = [sys.executable, "-m", "feedbackloop", "run", "spec.yaml", "--store", str(store.path)]
    run = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, str(store.path)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    cast = 0
    while run.poll() is None or cast < 5:
        vote(page, store, "123"[cast % 3])
        cast += 1
        assert not page.locator("[data-testid=stAlert], [data-testid=stException]").count()
    said, _ = run.communicate(timeout=30)
    looks, errors = reader.communicate(timeout=30)
    assert run.returncode == 0, said
    assert reader.returncode == 0, errors
    assert json.loads(looks) >= 5
    assert votes(store) == before + cast
    assert store.sql("SELECT count(*) AS n FROM answers WHERE task = 'other' AND status = 'completed'")["n"][0] == 600


def test_what_the_address_says_goes_along_from_page_to_page(page, demo) -> None:
    _, url = demo
    page.goto(f"{url}/results?period=last+30+days")
    settle(page)
    page.get_by_role("link", name="Trends", exact=True).click()
    page.wait_for_url(re.compile(r"/trends\?.*period=last"))
    settle(page)
    page.get_by_role("link", name="Compare", exact=True).click()
    page.wait_for_url(re.compile(r"/compare\?.*period=last"))
    settle(page)
    page.reload()
    settle(page)
    assert "period=last" in page.url
