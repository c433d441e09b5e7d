"""What a run will ask, cost, take and be able to show, guessed before anything is paid for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from feedbackloop import queries
from feedbackloop.datasets import open_dataset, survey
from feedbackloop.models import Case
from feedbackloop.pipeline.charges import MADE_UP, unknown_prices
from feedbackloop.pipeline.extending import More, extended
from feedbackloop.pipeline.foresight import is_function, refuse_same_texts, refuse_small_budget, reused_answers
from feedbackloop.pricing import BatchPrices, Prices, Tokens
from feedbackloop.prompts import Prompt
from feedbackloop.providers import create, model_name, provider_name
from feedbackloop.queries.costs import ended_by_variant
from feedbackloop.queries.overview import ModelHistory, model_history
from feedbackloop.settings import Limits, Settings
from feedbackloop.spec import RunSpec, TaskSpec, VariantSpec
from feedbackloop.stats.planning import USUAL_TIE_RATE, detectable_effect
from feedbackloop.store import Store
from feedbackloop.wording import count

USUAL_CHARACTERS_PER_TOKEN = 4.0
"""Some languages and code have fewer."""
ASSUMED_OUTPUT_TOKENS = 250.0
ASSUMED_LATENCY_MS = 3_000.0
"""Of models that have answered nothing yet."""
LOCAL_CALLS_PER_S = 2_000.0
"""What simulated and recorded answers come at."""


@dataclass(frozen=True)
class VariantEstimate:
    """One variant's part."""

    name: str
    model: str
    """`provider:model`."""
    calls: int
    """How often it is asked."""
    reused: int
    """Answers to the very same question that are there already; none of them is a call."""
    input_tokens: float
    """Of all its calls."""
    output_tokens: float
    cost_usd: float | None
    """None where the price is not known, or it is a function of one's own."""
    known: bool
    """Its model answered before, so that length and time are measured; otherwise they are assumed."""


@dataclass(frozen=True)
class Estimate:
    """A whole run, or what is left of it."""

    cases: int
    repeats: int
    variants: tuple[VariantEstimate, ...]
    seconds: float
    unknown_prices: tuple[str, ...] = ()
    """Models, fallbacks included, that are charged for at a price that nobody knows: these have to be allowed."""
    exact: bool = True
    """Whether the cases were counted; otherwise they were reckoned from the first rows."""
    looked_at: int = 0
    """How many of the cases were looked up for answers that are there already."""
    by_batch: bool = False
    """Whether it is asked by batches, whose time is the provider's: within a day."""

    @property
    def calls(self) -> int:
        """How many answers are asked for."""
        return sum(variant.calls for variant in self.variants)

    @property
    def reused(self) -> int:
        """How many answers are there already, and used again for nothing; of a long dataset, those to its first rows."""
        return sum(variant.reused for variant in self.variants)

    @property
    def tokens(self) -> float:
        """All that is read and written."""
        return sum(variant.input_tokens + variant.output_tokens for variant in self.variants)

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

    @property
    def detectable(self) -> float | None:
        """The smallest win rate above a half that one vote on each case tells from a draw, with 80% power.

        None for a variant alone, and where so few cases could not even show a landslide.
        """
        effect = detectable_effect(self.cases) if len(self.variants) > 1 and self.cases else None
        return None if effect is None else 0.5 + effect


def power(found: Estimate) -> str:
    """What a run will be able to show, as a sentence; the same on the terminal and on the page."""
    if len(found.variants) < 2:
        return "With one variant alone there is nothing to compare."
    basis = f"80% power, {USUAL_TIE_RATE:.0%} ties"
    if found.detectable is None:
        return f"With so few cases votes cannot tell two variants apart ({basis})."
    return f"With one vote on each case, the smallest win rate that shows is {found.detectable:.0%} ({basis})."


def used_again(found: Estimate) -> str:
    """What is there already and not asked again, to be put behind how many answers there will be; empty if nothing is."""
    if not found.reused:
        return ""
    least = "" if found.looked_at >= found.cases else "at least "
    return f", {least}{count(found.reused, 'answer')} {'is' if found.reused == 1 else 'are'} there already"


def estimate_spec(
    spec: RunSpec, store: Store, settings: Settings, *, limit: int | None = None, cache: bool | None = None
) -> Estimate:
    """Guess what a spec comes to from the first rows of its dataset, however long that is.

    Args:
        spec: what would be run.
        store: where earlier answers tell how long and slow a model's answers are.
        settings: prices and limits; relative paths start from the spec's folder.
        limit: only the first rows; wins over the spec's own.
        cache: whether answers that are there already are used again; by default as `run` does it.

    Raises:
        DatasetError: the dataset's first rows cannot be read.
        PromptError: a prompt does not compile, fails on one of these rows, or says the same to all of them.
        UnknownName: a model names no known provider.
    """
    limit = limit or spec.limit
    found = survey(open_dataset(spec.dataset_path, id_column=spec.id_column), limit)
    settings = settings.model_copy(update={"base": spec.base})
    cache = limit is None if cache is None else cache
    refuse_same_texts(spec, found, settings)
    return estimate(spec, store, settings, cases=found.cases, sample=found.sample, exact=found.exact, cache=cache)


def estimate_rest(
    store: Store, run_id: str | None, settings: Settings, more: More | None = None, *, only_failed: bool = False
) -> Estimate | None:
    """Guess what is left of a run; None where its dataset was given from Python.

    Args:
        store: where the run is.
        run_id: the beginning of its id; by default the newest run that is not finished.
        settings: prices and limits.
        more: what is added to it.
        only_failed: only the cells that have failed are asked.

    Raises:
        SettingsError: that cannot be added.
        StoreError: there is no such run.
        DatasetError, PromptError, UnknownName: as for `estimate_spec`.
    """
    begun = queries.find_run(store, run_id, unfinished=True).run
    made = extended(begun, queries.variants(store, begun.variants), more or More())
    run, variants, kept = made.run, made.variants, made.run.settings
    if kept.get("source") is None:
        return None
    fields = VariantSpec.model_fields
    rest = RunSpec(
        task=TaskSpec(name=run.task),
        dataset=str(kept["source"]),
        id_column=kept.get("id_column"),
        variants=[VariantSpec(**{name: getattr(variant, name) for name in fields}) for variant in variants],
        limits=Limits.model_validate(kept.get("limits") or {}),
        repeats=run.repeats,
        limit=kept.get("limit"),
        executor=kept.get("executor") or "async",
        base=Path(kept.get("base") or Path.cwd()),
    )
    found = survey(open_dataset(rest.dataset_path, id_column=rest.id_column), rest.limit)
    whole, ended, left = found.cases * run.repeats, ended_by_variant(store, run.id), {}
    for variant in variants:
        finished, failed = ended.get(variant.id, (0, 0))
        left[variant.name] = min(failed, whole) if only_failed else max(0, whole - finished)
    settings = settings.model_copy(update={"base": rest.base})
    refuse_same_texts(rest, found, settings)
    return estimate(rest, store, settings, cases=found.cases, sample=found.sample, exact=found.exact, left=left)


def estimate(
    spec: RunSpec,
    store: Store,
    settings: Settings,
    *,
    cases: int,
    sample: Sequence[Case],
    exact: bool = True,
    left: Mapping[str, int] | None = None,
    cache: bool = False,
) -> Estimate:
    """Guess what a spec comes to.

    Args:
        spec: what would be run.
        store: where earlier answers tell how long and slow a model's answers are.
        settings: prices and limits.
        cases: how many there are in all.
        sample: some of them, which the prompts are measured on and earlier answers looked up for.
        exact: whether the cases were counted.
        left: how often each variant is still to be asked, by its name; by default all cases are put to it.
        cache: whether answers that are there already are used again.

    Raises:
        PromptError: a prompt does not compile or fails on a case.
        SettingsError: the budget of a new run does not hold one of its calls.
        UnknownName: a model names no known provider.
    """
    if spec.budget_usd is not None and left is None:
        refuse_small_budget(spec, spec.budget_usd, sample, store if cache else None, settings)
    models = [model_name(variant.model, settings) for variant in spec.variants]
    history = model_history(store, models)
    by_batch = spec.executor == "batch"
    prices = BatchPrices(settings) if by_batch else Prices(settings)
    made = []
    seconds = 0.0
    for variant, model in zip(spec.variants, models, strict=True):
        reused = reused_answers(variant, sample, spec.repeats, store, settings) if cache else 0
        calls = max(0, cases * spec.repeats - reused) if left is None else left[variant.name]
        past = history.get(model, ModelHistory(None, None))
        provider = provider_name(model, settings)
        output = _output_tokens(variant, past)
        one = Tokens(round(_input_tokens(variant, sample, settings)), round(output))
        cost = 0.0 if provider in MADE_UP else _cost(prices, model, one, settings)
        made.append(
            VariantEstimate(
                name=variant.name,
                model=model,
                calls=calls,
                reused=reused,
                input_tokens=one.input * calls,
                output_tokens=one.output * calls,
                cost_usd=None if cost is None else cost * calls,
                known=past.output_tokens is not None or provider in MADE_UP,
            )
        )
        limits = settings.limits_of(provider, spec.limits or settings.limits)
        seconds += _seconds(variant, provider, past, limits, calls=calls, tokens=(one.input + one.output) * calls)
    looked_at = len(sample) if cache else 0
    asked = (model for variant in spec.variants for model in (variant.model, *variant.fallbacks))
    return Estimate(
        cases, spec.repeats, tuple(made), seconds, unknown_prices(asked, settings), exact, looked_at, by_batch
    )


def _input_tokens(variant: VariantSpec, sample: Sequence[Case], settings: Settings) -> float:
    if is_function(variant.model, settings) or not sample:
        return 0.0
    prompt = Prompt.of(variant.record())
    sizes = [sum(len(str(message.get("content") or "")) for message in prompt.render(case)) for case in sample]
    return sum(sizes) / len(sizes) / USUAL_CHARACTERS_PER_TOKEN


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


def _seconds(
    variant: VariantSpec, provider: str, past: ModelHistory, limits: Limits, *, calls: int, tokens: float
) -> float:
    """One variant's share of the time: all of a run's calls share its places."""
    if provider in MADE_UP and not variant.params.get("realtime"):
        return calls / LOCAL_CALLS_PER_S
    each = past.latency_ms if past.latency_ms is not None else ASSUMED_LATENCY_MS
    waits = [each / 1000 * max(calls / limits.concurrency, 1.0)]
    if limits.requests_per_minute:
        waits.append(calls / limits.requests_per_minute * 60)
    if limits.tokens_per_minute:
        waits.append(tokens / limits.tokens_per_minute * 60)
    return max(waits)
