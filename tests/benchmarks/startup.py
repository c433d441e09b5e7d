"""How long `feedbackloop --help` takes against a bare Typer program with as many commands, in turns. Target: at most 0.15 s more.

python tests/benchmarks/startup.py [--rounds 15]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from feedbackloop.cli.program import app

BARE = """
import typer
app = typer.Typer()
{commands}
app()
"""


def seconds(*command: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    count = len(app.registered_commands)
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "bare.py"
        commands = "".join(f'@app.command()\ndef c{i}(x: str = ""):\n    """Command."""\n' for i in range(count))
        bare.write_text(BARE.format(commands=commands))
        figures: dict[str, list[float]] = {"bare": [], "ours": []}
        for _ in range(rounds + 1):
            figures["bare"].append(seconds(str(bare), "--help"))
            figures["ours"].append(seconds("-m", "feedbackloop", "--help"))
    medians = {name: statistics.median(values[1:]) for name, values in figures.items()}
    print(
        f"{count} commands: bare {medians['bare']:.3f} s, ours {medians['ours']:.3f} s, "
        f"{medians['ours'] - medians['bare']:+.3f} s (target at most +0.150)"
    )


if __name__ == "__main__":
    main()
