"""What leaves the store for other tools: tables for spreadsheets and notebooks, labels for training."""

from feedbackloop.improve.export.formats import FORMATS, Format
from feedbackloop.improve.export.preferences import REASONS, ExportResult, export_preferences
from feedbackloop.improve.export.rating_pack import RatingPack, export_rating_pack
from feedbackloop.improve.export.tables import EXPORTS, export, export_all

__all__ = [
    "EXPORTS",
    "FORMATS",
    "REASONS",
    "ExportResult",
    "Format",
    "RatingPack",
    "export",
    "export_all",
    "export_preferences",
    "export_rating_pack",
]
