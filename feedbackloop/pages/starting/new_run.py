"""A new run in three steps on one page: data, variants, estimate and start."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from feedbackloop import queries
from feedbackloop.models import Variant
from feedbackloop.pages import context, within
from feedbackloop.pages.starting import data, finish, variants


def draw() -> None:
    """Draw it."""
    st.caption("which rows, put to which variants?")
    with st.container(horizontal=True):
        if context.store().exists():
            within.link("runs", "All runs", key="all-runs-link", icon=":material/arrow_back:")
        within.link("runs", "I have answers already", key="to-answers", icon=":material/table_rows:", new="answers")
    like = _like()
    chosen = data.choose()
    if chosen is None:
        return
    # Paths in the spec start from the store's folder, where it will lie.
    settings = context.settings().model_copy(update={"base": context.store().folder})
    drawn = variants.choose(chosen, settings, like)
    finish.choose(chosen, drawn, settings)


def _like() -> Sequence[Variant]:
    """The variants of an earlier run to begin from, and its dataset where that is still there."""
    run_id = st.query_params.get("like")
    if run_id is None or not context.store().exists():
        return ()
    status = next((status for status in context.read(queries.runs) if status.run.id == run_id), None)
    if status is None or "imported" in status.run.settings:
        return ()
    source = status.run.settings.get("source")
    if st.session_state.get("new-like") != run_id:
        st.session_state["new-like"] = run_id
        if source and Path(str(source)).is_file():
            st.session_state[f"{data.FILE}-next"] = str(source)
    found: list[Variant] = context.read(queries.variants, tuple(status.run.variants))
    return found
