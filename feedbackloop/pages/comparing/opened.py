"""One case, opened: its inputs, what is expected, two to four answers side by side, and all that was said of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from feedbackloop import plots
from feedbackloop.findings.wording import short
from feedbackloop.models import AIResponse, Case, Rating
from feedbackloop.pages import address, answer, context, seen
from feedbackloop.pages.comparing import judging, repeated, rows, sending, texts
from feedbackloop.pages.comparing.columns import Compared
from feedbackloop.pages.comparing.rows import Picked
from feedbackloop.queries import shown
from feedbackloop.queries.shown import Answer, OpenedCase
from feedbackloop.wording import count, dollars, milliseconds

_TALL = 1500
"""Characters from which on a text scrolls inside its pane."""


def draw(scope: context.Scope, compared: Compared, picked: Picked, case_id: str) -> None:
    """Draw the case that the URL names, and the way to the one before and after it in the table."""
    found = context.read(shown.opened, compared.columns, case_id)
    _ways(picked.ids, case_id, found)
    if found is None:
        st.warning("The store has no such case; it may stand in another store.", icon=":material/link_off:")
        return
    _expose(found)
    _asked(found.case)
    answers = [_choose_repeat(place, known, case_id) for place, known in enumerate(found.answers)]
    _answers(scope, compared, found, answers)
    _reasons(compared, answers)
    _votes(compared, found)
    judging.draw(scope, compared, found, answers)
    sending.offer(scope, compared, [case_id], primary=False)


def _ways(ids: list[str], case_id: str, found: OpenedCase | None) -> None:
    place = ids.index(case_id) if case_id in ids else None
    before = ids[place - 1] if place else None
    after = ids[0 if place is None else place + 1] if ids and (place is None or place + 1 < len(ids)) else None
    with st.container(horizontal=True, vertical_alignment="center", key="compare-ways"):
        st.button("All cases", icon=":material/table_rows:", on_click=_close, args=(ids, case_id), key="compare-back")
        st.button(
            "Previous",
            icon=":material/arrow_upward:",
            shortcut="K",
            disabled=before is None,
            on_click=_go,
            args=(before,),
            key="compare-before",
        )
        st.button(
            "Next",
            icon=":material/arrow_downward:",
            shortcut="J",
            disabled=after is None,
            on_click=_go,
            args=(after,),
            key="compare-after",
        )
        name = answer.escaped(short(found.case.external_id, 40)) if found and found.case.external_id else "Case"
        where = f"{place + 1:,} of {len(ids):,}" if place is not None else "not among those that the filters leave"
        st.markdown(f"**{name}**, {where}")
        st.space("stretch")
        st.toggle("Markdown", key="compare-markdown")
        st.toggle("Mark differences", key="compare-marks")


def _go(case_id: str) -> None:
    address.keep("case", case_id)


def _close(ids: list[str], case_id: str) -> None:
    rows.turn_to(ids, case_id)
    address.keep("case", None)


def _expose(found: OpenedCase) -> None:
    """From now on the votes on these answers of whoever looks at them are not blind."""
    ids = [one.response.id for answers in found.answers for one in answers]
    seen.note(context.store(), context.rater(), [(found.case.id, ids)], "compare")


def _asked(case: Case) -> None:
    """The inputs, and what was expected beside them."""
    expected = (
        case.expected if isinstance(case.expected, str) else json.dumps(case.expected, ensure_ascii=False, indent=2)
    )
    size = len(json.dumps([case.inputs, case.messages], default=str))
    known = case.expected is not None
    height: Literal["content"] | int = 260 if max(size, len(expected) if known else 0) > _TALL else "content"
    parts = st.columns([2, 1] if known else 1)
    markdown = bool(st.session_state.get("compare-markdown"))
    with parts[0], st.container(border=True, height=height, key=f"compare-asked-{case.id}"):
        st.caption(f"Inputs{f' · {answer.escaped(case.segment)}' if case.segment else ''}")
        answer.inputs(case, f"compare-{case.id}", markdown=markdown)
    if known:
        with parts[1], st.container(border=True, height=height, key=f"compare-expected-{case.id}"):
            st.caption("Expected")
            answer.show(expected, key=f"compare-expected-text-{case.id}", markdown=markdown)


def _choose_repeat(place: int, answers: Sequence[Answer], case_id: str) -> Answer | None:
    if len(answers) < 2:
        return answers[0] if answers else None
    chosen = st.session_state.get(f"compare-repeat-{place}-{case_id}") or 1
    return answers[min(chosen, len(answers)) - 1]


def _answers(scope: context.Scope, compared: Compared, found: OpenedCase, answers: Sequence[Answer | None]) -> None:
    colours = plots.colours([variant.id for variant in scope.variants])
    case_id = found.case.id
    repeats = [len(known) for known in found.answers]
    tall = any(one is not None and len(one.response.output) > _TALL for one in answers)
    outputs = [one.response.output if one is not None else "" for one in answers]
    # Keyed by the case, so that the next one begins at its top.
    pane = st.container(border=True, height=520 if tall else "content", key=f"compare-answers-{case_id}")
    with pane, beside(len(answers), key="compare-cells"):
        for place, one in enumerate(answers):
            with st.container(key=f"compare-cell-{place}"):
                colour = colours.get(compared.columns[place].variant_id, "gray")
                st.html(f'<div style="height: 4px; border-radius: 2px; background: {colour}"></div>')
                st.markdown(f"**{answer.escaped(compared.names[place])}**{'' if place else ' (baseline)'}")
                if one is None:
                    st.caption("No answer to this case.")
                    continue
                if repeats[place] > 1:
                    st.segmented_control(
                        "Answer",
                        range(1, repeats[place] + 1),
                        default=1,
                        required=True,
                        key=f"compare-repeat-{place}-{case_id}",
                        help="This case was asked several times.",
                    )
                    repeated.draw(compared.columns[place], case_id, key=f"compare-same-{place}-{case_id}")
                _figures(one.response, compared.variants[place].model)
                _marks(one.ratings)
                others = [text for number, text in enumerate(outputs) if number != place]
                _text(one.response, outputs[:1] if place else others, key=f"compare-{place}-{case_id}")


def beside(number: int, key: str) -> DeltaGenerator:
    """Cells side by side; below one another where they would become too narrow to read."""
    return st.grid(number, min_column_width=170, key=key)


def _text(response: AIResponse, others: Sequence[str], key: str) -> None:
    if response.status == "failed":
        st.warning(answer.escaped(f"{response.error_type or 'Failed'}: {response.error or 'no reason was stored'}"))
        if not response.output:
            return
    if st.session_state.get("compare-marks") and any(others):
        answer.show_pieces(texts.sentences(response.output, others), key=key)
    else:
        answer.show(response.output, key=key, markdown=bool(st.session_state.get("compare-markdown")))


def _figures(response: AIResponse, model: str) -> None:
    """Latency, tokens, cost, the model that answered, and what became of further attempts."""
    completed = response.status == "completed"
    parts = [] if response.latency_ms is None else [milliseconds(response.latency_ms)]
    parts += [count(response.tokens_used, "token")] if completed and response.tokens_used is not None else []
    parts += ["cost unknown" if response.cost_usd is None else dollars(response.cost_usd)] if completed else []
    parts += ["from the cache"] if response.cached else []
    parts += ["cut off"] if response.truncated or response.finish_reason == "length" else []
    # The model is the variant's own, unless a fallback took over.
    parts += [f"by {response.model_used}"] if response.model_used not in ("none", model) else []
    details = [
        f"model: {response.model_used}",
        *(
            f"{title}: {value:,}"
            for title, value in (("tokens in", response.input_tokens), ("tokens out", response.output_tokens))
            if completed and value is not None
        ),
    ]
    details += [f"answered as: {response.provider_model}"] if response.provider_model else []
    details += [] if response.total_ms is None else [f"waited for in all: {milliseconds(response.total_ms)}"]
    details += [f"asked: {context.local(response.created_at):%d %b %Y, %H:%M:%S}"]
    st.caption(answer.escaped(" · ".join(parts) or "no figures"), help="  \n".join(map(answer.escaped, details)))
    failed = [attempt for attempt in response.attempts if attempt.error_type]
    if len(response.attempts) > 1 or (failed and response.status == "completed"):
        with st.expander(count(len(response.attempts), "attempt"), icon=":material/replay:"):
            for number, attempt in enumerate(response.attempts, start=1):
                took = "" if attempt.latency_ms is None else f"{milliseconds(attempt.latency_ms)}, "
                outcome = f"{attempt.error_type}: {attempt.error or ''}" if attempt.error_type else "answered"
                st.caption(answer.escaped(f"{number}. {attempt.model}, {took}{outcome}"))


def _marks(ratings: Sequence[Rating]) -> None:
    """Issues and verdicts on this answer alone, as badges; their reasons stand below."""
    labels: dict[str, list[str]] = {}
    for rating in ratings:
        if rating.metric == "issue" and rating.label:
            labels.setdefault(rating.label, []).append(rating.rater)
    verdicts = [rating for rating in ratings if rating.metric != "issue"]
    if not labels and not verdicts:
        return
    with st.container(horizontal=True, gap="xsmall"):
        for rating in verdicts:
            _verdict(rating)
        for label, raters in labels.items():
            who = answer.escaped(", ".join(dict.fromkeys(raters)))
            st.badge(_badge(label), icon=":material/flag:", color="orange", help=f"Issue, named by {who}")


def _verdict(rating: Rating) -> None:
    name = _badge(rating.metric)
    help_ = answer.escaped(f"by {rating.rater}")
    if rating.error is not None:
        st.badge(f"{name}: could not be computed", icon=":material/error:", color="gray", help=help_)
    elif rating.rater_kind == "grader" and rating.value in (0.0, 1.0):
        passed = rating.value == 1.0
        icon = ":material/check_circle:" if passed else ":material/cancel:"
        words = f"{name}: {'passed' if passed else 'failed'}"
        st.badge(words, icon=icon, color="green" if passed else "red", help=help_)
    else:
        value = rating.label if rating.value is None else f"{rating.value:g}"
        words = f"{name}: {_badge(value)}" if value else name
        st.badge(words, icon=":material/star:", color="blue", help=help_)


def _badge(text: str) -> str:
    """A badge escapes brackets itself, and would show a second escape."""
    return answer.escaped(text).replace("\\[", "[").replace("\\]", "]")


def _reasons(compared: Compared, answers: Sequence[Answer | None]) -> None:
    """What checks, judges and people wrote about single answers, in full."""
    said = [
        [
            rating
            for rating in (one.ratings if one else ())
            if rating.reason or rating.error or rating.comment or rating.correction
        ]
        for one in answers
    ]
    if not any(said):
        return
    st.markdown("**Reasons and comments**")
    with beside(len(answers), key="compare-reasons"):
        for place, ratings in enumerate(said):
            with st.container(gap="xsmall", key=f"compare-reason-{place}"):
                st.caption(answer.escaped(compared.names[place]))
                for rating in ratings:
                    _reason(rating)


def _reason(rating: Rating) -> None:
    texts_ = {
        "": rating.reason,
        "could not be computed": rating.error,
        "comment": rating.comment,
        "should have read": rating.correction,
    }
    for title, text in texts_.items():
        if text:
            words = " · ".join(dict.fromkeys(filter(None, (rating.label or rating.metric, title, rating.rater))))
            st.caption(answer.escaped(words))
            answer.show(text, key=f"compare-said-{title[:2].strip()}{rating.id}")


def _votes(compared: Compared, found: OpenedCase) -> None:
    places = {one.response.id: place for place, answers in enumerate(found.answers) for one in answers}
    if not found.votes:
        return
    st.markdown(f"**{count(len(found.votes), 'vote')}**")
    for vote in found.votes:
        a, b = compared.names[places[vote.response_a]], compared.names[places[vote.response_b]]
        if vote.winner == "b":
            a, b = b, a
        said = {"tie": f"{a} and {b} about the same", "both_bad": f"{a} and {b} both bad"}
        words = said.get(vote.winner or "", f"{a} better than {b}")
        how = "blind" if vote.blind else "names in view"
        with st.container(gap="xxsmall", key=f"compare-vote-of-{vote.id}"):
            st.markdown(answer.escaped(f"{vote.rater}: {words} ({how})"))
            if vote.comment:
                answer.show(vote.comment, key=f"compare-comment-{vote.id}")
