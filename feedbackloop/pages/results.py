"""Results: who is better, by how much, for whom? The sentence first, then everything that it rests on."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from feedbackloop import plots
from feedbackloop.findings import (
    Results,
    Scores,
    Verdict,
    figures,
    issues,
    of_checks,
    ranking,
    scores,
    segments,
    sentence,
    verdict,
    wording,
)
from feedbackloop.findings.samples import FRACTION
from feedbackloop.models import RaterKind, Variant
from feedbackloop.pages import address, answer, charts, context
from feedbackloop.queries.verdicts import By, Selection
from feedbackloop.stats.interval import Scope
from feedbackloop.wording import count

KINDS: dict[str, RaterKind] = {"People": "human", "End users": "user", "Judges": "judge", "Checks": "grader"}
VERSIONS: dict[str, By] = {"each by itself": "version", "together": "name"}
TASTES: dict[str, Scope] = {"of these raters": "these raters", "of raters like these": "raters like these"}

# Links to rows below a chart; the others are a click on the chart away. (Streamlit would print a string that stands here.)
LINKS = 12

_EMPTY = Scores("human", (), (), 0)


@dataclass(frozen=True)
class View:
    """What is looked at, and how the library is asked for the same."""

    selection: Selection
    baseline: Variant
    label: str
    """The baseline's name, with its version where there are several."""
    taste: Scope

    @property
    def call(self) -> str:
        """`fl.results(...)` with the arguments of this view."""
        asked = {"task": self.selection.task, "baseline": self.label}
        if self.selection.rater_kind != "human":
            asked["rater_kind"] = self.selection.rater_kind
        if self.selection.by != "version":
            asked["by"] = self.selection.by
        if self.taste != "these raters":
            asked["scope"] = self.taste
        return f"fl.results(store, {', '.join(f'{name}={value!r}' for name, value in asked.items())})"


def options() -> tuple[By, Scope]:
    """How votes are put together, folded: the usual way does for most."""
    with st.popover("Options", icon=":material/tune:", key="results-options"):
        by = VERSIONS[address.choice("Versions of a name", list(VERSIONS), "versions", width=240)]
        taste = TASTES[address.choice("Intervals speak", list(TASTES), "taste", width=240)]
        st.caption("Speaking of raters like these takes five raters, and makes intervals wider.")
    return by, taste


def act(found: Verdict) -> None:
    """The one thing to do next."""
    row = found.best
    with st.container(horizontal=True, vertical_alignment="center"):
        if row is not None and not row.few and found.baseline is not None:
            text = f"Decide on {row.player.label} against {found.baseline.label}"
            if st.button(answer.escaped(text), type="primary", icon=":material/gavel:", key="results-decide"):
                context.go("decide", candidate=row.player.version_label(row.player.variant_id))
            context.link("rate", "Rate more", icon=":material/how_to_vote:")
        elif len(found.players.known) > 1 and st.button(
            "Rate more" if row else "Rate", type="primary", icon=":material/how_to_vote:", key="results-rate"
        ):
            context.go("rate")


def draw_votes(view: View, results: Results) -> None:
    """Who is preferred to the baseline."""
    found = results.verdict
    if found.best is None:
        return
    charts.heading("Win rate", f"fl.plots.forest({view.call})", key="forest")
    charts.draw(plots.forest(results), key="forest", alt=found.sentence, picture="win-rate")
    with st.expander("In numbers", key="votes-table"):
        st.dataframe(
            pd.DataFrame(
                {
                    "variant": row.player.label,
                    "preferred": wording.rate(row.win_rate),
                    "votes": row.votes,
                    "won": row.wins,
                    "lost": row.losses,
                    "about the same": row.ties,
                    "both bad": wording.rate(row.both_bad_rate) if row.votes else "-",
                    "raters": str(row.raters) if row.votes else "-",
                    "votes not blind": row.not_blind,
                }
                for row in found.rows
            ),
            hide_index=True,
            key="votes-in-numbers",
        )


def draw_tradeoffs(view: View, results: Results) -> None:
    """What quality costs, in money and time."""
    if not results.figures:
        return
    charts.heading("Quality against cost", f"fl.plots.quality_cost({view.call})", key="cost")
    charts.draw(plots.quality_cost(results), key="cost", alt="Quality against cost", picture="quality-cost")
    unpriced = sum(one.unpriced for one in results.figures)
    if unpriced:
        priced = sum(one.answers for one in results.figures) - unpriced
        st.caption(f"{unpriced:,} unpriced answers are left out of the cost; {priced:,} have a price.")
    charts.heading("Quality against latency", f"fl.plots.quality_latency({view.call})", key="latency")
    charts.draw(plots.quality_latency(results), key="latency", alt="Quality against latency", picture="quality-latency")
    with st.expander("In numbers", key="figures-table"):
        st.dataframe(
            pd.DataFrame(
                {
                    "variant": one.player.label,
                    "answers": one.answers,
                    "failed": one.failed,
                    "cost of an answer": wording.cost(one.cost_usd, one.unpriced),
                    "latency p50": wording.latency(one.latency_p50_ms),
                    "latency p95": wording.latency(one.latency_p95_ms),
                }
                for one in results.figures
            ),
            hide_index=True,
            key="figures-in-numbers",
        )


def draw_issues(view: View, results: Results) -> None:
    """What is wrong with the answers, with links to them."""
    if not results.issues:
        return
    charts.heading(
        "Issues",
        f"fl.plots.issues({view.call})",
        key="issues",
        help="Faults that raters named, of the answers they judged.",
    )
    picked = charts.pick(plots.issues(results), key="issues", alt="Issues by variant", picture="issues")
    if picked:
        variant, label = picked[0]
        context.go("compare", issue=label, variant=variant)
    with st.container(horizontal=True, gap="small", key="issue-links"):
        for one in sorted(results.issues, key=lambda one: -one.answers)[:LINKS]:
            named = one.answers + one.open_answers
            text = f"{wording.short(one.label, 30)}: {one.player.label}, {count(named, 'answer')}"
            context.link("compare", answer.escaped(text), issue=one.label, variant=one.player.variant_id)


def draw_segments(view: View, results: Results) -> None:
    """Who loses where."""
    if not results.segments:
        return
    charts.heading("Segments, losers first", f"fl.plots.segments({view.call})", key="segments")
    picked = charts.pick(plots.segments(results), key="segments", alt="Win rate by segment", picture="segments")
    if picked:
        context.go("compare", segment=str(picked[0]))
    with st.container(horizontal=True, gap="medium", key="segment-links"):
        for name in list(dict.fromkeys(row.segment for row in results.segments if row.named))[:LINKS]:
            context.link("compare", answer.escaped(f"Answers of {wording.short(name, 30)}"), segment=name)


def draw_scores(found: Scores, title: str, *, key: str) -> None:
    """Means of what was said of single answers, a row per metric and a column per variant."""
    if not found.rows and not found.errors:
        return
    st.subheader(title, anchor=False)
    table: dict[str, dict[str, str]] = {}
    for row in found.rows:
        said = f"{wording.score(row.mean, row.scale)}; {row.mean.n:,}"
        table.setdefault(row.metric, {})[row.player.label] = said
    if table:
        frame = pd.DataFrame.from_dict(table, orient="index").rename_axis("metric").reset_index().fillna("-")
        st.dataframe(frame, hide_index=True, key=key)
        st.caption("Mean with its interval; how many verdicts.")
    if found.errors:
        st.caption(f"{count(found.errors, 'answer')} could not be checked: the check itself failed.")


def draw_checks(view: View, results: Results) -> None:
    """How many answers passed each check."""
    if any(row.scale == FRACTION for row in results.checks.rows):
        charts.heading("Passed", f"fl.plots.checks({view.call})", key="checks")
        charts.draw(plots.checks(results), key="checks", alt="Checks passed by variant", picture="checks")
    draw_scores(results.checks, "Checks in numbers", key="checks-table")


def draw_rest(view: View, results: Results) -> None:
    """Folded: all comparisons together, and whether the side on which an answer stood made a difference."""
    found = results.verdict
    if not found.votes:
        return
    rated = results.ranking is not None
    title = "Ratings, each against each, ties and sides" if rated else "Each against each, ties and sides"
    with st.expander(title, key="results-rest"):
        if results.ranking is not None:
            charts.heading("Ratings", f"fl.plots.ratings({view.call})", key="ratings")
            st.caption(
                "From all comparisons together (Bradley-Terry). 1000 is the mean of all variants that comparisons connect; "
                "200 points more mean three wins in four. The interval is for the distance from that mean."
            )
            charts.draw(plots.ratings(results), key="ratings", alt="Ratings with intervals", picture="ratings")
            for one in results.ranking.rows:
                if one.remarks:
                    st.markdown(f"- {answer.escaped(f'{one.player.label}: ' + ', '.join(one.remarks))}")
        charts.heading("Each against each", f"fl.plots.win_matrix({view.call})", key="matrix")
        charts.draw(plots.win_matrix(results), key="matrix", alt="Wins of each against each", picture="win-matrix")
        for said in sentence.about_ties(found):
            st.markdown(f"- {answer.escaped(said)}")


def draw(view: View, head: DeltaGenerator) -> None:
    """One kind of rater's view of the answers, from the sentence down."""
    selection = view.selection
    checks = context.read(scores, of_checks(selection)) if selection.rater_kind == "grader" else _EMPTY
    found = context.read(verdict, selection, view.baseline.id, view.taste)
    said = sentence.of_checks(checks) if selection.rater_kind == "grader" else found.sentence
    with head:
        st.header(answer.escaped(said), anchor=False)
        if found.notes:
            st.caption(answer.escaped(" ".join(found.notes)))
        act(found)
    votes = Results(found, (), checks, _EMPTY, (), (), None)
    draw_votes(view, votes)
    if selection.rater_kind == "grader":
        draw_checks(view, Results(found, (), checks, _EMPTY, (), (), None))
    if not checks.overall and found.best is None:
        checks = context.read(scores, of_checks(selection))
    whole = Results(
        verdict=found,
        figures=context.read(figures, selection),
        checks=checks,
        ratings=_EMPTY if selection.rater_kind == "grader" else context.read(scores, selection),
        issues=context.read(issues, selection),
        segments=context.read(segments, selection, found.baseline.id) if found.baseline and found.best else (),
        ranking=context.read(ranking, selection, found.cells, found.players, view.taste),
    )
    draw_tradeoffs(view, whole)
    draw_issues(view, whole)
    draw_segments(view, whole)
    if selection.rater_kind != "grader":
        draw_scores(whole.ratings, "Ratings of single answers", key="ratings-table")
    draw_rest(view, whole)


st.title("Results")
st.caption("who is better, by how much, for whom?")
scope = context.scope()
if scope is None:
    st.info("No results yet: there are no answers.", icon=":material/leaderboard:")
    context.link("runs", "Make a run", icon=":material/play_circle:")
    context.link("home", "Or look at the demo", icon=":material/science:")
    st.stop()
if scope.baseline is None:
    st.info("No results yet: nothing has run for this task.", icon=":material/leaderboard:")
    context.link("runs", "Make a run", icon=":material/play_circle:")
    st.stop()

head = st.container(key="results-head")
with st.container(horizontal=True, vertical_alignment="center", key="results-choices"):
    who = address.segments("results", "Verdicts by", list(KINDS), "who", titled=False)
    by, taste = options()
since = scope.since.replace(second=0, microsecond=0) if scope.since else None
selection = Selection(scope.task, since, rater_kind=KINDS[who], by=by)
draw(View(selection, scope.baseline, context.label(scope.baseline, scope.variants), taste), head)
