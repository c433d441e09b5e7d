"""Runs graders over answers. A grader that fails is a rating with `error`, never a crash of the run."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, cast

from feedbackloop.graders import Grader
from feedbackloop.models import AIResponse, Case, ProcessingStatus, Rating
from feedbackloop.text import storable


async def grade(graders: Sequence[Grader], case: Case, response: AIResponse) -> list[Rating]:
    """What the graders say of an answer; nothing of a failed one."""
    if response.status is not ProcessingStatus.COMPLETED:
        return []
    ratings: list[Rating] = []
    for grader in graders:
        try:
            result = grader.function(case, response)
            if inspect.isawaitable(result):
                result = await cast("Awaitable[Any]", result)
            ratings += _ratings(grader, response, result)
        except Exception as error:
            reason, _ = storable(f"{type(error).__name__}: {error}")
            ratings.append(_rating(grader, response, grader.name, error=reason))
    return ratings


def _ratings(grader: Grader, response: AIResponse, result: Any) -> list[Rating]:
    if result is None:
        return []
    if not isinstance(result, Mapping):
        return [_valued(grader, response, grader.name, result)]
    # {"value": ..., "reason": ...} is one verdict with its reason; any other mapping is several metrics.
    if result.keys() <= {"value", "label", "reason"} and result.keys() & {"value", "label"}:
        verdict = result.get("value") if result.get("value") is not None else result.get("label")
        reason = result.get("reason")
        return [_valued(grader, response, grader.name, verdict, None if reason is None else storable(str(reason))[0])]
    return [_valued(grader, response, f"{grader.name}.{metric}", value) for metric, value in result.items()]


def _valued(grader: Grader, response: AIResponse, metric: str, value: Any, reason: str | None = None) -> Rating:
    if isinstance(value, str):
        return _rating(grader, response, metric, label=storable(value)[0], reason=reason)
    number = float(value)
    if not math.isfinite(number):
        return _rating(grader, response, metric, error=f"the grader returned {number}", reason=reason)
    return _rating(grader, response, metric, value=number, reason=reason)


def _rating(grader: Grader, response: AIResponse, metric: str, **verdict: Any) -> Rating:
    return Rating(
        response_id=response.id,
        metric=metric,
        rater=grader.rater,
        rater_kind="grader",
        created_at=response.created_at,
        **verdict,
    )
