"""Cases side by side: what stands in the columns, and where these differ from the first one.

A column is a variant in a run, so variants of one run, runs of one variant and versions of a name are all compared in one way. The
board holds a few numbers for every case and no text; texts are fetched for the rows on the screen alone (`shown.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from feedbackloop.store import Store, fetch

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Measure = Literal["votes", "checks", "ratings", "judges"]
"""What says which of two answers is better: blind votes of people on the pair, checks, ratings of single answers, model judges."""

Outcome = Literal["worse", "better", "same", "failed", "unjudged", "missing"]
"""Of a case, for a column against the first: `failed` without a completed answer, `missing` without any, `unjudged` where nothing tells."""

MEASURES: tuple[Measure, ...] = ("votes", "checks", "ratings", "judges")
OUTCOMES: tuple[Outcome, ...] = ("worse", "better", "same", "failed", "unjudged", "missing")


@dataclass(frozen=True)
class Column:
    """A variant in a run."""

    run_id: str
    variant_id: str


@dataclass(frozen=True)
class Filters:
    """Which cases of a board are wanted. Those about an outcome, failures or an issue look at one column, or at any."""

    column: int | None = None
    """Place of the column that is meant."""
    outcome: Outcome | None = None
    segment: str | None = None
    issue: str | None = None
    among: frozenset[str] | None = None
    """Only these cases: what a search found."""


@dataclass(frozen=True)
class Board:
    """All cases of some columns, in numbers."""

    columns: tuple[Column, ...]
    """The first is what the others are compared with."""
    cases: pd.DataFrame
    """A row per case in the order in which they were asked: case_id, segment; and for the column at place n answered_n and completed_n
    (repeats), checks_n (mean of grades from 0 to 1), ratings_n (mean of people's), and from the second column on, against the first,
    votes_n and judges_n (how many), votes_gain_n and judges_gain_n (share of wins less share of losses, -1 to 1)."""
    issues: pd.DataFrame
    """What was labelled: case_id, place, label."""

    def measures(self) -> tuple[Measure, ...]:
        """Those that say something about any of these cases, the most trustworthy first."""
        return tuple(m for m in MEASURES if any(self.gain(m, place).notna().any() for place in self.candidates))

    @property
    def candidates(self) -> range:
        """Places of the columns that are compared with the first."""
        return range(1, len(self.columns))

    def gain(self, measure: Measure | None, place: int) -> pd.Series:
        """By how much each case's answer is better than the first column's, NaN where nothing says so."""
        if measure in ("votes", "judges"):
            return self.cases[f"{measure}_gain_{place}"]
        if measure in ("checks", "ratings"):
            return self.cases[f"{measure}_{place}"] - self.cases[f"{measure}_0"]
        return pd.Series(np.nan, index=self.cases.index)

    def outcomes(self, measure: Measure | None, place: int) -> pd.Series:
        """The `Outcome` of each case for a candidate, as a categorical."""
        gain = self.gain(measure, place).to_numpy(dtype=float, na_value=np.nan)
        codes = np.full(len(self.cases), OUTCOMES.index("unjudged"), dtype=np.int8)
        # Means of the same grades may differ in their last digit.
        codes[np.abs(gain) <= 1e-9] = OUTCOMES.index("same")
        codes[gain > 1e-9] = OUTCOMES.index("better")
        codes[gain < -1e-9] = OUTCOMES.index("worse")
        for outcome, column in (("failed", "completed"), ("missing", "answered")):
            codes[self.cases[f"{column}_{place}"].to_numpy() == 0] = OUTCOMES.index(outcome)
        return pd.Series(pd.Categorical.from_codes(codes, categories=pd.Index(OUTCOMES)), index=self.cases.index)

    def counts(self, measure: Measure | None, place: int) -> dict[Outcome, int]:
        """How many cases have which outcome, for a candidate."""
        found = self.outcomes(measure, place).value_counts()
        return {outcome: int(found.get(outcome, 0)) for outcome in OUTCOMES}

    def votes(self, measure: Measure, place: int) -> int:
        """How many verdicts on the pair the counts of a candidate rest on."""
        return int(self.cases[f"{measure}_{place}"].sum()) if measure in ("votes", "judges") else 0

    def segments(self) -> list[str]:
        """Those that there are, by name."""
        return sorted(self.cases["segment"].dropna().unique())

    def labels(self, column: int | None = None) -> list[str]:
        """Issues that were found, the most frequent first."""
        found = self.issues if column is None else self.issues[self.issues["place"] == column]
        return [str(label) for label in found["label"].value_counts().index]

    def tally(self, measure: Measure | None, filters: Filters) -> dict[Outcome, int]:
        """How many cases would pass with each outcome instead of the filters' own."""
        passing = self._passing(filters)
        return {outcome: int((passing & self._having(measure, outcome, filters.column)).sum()) for outcome in OUTCOMES}

    def select(self, measure: Measure | None, filters: Filters) -> list[str]:
        """The ids of the cases that pass, what got worse first: failures of a candidate, then by the gain of the worst one."""
        wanted = self._passing(filters)
        if filters.outcome is not None:
            wanted &= self._having(measure, filters.outcome, filters.column)
        order = np.argsort(self._goodness(measure, self._compared(filters.column)), kind="stable")
        return [str(case) for case in self.cases["case_id"].to_numpy()[order[wanted[order]]]]

    def _compared(self, column: int | None) -> Sequence[int]:
        # The first column has no outcome of its own: any candidate's is meant.
        return [column] if column else self.candidates

    def _passing(self, filters: Filters) -> NDArray[np.bool_]:
        wanted = np.ones(len(self.cases), dtype=bool)
        if filters.segment is not None:
            wanted &= (self.cases["segment"] == filters.segment).to_numpy(dtype=bool, na_value=False)
        if filters.issue is not None:
            rows = self.issues[self.issues["label"] == filters.issue]
            if filters.column is not None:
                rows = rows[rows["place"] == filters.column]
            wanted &= self.cases["case_id"].isin(rows["case_id"]).to_numpy()
        if filters.among is not None:
            wanted &= self.cases["case_id"].isin(list(filters.among)).to_numpy()
        return wanted

    def _having(self, measure: Measure | None, outcome: Outcome, column: int | None) -> NDArray[np.bool_]:
        having = np.zeros(len(self.cases), dtype=bool)
        if outcome == "failed":
            for place in range(len(self.columns)) if column is None else [column]:
                having |= self._failed(place)
        else:
            for place in self._compared(column):
                having |= (self.outcomes(measure, place) == outcome).to_numpy()
        return having

    def _failed(self, place: int) -> NDArray[np.bool_]:
        cases = self.cases
        return ((cases[f"completed_{place}"] == 0) & (cases[f"answered_{place}"] > 0)).to_numpy(dtype=bool)

    def _goodness(self, measure: Measure | None, places: Sequence[int]) -> NDArray[np.float64]:
        """What the order goes by: the worst gain of a case, a failure below all; what nothing is known of comes last."""
        worst = np.full(len(self.cases), np.inf)
        for place in places:
            gain = self.gain(measure, place).to_numpy(dtype=float, na_value=np.nan).copy()
            gain[np.isnan(gain) | self._failed(0)] = np.inf
            gain[self._failed(place)] = -np.inf
            worst = np.minimum(worst, gain)
        return worst


def marks(store: Store) -> tuple[int, ...]:
    """Changes when a board may have changed; unlike the store's version it stays when something else was written."""
    row = store.read(
        """
        SELECT (SELECT count(*) FROM responses) AS responses, (SELECT count(*) FROM ratings) AS ratings,
               (SELECT count(*) FROM comparisons) AS comparisons, (SELECT count(*) FROM cases) AS cases
        """
    ).iloc[0]
    return tuple(int(value) for value in row)


def board(store: Store, columns: Sequence[Column]) -> Board:
    """The board of these columns, the first being what the others are compared with."""
    places = range(len(columns))

    def collect(connection: DuckDBPyConnection) -> Board:
        runs, variants = [column.run_id for column in columns], [column.variant_id for column in columns]
        connection.execute(_CELLS, [runs, variants, list(places), runs])
        cases = fetch(connection, _board_query(places), [runs, variants])
        return Board(tuple(columns), cases, fetch(connection, _ISSUES))

    return store.query(collect)


# Ids are compared by their 64-bit hashes: joining a million texts of 36 letters takes four times as long and spills.
_CELLS = """
    CREATE OR REPLACE TEMP TABLE cells AS
    WITH chosen AS (SELECT unnest(?) AS run_id, unnest(?) AS variant_id, unnest(?) AS place),
    asked AS (
        SELECT hash(request.id) AS request, hash(request.case_id) AS item, chosen.place, request.repeat
        FROM requests request JOIN chosen USING (run_id, variant_id) WHERE list_contains(?, request.run_id)
    )
    SELECT asked.item, asked.place, asked.repeat, bool_or(response.status = 'completed') AS completed,
           arg_max(hash(response.id), (response.status = 'completed', response.created_at, response.id)) AS answer
    FROM asked JOIN responses response ON hash(response.request_id) = asked.request
    GROUP BY asked.item, asked.place, asked.repeat
"""

_CURRENT_RATINGS = "rating.id NOT IN (SELECT supersedes FROM ratings WHERE supersedes IS NOT NULL)"

_ISSUES = f"""
    WITH labelled AS (
        SELECT DISTINCT cells.item, cells.place, rating.label
        FROM ratings rating JOIN cells ON cells.answer = hash(rating.response_id)
        WHERE rating.metric = 'issue' AND rating.label IS NOT NULL AND {_CURRENT_RATINGS}
    )
    SELECT item.id AS case_id, labelled.place, labelled.label
    FROM labelled JOIN (SELECT DISTINCT id FROM cases) item ON hash(item.id) = labelled.item
    ORDER BY labelled.place, labelled.label, item.id
"""


def _board_query(places: Sequence[int]) -> str:
    def each(text: str, first: int = 0) -> str:
        return ", ".join(text.replace("{n}", str(place)) for place in places if place >= first) or "0 AS none"

    return f"""
        WITH named AS (
            SELECT hash(case_id) AS item, any_value(case_id) AS case_id, min(created_at) AS asked_at
            FROM requests JOIN (SELECT unnest(?) AS run_id, unnest(?) AS variant_id) USING (run_id, variant_id)
            WHERE case_id IS NOT NULL GROUP BY hash(case_id)
        ), counted AS (
            SELECT item, {each("count(*) FILTER (place = {n}) AS answered_{n}")},
                   {each("count(*) FILTER (place = {n} AND completed) AS completed_{n}")}
            FROM cells GROUP BY item
        ), rated AS (
            SELECT cells.item, cells.place, avg(rating.value) FILTER (rating.rater_kind = 'grader' AND rating.value BETWEEN 0 AND 1) AS checks,
                   avg(rating.value) FILTER (rating.rater_kind IN ('human', 'user') AND rating.blind) AS ratings
            FROM ratings rating JOIN cells ON cells.answer = hash(rating.response_id)
            WHERE rating.value IS NOT NULL AND rating.metric <> 'issue' AND {_CURRENT_RATINGS}
            GROUP BY cells.item, cells.place
        ), graded AS (
            SELECT item, {each("max(checks) FILTER (place = {n}) AS checks_{n}")},
                   {each("max(ratings) FILTER (place = {n}) AS ratings_{n}")}
            FROM rated GROUP BY item
        ), voted AS (
            SELECT a.item, greatest(a.place, b.place) AS place, CASE vote.rater_kind WHEN 'judge' THEN 'judges' ELSE 'votes' END AS kind,
                   CASE WHEN vote.winner = 'a' THEN 1 WHEN vote.winner = 'b' THEN -1 ELSE 0 END * CASE WHEN a.place = 0 THEN -1 ELSE 1 END AS gain
            FROM comparisons vote JOIN cells a ON a.answer = hash(vote.response_a)
            JOIN cells b ON b.answer = hash(vote.response_b) AND b.item = a.item
            WHERE vote.blind AND vote.winner IS NOT NULL AND least(a.place, b.place) = 0 AND a.place <> b.place
              AND vote.id NOT IN (SELECT supersedes FROM comparisons WHERE supersedes IS NOT NULL)
        ), compared AS (
            SELECT item, {each("count(*) FILTER (place = {n} AND kind = 'votes') AS votes_{n}", 1)},
                   {each("avg(gain) FILTER (place = {n} AND kind = 'votes') AS votes_gain_{n}", 1)},
                   {each("count(*) FILTER (place = {n} AND kind = 'judges') AS judges_{n}", 1)},
                   {each("avg(gain) FILTER (place = {n} AND kind = 'judges') AS judges_gain_{n}", 1)}
            FROM voted GROUP BY item
        ), kept AS (
            SELECT hash(id) AS item, arg_max_null(segment, created_at) AS segment FROM cases GROUP BY hash(id)
        )
        SELECT named.case_id, kept.segment, {each("coalesce(answered_{n}, 0) AS answered_{n}")},
               {each("coalesce(completed_{n}, 0) AS completed_{n}")}, {each("checks_{n}, ratings_{n}")},
               {each("coalesce(votes_{n}, 0) AS votes_{n}, votes_gain_{n}, coalesce(judges_{n}, 0) AS judges_{n}, judges_gain_{n}", 1)}
        FROM named LEFT JOIN counted USING (item) LEFT JOIN graded USING (item) LEFT JOIN compared USING (item)
        LEFT JOIN kept USING (item)
        ORDER BY named.asked_at, named.case_id
    """
