"""Two variants against each other: every vote on the pair, in the order in which it came, and what their answers took."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pandas as pd

from feedbackloop.models import Comparison
from feedbackloop.store import Store

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@dataclass(frozen=True, slots=True)
class Ballot:
    """A blind vote between two variants as it was given, withdrawn and replaced ones included."""

    id: str
    supersedes: str | None
    case_id: str
    rater: str
    score: float | None
    """Of the candidate: 1, 0.5 for a tie or both bad, 0; None for a withdrawal."""
    both_bad: bool
    overlap: int | None
    """How many raters the queue wants for a pair; None outside of queues."""
    created_at: datetime


_Row = tuple[str, str | None, str, str, float | None, bool, int | None, datetime]


def ballots(
    store: Store, task: str, baseline: str, candidate: str, *, metric: str = "preference", rater_kind: str = "human"
) -> list[Ballot]:
    """Every blind vote between two variants, oldest first."""

    def work(connection: DuckDBPyConnection) -> list[_Row]:
        connection.execute(
            """
            SELECT vote.id, vote.supersedes, vote.case_id, vote.rater,
                   CASE WHEN vote.winner IS NULL THEN NULL WHEN vote.winner IN ('tie', 'both_bad') THEN 0.5::DOUBLE
                        WHEN (vote.winner = 'a') = (vote.variant_a = ?5) THEN 1.0::DOUBLE ELSE 0.0::DOUBLE END,
                   coalesce(vote.winner = 'both_bad', false), queue.overlap, vote.created_at
            FROM comparisons vote
            LEFT JOIN (SELECT id, any_value(overlap) AS overlap FROM queues GROUP BY id) queue ON queue.id = vote.queue
            WHERE vote.task = ?1 AND vote.metric = ?2 AND vote.rater_kind = ?3 AND vote.blind
              AND ((vote.variant_a = ?4 AND vote.variant_b = ?5)
                   OR (vote.variant_a = ?5 AND vote.variant_b = ?4))
            ORDER BY vote.created_at, vote.id
            """,
            [task, metric, rater_kind, baseline, candidate],
        )
        return connection.fetchall()

    return [Ballot(*row[:7], row[7].replace(tzinfo=UTC)) for row in store.query(work)]


def ballot(vote: Comparison, candidate: str, overlap: int) -> Ballot:
    """A vote in a queue of this overlap, as `ballots` would give it."""
    score = None
    if vote.winner is not None:
        score = (
            0.5 if vote.winner in ("tie", "both_bad") else float((vote.winner == "a") == (vote.variant_a == candidate))
        )
    bad = vote.winner == "both_bad"
    return Ballot(vote.id, vote.supersedes, vote.case_id, vote.rater, score, bad, overlap, vote.created_at)


def performance(store: Store, task: str, baseline: str, candidate: str) -> pd.DataFrame:
    """What the two variants' newest answers to the same cases took, a row per case that both were asked.

    Columns: case_id, segment, and for each of `baseline_` and `candidate_`: cost_usd, latency_ms, failed, checks (the mean of its
    checks between 0 and 1). A cached answer counts with the figures of the call that made it.
    """
    return store.read(
        """
        WITH asked AS (
            SELECT request.case_id, request.variant_id, response.id, response.status = 'failed' AS failed, response.cost_usd,
                   response.latency_ms
            FROM requests request JOIN responses response ON response.request_id = request.id
            WHERE request.task = ?1 AND request.variant_id IN (?2, ?3) AND request.purpose = 'answer' AND request.case_id IS NOT NULL
            QUALIFY row_number() OVER (
                PARTITION BY request.case_id, request.variant_id
                ORDER BY response.status = 'completed' DESC, response.created_at DESC, response.id DESC) = 1
        ), checked AS (
            SELECT rating.response_id, avg(rating.value) AS checks FROM ratings rating
            WHERE rating.rater_kind = 'grader' AND rating.value BETWEEN 0 AND 1 AND rating.response_id IN (SELECT id FROM asked)
              AND NOT EXISTS (FROM ratings later WHERE later.supersedes = rating.id)
            GROUP BY rating.response_id
        ), placed AS (
            SELECT id, arg_max({'segment': segment}, created_at).segment AS segment FROM cases
            WHERE id IN (SELECT case_id FROM asked) GROUP BY id
        ), told AS (SELECT asked.*, checked.checks FROM asked LEFT JOIN checked ON checked.response_id = asked.id)
        SELECT base.case_id, placed.segment, base.cost_usd AS baseline_cost_usd, base.latency_ms AS baseline_latency_ms,
               base.failed AS baseline_failed, base.checks AS baseline_checks, other.cost_usd AS candidate_cost_usd,
               other.latency_ms AS candidate_latency_ms, other.failed AS candidate_failed, other.checks AS candidate_checks
        FROM told base JOIN told other USING (case_id) LEFT JOIN placed ON placed.id = base.case_id
        WHERE base.variant_id = ?2 AND other.variant_id = ?3 ORDER BY base.case_id
        """,
        [task, baseline, candidate],
    )
