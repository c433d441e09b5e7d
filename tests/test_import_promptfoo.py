"""promptfoo's configs and results come over as they are, and what cannot is named."""

from __future__ import annotations

import json

import pytest
import yaml
from test_import_formats import answers, refused, twice, write_json
from test_importers import rows_in, write_jsonl

import feedbackloop as fl
from feedbackloop.errors import DatasetError
from feedbackloop.graders import create
from feedbackloop.importers import import_file
from feedbackloop.models import AIResponse, Case
from feedbackloop.spec import load_spec
from feedbackloop.store import Store


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "loop.duckdb")


# --- results ---


def result(test, index, output, *, provider="openai:chat:gpt-4o-mini", parts=(), **more):
    return {
        "id": f"{test}-{index}",
        "promptIdx": index,
        "testIdx": test,
        "promptId": "h",
        "provider": {"id": provider, "label": more.pop("label", "")},
        "prompt": {"raw": f"Say {test}", "label": "Say {{n}}", "config": {}},
        "vars": {"n": test},
        "testCase": {"vars": {"n": test}, "assert": [], "metadata": {}},
        "response": {
            "output": output,
            "tokenUsage": {"total": 12, "prompt": 7, "completion": 5, "completionDetails": {"reasoning": 3}},
            "cached": False,
            "finishReason": "stop",
        },
        "success": True,
        "score": 1,
        "error": None,
        "failureReason": 0,
        "latencyMs": 120 + test,
        "cost": 0.0001,
        "gradingResult": {"pass": True, "score": 1, "reason": "All assertions passed", "componentResults": list(parts)},
        "namedScores": {},
        **more,
    }


def part(type_, *, passed=True, score=1, **assertion):
    return {
        "pass": passed,
        "score": score,
        "reason": "Assertion passed" if passed else "no",
        "assertion": {"type": type_, **assertion},
    }


def whole(*results, prompts=()):
    return {
        "evalId": "eval-1",
        "results": {
            "version": 3,
            "timestamp": "2025-11-01T10:00:00.000Z",
            "prompts": list(prompts),
            "results": list(results),
            "stats": {"successes": len(results)},
        },
        "config": {"description": "d", "prompts": ["x"]},
        "shareableUrl": None,
        "metadata": {"promptfooVersion": "0.121.20"},
    }


def test_results_bring_answers_figures_and_verdicts(tmp_path, store) -> None:
    failed = result(
        2, 0, None, error="API error: 429", failureReason=2, response={"error": "API error: 429"}, gradingResult=None
    )
    missed = result(
        1, 0, "no", error="no", failureReason=1, success=False, parts=[part("equals", passed=False, score=0, value="1")]
    )
    good = result(
        0,
        0,
        "yes",
        parts=[
            part("icontains", value="y"),
            part("llm-rubric", value="polite", score=0.8, metric="tone"),
            part("similar", passed=False, score=0.7, threshold=0.9),
            part("human", passed=False, score=0),
        ],
        namedScores={"tone": 0.8, "derived": 2.5},
        testCase={"description": "first", "assert": [{"type": "equals", "value": "yes"}], "metadata": {"team": "a"}},
    )
    path = write_json(
        tmp_path / "results.json", whole(good, missed, failed, prompts=[{"raw": "Say {{n}}", "provider": "p"}])
    )
    done = twice(path, store, task="t")
    assert (done.format, done.answers, done.cases, done.variants) == ("promptfoo", 3, 3, ("openai:gpt-4o-mini",))
    assert done.ratings == 6
    assert done.left_out == (
        "the configuration within the results (import promptfooconfig.yaml itself) (config)",
        "the threshold of `similar`, by which 0.7 is not a pass (result 1)",
    )
    assert answers(store, "inputs->>'n', output, status, coalesce(error, '')") == [
        ("0", "yes", "completed", ""),
        ("1", "no", "completed", ""),
        ("2", "", "failed", "API error: 429"),
    ]
    row = store.sql("SELECT * FROM answers WHERE output = 'yes'").iloc[0]
    assert (row["latency_ms"], row["cost_usd"], row["input_tokens"], row["output_tokens"]) == (120, 0.0001, 7, 5)
    assert (row["finish_reason"], row["expected"]) == ("stop", '"yes"')
    assert row["created_at"].isoformat() == "2025-11-01T10:00:00+00:00"
    found = store.sql("SELECT metric, rater_kind, value, blind FROM ratings ORDER BY metric, value")
    assert [tuple(one) for one in found.itertuples(index=False)] == [
        ("derived", "grader", 2.5, True),
        ("equals", "grader", 0.0, True),
        ("human", "human", 0.0, False),
        ("icontains", "grader", 1.0, True),
        ("similar", "judge", 0.7, True),
        ("tone", "judge", 0.8, True),
    ]
    variant = store.sql("SELECT model, prompt FROM variants").iloc[0]
    assert (variant["model"], json.loads(variant["prompt"])) == ("imported:openai:gpt-4o-mini", "Say {{n}}")
    assert json.loads(
        store.sql("SELECT messages FROM requests WHERE repeat = 0 ORDER BY input LIMIT 1")["messages"][0]
    ) == [{"role": "user", "content": "Say 0"}]
    case = store.sql("SELECT metadata FROM cases WHERE inputs->>'n' = '0'")
    assert json.loads(case["metadata"][0]) == {"team": "a", "description": "first"}


def test_results_of_lines_of_several_prompts_and_repeats(tmp_path, store) -> None:
    chat = json.dumps([{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}])
    lines = [
        result(0, 0, "a", prompt={"raw": chat, "label": "kind"}),
        result(0, 0, "a", prompt={"raw": chat, "label": "kind"}),
        result(
            0,
            1,
            {"json": 1},
            prompt={"raw": "Q", "label": "plain"},
            label="mini",
            cost=0,
            response={"output": {"json": 1}, "cached": True},
        ),
    ]
    path = write_jsonl(tmp_path / "results.jsonl", *lines)
    done = twice(path, store)
    assert (done.answers, done.variants) == (3, ("openai:gpt-4o-mini: kind", "mini: plain"))
    assert done.notes == ("A cost of 0 is taken for an unknown one, as promptfoo writes it.",)
    found = store.sql(
        "SELECT variant, repeat, output, cached, latency_ms, cost_usd FROM answers ORDER BY variant, repeat"
    )
    assert found["repeat"].tolist() == [0, 0, 1]
    assert found["output"].tolist() == ['{"json": 1}', "a", "a"]
    assert found["cached"].tolist() == [True, False, False]
    assert found["cost_usd"].isna().tolist() == [True, False, False]
    assert found["latency_ms"].isna().tolist() == [True, False, False]
    messages = store.sql("SELECT CAST(messages AS VARCHAR) AS m FROM requests ORDER BY length(m) DESC")["m"][0]
    assert json.loads(messages) == json.loads(chat)


def test_older_results_come_as_a_table(tmp_path, store) -> None:
    outputs = [
        {
            "pass": True,
            "score": 1,
            "text": "x",
            "prompt": "Say 1",
            "latencyMs": 5,
            "provider": "openai:gpt-4",
            "cost": 0.1,
        },
        {"pass": False, "score": 0, "text": "y", "prompt": "Tell 1", "latencyMs": 6, "provider": "openai:gpt-4"},
    ]
    head = {"vars": ["n"], "prompts": [{"raw": "Say {{n}}", "label": "say"}, {"raw": "Tell {{n}}", "label": "tell"}]}
    table = {"head": head, "body": [{"vars": ["1"], "outputs": outputs, "test": {}}]}
    path = write_json(tmp_path / "results.json", {"results": {"version": 2, "table": table}})
    done = twice(path, store)
    assert (done.answers, done.cases, done.variants) == (2, 1, ("openai:gpt-4: say", "openai:gpt-4: tell"))
    assert answers(store, "output, latency_ms, input") == [("x", 5, "1"), ("y", 6, "1")]


def test_a_figure_that_is_none_is_told_by_its_result(tmp_path, store) -> None:
    path = write_json(tmp_path / "r.json", whole(result(0, 0, "a"), result(1, 0, "b", latencyMs="slow")))
    assert refused(path, store) == ": result 2: 'latencyMs' is 'slow'; it must be a number from 0 on"
    lines = write_jsonl(tmp_path / "r.jsonl", result(0, 0, "a"), result(1, 0, "b", cost=-1))
    assert refused(lines, store) == ":2: result 2: 'cost' is -1; it must be a number from 0 on"


# --- configs ---


def config(folder, **values):
    path = folder / "promptfooconfig.yaml"
    path.write_text(yaml.safe_dump({"prompts": ["Say {{n}}"], "providers": ["openai:chat:gpt-4o"], **values}))
    return path


def converted(folder, **values):
    """What a config becomes: the spec as it is written, the lines of its dataset, and what was left out."""
    for name in ("promptfooconfig.feedbackloop.yaml", "promptfooconfig.cases.jsonl"):
        (folder / name).unlink(missing_ok=True)
    store = Store(folder / "loop.duckdb")
    done = import_file(config(folder, **values), store, task="support")
    assert not store.exists()
    spec, dataset = done.files
    load_spec(spec)
    lines = [json.loads(line) for line in dataset.read_text().splitlines()]
    assert import_file(folder / "promptfooconfig.yaml", store, task="support").new == 0
    return yaml.safe_load(spec.read_text()), lines, done.left_out


def test_a_config_becomes_a_spec_and_a_dataset(tmp_path) -> None:
    (tmp_path / "chat.json").write_text(
        '[{"role": "system", "content": "Be kind."}, {"role": "user", "content": "{{n}}"}]'
    )
    (tmp_path / "two.txt").write_text("First {{n}}\n---\nSecond {{n}}\n")
    spec, lines, left_out = converted(
        tmp_path,
        prompts=["Say {{n}}", {"raw": "file://chat.json", "label": "kind"}, "two.txt"],
        providers=[
            "openai:chat:gpt-4o",
            {
                "id": "openai:gpt-4o-mini",
                "label": "mini",
                "config": {"temperature": 0.1, "apiKey": "sk-1"},
                "prompts": ["kind"],
            },
            {"anthropic:messages:claude-4": {"config": {"max_tokens": 9}, "prompts": ["kind"]}},
        ],
        defaultTest={"assert": [{"type": "latency", "threshold": 900}], "vars": {"lang": "en"}},
        tests=[{"vars": {"n": 1}}, {"vars": {"n": [2, 3]}, "description": "two", "metadata": {"team": "a"}}],
        evaluateOptions={"maxConcurrency": 3, "repeat": 2, "timeoutMs": 5000, "delay": 10},
        description="Support\nbot",
        sharing=False,
        env={"X": "1"},
    )
    assert spec["task"] == "support"
    assert [(one["name"], one["model"], one.get("params")) for one in spec["variants"]] == [
        ("gpt-4o: prompt 1", "openai:gpt-4o", None),
        ("gpt-4o: kind", "openai:gpt-4o", None),
        ("gpt-4o: prompt 3", "openai:gpt-4o", None),
        ("gpt-4o: prompt 4", "openai:gpt-4o", None),
        ("mini: kind", "openai:gpt-4o-mini", {"temperature": 0.1}),
        ("claude-4: kind", "anthropic:claude-4", {"max_tokens": 9}),
    ]
    assert spec["variants"][1]["prompt"][0] == {"role": "system", "content": "Be kind."}
    assert (spec["repeats"], spec["limits"], spec["graders"]) == (
        2,
        {"concurrency": 3, "timeout_s": 5},
        [{"latency": 900}],
    )
    assert lines == [
        {"id": "1", "inputs": {"lang": "en", "n": 1}},
        {"id": "2", "inputs": {"lang": "en", "n": 2}, "metadata": {"team": "a", "description": "two"}},
        {"id": "3", "inputs": {"lang": "en", "n": 3}, "metadata": {"team": "a", "description": "two"}},
    ]
    assert left_out == (
        "`env` (the config)",
        "`apiKey` of the provider's config (write it into a [providers.NAME] table of feedbackloop.toml) (provider 2)",
        "`evaluateOptions.delay` (the config)",
    )


def test_checks_that_differ_go_with_their_cases(tmp_path) -> None:
    set_ = {
        "type": "assert-set",
        "threshold": 0.5,
        "assert": [{"type": "contains", "value": "a"}, {"$ref": "#/assertionTemplates/short"}],
    }
    spec, lines, left_out = converted(
        tmp_path,
        assertionTemplates={"short": {"type": "word-count", "value": {"max": 9}}},
        tests=[
            {
                "vars": {"n": "x"},
                "assert": [{"type": "icontains", "value": "{{ n }}!", "weight": 2}, {"type": "is-json"}],
            },
            {"vars": {"n": "y"}, "assert": [{"type": "is-json"}, set_]},
        ],
    )
    assert spec["graders"] == [{"json_valid": None}, {"case_checks": None, "threshold": 1}]
    assert [line["metadata"]["checks"] for line in lines] == [
        [{"contains": "x!", "weight": 2}],
        [{"contains": {"text": "a", "case": True}}, {"length": {"max": 9, "unit": "words"}}],
    ]
    assert left_out == (
        "`is-json`, in part: a Markdown fence around the answer is forgiven here (2 times: test 1, test 2)",
        "`threshold` of an assert-set, whose assertions count one by one (test 2)",
    )


def test_where_each_test_only_names_its_text_that_is_what_is_expected(tmp_path) -> None:
    tests = [{"vars": {"n": n}, "assert": [{"type": "equals", "value": f"<{n}>"}]} for n in "ab"]
    spec, lines, _ = converted(tmp_path, tests=tests)
    assert spec["graders"] == [{"equals": None}]
    assert lines == [{"id": str(n), "inputs": {"n": v}, "expected": f"<{v}>"} for n, v in enumerate("ab", 1)]


def test_tests_may_stand_in_a_table(tmp_path) -> None:
    (tmp_path / "tests.csv").write_text(
        "n,__expected,__expected2,__description,__metadata:team,__threshold\n"
        '1,contains: one,is-json,first,a,\n2,two,"contains-any: 2, two",,,0.5\n3,levenshtein(3): three,fn: x > 1,,,\n'
    )
    spec, lines, left_out = converted(tmp_path, tests="file://tests.csv")
    assert [line["inputs"] for line in lines] == [{"n": "1"}, {"n": "2"}, {"n": "3"}]
    assert lines[0]["metadata"] == {
        "team": "a",
        "description": "first",
        "checks": [{"contains": {"text": "one", "case": True}}, {"json_valid": None}],
    }
    assert lines[1]["expected"] == "two"
    assert lines[1]["metadata"]["checks"][1] == {"contains_any": {"texts": ["2", "two"], "case": True}}
    assert lines[2]["metadata"]["checks"] == [{"levenshtein": {"text": "three", "max": 3.0}}]
    assert "`options.threshold` of tests (test 2)" in left_out
    assert any(what.startswith("`javascript`: There is no grader") for what in left_out)
    assert spec["graders"] == [{"case_checks": None, "threshold": 1}]


def test_scenarios_are_written_out(tmp_path) -> None:
    scenario = {
        "config": [{"vars": {"n": "a"}}, {"vars": {"n": "b"}}],
        "tests": [{"vars": {"m": "1"}}, {"vars": {"m": "2"}}],
    }
    _, lines, _ = converted(tmp_path, scenarios=[scenario])
    assert [tuple(line["inputs"].values()) for line in lines] == [("a", "1"), ("a", "2"), ("b", "1"), ("b", "2")]


def test_a_config_without_tests_asks_each_prompt_once(tmp_path) -> None:
    spec, lines, _ = converted(tmp_path, prompts="Tell a joke")
    assert lines == [{"id": "1", "inputs": {"input": ""}}]
    assert spec["variants"] == [{"name": "gpt-4o", "model": "openai:gpt-4o", "prompt": "Tell a joke"}]


def test_nothing_outside_the_folder_is_read_and_no_program_run(tmp_path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    folder = tmp_path / "inner"
    folder.mkdir()
    (folder / "broken.yaml").write_text("- role: 'user")
    _, lines, left_out = converted(
        folder,
        prompts=[
            "Say {{n}}",
            "file://../secret.txt",
            "file://make.py:prompt",
            "file://none.txt",
            "{% if %}",
            "broken.yaml",
        ],
        providers=["openai:gpt-4o", "python:answer.py", "https://example.com/x"],
        tests=[
            {"vars": {"n": "file:///etc/hostname"}},
            {"vars": {"n": "x"}, "options": {"transform": "a"}, "provider": "y"},
        ],
    )
    assert [line["inputs"]["n"] for line in lines] == ["", "x"]
    told = "\n".join(left_out)
    for piece in (
        "file:///etc/hostname lies outside the config's folder (test 1)",
        "`options.transform` of tests (test 2)",
        "`provider` of tests (test 2)",
        "file://../secret.txt lies outside the config's folder (prompt 2)",
        "file://make.py:prompt is a program, and none is run for an import (prompt 3)",
        "file://none.txt is not there, or names several files (prompt 4)",
        "a template that Jinja2 cannot read",
        "broken.yaml",
        "the provider python:answer.py",
        "the provider https://example.com/x",
    ):
        assert piece in told


def test_lists_of_values_cannot_ask_for_billions(tmp_path) -> None:
    many = {f"v{n}": list(range(10)) for n in range(9)}
    from feedbackloop.importers import promptfoo_tests

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(promptfoo_tests, "MOST", 50)
        _, lines, left_out = converted(tmp_path, tests=[{"vars": many}])
    assert len(lines) == 50
    assert left_out == ("tests beyond the first 50 (test 1)",)


def test_what_was_changed_since_is_not_written_over(tmp_path) -> None:
    converted(tmp_path)
    spec = tmp_path / "promptfooconfig.feedbackloop.yaml"
    spec.write_text(spec.read_text() + "budget_usd: 1\n")
    with pytest.raises(DatasetError, match="it is there already and says something else"):
        import_file(tmp_path / "promptfooconfig.yaml", Store(tmp_path / "loop.duckdb"), task="support")
    assert "budget_usd" in spec.read_text()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"providers": ["exec:run.sh"]}, "no prompt and provider of it can be carried over"),
        ({"prompts": [3]}, "no prompt and provider of it can be carried over: what is no prompt"),
        ({"tests": ["none.yaml"]}, "there is no test in it that could be carried over"),
    ],
)
def test_a_config_of_which_nothing_is_left_is_refused(tmp_path, values, said) -> None:
    with pytest.raises(DatasetError, match=said):
        import_file(config(tmp_path, **values), Store(tmp_path / "loop.duckdb"))
    assert [file.name for file in tmp_path.iterdir()] == ["promptfooconfig.yaml"]


async def test_a_config_runs_as_it_was_written(tmp_path, store) -> None:
    (tmp_path / "out.jsonl").write_text(
        "".join(json.dumps({"case_id": str(n), "output": out}) + "\n" for n, out in ((1, "has one"), (2, "has 1")))
    )
    converted(
        tmp_path,
        providers=["recorded:out.jsonl"],
        tests=[
            {"vars": {"n": "one"}, "assert": [{"type": "icontains", "value": "{{n}}"}]},
            {
                "vars": {"n": "two"},
                "assert": [{"type": "icontains", "value": "{{n}}"}, {"type": "contains-any", "value": [1, 2]}],
            },
        ],
    )
    spec = load_spec(tmp_path / "promptfooconfig.feedbackloop.yaml")
    done = await fl.run_spec(spec, store)
    assert done.finished
    found = store.sql("SELECT grades FROM answers ORDER BY external_id")
    assert [json.loads(one) for one in found["grades"]] == [{"case_checks": 1.0}, {"case_checks": 0.5}]
    assert rows_in(store)["ratings"] == 2


# --- checks that a case names ---


def graded(checks, output):
    grader = create({"case_checks": None})
    response = AIResponse(request_id="r", output=output, model_used="m")
    return grader.function(Case(inputs={"a": 1}, metadata={"checks": checks} if checks else {}), response)


def test_a_case_names_its_own_checks() -> None:
    checks = [{"contains": "yes", "weight": 3}, "json_valid", {"not_contains": "no"}]
    assert graded([], "x") is None
    assert graded(checks[:1], "yes") == {"value": 1.0}
    half = graded(checks, "yes, no")
    assert half["value"] == 3 / 5
    assert half["reason"] == "json_valid; not_contains"
    schema = [{"json_schema": {"type": "object"}}]
    assert (graded(schema, "3"))["reason"].startswith("json_schema: ")


@pytest.mark.parametrize(
    "checks",
    [
        "contains",
        ["my.py:check"],
        [{"python": "my.py:check"}],
        [{"not": {"python": "a.py:b"}}],
        [{"json_schema": "/etc/x"}],
        [{"nonsense": 1}],
    ],
)
def test_a_dataset_runs_no_functions_and_reads_no_files(checks) -> None:
    with pytest.raises(ValueError, match=r"check|JSON Schema|grader"):
        graded(checks, "x")
