"""The bar of keys below the answers: the verdict on what is on the screen, and what there is to say about the last one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from feedbackloop.comparisons import Item, Last, Pair, Single, Sitting, Verdict
from feedbackloop.errors import FeedbackLoopError
from feedbackloop.pages import answer
from feedbackloop.pages.rating import look

ISSUE_KEYS = "QWETYIOPDGHJ"
"""Keys for issues, from left to right; C and R are Streamlit's own, and S, U, N, F have their meaning here."""

_VERDICTS: tuple[tuple[str, str, Verdict], ...] = (
    ("1", "A is better", "left"),
    ("2", "B is better", "right"),
    ("3", "About the same", "tie"),
    ("4", "Both bad", "both_bad"),
)

_SAID = {
    "left": "You chose A.",
    "right": "You chose B.",
    "tie": "You said: about the same.",
    "both_bad": "You said: both bad.",
    "up": "You said: good.",
    "down": "You said: bad.",
    "rated": "Rated.",
}

_FAULT = {
    "left": "Fault of B:",
    "right": "Fault of A:",
    "both_bad": "Fault of both:",
    "down": "Its fault:",
    "rated": "Its fault, if any:",
}

_HINTS = {
    "too quick": "Not counted: look at it for a second, then press once.",
    "elsewhere": "Not counted: this was judged or passed on in another window. Here is the next one.",
    "noted": "Your note is stored.",
    "corrected": "Your correction is stored.",
}


KEPT = "rating-sitting"
"""Where a sitting is kept over one run of the whole page."""


def draw(sitting: Sitting) -> None:
    """The bar, for whatever is on the screen."""
    item = sitting.item
    with st.bottom, st.container(key="rating-bar", gap="xsmall"):
        if item is not None:
            with st.container(horizontal=True, gap="xsmall", vertical_alignment="center", key="rating-verdicts"):
                if isinstance(item, Pair):
                    _verdicts(sitting, item)
                else:
                    _scores(sitting, item)
                _key(sitting, "Skip", f"skip-{item.id}", "S", sitting.skip, item.id, type="tertiary")
        with st.container(horizontal=True, gap="xsmall", vertical_alignment="center", key="rating-last"):
            look.let_go_first()
            _last(sitting)
    if sitting.writing == "note" and sitting.last is not None:
        _note(sitting, sitting.last)
    elif sitting.writing == "correction" and isinstance(item, Single):
        _correction(sitting, item)


def do(sitting: Sitting, act: Callable[..., Any], *arguments: Any, **named: Any) -> None:
    """Do what a press asks for; what goes wrong on purpose is said on the screen, and nothing is lost."""
    sitting.problem = ""
    try:
        act(*arguments, **named)
    except FeedbackLoopError as error:
        sitting.problem = str(error)


def _key(
    sitting: Sitting, text: str, key: str, shortcut: str, act: Callable[..., Any], *arguments: Any, **looks: Any
) -> None:
    """A button with its key; while a text is being written, keys are letters."""
    st.button(
        text,
        key=key,
        shortcut=None if sitting.writing else shortcut,
        on_click=do,
        args=(sitting, act, *arguments),
        **looks,
    )


def _verdicts(sitting: Sitting, pair: Pair) -> None:
    for key, text, verdict in _VERDICTS:
        kind = "primary" if verdict in ("left", "right") else "secondary"
        _key(
            sitting, text, f"vote-{verdict}-{pair.id}", key, sitting.vote, pair.id, verdict, type=kind, width="stretch"
        )


def _scores(sitting: Sitting, item: Item) -> None:
    criteria, scores = sitting.queue.criteria, sitting.scores
    if not criteria:
        for key, text, icon, value in (("1", "Good", "thumb_up", 1), ("2", "Bad", "thumb_down", 0)):
            looks = {"type": "primary", "icon": f":material/{icon}:", "width": "stretch"}
            _key(sitting, text, f"thumb-{value}-{item.id}", key, sitting.score, item.id, "thumbs", value, **looks)
    else:
        asked = next((name for name in criteria if name not in scores), criteria[-1])
        number = criteria.index(asked)
        st.markdown(f"**{answer.escaped(asked)}** ({number + 1} of {len(criteria)})", width="content")
        for value, words in enumerate(("poor", "weak", "fair", "good", "excellent"), start=1):
            key = f"score-{number}-{value}-{item.id}"
            _key(sitting, words, key, str(value), sitting.score, item.id, asked, value, width="stretch")
    looks = {"type": "tertiary", "icon": ":material/edit:"}
    _key(sitting, "Fix the text", f"fix-{item.id}", "F", sitting.write, "correction", **looks)


def _last(sitting: Sitting) -> None:
    last = sitting.last
    if sitting.hint:
        st.caption(f":material/info: {_HINTS[sitting.hint]}", width="content")
    if last is None:
        if not sitting.hint:
            st.caption("After each verdict, one key says what was wrong.", width="content")
        return
    if not sitting.hint:
        question = _FAULT.get(last.said, "") if last.faulty else ""
        st.caption(f"{_SAID[last.said]} {question}".strip(), width="content")
    if last.faulty:
        _issues(sitting, last)
    if sitting.queue.purpose != "single":
        text = "Note" if last.comment is None else "Change the note"
        looks = {"type": "tertiary", "icon": ":material/edit_note:"}
        _key(sitting, text, f"note-{last.id}", "N", sitting.write, "note", **looks)
    _key(sitting, "Undo", f"undo-{last.id}", "U", sitting.undo, last.id, type="tertiary", icon=":material/undo:")


def _issues(sitting: Sitting, last: Last) -> None:
    for number, (key, label) in enumerate(zip(ISSUE_KEYS, dict.fromkeys(sitting.task.issues), strict=False)):
        text, done = answer.escaped(label), label in last.labels
        if done:
            st.button(text, key=f"named-{number}-{last.id}", icon=":material/check:", disabled=True)
        else:
            _key(sitting, text, f"issue-{number}-{last.id}", key, sitting.label, last.id, label)


@st.dialog("A note on what you said last", width="medium", icon=":material/edit_note:", dismissible=False)
def _note(sitting: Sitting, last: Last) -> None:
    st.caption(_SAID[last.said])
    _writing(sitting, last.id, last.comment or "", 110, sitting.note)


@st.dialog("How should it have read?", width="large", icon=":material/edit:", dismissible=False)
def _correction(sitting: Sitting, single: Single) -> None:
    _writing(sitting, single.id, single.output, 400, sitting.correct)


def _writing(sitting: Sitting, id_: str, text: str, height: int, act: Callable[[str, str], None]) -> None:
    """A text to be written, by keys alone."""
    key = f"rating-text-{sitting.writing}-{id_}"
    # A form sends text and press together: two messages could arrive in either order, and the text be lost.
    with st.form(f"{key}-form", border=False):
        written = st.text_area("Text", text, height=height, key=key, label_visibility="collapsed")
        save = st.form_submit_button("Save", key=f"{key}-save", type="primary")
    cancel = st.button("Cancel", key=f"{key}-cancel", shortcut="Escape", type="tertiary")
    look.begin_in_text()
    if save:
        do(sitting, act, id_, written)
    if save or cancel:
        sitting.write("")
        # Only a run of the whole page closes a dialog; it goes on with this very sitting.
        st.session_state[KEPT] = sitting
        st.rerun()
