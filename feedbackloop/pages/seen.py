"""What this session has shown with names or metrics: whoever sits before it is not blind to that any more, by whatever name they rate.

Most people look around before they say who they are. So it is kept here, and stored for each name that rates in this session.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice

import streamlit as st

from feedbackloop.comparisons import expose_all
from feedbackloop.store import Store

_KEY = "seen"

Entry = tuple[str, str, tuple[str, ...]]
"""The page, the case's id, the ids of the answers."""


@dataclass
class _Seen:
    """What was shown of one store. Nothing is ever dropped: it grows by what somebody opens, a case at a time."""

    entries: dict[Entry, None] = field(default_factory=dict)
    """In the order in which they were shown."""
    written: dict[str, int] = field(default_factory=dict)
    """By rater, how many of them are stored."""


def note(store: Store, rater: str | None, shown: Sequence[tuple[str, Sequence[str]]], page: str) -> None:
    """Names or metrics of these answers are about to be shown. To be called before they are.

    Args:
        rater: who looks; what they see is stored at once. None where they have not said: it is stored when they do.
        shown: pairs of a case's id and the ids of the answers.

    Raises:
        StoreError: the store cannot be written.
    """
    seen = st.session_state.setdefault(_KEY, {}).setdefault(store.address, _Seen())
    seen.entries.update(((page, case_id, tuple(sorted(set(ids)))), None) for case_id, ids in shown if ids)
    if rater is not None:
        write(store, rater)


def write(store: Store, rater: str) -> None:
    """Store what this session has shown so far as seen by this rater; what is stored already costs nothing.

    Raises:
        StoreError: the store cannot be written.
    """
    seen: _Seen | None = st.session_state.get(_KEY, {}).get(store.address)
    if seen is None or (done := seen.written.get(rater, 0)) == (there := len(seen.entries)):
        return
    for page, entries in groupby(islice(seen.entries, done, None), key=lambda entry: entry[0]):
        expose_all(store, rater, [(case_id, ids) for _, case_id, ids in entries], page)
    seen.written[rater] = there
