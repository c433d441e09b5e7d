"""What votes, checks and figures say about a task's variants, in numbers and in words."""

from feedbackloop.results.breakdown import Issue, SegmentRow, issues, segments
from feedbackloop.results.figures import Figures, figures
from feedbackloop.results.players import Player, Players, players
from feedbackloop.results.ranking import Ranking, Rated, ranking
from feedbackloop.results.report import Results, named_task, of_checks, results
from feedbackloop.results.scores import ALL_CHECKS, Score, Scores, scores
from feedbackloop.results.trends import Trends, trends
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
