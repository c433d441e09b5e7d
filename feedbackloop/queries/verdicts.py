"""Who preferred what, counted where the votes lie: however many there are, what leaves the store are counts.

A vote belongs to the time at which its answers were made. What is compared (`player`) is a variant's version, or all versions of
its name together. Comparisons of a thing with itself are left out, and so are votes that were withdrawn or replaced.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, get_args

import duckdb
import pandas as pd

from feedbackloop.models import RaterKind
from feedbackloop.queries.moments import bound
from feedbackloop.store import Store

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

By = Literal["version", "name"]
"""Whether two versions of a name are two players or one."""

NAMES = 6
"""So many raters are named; of more, only how many they are."""


@dataclass(frozen=True)
class Selection:
    """Which verdicts are meant: those of one kind of rater on one task's answers, from a moment on."""

    task: str
    since: datetime | None = None
    """Only on answers made since then."""
    metric: str = "preference"
    rater_kind: RaterKind = "human"
    by: By = "version"

    def parameters(self, query: str, **more: Any) -> dict[str, Any]:
        """Those of its values, and of others, that a query names; DuckDB refuses more."""
        known = {"task": self.task, "since": bound(self.since), "metric": self.metric, "kind": self.rater_kind, **more}
        return {name: value for name, value in known.items() if re.search(rf"\${name}\b", query)}


MEMORY_MB = 800
"""Enough for a million votes or checks; with the store's usual 200 MB such queries go by way of the disk and take twice as long."""

_IN_PERIOD = "/* only votes on answers of the period */"


def ask(store: Store, selection: Selection, query: str, **more: Any) -> pd.DataFrame:
    """The answer to a query that names values of the selection as `$task`, `$since`, `$metric`, `$kind`, and others as given."""

    def work(connection: DuckDBPyConnection) -> pd.DataFrame:
        whole = query.replace(_IN_PERIOD, _period(connection, selection)) if _IN_PERIOD in query else query
        return connection.execute(whole, selection.parameters(whole, **more)).df()

    try:
        with store.lease(memory_mb=MEMORY_MB) as connection:
            return work(connection)
    except duckdb.OutOfMemoryException:
        with store.lease() as connection:
            return work(connection)


def _period(connection: DuckDBPyConnection, selection: Selection) -> str:
    """SQL for: both answers of `vote` are of the period. It looks among those within or those without, whichever are fewer."""
    if selection.since is None:
        return ""
    count = "SELECT count(*) FILTER (created_at >= $since), count(*) FILTER (created_at < $since) FROM responses"
    connection.execute(count, selection.parameters(count))
    newer, older = connection.fetchall()[0]
    if not older:
        return ""
    sides = ("vote.response_a", "vote.response_b")
    if older < newer:
        old = "FROM responses old WHERE old.created_at < $since AND old.id ="
        return " ".join(f"AND NOT EXISTS ({old} {side})" for side in sides)
    return " ".join(f"AND {side} IN (SELECT id FROM responses WHERE created_at >= $since)" for side in sides)


NAMED = "named AS (SELECT id, name FROM current_variants)"


def player(column: str, selection: Selection) -> str:
    """SQL for the player that a variant's id stands for; joined to `named` it may be its name."""
    return (
        f"coalesce((SELECT name FROM named WHERE named.id = {column}), {column})"
        if selection.by == "name"
        else f"{column}"
    )


def voted(selection: Selection) -> str:
    """SQL of the votes that count, as the tables `named` and `voted` of a WITH clause."""
    return f"""
        {NAMED},
        voted AS (
            SELECT {player("vote.variant_a", selection)} AS a, {player("vote.variant_b", selection)} AS b,
                   vote.case_id, vote.response_a, vote.response_b, vote.winner, vote.a_shown_left, vote.blind, vote.rater
            FROM comparisons vote
            WHERE vote.task = $task AND vote.metric = $metric AND vote.rater_kind = $kind AND vote.winner IS NOT NULL
              AND NOT EXISTS (FROM comparisons later WHERE later.supersedes = vote.id) {_IN_PERIOD}
        )
    """


def _against(selection: Selection) -> str:
    """`voted` and, as `duels`, the blind ones between the baseline and another, seen from the other."""
    return f"""
        {voted(selection)},
        duels AS (
            SELECT CASE WHEN a = $baseline THEN b ELSE a END AS player, case_id, rater,
                   CASE WHEN winner IN ('tie', 'both_bad') THEN winner
                        WHEN (winner = 'a') = (b = $baseline) THEN 'win' ELSE 'loss' END AS outcome
            FROM voted WHERE blind AND a <> b AND (a = $baseline OR b = $baseline)
        )
    """


def pairs(store: Store, selection: Selection) -> pd.DataFrame:
    """Outcomes by pair, in the order in which it was shown.

    Columns: first (the player on the left, where `ordered`), second, ordered (the sides are known), blind, wins_first, ties,
    both_bad, wins_second.
    """
    return ask(
        store,
        selection,
        f"""
        WITH {voted(selection)},
        shown AS (
            SELECT CASE WHEN a_shown_left IS FALSE THEN b ELSE a END AS first,
                   CASE WHEN a_shown_left IS FALSE THEN a ELSE b END AS second, a_shown_left IS NOT NULL AS ordered, blind,
                   CASE WHEN winner IN ('tie', 'both_bad') THEN winner
                        WHEN (winner = 'a') = (a_shown_left IS NOT FALSE) THEN 'first' ELSE 'second' END AS outcome
            FROM voted WHERE a <> b
        )
        SELECT first, second, ordered, blind, count(*) FILTER (outcome = 'first') AS wins_first,
               count(*) FILTER (outcome = 'tie') AS ties, count(*) FILTER (outcome = 'both_bad') AS both_bad,
               count(*) FILTER (outcome = 'second') AS wins_second
        FROM shown GROUP BY ALL ORDER BY ALL
        """,
    )


def raters_of_pairs(store: Store, selection: Selection) -> pd.DataFrame:
    """Blind outcomes by rater and pair in the order shown: rater, first, second, score (of the first), n."""
    return ask(
        store,
        selection,
        f"""
        WITH {voted(selection)}
        SELECT rater, CASE WHEN a_shown_left IS FALSE THEN b ELSE a END AS first,
               CASE WHEN a_shown_left IS FALSE THEN a ELSE b END AS second,
               CASE WHEN winner IN ('tie', 'both_bad') THEN 0.5
                    WHEN (winner = 'a') = (a_shown_left IS NOT FALSE) THEN 1.0 ELSE 0.0 END AS score, count(*) AS n
        FROM voted WHERE blind AND a <> b GROUP BY ALL ORDER BY ALL
        """,
    )


def duels(store: Store, selection: Selection, baseline: str, *, by_segment: bool = False) -> pd.DataFrame:
    """Blind votes between each player and the baseline, by what befell a case.

    Cases with the same votes are one row, which is all that an interval clustered by case needs to know.

    Columns: player, segment (null unless asked for, or unknown), wins, ties, both_bad, losses (of one case), cases (how many
    cases have just these).
    """
    segments = """,
        placed AS (
            SELECT id, arg_max({'segment': segment}, created_at).segment AS segment FROM cases
            WHERE id IN (SELECT case_id FROM duels) GROUP BY id
        )
    """
    return ask(
        store,
        selection,
        f"""
        WITH {_against(selection)} {segments if by_segment else ""},
        profiles AS (
            SELECT player, case_id, count(*) FILTER (outcome = 'win') AS wins, count(*) FILTER (outcome = 'tie') AS ties,
                   count(*) FILTER (outcome = 'both_bad') AS both_bad, count(*) FILTER (outcome = 'loss') AS losses
            FROM duels GROUP BY player, case_id
        )
        SELECT player, {"segment" if by_segment else "NULL::VARCHAR AS segment"}, wins, ties, both_bad, losses, count(*) AS cases
        FROM profiles {"LEFT JOIN placed ON placed.id = profiles.case_id" if by_segment else ""} GROUP BY ALL ORDER BY ALL
        """,
        baseline=baseline,
    )


def ballots(store: Store, selection: Selection, baseline: str) -> pd.DataFrame:
    """Blind votes against the baseline by case and rater, for intervals that speak of all raters: player, item, rater, score, n.

    Items and raters are numbers that tell them apart.
    """
    return ask(
        store,
        selection,
        f"""
        WITH {_against(selection)}
        SELECT player, hash(case_id) AS item, hash(rater) AS rater,
               CASE outcome WHEN 'win' THEN 1.0 WHEN 'loss' THEN 0.0 ELSE 0.5 END AS score, count(*) AS n
        FROM duels GROUP BY ALL ORDER BY ALL
        """,
        baseline=baseline,
    )


def raters(store: Store, selection: Selection, baseline: str) -> pd.DataFrame:
    """Who voted blind between each player and the baseline: player (null: on all of them), raters, names (who voted most first)."""
    return ask(
        store,
        selection,
        f"""
        WITH {_against(selection)},
        votes AS (SELECT player, rater, count(*) AS n FROM duels GROUP BY GROUPING SETS ((player, rater), (rater)))
        SELECT player, count(*) AS raters, list(rater ORDER BY n DESC, rater)[:{NAMES}] AS names FROM votes GROUP BY player
        """,
        baseline=baseline,
    )


def judged(store: Store, selection: Selection) -> pd.DataFrame:
    """How many answers of each player somebody has judged blind, by a vote or a rating: player, answers."""
    return ask(
        store,
        selection,
        f"""
        WITH {voted(selection)},
        seen AS (
            SELECT a AS player, response_a AS response FROM voted WHERE blind
            UNION ALL SELECT b, response_b FROM voted WHERE blind
            UNION ALL SELECT {player("request.variant_id", selection)}, rating.response_id {_RATED} AND rating.blind
        )
        SELECT player, count(DISTINCT hash(response)) AS answers FROM seen WHERE player IS NOT NULL GROUP BY player
        """.replace("{since}", _since(selection)),
    )


# Ratings that stand, with the request behind the answer; withdrawn ones say nothing.
_RATED = """
    FROM ratings rating JOIN responses response ON response.id = rating.response_id
    JOIN requests request ON request.id = response.request_id
    WHERE request.task = $task AND rating.rater_kind = $kind {since}
      AND (rating.value IS NOT NULL OR rating.label IS NOT NULL)
      AND NOT EXISTS (FROM ratings later WHERE later.supersedes = rating.id)
"""


def _since(selection: Selection) -> str:
    return "AND response.created_at >= $since" if selection.since else ""


def issues(store: Store, selection: Selection) -> pd.DataFrame:
    """Faults that raters named: player, label, answers (on how many, blind), open_answers (only by raters who knew whose they were)."""
    return ask(
        store,
        selection,
        f"""
        WITH {NAMED},
        labelled AS (
            SELECT {player("request.variant_id", selection)} AS player, rating.label, rating.response_id, bool_or(rating.blind) AS blind
            {_RATED} AND rating.metric = 'issue' AND rating.label IS NOT NULL AND request.variant_id IS NOT NULL
            GROUP BY ALL
        )
        SELECT player, label, count(*) FILTER (blind) AS answers, count(*) FILTER (NOT blind) AS open_answers
        FROM labelled GROUP BY ALL ORDER BY answers DESC, label, player
        """.replace("{since}", _since(selection)),
    )


def voting_kinds(store: Store, selection: Selection) -> tuple[RaterKind, ...]:
    """Which kinds of raters have compared the task's answers blind, people first."""
    frame = ask(
        store,
        selection,
        """
        SELECT DISTINCT rater_kind FROM comparisons WHERE task = $task AND metric = $metric AND blind AND winner IS NOT NULL
        """,
    )
    present = set(frame["rater_kind"])
    return tuple(kind for kind in get_args(RaterKind) if kind in present)
