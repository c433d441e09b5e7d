"""What a rater looks at: the question, how far it is, the case, the answers. Only this part runs anew at a press."""

from __future__ import annotations

import streamlit as st

from feedbackloop.comparisons import Pair, Single, Sitting
from feedbackloop.errors import FeedbackLoopError
from feedbackloop.findings.wording import duration
from feedbackloop.improve.countdown import LOOK_AGAIN_S, MOST_VOTES, Countdown, countdown
from feedbackloop.models import Queue
from feedbackloop.pages import answer, seen
from feedbackloop.pages.rating import bar, choosing, ending, look
from feedbackloop.store import Store
from feedbackloop.wording import count

_COUNTDOWN = "rating-countdown"
_MARKDOWN = "rating-markdown"


def sitting(store: Store, queue: Queue, rater: str) -> tuple[Sitting, Countdown | None]:
    """The rater at this queue, where the store says that they are; and how far a decision queue is from its verdict."""
    kept = st.session_state.pop(bar.KEPT, None)
    if isinstance(kept, Sitting) and (kept.store, kept.queue.id, kept.rater) == (store, queue.id, rater):
        return kept, st.session_state.get(_COUNTDOWN)
    left = countdown(store, queue)
    if left is not None:
        # Who begins to rate what is settled already means to.
        begun = left.settled and st.session_state.get(choosing.BEGUN) == queue.id
        left.rating_on = begun or st.session_state.get(ending.RATING_ON) == queue.id
    st.session_state[_COUNTDOWN] = left
    return Sitting(store, queue, rater), left


@st.fragment
def judge(sitting: Sitting, left: Countdown | None, names: dict[str, str]) -> None:
    """The rating screen, until there is nothing more to judge, it is settled, or the rater has done enough.

    Args:
        left: of a decision queue.
        names: of the variants, by id; shown only where the queue is not blind.
    """
    try:
        if left is not None:
            left.follow(sitting.votes)
        if sitting.item is None or sitting.finished or (left is not None and left.stops):
            ending.draw(sitting, left)
            # Its place below the page is kept, or going on from here could not draw the bar there.
            st.bottom.empty()
            return
        _draw(sitting, left, names)
        if left is not None:
            # The next pair is on its way to the screen already.
            left.look(after_s=LOOK_AGAIN_S)
    except FeedbackLoopError as error:
        st.error(answer.escaped(str(error)), icon=":material/error:")


def _draw(sitting: Sitting, left: Countdown | None, names: dict[str, str]) -> None:
    look.fill_window()
    item = sitting.item
    with st.container(key="rating-screen", gap="xsmall"):
        _top(sitting, left)
        if sitting.problem:
            st.error(answer.escaped(sitting.problem), icon=":material/error:")
        markdown = bool(st.session_state.get(_MARKDOWN, False))
        if item is not None and not sitting.queue.blind:
            seen.note(sitting.store, sitting.rater, [(item.case.id, item.slot.responses)], "rate")
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


def _top(sitting: Sitting, left: Countdown | None) -> None:
    to_go, words = sitting.left, f"{sitting.left:,} left, about {duration(60 * sitting.minutes_left)}"
    if left is not None and left.settled:
        words = f"settled · {words}"
    elif left is not None:
        to_go, words = _to_the_verdict(sitting, left)
    total = sitting.done + to_go
    with st.container(horizontal=True, vertical_alignment="center", gap="medium", key="rating-top"):
        st.markdown(f"**{answer.escaped(_question(sitting))}**", width="stretch")
        st.caption(f"{sitting.done:,} judged · {words}", width="content")
    st.progress(sitting.done / total if total else 1.0)


def _to_the_verdict(sitting: Sitting, left: Countdown) -> tuple[int, str]:
    """How many more of this queue's pairs it will take, and that in words."""
    here = f" · {sitting.left:,} left here" if sitting.left < left.more else ""
    if left.more > MOST_VOTES:
        return sitting.left, f"over {MOST_VOTES:,} more votes: they hardly differ{here}"
    time = duration(left.more * sitting.pace)
    return min(sitting.left, left.more), f"about {count(left.more, 'more vote')}, {time}{here}"


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
