"""What came of one run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from feedbackloop.queries.paid import PART_USD
from feedbackloop.store import Store, fetch

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# The view `current_responses` would sort all that the store holds, and texts of 36 letters are dear to join by: half of the
# time and most of the memory. Two of a million answers share a 64-bit hash once in 37 million runs.
_ASKED = """
    FROM requests request JOIN responses response ON response.request_id = request.id WHERE request.run_id = $1
"""
_CELL = "hash(request.case_id, request.variant_id, request.repeat)"
_SUPERSEDED = f"""
    asked AS (
        SELECT hash(response.id) AS answer, {_CELL} AS cell, response.status, response.created_at, response.id {_ASKED}
    ), superseded AS (
        SELECT answer FROM asked SEMI JOIN (SELECT cell FROM asked GROUP BY cell HAVING count(*) > 1) again USING (cell)
        QUALIFY row_number() OVER (PARTITION BY cell ORDER BY status = 'completed' DESC, created_at DESC, id DESC) > 1
    )
"""
_NOTHING_SUPERSEDED = "superseded AS (SELECT CAST(NULL AS UBIGINT) AS answer WHERE false)"
CURRENT = f"{_ASKED} AND hash(response.id) NOT IN (SELECT answer FROM superseded)"

_VOTE_COUNTS = """
    vote.blind AND vote.winner IS NOT NULL
    AND vote.id NOT IN (SELECT supersedes FROM comparisons WHERE supersedes IS NOT NULL)
"""
RATING_STANDS = "rating.id NOT IN (SELECT supersedes FROM ratings WHERE supersedes IS NOT NULL)"


def superseded(connection: DuckDBPyConnection, run_id: str) -> str:
    """SQL for the answers that later ones to the same cell replace: only a run that was gone on with asks a cell twice."""
    connection.execute("SELECT count(*) FROM run_events WHERE run_id = ? AND kind = 'started'", [run_id])
    return _SUPERSEDED if connection.fetchall()[0][0] > 1 else _NOTHING_SUPERSEDED


def summary(store: Store, run_id: str) -> pd.DataFrame:
    """A run, a row per variant in the order of the spec.

    Columns: variant, variant_id, answers, failed, cached, checks (mean of all grades, 0 to 1), latency_p50_ms, latency_p95_ms,
    cost_usd (mean per answer), spent_usd (sum, answers that a later one replaced included), unpriced (answers without a known price), wins, losses, ties (blind votes; both
    bad counts as a tie), issues (labels on its answers). Latency and spend leave cached answers out.
    """
    return store.query(
        lambda connection: fetch(
            connection,
            f"""
            WITH listed AS (
                SELECT unnest(variants) AS variant_id, generate_subscripts(variants, 1) AS place FROM current_runs WHERE id = $1
            ), {superseded(connection, run_id)}, mine AS MATERIALIZED (
                SELECT hash(response.id) AS answer, request.variant_id {CURRENT}
            ), counted AS (
                SELECT variant_id, count(*) FILTER (won) AS wins, count(*) FILTER (lost) AS losses,
                       count(*) FILTER (NOT won AND NOT lost) AS ties
                FROM (
                    SELECT mine.variant_id, vote.winner = 'a' AS won, vote.winner = 'b' AS lost
                    FROM comparisons vote JOIN mine ON mine.answer = hash(vote.response_a) WHERE {_VOTE_COUNTS}
                    UNION ALL
                    SELECT mine.variant_id, vote.winner = 'b', vote.winner = 'a'
                    FROM comparisons vote JOIN mine ON mine.answer = hash(vote.response_b) WHERE {_VOTE_COUNTS}
                ) GROUP BY variant_id
            ), checked AS (
                SELECT variant_id, avg(checks) AS checks FROM (
                    SELECT mine.variant_id, avg(rating.value) AS checks
                    FROM ratings rating JOIN mine ON mine.answer = hash(rating.response_id)
                    WHERE rating.rater_kind = 'grader' AND rating.value BETWEEN 0 AND 1 AND {RATING_STANDS}
                    GROUP BY mine.variant_id, mine.answer
                ) GROUP BY variant_id
            ), flawed AS (
                SELECT mine.variant_id, count(DISTINCT (mine.answer, rating.label)) AS issues
                FROM ratings rating JOIN mine ON mine.answer = hash(rating.response_id)
                WHERE rating.metric = 'issue' AND rating.label IS NOT NULL AND {RATING_STANDS} GROUP BY mine.variant_id
            ), figures AS (
                SELECT request.variant_id, count(*) FILTER (status = 'completed') AS answers,
                       count(*) FILTER (status = 'failed') AS failed, count(*) FILTER (cached) AS cached,
                       quantile_cont(latency_ms, [0.5, 0.95]) FILTER (NOT cached AND status = 'completed') AS latency,
                       avg(cost_usd) FILTER (status = 'completed') AS cost_usd,
                       sum(spent_usd) FILTER (NOT cached) AS spent_usd,
                       count(*) FILTER (spent_usd IS NULL AND NOT cached) AS unpriced
                {CURRENT} GROUP BY request.variant_id
            ), vain AS (
                SELECT request.variant_id, sum(spent_usd) AS usd, count(*) FILTER (spent_usd IS NULL) AS unpriced
                {_ASKED} AND NOT cached AND hash(response.id) IN (SELECT answer FROM superseded) GROUP BY request.variant_id
            ), partly AS (
                SELECT request.variant_id, sum({PART_USD}) AS usd {_ASKED} AND NOT cached AND spent_usd IS NULL
                GROUP BY request.variant_id
            )
            SELECT coalesce(variant.name, listed.variant_id[:4]) AS variant, listed.variant_id,
                   coalesce(answers, 0) AS answers, coalesce(failed, 0) AS failed, coalesce(cached, 0) AS cached, checks,
                   latency[1] AS latency_p50_ms, latency[2] AS latency_p95_ms, cost_usd,
                   CASE WHEN spent_usd IS NULL AND coalesce(vain.usd, 0) + coalesce(partly.usd, 0) = 0 THEN NULL
                        ELSE coalesce(spent_usd, 0) + coalesce(vain.usd, 0) + coalesce(partly.usd, 0) END AS spent_usd,
                   coalesce(figures.unpriced, 0) + coalesce(vain.unpriced, 0) AS unpriced,
                   coalesce(wins, 0) AS wins, coalesce(losses, 0) AS losses, coalesce(ties, 0) AS ties,
                   coalesce(issues, 0) AS issues
            FROM listed LEFT JOIN figures USING (variant_id) LEFT JOIN counted USING (variant_id)
            LEFT JOIN checked USING (variant_id) LEFT JOIN flawed USING (variant_id)
            LEFT JOIN vain USING (variant_id) LEFT JOIN partly USING (variant_id)
            LEFT JOIN current_variants variant ON variant.id = listed.variant_id ORDER BY listed.place
            """,
            [run_id],
        )
    )


def spent(store: Store, run_id: str) -> float:
    """USD that a run has spent so far, where known."""
    frame = store.read(
        f"""
        SELECT coalesce(sum(response.spent_usd), 0) + (SELECT coalesce(sum({PART_USD}), 0) {_ASKED} AND spent_usd IS NULL) AS usd
        {_ASKED}
        """,
        [run_id],
    )
    return float(frame["usd"].iloc[0])


def check_errors(store: Store, run_id: str) -> pd.DataFrame:
    """Checks that raised in a run, a row per check: metric, failed (on how many answers), example (one of the errors)."""
    return store.read(
        """
        SELECT rating.metric, count(*) AS failed, min(rating.error) AS example
        FROM ratings rating JOIN responses response ON response.id = rating.response_id
        JOIN requests request ON request.id = response.request_id
        WHERE request.run_id = ? AND rating.rater_kind = 'grader' AND rating.error IS NOT NULL
        GROUP BY rating.metric ORDER BY failed DESC, rating.metric
        """,
        [run_id],
    )


def failures(store: Store, run_id: str) -> pd.DataFrame:
    """What failed in a run, a row per kind: error_type, variant, failed, example (one of the reasons)."""
    return store.query(
        lambda connection: fetch(
            connection,
            f"""
            WITH {superseded(connection, run_id)}, failed AS (
                SELECT response.error_type, response.error, request.variant_id {CURRENT} AND response.status = 'failed'
            )
            SELECT failed.error_type, variant.name AS variant, count(*) AS failed, min(failed.error) AS example
            FROM failed LEFT JOIN current_variants variant ON variant.id = failed.variant_id
            GROUP BY failed.error_type, variant.name ORDER BY failed DESC, variant
            """,
            [run_id],
        )
    )
