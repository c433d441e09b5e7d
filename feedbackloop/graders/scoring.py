"""What the checks of one answer come to: a weighted score, and whether it passes."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from feedbackloop.graders.grader import Grader
from feedbackloop.models import Rating


@dataclass(frozen=True)
class CheckResult:
    """What one check said of one answer."""

    name: str
    rater: str
    value: float | None
    """0 to 1, or what else the function gave; the mean of several metrics; None for no opinion, a label alone, or an error."""
    passed: bool | None
    """None: it had no opinion. A check that failed itself has not passed."""
    weight: float
    required: bool
    reason: str | None = None
    error: str | None = None

    @property
    def counts(self) -> float | None:
        """What it adds to the score, 0 to 1: its value, or for one on another scale whether it passed; None if it had no opinion."""
        if self.passed is None:
            return None
        return self.value if self.value is not None and 0 <= self.value <= 1 else float(self.passed)

    @property
    def told(self) -> str:
        """Its name with what it found, for somebody who asks why an answer did not pass."""
        if self.error is not None:
            return f"{self.name} could not be computed: {self.error}"
        if self.reason is not None:
            return f"{self.name}: {self.reason}"
        return f"{self.name}: {f'{self.value:.3g}' if self.value else 'not passed'}"


@dataclass(frozen=True)
class RowScore:
    """What all checks of one answer come to."""

    score: float | None
    """Mean of what the checks said, by weight, 0 to 1; None if none with a weight had an opinion."""
    passed: bool | None
    """Whether all checks that count (a weight above 0, or required) passed; None if none of them had an opinion."""
    checks: tuple[CheckResult, ...]
    """In the order of the spec."""
    answered: bool = True

    @property
    def failed(self) -> tuple[CheckResult, ...]:
        """Those that did not pass."""
        return tuple(check for check in self.checks if check.passed is False)

    @property
    def required_failed(self) -> tuple[CheckResult, ...]:
        """Those that had to pass and did not."""
        return tuple(check for check in self.failed if check.required)

    def reaches(self, mark: float) -> bool:
        """Whether the row is good enough by its score alone: answered, `mark` or more, and nothing required failed."""
        return self.answered and self.score is not None and self.score >= mark and not self.required_failed

    def passes(self, mark: float | None = None) -> bool | None:
        """Whether the row passes: by its score where the spec names a mark, else by all its checks; None if none had an opinion."""
        return self.passed if mark is None or self.score is None else self.reaches(mark)

    def reasons(self, mark: float | None = None) -> tuple[str, ...]:
        """Why the row does not pass, the score first where that decides; empty for one that does, or of which no check had an opinion."""
        if self.passes(mark) is not False:
            return ()
        checks = tuple(check.told for check in self.failed if check.weight > 0 or check.required)
        if mark is None or self.score is None or self.score >= mark:
            return checks
        return (f"score {self.score:.2f}, {mark:g} wanted", *checks)


def score(graders: Sequence[Grader], ratings: Iterable[Rating], *, answered: bool = True) -> RowScore:
    """Score one answer from the ratings that its checks gave.

    Args:
        graders: the checks of the spec, as `create` makes them; their weights, thresholds and `required` are taken from here, so that
            stored ratings can be scored anew after these were changed.
        ratings: all ratings of that answer; others than these graders', and older versions', are left out.
        answered: false for an answer that failed: its score is 0 and it does not pass, though no check has seen it.
    """
    said: dict[str, dict[str, Rating]] = {}
    for rating in sorted(ratings, key=lambda rating: rating.created_at):
        if rating.rater_kind == "grader":
            said.setdefault(rating.rater, {})[rating.metric] = rating
    checks = tuple(_result(grader, list(said.get(grader.rater, {}).values())) for grader in graders)
    if not answered:
        return RowScore(0.0, passed=False, checks=checks, answered=False)
    weighed = [(check.weight, check.counts) for check in checks if check.weight > 0 and check.counts is not None]
    total = sum(weight for weight, _ in weighed)
    verdicts = [check.passed for check in checks if (check.weight > 0 or check.required) and check.passed is not None]
    return RowScore(
        score=sum(weight * counts for weight, counts in weighed) / total if weighed else None,
        passed=all(verdicts) if verdicts else None,
        checks=checks,
    )


def _result(grader: Grader, ratings: Sequence[Rating]) -> CheckResult:
    values = [rating.value for rating in ratings if rating.value is not None]
    errors = [rating.error for rating in ratings if rating.error is not None]
    passed = None
    if errors:
        passed = False
    elif values:
        passed = all(grader.passes(value) for value in values)
    return CheckResult(
        name=grader.name,
        rater=grader.rater,
        value=statistics.fmean(values) if values and not errors else None,
        passed=passed,
        weight=grader.weight,
        required=grader.required,
        reason=next((rating.reason for rating in ratings if rating.reason), None),
        error=errors[0] if errors else None,
    )
