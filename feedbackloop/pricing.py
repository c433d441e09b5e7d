"""What a call cost, by the price table of `genai-prices` and the overrides in the settings. An unknown price is None, never 0."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar

import genai_prices
from genai_prices.types import ModelPrice

from feedbackloop.errors import CANCELLED, OutputInvalid, ProviderTimeout
from feedbackloop.models import Attempt
from feedbackloop.settings import Price, Settings

logger = logging.getLogger(__name__)

SLOT_MINUTES = 15
"""A price is looked up once in so long: some providers charge by the time of day, from full and half hours on."""

MAYBE_CHARGED = frozenset({None, ProviderTimeout.__name__, OutputInvalid.__name__, CANCELLED})
"""How attempts end that a model worked on: with an answer, with one that cannot be used, or unknown to us."""


@dataclass(frozen=True)
class Tokens:
    """What is billed of one call. `input` includes what was read from or written to the provider's cache."""

    input: int
    output: int
    cached: int = 0
    cache_write: int = 0


@dataclass(frozen=True)
class Rates:
    """USD per token, where a price is that simple."""

    input: float
    output: float
    cached: float
    cache_write: float

    def cost(self, tokens: Tokens) -> float:
        """USD for these tokens."""
        plain = tokens.input - tokens.cached - tokens.cache_write
        return (
            plain * self.input
            + tokens.cached * self.cached
            + tokens.cache_write * self.cache_write
            + tokens.output * self.output
        )


def spent(attempts: list[Attempt]) -> float | None:
    """USD over all attempts, or None if one of them may have been charged and its price is not known.

    An attempt that was refused before a model worked on it cost nothing.
    """
    total = 0.0
    for attempt in attempts:
        if attempt.cost_usd is not None:
            total += attempt.cost_usd
        elif attempt.maybe_charged or attempt.error_type in MAYBE_CHARGED:
            return None
    return total


def slot_of(moment: datetime) -> datetime:
    """The beginning of the stretch of time that has one price, in UTC."""
    utc = moment.astimezone(UTC)
    return utc.replace(minute=utc.minute - utc.minute % SLOT_MINUTES, second=0, microsecond=0)


class Prices:
    """Prices looked up once per model and quarter of an hour.

    Args:
        settings: `prices` in it, by `provider:model`, win over the table.
    """

    _context: ClassVar[Mapping[str, str] | None] = None
    """What the table may make its price depend on, besides model and time."""

    def __init__(self, settings: Settings) -> None:
        self._overrides = settings.prices
        self._known: dict[tuple[str, str | None, str | None, datetime], Rates | ModelPrice | None] = {}

    def cost(
        self,
        model: str,
        tokens: Tokens,
        *,
        base_url: str | None = None,
        reported: str | None = None,
        at: datetime | None = None,
    ) -> float | None:
        """USD of a call, or None where the price is unknown.

        Args:
            model: `provider:model` as configured.
            base_url: the endpoint, which decides whose prices apply: a local model is not charged a cloud's price.
            reported: the model that the endpoint says it used, tried where the configured name is unknown.
            at: when the answer came; prices change from day to day, and with some providers from hour to hour.
        """
        slot = slot_of(at or datetime.now(UTC))
        key = (model, base_url, reported, slot)
        if key not in self._known:
            self._known[key] = self._look_up(model, base_url, reported, slot)
        price = self._known[key]
        if price is None:
            return None
        if isinstance(price, Rates):
            return price.cost(tokens)
        try:
            usage = genai_prices.Usage(
                input_tokens=tokens.input,
                output_tokens=tokens.output,
                cache_read_tokens=tokens.cached,
                cache_write_tokens=tokens.cache_write,
            )
            return float(price.calc_price(usage)["total_price"])
        except Exception:
            logger.warning("no cost for %s: its price does not fit its usage %s", model, tokens, exc_info=True)
            return None

    def _look_up(
        self, model: str, base_url: str | None, reported: str | None, at: datetime
    ) -> Rates | ModelPrice | None:
        if override := self._overrides.get(model):
            return _override(override)
        provider, _, name = model.partition(":")
        where: dict[str, Any] = {"provider_api_url": base_url} if base_url else {"provider_id": provider}
        for reference in dict.fromkeys((name, reported or name)):
            try:
                found = genai_prices.calc_price(
                    genai_prices.Usage(input_tokens=1, output_tokens=1),
                    model_ref=reference,
                    genai_request_timestamp=at,
                    price_context=self._context,
                    **where,
                )
            except Exception as error:  # any fault of the table leaves the price unknown
                logger.info("no price for %s (%s): %s", model, reference, error)
                continue
            return _rates(found.model_price) or found.model_price
        return None


class BatchPrices(Prices):
    """What the same costs in a batch: the table's own price for that where it has one, else half of what a call costs."""

    _context: ClassVar[Mapping[str, str] | None] = {"processing": "batch"}

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._calls = Prices(settings)

    def cost(self, model: str, tokens: Tokens, **known: Any) -> float | None:
        """USD of a line of a batch, or None where the price is unknown; the arguments are those of `Prices.cost`."""
        batch, call = super().cost(model, tokens, **known), self._calls.cost(model, tokens, **known)
        if batch is None or call is None:
            return None
        # The table leaves the price as it is where it knows none for batches, and so do the settings.
        return batch if batch < call else call / 2


def _override(price: Price) -> Rates:
    def per_token(value: float | None) -> float:
        return (price.input_per_million if value is None else value) / 1e6

    return Rates(
        input=price.input_per_million / 1e6,
        output=price.output_per_million / 1e6,
        cached=per_token(price.cached_per_million),
        cache_write=per_token(price.cache_write_per_million),
    )


def _rates(price: ModelPrice) -> Rates | None:
    """The price as four plain rates; None if it is tiered."""
    # The library's own sum takes 60 us a call, this one less than 1.
    named: list[Any] = [price.input_mtok, price.output_mtok, price.cache_read_mtok, price.cache_write_mtok]
    if (
        any(rate is not None and not isinstance(rate, Decimal) for rate in named)
        or named[0] is None
        or named[1] is None
    ):
        return None
    input_rate, output_rate, cached, cache_write = (None if rate is None else float(rate) / 1e6 for rate in named)
    assert input_rate is not None
    assert output_rate is not None
    return Rates(
        input=input_rate,
        output=output_rate,
        cached=input_rate if cached is None else cached,
        cache_write=input_rate if cache_write is None else cache_write,
    )
