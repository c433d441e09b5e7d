"""How sure a win rate or a paired difference is, when the same cases and the same raters come again and again.

Sources: Miller, Adding Error Bars to Evals, arXiv 2411.00640 (clusters, paired differences); Cameron, Gelbach and Miller, Journal of
Business & Economic Statistics 29 (2011) (two-way clusters); Agresti and Coull, The American Statistician 52 (1998) (plus-four).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from feedbackloop.stats.interval import (
    FEWEST_RATERS,
    FloatArray,
    IntArray,
    Interval,
    Method,
    Scope,
    checked_alpha,
    finite,
    pseudo_count,
    t_quantile,
)

LARGEST_SHARE = 0.05
"""Of all ratings by one rater, up to which ratings of different items count as independent."""

FEW_RATINGS = 50
"""Below this many the share of a rater is not looked at: clusters of so few would say nothing."""


@dataclass(frozen=True, eq=False)
class _Groups:
    """Which item and which rater stand behind each row, [rows], and how heavy the row is."""

    item: IntArray
    rater: IntArray | None
    weight: FloatArray

    @property
    def items(self) -> int:
        return int(self.item.max()) + 1

    @property
    def raters(self) -> int:
        return 0 if self.rater is None else int(self.rater.max()) + 1

    @property
    def rater_weights(self) -> FloatArray:
        rater = np.zeros(len(self.item), dtype=np.int64) if self.rater is None else self.rater
        return np.asarray(np.bincount(rater, self.weight), dtype=np.float64)

    @property
    def effective_raters(self) -> float:
        """Raters of equal diligence that they amount to."""
        return float(self.rater_weights.sum() ** 2 / (self.rater_weights**2).sum())


def mean_interval(
    y: ArrayLike,
    items: Sequence[Hashable],
    raters: Sequence[Hashable] | None = None,
    *,
    scope: Scope = "these raters",
    weights: ArrayLike | None = None,
    bounds: tuple[float, float] | None = (0.0, 1.0),
    alpha: float = 0.05,
) -> Interval:
    """The mean of ratings with its interval: a win rate where y is 1 for a win, 0.5 for a tie or both-bad, 0 for a loss.

    * Scope "these raters": clustered by item. Where each item was rated once this is the plus-four interval, of
      (sum y + 2) / (n + 4) with the normal quantile. Where items were rated more often, the four added ratings are four items of the
      usual number of ratings. So the interval does not vanish when all agree: with t(G - 1) and nothing added, 10 items of 3 ratings
      and a true 95 % were covered 63 % of the time, so 98 %; between 96 and 100 % at 50 to 90 % and 3 to 60 items.
    * Scope "raters like these", from five raters on (fewer fall back to the other scope, and the result says so): two-way clusters,
      V = max(V_item, V_rater, V_item + V_rater - V_item_and_rater), t(min(items, effective raters) - 1). Where each item was rated
      once, and by nobody more than 5 % of the ratings or fewer than 50 in all, again plus-four.

    Args:
        y: ratings, [rows].
        items: the case behind each row.
        raters: who rated; None where that is not known or all the same.
        scope: whom the interval speaks about.
        weights: how many identical (item, rater, y) ratings a row stands for; whole numbers.
        bounds: ends of the scale of y; None for a scale without ends, where nothing is added and t(G - 1) is used.
        alpha: 1 - alpha is the confidence.

    Returns:
        The estimate is the plain mean; without ratings it is None, as are the bounds.

    Raises:
        ValueError: columns of different lengths, a value outside of the bounds, a negative weight.
    """
    checked_alpha(alpha)
    values = finite(y, "y")
    counts = np.ones(len(values)) if weights is None else finite(weights, "weights")
    if not len(values) == len(items) == len(counts) or (raters is not None and len(raters) != len(values)):
        raise ValueError("y, items, raters and weights differ in length")
    if (counts < 0).any():
        raise ValueError("a weight is negative")
    low, high = bounds or (0.0, 1.0)
    if bounds is not None and ((values < low).any() or (values > high).any()):
        raise ValueError(f"a value lies outside of {low} to {high}")
    kept = np.flatnonzero(counts)
    if len(kept) == 0:
        return Interval(None, None, None, None, 0, 0, "no data", alpha=alpha)
    groups = _groups(items, raters, kept, counts[kept])
    scaled = (values[kept] - low) / (high - low)
    n, mean = float(counts.sum()), float(np.average(values, weights=counts))
    two_way = scope == "raters like these" and groups.raters >= FEWEST_RATERS
    once = bool((np.bincount(groups.item, groups.weight) == 1).all())
    unlike = groups.rater_weights.max() <= LARGEST_SHARE * n or n < FEW_RATINGS
    added = 0.0 if bounds is None else pseudo_count(alpha)
    reached: Scope = "raters like these" if two_way else "these raters"
    clusters, df = groups.items, math.inf if added else groups.items - 1.0
    center, variance = _item_clusters(scaled, groups, added)
    method: Method = "clustered by item"
    if once and bounds is not None and (unlike or not two_way):
        method, df = "plus-four", math.inf
        # The published formula divides by n + 4, where clusters would by n + 3.
        variance *= (groups.items + 2 * added - 1) / (groups.items + 2 * added)
    elif two_way:
        method = "clustered by item and rater"
        variance = _two_way(scaled, groups, variance)
        clusters = min(groups.items, groups.raters)
        df = min(groups.items, groups.effective_raters) - 1
    df = max(df, 1.0)
    middle, se = low + (high - low) * center, (high - low) * math.sqrt(variance)
    if added == 0 and groups.items == 1:
        se = math.inf
    reach = t_quantile(1 - alpha / 2, df) * se
    lower, upper = middle - reach, middle + reach
    if bounds is not None:
        lower, upper = max(low, lower), min(high, upper)
    return Interval(mean, lower, upper, se, round(n), clusters, method, reached, alpha, middle, df)


def paired_difference(
    candidate: ArrayLike,
    baseline: ArrayLike,
    items: Sequence[Hashable],
    raters: Sequence[Hashable] | None = None,
    *,
    scope: Scope = "these raters",
    unit: float = 1.0,
    alpha: float = 0.05,
) -> Interval:
    """How much higher the candidate's ratings are than the baseline's on the same items: the mean over items of d_i.

    Every item counts the same; d_i is the mean of its rows' differences. Clusters and scopes are those of `mean_interval`, with
    t. The variance by item is never less than if four of G + 4 items had differed by a unit: few items that all
    agree do not make a certainty.

    Args:
        candidate: ratings of its answers, [rows]; thumbs as 0 and 1.
        baseline: ratings of the baseline's answers, row by row to the same item, by the same rater if raters are given.
        items: the case behind each row.
        raters: who rated both.
        scope: whom the interval speaks about.
        unit: the smallest difference that counts as one on this scale: 1 for thumbs and for 1 to 5.
        alpha: 1 - alpha is the confidence.

    Raises:
        ValueError: columns of different lengths.
    """
    checked_alpha(alpha)
    first, second = finite(candidate, "candidate"), finite(baseline, "baseline")
    if not len(first) == len(second) == len(items) or (raters is not None and len(raters) != len(first)):
        raise ValueError("candidate, baseline, items and raters differ in length")
    if len(first) == 0:
        return Interval(None, None, None, None, 0, 0, "no data", alpha=alpha)
    rows = np.arange(len(first))
    ungrouped = _groups(items, raters, rows, np.ones(len(first)))
    # Each item's rows share one vote, so that the mean is one of items.
    groups = _groups(items, raters, rows, 1 / np.bincount(ungrouped.item)[ungrouped.item])
    difference, added = first - second, pseudo_count(alpha)
    mean, variance = _item_clusters(difference, groups, 0.0)
    variance = max(variance, 2 * added * (unit / (groups.items + 2 * added)) ** 2)
    two_way = scope == "raters like these" and groups.raters >= FEWEST_RATERS
    reached: Scope = "raters like these" if two_way else "these raters"
    method: Method = "clustered by item"
    clusters, df = groups.items, float(groups.items - 1)
    if two_way:
        method = "clustered by item and rater"
        variance = _two_way(difference, groups, variance)
        clusters, df = min(groups.items, groups.raters), min(groups.items, groups.effective_raters) - 1
    df = max(df, 1.0)
    se = math.sqrt(variance)
    reach = t_quantile(1 - alpha / 2, df) * se
    return Interval(mean, mean - reach, mean + reach, se, len(first), clusters, method, reached, alpha, mean, df)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """p-values adjusted for being several, in the order given: each may be compared with alpha as it stands.

    Source: Holm, Scandinavian Journal of Statistics 6 (1979).
    """
    adjusted, greatest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        greatest = max(greatest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = greatest
    return tuple(adjusted)


def _groups(
    items: Sequence[Hashable], raters: Sequence[Hashable] | None, rows: IntArray, weight: FloatArray
) -> _Groups:
    return _Groups(_codes(items, rows), None if raters is None else _codes(raters, rows), weight)


def _codes(names: Sequence[Hashable], rows: IntArray) -> IntArray:
    """Numbers from 0 for the names in these rows."""
    known: dict[Hashable, int] = {}
    return np.array([known.setdefault(names[row], len(known)) for row in rows.tolist()], dtype=np.int64)


def _item_clusters(values: FloatArray, groups: _Groups, added: float) -> tuple[float, float]:
    """Mean and variance, with so many items added that are all 1, and as many that are all 0, of the usual weight each."""
    items = groups.items
    usual = float(groups.weight.sum()) / items
    total = usual * (items + 2 * added)
    mean = (float((groups.weight * values).sum()) + added * usual) / total
    pulls = np.bincount(groups.item, groups.weight * (values - mean))
    squares = float((pulls**2).sum()) + added * usual**2 * ((1 - mean) ** 2 + mean**2)
    count = items + 2 * added
    return mean, (count / (count - 1) if count > 1 else 1.0) * squares / total**2


def _two_way(values: FloatArray, groups: _Groups, by_item: float) -> float:
    """The greatest of the variances by item, by rater and by both, which keeps it from falling below either."""
    assert groups.rater is not None
    mean = float(np.average(values, weights=groups.weight))
    by_rater = _variance(groups.rater, values - mean, groups.weight)
    _, both = np.unique(groups.item * groups.raters + groups.rater, return_inverse=True)
    by_both = _variance(both, values - mean, groups.weight)
    return max(by_item, by_rater, by_item + by_rater - by_both)


def _variance(group: IntArray, residual: FloatArray, weight: FloatArray) -> float:
    pulls = np.bincount(group, weight * residual)
    count = len(pulls)
    return float(count / max(count - 1, 1) * (pulls**2).sum() / weight.sum() ** 2)
