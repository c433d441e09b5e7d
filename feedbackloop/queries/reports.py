"""What came of one run."""

from __future__ import annotations

import pandas as pd

from feedbackloop.store import Store


def summary(store: Store, run_id: str) -> pd.DataFrame:
    """A run, a row per variant in the order of the spec.

    Columns: variant, variant_id, answers, failed, cached, checks (mean of all grades, 0 to 1), latency_p50_ms, latency_p95_ms,
    cost_usd (mean per answer), spent_usd (sum), unpriced (answers without a known price), wins, losses, ties (blind votes; both
    bad counts as a tie), issues (labels on its answers). Latency and spend leave cached answers out.
    """
    return store.read(
        """
        WITH listed AS (
            SELECT unnest(variants) AS variant_id, generate_subscripts(variants, 1) AS place FROM runs WHERE id = $run
        ), mine AS (
            SELECT * FROM answers WHERE run_id = $run
        ), sides AS (
            SELECT response_a AS response_id, winner = 'a' AS won, winner = 'b' AS lost FROM current_comparisons WHERE blind
            UNION ALL
            SELECT response_b, winner = 'b', winner = 'a' FROM current_comparisons WHERE blind
        ), votes AS (
            SELECT mine.variant_id, count(*) FILTER (won) AS wins, count(*) FILTER (lost) AS losses,
                   count(*) FILTER (NOT won AND NOT lost) AS ties
            FROM sides JOIN mine USING (response_id) GROUP BY mine.variant_id
        ), figures AS (
            SELECT variant_id, count(*) FILTER (status = 'completed') AS answers,
                   count(*) FILTER (status = 'failed') AS failed, count(*) FILTER (cached) AS cached, avg(checks) AS checks,
                   quantile_cont(latency_ms, 0.5) FILTER (NOT cached AND status = 'completed') AS latency_p50_ms,
                   quantile_cont(latency_ms, 0.95) FILTER (NOT cached AND status = 'completed') AS latency_p95_ms,
                   avg(cost_usd) FILTER (status = 'completed') AS cost_usd,
                   sum(spent_usd) FILTER (NOT cached) AS spent_usd,
                   count(*) FILTER (spent_usd IS NULL AND NOT cached) AS unpriced, sum(len(issues)) AS issues
            FROM mine GROUP BY variant_id
        )
        SELECT coalesce(variant.name, listed.variant_id[:4]) AS variant, listed.variant_id,
               coalesce(answers, 0) AS answers, coalesce(failed, 0) AS failed, coalesce(cached, 0) AS cached, checks,
               latency_p50_ms, latency_p95_ms, cost_usd, spent_usd, coalesce(unpriced, 0) AS unpriced,
               coalesce(wins, 0) AS wins, coalesce(losses, 0) AS losses, coalesce(ties, 0) AS ties,
               CAST(coalesce(issues, 0) AS BIGINT) AS issues
        FROM listed LEFT JOIN figures USING (variant_id) LEFT JOIN votes USING (variant_id)
        LEFT JOIN current_variants variant ON variant.id = listed.variant_id ORDER BY listed.place
        """.replace("$run", "?"),
        [run_id, run_id],
    )


def spent(store: Store, run_id: str) -> float:
    """USD that a run has spent so far, where known."""
    frame = store.read(
        """
        SELECT coalesce(sum(response.spent_usd), 0) AS usd
        FROM responses response JOIN requests request ON request.id = response.request_id WHERE request.run_id = ?
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
    return store.read(
        """
        SELECT error_type, variant, count(*) AS failed, min(error) AS example
        FROM answers WHERE run_id = ? AND status = 'failed' GROUP BY error_type, variant ORDER BY failed DESC, variant
        """,
        [run_id],
    )
