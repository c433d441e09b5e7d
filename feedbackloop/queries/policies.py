"""Which variants are live: the policies of a store, and what a router needs to know to obey them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from feedbackloop.models import Policy, Variant
from feedbackloop.queries import records
from feedbackloop.queries.decisions import decision
from feedbackloop.rows import from_rows
from feedbackloop.store import Store

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from feedbackloop.rows import AnyRecord

EVERYONE = "*"
"""The segment of all requests whose own segment has no weights."""

_NEWEST = "QUALIFY row_number() OVER (PARTITION BY task ORDER BY created_at DESC, id DESC) = 1"


@dataclass(frozen=True)
class Released:
    """The live policies, and all variants that one may ask for by name."""

    mark: tuple[int, ...]
    """How many rows there were: they are never changed, so equal counts mean that nothing is new."""
    policies: dict[str, Policy]
    """By task, the newest."""
    variants: list[Variant]
    """Newest first."""
    tasks: frozenset[str] = frozenset()
    """All tasks, also those without a policy."""

    @cached_property
    def by_id(self) -> dict[str, Variant]:
        """The variants by their ids."""
        return {variant.id: variant for variant in self.variants}


def policies(store: Store, task: str | None = None) -> list[Policy]:
    """All policies of a task, newest first; without a task the live one of each."""
    if not store.exists():
        return []
    if task is None:
        return store.load(Policy, f"SELECT * FROM policies {_NEWEST} ORDER BY task")
    return store.load(Policy, "SELECT * FROM policies WHERE task = ? ORDER BY created_at DESC, id DESC", [task])


def live(store: Store, task: str) -> Policy | None:
    """The policy that a task's requests obey now."""
    found = policies(store, task)
    return found[0] if found else None


@dataclass(frozen=True)
class Release:
    """A policy, and how it came after those before it."""

    policy: Policy
    back: bool
    """It restores an earlier one."""
    steps: tuple[Policy, ...]
    """The way forward that led to it, oldest first, itself included."""

    @property
    def before(self) -> Policy | None:
        """What rolling back restores; None where there is nothing before it."""
        return self.steps[-2] if len(self.steps) > 1 else None


def releases(store: Store, task: str) -> list[Release]:
    """A task's policies as steps forward and back, oldest first: one that equals an earlier step is a step back to it.

    The way begins with what the first release took the place of, though no policy was ever written for it.
    """
    past = policies(store, task)
    found: list[Release] = []
    steps = _origin(store, past[-1]) if past else ()
    for policy in reversed(past):
        same = next((n for n, step in enumerate(steps) if _same(step, policy)), None)
        back = same is not None and same < len(steps) - 1
        steps = (*steps, policy) if same is None else steps[: same + 1]
        found.append(Release(policy, back, steps))
    return found


def share(policy: Policy | None, variant: str) -> float:
    """The part of a task's requests that a variant (id) answers in any case, whatever their segment; 0 without a policy."""
    return min(shares.get(variant, 0.0) for shares in policy.weights.values()) if policy and policy.weights else 0.0


def replaced(store: Store, task: str, decision_id: str | None) -> str | None:
    """The variant (id) that a first release takes the place of: the baseline of its decision, else the task's."""
    rests_on = decision(store, decision_id) if decision_id else None
    baseline = records.baseline(store, task)
    return rests_on.baseline if rests_on else baseline.id if baseline else None


def _origin(store: Store, first: Policy) -> tuple[Policy, ...]:
    """What the first release took the place of, for everyone; nothing where that is not known."""
    chosen = replaced(store, first.task, first.decision_id)
    if chosen is None:
        return ()
    origin = Policy(task=first.task, weights={EVERYONE: {chosen: 1.0}}, fallback=first.fallback)
    return () if _same(origin, first) else (origin,)


def _same(one: Policy, other: Policy) -> bool:
    return (one.weights, one.fallback) == (other.weights, other.fallback)


_COUNTS = ", ".join(f"(SELECT count(*) FROM {table})" for table in ("policies", "variants", "runs", "tasks"))


def released(store: Store, known: tuple[int, ...] | None = None) -> Released | None:
    """What is live, read under one lease; None if nothing was added since the `mark` that is known."""

    def look(connection: DuckDBPyConnection) -> Released | None:
        connection.execute(f"SELECT {_COUNTS}")
        mark = tuple(int(count) for count in connection.fetchall()[0])
        if mark == known:
            return None
        found = _load(connection, Policy, f"SELECT * FROM policies {_NEWEST}")
        variants = _load(connection, Variant, "SELECT * FROM current_variants ORDER BY created_at DESC")
        connection.execute("SELECT task FROM runs UNION SELECT name FROM tasks")
        tasks = frozenset(str(row[0]) for row in connection.fetchall())
        return Released(mark, {policy.task: policy for policy in found}, variants, tasks)

    if not store.exists():
        return Released((), {}, []) if known != () else None
    return store.query(look)


def named(variants: Iterable[Variant], text: str) -> Variant | None:
    """The first variant that `text` names: by its id, its name, or `name@` with the beginning of its id."""
    known = list(variants)
    for variant in known:
        if text in (variant.id, variant.name):
            return variant
    name, found, version = text.rpartition("@")
    if not (found and version):
        return None
    return next((variant for variant in known if variant.name == name and variant.id.startswith(version)), None)


def _load(connection: DuckDBPyConnection, record: type[AnyRecord], query: str) -> list[AnyRecord]:
    connection.execute(query)
    names = [column[0] for column in connection.description or ()]
    return from_rows(record, names, connection.fetchall())
