"""A run as others read it: which answers pass, by how much a variant falls short, and files for a build, a reviewer, a spreadsheet."""

from feedbackloop.reports.answer import JudgedAnswer, State
from feedbackloop.reports.files import FORMATS, refuse_unwritable, report
from feedbackloop.reports.markdown import markdown
from feedbackloop.reports.outcomes import CheckCount, Outcome, VariantOutcome, outcome

__all__ = [
    "FORMATS",
    "CheckCount",
    "JudgedAnswer",
    "Outcome",
    "State",
    "VariantOutcome",
    "markdown",
    "outcome",
    "refuse_unwritable",
    "report",
]
