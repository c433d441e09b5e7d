"""Runs: whether the answers are in; and from where new ones are started or brought."""

import streamlit as st

from feedbackloop.identity import utcnow
from feedbackloop.pages import answer, context, live, run_report, within
from feedbackloop.pages.starting import bring, new_run
from feedbackloop.pages.wording import shortened
from feedbackloop.queries import RunStatus, overview
from feedbackloop.queries.overview import NO_FIGURES
from feedbackloop.wording import ago, count, spend

PER_PAGE = 15


def head() -> None:
    """The two ways to get answers."""
    with st.container(horizontal=True, key="bring"):
        if st.button("New run", type="primary", icon=":material/add:"):
            context.go("runs", new="run")
        if st.button("Answers made elsewhere", icon=":material/table_rows:"):
            context.go("runs", new="answers")


def table(found: list[RunStatus]) -> None:
    """A page of the list, newest first."""
    pages = max(-(-len(found) // PER_PAGE), 1)
    text = st.query_params.get("at", "1")
    page = min(max(int(text) if text.isdecimal() else 1, 1), pages)
    shown = found[(page - 1) * PER_PAGE : page * PER_PAGE]
    figures = context.read(overview.run_figures, tuple(status.run.id for status in shown))
    now = utcnow()
    for status in shown:
        have = figures.get(status.run.id, NO_FIGURES)
        with st.container(border=True, key=f"run-{status.run.id[:8]}", gap="xxsmall"):
            with st.container(horizontal=True, vertical_alignment="center"):
                live.badge(status.state)
                within.link("runs", f"**{live.title(status)}**", key=f"open-{status.run.id[:8]}", run=status.run.id)
                at = context.local(status.run.created_at)
                st.caption(f"{at:%d %B %Y %H:%M} ({ago(status.run.created_at, now)})", width="content")
            told = [count(have.answers, "answer")]
            if limit := status.run.settings.get("limit"):
                told.append(f"a try on {count(int(limit), 'row')}")
            if have.failed:
                told.append(f"{have.failed:,} failed")
            if have.cached:
                told.append(f"{have.cached:,} used again")
            told += [spend(have.spent_usd, have.unpriced), shortened(status.variants, most=6)]
            st.caption(answer.escaped(" · ".join(told)))
    if pages > 1:
        with st.container(horizontal=True, vertical_alignment="center", key="paging"):
            if st.button("Newer", icon=":material/chevron_left:", disabled=page == 1):
                context.go("runs", at=str(page - 1))
            st.caption(f"Page {page} of {pages}", width="content")
            if st.button("Older", icon=":material/chevron_right:", disabled=page == pages):
                context.go("runs", at=str(page + 1))


wanted = st.query_params.get("new")
st.title({"run": "New run", "answers": "Answers made elsewhere"}.get(wanted or "", "Runs"))
if wanted == "answers":
    bring.draw()
    st.stop()
if wanted == "run":
    new_run.draw()
    st.stop()
if opened := st.query_params.get("run"):
    run_report.draw(opened)
    st.stop()
st.caption("are the answers in?")
scope = context.scope()
if scope is None:
    new_run.draw()
    st.stop()
head()
everything = live.statuses()
mine = [
    status
    for status in everything
    if status.run.task == scope.task and (scope.since is None or status.run.created_at >= scope.since)
]
# A run of another task is not passed over while it goes on.
for going in everything:
    if going.state == "running":
        live.watch(going.run.id, live.title(going))
others = len(everything) - len(mine)
if others and st.toggle(f"With {count(others, 'run')} of other tasks or times", key="all-runs"):
    mine = everything
if not mine:
    st.info("No run of this task in this period.")
table(mine)
