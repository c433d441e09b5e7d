"""The command that looks whether everything works."""
# ruff: noqa: PLC0415, D301 - see the package's docstring; \b keeps the lines of examples as they are

from __future__ import annotations

import typer

from feedbackloop.cli.options import StoreOption
from feedbackloop.wording import count


def doctor(store: StoreOption = None) -> None:
    """Check what works here, and say what to do about the rest.

    Looks at packages, settings, keys and endpoints, the store and the disk. Keys are named by their variable and never shown. Exits with 1 only if there is a problem.

    \b
    Example:
      [cyan]feedbackloop doctor[/]
    """
    import asyncio

    from feedbackloop.cli import drawing
    from feedbackloop.doctor import examine

    found = asyncio.run(examine(store))
    drawing.checks(found)
    problems = sum(check.state == "problem" for check in found)
    warnings = sum(check.state == "warning" for check in found)
    drawing.blank()
    if problems:
        drawing.say(f"{count(problems, 'problem')} to solve, {count(warnings, 'warning')}.", "bold red")
        raise typer.Exit(1)
    drawing.say(f"No problem, {count(warnings, 'warning')}." if warnings else "All is well.", "green")
