"""What raters said that stands: votes and ratings, as records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from feedbackloop.errors import StoreError
from feedbackloop.models import Comparison, Queue, Rating
from feedbackloop.queries.pairs import STANDS, records
from feedbackloop.store import Store

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def queue_votes(store: Store, queue: Queue, rater: str | None = None) -> list[Comparison]:
    """The votes that stand in a queue, of one rater or of all, oldest first."""
    return store.load(
        Comparison,
        f"""
        SELECT mine.* FROM comparisons mine
        WHERE queue = ? AND (? IS NULL OR rater = ?) AND winner IS NOT NULL
          AND {STANDS.format(table="comparisons", alias="mine")} ORDER BY created_at, id
        """,
        [queue.id, rater, rater],
    )


def queue_ratings(store: Store, queue: Queue, rater: str | None = None) -> list[Rating]:
    """The ratings that stand in a queue, of one rater or of all, oldest first: thumbs, criteria and issues."""
    return store.load(
        Rating,
        f"""
        SELECT rating.* FROM ratings rating
        WHERE queue = ? AND (? IS NULL OR rater = ?)
          AND NOT (supersedes IS NOT NULL AND value IS NULL AND label IS NULL AND correction IS NULL AND comment IS NULL)
          AND {STANDS.format(table="ratings", alias="rating")} ORDER BY created_at, id
        """,
        [queue.id, rater, rater],
    )


def standing_comparison(connection: DuckDBPyConnection, id_: str) -> Comparison | None:
    """The row that stands now for the vote that began, or went on, as the row with this id."""
    query = "SELECT * FROM comparisons WHERE id = $id"
    found = records(connection, Comparison, query, {"id": id_})
    while found:
        later = records(connection, Comparison, "SELECT * FROM comparisons WHERE supersedes = $id", {"id": found[0].id})
        if not later:
            return found[0]
        found = later
    return None


def standing_ratings(
    connection: DuckDBPyConnection, rater: str, response_ids: Iterable[str], queue: str | None
) -> list[Rating]:
    """A rater's ratings of these answers that stand, of one queue or (None) of none."""
    return records(
        connection,
        Rating,
        f"""
        SELECT rating.* FROM ratings rating
        WHERE rater = $rater AND response_id IN (SELECT unnest($ids)) AND queue IS NOT DISTINCT FROM $queue
          AND NOT (supersedes IS NOT NULL AND value IS NULL AND label IS NULL AND correction IS NULL AND comment IS NULL)
          AND {STANDS.format(table="ratings", alias="rating")} ORDER BY created_at, id
        """,
        {"rater": rater, "ids": list(response_ids), "queue": queue},
    )


def open_votes(connection: DuckDBPyConnection, rater: str, responses: Sequence[str]) -> list[Comparison]:
    """A rater's votes on these two answers that were cast with the names in view and stand, newest first."""
    return records(
        connection,
        Comparison,
        f"""
        SELECT mine.* FROM comparisons mine
        WHERE rater = $rater AND queue IS NULL AND NOT blind AND winner IS NOT NULL
          AND ((response_a = $one AND response_b = $two) OR (response_a = $two AND response_b = $one))
          AND {STANDS.format(table="comparisons", alias="mine")} ORDER BY created_at DESC
        """,
        {"rater": rater, "one": responses[0], "two": responses[1]},
    )


@dataclass(frozen=True)
class Cell:
    """What an answer is an answer to, whose it is, and what it says."""

    case_id: str
    variant_id: str
    output: str


def cell(store: Store, response_id: str) -> Cell:
    """Where an answer belongs, and its text.

    Raises:
        StoreError: there is no such answer.
    """

    def work(connection: DuckDBPyConnection) -> list[Cell]:
        connection.execute(
            """
            SELECT request.case_id, request.variant_id, response.output
            FROM responses response JOIN requests request ON request.id = response.request_id WHERE response.id = ?
            """,
            [response_id],
        )
        return [Cell(*row) for row in connection.fetchall()]

    found = store.query(work)
    if not found:
        raise StoreError(f"this store holds no answer {response_id[:8]}")
    return found[0]


def scored_votes(store: Store, task: str, variants: Sequence[str]) -> pd.DataFrame:
    """The blind votes of people between these variants that stand, wherever they were cast.

    Columns: id, case_id, variant_a, variant_b, winner, rater, queue.
    """
    return store.read(
        f"""
        SELECT id, case_id, variant_a, variant_b, winner, rater, queue FROM comparisons mine
        WHERE task = ? AND variant_a IN (SELECT unnest(?)) AND variant_b IN (SELECT unnest(?)) AND variant_a <> variant_b
          AND winner IS NOT NULL AND blind AND rater_kind = 'human' AND metric = 'preference'
          AND {STANDS.format(table="comparisons", alias="mine")} ORDER BY created_at, id
        """,
        [task, list(variants), list(variants)],
    )


def scored_ratings(store: Store, task: str, variants: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """The blind ratings of people on these metrics of these variants' answers that stand.

    Columns: id, case_id, variant_id, metric, value, rater, queue.
    """
    return store.read(
        f"""
        SELECT rating.id, request.case_id, request.variant_id, rating.metric, rating.value, rating.rater, rating.queue
        FROM ratings rating JOIN responses response ON response.id = rating.response_id
        JOIN requests request ON request.id = response.request_id
        WHERE request.task = ? AND request.variant_id IN (SELECT unnest(?)) AND rating.metric IN (SELECT unnest(?))
          AND rating.value IS NOT NULL AND rating.blind AND rating.rater_kind = 'human'
          AND {STANDS.format(table="ratings", alias="rating")} ORDER BY rating.created_at, rating.id
        """,
        [task, list(variants), list(metrics)],
    )
