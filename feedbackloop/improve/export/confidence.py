"""How sure a label is, by how many spoke for it, against it, or could not decide."""

from __future__ import annotations

import math


def confidence(up: int, down: int, ties: int = 0) -> float:
    """Probability that more than half of all raters would side with the majority.

    P(p > 1/2) under the Beta(1 + up + ties/2, 1 + down + ties/2) posterior of a flat prior: 1-0 gives .75, 2-0 .875, 3-1 .8125.
    Both parameters are whole or both are halves, so it is a finite sum: P(1/2) for equal ones, and from there on the recurrence
    of the incomplete beta function, I(a+1, b) = I(a, b) - x^a (1-x)^b / (a B(a, b)) (DLMF 8.17.20).

    Args:
        up: voices for the label, at least as many as `down`.
        down: voices against it.
        ties: undecided ones, half a voice for either side.
    """
    a = b = 1 + down + ties / 2
    total = 0.5
    for _ in range(up - down):
        log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
        total += math.exp(-(a + b) * math.log(2) - math.log(a) - log_beta)
        a += 1
    return min(total, 1.0)
