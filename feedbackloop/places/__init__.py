"""The kinds of places that a store can be in: a DuckDB file, a Postgres database."""

from feedbackloop.places.files import FilePlace
from feedbackloop.places.inserts import first_line, same, scalar
from feedbackloop.places.place import Batches, Place, ServerGone, Use
from feedbackloop.places.postgres import PostgresPlace

__all__ = ["Batches", "FilePlace", "Place", "PostgresPlace", "ServerGone", "Use", "first_line", "same", "scalar"]
