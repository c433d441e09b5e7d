"""Times and amounts as the pages say them, beside those of `results.wording`."""

from __future__ import annotations

from datetime import datetime

from feedbackloop.findings.wording import count, dollars


def spend(spent_usd: float, unpriced: int) -> str:
    """What was spent, as far as it is known: `at least $1.23, 12 unpriced`."""
    return f"at least {dollars(spent_usd)}, {unpriced:,} unpriced" if unpriced else dollars(spent_usd)


def duration(seconds: float) -> str:
    """A stretch of time, roughly."""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{round(whole / 60)} min" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02} min"


def ago(then: datetime, now: datetime) -> str:
    """How long ago."""
    seconds = (now - then).total_seconds()
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= length:
            return f"{count(int(seconds // length), unit)} ago"
    return "just now"


def shortened(names: list[str] | tuple[str, ...], most: int = 4) -> str:
    """`Anna`, `Anna and Ben`, `Anna, Ben and 3 more`."""
    shown = list(names) if len(names) <= most else [*names[: most - 1], f"{len(names) - most + 1:,} more"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)
