"""Intervals from counts: cases that went alike are one row in what the store hands over, and stand for themselves again here."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from feedbackloop.stats.interval import Interval, Scope, mean_of
from feedbackloop.stats.significance import mean_interval

Scale = tuple[float, float] | None
"""Ends of what is measured; None where it has none."""

FRACTION: Scale = (0.0, 1.0)
GRADES: Scale = (1.0, 5.0)


def scale_of(metric: str, low: float, high: float, criteria: frozenset[str]) -> Scale:
    """Ends of a metric's scale: the task's criteria are rated 1 to 5; of others their values tell.

    Args:
        metric: its name.
        low: the least value given.
        high: the greatest.
        criteria: the task's.
    """
    if metric in criteria and low >= 1 and high <= 5:
        return GRADES
    if low >= 0 and high <= 1:
        return FRACTION
    return GRADES if low >= 1 and high <= 5 else None


def win_rate(duels: pd.DataFrame) -> Interval:
    """Share of comparisons won, a tie and both-bad as half, clustered by case.

    Args:
        duels: rows of `verdicts.duels` for one player.
    """
    y: list[NDArray[np.float64]] = []
    items: list[NDArray[np.int64]] = []
    weights: list[NDArray[np.float64]] = []
    first = 0
    profiles = duels[["wins", "ties", "both_bad", "losses", "cases"]].to_numpy(int).tolist()
    for wins, ties, both_bad, losses, cases in profiles:
        for value, votes in ((1.0, wins), (0.5, ties + both_bad), (0.0, losses)):
            if votes:
                y.append(np.full(cases, value))
                items.append(np.arange(first, first + cases))
                weights.append(np.full(cases, float(votes)))
        first += cases
    if not y:
        return mean_interval([], [])
    return mean_interval(np.concatenate(y), np.concatenate(items).tolist(), weights=np.concatenate(weights))


def win_rate_of_raters(ballots: pd.DataFrame, scope: Scope) -> Interval:
    """The same for a wider scope, which needs to know who voted.

    Args:
        ballots: rows of `verdicts.ballots` for one player.
        scope: whom the interval speaks about.
    """
    return mean_interval(
        ballots["score"].to_numpy(float),
        ballots["item"].tolist(),
        ballots["rater"].tolist(),
        scope=scope,
        weights=ballots["n"].to_numpy(float),
    )


def mean_score(n: object, total: object, cases: object, scale: Scale) -> Interval:
    """The mean of what was measured, clustered by case.

    Args:
        n: for each kind of case how many values it has.
        total: their sum.
        cases: how many cases are of that kind.
        scale: ends of the scale, within which all values lie.
    """
    counts, sums, times = (np.asarray(column) for column in (n, total, cases))
    means = sums.astype(float) / counts
    if scale is not None:
        # Sums of fractions stray from the scale by the last digit.
        means = np.clip(means, *scale)
    repeats = times.astype(np.int64)
    y, weights = np.repeat(means, repeats), np.repeat(counts.astype(float), repeats)
    return mean_interval(y, list(range(len(y))), weights=weights, bounds=scale)


def mean_of_cases(values: object, items: object) -> Interval:
    """The mean over cases of a measure without ends, such as costs: repeats of a case are alike, and so one value together.

    Args:
        values: a list from the store, or nothing.
        items: the case behind each value.
    """
    measured = floats(values)
    if len(measured) == 0:
        return mean_of([])
    _, place, times = np.unique(np.asarray(items), return_inverse=True, return_counts=True)
    return mean_of(np.bincount(place, measured) / times)


def floats(values: object) -> NDArray[np.float64]:
    """A list from the store, which is nothing where it would be empty."""
    return np.asarray(values, dtype=np.float64) if isinstance(values, np.ndarray) else np.zeros(0)
