"""The store: records in, the same records out, whoever else is using the file."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import duckdb
import pytest

from feedbackloop.errors import StoreError
from feedbackloop.identity import utcnow
from feedbackloop.models import (
    TABLES,
    AIRequest,
    AIResponse,
    Assignment,
    Attempt,
    Case,
    Comparison,
    Decision,
    Exposure,
    Policy,
    Queue,
    Rating,
    Run,
    RunEvent,
    Task,
    Variant,
)
from feedbackloop.store import Store

NASTY = "line\nline\r\n\t\x08\x1b[31m \u2028 =cmd|' /C calc'!A0 <script>alert(1)</script> \U0001f600 \ufffd \u200d 漢字"


@pytest.fixture
def in_file(tmp_path: Path) -> Store:
    return Store(tmp_path / "loop.duckdb")


def one_of_each() -> list:
    case, variant = Case(inputs={"input": NASTY, "n": 3, "yes": True, "none": None}, expected={"a": [1]}), a_variant()
    request = AIRequest(
        input=NASTY, case_id=case.id, variant_id=variant.id, run_id="r", metadata={"k": NASTY}, repeat=2
    )
    response = AIResponse(
        request_id=request.id,
        output=NASTY,
        model_used="a:b",
        latency_ms=1.5,
        tokens_used=2**40,
        usage={"prompt_tokens": 1, "details": {"cached": 2}},
        attempts=[Attempt(model="a:b", start=utcnow(), cost_usd=0.25)],
    )
    return [
        Task(name="t"),
        case,
        variant,
        Run(task="t", dataset="d", fingerprint="f", variants=[variant.id]),
        RunEvent(run_id="r", kind="started", counts={"done": 1}),
        request,
        response,
        Queue(task="t", purpose="decision", variants=["a", "b"]),
        Assignment(queue="q", case_id=case.id, pair=["a", "b"], rater="Anna", expires=utcnow()),
        Exposure(rater="Anna", case_id=case.id, response_ids=["x", "y"], page="compare"),
        Rating(response_id=response.id, metric="issue", label="wrong tone", rater="Anna", rater_kind="human"),
        Comparison(
            task="t", case_id=case.id, response_a="x", response_b="y", variant_a="a", variant_b="b", winner="both_bad",
            rater="Anna", rater_kind="human",
        ),
        Decision(task="t", baseline="a", candidate="b", goal="better", verdict="keep", reason="too_few", guards={"p95": True}),
        Policy(task="t", weights={"*": {"a": 1.0}}),
    ]  # fmt: skip


def a_variant(name: str = "terse") -> Variant:
    return Variant(name=name, model="a:b", prompt=[{"role": "user", "content": "{{ input }}"}, "messages"])


def test_every_record_comes_back_as_it_was(store: Store) -> None:
    records = one_of_each()
    assert {type(record) for record in records} == set(TABLES.values())
    assert store.append(records) == len(records)
    for table, cls in TABLES.items():
        (wanted,) = (record for record in records if type(record) is cls)
        assert store.load(cls, f"SELECT * FROM {table}") == [wanted]


def test_columns_have_the_designed_types(store: Store) -> None:
    store.append([Task(name="t")])
    types = store.sql(
        "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = current_schema()"
    ).set_index(["table_name", "column_name"])["data_type"]
    assert types["requests", "priority"] == "BIGINT"
    assert types["requests", "purpose"] == "VARCHAR"
    assert types["responses", "status"] == "VARCHAR"
    assert types["responses", "cached"] == "BOOLEAN"
    assert types["responses", "latency_ms"] == "DOUBLE"
    assert types["responses", "attempts"] == "JSON"
    assert types["runs", "variants"] == "VARCHAR[]"
    assert types["cases", "created_at"] == "TIMESTAMP"
    assert ("requests", "inputs") not in types.index


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata"])
def test_times_are_utc_whatever_the_machines_zone(store: Store, zone: str) -> None:
    code = """
import sys
from datetime import UTC, datetime, timedelta, timezone
from feedbackloop.models import Task
from feedbackloop.store import Store
store = Store(sys.argv[1])
moment = datetime(2026, 3, 4, 23, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))
store.append([Task(name="t", created_at=moment)])
assert store.load(Task, "SELECT * FROM tasks")[0].created_at == moment
frame = store.sql("SELECT created_at, CAST(created_at AS VARCHAR) AS text FROM tasks")
assert frame["created_at"][0] == moment and str(frame["created_at"].dt.tz) == "UTC"
assert frame["text"][0] == "2026-03-04 18:00:00", frame["text"][0]
"""
    environment = {**os.environ, "TZ": zone}
    subprocess.run([sys.executable, "-c", code, store.address], check=True, env=environment)


def test_a_naive_time_is_taken_for_utc(store: Store) -> None:
    store.append([Task(name="t", created_at=datetime(2026, 1, 2, 3))])  # noqa: DTZ001
    assert store.load(Task, "SELECT * FROM tasks")[0].created_at == datetime(2026, 1, 2, 3, tzinfo=UTC)


def test_nan_in_json_becomes_null(store: Store) -> None:
    store.append([Case(inputs={"x": float("nan"), "deep": [{"y": float("inf")}]})])
    assert store.load(Case, "SELECT * FROM cases")[0].inputs == {"x": None, "deep": [{"y": None}]}


def test_a_batch_with_an_unstorable_response_stores_the_others_and_says_why(store: Store) -> None:
    good = AIResponse(request_id="1", output="fine", model_used="a:b")
    bad = AIResponse(request_id="2", output="too many", model_used="a:b", tokens_used=2**70)
    assert store.append([good, bad]) == 2
    stored = {r.id: r for r in store.load(AIResponse, "SELECT * FROM responses")}
    assert stored[good.id] == good
    assert stored[bad.id].error_type == "Unstorable"
    assert stored[bad.id].status == "failed"
    assert "refused" in (stored[bad.id].error or "")


def test_a_surrogate_that_slipped_in_costs_only_its_own_row(store: Store) -> None:
    good = AIResponse(request_id="1", output="fine", model_used="a:b")
    bad = AIResponse(request_id="2", output="x\ud800", model_used="a:b")
    store.append([good, bad])
    assert set(store.sql("SELECT status FROM responses")["status"]) == {"completed", "failed"}


def test_a_batch_is_all_or_nothing_for_other_records(store: Store) -> None:
    with pytest.raises(StoreError, match="1 of the rows could not be stored: ratings"):
        store.append([Task(name="t"), Rating(response_id="x\ud800", metric="m", rater="r", rater_kind="human")])
    assert len(store.sql("SELECT * FROM tasks")) == 1


def test_new_only_leaves_out_what_is_there(store: Store) -> None:
    records = one_of_each()
    assert store.append(records, new_only=True) == len(records)
    assert store.append(records, new_only=True) == 0
    assert store.append([*records, Task(name="other")], new_only=True) == 1


def test_sql_runs_only_one_select(store: Store) -> None:
    store.append([Task(name="t")])
    for query in (
        "DELETE FROM tasks",
        "SELECT 1; SELECT 2",
        "DROP TABLE tasks",
        "COPY tasks TO 'x.csv'",
        "ATTACH 'y'",
        "",
    ):
        with pytest.raises(StoreError, match="single SELECT"):
            store.sql(query)
    with pytest.raises(StoreError, match="cannot be read"):
        store.sql("SELEC 1")
    with pytest.raises(StoreError, match=r"failed: .*nope"):
        store.sql("SELECT nope FROM tasks")
    assert store.sql("WITH x AS (SELECT name FROM tasks) FROM x")["name"].tolist() == ["t"]


def test_sql_on_a_store_that_is_not_there_says_so_and_makes_none(store: Store) -> None:
    with pytest.raises(StoreError, match="no such store yet"):
        store.sql("SELECT 1")
    assert not store.exists()


def test_a_query_that_takes_too_long_is_interrupted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feedbackloop.store.SQL_LIMIT_S", 0.2)
    store.append([Task(name="t")])
    with pytest.raises(StoreError, match=r"longer than 0.2 s.*(work on the copy|work on that)"):
        store.sql("SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range % 7 = b.range % 11")
    assert len(store.sql("SELECT * FROM tasks")) == 1


def test_whoever_waits_too_long_is_told_who_holds_the_store(tmp_path: Path) -> None:
    held, waiting = Store(tmp_path / "loop.duckdb"), Store(tmp_path / "loop.duckdb", timeout_s=0.1)
    with (
        held.lease(),
        pytest.raises(StoreError, match=rf"loop.duckdb has been in use for 0.1 s by process {os.getpid()} \("),
    ):
        waiting.append([Task(name="t")])
    assert waiting.append([Task(name="t")]) == 1


def test_threads_of_one_process_take_turns(store: Store) -> None:
    def work(number: int) -> None:
        for i in range(10):
            store.append([Task(name=f"{number}.{i}")])
            store.sql("SELECT count(*) FROM tasks")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.sql("SELECT count(DISTINCT name) AS n FROM tasks")["n"][0] == 60


def _write_many(path: str, number: int, count: int, acknowledged: str) -> None:
    store = Store(path)
    with Path(acknowledged).open("w") as log:
        for _ in range(count):
            records = [AIResponse(request_id="x", output="y" * 200, model_used=f"p:{number}") for _ in range(3)]
            store.append(records)
            log.write("\n".join(record.id for record in records) + "\n")
            log.flush()


def _read_many(path: str, count: int, acknowledged: str) -> None:
    store, last = Store(path), 0
    for _ in range(count):
        now = int(store.sql("SELECT count(*) AS n FROM responses")["n"][0])
        assert now >= last
        last = now
    Path(acknowledged).write_text("")


def _run_many(path: str, count: int, acknowledged: str) -> None:
    import asyncio

    import feedbackloop as fl

    result = asyncio.run(
        fl.run(
            [{"input": f"question {i}"} for i in range(count)],
            [{"name": "sim", "model": "simulated:a"}],
            store=path,
            settings=fl.Settings(),
        )
    )
    assert result.finished
    assert result.progress.completed == count
    Path(acknowledged).write_text("")


def test_six_processes_on_one_store_lose_nothing(store: Store, tmp_path: Path) -> None:
    path = store.address
    store.append([Task(name="t")])
    spawn = multiprocessing.get_context("spawn")
    logs = [str(tmp_path / f"log{n}") for n in range(6)]
    processes = [
        *(spawn.Process(target=_write_many, args=(path, n, 40, logs[n])) for n in range(4)),
        spawn.Process(target=_run_many, args=(path, 400, logs[4])),
        spawn.Process(target=_read_many, args=(path, 40, logs[5])),
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * 6
    acknowledged = {line for log in logs for line in Path(log).read_text().split()}
    stored = Store(path).sql("SELECT id, model_used FROM responses")
    assert len(acknowledged) == 4 * 40 * 3
    assert acknowledged == set(stored["id"][stored["model_used"].str.startswith("p:")])
    assert (stored["model_used"] == "simulated:a").sum() == 400
    assert stored["id"].is_unique


def test_what_was_acknowledged_survives_kill_9(store: Store, tmp_path: Path) -> None:
    path, log = store.address, str(tmp_path / "log")
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=_write_many, args=(path, 1, 10_000, log))
    process.start()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not Path(log).exists() or Path(log).read_text().count("\n") < 60):
        time.sleep(0.01)
    process.kill()
    process.join()
    acknowledged = {line for line in Path(log).read_text().splitlines() if len(line) == 36}
    stored = Store(path).sql("SELECT id FROM responses")
    assert len(acknowledged) >= 60
    assert acknowledged <= set(stored["id"])
    assert len(stored) % 3 == 0  # a batch is there whole or not at all


def test_a_forked_child_has_its_own_connection(store: Store) -> None:
    store.append([Task(name="parent")])
    fork = multiprocessing.get_context("fork")
    process = fork.Process(target=store.append, args=([Task(name="child")],))
    process.start()
    process.join(30)
    assert process.exitcode == 0
    assert set(store.sql("SELECT name FROM tasks")["name"]) == {"parent", "child"}


def test_merging_copies_what_is_missing_once(store: Store, tmp_path: Path) -> None:
    here, there = store, Store(tmp_path / "b" / "there's.duckdb")
    there.folder.mkdir()
    records = one_of_each()
    shared_record, own = records[1], Task(name="own")
    here.append([shared_record, own])
    there.append(records)
    counts = here.merge(there)
    assert sum(counts.values()) == len(records) - 1
    assert counts["cases"] == 0
    assert sum(here.merge(there).values()) == 0
    for table, cls in TABLES.items():
        wanted = {record.model_dump_json() for record in [*records, own] if type(record) is cls}
        assert {r.model_dump_json() for r in here.load(cls, f"SELECT * FROM {table}")} == wanted
    assert sum(there.merge(here).values()) == 1


def test_merging_with_itself_or_with_nothing_is_refused(store: Store, tmp_path: Path) -> None:
    store.append([Task(name="t")])
    with pytest.raises(StoreError, match="the store itself"):
        store.merge(Store(store.address))
    with pytest.raises(StoreError, match="no such store"):
        store.merge(Store(tmp_path / "nope.duckdb"))


def test_a_file_that_is_no_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "text.duckdb"
    text.write_text("hello, this is not a database")
    with pytest.raises(StoreError, match="cannot be opened as a store"):
        Store(text).append([Task(name="t")])
    assert text.read_text().startswith("hello")
    other = tmp_path / "other.duckdb"
    connection = duckdb.connect(str(other))
    connection.execute("CREATE TABLE mine AS SELECT 1 AS a")
    connection.close()
    with pytest.raises(StoreError, match="holds other tables \\(mine\\)"):
        Store(other).append([Task(name="t")])
    with pytest.raises(StoreError, match=r"cannot write here|cannot be opened"):
        Store(tmp_path / "no" / "such" / "folder.duckdb").append([Task(name="t")])


def test_a_store_of_a_newer_version_is_refused(store: Store) -> None:
    store.append([Task(name="t")])
    with store.lease() as connection:
        connection.execute("INSERT INTO schema_version (version) VALUES (999)")
    store.close()
    with pytest.raises(StoreError, match="newer feedbackloop"):
        Store(store.address).sql("SELECT 1")


def test_kinds_of_stores_that_are_not_there_yet_are_named() -> None:
    with pytest.raises(StoreError, match="not supported yet"):
        Store("ducklake:meta")


def test_the_version_changes_with_every_write(store: Store) -> None:
    seen = {store.version}
    for number in range(3):
        store.append([Task(name=str(number))])
        seen.add(store.version)
        store.sql("SELECT 1")
        assert store.version in seen
    assert len(seen) == 4


def test_the_file_opens_with_plain_duckdb_views_included(in_file: Store) -> None:
    in_file.append(one_of_each())
    connection = duckdb.connect(str(in_file.path))
    assert connection.execute("SELECT variant, output FROM answers").fetchall() == [("terse", NASTY)]
    connection.execute("SELECT * FROM votes")
    version = connection.execute("SELECT tags['storage_version'] FROM duckdb_databases() WHERE NOT internal").fetchone()
    connection.close()
    assert version == ("v1.5.0+",)


def test_a_corrected_case_keeps_its_id_and_the_view_shows_the_newest(store: Store) -> None:
    first = Case(inputs={"input": "2+2"}, expected="5", created_at=utcnow() - timedelta(hours=1))
    second = Case(inputs={"input": "2+2"}, expected="4")
    assert first.id == second.id
    store.append([first, second])
    assert [json.loads(value) for value in store.sql("SELECT expected FROM current_cases")["expected"]] == ["4"]


def test_superseded_and_withdrawn_votes_are_not_current(store: Store) -> None:
    def vote(winner: str | None, supersedes: str | None = None) -> Comparison:
        return Comparison(
            task="t", case_id="c", response_a="x", response_b="y", variant_a="a", variant_b="b", winner=winner,
            rater="Anna", rater_kind="human", supersedes=supersedes,
        )  # fmt: skip

    kept, changed, withdrawn = vote("a"), vote("a"), vote("b")
    better = vote("tie", changed.id)
    store.append([kept, changed, withdrawn, better, vote(None, withdrawn.id)])
    assert set(store.sql("SELECT id FROM current_comparisons")["id"]) == {kept.id, better.id}
    thumb = Rating(response_id="x", metric="thumbs", value=1.0, rater="u", rater_kind="user")
    undo = Rating(response_id="x", metric="thumbs", rater="u", rater_kind="user", supersedes=thumb.id)
    store.append([thumb, undo])
    assert store.sql("SELECT id FROM current_ratings").empty


def test_an_aware_time_of_another_zone_is_the_same_moment(store: Store) -> None:
    moment = datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=-7)))
    store.append([Task(name="t", created_at=moment)])
    assert store.sql("SELECT created_at FROM tasks")["created_at"][0] == moment
