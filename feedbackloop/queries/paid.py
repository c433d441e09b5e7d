"""What is known of a spend that is not known whole: of several attempts, one may have a price and another none."""

from __future__ import annotations

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
