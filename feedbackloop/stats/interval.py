"""An estimate with its interval, and the intervals of single figures: rates, quantiles, means of costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

Scope = Literal["these raters", "raters like these"]
"""Whom a figure speaks about: the people who rated, or all people of whom they are a sample."""

FEWEST_RATERS = 5
"""Raters (effective ones, where they rate unequally much) from which a figure may speak about raters like these."""

Method = Literal[
    "no data",
    "plus-four",
    "clustered by item",
    "clustered by item and rater",
    "t",
    "order statistics",
    "confidence sequence",
    "betting",
    "sandwich",
    "sandwich clustered by rater",
    "not connected",
]


@dataclass(frozen=True)
class Interval:
    """An estimate, what it rests on, and the range that the data leave open.

    Nothing known: `estimate` is None, and so are the bounds, or they are those of the scale. No bound on one side: it is infinite.
    """

    estimate: float | None
    """As it would be read out: a plain mean, rate or quantile. The interval need not be symmetric about it."""
    lower: float | None
    upper: float | None
    se: float | None
    """The standard error behind the bounds, on the estimate's scale; None where the bounds do not come from one."""
    n: int
    """Ratings, comparisons or values."""
    clusters: int
    """How many independent ones these amount to: items, or the raters where they are fewer and the scope is all raters."""
    method: Method
    scope: Scope = "these raters"
    alpha: float = 0.05
    """1 - alpha is the two-sided confidence."""
    center: float | None = None
    """The middle of the interval before it was cut at the ends of the scale; None where the bounds do not come from `se`."""
    df: float = math.inf
    """Degrees of freedom of the t distribution behind the bounds; infinite for the normal."""

    @property
    def half_width(self) -> float | None:
        """Half the distance between the bounds; None where nothing is known."""
        return None if self.lower is None or self.upper is None else (self.upper - self.lower) / 2

    def excludes(self, value: float) -> bool:
        """Whether the whole interval lies on one side of the value."""
        return self.lower is not None and self.upper is not None and not self.lower <= value <= self.upper

    def p_value(self, null: float) -> float:
        """Two-sided, by the distribution that made the interval; 1 where there is no such distribution or no data."""
        if self.center is None or self.se is None:
            return 1.0
        if self.se == 0:
            return 1.0 if self.center == null else 0.0
        distance = abs(self.center - null) / self.se
        tail = special.ndtr(-distance) if math.isinf(self.df) else special.stdtr(self.df, -distance)
        return float(2 * tail)


def normal_quantile(probability: float) -> float:
    """Of the standard normal distribution."""
    return float(special.ndtri(probability))


def t_quantile(probability: float, df: float) -> float:
    """Of Student's t distribution; the normal's where `df` is infinite."""
    return normal_quantile(probability) if math.isinf(df) else float(special.stdtrit(df, probability))


def checked_alpha(alpha: float) -> float:
    """The level itself.

    Raises:
        ValueError: it is not between 0 and 1.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}; it stands between 0 and 1")
    return alpha


def finite(values: ArrayLike, name: str) -> FloatArray:
    """The values as a flat array of floats.

    Raises:
        ValueError: one of them is no finite number, or they stand in more than one dimension.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} has {array.ndim} dimensions; one is wanted")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds a value that is no finite number")
    return array


def pseudo_count(alpha: float) -> float:
    """Successes, and as many failures, that a plus-four interval adds: 2 at 95 %, more at higher confidence.

    Source: Agresti and Coull, The American Statistician 52 (1998): z^2/2, which is 1.92 at 95 % and rounded to 2 there.
    """
    return max(2.0, normal_quantile(1 - alpha / 2) ** 2 / 2)


def proportion_interval(successes: float, n: int, *, alpha: float = 0.05) -> Interval:
    """A rate with its plus-four interval, cut at 0 and 1. The estimate is the plain successes / n.

    Without data the estimate is None and the bounds are 0 and 1, which is what is known of a rate.

    Raises:
        ValueError: successes are negative or exceed n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}")
    if n == 0:
        return Interval(None, 0.0, 1.0, None, 0, 0, "no data", alpha=checked_alpha(alpha))
    added = pseudo_count(checked_alpha(alpha))
    middle = (successes + added) / (n + 2 * added)
    se = math.sqrt(middle * (1 - middle) / (n + 2 * added))
    reach = normal_quantile(1 - alpha / 2) * se
    lower, upper = max(0.0, middle - reach), min(1.0, middle + reach)
    return Interval(successes / n, lower, upper, se, n, n, "plus-four", alpha=alpha, center=middle)


def mean_of(values: Sequence[float] | FloatArray, *, alpha: float = 0.05) -> Interval:
    """A mean with its plain t interval, for costs and other measures without ends of the scale.

    Costs and latencies have heavy tails: with few values the interval is too narrow above. For latencies report quantiles.
    One value leaves both bounds infinite.
    """
    array = finite(values, "values")
    n = len(array)
    if n == 0:
        return Interval(None, None, None, None, 0, 0, "no data", alpha=checked_alpha(alpha))
    mean = float(array.mean())
    if n == 1:
        return Interval(mean, -math.inf, math.inf, None, 1, 1, "t", alpha=checked_alpha(alpha))
    se = float(array.std(ddof=1)) / math.sqrt(n)
    reach = t_quantile(1 - checked_alpha(alpha) / 2, n - 1) * se
    return Interval(mean, mean - reach, mean + reach, se, n, n, "t", alpha=alpha, center=mean, df=n - 1)


def quantile_interval(values: Sequence[float] | FloatArray, q: float, *, alpha: float = 0.05) -> Interval:
    """A quantile with the distribution-free interval between two order statistics.

    The estimate interpolates linearly, as numpy does. With X ~ Binomial(n, q) values below the true quantile, the lower bound is
    the greatest l-th smallest value with P(X < l) <= alpha/2, the upper one the smallest u-th with P(X >= u) <= alpha/2; where
    no such value exists the bound is infinite: the 95th percentile has an upper bound from 72 values on.

    Source: David and Nagaraja, Order Statistics (2003), section 7.1.

    Raises:
        ValueError: q is not between 0 and 1.
    """
    if not 0 < q < 1:
        raise ValueError(f"q is {q}; it stands between 0 and 1")
    array = np.sort(finite(values, "values"))
    n = len(array)
    half = checked_alpha(alpha) / 2
    if n == 0:
        return Interval(None, None, None, None, 0, 0, "no data", alpha=alpha)
    # The bounds lie within a few standard deviations of n q; of a million values only these few need be looked at.
    reach = 10 * math.sqrt(n * q * (1 - q)) + 10
    below = np.arange(max(0, math.floor(n * q - reach)), min(n, math.ceil(n * q + reach)) + 1)
    cumulated = np.where(below < n, special.bdtr(below.astype(np.float64), n, q), 1.0)
    lows = below[cumulated <= half] + 1
    highs = below[(1 - cumulated <= half) & (below < n)] + 1
    lower = float(array[lows[-1] - 1]) if len(lows) and lows[-1] <= n else -math.inf
    upper = float(array[highs[0] - 1]) if len(highs) else math.inf
    return Interval(float(np.quantile(array, q)), lower, upper, None, n, n, "order statistics", alpha=alpha)
