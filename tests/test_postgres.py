"""A store in Postgres: what files do not have, which is a server, many writers at once, and a password."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import duckdb
import pytest
from postgres_server import PASSWORD, PostgresServer

import feedbackloop as fl
from feedbackloop import queries
from feedbackloop.cli import main
from feedbackloop.doctor import examine
from feedbackloop.errors import MissingDependency, StoreError
from feedbackloop.identity import utcnow
from feedbackloop.models import TABLES, AIResponse, Assignment, Case, Run, RunEvent, Task
from feedbackloop.places import attached
from feedbackloop.store import Store

HERE = Path(__file__).parent


@pytest.fixture
def store(postgres_url: str) -> Store:
    return Store(postgres_url, timeout_s=10)


def at_once(*works: Callable[[], object]) -> list[object]:
    """What these return when threads do them at the same time."""
    barrier = threading.Barrier(len(works))

    def begin(work: Callable[[], object]) -> object:
        barrier.wait(30)
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(begin, works))


# Making it

STARTER = """
import sys
from feedbackloop import Store, Task
url, name = sys.argv[1:]
store = Store(url)
sys.stdin.readline()
store.append([Task(name=name)])
assert len(store.sql("SELECT * FROM tasks WHERE name = ?", [name])) == 1
"""


def test_processes_that_start_at_once_make_its_tables_once(store: Store, postgres_server: PostgresServer) -> None:
    assert not store.exists()
    children = [
        subprocess.Popen([sys.executable, "-c", STARTER, store.address, str(n)], stdin=subprocess.PIPE)
        for n in range(3)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write(b"go\n")
        child.stdin.close()
    assert [child.wait(60) for child in children] == [0] * 3
    assert store.exists()
    assert set(store.sql("SELECT name FROM tasks")["name"]) == {"0", "1", "2"}
    assert postgres_server.execute("SELECT count(*) FROM feedbackloop.schema_version", "test") == "1"


def test_looking_at_it_makes_nothing(store: Store, postgres_server: PostgresServer) -> None:
    assert queries.runs(store) == []
    assert not queries.counts(store)["runs"]
    assert store.version == store.version
    with pytest.raises(StoreError, match="no such store yet"):
        store.sql("SELECT 1")
    assert postgres_server.execute("SELECT count(*) FROM pg_namespace WHERE nspname = 'feedbackloop'", "test") == "0"


def test_its_tables_leave_the_rest_of_the_database_alone(store: Store, postgres_server: PostgresServer) -> None:
    postgres_server.execute("CREATE TABLE IF NOT EXISTS runs (mine int)", "test")
    store.append([Run(task="t", dataset="d", fingerprint="f", variants=[])])
    assert len(store.sql("SELECT * FROM runs")) == 1
    assert postgres_server.execute("SELECT count(*) FROM public.runs", "test") == "0"
    postgres_server.execute("DROP TABLE runs", "test")


def test_an_older_store_is_brought_to_the_present(
    store: Store, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.append([Task(name="t")])
    store.close()
    from feedbackloop import schema

    def add(connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute("ALTER TABLE tasks ADD COLUMN IF NOT EXISTS mood VARCHAR")

    monkeypatch.setattr(schema, "MIGRATIONS", [*schema.MIGRATIONS, add])
    assert store.sql("SELECT max(version) AS v FROM schema_version")["v"][0] == len(schema.MIGRATIONS)
    assert store.append([Task(name="u")]) == 1
    assert postgres_server.execute("SELECT count(*) FROM feedbackloop.tasks WHERE mood IS NULL", "test") == "2"


def test_a_newer_process_may_change_the_tables_under_an_older_one(
    store: Store, postgres_server: PostgresServer
) -> None:
    store.append([Task(name="t")])
    for table in TABLES:
        postgres_server.execute(f"ALTER TABLE feedbackloop.{table} ADD COLUMN mood json DEFAULT '1'", "test")
    assert store.append([Task(name="u"), Case(inputs={})]) == 2
    assert [task.name for task in store.load(Task, "SELECT * FROM tasks ORDER BY name")] == ["t", "u"]
    assert store.sql("SELECT * FROM answers").empty


# Many at once


def test_what_is_looked_at_before_writing_holds_until_it_is_written(store: Store) -> None:
    """Four raters draw sixteen slots: each slot goes to one of them."""
    store.append([Task(name="t")])
    raters = 4

    class Taken(Exception):
        """Another one was quicker."""

    def take(mine: Store, rater: str, slot: int) -> None:
        def is_free(connection: duckdb.DuckDBPyConnection) -> None:
            connection.execute("SELECT count(*) FROM assignments")
            if connection.fetchall()[0][0] != slot:
                raise Taken

        seat = Assignment(queue="q", case_id=str(slot), pair=["a", "b"], rater=rater, expires=utcnow())
        mine.append([seat], unless=is_free)

    def draw(rater: str) -> Callable[[], int]:
        mine = Store(store.address)

        def work() -> int:
            drawn = 0
            while (slot := int(mine.sql("SELECT count(*) AS n FROM assignments")["n"][0])) < 16:
                with contextlib.suppress(Taken):
                    take(mine, rater, slot)
                    drawn += 1
            return drawn

        return work

    drawn = at_once(*(draw(f"r{n}") for n in range(raters)))
    assert sum(map(int, drawn)) == 16
    assert sorted(store.sql("SELECT case_id FROM assignments")["case_id"].astype(int)) == list(range(16))


def test_an_import_by_two_at_once_brings_each_row_once(store: Store) -> None:
    store.append([Task(name="t")])
    records = [AIResponse(request_id="r", output=str(n), model_used="a:b") for n in range(200)]
    new = at_once(*(lambda: Store(store.address).append(records, new_only=True) for _ in range(4)))
    assert sorted(map(int, new)) == [0, 0, 0, 200]
    assert len(store.sql("SELECT * FROM responses")) == 200


def test_of_two_resumes_at_once_one_is_refused(store: Store) -> None:
    made = Run(task="t", dataset="d", fingerprint="f", variants=[])
    gone = RunEvent(run_id=made.id, kind="heartbeat", created_at=utcnow() - timedelta(minutes=1))
    store.append([made, gone])

    def resume() -> str:
        try:
            store.append(
                [RunEvent(run_id=made.id, kind="started")], unless=lambda c: queries.refuse_if_running(c, made.id)
            )
        except StoreError as error:
            return str(error)
        return "started"

    assert sum(answer == "started" for answer in at_once(*[resume] * 4)) == 1
    assert len(store.sql("SELECT * FROM run_events WHERE kind = 'started'")) == 1


def test_others_read_while_one_looks_and_whoever_waits_too_long_is_told(store: Store) -> None:
    store.append([Task(name="t")])
    waiting = Store(store.address, timeout_s=0.2)

    def look(_: duckdb.DuckDBPyConnection) -> None:
        assert len(waiting.sql("SELECT * FROM tasks")) == 1
        for late in (Task(name="plain"), Task(name="looks")):
            with pytest.raises(StoreError, match=r"others have been writing for 0.2 s"):
                waiting.append([late], new_only=late.name == "looks")
        raise LookupError

    with pytest.raises(LookupError):
        store.append([Task(name="never")], unless=look)
    assert waiting.append([Task(name="u")]) == 1
    assert set(store.sql("SELECT name FROM tasks")["name"]) == {"t", "u"}


def test_all_that_one_query_reads_is_of_one_moment(store: Store) -> None:
    store.append([Task(name="t")])

    def work(connection: duckdb.DuckDBPyConnection) -> list[int]:
        counts = []
        for name in ("u", "v"):
            connection.execute("SELECT count(*) FROM tasks")
            counts.append(connection.fetchall()[0][0])
            Store(store.address).append([Task(name=name)])
        return counts

    assert store.query(work) == [1, 1]
    assert len(store.sql("SELECT * FROM tasks")) == 3


def test_the_version_moves_with_a_write_of_another_process_and_with_nothing_else(
    store: Store, postgres_server: PostgresServer
) -> None:
    store.append([Task(name="t")])
    before = store.version
    store.sql("SELECT * FROM tasks")
    assert store.version == before
    postgres_server.execute("INSERT INTO feedbackloop.tasks (name) VALUES ('by hand')", "test")
    assert store.version != before


# A server that goes away


def test_a_restart_of_the_server_loses_nothing_and_doubles_nothing(
    store: Store, postgres_server: PostgresServer
) -> None:
    names = [str(n) for n in range(150)]
    store.append([Task(name="t")])
    halfway, errors = threading.Event(), []

    def write() -> None:
        try:
            for number, name in enumerate(names):
                store.append([Task(name=name), RunEvent(run_id=name, kind="heartbeat")])
                if number == 30:
                    halfway.set()
        except Exception as error:
            errors.append(error)
            halfway.set()

    thread = threading.Thread(target=write)
    thread.start()
    assert halfway.wait(30)
    postgres_server.stop()
    postgres_server.start()
    thread.join(60)
    assert not errors
    for table, column in (("tasks", "name"), ("run_events", "run_id")):
        stored = store.sql(f"SELECT {column} FROM {table} WHERE {column} <> 't'")[column]
        assert sorted(stored) == sorted(names)


def test_a_server_that_stays_away_is_said_and_one_that_comes_back_is_used(
    store: Store, postgres_server: PostgresServer
) -> None:
    store.append([Task(name="t")])
    hasty = Store(store.address, timeout_s=0.2)
    postgres_server.stop()
    try:
        for use in (
            lambda: hasty.append([Task(name="u")]),
            lambda: hasty.sql("SELECT 1 FROM tasks"),
            lambda: hasty.version,
            lambda: queries.counts(hasty),
        ):
            with pytest.raises(StoreError, match=r"the database cannot be opened: .*refused"):
                use()
    finally:
        postgres_server.start()
    assert hasty.append([Task(name="v")]) == 1
    assert set(store.sql("SELECT name FROM tasks")["name"]) == {"t", "v"}


def test_a_connection_that_is_cut_in_the_middle_is_made_anew(store: Store, postgres_server: PostgresServer) -> None:
    store.append([Task(name="t")])
    cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = 'test' AND pid <> pg_backend_pid()"
    asked = []

    def work(connection: duckdb.DuckDBPyConnection) -> int:
        asked.append(1)
        if len(asked) == 1:
            connection.execute("SELECT count(*) FROM tasks").fetchall()
            postgres_server.execute(cut, "test")
        return int(connection.execute("SELECT count(*) FROM tasks").fetchall()[0][0])

    assert store.query(work) == 1
    assert len(asked) == 2
    postgres_server.execute(cut, "test")
    assert store.append([Task(name="u")]) == 1


# What rows and queries may be


def test_a_row_that_postgres_refuses_costs_only_itself(store: Store) -> None:
    good = AIResponse(request_id="1", output="fine", model_used="a:b")
    bad = AIResponse(request_id="2", output="nul \x00 within", model_used="a:b")
    assert store.append([good, bad]) == 2
    stored = {r.id: r for r in store.load(AIResponse, "SELECT * FROM responses")}
    assert stored[good.id] == good
    assert stored[bad.id].error_type == "Unstorable"


def test_no_select_writes(store: Store) -> None:
    store.append([Task(name="t")])
    name = attached.get(store._place._server, 1).name
    with pytest.raises(StoreError, match="single SELECT"):
        store.sql(f"SELECT * FROM \"postgres_execute\"('{name}', 'DELETE FROM feedbackloop.tasks')")
    with pytest.raises(StoreError, match="failed"):
        store.sql(f"SELECT * FROM postgres_query('{name}', 'DELETE FROM feedbackloop.tasks RETURNING name')")
    assert len(store.sql("SELECT * FROM tasks")) == 1


def test_who_may_only_read_reads_and_is_told_why_nothing_is_written(
    store: Store, postgres_server: PostgresServer
) -> None:
    store.append([Task(name="t")])
    for statement in (
        "CREATE ROLE reader LOGIN PASSWORD 'r'",
        "GRANT USAGE ON SCHEMA feedbackloop TO reader",
        "GRANT SELECT ON ALL TABLES IN SCHEMA feedbackloop TO reader",
    ):
        postgres_server.execute(statement, "test")
    reader = Store(postgres_server.url("test", user="reader", password="r"))
    assert reader.sql("SELECT * FROM answers").empty
    assert queries.tasks(reader) == ["t"]
    for new_only in (False, True):
        with pytest.raises(StoreError, match="the server says: permission denied"):
            reader.append([Task(name="u")], new_only=new_only)
    postgres_server.execute("DROP SCHEMA feedbackloop CASCADE; DROP ROLE reader", "test")
    reader.close()


# Two stores


def test_two_databases_and_a_file_are_merged_every_way(
    store: Store, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    other, file = Store(postgres_server.make_database()), Store(tmp_path / "a.duckdb")
    case = Case(inputs={"input": "both"}, expected={"deep": [1, None, "x"]})
    response = AIResponse(request_id="r", output="x", model_used="a:b", usage={"n": 1})
    store.append([Task(name="here"), case, response])
    other.append([Task(name="there"), case])
    assert {name: new for name, new in other.merge(store).items() if new} == {"tasks": 1, "responses": 1}
    assert sum(other.merge(store).values()) == 0
    assert {name: new for name, new in file.merge(other).items() if new} == {"tasks": 2, "cases": 1, "responses": 1}
    assert sum(file.merge(store).values()) == 0
    assert {name: new for name, new in store.merge(file).items() if new} == {"tasks": 1}
    for one in (store, other, file):
        assert one.load(Case, "SELECT * FROM cases") == [case]
        assert one.load(AIResponse, "SELECT * FROM responses") == [response]
    with pytest.raises(StoreError, match="the store itself"):
        store.merge(Store(store.address))
    other.close()


# The password


def test_a_password_is_never_shown(
    store: Store, postgres_server: PostgresServer, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = "w'ro@ng sécret"
    closed = f"postgresql://postgres:{quote(wrong)}@127.0.0.1:1/test"
    bad = postgres_server.url("test", password=wrong)
    pairs = f"postgres:host=127.0.0.1 port={postgres_server.port} user=postgres dbname=test password='w\\'ro@ng sécret'"
    said = [repr(store), store.url, repr(fl.Settings(store=store.address))]
    for url, reason in ((closed, "refused"), (bad, "password authentication failed"), (pairs, "authentication failed")):
        for use in (Store(url).exists, lambda url=url: Store(url).append([Task(name="t")])):
            with pytest.raises(StoreError, match=reason) as caught:
                use()
            said += traceback.format_exception(caught.value)
        said += [check.found for check in asyncio.run(examine(url)) if check.name == "store"]
        with pytest.raises(SystemExit):
            main(["status", "--store", url])
    asyncio.run(fl.run([{"input": "x"}], [{"name": "v", "model": "simulated:a"}], store=store, settings=fl.Settings()))
    for table in TABLES:
        said.append(store.sql(f"SELECT * FROM {table}").to_csv())
    said.append(store.sql("SELECT * FROM duckdb_databases()").to_csv())
    said.append(store.sql("SELECT * FROM duckdb_secrets()").to_csv())
    main_says(store, "status")
    said += [caplog.text, *capsys.readouterr()]
    everything = "\n".join(map(str, said))
    for secret in (wrong, PASSWORD):
        for form in (
            secret,
            quote(secret, safe=""),
            quote(secret),
            secret.replace("'", "\\'"),
            secret.replace("'", "''"),
        ):
            assert form not in everything
    assert "***" in everything


def main_says(store: Store, *arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--store", store.address])
    assert not ended.value.code


def test_a_missing_extension_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    class Without:
        def execute(self, query: str) -> None:
            raise duckdb.IOException(query)

    monkeypatch.setattr(attached, "packaged_extension", lambda: None)
    with pytest.raises(MissingDependency, match=r"pip install 'feedbackloop\[shared\]'"):
        attached.load_extension(Without())  # type: ignore[arg-type]


# What is built on it


def test_the_commands_work_on_it(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEEDBACKLOOP_STORE", store.address)
    Path("cases.jsonl").write_text("".join(json.dumps({"id": n, "input": f"q{n}"}) + "\n" for n in range(6)))
    Path("spec.yaml").write_text('dataset: cases.jsonl\nvariants: [{name: v, model: "simulated:a"}]\n')
    Path("made.jsonl").write_text(json.dumps({"prompt": "p", "answer_x": "1", "answer_y": "2"}) + "\n")

    def call(*arguments: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        out, err = capsys.readouterr()
        assert not ended.value.code, err
        return out

    call("run", "spec.yaml")
    call("resume", queries.runs(store)[0].run.id[:8])
    call("import", "made.jsonl", "--task", "elsewhere")
    assert "Nothing new" in call("import", "made.jsonl", "--task", "elsewhere")
    assert json.loads(call("status", "--json"))["counts"]["runs"] == 2
    call("export", "answers.jsonl")
    rows = [json.loads(line) for line in Path("answers.jsonl").read_text().splitlines()]
    assert len(rows) == 8
    assert rows[0]["inputs"].keys() == {"input"}
    call("import", store.address, "--store", "copy.duckdb")
    assert len(Store("copy.duckdb").sql("SELECT * FROM answers")) == 8
    (check,) = (check for check in asyncio.run(examine()) if check.name == "store")
    assert check.state == "ok"
    assert "can be reached; schema" in check.found
    assert "2 runs, 8 answers" in check.found
    assert not any(path.name.endswith(".tmp") for path in tmp_path.iterdir())


def test_a_forked_child_attaches_anew(store: Store) -> None:
    store.append([Task(name="parent")])
    child = os.fork()
    if not child:
        try:
            store.append([Task(name="child")])
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    deadline = time.monotonic() + 30
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert ended == (child, 0)
    assert set(store.sql("SELECT name FROM tasks")["name"]) == {"parent", "child"}
