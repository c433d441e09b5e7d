"""What of a table is on the screen: the texts of some rows, everything about one case, and what a search finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from feedbackloop.models import AIResponse, Case, Comparison, Rating, Run
from feedbackloop.queries.table import Column
from feedbackloop.rows import AnyRecord, from_rows
from feedbackloop.store import Store

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

PREVIEW_CHARACTERS = 300

_CHOSEN = "(SELECT unnest(?) AS run_id, unnest(?) AS variant_id, unnest(?) AS place)"

# What a person would call the input of a case: of several variables the longest; never more of it than a row can show.
_INPUT = f"""
    left(CASE WHEN len(json_keys(inputs)) = 0 THEN messages->>'$[#-1].content'
              WHEN inputs->>'input' IS NOT NULL THEN inputs->>'input'
              WHEN len(json_keys(inputs)) = 1 THEN inputs->>(json_keys(inputs)[1])
              ELSE (SELECT max_by(value, len(value)) FROM unnest(inputs->>'$.*') AS parts(value)) END,
         {PREVIEW_CHARACTERS})
"""


@dataclass(frozen=True)
class Answer:
    """One answer, with all that was said of it."""

    repeat: int
    response: AIResponse
    ratings: tuple[Rating, ...]
    """As they stand now, oldest first: checks, issues, people's ratings, corrections, comments."""


@dataclass(frozen=True)
class OpenedCase:
    """A case and everything about it in some columns."""

    case: Case
    answers: tuple[tuple[Answer, ...], ...]
    """For each column its answers, by repeat; none where it was not answered."""
    votes: tuple[Comparison, ...]
    """On two of these answers, as they stand now, oldest first."""


@dataclass(frozen=True)
class Find:
    """A run in which something was found, and with how many answers."""

    run_id: str
    answers: int


def previews(store: Store, columns: Sequence[Column], case_ids: Sequence[str]) -> pd.DataFrame:
    """The beginnings of the texts of some cases, a row each in the order of `case_ids`.

    Columns: case_id, external_id, segment, input; and for the column at place n output_n, status_n (null if never answered), error_n,
    of its first repeat.
    """
    runs, variants, places = _lists(columns)

    def each(text: str) -> str:
        return ", ".join(text.replace("{n}", str(place)) for place in places)

    return store.read(
        f"""
        WITH wanted AS (SELECT unnest(?) AS case_id, generate_subscripts(?, 1) AS line),
        asked AS (
            SELECT request.id, request.case_id, chosen.place, request.repeat
            FROM requests request JOIN {_CHOSEN} chosen USING (run_id, variant_id) WHERE list_contains(?, request.case_id)
        ), answered AS (
            SELECT asked.case_id, asked.place, left(response.output, {PREVIEW_CHARACTERS}) AS output, response.status,
                   coalesce(response.error_type, response.error) AS error
            FROM asked JOIN responses response ON response.request_id = asked.id
            QUALIFY row_number() OVER (PARTITION BY asked.case_id, asked.place ORDER BY asked.repeat,
                response.status = 'completed' DESC, response.created_at DESC, response.id DESC) = 1
        ), pivoted AS (
            SELECT case_id, {each("any_value(output) FILTER (place = {n}) AS output_{n}")},
                   {each("any_value(status) FILTER (place = {n}) AS status_{n}")},
                   {each("any_value(error) FILTER (place = {n}) AS error_{n}")}
            FROM answered GROUP BY case_id
        ), known AS (
            SELECT id AS case_id, external_id, segment, {_INPUT} AS input FROM cases WHERE list_contains(?, id)
            QUALIFY row_number() OVER (PARTITION BY id ORDER BY created_at DESC) = 1
        )
        SELECT case_id, known.external_id, known.segment, known.input,
               {each("pivoted.output_{n}, pivoted.status_{n}, pivoted.error_{n}")}
        FROM wanted LEFT JOIN known USING (case_id) LEFT JOIN pivoted USING (case_id) ORDER BY wanted.line
        """,
        [list(case_ids), list(case_ids), runs, variants, places, list(case_ids), list(case_ids)],
    )


def opened(store: Store, columns: Sequence[Column], case_id: str) -> OpenedCase | None:
    """All about one case in these columns; None where the store has no such case."""
    return store.query(lambda connection: _opened(connection, columns, case_id))


def _opened(connection: DuckDBPyConnection, columns: Sequence[Column], case_id: str) -> OpenedCase | None:
    cases = _records(connection, Case, "SELECT * FROM cases WHERE id = ? ORDER BY created_at DESC LIMIT 1", [case_id])
    if not cases:
        return None
    cells = connection.execute(
        f"""
        SELECT chosen.place, request.repeat, request.id
        FROM requests request JOIN {_CHOSEN} chosen USING (run_id, variant_id) WHERE request.case_id = ?
        """,
        [*_lists(columns), case_id],
    ).fetchall()
    responses = _records(
        connection,
        AIResponse,
        "SELECT * FROM responses WHERE list_contains(?, request_id)",
        [[request for _, _, request in cells]],
    )
    responses.sort(key=lambda response: (response.status == "completed", response.created_at, response.id))
    place_of = {request: (place, repeat) for place, repeat, request in cells}
    # The last one of a cell is its current one.
    current = {place_of[response.request_id]: response for response in responses}
    ids = [response.id for response in current.values()]
    ratings = _records(
        connection,
        Rating,
        """
        SELECT * FROM ratings rating WHERE list_contains(?, response_id)
          AND id NOT IN (SELECT supersedes FROM ratings WHERE supersedes IS NOT NULL)
          AND NOT (supersedes IS NOT NULL AND value IS NULL AND label IS NULL AND correction IS NULL AND comment IS NULL)
        """,
        [ids],
    )
    ratings.sort(key=lambda rating: (rating.created_at, rating.id))
    votes = _records(
        connection,
        Comparison,
        """
        SELECT * FROM comparisons WHERE case_id = ? AND list_contains(?, response_a) AND list_contains(?, response_b)
          AND winner IS NOT NULL AND id NOT IN (SELECT supersedes FROM comparisons WHERE supersedes IS NOT NULL)
        """,
        [case_id, ids, ids],
    )
    votes.sort(key=lambda vote: (vote.created_at, vote.id))
    said: dict[str, list[Rating]] = {}
    for rating in ratings:
        said.setdefault(rating.response_id, []).append(rating)
    answers = tuple(
        tuple(
            Answer(repeat, response, tuple(said.get(response.id, ())))
            for (found, repeat), response in sorted(current.items(), key=lambda item: item[0])
            if found == place
        )
        for place in range(len(columns))
    )
    return OpenedCase(cases[0], answers, tuple(votes))


def search(store: Store, columns: Sequence[Column], text: str) -> frozenset[str]:
    """Ids of the cases of which the inputs, what is expected, the id or an answer contain a text, in whatever case."""
    runs, variants, places = _lists(columns)
    found = store.read(
        f"""
        WITH asked AS (
            SELECT hash(request.id) AS request, request.case_id
            FROM requests request JOIN {_CHOSEN} USING (run_id, variant_id)
        )
        SELECT DISTINCT asked.case_id FROM responses response JOIN asked ON asked.request = hash(response.request_id)
        WHERE contains(lower(response.output), lower(?))
        UNION
        SELECT id FROM cases
        WHERE id IN (SELECT case_id FROM asked) AND (external_id = ? OR contains(lower(concat_ws(chr(10),
            array_to_string(inputs->>'$.*', chr(10)), array_to_string(messages->>'$[*].content', chr(10)), expected->>'$')), lower(?)))
        """,
        [runs, variants, places, text, text, text],
    )
    return frozenset(str(case) for case in found["case_id"])


def task_runs(store: Store, task: str) -> list[Run]:
    """The runs of a task, newest first."""
    return store.load(Run, "SELECT * FROM current_runs WHERE task = ? ORDER BY created_at DESC, id", [task])


def runs_with_issue(store: Store, task: str, variant_id: str, label: str) -> list[Find]:
    """Where an issue was found with a variant, newest run first."""
    found = store.read(
        """
        SELECT request.run_id, count(DISTINCT response.id) AS answers
        FROM ratings rating JOIN responses response ON response.id = rating.response_id
        JOIN requests request ON request.id = response.request_id JOIN runs run ON run.id = request.run_id
        WHERE rating.metric = 'issue' AND rating.label = ? AND request.task = ? AND request.variant_id = ?
          AND rating.id NOT IN (SELECT supersedes FROM ratings WHERE supersedes IS NOT NULL)
        GROUP BY request.run_id ORDER BY max(run.created_at) DESC
        """,
        [label, task, variant_id],
    )
    return [
        Find(str(run), int(answers)) for run, answers in zip(found["run_id"], found["answers"].tolist(), strict=True)
    ]


def runs_with_case(store: Store, task: str, case_id: str) -> list[str]:
    """Ids of the runs in which a case was asked, newest first."""
    found = store.read(
        """
        SELECT run.id FROM current_runs run WHERE run.task = ?
          AND run.id IN (SELECT run_id FROM requests WHERE case_id = ?) ORDER BY run.created_at DESC
        """,
        [task, case_id],
    )
    return [str(run) for run in found["id"]]


def _lists(columns: Sequence[Column]) -> list[list[Any]]:
    return [[column.run_id for column in columns], [column.variant_id for column in columns], list(range(len(columns)))]


def _records(connection: DuckDBPyConnection, record: type[AnyRecord], query: str, values: list[Any]) -> list[AnyRecord]:
    connection.execute(query, values)
    return from_rows(record, [column[0] for column in connection.description or ()], connection.fetchall())
