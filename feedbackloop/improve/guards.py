"""Guards: what a candidate may not make worse while it pleases its raters: cost, latency, failures."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Values = NDArray[np.float64]

DRAWS = 1000
"""Resamples of the cases behind each bound."""

CONFIDENCE = 0.95
"""One-sided."""


@dataclass(frozen=True)
class Guard:
    """One guard as it stands."""

    name: str
    """`cost`, `p95_latency`, `failures`, or `saving`."""
    baseline: float | None
    """USD per answer, milliseconds, or a rate; None where it is not known."""
    candidate: float | None
    increase: float | None
    """As a share of the baseline's; for failures the difference of the rates."""
    lower: float | None
    """Of the increase, one-sided 95 % each."""
    upper: float | None
    allowed: float
    state: Literal["holds", "open", "fails"]
    """`open`: the answers do not show it yet, one way or the other."""
    cases: int

    @property
    def blocks(self) -> bool:
        """Whether nothing may be released past it: it fails, or looks like failing. A saving is part of the claim and must be shown."""
        if self.name == "saving":
            return self.state != "holds"
        return self.state == "fails" or (self.increase is not None and self.increase > self.allowed)


def guards(
    answered: pd.DataFrame,
    *,
    max_cost_increase: float | None,
    max_p95_increase: float | None,
    max_failure_increase: float | None,
    min_saving: float | None = None,
) -> tuple[Guard, ...]:
    """The guards of a rule on `queries.headtohead.performance`; bounds by resampling cases, the same ones for both variants.

    Args:
        answered: a row per case that both were asked.
        max_cost_increase: of the mean cost per answer, as a share; None for no such guard, also below.
        max_p95_increase: of the 95th percentile of the latency, as a share.
        max_failure_increase: of the failure rate, as a difference.
        min_saving: if given, the candidate's mean cost or its median latency must be lower by more than this share.
    """
    found = []
    if max_cost_increase is not None:
        found.append(_guard("cost", answered, "cost_usd", np.mean, max_cost_increase))
    if max_p95_increase is not None:
        found.append(_guard("p95_latency", answered, "latency_ms", _p95, max_p95_increase))
    if max_failure_increase is not None:
        found.append(_guard("failures", answered, "failed", np.mean, max_failure_increase, difference=True))
    if min_saving is not None:
        cost = _guard("saving", answered, "cost_usd", np.mean, -min_saving)
        time = _guard("saving", answered, "latency_ms", np.median, -min_saving)
        order = ("holds", "open", "fails")
        found.append(min((cost, time), key=lambda guard: order.index(guard.state)))
    return tuple(found)


def _p95(values: Values, axis: int | None = None) -> Values:
    return np.asarray(np.quantile(values, 0.95, axis=axis))


def _guard(
    name: str,
    answered: pd.DataFrame,
    column: str,
    statistic: Callable[..., Values],
    allowed: float,
    *,
    difference: bool = False,
) -> Guard:
    """`difference` is that of two rates; its column says yes or no."""
    both = answered[[f"baseline_{column}", f"candidate_{column}"]].astype(float).dropna().to_numpy()
    if not len(both):
        return Guard(name, None, None, None, None, None, allowed, "open", 0)
    base, other = (float(statistic(both[:, side])) for side in (0, 1))
    increase = _increase(np.array([base]), np.array([other]), difference=difference)[0]
    seed = np.random.default_rng(0)  # the same answers, the same bounds, on every look
    if difference:
        # Of yes and no there are four kinds of cases: to draw how many of each comes to the same as drawing cases, at once.
        kinds = np.array([(0, 0), (0, 1), (1, 0), (1, 1)], dtype=np.float64)
        shares = [float((both == kind).all(axis=1).mean()) for kind in kinds]
        counts = seed.multinomial(len(both), shares, DRAWS)
        drawn = counts @ (kinds[:, 1] - kinds[:, 0]) / len(both)
    else:
        draws = int(np.clip(20_000_000 // len(both), 100, DRAWS))
        picked = seed.integers(0, len(both), (draws, len(both)))
        drawn = _increase(statistic(both[picked, 0], axis=1), statistic(both[picked, 1], axis=1), difference=False)
    lower, upper = (float(np.quantile(drawn, level)) for level in (1 - CONFIDENCE, CONFIDENCE))
    if difference and not both.any():
        # Where nothing failed so far, resampling would promise that nothing ever will: the rule of three.
        upper = 3 / len(both)
    if math.isnan(increase) or math.isnan(upper):
        return Guard(name, base, other, None, None, None, allowed, "open", len(both))
    fine = upper < allowed if name == "saving" else upper <= allowed
    state: Literal["holds", "open", "fails"] = "holds" if fine else "fails" if lower > allowed else "open"
    if name == "saving" and lower >= allowed:
        state = "fails"
    return Guard(name, base, other, float(increase), lower, upper, allowed, state, len(both))


def _increase(base: Values, other: Values, *, difference: bool) -> Values:
    if difference:
        return other - base
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(base > 0, other / base - 1, np.where(other > 0, np.inf, 0.0)), dtype=np.float64)
