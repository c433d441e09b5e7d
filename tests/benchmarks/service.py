"""What the service adds: requests per second at 64 connections, and median latency at one, with everything stored.

    python tests/benchmarks/service.py [--seconds 10] [--connections 64] [--rounds 3] [--model up:m]

The upstream is a server without delay on loopback in a process of its own, the service another, and the clients (aiohttp, as
light as they come in Python) a third: on two cores all three share them. The added latency is the median through the service
less the median straight to the upstream, by the same client, in turns. At the end the service gets SIGTERM, and its rows are
counted. Target: 400 requests/s.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp

import feedbackloop as fl
from feedbackloop.improve.policy import promote

ROOT = Path(__file__).parents[2]
SERVER = Path(__file__).parents[1] / "openai_server.py"
QUESTION = "What is it worth to know what people think of an answer? " * 5


async def load(url: str, model: str, connections: int, seconds: float) -> list[float]:
    """Ask for so long; returns each answer's latency in seconds."""
    latencies: list[float] = []
    until = time.perf_counter() + seconds
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=connections)) as session:

        async def client(number: int) -> None:
            asked = 0
            while (began := time.perf_counter()) < until:
                asked += 1
                body = {
                    "model": model,
                    "messages": [{"role": "user", "content": f"{number}.{asked}: {QUESTION}"}],
                    "user": f"user {number}",
                }
                async with session.post(f"{url}/chat/completions", json=body) as answer:
                    said = await answer.json()
                    assert answer.status == 200, said
                    assert said["choices"][0]["message"]["content"].startswith("You said"), said
                latencies.append(time.perf_counter() - began)

        await asyncio.gather(*(client(number) for number in range(connections)))
    return latencies


def started(*command: str | Path, cwd: Path | None = None, line: str) -> tuple[subprocess.Popen[str], str]:
    """A process, and the first line of its output that holds this text."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=cwd, env=environment
    )
    assert process.stdout
    for said in process.stdout:
        if line in said:
            return process, said
    raise SystemExit(f"{command} ended")


def cpu(process: subprocess.Popen[str]) -> float:
    """Seconds of CPU that a process has used (Linux)."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="support", help="a task with a policy, or up:m for a model by its own name")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        upstream, said = started(sys.executable, SERVER, line="http")
        url = said.split()[-1]
        (folder / "feedbackloop.toml").write_text(f'[providers.up]\nbase_url = "{url}"\n')
        store = fl.Store(folder / "loop.duckdb")
        variants = [fl.Variant(name=name, model=f"up:{name}", prompt="{{ input }}") for name in ("terse", "steps")]
        run = fl.Run(task="support", dataset="d", fingerprint="f", variants=[variant.id for variant in variants])
        store.append([*variants, run])
        promote(store, "support", "steps", canary=0.3)
        command = (sys.executable, "-m", "feedbackloop", "serve", "--port", "0")
        service, said = started(*command, cwd=folder, line="running on")
        ours = next(word for word in said.split() if word.startswith("http")) + "/v1"
        sent = 0
        try:
            sent += len(asyncio.run(load(ours, arguments.model, arguments.connections, 1.0)))
            for _ in range(arguments.rounds):
                straight = asyncio.run(load(url, "m", 1, arguments.seconds / 4))
                through = asyncio.run(load(ours, arguments.model, 1, arguments.seconds / 4))
                before = cpu(service)
                many = asyncio.run(load(ours, arguments.model, arguments.connections, arguments.seconds))
                used = (cpu(service) - before) / len(many) * 1000
                sent += len(through) + len(many)
                added = statistics.median(through) - statistics.median(straight)
                ordered = sorted(many)
                print(
                    f"{len(many) / arguments.seconds:6.0f} requests/s at {arguments.connections} connections "
                    f"(p50 {ordered[len(ordered) // 2] * 1000:.0f} ms, p99 {ordered[len(ordered) * 99 // 100] * 1000:.0f} ms, {used:.2f} ms CPU of the service each)   "
                    f"added median latency at one: {added * 1000:.2f} ms "
                    f"({statistics.median(straight) * 1000:.2f} straight, {statistics.median(through) * 1000:.2f} through)",
                    flush=True,
                )
        finally:
            service.send_signal(signal.SIGTERM)
            service.communicate(timeout=60)
            upstream.kill()
        stored = int(store.sql("SELECT count(*) AS n FROM responses WHERE status = 'completed'")["n"][0])
        print(f"{sent} answers given, {stored} stored")
        if sent != stored:
            raise SystemExit("not everything was stored")


if __name__ == "__main__":
    main()
