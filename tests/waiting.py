"""Waiting for what another process, thread or server does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def until(look: Callable[[], Any], within_s: float = 40) -> Any:
    """Look again and again until there is something, and return it."""
    end = time.monotonic() + within_s
    while not (found := look()):
        assert time.monotonic() < end, f"it did not come to that within {within_s:g} s"
        time.sleep(0.02)
    return found
