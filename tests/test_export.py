"""Exports lose nothing, harm nobody, and are complete or not there."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from feedbackloop import AIRequest, AIResponse, Case, Comparison, Policy, Rating, Run, Store, Variant
from feedbackloop.errors import SettingsError, StoreError, UnknownName
from feedbackloop.improve import EXPORTS, export
from feedbackloop.improve.export import export_all
from feedbackloop.improve.export.spreadsheet import harmless
from feedbackloop.models import Assignment, Decision, Exposure, Queue, RunEvent, Task

csv.field_size_limit(10_000_000)

NASTY = [
    "=cmd|' /C calc'!A0",
    "+1",
    "-2",
    "-2.5e-3",
    "-2+3",
    "-",
    "@SUM(A1)",
    "\tfirst a tab",
    "\rfirst a return",
    " =not first",
    "a\r\nb\nc\rd\n",
    'quotes " and "" and , and ;',
    "control \x01\x02\x0b\x1b[31m\x7f",
    "x" * 65_477,
    "<script>alert(1)</script>&amp;",
    "emoji 🙂 👩\u200d👩\u200d👧, \u2400, \ufeff, \u202e",
    "",
    " ",
    "null",
    "1e5",
]
BEGAN = datetime(2026, 2, 1, 23, 59, 59, 123456, tzinfo=UTC)
FORMULA = ("=", "+", "-", "@", "\t", "\r")


@pytest.fixture
def store(place: str) -> Store:
    store = Store(place)
    variant = Variant(name="=v", model="simulated:x", params={"temperature": 0.1})
    run = Run(id="1111", task="t", dataset="d", fingerprint="", variants=[variant.id])
    other = Run(id="2222", task="t", dataset="d", fingerprint="", variants=[variant.id])
    records = [variant, run, other, Task(name="t", issues=["=x", 'say "no"'])]
    for number, text in enumerate(NASTY):
        case = Case(
            inputs={"input": f"{number}: {text}"}, expected=-5 if number else {"a": [text]}, metadata={"n": number}
        )
        request = AIRequest(
            input="x", run_id=(run if number % 2 else other).id, case_id=case.id, variant_id=variant.id, task="t"
        )
        response = AIResponse(
            id=f"r{number}", request_id=request.id, output=text, model_used="simulated:x", latency_ms=-0.1 - 0.2,
            cost_usd=1e-7, usage={"n": 12345678901234567890, "t": text}, created_at=BEGAN + timedelta(seconds=number),
        )  # fmt: skip
        records += [
            case,
            request,
            response,
            Rating(response_id=response.id, metric="m", value=-1.5, rater="r", rater_kind="human"),
        ]
    records.append(
        Comparison(
            task="t",
            case_id="c",
            response_a="r1",
            response_b="r3",
            variant_a=variant.id,
            variant_b=variant.id,
            winner="a",
            rater="=r",
            rater_kind="human",
        )
    )
    store.append(records)
    return store


def read(path: Path) -> list[dict]:
    opened = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    text = opened.decode("utf-8")
    if ".csv" in path.name:
        return list(csv.DictReader(io.StringIO(text, newline="")))
    return [json.loads(line) for line in text.split("\n") if line]


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz"])
def test_json_lines_are_exact(store: Store, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"out.{ending}"
    assert export(store, path, "responses") == len(NASTY)
    rows = sorted(read(path), key=lambda row: row["created_at"])
    assert [row["output"] for row in rows] == NASTY
    assert rows[0]["usage"] == {"n": 12345678901234567890, "t": NASTY[0]}
    assert rows[0]["latency_ms"] == -0.1 - 0.2
    assert rows[0]["cost_usd"] == 1e-7
    assert rows[0]["created_at"] == "2026-02-01T23:59:59.123456Z"
    assert rows[0]["cached"] is False
    assert rows[0]["error"] is None


@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
def test_csv_is_exact_when_raw(store: Store, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"out.{ending}"
    assert export(store, path, "responses", raw=True) == len(NASTY)
    rows = sorted(read(path), key=lambda row: row["created_at"])
    assert [row["output"] for row in rows] == NASTY
    assert json.loads(rows[0]["usage"]) == {"n": 12345678901234567890, "t": NASTY[0]}


def test_csv_keeps_spreadsheets_from_running_formulas_and_numbers_numbers(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    export(store, path, "answers")
    rows = sorted(read(path), key=lambda row: row["created_at"])
    numbers = {"-2", "-2.5e-3"}
    assert [row["output"] for row in rows] == [
        f"'{text}" if text.startswith(FORMULA) and text not in numbers else text for text in NASTY
    ]
    assert {row["variant"] for row in rows} == {"'=v"}
    assert {float(row["latency_ms"]) for row in rows} == {-0.1 - 0.2}
    assert rows[1]["expected"] == "-5"
    export(store, path, "tasks")
    assert json.loads(read(path)[0]["issues"]) == ["=x", 'say "no"']
    export(store, path, "votes")
    assert read(path)[0]["rater"] == "'=r"


def test_a_missing_text_and_an_empty_one_differ_in_csv(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    export(store, path, "responses")
    empty = f"r{NASTY.index('')}"
    line = next(line for line in path.read_text().splitlines() if line.startswith(f"{empty},") or f",{empty}," in line)
    assert ',"",' in line
    assert ",,," in line


def test_parquet_is_exact_and_its_times_are_utc(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    assert export(store, path, "responses") == len(NASTY)
    rows = sorted(pq.read_table(path).to_pylist(), key=lambda row: row["created_at"])
    assert [row["output"] for row in rows] == NASTY
    assert rows[0]["created_at"] == BEGAN
    assert json.loads(rows[0]["usage"])["n"] == 12345678901234567890
    assert rows[0]["latency_ms"] == -0.1 - 0.2


@pytest.mark.parametrize("what", EXPORTS)
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_everything_can_be_exported(store: Store, tmp_path: Path, what: str, ending: str) -> None:
    path = tmp_path / f"out.{ending}"
    rows = export(store, path, what)
    found = pq.read_table(path).num_rows if ending == "parquet" else len(read(path))
    assert found == rows
    assert found == len(store.sql(f"SELECT * FROM {what}"))


def test_both_ways_of_writing_csv_agree_on_what_is_a_formula(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    export(store, path, "responses")
    assert {harmless(text) for text in NASTY} == {row["output"] for row in read(path)}


@pytest.mark.parametrize("format", ["csv", "jsonl.gz", "parquet"])
def test_all_of_it_goes_into_a_folder_at_once(store: Store, tmp_path: Path, format: str) -> None:
    folder = tmp_path / "all of it"
    rows = export_all(store, folder, format)
    assert sorted(file.name for file in folder.iterdir()) == sorted(f"{name}.{format}" for name in EXPORTS)
    assert rows == {name: len(store.sql(f"SELECT * FROM {name}")) for name in EXPORTS}
    (folder / "mine.txt").write_text("stays")
    of_run = export_all(store, folder, format, run="1111")
    assert of_run["responses"] == len(NASTY) // 2
    assert "policies" not in of_run
    assert (folder / "mine.txt").exists()
    assert [file.name for file in tmp_path.iterdir() if file.name.endswith(".part")] == []


def test_all_of_it_needs_a_folder_and_a_format(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="this is a file"):
        export_all(store, tmp_path / "file")
    with pytest.raises(SettingsError, match="not as xlsx"):
        export_all(store, tmp_path / "folder", "xlsx")
    with pytest.raises(SettingsError, match="there is no folder"):
        export_all(store, tmp_path / "none" / "folder")
    with pytest.raises(StoreError, match="there is no run 'x'"):
        export_all(store, tmp_path / "folder", run="x")
    assert not (tmp_path / "folder").exists()


def test_only_one_run(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    for what in ("answers", "requests", "responses", "cases", "ratings"):
        assert export(store, path, what, run="1") == len(NASTY) // 2, what
    assert export(store, path, "votes", run="1111") == 1
    assert export(store, path, "comparisons", run="2222") == 0
    for what in ("runs", "variants", "tasks"):
        assert export(store, path, what, run="1") == 1, what
    with pytest.raises(SettingsError, match="does not belong to runs"):
        export(store, path, "policies", run="1")
    with pytest.raises(StoreError, match="there is no run 'x'"):
        export(store, path, run="x")


@pytest.fixture
def two_tasks(store: Store) -> Store:
    """Beside `t`, a task `it's` with a row in every table."""
    variant, case = Variant(name="w", model="simulated:x"), Case(inputs={"input": "other"})
    run = Run(id="3333", task="it's", dataset="d", fingerprint="", variants=[variant.id])
    request = AIRequest(input="x", run_id=run.id, case_id=case.id, variant_id=variant.id, task="it's")
    answers = [AIResponse(id=f"o{n}", request_id=request.id, output="o", model_used="simulated:x") for n in (1, 2)]
    sides = {"response_a": "o1", "response_b": "o2", "variant_a": variant.id, "variant_b": variant.id}
    voter = {"rater": "r", "rater_kind": "human"}
    queue = Queue(task="it's", purpose="decision", variants=[variant.id])
    store.append(
        [
            *(Task(name="it's"), variant, case, run, RunEvent(run_id=run.id, kind="started"), request, *answers, queue),
            Assignment(queue=queue.id, case_id=case.id, pair=["o1", "o2"], rater="r", expires=BEGAN),
            Exposure(rater="r", case_id=case.id, response_ids=["o1", "o2"], page="compare"),
            Exposure(rater="r", case_id="c", response_ids=["r1", "r3"], page="compare"),
            Rating(response_id="o1", metric="m", value=1, **voter),
            Comparison(task="it's", case_id=case.id, winner="a", **sides, **voter),
            Decision(task="it's", baseline="b", candidate="c", goal="better", verdict="keep", reason="too_few"),
            Policy(task="it's", weights={"*": {variant.id: 1.0}}),
        ]
    )
    return store


def test_only_one_task(two_tasks: Store, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    assert set(export_all(two_tasks, tmp_path / "all", "jsonl", task="it's").values()) == {1, 2}
    for what in EXPORTS:
        # A cell has one current answer; the table has both.
        expected = 2 if what == "responses" else 1
        assert export(two_tasks, path, what, task="it's") == expected, what
        others = len(two_tasks.sql(f"SELECT * FROM {what}")) - expected
        assert export(two_tasks, path, what, task="t") == others, what
    assert export(two_tasks, path, task="t", run="1") == len(NASTY) // 2
    assert export(two_tasks, path, task="it's", run="1") == 0
    with pytest.raises(UnknownName, match=r"there is no task 'its'; did you mean .it.s."):
        export(two_tasks, path, task="its")
    with pytest.raises(UnknownName, match="there is no task 'zzz'; there is it's, t"):
        export_all(two_tasks, tmp_path / "none", task="zzz")
    assert not (tmp_path / "none").exists()


def test_what_was_there_is_replaced_at_the_end_or_not_at_all(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "it's here"
    folder.mkdir()
    path = folder / "out's.csv"
    path.write_text("before")
    with monkeypatch.context() as patched:
        patched.setattr(sys.modules[export.__module__], "_FORMATS", {".csv": "FORMAT csv, NONSENSE 1"})
        with pytest.raises(StoreError, match="could not be written"):
            export(store, path)
    assert path.read_text() == "before"
    assert [file.name for file in folder.iterdir()] == ["out's.csv"]
    export(store, path)
    assert path.read_text().startswith("task,")
    assert [file.name for file in folder.iterdir()] == ["out's.csv"]


def test_bad_wishes_get_a_sentence(store: Store, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"end it in \.csv"):
        export(store, tmp_path / "out.xlsx")
    with pytest.raises(SettingsError, match="there is no folder"):
        export(store, tmp_path / "none" / "out.csv")
    with pytest.raises(UnknownName, match="did you mean 'ratings'"):
        export(store, tmp_path / "out.csv", "rating")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(SettingsError, match="this is a folder"):
        export(store, tmp_path / "folder.csv")
    with pytest.raises(StoreError, match="there is no such store yet"):
        export(Store(tmp_path / "other.duckdb"), tmp_path / "out.csv")
    assert not (tmp_path / "other.duckdb").exists()
