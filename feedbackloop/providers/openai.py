"""Models behind OpenAI's chat-completions protocol: OpenAI itself, and every `[providers.NAME]` table."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from json import JSONDecodeError
from typing import Any

import aiohttp
from openai import (
    APIConnectionError,
    APIError,
    APIStatusError,
    AsyncOpenAI,
    AsyncStream,
    BadRequestError,
    DefaultAioHttpClient,
    NotFoundError,
    Timeout,
)
from openai._types import RequestOptions

from feedbackloop.errors import (
    ContentFiltered,
    InvalidRequest,
    OutputInvalid,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    SettingsError,
)
from feedbackloop.models import AIRequest, AIResponse
from feedbackloop.providers import Allowance, Chunk
from feedbackloop.providers.arrivals import ASKED, LARGEST_ANSWER, Arrivals, TooLarge
from feedbackloop.providers.batches import Batches
from feedbackloop.providers.endpoint import DEFAULT_MAX_TOKENS, Endpoint, find_base_url
from feedbackloop.settings import Settings
from feedbackloop.text import storable
from feedbackloop.usage import read_usage

# The engine bounds an attempt; this only keeps a caller without one from waiting for ever.
_TIMEOUT = Timeout(600, connect=30)

# A raw call would otherwise offer OPENAI_ADMIN_KEY too.
_OPTIONS: RequestOptions = {"security": {"bearer_auth": True}}

_REACHABLE_WITHIN_S = 3.0


@dataclass
class _Connection:
    """One event loop's client, for the endpoint as it was when last asked."""

    endpoint: Endpoint
    client: AsyncOpenAI
    closing: AsyncGenerator[AsyncOpenAI, None]


class OpenAIProvider:
    """Asks an OpenAI-compatible endpoint over HTTP, once per call: retries, limits and time-outs are the engine's.

    Addresses and keys are read from the environment at each call and never kept in the settings. The connections of an
    event loop close with `aclose()`, or with the loop itself where `asyncio.run` ends it.

    Raises:
        SettingsError: a `[providers.NAME]` table has no usable `base_url`.
    """

    live = True

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self._table = settings.providers.get(name)
        given = self._table.base_url if self._table else None
        if name != "openai" and not given:
            raise SettingsError(f'[providers.{name}] needs a base_url, such as "http://localhost:8000/v1"')
        if given and not given.startswith(("http://", "https://")):
            raise SettingsError(f"[providers.{name}]: base_url must begin with http:// or https://")
        self._connections: dict[asyncio.AbstractEventLoop, _Connection] = {}
        self._wants_completion_tokens: set[str] = set()
        self._arrivals = Arrivals()

    @property
    def base_url(self) -> str:
        """Where requests go, and so whose prices apply."""
        return find_base_url(self.name, self._table)

    def prepare(self, model: str) -> None:  # noqa: ARG002 - the endpoint is the same for all models
        """Check before anything is paid for that there is a key.

        Raises:
            AuthenticationFailed: a key is needed and its variable is not set.
            InvalidRequest: `OPENAI_BASE_URL` is no address.
        """
        Endpoint.find(self.name, self._table)

    def allowance(self, model: str) -> Allowance | None:
        """What the endpoint said last of how much it still takes."""
        return self._arrivals.allowances.get(model)

    async def complete(self, request: AIRequest) -> AIResponse:
        """Answer the request with one call, or two where the endpoint wants `max_tokens` under its newer name.

        Raises:
            ProviderError: of the class that says what the endpoint or the connection did.
        """
        client, endpoint = await self._connected()
        body = self._body(request)
        ASKED.set(request.model)
        started = time.perf_counter()
        try:
            try:
                data = await client.post("/chat/completions", cast_to=object, body=body, options=_OPTIONS)
            except BadRequestError as error:
                if "max_tokens" not in body or not _refuses_max_tokens(error):
                    raise
                self._wants_completion_tokens.add(body["model"])
                body["max_completion_tokens"] = body.pop("max_tokens")
                started = time.perf_counter()
                data = await client.post("/chat/completions", cast_to=object, body=body, options=_OPTIONS)
        except Exception as error:
            # Several libraries are below, and the caller knows typed errors only. Without the cause: what the SDK
            # raises may quote a key, and a traceback would show it.
            raise _typed(error, endpoint) from None
        return _answer(data, request, endpoint, (time.perf_counter() - started) * 1000)

    async def stream(self, request: AIRequest) -> AsyncIterator[Chunk]:
        """Answer the request while it is made; one call more where the endpoint wants another parameter or none.

        Raises:
            ProviderError: of the class that says what the endpoint or the connection did, whenever that happens.
        """
        client, endpoint = await self._connected()
        body = self._body(request) | {"stream": True, "stream_options": {"include_usage": True}}
        ASKED.set(request.model)
        while True:
            started = time.perf_counter()
            try:
                stream = await client.post(
                    "/chat/completions",
                    cast_to=object,
                    body=body,
                    options=_OPTIONS,
                    stream=True,
                    stream_cls=AsyncStream[object],
                )
                break
            except BadRequestError as error:
                if "max_tokens" in body and _refuses_max_tokens(error):
                    self._wants_completion_tokens.add(body["model"])
                    body["max_completion_tokens"] = body.pop("max_tokens")
                elif "stream_options" in body and "stream_options" in error.message:
                    del body["stream_options"]
                else:
                    raise _typed(error, endpoint) from None
            except Exception as error:
                raise _typed(error, endpoint) from None
        heard = _Heard()
        async with stream:
            try:
                async for data in stream:
                    if text := heard.take(data, endpoint):
                        heard.ttft_ms = heard.ttft_ms or (time.perf_counter() - started) * 1000
                        yield Chunk(text)
            except Exception as error:
                meant = error if isinstance(error, ProviderError) else _typed(error, endpoint)
                _charge(meant, heard.usage, heard.model)
                meant.maybe_charged = meant.maybe_charged or bool(heard.texts)
                raise meant from None
        latency_ms = (time.perf_counter() - started) * 1000
        response = _answer(heard.whole(endpoint), request, endpoint, latency_ms)
        yield Chunk(response=response.model_copy(update={"ttft_ms": heard.ttft_ms}))

    def batches(self) -> Batches:
        """The same endpoint's batches: many requests at once, for half the price, within a day."""
        return Batches(self.name, self._connected, self._body, _answer, _typed, _OPTIONS)

    async def reachable(self) -> str:
        """A sentence such as "reachable, 12 models", from asking for the list of models.

        Raises:
            ProviderError: what keeps it from being used; `ProviderTimeout` after 3 seconds.
        """
        client, endpoint = await self._connected()
        try:
            async with asyncio.timeout(_REACHABLE_WITHIN_S):
                data = await client.get("/models", cast_to=object, options=_OPTIONS)
        except TimeoutError:
            raise ProviderTimeout(f"{self.name} did not list its models within {_REACHABLE_WITHIN_S:g} s") from None
        except NotFoundError:
            return "reachable, but it does not list its models"
        except Exception as error:
            raise _typed(error, endpoint) from None
        models = data.get("data") if isinstance(data, dict) else None
        if not isinstance(models, list):
            return "reachable, but it does not list its models"
        return f"reachable, {len(models)} model{'' if len(models) == 1 else 's'}"

    async def aclose(self) -> None:
        """Close the running event loop's connections; the next call opens new ones."""
        connection = self._connections.get(asyncio.get_running_loop())
        if connection is not None:
            await connection.closing.aclose()

    async def _connected(self) -> tuple[AsyncOpenAI, Endpoint]:
        endpoint = Endpoint.find(self.name, self._table)
        return await self._client(endpoint), endpoint

    async def _client(self, endpoint: Endpoint) -> AsyncOpenAI:
        loop = asyncio.get_running_loop()
        connection = self._connections.get(loop)
        if connection is None:
            closing = self._open(loop, endpoint)
            connection = self._connections[loop] = _Connection(endpoint, await anext(closing), closing)
        elif connection.endpoint != endpoint:
            connection.client = connection.client.with_options(api_key=endpoint.key, base_url=endpoint.base_url)
            connection.endpoint = endpoint
        return connection.client

    async def _open(self, loop: asyncio.AbstractEventLoop, endpoint: Endpoint) -> AsyncGenerator[AsyncOpenAI, None]:
        # A generator, because an event loop that is shut down properly closes those that are still open.
        http_client = DefaultAioHttpClient(timeout=_TIMEOUT, event_hooks={"response": [self._arrivals.hook]})
        client = AsyncOpenAI(
            api_key=endpoint.key, base_url=endpoint.base_url, max_retries=0, timeout=_TIMEOUT, http_client=http_client
        )
        if self.name != "openai":
            # The SDK takes these from the environment, and they are nobody's business but OpenAI's.
            client.organization = client.project = None
        try:
            yield client
        finally:
            self._connections.pop(loop, None)
            await http_client.aclose()

    def _body(self, request: AIRequest) -> dict[str, Any]:
        model = request.model.partition(":")[2] or request.model
        body: dict[str, Any] = {name: value for name, value in request.params.items() if value is not None}
        if body.get("stream"):
            raise InvalidRequest(
                "params.stream cannot be set: answers are asked whole here; take it out of the parameters"
            )
        body["model"] = model
        body["messages"] = request.messages or [{"role": "user", "content": request.input}]
        if "max_completion_tokens" not in body:
            limit = body.pop("max_tokens", DEFAULT_MAX_TOKENS)
            body["max_completion_tokens" if model in self._wants_completion_tokens else "max_tokens"] = limit
        return body


@dataclass
class _Heard:
    """What a stream has said so far."""

    texts: list[str] = field(default_factory=list)
    message: Any = None
    finish_reason: Any = None
    usage: Any = None
    model: Any = None
    ttft_ms: float | None = None

    def take(self, data: object, endpoint: Endpoint) -> str:
        """Take in one event; returns its text, fit to be stored."""
        if not isinstance(data, dict):
            raise OutputInvalid(f"{endpoint.name} streamed something else than JSON objects")
        self.model = data.get("model") or self.model
        self.usage = data.get("usage") or self.usage
        choices = data.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return ""
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            return ""
        if delta.get("tool_calls") or delta.get("refusal"):
            self.message = delta
        text = delta.get("content")
        if not isinstance(text, str):
            return ""
        self.texts.append(text)
        return storable(text)[0]

    def whole(self, endpoint: Endpoint) -> dict[str, Any]:
        """The completion that `complete` would have been sent."""
        if self.finish_reason is None:
            early = ProviderUnavailable(f"{endpoint.name} ended its stream before the answer was complete")
            _charge(early, self.usage, self.model)
            early.maybe_charged = True
            raise early
        text = "".join(self.texts)
        message = self.message if self.message and not text else {"content": text}
        choice = {"message": message, "finish_reason": self.finish_reason}
        return {"choices": [choice], "usage": self.usage, "model": self.model}


def _refuses_max_tokens(error: BadRequestError) -> bool:
    return "max_completion_tokens" in error.message and "max_tokens" in error.message


def _typed(error: Exception, endpoint: Endpoint) -> ProviderError:  # noqa: PLR0911 - one per meaning
    if isinstance(error, TooLarge):
        return OutputInvalid(f"{endpoint.name} answered with more than {LARGEST_ANSWER >> 20} MB, which was not read")
    if isinstance(error, APIStatusError):
        return endpoint.refusal(error.status_code, error.body, error.response.headers)
    if isinstance(error, APIConnectionError | aiohttp.ClientError | OSError):
        return endpoint.broken(error, reached=_reached(error))
    if type(error) is APIError:
        return endpoint.refusal_in_200(error.body)  # an error among the events of a stream
    if isinstance(error, JSONDecodeError | UnicodeDecodeError | RecursionError):
        return OutputInvalid(endpoint.scrub(f"{endpoint.name} did not answer with JSON: {error}"))
    if isinstance(error, TypeError | ValueError):
        return InvalidRequest(endpoint.scrub(f"The request cannot be written as JSON: {error}"))
    # Nothing known is left: a fault of ours or the SDK's, which asking again does not mend.
    return ProviderError(endpoint.scrub(f"{endpoint.name} could not be asked: {type(error).__name__}: {error}"))


def _reached(error: BaseException | None) -> bool:
    """Whether a connection that failed was there at first: whoever falls silent may have worked, and charges for it."""
    while error is not None:
        if isinstance(error, aiohttp.ClientConnectorError):
            return False
        error = error.__cause__
    return True


def _answer(data: object, request: AIRequest, endpoint: Endpoint, latency_ms: float | None) -> AIResponse:
    """The answer in what came; where there is none that can be used, the error has the usage, which is charged for all the same."""
    try:
        return _read(data, request, endpoint, latency_ms)
    except ProviderError as error:
        if isinstance(data, dict):
            _charge(error, data.get("usage"), data.get("model"))
        raise


def _charge(error: ProviderError, usage: object, model: object) -> None:
    error.usage, error.provider_model = (usage or None) if isinstance(usage, dict) else None, _text(model)


def _read(data: object, request: AIRequest, endpoint: Endpoint, latency_ms: float | None) -> AIResponse:
    name = endpoint.name
    if not isinstance(data, dict):
        raise OutputInvalid(f"{name} did not answer with a JSON object")
    if data.get("error"):
        raise endpoint.refusal_in_200(data["error"])
    choices = data.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        raise OutputInvalid(f"{name} answered without choices")
    if choice.get("error"):
        raise endpoint.refusal_in_200(choice["error"])
    if choice.get("finish_reason") == "content_filter":
        withheld = ContentFiltered(f"{name} withholds the answer (finish_reason content_filter)")
        withheld.maybe_charged = True
        raise withheld
    message = choice.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, str):
        raise OutputInvalid(endpoint.scrub(f"{name} answered without text{_instead(message)}"))
    output, repaired = storable(content)
    usage = data.get("usage")
    tokens = read_usage(usage)
    return AIResponse(
        request_id=request.id,
        output=output,
        model_used=request.model,
        latency_ms=latency_ms,
        tokens_used=tokens.total,
        input_tokens=tokens.input,
        output_tokens=tokens.output,
        cached_tokens=tokens.cached,
        cache_write_tokens=tokens.cache_write,
        reasoning_tokens=tokens.reasoning,
        usage=usage if usage and isinstance(usage, dict) else None,
        finish_reason=_text(choice.get("finish_reason")),
        provider_model=_text(data.get("model")),
        metadata={"repaired": repaired} if repaired else {},
    )


def _instead(message: object) -> str:
    if not isinstance(message, dict):
        return ""
    if message.get("tool_calls"):
        return " but with a call of a tool"
    refusal = message.get("refusal")
    return f": {refusal}" if isinstance(refusal, str) else ""


def _text(value: object) -> str | None:
    return storable(value)[0] if isinstance(value, str) else None
