"""Where a run asked each case several times: the opened row, the run's report and `status` say how steady the answers are."""

from __future__ import annotations

import asyncio
import json

import pytest
from streamlit.testing.v1 import AppTest
from test_home import ROOT, plain

import feedbackloop as fl
from feedbackloop.cli import main

# By case and repeat; a variant is asked in order, one call at a time.
SAID = {"one": ["Yes.", "yes", "no"], "two": ["<b>no</b>", "<b>no</b>", "<b>no</b>"]}
APP = f"""
SAID = {SAID!r}
asked = {{}}

def shaky(inputs):
    place = asked[inputs["input"]] = asked.get(inputs["input"], -1) + 1
    return SAID[inputs["input"]][place % 3]

def steady(inputs):
    return "yes"
"""


@pytest.fixture
def made(store_path) -> fl.RunResult:
    store_path.with_name("app.py").write_text(APP)
    return go(3)


def go(repeats: int) -> fl.RunResult:
    variants = [{"name": name, "model": f"python:app.py:{name}"} for name in ("steady", "shaky")]
    rows = [{"id": name, "input": name, "expected": "yes"} for name in SAID]
    return asyncio.run(
        fl.run(rows, variants, store="loop.duckdb", task="t", graders=["contains"], repeats=repeats, cache=False,
               limits=fl.Limits(concurrency=1))
    )  # fmt: skip


def page(name: str, **parameters: str) -> AppTest:
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=30)
    for parameter, value in parameters.items():
        app.query_params[parameter] = value
    app.run()
    app = app.switch_page(str(ROOT / "feedbackloop" / "pages" / f"{name}.py"))
    for parameter, value in parameters.items():
        app.query_params[parameter] = value
    app.run()
    assert not app.exception
    return app


def captions(app: AppTest) -> list[str]:
    return [plain(caption.value) for caption in app.caption]


def opened(made: fl.RunResult, name: str) -> AppTest:
    case = fl.Store("loop.duckdb").sql("SELECT id FROM cases WHERE external_id = $name".replace("$name", f"'{name}'"))
    return page("compare", run=made.run.id, case=case["id"][0])


def test_an_opened_row_says_how_far_its_answers_agree_and_which_are_the_same(made) -> None:
    app = opened(made, "one")
    assert "3 answers, all the same; 100% agree; checks 100%; spread 0.00" in captions(app)
    told = "3 answers, 2 of them different; 67% agree; best 100% (answer 1), worst 0% (answer 3); spread 0.58"
    assert told in captions(app)
    [expander] = [one for one in app.expander if "different" in one.label]
    assert expander.label == "2 different answers"
    assert [plain(caption.value) for caption in expander.caption] == [
        "**2 times** (answers 1, 2)",
        "**1 time** (answer 3)",
    ]


def test_answers_that_are_all_the_same_are_not_listed(made) -> None:
    app = opened(made, "two")
    assert "3 answers, all the same; 100% agree; checks 0%; spread 0.00" in captions(app)
    assert not [one for one in app.expander if "different" in one.label]


def test_the_report_of_a_run_has_a_line_of_stability_for_each_variant(made) -> None:
    app = page("runs", run=made.run.id)
    [frame] = [table.value for table in app.dataframe if "spread" in table.value.columns]
    steady, shaky = frame.to_dict("records")
    assert steady == {
        "variant": "steady", "same answer": "100%", "all the same": "100%", "best": "100%", "mean": "100%", "worst": "100%",
        "spread": "0.00",
    }  # fmt: skip
    assert (shaky["same answer"], shaky["all the same"], shaky["best"], shaky["worst"]) == ("83%", "50%", "50%", "0%")
    assert shaky["spread"] == "0.29"


def test_a_run_without_repeats_says_nothing_of_stability(made, capsys) -> None:
    once = go(1)
    assert "How steady the answers are" not in [plain(title.value) for title in page("runs", run=once.run.id).subheader]
    assert not [caption for caption in captions(opened(once, "one")) if "agree" in caption]
    with pytest.raises(SystemExit):
        main(["status", once.run.id])
    assert "several times" not in capsys.readouterr().out


def test_status_shows_the_stability_of_each_variant(made, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    with pytest.raises(SystemExit):
        main(["status", made.run.id])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["steady", "100%", "100%", "100%", "100%", "100%", "0.00"] in lines
    assert ["shaky", "83%", "50%", "50%", "33%", "0%", "0.29"] in lines
    with pytest.raises(SystemExit):
        main(["status", made.run.id, "--json"])
    assert [row["variant"] for row in json.loads(capsys.readouterr().out)["steadiness"]] == ["steady", "shaky"]


def test_a_report_counts_each_answer_and_shows_the_stability(made) -> None:
    found = fl.report(fl.Store("loop.duckdb"))
    steady, shaky = found.variants
    assert (steady.passed, steady.judged, steady.agreement, steady.stability) == (3 + 3, 6, 1.0, 0.0)
    assert (shaky.passed, shaky.judged) == (2, 6)
    assert shaky.stability == pytest.approx(0.2887, abs=1e-4)
