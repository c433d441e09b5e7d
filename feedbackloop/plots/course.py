"""Figure of a decision on its way: the interval after each case, moving towards the line that it must leave behind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from feedbackloop.findings import wording
from feedbackloop.palette import BLUE
from feedbackloop.plots import look

MOST_POINTS = 400
"""More are thinned out; the last one always stands."""

BAND = "rgba(0,114,178,0.16)"


def sequence(
    means: NDArray[np.float64] | Sequence[float],
    lower: NDArray[np.float64] | Sequence[float],
    upper: NDArray[np.float64] | Sequence[float],
    *,
    line: float,
    candidate: str,
    baseline: str,
) -> go.Figure:
    """How the share of cases that the candidate wins went, with its interval, case by case.

    Args:
        means: the share of cases won, after each complete case, [cases].
        lower: of the interval that may be looked at after every case, [cases].
        upper: the same.
        line: what the whole interval must lie above for a release, or below to keep what there is.
        candidate: what it is called.
        baseline: what it is compared with.
    """
    count = len(means)
    if not count:
        return look.message("No case has all its votes yet")
    shown = np.unique(np.append(np.arange(0, count, max(1, count // MOST_POINTS)), count - 1))
    cases = (shown + 1).tolist()
    middle, low, high = (np.asarray(values, dtype=np.float64)[shown] for values in (means, lower, upper))
    made = look.figure(260)
    made.add_scatter(x=cases, y=high.tolist(), mode="lines", line={"width": 0}, hoverinfo="skip", showlegend=False)
    made.add_scatter(
        x=cases,
        y=low.tolist(),
        mode="lines",
        line={"width": 0},
        fill="tonexty",
        fillcolor=BAND,
        hoverinfo="skip",
        showlegend=False,
    )
    made.add_scatter(
        x=cases,
        y=middle.tolist(),
        mode="lines" if count > 1 else "markers",
        line={"color": BLUE, "width": 2},
        hovertext=[
            look.lines(f"after {case:,} cases", f"{mean:.0%} ({down:.0%} to {up:.0%})")
            for case, mean, down, up in zip(cases, middle, low, high, strict=True)
        ],
        hovertemplate="%{hovertext}<extra></extra>",
        showlegend=False,
    )
    made.add_hline(y=line, line={"dash": "dash", "width": 1.2, "color": look.LINE})
    look.percent_axis(made, "yaxis", "share of cases won")
    title = f"{wording.short(candidate, look.LABEL)} preferred to {wording.short(baseline, look.LABEL)}"
    made.update_layout(
        title={"text": look.safe(title), "font": {"size": 13}, "x": 0, "xref": "paper"}, margin={"t": 36}
    )
    made.update_xaxes(title={"text": "cases with all their votes"}, rangemode="tozero")
    return made
