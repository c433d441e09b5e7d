"""Decide: switch, or not? The gate's verdict on one candidate, the release that may follow, and the way back."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from feedbackloop import comparisons
from feedbackloop.errors import FeedbackLoopError
from feedbackloop.findings import results
from feedbackloop.findings.wording import answering, duration, percent, short
from feedbackloop.improve import gate, policy
from feedbackloop.improve import receipt as words
from feedbackloop.improve.picture import picture
from feedbackloop.models import Decision, Policy, Variant
from feedbackloop.pages import address, answer, context, ruling
from feedbackloop.plots import course
from feedbackloop.queries import decisions, policies
from feedbackloop.queries.pairs import seconds_per_vote

PICTURE = "receipt.svg"
"""Named in the receipt, and what the picture is downloaded as."""


def candidates(scope: context.Scope) -> list[Variant]:
    """Everything but the baseline, the most promising first: by win rate, then as they ran."""
    found = context.read(results, task=scope.task, baseline=scope.baseline.id if scope.baseline else None)
    order = {row.player.variant_id: place for place, row in enumerate(found.rows)}
    others = [variant for variant in scope.variants if scope.baseline is None or variant.id != scope.baseline.id]
    return sorted(others, key=lambda variant: order.get(variant.id, len(order)))


@st.dialog("Release")
def confirm(decision: Decision, candidate: Variant) -> None:
    """Ask once, then write the decision and the policy that rests on it."""
    name = words.named(decision, decision.candidate)
    share = st.slider("Share of requests that it answers", 5, 100, 100, 5, format="%d%%")
    st.write(
        f"From the next request on, {answer.escaped(name)} answers {share}% of the requests that name this task. "
        "Everything can be rolled back."
    )
    if decision.verdict != "promote":
        st.warning("The gate has not promoted it. The release is kept with that verdict.", icon=":material/warning:")
    if st.button(
        "Release", type="primary", key="release-now", on_click=release, args=(decision, candidate.id, share / 100)
    ):
        st.rerun()


def release(decision: Decision, candidate: str, share: float) -> None:
    """Write the decision, and the policy that rests on it."""
    store = context.store()
    store.append([decision])
    policy.promote(store, decision.task, candidate, canary=None if share == 1 else share, decision_id=decision.id)


def verdict(found: gate.Assessment, candidate: Variant, live: Policy | None) -> None:
    """The sentence, what it rests on, and the one thing to do next."""
    decision = found.decision
    share = policies.share(live, candidate.id)
    if live is not None and share == 1:
        name = short(words.named(decision, candidate.id))
        st.subheader(
            answer.escaped(f"{name} answers since {context.local(live.created_at):%d %B %Y %H:%M}."), anchor=False
        )
        st.caption(answer.escaped(f"The gate as it stands: {words.sentence(decision)}"))
    else:
        st.subheader(answer.escaped(words.sentence(decision)), anchor=False)
    st.text(words.evidence(decision))
    if live is not None and 0 < share < 1:
        st.caption(
            f"It answers {percent(share)} of the requests since {context.local(live.created_at):%d %B %Y %H:%M}."
        )
    pace = context.read(seconds_per_vote, decision.task)
    release = decision.verdict == "promote"
    with st.container(horizontal=True):
        if share < 1 and not release and decision.reason == "too_few":
            more = decision.more_needed or 0
            if st.button(
                f"Rate {more:,} more, {duration(more * pace)}",
                type="primary",
                icon=":material/how_to_vote:",
            ):
                pair = [decision.baseline, decision.candidate]
                queue = comparisons.open_queue(context.store(), decision.task, pair, rule=found.rule.unusual)
                context.go("rate", queue=queue.id)
        kind: Literal["primary", "secondary"] = "primary" if release else "secondary"
        if share < 1 and st.button("Release …", type=kind, icon=":material/rocket_launch:"):
            confirm(decision, candidate)
        if share == 1:
            context.link("trends", "See how it fares", icon=":material/show_chart:", by="day")
    if found.evidence.cases:
        figure = course.sequence(
            found.sequence.means,
            found.sequence.lower,
            found.sequence.upper,
            line=found.line,
            candidate=words.named(decision, decision.candidate),
            baseline=words.named(decision, decision.baseline),
        )
        st.plotly_chart(figure, key="course")


def guards(decision: Decision) -> None:
    """What the candidate may not make worse."""
    if not decision.guards:
        return
    st.markdown("**Guards**")
    titles = ("guard", "baseline", "candidate", "change", "allowed", "state")
    rows = [dict(zip(titles, words.guard_cells(name, one), strict=True)) for name, one in decision.guards.items()]
    st.dataframe(rows, hide_index=True, key="guards")


def money(decision: Decision) -> None:
    """What a month of requests would cost more or less."""
    cost = decision.evidence.get("cost_usd")
    if not cost or None in cost:
        st.caption("The price of one of the two is unknown, so nothing can be said of money.")
        return
    requests = st.number_input("Requests a month", 1, 1_000_000_000, 10_000, 1_000, key="requests-a-month", width=220)
    change = (cost[1] - cost[0]) * requests
    st.metric(
        "Cost a month", f"${cost[1] * requests:,.2f}", f"{change:+,.2f} USD", delta_color="inverse", width="content"
    )


def history(task: str, names: dict[str, str]) -> None:
    """Who answered when, and the way back."""
    past = context.read(policy.history, task)
    if not past:
        st.caption("Nothing is released yet: the service answers no request that names this task.")
        return
    rows = [
        {
            "since": context.local(one.created_at),
            "who answers": answering(one.weights, names),
            "decision": (one.decision_id or "")[:8],
        }
        for one in past
    ]
    st.dataframe(
        rows,
        hide_index=True,
        key="releases",
        column_config={"since": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm")},
    )
    before = context.read(policies.releases, task)[-1].before
    if before is None:
        return
    if st.button("Roll back", key="roll-back", icon=":material/undo:"):
        try:
            policy.rollback(context.store(), task)
        except FeedbackLoopError as error:
            st.error(answer.escaped(str(error)))
            return
        st.rerun()
    st.caption(answer.escaped(f"Rolling back gives the requests to {answering(before.weights, names)}."))


st.title("Decide")
st.caption("Switch, or not?")
scope = context.scope(period=False)
if scope is None or scope.baseline is None:
    st.info("There is nothing to decide on yet. Answers come first.", icon=":material/info:")
    context.link("home", "Go to Home")
    st.stop()
names = context.labelled(scope.variants)
choices = candidates(scope)
if not choices:
    st.info("There is one variant only. Add a second one that may take its place.", icon=":material/info:")
    context.link("runs", "New run", new="run")
    st.stop()
with st.container(horizontal=True, vertical_alignment="bottom"):
    chosen = address.choice("Candidate", [names[variant.id] for variant in choices], "candidate", width=220)
    candidate = next(variant for variant in choices if names[variant.id] == chosen)
    rule = ruling.choose(scope.task, candidate.id, scope.baseline.id)
address.say_unknown("candidate", "This task has no candidate", chosen)
live = context.read(policies.live, scope.task)
found = context.read(gate.assess, scope.task, candidate.id, scope.baseline.id, rule=rule)
verdict(found, candidate, live)
guards(found.decision)
losers = [
    row
    for row in context.read(results, task=scope.task, baseline=scope.baseline.id).segments
    if row.player.variant_id == candidate.id
]
losing = [row for row in losers if row.win_rate.estimate is not None and row.win_rate.estimate < 0.5]
if losing:
    st.markdown("**Who loses**")
    # As one text: a line each, and not a paragraph each.
    st.text(
        "\n".join(
            f"{row.segment}: preferred in {row.win_rate.estimate:.0%} of {row.win_rate.n} comparisons ({row.win_rate.lower:.0%} to {row.win_rate.upper:.0%})"
            for row in losing
        )
    )
st.markdown("**Money**")
money(found.decision)
st.markdown("**Releases**")
history(scope.task, names)
with st.expander("Receipt for a pull request", icon=":material/receipt_long:"):
    # Of a release that is live, the decision that it rests on, and not what has come since.
    made = context.read(decisions.decision, live.decision_id) if live is not None and live.decision_id else None
    if made is not None and (made.candidate, made.baseline) != (candidate.id, scope.baseline.id):
        made = None
    svg = picture(made or found.decision)
    st.image(svg, width=720)
    text = words.receipt(made or found.decision, policy=live if made else None, picture=PICTURE)
    st.code(text, language="markdown", wrap_lines=True)
    with st.container(horizontal=True):
        st.download_button("Download", text, "receipt.md", icon=":material/download:", on_click="ignore")
        st.download_button(
            "Download the picture", svg, PICTURE, "image/svg+xml", icon=":material/image:", on_click="ignore"
        )
