"""The end of a session: what it moved, where raters differ, which was which, and what comes next.

As long as this rater could still rate on, names and figures stay hidden until they ask for them, which ends their blindness.
"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from feedbackloop import comparisons, queries
from feedbackloop.comparisons import Difference, Revealed, Said, SessionSummary, Sitting, Standing
from feedbackloop.findings.wording import duration, number, rate, short
from feedbackloop.improve import receipt
from feedbackloop.improve.countdown import Countdown
from feedbackloop.improve.rules import rule_of
from feedbackloop.pages import answer, context, ruling, seen, within
from feedbackloop.pages.rating import bar, choosing
from feedbackloop.stats.interval import Interval
from feedbackloop.store import Store
from feedbackloop.wording import count

RATING_ON = "rating-on"
"""Where the queue stands that the rater goes on with though it is settled."""

_LONGEST = 90


def draw(sitting: Sitting, left: Countdown | None) -> None:
    """The end, or a pause.

    Args:
        left: of a decision queue: what its votes amount to.
    """
    if left is not None:
        left.look()
    settled = left is not None and left.settled
    told = sitting.over or not sitting.queue.blind or bool(st.session_state.get(_result(sitting)))
    summary = context.read(_summary, sitting.queue.id, sitting.rater)
    if told:
        # Stored before it is shown: from now on this rater is not blind to these answers.
        _reveal(sitting, [*summary.revealed, *summary.differences])
    st.title("Settled" if settled else "You are done" if sitting.item is None else "Enough for now")
    if left is not None and told:
        st.subheader(answer.escaped(receipt.sentence(left.decision)), anchor=False)
        st.markdown(answer.escaped(receipt.evidence(left.decision)))
    elif settled:
        st.subheader("The votes suffice: no more are needed.", anchor=False)
    _words(sitting, summary)
    if sitting.problem:
        st.error(answer.escaped(sitting.problem), icon=":material/error:")
    _next_step(sitting, left, told=told)
    if not told and (sitting.item is None or settled):
        st.caption("The result names the answers: from then on your votes in this queue are not blind.")
    elif summary.judged:
        (_told if told else _paused)(sitting, summary)


def _told(sitting: Sitting, summary: SessionSummary) -> None:
    """All that there is to tell."""
    st.subheader("What this session moved")
    _standings(summary)
    if sitting.queue.purpose != "single":
        st.subheader("Where raters differ")
        _differences(summary.differences, sitting)
    st.subheader("Which was which")
    _revealed(summary.revealed)


def _paused(sitting: Sitting, summary: SessionSummary) -> None:
    """What was judged may be looked up, and nothing else is told."""
    st.subheader("Which was which")
    shown = f"rating-reveal-{sitting.queue.id}"
    if st.session_state.get(shown):
        _reveal(sitting, summary.revealed)
        _revealed(summary.revealed)
    else:
        st.caption("From then on you are not blind to these answers any more. Those that are left stay blind.")
        st.button("Show which was which", key="rating-show", on_click=_set, args=(shown,))


def _reveal(sitting: Sitting, named: Sequence[Revealed | Difference]) -> None:
    seen.note(sitting.store, sitting.rater, [(one.case_id, one.responses) for one in named], "reveal")


def _result(sitting: Sitting) -> str:
    """Where the session keeps that this rater has asked for the result."""
    return f"rating-result-{sitting.queue.id}-{sitting.rater}"


def _end(sitting: Sitting) -> None:
    """The rater asks for the result, and with it for the names of all that is in the queue."""
    seen.note(sitting.store, sitting.rater, comparisons.answers_of(sitting.store, sitting.queue), "result")
    st.session_state[_result(sitting)] = True


def _summary(store: Store, queue_id: str, rater: str) -> SessionSummary:
    return comparisons.session_summary(store, comparisons.queue(store, queue_id), rater)


def _words(sitting: Sitting, summary: SessionSummary) -> None:
    noun = "answer" if sitting.queue.purpose == "single" else "pair"
    parts = []
    if summary.judged:
        spent = f" in {duration(summary.seconds)}" if summary.seconds >= 60 else ""
        parts.append(f"You judged {count(summary.judged, noun)}{spent} in this session.")
        if summary.not_blind:
            verb = "was" if summary.not_blind == 1 else "were"
            parts.append(f"{summary.not_blind:,} of them {verb} known to you by name and count apart.")
    elif sitting.item is None:
        parts.append("This queue holds nothing for you: it has been judged, or others are at it.")
    if sitting.left and sitting.item is not None:
        parts.append(f"{count(sitting.left, noun)} are left." if sitting.left != 1 else f"1 {noun} is left.")
    if sitting.skipped:
        parts.append(f"You skipped {count(sitting.skipped, noun)}.")
    st.markdown(" ".join(parts))


def _next_step(sitting: Sitting, left: Countdown | None, *, told: bool) -> None:
    settled, done = left is not None and left.settled, sitting.item is None
    with st.container(horizontal=True, vertical_alignment="center"):
        if not told and (settled or done):
            invited = context.is_raters_link()
            st.button(
                "See the result",
                key="rating-result",
                type="secondary" if invited else "primary",
                icon=":material/visibility:",
                on_click=bar.do,
                args=(sitting, _end, sitting),
            )
        elif left is not None and not context.is_raters_link():
            _decide(left, sitting.rater, done=done)
        if not done:
            st.button(
                "Rate on" if settled else "Go on",
                key="rating-go-on",
                type="secondary" if settled else "primary",
                shortcut="G",
                on_click=_go_on,
                args=(sitting, left),
            )
        if sitting.skipped:
            st.button(
                "Look again at what you skipped",
                key="rating-again",
                on_click=bar.do,
                args=(sitting, sitting.resume),
                kwargs={"again": True},
            )
        if not context.is_raters_link():
            if told:
                context.link("results", "See the results", icon=":material/leaderboard:", task=sitting.queue.task)
            within.link("rate", "Choose another queue", key="rating-choose", icon=":material/list:")
            with st.popover("Invite somebody", icon=":material/person_add:", type="tertiary"):
                choosing.invite(sitting.queue, "rating-invite")
        elif done:
            st.caption("Thank you. You may close this window.")
        if sitting.last is not None:
            st.button(
                "Undo the last one",
                key=f"undo-{sitting.last.id}",
                shortcut="U",
                type="tertiary",
                icon=":material/undo:",
                on_click=bar.do,
                args=(sitting, sitting.undo, sitting.last.id),
            )


def _decide(left: Countdown, rater: str, *, done: bool) -> None:
    """The way to the decision; or, where this queue has no more pairs, to the votes that it still needs."""
    decision, queue = left.decision, left.queue
    if left.settled:
        if st.button("Decide", key="rating-decide", type="primary", icon=":material/gavel:"):
            labels = context.labelled(context.read(queries.task_variants, queue.task))
            pair = {"baseline": labels[decision.baseline], "candidate": labels[decision.candidate]}
            ruling.set_to(rule_of(decision), queue.task, decision.candidate, decision.baseline)
            context.go("decide", task=queue.task, **pair)
    elif done and context.read(comparisons.outlook, queue.task, tuple(queue.variants), rater=rater).size:
        words = f"Rate {left.more:,} more"
        if st.button(words, key="rating-more", type="primary", icon=":material/how_to_vote:"):
            found = comparisons.open_queue(
                context.store(), queue.task, queue.variants, overlap=queue.overlap, rater=rater, rule=queue.rule
            )
            context.go("rate", queue=found.id)


def _go_on(sitting: Sitting, left: Countdown | None) -> None:
    if left is not None and left.settled:
        left.rating_on = True
        st.session_state[RATING_ON] = left.queue.id
    bar.do(sitting, sitting.resume)


def _standings(summary: SessionSummary) -> None:
    pairs = all(standing.metric == "preference" for standing in summary.standings)
    rows = []
    for standing in summary.standings:
        row = {"Variant": standing.name}
        if not pairs:
            row["Rated on"] = standing.metric
        row |= {
            "Before": _figure(standing, standing.before),
            "After": _figure(standing, standing.after),
            "Votes": f"{standing.before.n:,} → {standing.after.n:,}",
        }
        rows.append(row)
    st.table({name: [answer.escaped(row[name]) for row in rows] for name in rows[0]}, border="horizontal")
    what = "Share of comparisons won, a tie counting half" if pairs else "Mean of the ratings"
    st.caption(f"{what}, with 95% interval; blind votes of all people on this task.")


def _figure(standing: Standing, interval: Interval) -> str:
    if interval.estimate is None:
        return "no votes"
    if standing.metric in ("preference", "thumbs"):
        return rate(interval)
    if interval.lower is None or interval.upper is None:
        return number(interval.estimate)
    return f"{number(interval.estimate)} ({number(interval.lower)} to {number(interval.upper)})"


def _differences(differences: Sequence[Difference], sitting: Sitting) -> None:
    if not differences:
        alone = sitting.queue.overlap == 1
        st.caption("Each pair goes to one rater in this queue." if alone else "Nowhere so far.")
        return
    raters = sorted({said.rater for one in differences for said in one.said})
    verdicts = [{said.rater: _verdict(said) for said in one.said} for one in differences]
    table = {"Case": [short(one.text, _LONGEST) for one in differences]}
    table |= {rater: [said.get(rater, "") for said in verdicts] for rater in raters}
    _table(table)


def _verdict(said: Said) -> str:
    return {"tie": "about the same", "both_bad": "both bad"}.get(said.winner, said.name or "?")


def _revealed(revealed: Sequence[Revealed]) -> None:
    table = {"Case": [short(one.text, _LONGEST) for one in revealed]}
    if all(one.verdict for one in revealed):
        table["A, on the left"] = [one.names[0] for one in revealed]
        table["B, on the right"] = [one.names[-1] for one in revealed]
    else:
        table["Answer of"] = [one.names[0] for one in revealed]
    table["You said"] = [_said(one) for one in revealed]
    if not all(one.blind for one in revealed):
        table["Known by name before"] = ["" if one.blind else "yes" for one in revealed]
    _table(table)


def _table(columns: dict[str, list[str]]) -> None:
    rows = len(columns["Case"])
    st.dataframe(
        columns,
        hide_index=True,
        height=min(38 + 35 * rows, 388),
        column_config={"Case": st.column_config.TextColumn(width=280)},
    )


def _said(one: Revealed) -> str:
    if one.verdict is None:
        return ", ".join(
            "good" if (m, v) == ("thumbs", 1) else "bad" if m == "thumbs" else f"{m} {v:g}" for m, v in one.scores
        )
    chosen = {"left": f"A: {one.names[0]}", "right": f"B: {one.names[-1]}"}
    return chosen.get(one.verdict, "about the same" if one.verdict == "tie" else "both bad")


def _set(name: str) -> None:
    st.session_state[name] = True
