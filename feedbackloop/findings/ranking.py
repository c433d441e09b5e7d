"""Ratings of four and more variants from all their comparisons, with what must be known of each in words."""

from __future__ import annotations

from dataclasses import dataclass

from feedbackloop.findings.players import Player, Players
from feedbackloop.queries import verdicts
from feedbackloop.queries.verdicts import Selection
from feedbackloop.stats.cells import Cells
from feedbackloop.stats.interval import Scope
from feedbackloop.stats.ranking import bradley_terry, rater_residuals
from feedbackloop.stats.standings import BradleyTerry, Flag, Standing
from feedbackloop.store import Store

FEWEST_PLAYERS = 4
"""With fewer, win rates against the baseline say it all."""

LINKING_PAIRS = 10
"""So many are proposed to connect a player with the others."""


@dataclass(frozen=True)
class Rated:
    """A player's rating: 1000 is the mean of all that comparisons connect it with."""

    player: Player
    standing: Standing
    remarks: tuple[str, ...]
    """What to know before believing it: `few votes yet`, `won everything so far`."""


@dataclass(frozen=True)
class Ranking:
    """A Bradley-Terry table."""

    rows: tuple[Rated, ...]
    """Best first, players with few votes after the others."""
    fit: BradleyTerry


def ranking(
    store: Store, selection: Selection, cells: Cells, players: Players, scope: Scope = "these raters"
) -> Ranking | None:
    """Rate all players by their blind comparisons; None where fewer than four took part.

    Args:
        store: asked only where the scope needs to know who voted.
        selection: which votes.
        cells: their counts, as `Verdict.cells` has them.
        players: what they are called.
        scope: whether intervals speak of these raters, or of raters like these (from five on).
    """
    if len(cells.players) < FEWEST_PLAYERS:
        return None
    fit = bradley_terry(cells)
    if scope == "raters like these":
        votes = verdicts.raters_of_pairs(store, selection)
        columns = [votes[name].tolist() for name in ("first", "second", "score", "n", "rater")]
        first, second, score, n, rater = columns
        fit = bradley_terry(cells, rater_scores=rater_residuals(fit, first, second, score=score, n=n, raters=rater))
    return Ranking(tuple(Rated(players[row.name], row, _remarks(row, fit, players)) for row in fit.rows), fit)


def _remarks(row: Standing, fit: BradleyTerry, players: Players) -> tuple[str, ...]:
    said = []
    if Flag.PRELIMINARY in row.flags:
        said.append("few votes yet")
    if Flag.DISCONNECTED in row.flags:
        # Whom to compare it with: the best of the largest group, or for that group's own members the best of another.
        other = next((one for one in fit.rows if one.component != row.component), None)
        if other is not None:
            said.append(f"never compared with {players[other.name].label}: rate {LINKING_PAIRS} pairs")
    if Flag.ALL_TIES in row.flags:
        said.append("nothing decided so far")
    elif Flag.SEPARATED in row.flags:
        said.append("won everything so far" if row.wins > row.losses else "lost everything so far")
    return tuple(said)
