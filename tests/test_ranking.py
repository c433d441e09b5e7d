"""Ratings: published tables to their last digit, other programs, invariances, few data, and simulated coverage."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from feedbackloop.stats.cells import Cells
from feedbackloop.stats.ranking import (
    bradley_terry,
    difference,
    rater_residuals,
    simultaneous_critical_value,
    simultaneous_ranks,
)
from feedbackloop.stats.standings import ELO, BradleyTerry, Flag

JOURNALS = [
    ("Biometrika", "CommStat", 730, 33),
    ("Biometrika", "JASA", 498, 320),
    ("Biometrika", "JRSSB", 221, 284),
    ("CommStat", "JASA", 68, 813),
    ("CommStat", "JRSSB", 17, 276),
    ("JASA", "JRSSB", 142, 325),
]
TEAMS = ["Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore"]
# Home wins - away wins; a row for each home team (Agresti, Categorical Data Analysis, 2002, section 10.6).
BASEBALL = """
.   4-3 4-2 4-3 6-1 4-2 6-0
3-3 .   4-2 4-3 6-0 6-1 4-3
2-5 4-3 .   2-4 4-3 4-2 6-0
3-3 5-1 2-5 .   4-3 4-2 6-1
5-1 2-5 3-3 4-2 .   5-2 6-0
2-5 3-3 3-4 4-3 4-2 .   2-4
2-5 1-5 1-6 2-4 1-6 3-4 .
"""


def cells(rows: list[tuple]) -> Cells:
    """From (a, b, wins of a, wins of b[, ties[, both bad]])."""
    full = [(*row, *[0] * (6 - len(row))) for row in rows]
    a, b, wins_a, wins_b, ties, both_bad = zip(*full, strict=True) if full else ((),) * 6
    return Cells.from_counts(a, b, wins_a=wins_a, ties=ties, both_bad=both_bad, wins_b=wins_b)


def baseball() -> Cells:
    lines = [line.split() for line in BASEBALL.strip().splitlines()]
    return cells(
        [
            (home, away, *map(int, score.split("-")))
            for home, line in zip(TEAMS, lines, strict=True)
            for away, score in zip(TEAMS, line, strict=True)
            if score != "."
        ]
    )


def against(fit: BradleyTerry, name: str, reference: str) -> tuple[float, float]:
    """Coefficient and Hessian standard error as the tables print them."""
    i, j = fit.index(name), fit.index(reference)
    v = fit.model_covariance
    return fit.theta[i] - fit.theta[j], math.sqrt(v[i, i] + v[j, j] - 2 * v[i, j])


def davidson(rng: np.random.Generator, theta: np.ndarray, n: int, nu: float = 0.75) -> Cells:
    """Random ordered pairs, ties by Davidson's model."""
    size = len(theta)
    i = rng.integers(0, size, n)
    j = (i + rng.integers(1, size, n)) % size
    a, b = np.exp(theta[i]), np.exp(theta[j])
    tie = nu * np.sqrt(a * b)
    drawn = rng.random(n) * (a + b + tie)
    outcome = np.where(drawn < a, 0, np.where(drawn < a + tie, 1, 2))
    count = np.bincount((i * size + j) * 3 + outcome, minlength=size * size * 3).reshape(-1, 3)
    rows = [(f"m{c // size:03d}", f"m{c % size:03d}", *count[c, [0, 2, 1]]) for c in np.flatnonzero(count.sum(axis=1))]
    return cells(rows)


def long_run(theta: np.ndarray, nu: float) -> np.ndarray:
    """What half-win theta tends to under Davidson's model when all pairs are shown alike."""
    size, rows = len(theta), []
    for i, j in itertools.permutations(range(size), 2):
        a, b = math.exp(theta[i]), math.exp(theta[j])
        tie = nu * math.sqrt(a * b)
        rows.append((f"m{i:03d}", f"m{j:03d}", *(1e6 * np.array([a, b, tie]) / (a + b + tie))))
    return bradley_terry(cells(rows), prior=0, position=False).theta


# Published tables.


def test_citations_among_journals_come_out_as_published() -> None:
    fit = bradley_terry(cells(JOURNALS), prior=0)
    wanted = {"CommStat": (-2.94907, 0.10255), "JASA": (-0.47957, 0.06059), "JRSSB": (0.26895, 0.07083)}
    for name, values in wanted.items():
        assert against(fit, name, "Biometrika") == pytest.approx(values, abs=1e-5)


def test_baseball_with_home_advantage_comes_out_as_published() -> None:
    fit = bradley_terry(baseball(), prior=0)
    wanted = {
        "Boston": (1.1438, 0.3378),
        "Cleveland": (0.7047, 0.3350),
        "Detroit": (1.4754, 0.3446),
        "Milwaukee": (1.6196, 0.3474),
        "New York": (1.2813, 0.3404),
        "Toronto": (1.3271, 0.3403),
    }
    for name, values in wanted.items():
        assert against(fit, name, "Baltimore") == pytest.approx(values, abs=1e-4)
    assert fit.gamma is not None
    assert (fit.gamma.estimate, math.sqrt(fit.model_covariance[-1, -1])) == pytest.approx((0.3023, 0.1309), abs=1e-4)
    assert fit.gamma.lower < 0.3023 < fit.gamma.upper
    assert fit.position_shift == pytest.approx(special.expit(0.3023) - 0.5, abs=1e-4)


def test_baseball_without_home_advantage_comes_out_as_published() -> None:
    fit = bradley_terry(baseball(), prior=0, position=False)
    wanted = {
        "Boston": 1.1077,
        "Cleveland": 0.6839,
        "Detroit": 1.4364,
        "Milwaukee": 1.5814,
        "New York": 1.2476,
        "Toronto": 1.2945,
    }
    for name, value in wanted.items():
        assert against(fit, name, "Baltimore")[0] == pytest.approx(value, abs=1e-4)
    assert fit.gamma is None


def test_the_encyclopedias_example_has_its_strengths() -> None:
    fit = bradley_terry(cells([("A", "B", 2, 3), ("A", "D", 1, 4), ("B", "C", 5, 3), ("C", "D", 1, 3)]), prior=0)
    assert np.exp(fit.theta) == pytest.approx([0.640, 1.043, 0.660, 2.270], rel=1e-3)


# Other programs.


@pytest.fixture(scope="module")
def hundred() -> Cells:
    rng = np.random.default_rng(11)
    return davidson(rng, rng.normal(0, 0.6, 100), 100_000)


def test_ratings_equal_those_of_choix(hundred: Cells) -> None:
    choix = pytest.importorskip("choix")
    found = choix.ilsr_pairwise_dense(hundred.win_matrix(), tol=1e-12)
    ours = bradley_terry(hundred, prior=0, position=False).theta
    assert ours == pytest.approx(found - found.mean(), abs=1e-6)


def test_ratings_equal_those_of_evalica(hundred: Cells) -> None:
    evalica = pytest.importorskip("evalica")
    outcomes = [
        (evalica.Winner.X, hundred.wins_a),
        (evalica.Winner.Draw, hundred.ties),
        (evalica.Winner.Y, hundred.wins_b),
    ]
    firsts = [hundred.players[i] for i in hundred.a]
    seconds = [hundred.players[i] for i in hundred.b]
    result = evalica.bradley_terry(
        firsts * 3,
        seconds * 3,
        [winner for winner, column in outcomes for _ in column],
        weights=np.concatenate([column for _, column in outcomes]).tolist(),
        tolerance=1e-10,
        limit=10_000,
    )
    found = np.log(result.scores[list(hundred.players)].to_numpy())
    ours = bradley_terry(hundred, prior=0, position=False).theta
    assert ours == pytest.approx(found - found.mean(), abs=1e-6)


def test_against_one_baseline_a_rating_is_the_logit_of_the_win_rate() -> None:
    rows = [("base", f"m{k}", 10 + k, 30 - 2 * k, 4) for k in range(1, 9)]
    fit = bradley_terry(cells(rows), prior=0)
    for _, name, losses, wins, ties in rows:
        rate = (wins + ties / 2) / (wins + losses + ties)
        assert fit.theta[fit.index(name)] - fit.theta[fit.index("base")] == pytest.approx(special.logit(rate), abs=1e-8)


# Invariances.

counted = st.lists(
    st.tuples(
        st.sampled_from("abcde"),
        st.sampled_from("abcde"),
        st.integers(0, 30),
        st.integers(0, 30),
        st.integers(0, 10),
        st.integers(0, 5),
    ),
    max_size=20,
)


@given(rows=counted)
@settings(max_examples=40, deadline=None)
def test_swapping_both_sides_keeps_ratings_and_turns_the_position_effect_around(rows: list[tuple]) -> None:
    fit = bradley_terry(cells(rows), draws=20)
    turned = bradley_terry(cells([(b, a, wins_b, wins_a, *rest) for a, b, wins_a, wins_b, *rest in rows]), draws=20)
    assert turned.theta == pytest.approx(fit.theta, abs=1e-8)
    assert turned.covariance[: len(fit.theta), : len(fit.theta)] == pytest.approx(
        fit.covariance[: len(fit.theta), : len(fit.theta)], abs=1e-8
    )
    assert (turned.gamma is None) == (fit.gamma is None)
    if fit.gamma is not None:
        assert turned.gamma.estimate == pytest.approx(-fit.gamma.estimate, abs=1e-8)


@given(rows=counted, weighting=st.sampled_from(["count", "pair"]), ties=st.sampled_from(["half", "drop"]))
@settings(max_examples=60, deadline=None)
def test_whatever_the_counts_a_table_comes_out_and_holds_together(rows: list[tuple], weighting: str, ties: str) -> None:
    fit = bradley_terry(cells(rows), weighting=weighting, ties=ties, draws=50)
    assert len(fit.rows) == len(fit.players) == len(fit.theta)
    assert np.isfinite(fit.theta).all()
    assert np.linalg.eigvalsh(fit.covariance).min(initial=0) > -1e-8
    for row in fit.rows:
        size = sum(other.component == row.component for other in fit.rows)
        assert row.lower <= row.rating <= row.upper
        assert 1 <= row.rank_lower <= row.rank_upper <= size
        assert 1 <= row.expected_rank <= size
        assert row.n == row.wins + row.losses + row.ties + row.both_bad
        assert row.se > 0
    for component in set(fit.components.tolist()):
        members = [row for row in fit.rows if row.component == component]
        assert sum(row.p_best for row in members) == pytest.approx(1)
        assert sum(fit.theta[fit.index(row.name)] for row in members) == pytest.approx(0, abs=1e-8)


def test_the_names_and_the_order_of_rows_do_not_matter() -> None:
    fit = bradley_terry(baseball())
    renamed = {team: f"{'gcafbed'[place]}" for place, team in enumerate(TEAMS)}
    source = baseball()
    rows = list(zip(source.a, source.b, source.wins_a, source.wins_b, strict=True))[::-1]
    other = bradley_terry(
        cells([(renamed[source.players[a]], renamed[source.players[b]], wins, losses) for a, b, wins, losses in rows])
    )
    for team in TEAMS:
        assert other.row(renamed[team]).rating == pytest.approx(fit.row(team).rating)
        assert other.row(renamed[team]).se == pytest.approx(fit.row(team).se)


def test_every_comparison_twice_keeps_ratings_and_halves_the_variance() -> None:
    once, twice = bradley_terry(cells(JOURNALS), prior=0), bradley_terry(cells(JOURNALS * 2), prior=0)
    assert twice.theta == pytest.approx(once.theta, abs=1e-9)
    n, size = once.n, 4
    assert twice.covariance * (2 * n - size) / (2 * n) == pytest.approx(once.covariance * (n - size) / n / 2)


def test_pair_weights_make_the_ratings_independent_of_how_often_pairs_were_shown() -> None:
    rare = [("a", "b", 60, 40), ("b", "c", 60, 40), ("a", "c", 55, 45)]
    often = [("a", "b", 60, 40), ("b", "c", 60, 40), ("a", "c", 550, 450)]
    weighted = [bradley_terry(cells(rows), prior=0, weighting="pair").theta for rows in (rare, often)]
    plain = [bradley_terry(cells(rows), prior=0).theta for rows in (rare, often)]
    assert weighted[0] == pytest.approx(weighted[1])
    assert plain[0] != pytest.approx(plain[1], abs=0.05)


# Few data.


def test_a_table_without_comparisons_has_no_rows() -> None:
    fit = bradley_terry(cells([("a", "a", 3, 4)]))
    assert fit.rows == ()
    assert (fit.n, fit.tie_rate, fit.cells.self_comparisons) == (0, None, 7)


def test_the_first_vote_already_makes_a_table() -> None:
    fit = bradley_terry(cells([("a", "b", 1, 0)]))
    assert [row.name for row in fit.rows] == ["a", "b"]
    assert set(fit.row("a").flags) == {Flag.SEPARATED, Flag.PRELIMINARY}
    assert (fit.row("a").rank_lower, fit.row("a").rank_upper) == (1, 2)
    assert difference(fit, "a", "b").theta.lower < 0


def test_who_won_everything_has_a_lower_bound_only_and_not_a_bold_one() -> None:
    fit = bradley_terry(cells([("a", "b", 20, 0), ("b", "c", 20, 20)]))
    ahead = difference(fit, "a", "b")
    assert fit.row("a").upper == math.inf
    assert math.isfinite(fit.row("a").lower)
    assert Flag.SEPARATED in fit.row("a").flags
    assert ahead.win_probability.upper == 1
    # Exactly, 20 wins of 20 leave any chance above 0.86 open at 95 %; the prior pulls further down.
    assert 0.6 < ahead.win_probability.lower < 0.05 ** (1 / 20)
    assert difference(fit, "b", "a").win_probability.upper == pytest.approx(1 - ahead.win_probability.lower)


def test_an_average_opponent_beaten_five_to_nothing_is_417_points_behind() -> None:
    # Against a fixed average opponent the prior gives log((w + 1/2) / (1/2)); many others hold the opponent in place.
    crowd = [("x0", f"x{k}", 1000, 1000) for k in range(1, 100)]
    fit = bradley_terry(cells([("new", "x0", 5, 0), *crowd]), anchor="x0")
    assert fit.row("new").rating - 1000 == pytest.approx(417, abs=3)


def test_ties_alone_leave_the_models_standard_error() -> None:
    fit = bradley_terry(cells([(a, b, 0, 0, 10) for a, b in itertools.combinations("abcd", 2)]))
    for row in fit.rows:
        assert Flag.ALL_TIES in row.flags
        assert row.rating == pytest.approx(1000)
        assert row.se == pytest.approx(ELO * math.sqrt(fit.model_covariance[0, 0]))
        assert row.se == pytest.approx(47, abs=0.5)
    assert fit.tie_rate == 1


def test_groups_without_a_comparison_between_them_are_not_ranked_together() -> None:
    fit = bradley_terry(cells([("a", "b", 90, 10), ("c", "d", 60, 40), ("d", "e", 60, 40)]), anchor="b")
    assert [row.component for row in fit.rows] == [0, 0, 0, 1, 1]
    assert all(Flag.DISCONNECTED in row.flags for row in fit.rows)
    assert (fit.row("a").rank_lower, fit.row("a").rank_upper) == (1, 1)
    assert fit.row("c").rank_upper <= 3
    assert (fit.row("b").rating, fit.row("d").rating) == pytest.approx((1000, 1000), abs=3)
    assert difference(fit, "a", "c").theta.estimate is None
    assert difference(fit, "a", "b").theta.excludes(0)


def test_without_a_prior_unconnected_players_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="champion"):
        bradley_terry(cells([("champion", "b", 5, 0), ("b", "c", 5, 5), ("c", "d", 4, 4)]), prior=0)


def test_preliminary_rows_stand_below_the_others() -> None:
    fit = bradley_terry(cells([("new", "a", 9, 1), ("a", "b", 40, 60)]))
    assert [row.name for row in fit.rows] == ["b", "a", "new"]
    assert fit.row("new").rating > fit.row("b").rating


def test_a_judge_who_always_prefers_the_first_says_nothing_about_the_players() -> None:
    fit = bradley_terry(cells([(a, b, 100, 0) for a, b in itertools.permutations("abc", 2)]))
    assert fit.gamma.lower > 1
    assert all(row.rank_lower == 1 and row.rank_upper == 3 and row.se > 30 for row in fit.rows)


def test_the_position_effect_is_fitted_only_where_both_orders_were_seen_enough() -> None:
    assert bradley_terry(cells([("a", "b", 300, 200)])).gamma is None
    assert bradley_terry(cells([("a", "b", 300, 200), ("b", "a", 10, 14)])).gamma is None
    assert bradley_terry(cells([("a", "b", 300, 200), ("b", "a", 11, 14)])).gamma is not None
    one_order = cells([("a", "base", 300, 200), ("c", "base", 30, 50)])
    assert bradley_terry(one_order, position=True).gamma is None
    circle = cells([("a", "b", 30, 20), ("b", "c", 30, 20), ("c", "a", 30, 20)])
    assert bradley_terry(circle).gamma is None
    assert bradley_terry(circle, position=True).gamma.estimate == pytest.approx(math.log(1.5), abs=1e-6)


def test_dropped_ties_count_in_the_rows_but_not_in_the_ratings() -> None:
    with_ties, without = [("a", "b", 40, 20, 60), ("b", "c", 30, 30, 5)], [("a", "b", 40, 20), ("b", "c", 30, 30)]
    dropped = bradley_terry(cells(with_ties), ties="drop")
    assert dropped.theta == pytest.approx(bradley_terry(cells(without)).theta)
    assert (dropped.row("a").n, dropped.row("a").ties, dropped.row("a").tie_rate) == (120, 60, 0.5)


@pytest.mark.parametrize("wrong", [{"prior": -1}, {"anchor": "nobody"}, {"alpha": 0}])
def test_impossible_options_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError):
        bradley_terry(cells(JOURNALS), **wrong)
    with pytest.raises(ValueError, match="negative"):
        cells([("a", "b", -1, 2)])


# Differences, ranks, raters.


def test_a_difference_is_symmetric_and_agrees_with_the_table() -> None:
    fit = bradley_terry(cells(JOURNALS), anchor="JASA")
    one, other = difference(fit, "JRSSB", "JASA"), difference(fit, "JASA", "JRSSB")
    assert fit.row("JASA").rating == 1000
    assert one.elo.estimate == pytest.approx(fit.row("JRSSB").rating - 1000)
    assert (one.theta.lower, one.theta.upper) == pytest.approx((-other.theta.upper, -other.theta.lower))
    assert one.win_probability.estimate + other.win_probability.estimate == pytest.approx(1)
    assert one.theta.p_value(0) == pytest.approx(other.theta.p_value(0))
    assert one.theta.p_value(0) < 1e-6
    assert difference(fit, "JRSSB", "JASA", simultaneous=True).theta.half_width > one.theta.half_width


def test_a_claim_about_ranks_is_more_careful_than_a_single_difference() -> None:
    rng = np.random.default_rng(4)
    fit = bradley_terry(davidson(rng, np.linspace(-0.5, 0.5, 12), 4000), draws=4000)
    assert simultaneous_critical_value(fit) == pytest.approx(3.3, abs=0.12)
    ranks = simultaneous_ranks(fit)
    shown = [fit.row(name) for name in fit.players]
    assert (ranks.upper - ranks.lower).sum() >= sum(row.rank_upper - row.rank_lower for row in shown)
    assert ranks.lower.max() > 1


def test_chances_of_being_best_repeat_with_the_seed() -> None:
    one, same, other = (bradley_terry(baseball(), seed=seed).row("Milwaukee").p_best for seed in (1, 1, 2))
    assert one == same
    assert one == pytest.approx(other, abs=0.05)


def by_rater(rng: np.random.Generator, theta: np.ndarray, counts: list[int], sd: float) -> list[tuple]:
    """(rater, a, b, score, n) of raters with tastes of their own."""
    size, rows = len(theta), []
    for number, n in enumerate(counts):
        own = theta + rng.normal(0, sd, size)
        i = rng.integers(0, size, n)
        j = (i + rng.integers(1, size, n)) % size
        won = rng.random(n) < special.expit(own[i] - own[j])
        keys, made = np.unique((i * size + j) * 2 + won, return_counts=True)
        rows += [
            (f"r{number:02d}", f"m{k // 2 // size:03d}", f"m{k // 2 % size:03d}", float(k % 2), int(c))
            for k, c in zip(keys.tolist(), made.tolist(), strict=True)
        ]
    return rows


def fitted_by_rater(rows: list[tuple], **options: object) -> tuple[BradleyTerry, BradleyTerry]:
    """Without and with the raters' scores."""
    raters, a, b, score, n = zip(*rows, strict=True)
    table = cells([(a, b, n * (score == 1), n * (score == 0), n * (score == 0.5)) for _, a, b, score, n in rows])
    fit = bradley_terry(table, draws=50, **options)
    scores = rater_residuals(fit, a, b, score=score, n=n, raters=raters)
    return fit, bradley_terry(table, draws=50, rater_scores=scores, **options)


@pytest.mark.parametrize("options", [{}, {"ties": "drop"}, {"weighting": "pair"}, {"position": True}])
def test_raters_of_different_tastes_widen_the_intervals(options: dict) -> None:
    rows = by_rater(np.random.default_rng(6), np.linspace(-0.5, 0.5, 5), [100] * 12, 0.8)
    rows += [(f"r{k:02d}", "m000", "m001", 0.5, 2) for k in range(12)]
    fit, clustered = fitted_by_rater(rows, **options)
    assert clustered.theta == pytest.approx(fit.theta)
    assert clustered.scope == "raters like these"
    assert clustered.effective_raters == pytest.approx(12, abs=0.01)
    assert all(clustered.row(row.name).se >= row.se - 1e-9 for row in fit.rows)
    assert sum(clustered.row(row.name).se for row in fit.rows) > 1.4 * sum(row.se for row in fit.rows)


def test_four_raters_speak_for_themselves_only() -> None:
    rows = by_rater(np.random.default_rng(7), np.zeros(4), [200] * 4, 0.8)
    fit, clustered = fitted_by_rater(rows)
    assert clustered.scope == "these raters"
    assert clustered.raters == ("r00", "r01", "r02", "r03")
    assert clustered.covariance == pytest.approx(fit.covariance)


def test_a_rater_with_nearly_half_of_the_votes_does_not_make_errors_smaller() -> None:
    rows = by_rater(np.random.default_rng(8), np.zeros(4), [900, *[20] * 60], 0.0)
    fit, clustered = fitted_by_rater(rows)
    assert all(clustered.row(row.name).se >= row.se - 1e-9 for row in fit.rows)


def test_scores_of_another_fit_are_refused() -> None:
    rows = by_rater(np.random.default_rng(9), np.zeros(3), [40] * 6, 0.3)
    raters, a, b, score, n = zip(*rows, strict=True)
    table = cells([(a, b, n * score, n * (1 - score)) for _, a, b, score, n in rows])
    scores = rater_residuals(bradley_terry(table), a, b, score=score, n=n, raters=raters)
    other = cells([(a, b, n * score, n * (1 - score)) for _, a, b, score, n in rows[:-3]])
    with pytest.raises(ValueError, match="another fit"):
        bradley_terry(other, rater_scores=scores)


# Coverage of the intervals, and guards that the tests can tell a good one from a bad one.


def coverage(sims: int) -> tuple[float, float]:
    """Of our intervals and of the Hessian's, Davidson data with nu = 0.75: 10 players, 3,000 comparisons."""
    rng, theta = np.random.default_rng(21), np.linspace(-0.8, 0.8, 10)
    truth = long_run(theta, 0.75)
    ours = hessian = 0.0
    for _ in range(sims):
        fit = bradley_terry(davidson(rng, theta, 3000), draws=2)
        miss = abs(fit.theta - truth)
        reach = special.stdtrit(fit.df, 0.975) * np.sqrt(np.diag(fit.covariance)[:10])
        ours += (miss <= reach).mean()
        hessian += (miss <= 1.96 * np.sqrt(np.diag(fit.model_covariance)[:10])).mean()
    return ours / sims, hessian / sims


def test_about_95_percent_of_intervals_hold_the_truth() -> None:
    ours, hessian = coverage(100)
    assert 0.92 < ours < 0.98
    assert hessian > ours


@pytest.mark.slow
def test_95_percent_of_intervals_hold_the_truth_and_the_hessians_are_too_wide() -> None:
    ours, hessian = coverage(500)
    assert 0.93 <= ours <= 0.97
    assert hessian > 0.97


@pytest.mark.slow
def test_intervals_clustered_by_rater_hold_the_truth_and_naive_ones_do_not() -> None:
    rng, theta = np.random.default_rng(22), np.linspace(-0.6, 0.6, 10)
    # In the long run a pair's win rate is the mean over raters, whose difference in taste has variance 2 sd^2.
    points, weights = np.polynomial.hermite_e.hermegauss(40)
    rows = []
    for i, j in itertools.combinations(range(10), 2):
        rate = (weights * special.expit(theta[i] - theta[j] + points * 0.6 * math.sqrt(2))).sum() / weights.sum()
        rows.append((f"m{i:03d}", f"m{j:03d}", 1e6 * rate, 1e6 * (1 - rate)))
    truth = bradley_terry(cells(rows), prior=0).theta
    ours = naive = 0.0
    for _ in range(500):
        fit, clustered = fitted_by_rater(by_rater(rng, theta, [75] * 40, 0.6))
        miss = abs(fit.theta - truth)
        naive += (miss <= 1.96 * np.sqrt(np.diag(fit.covariance)[:10])).mean() / 500
        reach = special.stdtrit(clustered.df, 0.975) * np.sqrt(np.diag(clustered.covariance)[:10])
        ours += (miss <= reach).mean() / 500
    assert 0.93 <= ours <= 0.97
    assert naive < 0.90
