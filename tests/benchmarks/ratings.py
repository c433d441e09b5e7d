"""How long a table of ratings takes from a million comparisons of a hundred variants in DuckDB, raters and all.

    python tests/benchmarks/ratings.py [--rows 1000000] [--variants 100] [--raters 200] [--rounds 3]

Target: counts, ratings, intervals and ranks under 1 s in all. The part clustered by rater is measured beside it.
"""

from __future__ import annotations

import argparse
import itertools
import time

import duckdb

from feedbackloop.stats.cells import Cells
from feedbackloop.stats.ranking import bradley_terry, difference, rater_residuals, simultaneous_ranks

# Strength falls with the variant's number; popular variants are compared more often; a quarter are ties.
MADE = """
CREATE TABLE comparison AS
WITH drawn AS (
    SELECT floor($variants * random() * random())::INT AS a, floor($variants * random())::INT AS b,
           floor($raters * random())::INT AS rater, random() AS luck
    FROM range($rows)
), chances AS (SELECT *, 1 / (1 + exp((a - b) / ($variants / 2.0))) AS p FROM drawn)
SELECT 'variant-' || a AS a, 'variant-' || b AS b, 'rater-' || rater AS rater,
       CASE WHEN luck < 0.75 * p THEN 'a' WHEN luck < 0.75 THEN 'b' WHEN luck < 0.95 THEN 'tie' ELSE 'both_bad' END AS winner
FROM chances WHERE a <> b
"""
COUNTS = """
SELECT a, b, count(*) FILTER (winner = 'a') AS wins_a, count(*) FILTER (winner = 'tie') AS ties,
       count(*) FILTER (winner = 'both_bad') AS both_bad, count(*) FILTER (winner = 'b') AS wins_b
FROM comparison WHERE a <> b GROUP BY ALL
"""
BY_RATER = """
SELECT rater, a, b, CASE winner WHEN 'a' THEN 1.0 WHEN 'b' THEN 0.0 ELSE 0.5 END AS score, count(*) AS n
FROM comparison WHERE a <> b GROUP BY ALL
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--variants", type=int, default=100)
    parser.add_argument("--raters", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    connection = duckdb.connect()
    connection.execute("SELECT setseed(0.5)")
    connection.execute(MADE, {name: getattr(arguments, name) for name in ("rows", "variants", "raters")})
    for _ in range(arguments.rounds):
        marks = [time.perf_counter()]
        counts = connection.execute(COUNTS).fetchnumpy()
        marks.append(time.perf_counter())
        names = counts["a"].tolist(), counts["b"].tolist()
        columns = {name: counts[name] for name in ("wins_a", "ties", "both_bad", "wins_b")}
        cells = Cells.from_counts(*names, **columns)
        marks.append(time.perf_counter())
        fit = bradley_terry(cells)
        marks.append(time.perf_counter())
        first, second = fit.rows[0].name, fit.rows[1].name
        ahead = difference(fit, first, second).elo
        marks.append(time.perf_counter())
        simultaneous_ranks(fit)
        marks.append(time.perf_counter())
        voted = connection.execute(BY_RATER).fetchnumpy()
        marks.append(time.perf_counter())
        scores = rater_residuals(
            fit,
            voted["a"].tolist(),
            voted["b"].tolist(),
            score=voted["score"],
            n=voted["n"],
            raters=voted["rater"].tolist(),
        )
        clustered = bradley_terry(cells, rater_scores=scores)
        marks.append(time.perf_counter())
        counted, made, fitted, told, ranked, fetched, again = (
            f"{1000 * (after - before):.0f} ms" for before, after in itertools.pairwise(marks)
        )
        print(
            f"{fit.n:,} comparisons, {len(cells.a):,} cells: counts {counted}, cells {made}, ratings with intervals and ranks "
            f"{fitted}, in all {marks[3] - marks[0]:.2f} s (target 1 s); a difference {told}, simultaneous ranks {ranked}; "
            f"by rater: counts of {len(voted['n']):,} rows {fetched}, scores and ratings {again}",
            flush=True,
        )
        print(
            f"    {first} {fit.rows[0].rating:.0f} ({fit.rows[0].lower:.0f} to {fit.rows[0].upper:.0f}), "
            f"{ahead.estimate:+.0f} ({ahead.lower:+.0f} to {ahead.upper:+.0f}) on {second}; {clustered.scope}",
            flush=True,
        )


if __name__ == "__main__":
    main()
