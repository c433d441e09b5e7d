"""What a call used, from the figures that its endpoint reported: OpenAI's shape, and how others depart from it.

OpenAI counts cached tokens within `prompt_tokens` and reasoning within `completion_tokens`. Not all that call themselves compatible do:

- DeepSeek reports what was cached as `prompt_cache_hit_tokens`, within `prompt_tokens`.
- Anthropic's own shape counts `cache_read_input_tokens` and `cache_creation_input_tokens` beside `input_tokens`; some gateways pass that
  on as `prompt_tokens`, others add it up first.
- Gemini's compatible endpoint and xAI leave what was thought out of `completion_tokens`; only the total holds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_BESIDE = ("cache_read_input_tokens", "cache_creation_input_tokens")
"""Anthropic's own names; where they stand, `prompt_tokens` may be without them."""


@dataclass(frozen=True)
class Usage:
    """Tokens of one call; None where nothing was reported."""

    input: int | None
    """All of it, what was read from or written to the provider's cache included."""
    output: int | None
    """All of it, reasoning included: both have one price."""
    cached: int | None
    """Of the input, read from the cache."""
    cache_write: int | None
    """Of the input, written to the cache."""
    reasoning: int | None
    """Of the output, not shown."""
    total: int | None


def read_usage(usage: object) -> Usage:
    """The tokens that a raw usage stands for.

    What the total holds beyond prompt and answer is taken for reasoning: it is charged like an answer everywhere.

    Args:
        usage: what an endpoint reported, in whatever shape; anything that is no whole number is passed over.
    """
    figures = usage if isinstance(usage, Mapping) else {}
    asked = _details(figures, "prompt_tokens_details", "input_tokens_details")
    told = _details(figures, "completion_tokens_details", "output_tokens_details")
    native = "prompt_tokens" not in figures
    prompt = _first(figures, "prompt_tokens", "input_tokens")
    answer = _first(figures, "completion_tokens", "output_tokens")
    cached = _most(
        _count(asked, "cached_tokens"),
        _count(figures, "cached_tokens"),
        _count(figures, "prompt_cache_hit_tokens"),
        _count(figures, "cache_read_input_tokens"),
    )
    written = _most(
        _count(asked, "cache_write_tokens"),
        _count(asked, "cache_creation_tokens"),
        _count(figures, "cache_creation_input_tokens"),
    )
    reasoning = _most(
        _first(told, "reasoning_tokens", "thinking_tokens"),
        _count(figures, "reasoning_tokens"),
    )
    total = _count(figures, "total_tokens")
    if prompt is not None:
        aside = (cached or 0) + (written or 0)
        named = any(name in figures for name in _BESIDE)
        fits = total is not None and total >= prompt + (answer or 0) + aside
        if aside > prompt or (named and (native or fits)):
            prompt += aside
    if prompt is not None and answer is not None:
        rest = max(0, total - prompt - answer) if total is not None else 0
        if total is None and (reasoning or 0) > answer:
            rest = reasoning or 0
        answer += rest
        reasoning = _most(reasoning, rest) if rest else reasoning
        total = prompt + answer if total is None else total
    return Usage(prompt, answer, cached, written, reasoning, total)


def _details(figures: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    return next((value for name in names if isinstance(value := figures.get(name), Mapping)), {})


def _first(figures: Mapping[str, Any], *names: str) -> int | None:
    return next((count for name in names if (count := _count(figures, name)) is not None), None)


def _most(*counts: int | None) -> int | None:
    """The greatest one: of several names for one figure, a gateway may leave some at 0."""
    return max((count for count in counts if count is not None), default=None)


def _count(figures: Mapping[str, Any], name: str) -> int | None:
    value = figures.get(name)
    return value if type(value) is int and 0 <= value < 2**63 else None
