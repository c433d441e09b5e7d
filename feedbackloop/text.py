"""Text as stores can keep it: every database refuses some characters, and one of them would cost a whole batch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def fit_for_xml(text: str) -> str:
    """The text without what XML cannot hold, however it is written; nothing is escaped."""
    return _NOT_XML.sub("\ufffd", text)


@dataclass(frozen=True)
class Storable:
    """A value made storable, and how many characters had to be replaced for it."""

    value: Any
    repaired: int


def storable(text: str) -> tuple[str, int]:
    """Lone surrogates become U+FFFD and NUL becomes U+2400; returns the text and how many were replaced."""
    # A plain ASCII text without NUL is the common case and needs no regular expression.
    if text.isascii():
        count = text.count("\x00")
        return (text.replace("\x00", "\u2400"), count) if count else (text, 0)
    return _UNSTORABLE.subn(lambda match: "\u2400" if match[0] == "\x00" else "\ufffd", text)


def storable_value(value: Any) -> Storable:
    """The same for everything that JSON can hold, keys included."""
    if isinstance(value, str):
        return Storable(*storable(value))
    if isinstance(value, list | tuple):
        items = [storable_value(item) for item in value]
        return Storable([item.value for item in items], sum(item.repaired for item in items))
    if isinstance(value, dict):
        count = 0
        result = {}
        for key, item in value.items():
            name, name_count = storable(str(key))
            made = storable_value(item)
            result[name] = made.value
            count += name_count + made.repaired
        return Storable(result, count)
    return Storable(value, 0)
