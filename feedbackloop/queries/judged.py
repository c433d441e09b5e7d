"""All answers of a run with what its checks said of them, as a file to go through: there may be more than memory holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from feedbackloop.models import AIResponse
from feedbackloop.queries.reports import CURRENT, RATING_STANDS, superseded
from feedbackloop.store import Store

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_ROWS = f"""
    mine AS MATERIALIZED (
        SELECT hash(response.id) AS answer, response.id AS response_id, request.case_id, request.variant_id, request.repeat,
               request.created_at AS asked_at, response.output, response.status, response.error_type, response.error,
               response.model_used, response.latency_ms, response.tokens_used, response.cost_usd, response.cached
        {CURRENT}
    ), begun AS (
        SELECT case_id, min(asked_at) AS begun FROM mine GROUP BY case_id
    ), said AS (
        SELECT mine.answer, list({{'metric': rating.metric, 'rater': rating.rater, 'value': rating.value, 'label': rating.label,
                                   'reason': rating.reason, 'error': rating.error, 'created_at': rating.created_at}}) AS said
        FROM ratings rating JOIN mine ON mine.answer = hash(rating.response_id)
        WHERE rating.rater_kind = 'grader' AND {RATING_STANDS} GROUP BY mine.answer
    )
    SELECT mine.* EXCLUDE (answer, asked_at), coalesce(variant.name, mine.variant_id[:4]) AS variant, item.external_id, item.segment,
           CAST(item.inputs AS VARCHAR) AS inputs, CAST(item.messages AS VARCHAR) AS messages,
           CAST(item.expected AS VARCHAR) AS expected, coalesce(said.said, []) AS said
    FROM mine LEFT JOIN listed USING (variant_id) LEFT JOIN begun USING (case_id) LEFT JOIN said USING (answer)
    LEFT JOIN current_cases item ON item.id = mine.case_id LEFT JOIN current_variants variant ON variant.id = mine.variant_id
    ORDER BY listed.place, mine.variant_id, begun.begun, mine.case_id, mine.repeat
"""


def write_judged(store: Store, run_id: str, file: Path) -> tuple[str, ...]:
    """Write the current answers of a run to a Parquet file; returns the raters of its checks, whoever spoke last first.

    A row per cell, by variant in the order of the spec, then by case in the order in which they were asked, then by repeat. Columns:
    those of the answer (response_id, case_id, variant_id, repeat, output, status, error_type, error, model_used, latency_ms,
    tokens_used, cost_usd, cached), variant, those of the case (external_id, segment; inputs, messages and expected as JSON), and
    said: what each check said, a list of (metric, rater, value, label, reason, error, created_at).
    """
    return store.query(lambda connection: _write(connection, run_id, file))


def response(store: Store, response_id: str) -> AIResponse:
    """An answer as it was stored, to be checked again."""
    return store.load(AIResponse, "SELECT * FROM responses WHERE id = ?", [response_id])[0]


def _write(connection: DuckDBPyConnection, run_id: str, file: Path) -> tuple[str, ...]:
    place = str(file).replace("'", "''")
    # COPY takes no parameters.
    run = "'" + run_id.replace("'", "''") + "'"
    query = f"""
        WITH listed AS (
            SELECT unnest(variants) AS variant_id, generate_subscripts(variants, 1) AS place FROM current_runs WHERE id = $1
        ), {superseded(connection, run_id)}, {_ROWS}
    """.replace("$1", run)
    connection.execute(f"COPY ({query}) TO '{place}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 2048)")
    connection.execute(
        f"""
        SELECT said.rater FROM (SELECT unnest(said) AS said FROM read_parquet('{place}'))
        GROUP BY said.rater ORDER BY max(said.created_at) DESC, said.rater
        """
    )
    return tuple(str(row[0]) for row in connection.fetchall())
