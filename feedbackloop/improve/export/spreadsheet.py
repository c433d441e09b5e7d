"""Keeping spreadsheets from running other people's texts."""

from __future__ import annotations

import re

FORMULA = r"^[=+\-@\t\r]"
"""How a text begins that a spreadsheet would run as a formula; an apostrophe in front of it keeps it a text."""

_FORMULA = re.compile(FORMULA)


def harmless(text: str) -> str:
    """The text, with an apostrophe in front if a spreadsheet would run it."""
    return f"'{text}" if _FORMULA.match(text) else text
