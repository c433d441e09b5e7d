"""The Bradley-Terry likelihood of counted comparisons, its maximum, and what the covariance of the estimates is made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from feedbackloop.stats.interval import FloatArray, IntArray

LONGEST_STEP = 1e-10
"""Newton stops at smaller steps, in logits."""

MOST_STEPS = 50
"""Six are usual."""


@dataclass(frozen=True, eq=False)
class Likelihood:
    """P(a beats b) = 1 / (1 + exp(-(theta_a - theta_b + gamma))), a tie as half a win of each. Arrays of shape [cells].

    Parameters are one vector: theta of each player, and gamma, the advantage of being shown first, where `position` holds.
    """

    size: int
    """Players."""
    a: IntArray
    b: IntArray
    wins_a: FloatArray
    halves: FloatArray
    wins_b: FloatArray
    weight: FloatArray
    """Of one comparison in the cell."""
    prior: float
    """Comparisons with an opponent of strength 0, one half of each won, that are added to every player."""
    position: bool
    position_prior: float = 0.0
    """The same for gamma: above 0 only where every comparison was won by the same side, which would make gamma infinite."""

    @property
    def n(self) -> FloatArray:
        """Comparisons in each cell."""
        return self.wins_a + self.halves + self.wins_b

    @property
    def points(self) -> FloatArray:
        """Of the player shown first."""
        return self.wins_a + 0.5 * self.halves

    @property
    def _priors(self) -> FloatArray:
        priors = np.full(self.size + self.position, self.prior)
        if self.position:
            priors[-1] = self.position_prior
        return priors

    def chance(self, parameters: FloatArray) -> FloatArray:
        """P(a beats b) in each cell."""
        return np.asarray(special.expit(self._eta(parameters)), dtype=np.float64)

    def maximum(self) -> FloatArray:
        """The parameters at the maximum, by Newton's method with step halving.

        Raises:
            ValueError: there is no finite maximum, which a prior above 0 rules out.
        """
        parameters = np.zeros(self.size + self.position)
        value = self._objective(parameters)
        for _ in range(MOST_STEPS):
            slope = self.spread(self.weight * (self.points - self.n * self.chance(parameters)))
            slope += self._priors * (0.5 - special.expit(parameters))
            try:
                step = np.linalg.solve(self.information(parameters), slope)
            except np.linalg.LinAlgError as error:
                raise ValueError("the comparisons do not determine the position effect") from error
            if np.abs(step).max(initial=0) < LONGEST_STEP:
                return parameters
            # Near the maximum rounding makes the objective flicker; a fall smaller than that is none.
            while (reached := self._objective(parameters + step)) < value - 1e-12 * abs(value):
                step /= 2
            parameters = parameters + step
            if not self.prior:
                parameters[: self.size] -= parameters[: self.size].mean()
            value = reached
        raise ValueError("the ratings have no finite maximum: one side won everything; set a prior above 0")

    def information(self, parameters: FloatArray) -> FloatArray:
        """The negative Hessian, with the prior; without one, the direction of a common shift is filled in."""
        chance = self.chance(parameters)
        matrix = self.outer(self.weight * self.n * chance * (1 - chance))
        if not self.prior:
            matrix[: self.size, : self.size] += np.diag(matrix)[: self.size].mean() / self.size
        return matrix + np.diag(self.prior_information(parameters))

    def prior_information(self, parameters: FloatArray) -> FloatArray:
        """The prior's part of the information's diagonal."""
        sigma = special.expit(parameters)
        return np.asarray(self._priors * sigma * (1 - sigma), dtype=np.float64)

    def squared_residuals(self, parameters: FloatArray) -> FloatArray:
        """Summed over each cell's comparisons, weights squared too."""
        chance = self.chance(parameters)
        seen = self.wins_a * (1 - chance) ** 2 + self.halves * (0.5 - chance) ** 2 + self.wins_b * chance**2
        return self.weight**2 * seen

    def spread(self, by_cell: FloatArray) -> FloatArray:
        """X'v: a value of each cell, added for a, taken off for b, and summed for gamma."""
        theta = np.bincount(self.a, by_cell, self.size) - np.bincount(self.b, by_cell, self.size)
        return np.append(theta, by_cell.sum()) if self.position else np.asarray(theta, dtype=np.float64)

    def outer(self, by_cell: FloatArray) -> FloatArray:
        """X' diag(v) X."""
        size = self.size
        pairs = np.bincount(self.a * size + self.b, by_cell, size**2).reshape(size, size)
        matrix = np.zeros((size + self.position, size + self.position))
        matrix[:size, :size] = np.diag(pairs.sum(axis=0) + pairs.sum(axis=1)) - pairs - pairs.T
        if self.position:
            matrix[size, :] = matrix[:, size] = self.spread(by_cell)
        return matrix

    def _eta(self, parameters: FloatArray) -> FloatArray:
        gamma = parameters[-1] if self.position else 0.0
        return np.asarray(parameters[self.a] - parameters[self.b] + gamma, dtype=np.float64)

    def _objective(self, parameters: FloatArray) -> float:
        eta = self._eta(parameters)
        data = np.sum(self.weight * (self.points * eta - self.n * np.logaddexp(0, eta)))
        return float(data + np.sum(self._priors * (parameters / 2 - np.logaddexp(0, parameters))))
