"""What a run will ask, cost and take, guessed before anything is paid for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from feedbackloop.errors import FeedbackLoopError
from feedbackloop.models import Case, Message
from feedbackloop.pricing import BatchPrices, Prices, Tokens
from feedbackloop.prompts import Prompt
from feedbackloop.providers import create, model_name, provider_name
from feedbackloop.providers.simulated import Behaviour, SimulatedProvider
from feedbackloop.queries.overview import ModelHistory, model_history
from feedbackloop.settings import Limits, Settings, parse
from feedbackloop.spec import RunSpec, VariantSpec
from feedbackloop.store import Store

CHARACTERS_PER_TOKEN = 4.0
"""Of usual text; some languages and code have fewer."""
ASSUMED_OUTPUT_TOKENS = 250.0
ASSUMED_LATENCY_MS = 3_000.0
"""Of models that have answered nothing yet."""
LOCAL_CALLS_PER_S = 2_000.0
"""What simulated and recorded answers come at."""

UNPAID = frozenset({"simulated", "recorded"})
"""Providers that ask nobody."""


@dataclass(frozen=True)
class VariantEstimate:
    """One variant's part."""

    name: str
    model: str
    """`provider:model`."""
    calls: int
    input_tokens: float
    """Of all its calls."""
    output_tokens: float
    cost_usd: float | None
    """None where the price is not known, or it is a function of one's own."""
    known: bool
    """Its model answered before, so that length and time are measured; otherwise they are assumed."""


@dataclass(frozen=True)
class Estimate:
    """A whole run."""

    cases: int
    repeats: int
    variants: tuple[VariantEstimate, ...]
    seconds: float

    @property
    def calls(self) -> int:
        """How many answers are asked for."""
        return sum(variant.calls for variant in self.variants)

    @property
    def cost_usd(self) -> float:
        """As far as prices are known."""
        return sum(variant.cost_usd or 0.0 for variant in self.variants)

    @property
    def unpriced(self) -> tuple[str, ...]:
        """Models whose price is not known."""
        return tuple(dict.fromkeys(variant.model for variant in self.variants if variant.cost_usd is None))

    @property
    def assumed(self) -> bool:
        """Whether the length of some model's answers is a mere assumption."""
        return any(not variant.known for variant in self.variants)


def estimate(spec: RunSpec, store: Store, settings: Settings, *, cases: int, sample: Sequence[Case]) -> Estimate:
    """Guess what a spec comes to.

    Args:
        spec: what would be run.
        store: where earlier answers tell how long and slow a model's answers are.
        settings: prices and limits.
        cases: how many there are in all.
        sample: some of them, which the prompts are measured on.

    Raises:
        PromptError: a prompt does not compile or fails on a case.
        UnknownName: a model names no known provider.
    """
    models = [model_name(variant.model, settings) for variant in spec.variants]
    history = model_history(store, models)
    prices = BatchPrices(settings) if spec.executor == "batch" else Prices(settings)
    calls = cases * spec.repeats
    made = []
    seconds = 0.0
    for variant, model in zip(spec.variants, models, strict=True):
        past = history.get(model, ModelHistory(None, None))
        provider = provider_name(model, settings)
        output = _output_tokens(variant, past)
        one = Tokens(round(_input_tokens(variant, sample, settings)), round(output))
        cost = 0.0 if provider in UNPAID else _cost(prices, model, one, settings)
        made.append(
            VariantEstimate(
                name=variant.name,
                model=model,
                calls=calls,
                input_tokens=one.input * calls,
                output_tokens=one.output * calls,
                cost_usd=None if cost is None else cost * calls,
                known=past.output_tokens is not None or provider in UNPAID,
            )
        )
        limits = _limits(spec.limits or settings.limits, provider, settings)
        seconds += _seconds(variant, provider, past, limits, calls=calls, tokens=(one.input + one.output) * calls)
    return Estimate(cases, spec.repeats, tuple(made), seconds)


def cannot_ask(variant: VariantSpec, settings: Settings) -> str | None:
    """Why a variant cannot be asked, as a sentence: no such provider, no key, no file, an unknown parameter. None if all is well.

    A function of one's own is not looked at: to look is to run its file.
    """
    try:
        for model in (variant.model, *variant.fallbacks):
            full = model_name(model, settings)
            provider = create(provider_name(full, settings), settings)
            prepare = getattr(provider, "prepare", None)
            if prepare is not None and not getattr(provider, "takes_inputs", False):
                prepare(full)
            if isinstance(provider, SimulatedProvider):
                parse(Behaviour, variant.params, f"parameters of '{variant.name}'")
    except FeedbackLoopError as error:
        return str(error)
    return None


def rendered(variant: VariantSpec, case: Case, settings: Settings) -> list[Message] | None:
    """What a variant sends for a case; None for a function of one's own, which gets the case's inputs instead.

    Raises:
        PromptError: the prompt does not compile, or the case lacks a variable.
        UnknownName: the model names no known provider.
    """
    return None if is_function(variant.model, settings) else Prompt.of(variant.record()).render(case)


def is_function(model: str, settings: Settings) -> bool:
    """Whether a model is a function of one's own.

    Raises:
        UnknownName: the model names no known provider.
    """
    return bool(getattr(create(provider_name(model, settings), settings), "takes_inputs", False))


def _input_tokens(variant: VariantSpec, sample: Sequence[Case], settings: Settings) -> float:
    if is_function(variant.model, settings) or not sample:
        return 0.0
    prompt = Prompt.of(variant.record())
    sizes = [sum(len(str(message.get("content") or "")) for message in prompt.render(case)) for case in sample]
    return sum(sizes) / len(sizes) / CHARACTERS_PER_TOKEN


def _output_tokens(variant: VariantSpec, past: ModelHistory) -> float:
    most = next(
        (
            value
            for name in ("max_completion_tokens", "max_tokens")
            if isinstance(value := variant.params.get(name), int)
        ),
        None,
    )
    usual = past.output_tokens if past.output_tokens is not None else ASSUMED_OUTPUT_TOKENS
    return min(usual, most) if most is not None and most > 0 else usual


def _cost(prices: Prices, model: str, tokens: Tokens, settings: Settings) -> float | None:
    provider = create(provider_name(model, settings), settings)
    if getattr(provider, "takes_inputs", False):
        return None
    return prices.cost(model, tokens, base_url=getattr(provider, "base_url", None))


def _limits(limits: Limits, provider: str, settings: Settings) -> Limits:
    table = settings.providers.get(provider)
    own = table.limits if table else None
    if own is None:
        return limits
    return limits.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})


def _seconds(
    variant: VariantSpec, provider: str, past: ModelHistory, limits: Limits, *, calls: int, tokens: float
) -> float:
    """One variant's share of the time: all of a run's calls share its places."""
    if provider in UNPAID and not variant.params.get("realtime"):
        return calls / LOCAL_CALLS_PER_S
    each = past.latency_ms if past.latency_ms is not None else ASSUMED_LATENCY_MS
    waits = [each / 1000 * max(calls / limits.concurrency, 1.0)]
    if limits.requests_per_minute:
        waits.append(calls / limits.requests_per_minute * 60)
    if limits.tokens_per_minute:
        waits.append(tokens / limits.tokens_per_minute * 60)
    return max(waits)
