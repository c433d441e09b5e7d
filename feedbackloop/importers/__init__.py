"""What was made elsewhere: answers from other tools and votes from other places, as if they had been made here.

Each import reads its whole file before it writes anything, and gives equal content equal ids: done twice, or again after an
interruption, it adds only what is not there yet.
"""

from feedbackloop.importers.answers import import_answers
from feedbackloop.importers.file import import_file, known_formats
from feedbackloop.importers.formats import recognise
from feedbackloop.importers.intake import Imported
from feedbackloop.importers.mapping import AnswerMapping, guess_id_column, guess_ignored, guess_mapping
from feedbackloop.importers.rating_pack import ImportedPack, import_rating_pack, is_rating_pack
from feedbackloop.importers.votes import ImportedVotes, import_votes

__all__ = [
    "AnswerMapping",
    "Imported",
    "ImportedPack",
    "ImportedVotes",
    "guess_id_column",
    "guess_ignored",
    "guess_mapping",
    "import_answers",
    "import_file",
    "import_rating_pack",
    "import_votes",
    "is_rating_pack",
    "known_formats",
    "recognise",
]
