"""What can be said of an opened case: a vote with the names in view, an issue, a correction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import streamlit as st

from feedbackloop import comparisons, queries
from feedbackloop.errors import FeedbackLoopError
from feedbackloop.pages import address, answer, context
from feedbackloop.pages.comparing.columns import Compared
from feedbackloop.queries.shown import Answer, OpenedCase

Winner = Literal["a", "b", "tie", "both_bad"]

_SAID = "compare-said"
_PROBLEM = "compare-problem"


def draw(scope: context.Scope, compared: Compared, found: OpenedCase, answers: Sequence[Answer | None]) -> None:
    """Draw the votes, issues and corrections that can be given, for whoever has said their name."""
    st.markdown("**What do you say?**")
    if (rater := context.rater()) is None:
        name = st.text_input("Your name", key="compare-name", width=260, placeholder="to vote, label or correct")
        if name.strip():
            address.keep("rater", " ".join(name.split()))
            st.rerun()
        return
    st.caption(f"As {answer.escaped(rater)}, names in view: such votes are kept apart from blind ones.")
    with st.grid(len(answers), min_column_width=170, key="compare-judging"):
        for place, one in enumerate(answers):
            with st.container(gap="xsmall", key=f"compare-judge-{place}"):
                against = f" against {compared.names[0]}" if place else ""
                st.caption(answer.escaped(f"{compared.names[place]}{against}"))
                if one is None or one.response.status == "failed":
                    st.caption("Nothing to judge.")
                    continue
                base = answers[0]
                if place and base is not None and base.response.status != "failed":
                    _vote(scope.task, compared, found, (base, one), place=place, rater=rater)
                with st.container(horizontal=True, gap="small"):
                    _issue(scope.task, one, rater)
                    _correct(one, rater)
    if problem := st.session_state.pop(_PROBLEM, None):
        st.error(answer.escaped(problem))
    elif said := st.session_state.pop(_SAID, None):
        st.toast(said, icon=":material/check:")


def _vote(
    task: str, compared: Compared, found: OpenedCase, pair: tuple[Answer, Answer], *, place: int, rater: str
) -> None:
    first, second = (one.response.id for one in pair)
    standing = next(
        (
            v.winner
            for v in reversed(found.votes)
            if v.rater == rater and not v.blind and {v.response_a, v.response_b} == {first, second}
        ),
        None,
    )
    words: dict[Winner, str] = {
        "b": "Better",
        "tie": "About the same",
        "a": "Worse",
        "both_bad": "Both bad",
    }
    with st.container(horizontal=True, gap="xsmall"):
        for winner, text in words.items():
            st.button(
                text,
                key=f"compare-vote-{place}-{winner}",
                type="primary" if winner == standing else "secondary",
                on_click=_do,
                args=("The vote is stored.", comparisons.vote_openly),
                kwargs={
                    "task": task,
                    "case_id": found.case.id,
                    "response_a": first,
                    "response_b": second,
                    "variant_a": compared.columns[0].variant_id,
                    "variant_b": compared.columns[place].variant_id,
                    "winner": winner,
                    "rater": rater,
                },
            )


def _issue(task: str, one: Answer, rater: str) -> None:
    described = context.read(queries.task, task)
    known = list(described.issues) if described else []
    mine = {r.label: r for r in one.ratings if r.metric == "issue" and r.rater == rater and r.label}
    with st.popover("Issue", icon=":material/flag:", key=f"compare-issue-{one.response.id}"):
        for number, label in enumerate(dict.fromkeys([*known, *mine])):
            if label in mine:
                st.button(
                    f"Take back: {answer.escaped(label)}",
                    key=f"compare-unlabel-{one.response.id}-{number}",
                    on_click=_do,
                    args=("Taken back.", comparisons.unlabel_issue, mine[label]),
                )
            else:
                st.button(
                    answer.escaped(label),
                    key=f"compare-label-{one.response.id}-{number}",
                    on_click=_label,
                    args=(one.response.id, label, rater),
                )
        own = st.text_input("Another one", key=f"compare-own-{one.response.id}", max_chars=60)
        if own.strip():
            st.button(
                f"Label it: {answer.escaped(own.strip())}",
                key=f"compare-label-own-{one.response.id}",
                on_click=_label,
                args=(one.response.id, own.strip(), rater),
            )


def _correct(one: Answer, rater: str) -> None:
    mine = next((r.correction for r in one.ratings if r.rater == rater and r.correction), None)
    if st.button("Correct", icon=":material/edit:", key=f"compare-correct-{one.response.id}"):
        _correction(one.response.id, mine or one.response.output, rater)


@st.dialog("How should it have read?", width="large", icon=":material/edit:")
def _correction(response_id: str, text: str, rater: str) -> None:
    key = f"compare-text-{response_id}"
    st.text_area("The answer", text, height=420, key=key, label_visibility="collapsed")
    save = f"compare-save-{response_id}"
    if st.button("Save the correction", type="primary", key=save, on_click=_save, args=(response_id, key, rater)):
        st.rerun()


def _save(response_id: str, key: str, rater: str) -> None:
    text = st.session_state.get(key) or ""
    _do("The correction is stored.", comparisons.correct, response_id, text, rater, blind=False)


def _label(response_id: str, label: str, rater: str) -> None:
    _do("The issue is stored.", comparisons.label_issue, response_id, label, rater, blind=False)


def _do(said: str, act: Callable[..., Any], *arguments: Any, **named: Any) -> None:
    """Do what a button asks for; what goes wrong on purpose is said on the page."""
    try:
        act(context.store(), *arguments, **named)
    except FeedbackLoopError as error:
        st.session_state[_PROBLEM] = str(error)
    else:
        st.session_state[_SAID] = said
