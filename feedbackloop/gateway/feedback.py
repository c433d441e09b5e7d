"""What end users say of an answer, as ratings of it."""

from __future__ import annotations

import asyncio
from typing import Any

from feedbackloop.gateway.refusals import Refused
from feedbackloop.gateway.service import Service
from feedbackloop.gateway.wire import FeedbackBody
from feedbackloop.models import Rating
from feedbackloop.queries.feedback import Given, given

ANONYMOUS = "anonymous"
"""The rater where neither the feedback nor the request names a user."""

LOOKS = 2
LOOK_AGAIN_S = 0.25
"""An answer may be on its way to the store from another process of the service: one flush later it is there."""


class Feedback:
    """Takes what users say, one after the other, so that a later word of the same user replaces the earlier one."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._turn = asyncio.Lock()

    async def take(self, body: FeedbackBody) -> list[Rating]:
        """Store what was said; when this has returned, it is in the store.

        Raises:
            Refused: nothing was said, or there is no such answer.
            StoreError: the store cannot be read or written.
        """
        if all(said is None for said in (body.thumbs, body.stars, body.comment, body.correction, body.issue)):
            raise Refused(400, "say something: thumbs, stars, comment, correction or issue", code="missing_value")
        async with self._turn:
            known = await self._find(body.id)
            ratings = _ratings(body, known, body.user or known.user_id or ANONYMOUS)
            new = [rating for rating in ratings if not _said_before(rating, known.ratings)]
            if new:
                await asyncio.to_thread(self._service.store.append, new)
        return ratings

    async def _find(self, response_id: str) -> Given:
        recent = self._service.recent
        for look in range(LOOKS):
            known = await asyncio.to_thread(given, self._service.store, response_id)
            if known.stored:
                return known
            if response_id in recent:
                return Given(False, recent[response_id], known.ratings)
            if look + 1 < LOOKS:
                await asyncio.sleep(LOOK_AGAIN_S)
        raise Refused(404, f"there is no answer with the id '{response_id}'", code="answer_not_found", param="id")


def _ratings(body: FeedbackBody, known: Given, rater: str) -> list[Rating]:
    words = {"comment": body.comment, "correction": body.correction}
    made: list[dict[str, Any]] = []
    if body.thumbs is not None:
        made.append({"metric": "thumbs", "value": 1.0 if body.thumbs == "up" else 0.0})
    if body.stars is not None:
        made.append({"metric": "stars", "value": float(body.stars)})
    if any(words.values()):
        if not made:
            made.append({"metric": "comment"})
        made[0] |= words
    if body.issue is not None:
        made.append({"metric": "issue", "label": body.issue})
    return [
        Rating(
            response_id=body.id,
            rater=rater,
            rater_kind="user",
            supersedes=_replaced(values["metric"], rater, known.ratings),
            **values,
        )
        for values in made
    ]


def _replaced(metric: str, rater: str, ratings: list[Rating]) -> str | None:
    """The rating that a later one of the same user takes the place of; faults add up instead."""
    if metric == "issue":
        return None
    return next((rating.id for rating in reversed(ratings) if (rating.metric, rating.rater) == (metric, rater)), None)


def _said_before(rating: Rating, ratings: list[Rating]) -> bool:
    return any(_said(rating) == _said(earlier) for earlier in ratings)


def _said(rating: Rating) -> tuple[Any, ...]:
    return rating.metric, rating.rater, rating.value, rating.label, rating.comment, rating.correction
