"""How long 4,830 real answers take from a recording into the store, and how long the answers alone take.

    python tests/benchmarks/store_speed.py [--rounds 3]

Needs ../shared/data; without it, made-up texts of like lengths serve. Target: under 10 s for the run.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import random
import tempfile
import time
from pathlib import Path

import feedbackloop as fl
from feedbackloop.models import AIRequest, AIResponse

SHARED = Path(__file__).parents[3] / "shared" / "data"


def real_or_made_up() -> tuple[dict[int, str], dict[tuple[str, int], str]]:
    """The prompts, and the outputs of six models to them."""
    if SHARED.is_dir():
        lines = (SHARED / "prompts.jsonl").read_text(encoding="utf-8").split("\n")
        prompts = {row["prompt_id"]: row["prompt"] for row in map(json.loads, filter(None, lines))}
        with gzip.open(SHARED / "outputs.jsonl.gz", "rt", encoding="utf-8") as file:
            return prompts, {(row["model"], row["prompt_id"]): row["output"] for row in map(json.loads, file)}
    chance = random.Random(0)
    made = {number: f"prompt {number} " * chance.randint(1, 40) for number in range(805)}
    words = " and so on" * 1000
    lengths = {(f"m{m}", n): min(int(chance.lognormvariate(6.8, 0.8)), 10_000) for m in range(6) for n in made}
    return made, {key: f"{key} {words[:length]}" for key, length in lengths.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    prompts, outputs = real_or_made_up()
    models = list(dict.fromkeys(model for model, _ in outputs))
    print(f"{len(outputs):,} answers, {sum(map(len, outputs.values())) / 1e6:.1f} million characters")
    for _ in range(parser.parse_args().rounds):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            with (folder / "o.jsonl").open("w", encoding="utf-8") as file:
                for (model, number), output in outputs.items():
                    file.write(json.dumps({"case_id": number, "group": model, "output": output}) + "\n")
            began, cpu = time.perf_counter(), time.process_time()
            result = asyncio.run(
                fl.run(
                    [{"id": number, "prompt": prompt} for number, prompt in prompts.items()],
                    [{"name": m, "model": f"recorded:o.jsonl#{m}", "prompt": "{{ prompt }}"} for m in models],
                    store=folder / "run.duckdb",
                    settings=fl.Settings(base=folder),
                )
            )
            took, cpu = time.perf_counter() - began, time.process_time() - cpu
            assert result.progress.completed == len(outputs)
            records: list[AIRequest | AIResponse] = []
            for (model, number), output in outputs.items():
                request = AIRequest(input=prompts[number], model=model)
                records += [request, AIResponse(request_id=request.id, output=output, model_used=model)]
            began = time.perf_counter()
            fl.Store(folder / "alone.duckdb").append(records)
            alone = time.perf_counter() - began
        print(
            f"the run {took:.2f} s ({cpu:.2f} s CPU; target 10)   one append of all its answers {alone:.2f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
