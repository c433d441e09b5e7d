"""What checks, judges and people say of single answers, as means with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from feedbackloop import queries
from feedbackloop.findings.players import Player, Players, players
from feedbackloop.findings.samples import FRACTION, Scale, mean_score, scale_of
from feedbackloop.models import RaterKind
from feedbackloop.queries import measures
from feedbackloop.queries.verdicts import Selection
from feedbackloop.stats.interval import Interval, proportion_interval
from feedbackloop.store import Store

ALL_CHECKS = "all checks"
"""The metric that stands for all checks on the scale 0 to 1 together."""


@dataclass(frozen=True)
class Score:
    """The mean of a metric over one player's answers, or the share of them that got a label."""

    metric: str
    """With its version where a check has several: `contains@9a17`; a label behind a colon: `tone: formal`."""
    player: Player
    mean: Interval
    scale: Scale
    """0 to 1 reads as a share; None is a number without ends."""


@dataclass(frozen=True)
class Scores:
    """All scores by one kind of rater."""

    rater_kind: RaterKind
    rows: tuple[Score, ...]
    """By metric, then player."""
    overall: tuple[Score, ...]
    """All metrics on the scale 0 to 1 together, by player; of checks and judges only, and with the newest version of each."""
    errors: int
    """How many answers a check could not judge because it raised."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """In the order of the rows."""
        return tuple(dict.fromkeys(row.metric for row in self.rows))

    def of(self, metric: str) -> tuple[Score, ...]:
        """The rows of one metric."""
        return self.overall if metric == ALL_CHECKS else tuple(row for row in self.rows if row.metric == metric)


def scores(store: Store, selection: Selection) -> Scores:
    """Means of every metric by player, with intervals clustered by case. Only blind ratings by people count."""
    given = measures.given(store, selection)
    rows, overall = _numbers(store, selection) if given.numbers else ([], ())
    errors = 0
    if given.words:
        words = measures.labels(store, selection)
        rows += _shares(words, players(store, selection.task, selection.by, words["player"]))
        errors = int(words[words["label"].isna()]["answers"].sum())
    order = players(store, selection.task, selection.by).ids if rows else ()
    return Scores(selection.rater_kind, _arranged(rows, order), _arranged(overall, order), errors)


def _arranged(rows: Sequence[Score], order: Sequence[str]) -> tuple[Score, ...]:
    """Metrics as they came, and within each the players as they first ran."""
    metrics = list(dict.fromkeys(row.metric for row in rows))
    places = {id_: place for place, id_ in enumerate(order)}
    return tuple(sorted(rows, key=lambda row: (metrics.index(row.metric), places.get(row.player.id, len(places)))))


def _numbers(store: Store, selection: Selection) -> tuple[list[Score], tuple[Score, ...]]:
    described = queries.task(store, selection.task)
    criteria = frozenset(described.criteria) if described else frozenset()
    numbers = measures.scores(store, selection)
    known = players(store, selection.task, selection.by, numbers["player"])
    kinds = numbers[["metric", "version"]].drop_duplicates()
    several = {str(metric) for metric, count in kinds["metric"].value_counts().items() if count > 1}
    rows = []
    for (metric, version), group in numbers.groupby(["metric", "version"], dropna=False, sort=False):
        scale = scale_of(str(metric), float(group["low"].min()), float(group["high"].max()), criteria)
        name = str(version) if metric in several and isinstance(version, str) else str(metric)
        rows += [
            Score(name, known[str(row["player"])], mean_score(row["n"], row["total"], row["cases"], scale), scale)
            for row in group.to_dict("records")
        ]
    overall: tuple[Score, ...] = ()
    if selection.rater_kind in ("grader", "judge"):
        overall = _overall(store, selection, numbers, rows, several)
    return rows, overall


def _overall(
    store: Store, selection: Selection, numbers: pd.DataFrame, rows: Sequence[Score], several: set[str]
) -> tuple[Score, ...]:
    chosen: dict[str, str | None] = {}
    for metric, group in numbers.groupby("metric", sort=False):
        newest = group["version"].iloc[int(group["newest"].to_numpy().argmax())]
        same = group[group["version"] == newest] if isinstance(newest, str) else group
        if same["low"].min() >= 0 and same["high"].max() <= 1:
            chosen[str(metric)] = newest if isinstance(newest, str) else None
    if not chosen:
        return ()
    if len(chosen) == 1 and not several & chosen.keys():
        # One check says all that there is to say; its rows need not be fetched again.
        (metric,) = chosen
        return tuple(replace(row, metric=ALL_CHECKS) for row in rows if row.metric == metric)
    together = measures.scores_together(store, selection, list(chosen), list(chosen.values()))
    known = players(store, selection.task, selection.by, together["player"])
    return tuple(
        Score(
            ALL_CHECKS, known[str(row["player"])], mean_score(row["n"], row["total"], row["cases"], FRACTION), FRACTION
        )
        for row in together.to_dict("records")
    )


def _shares(words: pd.DataFrame, known: Players) -> list[Score]:
    """Of checks that answer with a word: how often each word came."""
    named = words[words["label"].notna()]
    totals = named.groupby(["metric", "player"])["answers"].sum()
    return [
        Score(
            f"{row['metric']}: {row['label']}",
            known[str(row["player"])],
            proportion_interval(int(row["answers"]), int(totals[row["metric"], row["player"]])),
            FRACTION,
        )
        for row in named.groupby(["metric", "label", "player"], sort=False)["answers"]
        .sum()
        .reset_index()
        .to_dict("records")
        if isinstance(row["player"], str)
    ]
