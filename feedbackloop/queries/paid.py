"""What is known of a spend that is not known whole: of several attempts, one may have a price and another none."""

from __future__ import annotations

import json
from dataclasses import dataclass

from feedbackloop.models import AIRequest, AIResponse
from feedbackloop.store import Store

PART_USD = "coalesce(list_sum(CAST(json_extract(response.attempts, '$[*].cost_usd') AS DOUBLE[])), 0.0)"
"""SQL for what is known of a `response` whose `spent_usd` is null: the sum of its attempts that have a cost.

To be asked of these alone: to read the attempts of a million answers takes as long as all else.
"""


def unpriced_answers(store: Store, run_id: str) -> list[tuple[AIRequest, AIResponse]]:
    """The answers of a run that may have cost something that nobody knows, each with its request."""
    where = "run_id = ? AND response.spent_usd IS NULL AND NOT response.cached"
    of = "requests request JOIN responses response ON response.request_id = request.id"
    responses = store.load(AIResponse, f"SELECT response.* FROM {of} WHERE {where}", [run_id])
    requests = store.load(AIRequest, f"SELECT request.* FROM {of} WHERE {where}", [run_id])
    by_id = {request.id: request for request in requests}
    return [(by_id[response.request_id], response) for response in responses if response.request_id in by_id]


@dataclass(frozen=True)
class Lost:
    """Calls that were under way when a run was interrupted: they may have been charged for, and no answer tells of them."""

    calls: int = 0
    worst_usd: float = 0.0
    """The most that they can have cost, as far as a budget had to know it."""


def lost_calls(store: Store, run_id: str | None = None) -> dict[str, Lost]:
    """By run, what was under way by the last heartbeat of each part of it that has not said how it ended.

    A part that goes on at this moment is among them.

    Args:
        run_id: only this run.
    """
    frame = store.read(
        """
        WITH numbered AS (
            SELECT run_id, kind, counts, created_at, sum(CASE WHEN kind = 'started' THEN 1 ELSE 0 END) OVER (
                PARTITION BY run_id ORDER BY created_at, kind <> 'started' ROWS UNBOUNDED PRECEDING) AS part
            FROM run_events WHERE kind IN ('started', 'heartbeat', 'finished', 'stopped') AND ($1 IS NULL OR run_id = $1)
        )
        SELECT run_id, CAST(arg_max(counts, created_at) FILTER (kind = 'heartbeat') AS VARCHAR) AS counts
        FROM numbered GROUP BY run_id, part HAVING NOT bool_or(kind IN ('finished', 'stopped'))
        """,
        [run_id],
    )
    found: dict[str, Lost] = {}
    for id_, text in zip(frame["run_id"], frame["counts"], strict=True):
        told = json.loads(text).get("under_way") if isinstance(text, str) else None
        if told and told["calls"]:
            before = found.get(str(id_), Lost())
            found[str(id_)] = Lost(before.calls + int(told["calls"]), before.worst_usd + float(told["usd"]))
    return found
