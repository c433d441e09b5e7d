"""Once round the whole loop by public means: votes decide, the decision is released, users get it, and what they say comes back."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from streamlit.testing.v1 import AppTest
from waiting import until

import feedbackloop as fl
from feedbackloop.cli import main
from feedbackloop.pages import context

ROOT = Path(__file__).parents[1]
TASK = "opening-hours"
THUMBS = "thumbs (end users)"
OBEYED_WITHIN_S = 5.0

Command = Callable[..., str]

PIPELINE = '''\
"""Two ways to answer, as somebody's own code."""


def short(inputs):
    return f"About {inputs['input']}: see our web site."


def reasoned(inputs):
    return f"About {inputs['input']}: open from nine to five, because the lifts are serviced at night."
'''


def test_a_vote_changes_what_users_get_and_what_they_say_comes_back(tmp_path, store_path, monkeypatch, command) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    store = fl.Store(store_path)

    made = asyncio.run(
        fl.run(
            [{"input": f"question {number}"} for number in range(40)],
            [{"name": name, "model": f"python:pipeline.py:{name}"} for name in ("short", "reasoned")],
            store=store,
            task=TASK,
        )
    )
    assert (made.progress.completed, made.progress.failed) == (80, 0)
    labels = {variant.name: variant.label for variant in store.load(fl.Variant, "SELECT * FROM variants")}

    # Nobody has voted: nothing is released.
    assert command("gate", "reasoned", "--task", TASK, code=100).startswith("Too early to say")
    votes = decide_by_votes(store)
    told = command("gate", "reasoned", "--task", TASK, "--max-failures", "0.02")
    assert f"Release {labels['reasoned']} in place of {labels['short']}: it is preferred." in told
    assert f"{votes} blind votes" in told

    fl.promote(store, TASK, "short")
    with service(tmp_path) as url, openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:

        def ask(user: str = "u1") -> tuple[str, Any]:
            raw = client.chat.completions.with_raw_response.create(
                model=TASK, messages=[{"role": "user", "content": "the tower"}], user=user
            )
            return raw.headers["x-feedbackloop-variant"], raw.parse()

        who, answer = ask()
        assert (who, answer.choices[0].message.content) == (labels["short"], "About the tower: see our web site.")

        decision = store.sql("SELECT id FROM decisions WHERE verdict = 'promote'")["id"][0]
        assert f"Live for {TASK}: {labels['reasoned']}" in command("promote", TASK, "reasoned", "--decision", decision)
        until(lambda: ask()[0] == labels["reasoned"], OBEYED_WITHIN_S)
        who, answer = ask("u2")
        assert (who, answer.choices[0].message.content.split()[-1]) == (labels["reasoned"], "night.")

        client.post("/feedback", body={"id": answer.id, "thumbs": "down", "comment": "in winter?"}, cast_to=object)
        until(lambda: len(store.sql("SELECT id FROM responses WHERE id = ?", [answer.id])) == 1, OBEYED_WITHIN_S)
        heard(store, answer.id)

        assert f"Live for {TASK}: {labels['short']}" in command("rollback", TASK)
        until(lambda: ask()[0] == labels["short"], OBEYED_WITHIN_S)
        assert ask("u2")[1].choices[0].message.content == "About the tower: see our web site."

    history = store.load(fl.Policy, "SELECT * FROM policies ORDER BY created_at")
    assert [policy.decision_id for policy in history] == [None, decision, None]
    assert history[2].weights == history[0].weights != history[1].weights
    assert fl.results(store, task=TASK).rows[0].win_rate.n == votes


def decide_by_votes(store: fl.Store) -> int:
    """Let two raters, who prefer reasons in four cases of five, vote in a decision queue until the gate has seen enough."""
    queue = fl.open_queue(store, TASK, ["short", "reasoned"], overlap=1, seed=7)
    for cast in range(1, 41):
        rater = ("Anna", "Ben")[cast % 2]
        pair = fl.next_pair(store, queue, rater)
        # What they see are two texts; whose they are is not said.
        better = "left" if "because" in pair.left else "right"
        worse = "right" if better == "left" else "left"
        taste = random.Random(f"taste {pair.case.id}").random()
        fl.vote(store, pair, better if taste < 0.8 else worse, rater, seconds=3.0)
        if cast % 5 == 0 and fl.assess(store, TASK, "reasoned").decision.verdict == "promote":
            return cast
    raise AssertionError(fl.assess(store, TASK, "reasoned").decision.reason)


def heard(store: fl.Store, answer: str) -> None:
    """The thumb is a rating of that answer by its user, and a point on Trends, in Python and in the app."""
    (rating,) = store.load(fl.Rating, "SELECT * FROM ratings WHERE rater_kind = 'user'")
    assert (rating.response_id, rating.rater, rating.metric, rating.value) == (answer, "u2", "thumbs", 0.0)
    assert (rating.blind, rating.comment) == (True, "in winter?")
    trend = fl.trends(store, task=TASK, by="week", quality=THUMBS)
    (point,) = (point for point in trend.points if point.quality)
    assert (point.player, point.quality.estimate, point.quality.n) == ("reasoned", 0.0, 1)

    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=20)
    page.query_params["task"] = TASK
    page.query_params["by"] = "week"
    page.query_params["quality"] = THUMBS
    page.run().switch_page(str(context.PAGES["trends"].path)).run()
    assert not page.exception
    table = page.dataframe[0].value
    shown = table[table[THUMBS] != "-"]
    assert shown["variant"].tolist() == ["reasoned"]
    assert shown[THUMBS].iloc[0].endswith("; 1")


def test_answers_of_a_service_stand_for_themselves_on_trends(tmp_path) -> None:
    """They have no case, and are not one case therefore; nor are they of a run."""
    store = fl.Store(tmp_path / "loop.duckdb")
    variant = fl.Variant(name="short", model="simulated:a")
    run = fl.Run(task=TASK, dataset="d", fingerprint="f", variants=[variant.id])
    requests = [fl.AIRequest(input=f"question {number}", task=TASK, variant_id=variant.id) for number in range(4)]
    answers = [
        fl.AIResponse(request_id=request.id, output="so", model_used="simulated:a", cost_usd=0.01 * (1 + place))
        for place, request in enumerate(requests)
    ]
    ratings = [
        fl.Rating(response_id=one.id, rater="u1", rater_kind="user", metric="thumbs", value=place % 2)
        for place, one in enumerate(answers)
    ]
    store.append([fl.Task(name=TASK), variant, run, *requests, *answers, *ratings])
    assert not fl.trends(store, task=TASK, by="run", quality=THUMBS).points
    (point,) = fl.trends(store, task=TASK, by="week", quality=THUMBS).points
    assert (point.answers, point.quality.estimate, point.quality.clusters) == (4, 0.5, 4)
    assert (round(point.cost_usd.estimate, 4), point.cost_usd.n) == (0.025, 4)
    assert 0 < point.quality.lower < 0.5 < point.quality.upper < 1


@pytest.fixture
def command(capsys) -> Command:
    """What `feedbackloop` says, which has to end with a code, here 0 unless named."""

    def called(*words: str, code: int = 0) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        said, complaint = capsys.readouterr()
        assert (int(ended.value.code or 0), complaint) == (code, ""), said
        return said

    return called


@contextmanager
def service(folder: Path) -> Iterator[str]:
    """`feedbackloop serve` in a process of its own, ended as an orchestrator ends it; gives its address."""
    log = folder / "serve.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "feedbackloop", "serve", "--port", "0"],
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    try:
        until(lambda: "running on" in log.read_text() or process.poll() is not None, 30)
        assert process.poll() is None, log.read_text()
        line = next(line for line in log.read_text().splitlines() if "running on" in line)
        yield next(word for word in line.split() if word.startswith("http")) + "/v1"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, log.read_text()
        assert "Traceback" not in log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
