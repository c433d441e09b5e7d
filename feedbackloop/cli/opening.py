"""The command that opens the app."""
# ruff: noqa: PLC0415, D301 - see the package's docstring; \b keeps the lines of examples as they are

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from feedbackloop.cli.options import StoreOption, open_store

if TYPE_CHECKING:
    from feedbackloop.store import Store


def app(
    store: StoreOption = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65_535, metavar="N", help="Where it listens.", show_default="8501, or the next free one"
        ),
    ] = None,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Only serve it, and print its address: for a machine without a screen.")
    ] = False,
) -> None:
    """Compare and rate the answers in the browser.

    Ctrl-C ends it; runs that were started in it go on.

    \b
    Examples:
      [cyan]feedbackloop app[/]
      [cyan]feedbackloop app --store team.duckdb --port 8600 --no-browser[/]
    """
    opened, _ = open_store(store)
    open_app(opened, port=port, no_browser=no_browser)


def open_app(store: Store, *, port: int | None = None, no_browser: bool = False) -> None:
    """Serve the app on a store until it is ended, and exit.

    Its look comes from `.streamlit/config.toml` beside its script, wherever it is started from.

    Raises:
        FeedbackLoopError: this installation lacks the app's script.
    """
    import subprocess

    from feedbackloop.bundled import bundled

    # Without this, Streamlit asks a newcomer for an e-mail address before it starts.
    options = ["--server.showEmailPrompt=false"]
    if port is not None:
        options.append(f"--server.port={port}")
    if no_browser:
        options.append("--server.headless=true")
    ended = subprocess.run(  # noqa: S603 - our own interpreter and script
        [sys.executable, "-m", "streamlit", "run", str(bundled("app.py")), *options],
        env={**os.environ, "FEEDBACKLOOP_STORE": store.address},
        check=False,
    )
    raise typer.Exit(1 if ended.returncode else 0)
