"""What all figures share: colours that tell variants apart for every eye, on light and dark, and text that stays text."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from feedbackloop.findings import wording
from feedbackloop.palette import COLOURS
from feedbackloop.stats.interval import Interval

SYMBOLS = ("circle", "square", "diamond", "x", "triangle-up", "cross", "star")
"""Seven shapes and eight colours: 56 variants before a pair of both comes again."""

GRID = "rgba(128,128,128,0.22)"
LINE = "rgba(128,128,128,0.75)"

AXIS: dict[str, Any] = {"gridcolor": GRID, "zeroline": False, "linecolor": GRID, "automargin": True}
"""Of every axis."""

LABEL = 30
"""Characters of a name on an axis; hovering shows all of it."""


@dataclass(frozen=True)
class Look:
    """How a variant is drawn."""

    colour: str
    symbol: str


def colours(variant_ids: Sequence[str]) -> dict[str, str]:
    """One colour per variant, the same wherever the same variants are given in the same order (`queries.task_variants` has it)."""
    return {id_: COLOURS[place % len(COLOURS)] for place, id_ in enumerate(dict.fromkeys(variant_ids))}


def symbols(variant_ids: Sequence[str]) -> dict[str, str]:
    """One shape per variant, for who cannot go by colour."""
    return {id_: SYMBOLS[place % len(SYMBOLS)] for place, id_ in enumerate(dict.fromkeys(variant_ids))}


def safe(text: str) -> str:
    """Text that Plotly shows as it is: neither its tags nor the dollar signs of formulas mean anything in it."""
    return html.escape(" ".join(text.split()), quote=True).replace("$", "&#36;")


def lines(*texts: str | None) -> str:
    """Lines of text, each shown as it is; None is left out."""
    return "<br>".join(safe(text) for text in texts if text is not None)


def tick(name: str, *below: str) -> str:
    """A name on an axis, cut where it is long, with something below it."""
    return lines(wording.short(name, LABEL), *below)


def figure(height: int, *, legend: bool = False, left: int | None = None) -> go.Figure:
    """An empty figure in the look of all: no background of its own, so that it stands on any.

    Args:
        height: pixels.
        legend: whether it has one, above.
        left: pixels for what stands on the vertical axis; unless given, what it needs.
    """
    made = go.Figure()
    made.update_layout(
        height=height,
        margin={"l": left if left is not None else 8, "r": 12, "t": 44 if legend else 16, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hovermode="closest",
        hoverlabel={"align": "left", "namelength": -1},
        showlegend=legend,
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0, "title": {"text": ""}},
        dragmode="zoom",
    )
    made.update_xaxes(**AXIS)
    made.update_yaxes(**AXIS)
    return made


def message(text: str) -> go.Figure:
    """A figure that says why it is empty."""
    made = figure(120)
    made.add_annotation(text=safe(text), x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False, font={"size": 14})
    made.update_xaxes(visible=False)
    made.update_yaxes(visible=False)
    return made


def named_rows(made: go.Figure, labels: Sequence[str]) -> None:
    """Put names on the vertical axis, the first on top: row n stands at -n. Names that read as numbers or dates stay names."""
    made.update_yaxes(
        tickmode="array",
        tickvals=[-place for place in range(len(labels))],
        ticktext=list(labels),
        range=[-len(labels) + 0.4, 0.6],
        showgrid=False,
        fixedrange=True,
    )


def reach(interval: Interval, *, floor: float = -math.inf) -> tuple[float, float]:
    """How far the bars go down and up from the estimate; there is none towards a bound that few data leave open."""
    if interval.estimate is None or interval.lower is None or interval.upper is None:
        return 0.0, 0.0
    down, up = interval.estimate - max(interval.lower, floor), interval.upper - interval.estimate
    return (max(down, 0.0) if math.isfinite(down) else 0.0), (max(up, 0.0) if math.isfinite(up) else 0.0)


def bars(intervals: Iterable[Interval], colour: str, *, floor: float = -math.inf) -> dict[str, Any]:
    """Error bars for Plotly."""
    ends = [reach(interval, floor=floor) for interval in intervals]
    return {
        "type": "data",
        "symmetric": False,
        "arrayminus": [down for down, _ in ends],
        "array": [up for _, up in ends],
        "color": colour,
        "thickness": 1.6,
        "width": 4,
    }


def looks(variant_ids: Sequence[str]) -> dict[str, Look]:
    """Colour and shape of each variant."""
    palette, shapes = colours(variant_ids), symbols(variant_ids)
    return {id_: Look(colour, shapes[id_]) for id_, colour in palette.items()}


def factors(low: float, high: float) -> list[float]:
    """Ticks of an axis of factors, 1, 2 and 5 of each power of ten, from below the least value to above the greatest."""
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**power for power in powers for step in (1, 2, 5)]
    below = [tick for tick in ticks if tick <= low * 1.0001]
    above = [tick for tick in ticks if tick >= high * 0.9999]
    framed = [tick for tick in ticks if below[-1] <= tick <= above[0]]
    # Of many decades the powers of ten will do, and the two ends.
    return (
        framed
        if len(framed) <= 10
        else [tick for tick in ticks if tick in (framed[0], framed[-1]) or _is_power(tick, framed)]
    )


def _is_power(tick: float, among: Sequence[float]) -> bool:
    return tick in among and math.isclose(math.log10(tick) % 1, 0, abs_tol=1e-9)


def highest(intervals: Iterable[Interval]) -> float:
    """The greatest finite estimate or bound; 0 where there is none."""
    values = [value for one in intervals for value in (one.estimate, one.upper) if value is not None]
    return max((value for value in values if math.isfinite(value)), default=0.0)


def percent_axis(made: go.Figure, axis: str, title: str, **more: Any) -> None:
    """An axis of shares, written as percentages from 0 to 100."""
    settings = {"tickformat": ".0%", "range": [-0.02, 1.02], "title": {"text": safe(title)}} | more
    made.update_layout({axis: settings})
