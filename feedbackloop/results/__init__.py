"""What votes, checks and figures say about a task's variants, in numbers and in words."""

import sys
from types import ModuleType
from typing import Any

from feedbackloop.results.breakdown import Issue, SegmentRow, issues, segments
from feedbackloop.results.figures import Figures, figures
from feedbackloop.results.players import Player, Players, players
from feedbackloop.results.ranking import Ranking, Rated, ranking
from feedbackloop.results.report import Results, named_task, of_checks, results
from feedbackloop.results.scores import ALL_CHECKS, Score, Scores, scores
from feedbackloop.results.timeline import Trends, trends
from feedbackloop.results.verdict import Raters, Row, Verdict, verdict

__all__ = [
    "ALL_CHECKS",
    "Figures",
    "Issue",
    "Player",
    "Players",
    "Ranking",
    "Rated",
    "Raters",
    "Results",
    "Row",
    "Score",
    "Scores",
    "SegmentRow",
    "Trends",
    "Verdict",
    "figures",
    "issues",
    "named_task",
    "of_checks",
    "players",
    "ranking",
    "results",
    "scores",
    "segments",
    "trends",
    "verdict",
]


class _Callable(ModuleType):
    """`feedbackloop.results` is the public function and this folder: Python puts the folder in the function's place once it is imported."""

    def __call__(self, *arguments: Any, **named: Any) -> Results:
        """The function `results`."""
        return results(*arguments, **named)


sys.modules[__name__].__class__ = _Callable
