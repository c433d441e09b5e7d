"""How runs stand: the one way in which processes know of one another's runs."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from feedbackloop.errors import StoreError
from feedbackloop.identity import utcnow
from feedbackloop.models import Run
from feedbackloop.queries.overview import run_figures
from feedbackloop.queries.records import variants
from feedbackloop.registry import near
from feedbackloop.store import Store

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

HEARTBEAT_LATE = timedelta(seconds=15)
"""A run that is not ended and gave no sign of life for this long was interrupted."""

RunState = Literal["running", "finished", "stopped", "interrupted"]


@dataclass(frozen=True)
class RunStatus:
    """A run and how it stands."""

    run: Run
    state: RunState
    variants: list[str]
    """Names, in the order of the spec."""
    counts: dict[str, Any]
    """Of the last event: done, completed, failed, cached, total, spent_usd."""
    last_event: datetime


def runs(store: Store, task: str | None = None, *, now: datetime | None = None) -> list[RunStatus]:
    """All runs, newest first."""
    if not store.exists():
        return []
    found = store.load(
        Run, "SELECT * FROM current_runs WHERE ? IS NULL OR task = ? ORDER BY created_at DESC", [task, task]
    )
    names = {variant.id: variant.name for variant in variants(store)}
    last = store.query(_last_events)
    moment = now or utcnow()
    result = []
    for run in found:
        event = last.get(run.id) or _Event("started", None, {}, run.created_at)
        named = [names.get(id_, id_[:4]) for id_ in run.variants]
        result.append(RunStatus(run, event.state(moment), named, event.counts, event.at))
    going = [status.run.id for status in result if status.state in ("running", "interrupted")]
    for run_id, counted in (_counted(store, going) if going else {}).items():
        status = next(status for status in result if status.run.id == run_id)
        status.counts.update(counted)
    return result


@dataclass(frozen=True)
class _Event:
    """The last sign of life of a run."""

    kind: str
    pid: int | None
    counts: dict[str, Any]
    at: datetime
    host: str | None = None

    def state(self, now: datetime) -> RunState:
        if self.kind == "finished":
            return "finished"
        if self.kind == "stopped":
            return "stopped"
        gone = self.host == socket.gethostname() and self.pid is not None and _is_dead(self.pid)
        return "interrupted" if gone or now - self.at >= HEARTBEAT_LATE else "running"


def _last_events(connection: DuckDBPyConnection, run_id: str | None = None) -> dict[str, _Event]:
    connection.execute(
        """
        SELECT run_id, arg_max(kind, (created_at, kind IN ('finished', 'stopped'))) AS kind,
               arg_max(pid, (created_at, kind IN ('finished', 'stopped'))) AS pid,
               CAST(arg_max(counts, (created_at, kind IN ('finished', 'stopped'))) AS VARCHAR) AS counts, max(created_at) AS at
        FROM run_events WHERE kind <> 'stop_asked' AND (? IS NULL OR run_id = ?) GROUP BY run_id
        """,
        [run_id, run_id],
    )
    events = {}
    for id_, kind, pid, text, at in connection.fetchall():
        counts = json.loads(text) if text else {}
        host = counts.pop("host", None)
        events[id_] = _Event(kind, pid, counts, at.replace(tzinfo=UTC), host)
    return events


def _counted(store: Store, run_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What is stored of runs that have not said how they ended: the last sign of life may be older than the last answers."""
    return {
        run_id: {
            "done": figures.answers + figures.failed,
            "completed": figures.answers,
            "failed": figures.failed,
            "cached": figures.cached,
            "spent_usd": figures.spent_usd,
            "unpriced": figures.unpriced,
        }
        for run_id, figures in run_figures(store, run_ids).items()
    }


def still_running(run_id: str) -> StoreError:
    """What is said to whoever would go on with a run that goes on already."""
    return StoreError(f"run {run_id[:8]} is still going on; stop it first, or wait for its end")


def refuse_if_running(connection: DuckDBPyConnection, run_id: str) -> None:
    """Look under the caller's lease whether somebody is at a run.

    Raises:
        StoreError: the run is going on.
    """
    event = _last_events(connection, run_id).get(run_id)
    if event is not None and event.state(utcnow()) == "running":
        raise still_running(run_id)


def _is_dead(pid: int) -> bool:
    """Whether this machine has no such process; where another one has its number by now, the missing heartbeat tells."""
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError, ValueError):
        return False
    return False


def find_run(store: Store, name: str | None = None, *, unfinished: bool = False) -> RunStatus:
    """The run whose id begins with `name`, or the newest one.

    Args:
        unfinished: without a name, the newest one that is not finished.

    Raises:
        StoreError: there is none, or several ids begin so.
    """
    known = runs(store)
    if not known:
        raise StoreError(f"{store.url}: there are no runs in this store yet; `feedbackloop run SPEC.yaml` makes one")
    if name is None:
        for status in known:
            if not unfinished or status.state != "finished":
                return status
        raise StoreError(
            f"{store.url}: all runs are finished; name one to go over it again (`feedbackloop status` lists them)"
        )
    matching = [status for status in known if status.run.id.startswith(name)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise StoreError(f"{len(matching)} runs begin with '{name}'; give more of the id")
    raise StoreError(f"{store.url}: there is no run '{name}'{near(name, [status.run.id[:8] for status in known])}")


def stop_asked(store: Store, run_id: str, since: datetime) -> bool:
    """Whether some process asked this run to stop, since then: an earlier part of it may have been stopped so before."""
    found = store.read(
        "SELECT count(*) AS n FROM run_events WHERE run_id = ? AND kind = 'stop_asked' AND created_at >= ?",
        [run_id, since.astimezone(UTC).replace(tzinfo=None)],
    )
    return bool(found["n"].iloc[0])
