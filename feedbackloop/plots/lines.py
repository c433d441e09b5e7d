"""The figure of how quality, latency and cost went, all above one axis."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from feedbackloop.findings import Player, wording
from feedbackloop.findings.samples import FRACTION
from feedbackloop.findings.timeline import Mark, Point, Trends
from feedbackloop.plots import look
from feedbackloop.plots.tradeoffs import PER
from feedbackloop.stats.interval import Interval
from feedbackloop.wording import count

MOST_LINES = 12
"""Of more variants, the baseline and those that come first."""

MOST_BARS = 40
"""With more steps than this, intervals are bands and not bars."""

MOST_TICKS = 8

LINE_PX = 15
"""Height of a line of words above the panels."""

MOST_MARKS = 20
"""Of more decisions, the newest."""


@dataclass(frozen=True)
class _Panel:
    """One of the diagrams above each other."""

    number: int
    """1 is on top."""
    what: Literal["quality", "latency", "cost"]
    title: str
    values: tuple[Interval | None, ...]
    """By point, in the trends' order."""
    factor: float
    """From the interval's unit to the axis's."""


@dataclass(frozen=True)
class _Line:
    """A variant name as it is drawn in every panel."""

    player: Player
    place: int
    of: int
    """How many lines there are."""
    colour: str
    symbol: str


def trends(found: Trends) -> go.Figure:
    """A line per variant name for quality, latency p50 and p95, and cost, with intervals and counts.

    A click on a name shows it alone, a double click takes it away or brings it back. Larger marks, and the dotted lines, stand where
    a version changed; a thin line with a triangle stands where somebody released a variant (up) or rolled back (down), which hovering
    says. Where a bar has no upper end, there are too few answers to give one.
    """
    if not found.points:
        return look.message("No answers in this period")
    panels, shown = _panels(found), _lines(found)
    changed = _changed(found, shown)
    words = LINE_PX * max((len(lines) for lines in changed.values()), default=0)
    above = max(words - LINE_PX, 0)
    made = make_subplots(rows=len(panels), cols=1, shared_xaxes=True, vertical_spacing=0.035)
    made.update_layout(look.figure(70 + 185 * len(panels) + above, legend=True).layout)
    made.update_xaxes(**look.AXIS)
    made.update_yaxes(**look.AXIS)
    listed: set[str] = set()
    for panel in panels:
        for line in shown:
            for trace in _traces(found, panel, line):
                trace.showlegend = trace.mode != "lines" and line.player.id not in listed
                listed |= {line.player.id} if trace.showlegend else set()
                made.add_trace(trace, row=panel.number, col=1)
        made.update_yaxes(row=panel.number, col=1, title={"text": look.safe(panel.title)}, **_scale(found, panel))
    _steps(made, found, len(panels))
    _versions(made, changed)
    _decisions(made, found)
    made.update_layout(
        legend={"itemclick": "toggleothers", "itemdoubleclick": "toggle", "groupclick": "togglegroup"}
        # Above the words, in shares of the panels' height.
        | {"y": 1 + (7 + words) / (185 * len(panels))},
        margin={"t": 64 + above},
        clickmode="event+select",
    )
    return made


def _panels(found: Trends) -> list[_Panel]:
    """Those that have something to show, numbered; latency if none has."""
    made = []
    if found.quality is not None:
        base = f" against {wording.short(found.baseline.label, 16)}" if found.quality.votes and found.baseline else ""
        values = tuple(point.quality for point in found.points)
        made.append(_Panel(1, "quality", f"{found.quality.title}{base}", values, 1.0))
    medians = tuple(point.latency_p50_ms for point in found.points)
    tails = tuple(point.latency_p95_ms for point in found.points)
    costs = tuple(point.cost_usd for point in found.points)
    made += [
        _Panel(2, "latency", "latency p50, s", medians, 1e-3),
        _Panel(3, "latency", "latency p95, s", tails, 1e-3),
        _Panel(4, "cost", "USD for 1,000", costs, PER),
    ]
    filled = [panel for panel in made if any(one is not None and one.estimate is not None for one in panel.values)]
    return [replace(panel, number=number) for number, panel in enumerate(filled or made[-3:-2], start=1)]


def _lines(found: Trends) -> list[_Line]:
    present = {point.player for point in found.points}
    players = [player for player in found.players.known if player.id in present]
    base = found.baseline.id if found.baseline else None
    players.sort(key=lambda player: player.id != base)
    ids = found.players.variant_ids
    palette, shapes = look.colours(ids), look.symbols(ids)
    return [
        _Line(player, place, min(len(players), MOST_LINES), palette[player.variant_id], shapes[player.variant_id])
        for place, player in enumerate(players[:MOST_LINES])
    ]


def _traces(found: Trends, panel: _Panel, line: _Line) -> list[go.Scatter]:
    """The line with its bars, or two edges of a band and then the line; nothing where the panel knows nothing of the name."""
    drawn = [
        (place, point, interval)
        for place, (point, interval) in enumerate(zip(found.points, panel.values, strict=True))
        if point.player == line.player.id and interval is not None and interval.estimate is not None
    ]
    if not drawn:
        return []
    x = [_x(found, point, line) for _, point, _ in drawn]
    ends = [look.reach(interval, floor=0.0) for _, _, interval in drawn]
    middle = [panel.factor * (interval.estimate or 0.0) for _, _, interval in drawn]
    down, up = [panel.factor * low for low, _ in ends], [panel.factor * high for _, high in ends]
    group: dict[str, Any] = {
        "legendgroup": f"line-{line.place}",
        "legendrank": line.place,
        "name": look.safe(wording.short(line.player.label, look.LABEL)),
    }
    bands = len(found.rungs) > MOST_BARS
    bars = {"type": "data", "symmetric": False, "color": line.colour, "thickness": 1.2, "width": 3}
    main = go.Scatter(
        x=x,
        y=middle,
        mode="lines+markers",
        line={"color": line.colour, "width": 1.8},
        marker={
            "color": line.colour,
            "symbol": line.symbol,
            "opacity": 1,
            "size": [13 if point.changed else 8 for _, point, _ in drawn],
        },
        error_y=None if bands else bars | {"arrayminus": down, "array": up},
        cliponaxis=False,
        customdata=[place for place, _, _ in drawn],
        hovertemplate="%{hovertext}<extra></extra>",
        hovertext=[_in_words(found, point, panel, interval) for _, point, interval in drawn],
        unselected={"marker": {"opacity": 0.4}},
        **group,
    )
    if not bands:
        return [main]
    red, green, blue = (int(line.colour[at : at + 2], 16) for at in (1, 3, 5))
    edge: dict[str, Any] = {"x": x, "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"} | group
    return [
        go.Scatter(y=[y - low for y, low in zip(middle, down, strict=True)], **edge),
        go.Scatter(
            y=[y + high for y, high in zip(middle, up, strict=True)],
            fill="tonexty",
            fillcolor=f"rgba({red},{green},{blue},0.16)",
            **edge,
        ),
        main,
    ]


def _x(found: Trends, point: Point, line: _Line | None = None) -> object:
    """Runs stand at equal distances, stretches of time where they are, in the viewer's zone.

    Of few runs, lines stand a little beside each other, so that one's bars do not hide another's.
    """
    if found.step != "run":
        return found.rungs[point.rung].moment.replace(tzinfo=None)
    beside = line is not None and len(found.rungs) <= MOST_TICKS
    return point.rung + (0.03 * (line.place - (line.of - 1) / 2) if line is not None and beside else 0.0)


def _in_words(found: Trends, point: Point, panel: _Panel, interval: Interval) -> str:
    if panel.what == "latency":
        said, behind = wording.latency(interval), count(interval.n, "answer")
    elif panel.what == "cost":
        said, behind = wording.cost(interval, point.unpriced), count(point.answers, "answer")
    else:
        assert found.quality is not None
        said = wording.score(interval, found.quality.scale)
        behind = count(interval.n, "vote" if found.quality.votes else "verdict")
    name = "an answer costs" if panel.what == "cost" else f"{panel.title.partition(',')[0]}:"
    return look.lines(
        f"{point.version}, {found.rungs[point.rung].label}",
        f"{name} {said}",
        behind,
        f"{point.failed} failed" if point.failed else None,
        "a new version" if point.changed else None,
    )


def _scale(found: Trends, panel: _Panel) -> dict[str, Any]:
    if panel.what != "quality" or found.quality is None:
        return {"rangemode": "tozero"}
    if found.quality.scale == FRACTION:
        return {"tickformat": ".0%", "range": [-0.02, 1.02]}
    return {"range": list(found.quality.scale)} if found.quality.scale else {}


def _steps(made: go.Figure, found: Trends, panels: int) -> None:
    if found.step == "run":
        rungs = len(found.rungs)
        every = math.ceil(rungs / MOST_TICKS)
        ticks = sorted(range(rungs - 1, -1, -every))
        written = [look.safe(found.rungs[at].label) for at in ticks]
        made.update_xaxes(tickmode="array", tickvals=ticks, ticktext=written, range=[-0.4, rungs - 0.6])
    else:
        made.update_xaxes(row=panels, col=1, title={"text": look.safe(f"by {found.step}, {found.zone}")})
    if found.quality is not None and found.quality.votes:
        made.add_hline(y=0.5, row=1, col=1, line={"dash": "dash", "width": 1.2, "color": look.LINE})


def _changed(found: Trends, shown: Sequence[_Line]) -> dict[object, list[tuple[str, str]]]:
    """New versions by where they stand: each one's words, as they may be drawn, and its colour."""
    lines = {line.player.id: line for line in shown}
    places: dict[object, list[tuple[str, str]]] = {}
    for point in [point for point in found.points if point.changed and point.player in lines][-MOST_LINES:]:
        words = look.safe(wording.short(point.version, 20)), lines[point.player].colour
        places.setdefault(_x(found, point), []).append(words)
    return places


def _versions(made: go.Figure, changed: Mapping[object, Sequence[tuple[str, str]]]) -> None:
    """A line for each place, with the words of all that changed there below each other."""
    for x, versions in changed.items():
        colours = [colour for _, colour in versions]
        dotted = {"color": colours[0] if len(versions) == 1 else look.LINE, "width": 1, "dash": "dot"}
        text = "<br>".join(f'<span style="color:{colour}">{words}</span>' for words, colour in versions)
        _upright(made, x, dotted, y=1, text=text, font={"size": 11})


def _decisions(made: go.Figure, found: Trends) -> None:
    """Marks within the lowest panel, where versions have theirs above the highest."""
    marks = found.marks[-MOST_MARKS:]
    places = _between(found, marks)
    for mark, x in zip(marks, places, strict=True):
        _upright(
            made,
            x,
            {"color": look.LINE, "width": 1},
            y=0,
            text="▼" if mark.back else "▲",
            hovertext=look.lines(mark.words, f"{mark.moment.day} {mark.moment:%b %H:%M}"),
            borderpad=4,
            font={"size": 16, "color": look.LINE},
        )
    beyond = [x + 0.15 for x in places if isinstance(x, float)]
    if beyond:
        made.update_xaxes(range=[-0.4, max(len(found.rungs) - 0.6, *beyond)])


def _upright(made: go.Figure, x: object, line: dict[str, object], *, y: int, **words: object) -> None:
    """A line through all panels, and words on it: at the top (1) or the bottom (0)."""
    made.add_shape(type="line", x0=x, x1=x, xref="x", y0=0, y1=1, yref="paper", layer="below", line=line)
    made.add_annotation(x=x, xref="x", y=y, yref="paper", yanchor="bottom", showarrow=False, **words)


def _between(found: Trends, marks: Sequence[Mark]) -> list[float | datetime]:
    """Where decisions stand: among runs between the one before and the one after, evenly; in time where they are."""
    if found.step != "run":
        return [mark.moment.replace(tzinfo=None) for mark in marks]
    before = [sum(rung.moment <= mark.moment for rung in found.rungs) - 1 for mark in marks]
    together = Counter(before)
    seen: Counter[int] = Counter()
    places: list[float | datetime] = []
    for rung in before:
        seen[rung] += 1
        places.append(rung + seen[rung] / (together[rung] + 1))
    return places
