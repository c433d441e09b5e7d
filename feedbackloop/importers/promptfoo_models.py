"""promptfoo's names of models in ours: `openai:chat:gpt-4o` is `openai:gpt-4o`."""

from __future__ import annotations

_KINDS = {"chat", "messages", "responses", "completion"}
"""Words between provider and model that say which endpoint is meant."""


def model_of(provider: str) -> str:
    """The `provider:model` that a provider id of promptfoo stands for."""
    first, _, rest = provider.partition(":")
    kind, _, model = rest.partition(":")
    return f"{first}:{model}" if model and kind in _KINDS else provider
