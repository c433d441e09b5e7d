"""What a ranking says: a row for each player, the table, and the distance between two players."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np
from scipy import special

from feedbackloop.stats.cells import Cells, Ties
from feedbackloop.stats.interval import FloatArray, IntArray, Interval, Scope, proportion_interval, t_quantile
from feedbackloop.stats.ranks import draw, places, ranks_by_overlap
from feedbackloop.stats.robust import Robust

CENTER = 1000.0
"""The rating of a component's mean, or of the anchor."""

FEWEST_COMPARISONS = 30
"""Below this a rating is preliminary."""

ELO = 400 / math.log(10)
"""Elo points per logit."""

Weighting = Literal["count", "pair"]
"""Every comparison weighs the same, or every pair does (for adaptive sampling)."""


class Flag(StrEnum):
    """What a reader of a rating must know."""

    DISCONNECTED = "disconnected"
    """Comparisons do not connect all players; ranks and ratings hold within the component only."""
    SEPARATED = "separated"
    """Won, or lost, every comparison: only one bound exists."""
    ALL_TIES = "all ties"
    """Nothing was decided; the standard error is the model's."""
    PRELIMINARY = "preliminary"
    """Fewer than 30 comparisons."""


@dataclass(frozen=True)
class Standing:
    """A player's row. Rating, error and bounds are Elo points; the interval is for the distance from the component's mean."""

    name: str
    rating: float
    se: float
    """Infinite for a player none of whose comparisons count."""
    lower: float
    """-inf where the player lost everything."""
    upper: float
    """inf where the player won everything."""
    rank_lower: int
    """The best place that it may hold in its component."""
    rank_upper: int
    p_best: float
    expected_rank: float
    n: int
    """All comparisons, of which:"""
    wins: int
    losses: int
    ties: int
    both_bad: int
    both_bad_rate: Interval
    """Of the comparisons; the one figure here that says whether a leader is good enough."""
    component: int
    """0 is the largest."""
    flags: tuple[Flag, ...]

    @property
    def tie_rate(self) -> float:
        """Share of comparisons in which both were equally good."""
        return self.ties / self.n


@dataclass(frozen=True, eq=False)
class BradleyTerry:
    """A fitted table, with all that it was made from."""

    rows: tuple[Standing, ...]
    """By component, preliminary ones last within it, best first."""
    players: tuple[str, ...]
    theta: FloatArray
    """[players], in logits, minus the mean of the component."""
    covariance: FloatArray
    """Of theta, and of gamma in the last row and column where it is fitted; robust, corrected for small samples."""
    model_covariance: FloatArray
    """The inverse Hessian, which is too wide where there are ties: standard errors by 18 % at a quarter of ties."""
    df: FloatArray
    """[players], degrees of freedom of each interval."""
    rater_df: float
    """Effective raters - 1 where errors are clustered by rater, else infinite."""
    components: IntArray
    """[players]; 0 is the largest."""
    gamma: Interval | None
    """Advantage of being shown first, in logits; None where it is fixed at 0."""
    tie_rate: float | None
    """Share of all comparisons, both-bad not counted; None without comparisons."""
    scope: Scope
    raters: tuple[str, ...] | None
    """None where no rater scores were given."""
    effective_raters: float | None
    cells: Cells
    prior: float
    ties: Ties
    weighting: Weighting
    anchor: str | None
    alpha: float
    seed: int
    draws: int

    @property
    def n(self) -> int:
        """Comparisons in the table."""
        return round(float(self.cells.n.sum()))

    @property
    def position_shift(self) -> float | None:
        """How far above one half the first-shown of two equals wins; None where gamma is not fitted."""
        if self.gamma is None or self.gamma.estimate is None:
            return None
        return float(special.expit(self.gamma.estimate)) - 0.5

    def index(self, name: str) -> int:
        """Where the player stands in theta and covariance.

        Raises:
            ValueError: there is no such player.
        """
        if name not in self.players:
            raise ValueError(f"{name!r} is not among the players")
        return self.players.index(name)

    def row(self, name: str) -> Standing:
        """The player's row.

        Raises:
            ValueError: there is no such player.
        """
        self.index(name)
        return next(row for row in self.rows if row.name == name)

    @property
    def gamma_value(self) -> float:
        """Gamma's estimate, 0 where it is not fitted."""
        return 0.0 if self.gamma is None or self.gamma.estimate is None else self.gamma.estimate


@dataclass(frozen=True)
class Difference:
    """How far player a is ahead of player b. Estimates and bounds are None where comparisons do not connect the two."""

    a: str
    b: str
    theta: Interval
    """In logits; `p_value(0)` of it is that of no difference."""
    elo: Interval
    win_probability: Interval
    """That a is preferred to b, ties counted half, in random order."""


def winners_and_losers(cells: Cells, ties: Ties) -> IntArray:
    """[players]: 1 for who won every comparison that counts, -1 for who lost every one, else 0."""
    points, used = cells.win_matrix(ties).sum(axis=1), cells.count_matrix(ties).sum(axis=1)
    return np.where(used == 0, 0, np.where(points == used, 1, np.where(points == 0, -1, 0))).astype(np.int64)


def standings(
    cells: Cells,
    theta: FloatArray,
    robust: Robust,
    components: IntArray,
    *,
    ties: Ties,
    anchor: str | None,
    alpha: float,
    draws: int,
    seed: int,
) -> tuple[Standing, ...]:
    """The table's rows: by component, preliminary ones last within it, best first."""
    size = len(theta)
    if size == 0:
        return ()
    variance = np.diag(robust.covariance)[:size]
    # Alone in its component a player is its own mean; that its distance from it is 0 says nothing.
    se = np.where(np.bincount(components)[components] == 1, np.inf, np.sqrt(np.maximum(variance, 0)))
    extreme = winners_and_losers(cells, ties)
    tail = np.where(extreme == 0, alpha / 2, alpha)
    reach = np.array([t_quantile(1 - t, df) for t, df in zip(tail, robust.df, strict=True)]) * se
    lower, upper = np.where(extreme < 0, -np.inf, theta - reach), np.where(extreme > 0, np.inf, theta + reach)
    ranks = ranks_by_overlap(lower, upper, components)
    chances = places(draw(theta, robust.covariance[:size, :size], draws, seed), components)
    origin = np.zeros(size)
    if anchor is not None:
        at = cells.players.index(anchor)
        origin[components == components[at]] = theta[at]
    rating, low, high = (CENTER + ELO * (value - origin) for value in (theta, lower, upper))
    record = cells.record()
    rows = [
        Standing(
            name=name,
            rating=float(rating[i]),
            se=float(ELO * se[i]),
            lower=float(low[i]),
            upper=float(high[i]),
            rank_lower=int(ranks.lower[i]),
            rank_upper=int(ranks.upper[i]),
            p_best=float(chances.p_best[i]),
            expected_rank=float(chances.expected_rank[i]),
            n=round(record.n[i]),
            wins=round(record.wins[i]),
            losses=round(record.losses[i]),
            ties=round(record.ties[i]),
            both_bad=round(record.both_bad[i]),
            both_bad_rate=proportion_interval(round(record.both_bad[i]), round(record.n[i]), alpha=alpha),
            component=int(components[i]),
            flags=tuple(
                flag
                for flag, holds in (
                    (Flag.DISCONNECTED, components.any()),
                    (Flag.SEPARATED, extreme[i] != 0),
                    (Flag.ALL_TIES, record.wins[i] + record.losses[i] == 0),
                    (Flag.PRELIMINARY, record.n[i] < FEWEST_COMPARISONS),
                )
                if holds
            ),
        )
        for i, name in enumerate(cells.players)
    ]
    return tuple(sorted(rows, key=lambda row: (row.component, Flag.PRELIMINARY in row.flags, -row.rating, row.name)))
