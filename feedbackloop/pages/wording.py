"""Stretches of time and lists of names as the pages say them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """A stretch of time, roughly."""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{round(whole / 60)} min" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02} min"


def shortened(names: list[str] | tuple[str, ...], most: int = 4) -> str:
    """`Anna`, `Anna and Ben`, `Anna, Ben and 3 more`."""
    shown = list(names) if len(names) <= most else [*names[: most - 1], f"{len(names) - most + 1:,} more"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)
