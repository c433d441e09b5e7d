"""The writer: batches in the background, nothing lost when the store refuses for a while."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
import time
from pathlib import Path

import pytest
from waiting import until

from feedbackloop.errors import StoreError
from feedbackloop.models import AIRequest, Task
from feedbackloop.pipeline.writer import FLUSH_S, Writer
from feedbackloop.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "loop.duckdb")


@pytest.fixture
def hasty(store) -> Store:
    """The same file, for whoever is to be refused: the others may wait for each other on a busy machine."""
    return Store(store.path, timeout_s=0.2)


def names(store: Store) -> list[str]:
    return sorted(store.sql("SELECT name FROM tasks")["name"]) if store.exists() else []


def test_what_is_given_is_in_the_file_soon_without_any_further_call(store) -> None:
    store.append([Task(name="first")])
    writer = Writer(store)
    writer.put(Task(name="a"), Task(name="b"))
    until(lambda: names(store) == ["a", "b", "first"], 5)
    assert writer.backlog == 0
    writer.close()


def test_many_small_gifts_become_few_transactions(store, monkeypatch) -> None:
    sizes, times = [], []
    append = Store.append

    def noted(self, records, **options):
        sizes.append(len(records))
        times.append(time.monotonic())
        return append(self, records, **options)

    monkeypatch.setattr(Store, "append", noted)
    writer = Writer(store)
    began = time.monotonic()
    for number in range(200):
        writer.put(Task(name=f"{number:03}"))
        time.sleep(0.003)
    writer.close()
    assert names(store) == [f"{number:03}" for number in range(200)]
    assert sum(sizes) == 200
    assert len(sizes) <= (time.monotonic() - began) / FLUSH_S + 2  # at most one for each 0.22 s, however long it took
    assert all(later - earlier >= FLUSH_S * 0.9 for earlier, later in itertools.pairwise(times[:-1]))


def test_it_takes_records_from_any_thread(store) -> None:
    writer = Writer(store)
    threads = [
        threading.Thread(target=lambda n=n: [writer.put(Task(name=f"{n}.{i}")) for i in range(100)]) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    assert len(set(names(store))) == 400


def test_closing_writes_what_is_left_and_what_it_is_given_last(store) -> None:
    writer = Writer(store, flush_s=60)
    writer.put(Task(name="a"))
    until(lambda: names(store) == ["a"], 5)
    writer.put(Task(name="b"))
    began = time.monotonic()
    writer.close(Task(name="c"))
    assert time.monotonic() - began < 30  # and not the minute between two flushes
    assert names(store) == ["a", "b", "c"]
    assert writer.error is None


def test_closing_without_anything_makes_no_store(store) -> None:
    Writer(store).close()
    assert not store.exists()


async def test_waiting_for_a_mark_returns_once_it_is_in_the_file(store) -> None:
    writer = Writer(store, flush_s=0.0)
    marks = [writer.put(Task(name=str(number))) for number in range(3)]
    await writer.written(marks[1])
    assert set(names(store)) >= {"0", "1"}
    writer.close()


async def test_whoever_waits_for_what_was_refused_is_told(store, hasty) -> None:
    writer = Writer(hasty, flush_s=0.0)
    with Store(store.path).lease():
        mark = writer.put(Task(name="a"))
        with pytest.raises(StoreError, match=r"in use for 0\.2 s"):
            await asyncio.wait_for(writer.written(mark), 5)
    with pytest.raises(StoreError, match=r"in use for 0\.2 s"):
        writer.put(Task(name="b"))
    writer.close()
    assert names(store) == ["a"]


def test_what_was_refused_is_written_at_the_end_if_it_can_be(store, hasty) -> None:
    store.append([Task(name="first")])
    writer = Writer(hasty)
    with Store(store.path).lease():
        writer.put(Task(name="a"), Task(name="b"))
        until(lambda: writer.error, 5)
    writer.close(Task(name="last"))
    assert writer.error is None
    assert names(store) == ["a", "b", "first", "last"]
    assert writer.backlog == 0


def test_an_error_that_stays_is_left_to_be_seen(store, hasty) -> None:
    store.append([Task(name="first")])
    writer = Writer(hasty)
    with Store(store.path).lease():
        writer.put(Task(name="a"))
        until(lambda: writer.error, 5)
        writer.close()
    assert isinstance(writer.error, StoreError)
    assert names(store) == ["first"]


def test_rows_that_were_written_beside_a_refused_one_are_not_written_twice(store) -> None:
    writer = Writer(store)
    writer.put(Task(name="good"), Task(name="bad \ud800"), Task(name="also good"))
    until(lambda: writer.error, 5)
    writer.close(Task(name="last"))
    assert isinstance(writer.error, StoreError)
    assert "could not be stored: tasks bad" in str(writer.error)
    assert names(store) == ["also good", "good", "last"]


def test_any_other_fault_becomes_a_store_error(store, monkeypatch) -> None:
    monkeypatch.setattr(Store, "append", lambda *_, **__: 1 / 0)
    writer = Writer(store)
    writer.put(Task(name="a"))
    writer.close()
    assert isinstance(writer.error, StoreError)
    assert "ZeroDivisionError" in str(writer.error)


def test_pythons_switch_interval_is_short_only_while_a_writer_lives(store) -> None:
    usual = sys.getswitchinterval()
    one, two = Writer(store), Writer(store)
    assert sys.getswitchinterval() < 0.001
    one.close()
    assert sys.getswitchinterval() < 0.001
    two.close()
    assert sys.getswitchinterval() == usual


def test_a_writer_that_insists_keeps_everything_until_the_store_takes_it(tmp_path, monkeypatch):
    monkeypatch.setattr("feedbackloop.pipeline.writer.AGAIN_S", 0.02)
    store = Store(tmp_path / "a.duckdb")
    append, broken = store.append, True

    def refusing(records, **options):
        if broken:
            raise StoreError("somebody else holds it")
        return append(records, **options)

    monkeypatch.setattr(store, "append", refusing)
    writer = Writer(store, flush_s=0.01, insist=True)
    for number in range(5):
        writer.put(AIRequest(input=str(number)))
        time.sleep(0.02)
    assert "somebody else" in str(writer.error)
    assert writer.backlog == 5
    broken = False
    for _ in range(200):
        if not writer.backlog:
            break
        time.sleep(0.02)
    assert writer.error is None
    writer.put(AIRequest(input="last"))
    writer.close()
    assert sorted(store.sql("SELECT input FROM requests")["input"]) == ["0", "1", "2", "3", "4", "last"]


def test_a_writer_that_insists_goes_on_past_a_row_that_cannot_be_stored(tmp_path, caplog):
    store = Store(tmp_path / "a.duckdb")
    writer = Writer(store, flush_s=0.01, insist=True)
    writer.put(AIRequest(input="a\ud800"), AIRequest(input="fine"))
    writer.close()
    assert writer.error is None
    assert store.sql("SELECT input FROM requests")["input"].tolist() == ["fine"]
    assert "could not be stored" in caplog.text
