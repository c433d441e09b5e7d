"""The tables and views behind the records: columns derived from the classes, a stored version, migrations in order."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

import duckdb
import pyarrow as pa

from feedbackloop.errors import StoreError
from feedbackloop.models import TABLES, Record

_ARROW: dict[str, pa.DataType] = {
    "VARCHAR": pa.string(),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "TIMESTAMP": pa.timestamp("us"),
    "VARCHAR[]": pa.list_(pa.string()),
    "JSON": pa.string(),
}


@dataclass(frozen=True)
class Column:
    """A column's type in SQL, and in the Arrow table that rows are written from."""

    type: str
    arrow: pa.DataType


@cache
def columns(record: type[Record]) -> dict[str, Column]:
    """Column name to type, in the order of the fields; fields that are excluded from dumps are not stored."""
    made = {}
    for name, field in record.model_fields.items():
        if not field.exclude:
            kind = _sql_type(field.annotation)
            made[name] = Column(kind, _ARROW[kind])
    return made


@cache
def identity(record: type[Record]) -> tuple[str, ...]:
    """The columns that make a row the same row. Tasks, cases and variants have a row for each edit, so time is part of it."""
    if "id" not in record.model_fields:
        return ("name", "created_at")
    return ("id", "created_at") if record.__name__ in {"Case", "Variant"} else ("id",)


def _sql_type(annotation: Any) -> str:
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [argument for argument in get_args(annotation) if argument is not type(None)]
        return _sql_type(inner[0]) if len(inner) == 1 else "JSON"
    if get_origin(annotation) is Literal:
        return "VARCHAR"
    if annotation == list[str]:
        return "VARCHAR[]"
    if isinstance(annotation, type):
        if issubclass(annotation, StrEnum):
            return "VARCHAR"
        # bool before int, whose subclass it is.
        for python, sql in (
            (str, "VARCHAR"),
            (bool, "BOOLEAN"),
            (int, "BIGINT"),
            (float, "DOUBLE"),
            (datetime, "TIMESTAMP"),
        ):
            if annotation is python:
                return sql
    return "JSON"


# What a person would call the input of a case: its variable `input`, its only variable, its last message, or all it has.
_INPUT = """
    CASE WHEN item.inputs->>'input' IS NOT NULL THEN item.inputs->>'input'
         WHEN len(json_keys(item.inputs)) = 1 THEN item.inputs->>(json_keys(item.inputs)[1])
         WHEN len(json_keys(item.inputs)) = 0 THEN item.messages->>'$[#-1].content'
         ELSE CAST(item.inputs AS VARCHAR) END
"""

VIEWS = {
    # A cell is (run, case, variant, repeat); its current answer is the newest completed one, else the newest failure.
    "current_responses": """
        SELECT request.run_id, request.case_id, request.variant_id, request.repeat, request.task, request.key,
               request.purpose, request.user_id, response.*
        FROM responses response JOIN requests request ON request.id = response.request_id
        QUALIFY request.run_id IS NULL OR row_number() OVER (
            PARTITION BY request.run_id, request.case_id, request.variant_id, request.repeat
            ORDER BY response.status = 'completed' DESC, response.created_at DESC, response.id DESC) = 1
    """,
    "current_cases": """
        SELECT * FROM cases QUALIFY row_number() OVER (PARTITION BY id ORDER BY created_at DESC) = 1
    """,
    "current_variants": """
        SELECT * FROM variants QUALIFY row_number() OVER (PARTITION BY id ORDER BY created_at DESC) = 1
    """,
    # What is added to a run is a further row of it; it began with the first one.
    "current_runs": """
        SELECT * EXCLUDE (began, place) REPLACE (began AS created_at) FROM (
            SELECT *, min(created_at) OVER (PARTITION BY id) AS began,
                   row_number() OVER (PARTITION BY id ORDER BY created_at DESC) AS place FROM runs
        ) WHERE place = 1
    """,
    "current_ratings": """
        SELECT rating.* FROM ratings rating
        WHERE NOT EXISTS (FROM ratings later WHERE later.supersedes = rating.id)
          AND NOT (rating.supersedes IS NOT NULL AND rating.value IS NULL AND rating.label IS NULL
                   AND rating.correction IS NULL AND rating.comment IS NULL)
    """,
    "current_comparisons": """
        SELECT comparison.* FROM comparisons comparison
        WHERE NOT EXISTS (FROM comparisons later WHERE later.supersedes = comparison.id)
          AND comparison.winner IS NOT NULL
    """,
    "answers": """
        WITH sides AS (
            SELECT response_a AS response_id, CASE winner WHEN 'a' THEN 1.0 WHEN 'b' THEN 0.0 ELSE 0.5 END AS win
            FROM current_comparisons WHERE blind
            UNION ALL
            SELECT response_b, CASE winner WHEN 'b' THEN 1.0 WHEN 'a' THEN 0.0 ELSE 0.5 END
            FROM current_comparisons WHERE blind
        ), wins AS (
            SELECT response_id, avg(win) AS win_rate, count(*) AS votes FROM sides GROUP BY response_id
        ), rated AS (
            SELECT response_id,
                   avg(value) FILTER (rater_kind IN ('human', 'user') AND blind AND metric <> 'issue') AS mean_rating,
                   avg(value) FILTER (rater_kind = 'grader' AND value BETWEEN 0 AND 1) AS checks,
                   coalesce(list(DISTINCT label) FILTER (metric = 'issue' AND label IS NOT NULL), []) AS issues
            FROM current_ratings GROUP BY response_id
        ), graded AS (
            SELECT response_id, json_group_object(metric, grade) AS grades FROM (
                SELECT response_id, metric, coalesce(to_json(avg(value)), to_json(max(label))) AS grade
                FROM current_ratings WHERE rater_kind = 'grader' GROUP BY response_id, metric
            ) GROUP BY response_id
        )
        SELECT answer.task, answer.run_id, answer.case_id, item.external_id, item.segment,
               variant.name AS variant, answer.variant_id, answer.repeat,
               {input} AS input, item.inputs,
               item.expected, answer.output, answer.status, answer.error_type, answer.error,
               answer.model_used, answer.provider_model, answer.latency_ms, answer.total_ms, answer.ttft_ms,
               CASE WHEN answer.latency_ms > answer.ttft_ms AND answer.output_tokens > 1
                    THEN greatest(answer.output_tokens - coalesce(answer.reasoning_tokens, 0) - 1, 0) * 1000.0
                         / (answer.latency_ms - answer.ttft_ms) END AS tokens_per_s,
               answer.input_tokens, answer.output_tokens, answer.tokens_used, answer.cost_usd, answer.spent_usd,
               answer.cached, answer.finish_reason, graded.grades, rated.checks, rated.mean_rating,
               coalesce(rated.issues, []) AS issues, wins.win_rate, coalesce(wins.votes, 0) AS votes,
               answer.purpose, answer.user_id, answer.created_at, answer.request_id, answer.id AS response_id
        FROM current_responses answer
        LEFT JOIN current_cases item ON item.id = answer.case_id
        LEFT JOIN current_variants variant ON variant.id = answer.variant_id
        LEFT JOIN rated ON rated.response_id = answer.id
        LEFT JOIN graded ON graded.response_id = answer.id
        LEFT JOIN wins ON wins.response_id = answer.id
    """,
    "votes": """
        SELECT comparison.task, comparison.metric, comparison.case_id, item.external_id, item.segment,
               first.name AS variant_a, second.name AS variant_b, comparison.winner,
               CASE comparison.winner WHEN 'a' THEN first.name WHEN 'b' THEN second.name END AS winning_variant,
               comparison.rater, comparison.rater_kind, comparison.blind, comparison.seconds, comparison.comment,
               {input} AS input,
               answer_a.output AS output_a, answer_b.output AS output_b,
               answer_a.run_id, comparison.queue, comparison.a_shown_left, comparison.pair_propensity,
               comparison.created_at, answer_a.created_at AS answered_at,
               comparison.variant_a AS variant_a_id, comparison.variant_b AS variant_b_id,
               comparison.response_a, comparison.response_b, comparison.id
        FROM current_comparisons comparison
        LEFT JOIN current_cases item ON item.id = comparison.case_id
        LEFT JOIN current_variants first ON first.id = comparison.variant_a
        LEFT JOIN current_variants second ON second.id = comparison.variant_b
        LEFT JOIN (SELECT response.id, response.output, response.created_at, request.run_id
                   FROM responses response JOIN requests request ON request.id = response.request_id) answer_a
               ON answer_a.id = comparison.response_a
        LEFT JOIN responses answer_b ON answer_b.id = comparison.response_b
    """,
}
"""What people write SQL against. `answers` and `votes` are documented column by column in the README."""


def create(connection: duckdb.DuckDBPyConnection) -> None:
    """Version 1: all tables. No key and no index: they would make each insert pay for the file's size."""
    for table, record in TABLES.items():
        body = ", ".join(f"{name} {column.type}" for name, column in columns(record).items())
        connection.execute(f"CREATE TABLE {table} ({body})")


def describe_queues(connection: duckdb.DuckDBPyConnection) -> None:
    """Version 2: a queue says which cases, which runs and which criteria it is about."""
    for name in ("cases", "runs", "criteria"):
        connection.execute(f"ALTER TABLE queues ADD COLUMN IF NOT EXISTS {name} VARCHAR[] DEFAULT []")


def rule_queues(connection: duckdb.DuckDBPyConnection) -> None:
    """Version 3: a queue says by which rule it decides."""
    connection.execute("ALTER TABLE queues ADD COLUMN IF NOT EXISTS rule JSON DEFAULT '{}'")


def extend_runs(connection: duckdb.DuckDBPyConnection) -> None:
    """Version 4: a run may have several rows, and answers tell their speed: both are views, which each version writes anew."""


def sample_queues(connection: duckdb.DuckDBPyConnection) -> None:
    """Version 5: a queue of so many pairs says which ones."""
    connection.execute("ALTER TABLE queues ADD COLUMN IF NOT EXISTS slots JSON DEFAULT '[]'")


MIGRATIONS: list[Callable[[duckdb.DuckDBPyConnection], None]] = [
    create,
    describe_queues,
    rule_queues,
    extend_runs,
    sample_queues,
]
"""Each takes a store from one version to the next, in a transaction of its own. Never edit one that was released."""


def migrate(connection: duckdb.DuckDBPyConnection, url: str) -> None:
    """Bring a store to the present schema; a new file gets it whole.

    Raises:
        StoreError: the file was written by a newer feedbackloop, or holds something else.
    """
    connection.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'main'")
    present = {row[0] for row in connection.fetchall()}
    if not present:
        with _transaction(connection):
            create_whole(connection)
            create_views(connection)
        return
    version = 0
    if "schema_version" in present:
        connection.execute("SELECT max(version) FROM schema_version")
        version = int(connection.fetchall()[0][0] or 0)
    if not version:
        raise StoreError(
            f"{url}: this DuckDB file holds other tables ({', '.join(sorted(present)[:3])}); choose another file for the store"
        )
    upgrade(connection, url, version)


def upgrade(connection: duckdb.DuckDBPyConnection, url: str, version: int, *, views: bool = True) -> None:
    """Bring a store from this version to the present one.

    Args:
        views: keep the views in the store itself.

    Raises:
        StoreError: the store was written by a newer feedbackloop.
    """
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{url}: this store was written by a newer feedbackloop; upgrade with pip install -U feedbackloop"
        )
    for number, step in enumerate(MIGRATIONS[version:], start=version + 1):
        with _transaction(connection):
            step(connection)
            # Views hold no data: they are simply written anew with each version.
            if views:
                create_views(connection)
            connection.execute("INSERT INTO schema_version (version) VALUES (?)", [number])


@contextlib.contextmanager
def _transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    connection.begin()
    try:
        yield
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def create_whole(connection: duckdb.DuckDBPyConnection) -> None:
    """The tables of a new store as all the migrations together would make them, within a transaction of the caller's."""
    connection.execute("CREATE TABLE schema_version (version BIGINT, created_at TIMESTAMP DEFAULT current_timestamp)")
    create(connection)
    connection.execute("INSERT INTO schema_version (version) VALUES (?)", [len(MIGRATIONS)])


def create_views(connection: duckdb.DuckDBPyConnection, prefix: str = "") -> None:
    """Write the views.

    Args:
        prefix: goes before their names, where they live elsewhere than the tables.
    """
    for name, query in VIEWS.items():
        connection.execute(f"CREATE OR REPLACE VIEW {prefix}{name} AS {query.replace('{input}', _INPUT)}")
