"""What people said of answers, gathered to labels that can be trained on: which of two is better, and which are good.

A label belongs to a *place* (a case; for requests without one, what was asked) and to texts, white space aside: votes on the same
two texts count together, whichever run or variant they came from. Its voices are all of one kind of rater; people go before
end users, and those before judges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from feedbackloop.queries.likeness import alike, find_leaks
from feedbackloop.store import Store

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Kind = Literal["pairs", "labels", "demonstrations"]
"""Which of two answers is better; whether an answer is good; answers worth imitating."""

Source = Literal["votes", "ratings", "corrections"]

THUMBS = "thumbs"
"""The metric of thumbs: 1 up, 0 down. All others are taken as going from 1 to 5."""


@dataclass(frozen=True)
class Wanted:
    """Whose word counts, and how sure it must be."""

    sources: tuple[Source, ...]
    task: str | None = None
    run: str | None = None
    """A run's whole id."""
    kinds: tuple[str, ...] = ("human", "user")
    raters: tuple[str, ...] = ()
    """Empty means all of these kinds."""
    blind_only: bool = True
    metric: str = "preference"
    """Of comparisons."""
    min_rating: float = 4.0
    """From here on a rating of 1 to 5 is a good one; a bad one is as far below 3 as this is above."""
    min_confidence: float = 0.85
    min_votes: int = 1
    min_agreement: float = 0.0
    min_margin: int = 0
    every_vote: bool = False
    """Count all that a rater says of the same two texts, not only the newest."""


@dataclass(frozen=True)
class Gathered:
    """What came together; the labels that may be used stand in Parquet files, one place after the other, the surest first."""

    labels: int
    """All of them, dropped ones included."""
    dropped: dict[str, int]
    single_voices: int
    """Labels that were dropped as not sure enough and rest on one voice."""
    held_out: int
    """Cases held out for tests."""
    files: tuple[Path, ...]
    """In order; none where there is nothing to write."""


# Answers are told apart by their texts: 64 bits are enough within a place.
_WORDS = "md5_number_lower(trim({}, ' ' || chr(9) || chr(10) || chr(13)))"

_COUNTED = "list_contains($kinds, rater_kind) AND (len($raters) = 0 OR list_contains($raters, rater))"

_VOTES = f"""
    CREATE OR REPLACE TEMP TABLE cast_votes AS
    SELECT id, response_a, response_b, winner, rater, rater_kind, created_at FROM current_comparisons
    WHERE {_COUNTED} AND (blind OR NOT $blind_only) AND metric = $metric AND ($task IS NULL OR task = $task) AND $votes
"""

_RATINGS = f"""
    CREATE OR REPLACE TEMP TABLE cast_ratings AS
    SELECT id, response_id, metric, value, correction, rater, rater_kind, blind, created_at FROM current_ratings
    WHERE {_COUNTED} AND error IS NULL AND metric <> 'issue'
      AND (value IS NOT NULL AND $ratings AND (blind OR NOT $blind_only) OR trim(correction) <> '' AND $corrections)
"""

# The long column `messages` is read only where there is no case.
_SHOWN = f"""
    CREATE OR REPLACE TEMP TABLE shown AS
    SELECT response.id, request.task, request.place, {_WORDS.format("response.output")} AS words
    FROM responses response JOIN (
        SELECT id, run_id, task, purpose, case_id AS place FROM requests WHERE case_id IS NOT NULL
        UNION ALL
        SELECT id, run_id, task, purpose, 'request ' || md5(input || CAST(messages AS VARCHAR))
        FROM requests WHERE case_id IS NULL
    ) request ON request.id = response.request_id
    WHERE response.id IN (SELECT response_a FROM cast_votes UNION SELECT response_b FROM cast_votes
                          UNION SELECT response_id FROM cast_ratings)
      AND response.status = 'completed' AND request.purpose IN ('answer', 'shadow')
      AND ($run IS NULL OR request.run_id = $run)
"""

_VOICES = """
    CREATE OR REPLACE TEMP TABLE voices AS
    SELECT vote.id, a.place, vote.rater, vote.rater_kind AS source, vote.created_at,
           least(a.words, b.words) AS first, greatest(a.words, b.words) AS second,
           CASE WHEN a.words <= b.words THEN a.id ELSE b.id END AS first_response,
           CASE WHEN a.words <= b.words THEN b.id ELSE a.id END AS second_response,
           CASE WHEN winner = 'tie' THEN 0 WHEN winner = 'both_bad' THEN NULL
                WHEN (winner = 'a') = (a.words <= b.words) THEN 1 ELSE -1 END AS value
    FROM cast_votes vote JOIN shown a ON a.id = vote.response_a JOIN shown b ON b.id = vote.response_b
    WHERE a.place = b.place
    QUALIFY $every_vote OR row_number() OVER (
        PARTITION BY a.place, first, second, vote.rater, vote.rater_kind ORDER BY vote.created_at DESC, vote.id DESC) = 1
"""

# A voice on two texts: 1 for the first, -1 for the second, 0 for neither, null for both bad ...
_ON_PAIRS = """
    SELECT place, first, second, source, rater, created_at, id, true AS is_vote, value, first_response AS response,
           second_response AS other FROM voices
"""

# ... and on one. Losing says that the other was better, both bad says it of both: what KTO learns is which answers to leave.
_ON_ANSWERS = f"""
    SELECT place, first, 0::UBIGINT AS second, source, rater, created_at, id, true AS is_vote,
           coalesce(value, -1) AS value, first_response AS response, NULL::VARCHAR AS other
    FROM voices WHERE first <> second
    UNION ALL
    SELECT place, second, 0, source, rater, created_at, id, true, coalesce(-value, -1), second_response, NULL
    FROM voices WHERE first <> second
    UNION ALL
    SELECT shown.place, shown.words, 0, rater_kind, rater, created_at, rating.id, false,
           CASE WHEN metric = '{THUMBS}' THEN CASE WHEN value >= 0.5 THEN 1 ELSE -1 END
                WHEN value >= $min_rating THEN 1 WHEN value <= 6 - $min_rating THEN -1 ELSE 0 END,
           response_id, NULL
    FROM cast_ratings rating JOIN shown ON shown.id = rating.response_id
    WHERE value IS NOT NULL AND $ratings AND (blind OR NOT $blind_only) AND ($task IS NULL OR shown.task = $task)
    QUALIFY row_number() OVER (PARTITION BY response_id, metric, rater ORDER BY created_at DESC, rating.id DESC) = 1
"""

# The first text is the correction, the second what it replaces.
_ON_CORRECTIONS = f"""
    SELECT shown.place, {_WORDS.format("correction")} AS first, shown.words AS second, 'correction' AS source, rater,
           created_at, rating.id, false AS is_vote, 1 AS value, response_id AS response, response_id AS other
    FROM cast_ratings rating JOIN shown ON shown.id = rating.response_id
    WHERE trim(correction) <> '' AND $corrections AND ($task IS NULL OR shown.task = $task)
    QUALIFY row_number() OVER (PARTITION BY response_id, rater ORDER BY created_at DESC, rating.id DESC) = 1
"""

# No lists yet: what a million labels rest on would have to be held in memory.
_LABELS = """
    CREATE OR REPLACE TEMP TABLE labels AS
    SELECT place, first, second, source, greatest(won, lost) AS up, least(won, lost) AS down, ties, bad,
           $pairs OR won > lost AS label, CASE WHEN NOT $pairs OR won >= lost THEN response ELSE other END AS good,
           CASE WHEN won >= lost THEN other ELSE response END AS worse, correction_id
    FROM (
        SELECT place, first, second, source, count(*) FILTER (value > 0) AS won, count(*) FILTER (value < 0) AS lost,
               count(*) FILTER (value = 0) AS ties, count(*) FILTER (value IS NULL) AS bad, min(response) AS response,
               min(other) AS other, CASE WHEN source = 'correction' THEN min(id) END AS correction_id
        FROM spoken GROUP BY place, first, second, source
        QUALIFY row_number() OVER (PARTITION BY place, first, second, source = 'correction'
                                   ORDER BY list_position(['human', 'user', 'judge', 'grader'], source)) = 1
    )
"""

# The first reason that holds is the one that is told.
_JUDGED = """
    CREATE OR REPLACE TEMP TABLE judged AS
    SELECT labels.*, q, CASE
        WHEN EXISTS (FROM reached WHERE reached.place = labels.place AND held_out_id = labels.place) THEN 'held_out'
        WHEN $pairs AND first = second THEN 'identical'
        WHEN bad > 0 THEN 'both_bad'
        WHEN NOT $pairs AND source <> 'correction' AND EXISTS (
            FROM labels other WHERE other.source = 'correction' AND other.place = labels.place AND other.second = labels.first
        ) THEN 'corrected'
        WHEN up = down THEN 'tied'
        WHEN $demonstrations AND NOT label THEN 'not_preferred'
        WHEN source = 'correction' THEN NULL
        WHEN up + down + ties < $min_votes THEN 'too_few_votes'
        WHEN up < $min_agreement * (up + down + ties) THEN 'low_agreement'
        WHEN up - down < $min_margin THEN 'low_margin'
        WHEN q < $min_confidence THEN 'low_confidence' END AS reason
    FROM labels JOIN posterior USING (up, down, ties)
"""

_USABLE = """
    CREATE OR REPLACE TEMP TABLE usable AS
    SELECT *, row_number() OVER (
        ORDER BY place, source = 'correction' DESC, q DESC, up - down DESC, first, second) - 1 AS number
    FROM judged WHERE reason IS NULL
"""

_PART_ROWS = 20_000
"""Rows that are joined with their texts at a time: each time reads all answers once."""

# What a part needs is picked out first, by small joins: left to itself, DuckDB builds its tables of all answers.
_PICKED = (
    "CREATE OR REPLACE TEMP TABLE part AS FROM usable WHERE number BETWEEN $from_row AND $to_row",
    """
    CREATE OR REPLACE TEMP TABLE part_answers AS SELECT id, request_id, output, finish_reason, truncated FROM responses
    WHERE id IN (SELECT good FROM part UNION SELECT worse FROM part)
    """,
    """
    CREATE OR REPLACE TEMP TABLE part_requests AS
    SELECT id, case_id, variant_id, input, CAST(messages AS VARCHAR) AS messages FROM requests
    WHERE id IN (SELECT request_id FROM part_answers)
    """,
    """
    CREATE OR REPLACE TEMP TABLE part_cases AS SELECT id, external_id, segment FROM cases WHERE id IN (SELECT place FROM part)
    QUALIFY row_number() OVER (PARTITION BY id ORDER BY created_at DESC) = 1
    """,
    """
    CREATE OR REPLACE TEMP TABLE part_voices AS
    SELECT number, coalesce(list(id ORDER BY created_at, id) FILTER (is_vote), []) AS votes,
           coalesce(list(id ORDER BY created_at, id) FILTER (NOT is_vote), []) AS ratings,
           list_sort(list(DISTINCT rater)) AS raters
    FROM spoken JOIN part USING (place, first, second, source) GROUP BY number
    """,
)

_PART = f"""
    SELECT part.place, request.case_id, item.external_id, item.segment, variant.name AS variant,
           other_variant.name AS other_variant, part.source, part.label, q, up, down, ties, votes, ratings, raters, good, worse,
           correcting.correction, request.input, request.messages, answer.output, answer.finish_reason, answer.truncated,
           other.output AS other_output, other.finish_reason AS other_finish_reason, other.truncated AS other_truncated,
           other_request.input = request.input AND other_request.messages = request.messages AS same_prompt,
           {alike("coalesce(correcting.correction, answer.output)", "other.output")}, near.held_out_id
    FROM part JOIN part_voices voice USING (number)
    JOIN part_answers answer ON answer.id = part.good JOIN part_requests request ON request.id = answer.request_id
    LEFT JOIN part_answers other ON other.id = part.worse
    LEFT JOIN part_requests other_request ON other_request.id = other.request_id
    LEFT JOIN cast_ratings correcting ON correcting.id = part.correction_id
    LEFT JOIN part_cases item ON item.id = request.case_id
    LEFT JOIN current_variants variant ON variant.id = request.variant_id
    LEFT JOIN current_variants other_variant ON other_variant.id = other_request.variant_id
    LEFT JOIN reached near ON near.place = part.place
    ORDER BY part.number
"""


def gather(
    store: Store, kind: Kind, wanted: Wanted, folder: Path, *, confidence: Callable[[int, int, int], float]
) -> Gathered:
    """Bring labels together, and write those that are sure enough to Parquet files in a folder, with their texts.

    Args:
        folder: an empty one; it gets the files that `Gathered.files` names.
        confidence: the probability that a label is right, by voices for it, against it and undecided.
    """
    return store.query(lambda connection: _gather(connection, kind, wanted, folder, confidence))


def _gather(
    connection: DuckDBPyConnection,
    kind: Kind,
    wanted: Wanted,
    folder: Path,
    confidence: Callable[[int, int, int], float],
) -> Gathered:
    given = {
        **{source: source in wanted.sources for source in ("votes", "ratings", "corrections")},
        **{
            name: getattr(wanted, name)
            for name in (
                "task", "run", "blind_only", "metric", "min_rating", "every_vote",
                "min_confidence", "min_votes", "min_agreement", "min_margin",
            )
        },
        "kinds": list(wanted.kinds),
        "raters": list(wanted.raters),
        "pairs": kind == "pairs",
        "demonstrations": kind == "demonstrations",
    }  # fmt: skip
    voices = _ON_PAIRS if kind == "pairs" else _ON_ANSWERS
    spoken = f"CREATE OR REPLACE TEMP TABLE spoken AS FROM ({voices}) UNION ALL FROM ({_ON_CORRECTIONS})"
    for query in (_VOTES, _RATINGS, _SHOWN, _VOICES, spoken, _LABELS):
        _run(connection, query, given)
    connection.execute(
        """
        CREATE OR REPLACE TEMP TABLE asked AS SELECT labels.place, request.input FROM labels
        JOIN responses answer ON answer.id = labels.good JOIN requests request ON request.id = answer.request_id
        WHERE request.case_id IS NULL
        """
    )
    held_out = find_leaks(connection)
    counts = connection.execute("SELECT DISTINCT up, down, ties FROM labels").fetchall()
    connection.register("posterior", _posterior(counts, confidence))
    try:
        _run(connection, _JUDGED, given)
    finally:
        connection.unregister("posterior")
    reasons = connection.execute(
        "SELECT reason, count(*), count(*) FILTER (up + down + ties = 1) FROM judged GROUP BY reason ORDER BY reason"
    ).fetchall()
    return Gathered(
        labels=sum(number for _, number, _ in reasons),
        dropped={reason: number for reason, number, _ in reasons if reason is not None},
        single_voices=sum(single for reason, _, single in reasons if reason == "low_confidence"),
        held_out=held_out,
        files=tuple(_write(connection, folder, sum(number for reason, number, _ in reasons if reason is None))),
    )


def _write(connection: DuckDBPyConnection, folder: Path, rows: int) -> Iterator[Path]:
    connection.execute(_USABLE)
    for number, first in enumerate(range(0, rows, _PART_ROWS)):
        file = folder / f"{number:06}.parquet"
        place = str(file).replace("'", "''")
        given = {"from_row": first, "to_row": first + _PART_ROWS - 1}
        for query in _PICKED:
            _run(connection, query, given)
        connection.execute(f"COPY ({_PART}) TO '{place}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 2048)")
        yield file


def _run(connection: DuckDBPyConnection, query: str, given: dict[str, Any]) -> None:
    # DuckDB refuses a parameter that the query does not name.
    connection.execute(query, {name: value for name, value in given.items() if f"${name}" in query})


def _posterior(counts: list[Any], confidence: Callable[[int, int, int], float]) -> pa.Table:
    return pa.table(
        {
            "up": pa.array([row[0] for row in counts], pa.int64()),
            "down": pa.array([row[1] for row in counts], pa.int64()),
            "ties": pa.array([row[2] for row in counts], pa.int64()),
            "q": pa.array([confidence(*row) for row in counts], pa.float64()),
        }
    )
