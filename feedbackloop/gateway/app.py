"""The HTTP surface: routes, and errors in OpenAI's shape for whatever goes wrong."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from feedbackloop.errors import FeedbackLoopError
from feedbackloop.gateway.auth import admit, read_body
from feedbackloop.gateway.events import EventStream, unless_left
from feedbackloop.gateway.feedback import Feedback
from feedbackloop.gateway.refusals import Refused, failed, raised
from feedbackloop.gateway.service import Service, heading
from feedbackloop.gateway.wire import ChatBody, FeedbackBody, asked, completion, dumps, parse
from feedbackloop.models import ProcessingStatus
from feedbackloop.pipeline.monitor import exposition, figures
from feedbackloop.providers import model_name
from feedbackloop.settings import Settings
from feedbackloop.store import Store

logger = logging.getLogger(__name__)

MAX_BODY = 10_000_000
"""Bytes of a chat request: long conversations, and a few images."""
MAX_FEEDBACK = 200_000
"""Bytes of what a user says of an answer."""

CLIENT_LEFT = 499
"""What proxies write into their logs where nobody is there to read an answer."""


def create_app(store: Store, settings: Settings, *, key: str | None = None) -> FastAPI:
    """The application, for any ASGI server.

    Args:
        store: where policies stand, and where requests, answers and feedback are kept.
        settings: providers, prices and limits.
        key: what clients must send as bearer token; without one only those on this machine are answered.

    Raises:
        MissingDependency: prometheus-client is not installed.
    """
    figures()
    service = Service(store, settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        try:
            yield
        finally:
            await service.aclose()

    app = FastAPI(title="feedbackloop", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.service = service
    surface = Surface(service, key)
    for path, handler, method in (
        ("/v1/chat/completions", surface.chat, "POST"),
        ("/v1/feedback", surface.feedback, "POST"),
        ("/v1/models", surface.models, "GET"),
        ("/v1/models/{name:path}", surface.model, "GET"),
        ("/health", surface.health, "GET"),
        ("/health/ready", surface.ready, "GET"),
        ("/metrics", surface.metrics, "GET"),
    ):
        app.add_api_route(path, handler, methods=[method], response_model=None)
    for error in (Refused, FeedbackLoopError, HTTPException, Exception):
        app.add_exception_handler(error, _refuse)
    return app


class Surface:
    """The routes, in front of one service."""

    def __init__(self, service: Service, key: str | None) -> None:
        self._service = service
        self._key = key
        self._feedback = Feedback(service)

    async def chat(self, request: Request) -> Response:
        """Answer as OpenAI's chat completions do."""
        admit(request, self._key)
        body = parse(ChatBody, await read_body(request, MAX_BODY))
        self._service.check_room()
        routed = await self._service.resolve(asked(body))
        if body.stream:
            return EventStream(self._service, routed, include_usage=body.include_usage)
        response = await unless_left(request.receive, self._service.answer(routed))
        if response is None:
            return Response(status_code=CLIENT_LEFT)
        headers = heading(routed)
        if response.status is ProcessingStatus.FAILED:
            refusal = failed(response)
            refusal.headers |= headers
            raise refusal
        return _json(completion(response), headers)

    async def feedback(self, request: Request) -> Response:
        """Take what a user says of an answer."""
        admit(request, self._key)
        said = parse(FeedbackBody, await read_body(request, MAX_FEEDBACK))
        ratings = await self._feedback.take(said)
        return _json({"object": "feedback", "id": said.id, "ratings": [rating.id for rating in ratings]})

    async def models(self, request: Request) -> Response:
        """Say what may be asked for."""
        admit(request, self._key)
        return _json({"object": "list", "data": await _models(self._service)})

    async def model(self, request: Request, name: str) -> Response:
        """Say whether this may be asked for."""
        admit(request, self._key)
        found = next((one for one in await _models(self._service) if one["id"] == name), None)
        if found is None:
            raise Refused(404, f"there is no model '{name}'", code="model_not_found", param="model")
        return _json(found)

    async def health(self) -> Response:
        """Say that the process lives, also while the store is behind: a restart would lose what waits for it."""
        fine = self._service.trouble is None
        return _json({"status": "ok"} if fine else {"status": "degraded", "store": "behind"})

    async def ready(self) -> Response:
        """Say whether requests can be answered and kept."""
        self._service.check_room()
        await self._service.router.released()
        return _json({"status": "ok"})

    async def metrics(self) -> Response:
        """The figures for Prometheus."""
        shown = exposition()
        return Response(shown.body, headers={"content-type": shown.content_type})


async def _refuse(request: Request, error: Exception) -> Response:
    if isinstance(error, Refused):
        refusal = error
    elif isinstance(error, FeedbackLoopError):
        refusal = raised(error)
    elif isinstance(error, HTTPException):
        said = f"{request.method} {request.url.path[:200]}: {error.detail}"
        code = "not_found" if error.status_code == 404 else None
        refusal = Refused(error.status_code, said, code=code, headers=error.headers)
    else:
        logger.error("a request failed in a way that was not foreseen", exc_info=error)
        refusal = Refused(500, "the service failed; its log says why", kind="server_error", code="internal_error")
    return Response(refusal.body, refusal.status, refusal.headers, "application/json")


async def _models(service: Service) -> list[dict[str, Any]]:
    """Everything that `model` may be: tasks with a policy, variants, and the models that these and the prices name."""
    released = await service.router.released()
    found: dict[str, dict[str, Any]] = {}

    def add(name: str, owner: str, created: float = 0.0) -> None:
        found.setdefault(name, {"id": name, "object": "model", "created": int(created), "owned_by": owner})

    for policy in sorted(released.policies.values(), key=lambda policy: policy.task):
        add(policy.task, "feedbackloop:task", policy.created_at.timestamp())
    askable = service.askable(released)
    for variant in askable:
        add(variant.name, "feedbackloop:variant", variant.created_at.timestamp())
    for variant in askable:
        add(variant.label, "feedbackloop:variant", variant.created_at.timestamp())
    named = [model for variant in askable for model in (variant.model, *variant.fallbacks)]
    for name in dict.fromkeys([*named, *service.settings.prices]):
        try:
            model = model_name(name, service.settings)
            reachable = service.reachable(model)
        except FeedbackLoopError:
            continue
        if reachable:
            add(model, model.partition(":")[0])
    return list(found.values())


def _json(data: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    return Response(dumps(data), headers=headers, media_type="application/json")
