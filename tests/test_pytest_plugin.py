"""The plugin for pytest: a case is a test, asked once in a session, and only if it was selected."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from feedbackloop import Store, queries
from feedbackloop.providers import function, simulated
from feedbackloop.pytest_plugin import asking
from feedbackloop.reports import outcome

pytest_plugins = ["pytester"]

# Loaded here, since pytester forgets after each session what that loaded: two seconds each time.
LOADED = (asking, function, simulated)

ROOT = Path(__file__).parents[1]

# Without what is installed: the plugin is loaded once, with an entry point or without, and from here.
PLUGIN = ("-p", "feedbackloop.pytest_plugin", "-p", "no:cacheprovider")

SPEC = """
task: support
dataset: cases.jsonl
variants:
  - {name: echo, model: "python:app.py:echo"}
  - {name: loud, model: "python:app.py:loud"}
graders: [contains, {length: 20}]
"""
APP = """
from pathlib import Path

def echo(inputs):
    with Path(__file__).with_name("calls").open("a") as file:
        file.write(inputs["input"] + chr(10))
    if inputs["input"] == "broken":
        raise ValueError("it broke")
    return inputs["input"]

def loud(inputs):
    return echo(inputs).upper()
"""
MARKED = """
import pytest

@pytest.mark.feedbackloop("spec.yaml")
def test_support(feedbackloop):
    assert feedbackloop.answer.output.lower() == feedbackloop.case.inputs["input"]
    feedbackloop.answer.check()
"""


@pytest.fixture
def project(pytester, monkeypatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    rows = [
        {"id": "first", "input": "one two", "expected": "two"},
        {"input": "Grüße", "expected": "other"},
        {"id": "bad", "input": "broken", "expected": "x"},
        {"id": "free", "input": "three"},
    ]
    pytester.path.joinpath("cases.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    pytester.path.joinpath("spec.yaml").write_text(SPEC)
    pytester.path.joinpath("app.py").write_text(APP)
    pytester.makeini("[pytest]\naddopts = --strict-markers\n")
    return pytester


@pytest.fixture
def go(project):
    def gone(*arguments: str) -> pytest.RunResult:
        return project.runpytest_inprocess(*PLUGIN, *arguments)

    return gone


def calls(project) -> list[str]:
    file = project.path / "calls"
    return sorted(file.read_text().split("\n")[:-1]) if file.exists() else []


def test_every_case_of_every_variant_is_a_test(project, go) -> None:
    project.makepyfile(MARKED)
    result = go("-v")
    result.assert_outcomes(passed=4, failed=4)
    result.stdout.re_match_lines(
        [
            r".*test_support\[echo-first\] PASSED.*",
            r".*test_support\[loud-first\] PASSED.*",
            r".*test_support\[echo-[0-9a-f]{8}\] FAILED.*",
            r".*test_support\[echo-bad\] FAILED.*",
        ]
    )
    result.stdout.fnmatch_lines(["E*echo gave no answer: *it broke*"])
    result.stdout.fnmatch_lines(["feedbackloop: spec.yaml: 8 answers, 4 not passed (feedbackloop report *"])
    [run] = queries.runs(Store(project.path / "loop.duckdb"))
    assert (run.run.task, run.counts["completed"], run.counts["failed"]) == ("support", 6, 2)


def test_only_what_was_selected_is_asked_and_only_once(project, go) -> None:
    project.makepyfile(MARKED + MARKED.replace("test_support", "test_again"))
    go("-k", "first and echo").assert_outcomes(passed=2, deselected=14)
    assert calls(project) == ["one two"]
    go("--collect-only")
    assert calls(project) == ["one two"]


def test_the_same_question_is_answered_from_the_store_unless_it_is_to_be_asked_anew(project, go) -> None:
    (project.path / "spec.yaml").write_text(SPEC.replace("python:app.py:loud", "simulated:a"))
    project.makepyfile(MARKED.split("    assert", maxsplit=1)[0] + "    assert feedbackloop.answer.output\n")
    for arguments, number in (((), 1), ((), 2), (("--feedbackloop-no-cache",), 3)):
        go("-k", "first", *arguments).assert_outcomes(passed=2, deselected=6)
        # A function of one's own may have changed in what it reads: it is asked in every session.
        assert len(calls(project)) == number
    made = Store(project.path / "loop.duckdb").sql(
        "SELECT cached FROM answers WHERE variant = 'loud' ORDER BY created_at"
    )
    assert made["cached"].tolist() == [False, True, False]


def test_a_failing_check_says_why_and_shows_the_answer(project, go) -> None:
    project.makepyfile(MARKED.replace("    assert feedbackloop.answer.output", "    #"))
    result = go("-k", "loud and not first and not free and not bad")
    result.assert_outcomes(failed=1, deselected=7)
    result.stdout.fnmatch_lines(
        [
            ">*feedbackloop.answer.check()",
            "E*AssertionError: loud did not pass on 'Grüße'",
            "E*- contains: not passed",
            "E*input: Grüße",
            "E*answer: GRÜSSE",
        ]
    )
    result.stdout.no_fnmatch_line("*def check(self*")


def test_what_no_check_had_an_opinion_on_is_skipped(project, go) -> None:
    project.path.joinpath("spec.yaml").write_text(SPEC.replace(", {length: 20}", ""))
    project.makepyfile(MARKED)
    go("-k", "free").assert_outcomes(skipped=2, deselected=6)


def test_further_graders_decide_alone_and_are_stored(project, go) -> None:
    project.makepyfile(
        """
        import pytest

        def short(case, response):
            return len(response.output) < 4

        @pytest.mark.feedbackloop("spec.yaml", limit=1, variants=["echo"])
        def test_support(feedbackloop):
            assert feedbackloop.answer.check({"contains": "one"}).score == 1
            assert feedbackloop.answer.check({"contains": "one", "weight": 3}, short, threshold=0.7).score == 0.75
            with pytest.raises(AssertionError, match="short: not passed"):
                feedbackloop.answer.check({"contains": "one"}, short)
        """
    )
    go().assert_outcomes(passed=1)
    frame = Store(project.path / "loop.duckdb").sql("SELECT metric, count(*) AS n FROM ratings GROUP BY metric")
    assert dict(zip(frame["metric"], frame["n"], strict=True)) == {"contains": 4, "length": 1, "short": 2}


def test_repeats_are_tests_of_their_own(project, go) -> None:
    project.path.joinpath("spec.yaml").write_text(SPEC + "repeats: 2\n")
    project.makepyfile(MARKED)
    result = go("-v", "-k", "echo-first")
    result.assert_outcomes(passed=2, deselected=14)
    result.stdout.fnmatch_lines(["*[[]echo-first-1[]]*", "*[[]echo-first-2[]]*"])
    assert calls(project) == ["one two"] * 2


@pytest.mark.parametrize(
    ("test", "sentence"),
    [
        ('@pytest.mark.feedbackloop("none.yaml")\ndef test_x(feedbackloop): ...', "*none.yaml: there is no such spec*"),
        ('@pytest.mark.feedbackloop("spec.yaml")\ndef test_x(): ...', "*does not take the fixture*"),
        ("@pytest.mark.feedbackloop\ndef test_x(feedbackloop): ...", "*test_x: write @pytest.mark.feedbackloop*"),
        (
            '@pytest.mark.feedbackloop("spec.yaml", variants=["lout"])\ndef test_x(feedbackloop): ...',
            "*there is no variant 'lout'; did you mean 'loud'*",
        ),
    ],
)
def test_a_marker_that_makes_no_sense_is_one_sentence(project, go, test, sentence) -> None:
    project.makepyfile(f"import pytest\n\n{test}")
    result = go()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([sentence])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_run_that_cannot_begin_is_said_by_each_test(project, go) -> None:
    project.path.joinpath("app.py").unlink()
    project.makepyfile(MARKED)
    result = go("-k", "first")
    result.assert_outcomes(failed=2, deselected=6)
    result.stdout.fnmatch_lines(["E*spec.yaml: this was not asked: *app.py*"])


def test_a_single_question_is_asked_checked_and_stored(project, go) -> None:
    project.makepyfile(
        """
        import pytest

        def test_text(feedbackloop):
            answer = feedbackloop.ask("one two", model="python:app.py:loud", expected="two")
            answer.check("contains", {"not_contains": "three"})
            assert (answer.output, answer.state) == ("ONE TWO", "unchecked")
            assert answer.latency_ms >= 0

        async def test_row(feedbackloop):
            row = {"question": "q", "input": "a"}
            answer = feedbackloop.ask(row, model="simulated:small", prompt="{{ question }}: {{ input }}", name="small")
            assert answer.output
            assert answer.variant.name == "small"

        def test_failure(feedbackloop):
            answer = feedbackloop.ask("broken", model="python:app.py:echo")
            assert answer.state == "error"
            with pytest.raises(AssertionError, match="it broke"):
                answer.check("json_valid")

        def test_nothing_to_check_by(feedbackloop):
            with pytest.raises(Exception, match="name graders"):
                feedbackloop.ask("x", model="python:app.py:echo").check()
            with pytest.raises(Exception, match="mark the test"):
                feedbackloop.answer
        """
    )
    result = go(
        "-p", "pytest_asyncio.plugin", "-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function"
    )
    result.assert_outcomes(passed=4)
    store = Store(project.path / "loop.duckdb")
    assert {run.run.task for run in queries.runs(store)} == {"pytest"}
    assert set(store.sql("SELECT DISTINCT metric FROM ratings")["metric"]) == {"contains", "not_contains"}


def test_the_store_is_the_one_that_is_named(project, go) -> None:
    project.makepyfile(MARKED)
    go("-k", "echo-first", "--feedbackloop-store", "other.duckdb").assert_outcomes(passed=1, deselected=7)
    assert outcome(Store(project.path / "other.duckdb")).answered == 1
    assert not project.path.joinpath("loop.duckdb").exists()


@pytest.mark.slow
def test_workers_share_one_run(project) -> None:
    project.makepyfile(MARKED)
    arguments = (*PLUGIN, "-p", "xdist", "-k", "first or free", "-n", "2", "--dist", "load")
    project.runpytest_subprocess(*arguments).assert_outcomes(passed=4)
    assert calls(project) == ["one two", "one two", "three", "three"]
    assert len(queries.runs(Store(project.path / "loop.duckdb"))) == 1


def test_whoever_does_not_use_it_does_not_wait_for_it(project) -> None:
    project.makepyfile("def test_x(): ...")
    code = (
        "import sys, pytest\n"
        f"pytest.main([*{PLUGIN!r}, '-q'])\n"
        "print([name for name in ('pydantic', 'duckdb', 'pandas', 'openai', 'numpy') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"


def test_the_plugin_is_announced_to_pytest() -> None:
    import tomllib

    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert known["project"]["entry-points"]["pytest11"] == {"feedbackloop": "feedbackloop.pytest_plugin"}
