"""Figures of who is preferred: against the baseline, by segment, in ratings, and each against each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from feedbackloop.findings import Player, Results, wording
from feedbackloop.findings.breakdown import SegmentRow
from feedbackloop.findings.samples import FRACTION
from feedbackloop.findings.verdict import Row
from feedbackloop.plots import look
from feedbackloop.stats.interval import Interval
from feedbackloop.wording import count

MOST_GROUPS = 20
"""Segments, or checks; of more, those that come first."""

MOST_WRITTEN = 12
"""Up to so many variants, shares are written into the matrix."""


def forest(results: Results) -> go.Figure:
    """Win rates against the baseline with their intervals, best first; right of the line is better than the baseline."""
    base = results.baseline
    if base is None or not results.rows:
        return look.message("Nothing to compare yet")
    rows = [row for row in results.rows if row.votes]
    if not rows:
        return look.message(f"Nobody has compared anything with {wording.short(base.label)} yet")
    looks = look.looks(results.variant_ids)
    made = look.figure(70 + 62 * len(rows))
    for place, row in enumerate(rows):
        drawn, estimate = looks[row.player.variant_id], row.win_rate.estimate or 0.0
        made.add_scatter(
            x=[estimate],
            y=[-place],
            mode="markers+text",
            text=[wording.rate(row.win_rate)],
            # Near an end of the axis the text would be cut.
            textposition="top left" if estimate > 0.85 else "top right" if estimate < 0.15 else "top center",
            cliponaxis=False,
            marker={"color": drawn.colour, "size": 12, "symbol": drawn.symbol + ("-open" if row.few else "")},
            error_x=look.bars([row.win_rate], drawn.colour),
            hovertemplate="%{hovertext}<extra></extra>",
            hovertext=[_row_in_words(row, base.label)],
            customdata=[row.player.id],
            name=look.safe(row.player.label),
        )
    look.named_rows(made, [look.tick(row.player.label, _votes(row)) for row in rows])
    look.percent_axis(made, "xaxis", f"share of comparisons preferred to {wording.short(base.label, look.LABEL)}")
    made.add_vline(x=0.5, line={"dash": "dash", "width": 1.2, "color": look.LINE})
    return made


@dataclass(frozen=True)
class _Dot:
    """A share of one player in one group."""

    group: str
    player: Player
    share: Interval
    said: str
    """What hovering tells."""


def segments(results: Results) -> go.Figure:
    """Win rates against the baseline by segment; the segment in which somebody loses most is on top."""
    base, rows = results.baseline, results.segments
    if base is None or not rows:
        return look.message("No votes in more than one segment yet")
    dots = [
        _Dot(row.segment, row.player, row.win_rate, _segment_in_words(row, row.player.label, base.label))
        for row in rows
    ]
    made = _dots(dots, [row.player for row in results.rows], look.looks(results.variant_ids))
    look.percent_axis(made, "xaxis", f"share of comparisons preferred to {wording.short(base.label, look.LABEL)}")
    made.add_vline(x=0.5, line={"dash": "dash", "width": 1.2, "color": look.LINE})
    return made


def checks(results: Results) -> go.Figure:
    """How many of its answers each variant passed each check with; checks on other scales stand in `Results.checks` only."""
    rows = [row for row in results.checks.rows if row.scale == FRACTION]
    if not rows:
        return look.message("No checks that pass or fail yet")
    dots = [
        _Dot(
            row.metric,
            row.player,
            row.mean,
            look.lines(f"{row.metric}: {row.player.label}", wording.rate(row.mean), count(row.mean.n, "verdict")),
        )
        for row in rows
    ]
    made = _dots(dots, [row.player for row in rows], look.looks(results.variant_ids))
    look.percent_axis(made, "xaxis", "passed")
    return made


def _dots(dots: Sequence[_Dot], players: Sequence[Player], looks: dict[str, look.Look]) -> go.Figure:
    """Groups below each other in the order of the dots, and within a group players below each other."""
    names = list(dict.fromkeys(dot.group for dot in dots))[:MOST_GROUPS]
    present = [one for one in dict.fromkeys(players) if any(dot.player == one for dot in dots)]
    step = 0.7 / max(len(present), 1)
    made = look.figure(110 + len(names) * max(34, 20 * len(present)), legend=True)
    for number, player in enumerate(present):
        mine = [dot for dot in dots if dot.player == player and dot.group in names]
        drawn = looks[player.variant_id]
        made.add_scatter(
            x=[dot.share.estimate for dot in mine],
            y=[-names.index(dot.group) + 0.35 - step * (number + 0.5) for dot in mine],
            mode="markers",
            cliponaxis=False,
            marker={"color": drawn.colour, "size": 9, "symbol": drawn.symbol},
            error_x=look.bars([dot.share for dot in mine], drawn.colour),
            hovertemplate="%{hovertext}<extra></extra>",
            hovertext=[dot.said for dot in mine],
            customdata=[dot.group for dot in mine],
            name=look.safe(wording.short(player.label, look.LABEL)),
        )
    look.named_rows(made, [look.tick(name) for name in names])
    return made


def ratings(results: Results) -> go.Figure:
    """Bradley-Terry ratings with their intervals; 1000 is the mean of all that comparisons connect."""
    if results.ranking is None:
        return look.message("Ratings need four variants that were compared")
    rows = results.ranking.rows
    looks = look.looks([*results.variant_ids, *(row.player.variant_id for row in rows)])
    finite = [
        bound
        for row in rows
        for bound in (row.standing.rating, row.standing.lower, row.standing.upper)
        if math.isfinite(bound)
    ]
    low, high = min(finite), max(finite)
    margin = max(0.06 * (high - low), 10)
    made = look.figure(70 + 50 * len(rows))
    for place, row in enumerate(rows):
        player, standing = row.player, row.standing
        drawn = looks[player.variant_id]
        made.add_scatter(
            x=[standing.rating],
            y=[-place],
            mode="markers",
            marker={
                "color": drawn.colour,
                "size": 11,
                "symbol": drawn.symbol + ("-open" if row.remarks else ""),
            },
            error_x={
                "type": "data",
                "symmetric": False,
                # A bound that does not exist is drawn to the edge.
                "arrayminus": [standing.rating - max(standing.lower, low - margin)],
                "array": [min(standing.upper, high + margin) - standing.rating],
                "color": drawn.colour,
                "thickness": 1.6,
                "width": 4,
            },
            hovertemplate="%{hovertext}<extra></extra>",
            hovertext=[
                look.lines(
                    player.label,
                    f"rating {standing.rating:.0f} ({_bounds(standing.lower, standing.upper)})",
                    f"place {_places(standing.rank_lower, standing.rank_upper)}",
                    count(standing.n, "comparison"),
                    *row.remarks,
                )
            ],
            customdata=[player.id],
            name=look.safe(player.label),
        )
    look.named_rows(made, [look.tick(row.player.label, *row.remarks[:1]) for row in rows])
    made.update_xaxes(title={"text": "rating (1000 is the mean)"}, range=[low - margin, high + margin])
    made.add_vline(x=1000, line={"dash": "dash", "width": 1.2, "color": look.LINE})
    return made


def win_matrix(results: Results) -> go.Figure:
    """Each against each: how often the row was preferred to the column, with the number of votes."""
    cells = results.verdict.cells
    if len(cells.players) < 2:
        return look.message("No votes yet")
    ranked = [row.player.id for row in results.ranking.rows] if results.ranking else list(cells.players)
    order = [cells.players.index(name) for name in ranked]
    points, counts = cells.win_matrix()[order][:, order], cells.count_matrix()[order][:, order]
    labels = [results.verdict.players[name].label for name in ranked]
    size = range(len(order))
    shares = [[float(points[i, j] / counts[i, j]) if counts[i, j] else None for j in size] for i in size]
    made = look.figure(110 + 44 * len(order))
    made.add_heatmap(
        z=shares,
        x=list(size),
        y=[-place for place in size],
        # The middle lets the page through, so that text stands out on light and dark.
        colorscale=[[0, "rgba(221,107,0,0.75)"], [0.5, "rgba(128,128,128,0.06)"], [1, "rgba(0,114,178,0.75)"]],
        zmin=0,
        zmax=1,
        showscale=False,
        xgap=2,
        ygap=2,
        hoverongaps=False,
        hovertemplate="%{hovertext}<extra></extra>",
        hovertext=[
            [look.lines(f"{labels[i]} against {labels[j]}", _duel(shares[i][j], int(counts[i, j]))) for j in size]
            for i in size
        ],
    )
    if len(order) <= MOST_WRITTEN:
        # Annotations and not the cells' own text, whose colour takes no notice of what lies behind the figure.
        for i, j in [(i, j) for i in size for j in size if shares[i][j] is not None]:
            made.add_annotation(x=j, y=-i, text=f"{shares[i][j]:.0%}", showarrow=False)
    look.named_rows(made, [look.tick(label) for label in labels])
    made.update_xaxes(
        tickmode="array",
        tickvals=list(size),
        ticktext=[look.tick(label) for label in labels],
        side="top",
        showgrid=False,
    )
    return made


def _votes(row: Row) -> str:
    return f"{count(row.votes, 'vote')}{', few yet' if row.few else ''}"


def _row_in_words(row: Row, base: str) -> str:
    return look.lines(
        f"{row.player.label} against {base}",
        f"preferred in {wording.rate(row.win_rate)}",
        f"won {row.wins}, lost {row.losses}, about the same {row.ties}, both bad {row.both_bad}",
        f"{count(row.votes, 'vote')} by {row.raters}",
        "few votes yet" if row.few else None,
        None if row.decided else "no difference shown: 50% is within the interval",
    )


def _segment_in_words(row: SegmentRow, player: str, base: str) -> str:
    return look.lines(
        f"{row.segment}: {player} against {base}",
        f"preferred in {wording.rate(row.win_rate)}",
        f"won {row.wins}, lost {row.losses}, undecided {row.ties}",
    )


def _bounds(lower: float, upper: float) -> str:
    if math.isinf(lower) and math.isinf(upper):
        return "too few votes to say"
    if math.isinf(upper):
        return f"{lower:.0f} or more"
    return f"up to {upper:.0f}" if math.isinf(lower) else f"{lower:.0f} to {upper:.0f}"


def _places(best: int, worst: int) -> str:
    return f"{best}" if best == worst else f"{best} to {worst}"


def _duel(share: float | None, votes: int) -> str:
    return "never compared" if share is None else f"preferred in {share:.0%} of {count(votes, 'vote')}"
