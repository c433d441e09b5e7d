"""What people said of answers, gathered to labels that can be trained on: which of two is better, and which are good.

A label belongs to a *place* (a case; for requests without one, what was asked) and to texts, white space aside: votes on the same
two texts count together, whichever run or variant they came from. Its voices are all of one kind of rater; people go before
end users, and those before judges.
"""

from __future__ import annotations

from collections.abc import Callable
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
    """What came together; the labels that may be used stand in a Parquet file, one place after the other, the surest first."""

    labels: int
    """All of them, dropped ones included."""
    dropped: dict[str, int]
    single_voices: int
    """Labels that were dropped as not sure enough and rest on one voice."""
    held_out: int
    """Cases held out for tests."""


_NORMAL = r"md5(regexp_replace(trim({}), '\s+', ' ', 'g'))"

_SHOWN = f"""
    CREATE OR REPLACE TEMP TABLE shown AS
    SELECT response.id, request.case_id, request.task,
           coalesce(request.case_id, 'request ' || md5(request.input || CAST(request.messages AS VARCHAR))) AS place,
           {_NORMAL.format("response.output")} AS words
    FROM responses response JOIN requests request ON request.id = response.request_id
    WHERE response.id IN (SELECT response_a FROM cast_votes UNION SELECT response_b FROM cast_votes
                          UNION SELECT response_id FROM cast_ratings)
      AND response.status = 'completed' AND request.purpose IN ('answer', 'shadow')
      AND ($run IS NULL OR request.run_id = $run)
"""

_COUNTED = """
    list_contains($kinds, rater_kind) AND (len($raters) = 0 OR list_contains($raters, rater))
"""

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

_VOICES = """
    CREATE OR REPLACE TEMP TABLE voices AS
    SELECT vote.id, a.place, vote.rater, vote.rater_kind AS source, vote.created_at,
           least(a.words, b.words) AS first, greatest(a.words, b.words) AS second,
           CASE WHEN a.words <= b.words THEN a.id ELSE b.id END AS first_response,
           CASE WHEN a.words <= b.words THEN b.id ELSE a.id END AS second_response,
           CASE WHEN winner IN ('tie', 'both_bad') THEN winner WHEN (winner = 'a') = (a.words <= b.words) THEN 'first'
                ELSE 'second' END AS verdict
    FROM cast_votes vote JOIN shown a ON a.id = vote.response_a JOIN shown b ON b.id = vote.response_b
    WHERE a.place = b.place
    QUALIFY $every_vote OR row_number() OVER (
        PARTITION BY a.place, first, second, vote.rater, vote.rater_kind ORDER BY vote.created_at DESC, vote.id DESC) = 1
"""

_TIER = "list_position(['human', 'user', 'judge', 'grader'], source)"

_PAIRS = f"""
    SELECT place, first || second AS key, source, first = second AS identical,
           greatest(won, lost) AS up, least(won, lost) AS down, ties, bad, true AS label,
           CASE WHEN won >= lost THEN first_response ELSE second_response END AS good,
           CASE WHEN won >= lost THEN second_response ELSE first_response END AS worse,
           NULL::VARCHAR AS correction, votes, []::VARCHAR[] AS ratings, raters
    FROM (
        SELECT place, first, second, source, count(*) FILTER (verdict = 'first') AS won,
               count(*) FILTER (verdict = 'second') AS lost, count(*) FILTER (verdict = 'tie') AS ties,
               count(*) FILTER (verdict = 'both_bad') AS bad,
               arg_min(first_response, (created_at, id)) AS first_response,
               arg_min(second_response, (created_at, id)) AS second_response,
               list(id ORDER BY created_at, id) AS votes, list_sort(list(DISTINCT rater)) AS raters
        FROM voices GROUP BY place, first, second, source
        QUALIFY row_number() OVER (PARTITION BY place, first, second ORDER BY {_TIER}) = 1
    )
"""

# Losing says that the other one was better, and both bad says it of both: what KTO learns from is which answers to leave.
_ANSWERS = f"""
    SELECT place, words AS key, source, false AS identical, greatest(up, down) AS up, least(up, down) AS down, ties,
           0 AS bad, up > down AS label, response AS good, NULL::VARCHAR AS worse, NULL::VARCHAR AS correction, votes,
           ratings, raters
    FROM (
        SELECT place, words, source, count(*) FILTER (value > 0) AS up, count(*) FILTER (value < 0) AS down,
               count(*) FILTER (value = 0) AS ties, arg_min(response, (created_at, id)) AS response,
               coalesce(list(id ORDER BY created_at, id) FILTER (is_vote), []) AS votes,
               coalesce(list(id ORDER BY created_at, id) FILTER (NOT is_vote), []) AS ratings,
               list_sort(list(DISTINCT rater)) AS raters
        FROM (
            SELECT place, first AS words, first_response AS response, source, rater, created_at, id, true AS is_vote,
                   CASE verdict WHEN 'first' THEN 1 WHEN 'tie' THEN 0 ELSE -1 END AS value
            FROM voices WHERE first <> second
            UNION ALL
            SELECT place, second, second_response, source, rater, created_at, id, true,
                   CASE verdict WHEN 'second' THEN 1 WHEN 'tie' THEN 0 ELSE -1 END
            FROM voices WHERE first <> second
            UNION ALL
            SELECT place, words, response_id, rater_kind, rater, created_at, id, false, value FROM (
                SELECT shown.place, shown.words, rating.* EXCLUDE (value),
                       CASE WHEN metric = '{THUMBS}' THEN CASE WHEN value >= 0.5 THEN 1 ELSE -1 END
                            WHEN value >= $min_rating THEN 1 WHEN value <= 6 - $min_rating THEN -1 ELSE 0 END AS value
                FROM cast_ratings rating JOIN shown ON shown.id = rating.response_id
                WHERE rating.value IS NOT NULL AND $ratings AND (rating.blind OR NOT $blind_only)
                  AND ($task IS NULL OR shown.task = $task)
                QUALIFY row_number() OVER (
                    PARTITION BY response_id, metric, rater ORDER BY created_at DESC, rating.id DESC) = 1
            )
        ) GROUP BY place, words, source
        QUALIFY row_number() OVER (PARTITION BY place, words ORDER BY {_TIER}) = 1
    )
"""

_CORRECTIONS = f"""
    SELECT place, corrected AS key, 'correction' AS source, corrected = words AS identical, 1 AS up, 0 AS down, 0 AS ties,
           0 AS bad, true AS label, response_id AS good, response_id AS worse, correction, []::VARCHAR[] AS votes,
           [id] AS ratings, [rater] AS raters
    FROM (
        SELECT shown.place, shown.words, rating.*, {_NORMAL.format("correction")} AS corrected
        FROM cast_ratings rating JOIN shown ON shown.id = rating.response_id
        WHERE trim(correction) <> '' AND ($task IS NULL OR shown.task = $task)
        QUALIFY row_number() OVER (PARTITION BY response_id, rater ORDER BY created_at DESC, rating.id DESC) = 1
    )
    QUALIFY row_number() OVER (PARTITION BY place, corrected ORDER BY created_at, id) = 1
"""

# The first reason that holds is the one that is told.
_REASONED = """
    CREATE OR REPLACE TEMP TABLE judged AS
    SELECT labels.*, q, CASE
        WHEN EXISTS (FROM reached WHERE reached.place = labels.place AND held_out_id = labels.place) THEN 'held_out'
        WHEN $pairs AND identical THEN 'identical'
        WHEN bad > 0 THEN 'both_bad'
        WHEN NOT $pairs AND source <> 'correction' AND EXISTS (
            FROM labels other WHERE other.source = 'correction' AND other.place = labels.place AND other.worse = labels.good
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

_WRITTEN = f"""
    SELECT judged.place, case_id, external_id, segment, variant, other_variant, source, label, q, up, down, ties, votes, ratings,
           raters, good, worse, correction, input, messages, output, finish_reason, truncated, other_output,
           other_finish_reason, other_truncated, same_prompt, likeness, held_out_id
    FROM (
        SELECT judged.*, {alike("coalesce(correction, answer.output)", "other.output")}, request.case_id, item.external_id, item.segment, variant.name AS variant, request.input,
               CAST(request.messages AS VARCHAR) AS messages, answer.output, answer.finish_reason, answer.truncated,
               other.output AS other_output, other.finish_reason AS other_finish_reason, other.truncated AS other_truncated,
               other_variant.name AS other_variant,
               other_request.input = request.input
               AND CAST(other_request.messages AS VARCHAR) = CAST(request.messages AS VARCHAR) AS same_prompt
        FROM judged
        JOIN responses answer ON answer.id = judged.good JOIN requests request ON request.id = answer.request_id
        LEFT JOIN responses other ON other.id = judged.worse LEFT JOIN requests other_request ON other_request.id = other.request_id
        LEFT JOIN current_cases item ON item.id = request.case_id
        LEFT JOIN current_variants variant ON variant.id = request.variant_id
        LEFT JOIN current_variants other_variant ON other_variant.id = other_request.variant_id
        WHERE reason IS NULL
    ) judged LEFT JOIN reached ON reached.place = judged.place
    ORDER BY judged.place, judged.source = 'correction' DESC, q DESC, up - down DESC, key
"""


def gather(
    store: Store, kind: Kind, wanted: Wanted, file: Path, *, confidence: Callable[[int, int, int], float]
) -> Gathered:
    """Bring labels together, and write those that are sure enough to a Parquet file, with their texts.

    Args:
        confidence: the probability that a label is right, by voices for it, against it and undecided.
    """

    def work(connection: DuckDBPyConnection) -> Gathered:
        connection.execute("SET preserve_insertion_order = true")
        return _gather(connection, kind, wanted, file, confidence)

    return store.query(work)


def asked_tasks(store: Store) -> list[str]:
    """Tasks that have answers, in the order of their names."""
    frame = store.read("SELECT DISTINCT task FROM requests WHERE task IS NOT NULL ORDER BY task")
    return [str(name) for name in frame["task"]]


def _gather(
    connection: DuckDBPyConnection,
    kind: Kind,
    wanted: Wanted,
    file: Path,
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
    for query in (_VOTES, _RATINGS, _SHOWN, _VOICES):
        _run(connection, query, given)
    judged = _PAIRS if kind == "pairs" else _ANSWERS
    labels = f"{judged} UNION ALL {_CORRECTIONS}" if "corrections" in wanted.sources else judged
    _run(connection, f"CREATE OR REPLACE TEMP TABLE labels AS {labels}", given)
    connection.execute(
        """
        CREATE OR REPLACE TEMP TABLE wanted AS SELECT DISTINCT labels.place, request.case_id, request.input FROM labels
        JOIN responses answer ON answer.id = labels.good JOIN requests request ON request.id = answer.request_id
        """
    )
    held_out = find_leaks(connection)
    counts = connection.execute("SELECT DISTINCT up, down, ties FROM labels").fetchall()
    connection.register("posterior", _posterior(counts, confidence))
    try:
        _run(connection, _REASONED, given)
    finally:
        connection.unregister("posterior")
    reasons = connection.execute(
        "SELECT reason, count(*), count(*) FILTER (up + down + ties = 1) FROM judged GROUP BY reason ORDER BY reason"
    ).fetchall()
    place = str(file).replace("'", "''")
    connection.execute(f"COPY ({_WRITTEN}) TO '{place}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 2048)")
    return Gathered(
        labels=sum(number for _, number, _ in reasons),
        dropped={reason: number for reason, number, _ in reasons if reason is not None},
        single_voices=sum(single for reason, _, single in reasons if reason == "low_confidence"),
        held_out=held_out,
    )


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
