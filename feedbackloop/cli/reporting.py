"""What a build asks of a run: files to read, and an exit code that says whether it was good enough."""
# ruff: noqa: PLC0415, D301 - see the package's docstring; \b keeps the lines of examples as they are

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from feedbackloop.cli.options import StoreOption, open_store

if TYPE_CHECKING:
    from feedbackloop.store import Store

NOT_GOOD_ENOUGH = 100
"""The exit code where answers do not pass as they should, or a gate does not let a candidate through; a build can tell it from an error."""

OutputOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write a report; may be given several times. By the ending: .xml (JUnit), .json, .csv, .md, .html.",
        show_default="none",
    ),
]
FailUnderOption = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        max=1.0,
        metavar="SHARE",
        help="Exit with 100 unless this share of each variant's answers passes its checks; 0.9 is 90%.",
        show_default="only if a required check fails",
    ),
]


@dataclass(frozen=True)
class Reporting:
    """What is wanted of a run besides its answers."""

    files: Sequence[Path] = ()
    fail_under: float | None = None

    def refuse(self, graders: Sequence[Any]) -> None:
        """Look whether all of it can be done, before anything is paid for.

        Raises:
            SettingsError: a file cannot be written so, or nothing is checked that could pass.
        """
        from feedbackloop.errors import SettingsError
        from feedbackloop.reports import refuse_unwritable

        refuse_unwritable(self.files)
        if self.fail_under is not None and not graders:
            raise SettingsError("--fail-under needs checks to go by, and the spec has none; name some under `graders`")

    def settle(self, store: Store, run_id: str) -> int:
        """Write the files and say why the run is not good enough, if it is not; returns the exit code."""
        from feedbackloop import queries
        from feedbackloop.reports import report

        graders = queries.find_run(store, run_id).run.settings.get("graders") or []
        asked = self.files or self.fail_under is not None
        if not asked and not any(isinstance(grader, dict) and grader.get("required") for grader in graders):
            return 0
        outcome = report(store, run_id, *self.files, fail_under=self.fail_under)
        shortfalls = outcome.shortfalls(self.fail_under)
        _tell(self.files, shortfalls)
        return NOT_GOOD_ENOUGH if shortfalls else 0


def report(
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="How the run's id begins.", show_default="the newest run")
    ] = None,
    output: OutputOption = None,
    fail_under: FailUnderOption = None,
    store: StoreOption = None,
) -> None:
    """Report which answers of a run pass, for a build or a reader.

    Without --output, the summary for a pull request is printed (Markdown). Exits with 100 if the run is not good enough, with 1 on an error.

    \b
    Examples:
      [cyan]feedbackloop report >> "$GITHUB_STEP_SUMMARY"[/]
      [cyan]feedbackloop report 3f2a --output results.html --output results.xml --fail-under 0.9[/]
    """
    from feedbackloop.reports import markdown
    from feedbackloop.reports import report as write

    opened, _ = open_store(store)
    outcome = write(opened, run, *(output or ()), fail_under=fail_under)
    shortfalls = outcome.shortfalls(fail_under)
    if output:
        _tell(output, shortfalls)
    else:
        typer.echo(markdown(outcome, fail_under), nl=False)
    if shortfalls:
        raise typer.Exit(NOT_GOOD_ENOUGH)


def _tell(files: Sequence[Path], shortfalls: Sequence[str]) -> None:
    from feedbackloop.cli import drawing

    for file in files:
        drawing.say(f"Wrote {file}.")
    for reason in shortfalls:
        drawing.say(f"Not good enough: {reason}.", "red")
