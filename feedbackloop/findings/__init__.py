"""What votes, checks and figures say about a task's variants, in numbers and in words."""

from feedbackloop.findings.breakdown import Issue, SegmentRow, issues, segments
from feedbackloop.findings.figures import Figures, figures
from feedbackloop.findings.players import Player, Players, players
from feedbackloop.findings.ranking import Ranking, Rated, ranking
from feedbackloop.findings.report import Results, named_task, of_checks, results
from feedbackloop.findings.scores import ALL_CHECKS, Score, Scores, scores
from feedbackloop.findings.timeline import Trends, trends
from feedbackloop.findings.verdict import Raters, Row, Verdict, verdict

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
