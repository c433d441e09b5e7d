"""How many comparisons a question needs, before it is asked and while it is being answered.

Source: Miller, Adding Error Bars to Evals, arXiv 2411.00640, section 5. The figures are for one look at the end; a confidence
sequence needs about 8 % more on average.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from feedbackloop.stats.interval import Interval, checked_alpha, finite, normal_quantile
from feedbackloop.stats.sequences import FIRST_LOOK, sequence_reach

USUAL_TIE_RATE = 0.25

STRAYING = 0.38
"""Standard errors by which a running mean strays towards the bound before it is as likely as not to have crossed it."""


@dataclass(frozen=True)
class MoreNeeded:
    """How many comparisons are still missing to settle a question."""

    more: int
    """0 where it is settled."""
    total: int
    """With those that there are."""
    worth_it: bool
    """Whether the total is within the budget."""


def comparisons_needed(
    effect: float,
    tie_rate: float = USUAL_TIE_RATE,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    design_effect: float = 1.0,
) -> int | None:
    """Comparisons to find a win rate of 0.5 + effect different from 0.5, DEFF ((z_{1-alpha/2} + z_power) sigma / effect)^2.

    sigma^2 = (1 - tie_rate) / 4 - effect^2, the variance of a win rate with ties as halves.

    Returns:
        The nearest whole number, at least 1; None where the effect is 0, which no number can find.

    Raises:
        ValueError: an effect that this tie rate does not allow.
    """
    if not 0 <= tie_rate < 1 or abs(effect) > (1 - tie_rate) / 2:
        raise ValueError(f"an effect of {effect} is impossible with {tie_rate:.0%} ties")
    if effect == 0:
        return None
    variance = (1 - tie_rate) / 4 - effect**2
    return max(1, round(design_effect * variance * (_quantiles(power, alpha) / effect) ** 2))


def detectable_effect(
    comparisons: int,
    tie_rate: float = USUAL_TIE_RATE,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    design_effect: float = 1.0,
) -> float | None:
    """The smallest effect that so many comparisons find: `comparisons_needed` the other way round.

    effect^2 = z^2 (1 - tie_rate) / 4 / (n / DEFF + z^2), z = z_{1-alpha/2} + z_power, since the variance shrinks with the effect.

    Returns:
        A distance of a win rate from 0.5, at most (1 - tie_rate) / 2; None where even such a landslide would be missed.

    Raises:
        ValueError: a tie rate outside of 0 to 1.
    """
    if not 0 <= tie_rate < 1:
        raise ValueError(f"a tie rate of {tie_rate} is impossible")
    squared = _quantiles(power, alpha) ** 2
    effect = math.sqrt(squared * (1 - tie_rate) / 4 / (comparisons / design_effect + squared))
    return effect if effect <= (1 - tie_rate) / 2 else None


def minimum_detectable_effect(se: float, *, power: float = 0.8, alpha: float = 0.05) -> float:
    """The effect that data with this standard error find with this power, on the scale of the standard error: 2.8 se."""
    return _quantiles(power, alpha) * se


def more_needed(
    interval: Interval, *, null: float = 0.5, budget: int = 2000, least: float = 0.05, power: float = 0.8
) -> MoreNeeded:
    """How many more until the interval can be expected to exclude the null value, if what was seen so far is true.

    The spread and the clustering are those behind the interval, n ((z + z) se / effect)^2. The effect is the one seen, but no
    smaller than `least`, so that a draw after ten votes does not look hopeless. Without data a win rate of 60 % is planned for.

    Args:
        interval: of a win rate or a difference.
        null: what is to be excluded: 0.5 for win rates, 0 for differences.
        budget: comparisons in all beyond which the answer is not worth its price.
        least: the smallest effect worth finding, on the interval's scale.
        power: the chance of success.

    Raises:
        ValueError: least is not above 0.
    """
    if least <= 0:
        raise ValueError(f"the least effect is {least}; it must be above 0")
    if interval.estimate is None or interval.se is None or math.isinf(interval.se):
        total = comparisons_needed(0.1, power=power, alpha=interval.alpha) or 1
    elif interval.excludes(null):
        total = interval.n
    else:
        effect = max(abs(interval.estimate - null), least)
        # What is not settled yet needs at least one more, whatever the formula makes of a few lucky votes.
        total = max(
            math.ceil(interval.n * (_quantiles(power, interval.alpha) * interval.se / effect) ** 2), interval.n + 1
        )
    return MoreNeeded(max(0, total - interval.n), total, total <= budget)


def design_effect(
    y: ArrayLike, items: Sequence[Hashable], *, weights: ArrayLike | None = None, planned_per_item: float | None = None
) -> float:
    """How many times more ratings are needed because ratings of one item are alike: 1 + (m - 1) icc, at least 1.

    icc = max(0, (observed - 1) / (mean ratings per item - 1)), observed = SE_clustered^2 / SE_naive^2.

    Args:
        y: ratings, [rows].
        items: the case behind each row.
        weights: how many identical ratings a row stands for.
        planned_per_item: ratings per item in what is planned; as many as here where it is None.
    """
    values = finite(y, "y")
    counts = np.ones(len(values)) if weights is None else finite(weights, "weights")
    codes: dict[Hashable, int] = {}
    item = np.array([codes.setdefault(name, len(codes)) for name in items], dtype=np.int64)
    groups, n = len(codes), float(counts.sum())
    if groups < 2 or n <= groups:
        return 1.0
    residual = values - np.average(values, weights=counts)
    naive = float((counts * residual**2).sum()) * n / (n - 1)
    clustered = float((np.bincount(item, counts * residual) ** 2).sum()) * groups / (groups - 1)
    per_item = n / groups
    icc = max(0.0, (clustered / naive - 1) / (per_item - 1)) if naive > 0 else 0.0
    return 1 + ((planned_per_item or per_item) - 1) * icc


def _quantiles(power: float, alpha: float) -> float:
    return normal_quantile(1 - checked_alpha(alpha) / 2) + normal_quantile(power)


def sequence_needed(
    effect: float,
    variance: float,
    planned: int | None = None,
    *,
    alpha: float = 0.05,
    most: int = 1_000_000,
    seen: int = 0,
    seen_effect: float = 0.0,
) -> int:
    """Observations after which a confidence sequence shows an effect in half of all cases: the median of when it first does.

    That is where its reach is the effect and 0.38 standard errors: the mean strays, and the first time counts. Simulated medians at
    effects of 0.05 to 0.2 of a win rate were 417 to 42, within 8 % of this. What was seen without showing it goes into the mean as
    it was; only what comes can stray.

    Args:
        effect: the distance to what is to be excluded, on the scale of the observations.
        variance: of one observation, an item's mean.
        planned: what the sequence is tuned to, as in `confidence_sequence`.
        alpha: that of the sequence.
        most: returned where even so many would not do.
        seen: observations so far, none of whose intervals has shown it.
        seen_effect: their mean's distance to what is to be excluded, in the direction of the effect.

    Returns:
        With those seen, and at least one more than they.

    Raises:
        ValueError: the effect is not above 0.
    """
    if effect <= 0:
        raise ValueError(f"the effect is {effect}; it must be above 0")

    def shows(n: int) -> bool:
        mean = (seen * seen_effect + (n - seen) * effect) / n
        strayed = STRAYING * math.sqrt(variance * (n - seen)) / n
        return bool(sequence_reach(n, variance, planned, alpha=alpha) <= mean + strayed)

    low, high = max(FIRST_LOOK, seen + 1), most
    if not shows(high):
        return most
    while low < high:
        middle = (low + high) // 2
        if shows(middle):
            high = middle
        else:
            low = middle + 1
    return low
