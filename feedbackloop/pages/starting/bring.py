"""Answers made elsewhere: drop a file, say which columns are what, and rate blind. No model and no key is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from feedbackloop import queries
from feedbackloop.comparisons import open_queue
from feedbackloop.comparisons.queues import Purpose
from feedbackloop.errors import FeedbackLoopError
from feedbackloop.importers import AnswerMapping, Imported, import_answers, import_file, recognise
from feedbackloop.importers.formats import FORMATS
from feedbackloop.pages import address, answer, context, seen, within
from feedbackloop.pages.starting import data, files, roles
from feedbackloop.pages.starting.files import Peek
from feedbackloop.pages.starting.roles import Role
from feedbackloop.pages.wording import shortened
from feedbackloop.queries import overview
from feedbackloop.wording import count

FILE = "bring-file"
"""Where the session keeps the path of the chosen file."""
IMPORTED = "bring-imported"
_SEEN = "bring-seen"
SHAPES = ("A column for each variant", "A row for each answer")

_EXAMPLE = 60
_IN_A_ROW = 3


def draw() -> None:
    """Draw it."""
    st.caption("which columns hold the answers?")
    with st.container(horizontal=True):
        if context.store().exists():
            within.link("runs", "All runs", key="all-runs-link", icon=":material/arrow_back:")
        within.link("runs", "New run instead", key="to-run", icon=":material/add:", new="run")
    _take_linked()
    left, right = st.columns(2, gap="medium")
    with left:
        data.drop(FILE)
    with right:
        data.pick(FILE)
        st.caption(
            "A table with a question and a column of answers for each variant is enough, such as: prompt, model_a, model_b. "
            "Results of promptfoo, OpenAI batches, chat logs, AlpacaEval and arena battles are known as they are."
        )
    path = st.session_state.get(FILE)
    if not path:
        return
    file = Path(path)
    try:
        name = _format(path, data.stamp(file))
        if name == "answers":
            _map(file, data.peeked(path, data.stamp(file)))
        else:
            _take(file, name)
    except FeedbackLoopError as error:
        st.error(answer.escaped(str(error)), icon=":material/error:")


@st.cache_data(max_entries=20, show_spinner=False)
def _format(path: str, stamp: tuple[int, int]) -> str:  # noqa: ARG001 - the stamp is what it is remembered by
    return recognise(Path(path))


def _take(file: Path, name: str) -> None:
    """A file of another tool, which says itself what is what in it."""
    if name == "promptfoo-config":
        st.info(
            "This is a config of promptfoo: it asks, and holds no answers. The command line turns it into a run spec: "
            "feedbackloop import promptfooconfig.yaml",
            icon=":material/info:",
        )
        return
    st.markdown(f"This file holds {'votes' if name == 'votes' else FORMATS.get(name).what}.")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        task = _task(file)
        found = _imported(f"{file} {task} {name}", lambda: import_file(file, context.store(), task=task, format=name))
    if found is not None:
        _after(found, task, None)


def _task(file: Path) -> str:
    return data.task(files.own_name(file), key=f"bring-task-{file.name}", width=280)


def _imported(what: str, read: Callable[[], Imported]) -> Imported | None:
    """A button that imports, and what came of it.

    Args:
        what: the import is made of, so that a change of it is a new one.
    """
    mark = f"{context.store().url} {what}"
    kept, imported = st.session_state.get(IMPORTED, (None, None))
    found: Imported | None = imported if kept == mark else None
    if st.button("Import", type="secondary" if found else "primary", icon=":material/download_done:", key="import"):
        with st.spinner("Reading and storing what is in it"):
            st.session_state[IMPORTED] = (mark, read())
        st.rerun()
    return found


def _take_linked() -> None:
    """A file that was dropped on the other page."""
    name = st.query_params.get("file")
    if name and st.session_state.get("bring-linked") != name:
        st.session_state["bring-linked"] = name
        if (file := files.uploaded(name, context.store())) is not None:
            st.session_state[f"{FILE}-next"] = str(file)


def _map(file: Path, begin: Peek) -> None:
    """Which column is what, a preview, and the import."""
    guessed = roles.guess(begin.columns, begin.rows)
    shape = st.segmented_control(
        "The file has",
        SHAPES,
        default=SHAPES[guessed.long],
        required=True,
        key=f"bring-shape-{file.name}",
    )
    long = shape == SHAPES[1]
    guessed = roles.guess(begin.columns, begin.rows, long=long)
    chosen = _roles(file, begin, guessed.roles, long=long)
    mapping = roles.mapping_of(chosen, long=long)
    _preview(begin, chosen, mapping)
    _import(file, chosen, mapping)


def _roles(file: Path, begin: Peek, guessed: Mapping[str, Role], *, long: bool) -> dict[str, Role]:
    """A box for each column, with what stands in its first row."""
    options = roles.LONG if long else roles.WIDE
    chosen = {}
    names = list(begin.columns)
    with st.container(key="roles"):
        for at in range(0, len(names), _IN_A_ROW):
            for column, name in zip(st.columns(_IN_A_ROW), names[at : at + _IN_A_ROW], strict=False):
                with column:
                    number = names.index(name)
                    first = guessed[name] if guessed[name] in options else Role.QUESTION
                    picked = st.selectbox(
                        answer.escaped(name),
                        options,
                        index=options.index(first),
                        format_func=lambda role: str(role).capitalize(),
                        key=f"bring-{file.name}-{long}-{number}",
                    )
                    chosen[name] = Role(picked or first)
                    st.caption(answer.escaped(_short(begin.rows[0].get(name))))
    return chosen


def _short(value: Any) -> str:
    text = " ".join(("" if value is None else str(value)).split())
    return text if len(text) <= _EXAMPLE else f"{text[:_EXAMPLE]}…"


def _preview(begin: Peek, chosen: Mapping[str, Role], mapping: AnswerMapping) -> None:
    """The first row as a case and its answers; no more of them, since whoever sees this is no longer blind to them."""
    row = begin.rows[0]
    case = {name: row.get(name) for name, role in chosen.items() if role is Role.QUESTION}
    asked = [str(value) for value in case.values()] if len(case) == 1 else [f"{n}: {v}" for n, v in case.items()]
    answers = {name: answer.visible(str(row.get(name) or "")) for name in mapping.columns}
    shown = {"question": answer.visible("\n".join(asked))} | answers
    st.dataframe(pd.DataFrame([shown]), hide_index=True, width="stretch", row_height=80)


def _import(file: Path, chosen: Mapping[str, Role], mapping: AnswerMapping) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        task = _task(file)
        imported = _imported(f"{file} {task} {sorted(chosen.items())}", lambda: _read(file, chosen, mapping, task))
    if imported is not None:
        source = roles.arranged(file, chosen, context.store())
        _after(imported, task, roles.first_case(source, chosen, mapping))


def _read(file: Path, chosen: Mapping[str, Role], mapping: AnswerMapping, task: str) -> Imported:
    store = context.store()
    source = roles.arranged(file, chosen, store)
    asked = [name for name, role in chosen.items() if role is Role.QUESTION]
    known = roles.id_column(chosen, same=source == file)
    return import_answers(source, store, task=task, mapping=mapping, id_column=known, keep=asked)


def _after(imported: Imported, task: str, shown: str | None) -> None:
    """What came in, and the way to rating.

    Args:
        shown: id of the case whose answers stood above with their names, if any did.
    """
    held = f"{count(imported.answers, 'answer')} of {shortened(imported.variants)} to {count(imported.cases, 'case')}"
    if not imported.answers:
        held = count(imported.votes, "vote") if imported.votes else f"{count(imported.cases, 'case')} without answers"
    elif imported.votes:
        held += f", {count(imported.votes, 'vote')}"
    told = f"Imported: {held}." if imported.new else f"All of it was here already: {held}."
    st.success(answer.escaped(told), icon=":material/check_circle:")
    for note in imported.notes:
        st.caption(answer.escaped(note))
    if imported.repeated:
        repeated = count(imported.repeated, "answer")
        st.caption(f"{repeated} stood there more than once, to the letter, and counted once.")
    if imported.left_out:
        with st.expander(f"Not carried over: {count(len(imported.left_out), 'thing')}", icon=":material/info:"):
            for what in imported.left_out:
                st.caption(answer.escaped(what))
    if not imported.run_id:
        return
    _expose(imported.run_id, shown)
    known = context.rater()
    with st.form("rate", border=False):
        with st.container(horizontal=True, vertical_alignment="bottom"):
            name = known or st.text_input("Your name", max_chars=60, width=260, help="It is stored with your votes")
            label = "Rate blind" if len(imported.variants) > 1 else "Rate the answers"
            pressed = st.form_submit_button(label, type="primary", icon=":material/how_to_vote:", key="rate-blind")
        if pressed and not name.strip():
            st.warning("Type your name first.", icon=":material/info:")
        elif pressed:
            _rate(imported, task, " ".join(name.split()))
    within.link("compare", "Compare openly instead", key="compare-openly", run=imported.run_id, task=task)


def _expose(run_id: str, case_id: str | None) -> None:
    """Whoever saw the first row with its names is not blind to it."""
    store = context.store()
    if case_id is not None and st.session_state.get(_SEEN) != (store.address, run_id, case_id):
        seen.note(store, context.rater(), [(case_id, overview.responses_of(store, run_id, case_id))], "import")
        st.session_state[_SEEN] = (store.address, run_id, case_id)


def _rate(imported: Imported, task: str, rater: str) -> None:
    """Open a queue over what came in, and go there."""
    store = context.store()
    run = queries.find_run(store, imported.run_id).run
    purposes: dict[int, Purpose] = {1: "single", 2: "decision"}
    purpose = purposes.get(len(run.variants), "leaderboard")
    queue = open_queue(store, task, run.variants, purpose=purpose, runs=[run.id])
    address.keep("rater", rater)
    context.go("rate", queue=queue.id, task=task)
