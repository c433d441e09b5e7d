"""Checks of an answer by code. A grader is a function `(case, response) -> bool | float | str | dict`, sync or async.

The type of what it returns is the meaning: a bool or number is a value (true is 1), a text is a label, a mapping is several
metrics at once, None is no opinion. In a spec a grader is a name of the table `GRADERS` (`json_valid`), a name with its argument
(`{contains: "refund"}`), or a function of one's own (`"my_graders.py:polite"`).
"""

from __future__ import annotations

from feedbackloop.graders.grader import VERDICT, Grade, Grader, GraderFunction
from feedbackloop.graders.scoring import CheckResult, RowScore, score
from feedbackloop.graders.specs import GRADERS, create

__all__ = ["GRADERS", "VERDICT", "CheckResult", "Grade", "Grader", "GraderFunction", "RowScore", "create", "score"]
