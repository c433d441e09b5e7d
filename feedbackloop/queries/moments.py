"""Moments as the store has them."""

from __future__ import annotations

from datetime import UTC, datetime

from feedbackloop.errors import SettingsError


def bound(since: datetime | None) -> datetime | None:
    """A bound in time for SQL: UTC without saying so; None for none.

    Raises:
        SettingsError: it is no moment.
    """
    if since is None:
        return None
    if not isinstance(since, datetime):
        raise SettingsError(f"since is {since!r}; give a moment such as datetime(2026, 1, 31, tzinfo=UTC)")
    return since.astimezone(UTC).replace(tzinfo=None)
