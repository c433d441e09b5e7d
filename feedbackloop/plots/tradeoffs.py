"""Figures of what quality costs, in money and in time, and of the faults that raters named."""

from __future__ import annotations

import math
from dataclasses import dataclass

import plotly.graph_objects as go

from feedbackloop.findings import Figures, Player, Results, wording
from feedbackloop.findings.samples import FRACTION
from feedbackloop.plots import look
from feedbackloop.stats.interval import Interval
from feedbackloop.wording import count

PER = 1000
"""Costs are drawn for so many answers: single ones cost too little to read."""

MOST_LABELS = 12


@dataclass(frozen=True)
class _Spot:
    """A player with its quality and its figures."""

    player: Player
    quality: Interval
    figures: Figures
    said: str
    """The quality in words."""


def quality_cost(results: Results) -> go.Figure:
    """Quality against what 1,000 answers cost, both with intervals. Up and to the left is better."""
    spots = [spot for spot in _spots(results) if spot.figures.cost_usd.estimate is not None]
    if not spots:
        return look.message("No answer with both a price and a verdict or a check yet")
    made = _scene(results, "USD for 1,000 answers")
    costs = [_times(spot.figures.cost_usd, PER) for spot in spots]
    looks = look.looks(results.variant_ids)
    for spot, cost in zip(spots, costs, strict=True):
        drawn = looks[spot.player.variant_id]
        made.add_scatter(
            x=[cost.estimate],
            y=[spot.quality.estimate],
            mode="markers",
            marker={"color": drawn.colour, "size": 12, "symbol": drawn.symbol},
            cliponaxis=False,
            error_x=look.bars([cost], drawn.colour, floor=0.0),
            error_y=look.bars([spot.quality], drawn.colour),
            name=look.safe(wording.short(spot.player.label, look.LABEL)),
            customdata=[spot.player.id],
            hovertemplate="%{hovertext}<extra></extra>",
            hovertext=[
                look.lines(
                    spot.player.label,
                    spot.said,
                    f"an answer costs {wording.cost(spot.figures.cost_usd, spot.figures.unpriced)}",
                    f"{count(spot.figures.answers, 'answer')}",
                )
            ],
        )
    _spread(made, costs)
    return made


def quality_latency(results: Results) -> go.Figure:
    """Quality against latency, both with intervals: the full mark is the median, the hollow one the 95th percentile."""
    spots = [spot for spot in _spots(results) if spot.figures.latency_p50_ms.estimate is not None]
    if not spots:
        return look.message("No answer with both a latency and a verdict or a check yet")
    made = _scene(results, "seconds (filled: median, hollow: 95th percentile)")
    middles = [_times(spot.figures.latency_p50_ms, 1e-3) for spot in spots]
    tails = [_times(spot.figures.latency_p95_ms, 1e-3) for spot in spots]
    looks = look.looks(results.variant_ids)
    for spot, middle, tail in zip(spots, middles, tails, strict=True):
        drawn = looks[spot.player.variant_id]
        said = look.lines(
            spot.player.label,
            spot.said,
            f"median {wording.latency(spot.figures.latency_p50_ms)}",
            f"95th percentile {wording.latency(spot.figures.latency_p95_ms)}",
            count(spot.figures.latency_p50_ms.n, "answer"),
        )
        made.add_scatter(
            x=[middle.estimate, tail.estimate],
            y=[spot.quality.estimate, spot.quality.estimate],
            mode="lines+markers",
            line={"color": drawn.colour, "width": 1, "dash": "dot"},
            marker={
                "color": drawn.colour,
                "size": [12, 10],
                "symbol": [drawn.symbol, f"{drawn.symbol}-open"],
                "opacity": 1,
            },
            cliponaxis=False,
            error_x=look.bars([middle, tail], drawn.colour, floor=0.0),
            error_y=look.bars([spot.quality, _NOTHING], drawn.colour),
            name=look.safe(wording.short(spot.player.label, look.LABEL)),
            customdata=[spot.player.id, spot.player.id],
            hovertemplate="%{hovertext}<extra></extra>",
            hovertext=[said, said],
        )
    _spread(made, [*middles, *tails])
    return made


def issues(results: Results) -> go.Figure:
    """How often each fault was named, of the answers that were judged, by variant."""
    if not results.issues:
        return look.message("No issues named yet")
    labels = list(dict.fromkeys(issue.label for issue in results.issues))[:MOST_LABELS]
    looks = look.looks(results.variant_ids)
    order = list(looks)
    present = sorted({issue.player for issue in results.issues}, key=lambda one: order.index(one.variant_id))
    made = look.figure(130 + len(labels) * max(30, 16 * len(present)), legend=True)
    # Bars of a group are stacked upwards: the last drawn is on top.
    for player in reversed(present):
        mine = {
            issue.label: issue for issue in results.issues if issue.player.id == player.id and issue.label in labels
        }
        made.add_bar(
            y=[-place for place, label in enumerate(labels) if label in mine],
            x=[mine[label].share.estimate or 0.0 for label in labels if label in mine],
            orientation="h",
            marker={"color": looks[player.variant_id].colour, "opacity": 0.8},
            error_x=look.bars([mine[label].share for label in labels if label in mine], look.LINE),
            name=look.safe(wording.short(player.label, look.LABEL)),
            customdata=[[player.variant_id, label] for label in labels if label in mine],
            hovertemplate="%{hovertext}<extra></extra>",
            hovertext=[
                look.lines(
                    f"{label}: {player.label}",
                    f"{mine[label].answers} of {count(mine[label].judged, 'judged answer')}, {wording.rate(mine[label].share)}",
                    f"and on {mine[label].open_answers} read with the names in sight"
                    if mine[label].open_answers
                    else None,
                )
                for label in labels
                if label in mine
            ],
        )
    look.named_rows(made, [look.tick(label) for label in labels])
    highest = min(1.0, look.highest([issue.share for issue in results.issues]) * 1.05)
    look.percent_axis(made, "xaxis", "share of the answers that were judged", range=[0, max(highest, 0.05)])
    made.update_layout(barmode="group", bargap=0.3, bargroupgap=0.12, legend={"traceorder": "reversed"})
    return made


_NOTHING = Interval(None, None, None, None, 0, 0, "no data")


def _spots(results: Results) -> list[_Spot]:
    """Players by win rate, the baseline at one half; by checks where nobody voted."""
    base = results.baseline
    if base is None:
        return []
    found = []
    if any(row.votes for row in results.rows):
        level = Interval(0.5, 0.5, 0.5, None, 0, 0, "no data")
        rated = [(base, level, "the baseline: 50% by definition")]
        rated += [
            (
                row.player,
                row.win_rate,
                f"preferred to {base.label} in {wording.rate(row.win_rate)}, {count(row.votes, 'vote')}",
            )
            for row in results.rows
            if row.votes
        ]
    else:
        rated = [
            (
                score.player,
                score.mean,
                f"checks {wording.rate(score.mean)}, {count(score.mean.n, 'verdict')}",
            )
            for score in results.checks.overall
            if score.scale == FRACTION
        ]
    for player, quality, said in rated:
        figures = results.figures_of(player.id)
        if figures is not None and quality.estimate is not None:
            found.append(_Spot(player, quality, figures, said))
    return found


def _scene(results: Results, title: str) -> go.Figure:
    voted = any(row.votes for row in results.rows)
    made = look.figure(380, legend=True)
    base = results.baseline.label if results.baseline else ""
    quality = f"preferred to {wording.short(base, 20)}" if voted else "checks passed"
    look.percent_axis(made, "yaxis", quality)
    made.update_xaxes(title={"text": look.safe(title)})
    if voted:
        made.add_hline(y=0.5, line={"dash": "dash", "width": 1.2, "color": look.LINE})
    return made


def _spread(made: go.Figure, intervals: list[Interval]) -> None:
    """From zero on, or by factors where the figures differ more than tenfold."""
    values = [
        value
        for one in intervals
        for value in (one.lower, one.estimate, one.upper)
        if value is not None and math.isfinite(value)
    ]
    middles = [one.estimate for one in intervals if one.estimate is not None]
    if middles and min(values) > 0 and max(middles) / min(middles) > 10:
        ticks = look.factors(min(values), max(values))
        ends = [math.log10(ticks[0]) - 0.03, math.log10(ticks[-1]) + 0.03]
        written = [f"{tick:.12g}" for tick in ticks]
        made.update_xaxes(type="log", tickmode="array", tickvals=ticks, ticktext=written, range=ends)
    else:
        made.update_xaxes(rangemode="tozero")


def _times(interval: Interval, factor: float) -> Interval:
    """The same in other units."""

    def scaled(value: float | None) -> float | None:
        return None if value is None else value * factor

    return Interval(
        estimate=scaled(interval.estimate),
        lower=scaled(interval.lower),
        upper=scaled(interval.upper),
        se=scaled(interval.se),
        n=interval.n,
        clusters=interval.clusters,
        method=interval.method,
        scope=interval.scope,
        alpha=interval.alpha,
        center=scaled(interval.center),
        df=interval.df,
    )
