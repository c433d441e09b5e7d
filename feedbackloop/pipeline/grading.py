"""Runs graders over answers. A grader that fails is a rating with `error`, never a crash of the run."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, cast

from feedbackloop.graders import VERDICT, Grader
from feedbackloop.models import AIResponse, Case, ProcessingStatus, Rating
from feedbackloop.providers.endpoint import scrub
from feedbackloop.text import storable


async def grade(
    graders: Sequence[Grader], case: Case, response: AIResponse, ratings: list[Rating] | None = None
) -> list[Rating]:
    """What the graders say of an answer; nothing of a failed one.

    Args:
        graders: in turn.
        case: what was asked.
        response: the answer.
        ratings: where to add what they say as they say it, for whoever may be cut short.
    """
    ratings = [] if ratings is None else ratings
    if response.status is not ProcessingStatus.COMPLETED:
        return ratings
    task = asyncio.current_task()
    for place, grader in enumerate(graders):
        try:
            result = grader.function(case, response)
            if inspect.isawaitable(result):
                result = await cast("Awaitable[Any]", result)
            ratings += _ratings(grader, response, result)
        # A grader that calls `sys.exit`, or lets out what was meant for a task of its own, must not end the run either.
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                short = "the run was cut short before this was checked"
                ratings += [_rating(one, response, one.name, error=short) for one in graders[place:]]
                raise
            # It may have asked somebody, who quotes the key.
            reason, _ = storable(scrub(f"{type(error).__name__}: {error}"))
            ratings.append(_rating(grader, response, grader.name, error=reason))
    return ratings


def _ratings(grader: Grader, response: AIResponse, result: Any) -> list[Rating]:
    if not isinstance(result, Mapping):
        verdicts = {grader.name: {"value": result}}
    elif result.keys() <= VERDICT and result.keys() & {"value", "label"}:
        verdicts = {grader.name: dict(result)}
    else:
        verdicts = {storable(f"{grader.name}.{metric}")[0]: {"value": value} for metric, value in result.items()}
    return [
        _rating(grader, response, metric, **_verdict(**verdict))
        for metric, verdict in verdicts.items()
        if verdict.get("value") is not None or verdict.get("label") is not None
    ]


def _verdict(value: Any = None, label: Any = None, reason: Any = None) -> dict[str, Any]:
    """The fields of a rating that say what the grader said; what is no verdict becomes its error."""
    said: dict[str, Any] = {} if reason is None else {"reason": storable(str(reason))[0]}
    if isinstance(value, str) and label is None:
        value, label = None, value
    if label is not None:
        said["label"] = storable(str(label))[0]
    if value is not None:
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            return said | {"error": f"the grader returned {storable(repr(value))[0][:200]}, which is no verdict"}
        if not math.isfinite(number):
            return said | {"error": f"the grader returned {number}"}
        said["value"] = number
    return said


def _rating(grader: Grader, response: AIResponse, metric: str, **verdict: Any) -> Rating:
    return Rating(
        response_id=response.id,
        metric=metric,
        rater=grader.rater,
        rater_kind="grader",
        created_at=response.created_at,
        **verdict,
    )
