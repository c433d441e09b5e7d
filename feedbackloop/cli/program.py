"""The program: its commands in the order of its help, and how it ends when something goes wrong."""
# ruff: noqa: PLC0415 - see the package's docstring

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from feedbackloop.cli import (
    checking,
    costing,
    deciding,
    exporting,
    moving,
    opening,
    releasing,
    reporting,
    running,
    starting,
)
from feedbackloop.cli.wording import printable
from feedbackloop.errors import FeedbackLoopError

app = typer.Typer(
    name="feedbackloop",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    # Errors are one sentence here, and tracebacks Python's own; nothing prints the values of local variables.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for name, command in (
    ("init", starting.init),
    ("demo", starting.demo),
    ("run", running.run),
    ("resume", running.resume),
    ("status", running.status),
    ("import", moving.import_),
    ("export", exporting.export),
    ("gate", deciding.gate),
    ("app", opening.app),
):
    app.command(name)(command)
for name, further in (
    ("report", reporting.report),
    ("promote", releasing.promote),
    ("rollback", releasing.rollback),
    ("policy", releasing.policy),
    ("serve", releasing.serve),
    ("cost", costing.cost),
    ("doctor", checking.doctor),
):
    app.command(name, rich_help_panel="More")(further)


def _version(wanted: bool) -> None:
    if wanted:
        import importlib.metadata

        try:
            typer.echo(f"feedbackloop {importlib.metadata.version('feedbackloop')}")
        except importlib.metadata.PackageNotFoundError:
            typer.echo("feedbackloop (from its source, not installed)")
        raise typer.Exit


@app.callback()
def feedbackloop(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show where an error comes from (may stand after the command too).")
    ] = False,
) -> None:
    """Run prompts through language models, compare and rate the answers, and turn the votes into a proven change.

    Begin with [cyan]feedbackloop demo[/] to look around, or [cyan]feedbackloop init[/] to try your own prompts.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program and exit: 0 fine, 100 not good enough, 1 an error, 2 wrong usage, 130 after Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    try:
        app(args=[argument for argument in given if argument != "--debug"], prog_name="feedbackloop")
    except KeyboardInterrupt:
        sys.exit(130)
    except FeedbackLoopError as error:
        if debug:
            raise
        _end(str(error))
    except Exception as error:
        if debug:
            raise
        _end(f"{type(error).__name__}: {error} (this was not foreseen; with --debug it shows where it comes from)")


def _end(sentence: str) -> None:
    typer.secho("Error: ", fg=typer.colors.RED, bold=True, err=True, nl=False)
    typer.echo(printable(sentence), err=True)
    sys.exit(1)
