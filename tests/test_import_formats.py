"""Files of other tools: known by what is in them, taken whole, once, and what cannot be carried over is named."""

from __future__ import annotations

import gzip
import json

import pytest
from test_importers import rows_in, write_csv, write_jsonl

from feedbackloop.datasets import files
from feedbackloop.errors import DatasetError, UnknownName
from feedbackloop.findings.costs import costs
from feedbackloop.importers import import_file, recognise
from feedbackloop.importers.figures import moment, spoken, tokens_of
from feedbackloop.importers.formats import FORMATS
from feedbackloop.importers.left_out import LeftOut
from feedbackloop.queries import overview
from feedbackloop.store import Store


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "loop.duckdb")


def write_json(path, value):
    data = json.dumps(value).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def answers(store, columns="variant, external_id, output, status"):
    frame = store.sql(f"SELECT {columns} FROM answers ORDER BY ALL")
    return [tuple(row) for row in frame.itertuples(index=False)]


def twice(path, store, **options):
    """Import it, then again: the second time adds nothing."""
    done = import_file(path, store, **options)
    before = rows_in(store)
    again = import_file(path, store, **options)
    assert again.new == 0
    assert rows_in(store) == before
    assert (again.run_id, again.answers, again.votes, again.left_out) == (
        done.run_id,
        done.answers,
        done.votes,
        done.left_out,
    )
    return done


def refused(path, store, **options):
    """The sentence it is refused with; nothing of it is in the store then."""
    there = store.exists()
    before = rows_in(store) if there else None
    with pytest.raises(DatasetError) as caught:
        import_file(path, store, **options)
    assert store.exists() == there
    assert before is None or rows_in(store) == before
    return str(caught.value).removeprefix(str(path))


# --- which format ---

BATCH_IN = {
    "custom_id": "r1",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {"model": "gpt-4o-mini", "temperature": 0.5, "messages": [{"role": "user", "content": "Hello?"}]},
}
BATCH_OUT = {
    "id": "batch_req_1",
    "custom_id": "r1",
    "response": {
        "status_code": 200,
        "request_id": "x",
        "body": {
            "model": "gpt-4o-mini-2024-07-18",
            "created": 1711652795,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi!"}, "finish_reason": "stop"}],
            "usage": {
                "prompt_tokens": 20,
                "completion_tokens": 5,
                "total_tokens": 25,
                "prompt_tokens_details": {"cached_tokens": 8},
                "completion_tokens_details": {"reasoning_tokens": 2},
            },
        },
    },
    "error": None,
}
CHAT = {"messages": [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hi!"}]}
BATTLE = {"model_a": "x", "model_b": "y", "winner": "model_a"}
ALPACA = {"instruction": "Say hi", "output": "hi", "generator": "g"}
ANNOTATION = {
    "instruction": "Say hi",
    "output_1": "hi",
    "generator_1": "base",
    "output_2": "hello",
    "generator_2": "new",
    "annotator": "gpt4",
    "preference": 2,
}
REQUEST = {"error_code": None, "error_msg": "", "ttft_s": 0.25, "end_to_end_latency_s": 2.0, "number_output_tokens": 7}
RESULT = {
    "provider": {"id": "p"},
    "prompt": {"raw": "q"},
    "vars": {"a": 1},
    "response": {"output": "x"},
    "success": True,
}
CONFIG = {"prompts": ["{{a}}"], "providers": ["openai:gpt-4o"], "tests": [{"vars": {"a": "1"}}]}


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("openai-batch-input", [BATCH_IN]),
        ("openai-batch", [BATCH_OUT]),
        ("openai-batch", [{"custom_id": "r", "response": None, "error": {"code": "batch_expired"}}]),
        ("chat", [CHAT, {"messages": [{"role": "user", "content": "?"}]}]),
        ("alpaca-eval", [ALPACA]),
        ("alpaca-eval-annotations", [ANNOTATION]),
        ("arena", [BATTLE]),
        ("llmperf", [REQUEST]),
        ("promptfoo", [RESULT]),
        ("votes", [{"case_id": "1", "variant_a": "x", "variant_b": "y", "winner": "a"}]),
        ("votes", [BATTLE | {"case_id": "1"}]),
        ("answers", [{"prompt": "p", "answer_x": "1"}]),
        ("answers", [CHAT | {"output": "Hi!", "model": "m"}]),
        ("answers", [ALPACA, {"instruction": "x"}]),
    ],
)
def test_a_format_is_known_by_its_rows(tmp_path, name, rows) -> None:
    assert recognise(write_jsonl(tmp_path / "a.jsonl", *rows)) == name
    assert recognise(write_jsonl(tmp_path / "a.jsonl.gz", *rows)) == name
    assert recognise(write_json(tmp_path / "a.json", rows)) == name


def test_votes_without_a_winner_are_not_taken_for_answers(tmp_path) -> None:
    labels = [{"case_id": "1", "variant_a": "x", "variant_b": "y", "label": "1", "rater": "Ben"}]
    with pytest.raises(DatasetError, match="--column winner=NAME"):
        recognise(write_jsonl(tmp_path / "labels.jsonl", *labels))
    assert (
        recognise(write_jsonl(tmp_path / "a.jsonl", {"prompt": "p", "variant_a": "x", "variant_b": "y"})) == "answers"
    )


def test_a_run_spec_is_sent_where_it_belongs(tmp_path) -> None:
    spec = write_json(tmp_path / "spec.json", {"task": "t", "dataset": "c.jsonl", "variants": []})
    with pytest.raises(DatasetError, match="feedbackloop run"):
        recognise(spec)


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("promptfoo", {"evalId": "e", "results": {"version": 3, "results": [RESULT]}, "config": CONFIG}),
        ("promptfoo", {"results": {"table": {"head": {}, "body": []}}}),
        ("promptfoo-config", CONFIG),
        ("promptfoo-config", {"prompts": "file://p.txt", "targets": []}),
    ],
)
def test_a_format_is_known_by_its_keys(tmp_path, name, whole) -> None:
    assert recognise(write_json(tmp_path / "a.json", whole)) == name
    assert recognise(write_json(tmp_path / "a.yaml", whole)) == name


def test_what_is_no_format_is_said(tmp_path, store) -> None:
    path = write_json(tmp_path / "a.json", {"some": 1, "thing": 2})
    assert refused(path, store).startswith(": this holds some, thing, which is no format that is known here; --format")
    with pytest.raises(UnknownName, match="did you mean 'promptfoo'"):
        import_file(path, store, format="promptfo")
    assert refused(write_jsonl(tmp_path / "b.jsonl", {"x": 1}), store, format="chat").startswith(
        ":1: 'messages' must be"
    )


def test_every_format_has_one_way_in() -> None:
    for name in FORMATS.names():
        found = FORMATS.get(name)
        assert (found.read is None) != (found.convert is None), name


# --- OpenAI batches ---


def test_a_batch_comes_in_by_its_two_files(tmp_path, store) -> None:
    given = write_jsonl(
        tmp_path / "in.jsonl",
        BATCH_IN,
        BATCH_IN | {"custom_id": "r2", "body": {**BATCH_IN["body"], "messages": [{"role": "user", "content": "Bye?"}]}},
    )
    failed = {
        "custom_id": "r2",
        "response": {"status_code": 429, "body": {"error": {"message": "slow down"}}},
        "error": None,
    }
    made = write_jsonl(tmp_path / "out.jsonl", failed, BATCH_OUT)
    done = twice(made, store, cases=given, task="t")
    assert (done.format, done.answers, done.cases, done.variants) == ("openai-batch", 2, 2, ("gpt-4o-mini",))
    assert answers(store) == [
        ("gpt-4o-mini", "r1", "Hi!", "completed"),
        ("gpt-4o-mini", "r2", "", "failed"),
    ]
    row = store.sql("SELECT * FROM responses WHERE status = 'completed'").iloc[0]
    assert (row["input_tokens"], row["output_tokens"], row["cached_tokens"], row["reasoning_tokens"]) == (20, 5, 8, 2)
    assert json.loads(row["usage"])["total_tokens"] == 25
    assert (row["provider_model"], row["finish_reason"]) == ("gpt-4o-mini-2024-07-18", "stop")
    assert row["created_at"].timestamp() == 1711652795
    assert store.sql("SELECT error_type, error FROM responses WHERE status = 'failed'").iloc[0].tolist() == [
        "RateLimited",
        "slow down",
    ]
    assert json.loads(store.sql("SELECT params FROM variants")["params"][0]) == {"temperature": 0.5}


def test_the_input_may_come_first_and_by_itself(tmp_path, store) -> None:
    given, made = write_jsonl(tmp_path / "in.jsonl", BATCH_IN), write_jsonl(tmp_path / "out.jsonl", BATCH_OUT)
    assert refused(made, store) == (
        ":1: nothing is known of the request 'r1'; import the batch's input file first, or name it: --dataset INPUT.jsonl"
    )
    asked = twice(given, store)
    assert (asked.run_id, asked.answers, asked.cases) == ("", 0, 1)
    done = twice(made, store)
    assert done.answers == 1
    assert json.loads(store.sql("SELECT params FROM variants")["params"][0]) == {"temperature": 0.5}


def test_two_requests_of_a_name_are_told_apart_by_the_file(tmp_path, store) -> None:
    other = BATCH_IN | {"body": {"model": "m", "messages": [{"role": "user", "content": "Other?"}]}}
    given = write_jsonl(tmp_path / "in.jsonl", BATCH_IN)
    import_file(given, store)
    import_file(write_jsonl(tmp_path / "other.jsonl", other), store)
    made = write_jsonl(tmp_path / "out.jsonl", BATCH_OUT)
    assert "the store has two cases called 'r1'" in refused(made, store)
    assert import_file(made, store, cases=given).answers == 1


def test_batches_of_all_endpoints(tmp_path, store) -> None:
    given = write_jsonl(
        tmp_path / "in.jsonl",
        {"custom_id": "1", "url": "/v1/responses", "body": {"model": "m", "instructions": "Be kind", "input": "A?"}},
        {"custom_id": "2", "url": "/v1/completions", "body": {"model": "m", "prompt": "B"}},
        {"custom_id": "3", "url": "/v1/embeddings", "body": {"model": "e", "input": "C"}},
        {"custom_id": "4", "body": {"model": "m", "n": 2, "messages": [{"role": "user", "content": "D"}]}},
    )
    message = {"type": "message", "content": [{"type": "output_text", "text": "a"}]}
    body = {
        "output": [{"type": "reasoning"}, message],
        "status": "completed",
        "usage": {"input_tokens": 3, "output_tokens": 4},
    }
    calls = [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]
    choices = [{"message": {"content": "d1"}}, {"message": {"content": None, "tool_calls": calls}}]
    made = write_jsonl(
        tmp_path / "out.jsonl",
        {"custom_id": "1", "response": {"status_code": 200, "body": body}},
        {"custom_id": "2", "response": {"status_code": 200, "body": {"choices": [{"text": "b"}]}}},
        {
            "custom_id": "4",
            "response": {"status_code": 200, "body": {"choices": choices, "usage": {"prompt_tokens": 9}}},
        },
    )
    assert import_file(given, store).left_out == ("requests to /v1/embeddings, which ask for no text (line 3)",)
    done = twice(made, store, cases=given)
    assert done.answers == 4
    assert done.notes == ("Of a request with several answers, tokens are counted with the first.",)
    assert [row[:3] for row in answers(store, "external_id, repeat, output")] == [
        ("1", 0, "a"),
        ("2", 0, "b"),
        ("4", 0, "d1"),
        ("4", 1, json.dumps(calls)),
    ]
    assert store.sql("SELECT sum(input_tokens) AS n FROM responses")["n"][0] == 12
    expired = {"custom_id": "1", "response": None, "error": {"code": "batch_expired", "message": "it expired"}}
    import_file(write_jsonl(tmp_path / "errors.jsonl", expired), store, cases=given)
    assert store.sql("SELECT error_type FROM responses WHERE status = 'failed'")["error_type"][0] == "ProviderTimeout"


# --- chat logs ---


def test_the_last_answer_of_a_conversation_counts(tmp_path, store) -> None:
    long = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "1", "weight": 0},
        {"role": "user", "content": "Two?"},
        {"role": "assistant", "content": [{"type": "text", "text": "2"}], "weight": 1},
    ]
    path = write_jsonl(
        tmp_path / "log.jsonl",
        {"messages": long, "tools": [{"x": 1}]},
        CHAT | {"model": "gpt-4o", "id": "c7"},
        {"messages": [*CHAT["messages"], {"role": "user", "content": "Thanks"}]},
        {"messages": [{"role": "user", "content": "Nobody there?"}]},
    )
    done = twice(path, store, task="t")
    assert (done.format, done.answers, done.cases, done.variants) == ("chat", 3, 2, ("log", "gpt-4o"))
    assert done.left_out == (
        "`tools` beside the messages (line 1)",
        "`weight` of messages (line 1)",
        "what follows the last answer of a conversation (line 3)",
        "a conversation without a question and an answer to it (line 4)",
    )
    messages = json.loads(
        store.sql(
            "SELECT messages FROM cases WHERE len(json_keys(messages[0])) > 0 ORDER BY length(CAST(messages AS VARCHAR)) DESC"
        )["messages"][0]
    )
    assert messages == [{"role": m["role"], "content": m["content"]} for m in long[:4]]
    assert ("gpt-4o", "Hi!") in answers(store, "variant, output")


def test_a_fault_in_a_log_is_told_by_its_line_and_nothing_is_loaded(tmp_path, store) -> None:
    path = write_jsonl(tmp_path / "log.jsonl", CHAT, CHAT, {"messages": "x"})
    assert refused(path, store) == ':3: \'messages\' must be a list like [{"role": "user", "content": "..."}]'
    path.write_text(json.dumps(CHAT) + "\n{broken\n")
    assert ":2:2: this is not valid JSON" in refused(path, store)
    only = write_jsonl(tmp_path / "only.jsonl", {"messages": [{"role": "assistant", "content": "Hi"}]})
    assert "a conversation without a question and an answer to it (line 1)" in refused(only, store)


# --- AlpacaEval ---


def test_outputs_of_alpaca_eval(tmp_path, store) -> None:
    path = write_json(
        tmp_path / "out.json",
        [
            ALPACA | {"dataset": "koala", "time_per_example": 1.5, "price_per_example": 0.002},
            ALPACA | {"instruction": "Translate", "input": "Hund", "output": "dog", "samplerank": 3},
            ALPACA | {"output": None},
        ],
    )
    done = twice(path, store)
    assert (done.format, done.answers, done.cases) == ("alpaca-eval", 2, 2)
    assert done.left_out == ("`samplerank` (line 1)", "a row whose `output` is no text (line 1)")
    row = store.sql("SELECT * FROM answers WHERE segment = 'koala'").iloc[0]
    assert (row["latency_ms"], row["cost_usd"], row["output"]) == (1500, 0.002, "hi")
    assert {"instruction": "Translate", "input": "Hund"} in [
        json.loads(x) for x in store.sql("SELECT inputs FROM cases")["inputs"]
    ]


def test_annotations_are_votes_of_a_model(tmp_path, store) -> None:
    preferences = [1, 2, 1.5, 0.0, 1.00005, 1.7, None]
    path = write_json(
        tmp_path / "annotations.json",
        [
            ANNOTATION | {"instruction": f"q{n}", "preference": p, "price_per_example": 0.01, "time_per_example": 0.5}
            for n, p in enumerate(preferences)
        ],
    )
    done = twice(path, store, task="t")
    assert (done.format, done.answers, done.votes, done.raters) == ("alpaca-eval-annotations", 14, 6, ("judge:gpt4",))
    assert done.left_out == ("a vote that the judge failed to give (line 1)",)
    votes = store.sql("SELECT input, winning_variant, winner, rater_kind, blind FROM votes ORDER BY input")
    assert votes["winner"].tolist() == ["a", "b", "tie", "tie", "a", "b"]
    assert votes["winning_variant"].tolist()[:2] == ["base", "new"]
    assert set(votes["rater_kind"]) == {"judge"}
    judged = store.sql(
        "SELECT status, cost_usd, latency_ms, spent_usd, CAST(responses.metadata->>'preference' AS DOUBLE) AS p FROM responses "
        "JOIN requests ON requests.id = request_id WHERE purpose = 'judge' ORDER BY requests.input"
    )
    assert judged["status"].tolist() == ["completed"] * 6 + ["failed"]
    assert judged["p"].tolist()[:6] == preferences[:6]
    assert judged["spent_usd"].tolist() == [0.01] * 7
    assert judged["latency_ms"].tolist()[:6] == [500] * 6
    # A judge's answers are no answers of the feature, and were paid for by somebody else.
    assert overview.counts(store)["answers"] == 14
    assert (costs(store).spent_usd, costs(store).unpriced) == (0.0, 0)
    assert costs(store).elsewhere_usd == pytest.approx(0.07)
    linked = "SELECT count(*) AS n FROM comparisons JOIN responses ON responses.id = judge_response_id"
    assert store.sql(linked)["n"][0] == 6


@pytest.mark.parametrize("preference", [3, 0.5, -1, "much", True])
def test_a_preference_is_a_number_from_1_to_2(tmp_path, store, preference) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", ANNOTATION, ANNOTATION | {"preference": preference})
    said = json.dumps(preference)
    assert refused(path, store) == f":2: 'preference' is {said}; it must be a number from 1 to 2"


# --- arenas ---


def conversation(*turns):
    roles = ("user", "assistant")
    return [{"role": roles[n % 2], "content": text, "num_tokens": 1} for n, text in enumerate(turns)]


def battle(a, b, winner, **more):
    return {
        "question_id": more.pop("question_id", "q"),
        "model_a": "x",
        "model_b": "y",
        "winner": winner,
        "judge": "arena_user_9",
        "conversation_a": conversation(*a),
        "conversation_b": conversation(*b),
        "turn": len(a) // 2,
        "anony": True,
        "language": "English",
        "tstamp": 1690000000.5,
        **more,
    }


def test_battles_with_their_conversations(tmp_path, store) -> None:
    metadata = {"sum_assistant_a_tokens": 11, "sum_assistant_b_tokens": 12}
    path = write_jsonl(
        tmp_path / "battles.jsonl",
        battle(["Q1", "a1"], ["Q1", "b1"], "model_a", question_id="q1", conv_metadata=metadata),
        battle(
            ["Q2", "a1", "More", "a2"],
            ["Q2", "b1", "More", "b2"],
            "tie (bothbad)",
            anony=False,
            dedup_tag={"high_freq": False},
        ),
        battle(["Q1", "a1"], ["Q1", "b1"], "tie", judge="expert_3", conv_metadata=metadata),
        battle(["Q3", "a"], ["Q4", "b"], "model_b"),
        battle(["Q5", "a"], ["Q5", "b"], "model_b", model_b="x"),
    )
    done = twice(path, store, task="t")
    assert (done.format, done.votes, done.answers, done.cases, done.variants) == ("arena", 3, 4, 2, ("x", "y"))
    assert done.left_out == (
        "`dedup_tag` (line 2)",
        "a battle whose sides were not asked the same thing (line 4)",
        "a battle of a model with itself (line 5)",
    )
    assert done.notes == (
        "Of battles of several turns, the answer is the whole conversation from the first answer on.",
    )
    assert done.repeated == 0
    votes = store.sql(
        "SELECT winner, rater, rater_kind, blind, output_a, segment, created_at FROM votes ORDER BY rater, winner"
    )
    assert votes["winner"].tolist() == ["a", "both_bad", "tie"]
    assert votes["rater_kind"].tolist() == ["user", "user", "human"]
    assert votes["blind"].tolist() == [True, False, True]
    assert votes["output_a"].tolist() == ["a1", "a1\n\n[user]\nMore\n\n[assistant]\na2", "a1"]
    assert votes["created_at"][0].timestamp() == 1690000000.5
    tokens = store.sql("SELECT variant, output_tokens FROM answers WHERE output_tokens IS NOT NULL ORDER BY variant")
    assert tokens["output_tokens"].tolist() == [11, 12]


def test_battles_without_texts(tmp_path, store) -> None:
    path = write_csv(
        tmp_path / "battles.csv",
        ["model_a", "model_b", "winner"],
        ["x", "y", "model_a"],
        ["y", "z", "tie"],
        ["x", "y", "model_a"],
    )
    done = twice(path, store, task="t", blind=False)
    assert (done.votes, done.cases, done.variants) == (3, 3, ("x", "y", "z"))
    assert done.notes == ("The file has no texts: answers are empty, and each battle is a case of its own.",)
    assert not store.sql("SELECT blind FROM votes")["blind"].any()


def test_battles_in_columns(tmp_path, store) -> None:
    path = write_csv(
        tmp_path / "train.csv",
        [
            "id",
            "model_a",
            "model_b",
            "prompt",
            "response_a",
            "response_b",
            "winner_model_a",
            "winner_model_b",
            "winner_tie",
        ],
        ["30192", "x", "y", '["Q1"]', '["a1"]', '["b1"]', "1", "0", "0"],
        ["53567", "x", "y", '["Q2","Q3"]', '["a2","a3"]', '["b2",null]', "0", "0", "1"],
        ["65089", "x", "y", "Plain?", "a4", "b4", "0", "1", "0"],
    )
    done = twice(path, store)
    assert (done.votes, done.cases) == (3, 3)
    votes = store.sql("SELECT external_id, winner, output_a, output_b FROM votes ORDER BY external_id")
    assert votes["winner"].tolist() == ["a", "tie", "b"]
    assert votes["output_a"].tolist() == ["a1", "a2\n\n[user]\nQ3\n\n[assistant]\na3", "a4"]


def test_a_winner_that_is_none_is_refused(tmp_path, store) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", BATTLE, BATTLE | {"winner": "left"})
    assert refused(path, store) == (
        ":2: winner is 'left'; it must be one of a, model_a, b, model_b, tie, both_bad, tie (bothbad)"
    )
    empty = write_jsonl(tmp_path / "b.jsonl", BATTLE | {"winner": ""})
    assert refused(empty, store) == ":1: nothing says who won: 'winner' is empty"


# --- load tests ---


def test_requests_of_a_load_test(tmp_path, store) -> None:
    path = write_json(
        tmp_path / "individual_responses.json",
        [
            REQUEST | {"number_input_tokens": 550, "inter_token_latency_s": 0.02},
            REQUEST | {"error_code": 429, "error_msg": "Too many"},
            REQUEST | {"error_code": 503},
            REQUEST | {"error_code": "weird"},
        ],
    )
    done = twice(path, store)
    assert (done.format, done.answers, done.variants) == ("llmperf", 4, ("individual_responses",))
    rows = store.sql(
        "SELECT status, error_type, latency_ms, total_ms, ttft_ms, output_tokens FROM answers ORDER BY input"
    )
    assert rows["status"].tolist() == ["completed", "failed", "failed", "failed"]
    assert rows["error_type"].tolist()[1:] == ["RateLimited", "ProviderUnavailable", "ProviderError"]
    assert rows.iloc[0].tolist()[2:] == [2000, 2000, 250, 7]
    assert rows["total_ms"].tolist() == [2000] * 4
    bad = write_jsonl(tmp_path / "bad.jsonl", REQUEST, REQUEST | {"ttft_s": "soon"})
    assert refused(bad, store) == ":2: 'ttft_s' is \"soon\"; it must be a number from 0 on"


# --- the general part ---


def test_characters_that_no_store_can_keep_are_replaced(tmp_path, store) -> None:
    path = write_jsonl(
        tmp_path / "log.jsonl",
        {"messages": [{"role": "user", "content": "a\x00b"}, {"role": "assistant", "content": "c\ud800d\x00"}]},
    )
    import_file(path, store)
    row = store.sql("SELECT output, metadata FROM responses").iloc[0]
    assert (row["output"], json.loads(row["metadata"])) == ("c\ufffdd\u2400", {"repaired": 2})


def test_what_is_left_out_is_counted_with_its_first_places() -> None:
    left = LeftOut()
    for line in range(1, 6):
        left.add("`tools`", line)
    left.add("`x`", "test 3")
    assert left.told() == ("`tools` (5 times: line 1, line 2, line 3 ...)", "`x` (test 3)")


def test_a_file_that_unpacks_to_far_more_than_it_is_is_refused(tmp_path, store, monkeypatch) -> None:
    monkeypatch.setattr(files, "_UNPACKED", 1000)
    path = tmp_path / "bomb.jsonl.gz"
    line = json.dumps(CHAT) + "\n"
    path.write_bytes(gzip.compress((line * 2_000).encode()))
    monkeypatch.setattr(files, "_RATIO", 100)
    assert "this unpacks to more than 100 times its size" in refused(path, store)
    monkeypatch.setattr(files, "_RATIO", 10_000)
    assert import_file(path, store).answers == 1


def test_a_line_or_a_text_beyond_all_measure_is_refused(tmp_path, store, monkeypatch) -> None:
    monkeypatch.setattr(files, "LONGEST_LINE", 1 << 20)
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"messages": "' + b"x" * (3 << 20)))
    assert refused(path, store) == ":1: this line is longer than 1 MB; no row is"
    monkeypatch.setattr(files, "LARGEST_TEXT", 100)
    assert "too much to be held in memory as one" in refused(write_json(tmp_path / "a.json", [ALPACA] * 9), store)


def test_references_that_stand_for_too_much_are_refused(tmp_path, store) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    path = tmp_path / "bomb.yaml"
    path.write_text("\n".join(lines))
    assert "its references stand for more than 5,000,000 values" in refused(path, store)
    path.write_text("prompts: &p [*p]\ntests: []\n")
    assert "values; write out" in refused(path, store) or "cannot be read" in refused(path, store)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": "x"}, "x"),
        ({"content": ""}, ""),
        ({"content": [{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "text", "text": "b"}]}, "ab"),
        ({"content": None, "refusal": "no"}, "no"),
        ({"content": None, "tool_calls": [{"id": 1}]}, '[{"id": 1}]'),
        ({"content": None}, None),
    ],
)
def test_what_a_message_says(message, text) -> None:
    assert spoken(message) == text


def test_tokens_of_nothing_and_of_nonsense() -> None:
    assert tokens_of(None) == {}
    assert tokens_of({"prompt_tokens": -1, "output_tokens": True}) == {
        "usage": {"prompt_tokens": -1, "output_tokens": True}
    }


def test_times_as_files_write_them() -> None:
    assert moment("") is None
    assert moment("1690000000.5") == moment(1690000000.5) == moment("2023-07-22T04:26:40.5Z")
    assert moment("2023-07-22T04:26:40.5") == moment("2023-07-22T06:26:40.5+02:00")
    for wrong in ("yesterday", float("inf"), [1]):
        with pytest.raises(ValueError, match="seconds since 1970"):
            moment(wrong)
