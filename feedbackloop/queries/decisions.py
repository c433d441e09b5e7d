"""Decisions that were stored."""

from __future__ import annotations

from feedbackloop.models import Decision
from feedbackloop.store import Store


def decision(store: Store, id_: str) -> Decision | None:
    """The decision with this id; None where the store does not hold it: a policy may name one that was made elsewhere."""
    found = store.load(Decision, "SELECT * FROM decisions WHERE id = ?", [id_])
    return found[0] if found else None
