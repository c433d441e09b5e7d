"""Runs: the list, a run opened, a new run in three steps, answers made elsewhere."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest
from test_home import fill, home, in_url, plain

import feedbackloop as fl
from feedbackloop import queries
from feedbackloop.identity import utcnow
from feedbackloop.models import RunEvent
from feedbackloop.pages import address, context, run_report
from feedbackloop.pipeline.charges import unknown_price
from feedbackloop.queries import overview

ROWS = "".join(
    json.dumps({"id": str(n), "question": f"Question {n}", "expected": str(n), "segment": "ab"[n % 2]}) + "\n"
    for n in range(8)
)
ANSWERS = b"prompt,model_a,model_b,reference\nOne?,1,uno,1\nTwo?,2,due,2\nThree?,3,tre,3\n"


@pytest.fixture
def store(store_path) -> fl.Store:
    return fl.Store(store_path)


def runs(**query: str) -> AppTest:
    made = home(**{name: value for name, value in query.items() if name in address.KEPT})
    for name, value in query.items():
        made.query_params[name] = value
    return ok(made.switch_page(str(context.PAGES["runs"].path)).run())


def ok(page: AppTest) -> AppTest:
    assert not page.exception
    return page


def buttons(page: AppTest) -> list[str]:
    return [plain(button.label) for button in page.button]


def told(page: AppTest) -> str:
    parts = [
        *page.markdown,
        *page.caption,
        *page.error,
        *page.warning,
        *page.success,
        *page.subheader,
        *page.info,
        *page.text,
    ]
    return plain(" ".join(str(part.value) for part in parts))


def until(page: AppTest, true) -> AppTest:
    """Look again and again, as the page's fragments do."""
    end = time.monotonic() + 60
    while not true(ok(page)):
        assert time.monotonic() < end, told(page)
        time.sleep(0.1)
        page.run()
    return page


# The list


def test_an_empty_store_begins_with_a_place_to_drop_a_file(store) -> None:
    page = runs()
    assert page.title[0].value == "Runs"
    assert len(page.file_uploader) == 1
    assert "I have answers already" in buttons(page)
    assert not store.exists()


def test_the_list_shows_state_answers_spend_and_variants(store, demo_file) -> None:
    shutil.copy(demo_file, "demo.duckdb")
    page = runs(demo="1")
    lines = [plain(caption.value) for caption in page.caption]
    lines = [line for line in lines if "terse, steps and careless" in line]
    assert len(lines) == 3
    assert lines[0].startswith("144 answers · $0.00")
    assert "141 answers · 3 failed · $0.00" in lines[2]  # recordings cost nobody anything
    assert buttons(page)[:2] == ["New run", "Answers made elsewhere"]


def test_the_list_is_paged_and_other_tasks_are_a_click_away(store) -> None:
    for number in range(17):
        fill(store, "terse", "steps", cases=1, begun_ago_s=100 - number)
    other = fl.Run(task="other", dataset="o.jsonl", fingerprint="", variants=[])
    store.append([other])
    page = runs(task="support")
    assert len([b for b in buttons(page) if "rows.jsonl" in b]) == 15
    assert "With 1 run of other tasks or times" in [toggle.label for toggle in page.toggle]
    page.button[buttons(page).index("Older")].click().run()
    assert in_url(ok(page), "at") == "2"
    assert len([b for b in buttons(page) if "rows.jsonl" in b]) == 2
    page.toggle[0].set_value(True).run()
    assert "Page 2 of 2" in told(ok(page))


# A run, opened


def test_an_opened_run_shows_its_figures_failures_and_what_it_ran_with(store, demo_file) -> None:
    shutil.copy(demo_file, "demo.duckdb")
    first = queries.runs(fl.Store("demo.duckdb"))[-1].run.id
    page = runs(demo="1", run=first)
    frame = page.dataframe[0].value
    assert frame["variant"].tolist() == ["terse", "steps", "careless"]
    assert frame["failed"].tolist() == ["0", "1", "2"]
    assert frame["won-lost-same"].tolist() == ["23-13-5", "19-15-3", "3-17-4"]
    assert "used again" not in frame
    assert "1 x ContentFiltered" in told(page)
    assert "Begun" in told(page)
    assert "Ask again what failed" in buttons(page)
    failed = [link.label for link in page.get("page_link")]
    assert failed.count("See the rows") == 3


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_the_answers_of_a_run_can_be_taken_away(store, ending) -> None:
    run = fill(store, "terse", "steps", cases=3)
    made = run_report._exported(store, run.id, ending)
    (Path.cwd() / f"a.{ending}").write_bytes(made)
    frame = {"csv": pd.read_csv, "jsonl": lambda file: pd.read_json(file, lines=True), "parquet": pd.read_parquet}[
        ending
    ](f"a.{ending}")
    assert sorted(frame["variant"].unique()) == ["steps", "terse"]
    assert len(frame) == 6


def test_an_unknown_run_is_said_so(store) -> None:
    fill(store, "terse", "steps", cases=1)
    assert "there is no run 'nope'" in plain(runs(run="nope").error[0].value)


def test_an_interrupted_run_is_gone_on_with_from_its_page(store, monkeypatch) -> None:
    Path("rows.jsonl").write_text(ROWS)
    run = fill(store, "terse", "steps", state="interrupted", source=str(Path("rows.jsonl").absolute()))
    page = runs(run=run.id)
    assert "It was interrupted at 60 of 60 answers" in told(page)
    assert page.button(key="resume").label == "Resume"
    asked = []
    monkeypatch.setattr("feedbackloop.pipeline.launch.resume", lambda _, run_id: asked.append(run_id))
    page.button(key="resume").click().run()
    assert asked == [run.id]


def test_a_run_whose_data_came_from_python_says_where_to_go_on(store) -> None:
    run = fill(store, "terse", "steps", state="stopped")
    page = runs(run=run.id)
    assert "Resume" not in buttons(page)
    assert "fl.resume" in told(page)


def test_a_running_run_shows_its_progress_and_no_resume(store) -> None:
    run = fill(store, "terse", "steps", cases=2, state="running", begun_ago_s=5)
    page = runs(run=run.id)
    assert page.get("progress")
    assert "Stop" in buttons(page)
    assert "Resume" not in buttons(page)
    assert page.button(key=f"stop-{run.id[:8]}").click().run()
    assert "Stopping" in told(ok(page))


def test_a_resume_that_fails_says_why(store, monkeypatch) -> None:
    run = fill(store, "terse", "steps", state="stopped", source=str(Path("gone.jsonl").absolute()))
    monkeypatch.setattr("feedbackloop.pipeline.launch.cannot_resume", lambda _: None)
    page = runs(run=run.id)
    page.button(key="resume").click().run()
    until(page, lambda seen: "there is no such file" in told(seen))


def test_a_batch_that_goes_on_is_told_while_the_run_waits_and_after_it_has_stopped(store) -> None:
    run = fill(
        store, "terse", "steps", cases=2, state="running", begun_ago_s=5, source=str(Path("rows.jsonl").absolute())
    )
    Path("rows.jsonl").write_text(ROWS)
    waiting = [{"provider": "openai", "requests": 2000, "done": 1200}]
    (beat,) = store.load(RunEvent, "SELECT * FROM run_events ORDER BY created_at DESC LIMIT 1")
    counts = {**beat.counts, "total": 2004, "batches": waiting}
    store.append([RunEvent(run_id=run.id, kind="heartbeat", counts=counts)])
    page = runs(run=run.id)
    assert "batch of 2,000 with OpenAI, 1,200 done" in plain(page.get("progress")[0].proto.text)
    store.append([RunEvent(run_id=run.id, kind="stopped", counts=counts)])
    page = runs(run=run.id)
    assert "A batch of 2,000 with OpenAI, 1,200 done when last seen, goes on by itself" in told(page)
    assert "Resume" in buttons(page)


@pytest.mark.slow
def test_a_run_is_started_on_one_page_stopped_on_a_second_and_gone_on_with_from_the_first(store) -> None:
    Path("rows.jsonl").write_text("".join(json.dumps({"input": f"Question {n}"}) + "\n" for n in range(400)))
    first = runs(new="run")
    first.selectbox(key="new-file").set_value(str(Path("rows.jsonl").absolute())).run()
    for slot in (0, 1):
        first.text_area(key=f"new-{slot}-more").set_value('{"realtime": true, "latency_ms": 3000, "latency_sigma": 0}')
    ok(first.run())
    first.button(key="start").click().run()
    until(first, lambda seen: "Stop" in buttons(seen))
    run = in_url(first, "run")

    second = runs(run=run)
    assert second.get("progress")
    second.button(key=f"stop-{run[:8]}").click().run()
    # Both see that it is asked to stop, and then that it has.
    assert "Stopping" in told(ok(second))
    assert "Stopping" in told(ok(first.run()))
    until(second, lambda seen: "It stopped because it was asked to stop" in told(seen))
    until(first, lambda seen: "Resume" in buttons(seen))
    before = overview.run_figures(store, [run])[run].answers
    assert 0 < before < 800

    first.button(key="resume").click().run()
    until(second, lambda seen: "Resume" not in buttons(seen))
    until(second, lambda _: queries.find_run(store, run).state == "finished")
    until(first, lambda seen: not seen.get("progress"))
    asked = store.sql("SELECT count(*) AS n, count(DISTINCT (case_id, variant_id)) AS cells FROM requests")
    assert asked.to_dict("records") == [{"n": 800, "cells": 800}]


# A new run


def test_a_new_run_from_a_dropped_file_to_its_figures(store) -> None:
    page = runs(new="run")
    assert page.title[0].value == "New run"
    page.file_uploader[0].upload("../../My rows!.jsonl", ROWS.encode()).run()
    ok(page)
    (kept,) = Path("uploads").iterdir()
    assert kept.name.endswith("-My_rows.jsonl")
    assert "8 rows · 2 segments (b and a) · with expected answers" in told(page) or "8 rows" in told(page)
    assert [box.value for box in page.text_input if box.label == "Name"] == ["terse", "steps"]
    assert page.text_area(key="new-0-prompt").value == "Answer in one sentence: {{ question }}"
    assert "Answer in one sentence: Question 0" in told(page)
    page.number_input(key="new-row").set_value(3).run()
    assert "Answer in one sentence: Question 2" in told(ok(page))
    figures = {metric.label: metric.value for metric in page.metric}
    assert figures["Calls"] == "16"
    assert figures["Cost, about"] == "$0.00"
    assert "uploads/" in page.code[0].value

    page.button[buttons(page).index("Try on 3 rows")].click().run()
    until(page, lambda seen: "This is" in told(seen) or "[simulated]" in told(seen))
    tried = queries.runs(store)
    assert (len(tried), tried[0].run.settings["limit"]) == (1, 3)
    # Names stood above these answers: whoever turns out to have looked is not blind to them.
    assert store.sql("SELECT count(*) AS n FROM exposures")["n"][0] == 0
    page.query_params["rater"] = "Dora"
    ok(page.run())
    exposed = store.sql("SELECT rater, page, len(response_ids) AS n FROM exposures")
    assert exposed.to_dict("records") == [{"rater": "Dora", "page": "try", "n": 2}] * 3

    page.button(key="start").click().run()
    until(page, lambda seen: "Compare the answers" in buttons(seen))
    done = queries.find_run(store, in_url(page, "run"))
    assert done.run.task == "My_rows"
    until(page, lambda _: queries.find_run(store, done.run.id).state == "finished")
    assert overview.run_figures(store, [done.run.id])[done.run.id].answers == 16
    # The next one begins anew.
    assert "new-slots" not in page.session_state


def test_cards_can_be_added_filled_by_chips_and_removed(store) -> None:
    Path("rows.jsonl").write_text(ROWS)
    page = runs(new="run")
    page.selectbox(key="new-file").set_value(str(Path("rows.jsonl").absolute())).run()
    page.button[buttons(page).index("Add a variant")].click().run()
    assert page.text_input(key="new-2-name").value == "variant 3"
    page.button(key="new-2-chip-0").click().run()
    assert page.text_area(key="new-2-prompt").value == "{{ question }} {{ question }}"
    page.button(key="new-0-remove").click().run()
    assert [box.value for box in ok(page).text_input if box.label == "Name"] == ["steps", "variant 3"]


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("new-0-prompt", "{{ questoin }}", "needs what this case lacks"),
        ("new-0-prompt", "Answer: {question}", "uses no variable, so every case gets the same text"),
        ("new-0-prompt", "{% if %}", "of the prompt of 'terse', line 1"),
        ("new-0-more", "{quality: 1", "not valid JSON"),
        ("new-0-more", '{"api_key": "sk-1"}', "is a secret"),
        ("new-0-name", "steps", "two variants are called 'steps'"),
        ("new-0-name", " ", "Give this variant a name"),
    ],
)
def test_what_makes_no_sense_is_a_sentence_and_nothing_can_start(store, key, value, sentence) -> None:
    Path("rows.jsonl").write_text(ROWS)
    page = runs(new="run")
    page.selectbox(key="new-file").set_value(str(Path("rows.jsonl").absolute())).run()
    box = page.text_input(key=key) if key.endswith("name") else page.text_area(key=key)
    box.set_value(value).run()
    assert sentence in told(ok(page))
    start = [button for button in page.button if button.key == "start"]
    assert not start or start[0].disabled


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("openai:gpt-4o", "OPENAI_API_KEY is not set"),
        ("nowhere:x", "is not known"),
        ("python:subprocess:getoutput", "python:subprocess:getoutput is code"),
        ("python/uploads/x.py:f", "is code"),
        ("recorded:../secret.jsonl", "lies outside"),
        ("recorded:~/secret.jsonl", "lies outside"),
        ("recorded:/etc/passwd", "lies outside"),
    ],
)
def test_models_that_cannot_be_asked_from_here_are_refused(store, model, sentence) -> None:
    Path("rows.jsonl").write_text(ROWS)
    page = runs(new="run")
    page.selectbox(key="new-file").set_value(str(Path("rows.jsonl").absolute())).run()
    # The test kit's select box knows no words of one's own; the box for fallbacks asks the same.
    page.text_input(key="new-0-fallbacks").set_value(model).run()
    assert sentence in told(ok(page))
    assert page.button(key="start").disabled


def test_a_price_that_nobody_knows_has_to_be_allowed(store, monkeypatch) -> None:
    Path("rows.jsonl").write_text(ROWS)
    Path("feedbackloop.toml").write_text('[providers.far]\nbase_url = "https://models.example/v1"\n')
    started = []
    ended = SimpleNamespace(pid=1, began=utcnow(), ended=True, error="It went no further.")
    monkeypatch.setattr("feedbackloop.pipeline.launch.start", lambda *_, **options: started.append(options) or ended)
    page = runs(new="run")
    page.selectbox(key="new-file").set_value(str(Path("rows.jsonl").absolute())).run()
    page.text_input(key="new-0-fallbacks").set_value("far:llama").run()
    assert unknown_price(["far:llama"])[1:] in told(ok(page))
    assert page.button(key="start").disabled
    page.checkbox(key="new-unknown-price").check().run()
    assert not page.button(key="start").disabled
    page.button(key="start").click().run()
    assert started == [{"allow_unknown_price": True}]


def test_a_run_can_be_by_batch_where_all_its_providers_have_them(store) -> None:
    Path("rows.jsonl").write_text(ROWS)
    Path("feedbackloop.toml").write_text(
        '[providers.far]\nbase_url = "https://models.example/v1"\n'
        '[prices."far:llama"]\ninput_per_million = 10\noutput_per_million = 1000\n'
    )
    store.append([fl.Variant(name="far", model="far:llama")])
    page = runs(new="run")
    page.selectbox(key="new-file").set_value(str(Path("rows.jsonl").absolute())).run()
    choice = "By batch: half the price, answers within a day"
    for slot in (0, 1):
        assert choice not in [box.label for box in page.checkbox]
        page.session_state[f"new-{slot}-model"] = "far:llama"
        ok(page.run())

    def figures() -> list[str]:
        return [metric.value for metric in page.metric]

    assert figures() == ["16", "$4.00", "6.0 s"]
    page.number_input(key="new-budget").set_value(0.5).run()
    assert "the budget of $0.50 is less than one call of 'terse' could cost, $2.0" in told(page).replace("\\", "")
    assert page.button(key="start").disabled
    page.number_input(key="new-budget").set_value(5.0).run()
    page.checkbox(key="new-batch").check().run()
    assert figures() == ["16", "$2.00", "up to a day"]
    assert "executor: batch" in page.code[0].value


def test_a_new_run_says_what_it_will_be_able_to_show(store) -> None:
    Path("rows.jsonl").write_text(ROWS)
    page = runs(new="run")
    page.selectbox(key="new-file").set_value(str(Path("rows.jsonl").absolute())).run()
    assert "the smallest win rate that shows is 80% (80% power, 25% ties)" in told(ok(page))


def test_a_function_that_ran_before_can_be_chosen_again(store) -> None:
    Path("rows.jsonl").write_text(ROWS)
    Path("mine.py").write_text("def answer(inputs): return inputs['question'].upper()")
    store.append([fl.Variant(name="mine", model="python:mine.py:answer")])
    page = runs(new="run")
    page.selectbox(key="new-file").set_value(str(Path("rows.jsonl").absolute())).run()
    page.session_state["new-0-model"] = "python:mine.py:answer"
    page.run()
    assert "is code" not in told(ok(page))
    assert "A function of yours" in told(page)
    assert not page.button(key="start").disabled


def test_a_file_that_cannot_be_read_says_where(store) -> None:
    page = runs(new="run")
    page.file_uploader[0].upload("broken.jsonl", b'{"input": "x"}\n{"input": \n').run()
    assert "broken.jsonl:2:" in told(ok(page))
    assert "not valid JSON" in told(page)


def test_a_run_is_the_start_of_the_next(store) -> None:
    Path("rows.jsonl").write_text(ROWS)
    run = fill(store, "terse", "steps", cases=1, source=str(Path("rows.jsonl").absolute()))
    page = runs(new="run", like=run.id)
    assert page.selectbox(key="new-file").value == str(Path("rows.jsonl").absolute())
    assert [page.text_input(key=f"new-{slot}-name").value for slot in (0, 1)] == ["terse", "steps"]
    assert [page.selectbox(key=f"new-{slot}-model").value for slot in (0, 1)] == ["simulated:terse", "simulated:steps"]
    assert page.selectbox(key="new-task-rows.jsonl").value == "support"


def test_a_start_that_fails_says_the_processes_sentence(store, monkeypatch) -> None:
    Path("rows.jsonl").write_text(ROWS)
    page = runs(new="run")
    page.selectbox(key="new-file").set_value(str(Path("rows.jsonl").absolute())).run()
    # What the page could not foresee: the file goes away between the look at it and the start.
    monkeypatch.setattr(
        "feedbackloop.pipeline.launch.spec_text",
        lambda *_: "dataset: gone.jsonl\nvariants: [{name: a, model: 'simulated:a'}]",
    )
    page.button(key="start").click().run()
    until(page, lambda seen: "there is no such file" in told(seen))


# Answers made elsewhere


def test_a_csv_with_two_columns_of_answers_is_a_queue_in_three_clicks(store) -> None:
    page = runs(new="answers")
    page.file_uploader[0].upload("answers.csv", ANSWERS).run()
    ok(page)
    roles = {box.label.replace("\\", ""): str(box.value) for box in page.selectbox if box.key and "-False-" in box.key}
    assert roles == {"prompt": "question", "model_a": "answer", "model_b": "answer", "reference": "question"}
    page.selectbox[[box.label for box in page.selectbox].index("reference")].set_value("expected answer").run()
    page.button(key="import").click().run()
    assert "Imported: 6 answers of model_a and model_b to 3 cases." in told(ok(page))
    cases = store.sql("SELECT inputs, expected FROM current_cases ORDER BY expected")
    assert cases["inputs"].tolist() == ['{"prompt":"One?"}', '{"prompt":"Two?"}', '{"prompt":"Three?"}']
    page.button(key="rate-blind").click().run()
    assert "Type your name first." in told(ok(page))
    page.text_input[[box.label for box in page.text_input].index("Your name")].set_value(" Anna  B ")
    page.button(key="rate-blind").click().run()
    ok(page)
    assert in_url(page, "rater") == "Anna B"
    (queue,) = store.sql("SELECT * FROM queues").to_dict("records")
    assert in_url(page, "queue") == queue["id"]
    assert in_url(page, "task") == "answers"
    assert queue["purpose"] == "decision"
    assert queue["runs"].tolist() == [queries.runs(store)[0].run.id]
    # The first row stood above with its columns' names: it is no longer blind for her.
    exposed = store.sql(
        "SELECT e.rater, c.inputs->>'prompt' AS asked, len(e.response_ids) AS n FROM exposures e JOIN cases c ON c.id = e.case_id"
    )
    assert exposed.to_dict("records") == [{"rater": "Anna B", "asked": "One?", "n": 2}]


def test_a_row_for_each_answer_works_too_and_columns_can_be_left_out(store) -> None:
    rows = "question,who,text,mood\n" + "".join(
        f"Q{n},{who},{who} on {n},sunny\n" for n in range(3) for who in ("a", "b", "c")
    )
    page = runs(new="answers", rater="Ben")
    page.file_uploader[0].upload("long.csv", rows.encode()).run()
    page.segmented_control[0].set_value("A row for each answer").run()
    assert "choose one column that says whose answer it is" in told(ok(page))
    for label, role in (("who", "whose answer"), ("text", "answer"), ("mood", "leave out")):
        page.selectbox[[box.label for box in page.selectbox].index(label)].set_value(role).run()
    page.button(key="import").click().run()
    assert "9 answers of a, b and c to 3 cases" in told(ok(page))
    assert store.sql("SELECT inputs FROM current_cases ORDER BY 1")["inputs"][0] == '{"question":"Q0"}'
    page.button(key="rate-blind").click().run()
    assert store.sql("SELECT purpose FROM queues")["purpose"].tolist() == ["leaderboard"]
    assert store.sql("SELECT len(response_ids) AS n FROM exposures")["n"].tolist() == [3]


def test_files_of_other_tools_come_in_as_they_are(store) -> None:
    line = json.dumps({"instruction": "Hello?", "output_1": "Hi", "generator_1": "x", "output_2": "Ho", "generator_2": "y"}
        | {"annotator": "gpt4", "preference": 2, "odd": 1})  # fmt: skip
    page = runs(new="answers", rater="Ben")
    page.file_uploader[0].upload("annotations.jsonl", line.encode()).run()
    assert "This file holds a judge's annotations of AlpacaEval." in told(ok(page))
    page.button(key="import").click().run()
    assert "Imported: 2 answers of x and y to 1 case, 1 vote." in told(ok(page))
    assert "`odd` (line 1)" in told(page)
    page.button(key="rate-blind").click().run()
    assert store.sql("SELECT purpose FROM queues")["purpose"].tolist() == ["decision"]
    # Nothing of it stood on the screen: he is still blind to it.
    assert store.sql("SELECT count(*) AS n FROM exposures")["n"][0] == 0
    page = runs(new="answers")
    page.file_uploader[0].upload("promptfooconfig.yaml", b"prompts: [a]\nproviders: [b]\n").run()
    assert "The command line turns it into a run spec" in told(ok(page))


def test_importing_the_same_again_adds_nothing(store) -> None:
    for _ in range(2):
        page = runs(new="answers")
        page.file_uploader[0].upload("answers.csv", ANSWERS).run()
        page.button(key="import").click().run()
        ok(page)
    assert "All of it was here already" in told(page)
    # Also who does not go on to rate from here has seen the first row by its columns' names.
    page.query_params["rater"] = "Dora"
    ok(page.run())
    assert store.sql("SELECT rater, page FROM exposures").to_numpy().tolist() == [["Dora", "import"]]
    assert len(queries.runs(store)) == 1


def test_a_file_of_answers_dropped_as_data_is_pointed_to_rating(store) -> None:
    page = runs(new="run")
    page.file_uploader[0].upload("answers.csv", ANSWERS).run()
    assert "seems to hold answers already: model_a and model_b" in told(ok(page))
    page.button(key="rate-them").click().run()
    assert page.title[0].value == "Answers made elsewhere"
    assert page.selectbox(key="bring-file").value.endswith("-answers.csv")


def test_an_upload_is_called_what_its_owner_calls_it(store) -> None:
    names = {"55751749fd-questions.csv": "questions.csv", "2026-questions.csv": "2026-questions.csv"}
    made = [fl.Run(task="t", dataset=name, fingerprint="f", variants=[], settings={"imported": "x"}) for name in names]
    store.append([fl.Task(name="t"), *made])
    for page in (runs(), home(), *(runs(run=run.id) for run in made)):
        links = [link.label for link in page.get("page_link")]
        text = plain(" ".join([told(page), *buttons(page), *links]))
        assert "55751749fd" not in text
        assert any(name in text for name in names.values())
    assert "t on 2026-questions.csv" in text
