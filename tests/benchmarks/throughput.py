"""Calls per second and CPU per call of a whole run (graded and stored) against the bare SDK, in turns, in one process.

    python tests/benchmarks/throughput.py [--calls 3000] [--concurrency 64] [--rounds 3]

The upstream is a server without delay on loopback, in a process of its own. The bare side is what a careful engineer would write:
`asyncio.gather` over one `AsyncOpenAI(http_client=DefaultAioHttpClient())` with a semaphore, throwing the answers away.
Prints a line per round, then the median ratios. Targets: at least 0.8 of the calls per second, at most 1.3 times the CPU,
and a flush at least every 0.25 s.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from openai import AsyncOpenAI, DefaultAioHttpClient

import feedbackloop as fl
from feedbackloop.settings import ProviderSettings, Settings

SERVER = Path(__file__).parents[1] / "openai_server.py"


async def bare(url: str, prompts: list[str], concurrency: int) -> None:
    client = AsyncOpenAI(base_url=url, api_key="none", max_retries=0, http_client=DefaultAioHttpClient())
    places = asyncio.Semaphore(concurrency)

    async def one(prompt: str) -> str | None:
        async with places:
            answer = await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": prompt}], max_tokens=2048
            )
            return answer.choices[0].message.content

    answers = await asyncio.gather(*(one(prompt) for prompt in prompts))
    assert len(answers) == len(prompts)
    await client.close()


async def ours(url: str, prompts: list[str], concurrency: int, store: fl.Store) -> None:
    settings = Settings(providers={"bench": ProviderSettings(base_url=url)})
    result = await fl.run(
        [{"input": prompt} for prompt in prompts],
        [{"name": "one", "model": "bench:m"}],
        store=store,
        graders=[{"contains": "question"}],
        limits=fl.Limits(concurrency=concurrency),
        settings=settings,
    )
    assert result.progress.completed == len(prompts), result


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=3000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    server = subprocess.Popen([sys.executable, SERVER], stdout=subprocess.PIPE, text=True)
    assert server.stdout
    url = server.stdout.readline().split()[-1]
    speeds, cpus = [], []
    flushes: list[float] = []
    append = fl.Store.append

    def timed(self: fl.Store, records: object, **options: object) -> int:
        flushes.append(time.perf_counter())
        return append(self, records, **options)

    fl.Store.append = timed
    try:
        asyncio.run(bare(url, ["warm up"] * 200, arguments.concurrency))
        for number in range(arguments.rounds):
            prompts = [f"question {number}.{i}: " + "what is it worth? " * 10 for i in range(arguments.calls)]
            figures = {}
            for name in ("bare", "ours"):
                with tempfile.TemporaryDirectory() as folder:
                    store = fl.Store(Path(folder) / "b.duckdb")
                    store.append([])
                    flushes.clear()
                    began, cpu = time.perf_counter(), time.process_time()
                    if name == "bare":
                        asyncio.run(bare(url, prompts, arguments.concurrency))
                    else:
                        asyncio.run(ours(url, prompts, arguments.concurrency, store))
                    figures[name] = (
                        arguments.calls / (time.perf_counter() - began),
                        (time.process_time() - cpu) / arguments.calls * 1000,
                    )
                    gaps = [b - a for a, b in itertools.pairwise(flushes)]
            speed, cpu_ratio = figures["ours"][0] / figures["bare"][0], figures["ours"][1] / figures["bare"][1]
            speeds.append(speed)
            cpus.append(cpu_ratio)
            print(
                f"bare {figures['bare'][0]:6.0f} calls/s {figures['bare'][1]:.2f} ms CPU   "
                f"ours {figures['ours'][0]:6.0f} calls/s {figures['ours'][1]:.2f} ms CPU   "
                f"speed x{speed:.2f}  CPU x{cpu_ratio:.2f}  longest gap between flushes {max(gaps):.2f} s",
                flush=True,
            )
    finally:
        server.kill()
    print(
        f"median: speed x{statistics.median(speeds):.2f} (target 0.80), CPU x{statistics.median(cpus):.2f} (target 1.30)"
    )


if __name__ == "__main__":
    main()
