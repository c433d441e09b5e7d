"""The command line in a build: reports, and an exit code that says whether a run was good enough."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest

from feedbackloop import Store, queries
from feedbackloop.cli import main
from feedbackloop.pipeline import launch

SPEC = """
task: support
dataset: cases.jsonl
variants: [{name: echo, model: "python:echo.py:echo"}]
graders: [contains]
"""


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "echo.py").write_text("def echo(inputs):\n    return inputs['input']\n")
    rows = [{"id": f"{number}", "input": f"{number}", "expected": f"{min(number, 2)}"} for number in range(4)]
    (tmp_path / "cases.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (tmp_path / "spec.yaml").write_text(SPEC)


@pytest.fixture
def call(capsys):
    def called(*arguments: str):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        return int(ended.value.code or 0), *capsys.readouterr()

    return called


def test_a_run_that_reaches_the_share_exits_with_0(call) -> None:
    code, out, _ = call("run", "spec.yaml", "--fail-under", "0.75")
    assert code == 0
    assert "Not good enough" not in out


def test_a_run_below_the_share_exits_with_100_and_keeps_its_answers(call, tmp_path) -> None:
    code, out, _ = call("run", "spec.yaml", "--fail-under", "0.8", "-o", "r.xml", "--output", "r.json")
    assert code == 100
    assert "Not good enough: echo: 3 of 4 answers passed (75.0%), 80% wanted." in out
    assert ET.parse("r.xml").getroot().get("failures") == "1"
    assert json.loads((tmp_path / "r.json").read_text())["variants"][0]["rate"] == 0.75
    assert queries.runs(Store("loop.duckdb"))[0].state == "finished"


def test_what_cannot_be_reported_is_said_before_anything_is_asked(call, tmp_path) -> None:
    for arguments, said in (
        (("-o", "r.txt"), "cannot tell the format"),
        (("-o", "none/r.md"), "there is no folder"),
    ):
        code, _, err = call("run", "spec.yaml", *arguments)
        assert (code, said in err) == (1, True)
    (tmp_path / "spec.yaml").write_text(SPEC.replace("graders: [contains]", ""))
    code, _, err = call("run", "spec.yaml", "--fail-under", "0.5")
    assert (code, "--fail-under needs checks" in err) == (1, True)
    assert call("run", "spec.yaml", "--fail-under", "90")[0] == 2
    assert not (tmp_path / "loop.duckdb").exists()


def test_a_required_check_that_fails_exits_with_100(call, tmp_path) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC.replace("[contains]", "[{contains: null, required: true}]"))
    code, out, _ = call("run", "spec.yaml")
    assert code == 100
    assert "Not good enough: echo: 1 answer did not pass 'contains', which is required." in out
    assert "is complete" in out


def test_the_app_does_not_take_a_required_check_that_failed_for_an_error(tmp_path) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC.replace("[contains]", "[{contains: null, required: true}]"))
    started = launch.start(tmp_path / "spec.yaml", Store(tmp_path / "loop.duckdb"))
    assert started.wait(120)
    assert started.error is None
    assert "did not pass 'contains', which is required" in started.log.read_text()


def test_a_threshold_in_the_spec_is_what_an_answer_is_judged_by(call, tmp_path) -> None:
    (tmp_path / "spec.yaml").write_text(
        SPEC.replace("[contains]", "[contains, {length: 5, weight: 3}]\nthreshold: 0.7")
    )
    assert call("run", "spec.yaml", "--fail-under", "1")[0] == 0


def test_a_run_that_is_there_already_is_reported_by_the_same_function(call, tmp_path) -> None:
    call("run", "spec.yaml", "-o", "first.json")
    run = queries.runs(Store("loop.duckdb"))[0].run.id
    code, out, _ = call("report", run[:8], "--output", "second.json")
    assert (code, out.strip()) == (0, "Wrote second.json.")
    assert (tmp_path / "first.json").read_text() == (tmp_path / "second.json").read_text()
    code, out, _ = call("report", "--fail-under", "0.8")
    assert code == 100
    assert out.startswith("### Not good enough: 3 of 4 answers passed")
    assert call("report")[0] == 0


def test_a_run_that_stops_early_is_reported_and_exits_with_1(call, tmp_path) -> None:
    (tmp_path / "echo.py").write_text(
        "from feedbackloop.errors import AuthenticationFailed\n"
        "def echo(inputs):\n"
        "    if inputs['input'] == '1':\n"
        "        raise AuthenticationFailed('the key is not valid')\n"
        "    return inputs['input']\n"
    )
    (tmp_path / "spec.yaml").write_text(f"{SPEC}limits: {{concurrency: 1}}\n")
    code, out, _ = call("run", "spec.yaml", "--fail-under", "0.5", "-o", "r.json")
    assert code == 1
    assert "the run is not complete (stopped, 2 of 4 answers)" in out
    assert json.loads((tmp_path / "r.json").read_text())["run"]["state"] == "stopped"
