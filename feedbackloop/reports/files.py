"""A run as files, each of the kind that its name ends in."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from feedbackloop.errors import SettingsError
from feedbackloop.improve.export.sinks import beside, refuse_misplaced
from feedbackloop.reports.junit import write_junit
from feedbackloop.reports.markdown import write_markdown
from feedbackloop.reports.outcomes import Outcome, outcome
from feedbackloop.reports.page import write_page
from feedbackloop.reports.rows import write_csv, write_json
from feedbackloop.store import Store

FORMATS: dict[str, Callable[[Outcome, Path, float | None], None]] = {
    ".xml": write_junit,
    ".json": write_json,
    ".csv": write_csv,
    ".md": write_markdown,
    ".html": write_page,
}
"""Ending to what writes such a file."""


def report(
    store: Store, run: str | None = None, *files: str | os.PathLike[str], fail_under: float | None = None
) -> Outcome:
    """Write what came of a run, in place of what was there before; returns it.

    .xml is JUnit for a build server, .json and .csv hold every answer, .md is a summary for a pull request, .html a page that needs
    nothing else. A file is complete or not there at all.

    Args:
        store: where the run is.
        run: how its id begins; by default the newest.
        files: where to; the ending of each says how.
        fail_under: the share of each variant's answers that is to pass, 0 to 1; .json, .md and .html then say whether it did.

    Raises:
        SettingsError: an ending is none of these, or a folder is not there; nothing was written.
        StoreError: there is no such run, or a file cannot be written.
    """
    targets = refuse_unwritable(files)
    found = outcome(store, run)
    for target in targets:
        with beside(target) as temporary:
            FORMATS[target.suffix.lower()](found, temporary, fail_under)
            temporary.replace(target)
    return found


def refuse_unwritable(files: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The files as paths, before anything is paid for.

    Raises:
        SettingsError: an ending says nothing, or a folder is not there.
    """
    targets = [Path(file) for file in files]
    for target in targets:
        ending = target.suffix.lower()
        if ending not in FORMATS:
            raise SettingsError(f"{target}: cannot tell the format from this name; end it in {', '.join(FORMATS)}")
        refuse_misplaced(target)
    return targets
