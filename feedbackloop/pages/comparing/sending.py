"""From the table to raters: a queue of the cases that the filters leave, or of a single one."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from feedbackloop import comparisons
from feedbackloop.errors import FeedbackLoopError
from feedbackloop.models import Queue
from feedbackloop.pages import answer, context, ruling
from feedbackloop.pages.comparing.columns import Compared
from feedbackloop.wording import count

_SENT = "compare-sent"


def offer(
    scope: context.Scope, compared: Compared, case_ids: Sequence[str], *, every: bool = False, primary: bool = True
) -> None:
    """Draw the button that sends cases to a queue, and what is asked before.

    Args:
        every: these are all cases of the columns, so that none has to be named.
    """
    title = "Send this case to a queue" if len(case_ids) == 1 and not primary else "Send these cases to a queue"
    same = len(set(compared.columns)) > len({column.variant_id for column in compared.columns})
    why = "A queue is between different variants, and these columns are runs of one." if same else None
    if st.button(
        title,
        type="primary" if primary else "secondary",
        icon=":material/how_to_vote:",
        disabled=same or not case_ids,
        help=why,
        key="send",
    ):
        _ask(scope, compared, tuple(case_ids), every=every)


@st.dialog("Send to a queue", icon=":material/how_to_vote:", on_dismiss=lambda: st.session_state.pop(_SENT, None))
def _ask(scope: context.Scope, compared: Compared, case_ids: tuple[str, ...], *, every: bool) -> None:
    sent: Queue | None = st.session_state.get(_SENT)
    if sent is not None:
        st.success(f"The queue is open: {count(len(case_ids), 'case')}, to be rated blind.")
        context.link("rate", "Rate them now", icon=":material/arrow_forward:", queue=sent.id)
        return
    names = " and ".join(answer.escaped(name) for name in compared.names)
    st.write(f"{count(len(case_ids), 'case')}; raters see the answers of {names} without knowing which is which.")
    overlap = st.segmented_control(
        "How many people are to rate each pair?", [1, 2, 3], default=1, required=True, key="send-overlap"
    )
    st.button(
        "Open the queue",
        type="primary",
        key="send-open",
        on_click=_send,
        args=(scope, compared, () if every else case_ids, overlap or 1),
    )
    if problem := st.session_state.pop("compare-send-error", None):
        st.error(answer.escaped(problem))


def _send(scope: context.Scope, compared: Compared, case_ids: tuple[str, ...], overlap: int) -> None:
    try:
        variants = [column.variant_id for column in compared.columns]
        st.session_state[_SENT] = comparisons.open_queue(
            context.store(),
            scope.task,
            variants,
            purpose="decision" if len(variants) == 2 else "leaderboard",
            rule=ruling.of_queue(scope, variants),
            cases=case_ids,
            runs=sorted({column.run_id for column in compared.columns}),
            overlap=overlap,
        )
    except FeedbackLoopError as error:
        st.session_state["compare-send-error"] = str(error)
