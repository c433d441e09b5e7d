"""What a rater has seen with names or metrics: from then on their votes on it are not blind."""

from __future__ import annotations

from collections.abc import Sequence

from feedbackloop.identity import content_id
from feedbackloop.models import Exposure
from feedbackloop.store import Store


def expose(store: Store, rater: str, case_id: str, response_ids: Sequence[str], page: str) -> None:
    """Remember that names or metrics of these answers were on this rater's screen: their votes on them are no longer blind.

    Shown again on the same page, it is remembered once.

    Raises:
        StoreError: the store cannot be written.
    """
    ids = sorted(set(response_ids))
    if rater and ids:
        store.append([_exposure(rater, case_id, ids, page)], new_only=True)


def expose_all(store: Store, rater: str, shown: Sequence[tuple[str, Sequence[str]]], page: str) -> None:
    """As `expose`, for several cases at once: pairs of a case's id and the ids of the answers."""
    rows = [_exposure(rater, case_id, sorted(set(ids)), page) for case_id, ids in shown if rater and ids]
    store.append(rows, new_only=True)


def _exposure(rater: str, case_id: str, ids: list[str], page: str) -> Exposure:
    id_ = content_id("exposure", rater, case_id, ids, page)
    return Exposure(id=id_, rater=rater, case_id=case_id, response_ids=ids, page=page)
