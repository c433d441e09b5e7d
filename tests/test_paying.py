"""What is said before a run, the question where it costs money, and limits on the command line."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from openai_server import OpenAIServer

from feedbackloop import Store, queries
from feedbackloop.cli import main, paying
from feedbackloop.errors import SettingsError
from feedbackloop.wording import dollars

TOML = """
[providers.up]
base_url = "{url}"
[providers.far]
base_url = "https://models.example/v1"
[prices."up:m"]
input_per_million = 1000
output_per_million = 1000
"""
SPEC = """
dataset: cases.jsonl
variants:
  - {name: terse, model: "up:m", params: {max_tokens: 10}}
  - {name: steps, model: "up:m", prompt: "Step by step: {{ input }}", params: {max_tokens: 10}}
limits: {retries: 0, concurrency: 1}
"""
FREE = 'dataset: cases.jsonl\nvariants: [{name: a, model: "simulated:small"}, {name: b, model: "simulated:large"}]\n'
UNKNOWN = 'dataset: cases.jsonl\nvariants: [{name: a, model: "simulated:small", fallbacks: ["far:llama"]}]\n'


@pytest.fixture
def server():
    with OpenAIServer() as running:
        yield running


@pytest.fixture
def call(tmp_path, monkeypatch, capsys, server):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    Path("feedbackloop.toml").write_text(TOML.format(url=server.url))
    Path("cases.jsonl").write_text("".join(json.dumps({"input": f"Question {n}"}) + "\n" for n in range(5)))
    for name, text in (("spec", SPEC), ("free", FREE), ("unknown", UNKNOWN)):
        Path(f"{name}.yaml").write_text(text)

    def called(*arguments, says=None):
        """The code and what was printed; with `says`, as on a terminal where somebody types that."""
        monkeypatch.setattr(paying, "_is_terminal", lambda: says is not None)
        monkeypatch.setattr("sys.stdin", io.StringIO(says or ""))
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out + err

    return called


def test_without_a_terminal_the_estimate_is_said_and_the_run_goes_on(call, server):
    code, out = call("run", "spec.yaml")
    # 10 calls of 10 tokens out, 3 in (Question 0 without a prompt) or 6, at a tenth of a cent each.
    assert "Estimate: 10 calls (5 cases x 2 variants), about 140 tokens, $0.14 and 30 s." in out
    assert "if an answer takes 250 tokens and 3 s" in out
    assert "smallest win rate that shows is 84% (80% power, 25% ties)" in out
    assert (code, len(server.requests)) == (0, 10)


@pytest.mark.parametrize(("says", "code", "asked"), [("n\n", 1, 0), ("y\n", 0, 10), ("\n", 0, 10)])
def test_on_a_terminal_money_is_spent_only_if_that_is_agreed(call, server, says, code, asked):
    ended, out = call("run", "spec.yaml", says=says)
    assert "Start? [Y/n]" in out
    assert (ended, len(server.requests)) == (code, asked)
    assert ("Nothing was asked." in out) is (asked == 0)
    assert Path("loop.duckdb").exists() is (asked > 0)


def test_yes_skips_the_question_and_what_is_free_is_never_asked_about(call, server):
    for arguments in (("spec.yaml", "--yes"), ("free.yaml",)):
        code, out = call("run", *arguments, says="n\n")
        assert (code, "Start?" in out) == (0, False)
    assert "$0.00" in out


def test_nobody_is_asked_about_answers_that_are_there_already(call, server):
    call("run", "spec.yaml", "--yes")
    code, out = call("run", "spec.yaml", says="n\n")
    told = "0 calls (5 cases x 2 variants, 10 answers are there already), about 0 tokens, $0.00"
    assert f"Estimate: {told}" in out
    assert (code, "Start?" in out, len(server.requests)) == (0, False, 10)
    assert "Start? [Y/n]" in call("run", "spec.yaml", "--no-cache", says="n\n")[1]


def test_what_has_no_price_is_not_said_to_cost_nothing(call):
    Path("mine.py").write_text("def answer(inputs):\n    return 'yes'\n")
    Path("mine.yaml").write_text('dataset: cases.jsonl\nvariants: [{name: mine, model: "python:mine.py:answer"}]\n')
    code, out = call("run", "mine.yaml")
    assert "tokens, an unknown cost and" in out
    assert "spent: unknown, 5 unpriced" in out
    assert code == 0


def test_the_lower_of_two_limits_counts(call, server):
    code, out = call("run", "spec.yaml", "--max-cost", "0.1")
    assert "The limit of $0.10 will end it at about 71% of that." in out
    assert "the budget of $0.10 is used up" in out
    again = f"feedbackloop resume {queries.find_run(Store('loop.duckdb')).run.id[:8]} --max-cost USD"
    assert again in out
    assert again in call("status")[1]
    assert code == 1
    store = Store("loop.duckdb")
    run = queries.find_run(store).run
    assert run.settings["budget_usd"] == 0.1
    assert 0 < queries.spent(store, run.id) <= 0.1
    # Going on with more: only what is left is estimated, and asked.
    before = len(server.requests)
    code, out = call("resume", "--max-cost", "5", says="y\n")
    assert f"Estimate: {10 - before} calls left" in out
    assert (code, len(server.requests)) == (0, 10)


def test_what_is_not_known_counts_at_its_worst_in_the_note_and_in_what_is_left(call, server):
    server.plan = ["no_usage"]
    code, out = call("run", "spec.yaml", "--max-cost", "0.1")
    # Question 0: 26 bytes and 10 tokens out, at a tenth of a cent each.
    assert "Note: $0.036 of the budget is gone for 1 call that broke off or left no usage, counted at worst case" in out
    assert "does not hold" not in out
    store = Store("loop.duckdb")
    known = queries.spent(store, queries.find_run(store).run.id)
    code, out = call("resume", "--max-cost", "0.12")
    left = dollars(0.12 - known - 0.036)
    assert f"The limit of $0.12, of which {left} is left, will end it at about" in out
    assert code == 1
    assert "unpriced: calls of which nobody knows what they cost" in call("cost")[1]


def test_only_models_without_a_price_are_beyond_a_budget(call, server):
    Path("feedbackloop.toml").write_text(TOML.format(url=server.url).partition("[prices")[0])
    code, out = call("run", "spec.yaml", "--max-cost", "0.1", "--limit", "1")
    assert "Note: the budget does not hold for 2 calls of models without a price" in out
    assert code == 0


def test_a_budget_less_than_one_call_is_refused_before_anybody_is_asked(call, server):
    Path("spec.yaml").write_text(SPEC.replace("params: {max_tokens: 10}", "params: {temperature: 0}"))
    code, out = call("run", "spec.yaml", "--max-cost", "0.5", says="y\n")
    assert "Error: the budget of $0.50 is less than one call of 'terse' could cost, $2.07: max_tokens is not set" in out
    assert "Estimate" not in out
    assert (code, len(server.requests)) == (1, 0)


def test_of_a_retry_what_failed_is_said_and_asked_about_alone(call, server):
    server.plan = ["bad_request", "bad_request"]
    assert "asks again what failed (2)" in call("run", "spec.yaml", "--limit", "3")[1]
    # It is finished, and has rows that were never asked: neither keeps from asking about these two.
    retry = ("resume", "--retry-failed", "--limit", "0")
    code, out = call(*retry, says="n\n")
    assert "Estimate: 2 calls left" in out
    assert (code, len(server.requests)) == (1, 6)
    assert (call(*retry, "--yes")[0], len(server.requests)) == (1, 8)  # 1: the others are still to be asked


@pytest.mark.parametrize(
    ("spec", "option", "limit"), [(None, None, None), (5, None, 5), (None, 2, 2), (5, 2, 2), (1, 2, 1)]
)
def test_which_limit_is_the_lower(spec, option, limit):
    assert paying.lower(spec, option) == limit


def test_a_limit_of_nothing_is_refused(call):
    with pytest.raises(SettingsError, match="--max-cost is 0"):
        paying.lower(5, 0)
    assert call("run", "spec.yaml", "--max-cost", "-1")[0] == 2


def test_a_price_that_nobody_knows_is_refused_until_it_is_allowed(call):
    code, out = call("run", "unknown.yaml", says="y\n")
    assert (code, Path("loop.duckdb").exists()) == (1, False)
    assert "the price of far:llama is not known" in out
    assert "--allow-unknown-price" in out
    code, out = call("run", "unknown.yaml", "--allow-unknown-price", says="")
    assert (code, "What far:llama costs is not known, and not in it." in out) == (0, True)
    # It is written down, so that going on needs no word of it.
    assert call("resume", queries.runs(Store("loop.duckdb"))[0].run.id)[0] == 0


def test_what_is_wrong_with_a_row_is_still_told_with_its_line(call):
    with Path("cases.jsonl").open("a") as file:
        file.write('{"question": "other"}\n')
    code, out = call("run", "spec.yaml", says="n\n")
    assert (code, "Estimate" in out) == (1, False)
    assert "cases.jsonl:6" in out
