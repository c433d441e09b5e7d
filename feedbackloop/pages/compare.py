"""Compare: where do they differ? The table of cases, what got worse first; or one of them, opened."""

from __future__ import annotations

from urllib.parse import urlencode

import streamlit as st

from feedbackloop.pages import context
from feedbackloop.pages.comparing import columns, opened, rows, sending, variants
from feedbackloop.pages.comparing.columns import Compared, Nothing
from feedbackloop.pages.comparing.rows import Picked
from feedbackloop.queries import shown, table
from feedbackloop.queries.table import Board, Column
from feedbackloop.wording import count


@st.cache_resource(max_entries=8, show_spinner="Comparing all cases ...")
def _board(url: str, marks: tuple[int, ...], chosen: tuple[Column, ...]) -> Board:
    # Kept until something is added that bears on it. That somebody looked at a case is written too, and does not.
    del url, marks
    return table.board(context.store(), chosen)


def _elsewhere(scope: context.Scope, board: Board) -> None:
    """Links to other runs, where this one has nothing of the issue that a link asked for."""
    variant, issue = st.query_params.get("variant"), st.query_params.get("issue")
    if not variant or not issue:
        return
    here = [column.run_id for column in board.columns]
    for found in context.read(shown.runs_with_issue, scope.task, variant, issue):
        if found.run_id not in here:
            words = f"{count(found.answers, 'answer')} with this issue in another run"
            context.link(
                "compare", words, icon=":material/arrow_forward:", run=found.run_id, variant=variant, issue=issue
            )


def _address(scope: context.Scope, compared: Compared, picked: Picked) -> None:
    """What leads here, to be copied: with all that is chosen by default too, which may be something else tomorrow."""
    st.caption("This view, for whoever has access to this app and its store:")
    url = (st.context.url or "").partition("?")[0]
    # Whoever follows it is not the rater that this is.
    chosen = {name: value for name, value in dict(st.query_params).items() if name != "rater"}
    chosen |= {"task": scope.task} | compared.chosen | ({"by": picked.measure} if picked.measure else {})
    if compared.kind == "variants":
        chosen["baseline"] = context.label(compared.variants[0], scope.variants)
    st.code(f"{url}?{urlencode(chosen)}", language=None, wrap_lines=True)


def _nothing(found: Nothing) -> None:
    st.info(found.reason, icon=":material/difference:")
    if found.needs_run:
        context.link("runs", "Make a run", icon=":material/play_circle:")


st.title("Compare")
st.caption("where do they differ?")
scope = context.scope()
if scope is None:
    _nothing(Nothing("Nothing to compare yet: there are no answers.", needs_run=True))
    context.link("home", "Or look at the demo", icon=":material/science:")
    st.stop()

offer = columns.offer(scope)
if isinstance(offer, Nothing):
    _nothing(offer)
    st.stop()
if offer.note:
    st.info(offer.note, icon=":material/difference:")

case = st.query_params.get("case")
with st.container(horizontal=True, vertical_alignment="center", key="compare-head"):
    heading = st.container(width="content")
    with st.popover("Change", icon=":material/view_column:", key="compare-change"):
        compared = columns.choose(offer)
    filters = None if case is None else st.popover("Filters", icon=":material/filter_alt:", key="compare-folded")
    link = st.popover("Link", icon=":material/link:", key="compare-link")
if isinstance(compared, Nothing):
    _nothing(compared)
    st.stop()
heading.markdown(compared.title)
columns.say_unknown(offer, compared)
board = _board(context.store().url, context.read(table.marks), compared.columns)
if filters is not None and case is not None:
    with filters:
        picked = rows.pick(compared, board)
    opened.draw(scope, compared, picked, case)
else:
    variants.draw(compared)
    picked = rows.pick(compared, board)
    with picked.acts:
        sending.offer(scope, compared, picked.ids, every=len(picked.ids) == len(board.cases))
    if picked.ids:
        rows.draw(compared, board, picked)
    else:
        st.info("No case passes these filters.", icon=":material/filter_alt_off:")
        st.button("Take the filters off", on_click=rows.clear)
        _elsewhere(scope, board)
# Last, when the address has all that was chosen.
with link:
    _address(scope, compared, picked)
