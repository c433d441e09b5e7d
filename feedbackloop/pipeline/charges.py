"""Whose answers are charged for, and whether at a price that anybody knows: looked at before a run begins."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from urllib.parse import urlsplit

from feedbackloop.errors import SettingsError
from feedbackloop.models import Variant
from feedbackloop.pipeline.engine import Engine
from feedbackloop.pricing import Prices, Tokens
from feedbackloop.providers import Provider, create, model_name, provider_name
from feedbackloop.settings import Settings

MADE_UP = frozenset({"simulated", "recorded"})
"""Providers that ask nobody."""

_SOME = Tokens(1, 1)


def is_paid(name: str, provider: Provider) -> bool:
    """Whether somebody may charge for a provider's answers: not for made-up and recorded ones, functions, and this machine's own.

    Args:
        name: what it is called in `provider:model`.
        provider: whose `base_url` tells where it is asked.
    """
    if name in MADE_UP or not getattr(provider, "live", True) or getattr(provider, "takes_inputs", False):
        return False
    return not _is_here(getattr(provider, "base_url", None))


def unknown_prices(
    models: Iterable[str], settings: Settings, provider_of: Callable[[str], Provider] | None = None
) -> tuple[str, ...]:
    """Those models that are charged for at a price that neither the table nor the settings know, as `provider:model`.

    Args:
        models: as they are written, fallbacks included.
        settings: prices and providers.
        provider_of: the provider of a model; by default a new one.

    Raises:
        UnknownName: a model names no known provider.
    """
    prices = Prices(settings)
    found = []
    for model in dict.fromkeys(model_name(model, settings) for model in models):
        name = provider_name(model, settings)
        provider = provider_of(model) if provider_of else create(name, settings)
        price = prices.cost(model, _SOME, base_url=getattr(provider, "base_url", None))
        if price is None and is_paid(name, provider):
            found.append(model)
    return tuple(found)


def unknown_price(models: Sequence[str]) -> str:
    """The sentence about models whose price is not known, and what to do; the same wherever a run can be started."""
    return (
        f"the price of {' and '.join(models)} is not known, so that no estimate and no budget holds for it: name it under "
        "[prices] in feedbackloop.toml, or allow it (--allow-unknown-price; from Python allow_unknown_price=True)"
    )


def refuse_unknown_prices(variants: Iterable[Variant], engine: Engine) -> None:
    """See to it that all that a run may be charged for has a price, fallbacks included.

    Raises:
        SettingsError: some has none.
        UnknownName: a model names no known provider.
    """
    models = (model for variant in variants for model in (variant.model, *variant.fallbacks))
    unknown = unknown_prices(models, engine.settings, engine.provider)
    if unknown:
        raise SettingsError(unknown_price(unknown))


def _is_here(base_url: str | None) -> bool:
    """Whether an address is this machine's own."""
    host = urlsplit(base_url or "").hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
