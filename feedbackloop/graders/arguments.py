"""What graders take as their argument: the short form (`{length: 400}`) and the long one (`{length: {max: 400, unit: words}}`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from feedbackloop.registry import near


@dataclass(frozen=True)
class Kind:
    """What an option may be, and how that is said."""

    name: str
    fits: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_text(value: Any) -> bool:
    # YAML makes a number of 42, and whoever looks for it in an answer means the text.
    return (isinstance(value, str) and value.strip() != "") or _is_number(value)


TEXT = Kind("a text", _is_text)
TEXTS = Kind("a list of texts", lambda value: isinstance(value, list) and bool(value) and all(map(_is_text, value)))
NUMBER = Kind("a number", _is_number)
SHARE = Kind("a number from 0 up", lambda value: _is_number(value) and value >= 0)
COUNT = Kind("a whole number from 0 up", lambda value: _is_number(value) and value >= 0 and value == int(value))
FLAG = Kind("true or false", lambda value: isinstance(value, bool))


def one_of(*words: str) -> Kind:
    """One of some words."""
    return Kind("one of " + ", ".join(words), lambda value: value in words)


def read(argument: Any, kinds: Mapping[str, Kind], *, short: str | None = None) -> dict[str, Any]:
    """The options that an argument means.

    Args:
        argument: a mapping of options, the value of `short`, or None for no options at all.
        kinds: what each option may be.
        short: the option that is meant by an argument which is no mapping.

    Raises:
        TypeError: an option is not what it should be.
        ValueError: there is no such option.
    """
    if argument is None:
        return {}
    if isinstance(argument, Mapping):
        options = dict(argument)
    elif short is not None:
        options = {short: argument}
    else:
        raise TypeError(f"it takes the options {', '.join(kinds)}")
    for name, value in options.items():
        if name not in kinds:
            raise ValueError(f"it has no option '{name}'{near(str(name), kinds)}")
        if not kinds[name].fits(value):
            raise TypeError(f"`{name}` is {kinds[name].name}, not {value!r}")
    return options
