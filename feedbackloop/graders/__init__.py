"""Checks of an answer by code. A grader is a function `(case, response) -> bool | float | str | dict`, sync or async.

The type of what it returns is the meaning: a bool or number is a value (true is 1), a text is a label, a mapping is several
metrics at once, None is no opinion. In a spec a grader is a name of the table below (`json_valid`), a name with its argument
(`{contains: "refund"}`), or a function of one's own (`"my_graders.py:polite"`).
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feedbackloop.errors import SettingsError
from feedbackloop.functions import load
from feedbackloop.identity import content_id
from feedbackloop.models import AIResponse, Case
from feedbackloop.registry import Registry

__all__ = ["GRADERS", "Grade", "Grader", "create"]

Grade = bool | float | int | str | None | Mapping[str, Any]
GraderFunction = Callable[[Case, AIResponse], Grade | Awaitable[Grade]]

GRADERS = Registry(
    kind="grader",
    entries={
        "equals": "feedbackloop.graders.text:equals",
        "contains": "feedbackloop.graders.text:contains",
        "regex": "feedbackloop.graders.text:regex",
        "json_valid": "feedbackloop.graders.text:json_valid",
    },
    group="feedbackloop.graders",
)
"""Entries are makers: called with the spec's argument (or None) they give the function."""


@dataclass(frozen=True)
class Grader:
    """A grader with the name of its metric and the version that its scores are kept under."""

    name: str
    version: str
    """Hash of its argument or source: a changed grader's old scores can be told apart."""
    function: GraderFunction

    @property
    def rater(self) -> str:
        """As it stands in a rating: `contains@3f2a`."""
        return f"{self.name}@{self.version[:4]}"


def create(spec: str | Mapping[str, Any] | GraderFunction | Grader, base: Path | None = None) -> Grader:
    """The grader that a spec means.

    Args:
        base: folder that `my_graders.py:polite` is looked for in; the working directory unless given.

    Raises:
        SettingsError: the spec has no such form, its argument makes no sense, or its file or function is not there.
        UnknownName: nothing is called so; the message lists the near names.
    """
    if isinstance(spec, Grader):
        return spec
    if callable(spec):
        name = getattr(spec, "__name__", type(spec).__name__)
        return Grader(name, content_id(_source(spec)), spec)
    if isinstance(spec, str):
        if ":" in spec:
            return _own(spec, base or Path.cwd())
        return _named(spec, None)
    if isinstance(spec, Mapping) and len(spec) == 1:
        name, argument = next(iter(spec.items()))
        return _named(str(name), argument)
    raise SettingsError(
        f"a grader is a name, a name with its argument ({{contains: refund}}), or FILE.py:FUNCTION; not {spec!r}"
    )


def _named(name: str, argument: Any) -> Grader:
    try:
        function = GRADERS.get(name)(argument)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"the grader '{name}' cannot use {argument!r}: {error}") from error
    return Grader(name, content_id(name, argument), function)


def _own(spec: str, base: Path) -> Grader:
    loaded = load(spec, base, reload=True)
    name = spec.rpartition(":")[2]
    return Grader(name, content_id(loaded.source, name), loaded.function)


def _source(function: Any) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return repr(getattr(function, "__qualname__", type(function).__qualname__))
