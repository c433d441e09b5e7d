"""What is stored already, and need not be asked or written again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from feedbackloop.models import AIResponse, Case
from feedbackloop.rows import encoded
from feedbackloop.store import Store

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def finished_cells(store: Store, run_id: str) -> set[int]:
    """Hashes of (case_id, variant_id, repeat, key) of the cells that have a completed answer."""
    return _hashes(
        store,
        """
        SELECT request.case_id, request.variant_id, request.repeat, request.key
        FROM requests request JOIN responses response ON response.request_id = request.id
        WHERE request.run_id = ? AND response.status = 'completed'
        """,
        [run_id],
    )


@dataclass(frozen=True)
class Ended:
    """Hashes of (case_id, variant_id, repeat) of the cells of a run that were asked."""

    answered: set[int]
    """Those with a completed answer."""
    failed: set[int]
    """Those that have only failed."""


def ended_cells(store: Store, run_id: str) -> Ended:
    """The cells of a run that were asked, each as it stands now."""
    told = """
        SELECT request.case_id, request.variant_id, request.repeat
        FROM requests request JOIN responses response ON response.request_id = request.id
        WHERE request.run_id = ? GROUP BY ALL HAVING {}
    """
    completed = "bool_or(response.status = 'completed')"
    return Ended(
        _hashes(store, told.format(completed), [run_id]), _hashes(store, told.format(f"NOT {completed}"), [run_id])
    )


def _hashes(store: Store, query: str, parameters: Sequence[Any] | None = None) -> set[int]:
    """`hash(row)` of every row: a million of them take 70 MB, where the texts would take ten times that."""

    def collect(connection: DuckDBPyConnection) -> set[int]:
        connection.execute(query, parameters or [])
        found: set[int] = set()
        while rows := connection.fetchmany(10_000):
            found.update(map(hash, rows))
        return found

    return store.query(collect)


_REUSABLE = """
    FROM requests request JOIN responses response ON response.request_id = request.id
    WHERE response.status = 'completed' AND NOT response.cached AND response.model_used = request.model
"""


def reusable_keys(store: Store) -> set[int]:
    """Hashes of (key,) of the keys that have an answer of the very target that was asked."""
    return _hashes(store, f"SELECT request.key {_REUSABLE} AND request.key IS NOT NULL")


def answers_by_key(store: Store, keys: Sequence[str]) -> dict[str, AIResponse]:
    """The newest reusable answer for each of these keys."""
    pairs = store.read(
        f"SELECT request.key, arg_max(response.id, response.created_at) AS id {_REUSABLE} "
        "AND request.key IN (SELECT unnest(?)) GROUP BY request.key",
        [list(keys)],
    )
    found = store.load(
        AIResponse, "SELECT * FROM responses WHERE id IN (SELECT unnest(?))", [pairs["id"].tolist() or [""]]
    )
    by_id = {response.id: response for response in found}
    return {str(key): by_id[id_] for key, id_ in zip(pairs["key"], pairs["id"], strict=True)}


def answered_keys(store: Store, keys: Sequence[str]) -> set[str]:
    """Which of these keys have a reusable answer."""
    found = store.read(f"SELECT DISTINCT request.key {_REUSABLE} AND request.key IN (SELECT unnest(?))", [list(keys)])
    return set(found["key"])


def known_cases(store: Store) -> set[int]:
    """The `case_mark` of every case as it stands."""
    return _hashes(
        store,
        "SELECT id, external_id, segment, CAST(expected AS VARCHAR), CAST(metadata AS VARCHAR) FROM current_cases",
    )


def case_mark(case: Case) -> int:
    """Hash of a case with all that may be corrected about it: whether the store has it so, `known_cases` tells."""
    return hash(encoded(case, ("id", "external_id", "segment", "expected", "metadata")))
