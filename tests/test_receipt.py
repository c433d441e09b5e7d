"""Decisions in words, and on the command line."""

from __future__ import annotations

import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from typer.testing import CliRunner

import feedbackloop as fl
from feedbackloop.cli import app
from feedbackloop.errors import SettingsError
from feedbackloop.improve import policy
from feedbackloop.improve.gate import assess
from feedbackloop.improve.picture import picture
from feedbackloop.improve.receipt import evidence, receipt, sentence
from feedbackloop.improve.rules import Rule
from feedbackloop.models import Decision
from feedbackloop.palette import GREEN

SVG = "{http://www.w3.org/2000/svg}"
SHAPES = {"svg", "title", "desc", "style", "rect", "line", "circle", "path", "g", "text"}


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
    made = a_decision(verdict="undecided", reason="too_few", more_needed=1, n=1, raters=["Anna"], evidence={"cases": 1})
    assert "about 1 more vote would tell" in sentence(made)
    assert "1 blind vote on 1 case by Anna" in evidence(made)


def test_a_receipt_reproduces_the_whole_rule(store) -> None:
    rule = Rule(goal="no_worse", margin=0.1, max_cost_increase=0.2, max_p95_increase=0.1)
    text = receipt(assess(store, "demo-support", "steps", rule=rule).decision)
    assert "--goal no_worse --margin 0.1 --max-cost 0.2 --max-p95 0.1\n" in text
    assert "--goal better\n" in receipt(assess(store, "demo-support", "steps").decision)


def test_people_are_named() -> None:
    people = ["Anna", "Ben", "Cleo", "Dan", "Eva"]
    named = [evidence(a_decision(raters=people[:n])) for n in (0, 1, 2, 5)]
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


EVIL = "<script>alert(1)</script>\x00\x1b\u202e\ud800]]>&\"'"


def a_decision(**more) -> Decision:
    given = {
        "task": "t",
        "baseline": "1",
        "candidate": "2",
        "goal": "better",
        "verdict": "promote",
        "reason": "better",
        "estimate": 0.74,
        "lower": 0.55,
        "upper": 0.89,
        "n": 49,
        "raters": ["Anna", "Ben"],
        "created_at": datetime(2026, 3, 1, 12, tzinfo=UTC),
        "evidence": {"names": {"1": "old@1111", "2": "new@2222"}, "cases": 42, "confidence": 0.95},
    }
    return Decision(**{**given, **more})


def texts(svg: str) -> list[str]:
    """What can be read in a picture, in order; a halo says it twice."""
    said = [str(one.text) for one in ET.fromstring(svg).iter(f"{SVG}text")]
    return [one for n, one in enumerate(said) if not n or said[n - 1] != one]


def at(svg: str, css: str) -> list[dict[str, str]]:
    return [dict(one.attrib) for one in ET.fromstring(svg).iter() if one.get("class") == css]


def test_the_picture_shows_the_verdict_its_interval_and_the_line_of_the_goal() -> None:
    guard = {"baseline": 0.0, "candidate": 0.0, "increase": 0.0, "lower": 0.0, "upper": 0.01, "allowed": 0.02}
    svg = picture(a_decision(guards={"failures": {**guard, "state": "holds"}, "cost": {**guard, "state": "fails"}}))
    said = texts(svg)
    assert (
        " ".join(said[:3])
        == "Release new@2222 in place of old@1111: it is preferred. 49 blind votes on 42 cases by Anna and Ben"
    )
    assert {"74%", "55%", "89%", "release above 50%", "holds", "fails"} <= set(said)
    middle = float(at(svg, "goal")[0]["x1"])
    (bar,) = (one for one in ET.fromstring(svg).iter(f"{SVG}rect") if one.get("fill-opacity"))
    assert float(bar.attrib["x"]) > middle
    assert bar.attrib["fill"] == GREEN
    # What is told by colour is told by a sign and a word too.
    assert len(at(svg, "holds")) == len(at(svg, "fails")) == 2
    looser = picture(a_decision(goal="no_worse", reason="no_worse", rule={"goal": "no_worse", "margin": 0.1}))
    assert "release above 40%" in texts(looser)
    assert float(at(looser, "goal")[0]["x1"]) < middle


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"estimate": None, "lower": None, "upper": None, "n": 0}, "No blind vote has compared the two yet."),
        ({"lower": 0.0, "upper": 1.0}, "nothing is shown yet"),
        ({"lower": 0.71, "upper": 0.78}, "71% to 78%"),
    ],
)
def test_a_picture_of_little_says_so(more, said) -> None:
    assert said in texts(picture(a_decision(**more)))


def test_nothing_in_a_name_gets_out_of_the_picture_or_off_its_ground() -> None:
    names = {"names": {"1": EVIL * 9, "2": "\u6f22" * 300}, "cases": 1}
    svg = picture(a_decision(task=EVIL * 20, raters=[EVIL * 5] * 4, evidence=names))
    root = ET.fromstring(svg)
    assert {one.tag.removeprefix(SVG) for one in root.iter()} <= SHAPES
    assert not [name for one in root.iter() for name in one.attrib if name.startswith("on") or "href" in name]
    assert "<script" not in svg
    assert "\u202e" not in svg
    for one in root.iter(f"{SVG}text"):
        assert float(one.attrib["y"]) < int(root.attrib["height"])
        wide = sum(2.0 if letter == "\u6f22" else 1.0 for letter in str(one.text)) * int(one.attrib["font-size"]) * 0.5
        assert wide <= 720
    svg.encode("utf-8")


def test_the_same_decision_is_the_same_picture_on_light_and_on_dark() -> None:
    made = a_decision()
    assert picture(made) == picture(Decision(**made.model_dump()))
    assert "@media (prefers-color-scheme: dark)" in picture(made)
    assert "http" not in picture(made).replace("http://www.w3.org/2000/svg", "")


def test_the_receipt_shows_its_picture() -> None:
    text = receipt(a_decision(), picture="my receipt.svg")
    assert "![Release new@2222 in place of old@1111: it is preferred.](my%20receipt.svg)" in text
    assert "![" not in receipt(a_decision())


def test_the_gate_writes_the_receipt_and_its_picture(store, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(app, ["gate", "steps", "--receipt", "out.md"])
    assert shown.exit_code == 0
    assert "out.svg" in shown.output
    assert "(out.svg)" in Path("out.md").read_text(encoding="utf-8")
    assert "Release steps@" in " ".join(texts(Path("out.svg").read_text(encoding="utf-8")))
    for wrong in ("out.svg", "nowhere/out.md", "."):
        refused = CliRunner().invoke(app, ["gate", "steps", "--receipt", wrong])
        assert isinstance(refused.exception, SettingsError) or refused.exit_code == 1
    assert len(store.load(Decision, "SELECT * FROM decisions")) == 1


def test_the_gate_exits_with_100_unless_it_promotes(store, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(app, ["gate", "careless"])
    assert shown.exit_code == 100
    assert "careless@" in shown.output
    kept = store.load(Decision, "SELECT * FROM decisions")
    assert [one.verdict in ("keep", "undecided") for one in kept] == [True]
    printed = CliRunner().invoke(
        app, ["gate", "careless", "--receipt", "-", "--no-record", "--goal", "no_worse", "--max-cost", "0.5"]
    )
    assert printed.output.startswith("### ")
    assert "| mean cost of an answer |" in printed.output
    assert len(store.load(Decision, "SELECT * FROM decisions")) == 1
