"""Intervals that stay right however often they are looked at, so that a queue may end as soon as it has decided.

Sources: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, Time-uniform central limit theory and asymptotic confidence sequences,
arXiv 2103.06476; Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting, JRSS B 86 (2024).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from feedbackloop.stats.interval import FloatArray, Interval, checked_alpha, finite

FIRST_LOOK = 20
"""Observations before which the asymptotic sequence says nothing."""

OPEN_ENDED = 300
"""Planned observations where a queue has no end."""

FEWEST_PLANNED = 50
"""The least number of observations that the sequence is tuned to."""

SMOOTHING = 5.0
"""Observations that the scale's greatest variance counts as."""

GRID = 200
"""Steps into which the betting interval divides the scale."""


@dataclass(frozen=True, eq=False)
class ConfidenceSequence:
    """An interval for every number of observations, all of them right at once with probability 1 - alpha."""

    interval: Interval
    """After the last observation; what to report as the estimate."""
    means: FloatArray
    """[n], after each observation."""
    lower: FloatArray
    """[n], of the interval after each observation; the end of the scale where nothing is said yet."""
    upper: FloatArray

    def first_excluding(self, value: float) -> int | None:
        """After how many observations an interval first left the value out: a decision then reached stands; None while none has."""
        out = np.flatnonzero((self.lower > value) | (self.upper < value))
        return int(out[0]) + 1 if len(out) else None


def confidence_sequence(
    y: ArrayLike,
    planned: int | None = None,
    *,
    alpha: float = 0.05,
    bounds: tuple[float, float] | None = (0.0, 1.0),
    spread: float | None = None,
) -> ConfidenceSequence:
    """The asymptotic confidence sequence of the mean of independent observations, from the twentieth on.

    With v = (n var + 5 spread^2) / (n + 5) and rho2 = (-2 ln alpha + ln(-2 ln alpha) + 1) / planned, the bounds are
    mean +- sqrt(v (n rho2 + 1) / (n^2 rho2) ln((n rho2 + 1) / alpha^2)); var divides by n.

    Args:
        y: one observation for each item, its mean rating, in the order in which items were completed.
        planned: items in the queue, which the sequence is narrowest near; taken as at least 50, and as 300 where it is None.
        alpha: the chance that any interval ever leaves the true mean out.
        bounds: ends of the scale, at which bounds are cut; None for a scale without ends.
        spread: the standard deviation expected beforehand; half the scale, or 1 without ends.

    Raises:
        ValueError: an observation outside of the bounds.
    """
    values = _on_scale(y, bounds)
    n = np.arange(1, len(values) + 1)
    low, high = bounds or (-math.inf, math.inf)
    expected = spread if spread is not None else (high - low) / 2 if bounds else 1.0
    means = np.cumsum(values) / n
    # Taken about the first value: squares of large numbers would swallow their differences.
    shift = values[0] if len(values) else 0.0
    variance = np.maximum(np.cumsum((values - shift) ** 2) / n - (means - shift) ** 2, 0)
    smoothed = (n * variance + SMOOTHING * expected**2) / (n + SMOOTHING)
    reach = sequence_reach(n, variance, planned, alpha=alpha, spread=expected)
    early = n < FIRST_LOOK
    lower = np.where(early, low, np.maximum(means - reach, low))
    upper = np.where(early, high, np.minimum(means + reach, high))
    if len(values) == 0:
        known = bounds or (None, None)
        nothing = Interval(None, known[0], known[1], None, 0, 0, "no data", alpha=alpha)
        return ConfidenceSequence(nothing, means, lower, upper)
    count, se = len(values), math.sqrt(float(smoothed[-1]) / len(values))
    last = Interval(
        float(means[-1]), float(lower[-1]), float(upper[-1]), se, count, count, "confidence sequence", alpha=alpha
    )
    return ConfidenceSequence(last, means, lower, upper)


def sequence_reach(
    n: ArrayLike, variance: ArrayLike, planned: int | None = None, *, alpha: float = 0.05, spread: float = 0.5
) -> FloatArray:
    """Half the width of `confidence_sequence` after n observations of this variance, before it is cut at the scale's ends."""
    count = np.asarray(n, dtype=np.float64)
    level = -2 * math.log(checked_alpha(alpha))
    rho2 = (level + math.log(level) + 1) / max(planned or OPEN_ENDED, FEWEST_PLANNED)
    smoothed = (count * np.asarray(variance) + SMOOTHING * spread**2) / (count + SMOOTHING)
    inflated = count * rho2 + 1
    return np.asarray(np.sqrt(smoothed * inflated / (count**2 * rho2) * np.log(inflated / alpha**2)))


def betting_interval(
    y: ArrayLike, *, alpha: float = 0.05, bounds: tuple[float, float] = (0.0, 1.0)
) -> ConfidenceSequence:
    """The strict confidence sequence: right for any number of bounded observations, and wider than the asymptotic one.

    A value m of a grid of 200 steps is ruled out, for good, once (K+ + K-) / 2 >= 1 / alpha, where K+- is the capital of betting
    lambda_t on observations above, or below, m: lambda_t = sqrt(2 ln(2 / alpha) / (var_{t-1} t ln(t + 1))), at most 0.5 / m and
    0.5 / (1 - m). Bounds are the outermost values ruled out, so the grid makes them wider, never narrower.

    Args:
        y: one observation for each item, in order.
        alpha: the chance that the true mean is ever ruled out.
        bounds: ends of the scale.

    Raises:
        ValueError: an observation outside of the bounds.
    """
    low, high = bounds
    observed = _on_scale(y, bounds)
    values = (observed - low) / (high - low)
    count = len(values)
    n = np.arange(1, count + 1)
    means = np.cumsum(observed) / n
    so_far = (0.5 + np.cumsum(values)) / (n + 1)
    variance = (0.25 + np.cumsum((values - so_far) ** 2)) / (n + 1)
    known = np.concatenate(([0.25], variance[:-1]))[:count]
    stake = np.sqrt(2 * math.log(2 / checked_alpha(alpha)) / (known * n * np.log(n + 1)))
    grid = np.linspace(0, 1, GRID + 1)
    ruled_out = np.full(GRID + 1, count + 1)
    for place, m in enumerate(grid):
        above = np.minimum(stake, 0.5 / m if m > 0 else math.inf)
        below = np.minimum(stake, 0.5 / (1 - m) if m < 1 else math.inf)
        capital = np.logaddexp(np.cumsum(np.log1p(above * (values - m))), np.cumsum(np.log1p(-below * (values - m))))
        out = np.flatnonzero(capital - math.log(2) >= -math.log(alpha))
        if len(out):
            ruled_out[place] = out[0] + 1
    left = ruled_out[None, :] > n[:, None]
    first, last = left.argmax(axis=1), GRID - left[:, ::-1].argmax(axis=1)
    lower = low + (high - low) * grid[np.maximum(first - 1, 0)]
    upper = low + (high - low) * grid[np.minimum(last + 1, GRID)]
    # The value at such a bound is itself ruled out, so the bound lies just inside of it.
    lower = np.where(first > 0, np.nextafter(lower, math.inf), low)
    upper = np.where(last < GRID, np.nextafter(upper, -math.inf), high)
    if count == 0:
        return ConfidenceSequence(
            Interval(None, low, high, None, 0, 0, "no data", alpha=alpha), means, means.copy(), means.copy()
        )
    interval = Interval(
        float(means[-1]), float(lower[-1]), float(upper[-1]), None, count, count, "betting", alpha=alpha
    )
    return ConfidenceSequence(interval, means, lower, upper)


def _on_scale(y: ArrayLike, bounds: tuple[float, float] | None) -> FloatArray:
    values = finite(y, "y")
    if bounds is not None and ((values < bounds[0]).any() or (values > bounds[1]).any()):
        raise ValueError(f"an observation lies outside of {bounds[0]} to {bounds[1]}")
    return values
