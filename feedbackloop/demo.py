"""The demo: six weeks of a made-up team in one store, made in seconds from the recordings in `data/demo`, without any model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from feedbackloop import queries
from feedbackloop.bundled import bundled
from feedbackloop.identity import utcnow
from feedbackloop.importers import import_votes
from feedbackloop.pipeline import Progress, resume, run
from feedbackloop.pipeline.resilience import Clock
from feedbackloop.settings import Settings
from feedbackloop.spec import load_spec
from feedbackloop.store import Store

TASK = "demo-support"


@dataclass(frozen=True)
class DemoResult:
    """What the store holds of the demo."""

    runs: tuple[str, str, str]
    """Ids, oldest first."""
    made: bool
    """False if all of it was there before."""


@dataclass(frozen=True)
class _Run:
    number: int
    days_ago: int
    spec: str
    title: str


_RUNS = (
    _Run(1, 42, "spec.yaml", "the first comparison"),
    _Run(2, 24, "spec.yaml", "the same prompts again"),
    _Run(3, 8, "spec-answer-first.yaml", "steps has a new prompt: answer first, at most six lines"),
)

TITLES = tuple(run.title for run in _RUNS)
"""What each run was for."""

# Of three answers that are asked for at once, one comes every second or so; each reads the clock two or three times.
_TICK = timedelta(seconds=0.4)


async def make_demo(
    store: Store, *, progress: Callable[[Progress], None] | None = None, now: datetime | None = None
) -> DemoResult:
    """Make the demo's three runs and their votes; on a store that has them, do nothing.

    Args:
        store: where to.
        progress: as in `pipeline.run`, called for each run in turn.
        now: the moment that the six weeks lead up to; the present one unless given.

    Raises:
        StoreError: the store cannot be written.
    """
    folder = bundled("data") / "demo"
    moment = now or utcnow()
    # A run knows its recordings by their folder: that is its number.
    known = {Path(str(s.run.settings.get("base"))).name: s for s in reversed(queries.runs(store, TASK, now=moment))}
    ids = []
    complete = True
    for one in _RUNS:
        name = f"run-{one.number}"
        status = known.get(name)
        if status is not None and status.state == "finished":
            ids.append(status.run.id)
            continue
        complete = False
        clock = _past(moment - timedelta(days=one.days_ago))
        settings = Settings(base=folder / name)
        if status is not None:
            result = await resume(store, status.run.id, settings=settings, progress=progress, clock=clock)
        else:
            spec = load_spec(folder / one.spec)
            at = clock.utc()
            result = await run(
                spec.dataset_path,
                [variant.model_copy(update={"created_at": at}) for variant in spec.variant_records()],
                store=store,
                task=spec.task.record().model_copy(update={"created_at": at}),
                graders=spec.graders,
                limits=spec.limits,
                # Each run replays its own recordings, and none of an earlier one's.
                cache=False,
                settings=settings,
                progress=progress,
                clock=clock,
            )
        ids.append(result.run.id)
    votes = import_votes(folder / "votes.jsonl", store, task=TASK, now=moment, runs=dict(enumerate(ids, start=1)))
    first, second, third = ids
    return DemoResult((first, second, third), made=not complete or votes.new > 0)


def _past(start: datetime) -> Clock:
    """A time of day that begins in the past and moves on with each look at it."""
    return Clock(utc=_Ticking(start))


@dataclass
class _Ticking:
    at: datetime
    step: timedelta = field(default=_TICK)

    def __call__(self) -> datetime:
        self.at += self.step
        return self.at
