"""What is known of an answer that somebody has something to say about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from feedbackloop.models import Rating
from feedbackloop.rows import from_rows
from feedbackloop.store import Store

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@dataclass(frozen=True)
class Given:
    """An answer's user, and what end users have said of it so far."""

    stored: bool
    """Whether the store holds the answer (yet)."""
    user_id: str | None
    ratings: list[Rating]


def given(store: Store, response_id: str) -> Given:
    """The answer with this id, and its current ratings by end users."""

    def look(connection: DuckDBPyConnection) -> Given:
        connection.execute(
            "SELECT request.user_id FROM responses response LEFT JOIN requests request ON request.id = response.request_id "
            "WHERE response.id = ?",
            [response_id],
        )
        rows = connection.fetchall()
        connection.execute(
            "SELECT * FROM current_ratings WHERE response_id = ? AND rater_kind = 'user' ORDER BY created_at",
            [response_id],
        )
        names = [column[0] for column in connection.description or ()]
        return Given(bool(rows), rows[0][0] if rows else None, from_rows(Rating, names, connection.fetchall()))

    return store.query(look) if store.exists() else Given(False, None, [])
