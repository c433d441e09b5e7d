"""What a rater looks at: the question, how far it is, the case, the answers. Only this part runs anew at a press."""

from __future__ import annotations

import streamlit as st

from feedbackloop.comparisons import Pair, Single, Sitting
from feedbackloop.errors import FeedbackLoopError
from feedbackloop.findings.wording import duration
from feedbackloop.models import Queue
from feedbackloop.pages import answer
from feedbackloop.pages.rating import bar, ending, look
from feedbackloop.store import Store

_MARKDOWN = "rating-markdown"


def sitting(store: Store, queue: Queue, rater: str) -> Sitting:
    """The rater at this queue: where the store says that they are."""
    kept = st.session_state.pop(bar.KEPT, None)
    if isinstance(kept, Sitting) and (kept.store, kept.queue.id, kept.rater) == (store, queue.id, rater):
        return kept
    return Sitting(store, queue, rater)


@st.fragment
def judge(sitting: Sitting, names: dict[str, str]) -> None:
    """The rating screen, until there is nothing more to judge or the rater has done enough.

    Args:
        names: of the variants, by id; shown only where the queue is not blind.
    """
    try:
        if sitting.item is None or sitting.finished:
            ending.draw(sitting)
        else:
            _draw(sitting, names)
    except FeedbackLoopError as error:
        st.error(str(error), icon=":material/error:")


def _draw(sitting: Sitting, names: dict[str, str]) -> None:
    look.fill_window()
    item = sitting.item
    with st.container(key="rating-screen", gap="xsmall"):
        _top(sitting)
        if sitting.problem:
            st.error(sitting.problem, icon=":material/error:")
        markdown = bool(st.session_state.get(_MARKDOWN, False))
        if item is not None:
            with st.container(key="rating-case", gap="xsmall"):
                answer.inputs(item.case, f"case-{item.id}", markdown=markdown)
        if isinstance(item, Pair):
            _pair(item, names, markdown=markdown)
        elif item is not None:
            _single(item, names, markdown=markdown)
        # Behind the answers, so that the Tab key comes to those first.
        with st.container(
            horizontal=True, vertical_alignment="center", gap="medium", width="content", key="rating-tools"
        ):
            # No toggle: while a switch has the focus, Streamlit takes keys for its own.
            words = "Show as plain text" if markdown else "Show as Markdown"
            shortcut = None if sitting.writing else "M"
            st.button(words, key="rating-format", shortcut=shortcut, type="tertiary", on_click=_turn)
            st.button("Finish for now", key="rating-finish", type="tertiary", on_click=_finish, args=(sitting,))
    bar.draw(sitting)
    sitting.shown()


def _top(sitting: Sitting) -> None:
    total = sitting.done + sitting.left
    left = f"{sitting.left:,} left, about {duration(60 * sitting.minutes_left)}"
    with st.container(horizontal=True, vertical_alignment="center", gap="medium", key="rating-top"):
        st.markdown(f"**{answer.escaped(_question(sitting))}**", width="stretch")
        st.caption(f"{sitting.done:,} judged · {left}", width="content")
    st.progress(sitting.done / total if total else 1.0)


def _question(sitting: Sitting) -> str:
    if sitting.queue.purpose == "single":
        return "How good is this answer?"
    return sitting.task.question


def _pair(pair: Pair, names: dict[str, str], *, markdown: bool) -> None:
    # A container of its own for each pair: otherwise the next one would open where the last one had been scrolled to.
    with st.container(height=520, key=f"pair-{pair.id}"):
        if not pair.blind and pair.queue.blind:
            st.caption(
                ":material/visibility: You have seen these answers with their names: this vote is counted apart."
            )
        columns = st.columns(2, gap="medium", border=False)
        first, second = (pair.variant_a, pair.variant_b) if pair.a_shown_left else (pair.variant_b, pair.variant_a)
        for column, letter, text, variant in (
            (columns[0], "A", pair.left, first),
            (columns[1], "B", pair.right, second),
        ):
            with column:
                name = "" if pair.queue.blind else f": {answer.escaped(names.get(variant, ''))}"
                st.markdown(f"**{letter}{name}**")
                answer.show(text, key=f"text-{letter}-{pair.id}", markdown=markdown)


def _single(single: Single, names: dict[str, str], *, markdown: bool) -> None:
    with st.container(height=520, key=f"pair-{single.id}"):
        if not single.blind and single.queue.blind:
            st.caption(":material/visibility: You have seen this answer with its name: this is counted apart.")
        if not single.queue.blind:
            st.markdown(f"**{answer.escaped(names.get(single.variant, ''))}**")
        answer.show(single.output, key=f"text-{single.id}", markdown=markdown)


def _finish(sitting: Sitting) -> None:
    sitting.finished = True


def _turn() -> None:
    st.session_state[_MARKDOWN] = not st.session_state.get(_MARKDOWN, False)
