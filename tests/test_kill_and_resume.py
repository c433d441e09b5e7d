"""`kill -9` in the middle of a run, then `resume`: every answer once, and none asked again but those of the last flush."""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import feedbackloop as fl
from feedbackloop import queries
from feedbackloop.settings import ProviderSettings, Settings

HERE = Path(__file__).parent
ROWS = 150
CONCURRENCY = 8
DELAY_S = 0.03
AT_RISK = CONCURRENCY + int(CONCURRENCY / DELAY_S * 0.25)
"""Calls that can be in flight, and answers of a quarter of a second."""

VARIANTS = [
    {"name": "plain", "model": "fake:m"},
    {"name": "polite", "model": "fake:m", "prompt": "Please: {{ input }}"},
]

CHILD = """
import asyncio, sys
import feedbackloop as fl
from test_kill_and_resume import CONCURRENCY, VARIANTS, settings

url, folder, place = sys.argv[1:]
asyncio.run(
    fl.run(
        folder + "/rows.jsonl", VARIANTS, store=place, settings=settings(url), graders=[{"contains": "You said"}],
        limits=fl.Limits(concurrency=CONCURRENCY),
    )
)
"""


GOING_ON = """
import asyncio, sys
import feedbackloop as fl
from test_kill_and_resume import settings

url, place = sys.argv[1:]
asyncio.run(fl.resume(fl.Store(place), settings=settings(url)))
"""


def settings(url: str) -> Settings:
    return Settings(providers={"fake": ProviderSettings(base_url=url)})


@pytest.fixture
def server() -> Iterator[str]:
    """A server in a process of its own, so that it outlives the killed run and counts what it was asked."""
    command = [sys.executable, str(HERE / "openai_server.py"), "--delay-ms", str(DELAY_S * 1000)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.kill()
    process.communicate()


def asked(url: str) -> int:
    with urllib.request.urlopen(f"{url.removesuffix('/v1')}/counts", timeout=5) as reply:
        return json.load(reply).get("ok", 0)


def completed(store: fl.Store) -> Counter:
    rows = store.sql(
        "SELECT case_id, variant_id, repeat FROM requests JOIN responses ON request_id = requests.id WHERE status = 'completed'"
    )
    return Counter(rows.itertuples(index=False, name=None))


def write_rows(folder: Path, count: int) -> None:
    rows = [{"id": number, "input": f"question {number}"} for number in range(count)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def kill(url: str, at: int, code: str, *arguments: str) -> None:
    """Start a process and kill it as soon as the server has been asked so often."""
    child = subprocess.Popen([sys.executable, "-c", code, *arguments], env={"PYTHONPATH": f"{HERE.parent}:{HERE}"})
    deadline = time.monotonic() + 60
    while asked(url) < at:
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.005)
    child.kill()
    child.wait()


def kill_and_resume(url: str, folder: Path, place: str, at: int) -> None:
    write_rows(folder, ROWS)
    before = asked(url)
    kill(url, before + at, CHILD, url, str(folder), place)
    store = fl.Store(place)
    (status,) = queries.runs(store)
    assert status.state == "interrupted"
    sent, kept = asked(url) - before, len(completed(store))
    assert kept < 2 * ROWS
    assert sent - kept <= AT_RISK
    # Whatever the moment: an answer is there with its request, its case and its grade, or not at all.
    whole = store.sql("SELECT external_id, variant, grades FROM answers")
    assert len(whole) == kept == len(store.sql("SELECT * FROM ratings"))
    assert not whole.isna().any().any()

    result = asyncio.run(fl.resume(store, settings=settings(url)))
    assert result.finished
    assert (result.progress.skipped, result.progress.completed) == (kept, 2 * ROWS - kept)
    assert set(completed(store).values()) == {1}
    assert len(completed(store)) == 2 * ROWS
    assert asked(url) - before == 2 * ROWS + sent - kept
    assert len(store.sql("SELECT * FROM ratings")) == 2 * ROWS
    assert len(store.sql("SELECT * FROM cases")) == ROWS
    assert queries.runs(store)[0].state == "finished"


@pytest.mark.parametrize("at", [2 * ROWS // 3, 3])
def test_a_killed_run_is_completed_without_asking_anything_twice(
    server: str, tmp_path: Path, place: str, at: int
) -> None:
    kill_and_resume(server, tmp_path, place, at)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(50))
def test_whenever_it_is_killed(server: str, tmp_path: Path, seed: int) -> None:
    kill_and_resume(
        server, tmp_path, str(tmp_path / "loop.duckdb"), random.Random(seed).randint(1, 2 * ROWS - AT_RISK // 2)
    )


def kill_again_and_again(url: str, folder: Path, place: str, *, rows: int, kills: int, seed: int) -> None:
    """One run, killed so often; each part of it is gone on with by the next one."""
    write_rows(folder, rows)
    store, chance = fl.Store(place), random.Random(seed)
    twice: list[int] = []
    for number in range(kills):
        sent, kept = asked(url), len(completed(store)) if store.exists() else 0
        # Enough is left for the kills to come, also where a busy machine lets this one come late.
        last = 2 * rows - kept - (kills - number) * 2 * AT_RISK
        at = sent + chance.randint(1, max(1, min(last, 2 * last // (kills - number))))
        code = [CHILD, url, str(folder), place] if number == 0 else [GOING_ON, url, place]
        kill(url, at, *code)
        answers = completed(store)
        assert set(answers.values()) <= {1}
        twice.append(asked(url) - sent - (len(answers) - kept))
        # A busy machine's flush under way may take longer than a quarter of a second, but not every time.
        assert 0 <= twice[-1] <= 3 * AT_RISK
    assert statistics.mean(twice) <= AT_RISK
    result = asyncio.run(fl.resume(store, settings=settings(url)))
    assert result.finished
    assert len(completed(store)) == 2 * rows
    assert set(completed(store).values()) == {1}
    assert asked(url) == 2 * rows + sum(twice)
    assert len(store.sql("SELECT * FROM ratings")) == 2 * rows
    print(f"{kills} kills of one run: {2 * rows} answers, paid twice at each: {twice}, at most {AT_RISK}")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_run_that_is_killed_fifty_times(server: str, tmp_path: Path, seed: int) -> None:
    kill_again_and_again(server, tmp_path, str(tmp_path / "loop.duckdb"), rows=4500, kills=50, seed=seed)
