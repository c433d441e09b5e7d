"""Whether a press of a key means what is on the screen: a held key and a double press do not."""

from __future__ import annotations

from collections.abc import Callable

READ_FOR_S = 1.0
"""Nobody has read two answers sooner."""

APART_S = 0.6
"""A held key repeats faster than this, and so does a nervous finger."""


class Attention:
    """Since when something is on the screen, and when each key was last pressed.

    Args:
        clock: seconds that only go up.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._shown: str | None = None
        self._since = 0.0
        self._pressed: dict[str, float] = {}

    def show(self, id_: str | None) -> None:
        """Something is on the screen; if it was there before, since then."""
        if id_ != self._shown:
            self._shown, self._since = id_, self._clock()

    def seconds(self) -> float:
        """How long what is on the screen has been there."""
        return self._clock() - self._since

    def accepts(self, id_: str, key: str) -> bool:
        """Whether a press of this key is meant for this thing: it was there for a second, and the key had been let go."""
        apart = self.is_apart(key)
        return apart and id_ == self._shown and self.seconds() >= READ_FOR_S

    def is_apart(self, key: str) -> bool:
        """Whether the press is one of its own and no repetition of the one before."""
        now, before = self._clock(), self._pressed.get(key)
        self._pressed[key] = now
        return before is None or now - before >= APART_S
