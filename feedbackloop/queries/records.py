"""Records as they stand now, and how many there are."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from feedbackloop.errors import UnknownName
from feedbackloop.models import Task, Variant
from feedbackloop.registry import near
from feedbackloop.store import Store


def variants(store: Store, ids: Sequence[str] | None = None) -> list[Variant]:
    """The variants with these ids in this order, or all, oldest first."""
    if ids is None:
        return store.load(Variant, "SELECT * FROM current_variants ORDER BY created_at")
    found = {
        v.id: v for v in store.load(Variant, "SELECT * FROM current_variants WHERE list_contains(?, id)", [list(ids)])
    }
    return [found[id_] for id_ in ids if id_ in found]


def task(store: Store, name: str) -> Task | None:
    """The task as it stands now."""
    found = store.load(Task, "SELECT * FROM tasks WHERE name = ? ORDER BY created_at DESC LIMIT 1", [name])
    return found[0] if found else None


def tasks(store: Store) -> list[str]:
    """Names of the tasks that have a run or are described, the one with the newest run first."""
    frame = store.read(
        """
        SELECT name FROM (SELECT task AS name, created_at FROM runs UNION ALL SELECT name, created_at FROM tasks)
        GROUP BY name ORDER BY max(created_at) DESC, name
        """
    )
    return [str(name) for name in frame["name"]]


def asked_tasks(store: Store) -> list[str]:
    """Tasks that have answers, in the order of their names."""
    frame = store.read("SELECT DISTINCT task FROM requests WHERE task IS NOT NULL ORDER BY task")
    return [str(name) for name in frame["task"]]


def known_task(store: Store, name: str, known: Collection[str] | None = None) -> str:
    """The name, once it is clear that there is such a task.

    Args:
        known: the tasks that count; those of `tasks` unless given.

    Raises:
        UnknownName: it is none of them; lists the near ones.
    """
    names = tasks(store) if known is None else known
    if name not in names:
        raise UnknownName(f"{store.url}: there is no task '{name}'{near(name, names)}")
    return name


def task_variants(store: Store, name: str) -> list[Variant]:
    """The variants that ran for a task, by the first run of their name; of several versions of a name the newest first."""
    return store.load(
        Variant,
        """
        WITH ran AS (SELECT unnest(variants) AS id, generate_subscripts(variants, 1) AS place, created_at AS ran_at FROM runs WHERE task = ?),
        mine AS (SELECT id, min((ran_at, place)) AS first, max(ran_at) AS last FROM ran GROUP BY id)
        SELECT variant.* FROM mine JOIN current_variants variant USING (id)
        ORDER BY min(mine.first) OVER (PARTITION BY variant.name), variant.name, mine.last DESC, mine.first DESC
        """,
        [name],
    )


def baseline(store: Store, name: str) -> Variant | None:
    """What others are compared with: what the task names, else the first variant of its first run."""
    known = task_variants(store, name)
    described = task(store, name)
    chosen = described.baseline if described else None
    return next((variant for variant in known if variant.name == chosen), known[0] if known else None)
