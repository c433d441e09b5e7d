"""Step 1 of a new run: which rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from feedbackloop import queries
from feedbackloop.datasets import Checked
from feedbackloop.errors import FeedbackLoopError
from feedbackloop.importers import guess_id_column
from feedbackloop.models import Case
from feedbackloop.pages import answer, context, within
from feedbackloop.pages.starting import files
from feedbackloop.pages.starting.files import Peek
from feedbackloop.pages.wording import shortened
from feedbackloop.queries import RunStatus
from feedbackloop.wording import count, file_name

FILE = "new-file"
"""Where the session keeps the path of the chosen file."""

_NO_ID = "none"
_SHOWN = 5
_CELL = 300
"""Characters of a cell that are shown in the table of first rows."""


@dataclass(frozen=True)
class Chosen:
    """The rows that a run is to be about."""

    file: Path
    id_column: str | None
    columns: tuple[str, ...]
    """Template variables."""
    cases: int
    sample: tuple[Case, ...]
    """The first 1,000."""
    conversations: int
    """How many of all cases have messages of their own."""


def choose() -> Chosen | None:
    """Draw step 1; none until there is a file that can be read to its end."""
    st.subheader("1 Data", anchor=False)
    left, right = st.columns(2, gap="medium")
    with left:
        drop(FILE)
    with right:
        pick(FILE)
        if st.button("Use the example: five questions", icon=":material/lightbulb:", type="tertiary"):
            st.session_state[f"{FILE}-next"] = str(files.example(context.store()))
            st.rerun()
    path = st.session_state.get(FILE)
    if not path:
        return None
    try:
        return _look(Path(path))
    except FeedbackLoopError as error:
        st.error(answer.escaped(str(error)), icon=":material/error:")
        return None


def drop(key: str) -> None:
    """A place to drop a file; what was dropped is kept and becomes the chosen one.

    Args:
        key: where the session keeps the chosen path.
    """
    given = st.file_uploader(
        "Drop a file",
        type=list(files.ENDINGS),
        key=f"{key}-upload",
        help="CSV, JSON Lines, JSON, YAML or Parquet. It is kept beside the store, in the folder uploads.",
    )
    if given is None or st.session_state.get(f"{key}-seen") == given.file_id:
        return
    try:
        st.session_state[f"{key}-next"] = str(files.save(given.name, given.getvalue(), context.store()))
        st.session_state[f"{key}-seen"] = given.file_id
    except FeedbackLoopError as error:
        st.error(answer.escaped(str(error)), icon=":material/error:")


def pick(key: str) -> None:
    """A list of the files that are here already."""
    known = [str(file) for file in files.at_hand(context.store(), Path.cwd(), sources())]
    if (coming := st.session_state.pop(f"{key}-next", None)) is not None:
        st.session_state[key] = coming
    chosen = st.session_state.get(key)
    if chosen is not None and chosen not in known:
        known = [chosen, *known] if Path(chosen).is_file() else known
    st.selectbox(
        "or choose one that is here",
        known,
        index=None,
        key=key,
        format_func=_shown,
        placeholder="No file yet" if not known else "Choose a file",
        disabled=not known,
        persist_state="session",
    )


def sources() -> dict[Path, RunStatus]:
    """What earlier runs were about, each with the newest such run."""
    found: list[RunStatus] = context.read(queries.runs)
    return {Path(str(source)): status for status in reversed(found) if (source := status.run.settings.get("source"))}


def _shown(path: str) -> str:
    """A file as it is listed: from here, an upload without the digits in front."""
    file = Path(path)
    if file.parent.name == files.FOLDER:
        return f"{file_name(file.name)} (uploaded)"
    near = os.path.relpath(file)
    return near if not near.startswith("..") else str(file)


def task(proposed: str, *, key: str, width: int) -> str:
    """A box for the feature that a file is about: what the address names, else what is proposed."""
    tasks = context.read(queries.tasks) if context.store().exists() else []
    first = st.query_params.get("task") or proposed
    chosen = st.selectbox(
        "Task",
        list(dict.fromkeys([first, *tasks])),
        accept_new_options=True,
        key=key,
        width=width,
        help="The feature that is judged; answers and votes of one task belong together",
    )
    return str(chosen or first)


def stamp(file: Path) -> tuple[int, int]:
    """Changes with the file's content: what reading it is remembered by."""
    found = file.stat()
    return found.st_mtime_ns, found.st_size


def first_rows(rows: Sequence[dict[str, Any]]) -> None:
    """A table of the first rows as they stand in the file."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    st.dataframe(
        pd.DataFrame([{name: _cell(row.get(name)) for name in names} for row in rows[:_SHOWN]], columns=names),
        hide_index=True,
        width="stretch",
    )


def _cell(value: Any) -> str:
    text = "" if value is None else value if isinstance(value, str) else str(value)
    text = answer.visible(text)
    return text if len(text) <= _CELL else f"{text[:_CELL]}…"


def _look(file: Path) -> Chosen:
    begin = peeked(str(file), stamp(file))
    guessed = guess_id_column(begin.columns)
    options = [_NO_ID, *begin.columns]
    answers = _hint_answers(file, begin)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        id_column = st.selectbox(
            "Column with each row's own id",
            options,
            index=options.index(guessed) if guessed else 0,
            key=f"new-id-{file.name}",
            width=260,
            help="To find a row again in your file. Without one, a row is known by its content alone.",
        )
        chosen = None if id_column in (_NO_ID, None) else str(id_column)
        with st.spinner("Reading the whole file"):
            checked = _checked(str(file), stamp(file), chosen)
        sample = _first_cases(str(file), stamp(file), chosen)
        st.markdown(answer.escaped(_told(checked, sample)))
    # Whoever will rate these answers blind must not have read them beside their columns' names.
    first_rows([{name: value for name, value in row.items() if name not in answers} for row in begin.rows])
    variables = tuple(dict.fromkeys(name for case in sample for name in case.inputs))
    return Chosen(file, chosen, variables, checked.cases, sample, checked.conversations)


def _told(checked: Checked, sample: Sequence[Case]) -> str:
    told = [count(checked.cases, "row")]
    if checked.repeats_told:
        told.append(checked.repeats_told)
    if checked.segments:
        told.append(f"{count(len(checked.segments), 'segment')} ({shortened(list(checked.segments))})")
    if any(case.expected is not None for case in sample):
        told.append("with expected answers")
    if checked.conversations:
        told.append("with conversations")
    return " · ".join(told)


def _hint_answers(file: Path, begin: Peek) -> list[str]:
    """A file that holds answers already is better rated than run; which columns they seem to be in."""
    words = ("answer", "output", "response", "completion", "model_", "model ", "variant")
    found = [name for name in begin.columns if any(word in name.lower() for word in words)]
    if len(found) < 2 or file.parent.name != files.FOLDER:
        return []
    with st.container(border=True, horizontal=True, vertical_alignment="center", key="hint"):
        st.markdown(f"This file seems to hold answers already: {answer.escaped(shortened(found))}.", width="content")
        within.link("runs", "Rate them", key="rate-them", icon=":material/how_to_vote:", new="answers", file=file.name)
    return found


@st.cache_data(max_entries=16, show_spinner=False)
def peeked(path: str, stamp: tuple[int, int]) -> Peek:
    """The beginning of a file, remembered until it changes."""
    del stamp
    return files.peek(Path(path))


@st.cache_resource(max_entries=16, show_spinner=False)
def _first_cases(path: str, stamp: tuple[int, int], id_column: str | None) -> tuple[Case, ...]:
    """A resource, since copying a thousand cases at every turn takes longer than all that is done with them."""
    del stamp
    return files.first_cases(Path(path), id_column)


@st.cache_data(max_entries=16, show_spinner=False)
def _checked(path: str, stamp: tuple[int, int], id_column: str | None) -> Checked:
    del stamp
    return files.check(Path(path), id_column)
