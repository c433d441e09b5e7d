"""Trends: better, slower, dearer? Quality, latency and cost on one axis, and the figures behind them."""

from __future__ import annotations

from typing import get_args
from zoneinfo import ZoneInfo

import pandas as pd
import streamlit as st

from feedbackloop import plots
from feedbackloop.findings import Trends, trends, wording
from feedbackloop.pages import address, answer, charts, context
from feedbackloop.plots.lines import MOST_LINES
from feedbackloop.queries.trends import Step
from feedbackloop.wording import count

STEPS: tuple[Step, ...] = get_args(Step)


def viewers_zone() -> str:
    """Where the viewer's days begin; UTC where the browser does not say."""
    name = st.context.timezone
    try:
        return ZoneInfo(name).key if name else "UTC"
    except (KeyError, ValueError, OSError):
        return "UTC"


def table(found: Trends) -> pd.DataFrame:
    """A row per step and variant, newest first, in words."""
    quality = found.quality
    return pd.DataFrame(
        {
            found.step: found.rungs[point.rung].label,
            "variant": point.version,
            "answers": point.answers,
            "failed": point.failed,
            quality.title if quality else "quality": (
                f"{wording.score(point.quality, quality.scale)}; {point.quality.n:,}"
                if quality and point.quality
                else "-"
            ),
            "latency p50": wording.latency(point.latency_p50_ms),
            "latency p95": wording.latency(point.latency_p95_ms),
            "cost of an answer": wording.cost(point.cost_usd, point.unpriced),
        }
        for point in reversed(found.points)
    )


def remarks(found: Trends) -> list[str]:
    """What must be known to read the chart rightly."""
    said = ["Click a point to see its answers; click a name to see it alone, double-click to take it away."]
    if found.marks:
        said.append("A grey line is a release (▲) or a way back (▼): its triangle says which.")
    if len(found.rungs) == 1:
        said.append(f"One {found.step} so far: the next one makes a line.")
    if any(point.latency_p95_ms.upper == float("inf") for point in found.points):
        said.append("A bar without an upper end: too few answers to give one (for the 95th percentile, under 72).")
    unpriced = sum(point.unpriced for point in found.points)
    if unpriced:
        said.append(f"{unpriced:,} unpriced answers are left out of the cost.")
    if found.quality is None:
        said.append("Nothing was judged yet: no votes, checks or ratings.")
    elif found.step == "run" and not found.quality.votes and not any(point.quality for point in found.points):
        said.append(
            "No answer of these runs was judged so. The service's answers are of no run: see them by hour, day or week."
        )
    if found.left_out:
        said.append(f"{count(found.left_out, 'older ' + found.step)} left out; choose a longer step to see all.")
    lines = len({point.player for point in found.points})
    if lines > MOST_LINES:
        said.append(f"{MOST_LINES} of {lines} variants are drawn; the table has all.")
    return said


st.title("Trends")
st.caption("better, slower, dearer?")
scope = context.scope()
if scope is None or scope.baseline is None:
    st.info("No trends yet: the first run makes the first point.", icon=":material/show_chart:")
    context.link("runs", "Make a run", icon=":material/play_circle:")
    context.link("home", "Or look at the demo", icon=":material/science:")
    st.stop()

since = scope.since.replace(second=0, microsecond=0) if scope.since else None
choices = st.container(horizontal=True, vertical_alignment="bottom", key="trends-choices")
with choices:
    step = address.segments("trends", "By", STEPS, "by")
view = {"task": scope.task, "by": step, "since": since, "baseline": scope.baseline.name, "zone": viewers_zone()}
found = context.read(trends, **view)
if len(found.qualities) > 1:
    with choices:
        measure = address.choice("Quality by", [one.title for one in found.qualities], "quality", width=240)
    if found.quality is not None and measure != found.quality.title:
        found = context.read(trends, **view, quality=measure)
if not found.points:
    st.info("No answers in this period.", icon=":material/show_chart:")
    st.stop()

asked = {"task": scope.task, "by": step, "baseline": scope.baseline.name, "zone": view["zone"]}
if found.quality is not None and found.quality != found.qualities[0]:
    asked["quality"] = found.quality.title
call = f"fl.trends(store, {', '.join(f'{name}={value!r}' for name, value in asked.items())})"
charts.heading("Quality, latency and cost", f"fl.plots.trends({call})", key="trends")
picked = charts.pick(
    plots.trends(found), key="trends", alt="Quality, latency and cost by variant over time", picture="trends"
)
if picked:
    point = found.points[int(picked[0])]
    run = {"run": point.run_id} if point.run_id else {}
    context.go("compare", variant=point.variant_id, **run)
st.caption(answer.escaped(" ".join(remarks(found))))
with st.expander("In numbers", key="trends-table"):
    st.dataframe(table(found), hide_index=True, key="trends-in-numbers")
st.download_button(
    "Download the data (CSV)",
    found.to_csv(),
    file_name=f"trends-by-{step}.csv",
    mime="text/csv",
    icon=":material/download:",
    on_click="ignore",
    key="trends-csv",
)
