"""Counts of comparisons by ordered pair: what a ranking needs of the votes, however many there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from feedbackloop.stats.interval import FloatArray, IntArray

Ties = Literal["half", "drop"]
"""Ties and both-bad count as half a win for either side, or are left out of the fit."""


@dataclass(frozen=True, eq=False)
class Record:
    """What each player went through; arrays of shape [players]."""

    n: FloatArray
    wins: FloatArray
    losses: FloatArray
    ties: FloatArray
    both_bad: FloatArray


@dataclass(frozen=True, eq=False)
class Cells:
    """Outcomes by ordered pair: `a` was shown first. All arrays have shape [cells].

    One row of a GROUP BY is one cell; a pair shown both ways has two, which is what a position effect is read from.
    """

    players: tuple[str, ...]
    """In alphabetical order; `a` and `b` index them."""
    a: IntArray
    b: IntArray
    wins_a: FloatArray
    ties: FloatArray
    both_bad: FloatArray
    wins_b: FloatArray
    self_comparisons: float = 0.0
    """How many comparisons of a player with itself were left out."""

    @classmethod
    def from_counts(
        cls,
        a_names: Sequence[str],
        b_names: Sequence[str],
        *,
        wins_a: ArrayLike,
        ties: ArrayLike,
        both_bad: ArrayLike,
        wins_b: ArrayLike,
    ) -> Self:
        """Cells from the columns of a GROUP BY, each of shape [rows]. Comparisons of a player with itself are left out.

        Raises:
            ValueError: the columns differ in length, or a count is negative or no number.
        """
        columns = [np.asarray(column, dtype=np.float64) for column in (wins_a, ties, both_bad, wins_b)]
        if {column.shape for column in columns} != {(len(a_names),)} or len(a_names) != len(b_names):
            raise ValueError("the columns of names and counts differ in length")
        counts = np.array(columns)
        if not (np.isfinite(counts).all() and (counts >= 0).all()):
            raise ValueError("a count is negative or no number")
        own = np.array([a == b for a, b in zip(a_names, b_names, strict=True)], dtype=bool)
        kept = np.flatnonzero(~own & (counts.sum(axis=0) > 0)).tolist()
        players = tuple(sorted({a_names[row] for row in kept} | {b_names[row] for row in kept}))
        place = {name: index for index, name in enumerate(players)}
        return cls(
            players,
            a=np.array([place[a_names[row]] for row in kept], dtype=np.int64),
            b=np.array([place[b_names[row]] for row in kept], dtype=np.int64),
            wins_a=counts[0, kept],
            ties=counts[1, kept],
            both_bad=counts[2, kept],
            wins_b=counts[3, kept],
            self_comparisons=float(counts[:, own].sum()),
        )

    @property
    def n(self) -> FloatArray:
        """Comparisons in each cell."""
        return self.wins_a + self.ties + self.both_bad + self.wins_b

    @property
    def halves(self) -> FloatArray:
        """Comparisons in each cell without a winner."""
        return self.ties + self.both_bad

    def record(self) -> Record:
        """Wins, losses, ties and both-bad of each player."""
        return Record(
            n=self._by_player(self.n, self.n),
            wins=self._by_player(self.wins_a, self.wins_b),
            losses=self._by_player(self.wins_b, self.wins_a),
            ties=self._by_player(self.ties, self.ties),
            both_bad=self._by_player(self.both_bad, self.both_bad),
        )

    def win_matrix(self, ties: Ties = "half") -> FloatArray:
        """Points of the row's player against the column's, [players, players], both orders together."""
        half = 0.5 * self.halves if ties == "half" else 0.0
        return self._by_pair(self.wins_a + half, self.wins_b + half)

    def count_matrix(self, ties: Ties = "half") -> FloatArray:
        """Comparisons between two players, [players, players], symmetric; without undecided ones where ties are dropped."""
        used = self.n if ties == "half" else self.wins_a + self.wins_b
        return self._by_pair(used, used)

    def components(self, ties: Ties = "half") -> IntArray:
        """For each player the number of the group that comparisons connect it with; 0 is the largest group."""
        if not self.players:
            return np.zeros(0, dtype=np.int64)
        _, labels = connected_components(coo_array(self.count_matrix(ties)), directed=False)
        order = np.argsort(-np.bincount(labels), kind="stable")
        return np.asarray(np.argsort(order)[labels], dtype=np.int64)

    def strong_components(self, ties: Ties = "half") -> IntArray:
        """Groups within which each player can be reached from each by a chain of wins (or ties, where they count).

        Between two such groups one side won everything: without a prior the difference between them is infinite.
        """
        if not self.players:
            return np.zeros(0, dtype=np.int64)
        _, labels = connected_components(coo_array(self.win_matrix(ties)), directed=True, connection="strong")
        return np.asarray(labels, dtype=np.int64)

    def _by_player(self, as_first: FloatArray, as_second: FloatArray) -> FloatArray:
        size = len(self.players)
        summed = np.bincount(self.a, as_first, size) + np.bincount(self.b, as_second, size)
        return np.asarray(summed, dtype=np.float64)

    def _by_pair(self, for_first: FloatArray, for_second: FloatArray) -> FloatArray:
        size = len(self.players)
        place, mirrored = self.a * size + self.b, self.b * size + self.a
        summed = np.bincount(place, for_first, size**2) + np.bincount(mirrored, for_second, size**2)
        return np.asarray(summed, dtype=np.float64).reshape(size, size)
