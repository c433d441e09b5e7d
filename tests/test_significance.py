"""Intervals of rates, differences, costs and latencies, sequences that may be watched, and planned sizes."""

from __future__ import annotations

import csv
import gzip
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from feedbackloop.stats.interval import Interval, mean_of, proportion_interval, quantile_interval
from feedbackloop.stats.planning import (
    comparisons_needed,
    design_effect,
    detectable_effect,
    minimum_detectable_effect,
    more_needed,
)
from feedbackloop.stats.sequences import betting_interval, confidence_sequence
from feedbackloop.stats.significance import holm, mean_interval, paired_difference


def ternary(rng: np.random.Generator, rate: float, ties: float, size: int | tuple[int, int]) -> np.ndarray:
    """Outcomes 0, 0.5 and 1 with this mean and this share of ties."""
    return rng.choice([0.0, 0.5, 1.0], p=[1 - rate - ties / 2, ties, rate - ties / 2], size=size)


def covers(interval: Interval, truth: float) -> bool:
    return interval.lower <= truth <= interval.upper


# Published figures.


def judged(shared: Path) -> dict[tuple[str, str], np.ndarray]:
    preferences: dict[tuple[str, str], list[float]] = {}
    with gzip.open(shared / "judge_annotations.csv.gz", "rt") as file:
        for row in csv.DictReader(file):
            if row["preference"]:
                value = float(row["preference"])
                preferences.setdefault((row["board"], row["model"]), []).append((value or 1.5) - 1)
    return {key: np.array(values) for key, values in preferences.items()}


def test_a_leaderboards_win_rates_and_errors_come_out_as_published(shared: Path) -> None:
    scores = judged(shared)
    with (shared / "judge_published.csv").open() as file:
        for row in csv.DictReader(file):
            s = scores[row["board"], row["model"]]
            found = mean_of(s)
            assert 100 * found.estimate == pytest.approx(float(row["win_rate"]), abs=1e-9)
            assert 100 * found.se == pytest.approx(float(row["standard_error"]), abs=1e-9)
            assert (found.n, (s > 0.5).sum(), (s < 0.5).sum()) == tuple(
                float(row[name]) for name in ("n_total", "n_wins", "n_wins_base")
            )
            plus_four = mean_interval(s, list(range(len(s))))
            assert plus_four.estimate == pytest.approx(found.estimate)
            assert plus_four.lower == pytest.approx(found.lower, abs=0.005)


def test_latency_percentiles_come_out_as_published(shared: Path) -> None:
    seconds: dict[str, list[float]] = {}
    with gzip.open(shared / "latency_requests_7b.csv.gz", "rt") as file:
        for row in csv.DictReader(file):
            if not row["error_code"]:
                seconds.setdefault(row["run"], []).append(float(row["end_to_end_latency_s"]))
    with (shared / "latency_published_7b.csv").open() as file:
        for row in csv.DictReader(file):
            for percent in (25, 50, 75, 90, 95, 99):
                found = quantile_interval(seconds[row["run"]], percent / 100)
                published = float(row[f"end_to_end_latency_s_quantiles_p{percent}"])
                assert found.estimate == pytest.approx(published, abs=1e-9)
                assert covers(found, published)


@pytest.mark.parametrize(("rate", "size"), [(0.55, 581), (0.60, 139), (0.65, 58), (0.70, 29)])
def test_planned_sizes_are_those_of_the_table(rate: float, size: int) -> None:
    assert comparisons_needed(rate - 0.5, 0.25) == size
    assert comparisons_needed(0.5 - rate, 0.25) == size
    assert detectable_effect(size, 0.25) == pytest.approx(rate - 0.5, rel=5e-3)


# Rates.


def test_plus_four_is_the_published_formula() -> None:
    found = proportion_interval(9, 10)
    middle = 11 / 14
    reach = 1.959964 * math.sqrt(middle * (1 - middle) / 14)
    assert (found.estimate, found.lower, found.upper) == pytest.approx((0.9, middle - reach, 1.0), abs=1e-6)
    assert proportion_interval(0, 0) == Interval(None, 0.0, 1.0, None, 0, 0, "no data")
    with pytest.raises(ValueError, match="11 successes"):
        proportion_interval(11, 10)


def test_ternary_plus_four_is_the_published_formula() -> None:
    y = np.array([1, 1, 0.5, 0, 1, 0.5, 1, 1])
    found = mean_interval(y, list("abcdefgh"))
    n = len(y)
    middle, square = (y.sum() + 2) / (n + 4), ((y**2).sum() + 2) / (n + 4)
    assert found.method == "plus-four"
    assert (found.estimate, found.center) == pytest.approx((y.mean(), middle))
    assert found.se == pytest.approx(math.sqrt((square - middle**2) / (n + 4)))
    assert found.lower == pytest.approx(middle - 1.959964 * found.se)


def exact_coverage(n: int, rate: float, ties: float) -> float:
    """Summed over every outcome that n ratings can have."""
    chances = np.array([rate - ties / 2, ties, 1 - rate - ties / 2])
    total = 0.0
    for wins in range(n + 1):
        for tied in range(n - wins + 1):
            counts = np.array([wins, tied, n - wins - tied])
            found = mean_interval(np.repeat([1.0, 0.5, 0.0], counts), range(n))
            if covers(found, rate):
                ways = special.gammaln(n + 1) - special.gammaln(counts + 1).sum()
                total += math.exp(ways + special.xlogy(counts, chances).sum())
    return total


@pytest.mark.parametrize("n", [5, 10, 20, 50])
def test_plus_four_covers_at_least_94_percent_where_there_are_ties(n: int) -> None:
    for rate, ties in ((0.5, 0.25), (0.8, 0.25), (0.95, 0.05)):
        assert exact_coverage(n, rate, ties) >= 0.94


ratings = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 6), st.integers(0, 7), st.integers(1, 3)), max_size=25
)


@given(rows=ratings, scope=st.sampled_from(["these raters", "raters like these"]))
@settings(max_examples=80, deadline=None)
def test_swapping_the_sides_mirrors_the_interval_and_weights_are_repetitions(rows: list[tuple], scope: str) -> None:
    y, items, raters, weights = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [], [])
    found = mean_interval(y, items, raters, scope=scope, weights=weights)
    if not rows:
        assert (found.estimate, found.lower, found.method) == (None, None, "no data")
        return
    mirrored = mean_interval([1 - one for one in y], items, raters, scope=scope, weights=weights)
    assert (1 - mirrored.upper, 1 - mirrored.lower) == pytest.approx((found.lower, found.upper), abs=1e-12)
    assert 0 <= found.lower <= found.upper <= 1
    assert found.upper - found.lower > 0.1
    assert found.n == sum(weights)
    repeated = mean_interval(
        np.repeat(y, weights), np.repeat(items, weights).tolist(), np.repeat(raters, weights).tolist(), scope=scope
    )
    assert (repeated.lower, repeated.upper, repeated.se) == pytest.approx((found.lower, found.upper, found.se))
    assert repeated.method == found.method


def test_one_rating_is_no_error_and_no_certainty() -> None:
    found = mean_interval([1.0], ["a"], ["anna"])
    assert found.estimate == 1
    assert found.lower < 0.3
    assert not found.excludes(0.5)


def test_raters_who_all_agree_on_a_few_items_do_not_make_a_certainty() -> None:
    found = mean_interval(np.ones(15), np.repeat(range(5), 3).tolist(), list("abc") * 5)
    assert found.method == "clustered by item"
    assert found.lower == pytest.approx(mean_interval(np.ones(5), range(5)).lower, abs=0.05)
    assert found.lower < 0.65


def test_few_raters_speak_for_themselves_and_the_interval_says_so() -> None:
    y, items = np.tile([1.0, 0.0, 1.0, 0.5], 10), np.repeat(range(10), 4).tolist()
    few = mean_interval(y, items, list("abcd") * 10, scope="raters like these")
    assert (few.scope, few.method, few.clusters) == ("these raters", "clustered by item", 10)
    raters = [f"r{k % 5}" for k in range(40)]
    enough = mean_interval(y, items, raters, scope="raters like these")
    assert (enough.scope, enough.method) == ("raters like these", "clustered by item and rater")
    assert (enough.clusters, enough.df) == (5, pytest.approx(4))
    assert mean_interval(y, items, raters).scope == "these raters"


def test_one_busy_rater_among_five_leaves_hardly_any_certainty_about_others() -> None:
    y = np.tile([1.0, 0.0, 1.0], 34)[:100]
    raters = ["busy"] * 96 + list("abcd")
    found = mean_interval(y, range(100), raters, scope="raters like these")
    assert found.df == 1
    assert found.lower < 0.2


@pytest.mark.parametrize(
    "wrong",
    [
        {"y": [2.0], "items": ["a"]},
        {"y": [math.nan], "items": ["a"]},
        {"y": [1.0], "items": ["a", "b"]},
        {"y": [1.0], "items": ["a"], "weights": [-1]},
        {"y": [1.0], "items": ["a"], "alpha": 1.5},
    ],
)
def test_impossible_ratings_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError):
        mean_interval(**wrong)


def one_way_coverage(sims: int) -> float:
    """30 items of 5 binary ratings, correlation within items 0.5."""
    rng = np.random.default_rng(3)
    items = np.repeat(range(30), 5).tolist()
    hits = 0
    for rates in rng.beta(0.5, 0.5, (sims, 30)):
        y = (rng.random((30, 5)) < rates[:, None]).astype(float).ravel()
        hits += covers(mean_interval(y, items), 0.5)
    return hits / sims


def two_way_coverage(sims: int) -> tuple[float, float]:
    """100 items of 3 ratings by 8 raters with tastes of their own (sd 0.4 of 0.95), two-way and by item alone."""
    rng = np.random.default_rng(4)
    item = np.repeat(np.arange(100), 3)
    both = alone = 0
    for _ in range(sims):
        rater = np.argsort(rng.random((100, 8)), axis=1)[:, :3].ravel()
        y = rng.normal(0, 0.5, 100)[item] + rng.normal(0, 0.4, 8)[rater] + rng.normal(0, 0.7, 300)
        names = rater.tolist()
        both += covers(mean_interval(y, item.tolist(), names, scope="raters like these", bounds=None), 0)
        alone += covers(mean_interval(y, item.tolist(), names, bounds=None), 0)
    return both / sims, alone / sims


def test_clustered_intervals_cover() -> None:
    assert 0.90 < one_way_coverage(300) < 0.995
    both, alone = two_way_coverage(200)
    assert 0.89 < both < 0.99
    assert alone < 0.8


@pytest.mark.slow
def test_clustered_intervals_cover_95_percent_and_items_alone_do_not() -> None:
    assert 0.93 <= one_way_coverage(2000) <= 0.97
    both, alone = two_way_coverage(1000)
    assert 0.93 <= both <= 0.975
    assert alone < 0.75


# Differences.


def test_swapping_candidate_and_baseline_negates_the_difference() -> None:
    rng = np.random.default_rng(5)
    candidate, baseline = rng.integers(1, 6, (2, 60)).astype(float)
    items, raters = (np.arange(60) // 3).tolist(), (np.arange(60) % 6).tolist()
    for scope in ("these raters", "raters like these"):
        one = paired_difference(candidate, baseline, items, raters, scope=scope)
        other = paired_difference(baseline, candidate, items, raters, scope=scope)
        assert (one.estimate, one.lower, one.upper) == (-other.estimate, -other.upper, -other.lower)
        assert one.scope == scope


def test_a_difference_is_the_mean_over_items_with_a_t_interval() -> None:
    found = paired_difference([5, 3, 4, 2, 5], [3, 3, 3, 3, 1], ["a", "a", "b", "c", "d"])
    d = np.array([1.0, 1.0, -1.0, 4.0])
    assert (found.estimate, found.n, found.clusters, found.df) == (d.mean(), 5, 4, 3)
    assert found.se == pytest.approx(d.std(ddof=1) / 2)


def test_items_that_all_agree_do_not_make_a_difference_certain() -> None:
    found = paired_difference([1] * 20, [1] * 20, range(20))
    assert found.estimate == 0
    # The rule of three: none of n seen leaves 3 / n open.
    assert found.upper == pytest.approx(3 / 20, abs=0.03)
    assert paired_difference([1], [0], ["a"]).lower < 0
    assert paired_difference([], [], []).estimate is None


def test_adjusted_p_values_are_holms() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([]) == ()
    assert holm([0.9, 0.8]) == (1.0, 1.0)


def test_a_p_value_agrees_with_its_interval() -> None:
    found = mean_interval(np.repeat([1.0, 0.5, 0.0], [30, 10, 15]), range(55))
    assert found.p_value(found.lower) == pytest.approx(0.05)
    assert found.p_value(0.5) < 0.05
    assert found.excludes(0.5)
    assert mean_interval([], []).p_value(0.5) == 1


# Costs and latencies.


def test_a_mean_cost_has_the_t_interval() -> None:
    found = mean_of([1.0, 2.0, 3.0, 4.0])
    reach = special.stdtrit(3, 0.975) * math.sqrt(5 / 3) / 2
    assert (found.estimate, found.lower, found.upper) == pytest.approx((2.5, 2.5 - reach, 2.5 + reach))
    assert mean_of([3.0]).upper == math.inf
    assert mean_of([]).estimate is None


def test_a_quantiles_bounds_are_values_seen() -> None:
    # Binomial(20, 1/2): P(X <= 5) = 0.0207 and P(X <= 6) = 0.0577, so the 6th and the 15th value.
    found = quantile_interval(np.arange(1.0, 21.0), 0.5)
    assert (found.estimate, found.lower, found.upper) == (10.5, 6, 15)
    assert quantile_interval(np.arange(71.0), 0.95).upper == math.inf
    assert quantile_interval(np.arange(72.0), 0.95).upper == 71
    assert quantile_interval([], 0.5).estimate is None
    big = quantile_interval(np.arange(1_000_000.0), 0.95)
    assert (big.lower, big.upper) == pytest.approx((950_000 - 427, 950_000 + 427), abs=3)


def test_quantile_intervals_cover_heavy_tails() -> None:
    rng = np.random.default_rng(6)
    for q, n in ((0.5, 30), (0.95, 100)):
        truth = math.exp(special.ndtri(q))
        hits = [covers(quantile_interval(values, q), truth) for values in rng.lognormal(size=(1000, n))]
        assert np.mean(hits) >= 0.94


# Planning.


def test_more_needed_ends_at_nothing_and_knows_when_it_is_not_worth_it() -> None:
    rng = np.random.default_rng(7)
    close = mean_interval(ternary(rng, 0.52, 0.25, 200), range(200))
    clear = mean_interval(ternary(rng, 0.70, 0.25, 200), range(200))
    assert more_needed(clear).more == 0
    waiting = more_needed(close)
    assert waiting.total == 200 + waiting.more
    assert 300 < waiting.total < 900
    assert waiting.worth_it
    assert not more_needed(close, budget=250).worth_it
    assert more_needed(mean_interval([], [])).more == 139
    even = mean_interval([1.0, 0.0], ["a", "b"])
    assert more_needed(even).more > 0


def test_an_impossible_effect_is_refused_and_none_is_never_found() -> None:
    assert comparisons_needed(0) is None
    with pytest.raises(ValueError, match="impossible"):
        comparisons_needed(0.45, 0.25)
    assert comparisons_needed(0.1, design_effect=2) == pytest.approx(2 * comparisons_needed(0.1), abs=1)
    assert detectable_effect(200, design_effect=2) == detectable_effect(100)
    assert detectable_effect(10**9) == pytest.approx(0, abs=1e-4)
    assert detectable_effect(2) is detectable_effect(0) is None
    assert minimum_detectable_effect(0.01) == pytest.approx(0.028, abs=2e-5)


def test_the_design_effect_counts_ratings_of_one_item_as_alike_as_they_are() -> None:
    rng = np.random.default_rng(8)
    items = np.repeat(range(400), 5).tolist()
    alike = (rng.random((400, 5)) < rng.beta(0.5, 0.5, 400)[:, None]).astype(float).ravel()
    assert design_effect(alike, items) == pytest.approx(3, abs=0.4)
    assert design_effect(alike, items, planned_per_item=1) == 1
    assert design_effect(np.ones(2000), items) == 1
    assert design_effect([1.0], ["a"]) == 1


@pytest.mark.slow
def test_planned_sizes_have_the_power_that_was_asked_for() -> None:
    rng = np.random.default_rng(9)
    # The values that a mean of 58 can take are few, so its power lies a little off.
    for rate, near in ((0.55, 0.03), (0.60, 0.03), (0.65, 0.05)):
        n = comparisons_needed(rate - 0.5, 0.25)
        y = ternary(rng, rate, 0.25, (3000, n))
        tested = (y.mean(axis=1) - 0.5) / (y.std(axis=1) / math.sqrt(n)) > 1.96
        assert tested.mean() == pytest.approx(0.8, abs=near)
        # The four added ratings cost power where there are few: 74 % of 58, nearly nothing of 581.
        assert np.mean([mean_interval(one, range(n)).lower > 0.5 for one in y]) > 0.72


# Sequences.


def test_the_sequence_is_the_published_formula() -> None:
    y = ternary(np.random.default_rng(10), 0.6, 0.25, 100)
    found = confidence_sequence(y, 100)
    v = (100 * y.var() + 5 * 0.25) / 105
    level = -2 * math.log(0.05)
    rho2 = (level + math.log(level) + 1) / 100
    reach = math.sqrt(v) * math.sqrt((100 * rho2 + 1) / (100**2 * rho2) * math.log((100 * rho2 + 1) / 0.05**2))
    assert found.interval.estimate == pytest.approx(y.mean())
    assert found.interval.lower == pytest.approx(y.mean() - reach)
    assert len(found.means) == len(found.lower) == 100
    assert (found.lower[:19] == 0).all()
    assert found.lower[19] > 0


def test_a_short_sequence_says_what_is_known_beforehand() -> None:
    short, nothing = confidence_sequence([1.0] * 19), confidence_sequence([])
    assert (short.interval.estimate, short.interval.lower, short.interval.upper) == (1, 0, 1)
    assert short.first_excluding(0.5) is None
    assert (nothing.interval.estimate, nothing.interval.lower) == (None, 0)
    assert (betting_interval([]).interval.estimate, betting_interval([1.0]).interval.lower) == (None, 0)
    assert confidence_sequence([1.0] * 40, 60).first_excluding(0.5) == 20


def test_sequences_are_mirrored_with_the_outcomes_and_follow_the_scale() -> None:
    y = ternary(np.random.default_rng(11), 0.65, 0.2, 150)
    for sequence in (confidence_sequence, betting_interval):
        one, other = sequence(y), sequence(1 - y)
        assert one.lower == pytest.approx(1 - other.upper)
        scaled = sequence(8 * y - 4, bounds=(-4.0, 4.0))
        assert scaled.upper == pytest.approx(8 * one.upper - 4)
    free = confidence_sequence(8 * y + 1e6, bounds=None, spread=4.0)
    assert free.lower[30:] == pytest.approx(8 * np.maximum(confidence_sequence(y).lower[30:], 0) + 1e6, abs=1e-3)


def test_the_strict_interval_is_wider_and_never_takes_anything_back() -> None:
    y = ternary(np.random.default_rng(12), 0.5, 0.25, 1000)
    strict, usual = betting_interval(y), confidence_sequence(y, 300)
    assert strict.interval.half_width > usual.interval.half_width
    assert usual.interval.half_width == pytest.approx(0.043, abs=0.004)
    assert (np.diff(strict.lower) >= 0).all()
    assert (np.diff(strict.upper) <= 0).all()
    assert strict.interval.lower == strict.lower.max()
    sure = betting_interval(ternary(np.random.default_rng(12), 0.7, 0.25, 200))
    assert sure.interval.lower > sure.lower[sure.first_excluding(0.5) - 1] > 0.5 - 1e-9


def false_alarms(runs: int, length: int, planned: int) -> tuple[float, float, float]:
    """Shares of runs between equals in which sequence, bets and naive intervals ever excluded one half."""
    rng = np.random.default_rng(13)
    asymptotic = strict = naive = 0
    for _ in range(runs):
        y = ternary(rng, 0.5, 0.25, length)
        asymptotic += confidence_sequence(y, planned).first_excluding(0.5) is not None
        strict += betting_interval(y).first_excluding(0.5) is not None
        n = np.arange(1, length + 1)
        mean = np.cumsum(y) / n
        spread = np.sqrt(np.maximum(np.cumsum(y**2) / n - mean**2, 1e-12) / n)
        naive += bool((np.abs(mean - 0.5) > 1.96 * spread)[19:].any())
    return asymptotic / runs, strict / runs, naive / runs


def test_watching_a_sequence_does_not_make_false_alarms() -> None:
    asymptotic, strict, naive = false_alarms(120, 500, 300)
    assert asymptotic < 0.12
    assert strict < 0.12
    assert naive > 0.2


@pytest.mark.slow
def test_watching_a_sequence_for_2000_ratings_keeps_its_level_and_naive_intervals_do_not() -> None:
    asymptotic, strict, naive = false_alarms(2000, 2000, 300)
    assert asymptotic <= 0.055
    assert strict <= 0.05
    assert naive > 0.3


@pytest.mark.slow
def test_a_watched_sequence_stops_nearly_as_early_as_a_planned_size() -> None:
    rng = np.random.default_rng(14)
    for rate, mean in ((0.60, 148), (0.65, 67), (0.70, 39)):
        stops = [
            confidence_sequence(y, 100).first_excluding(0.5) or 3000 for y in ternary(rng, rate, 0.25, (500, 3000))
        ]
        assert np.mean(stops) == pytest.approx(mean, rel=0.15)
