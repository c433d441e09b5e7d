"""How answers and what is said of them change from run to run, or over time; counted where they lie.

A vote or a rating belongs to the moment at which its answer was made. Versions of a name are one line here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from feedbackloop.queries.measures import COUNTED, answered
from feedbackloop.queries.verdicts import Selection, ask, voted
from feedbackloop.store import Store

Step = Literal["run", "hour", "day", "week"]


@dataclass(frozen=True)
class Ladder:
    """What stands on the axis: runs, or stretches of time as they are in some zone."""

    step: Step
    zone: str = "UTC"

    def rung(self, run: str, moment: str) -> str:
        """SQL for where an answer belongs: its run's id, or the local beginning of its stretch of time."""
        if self.step == "run":
            return run
        return f"CAST(date_trunc('{self.step}', ({moment} AT TIME ZONE 'UTC') AT TIME ZONE $zone) AS VARCHAR)"


def steps(store: Store, selection: Selection, ladder: Ladder) -> pd.DataFrame:
    """Answers by rung and player, oldest first.

    Columns: rung (run id, or the local time at which it begins), moment (UTC, of the first answer), player, variant_id (newest version
    in it), several (whether there are more), run_id (of the newest answer), answers, failed, cached, unpriced, latencies
    (milliseconds, uncached), costs (USD), cost_items (the case behind each cost, as a number).
    """
    newest_run = "min(run_id)" if ladder.step == "run" else "arg_max(run_id, created_at)"
    return ask(
        store,
        selection,
        f"""
        WITH {answered(selection)}
        SELECT {ladder.rung("run_id", "created_at")} AS rung, player, min(created_at) AS moment,
               arg_max(variant_id, created_at) AS variant_id, min(variant_id) <> max(variant_id) AS several,
               {newest_run} AS run_id, {COUNTED}
        FROM answered {"WHERE run_id IS NOT NULL" if ladder.step == "run" else ""}
        GROUP BY rung, player ORDER BY min(moment) OVER (PARTITION BY rung), rung, player
        """,
        zone=ladder.zone,
    )


def duels_by_step(store: Store, selection: Selection, ladder: Ladder, baseline: str) -> pd.DataFrame:
    """Blind votes against the baseline, by the rung of the other's answer.

    Columns: rung, player, wins, ties, both_bad, losses (of one case), cases (how many cases have just these).
    """
    return ask(
        store,
        selection,
        f"""
        WITH {voted(selection)},
        sides AS (
            SELECT CASE WHEN a = $baseline THEN b ELSE a END AS player, CASE WHEN a = $baseline THEN response_b ELSE response_a END AS response,
                   case_id, CASE WHEN winner IN ('tie', 'both_bad') THEN winner
                                 WHEN (winner = 'a') = (b = $baseline) THEN 'win' ELSE 'loss' END AS outcome
            FROM voted WHERE blind AND a <> b AND (a = $baseline OR b = $baseline)
        ),
        placed AS (
            SELECT {ladder.rung("request.run_id", "response.created_at")} AS rung, sides.*
            FROM sides JOIN responses response ON response.id = sides.response JOIN requests request ON request.id = response.request_id
        ),
        profiles AS (
            SELECT rung, player, hash(case_id) AS item, count(*) FILTER (outcome = 'win') AS wins,
                   count(*) FILTER (outcome = 'tie') AS ties, count(*) FILTER (outcome = 'both_bad') AS both_bad,
                   count(*) FILTER (outcome = 'loss') AS losses
            FROM placed WHERE rung IS NOT NULL GROUP BY rung, player, item
        )
        SELECT rung, player, wins, ties, both_bad, losses, count(*) AS cases FROM profiles GROUP BY ALL ORDER BY ALL
        """,
        baseline=baseline,
        zone=ladder.zone,
    )


def scores_by_step(
    store: Store, selection: Selection, ladder: Ladder, metrics: Sequence[str], versions: Sequence[str | None]
) -> pd.DataFrame:
    """Numbers given to answers, several metrics as if they were one, by the answer's rung.

    Args:
        store: where the answers are.
        selection: which answers, and whose numbers; only blind ones count.
        ladder: what stands on the axis.
        metrics: which metrics.
        versions: which version of each check or judge; None for people.

    Returns:
        Columns: rung, player, n and total (lists: for each kind of case how many values it has and their sum), cases (list: how
        many cases are of that kind).
    """
    return ask(
        store,
        selection,
        f"""
        WITH {answered(selection)},
        chosen AS (SELECT unnest($metrics) AS metric, unnest($versions::VARCHAR[]) AS version),
        given AS (
            SELECT {ladder.rung("answered.run_id", "answered.created_at")} AS rung, answered.player, hash(answered.item) AS item,
                   rating.value
            FROM ratings rating JOIN answered ON answered.id = rating.response_id
            JOIN chosen ON chosen.metric = rating.metric AND (chosen.version IS NULL OR chosen.version = rating.rater)
            WHERE rating.rater_kind = $kind AND rating.blind AND isfinite(rating.value)
              AND NOT EXISTS (FROM ratings later WHERE later.supersedes = rating.id)
        ),
        by_case AS (SELECT rung, player, item, count(*) AS n, sum(value) AS total FROM given WHERE rung IS NOT NULL GROUP BY rung, player, item),
        profiles AS (SELECT rung, player, n, total, count(*) AS cases FROM by_case GROUP BY rung, player, n, total)
        SELECT rung, player, list(n) AS n, list(total) AS total, list(cases) AS cases FROM profiles GROUP BY rung, player ORDER BY ALL
        """,
        metrics=list(metrics),
        versions=list(versions),
        zone=ladder.zone,
    )


def kinds_of_scores(store: Store, selection: Selection) -> pd.DataFrame:
    """Which numbers the kinds of raters gave to the task's answers: rater_kind, metric, version, low, high, newest first."""
    alone = store.read("SELECT count(DISTINCT task) < 2 AS alone FROM runs")["alone"].iloc[0]
    # A store of one task need not join a million ratings with their answers to know whose they are.
    mine = "" if alone and not selection.since else "JOIN answered ON answered.id = rating.response_id"
    return ask(
        store,
        selection,
        f"""
        WITH {answered(selection)}
        SELECT rating.rater_kind, rating.metric, CASE WHEN rating.rater_kind IN ('grader', 'judge') THEN rating.rater END AS version,
               min(rating.value) AS low, max(rating.value) AS high, max(rating.created_at) AS newest
        FROM ratings rating {mine}
        WHERE rating.metric <> 'issue' AND rating.blind AND isfinite(rating.value)
        GROUP BY ALL ORDER BY rating.rater_kind, rating.metric, newest DESC
        """,
    )
