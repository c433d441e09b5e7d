"""Names to things, looked up late: a table of `"module:attribute"` strings, and entry points in the same notation."""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.metadata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from feedbackloop.errors import MissingDependency, SettingsError, UnknownName


def near(name: str, known: Iterable[str]) -> str:
    """A sentence's tail that helps someone who mistyped: `; did you mean 'regex'?` or the list of what there is."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if close:
        return "; did you mean " + " or ".join(repr(c) for c in close) + "?"
    return "; there is " + ", ".join(names) if names else ""


def check_choice(argument: str, value: object, known: Iterable[str]) -> None:
    """Refuse an argument that is none of the words that it may be.

    Raises:
        SettingsError: it is none of them; lists the near ones.
    """
    names = list(known)
    if value not in names:
        raise SettingsError(f"{argument} is {value!r}, which it cannot be{near(str(value), names)}")


@dataclass(frozen=True)
class Registry:
    """What one kind of thing is called.

    Attributes:
        kind: the noun for messages ("provider").
        entries: name to `"module:attribute"`.
        extras: name to the extra of this package that it needs.
        group: entry-point group in which other packages announce their own; asked only for names not in `entries`.
    """

    kind: str
    entries: Mapping[str, str]
    group: str
    extras: Mapping[str, str] = field(default_factory=dict)

    def names(self) -> list[str]:
        """All names known here, other packages' included."""
        return sorted({*self.entries, *(point.name for point in self._points())})

    def __contains__(self, name: object) -> bool:
        return name in self.entries or any(point.name == name for point in self._points())

    def get(self, name: str) -> Any:
        """The thing called `name`.

        Raises:
            UnknownName: nothing is called so; the message lists the near names.
            MissingDependency: it needs a package that is not installed.
        """
        if name in self.entries:
            module, _, attribute = self.entries[name].partition(":")
            try:
                return getattr(importlib.import_module(module), attribute)
            except ModuleNotFoundError as error:
                extra = self.extras.get(name)
                if extra is None or (error.name or "").startswith("feedbackloop"):
                    raise
                raise MissingDependency(
                    f"The {self.kind} '{name}' needs the package '{error.name}': pip install 'feedbackloop[{extra}]'"
                ) from error
        for point in self._points():
            if point.name == name:
                return point.load()
        raise UnknownName(f"There is no {self.kind} called '{name}'{near(name, self.names())}")

    def _points(self) -> importlib.metadata.EntryPoints:
        return _entry_points(self.group)


@functools.cache
def _entry_points(group: str) -> importlib.metadata.EntryPoints:
    # Every look goes through all installed packages: 2 ms.
    return importlib.metadata.entry_points(group=group)
