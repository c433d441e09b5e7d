"""From judged answers to a change: what leaves the store for other tools, and what comes back as a better variant."""

from feedbackloop.improve.export import EXPORTS, FORMATS, REASONS, ExportResult, export, export_all, export_preferences

__all__ = ["EXPORTS", "FORMATS", "REASONS", "ExportResult", "export", "export_all", "export_preferences"]
