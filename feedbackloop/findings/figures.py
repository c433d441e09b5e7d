"""What a variant's answers take in time and money."""

from __future__ import annotations

from dataclasses import dataclass

from feedbackloop.findings.players import Player, players
from feedbackloop.findings.samples import floats, mean_of_cases
from feedbackloop.queries import measures
from feedbackloop.queries.verdicts import Selection
from feedbackloop.stats.interval import Interval, quantile_interval
from feedbackloop.store import Store


@dataclass(frozen=True)
class Figures:
    """Of one player's answers."""

    player: Player
    answers: int
    """Completed ones."""
    failed: int
    cached: int
    unpriced: int
    """Completed, but their price is not known: left out of the cost."""
    cost_usd: Interval
    """Mean of an answer; the n are cases, since repeats of a case cost alike."""
    latency_p50_ms: Interval
    """Of answers that were not taken from a cache."""
    latency_p95_ms: Interval


def figures(store: Store, selection: Selection) -> tuple[Figures, ...]:
    """Time and money by player; players without an answer are not among them."""
    found = []
    rows = measures.figures(store, selection)
    known = players(store, selection.task, selection.by, rows["player"])
    for row in rows.to_dict("records"):
        latencies = floats(row["latencies"])
        found.append(
            Figures(
                player=known[str(row["player"])],
                answers=int(row["answers"]),
                failed=int(row["failed"]),
                cached=int(row["cached"]),
                unpriced=int(row["unpriced"]),
                cost_usd=mean_of_cases(row["costs"], row["cost_items"]),
                latency_p50_ms=quantile_interval(latencies, 0.5),
                latency_p95_ms=quantile_interval(latencies, 0.95),
            )
        )
    return tuple(found)
