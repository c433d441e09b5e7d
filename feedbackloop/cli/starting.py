"""Commands that one begins with."""
# ruff: noqa: PLC0415, D301 - see the package's docstring; \b keeps the lines of examples as they are

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from feedbackloop.cli.opening import open_app
from feedbackloop.cli.options import same_store
from feedbackloop.wording import count

if TYPE_CHECKING:
    from feedbackloop.demo import DemoResult
    from feedbackloop.store import Store


def init(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where to; it is made if needed.", show_default="here")
    ] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there already.")] = False,
) -> None:
    """Write an example spec to start from.

    Writes spec.yaml, cases.jsonl and feedbackloop.toml. The example runs at once and without a key, on a simulated model; its comments say what to change.

    \b
    Example:
      [cyan]feedbackloop init my-feature[/]
    """
    import shutil

    from feedbackloop.bundled import bundled
    from feedbackloop.cli import drawing
    from feedbackloop.errors import SettingsError

    sources = sorted((bundled("data") / "starter").iterdir())
    there = [source.name for source in sources if (directory / source.name).exists()]
    if there and not force:
        raise SettingsError(
            f"{directory / there[0]} is there already; name another folder (feedbackloop init DIR), "
            "or overwrite it with --force"
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for source in sources:
            shutil.copyfile(source, directory / source.name)
    except OSError as error:
        raise SettingsError(f"{directory}: cannot write here ({error.strerror})") from error
    drawing.say(f"Wrote {', '.join(source.name for source in sources)} to {directory.absolute()}.")
    drawing.blank()
    move = "" if directory == Path() else f"cd {directory} && "
    drawing.steps(
        (f"{move}feedbackloop run spec.yaml", "runs it on a simulated model, no key needed"),
        ("feedbackloop doctor", "says what a real model needs here; then name it in spec.yaml"),
    )


def demo(
    store: Annotated[str, typer.Option("--store", metavar="PATH", help="Where the demo is kept.")] = "demo.duckdb",
    no_app: Annotated[bool, typer.Option("--no-app", help="Stop after the summary.")] = False,
) -> None:
    """Look around in six weeks of made-up data; needs no key.

    Three runs of three variants on 48 cases, with the votes of two raters. It all goes into a store of its own, so that yours stays as it is; delete the file to be rid of it.

    \b
    Example:
      [cyan]feedbackloop demo --no-app[/]
    """
    import asyncio

    from feedbackloop.demo import make_demo
    from feedbackloop.store import Store

    opened = Store(store)
    made = asyncio.run(make_demo(opened))
    _tell(made, opened)
    if not no_app:
        open_app(opened)


def _tell(made: DemoResult, store: Store) -> None:
    from feedbackloop import queries
    from feedbackloop.cli import drawing
    from feedbackloop.demo import TASK, TITLES
    from feedbackloop.identity import utcnow

    listed = {status.run.id: status for status in queries.runs(store, TASK)}
    counts = queries.counts(store)
    if made.made:
        drawing.say(f"The demo is in {store.url}: {drawing.counted(counts)}.")
    else:
        drawing.say(f"The demo was in {store.url} already; nothing was added.")
    drawing.say(
        "Everything in it is made up for the demonstration: the company, the answers, their times and costs, the raters and "
        "their votes. It says nothing about any real model.",
        "yellow",
    )
    summary = None
    for number, (run_id, title) in enumerate(zip(made.runs, TITLES, strict=True), start=1):
        begun = round((utcnow() - listed[run_id].run.created_at).total_seconds() / 86_400)
        drawing.blank()
        drawing.say(f"Run {number} ({run_id[:8]}), {count(begun, 'day')} ago: {title}", "bold")
        summary = queries.summary(store, run_id)
        drawing.results(summary)
    if summary is not None:
        drawing.blank()
        drawing.legend(summary)
    same = same_store(store.address) if store.is_shared else same_store(store.url)
    drawing.blank()
    drawing.steps(
        (f"feedbackloop app{same}", "compare, rate and decide in the browser"),
        (f"feedbackloop gate steps{same}", "whether the new prompt may be released"),
        (f"feedbackloop status {made.runs[2][:8]}{same}", "the last run in full"),
        (f"feedbackloop export answers.csv{same}", "every answer, for a spreadsheet"),
        ("feedbackloop init", "the same with your own prompts"),
    )
