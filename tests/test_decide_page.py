"""Decide: the verdict, the release, and the way back."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import feedbackloop as fl
from feedbackloop.comparisons import open_queue
from feedbackloop.improve import policy
from feedbackloop.improve.rules import parsed as rule_of_text
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


def plain(text: str) -> str:
    """A text without what keeps it from being Markdown."""
    return text.replace("\\", "").replace("\u2060", "")


def heading(app: AppTest) -> str:
    return plain(app.subheader[0].value)


def test_the_most_promising_candidate_is_proposed_with_its_verdict(store) -> None:
    app = decide()
    assert "Release steps@" in heading(app)
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
    # From now on it says who answers, has nothing to release, and the receipt is that of what was decided.
    app = decide()
    assert "answers since" in heading(app)
    assert not [one for one in app.button if "Release" in one.label]
    assert "feedbackloop rollback demo-support" in app.code[0].value
    assert f"Undo release {released[0].id[:8]}" in app.code[0].value
    # The first release gives the requests back to what it took them from.
    assert "Rolling back gives the requests to terse" in plain(" ".join(one.value for one in app.caption))
    button(app, "Roll back").click().run()
    assert not app.exception
    assert policy.history(store, "demo-support")[0].weights == {"*": {decisions[0].baseline: 1.0}}
    assert "Release steps@" in heading(decide())
    assert button(app, "Release …")


def test_a_canary_can_grow_and_be_taken_back(store) -> None:
    policy.promote(store, "demo-support", "steps", canary=0.1)
    app = decide()
    assert any("It answers 10% of the requests since" in one.value for one in app.caption)
    assert button(app, "Release …")
    button(app, "Roll back").click().run()
    assert not app.exception
    assert list(policy.history(store, "demo-support")[0].weights["*"].values()) == [1.0]


STRICT = "max_p95_increase:0.5"


def test_a_rule_that_was_set_holds_on_every_page_and_goes_along_in_the_address(store) -> None:
    app = decide()
    assert "Release steps@" in heading(app)
    app.number_input(key="rule-max-p95").set_value(50.0).run()
    assert "Keep terse" in heading(app)
    assert app.query_params["rule"] == STRICT
    home = app.switch_page(str(context.PAGES["home"].path)).run()
    assert "Keep terse" in plain(" ".join(one.value for one in (*home.markdown, *home.text, *home.caption)))
    back = (
        home.switch_page(str(context.PAGES["results"].path)).run().switch_page(str(context.PAGES["decide"].path)).run()
    )
    assert "Keep terse" in heading(back)
    assert back.number_input(key="rule-max-p95").value == 50.0
    # Whoever gets the link sees the same, and may take the guard away.
    other = decide(rule=STRICT)
    assert "Keep terse" in heading(other)
    other.number_input(key="rule-max-p95").set_value(None).run()
    assert "Release steps@" in heading(other)
    assert "rule" not in other.query_params


def test_the_rule_is_the_one_that_people_were_last_asked_under(store) -> None:
    by_label = {one.label: one.id for one in store.load(fl.Variant, "SELECT * FROM variants")}
    pair = [by_label["terse@6d52"], by_label["steps@991a"]]
    open_queue(store, "demo-support", pair, rule=rule_of_text(STRICT).unusual)
    app = decide()
    assert "Keep terse" in heading(app)
    assert app.number_input(key="rule-max-p95").value == 50.0
    assert "rule" not in app.query_params


@pytest.mark.parametrize("text", ["margin:5", "nonsense"])
def test_a_rule_in_the_address_that_is_none_is_passed_over(store, text) -> None:
    assert "Release steps@" in heading(decide(rule=text))


def test_names_are_shown_and_never_obeyed(store) -> None:
    policy.promote(store, "demo-support", "terse")
    hostile = fl.Variant(name="b*v* [l](http://x)", model="simulated:a")
    [run] = store.load(fl.Run, "SELECT * FROM runs ORDER BY created_at DESC LIMIT 1")
    store.append([hostile, run.model_copy(update={"id": "h" * 32, "variants": [*run.variants, hostile.id]})])
    app = decide(candidate=hostile.name)
    shown = [*(one.value for one in app.subheader), *(one.value for one in app.markdown)]
    button(app, "Release …").click().run()
    shown += [one.value for one in app.markdown]
    assert any("](http://x)" in plain(one) for one in shown)
    assert not any("](http://x)" in one for one in shown)


def test_what_is_undecided_asks_for_votes_and_opens_a_queue(store) -> None:
    app = decide(candidate="careless", goal="no_worse")
    labels = [one.label for one in app.button]
    assert any("Rate" in label for label in labels) or "Keep" in heading(app)


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
    return [plain(warning.value) for warning in page.warning]
