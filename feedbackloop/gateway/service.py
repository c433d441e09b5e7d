"""What the service does with a request: find out who answers it, have it answered, and keep what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator
from urllib.parse import quote

from feedbackloop.errors import FeedbackLoopError, SettingsError, StoreError, UnknownName
from feedbackloop.gateway.refusals import Refused
from feedbackloop.gateway.wire import keyed
from feedbackloop.models import AIRequest, AIResponse, Variant
from feedbackloop.pipeline.engine import Engine
from feedbackloop.pipeline.monitor import Watched
from feedbackloop.pipeline.router import Routed, Router
from feedbackloop.pipeline.streaming import Stream
from feedbackloop.pipeline.validation import presented
from feedbackloop.pipeline.writer import Writer
from feedbackloop.providers import model_name
from feedbackloop.queries.policies import Released, named
from feedbackloop.registry import near
from feedbackloop.settings import Settings
from feedbackloop.store import Store

logger = logging.getLogger(__name__)

MAX_BACKLOG = 50_000
"""Records that may wait for a store which does not take them, before further requests are refused."""
MAX_ACTIVE = 2_000
"""Requests that may be under way at once."""
MAX_MODELS = 1_000
"""Different models that clients may ask for by their own names: each leaves limits, a breaker and figures behind."""
RECENT = 100_000
"""Answers whose feedback need not look for them in the store."""


class Service:
    """The engine, the router and the writer behind the HTTP surface.

    Args:
        store: where policies stand, and where everything is kept.
        settings: providers, prices and limits; a whole request may take twice the timeout of an attempt.
    """

    def __init__(self, store: Store, settings: Settings) -> None:
        limits = settings.limits
        if limits.deadline_s is None:
            limits = limits.model_copy(update={"deadline_s": 2 * limits.timeout_s})
        self.store = store
        self.settings = settings
        self.engine = Engine(settings, limits=limits)
        self.router = Router(store, self.engine)
        self.active = 0
        self.recent: OrderedDict[str, str | None] = OrderedDict()
        """Of the newest answers the user, by the answer's id."""
        self._writer: Writer | None = None
        self._released: Released | None = None
        self._askable: list[Variant] = []
        self._direct: set[str] = set()

    async def start(self) -> None:
        """Begin to write what is kept, and meet now what the first request would wait for."""
        self._writer = Writer(self.store, insist=True)
        with contextlib.suppress(StoreError):
            self.askable(await self.router.released())
        for name in (self.settings.default_provider, *self.settings.providers):
            with contextlib.suppress(FeedbackLoopError):
                self.engine.provider(f"{name}:any")

    async def aclose(self) -> None:
        """Write what is left, and close connections."""
        await self.engine.aclose()
        if self._writer is not None:
            writer, self._writer = self._writer, None
            await asyncio.to_thread(writer.close)
            if writer.error is not None:
                logger.error("%d records could not be stored: %s", writer.backlog, writer.error)

    @property
    def trouble(self) -> str | None:
        """Why the store is behind, if it is."""
        return str(self._writer.error) if self._writer is not None and self._writer.error is not None else None

    def check_room(self) -> None:
        """Refuse what could not be kept, or not be answered in time.

        Raises:
            Refused: come back later.
        """
        behind = self._writer is None or self._writer.backlog > MAX_BACKLOG
        if behind or self.active >= MAX_ACTIVE:
            why = "the store is behind" if behind else "too many requests are under way"
            raise Refused(
                503, f"{why}; try again later", kind="server_error", code="overloaded", headers={"retry-after": "2"}
            )

    async def resolve(self, request: AIRequest) -> Routed:
        """Who answers: `request.model` may be a task with a live policy, a variant, or a model.

        Raises:
            Refused: it is a task without a policy, a model that cannot be asked by its own name, or the name of nothing.
            UnknownName: it names a provider that is not known.
            PromptError: the variant's prompt needs a variable that the request lacks.
            StoreError: the policies cannot be read.
        """
        name = request.model
        released = await self.router.released()
        if name in released.policies:
            routed = await self.router.route(request.model_copy(update={"task": name}))
            if routed is not None:
                return routed
        task = request.metadata.get("task")
        request = request.model_copy(update={"task": task}) if task else request
        variant = named(self.askable(released), name)
        if variant is not None:
            return self.router.ask(request, variant)
        if name in released.tasks:
            raise Refused(
                404,
                f"the task '{name}' has no live policy yet; promote a variant: feedbackloop promote {name} VARIANT",
                code="model_not_found",
                param="model",
            )
        model = model_name(name, self.settings)
        if name not in {model, model.replace(":", "/", 1)}:
            # A misspelt task must not be asked, and paid for, as some provider's model.
            known = [*released.tasks, *(variant.name for variant in self.askable(released))]
            raise Refused(
                404,
                f"'{name}' is no task and no variant (a model is written with its provider, as '{model}'){near(name, known)}",
                code="model_not_found",
                param="model",
            )
        self._check_direct(model)
        return Routed(keyed(request, model), (model,), None)

    def askable(self, released: Released) -> list[Variant]:
        """The variants that somebody can answer for, newest first: imported ones have no model behind them."""
        if released is not self._released:
            self._released = released
            self._askable = [variant for variant in released.variants if self._known(variant.model)]
        return self._askable

    def reachable(self, model: str) -> bool:
        """Whether clients may ask a model by its own name: a client must not choose which file is run or read."""
        provider = self.engine.provider(model)
        return bool(getattr(provider, "live", True)) and not getattr(provider, "takes_inputs", False)

    @contextlib.asynccontextmanager
    async def asking(self, routed: Routed, *, whole: bool = False, id: str | None = None) -> AsyncIterator[Stream]:
        """An answer under way: counted, and kept however it ends, also when its reader leaves.

        Args:
            whole: it is wanted in one piece.
            id: of the response, where it has to be known before.
        """
        self.active += 1
        stream = self.engine.stream(routed.request, routed.models, whole=whole)
        try:
            with Watched(routed.request) as watched:
                try:
                    async with stream:
                        yield stream
                finally:
                    response = getattr(stream, "response", None)
                    if response is not None:
                        stream.response = response.model_copy(update={"id": id}) if id else response
                        watched.done(stream.response)
                        self.keep(routed.request, stream.response)
        finally:
            self.active -= 1

    async def answer(self, routed: Routed) -> AIResponse:
        """The whole answer, as a caller gets it."""
        async with self.asking(routed, whole=True) as stream:
            async for _ in stream:
                pass
        response = stream.response
        return (
            presented(response) if response.model_used != "none" and self.engine.live(response.model_used) else response
        )

    def keep(self, request: AIRequest, response: AIResponse) -> None:
        """Give an answer to the writer, which has it stored within a quarter of a second."""
        assert self._writer is not None
        self._writer.put(request, response)
        self.recent[response.id] = request.user_id
        if len(self.recent) > RECENT:
            self.recent.popitem(last=False)

    def _known(self, model: str) -> bool:
        try:
            model_name(model, self.settings)
        except UnknownName:
            return False
        return True

    def _check_direct(self, model: str) -> None:
        if model in self._direct:
            return
        try:
            reachable = self.reachable(model)
        except SettingsError as error:
            raise Refused(500, str(error), kind="server_error", code="misconfigured") from error
        if not reachable:
            raise Refused(
                404,
                f"'{model}' can only be asked for through a variant or a task",
                code="model_not_found",
                param="model",
            )
        if len(self._direct) >= MAX_MODELS:
            raise Refused(
                404,
                f"'{model}' is new, and {MAX_MODELS} other models were asked for already",
                code="model_not_found",
                param="model",
            )
        self._direct.add(model)


def heading(routed: Routed) -> dict[str, str]:
    """Headers that say how an answer came about."""
    headers = {"x-request-id": routed.request.id}
    if routed.variant is not None:
        headers["x-feedbackloop-variant"] = quote(routed.variant.label, safe="@ -_.")
    return headers
