"""Imports: answers and votes made elsewhere become the same records as those made here, once."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
from datetime import UTC, datetime, timedelta

import duckdb
import pytest

from feedbackloop.datasets import open_dataset
from feedbackloop.errors import DatasetError, SettingsError
from feedbackloop.importers import (
    AnswerMapping,
    guess_ignored,
    guess_mapping,
    import_answers,
    import_file,
    import_votes,
    records,
)
from feedbackloop.models import TABLES, Case
from feedbackloop.store import Store

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def write_jsonl(path, *items):
    data = "".join(json.dumps(item) + "\n" for item in items).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_csv(path, *items):
    text = io.StringIO()
    csv.writer(text).writerows(items)
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
    return path


def refusal(path, function, *arguments, **options):
    with pytest.raises(DatasetError) as caught:
        function(path, *arguments, **options)
    return str(caught.value).removeprefix(str(path))


def rows_in(store):
    counts = ", ".join(f"(SELECT count(*) FROM {table}) AS {table}" for table in TABLES)
    return {table: int(count) for table, count in store.read(f"SELECT {counts}").iloc[0].items()}


# --- which columns hold answers ---


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["prompt", "answer_a", "answer_b"], ("answer_a", "answer_b")),
        (["Prompt", "a_answer", "b_answer", "score"], ("a_answer", "b_answer")),
        (["id", "input", "output_gpt", "output_claude"], ("output_gpt", "output_claude")),
        (["question", "gpt output", "claude output", "expected_output"], ("gpt output", "claude output")),
        (["instruction", "input", "response1", "response2", "annotator1"], ("response1", "response2")),
        (
            ["query", "x_response", "y_response", "response_time", "answer_id", "output_tokens"],
            ("x_response", "y_response"),
        ),
        (["prompt", "gpt-4o", "claude"], ("gpt-4o", "claude")),
        (["prompt_id", "gpt-4o", "claude"], ("gpt-4o", "claude")),
        (["text", "expected", "segment", "gpt-4o", "claude", "latency_ms"], ("gpt-4o", "claude")),
    ],
)
def test_wide_columns_are_guessed(columns, expected):
    assert guess_mapping(columns, [dict.fromkeys(columns, "some words")]) == AnswerMapping(answers=expected)


@pytest.mark.parametrize(
    ("columns", "variant", "output"),
    [
        (["instruction", "output", "generator"], "generator", "output"),
        (["model", "prompt_id", "output"], "model", "output"),
        (["Variant", "input", "Answer", "output_tokens"], "Variant", "Answer"),
        (["system", "prompt", "completion"], "system", "completion"),
        (["model", "result", "prompt"], "model", "result"),
    ],
)
def test_long_columns_are_guessed(columns, variant, output):
    assert guess_mapping(columns, [dict.fromkeys(columns, "x")]) == AnswerMapping(variant=variant, output=output)


def test_a_column_of_system_prompts_names_no_variants():
    rows = [{"system": "You are ...\n" * 20, "prompt": "x", "output": "y", "answer_b": "z"}]
    assert guess_mapping(list(rows[0]), rows) == AnswerMapping(answers=("answer_b",))


def test_columns_of_numbers_are_no_answers():
    rows = [{"prompt": "a", "gpt": "text", "claude": "text", "score": 3, "rank": "2", "correct": "True"}]
    assert guess_mapping(list(rows[0]), rows) == AnswerMapping(answers=("gpt", "claude"))


@pytest.mark.parametrize(
    ("columns", "left_out"),
    [
        ({"preferred_model": "model_a", "score_a": "9"}, ("preferred_model", "score_a")),
        ({"label": "model_b", "choice": "the second", "notes": "x"}, ("label",)),
        ({"Score": 1, "cost": 2, "latency_ms": 3, "created": "2026-01-01"}, ("Score", "cost", "latency_ms", "created")),
        ({"winner": "tie", "annotator1": 0, "model_a_tokens": 7}, ("winner", "annotator1", "model_a_tokens")),
        ({"label": "spam", "best": "yes", "picked": "", "topic": "score", "scored": 1, "expected": "model_a"}, ()),
    ],
)
def test_columns_that_are_plainly_of_an_answer_or_a_verdict_are_no_part_of_the_case(columns, left_out):
    row = {"id": 1, "prompt": "cap?", "model_a": "Canberra", "model_b": "Sydney", **columns}
    mapping = guess_mapping(list(row), [row])
    assert mapping.answers == ("model_a", "model_b")
    assert guess_ignored(list(row), [row], mapping) == left_out


def test_a_verdict_among_columns_of_answers_is_no_variant():
    row = {"prompt": "cap?", "gpt": "Canberra", "claude": "Sydney", "label": "gpt", "winner": "claude"}
    assert guess_mapping(list(row), [row]) == AnswerMapping(answers=("gpt", "claude"))


def test_what_is_left_out_and_what_makes_the_case_is_told(tmp_path, store):
    header = ["id", "prompt", "model_a", "model_b", "preferred_model", "score_a", "notes", "segment"]
    path = write_csv(tmp_path / "leak.csv", header, ["1", "cap?", "Canberra", "Sydney", "model_a", "9", "n", "s"])
    done = import_answers(path, store)
    assert (done.case, done.mapping.ignored) == (("prompt", "notes"), ("preferred_model", "score_a"))
    told = import_answers(path, store, ignore=["notes"], keep=["score_a"])
    assert (told.case, told.mapping.ignored) == (("prompt", "score_a"), ("notes", "preferred_model"))
    found = store.sql("SELECT inputs FROM cases ORDER BY created_at")["inputs"]
    assert [json.loads(inputs) for inputs in found] == [
        {"prompt": "cap?", "notes": "n"},
        {"prompt": "cap?", "score_a": "9"},
    ]
    assert import_file(path, store, ignore=["notes"], keep=["score_a"]).new == 0
    for options, sentence in (
        ({"ignore": ["note"]}, ": there is no column 'note'; did you mean 'notes'?"),
        ({"keep": ["x"]}, ": there is no column 'x'; there is id, model_a"),
        ({"ignore": ["model_a"]}, ": the column 'model_a' cannot be both left out and read as answers"),
        ({"ignore": ["notes"], "keep": ["notes"]}, ": the column 'notes' cannot be both left out and kept"),
    ):
        assert refusal(path, import_answers, store, **options).startswith(sentence)


def test_figures_of_single_answers_do_not_tear_a_case_apart(tmp_path, store):
    rows = [["q1", "a", "x", 1, "2024", "s"], ["q1", "b", "y", 2, "2025", "t"], ["q2", "a", "z", 3, "2026", "u"]]
    path = write_csv(tmp_path / "long.csv", ["prompt", "model", "output", "latency", "created", "mood"], *rows)
    done = import_answers(path, store)
    assert done.mapping.ignored == ("latency", "created")
    [note] = done.notes
    assert note == (
        "No case has answers of two variants: the column 'mood' may have been taken for the case though it differs by answer; "
        "--ignore COLUMN leaves a column out."
    )
    assert import_answers(path, store, ignore=["mood"]).cases == 2


def test_what_cannot_be_guessed_is_said_with_the_columns_and_the_options(tmp_path, store):
    path = write_jsonl(tmp_path / "a.jsonl", {"alpha": "x", "beta": "y"})
    assert refusal(path, import_answers, store) == (
        ": cannot tell which columns hold the answers; there is alpha, beta. Name them: --answers a,b (a column for each "
        "variant), or --variant-column and --output-column (a row for each answer)"
    )


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"variant": "a"},
        {"output": "a"},
        {"answers": ("a",), "variant": "b", "output": "c"},
        {"answers": ("a", "a")},
    ],
)
def test_a_mapping_is_wide_or_long_and_complete(fields):
    with pytest.raises(DatasetError, match="name either the columns that hold answers"):
        AnswerMapping(**fields)


# --- answers ---


def test_a_wide_file_becomes_a_run_with_a_variant_for_each_column(tmp_path, store):
    path = write_csv(
        tmp_path / "mine.csv",
        ["id", "prompt", "expected", "answer_x", "answer_y"],
        ["1", "p1", "e", "x1", "y1"],
        ["2", "p2", "", "x2", ""],
    )
    done = import_answers(path, store, task="support")
    assert (done.cases, done.variants, done.answers, done.repeated, done.notes) == (
        2,
        ("answer_x", "answer_y"),
        4,
        0,
        (),
    )
    assert done.new == sum(rows_in(store).values()) == 1 + 1 + 2 + 2 + 2 + 4 + 4
    found = store.sql("SELECT * FROM answers ORDER BY external_id, variant")
    assert found["output"].tolist() == ["x1", "y1", "x2", ""]
    assert set(found["status"]) == {"completed"}
    assert set(found["task"]) == {"support"}
    assert set(found["run_id"]) == {done.run_id}
    assert found["model_used"].tolist()[:2] == ["imported:answer_x", "imported:answer_y"]
    assert found["latency_ms"].isna().all()
    run = store.read("SELECT dataset, settings, repeats, fingerprint FROM runs").iloc[0]
    assert (run["dataset"], json.loads(run["settings"]), run["repeats"]) == ("mine.csv", {"imported": "mine.csv"}, 1)
    cases = [{"prompt": "p1"}, {"prompt": "p2"}]
    assert run["fingerprint"] == open_dataset(cases).check().fingerprint
    assert store.read("SELECT input FROM requests ORDER BY input")["input"].tolist() == ["p1", "p1", "p2", "p2"]
    assert store.read("SELECT kind FROM run_events ORDER BY created_at")["kind"].tolist() == ["started", "finished"]


def test_a_long_file_carries_what_it_knows_of_each_answer(tmp_path, store):
    path = write_csv(
        tmp_path / "a.csv",
        [
            "model",
            "prompt",
            "output",
            "latency_ms",
            "input_tokens",
            "output_tokens",
            "cost_usd",
            "finish_reason",
            "error_type",
            "error",
        ],
        ["m1", "p", "o1", "12.5", "10", "20", "0.001", "stop", "", ""],
        ["m2", "p", "", "900", "", "", "", "", "ProviderTimeout", "no answer within 60 s"],
        ["m3", "p", "o3", "", "", "", "", "", "", ""],
    )
    done = import_answers(path, store)
    assert (done.cases, done.variants, done.answers) == (1, ("m1", "m2", "m3"), 3)
    first, second, third = store.sql("SELECT * FROM answers ORDER BY variant").to_dict("records")
    assert (first["latency_ms"], first["cost_usd"], first["spent_usd"]) == (12.5, 0.001, 0.0)
    assert (first["input_tokens"], first["output_tokens"], first["tokens_used"], first["finish_reason"]) == (
        10,
        20,
        30,
        "stop",
    )
    assert (second["status"], second["model_used"], second["error_type"]) == ("failed", "none", "ProviderTimeout")
    assert (second["error"], second["total_ms"]) == ("no answer within 60 s", 900)
    assert third["status"] == "completed"
    assert store.read("SELECT latency_ms FROM responses WHERE status = 'failed'")["latency_ms"].isna().all()
    assert json.loads(store.read("SELECT inputs FROM cases")["inputs"][0]) == {"prompt": "p"}


@pytest.mark.parametrize(
    ("column", "value", "tail"),
    [
        ("latency_ms", "fast", '"fast"; it must be a number from 0 on'),
        ("cost_usd", -1, "-1; it must be a number from 0 on"),
        ("input_tokens", 1.5, "1.5; it must be a whole number from 0 on"),
        ("repeat", True, "true; it must be a whole number from 0 on"),
    ],
)
def test_a_figure_that_is_none_is_refused_with_its_line(tmp_path, store, column, value, tail):
    row = {"model": "m", "prompt": "p", "output": "o"}
    path = write_jsonl(tmp_path / "a.jsonl", row, {**row, column: value})
    assert refusal(path, import_answers, store) == f":2: '{column}' is {tail}"
    assert not store.exists()


def test_alpaca_eval_outputs_just_work(tmp_path, store):
    items = [
        {"instruction": f"i{n}", "output": f"{g}{n}", "generator": g, "dataset": "koala"}
        for g in ("gpt4", "gpt3")
        for n in (0, 1)
    ]
    path = tmp_path / "model_outputs.json"
    path.write_text(json.dumps(items))
    done = import_answers(path, store)
    assert (done.cases, done.variants, done.answers) == (2, ("gpt4", "gpt3"), 4)
    assert store.sql("SELECT output FROM answers ORDER BY output")["output"].tolist() == [
        "gpt30",
        "gpt31",
        "gpt40",
        "gpt41",
    ]


def test_the_same_file_twice_adds_nothing(tmp_path, store):
    path = write_jsonl(
        tmp_path / "a.jsonl", *({"id": n, "prompt": f"p{n}", "answer_x": f"x{n}", "expected": "e"} for n in range(5))
    )
    first = import_answers(path, store)
    before = rows_in(store)
    again = import_answers(path.rename(tmp_path / "b.jsonl"), store)
    assert (again.run_id, again.new, again.answers) == (first.run_id, 0, 5)
    assert rows_in(store) == before


def test_other_answers_to_the_same_cases_are_another_run(tmp_path, store):
    first = import_answers(write_jsonl(tmp_path / "a.jsonl", {"prompt": "p", "answer_x": "old"}), store)
    second = import_answers(write_jsonl(tmp_path / "b.jsonl", {"prompt": "p", "answer_x": "new"}), store)
    assert first.run_id != second.run_id
    assert {name: count for name, count in rows_in(store).items() if count} == {
        "tasks": 1, "cases": 1, "variants": 1, "runs": 2, "run_events": 4, "requests": 2, "responses": 2,
    }  # fmt: skip


def test_an_interrupted_import_is_completed_by_the_next(tmp_path, store, monkeypatch):
    path = write_jsonl(tmp_path / "a.jsonl", *({"prompt": f"p{n}", "answer_x": f"x{n}"} for n in range(10)))
    monkeypatch.setattr(records, "BATCH", 3)
    append, calls = store.append, []

    def failing(records, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return append(records, **options)

    monkeypatch.setattr(store, "append", failing)
    with pytest.raises(KeyboardInterrupt):
        import_answers(path, store)
    assert rows_in(store)["responses"] == 6
    done = import_answers(path, store)
    assert done.new == 4 * 3 + 1
    assert rows_in(store) == {
        **dict.fromkeys(TABLES, 0),
        "tasks": 1,
        "cases": 10,
        "variants": 1,
        "runs": 1,
        "run_events": 2,
    } | {
        "requests": 10,
        "responses": 10,
    }


def test_nothing_is_written_when_a_late_row_is_broken(tmp_path, store):
    path = write_jsonl(tmp_path / "a.jsonl", *({"prompt": f"p{n}", "answer_x": "x"} for n in range(30)))
    path.write_text(path.read_text() + '{"prompt": \n')
    assert refusal(path, import_answers, store).startswith(":31:12: this is not valid JSON: ")
    assert not store.exists()


def test_several_answers_to_a_case_are_repeats_and_equal_ones_count_once(tmp_path, store):
    row = {"model": "m", "prompt": "p"}
    path = write_jsonl(tmp_path / "a.jsonl", *({**row, "output": text} for text in ("one", "two", "one")))
    done = import_answers(path, store)
    assert (done.answers, done.repeated) == (2, 1)
    assert store.sql("SELECT repeat, output FROM answers ORDER BY repeat").values.tolist() == [[0, "one"], [1, "two"]]
    assert store.read("SELECT repeats FROM runs")["repeats"].tolist() == [2]


def test_given_repeats_are_kept_and_may_not_clash(tmp_path, store):
    row = {"model": "m", "prompt": "p"}
    path = write_jsonl(tmp_path / "a.jsonl", {**row, "output": "x", "repeat": 1}, {**row, "output": "x", "repeat": 0})
    assert import_answers(path, store).answers == 2
    path = write_jsonl(tmp_path / "b.jsonl", {**row, "output": "x", "repeat": 1}, {**row, "output": "y", "repeat": 1})
    assert (
        refusal(path, import_answers, store)
        == ":2: 'm' answers this case for repeat 1 at line 1 already, with another answer"
    )


def test_what_is_no_text_becomes_its_json_text_and_null_is_no_answer(tmp_path, store):
    path = write_jsonl(
        tmp_path / "a.jsonl",
        {"prompt": "p", "answer_x": True, "answer_y": None},
        {"prompt": "q", "answer_x": {"a": "ä"}, "answer_y": ""},
    )
    done = import_answers(path, store)
    assert done.answers == 3
    assert store.sql("SELECT output FROM answers ORDER BY input, variant")["output"].tolist() == [
        "true",
        '{"a": "ä"}',
        "",
    ]
    assert done.notes == (
        "2 answers were no texts (true, 3, null ...) and are kept as their JSON text.",
        "1 answers are missing (null) and were left out.",
    )


def test_null_in_parquet_is_no_answer(tmp_path, store):
    path = tmp_path / "a.parquet"
    duckdb.sql("FROM (VALUES ('p', 'x', NULL), ('q', '', 'y')) t(prompt, answer_x, answer_y)").write_parquet(str(path))
    assert import_answers(path, store).answers == 3


def test_text_is_kept_whole_and_only_made_storable(tmp_path, store):
    ugly = "=1+1\n<script>x</script>\b\t" + "x" * 65_477
    path = write_jsonl(tmp_path / "a.jsonl", {"prompt": "p", "answer_x": ugly, "answer_y": "a\x00b\ud800"})
    import_answers(path, store)
    found = store.read("SELECT output, metadata FROM responses ORDER BY length(output)")
    assert found["output"].tolist() == ["a\u2400b\ufffd", ugly]
    assert [json.loads(text) for text in found["metadata"]] == [{"repaired": 2}, {}]


def test_answers_may_refer_to_cases_of_a_dataset_by_id(tmp_path, store):
    cases = write_jsonl(
        tmp_path / "cases.jsonl",
        {"prompt_id": 1, "prompt": "p1"},
        {"prompt_id": 2, "prompt": "p2"},
        {"prompt_id": 3, "prompt": "p1"},
    )
    one = Case.model_validate({"inputs": {"prompt": "p1"}})
    path = write_jsonl(
        tmp_path / "a.jsonl.gz",
        *({"prompt_id": n, "model": "m", "output": f"o{n}", "note": n} for n in (2, 1, 3)),
        {"prompt_id": one.id, "model": "n", "output": "by case id"},
    )
    done = import_answers(path, store, cases=cases)
    assert (done.cases, done.answers) == (2, 4)
    found = store.sql(
        "SELECT input, output, repeat FROM (SELECT inputs->>'prompt' AS input, output, repeat FROM answers) ORDER BY ALL"
    )
    assert found.values.tolist() == [["p1", "by case id", 0], ["p1", "o1", 0], ["p1", "o3", 1], ["p2", "o2", 0]]
    assert import_answers(path, store, cases=open_dataset(cases, id_column="prompt_id")).new == 0


def test_an_answer_to_an_unknown_case_is_refused_with_its_line(tmp_path, store):
    cases = [{"id": 1, "prompt": "p1"}]
    path = write_jsonl(
        tmp_path / "a.jsonl", {"id": 1, "model": "m", "output": "o"}, {"id": 9, "model": "m", "output": "o"}
    )
    assert (
        refusal(path, import_answers, store, cases=open_dataset(cases))
        == ":2: there is no case '9' in the dataset that the answers refer to"
    )
    path = write_jsonl(tmp_path / "b.jsonl", {"nr": 1, "model": "m", "output": "o"})
    assert refusal(path, import_answers, store, cases=open_dataset(cases)).startswith(
        ": no column holds the case's id; there is nr, model"
    )


def test_a_mapping_that_names_missing_columns_is_refused(tmp_path, store):
    path = write_jsonl(tmp_path / "a.jsonl", {"prompt": "p", "x": "o"})
    assert (
        refusal(path, import_answers, store, mapping=AnswerMapping(answers=("x", "z")))
        == ": there is no column 'z'; there is prompt, x"
    )
    path = write_jsonl(tmp_path / "b.jsonl", {"prompt": "p", "model": None, "output": "o"})
    assert refusal(path, import_answers, store) == ":1: 'model' is empty: nothing says whose answer this is"
    path = write_jsonl(tmp_path / "c.jsonl", {"prompt": "p", "answer_x": None})
    assert refusal(path, import_answers, store) == ": there is no answer in any row"


def test_what_a_file_knows_of_a_case_is_added_and_nothing_is_taken_away(tmp_path, store):
    import_answers(
        write_jsonl(tmp_path / "a.jsonl", {"id": "c1", "prompt": "p", "answer_x": "o", "expected": 1}), store
    )
    import_answers(write_jsonl(tmp_path / "b.jsonl", {"prompt": "p", "answer_y": "o"}), store)
    assert rows_in(store)["cases"] == 1
    path = write_jsonl(tmp_path / "c.jsonl", {"prompt": "p", "answer_y": "o", "expected": 2})
    import_answers(path, store)
    assert import_answers(path, store).new == 0
    [case] = store.load(Case, "SELECT * FROM current_cases")
    assert (case.external_id, case.expected) == ("c1", 2)


def test_columns_that_make_every_answer_a_case_of_its_own_are_noted(tmp_path, store):
    path = write_jsonl(
        tmp_path / "a.jsonl", *({"model": f"m{n}", "prompt": "p", "output": "o", "seconds": n} for n in range(3))
    )
    [note] = import_answers(path, store).notes
    assert note.startswith("No case has answers of two variants")


def test_gsm8k_is_imported_wide(shared, store):
    path = shared / "gsm8k_two_models.csv.gz"
    mapping = AnswerMapping(answers=("mistralai/Mixtral-8x7B-Instruct-v0.1_response", "gpt-4-1106-preview_response"))
    done = import_answers(path, store, mapping=mapping)
    assert (done.cases, done.answers) == (1_319, 2_638)
    assert import_answers(path, store) == type(done)(**{**vars(done), "new": 0})
    with gzip.open(path, "rt", newline="") as stream:
        expected = {(row["prompt"], name): row[name] for row in csv.DictReader(stream) for name in mapping.answers}
    found = store.sql("SELECT inputs->>'prompt' AS prompt, variant, output FROM answers")
    assert {(row.prompt, row.variant): row.output for row in found.itertuples()} == expected


def test_the_outputs_pack_is_imported_by_id(shared, store):
    done = import_answers(shared / "outputs.jsonl.gz", store, cases=shared / "prompts.jsonl")
    assert (len(done.variants), done.answers) == (6, 4_830)
    found = store.sql("SELECT inputs->>'prompt' AS prompt, variant, output FROM answers")
    prompts = {
        item["prompt_id"]: item["prompt"]
        for item in map(json.loads, (shared / "prompts.jsonl").read_text("utf-8").split("\n")[:-1])
    }
    with gzip.open(shared / "outputs.jsonl.gz", "rt", encoding="utf-8", newline="\n") as stream:
        expected = sorted(
            (prompts[item["prompt_id"]], item["model"], item["output"]) for item in map(json.loads, stream)
        )
    assert sorted(found.itertuples(index=False, name=None)) == expected
    assert found["output"].str.len().max() == 65_477
    assert found["output"].str.startswith(("=", "+", "@")).sum() >= 1


def test_pandalm_is_imported_with_its_booleans_and_blanks(shared, store):
    done = import_answers(shared / "pairwise_human_pandalm_even.jsonl.gz", store)
    assert (done.variants, done.answers) == (("response1", "response2"), 1_000)
    found = store.sql("SELECT external_id, output, status FROM answers")
    booleans = found[found["output"].isin(["true", "false"])]
    assert set(booleans["external_id"]) == {"158", "162", "164"}
    assert (found["output"].str.strip() == "").sum() >= 6
    assert set(found["status"]) == {"completed"}


# --- votes ---


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """A store with a run of the variants terse, steps and careless, made once; votes are cast on copies."""
    folder = tmp_path_factory.mktemp("answered")
    store = Store(folder / "loop.duckdb")
    answer_again(folder, store)
    return store


@pytest.fixture
def voting(answered, tmp_path):
    shutil.copy(answered.path, tmp_path / "voting.duckdb")
    return Store(tmp_path / "voting.duckdb")


def answer_again(folder, store, text=""):
    """A run of these variants; its id."""
    items = [
        {"id": f"case-{n}", "input": f"q{n}", "variant": name, "output": f"{name} {n}{text}"}
        for name in ("terse", "steps", "careless")
        for n in range(3)
    ]
    return import_answers(write_jsonl(folder / "answers.jsonl", *items), store, task="support").run_id


def first_run(store):
    return store.read("SELECT id FROM runs ORDER BY created_at")["id"][0]


VOTE = {"case_id": "case-1", "variant_a": "terse", "variant_b": "steps", "winner": "a"}


def test_a_vote_is_tied_to_the_answers_it_judged(tmp_path, voting):
    run_id = first_run(voting)
    vote = {
        **VOTE, "run": 1, "a_shown_left": False, "rater": "Anna", "seconds": 18.4, "days_ago": 1.5,
        "issues": [{"variant": "careless", "label": "invented fact"}], "comment": "short\x00",
    }  # fmt: skip
    done = import_votes(write_jsonl(tmp_path / "v.jsonl", vote), voting, task="support", now=NOW, runs={1: run_id})
    assert (done.votes, done.issues, done.new, done.repeated, done.raters) == (1, 1, 2, 0, ("Anna",))
    found = voting.sql("SELECT * FROM votes").iloc[0]
    assert (found["variant_a"], found["variant_b"], found["winner"], found["rater"]) == ("terse", "steps", "a", "Anna")
    assert (found["output_a"], found["output_b"], found["seconds"], found["comment"]) == (
        "terse 1",
        "steps 1",
        18.4,
        "short\u2400",
    )
    assert found["created_at"] == NOW - timedelta(days=1.5)
    assert (found["rater_kind"], bool(found["blind"]), bool(found["a_shown_left"])) == ("human", True, False)
    issue = voting.read("SELECT * FROM ratings JOIN responses ON responses.id = response_id").iloc[0]
    assert (issue["metric"], issue["label"], issue["output"], issue["rater"]) == (
        "issue",
        "invented fact",
        "careless 1",
        "Anna",
    )


def test_votes_in_a_csv_are_read_from_text(tmp_path, voting):
    path = write_csv(
        tmp_path / "v.csv",
        [
            "case_id",
            "model_a",
            "model_b",
            "winner",
            "a_shown_left",
            "seconds",
            "created_at",
            "rater",
            "rater_kind",
            "issues",
            "run",
        ],
        [
            "case-1",
            "terse",
            "steps",
            "model_b",
            "true",
            "2.5",
            "2026-01-31T12:00:00",
            "",
            "user",
            '[{"variant":"terse","label":"x"}]',
            "",
        ],
        ["case-2", "terse", "steps", "tie (bothbad)", "", "", "2026-01-31T12:00:00+02:00", "Ben", "", "", ""],
    )
    done = import_votes(path, voting, task="support", blind=False)
    assert (done.votes, done.issues, done.raters) == (2, 1, ("imported", "Ben"))
    first, second = voting.sql("SELECT * FROM votes ORDER BY external_id").to_dict("records")
    assert (first["winner"], first["a_shown_left"], first["rater_kind"], first["blind"]) == ("b", True, "user", False)
    assert first["created_at"] == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert (second["winner"], second["rater"]) == ("both_bad", "Ben")
    assert second["created_at"] == datetime(2026, 1, 31, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("word", "winner"),
    [("a", "a"), ("B", "b"), ("tie", "tie"), ("both_bad", "both_bad"), ("model_a", "a"), ("Tie (bothbad)", "both_bad")],
)
def test_winners_are_read_as_arenas_write_them(tmp_path, voting, word, winner):
    import_votes(write_jsonl(tmp_path / "v.jsonl", {**VOTE, "winner": word}), voting, task="support")
    assert voting.sql("SELECT winner FROM votes")["winner"].tolist() == [winner]


def test_a_winner_may_be_told_by_its_name_and_the_case_by_another_column(tmp_path, voting):
    votes = [["1", "case-1", "terse", "steps", "steps"], ["2", "case-2", "steps", "terse", "steps"]]
    path = write_csv(tmp_path / "v.csv", ["id", "prompt_id", "variant_a", "variant_b", "winner"], *votes)
    done = import_file(path, voting, task="support")
    assert (done.format, done.votes, done.notes) == ("votes", 2, ("The cases are told by the column 'prompt_id'.",))
    found = voting.sql("SELECT external_id, winner FROM votes ORDER BY external_id").to_numpy().tolist()
    assert found == [["case-1", "b"], ["case-2", "a"]]
    path = write_csv(tmp_path / "w.csv", ["nr", "variant_a", "variant_b", "winner"], ["case-1", "terse", "steps", "a"])
    assert refusal(path, import_votes, voting, task="support") == (
        ":2: 'case_id' is missing; say which column it is: --column case_id=NAME (the file has nr, variant_a, variant_b, winner)"
    )


def test_a_variant_called_like_a_word_for_the_winner_is_not_guessed_at(tmp_path, store):
    answers = [{"id": "1", "input": "q", "variant": name, "output": name} for name in ("model_a", "model_b", "tie")]
    import_answers(write_jsonl(tmp_path / "a.jsonl", *answers), store)

    def vote(a, b, winner):
        return write_jsonl(tmp_path / "v.jsonl", {"case_id": "1", "variant_a": a, "variant_b": b, "winner": winner})

    assert import_votes(vote("model_a", "model_b", "model_b"), store).new == 1
    path = vote("model_b", "model_a", "model_a")
    assert refusal(path, import_votes, store) == (
        ":1: winner is 'model_a', which is the name of variant_b and a word for 'a' too; write a, b, tie or both_bad"
    )
    path = vote("model_a", "tie", "tie")
    assert "the name of variant_b and a word for 'tie' too" in refusal(path, import_votes, store)
    assert import_votes(path, store, winners={"tie": "tie"}).new == 1


def test_the_same_votes_twice_add_nothing_even_after_a_newer_run(tmp_path, voting):
    path = write_jsonl(
        tmp_path / "v.jsonl", {**VOTE, "issues": [{"variant": "steps", "label": "too long"}]}, VOTE, VOTE
    )
    first = import_votes(path, voting, task="support")
    assert (first.votes, first.issues, first.new, first.repeated) == (2, 1, 3, 1)
    answer_again(tmp_path, voting, " again")
    again = import_votes(path, voting, task="support")
    assert (again.votes, again.new) == (2, 0)


def test_without_a_run_a_vote_means_the_newest_answers(tmp_path, voting):
    first = first_run(voting)
    answer_again(tmp_path, voting, " new")
    path = write_jsonl(tmp_path / "v.jsonl", VOTE, {**VOTE, "run": 1}, {**VOTE, "run": first, "rater": "by id"})
    import_votes(path, voting, task="support", runs={1: first})
    assert sorted(voting.sql("SELECT output_a FROM votes")["output_a"]) == ["terse 1", "terse 1", "terse 1 new"]


def test_cases_and_variants_may_be_named_by_id(tmp_path, voting):
    case_id = Case.model_validate({"inputs": {"input": "q1"}}).id
    [variant] = voting.read("SELECT id FROM variants WHERE name = 'terse'")["id"]
    path = write_jsonl(
        tmp_path / "v.jsonl",
        {**VOTE, "case_id": case_id, "variant_a": variant, "variant_b": f"steps@{steps_version(voting)}"},
    )
    import_votes(path, voting, task="support")
    assert voting.sql("SELECT variant_a, variant_b FROM votes").values.tolist() == [["terse", "steps"]]


def steps_version(voting):
    return voting.read("SELECT id FROM variants WHERE name = 'steps'")["id"][0][:4]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"winner": "left"},
            "winner is 'left'; it must be one of a, model_a, b, model_b, tie, both_bad, tie (bothbad)",
        ),
        ({"winner": None}, "'winner' is missing"),
        ({"case_id": "case-77"}, "the store has no answer to a case 'case-77' for task 'support'"),
        ({"run": 7}, "the store has no answer to a case 'case-1' in run '7' for task 'support'"),
        (
            {"variant_b": "stepps"},
            "the store has no answer of variant 'stepps' to case 'case-1'; did you mean 'steps'?",
        ),
        ({"variant_b": "terse"}, "'terse' is compared with itself"),
        ({"variant_a": ""}, "'variant_a' is missing"),
        ({"seconds": "long"}, "'seconds' is \"long\"; it must be a number from 0 on"),
        ({"days_ago": 1e12}, "days_ago is 1e+12: that is before there were models"),
        ({"created_at": "yesterday"}, "created_at is 'yesterday'; write it like 2026-01-31T12:00:00+00:00"),
        ({"a_shown_left": "maybe"}, "'a_shown_left' is \"maybe\"; it must be true or false"),
        ({"rater_kind": "robot"}, "rater_kind is 'robot'; it must be one of human, user, grader, judge"),
        ({"issues": "bad"}, "'issues' must be a list like "),
        ({"issues": [{"variant": "terse"}]}, "'issues' must be a list like "),
        (
            {"issues": [{"variant": "nobody", "label": "x"}]},
            "the store has no answer of variant 'nobody' to case 'case-1'; there is",
        ),
    ],
)
def test_a_vote_that_cannot_be_placed_is_refused_with_its_line_and_nothing_is_written(
    tmp_path, answered, change, sentence
):
    path = write_jsonl(tmp_path / "v.jsonl", VOTE, {**VOTE, **change})
    assert refusal(path, import_votes, answered, task="support").startswith(f":2: {sentence}")
    assert rows_in(answered)["comparisons"] == 0


def test_votes_need_answers_of_their_task(tmp_path, store, answered):
    path = write_jsonl(tmp_path / "v.jsonl", VOTE)
    assert refusal(path, import_votes, store, task="support").startswith(
        ":1: the store has no answer to a case 'case-1'"
    )
    assert not store.exists()
    assert refusal(path, import_votes, answered).endswith("for task 'default'")


def test_columns_of_votes_may_be_called_otherwise(tmp_path, store):
    import_answers(write_csv(tmp_path / "a.csv", ["id", "prompt", "answer_x", "answer_y"], ["7", "p", "x", "y"]), store)
    path = write_csv(
        tmp_path / "labels.csv",
        ["nr", "first", "second", "label", "winner"],
        *(["7", "answer_x", "answer_y", n, "?"] for n in "120"),
    )
    columns = {"case_id": "nr", "variant_a": "first", "variant_b": "second", "winner": "label"}
    winners = {"1": "a", "2": "b", "0": "tie"}
    done = import_file(path, store, columns=columns, winners=winners)
    assert (done.format, done.votes) == ("votes", 3)
    assert store.sql("SELECT winner FROM votes ORDER BY winner")["winner"].tolist() == ["a", "b", "tie"]
    assert import_file(path, store, columns=columns, winners=winners).new == 0
    assert refusal(path, import_votes, store, columns=columns).startswith(":2: winner is '1'; it must be one of a,")
    assert refusal(path, import_votes, store, columns={"winner": "lable"}) == (
        ": there is no column 'lable'; did you mean 'label'?"
    )
    with pytest.raises(SettingsError, match="votes have no column 'winer'; did you mean 'winner'"):
        import_votes(path, store, columns={"winer": "label"})
    with pytest.raises(SettingsError, match="'1' is said to mean 'left'"):
        import_votes(path, store, winners={"1": "left"})
