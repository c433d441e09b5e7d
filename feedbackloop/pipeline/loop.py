"""The pattern's own face of the engine: a processor made from a primary and a fallback model."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field

from feedbackloop.errors import SettingsError
from feedbackloop.identity import request_key
from feedbackloop.models import AIRequest, AIResponse, ProcessingStatus, Record
from feedbackloop.pipeline.engine import Engine
from feedbackloop.pipeline.resilience import Clock
from feedbackloop.pipeline.router import Router
from feedbackloop.pipeline.validation import presented
from feedbackloop.pipeline.writer import Writer
from feedbackloop.providers import model_name
from feedbackloop.settings import Options, Settings, parse
from feedbackloop.store import Store


class LoopConfig(Options):
    """What `FeedbackLoop` is made from; a missing key takes its default."""

    primary_model: str = "gpt-4o-mini"
    fallback_model: str | None = "gpt-4o-mini"
    max_retries: int = Field(default=3, ge=0)
    """Further attempts per model after the first."""
    timeout_s: float = Field(default=60.0, gt=0)
    """Bounds one attempt; the whole request may take ten times that."""


class FeedbackLoop:
    """Answers a request with the primary model, or the fallback where that fails.

    A request that names a task with a live policy is answered by the variant that the policy gives its user, and that
    variant's own fallbacks.

        processor = FeedbackLoop({"primary_model": "openai:gpt-4o", "fallback_model": "openai:gpt-4o-mini", "max_retries": 3})
        response = await processor.process(AIRequest(input="What is a feedback loop?"))

    Args:
        config: the keys of `LoopConfig`.
        store: a store, or its URL, that requests and responses are written to, and where policies stand; without one nothing
            is stored.
        settings: providers and prices; by default `feedbackloop.toml` of the working directory and the environment.
        clock: where time comes from.

    Raises:
        SettingsError: `config` has an unknown key, or a value that makes no sense.
        UnknownName: a model names a provider that is not known.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        store: Store | str | os.PathLike[str] | None = None,
        settings: Settings | None = None,
        clock: Clock | None = None,
    ) -> None:
        if not isinstance(config, Mapping | None):
            raise SettingsError(
                f'{config!r} is no config; give a mapping such as {{"primary_model": "openai:gpt-4o-mini"}}'
            )
        self.config = parse(LoopConfig, dict(config or {}), "config")
        self.store = Store(store) if isinstance(store, str | os.PathLike) else store
        settings = settings or Settings.load()
        self._primary = model_name(self.config.primary_model, settings)
        fallback = self.config.fallback_model
        self._fallback = None if fallback is None else model_name(fallback, settings)
        self._engine = Engine(
            settings,
            limits=settings.limits.model_copy(
                update={"retries": self.config.max_retries, "timeout_s": self.config.timeout_s}
            ),
            clock=clock,
        )
        self._router = None if self.store is None else Router(self.store, self._engine)
        self._writer: Writer | None = None

    async def process(self, request: AIRequest) -> AIResponse:
        """The answer to a request.

        A model's failure, a missing key included, comes back as `status=FAILED` with an empty output, `model_used="none"` and
        the reason in `error`. A live model's text is stripped and cut at 50,000 characters; the store keeps it as it came.

        Raises:
            SettingsError: this is no request.
            UnknownName: the request names a provider that is not known.
            PromptError: the prompt that its task's policy chose needs a variable that the request lacks.
            StoreError: the answer could not be stored, or the policies not be read.
        """
        if not isinstance(request, AIRequest):
            raise SettingsError(f"{request!r} is no request; put it as process(AIRequest(input={str(request)!r}))")
        routed = await self._router.route(request) if self._router and request.task else None
        asked, models = (routed.request, routed.models) if routed else self._put(request)
        response = await self._engine.complete(asked, models)
        if self.store is not None:
            await self._write(self.store, asked, response)
        completed = response.status is ProcessingStatus.COMPLETED
        return presented(response) if completed and self._engine.live(response.model_used) else response

    def _put(self, request: AIRequest) -> tuple[AIRequest, tuple[str, ...]]:
        """The request as it is put to the model that it names, or the primary one, and whom to ask in turn."""
        named = "model" in request.model_fields_set
        first = model_name(request.model, self._engine.settings) if named else self._primary
        messages = request.messages or [{"role": "user", "content": request.input}]
        key = request_key(messages, first, request.params, request.repeat)
        asked = request.model_copy(update={"model": first, "key": key})
        return asked, (first,) if self._fallback in (None, first) else (first, str(self._fallback))

    async def aclose(self) -> None:
        """Close connections, and write what is left."""
        await self._engine.aclose()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    async def _write(self, store: Store, *records: Record) -> None:
        writer = self._writer
        if writer is not None and writer.error is not None:
            # The store refused before. It may be free again, and closing tries once more to write what was refused.
            self._writer = None
            await asyncio.to_thread(writer.close)
        if self._writer is None:
            self._writer = Writer(store, flush_s=0.0)
        await self._writer.written(self._writer.put(*records))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()
