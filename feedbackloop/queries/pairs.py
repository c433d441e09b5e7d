"""What queues consist of, who has judged what of them, and what a rater has seen: all that dealing out pairs must know.

Functions that take a connection are for use under a lease that the caller holds: check and insert are one step there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from feedbackloop.models import Assignment, Case, Queue
from feedbackloop.rows import AnyRecord, from_rows
from feedbackloop.store import Store

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SECONDS_PER_VOTE = 20.0
"""Until there are a few votes to go by."""

FEWEST_TIMED = 3
"""One vote in haste says nothing of how long twenty take."""

_TIMED = 200
"""The pace is that of so many votes, the last ones."""


@dataclass(frozen=True)
class CaseAnswers:
    """The answers to one case that a queue may show: one of each variant that has one."""

    case_id: str
    places: tuple[int, ...]
    """Which of the queue's variants, ascending."""
    responses: tuple[str, ...]
    marks: tuple[int, ...]
    """Equal where the texts are equal but for white space at their ends; comparable within one reading only."""


@dataclass(frozen=True)
class Judged:
    """A verdict that stands: this rater has judged these answers of a queue."""

    case_id: str
    variants: tuple[str, ...]
    rater: str
    id: str
    """Of the comparison; of a single answer's rating, the one that completed it."""


@dataclass(frozen=True)
class Rated:
    """This rater has rated a single answer in a queue."""

    response_id: str
    rater: str
    id: str
    """Of the rating that completed it."""


@dataclass(frozen=True)
class Exposed:
    """An answer that this rater has seen with its name, and its text."""

    case_id: str
    response_id: str
    text: str


STANDS = "NOT EXISTS (FROM {table} later WHERE later.supersedes = {alias}.id)"
"""SQL for: nothing replaced this row of ratings or comparisons."""

# DuckDB's trim takes off spaces alone.
_BLANK = " \t\n\r\f\v\u00a0\u3000"

_OF_CASES = " AND ($cases IS NULL OR case_id IN (SELECT unnest($cases)))"


def records(
    connection: DuckDBPyConnection, record: type[AnyRecord], query: str, parameters: dict[str, Any]
) -> list[AnyRecord]:
    """One query's rows as records, under the caller's lease."""
    connection.execute(query, _named(query, parameters))
    return from_rows(record, [column[0] for column in connection.description or ()], connection.fetchall())


def case_order(store: Store, queue: Queue) -> list[str]:
    """The cases whose answers a queue can show, in the order of its seed: equal seeds, equal order.

    For pairs these are cases that at least two of the variants were asked; whether all of them answered is not looked at, since a
    million answers would have to be read for that.
    """
    query = f"""
        SELECT case_id FROM requests
        WHERE task = $task AND purpose = 'answer' AND case_id IS NOT NULL AND variant_id IN (SELECT unnest($variants))
          {"AND run_id IN (SELECT unnest($runs))" if queue.runs else ""}
          {"AND case_id IN (SELECT unnest($cases))" if queue.cases else ""}
        GROUP BY case_id {"" if queue.purpose == "single" else "HAVING min(variant_id) <> max(variant_id)"}
        ORDER BY md5($seed || case_id), case_id
    """
    parameters = {
        "task": queue.task,
        "variants": queue.variants,
        "runs": queue.runs,
        "cases": queue.cases,
        "seed": f"{queue.seed}:",
    }

    def work(connection: DuckDBPyConnection) -> list[str]:
        connection.execute(query, _named(query, parameters))
        return [row[0] for row in connection.fetchall()]

    return store.query(work)


def case_answers(store: Store, queue: Queue, case_ids: Sequence[str]) -> list[CaseAnswers]:
    """Which answers a queue may show of these cases, in their order: of each variant the newest completed one.

    An answer taken from an earlier run stands back behind the one it repeats, so that a text that was judged is known again.
    """
    query = f"""
        WITH listed AS (SELECT unnest($variants) AS variant_id, generate_subscripts($variants, 1) - 1 AS place),
        wanted AS (SELECT unnest($cases) AS case_id, generate_subscripts($cases, 1) AS number),
        asked AS (
            SELECT request.id, wanted.case_id, wanted.number, listed.place
            FROM requests request JOIN wanted USING (case_id) JOIN listed USING (variant_id)
            WHERE request.task = $task AND request.purpose = 'answer'
              {"AND request.run_id IN (SELECT unnest($runs))" if queue.runs else ""}
        ), answer AS (
            SELECT asked.case_id, asked.number, asked.place,
                   arg_max({{id: response.id, mark: hash(trim(response.output, $blank))}},
                           (NOT response.cached, response.created_at, response.id)) AS got
            FROM asked JOIN responses response ON response.request_id = asked.id
            WHERE response.status = 'completed' GROUP BY ALL
        )
        SELECT case_id, list(place ORDER BY place), list(got.id ORDER BY place), list(got.mark ORDER BY place)
        FROM answer GROUP BY case_id, number ORDER BY number
    """
    parameters = {
        "task": queue.task,
        "variants": queue.variants,
        "runs": queue.runs,
        "cases": list(case_ids),
        "blank": _BLANK,
    }

    def work(connection: DuckDBPyConnection) -> list[Any]:
        connection.execute(query, _named(query, parameters))
        return connection.fetchall()

    return [
        CaseAnswers(case_id, tuple(places), tuple(responses), tuple(marks))
        for case_id, places, responses, marks in store.query(work)
    ]


def judged(connection: DuckDBPyConnection, queue: Queue, case_ids: Sequence[str] | None = None) -> list[Judged]:
    """The verdicts that stand in a queue, on some cases or on all."""
    if queue.purpose == "single":
        return _rated(connection, queue)
    query = f"""
        SELECT case_id, variant_a, variant_b, rater, id FROM comparisons mine
        WHERE queue = $queue AND winner IS NOT NULL {_OF_CASES}
          AND {STANDS.format(table="comparisons", alias="mine")}
    """
    connection.execute(query, {"queue": queue.id, "cases": None if case_ids is None else list(case_ids)})
    return [Judged(case_id, (a, b), rater, id_) for case_id, a, b, rater, id_ in connection.fetchall()]


def rated(connection: DuckDBPyConnection, queue: Queue, response_ids: Sequence[str] | None = None) -> list[Rated]:
    """Single answers that have all the ratings that the queue asks for: some of them, or all."""
    query = f"""
        SELECT response_id, rater, arg_max(id, created_at) FROM ratings rating
        WHERE queue = $queue AND value IS NOT NULL AND list_contains($metrics, metric)
          AND ($ids IS NULL OR response_id IN (SELECT unnest($ids)))
          AND {STANDS.format(table="ratings", alias="rating")}
        GROUP BY response_id, rater HAVING count(DISTINCT metric) = len($metrics)
    """
    ids = None if response_ids is None else list(response_ids)
    connection.execute(query, {"queue": queue.id, "metrics": metrics(queue), "ids": ids})
    return [Rated(*row) for row in connection.fetchall()]


def _rated(connection: DuckDBPyConnection, queue: Queue) -> list[Judged]:
    found = rated(connection, queue)
    if not found:
        return []
    query = """
        SELECT response.id, request.case_id, request.variant_id
        FROM responses response JOIN requests request ON request.id = response.request_id
        WHERE response.id IN (SELECT unnest(?))
    """
    connection.execute(query, [[one.response_id for one in found]])
    places = {id_: (case_id, variant) for id_, case_id, variant in connection.fetchall()}
    return [Judged(place[0], (place[1],), one.rater, one.id) for one in found if (place := places.get(one.response_id))]


def metrics(queue: Queue) -> list[str]:
    """What a single answer is rated on in a queue: its criteria, else a thumb."""
    return queue.criteria or ["thumbs"]


def assignments(
    connection: DuckDBPyConnection, queue_id: str, case_ids: Sequence[str] | None = None
) -> list[Assignment]:
    """The newest assignment of each rater to each pair of a queue, on some cases or on all."""
    return records(
        connection,
        Assignment,
        f"""
        SELECT * FROM assignments WHERE queue = $queue {_OF_CASES}
        QUALIFY row_number() OVER (PARTITION BY case_id, pair, rater ORDER BY created_at DESC, expires DESC, id) = 1
        """,
        {"queue": queue_id, "cases": None if case_ids is None else list(case_ids)},
    )


def last_assignment(connection: DuckDBPyConnection, queue_id: str, rater: str) -> Assignment | None:
    """What a rater was given last in a queue."""
    found = records(
        connection,
        Assignment,
        "SELECT * FROM assignments WHERE queue = $queue AND rater = $rater ORDER BY created_at DESC, expires DESC, id LIMIT 1",
        {"queue": queue_id, "rater": rater},
    )
    return found[0] if found else None


def exposed(connection: DuckDBPyConnection, rater: str, case_ids: Sequence[str]) -> list[Exposed]:
    """The answers to these cases that a rater has seen with their names."""
    query = """
        SELECT DISTINCT case_id, unnest(response_ids) AS id FROM exposures
        WHERE rater = $rater AND case_id IN (SELECT unnest($cases))
    """
    connection.execute(query, {"rater": rater, "cases": list(case_ids)})
    seen = connection.fetchall()
    # The texts are looked up only where there is something: it takes a look at every answer's id.
    known = texts(connection, [id_ for _, id_ in seen]) if seen else {}
    return [Exposed(case_id, id_, known.get(id_, "")) for case_id, id_ in seen]


def texts(connection: DuckDBPyConnection, response_ids: Sequence[str]) -> dict[str, str]:
    """The answers' texts by id."""
    connection.execute("SELECT id, output FROM responses WHERE id IN (SELECT unnest(?))", [list(response_ids)])
    return dict(connection.fetchall())


def cases(connection: DuckDBPyConnection, ids: Sequence[str]) -> dict[str, Case]:
    """The cases as they stand now, by id."""
    found = records(
        connection,
        Case,
        """
        SELECT * FROM cases WHERE id IN (SELECT unnest($ids))
        QUALIFY row_number() OVER (PARTITION BY id ORDER BY created_at DESC) = 1
        """,
        {"ids": list(ids)},
    )
    return {case.id: case for case in found}


def compared(connection: DuckDBPyConnection, task: str, rater: str) -> set[frozenset[str]]:
    """The pairs of answers that a rater has judged already, wherever that was."""
    connection.execute(
        f"""
        SELECT response_a, response_b FROM comparisons mine
        WHERE task = $task AND rater = $rater AND rater_kind = 'human' AND winner IS NOT NULL
          AND {STANDS.format(table="comparisons", alias="mine")}
        """,
        {"task": task, "rater": rater},
    )
    return {frozenset(row) for row in connection.fetchall()}


def queues(store: Store, task: str | None = None) -> list[Queue]:
    """The queues of a task, newest first."""
    return store.load(
        Queue, "SELECT * FROM queues WHERE ? IS NULL OR task = ? ORDER BY created_at DESC, id", [task, task]
    )


@dataclass(frozen=True)
class Progress:
    """How far a queue is."""

    filled: int = 0
    """Verdicts that count towards what it asks for: of one pair not more than the raters it wants."""
    raters: tuple[str, ...] = ()
    """Who has judged, in alphabetical order."""


def queue_progress(store: Store, queues: Sequence[Queue]) -> dict[str, Progress]:
    """How far these queues are, by id; those that nobody has begun are not in it."""
    if not queues:
        return {}

    def work(connection: DuckDBPyConnection) -> dict[str, list[Judged]]:
        connection.execute("SELECT DISTINCT queue FROM assignments UNION SELECT DISTINCT queue FROM comparisons")
        begun = {row[0] for row in connection.fetchall()}
        return {queue.id: judged(connection, queue) for queue in queues if queue.id in begun}

    verdicts = store.query(work)
    made = {}
    for queue in queues:
        found = verdicts.get(queue.id)
        if found:
            each = Counter((one.case_id, one.variants) for one in found)
            filled = sum(min(count, queue.overlap) for count in each.values())
            made[queue.id] = Progress(filled, tuple(sorted({one.rater for one in found})))
    return made


def vote_seconds(store: Store, task: str) -> list[float]:
    """How long people took for each of the last votes on a task's answers, oldest first."""
    # A note, and what takes a vote back, are rows of their own with the vote's time.
    frame = store.read(
        """
        SELECT seconds FROM comparisons
        WHERE task = ? AND rater_kind = 'human' AND seconds > 0 AND supersedes IS NULL
        ORDER BY created_at DESC, id LIMIT ?
        """,
        [task, _TIMED],
    )
    return [float(seconds) for seconds in frame["seconds"]][::-1]


def pace(seconds: Sequence[float], usual: float = SECONDS_PER_VOTE) -> float:
    """Seconds that a verdict takes: the median of the last ones, or what is usual where there are hardly any."""
    return median(seconds[-_TIMED:]) if len(seconds) >= FEWEST_TIMED else usual


def seconds_per_vote(store: Store, task: str) -> float:
    """What a vote on a task's answers takes people, wherever it is told how long some will take."""
    return pace(vote_seconds(store, task))


def find_queue(store: Store, id_: str) -> Queue | None:
    """The queue with this id."""
    found = store.load(Queue, "SELECT * FROM queues WHERE id = ?", [id_])
    return found[0] if found else None


def _named(query: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Those parameters that a query names; DuckDB refuses more."""
    return {name: value for name, value in parameters.items() if f"${name}" in query}
