"""What an import cannot carry over: named once each, with how often and where, and never dropped in silence."""

from __future__ import annotations

from dataclasses import dataclass, field

_SHOWN = 3  # places of each thing; all of them are counted


@dataclass
class LeftOut:
    """The list of it, in the order of the file."""

    _places: dict[str, list[str]] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)

    def add(self, what: str, place: str | int) -> None:
        """Name something at a line of the file, or at another place that can be found there."""
        self._counts[what] = self._counts.get(what, 0) + 1
        places = self._places.setdefault(what, [])
        if len(places) < _SHOWN:
            places.append(f"line {place}" if isinstance(place, int) else place)

    def told(self) -> tuple[str, ...]:
        """A sentence's part for each thing: `tools, which are not kept (12 times: line 3, line 4, line 9 ...)`."""
        return tuple(f"{what} ({self._where(what)})" for what in self._counts)

    def _where(self, what: str) -> str:
        places, count = ", ".join(self._places[what]), self._counts[what]
        if count == 1:
            return places
        return f"{count:,} times: {places}{' ...' if count > _SHOWN else ''}"
