"""What is known of answers besides votes: time, money, checks and ratings, by variant, with what their intervals need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from feedbackloop.queries.verdicts import NAMED, Selection, ask, player
from feedbackloop.store import Store


def answered(selection: Selection) -> str:
    """SQL of a task's current answers, as the tables `named`, ... and `answered` of a WITH clause.

    A cell asked more than once has several answers, of which one counts. These few are looked for first: a window over all
    answers takes seconds at a million. What a service was asked has no case: such an answer stands for itself (`item`).
    """
    period = "AND response.created_at >= $since" if selection.since else ""
    return f"""
        {NAMED},
        asked AS (
            SELECT id, run_id, case_id, coalesce(case_id, id) AS item, variant_id,
                   hash(run_id, case_id, variant_id, repeat) AS cell
            FROM requests WHERE task = $task AND purpose = 'answer' AND variant_id IS NOT NULL
        ),
        outdated AS (
            SELECT response.id FROM asked JOIN responses response ON response.request_id = asked.id
            WHERE asked.cell IN (SELECT cell FROM asked WHERE run_id IS NOT NULL GROUP BY cell HAVING count(*) > 1)
              AND asked.run_id IS NOT NULL
            QUALIFY row_number() OVER (
                PARTITION BY asked.cell
                ORDER BY response.status = 'completed' DESC, response.created_at DESC, response.id DESC) > 1
        ),
        answered AS (
            SELECT {player("asked.variant_id", selection)} AS player, asked.variant_id, asked.run_id, asked.case_id, asked.item, response.id,
                   response.status, response.cached, response.latency_ms, response.cost_usd, response.created_at
            FROM asked JOIN responses response ON response.request_id = asked.id
            WHERE NOT EXISTS (FROM outdated WHERE outdated.id = response.id) {period}
        )
    """


def answer_counts(store: Store, selection: Selection) -> Mapping[str, int]:
    """How much there is to judge: answers (completed), cases, players."""
    frame = ask(
        store,
        selection,
        f"""
        WITH {answered(selection)}
        SELECT count(*) AS answers, count(DISTINCT case_id) AS cases, count(DISTINCT player) AS players
        FROM answered WHERE status = 'completed'
        """,
    )
    return {str(name): int(value) for name, value in frame.iloc[0].items()}


COUNTED = """
    count(*) FILTER (status = 'completed') AS answers, count(*) FILTER (status = 'failed') AS failed,
    count(*) FILTER (cached) AS cached, count(*) FILTER (status = 'completed' AND cost_usd IS NULL) AS unpriced,
    list(latency_ms) FILTER (status = 'completed' AND NOT cached AND isfinite(latency_ms)) AS latencies,
    list(cost_usd) FILTER (status = 'completed' AND isfinite(cost_usd)) AS costs,
    list(hash(item)) FILTER (status = 'completed' AND isfinite(cost_usd)) AS cost_items
"""
"""What is told of some of the `answered`."""


def figures(store: Store, selection: Selection) -> pd.DataFrame:
    """Answers by player, with their times and costs.

    Columns: player, answers (completed), failed, cached, unpriced (completed, without a known price), latencies (milliseconds of
    answers that were not cached), costs (USD), cost_items (the case behind each cost, as a number).
    """
    query = f"WITH {answered(selection)} SELECT player, {COUNTED} FROM answered GROUP BY player ORDER BY player"
    return ask(store, selection, query)


_GIVEN = """
    given AS (
        SELECT answered.player, hash(answered.item) AS item, rating.metric, rating.value, rating.label, rating.error,
               rating.created_at, CASE WHEN rating.rater_kind IN ('grader', 'judge') THEN rating.rater END AS version
        FROM ratings rating JOIN answered ON answered.id = rating.response_id
        WHERE rating.rater_kind = $kind AND rating.metric <> 'issue' AND rating.blind
          AND NOT EXISTS (FROM ratings later WHERE later.supersedes = rating.id)
    )
"""

_PROFILES = """
    profiles AS (
        SELECT metric, version, player, n, total, count(*) AS cases, min(low) AS low, max(high) AS high, max(newest) AS newest
        FROM by_case GROUP BY metric, version, player, n, total
    )
    SELECT metric, version, player, list(n) AS n, list(total) AS total, list(cases) AS cases, min(low) AS low, max(high) AS high,
           max(newest) AS newest
    FROM profiles GROUP BY metric, version, player ORDER BY metric, newest DESC, player
"""


@dataclass(frozen=True)
class Given:
    """Whether one kind of rater said anything of single answers, of any task: looked at before answers are joined with it."""

    numbers: bool
    words: bool
    """Labels or errors."""


def given(store: Store, selection: Selection) -> Given:
    """What a kind of rater has ever given to answers, besides issues."""
    row = ask(
        store,
        selection,
        """
        SELECT count(*) FILTER (value IS NOT NULL) AS numbers,
               count(*) FILTER ((value IS NULL AND label IS NOT NULL) OR error IS NOT NULL) AS words
        FROM ratings WHERE rater_kind = $kind AND metric <> 'issue'
        """,
    ).iloc[0]
    return Given(bool(row["numbers"]), bool(row["words"]))


def scores(store: Store, selection: Selection) -> pd.DataFrame:
    """Numbers given to answers, by metric and player; only blind ones.

    Columns: metric, version (of the check or judge; null for people), player, n and total (lists: for each kind of case how many
    values it has and their sum), cases (list: how many cases are of that kind), low, high (of the values), newest (UTC).
    """
    return ask(
        store,
        selection,
        f"""
        WITH {answered(selection)}, {_GIVEN},
        by_case AS (
            SELECT metric, version, player, item, count(*) AS n, sum(value) AS total, min(value) AS low, max(value) AS high,
                   max(created_at) AS newest
            FROM given WHERE isfinite(value) GROUP BY metric, version, player, item
        ),
        {_PROFILES}
        """,
    )


def scores_together(
    store: Store, selection: Selection, metrics: Sequence[str], versions: Sequence[str | None]
) -> pd.DataFrame:
    """The same of several metrics as if they were one: columns as of `scores`, metric and version null.

    Args:
        store: where the answers are.
        selection: which answers, and whose numbers.
        metrics: which metrics.
        versions: which version of each.
    """
    return ask(
        store,
        selection,
        f"""
        WITH {answered(selection)}, {_GIVEN},
        chosen AS (SELECT unnest($metrics) AS metric, unnest($versions::VARCHAR[]) AS version),
        by_case AS (
            SELECT NULL::VARCHAR AS metric, NULL::VARCHAR AS version, player, item, count(*) AS n, sum(value) AS total,
                   min(value) AS low, max(value) AS high, max(created_at) AS newest
            FROM given JOIN chosen ON chosen.metric = given.metric AND chosen.version IS NOT DISTINCT FROM given.version
            WHERE isfinite(value) GROUP BY player, item
        ),
        {_PROFILES}
        """,
        metrics=list(metrics),
        versions=list(versions),
    )


def labels(store: Store, selection: Selection) -> pd.DataFrame:
    """Words given to answers by checks or raters, but for issues: metric, version, player, label, answers. Errors have the label null."""
    return ask(
        store,
        selection,
        f"""
        WITH {answered(selection)}, {_GIVEN}
        SELECT metric, version, player, CASE WHEN error IS NULL THEN label END AS label, count(*) AS answers FROM given
        WHERE (value IS NULL AND label IS NOT NULL) OR error IS NOT NULL GROUP BY ALL ORDER BY metric, answers DESC, label, player
        """,
    )
