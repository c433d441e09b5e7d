"""Runs that go on at this moment: how far each is, and a button that stops it. Asks the store only while something runs."""

from __future__ import annotations

import streamlit as st

from feedbackloop import queries
from feedbackloop.identity import utcnow
from feedbackloop.pages import answer, context
from feedbackloop.pipeline import launch
from feedbackloop.queries import RunState, RunStatus, overview
from feedbackloop.queries.overview import LiveRun
from feedbackloop.queries.states import HEARTBEAT_LATE
from feedbackloop.wording import batches, count, duration, file_name, spend

EVERY_S = 1.5
"""Between two looks at a run that goes on."""

BADGES: dict[RunState, tuple[str, str]] = {
    "running": ("blue", ":material/play_circle:"),
    "finished": ("green", ":material/check_circle:"),
    "stopped": ("orange", ":material/pause_circle:"),
    "interrupted": ("orange", ":material/error:"),
}


def statuses() -> list[RunStatus]:
    """All runs as they stand now, newest first. That a run was interrupted changes nothing in the store, so it is not remembered."""
    found: list[RunStatus] = context.read(queries.runs)
    if any(status.state == "running" for status in found):
        return queries.runs(context.store())
    return found


def badge(state: RunState) -> None:
    """A run's state."""
    colour, icon = BADGES[state]
    st.badge(state, icon=icon, color=colour)  # type: ignore[arg-type]  # its own closed set of names


def title(status: RunStatus) -> str:
    """What a run is called where there is one line for it, fit for Markdown."""
    return answer.escaped(f"{status.run.task} on {file_name(status.run.dataset)}")


@st.fragment(run_every=EVERY_S)
def watch(run_id: str, name: str) -> None:
    """Draw a run that goes on, again and again until it ends; then the whole page is drawn anew.

    Args:
        name: what to call it, fit for Markdown; empty where the page says it already.
    """
    now = utcnow()
    found = overview.live_run(context.store(), run_id)
    if found is None:
        st.caption("Beginning")
        return
    if found.ended or now - found.last_event >= HEARTBEAT_LATE:
        st.rerun()
    with st.container(border=True, key=f"live-{run_id[:8]}"):
        if name:
            st.markdown(f"**{name}**")
        share = found.done / found.total if found.total else 0.0
        st.progress(min(share, 1.0), text=answer.escaped(_told(found)))
        if found.stopping and found.batches:
            st.caption("Stopping: what was submitted goes on by itself, and Resume fetches it.")
        elif found.stopping:
            st.caption("Stopping: nothing more is sent, and calls in flight are waited for.")
        else:
            icon = ":material/stop_circle:"
            st.button("Stop", key=f"stop-{run_id[:8]}", icon=icon, on_click=launch.stop, args=(context.store(), run_id))


def _told(run: LiveRun) -> str:
    now = utcnow()
    if not run.total:
        return "Beginning"
    told = [f"{run.done:,} of {count(run.total, 'answer')}"]
    if run.failed:
        told.append(f"{run.failed:,} failed")
    rate = run.rate(now)
    if rate:
        told.append(f"{rate:,.0f} per second" if rate >= 10 else f"{rate:.1f} per second")
    told.append(spend(run.spent_usd, run.unpriced))
    if run.batches:
        return " · ".join([*told, batches(run.batches)])
    left = run.seconds_left(now)
    if left is not None and run.done < run.total:
        told.append(f"{duration(left)} left")
    return " · ".join(told)
