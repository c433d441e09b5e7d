"""Keeping spreadsheets from running other people's texts."""

from __future__ import annotations

import re

FORMULA = r"^[=+\-@\t\r]"
"""How a text begins that a spreadsheet would run as a formula; an apostrophe in front of it keeps it a text."""

NEGATIVE = r"-[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?"
"""A text that is all of this begins like a formula, but is a number to a spreadsheet too."""

_FORMULA = re.compile(FORMULA)
_NEGATIVE = re.compile(NEGATIVE)


def harmless(text: str) -> str:
    """The text, with an apostrophe in front if a spreadsheet would run it."""
    return f"'{text}" if _FORMULA.match(text) and not _NEGATIVE.fullmatch(text) else text
