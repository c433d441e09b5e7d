"""Figures of results, the same in the app, in notebooks and as files. Each is a Plotly figure without a background of its own."""

from feedbackloop.plots.course import sequence
from feedbackloop.plots.lines import trends
from feedbackloop.plots.look import colours, symbols
from feedbackloop.plots.preferences import checks, forest, ratings, segments, win_matrix
from feedbackloop.plots.tradeoffs import issues, quality_cost, quality_latency

__all__ = [
    "checks",
    "colours",
    "forest",
    "issues",
    "quality_cost",
    "quality_latency",
    "ratings",
    "segments",
    "sequence",
    "symbols",
    "trends",
    "win_matrix",
]
