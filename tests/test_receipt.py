"""Decisions in words, and on the command line."""

from __future__ import annotations

import re
import shutil

import pytest
from typer.testing import CliRunner

import feedbackloop as fl
from feedbackloop.cli import app
from feedbackloop.improve import policy
from feedbackloop.improve.gate import Rule, assess
from feedbackloop.improve.receipt import evidence, receipt, sentence
from feedbackloop.models import Decision


@pytest.fixture
def store(tmp_path, demo_file) -> fl.Store:
    shutil.copy(demo_file, tmp_path / "loop.duckdb")
    return fl.Store(tmp_path / "loop.duckdb")


@pytest.mark.parametrize(
    ("verdict", "reason", "said"),
    [
        ("promote", "better", "Release new@2222 in place of old@1111: it is preferred."),
        ("promote", "no_worse", "Release new@2222 in place of old@1111: it is no worse, and cheaper or faster."),
        ("keep", "worse", "Keep old@1111: new@2222 is worse."),
        ("keep", "guard:cost", "Keep old@1111: the mean cost of an answer of new@2222 is beyond what the rule allows."),
        ("undecided", "guard:failures", "Not yet: the failure rate of new@2222 looks beyond what the rule allows."),
        (
            "undecided",
            "too_few",
            "Too early to say whether new@2222 may replace old@1111: about 31 more votes would tell.",
        ),
    ],
)
def test_each_verdict_is_a_sentence(verdict, reason, said) -> None:
    names = {"1": "old@1111", "2": "new@2222"}
    decision = Decision(
        task="t",
        baseline="1",
        candidate="2",
        goal="better",
        verdict=verdict,
        reason=reason,
        more_needed=31,
        evidence={"names": names},
    )
    assert sentence(decision) == said


def test_the_gate_says_how_to_go_on(store) -> None:
    told = CliRunner().invoke(app, ["gate", "steps", "--store", store.address]).output
    decision = store.sql("SELECT id FROM decisions")["id"][0]
    assert "feedbackloop promote demo-support steps@" in told
    assert f"--decision {decision}" in told
    assert (
        "--decision" not in CliRunner().invoke(app, ["gate", "steps", "--no-record", "--store", store.address]).output
    )
    early = CliRunner().invoke(app, ["gate", "careless", "--store", store.address])
    assert early.exit_code == 100
    assert "feedbackloop app" in early.output


def test_one_vote_is_one_vote() -> None:
    made = {
        "task": "t",
        "baseline": "1",
        "candidate": "2",
        "goal": "better",
        "verdict": "undecided",
        "reason": "too_few",
    }
    assert "about 1 more vote would tell" in sentence(Decision(**made, more_needed=1))
    assert "1 blind vote on 1 case by Anna" in evidence(
        Decision(**made, estimate=1.0, n=1, raters=["Anna"], evidence={"cases": 1})
    )


def test_a_receipt_reproduces_the_whole_rule(store) -> None:
    rule = Rule(goal="no_worse", margin=0.1, max_cost_increase=0.2, max_p95_increase=0.1)
    text = receipt(assess(store, "demo-support", "steps", rule=rule).decision)
    assert "--goal no_worse --margin 0.1 --max-cost 0.2 --max-p95 0.1\n" in text
    assert "--goal better\n" in receipt(assess(store, "demo-support", "steps").decision)


def test_people_are_named() -> None:
    made = {
        "task": "t",
        "baseline": "1",
        "candidate": "2",
        "goal": "better",
        "verdict": "undecided",
        "reason": "too_few",
        "estimate": 0.5,
    }
    named = [evidence(Decision(**made, raters=list(("Anna", "Ben", "Cleo", "Dan", "Eva")[:n]))) for n in (0, 1, 2, 5)]
    assert [said.rpartition(" by ")[2] for said in named] == [
        "nobody.",
        "Anna.",
        "Anna and Ben.",
        "Anna, Ben, Cleo and 2 others.",
    ]


def test_the_demo_is_decided_in_words(store) -> None:
    found = assess(store, "demo-support", "steps").decision
    assert "blind votes on" in evidence(found)
    assert "Anna and Ben" in evidence(found)
    text = receipt(found, store="team.duckdb")
    assert "feedbackloop gate steps@" in text
    assert "--store team.duckdb" in text
    assert "Undo" not in text
    released = policy.promote(store, "demo-support", "steps", decision_id=found.id)
    assert "feedbackloop rollback demo-support" in receipt(found, policy=released)


def test_names_cannot_do_anything_in_a_receipt() -> None:
    evil = "[x](http://e.example)<img src=x>|`"
    decision = Decision(
        task=evil,
        baseline="1",
        candidate="2",
        goal="better",
        verdict="keep",
        reason="worse",
        evidence={"names": {"1": evil, "2": "b"}},
    )
    prose = receipt(decision).split("Reproduce:")[0]
    assert not re.search(r"(?<!\\)\]\(", prose)
    assert "<img" not in prose.replace("\\<img", "")


def test_the_gate_exits_with_100_unless_it_promotes(store, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(app, ["gate", "careless"])
    assert shown.exit_code == 100
    assert "careless@" in shown.output
    kept = store.load(Decision, "SELECT * FROM decisions")
    assert [one.verdict in ("keep", "undecided") for one in kept] == [True]
    printed = CliRunner().invoke(
        app, ["gate", "careless", "--receipt", "--no-record", "--goal", "no_worse", "--max-cost", "0.5"]
    )
    assert printed.output.startswith("### ")
    assert "| mean cost of an answer |" in printed.output
    assert len(store.load(Decision, "SELECT * FROM decisions")) == 1
