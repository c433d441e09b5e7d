"""All results of a task in one object, to print, to plot and to work with."""

from __future__ import annotations

import html
from dataclasses import dataclass
from datetime import datetime
from typing import get_args

import pandas as pd

from feedbackloop import queries
from feedbackloop.errors import StoreError
from feedbackloop.findings import wording
from feedbackloop.findings.breakdown import Issue, SegmentRow, issues, segments
from feedbackloop.findings.figures import Figures, figures
from feedbackloop.findings.players import Player
from feedbackloop.findings.ranking import Ranking, ranking
from feedbackloop.findings.scores import Score, Scores, scores
from feedbackloop.findings.verdict import Row, Verdict, verdict
from feedbackloop.models import RaterKind
from feedbackloop.queries.records import known_task
from feedbackloop.queries.verdicts import By, Selection
from feedbackloop.registry import check_choice
from feedbackloop.stats.interval import Interval, Scope
from feedbackloop.store import Store


@dataclass(frozen=True, repr=False)
class Results:
    """Who is better, by how much, for whom, and at what price: the sentence first, then everything it rests on."""

    verdict: Verdict
    """Votes against the baseline."""
    figures: tuple[Figures, ...]
    """Answers, cost and latency by player."""
    checks: Scores
    """What checks say of single answers."""
    ratings: Scores
    """What the chosen kind of rater says of single answers: thumbs, criteria from 1 to 5."""
    issues: tuple[Issue, ...]
    segments: tuple[SegmentRow, ...]
    """The segment with the greatest loser first."""
    ranking: Ranking | None
    """Bradley-Terry ratings, from four players on."""

    @property
    def sentence(self) -> str:
        """What came of it, in one sentence."""
        return self.verdict.sentence

    @property
    def task(self) -> str:
        """Whose answers were judged."""
        return self.verdict.selection.task

    @property
    def baseline(self) -> Player | None:
        """What the others are compared with; None where nothing has run."""
        return self.verdict.baseline

    @property
    def rows(self) -> tuple[Row, ...]:
        """The others, best first."""
        return self.verdict.rows

    @property
    def variant_ids(self) -> tuple[str, ...]:
        """Every variant that stands anywhere in here, those of the task's runs first: what colours are given by."""
        seen = [one.player for one in self.figures]
        seen += [one.player for one in (*self.checks.rows, *self.ratings.rows)]
        seen += [one.player for one in self.issues]
        return tuple(dict.fromkeys([*self.verdict.players.variant_ids, *(player.variant_id for player in seen)]))

    def figures_of(self, player: str) -> Figures | None:
        """Cost and latency of a player by its id; None where it has no answers."""
        return next((one for one in self.figures if one.player.id == player), None)

    def checks_of(self, player: str) -> Score | None:
        """All checks of a player together; None where nothing checked it."""
        return next((one for one in self.checks.overall if one.player.id == player), None)

    def to_frame(self) -> pd.DataFrame:
        """A row per variant, the baseline first.

        Columns: variant, variant_id, baseline (bool), win_rate with win_rate_lower and win_rate_upper (shares of comparisons with the
        baseline; empty for itself), votes, wins, losses, ties, both_bad, not_blind, raters, answers, failed, checks, cost_usd,
        latency_p50_ms and latency_p95_ms, each with _lower and _upper, and unpriced.
        """
        base = self.baseline
        if base is None:
            return pd.DataFrame()
        records = [self._record(base, None), *(self._record(row.player, row) for row in self.rows)]
        return pd.DataFrame.from_records(records)

    def _record(self, player: Player, row: Row | None) -> dict[str, object]:
        figure, check = self.figures_of(player.id), self.checks_of(player.id)
        return {
            "variant": player.label,
            "variant_id": player.variant_id,
            "baseline": row is None,
            **_columns("win_rate", row.win_rate if row else None),
            "votes": row.votes if row else 0,
            "wins": row.wins if row else 0,
            "losses": row.losses if row else 0,
            "ties": row.ties if row else 0,
            "both_bad": row.both_bad if row else 0,
            "not_blind": row.not_blind if row else 0,
            "raters": str(row.raters) if row and row.votes else "",
            "answers": figure.answers if figure else 0,
            "failed": figure.failed if figure else 0,
            **_columns("checks", check.mean if check else None),
            **_columns("cost_usd", figure.cost_usd if figure else None),
            "unpriced": figure.unpriced if figure else 0,
            **_columns("latency_p50_ms", figure.latency_p50_ms if figure else None),
            **_columns("latency_p95_ms", figure.latency_p95_ms if figure else None),
        }

    def __repr__(self) -> str:
        """The sentence and what belongs to it, a line each."""
        return "\n".join((self.sentence, *(f"  {note}" for note in self.verdict.notes)))

    def _repr_html_(self) -> str:
        """For notebooks: the sentence, its notes, a table of the variants. Every text is escaped."""
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.verdict.notes)
        head = "".join(f"<th>{name}</th>" for name in _HEADINGS)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>" for cells in self._cells()
        )
        return (
            f"<div><p><b>{html.escape(self.sentence)}</b></p>{f'<ul>{notes}</ul>' if notes else ''}"
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )

    def _cells(self) -> list[tuple[str, ...]]:
        if self.baseline is None:
            return []
        pairs: list[tuple[Player, Row | None]] = [(self.baseline, None), *((row.player, row) for row in self.rows)]
        table: list[tuple[str, ...]] = []
        for player, row in pairs:
            figure, check = self.figures_of(player.id), self.checks_of(player.id)
            table.append(
                (
                    player.label,
                    "baseline" if row is None else wording.rate(row.win_rate),
                    f"{row.wins} / {row.losses} / {row.ties} / {row.both_bad}" if row else "",
                    wording.score(check.mean, check.scale) if check else "-",
                    f"{figure.answers:,}" if figure else "0",
                    wording.cost(figure.cost_usd, figure.unpriced) if figure else "-",
                    wording.latency(figure.latency_p50_ms) if figure else "-",
                    wording.latency(figure.latency_p95_ms) if figure else "-",
                )
            )
        return table


_HEADINGS = (
    "variant",
    "win rate (interval)",
    "won / lost / about the same / both bad",
    "checks",
    "answers",
    "cost per answer",
    "latency p50",
    "latency p95",
)


def results(
    store: Store,
    *,
    task: str | None = None,
    baseline: str | None = None,
    since: datetime | None = None,
    metric: str = "preference",
    rater_kind: RaterKind = "human",
    by: By = "version",
    scope: Scope = "these raters",
) -> Results:
    """What votes, checks and figures say about a task's variants. Only blind votes count.

    Args:
        store: where the answers and votes are.
        task: which task; unless given, the one with the newest run.
        baseline: name, label (`steps@3f2a`) or id of the variant that others are compared with; unless given, what the task says,
            else the first that ran.
        since: only answers made since this moment, and the votes on them.
        metric: which comparisons, where queues ask for several.
        rater_kind: whose votes: people's (`human`), end users' (`user`), model judges' (`judge`) or functions' (`grader`).
        by: `version` tells versions of a name apart, `name` takes them together.
        scope: `these raters` speaks of who voted; `raters like these`, from five raters on, of all people of whom they are a sample,
            with wider intervals.

    Raises:
        StoreError: there is no such store.
        UnknownName: there is no such task or variant.
        SettingsError: `by`, `scope`, `rater_kind` or `since` is none that can be.
    """
    for argument, value, known in (("by", by, By), ("scope", scope, Scope), ("rater_kind", rater_kind, RaterKind)):
        check_choice(argument, value, get_args(known))
    selection = Selection(named_task(store, task), since, metric, rater_kind, by)
    found = verdict(store, selection, baseline, scope)
    return Results(
        verdict=found,
        figures=figures(store, selection),
        checks=scores(store, of_checks(selection)),
        ratings=scores(store, selection),
        issues=issues(store, selection),
        segments=segments(store, selection, found.baseline.id) if found.baseline else (),
        ranking=ranking(store, selection, found.cells, found.players, scope),
    )


def named_task(store: Store, task: str | None) -> str:
    """The task asked for, or the one with the newest run.

    Raises:
        StoreError: there is no such store, or nothing in it.
        UnknownName: there is no such task.
    """
    store.must_exist()
    known = queries.tasks(store)
    if task is not None:
        return known_task(store, task, known)
    if not known:
        raise StoreError(f"{store.url}: this store holds no task yet; `feedbackloop run SPEC.yaml` makes one")
    return known[0]


def of_checks(selection: Selection) -> Selection:
    """The same answers, as checks see them."""
    return Selection(selection.task, selection.since, selection.metric, "grader", selection.by)


def _columns(name: str, interval: Interval | None) -> dict[str, float | None]:
    if interval is None:
        return {name: None, f"{name}_lower": None, f"{name}_upper": None}
    return {name: interval.estimate, f"{name}_lower": interval.lower, f"{name}_upper": interval.upper}
