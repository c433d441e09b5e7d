"""Lists of names as the pages say them."""

from __future__ import annotations


def shortened(names: list[str] | tuple[str, ...], most: int = 4) -> str:
    """`Anna`, `Anna and Ben`, `Anna, Ben and 3 more`."""
    shown = list(names) if len(names) <= most else [*names[: most - 1], f"{len(names) - most + 1:,} more"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)
