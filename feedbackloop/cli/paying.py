"""What a run will come to, said before it begins, and the question whether to go on where that costs money."""
# ruff: noqa: PLC0415 - see the package's docstring

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from feedbackloop.errors import FeedbackLoopError, SettingsError
from feedbackloop.wording import count, dollars, duration

if TYPE_CHECKING:
    from feedbackloop.pipeline.estimate import Estimate
    from feedbackloop.pipeline.extending import More
    from feedbackloop.settings import Settings
    from feedbackloop.spec import RunSpec
    from feedbackloop.store import Store

MaxCostOption = Annotated[
    float | None,
    typer.Option(
        "--max-cost",
        min=0.0,
        metavar="USD",
        help="No call is made that could take the spend beyond this; of two limits the lower one counts.",
        show_default="the spec's budget_usd",
    ),
]
YesOption = Annotated[
    bool, typer.Option("--yes", "-y", help="Do not ask before money is spent. Without a terminal nothing is asked.")
]
UnknownPriceOption = Annotated[
    bool,
    typer.Option("--allow-unknown-price", help="Ask models too whose price nobody knows; no budget holds for them."),
]


def lower(budget_usd: float | None, max_cost: float | None) -> float | None:
    """The limit that counts, of a spec's budget and `--max-cost`.

    Raises:
        SettingsError: the limit is 0, with which nothing could be asked.
    """
    if max_cost is not None and max_cost <= 0:
        raise SettingsError("--max-cost is 0; it must be more, or nothing could be asked")
    return min((limit for limit in (budget_usd, max_cost) if limit is not None), default=None)


def agree_to_run(
    spec: RunSpec,
    store: Store,
    settings: Settings,
    *,
    limit: int | None,
    cache: bool | None,
    yes: bool,
    unknown_price: bool,
) -> None:
    """Say what a run comes to, and ask where it costs money.

    Raises:
        SettingsError: a price is not known, and that is not allowed.
        typer.Exit: the answer was no.
    """
    from feedbackloop.pipeline.estimate import estimate_spec

    try:
        found = estimate_spec(spec, store, settings, limit=limit, cache=cache)
    except FeedbackLoopError:
        return  # the run meets the same, and says in which line
    _agree(found, spec.budget_usd, spec.budget_usd, yes=yes, unknown_price=unknown_price)


def agree_to_resume(
    store: Store,
    run: str | None,
    settings: Settings,
    *,
    more: More,
    spec: RunSpec | None,
    retry_failed: bool,
    yes: bool,
    unknown_price: bool,
) -> None:
    """Say what is left of a run with what is added to it, and ask where it costs money; the arguments are those of `resume`.

    Raises:
        SettingsError: a price is not known, and that is not allowed.
        typer.Exit: the answer was no.
    """
    from feedbackloop import queries
    from feedbackloop.pipeline.budget import gone
    from feedbackloop.pipeline.estimate import estimate_rest

    try:
        kept = queries.find_run(store, run, unfinished=not retry_failed).run
        more = more if spec is None else more.or_as_in(spec, kept)
        found = estimate_rest(store, kept.id, settings, more, only_failed=retry_failed)
        budget = kept.settings.get("budget_usd") if more.budget_usd is None else more.budget_usd
        left = None if budget is None else max(0.0, budget - gone(store, kept, settings))
    except FeedbackLoopError:
        return  # going on with it meets the same
    if found is None or not found.calls:
        return
    allowed = unknown_price or bool(kept.settings.get("allow_unknown_price", True))
    _agree(found, budget, left, yes=yes, unknown_price=allowed)


def _agree(
    found: Estimate, budget_usd: float | None, left_usd: float | None, *, yes: bool, unknown_price: bool
) -> None:
    from feedbackloop.cli import drawing
    from feedbackloop.pipeline import charges, estimate

    if found.unknown_prices and not unknown_price:
        raise SettingsError(charges.unknown_price(found.unknown_prices))
    drawing.say(_figures(found))
    if found.assumed and found.cost_usd:
        each = f"{estimate.ASSUMED_OUTPUT_TOKENS:.0f} tokens"
        if not found.by_batch:
            each += f" and {estimate.ASSUMED_LATENCY_MS / 1000:.0f} s"
        drawing.say(f"That is if an answer takes {each}, where a model has answered nothing yet.")
    if found.unknown_prices:
        drawing.say(f"What {' and '.join(found.unknown_prices)} costs is not known, and not in it.", "yellow")
    if left_usd is not None and found.cost_usd > left_usd:
        rest = "" if left_usd == budget_usd else f", of which {dollars(left_usd)} is left,"
        share = left_usd / found.cost_usd
        drawing.say(f"The limit of {dollars(budget_usd)}{rest} will end it at about {share:.0%} of that.", "yellow")
    drawing.say(estimate.power(found))
    if found.cost_usd > 0 and not yes and _is_terminal() and not typer.confirm("Start?", default=True):
        drawing.say("Nothing was asked.")
        raise typer.Exit(1)


def _figures(found: Estimate) -> str:
    from feedbackloop.pipeline import estimate

    cases = f"{'' if found.exact else 'about '}{count(found.cases, 'case')}"
    times = f"{cases} x {count(len(found.variants), 'variant')}"
    if found.repeats > 1:
        times += f" x {found.repeats} times"
    whole = found.cases * len(found.variants) * found.repeats
    entire = found.calls + found.reused == whole
    told = f"{count(found.calls, 'call')} " + (f"({times}{estimate.used_again(found)})" if entire else "left")
    unknown = found.unpriced or found.unknown_prices
    cost = "an unknown cost" if found.unpriced and not found.cost_usd else dollars(found.cost_usd)
    cost = f"at least {cost}" if unknown and found.cost_usd else cost
    time = "up to a day" if found.by_batch else duration(max(found.seconds, 1.0))
    return f"Estimate: {told}, about {count(round(found.tokens), 'token')}, {cost} and {time}."


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()
