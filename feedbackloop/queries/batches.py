"""Batches of a run: what was submitted and not yet fetched, and what their answers belong to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from feedbackloop.models import AIRequest, Case
from feedbackloop.store import Store

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Stage = Literal["made", "submitted", "fetched"]
"""Made: its requests are in the store, and whether the provider has it is to be asked there. Submitted: it has."""


@dataclass
class Batch:
    """One batch of a run, as its events tell.

    Attributes:
        label: our own name for it, known before the provider has given it one.
        model: `provider:model`; a batch has one.
        requests: how many.
        worst_usd: the most that it could cost when it was made.
        made_at: before it was submitted.
        stage: how far it has come.
        batch_id: the provider's name for it, once submitted.
        done: requests that the provider says are done.
    """

    label: str
    model: str
    requests: int
    worst_usd: float
    made_at: datetime
    stage: Stage = "made"
    batch_id: str | None = None
    done: int = 0

    def facts(self) -> dict[str, Any]:
        """As an event holds it."""
        names = ("label", "model", "requests", "worst_usd", "stage", "batch_id", "done")
        return {name: getattr(self, name) for name in names}


def open_batches(store: Store, run_id: str) -> list[Batch]:
    """Those of a run whose answers are not all in the store, in the order in which they were made."""

    def events(connection: DuckDBPyConnection) -> list[tuple[str, datetime]]:
        connection.execute(
            "SELECT CAST(counts AS VARCHAR), created_at FROM run_events WHERE run_id = ? AND kind = 'batch' ORDER BY created_at",
            [run_id],
        )
        return connection.fetchall()

    found: dict[str, Batch] = {}
    for text, at in store.query(events):
        facts = json.loads(text)["batch"]
        known = found.get(facts["label"])
        found[facts["label"]] = Batch(**facts, made_at=known.made_at if known else at.replace(tzinfo=UTC))
    return [batch for batch in found.values() if batch.stage != "fetched"]


def unanswered(store: Store, run_id: str, label: str) -> list[AIRequest]:
    """The requests of a batch that have no response yet, in the order in which they were asked."""
    return store.load(
        AIRequest,
        """
        SELECT * FROM requests request
        WHERE run_id = ? AND (metadata->>'batch') = ? AND NOT EXISTS (FROM responses WHERE request_id = request.id)
        ORDER BY created_at
        """,
        [run_id, label],
    )


def cases(store: Store, ids: Sequence[str]) -> dict[str, Case]:
    """Cases by id, as they stand now."""
    found = store.load(Case, "SELECT * FROM current_cases WHERE id IN (SELECT unnest(?))", [list(ids) or [""]])
    return {case.id: case for case in found}
