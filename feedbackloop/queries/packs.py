"""What must be known to take in the votes of a rating pack: what its rater was given, said and has seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from feedbackloop.models import Assignment, Comparison
from feedbackloop.queries.pairs import records, texts
from feedbackloop.store import Store

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@dataclass(frozen=True)
class Answered:
    """An answer that a pack may have shown."""

    case_id: str
    variant_id: str
    response_id: str


@dataclass(frozen=True)
class Seen:
    """An answer that a rater has seen with its name, its text, and since when."""

    case_id: str
    response_id: str
    text: str
    at: datetime


def given(store: Store, queue_id: str, rater: str) -> list[Assignment]:
    """All that a rater was ever given in a queue, also what has expired since: a pack may come back late."""
    return store.load(
        Assignment,
        "SELECT * FROM assignments WHERE queue = ? AND rater = ? ORDER BY created_at, id",
        [queue_id, rater],
    )


def answered(store: Store, task: str, case_ids: Sequence[str], variants: Sequence[str]) -> list[Answered]:
    """All completed answers of these variants to these cases, older ones too: since the export there may be newer ones."""

    def work(connection: DuckDBPyConnection) -> list[Answered]:
        connection.execute(
            """
            SELECT request.case_id, request.variant_id, response.id
            FROM requests request JOIN responses response ON response.request_id = request.id
            WHERE request.task = $task AND request.purpose = 'answer' AND response.status = 'completed'
              AND request.case_id IN (SELECT unnest($cases)) AND request.variant_id IN (SELECT unnest($variants))
            """,
            {"task": task, "cases": list(case_ids), "variants": list(variants)},
        )
        return [Answered(*row) for row in connection.fetchall()]

    return store.query(work)


def said(connection: DuckDBPyConnection, queue_id: str, rater: str) -> list[Comparison]:
    """Every row of a rater's votes in a queue, also those that were replaced or taken back, oldest first."""
    return records(
        connection,
        Comparison,
        "SELECT * FROM comparisons WHERE queue = $queue AND rater = $rater ORDER BY created_at, id",
        {"queue": queue_id, "rater": rater},
    )


def seen(store: Store, rater: str, case_ids: Sequence[str]) -> list[Seen]:
    """The answers to these cases that a rater has seen with their names."""

    def work(connection: DuckDBPyConnection) -> list[Seen]:
        connection.execute(
            """
            SELECT case_id, id, min(created_at) FROM (
                SELECT case_id, unnest(response_ids) AS id, created_at FROM exposures
                WHERE rater = $rater AND case_id IN (SELECT unnest($cases))
            ) GROUP BY case_id, id
            """,
            {"rater": rater, "cases": list(case_ids)},
        )
        rows = connection.fetchall()
        known = texts(connection, [id_ for _, id_, _ in rows]) if rows else {}
        return [Seen(case_id, id_, known.get(id_, ""), at.replace(tzinfo=UTC)) for case_id, id_, at in rows]

    return store.query(work)


def answer_texts(store: Store, response_ids: Sequence[str]) -> dict[str, str]:
    """The answers' texts by id."""
    return store.query(lambda connection: texts(connection, response_ids))
