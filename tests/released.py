"""A store with a task and two variants that ran for it, as a run would have left it."""

from __future__ import annotations

from pathlib import Path

from feedbackloop.models import Run, Task, Variant
from feedbackloop.store import Store

TERSE = Variant(name="terse", model="up:small", prompt="In one sentence: {{ input }}")
STEPS = Variant(
    name="steps",
    model="up:large",
    prompt=[{"role": "system", "content": "Think step by step."}, {"role": "user", "content": "{{ input }}"}],
    params={"temperature": 0.2},
    fallbacks=["up:spare"],
)


_made: dict[tuple[str, ...], bytes] = {}


def make_store(path: Path, *more: Variant, task: str = "support") -> Store:
    """The store in a new file. Equal ones are made once and then copied, which spares a test a tenth of a second."""
    variants = [TERSE, STEPS, *more]
    key = (task, *(variant.id for variant in variants))
    if key not in _made:
        fill(Store(path), variants, task)
        _made[key] = path.read_bytes()
    path.write_bytes(_made[key])
    return Store(path)


def fill(store: Store, variants: list[Variant], task: str = "support") -> None:
    run = Run(task=task, dataset="d", fingerprint="f", variants=[variant.id for variant in variants])
    store.append([Task(name=task), *variants, run])
