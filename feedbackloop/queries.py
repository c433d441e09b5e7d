"""All SQL that reads: what it needs is fetched under the store's lease, and thought about once that is given back."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from feedbackloop.errors import StoreError
from feedbackloop.identity import utcnow
from feedbackloop.models import AIResponse, Case, Run, Task, Variant
from feedbackloop.registry import near
from feedbackloop.rows import encoded
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
    found = store.load(Run, "SELECT * FROM runs WHERE ? IS NULL OR task = ? ORDER BY created_at DESC", [task, task])
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
    frame = store.read(
        """
        SELECT run_id, count(*) AS done, count(*) FILTER (status = 'completed') AS completed,
               count(*) FILTER (status = 'failed') AS failed, count(*) FILTER (cached) AS cached,
               coalesce(sum(spent_usd) FILTER (NOT cached), 0) AS spent_usd,
               count(*) FILTER (spent_usd IS NULL AND NOT cached) AS unpriced
        FROM current_responses WHERE run_id IN (SELECT unnest(?)) GROUP BY run_id
        """,
        [list(run_ids)],
    )
    return {
        str(row.run_id): {
            name: float(getattr(row, name)) if name == "spent_usd" else int(getattr(row, name))
            for name in frame.columns
            if name != "run_id"
        }
        for row in frame.itertuples()
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


def counts(store: Store) -> dict[str, int]:
    """The loop as four numbers, and what they rest on: answers, votes, decisions, policies, cases, runs."""
    if not store.exists():
        return dict.fromkeys(("runs", "cases", "answers", "failed", "votes", "ratings", "decisions", "policies"), 0)
    row = store.read(
        """
        SELECT (SELECT count(*) FROM runs) AS runs, (SELECT count(DISTINCT id) FROM cases) AS cases,
               (SELECT count(*) FILTER (status = 'completed') FROM current_responses) AS answers,
               (SELECT count(*) FILTER (status = 'failed') FROM current_responses) AS failed,
               (SELECT count(*) FROM current_comparisons) AS votes,
               (SELECT count(*) FROM current_ratings WHERE rater_kind <> 'grader') AS ratings,
               (SELECT count(*) FROM decisions) AS decisions, (SELECT count(*) FROM policies) AS policies
        """
    ).iloc[0]
    return {str(name): int(value) for name, value in row.items()}


def summary(store: Store, run_id: str) -> pd.DataFrame:
    """A run, a row per variant in the order of the spec.

    Columns: variant, variant_id, answers, failed, cached, checks (mean of all grades, 0 to 1), latency_p50_ms, latency_p95_ms,
    cost_usd (mean per answer), spent_usd (sum), unpriced (answers without a known price), wins, losses, ties (blind votes; both
    bad counts as a tie), issues (labels on its answers). Latency and spend leave cached answers out.
    """
    return store.read(
        """
        WITH listed AS (
            SELECT unnest(variants) AS variant_id, generate_subscripts(variants, 1) AS place FROM runs WHERE id = $run
        ), mine AS (
            SELECT * FROM answers WHERE run_id = $run
        ), sides AS (
            SELECT response_a AS response_id, winner = 'a' AS won, winner = 'b' AS lost FROM current_comparisons WHERE blind
            UNION ALL
            SELECT response_b, winner = 'b', winner = 'a' FROM current_comparisons WHERE blind
        ), votes AS (
            SELECT mine.variant_id, count(*) FILTER (won) AS wins, count(*) FILTER (lost) AS losses,
                   count(*) FILTER (NOT won AND NOT lost) AS ties
            FROM sides JOIN mine USING (response_id) GROUP BY mine.variant_id
        ), figures AS (
            SELECT variant_id, count(*) FILTER (status = 'completed') AS answers,
                   count(*) FILTER (status = 'failed') AS failed, count(*) FILTER (cached) AS cached, avg(checks) AS checks,
                   quantile_cont(latency_ms, 0.5) FILTER (NOT cached AND status = 'completed') AS latency_p50_ms,
                   quantile_cont(latency_ms, 0.95) FILTER (NOT cached AND status = 'completed') AS latency_p95_ms,
                   avg(cost_usd) FILTER (status = 'completed') AS cost_usd,
                   sum(spent_usd) FILTER (NOT cached) AS spent_usd,
                   count(*) FILTER (spent_usd IS NULL AND NOT cached) AS unpriced, sum(len(issues)) AS issues
            FROM mine GROUP BY variant_id
        )
        SELECT coalesce(variant.name, listed.variant_id[:4]) AS variant, listed.variant_id,
               coalesce(answers, 0) AS answers, coalesce(failed, 0) AS failed, coalesce(cached, 0) AS cached, checks,
               latency_p50_ms, latency_p95_ms, cost_usd, spent_usd, coalesce(unpriced, 0) AS unpriced,
               coalesce(wins, 0) AS wins, coalesce(losses, 0) AS losses, coalesce(ties, 0) AS ties,
               CAST(coalesce(issues, 0) AS BIGINT) AS issues
        FROM listed LEFT JOIN figures USING (variant_id) LEFT JOIN votes USING (variant_id)
        LEFT JOIN current_variants variant ON variant.id = listed.variant_id ORDER BY listed.place
        """.replace("$run", "?"),
        [run_id, run_id],
    )


def spent(store: Store, run_id: str) -> float:
    """USD that a run has spent so far, where known."""
    frame = store.read(
        """
        SELECT coalesce(sum(response.spent_usd), 0) AS usd
        FROM responses response JOIN requests request ON request.id = response.request_id WHERE request.run_id = ?
        """,
        [run_id],
    )
    return float(frame["usd"].iloc[0])


def check_errors(store: Store, run_id: str) -> pd.DataFrame:
    """Checks that raised in a run, a row per check: metric, failed (on how many answers), example (one of the errors)."""
    return store.read(
        """
        SELECT rating.metric, count(*) AS failed, min(rating.error) AS example
        FROM ratings rating JOIN responses response ON response.id = rating.response_id
        JOIN requests request ON request.id = response.request_id
        WHERE request.run_id = ? AND rating.rater_kind = 'grader' AND rating.error IS NOT NULL
        GROUP BY rating.metric ORDER BY failed DESC, rating.metric
        """,
        [run_id],
    )


def failures(store: Store, run_id: str) -> pd.DataFrame:
    """What failed in a run, a row per kind: error_type, variant, failed, example (one of the reasons)."""
    return store.read(
        """
        SELECT error_type, variant, count(*) AS failed, min(error) AS example
        FROM answers WHERE run_id = ? AND status = 'failed' GROUP BY error_type, variant ORDER BY failed DESC, variant
        """,
        [run_id],
    )


def finished_cells(store: Store, run_id: str) -> set[int]:
    """Hashes of (case_id, variant_id, repeat, key) of the cells that have a completed answer."""
    return _hashes(
        store,
        """
        SELECT request.case_id, request.variant_id, request.repeat, request.key
        FROM requests request JOIN responses response ON response.request_id = request.id
        WHERE request.run_id = ? AND response.status = 'completed'
        """,
        [run_id],
    )


def _hashes(store: Store, query: str, parameters: Sequence[Any] | None = None) -> set[int]:
    """`hash(row)` of every row: a million of them take 70 MB, where the texts would take ten times that."""

    def collect(connection: DuckDBPyConnection) -> set[int]:
        connection.execute(query, parameters or [])
        found: set[int] = set()
        while rows := connection.fetchmany(10_000):
            found.update(map(hash, rows))
        return found

    return store.query(collect)


_REUSABLE = """
    FROM requests request JOIN responses response ON response.request_id = request.id
    WHERE response.status = 'completed' AND NOT response.cached AND response.model_used = request.model
"""


def reusable_keys(store: Store) -> set[int]:
    """Hashes of (key,) of the keys that have an answer of the very target that was asked."""
    return _hashes(store, f"SELECT request.key {_REUSABLE} AND request.key IS NOT NULL")


def answers_by_key(store: Store, keys: Sequence[str]) -> dict[str, AIResponse]:
    """The newest reusable answer for each of these keys."""
    pairs = store.read(
        f"SELECT request.key, arg_max(response.id, response.created_at) AS id {_REUSABLE} "
        "AND request.key IN (SELECT unnest(?)) GROUP BY request.key",
        [list(keys)],
    )
    found = store.load(
        AIResponse, "SELECT * FROM responses WHERE id IN (SELECT unnest(?))", [pairs["id"].tolist() or [""]]
    )
    by_id = {response.id: response for response in found}
    return {str(key): by_id[id_] for key, id_ in zip(pairs["key"], pairs["id"], strict=True)}


def known_cases(store: Store) -> set[int]:
    """The `case_mark` of every case as it stands."""
    return _hashes(
        store,
        "SELECT id, external_id, segment, CAST(expected AS VARCHAR), CAST(metadata AS VARCHAR) FROM current_cases",
    )


def case_mark(case: Case) -> int:
    """Hash of a case with all that may be corrected about it: whether the store has it so, `known_cases` tells."""
    return hash(encoded(case, ("id", "external_id", "segment", "expected", "metadata")))


def stop_asked(store: Store, run_id: str, since: datetime) -> bool:
    """Whether some process asked this run to stop, since then: an earlier part of it may have been stopped so before."""
    found = store.read(
        "SELECT count(*) AS n FROM run_events WHERE run_id = ? AND kind = 'stop_asked' AND created_at >= ?",
        [run_id, since.astimezone(UTC).replace(tzinfo=None)],
    )
    return bool(found["n"].iloc[0])
