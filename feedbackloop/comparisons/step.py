"""Look and write as one step, with others at the same store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from feedbackloop.errors import StoreError
from feedbackloop.models import Record
from feedbackloop.store import Store

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Plan = TypeVar("Plan")

_TRIES = 50


class _Changed(Exception):
    """What was to be written no longer follows from what the store holds."""


def step(
    store: Store,
    plan: Callable[[DuckDBPyConnection], Plan],
    records: Callable[[Plan], Sequence[Record]],
    guess: Plan | None = None,
) -> Plan:
    """Write what follows from what the store holds, and return the plan that was carried out.

    The plan is looked at again under the lease that writes. If it came out otherwise, nothing is written and the new one is tried.

    Args:
        plan: works out from the store what is to be done; equal plans mean the same.
        records: what a plan writes; none means that nothing is to be done.
        guess: the plan as the caller expects it, which spares a look beforehand.

    Raises:
        StoreError: it came out otherwise fifty times running, or the store cannot be written.
    """
    wanted = store.query(plan) if guess is None else guess
    for _ in range(_TRIES):
        found: list[Plan] = []

        def check(connection: DuckDBPyConnection, wanted: Plan = wanted, found: list[Plan] = found) -> None:
            found.append(plan(connection))
            if found[0] != wanted:
                raise _Changed

        written = list(records(wanted))
        try:
            if written:
                store.append(written, unless=check)
            elif guess is not None:
                store.query(check)
        except _Changed:
            wanted, guess = found[0], found[0]
            continue
        return wanted
    raise StoreError(f"{store.url}: too many are at this queue at this very moment; try again")
