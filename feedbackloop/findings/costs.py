"""What was spent, by whatever one asks for, and what it would come to by the prices of now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

import pandas as pd

from feedbackloop.errors import FeedbackLoopError
from feedbackloop.pricing import BatchPrices, Prices
from feedbackloop.providers import Provider, create, provider_name
from feedbackloop.queries.costs import SUMS, billed, ledger, priced_calls
from feedbackloop.registry import check_choice
from feedbackloop.settings import Settings
from feedbackloop.store import Store
from feedbackloop.wording import dollars, spend

By = Literal["day", "task", "variant", "purpose", "model"]

PURPOSES = {"answer": "answers", "judge": "judges", "optimize": "optimisation", "shadow": "shadow answers"}
"""What a purpose is called."""


@dataclass(frozen=True)
class Costs:
    """What was spent."""

    by: By
    frame: pd.DataFrame
    """A row for each day, task, variant, purpose or model: that column, then calls, answers, failed, input_tokens (all of them, cached
    ones included), cached_tokens, cache_write_tokens, reasoning_tokens (of the output), output_tokens, spent_usd (as far as known) and
    unpriced (calls that may have been charged for at a price that nobody knows)."""
    spent_usd: float
    """All together, as far as known."""
    unpriced: int
    elsewhere: int
    """Answers imported or replayed from a recording: they stand in no row, since they were paid for elsewhere, or not again."""
    elsewhere_usd: float
    """What these say that they cost."""

    def __repr__(self) -> str:
        """What was spent in all, as a sentence."""
        return f"Spent: {spend(self.spent_usd, self.unpriced)}."

    def _repr_html_(self) -> str:
        return self.frame.to_html(index=False, float_format=lambda value: f"{value:,.4f}")


@dataclass(frozen=True)
class Restated:
    """Recorded costs beside those by the price table and settings of now. Nothing is changed by it."""

    frame: pd.DataFrame
    """A row for each model: model, calls, recorded_usd, restated_usd, difference_usd, unpriced_before, unpriced_now, kept (calls whose
    recorded cost stands, since no price for them is known now)."""

    @property
    def recorded_usd(self) -> float:
        """What was reckoned when it was paid."""
        return float(self.frame["recorded_usd"].sum())

    @property
    def restated_usd(self) -> float:
        """The same by the prices of now."""
        return float(self.frame["restated_usd"].sum())

    def __repr__(self) -> str:
        """Both sums, as a sentence."""
        return f"Recorded: {dollars(self.recorded_usd)}; by the prices of now: {dollars(self.restated_usd)}."

    def _repr_html_(self) -> str:
        return self.frame.to_html(index=False, float_format=lambda value: f"{value:,.4f}")


def costs(store: Store, *, by: By = "day", since: datetime | None = None) -> Costs:
    """What was spent: every attempt that was charged for counts, those that came to nothing included.

    Answers used again from before cost nothing and are not counted.

    Args:
        store: where the answers are.
        by: what the rows are; days are UTC, as providers' invoices have them; a variant is told with its version.
        since: only answers made from then on.

    Raises:
        SettingsError: `by` or `since` is none that can be.
        StoreError: the store cannot be read.
    """
    check_choice("by", by, get_args(By))
    whole = ledger(store, since)
    paid, elsewhere = whole[~whole["elsewhere"]], whole[whole["elsewhere"]]
    frame = paid.groupby(by, dropna=False, as_index=False)[list(SUMS)].sum()
    frame[by] = frame[by].astype(object).where(frame[by].notna(), None)
    if by == "purpose":
        frame[by] = frame[by].map(lambda name: PURPOSES.get(name, name))
    order = [by] if by == "day" else ["spent_usd", by]
    frame = frame.sort_values(order, ascending=by == "day", ignore_index=True)
    return Costs(
        by=by,
        frame=frame,
        spent_usd=float(paid["spent_usd"].sum()),
        unpriced=int(paid["unpriced"].sum()),
        elsewhere=int(elsewhere["answers"].sum()),
        elsewhere_usd=float(elsewhere["spent_usd"].sum()),
    )


def recompute_costs(store: Store, *, since: datetime | None = None, settings: Settings | None = None) -> Restated:
    """What the recorded usage comes to by the prices of now: a newer table, or `[prices]` in the settings.

    Each call has the price of the moment at which its answer came, at the endpoint that its provider has by these settings. Records are
    never changed: what was reckoned stays beside it, and restating can be done again at any time.

    Args:
        store: where the answers are.
        since: only answers made from then on.
        settings: prices and providers; by default those of the working directory.

    Raises:
        StoreError: the store cannot be read.
    """
    settings = settings or Settings.load()
    calls_cost, batches_cost, asked = Prices(settings), BatchPrices(settings), _Providers(settings)
    rows: list[tuple[str, int, float, float, int, int, int]] = []
    for model, reported, batch, slot, *counts, calls, recorded, unpriced in (
        priced_calls(store, since).to_numpy(object).tolist()
    ):
        tokens, cost = billed(*counts), None
        if tokens is not None and (provider := asked.of(model)) is not None:
            prices = batches_cost if batch else calls_cost
            base_url, name = getattr(provider, "base_url", None), None if pd.isna(reported) else reported
            cost = prices.cost(model, tokens, base_url=base_url, reported=name, at=slot)
        if cost is None:
            rows.append((model, calls, recorded, recorded, unpriced, unpriced, calls - unpriced))
        else:
            rows.append((model, calls, recorded, cost * calls, unpriced, 0, 0))
    columns = ["model", "calls", "recorded_usd", "restated_usd", "unpriced_before", "unpriced_now", "kept"]
    frame = pd.DataFrame(rows, columns=columns).groupby("model", as_index=False).sum()
    frame.insert(4, "difference_usd", frame["restated_usd"] - frame["recorded_usd"])
    return Restated(frame.sort_values(["recorded_usd", "model"], ascending=[False, True], ignore_index=True))


class _Providers:
    """Who would be asked now for each model; looked up once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._found: dict[str, Provider | None] = {}

    def of(self, model: str) -> Provider | None:
        """Its provider; None if the settings have it no more."""
        if model not in self._found:
            try:
                self._found[model] = create(provider_name(model, self._settings), self._settings)
            except FeedbackLoopError:
                self._found[model] = None
        return self._found[model]
