"""Figures as people read them: with their interval, rounded to what they can bear."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from feedbackloop.stats.interval import Interval
from feedbackloop.wording import count, dollars, milliseconds


def digits(interval: Interval) -> int:
    """Decimals that a percentage deserves: one where its interval is narrower than four points."""
    half = interval.half_width
    return 1 if half is not None and half < 0.02 else 0


def percent(share: float, decimals: int = 0) -> str:
    """`63%`. What is neither nothing nor all is never rounded to it."""
    value = 100 * share
    rounded = round(value, decimals)
    step = 10**-decimals
    if rounded <= 0 < value:
        return f"under {step:g}%"
    if value < 100 <= rounded:
        return f"over {100 - step:g}%"
    return f"{rounded:.{decimals}f}%"


def span(interval: Interval) -> str:
    """The bounds of a percentage: `55 to 71`."""
    decimals = digits(interval)
    low, high = interval.lower, interval.upper
    if low is None or high is None:
        return "unknown"
    return f"{100 * low:.{decimals}f} to {100 * high:.{decimals}f}"


def rate(interval: Interval) -> str:
    """A share with its interval: `63% (55 to 71)`; without data `-`."""
    if interval.estimate is None:
        return "-"
    return f"{percent(interval.estimate, digits(interval))} ({span(interval)})"


def number(value: float) -> str:
    """Three digits that count."""
    if not math.isfinite(value):
        return "?"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def score(interval: Interval, scale: tuple[float, float] | None) -> str:
    """A mean score with its interval: a share on the scale 0 to 1, else a number."""
    if interval.estimate is None:
        return "-"
    if scale == (0.0, 1.0):
        return rate(interval)
    return f"{number(interval.estimate)} ({between(interval, number)})"


def between(interval: Interval, form: Callable[[float], str]) -> str:
    """The bounds of a measure, each as `form` writes it; one that few data leave open is said so."""
    low, high = interval.lower, interval.upper
    if low is None or high is None or (math.isinf(low) and math.isinf(high)):
        return "too few to say"
    if math.isinf(high):
        return f"{form(low)} or more"
    return f"up to {form(high)}" if math.isinf(low) else f"{form(low)} to {form(high)}"


def cost(interval: Interval, unpriced: int = 0) -> str:
    """A mean cost with its interval, and how many answers it leaves out for want of a price."""
    left_out = f", {unpriced:,} unpriced" if unpriced else ""
    if interval.estimate is None:
        return f"unknown{left_out}"
    return f"{dollars(interval.estimate)} ({between(interval, lambda usd: dollars(max(usd, 0.0)))}){left_out}"


def latency(interval: Interval) -> str:
    """A latency with its interval."""
    if interval.estimate is None:
        return "-"
    return f"{milliseconds(interval.estimate)} ({between(interval, milliseconds)})"


def listed(names: Sequence[str], total: int | None = None) -> str:
    """`Anna`, `Anna and Ben`, `Anna, Ben and 4 others`."""
    total = len(names) if total is None else total
    if total > len(names):
        rest = total - len(names)
        return f"{', '.join(names)} and {rest:,} other{'' if rest == 1 else 's'}" if names else f"{total:,}"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "nobody"


def duration(seconds: float) -> str:
    """How long some rating will take: `7 minutes`, `2.5 hours`; never less than a minute."""
    minutes = max(1, round(seconds / 60))
    if minutes < 90:
        return count(minutes, "minute")
    half_hours = round(minutes / 30)
    return f"{half_hours / 2:g} hours"


def answering(weights: Mapping[str, Mapping[str, float]], names: Mapping[str, str]) -> str:
    """Who answers by a policy: `steps@3f2a 90%, terse@9c01 10%; de: steps@3f2a`.

    Args:
        weights: by segment (`*` for all others), the share of each variant id.
        names: what the variants are called.
    """
    parts = []
    for segment, shares in sorted(weights.items()):
        who = ", ".join(
            names.get(variant, variant[:8])
            + ("" if share >= 1 else f" {share:.3g}" if share < 0.01 else f" {share:.0%}")
            for variant, share in sorted(shares.items(), key=lambda item: -item[1])
        )
        parts.append(who if segment == "*" else f"{segment}: {who}")
    return "; ".join(parts)


def short(name: str, longest: int = 48) -> str:
    """A name by somebody else on one line, cut where it is long."""
    flat = " ".join(name.split())
    return flat if len(flat) <= longest else flat[: longest - 1].rstrip() + "…"
