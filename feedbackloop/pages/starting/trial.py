"""Trying a new run on its first rows: the same call as `feedbackloop run --limit 3`, its answers shown side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import streamlit as st

from feedbackloop.pages import answer, context, seen
from feedbackloop.pipeline import launch
from feedbackloop.pipeline.launch import Launched
from feedbackloop.queries import overview
from feedbackloop.spec import RunSpec
from feedbackloop.wording import dollars, milliseconds

ROWS = 3
EVERY_S = 0.5

_LAUNCHED, _RUN = "new-try", "new-try-run"


def offer(spec: RunSpec | None) -> None:
    """Draw the button, what is going on, and the answers when they are there.

    Args:
        spec: what to try; none while it makes no sense yet.
    """
    launched: Launched | None = st.session_state.get(_LAUNCHED)
    busy = launched is not None and not launched.ended
    with st.container(horizontal=True, vertical_alignment="center"):
        label = f"Try on {ROWS} rows"
        if st.button(label, icon=":material/science:", disabled=spec is None or busy) and spec is not None:
            launched = st.session_state[_LAUNCHED] = launch.attempt(spec, context.store(), ROWS)
            st.session_state[_RUN] = None
            busy = True
        st.caption("Asks the models for these rows now, and keeps the answers as a small run.", width="content")
    if busy:
        _wait()
    elif launched is not None:
        _ended(launched)


@st.fragment(run_every=EVERY_S)
def _wait() -> None:
    launched: Launched | None = st.session_state.get(_LAUNCHED)
    if launched is None or launched.ended:
        st.rerun()
    st.caption(":material/hourglass_top: The models are asked.")


def _ended(launched: Launched) -> None:
    run_id = st.session_state.get(_RUN)
    if run_id is None:
        run_id = overview.run_of_process(context.store(), launched.pid, launched.began)
        st.session_state[_RUN] = run_id
    if run_id is None:
        if launched.error:
            st.error(answer.escaped(launched.error), icon=":material/error:")
        return
    frame = context.read(overview.answers_of, run_id, ROWS)
    _expose(run_id, frame["case_id"].unique())
    for number, (_, rows) in enumerate(frame.groupby("case_id", sort=False)):
        records = rows.to_dict("records")
        with st.container(border=True, key=f"tried-{number}"):
            st.caption(
                "Asked" if records[0]["external_id"] is None else answer.escaped(f"Row {records[0]['external_id']}")
            )
            for column, row in zip(st.columns(len(records)), records, strict=True):
                with column:
                    _answer(row, f"tried-{number}-{row['variant_id'][:8]}-{row['repeat']}")
    if launched.error and frame.empty:
        st.error(answer.escaped(launched.error), icon=":material/error:")


def _expose(run_id: str, case_ids: Iterable[str]) -> None:
    """Who sees these answers with their names is not blind to them any more."""
    store = context.store()
    if st.session_state.get("new-try-seen") != (store.address, run_id):
        shown = [(case_id, overview.responses_of(store, run_id, case_id)) for case_id in case_ids]
        seen.note(store, context.rater(), shown, "try")
        st.session_state["new-try-seen"] = (store.address, run_id)


def _answer(row: Mapping[Any, Any], key: str) -> None:
    told = [str(row["variant"])]
    if not pd.isna(row["latency_ms"]):
        told.append(milliseconds(float(row["latency_ms"])))
    if row["status"] == "completed":
        told.append("price unknown" if pd.isna(row["cost_usd"]) else dollars(float(row["cost_usd"])))
    st.markdown(f"**{answer.escaped(told[0])}** {answer.escaped(' · '.join(told[1:]))}")
    if row["status"] == "completed":
        with st.container(height=200, border=False, key=f"{key}-pane"):
            answer.show(str(row["output"]), key=key)
    else:
        st.error(answer.escaped(str(row["error"])), icon=":material/error:")
