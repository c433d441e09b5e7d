"""Decide: the verdict, the release, and the way back."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import feedbackloop as fl
from feedbackloop.improve import policy
from feedbackloop.models import Decision
from feedbackloop.pages import context

ROOT = Path(__file__).parents[1]


@pytest.fixture
def store(store_path, demo_file) -> fl.Store:
    shutil.copy(demo_file, store_path)
    return fl.Store(store_path)


def decide(**query: str) -> AppTest:
    made = AppTest.from_file(str(ROOT / "app.py"), default_timeout=20)
    for name, value in query.items():
        made.query_params[name] = value
    made.run()
    made.switch_page(str(context.PAGES["decide"].path)).run()
    assert not made.exception
    return made


def button(app: AppTest, label: str):
    return next(one for one in app.button if label in one.label)


def test_the_most_promising_candidate_is_proposed_with_its_verdict(store) -> None:
    app = decide()
    assert "Release steps@" in app.subheader[0].value
    assert any("blind votes on" in text.value for text in app.text)
    assert button(app, "Release")


def test_a_release_is_asked_for_once_written_with_its_decision_and_rolled_back(store) -> None:
    app = decide()
    button(app, "Release …").click().run()
    assert policy.history(store, "demo-support") == []
    next(one for one in app.button if one.key == "release-now").click().run()
    assert not app.exception
    released = policy.history(store, "demo-support")
    decisions = store.load(Decision, "SELECT * FROM decisions")
    assert len(released) == len(decisions) == 1
    assert released[0].decision_id == decisions[0].id
    assert released[0].weights == {"*": {decisions[0].candidate: 1.0}}
    policy.promote(store, "demo-support", "terse")
    app = decide()
    button(app, "Roll back").click().run()
    assert policy.history(store, "demo-support")[0].weights == released[0].weights


def test_what_is_undecided_asks_for_votes_and_opens_a_queue(store) -> None:
    app = decide(candidate="careless", goal="no_worse")
    labels = [one.label for one in app.button]
    assert any("Rate" in label for label in labels) or "Keep" in app.subheader[0].value


def test_the_receipt_can_be_taken_along(store) -> None:
    app = decide()
    assert "feedbackloop gate steps@" in app.code[0].value
    assert "(receipt.svg)" in app.code[0].value
    assert [one.label for one in app.get("download_button")] == ["Download", "Download the picture"]


def test_one_variant_only(tmp_path, monkeypatch) -> None:
    store = fl.Store(tmp_path / "one.duckdb")
    variant = fl.Variant(name="only", model="simulated:a")
    store.append([fl.Task(name="t"), variant, fl.Run(task="t", dataset="d", fingerprint="", variants=[variant.id])])
    monkeypatch.setenv("FEEDBACKLOOP_STORE", str(store.path))
    app = decide()
    assert "one variant only" in app.info[0].value


def test_a_link_to_what_is_not_there_says_so_once_and_until_something_is_chosen(store) -> None:
    page = decide(task="nosuch*task", candidate="whatever")
    assert said(page) == ["This store has no task 'nosuch*task'; showing demo-support."]
    assert "nosuch\\*task" in page.warning[0].value
    assert "task" in page.query_params
    # It goes along to no other page.
    del page.query_params["task"]
    home = page.switch_page(str(context.PAGES["home"].path)).run()
    assert not home.warning
    assert "task" not in home.query_params
    page = decide(candidate="whatever")
    assert said(page) == ["This task has no candidate 'whatever'; showing steps@991a."]
    page = page.selectbox(key="choice-candidate").set_value(page.selectbox(key="choice-candidate").options[1]).run()
    assert not page.warning
    page = decide(baseline="none")
    assert said(page) == ["This task has no variant 'none'; showing terse."]
    # What is no option any more since another was chosen is no wrong link.
    page = decide(candidate="careless")
    page = page.selectbox(key="choice-baseline").set_value("careless").run()
    assert not page.warning
    assert "candidate" not in page.query_params


def said(page: AppTest) -> list[str]:
    return [warning.value.replace("\\", "").replace("\u2060", "") for warning in page.warning]
