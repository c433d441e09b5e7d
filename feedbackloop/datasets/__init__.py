"""What the models are asked: rows of a file, a DataFrame or a list, each of them a `Case`.

A file is read as a stream, row by row (JSON and YAML, which have no rows, are held as text), and the same way again for
each pass. Bad input is one sentence with file, line and column, said before anything is paid for.
"""

from feedbackloop.datasets.cases import KEYS, Checked, Dataset, Numbered, as_text, case_of, open_dataset
from feedbackloop.datasets.counting import Survey, survey
from feedbackloop.datasets.files import document, find_file, rows
from feedbackloop.datasets.row import Row, fault

__all__ = [
    "KEYS",
    "Checked",
    "Dataset",
    "Numbered",
    "Row",
    "Survey",
    "as_text",
    "case_of",
    "document",
    "fault",
    "find_file",
    "open_dataset",
    "rows",
    "survey",
]
