"""Where and why a variant loses: by segment of the cases, and by the faults that raters named."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from feedbackloop.findings.players import Player, players
from feedbackloop.findings.samples import win_rate
from feedbackloop.queries import verdicts
from feedbackloop.queries.verdicts import Selection
from feedbackloop.stats.interval import Interval, proportion_interval
from feedbackloop.store import Store

UNNAMED = "no segment"
"""What cases without one are called."""


@dataclass(frozen=True)
class Issue:
    """A fault that raters named, and on how many of a player's answers."""

    player: Player
    label: str
    answers: int
    """Named by somebody who rated blind."""
    judged: int
    """Answers of this player that somebody judged blind."""
    share: Interval
    """Of those judged."""
    open_answers: int
    """Named only by people who knew whose answers they read: not part of the share."""


@dataclass(frozen=True)
class SegmentRow:
    """A player against the baseline in one segment."""

    segment: str
    """As the case names it, or `no segment`."""
    named: bool
    """Whether the cases name one."""
    player: Player
    win_rate: Interval
    wins: int
    losses: int
    ties: int
    """Both-bad among them."""


def issues(store: Store, selection: Selection) -> tuple[Issue, ...]:
    """The faults that one kind of rater named, the most frequent label first."""
    named = verdicts.issues(store, selection)
    if not len(named):
        return ()
    known = players(store, selection.task, selection.by, named["player"])
    judged = {str(row["player"]): int(row["answers"]) for row in verdicts.judged(store, selection).to_dict("records")}
    order = named.groupby("label")["answers"].sum().sort_values(ascending=False, kind="stable").index.tolist()
    rows = sorted(named.to_dict("records"), key=lambda row: (order.index(row["label"]), -int(row["answers"])))
    return tuple(
        Issue(
            player=known[str(row["player"])],
            label=str(row["label"]),
            answers=int(row["answers"]),
            judged=judged.get(str(row["player"]), 0),
            share=proportion_interval(int(row["answers"]), judged.get(str(row["player"]), 0)),
            open_answers=int(row["open_answers"]),
        )
        for row in rows
    )


def segments(store: Store, selection: Selection, baseline: str) -> tuple[SegmentRow, ...]:
    """Win rates against the baseline by segment; none where all cases are of one.

    Args:
        store: where the votes are.
        selection: which votes.
        baseline: its player id.

    Returns:
        The segment where some player does worst comes first, by rates drawn towards a half as by four more votes: the
        lowest ones are those of a vote or two.
    """
    duels = verdicts.duels(store, selection, baseline, by_segment=True)
    duels["named"] = duels["segment"].notna()
    if duels["segment"].nunique(dropna=False) < 2:
        return ()
    known = players(store, selection.task, selection.by, duels["player"])
    rows = [
        _row(known[str(player)], group) for (player, _), group in duels.groupby(["player", "segment"], dropna=False)
    ]
    worst = dict.fromkeys((row.segment for row in rows), 1.0)
    for row in rows:
        worst[row.segment] = min(
            worst[row.segment], ((row.win_rate.estimate or 0.0) * row.win_rate.n + 2) / (row.win_rate.n + 4)
        )
    return tuple(sorted(rows, key=lambda row: (worst[row.segment], row.segment, row.win_rate.estimate or 0.0)))


def _row(player: Player, group: pd.DataFrame) -> SegmentRow:
    named = bool(group["named"].iloc[0])
    totals = {column: int((group[column] * group["cases"]).sum()) for column in ("wins", "losses", "ties", "both_bad")}
    return SegmentRow(
        segment=str(group["segment"].iloc[0]) if named else UNNAMED,
        named=named,
        player=player,
        win_rate=win_rate(group),
        wins=totals["wins"],
        losses=totals["losses"],
        ties=totals["ties"] + totals["both_bad"],
    )
