"""Who answers. A provider is anything with `complete`; everything that makes a call reliable is a provider around one.

To add an OpenAI-compatible endpoint write a `[providers.NAME]` table in `feedbackloop.toml`; for another API write a class
with `complete` and announce it under the entry-point group `feedbackloop.providers`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

from feedbackloop.errors import UnknownName
from feedbackloop.models import AIRequest, AIResponse
from feedbackloop.registry import Registry, near
from feedbackloop.settings import Settings

__all__ = [
    "PROVIDERS",
    "Allowance",
    "Chunk",
    "Provider",
    "Quota",
    "StreamingProvider",
    "create",
    "model_name",
    "provider_name",
]


class Provider(Protocol):
    """One request in, one response out.

    `complete` returns a COMPLETED response or raises a `ProviderError`; it never turns an error into text. It sets
    `model_used` to `request.model` (always `provider:model` here), `latency_ms` from sending to the last byte, tokens and raw
    usage; `cost_usd` only if it knows the true cost itself. It leaves `attempts` empty.

    Optional, looked up by name:

    - `live` (bool, default true): answers come from a model now, so the engine validates and strips them;
    - `paid` (bool, default true): an answer costs what its tokens cost; without it, neither it nor a failure costs anything;
    - `takes_inputs` (bool, default false): gets the case's variables in `request.inputs`, and so no prompt;
    - `base_url` (str): decides whose prices apply;
    - `prepare(model) -> str | None`: called before a run pays for anything; raises the error that every call would meet
      (no key, no file, no function), and returns what besides messages and parameters decides the answer (a function's source);
    - `allowance(model) -> Allowance | None`: what the endpoint said last of how much it still takes;
    - `aclose()` (async): frees what belongs to the running event loop;
    - `stream(request)`: see `StreamingProvider`;
    - `batches()`: asks many at once, for less and later: see `providers.batches.Batches`.
    """

    async def complete(self, request: AIRequest) -> AIResponse:
        """Answer the request, or raise a `ProviderError`."""
        ...


@dataclass(frozen=True)
class Chunk:
    """A piece of an answer while it is made."""

    text: str = ""
    response: AIResponse | None = None
    """The whole answer, as `complete` would have returned it; the last chunk has it, and no text."""


@dataclass(frozen=True)
class Quota:
    """What is left of a rate, as an endpoint tells it with an answer or a refusal."""

    limit: float
    remaining: float
    reset_s: float
    """Seconds until all of `limit` is there again."""


@dataclass(frozen=True)
class Allowance:
    """How much an endpoint still takes; None where it does not say."""

    requests: Quota | None = None
    tokens: Quota | None = None


class StreamingProvider(Provider, Protocol):
    """A provider that can hand on its answer while it is made."""

    def stream(self, request: AIRequest) -> AsyncIterator[Chunk]:
        """Yield the text as it comes, then the response; raise a `ProviderError` wherever it fails. An async generator."""
        ...


PROVIDERS = Registry(
    kind="provider",
    entries={
        "openai": "feedbackloop.providers.openai:OpenAIProvider",
        "recorded": "feedbackloop.providers.recorded:RecordedProvider",
        "simulated": "feedbackloop.providers.simulated:SimulatedProvider",
        "python": "feedbackloop.providers.function:FunctionProvider",
    },
    group="feedbackloop.providers",
)


def provider_name(model: str, settings: Settings) -> str:
    """The provider's part of `provider:model`; a bare model name, or one with an unknown prefix and a `/`, is the default's."""
    return _split(model, settings)[0]


def model_name(model: str, settings: Settings) -> str:
    """The model as `provider:model`, as it is configured, keyed, priced and reported. `provider/model` is accepted too.

    Raises:
        UnknownName: what stands before the colon is no provider.
    """
    return ":".join(_split(model, settings))


def create(name: str, settings: Settings) -> Provider:
    """The provider called `name`: a `[providers.NAME]` table first, then the registry.

    Provider classes take `(name, settings)`; one instance serves all models of that provider.

    Raises:
        UnknownName: neither knows the name.
    """
    table = settings.providers.get(name)
    made: Any = PROVIDERS.get(table.kind if table else name)
    provider: Provider = made(name, settings)
    return provider


def _split(model: str, settings: Settings) -> tuple[str, str]:
    for separator in (":", "/"):
        name, found, rest = model.partition(separator)
        if found and rest and (name in settings.providers or name in PROVIDERS):
            return name, rest
    name, found, _ = model.partition(":")
    if found:
        known = [*settings.providers, *PROVIDERS.names()]
        raise UnknownName(
            f"'{model}' names the provider '{name}', which is not known{near(name, known)} "
            f"(a model whose own name holds a colon is written '{settings.default_provider}:{model}')"
        )
    return settings.default_provider, model
