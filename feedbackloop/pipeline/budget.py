"""What a budget has to hold: whether each call fits into it at all, and what of it is gone already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from feedbackloop import queries
from feedbackloop.errors import SettingsError
from feedbackloop.models import AIRequest, AIResponse, Run
from feedbackloop.pipeline.spending import too_small, worst_of
from feedbackloop.pricing import BatchPrices, Prices, spent
from feedbackloop.providers import Provider, create, provider_name
from feedbackloop.queries.paid import Lost, lost_calls, unpriced_answers
from feedbackloop.settings import Settings
from feedbackloop.store import Store
from feedbackloop.wording import count, dollars

Worst = Callable[[AIRequest], float | None]
"""The most USD that one attempt at a request can cost; None where its model has no price."""


@dataclass
class Assumed:
    """Calls of which nobody knows what they cost: what a budget is charged for them, which is their worst case."""

    worst: Worst
    usd: float = 0.0
    calls: int = 0
    unpriced: int = 0
    """Calls of models without a price, for which no budget holds."""

    def add(self, request: AIRequest, response: AIResponse) -> None:
        """Count the calls of an answer."""
        if response.cached or response.spent_usd is not None:
            return
        for attempt in response.attempts:
            if spent([attempt]) is None:
                worst = self.worst(request.model_copy(update={"model": attempt.model}))
                self.unpriced += worst is None
                self.calls += worst is not None
                self.usd += worst or 0.0

    def add_stored(self, store: Store, run_id: str) -> None:
        """Count the calls of a run's answers that are in the store, and those that were under way when it was interrupted."""
        for request, response in unpriced_answers(store, run_id):
            self.add(request, response)
        lost = lost_calls(store, run_id).get(run_id, Lost())
        if lost.worst_usd:
            self.usd += lost.worst_usd
            self.calls += lost.calls

    @property
    def notes(self) -> tuple[str, ...]:
        """What has to be said of it where there is a budget, as sentences."""
        told = []
        if self.calls:
            calls = f"{count(self.calls, 'call')} that broke off or left no usage"
            told.append(f"{dollars(self.usd)} of the budget is gone for {calls}, counted at worst case")
        if self.unpriced:
            told.append(f"the budget does not hold for {count(self.unpriced, 'call')} of models without a price")
        return tuple(told)


def worst_by(settings: Settings, *, by_batch: bool = False) -> Worst:
    """How the worst case of a request is reckoned by settings alone, without an engine; its model is a `provider:model`."""
    prices: Prices = BatchPrices(settings) if by_batch else Prices(settings)
    providers: dict[str, Provider] = {}

    def worst(request: AIRequest) -> float | None:
        name = provider_name(request.model, settings)
        if name not in providers:
            providers[name] = create(name, settings)
        return worst_of(providers[name], request, prices)

    return worst


def gone(store: Store, run: Run, settings: Settings) -> float:
    """USD of a run's budget that are gone: what is known to be spent, and the worst case of what is not known."""
    assumed = Assumed(worst_by(settings, by_batch=run.settings.get("executor") == "batch"))
    assumed.add_stored(store, run.id)
    return queries.spent(store, run.id) + assumed.usd


def refuse_too_small(requests: Sequence[AIRequest], worst: Worst, limit_usd: float) -> None:
    """See to it that a budget holds each of these calls.

    Raises:
        SettingsError: it is less than one of them could cost.
    """
    for request in requests:
        usd = worst(request)
        if usd is not None and usd > limit_usd:
            raise SettingsError(too_small(request, usd, limit_usd))
