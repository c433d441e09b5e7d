"""The command line as people meet it: what it prints, where, and how it exits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from feedbackloop import Store, queries
from feedbackloop.bundled import bundled
from feedbackloop.cli import app, main
from feedbackloop.cli.wording import printable
from feedbackloop.identity import utcnow
from feedbackloop.wording import ago, count, dollars, duration, milliseconds, spend

HEAVY = (
    "pydantic",
    "duckdb",
    "pandas",
    "numpy",
    "openai",
    "streamlit",
    "jinja2",
    "yaml",
    "fastapi",
    "uvicorn",
    "prometheus_client",
)
ROOT = Path(__file__).parents[1]

SPEC = """
dataset: cases.jsonl
variants:
  - {name: terse, model: "simulated:small", prompt: "In one word: {{ input }}"}
  - {name: steps, model: "simulated:large"}
graders: [contains]
limits: {retries: 0}
"""
SLOW = """
dataset: cases.jsonl
variants: [{name: slow, model: "simulated:slow", params: {realtime: true, latency_ms: 250, latency_sigma: 0}}]
limits: {concurrency: 1}
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")


class Ended:
    """How a command ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]):
    def called(*arguments: str) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        out, err = capsys.readouterr()
        return Ended(int(ended.value.code or 0), out, err)

    return called


@pytest.fixture
def write(tmp_path: Path):
    def written(cases: int | str | bytes = 3, spec: str = SPEC) -> None:
        if isinstance(cases, int):
            cases = "".join(
                json.dumps({"id": str(n), "input": f"Question {n}", "expected": "Question"}) + "\n"
                for n in range(cases)
            )
        (tmp_path / "cases.jsonl").write_bytes(cases.encode() if isinstance(cases, str) else cases)
        (tmp_path / "spec.yaml").write_text(spec)

    return written


# Help and start


def test_help_shows_every_command_on_one_line_and_doctor_apart() -> None:
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80"})
    assert shown.exit_code == 0
    commands, _, more = shown.output.partition("More")
    for name in ("init", "demo", "run", "resume", "status", "import", "export", "gate", "app"):
        assert f"│ {name} " in commands
    for name in ("report", "promote", "rollback", "policy", "serve", "cost", "doctor"):
        assert f"│ {name} " in more
    rows = shown.output.split("Commands")[1].splitlines()
    assert sum(line.startswith("│") for line in rows) == 16


COMMANDS = [
    "init",
    "demo",
    "run",
    "resume",
    "status",
    "import",
    "export",
    "gate",
    "app",
    "promote",
    "rollback",
    "policy",
    "serve",
    "cost",
    "doctor",
]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str) -> None:
    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "80"})
    assert shown.exit_code == 0
    assert "Example" in shown.output
    assert f"feedbackloop {name}" in shown.output


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom feedbackloop.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert shown.stdout.strip().splitlines()[-1] == "[]"


def test_version(call) -> None:
    assert call("--version").out.startswith("feedbackloop ")


# How it ends


def test_wrong_usage_exits_with_2_and_says_what_is_near(call) -> None:
    ended = call("stats")
    assert ended.code == 2
    assert "status" in ended.err
    assert call("run").code == 2
    assert call("import", "votes.jsonl", "--votes", "--answers", "a").code == 2


def test_an_error_is_one_line_and_debug_shows_where(call, capsys: pytest.CaptureFixture[str]) -> None:
    ended = call("run", "nothing.yaml")
    assert ended.code == 1
    assert ended.out == ""
    assert ended.err == "Error: nothing.yaml: there is no such spec; `feedbackloop init` writes an example\n"
    with pytest.raises(Exception, match="there is no such spec"):
        main(["run", "nothing.yaml", "--debug"])


def test_an_unforeseen_error_is_one_line_too(call, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("first\nsecond")

    monkeypatch.setattr("feedbackloop.queries.runs", broken)
    ended = call("status")
    assert ended.code == 1
    assert ended.err.count("\n") == 1
    assert ended.err.startswith("Error: ZeroDivisionError: first second (")
    assert "--debug" in ended.err


def test_ctrl_c_outside_a_run_exits_with_130(call, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("feedbackloop.queries.runs", interrupted)
    assert call("status").code == 130


# init


def test_init_writes_an_example_that_runs_at_once(call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = call("init", "mine")
    assert ended.code == 0
    assert "cd mine && feedbackloop run spec.yaml" in ended.out
    monkeypatch.chdir(tmp_path / "mine")
    ran = call("run", "spec.yaml")
    assert ran.code == 0
    assert "10 answers" in ran.out
    assert queries.counts(Store("loop.duckdb"))["cases"] == 5


def test_init_overwrites_only_when_told(call, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text("mine")
    ended = call("init")
    assert ended.code == 1
    assert "--force" in ended.err
    assert (tmp_path / "spec.yaml").read_text() == "mine"
    assert not (tmp_path / "cases.jsonl").exists()
    assert call("init", "--force").code == 0
    assert "variants:" in (tmp_path / "spec.yaml").read_text()


# run, resume, status


def test_run_shows_a_table_the_id_and_the_next_step(call, write) -> None:
    write(3)
    ended = call("run", "spec.yaml", "--limit", "2")
    assert ended.code == 0
    run = queries.runs(Store("loop.duckdb"))[0].run.id
    assert f"Run {run[:8]} is complete: 4 answers" in ended.out
    assert "terse" in ended.out
    assert "100%" in ended.out
    assert f"feedbackloop export answers.csv --run {run[:8]}" in ended.out


def test_run_answers_the_same_question_once_unless_told_otherwise(call, write) -> None:
    write(3)
    call("run", "spec.yaml")
    assert "used again from before" in call("run", "spec.yaml").out
    assert "used again" not in call("run", "spec.yaml", "--no-cache").out


def test_run_records_what_a_recorded_model_replays(call, write, tmp_path: Path) -> None:
    write(2)
    assert call("run", "spec.yaml", "--record", "said.jsonl").code == 0
    assert len((tmp_path / "said.jsonl").read_text().splitlines()) == 4


def test_failures_are_shown_by_kind_with_an_example_and_can_be_asked_again(call, write) -> None:
    write(2, SPEC.replace("prompt:", "params: {failure_rate: 1, failures: {ContentFiltered: 1}}, prompt:"))
    ended = call("run", "spec.yaml")
    assert "ContentFiltered" in ended.out
    assert "[simulated] The provider's filter" in ended.out
    assert "feedbackloop resume" in ended.out


def test_a_variant_without_any_answer_is_an_error_and_failures_are_no_answers(call, write) -> None:
    write(2, SPEC.replace("prompt:", "params: {failure_rate: 1, failures: {ContentFiltered: 1}}, prompt:"))
    ended = call("run", "spec.yaml", "--fail-under", "0.9")
    run = queries.find_run(Store("loop.duckdb")).run.id[:8]
    assert f"Run {run} is complete: 2 answers, 2 failed, in" in ended.out
    assert ended.err == "Error: there is no answer at all of 'terse'\n"
    assert ended.code == 1
    Path("mine.py").write_text(
        "def answer(inputs):\n    if inputs['input'] == 'Question 0':\n        raise ValueError\n    return 'x'\n"
    )
    (Path("spec.yaml")).write_text("dataset: cases.jsonl\nvariants: [{name: mine, model: 'python:mine.py:answer'}]\n")
    assert call("run", "spec.yaml").code == 0  # one failed, one did not


def test_what_can_be_done_next_is_named_and_can_be_pasted(call, write) -> None:
    write(2)
    for ended in (call("run", "spec.yaml"), call("status", queries.find_run(Store("loop.duckdb")).run.id)):
        steps = [line.split(" #")[0].split() for line in ended.out.partition("Next:\n")[2].splitlines()]
        assert [step[:2] for step in steps] == [["feedbackloop", name] for name in ("app", "report", "export")]


def test_status_lists_runs_and_shows_one(call, write) -> None:
    empty = call("status")
    assert empty.code == 0
    assert "no runs yet" in empty.out
    assert not Path("loop.duckdb").exists()
    write(2)
    call("run", "spec.yaml")
    run = queries.runs(Store("loop.duckdb"))[0].run.id
    listed = call("status")
    assert run[:8] in listed.out
    assert "terse, steps" in listed.out
    assert "4/4" in listed.out
    shown = call("status", run[:6])
    assert run in shown.out
    assert "finished, 4/4 done" in shown.out
    assert "there is no run 'zzz'" in call("status", "zzz").err


def test_status_as_json_is_for_programs(call, write) -> None:
    write(2)
    call("run", "spec.yaml", "--store", "x.duckdb")
    listed = json.loads(call("status", "--json", "--store", "x.duckdb").out)
    assert listed["counts"]["answers"] == 4
    (run,) = listed["runs"]
    assert (run["state"], run["variants"], run["counts"]["total"]) == ("finished", ["terse", "steps"], 4)
    one = json.loads(call("status", run["id"], "--json", "--store", "x.duckdb").out)
    assert [row["variant"] for row in one["summary"]] == ["terse", "steps"]
    assert one["failures"] == []


def test_resume_without_anything_to_resume(call, write) -> None:
    assert "there are no runs" in call("resume").err
    write(1)
    call("run", "spec.yaml")
    run = queries.runs(Store("loop.duckdb"))[0].run.id
    assert "all runs are finished" in call("resume").err
    assert "nothing was missing" in call("resume", run[:8]).out


def test_the_store_is_option_then_environment_then_settings(call, write, monkeypatch: pytest.MonkeyPatch) -> None:
    write(1)
    Path("feedbackloop.toml").write_text('store = "settings.duckdb"')
    call("run", "spec.yaml")
    assert Path("settings.duckdb").exists()
    monkeypatch.setenv("FEEDBACKLOOP_STORE", "environment.duckdb")
    call("run", "spec.yaml")
    assert Path("environment.duckdb").exists()
    assert "--store option.duckdb" in call("run", "spec.yaml", "--store", "option.duckdb").out
    assert Path("option.duckdb").exists()
    assert not Path("loop.duckdb").exists()


def test_what_models_and_files_say_is_neither_markup_nor_obeyed(call) -> None:
    rows = [{"input": "a", "variant": "[red]v[/red]\x1b[2J", "output": "", "error": "[bold]no\x1b[31m\u202eevil"}]
    Path("a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    imported = call("import", "a.jsonl")
    shown = call("status", queries.runs(Store("loop.duckdb"))[0].run.id)
    for text in (imported.out, shown.out):
        assert "[red]v[/red]" in text
        assert "\x1b" not in text
    assert "[bold]no" in shown.out
    assert "\u202e" not in shown.out


# Stopping a run


def _start(*arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "feedbackloop", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def _wait_for_answers(process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        if Path("loop.duckdb").exists() and queries.counts(Store("loop.duckdb"))["answers"]:
            return
        time.sleep(0.05)
    raise AssertionError("the run gave no answer")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_run_cleanly_and_resume_goes_on(call, write, number: signal.Signals) -> None:
    write(12, SLOW)
    process = _start("run", "spec.yaml")
    _wait_for_answers(process)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err == ""
    assert "Stopping: waiting for the calls in flight" in out
    assert "of 12 answers: you asked it to." in out
    store = Store("loop.duckdb")
    (stopped,) = queries.runs(store)
    assert stopped.state == "stopped"
    resumed = call("resume")
    assert resumed.code == 0
    assert queries.counts(store)["answers"] == 12
    assert len(store.sql("SELECT * FROM responses")) == 12


def test_a_second_ctrl_c_drops_calls_in_flight(write) -> None:
    write(
        12,
        SLOW.replace("latency_ms: 250", "latency_ms: 60000, latency_sigma: 0.0").replace(
            "latency_sigma: 0}", "tail: 0}"
        ),
    )
    process = _start("run", "spec.yaml")
    deadline = time.monotonic() + 20
    while not Path("loop.duckdb").exists() or not queries.runs(Store("loop.duckdb")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "")
    assert "calls in flight were dropped" in out
    assert "feedbackloop resume" in out


# Bad input, a sentence each


@pytest.mark.parametrize(
    ("cases", "spec", "sentence"),
    [
        (
            '{"question": "x"}\n',
            SPEC,
            "cases.jsonl:1: the prompt of 'terse' needs what this case lacks: 'input' is undefined",
        ),
        ('{"input": "x"}\n' * 712 + '{"input": "x",}\n', SPEC, "cases.jsonl:713:1"),
        ("input\nGrüße\n".encode("latin-1"), SPEC.replace("cases.jsonl", "cases.csv"), "UTF-8"),
        ("", SPEC, "cases.jsonl: "),
        ('{"id": 1, "input": "x"}\n{"id": 1, "input": "y"}\n', SPEC, "cases.jsonl:2: "),
        ('{"input": "x"}\n', SPEC.replace("cases.jsonl", "case.jsonl"), "did you mean 'cases.jsonl'?"),
        ('{"input": "x"}\n', SPEC.replace("graders", "grader"), "unknown key 'grader'; did you mean 'graders'?"),
        (
            '{"input": "x"}\n',
            SPEC.replace("[contains]", "[contain]"),
            "no grader called 'contain'; did you mean 'contains'",
        ),
        ('{"input": "x"}\n', SPEC.replace("simulated:large", "openai:gpt-4o-mini"), "OPENAI_API_KEY is not set"),
        ('{"input": "x"}\n', SPEC.replace("simulated:", "simulate:"), "did you mean 'simulated'?"),
        ('{"input": "x"}\n', SPEC.replace("{{ input }}", "{{ input }"), "the prompt of 'terse'"),
        ('{"input": "x"}\n', "dataset: [", "spec.yaml:"),
    ],
)
def test_bad_input_is_one_sentence_before_anything_is_stored(call, write, cases, spec: str, sentence: str) -> None:
    write(cases, spec)
    if "cases.csv" in spec:
        Path("cases.jsonl").rename("cases.csv")
    ended = call("run", "spec.yaml")
    assert ended.code == 1
    assert ended.err.startswith("Error: ")
    assert ended.err.count("\n") == 1
    assert sentence in ended.err
    assert "Traceback" not in ended.err + ended.out
    assert not queries.runs(Store("loop.duckdb"))


# import and export


def test_import_shows_the_mapping_it_took_and_is_repeatable(call) -> None:
    Path("a.csv").write_text("id,input,answer_x,answer_y\n1,Hello?,Hi,=1+1\n2,Bye?,Bye,Ciao\n")
    first = call("import", "a.csv", "--task", "s")
    assert first.code == 0
    assert "Imported 4 answers of 2 variants to 2 cases" in first.out
    assert "answers (guessed)  a column for each variant: answer_x, answer_y" in first.out
    assert "case (guessed)     columns: input" in first.out
    Path("b.csv").write_text("input,answer_x,answer_y,winner,notes\nHello?,Hi,Ho,x,n\n")
    left_out = call("import", "b.csv", "--task", "other", "--ignore", "notes")
    assert "left out (guessed)  winner; --keep COLUMN makes one part of the case" in left_out.out
    assert "left out            notes" in left_out.out
    assert call("import", "b.csv", "--votes", "--ignore", "notes").code == 2
    again = call("import", "a.csv", "--task", "s")
    assert again.code == 0
    assert "Nothing new" in again.out
    Path("v.jsonl").write_text(
        '{"case_id": "1", "variant_a": "answer_x", "variant_b": "answer_y", "winner": "a", "rater": "Eve"}'
    )
    voted = call("import", "v.jsonl", "--votes", "--task", "s", "--not-blind")
    assert "1 vote" in voted.out
    assert "not blind" in voted.out
    assert "Nothing new" in call("import", "v.jsonl", "--votes", "--task", "s").out


def test_import_takes_named_columns_and_a_dataset(call) -> None:
    Path("cases.jsonl").write_text('{"id": "1", "input": "Hello?"}\n')
    Path("a.csv").write_text("nr,who,said\n1,x,Hi\n1,y,Ho\n")
    options = ("--variant-column", "who", "--output-column", "said", "--dataset", "cases.jsonl", "--id-column", "nr")
    ended = call("import", "a.csv", *options)
    assert ended.code == 0, ended.err
    assert "2 answers of 2 variants to 1 case" in ended.out
    assert "column 'who'" in ended.out
    assert "there is no column 'z'" in call("import", "a.csv", "--answers", "z, said", "--id-column", "who").err


def test_import_knows_files_of_other_tools_and_lists_what_it_leaves_out(call) -> None:
    talk = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hi"}]
    Path("log.jsonl").write_text(json.dumps({"messages": talk, "tools": [1]}) + "\n")
    done = call("import", "log.jsonl", "--task", "s")
    assert done.code == 0, done.err
    assert "Imported 1 answer of 1 variant to 1 case from log.jsonl for the task s." in done.out
    assert "Not carried over:\n" in done.out
    assert "-  `tools` beside the messages (line 1)" in done.out
    assert "Nothing new" in call("import", "log.jsonl", "--task", "s", "--format", "chat").out
    assert "did you mean 'chat'" in call("import", "log.jsonl", "--format", "chats").err
    assert call("import", "log.jsonl", "--format", "chat", "--answers", "a").code == 2
    Path("battles.csv").write_text("model_a,model_b,winner\nx,y,model_a\n")
    assert "2 answers of 2 variants to 1 case, 1 vote by arena from" in call("import", "battles.csv").out
    Path("v.csv").write_text("nr,variant_a,variant_b,label\nline 2,x,y,2\n")
    options = ("--column", "case_id=nr", "--column", "winner=label", "--winner", "2=b")
    assert "has no answer to a case 'line 2'" in call("import", "v.csv", *options).err
    assert call("import", "v.csv", "--winner", "2").code == 2


def test_import_turns_a_promptfoo_config_into_what_run_takes(call) -> None:
    Path("promptfooconfig.yaml").write_text(
        "prompts: ['Say {{n}}']\nproviders: ['simulated:x', 'exec:run.sh']\ntests: [{vars: {n: 1}}]\n"
    )
    done = call("import", "promptfooconfig.yaml", "--task", "s")
    assert done.code == 0, done.err
    assert "Wrote promptfooconfig.feedbackloop.yaml and promptfooconfig.cases.jsonl: 1 case and 1 variant" in done.out
    assert "the provider exec:run.sh" in done.out
    assert "feedbackloop run promptfooconfig.feedbackloop.yaml" in done.out
    assert not Path("loop.duckdb").exists()
    assert call("run", "promptfooconfig.feedbackloop.yaml").code == 0
    assert "Nothing new" in call("import", "promptfooconfig.yaml", "--task", "s").out


def test_export_writes_every_table_at_once(call, write) -> None:
    write(2)
    call("run", "spec.yaml")
    done = call("export", "backup", "--all", "--format", "jsonl")
    assert done.code == 0, done.err
    assert "Wrote 16 files to backup:" in done.out
    assert "responses.jsonl" in done.out
    assert len(Path("backup/responses.jsonl").read_text().splitlines()) == 4
    assert call("export", "cases.csv", "--table", "cases").code == 0
    assert call("export", "backup", "--all", "--what", "votes").code == 2


def test_import_merges_another_store(call, write) -> None:
    write(2)
    call("run", "spec.yaml", "--store", "theirs.duckdb")
    merged = call("import", "theirs.duckdb")
    assert merged.code == 0
    assert "responses" in merged.out
    assert "4 new" in merged.out
    assert "Nothing new" in call("import", "theirs.duckdb").out
    assert call("import", "theirs.duckdb", "--votes").code == 2
    assert "there is no such store" in call("import", "nothing.duckdb").err


def test_export_says_what_it_wrote(call, write) -> None:
    assert "there is no such store yet" in call("export", "a.csv").err
    assert not Path("loop.duckdb").exists()
    write(2)
    call("run", "spec.yaml")
    assert "Wrote 4 rows of answers to a.csv." in call("export", "a.csv").out
    assert "Wrote 2 rows of cases to c.jsonl.gz." in call("export", "c.jsonl.gz", "--what", "cases").out
    assert "did you mean 'answers'?" in call("export", "a.csv", "--what", "answer").err


def test_export_of_a_table_takes_the_task_and_refuses_what_it_would_ignore(call, write) -> None:
    for task, cases in (("leak", 2), ("other", 1)):
        write(cases, f"task: {task}{SPEC}")
        call("run", "spec.yaml")
    assert "Wrote 4 rows of answers to a.csv." in call("export", "a.csv", "--task", "leak").out
    assert "Wrote 2 rows of requests" in call("export", "a.csv", "--what", "requests", "--task", "other").out
    done = call("export", "backup", "--all", "--task", "other")
    assert done.code == 0, done.err
    assert len(Path("backup/requests.csv").read_text().splitlines()) == 3
    unknown = call("export", "none.csv", "--task", "leek")
    assert unknown.code == 1
    assert "there is no task 'leek'; did you mean 'leak'?" in unknown.err
    assert not Path("none.csv").exists()
    for ignored, named in (
        (("--raters", "nobody", "--min-votes", "1"), "--min-votes and --raters: only for training files"),
        (("--rater", "Eve"), "--rater: only for --format rating-pack; leave it out"),
        (("--all", "--kinds", "human"), "--kinds: only for training files"),
        (("--format", "dpo", "--hold", "3"), "--hold: only for --format rating-pack"),
        (("--format", "rating-pack", "--min-rating", "4"), "--min-rating: only for training files"),
        (("--format", "rating-pack", "--run", "1"), "leave --run out"),
    ):
        refused = call("export", "none.csv", *ignored)
        assert refused.code == 2
        assert named in " ".join(refused.err.replace("│", "").split())
    assert not Path("none.csv").exists()


# demo and doctor, as commands


def test_demo_keeps_to_its_own_store_and_says_what_it_is(call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEEDBACKLOOP_STORE", "mine.duckdb")
    ended = call("demo", "--no-app")
    assert ended.code == 0
    assert Path("demo.duckdb").exists()
    assert not Path("mine.duckdb").exists()
    assert "made up for the demonstration" in ended.out
    assert ended.out.count("steps  ") == 3
    assert "--store demo.duckdb" in ended.out
    assert "nothing was added" in call("demo", "--no-app").out


def test_demo_opens_the_app_where_there_is_one(call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call("demo", "--store", "d.duckdb", "--no-app")
    real = bundled
    monkeypatch.setattr(
        "feedbackloop.bundled.bundled", lambda name: tmp_path / name if name == "app.py" else real(name)
    )
    started = []

    def run(command: list[str], *, env: dict[str, str], check: bool) -> subprocess.CompletedProcess[str]:
        started.append((command[1:5], command[5:], env["FEEDBACKLOOP_STORE"]))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr("subprocess.run", run)
    script, quiet = ["-m", "streamlit", "run", str(tmp_path / "app.py")], "--server.showEmailPrompt=false"
    assert call("demo", "--store", "d.duckdb").code == 0
    assert started == [(script, [quiet], str(tmp_path / "d.duckdb"))]
    call("demo", "--store", "d.duckdb", "--no-app")
    assert len(started) == 1
    assert call("app", "--store", "mine.duckdb", "--port", "8600", "--no-browser").code == 0
    options = [quiet, "--server.port=8600", "--server.headless=true"]
    assert started[1] == (script, options, str(tmp_path / "mine.duckdb"))
    assert not Path("mine.duckdb").exists()


def test_doctor_exits_with_1_only_for_a_problem(call) -> None:
    ended = call("doctor")
    assert ended.code == 0
    assert "OPENAI_API_KEY is not set" in ended.out
    Path("feedbackloop.toml").write_text("[limits]\nretrys = 3\n")
    ended = call("doctor")
    assert ended.code == 1
    assert "did you mean 'retries'?" in " ".join(ended.out.split())


# Wording


def test_figures_read_well() -> None:
    assert [dollars(x) for x in (None, 0.0, 0.0001234, 0.25, 12.5, 1234.5)] == [
        "unknown", "$0.00", "$0.00012", "$0.25", "$12.50", "$1,234.50",
    ]  # fmt: skip
    assert [spend(1.5, 0), spend(1.5, 12), spend(None, 3)] == [
        "$1.50",
        "at least $1.50, 12 unpriced",
        "unknown, 3 unpriced",
    ]
    assert [milliseconds(x) for x in (None, 12.4, 999.6, 2345)] == ["-", "12 ms", "1.0 s", "2.3 s"]
    assert [duration(x) for x in (0.04, 9.96, 75, 3700)] == ["0.0 s", "10 s", "1 min 15 s", "1 h 01 min"]
    assert [count(1, "case"), count(1200, "case")] == ["1 case", "1,200 cases"]
    assert ago(utcnow(), utcnow()) == "just now"
    assert printable("a\tb\r\nc\x1b[31m\x00", 6) == "a b c…"


def test_a_third_signal_ends_even_a_run_whose_loop_a_function_holds(write) -> None:
    write(2, SPEC + "graders: ['stuck.py:forever']\n")
    Path("stuck.py").write_text(
        "from pathlib import Path\ndef forever(case, response):\n    Path('here').touch()\n    while True: pass\n"
    )
    process = _start("run", "spec.yaml")
    deadline = time.monotonic() + 20
    while not Path("here").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    for _ in range(3):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
    process.communicate(timeout=20)
    assert process.returncode == 130


def test_a_check_that_raises_is_told(call, write) -> None:
    write(2, SPEC.replace("graders: [contains]", "graders: ['my.py:bad']"))
    Path("my.py").write_text("def bad(case, response):\n    return {}['x']\n")
    shown = call("run", "spec.yaml")
    assert shown.code == 0
    assert "Check bad failed itself on 4 answers: KeyError: 'x'" in shown.out


def test_a_run_goes_on_when_nobody_reads_its_output(write) -> None:
    # It says how far it is every five seconds; this takes six.
    write(24, SLOW)
    process = _start("run", "spec.yaml")
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    with process.stderr:
        process.wait(timeout=30)
    assert queries.counts(Store("loop.duckdb"))["answers"] == 24
