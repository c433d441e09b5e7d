"""What the store asks of the place that it is in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal, Protocol

import duckdb

from feedbackloop.errors import StoreError
from feedbackloop.models import Record

Use = Literal["anything", "reading", "writing", "alone"]
"""What a connection is for. Reading: all queries see the same state. Alone: nobody else writes meanwhile."""

Batches = Mapping[str, Sequence[Record]]
"""Records by the table they go to."""


class ServerGone(StoreError):
    """The server that holds the store went away in the middle of something; it may be back in a moment."""


class Place(Protocol):
    """A kind of place for a store. Its connections speak DuckDB's SQL, and find the tables and views by their bare names."""

    url: str
    """As it may be shown: without a password."""
    address: str
    """As it opens, password included: for a child's environment, never to be shown."""
    folder: Path
    """Where files that belong beside the store go, such as logs."""
    is_shared: bool
    """Whether processes on several machines can use it at once."""
    to_copy: str
    """How one gets a copy to work on, as the end of a sentence."""

    def exists(self) -> bool:
        """Whether there is a store yet."""

    def version(self) -> tuple[int | str, ...]:
        """Something that differs whenever anybody has written in between."""

    def open(
        self, use: Use, *, timeout_s: float, memory_mb: int | None = None
    ) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """A connection on which the present schema is there.

        Raises:
            StoreError: it cannot be used, or was in use by others for `timeout_s`.
        """

    def write(
        self, connection: duckdb.DuckDBPyConnection, batches: Batches, *, new_only: bool, timeout_s: float, alone: bool
    ) -> int:
        """Write all of it or nothing; returns how many rows.

        Args:
            alone: the connection was opened so.

        Raises:
            ServerGone: it is not known whether the rows are there.
        """

    def hold(self, timeout_s: float) -> AbstractContextManager[None]:
        """Keep the place as it is while another store reads it, where its kind needs that."""

    def attach_to(self, connection: duckdb.DuckDBPyConnection) -> AbstractContextManager[str]:
        """Make the tables readable on another store's connection; gives what goes before their names."""

    def prefix(self) -> str:
        """What goes before a table's name where it is written to."""

    def order(self) -> str:
        """What two places are compared by, to be locked always in the same order; equal for the same place."""

    def wait_for_return(self, timeout_s: float) -> None:
        """Wait until a server that went away answers again.

        Raises:
            StoreError: it did not.
        """

    def close(self) -> None:
        """Give back what is kept open between uses; the next use opens it again."""
