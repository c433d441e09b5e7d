"""The command that decides whether a candidate may take the baseline's place."""
# ruff: noqa: PLC0415, D301 - see the package's docstring; \b keeps the lines of examples as they are

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from feedbackloop.cli.options import StoreOption, open_store, same_store
from feedbackloop.cli.reporting import NOT_GOOD_ENOUGH

if TYPE_CHECKING:
    from feedbackloop.models import Decision

PICTURE = ".svg"
"""What the name of a receipt's picture ends in."""


class Goal(StrEnum):
    """What is to be shown of the candidate."""

    better = "better"
    no_worse = "no_worse"


class Voters(StrEnum):
    """Whose blind votes count."""

    human = "human"
    user = "user"
    judge = "judge"


def gate(
    candidate: Annotated[
        str, typer.Argument(metavar="CANDIDATE", help="The variant that is to be released: its name, or name@version.")
    ],
    *,
    baseline: Annotated[
        str | None, typer.Option(help="What it would replace.", show_default="the task's baseline")
    ] = None,
    task: Annotated[str | None, typer.Option(help="The task.", show_default="that of the newest run")] = None,
    goal: Annotated[
        Goal, typer.Option(help="better: preferred. no_worse: loses at most the margin, and is cheaper or faster.")
    ] = Goal.better,
    margin: Annotated[
        float, typer.Option(metavar="SHARE", help="What no_worse may lose, of a win rate; 0.05 is 5 points.")
    ] = 0.05,
    votes: Annotated[Voters, typer.Option(help="Whose blind votes count.")] = Voters.human,
    max_cost: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Guard: how much dearer an answer may be; 0.2 is 20%.")
    ] = None,
    max_p95: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Guard: how much slower the slowest 5% may be.")
    ] = None,
    max_failures: Annotated[
        float, typer.Option(metavar="SHARE", help="Guard: how many more requests may fail.")
    ] = 0.02,
    receipt: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.md",
            help="Write a receipt for a pull request (Markdown), and beside it its picture (SVG). - prints the Markdown and nothing else.",
        ),
    ] = None,
    record: Annotated[bool, typer.Option("--record/--no-record", help="Store the decision.")] = True,
    store: StoreOption = None,
) -> None:
    """Decide by blind votes whether to release a candidate.

    It may be asked after every vote: the interval stays right however often it is looked at. Exits with 0 if the candidate is to be released, with 100 if not or not yet, with 1 on an error.

    \b
    Examples:
      [cyan]feedbackloop gate steps --task support[/]
      [cyan]feedbackloop gate cheap --goal no_worse --max-p95 0.1[/]
      [cyan]feedbackloop gate steps --receipt receipt.md[/]
    """
    from feedbackloop import queries
    from feedbackloop.cli import drawing
    from feedbackloop.errors import StoreError
    from feedbackloop.improve import receipt as words
    from feedbackloop.improve.gate import assess
    from feedbackloop.improve.rules import Rule

    file = None if receipt in (None, "-") else _writable(receipt)
    opened, _ = open_store(store)
    names = queries.tasks(opened) if opened.exists() else []
    if not names:
        raise StoreError(
            f"{opened.url}: there is nothing to decide in this store yet; `feedbackloop run SPEC.yaml` makes answers"
        )
    rule = Rule(
        goal=goal.value,
        margin=margin,
        rater_kind=votes.value,
        max_cost_increase=max_cost,
        max_p95_increase=max_p95,
        max_failure_increase=max_failures,
    )
    decision = assess(opened, task or names[0], candidate, baseline, rule=rule).decision
    if record:
        opened.append([decision])
    if receipt == "-":
        typer.echo(words.receipt(decision, store=store), nl=False)
    else:
        drawing.say(words.sentence(decision), "bold green" if decision.verdict == "promote" else "bold")
        drawing.say(words.evidence(decision))
        drawing.guards(decision)
        drawing.blank()
        if decision.verdict == "promote":
            chosen = f"{shlex.quote(decision.task)} {shlex.quote(words.named(decision, decision.candidate))}"
            proof = f" --decision {decision.id}" if record else ""
            drawing.steps(
                (
                    f"feedbackloop promote {chosen}{proof}{same_store(store)}",
                    "for all requests; with --canary 0.1 for a tenth",
                )
            )
        elif decision.verdict == "undecided":
            drawing.steps((f"feedbackloop app{same_store(store)}", "rate more pairs (the page Rate)"))
    if file is not None:
        _write(decision, file, store)
    if decision.verdict != "promote":
        raise typer.Exit(NOT_GOOD_ENOUGH)


def _writable(name: str) -> Path:
    """The receipt's file, before anything is decided."""
    from feedbackloop.errors import SettingsError

    file = Path(name)
    if file.suffix.lower() == PICTURE:
        raise SettingsError(f"{name}: name the Markdown, such as receipt.md; its picture is written beside it")
    if file.is_dir() or not file.absolute().parent.is_dir():
        raise SettingsError(f"{name}: cannot be written: it is a folder, or stands in one that is not there")
    return file


def _write(decision: Decision, file: Path, store: str | None) -> None:
    from feedbackloop.cli import drawing
    from feedbackloop.errors import StoreError
    from feedbackloop.improve.picture import picture
    from feedbackloop.improve.receipt import receipt

    beside = file.with_suffix(PICTURE)
    try:
        beside.write_text(picture(decision), encoding="utf-8", newline="\n")
        text = receipt(decision, store=store, picture=beside.name)
        file.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise StoreError(f"{file}: could not be written: {error.strerror or error}") from error
    drawing.say(f"Receipt: {file}, with its picture {beside}")
