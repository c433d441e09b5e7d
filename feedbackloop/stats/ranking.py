"""Ratings from comparisons: half-win Bradley-Terry on counts, with robust intervals, ranks and differences.

The estimator is the one that public leaderboards use (Chiang et al., Chatbot Arena, arXiv 2403.04132): ties and both-bad are half a
win for each, intervals come from the sandwich covariance, ranks from intervals that do not overlap. Added here are a weak prior,
the position effect, clustering by rater, and care for few data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from feedbackloop.stats.cells import Cells, Ties
from feedbackloop.stats.interval import FloatArray, IntArray, Interval, Method, checked_alpha, t_quantile
from feedbackloop.stats.likelihood import Likelihood
from feedbackloop.stats.ranks import Ranks, ranks_from, simultaneous_critical
from feedbackloop.stats.robust import FEWEST_DECIDED, RaterScores, Robust, robust_covariance
from feedbackloop.stats.standings import (
    ELO,
    BradleyTerry,
    Difference,
    Weighting,
    standings,
    winners_and_losers,
)

FEWEST_FOR_POSITION = 50
"""Comparisons, half of them in either order of their pair, from which the position effect is estimated unasked."""

FULL_PAIR = 50
"""Pairs with fewer comparisons than this are not weighted up to a full share."""


def bradley_terry(
    cells: Cells,
    *,
    prior: float = 1.0,
    ties: Ties = "half",
    weighting: Weighting = "count",
    position: bool | Literal["auto"] = "auto",
    rater_scores: RaterScores | None = None,
    anchor: str | None = None,
    alpha: float = 0.05,
    seed: int = 0,
    draws: int = 2000,
) -> BradleyTerry:
    """Ratings of all players, with intervals and ranks. Few data never fail; a table without comparisons has no rows.

    Intervals are for the distance from the mean of the player's component, whatever the anchor. A standard error is the greater of
    the sandwich's and, from five effective raters on, the one clustered by rater. Where a player has fewer than five wins and
    losses, or one side won everything, squared residuals would promise certainty, and the model's variance takes their place; a
    table of ties only so gets the inverse Hessian. Other variances are multiplied by N / (N - K), at most 2, and their intervals
    use t(n_i - 1), or t(effective raters - 1) where that is less.

    Args:
        cells: counts by ordered pair.
        prior: comparisons with an average opponent, half won, added to each player. 0 is for parity with other programs.
        ties: count ties and both-bad as half a win for each, or drop them from the fit.
        weighting: "pair" gives a comparison 1 / max(comparisons of its pair, 50), scaled so that the mean weight is 1: the prior
            would drown the data otherwise.
        position: estimate the advantage of being shown first. "auto": where pairs shown both ways hold 50 comparisons that can be
            matched, 25 in either order. True: wherever the comparisons determine it at all.
        rater_scores: by `rater_residuals` from a fit with these same cells and options.
        anchor: the player whose rating is shown as 1000 in its component; without it, and in other components, the mean is.
        alpha: 1 - alpha is the confidence of each interval.
        seed: of the draws behind `p_best` and `expected_rank`.
        draws: how many.

    Raises:
        ValueError: an unknown anchor, a negative prior, rater scores of another fit; without a prior, players whom no chain of wins
            connects both ways with the others, with their names.
    """
    checked_alpha(alpha)
    if prior < 0:
        raise ValueError(f"the prior is {prior}; it is a number of comparisons")
    if anchor is not None and anchor not in cells.players:
        raise ValueError(f"the anchor {anchor!r} is not among the players")
    components, strong = cells.components(ties), cells.strong_components(ties)
    if not prior:
        _refuse_unconnected(cells, strong)
    likelihood = _likelihood(cells, prior=prior, ties=ties, weighting=weighting, position=position)
    parameters = likelihood.maximum()
    record = cells.record()
    thin = (record.wins + record.losses < FEWEST_DECIDED) | (winners_and_losers(cells, ties) != 0)
    robust = robust_covariance(
        likelihood, parameters, thin=thin, strong=strong, components=components, scores=rater_scores
    )
    strengths = parameters[: likelihood.size]
    theta = strengths - (np.bincount(components, strengths) / np.bincount(components))[components]
    rows = standings(cells, theta, robust, components, ties=ties, anchor=anchor, alpha=alpha, draws=draws, seed=seed)
    return BradleyTerry(
        rows=rows,
        players=cells.players,
        theta=theta,
        covariance=robust.covariance,
        model_covariance=robust.model,
        df=robust.df,
        rater_df=robust.rater_df,
        components=components,
        gamma=_gamma(likelihood, parameters, robust, rater_scores, alpha) if likelihood.position else None,
        tie_rate=float(cells.ties.sum() / cells.n.sum()) if len(cells.a) else None,
        scope=robust.scope,
        raters=None if rater_scores is None else rater_scores.raters,
        effective_raters=None if rater_scores is None else rater_scores.effective,
        cells=cells,
        prior=prior,
        ties=ties,
        weighting=weighting,
        anchor=anchor,
        alpha=alpha,
        seed=seed,
        draws=draws,
    )


def rater_residuals(
    fit: BradleyTerry,
    a_names: Sequence[str],
    b_names: Sequence[str],
    *,
    score: ArrayLike,
    n: ArrayLike,
    raters: Sequence[str],
) -> RaterScores:
    """What each rater's votes pull at each rating, for `bradley_terry(..., rater_scores=)`: U[r, m] = sum of +-(score - p).

    Args:
        fit: of all these comparisons, with the options that the clustered fit is to have.
        a_names: shown first; one row for each (rater, a, b, outcome), all columns of shape [rows].
        b_names: shown second.
        score: of a: 1, 0.5 for a tie and for both-bad, or 0.
        n: how many such comparisons.
        raters: who compared.

    Raises:
        ValueError: a name that the fit does not know, or columns that differ in length.
    """
    scores, counts = np.asarray(score, dtype=np.float64), np.asarray(n, dtype=np.float64)
    if {scores.shape, counts.shape} != {(len(raters),)} or not len(a_names) == len(b_names) == len(raters):
        raise ValueError("the columns differ in length")
    known = {name: index for index, name in enumerate(fit.players)}
    rows = [row for row, (a, b) in enumerate(zip(a_names, b_names, strict=True)) if a != b]
    if fit.ties == "drop":
        rows = [row for row in rows if scores[row] != 0.5]
    if strange := {name for row in rows for name in (a_names[row], b_names[row])} - known.keys():
        raise ValueError(f"not among the players: {', '.join(sorted(strange))}")
    a = np.array([known[a_names[row]] for row in rows], dtype=np.int64)
    b = np.array([known[b_names[row]] for row in rows], dtype=np.int64)
    places_of = {rater: index for index, rater in enumerate(sorted({raters[row] for row in rows}))}
    rater = np.array([places_of[raters[row]] for row in rows], dtype=np.int64)
    chance = special.expit(fit.theta[a] - fit.theta[b] + fit.gamma_value)
    residual = _pair_weights(fit.cells, fit.ties, fit.weighting)[a, b] * counts[rows] * (scores[rows] - chance)
    width = len(fit.players) + (fit.gamma is not None)
    shape = (len(places_of), width)
    pulled = np.bincount(rater * width + a, residual, math.prod(shape))
    pulled -= np.bincount(rater * width + b, residual, math.prod(shape))
    table = np.asarray(pulled, dtype=np.float64).reshape(shape)
    if fit.gamma is not None:
        table[:, -1] = np.bincount(rater, residual, len(places_of))
    made = np.asarray(np.bincount(rater, counts[rows], len(places_of)), dtype=np.float64)
    return RaterScores(tuple(places_of), table, made)


def difference(fit: BradleyTerry, a: str, b: str, *, simultaneous: bool = False) -> Difference:
    """How far a is ahead of b, with t((fewer of their comparisons) - 1), one-sided where one of them won or lost everything.

    Args:
        fit: the table.
        a: a player.
        b: another.
        simultaneous: hold for all pairs of the table at once, as a claim about ranks has to.

    Raises:
        ValueError: an unknown player, or the same one twice.
    """
    i, j = fit.index(a), fit.index(b)
    if i == j:
        raise ValueError(f"{a!r} is compared with itself")
    n = round(float(fit.cells.n.sum()))
    clusters = n if math.isinf(fit.rater_df) else len(fit.raters or ())
    if fit.components[i] != fit.components[j]:
        nothing = Interval(None, None, None, None, n, clusters, "not connected", fit.scope, fit.alpha)
        return Difference(a, b, nothing, nothing, nothing)
    variance = fit.covariance[i, i] + fit.covariance[j, j] - 2 * fit.covariance[i, j]
    se, df = math.sqrt(max(variance, 0.0)), float(min(fit.df[i], fit.df[j]))
    extreme = winners_and_losers(fit.cells, fit.ties)
    no_upper, no_lower = extreme[i] > 0 or extreme[j] < 0, extreme[i] < 0 or extreme[j] > 0
    quantile = t_quantile(1 - fit.alpha / (1 if no_upper or no_lower else 2), df)
    if simultaneous:
        quantile = max(quantile, simultaneous_critical_value(fit))
    theta = float(fit.theta[i] - fit.theta[j])
    lower = -math.inf if no_lower else theta - quantile * se
    upper = math.inf if no_upper else theta + quantile * se
    chance = float(special.expit(theta))
    method: Method = "sandwich" if math.isinf(fit.rater_df) else "sandwich clustered by rater"

    def interval(middle: float, low: float, high: float, error: float, center: float | None) -> Interval:
        return Interval(middle, low, high, error, n, clusters, method, fit.scope, fit.alpha, center, df)

    return Difference(
        a,
        b,
        theta=interval(theta, lower, upper, se, theta),
        elo=interval(ELO * theta, ELO * lower, ELO * upper, ELO * se, ELO * theta),
        win_probability=interval(
            chance, float(special.expit(lower)), float(special.expit(upper)), chance * (1 - chance) * se, None
        ),
    )


def simultaneous_critical_value(fit: BradleyTerry) -> float:
    """What stands in place of 1.96 when all differences of a table are to hold at once; 3.3 for 12 players."""
    size = len(fit.players)
    if size < 2:
        return math.inf
    covariance = fit.covariance[:size, :size]
    critical = simultaneous_critical(covariance, fit.components, alpha=fit.alpha, draws=fit.draws, seed=fit.seed)
    # Draws know the estimates' errors but not that these errors are themselves estimated from few raters.
    return critical * t_quantile(1 - fit.alpha / 2, fit.rater_df) / t_quantile(1 - fit.alpha / 2, math.inf)


def simultaneous_ranks(fit: BradleyTerry) -> Ranks:
    """Ranks in the order of `fit.players` that are right all together: for a claim, where `Standing` shows overlap."""
    size = len(fit.players)
    above = np.zeros((size, size), dtype=bool)
    if size > 1:
        covariance, variance = fit.covariance[:size, :size], np.diag(fit.covariance)[:size]
        se = np.sqrt(np.maximum(variance[:, None] + variance[None, :] - 2 * covariance, 0))
        df = np.minimum(fit.df[:, None], fit.df[None, :])
        level = 1 - fit.alpha / 2
        few = np.where(np.isinf(df), special.ndtri(level), special.stdtrit(np.where(np.isinf(df), 1, df), level))
        above = fit.theta[:, None] - fit.theta[None, :] > np.maximum(simultaneous_critical_value(fit), few) * se
    return ranks_from(above, fit.components)


def _refuse_unconnected(cells: Cells, strong: IntArray) -> None:
    """Raises ValueError with the names outside of the largest group that wins connect both ways."""
    if len(strong) == 0:
        return
    sizes = np.bincount(strong)
    outside = [name for name, group in zip(cells.players, strong, strict=True) if group != sizes.argmax()]
    if outside:
        raise ValueError(
            f"no chain of wins leads both ways between the others and: {', '.join(outside)}; set a prior above 0"
        )


def _pair_weights(cells: Cells, ties: Ties, weighting: Weighting) -> FloatArray:
    """[players, players]: of one comparison of the two, 1 on average over the comparisons."""
    counts = cells.count_matrix(ties)
    if weighting == "count" or not counts.any():
        return np.ones_like(counts)
    weights = 1 / np.maximum(counts, FULL_PAIR)
    return np.asarray(weights * counts.sum() / (weights * counts).sum(), dtype=np.float64)


def _likelihood(
    cells: Cells, *, prior: float, ties: Ties, weighting: Weighting, position: bool | Literal["auto"]
) -> Likelihood:
    halves = cells.halves if ties == "half" else np.zeros(len(cells.a))
    used = cells.wins_a + halves + cells.wins_b
    if position == "auto":
        size = len(cells.players)
        shown = np.bincount(cells.a * size + cells.b, used, size**2).reshape(size, size)
        # Each pair stands twice in the sum, once for either order.
        position = bool(np.minimum(shown, shown.T).sum() >= FEWEST_FOR_POSITION)
    position = position and _determines_position(cells, used)
    first, all_points = float((cells.wins_a + 0.5 * halves).sum()), float(used.sum())
    return Likelihood(
        size=len(cells.players),
        a=cells.a,
        b=cells.b,
        wins_a=cells.wins_a,
        halves=halves,
        wins_b=cells.wins_b,
        weight=_pair_weights(cells, ties, weighting)[cells.a, cells.b],
        prior=prior,
        position=position,
        position_prior=1.0 if first in (0.0, all_points) else 0.0,
    )


def _determines_position(cells: Cells, used: FloatArray) -> bool:
    """Whether no strengths could look like an advantage of being shown first, as they do where one order was shown only.

    The prior would make a number of it nevertheless, and a certain one.
    """
    size = len(cells.players)
    seen = np.flatnonzero(used)
    design = np.zeros((size, size))
    np.add.at(design, (cells.a[seen], cells.a[seen]), 1.0)
    np.add.at(design, (cells.b[seen], cells.b[seen]), 1.0)
    np.add.at(design, (cells.a[seen], cells.b[seen]), -1.0)
    np.add.at(design, (cells.b[seen], cells.a[seen]), -1.0)
    first = np.bincount(cells.a[seen], minlength=size) - np.bincount(cells.b[seen], minlength=size)
    left = len(seen) - first @ np.linalg.lstsq(design, first.astype(np.float64))[0]
    return bool(left > 1e-9 * len(seen))


def _gamma(
    likelihood: Likelihood, parameters: FloatArray, robust: Robust, scores: RaterScores | None, alpha: float
) -> Interval:
    gamma, se = float(parameters[-1]), math.sqrt(max(float(robust.covariance[-1, -1]), 0.0))
    reach = t_quantile(1 - alpha / 2, robust.rater_df) * se
    n = round(float(likelihood.n.sum()))
    clustered = scores is not None and not math.isinf(robust.rater_df)
    return Interval(
        gamma,
        gamma - reach,
        gamma + reach,
        se,
        n,
        len(scores.raters) if scores is not None and clustered else n,
        "sandwich clustered by rater" if clustered else "sandwich",
        robust.scope,
        alpha,
        gamma,
        robust.rater_df,
    )
