"""Home: how the loop stands, and the one thing to do next."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import streamlit as st

from feedbackloop import comparisons
from feedbackloop.comparisons.queues import Purpose
from feedbackloop.demo import make_demo
from feedbackloop.findings import Verdict, verdict
from feedbackloop.findings.sentence import FIRST_PAIRS
from feedbackloop.findings.wording import answering, duration, short
from feedbackloop.identity import utcnow
from feedbackloop.improve import gate
from feedbackloop.improve import receipt as words
from feedbackloop.improve.countdown import MOST_VOTES
from feedbackloop.improve.rules import Rule, rule_of
from feedbackloop.models import Decision, Variant
from feedbackloop.pages import answer, context, live, ruling
from feedbackloop.pages.wording import shortened
from feedbackloop.pipeline import Progress, launch
from feedbackloop.queries import RunStatus, overview, policies
from feedbackloop.queries.overview import NO_FIGURES, Loop
from feedbackloop.queries.verdicts import Selection
from feedbackloop.stats.standings import FEWEST_COMPARISONS
from feedbackloop.store import Store
from feedbackloop.wording import ago, count, file_name, milliseconds, spend

SHOWN_CHANGES = 6  # no docstring below it: Streamlit would draw it


@dataclass(frozen=True)
class Act:
    """What to do next."""

    label: str
    icon: str
    reason: str
    page: str
    parameters: dict[str, str]
    resumes: str | None = None
    """A run to go on with before the page is opened."""
    pairs: int = 0
    """So many are to be rated: a queue is opened for them."""
    rule: dict[str, Any] | None = None
    """Or so many as this rule needs to decide between the baseline and the best (`Rule.unusual`)."""


@dataclass(frozen=True)
class Change:
    """One thing that happened."""

    at: datetime
    text: str
    """Fit for Markdown."""
    page: str
    parameters: dict[str, str]


def begin() -> None:
    """An empty store: two ways in."""
    left, right = st.columns(2, gap="medium")
    with left, st.container(border=True, key="begin-demo", height="stretch"):
        st.subheader("Try the demo", anchor=False)
        st.write(
            "Six weeks of a made-up team: three variants, 48 questions, the votes of two raters. "
            "It takes a few seconds, needs no network and no key, and lies in a file of its own."
        )
        if st.button("Try the demo", type="primary", icon=":material/science:", width="stretch"):
            make()
    with right, st.container(border=True, key="begin-data", height="stretch"):
        st.subheader("Bring your data", anchor=False)
        st.write(
            "Questions to put to models, or answers that you have already: a CSV with a column of answers for each "
            "variant can be rated blind at once, without a key."
        )
        if st.button("Bring your data", type="primary", icon=":material/upload_file:", width="stretch"):
            context.go("runs", new="run")


def make() -> None:
    """Make the demo in the working directory, with progress, and go there."""
    bar = st.progress(0.0, text="Making the demo")
    done: dict[str, int] = {}

    def drawn(progress: Progress) -> None:
        done[progress.run_id] = progress.done
        share = min(sum(done.values()) / max(progress.total * 3, 1), 1.0)
        bar.progress(share, text=f"Making the demo: run {len(done)} of 3")

    asyncio.run(make_demo(Store(Path.cwd() / context.DEMO_FILE), progress=drawn))
    context.enter_demo()


def standing(store: Store, task: str, baseline: str | None, since: datetime | None) -> Verdict:
    """What the people's votes on a task amount to."""
    return verdict(store, Selection(task, since), baseline)


def decision_on_best(store: Store, task: str, candidate: str, baseline: str, rule: Rule) -> Decision:
    """How the decision stands on the best candidate."""
    return gate.assess(store, task, candidate, baseline, rule=rule).decision


def after_the_votes(found: Verdict, decision: Decision, mine: Sequence[RunStatus], scope: context.Scope) -> Act:
    """What the votes on the best candidate ask for: its release, more votes, or another candidate."""
    labels = context.labelled(scope.variants)
    name, base = labels[decision.candidate], labels[decision.baseline]
    pair = {"candidate": name, "baseline": base}
    why = words.sentence(decision)
    if decision.verdict == "promote":
        present = context.read(policies.live, scope.task)
        if present is not None and policies.share(present, decision.candidate) == 1:
            reason = f"{short(name)} answers since {context.local(present.created_at):%d %B %Y %H:%M}: see what users make of it."
            return Act("See how it fares", ":material/show_chart:", reason, "trends", {"by": "day"})
        reason = f"The votes suffice: it may take the place of {short(base)}. You are asked before anything changes."
        return Act(f"Release {short(name, 24)}", ":material/rocket_launch:", reason, "decide", pair)
    more = decision.more_needed or 0
    both = decision.baseline, decision.candidate
    asks = decision.reason == "too_few" and more <= MOST_VOTES
    if asks and context.read(comparisons.outlook, scope.task, both, rater=context.rater()).size:
        label = f"Rate {count(more, 'more pair')}, {duration(more * found.seconds_per_vote)}"
        return Act(label, ":material/how_to_vote:", why, "rate", pair, rule=rule_of(decision).unusual)
    if decision.reason == "worse":
        return Act("Add another variant", ":material/add:", why, "runs", another(mine))
    return Act("See the decision", ":material/gavel:", why, "decide", pair)


def another(mine: Sequence[RunStatus]) -> dict[str, str]:
    """A new run like the last one, where that was a run and no import."""
    last = mine[0] if mine else None
    return {"new": "run"} | ({} if last is None or "imported" in last.run.settings else {"like": last.run.id})


def next_act(found: Verdict, loop: Loop, mine: Sequence[RunStatus], scope: context.Scope) -> Act:
    """The one thing to do next for a task."""
    last = mine[0] if mine else None
    going = next((status for status in mine if status.state == "running"), None)
    if going is not None:
        return Act(
            "Watch the run", ":material/visibility:", "It goes on in the background.", "runs", {"run": going.run.id}
        )
    # Who stopped a run and went on to rate meant it.
    left_off = last is not None and (last.state == "interrupted" or (last.state == "stopped" and not found.votes))
    if last is not None and left_off and launch.cannot_resume(last) is None:
        missing = int(last.counts.get("total") or 0) - int(last.counts.get("done") or 0)
        left = f"{count(missing, 'answer is', 'answers are')} missing" if missing > 0 else "What is missing is asked"
        reason = f"{left}; what is there is not asked again."
        label = f"Resume the {last.state} run"
        return Act(label, ":material/play_arrow:", reason, "runs", {"run": last.run.id, "started": "1"}, last.run.id)
    if not loop.answers:
        return Act("New run", ":material/add:", "There are no answers yet.", "runs", {"new": "run"})
    if len(scope.variants) < 2:
        reason = "To compare, there must be two: another prompt, another model, or another parameter."
        return Act("Add a second variant", ":material/add:", reason, "runs", another(mine))
    return by_votes(found, mine, scope)


def by_votes(found: Verdict, mine: Sequence[RunStatus], scope: context.Scope) -> Act:
    """What to do where there are answers to compare: rate, until there is something to decide on."""
    best = found.best
    cases = FIRST_PAIRS if found.counted is None else found.counted.cases
    missing = min(FIRST_PAIRS, cases) if best is None else FEWEST_COMPARISONS - best.votes
    if missing > 0:
        pairs = "pairs" if best is None else "more pairs"
        label = f"Rate {missing} {pairs}, {duration(missing * found.seconds_per_vote)}"
        reason = "Blind: two answers, and not a word on whose they are."
        return Act(label, ":material/how_to_vote:", reason, "rate", {}, pairs=missing)
    if best is not None and found.baseline is not None:
        pair = best.player.variant_id, found.baseline.variant_id
        return after_the_votes(
            found, context.read(decision_on_best, scope.task, *pair, ruling.in_force(scope.task, *pair)), mine, scope
        )
    return Act("See the results", ":material/leaderboard:", "Who is better, by how much, and for whom.", "results", {})


def take(act: Act, found: Verdict, scope: context.Scope) -> None:
    """The primary button, and why."""
    with st.container(horizontal=True, vertical_alignment="center", key="next"):
        if st.button(act.label, type="primary", icon=act.icon, key="next-act"):
            if act.resumes is not None:
                st.session_state["launched"] = launch.resume(context.store(), act.resumes)
            asks = act.pairs or act.rule is not None
            parameters = {"queue": queue_of(act, found, scope)} if asks else act.parameters
            context.go(act.page, **parameters)
        st.caption(answer.escaped(act.reason), width="content")
        if act.rule is not None:
            context.link("decide", "Decide", icon=":material/gavel:", **act.parameters)


def queue_of(act: Act, found: Verdict, scope: context.Scope) -> str:
    """The queue that fills the gap: the best candidate against the baseline, or all of them where nobody has voted."""
    newest = list({variant.name: variant.id for variant in reversed(scope.variants)}.values())
    wanted = newest
    if found.best is not None and found.baseline is not None:
        wanted = [found.baseline.variant_id, found.best.player.variant_id]
    purpose: Purpose = "decision" if len(wanted) == 2 else "leaderboard"
    how = {"limit": act.pairs} if act.rule is None else {"rule": act.rule}
    queue = comparisons.open_queue(context.store(), scope.task, wanted, purpose=purpose, rater=context.rater(), **how)
    return queue.id


def numbers(loop: Loop) -> None:
    """The loop as four counts, each with the way to what it counts."""
    shown = (
        ("Answers", loop.answers, "compare"),
        ("Votes", loop.votes, "results"),
        ("Decisions", loop.decisions, "decide"),
        ("Live", loop.live, "decide"),
    )
    for column, (title, value, page) in zip(st.columns(len(shown)), shown, strict=True):
        with column, st.container(border=True, key=f"count-{title.lower()}", gap="xsmall"):
            st.metric(title, f"{value:,}")
            context.link(page, context.PAGES[page].title)


def changes(mine: Sequence[RunStatus], task: str, variants: tuple[Variant, ...]) -> list[Change]:
    """What happened lately, newest first: runs, new versions, votes, releases."""
    found = []
    versions: dict[str, set[str]] = {}
    for status in reversed(mine):
        named = list(zip(status.run.variants, status.variants, strict=True))
        fresh = [name for id_, name in named if name in versions and id_ not in versions[name]]
        for id_, name in named:
            versions.setdefault(name, set()).add(id_)
        new = f" (new {shortened(fresh)})" if fresh else ""
        kind = "Run going on:" if status.state == "running" else f"Run {status.state}:"
        if "imported" in status.run.settings:
            kind = "Answers imported from"
        text = answer.escaped(f"{kind} {short(file_name(status.run.dataset), 28)}{new}")
        found.append(Change(status.run.created_at, text, "runs", {"run": status.run.id}))
    for row in context.read(overview.voting, task, limit=SHOWN_CHANGES).to_dict("records"):
        text = answer.escaped(f"{count(int(row['votes']), 'vote')} by {short(str(row['rater']), 28)}")
        found.append(Change(row["last"].to_pydatetime(), text, "results", {}))
    names = context.labelled(variants)
    for release in context.read(policies.releases, task)[-SHOWN_CHANGES:]:
        text = (
            f"{'Rolled back to' if release.back else 'Released'} {short(answering(release.policy.weights, names), 40)}"
        )
        found.append(Change(release.policy.created_at, answer.escaped(text), "decide", {}))
    return sorted(found, key=lambda change: change.at, reverse=True)[:SHOWN_CHANGES]


def lately(mine: Sequence[RunStatus], scope: context.Scope) -> None:
    """Draw what happened lately."""
    st.subheader("Lately", anchor=False)
    now = utcnow()
    for change in changes(mine, scope.task, scope.variants):
        with st.container(horizontal=True, gap="small", vertical_alignment="center", wrap=False):
            st.caption(ago(change.at, now), width=90)
            context.link(change.page, change.text, **change.parameters)


def last_run(status: RunStatus) -> None:
    """Draw what the last run cost and how quick it was."""
    st.subheader("The last run", anchor=False)
    figures = context.read(overview.run_figures, (status.run.id,)).get(status.run.id, NO_FIGURES)
    latency = context.read(overview.latency, status.run.id)
    at = context.local(status.run.created_at)
    name = short(file_name(status.run.dataset), 24)
    context.link("runs", answer.escaped(f"{name}, {at:%d %B %Y %H:%M}"), run=status.run.id)
    answers = count(figures.answers, "answer")
    told = [f"{answers}, {figures.failed:,} failed" if figures.failed else answers]
    told.append(f"Spent: {spend(figures.spent_usd, figures.unpriced)}")
    if latency is not None:
        told.append(
            f"Half of the answers within {milliseconds(latency.p50_ms)}, 95% within {milliseconds(latency.p95_ms)}"
        )
    st.markdown("\n".join(f"- {answer.escaped(line)}" for line in told))


st.title("Home")
st.caption("what should I do next?")
scope = context.scope()
if scope is None:
    begin()
    st.stop()

mine = [status for status in live.statuses() if status.run.task == scope.task]
since = scope.since.replace(second=0, microsecond=0) if scope.since else None
loop = context.read(overview.loop, scope.task, since)
found = context.read(standing, scope.task, scope.baseline.id if scope.baseline else None, since)
st.subheader(answer.escaped(found.sentence), anchor=False)
for going in mine:
    if going.state == "running":
        live.watch(going.run.id, live.title(going))
take(next_act(found, loop, mine, scope), found, scope)
numbers(loop)
# Beside each other where there is room, else below.
with st.container(horizontal=True, gap="large", key="news"):
    with st.container(width=420):
        lately(mine, scope)
    if mine:
        with st.container(width=330):
            last_run(mine[0])
