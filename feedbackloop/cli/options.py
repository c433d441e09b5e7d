"""Options that several commands share, and what they stand for."""
# ruff: noqa: PLC0415 - see the package's docstring

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from feedbackloop.settings import Settings
    from feedbackloop.store import Store

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="PATH",
        help="Where everything is kept: a file, or postgres:...",
        show_default="FEEDBACKLOOP_STORE, else loop.duckdb",
    ),
]


def open_store(url: str | None) -> tuple[Store, Settings]:
    """The store that a command works on, and the settings it found on the way."""
    from feedbackloop.settings import Settings
    from feedbackloop.store import Store

    settings = Settings.load(store=url)
    return Store(settings.store), settings


def same_store(url: str | None) -> str:
    """What to add to a suggested command so that it works on the same store; a password in it is hidden."""
    import shlex

    from feedbackloop.store import Store

    return f" --store {shlex.quote(Store(url).url)}" if url else ""
