"""What can be known of a spec's variants before any is asked: whether they can be, what they would send, what is answered already."""

from __future__ import annotations

from collections.abc import Sequence

from feedbackloop import queries
from feedbackloop.datasets import Survey
from feedbackloop.errors import FeedbackLoopError
from feedbackloop.identity import request_key
from feedbackloop.models import AIRequest, Case, Message
from feedbackloop.pipeline.budget import refuse_too_small, worst_by
from feedbackloop.prompts import Prompt, refuse_same_text
from feedbackloop.providers import create, model_name, provider_name
from feedbackloop.providers.simulated import Behaviour, SimulatedProvider
from feedbackloop.settings import Settings, parse
from feedbackloop.spec import RunSpec, VariantSpec
from feedbackloop.store import Store


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


def has_batches(variant: VariantSpec, settings: Settings) -> bool:
    """Whether a variant's provider takes batches."""
    try:
        return hasattr(create(provider_name(model_name(variant.model, settings), settings), settings), "batches")
    except FeedbackLoopError:
        return False


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


def refuse_same(variant: VariantSpec, case: Case, cases: int, settings: Settings) -> None:
    """See to it that a variant does not put the same text to several cases, none of which has a conversation.

    Args:
        variant: what would be asked.
        case: one of the cases.
        cases: how many there are.
        settings: relative paths start from their folder.

    Raises:
        PromptError: its prompt does not compile, or uses no variable.
        UnknownName: the model names no known provider.
    """
    if cases > 1 and not is_function(variant.model, settings):
        refuse_same_text(variant.record(), Prompt.of(variant.record()), case, settings.base)


def refuse_same_texts(spec: RunSpec, found: Survey, settings: Settings) -> None:
    """See to it that no variant puts the same text to all cases of a dataset, as far as these were read.

    Raises:
        PromptError, UnknownName: as in `refuse_same`.
    """
    if found.exact and not any(case.messages for case in found.sample):
        for variant in spec.variants:
            refuse_same(variant, found.sample[0], found.cases, settings)


def refuse_small_budget(
    spec: RunSpec, budget_usd: float, sample: Sequence[Case], store: Store | None, settings: Settings
) -> None:
    """See to it that a new run's budget holds each call that is not answered already.

    Args:
        spec: what would be run.
        budget_usd: its budget.
        sample: the cases that are looked at.
        store: where answers are that would be used again; None for none.
        settings: prices and providers.

    Raises:
        SettingsError: it does not.
        PromptError, UnknownName: as in `rendered`.
    """
    worst = worst_by(settings, by_batch=spec.executor == "batch")
    for variant in spec.variants:
        model = model_name(variant.model, settings)
        if is_function(model, settings) or not getattr(create(provider_name(model, settings), settings), "live", True):
            continue
        prompt, known = Prompt.of(variant.record()), {"params": variant.params, "metadata": {"variant": variant.name}}
        beyond = []
        for case in sample:
            request = AIRequest.model_validate({"input": "", "model": model, "messages": prompt.render(case), **known})
            if (worst(request) or 0.0) > budget_usd:
                beyond.append((case, request))
        if beyond and (
            store is None or reused_answers(variant, [case for case, _ in beyond], 1, store, settings) < len(beyond)
        ):
            refuse_too_small([request for _, request in beyond], worst, budget_usd)


def reused_answers(variant: VariantSpec, sample: Sequence[Case], repeats: int, store: Store, settings: Settings) -> int:
    """How many answers of the sample are there already; a function of one's own is not looked at, as in `cannot_ask`."""
    if not store.exists() or is_function(variant.model, settings):
        return 0
    model = model_name(variant.model, settings)
    try:
        prepare = getattr(create(provider_name(model, settings), settings), "prepare", None)
        source = prepare(model) if prepare else None
    except FeedbackLoopError:
        return 0  # it cannot be asked at all, which is said elsewhere
    prompt, params = Prompt.of(variant.record()), variant.params
    keys = [
        request_key(messages, model, params, repeat, source)
        for messages in map(prompt.render, sample)
        for repeat in range(repeats)
    ]
    found = queries.answered_keys(store, keys)
    return sum(key in found for key in keys)
