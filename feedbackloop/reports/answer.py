"""One answer of a run with what its checks come to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from feedbackloop.findings.wording import short
from feedbackloop.graders import RowScore, score
from feedbackloop.graders.grader import as_text
from feedbackloop.models import Rating
from feedbackloop.reports.checks import Checks

State = Literal["passed", "failed", "error", "unchecked"]
"""Of an answer: its checks let it pass or not; it never came; or no check had an opinion on it."""

NAME_LENGTH = 60
"""Characters of an input that stand for the id of a case that has none."""


@dataclass(frozen=True)
class JudgedAnswer:
    """An answer, what it was asked, and whether it passes."""

    case_id: str
    external_id: str | None
    """The case's id in its dataset."""
    segment: str | None
    input: str
    """The case's variable `input`, its only variable, its last message, or all it has."""
    expected: Any
    variant: str
    variant_id: str
    repeat: int
    response_id: str
    output: str
    error_type: str | None
    error: str | None
    """Why there is no answer."""
    model_used: str
    latency_ms: float | None
    tokens_used: int | None
    cost_usd: float | None
    cached: bool
    score: RowScore
    mark: float | None
    """The weighted score from which on it passes; None where all checks must pass."""

    @property
    def state(self) -> State:
        """How it stands."""
        if not self.score.answered:
            return "error"
        passed = self.score.passes(self.mark)
        return "unchecked" if passed is None else "passed" if passed else "failed"

    @property
    def name(self) -> str:
        """The case in words that stay the same from run to run: its id in the dataset, else how its input begins."""
        return short(self.external_id or self.input or self.case_id[:8], NAME_LENGTH)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it does not pass, the score first where that decides; empty for one that does."""
        if self.state == "error":
            return (f"{self.error_type or 'failed'}: {self.error or 'no reason was stored'}",)
        return self.score.reasons(self.mark)


def read_answer(row: Mapping[str, Any], checks: Checks, mark: float | None) -> JudgedAnswer:
    """The answer that a row of `queries.judged` stands for."""
    ratings = [
        # Read from the store, where only valid ones are; checking a million of them again takes a minute.
        Rating.model_construct(**{**said, "rater": checks.as_now(said["rater"]), "rater_kind": "grader"})
        for said in row["said"]
    ]
    inputs, messages = (json.loads(row[name]) if row[name] else None for name in ("inputs", "messages"))
    return JudgedAnswer(
        **{
            name: row[name]
            for name in (
                "case_id", "external_id", "segment", "variant", "variant_id", "repeat", "response_id", "error_type", "error",
                "model_used", "latency_ms", "tokens_used", "cost_usd",
            )
        },
        input=_input(inputs or {}, messages or []),
        expected=json.loads(row["expected"]) if row["expected"] else None,
        output=row["output"] or "",
        cached=bool(row["cached"]),
        score=score(checks.graders, ratings, answered=row["status"] == "completed"),
        mark=mark,
    )  # fmt: skip


def _input(inputs: Mapping[str, Any], messages: list[dict[str, Any]]) -> str:
    if inputs.get("input") is not None:
        return as_text(inputs["input"])
    if len(inputs) == 1:
        return as_text(next(iter(inputs.values())))
    if inputs:
        return as_text(inputs)
    return as_text(messages[-1].get("content")) if messages else ""
