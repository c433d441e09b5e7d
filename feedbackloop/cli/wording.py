"""Other people's text as a terminal shows it."""

from __future__ import annotations

import re
from typing import Any

# What a terminal would obey, and marks that turn the direction of the text around them.
_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: Any, longest: int | None = None) -> str:
    """Somebody else's text on one line, without anything that a terminal would obey, cut at `longest` characters."""
    flat = _OBEYED.sub("\ufffd", " ".join(re.split(r"[\t\r\n]+", str(text)))).strip()
    return flat if longest is None or len(flat) <= longest else flat[: longest - 1].rstrip() + "…"
