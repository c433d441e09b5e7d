"""The command line: `feedbackloop COMMAND`. It parses, calls and shows; what is done is done elsewhere.

`feedbackloop --help` answers at once, so only Typer is imported here and in `program`, `options`, `wording` and the modules of
commands; a command imports what it needs when it is called. This is the one place where functions hold imports.
"""

from feedbackloop.cli.program import app, main

__all__ = ["app", "main"]
