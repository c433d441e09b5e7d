"""How the loop stands, for the pages Home and Runs: counts, what happened lately, how far a live run is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pandas as pd

from feedbackloop.queries.moments import bound
from feedbackloop.queries.paid import PART_USD
from feedbackloop.store import Store, number

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@dataclass(frozen=True)
class Loop:
    """The loop as numbers, for one task."""

    answers: int
    """Cells with a completed answer."""
    failed: int
    """Cells whose every attempt failed."""
    votes: int
    """Current comparisons, of whatever kind of rater."""
    decisions: int
    live: int
    """Variants that the task's present policy puts to work; 0 without a policy."""


_ANSWERS = "count(*) FILTER (cell IS NULL AND done) + count(DISTINCT cell) FILTER (done)"
_CELLS = "count(*) FILTER (cell IS NULL) + count(DISTINCT cell)"


def _cell(connection: DuckDBPyConnection) -> str:
    """SQL for what tells a cell's several responses from those of other cells; null where none can have several.

    Only a run that was gone on with asks a cell twice. To count a million cells by content takes a second, by row a fifth of it.
    """
    connection.execute(
        "SELECT DISTINCT run_id FROM (SELECT run_id FROM run_events WHERE kind = 'started' GROUP BY run_id HAVING count(*) > 1)"
    )
    resumed = ", ".join("'" + row[0].replace("'", "''") + "'" for row in connection.fetchall())
    if not resumed:
        return "CAST(NULL AS UBIGINT)"
    content = "hash(request.run_id, request.case_id, request.variant_id, request.repeat)"
    return f"CASE WHEN request.run_id IN ({resumed}) THEN {content} END"


_CURRENT_VOTES = "winner IS NOT NULL AND id NOT IN (SELECT supersedes FROM comparisons WHERE supersedes IS NOT NULL)"


def loop(store: Store, task: str, since: datetime | None = None) -> Loop:
    """The loop of a task in numbers.

    Args:
        since: count only what is newer; what is live is live now.
    """
    moment = bound(since)

    def numbers(connection: DuckDBPyConnection) -> Loop:
        connection.execute(
            f"""
            SELECT {_ANSWERS}, {_CELLS}
            FROM (
                SELECT {_cell(connection)} AS cell, response.status = 'completed' AS done
                FROM responses response JOIN requests request ON request.id = response.request_id
                WHERE request.task = $1 AND request.purpose = 'answer' AND ($2 IS NULL OR response.created_at >= $2)
            )
            """,
            [task, moment],
        )
        done, cells = connection.fetchall()[0]
        connection.execute(
            f"""
            SELECT (SELECT count(*) FROM comparisons WHERE task = $1 AND ($2 IS NULL OR created_at >= $2) AND {_CURRENT_VOTES}),
                   (SELECT count(*) FROM decisions WHERE task = $1 AND ($2 IS NULL OR created_at >= $2))
            """,
            [task, moment],
        )
        votes, decisions = connection.fetchall()[0]
        connection.execute(
            "SELECT CAST(weights AS VARCHAR) FROM policies WHERE task = ? ORDER BY created_at DESC LIMIT 1", [task]
        )
        weights = connection.fetchall()
        return Loop(
            answers=done,
            failed=cells - done,
            votes=votes,
            decisions=decisions,
            live=_live(json.loads(weights[0][0])) if weights else 0,
        )

    return store.query(numbers)


def counts(store: Store) -> dict[str, int]:
    """What is in the store, all tasks together: runs, cases, answers, failed, votes, ratings, decisions, policies."""
    names = ("runs", "cases", "answers", "failed", "votes", "ratings", "decisions", "policies")
    if not store.exists():
        return dict.fromkeys(names, 0)

    def numbers(connection: DuckDBPyConnection) -> dict[str, int]:
        connection.execute(
            f"""
            WITH cells AS (
                SELECT {_cell(connection)} AS cell, response.status = 'completed' AS done
                FROM responses response JOIN requests request ON request.id = response.request_id
                WHERE request.purpose = 'answer'
            ), summed AS (SELECT {_ANSWERS} AS answers, {_CELLS} AS cells FROM cells)
            SELECT (SELECT count(DISTINCT id) FROM runs), (SELECT count(DISTINCT id) FROM cases), answers, cells - answers,
                   (SELECT count(*) FROM comparisons WHERE {_CURRENT_VOTES}),
                   (SELECT count(*) FROM current_ratings WHERE rater_kind <> 'grader'),
                   (SELECT count(*) FROM decisions), (SELECT count(*) FROM policies)
            FROM summed
            """
        )
        return dict(zip(names, connection.fetchall()[0], strict=True))

    return store.query(numbers)


def _live(weights: dict[str, dict[str, float]]) -> int:
    return len({variant for shares in weights.values() for variant, share in shares.items() if share > 0})


def voting(store: Store, task: str, limit: int = 6) -> pd.DataFrame:
    """Who voted lately on a task, a row per rater and day, newest first: rater, rater_kind, votes, last (time of the last one)."""
    return store.read(
        f"""
        SELECT rater, rater_kind, count(*) AS votes, max(created_at) AS last
        FROM comparisons WHERE task = ? AND {_CURRENT_VOTES}
        GROUP BY rater, rater_kind, date_trunc('day', created_at) ORDER BY last DESC LIMIT {int(limit)}
        """,
        [task],
    )


@dataclass(frozen=True)
class RunFigures:
    """What a run came to so far."""

    answers: int
    """Cells with a completed answer."""
    failed: int
    cached: int
    """Used again from an earlier run."""
    spent_usd: float
    unpriced: int
    """Answers whose price is unknown: the spend is then at least `spent_usd`."""


NO_FIGURES = RunFigures(0, 0, 0, 0.0, 0)


def run_figures(store: Store, run_ids: Sequence[str]) -> dict[str, RunFigures]:
    """What these runs came to, all their parts together; runs without an answer are left out."""

    def count(connection: DuckDBPyConnection) -> dict[str, RunFigures]:
        connection.execute(
            f"""
            SELECT run_id, {_ANSWERS}, {_CELLS}, count(*) FILTER (cached),
                   coalesce(sum(spent_usd) FILTER (NOT cached), 0.0), count(*) FILTER (spent_usd IS NULL AND NOT cached)
            FROM (
                SELECT request.run_id, {_cell(connection)} AS cell, response.status = 'completed' AS done, response.cached,
                       response.spent_usd
                FROM requests request JOIN responses response ON response.request_id = request.id
                WHERE request.run_id = ANY(?)
            ) GROUP BY run_id
            """,
            [list(run_ids)],
        )
        found = connection.fetchall()
        parts = _parts(connection, [run_id for run_id, *_, unpriced in found if unpriced])
        return {
            run_id: RunFigures(answers, cells - answers, cached, float(spent_usd) + parts.get(run_id, 0.0), unpriced)
            for run_id, answers, cells, cached, spent_usd, unpriced in found
        }

    return store.query(count)


def _parts(connection: DuckDBPyConnection, run_ids: Sequence[str]) -> dict[str, float]:
    """What is known of the spend of answers whose price is not known whole, by run."""
    if not run_ids:
        return {}
    connection.execute(
        f"""
        SELECT request.run_id, sum({PART_USD}) FROM requests request JOIN responses response ON response.request_id = request.id
        WHERE request.run_id = ANY(?) AND response.spent_usd IS NULL AND NOT response.cached GROUP BY request.run_id
        """,
        [list(run_ids)],
    )
    return {run_id: float(usd) for run_id, usd in connection.fetchall()}


@dataclass(frozen=True)
class Latency:
    """How long completed answers took, in milliseconds; answers used again from before are left out."""

    p50_ms: float
    p95_ms: float


def latency(store: Store, run_id: str) -> Latency | None:
    """The latency of a run's answers, all variants together; None where nothing was measured."""
    frame = store.read(
        """
        SELECT quantile_cont(response.latency_ms, 0.5) AS p50, quantile_cont(response.latency_ms, 0.95) AS p95
        FROM requests request JOIN responses response ON response.request_id = request.id
        WHERE request.run_id = ? AND response.status = 'completed' AND NOT response.cached
        """,
        [run_id],
    )
    p50, p95 = frame.iloc[0]
    return None if pd.isna(p50) else Latency(float(p50), float(p95))


@dataclass(frozen=True)
class LiveRun:
    """How far a run is that goes on at this moment."""

    total: int
    done: int
    failed: int
    cached: int
    skipped: int
    """Done in an earlier part of this run."""
    spent_usd: float
    unpriced: int
    began: datetime
    """When this part of it began."""
    last_event: datetime
    ended: bool
    """It has said that it finished or stopped."""
    stopping: bool
    """Somebody asked it to stop; it looks every few seconds."""
    batches: Sequence[dict[str, Any]] = ()
    """Batches that a provider works on: `provider`, `requests`, `done`."""

    def rate(self, now: datetime) -> float:
        """Answers per second in this part of the run."""
        elapsed = (now - self.began).total_seconds()
        return max(self.done - self.skipped, 0) / elapsed if elapsed > 0 else 0.0

    def seconds_left(self, now: datetime) -> float | None:
        """At this rate; None where there is none yet."""
        rate = self.rate(now)
        return max(self.total - self.done, 0) / rate if rate > 0 else None


def live_run(store: Store, run_id: str) -> LiveRun | None:
    """How far a run is: its last sign of life, and what was stored since. None if it has not begun.

    It is cheap whatever the store holds, so that a page may ask every second or two.
    """

    def look(connection: DuckDBPyConnection) -> LiveRun | None:
        connection.execute(
            """
            SELECT kind, CAST(counts AS VARCHAR), created_at FROM run_events WHERE run_id = ?
            ORDER BY created_at, kind IN ('finished', 'stopped')
            """,
            [run_id],
        )
        events = connection.fetchall()
        begins = [at for kind, _, at in events if kind == "started"]
        signs = [event for event in events if event[0] != "stop_asked"]
        if not begins or not signs:
            return None
        kind, text, at = signs[-1]
        counts: dict[str, Any] = json.loads(text) if text else {}
        ended = kind in {"finished", "stopped"}
        new = (0, 0, 0, 0.0, 0)
        if not ended:
            connection.execute(
                f"""
                SELECT count(*), count(*) FILTER (response.status = 'failed'), count(*) FILTER (response.cached),
                       coalesce(sum(coalesce(response.spent_usd, {PART_USD})) FILTER (NOT response.cached), 0.0),
                       count(*) FILTER (response.spent_usd IS NULL AND NOT response.cached)
                FROM responses response JOIN requests request ON request.id = response.request_id
                WHERE request.run_id = ? AND response.created_at > ?
                """,
                [run_id, at],
            )
            new = connection.fetchall()[0]
        done, failed, cached, spent_usd, unpriced = new
        total = int(counts.get("total") or 0)
        return LiveRun(
            total=total,
            done=min(int(counts.get("done") or 0) + done, total),
            failed=int(counts.get("failed") or 0) + failed,
            cached=int(counts.get("cached") or 0) + cached,
            skipped=int(counts.get("skipped") or 0),
            spent_usd=float(counts.get("spent_usd") or 0.0) + spent_usd,
            unpriced=int(counts.get("unpriced") or 0) + unpriced,
            began=begins[-1].replace(tzinfo=UTC),
            last_event=at.replace(tzinfo=UTC),
            ended=ended,
            stopping=any(kind == "stop_asked" and at >= begins[-1] for kind, _, at in events),
            batches=counts.get("batches") or (),
        )

    return store.query(look)


def run_of_process(store: Store, pid: int, since: datetime) -> str | None:
    """The run that a process of this machine began or went on with since then."""
    if not store.exists():
        return None
    frame = store.read(
        "SELECT run_id FROM run_events WHERE kind = 'started' AND pid = ? AND created_at >= ? ORDER BY created_at DESC LIMIT 1",
        [pid, since.astimezone(UTC).replace(tzinfo=None)],
    )
    return None if frame.empty else str(frame["run_id"].iloc[0])


@dataclass(frozen=True)
class ModelHistory:
    """What a model's answers were like so far, per answer."""

    output_tokens: float | None
    latency_ms: float | None


def model_history(store: Store, models: Sequence[str], newest: int = 2_000) -> dict[str, ModelHistory]:
    """Means over the newest answers of each of these models (`provider:model`), for estimating what more will take."""
    if not store.exists():
        return {}
    frame = store.read(
        f"""
        SELECT model_used, avg(output_tokens) AS output_tokens, avg(latency_ms) AS latency_ms
        FROM (SELECT model_used, output_tokens, latency_ms FROM responses
              WHERE model_used IN (SELECT unnest(?)) AND status = 'completed' AND NOT cached
              ORDER BY created_at DESC LIMIT {int(newest) * max(len(models), 1)})
        GROUP BY model_used
        """,
        [list(models)],
    )
    return {
        str(row["model_used"]): ModelHistory(number(row["output_tokens"]), number(row["latency_ms"]))
        for row in frame.to_dict("records")
    }


def answers_of(store: Store, run_id: str, cases: int = 3) -> pd.DataFrame:
    """The answers of a small run in full, a row for each, in the order of the spec.

    Columns: case_id, external_id, input, variant_id, variant, repeat, output, status, error, latency_ms, cost_usd.

    Args:
        cases: only the first so many.
    """
    return store.read(
        """
        WITH listed AS (
            SELECT unnest(variants) AS variant_id, generate_subscripts(variants, 1) AS place FROM current_runs WHERE id = $1
        ), asked AS (
            SELECT request.id, request.case_id, request.variant_id, request.repeat, request.input, request.created_at,
                   dense_rank() OVER (ORDER BY first_asked, case_id) AS number
            FROM (SELECT *, min(created_at) OVER (PARTITION BY case_id) AS first_asked FROM requests WHERE run_id = $1) request
        )
        SELECT asked.case_id, item.external_id, asked.input, asked.variant_id, variant.name AS variant, asked.repeat,
               response.output, response.status, response.error, response.latency_ms, response.cost_usd
        FROM asked JOIN responses response ON response.request_id = asked.id JOIN listed USING (variant_id)
        LEFT JOIN current_variants variant ON variant.id = asked.variant_id
        LEFT JOIN current_cases item ON item.id = asked.case_id
        WHERE asked.number <= $2
        QUALIFY row_number() OVER (PARTITION BY asked.case_id, asked.variant_id, asked.repeat
            ORDER BY response.status = 'completed' DESC, response.created_at DESC, response.id DESC) = 1
        ORDER BY asked.number, listed.place, asked.repeat
        """,
        [run_id, cases],
    )


def responses_of(store: Store, run_id: str, case_id: str) -> list[str]:
    """Ids of all answers of a run to one case."""
    frame = store.read(
        """
        SELECT response.id FROM requests request JOIN responses response ON response.request_id = request.id
        WHERE request.run_id = ? AND request.case_id = ?
        """,
        [run_id, case_id],
    )
    return [str(id_) for id_ in frame["id"]]
