"""Sparing the collector what will never be garbage.

At the end of each script run, also of a fragment's, Streamlit has Python look through everything for garbage, and meanwhile what
was drawn waits to be sent. With pandas and Plotly loaded that takes 85 ms; without the modules in the way, 1.
"""

from __future__ import annotations

import atexit
import gc
import sys

_frozen = 0


def freeze_modules() -> None:
    """Take what the modules hold out of the collector's sight; again only when more modules have come."""
    global _frozen  # noqa: PLW0603  the collector is the process's own
    if len(sys.modules) > _frozen + 20:
        if not _frozen:
            # At its end the interpreter has to find everything, or DuckDB's bindings complain of what they never got back.
            atexit.register(gc.unfreeze)
        _frozen = len(sys.modules)
        gc.collect()
        gc.freeze()
