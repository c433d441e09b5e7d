"""Numbers, amounts and times as people read them, the same on the terminal, on the pages and in sentences."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any


def count(number: int, noun: str, plural: str | None = None) -> str:
    """`1 answer`, `1,204 answers`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def dollars(amount: float | None) -> str:
    """An amount with as many digits as say something."""
    if amount is None or math.isnan(amount):
        return "unknown"
    if amount == 0 or abs(amount) >= 0.995:
        return f"${amount:,.2f}"
    return f"${amount:.{min(8, 1 - math.floor(math.log10(abs(amount))))}f}"


def spend(spent_usd: float | None, unpriced: int) -> str:
    """What was spent, as far as it is known: `at least $1.23, 12 unpriced`, or `unknown, 12 unpriced` where nothing is."""
    known = 0.0 if spent_usd is None or math.isnan(spent_usd) else spent_usd
    if not unpriced:
        return dollars(known)
    return f"{f'at least {dollars(known)}' if known else 'unknown'}, {unpriced:,} unpriced"


def milliseconds(value: float | None) -> str:
    """A latency."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.0f} ms" if value < 999.5 else f"{value / 1000:.1f} s"


def file_name(name: str) -> str:
    """A file's name as its owner knows it: an upload's without the digits that tell it from others of its name."""
    return re.sub(r"^[0-9a-f]{10}-(?=.)", "", name)


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


def batches(open_ones: Sequence[Mapping[str, Any]]) -> str:
    """Batches that a provider works on: `batch of 2,000 with OpenAI, 1,200 done`; nothing for none.

    Args:
        open_ones: for each the `provider`, and how many `requests` it has and how many are `done`.
    """
    if not open_ones:
        return ""
    requests, done = (sum(int(one.get(name) or 0) for one in open_ones) for name in ("requests", "done"))
    providers = dict.fromkeys(str(one.get("provider")) for one in open_ones)
    named = " and ".join("OpenAI" if name == "openai" else name for name in providers)
    lead = "batch" if len(open_ones) == 1 else f"{len(open_ones):,} batches"
    return f"{lead} of {requests:,} with {named}, {done:,} done"


def goes_on(waiting: str) -> str:
    """What the batches told by `batches` do meanwhile."""
    return "goes on by itself" if waiting.startswith("batch ") else "go on by themselves"
