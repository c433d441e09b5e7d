"""Memory and rate of a very long run: simulated answers to a dataset on disk, graded and stored.

    python tests/benchmarks/million.py [--rows 1000000] [--folder DIR]

The run has a process of its own, since the peak of the resident set is the process's. Prints the rate of each 100,000 rows, the
peak, and what reading the summary afterwards adds. Targets: under 500 MB, and no 100,000 rows 15% slower than the median.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STEP = 100_000


def memory_mb(name: str) -> float:
    """A figure of this process: VmHWM is the peak of the resident set, VmRSS the present one."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    return 0.0


def write_dataset(path: Path, rows: int) -> None:
    with path.open("w") as file:
        for number in range(rows):
            row = {
                "id": f"row-{number}",
                "input": f"Question {number}: what happens to order {number * 7919 % 1000003} if it is returned late?",
                "expected": "a good answer",
                "segment": f"s{number % 4}",
            }
            file.write(json.dumps(row) + "\n")


def work(folder: Path) -> None:
    import feedbackloop as fl
    from feedbackloop import queries

    marks: list[tuple[int, float, float, float]] = []
    calm = memory_mb("VmRSS")
    began = time.perf_counter()

    def watch(progress: fl.Progress) -> None:
        reached = progress.done - progress.done % STEP
        if not marks or reached > marks[-1][0]:
            marks.append((progress.done, progress.elapsed_s, memory_mb("VmRSS"), time.process_time()))
            if len(marks) == 1:
                print(f"checked in {time.perf_counter() - began:.1f} s, {memory_mb('VmHWM'):.0f} MB", flush=True)
            else:
                (done, at, _, cpu), (now_done, now_at, rss, now_cpu) = marks[-2:]
                print(
                    f"{now_done:9,} rows  {(now_done - done) / (now_at - at):6.0f} rows/s  "
                    f"{(now_cpu - cpu) / (now_done - done) * 1000:.3f} ms CPU a row  {rss:.0f} MB",
                    flush=True,
                )

    store = fl.Store(folder / "million.duckdb")
    settings = fl.Settings(base=folder)
    result = asyncio.run(
        fl.run(
            folder / "million.jsonl",
            [{"name": "sim", "model": "simulated:m", "params": {"output_tokens": 40}}],
            store=store,
            graders=[{"contains": "good"}],
            settings=settings,
            progress=watch,
        )
    )
    assert result.finished
    peak = memory_mb("VmHWM")
    rates = [(b[0] - a[0]) / (b[1] - a[1]) for a, b in itertools.pairwise(marks)]
    middle = statistics.median(rates) if rates else result.progress.rate
    print(
        f"{result.progress.completed:,} rows in {result.progress.elapsed_s:.0f} s, {result.progress.rate:.0f} rows/s; "
        f"slowest stretch {min(rates, default=middle) / middle - 1:+.0%}, fastest {max(rates, default=middle) / middle - 1:+.0%} "
        f"of the median; {result.progress.elapsed_s / result.progress.completed * 1000:.2f} ms a row"
    )
    print(f"peak {peak:.0f} MB (target 500; {calm:.0f} MB before the run)")
    print(f"store {store.path.stat().st_size / 2**20:.0f} MB")
    for name, ask in (
        ("summary", lambda: queries.summary(store, result.run.id)),
        ("counts", lambda: queries.counts(store)),
        ("runs", lambda: queries.runs(store)),
    ):
        began = time.perf_counter()
        ask()
        print(f"{name}: {time.perf_counter() - began:.2f} s, peak now {memory_mb('VmHWM'):.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument(
        "--folder", type=Path, help="where the dataset and the store are made and left; else a temporary one"
    )
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.folder)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        write_dataset(folder / "million.jsonl", arguments.rows)
        # What a terminal's user has: our own imports here must not count as the run's memory.
        command = [sys.executable, __file__, "--work", "--folder", str(folder)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        sys.exit(subprocess.run(command, env=environment, check=False).returncode)


if __name__ == "__main__":
    main()
