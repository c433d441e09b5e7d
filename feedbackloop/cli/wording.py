"""Figures, times and other people's text as a terminal shows them."""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import Any

# What a terminal would obey, and marks that turn the direction of the text around them.
_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: Any, longest: int | None = None) -> str:
    """Somebody else's text on one line, without anything that a terminal would obey, cut at `longest` characters."""
    flat = _OBEYED.sub("\ufffd", " ".join(re.split(r"[\t\r\n]+", str(text)))).strip()
    return flat if longest is None or len(flat) <= longest else flat[: longest - 1].rstrip() + "…"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """`1 answer`, `1,204 answers`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def dollars(amount: float | None) -> str:
    """An amount with as many digits as say something."""
    if amount is None or math.isnan(amount):
        return "unknown"
    if amount == 0 or amount >= 0.995:
        return f"${amount:,.2f}"
    return f"${amount:.{min(8, 1 - math.floor(math.log10(amount)))}f}"


def spend(spent_usd: float | None, unpriced: int) -> str:
    """What was spent, as far as it is known."""
    known = 0.0 if spent_usd is None or math.isnan(spent_usd) else spent_usd
    return f"at least {dollars(known)}, {unpriced:,} unpriced" if unpriced else dollars(known)


def milliseconds(value: float | None) -> str:
    """A latency."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.0f} ms" if value < 999.5 else f"{value / 1000:.1f} s"


def duration(seconds: float) -> str:
    """A stretch of time, roughly."""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def ago(then: datetime, now: datetime) -> str:
    """How long ago."""
    seconds = (now - then).total_seconds()
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= length:
            return f"{count(int(seconds // length), unit)} ago"
    return "just now"
