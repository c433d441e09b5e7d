"""Who is preferred to the baseline, by how much, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from feedbackloop import queries
from feedbackloop.findings import sentence, wording
from feedbackloop.findings.players import Player, Players, players
from feedbackloop.findings.samples import win_rate, win_rate_of_raters
from feedbackloop.models import RaterKind
from feedbackloop.queries import measures, verdicts
from feedbackloop.queries.pairs import seconds_per_vote
from feedbackloop.queries.verdicts import Selection
from feedbackloop.stats.cells import Cells
from feedbackloop.stats.interval import Interval, Scope, proportion_interval
from feedbackloop.stats.standings import FEWEST_COMPARISONS
from feedbackloop.store import Store
from feedbackloop.wording import count

_KINDS: dict[RaterKind, str] = {"human": "rater", "user": "end user", "judge": "model judge", "grader": "check"}


@dataclass(frozen=True)
class Raters:
    """Whose taste a figure speaks of."""

    total: int
    names: tuple[str, ...] = ()
    """Of those who voted most; all of them where they are few."""
    kind: RaterKind = "human"

    def __str__(self) -> str:
        """`Anna and Ben`, `1,204 end users`."""
        if self.kind == "user":
            return count(self.total, _KINDS[self.kind])
        names = self.names if self.total > len(self.names) else sorted(self.names)
        return wording.listed([wording.short(name, 30) for name in names], self.total)


@dataclass(frozen=True)
class Row:
    """A player against the baseline, in the blind votes between the two."""

    player: Player
    win_rate: Interval
    """Share of comparisons won, about the same and both bad as half."""
    wins: int
    losses: int
    ties: int
    both_bad: int
    both_bad_rate: Interval
    raters: Raters
    not_blind: int
    """Votes by raters who knew whose answers they saw: not counted in anything else here."""

    @property
    def votes(self) -> int:
        """Blind ones."""
        return self.wins + self.losses + self.ties + self.both_bad

    @property
    def few(self) -> bool:
        """Whether the figures are preliminary."""
        return self.votes < FEWEST_COMPARISONS

    @property
    def decided(self) -> bool:
        """Whether the interval lies on one side of a half."""
        return self.win_rate.excludes(0.5)


@dataclass(frozen=True)
class AnswerCount:
    """How many completed answers there are."""

    answers: int
    cases: int
    players: int


@dataclass(frozen=True)
class Verdict:
    """All votes of one kind of rater on a task's answers, as seen from the baseline."""

    selection: Selection
    scope: Scope
    players: Players
    baseline: Player | None
    rows: tuple[Row, ...]
    """The others: best first, those with few votes after them, then those without."""
    raters: Raters
    """Who compared anything with the baseline."""
    cells: Cells
    """Every blind vote, by ordered pair of player ids."""
    left: Interval
    """How often the answer on the left was chosen, of the decided votes whose sides are known."""
    not_blind: int
    seconds_per_vote: float
    counted: AnswerCount | None
    """Looked at only while there are no votes."""

    @property
    def votes(self) -> int:
        """Blind ones, between any two."""
        return round(float(self.cells.n.sum()))

    @property
    def best(self) -> Row | None:
        """The first row with votes."""
        return next((row for row in self.rows if row.votes), None)

    @property
    def sentence(self) -> str:
        """What came of it, in one sentence."""
        return sentence.headline(self)

    @property
    def notes(self) -> tuple[str, ...]:
        """What else must be known to read the sentence rightly, a sentence each."""
        return sentence.notes(self)


def verdict(store: Store, selection: Selection, baseline: str | None = None, scope: Scope = "these raters") -> Verdict:
    """Count the votes and say what they amount to.

    Args:
        store: where the votes are.
        selection: which votes.
        baseline: id, label or name of what the others are compared with; unless given, what the task says.
        scope: whether intervals speak of these raters, or of raters like these (from five raters on).

    Raises:
        UnknownName: there is no such variant.
    """
    pairs = verdicts.pairs(store, selection)
    known = players(store, selection.task, selection.by, {*pairs["first"], *pairs["second"]})
    base = _baseline(store, selection, known, baseline)
    blind = pairs[pairs["blind"]]
    cells = Cells.from_counts(
        blind["first"].tolist(),
        blind["second"].tolist(),
        wins_a=blind["wins_first"],
        ties=blind["ties"],
        both_bad=blind["both_bad"],
        wins_b=blind["wins_second"],
    )
    ordered = blind[blind["ordered"]]
    on_left = int(ordered["wins_first"].sum())
    counted = None
    if not len(blind):
        counts = measures.answer_counts(store, selection)
        counted = AnswerCount(int(counts["answers"]), int(counts["cases"]), int(counts["players"]))
    rows, everyone = _rows(store, selection, known, base, pairs=pairs, scope=scope) if base else ((), Raters(0))
    return Verdict(
        selection=selection,
        scope=scope,
        players=known,
        baseline=base,
        rows=rows,
        raters=everyone,
        cells=cells,
        left=proportion_interval(on_left, on_left + int(ordered["wins_second"].sum())),
        not_blind=_total(pairs[~pairs["blind"]]),
        seconds_per_vote=seconds_per_vote(store, selection.task),
        counted=counted,
    )


def _baseline(store: Store, selection: Selection, known: Players, name: str | None) -> Player | None:
    if name is not None:
        return known.named(name)
    chosen = queries.baseline(store, selection.task)
    return None if chosen is None else known.named(chosen.id if selection.by == "version" else chosen.name)


def _rows(
    store: Store, selection: Selection, known: Players, base: Player, *, pairs: pd.DataFrame, scope: Scope
) -> tuple[tuple[Row, ...], Raters]:
    duels = verdicts.duels(store, selection, base.id)
    ballots = verdicts.ballots(store, selection, base.id) if scope == "raters like these" else None
    voters = {
        None if pd.isna(row["player"]) else str(row["player"]): Raters(
            int(row["raters"]), tuple(str(name) for name in row["names"]), selection.rater_kind
        )
        for row in verdicts.raters(store, selection, base.id).to_dict("records")
    }
    nobody = Raters(0, (), selection.rater_kind)
    open_votes = pairs[~pairs["blind"]]
    rows = []
    for player in (one for one in known.known if one.id != base.id):
        mine = duels[duels["player"] == player.id]
        wins, losses, ties, both_bad = (
            int((mine[column] * mine["cases"]).sum()) for column in ("wins", "losses", "ties", "both_bad")
        )
        votes = wins + losses + ties + both_bad
        interval = (
            win_rate(mine) if ballots is None else win_rate_of_raters(ballots[ballots["player"] == player.id], scope)
        )
        together = (open_votes["first"].isin([player.id, base.id])) & (open_votes["second"].isin([player.id, base.id]))
        rows.append(
            Row(
                player=player,
                win_rate=interval,
                wins=wins,
                losses=losses,
                ties=ties,
                both_bad=both_bad,
                both_bad_rate=proportion_interval(both_bad, votes),
                raters=voters.get(player.id, nobody),
                not_blind=_total(open_votes[together]),
            )
        )
    rows.sort(key=lambda row: (not row.votes, row.few, -(row.win_rate.estimate or 0.0)))
    return tuple(rows), voters.get(None, nobody)


def _total(pairs: pd.DataFrame) -> int:
    return int(pairs[["wins_first", "ties", "both_bad", "wins_second"]].to_numpy().sum())
