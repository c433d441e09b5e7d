"""Runs: a dataset put to several variants, each cell answered once, graded and stored while the run goes on.

A cell is (run, case, variant, repeat). Cells are made lazily and in turns (the order of the variants rotates from case to
case), so that memory stays bounded and a provider's bad hour falls on all of them alike. What is stored is stored: a run that
stops, for whatever reason, goes on with `resume`, which asks only the cells without a completed answer for their present key.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from feedbackloop import queries
from feedbackloop.datasets import Dataset, open_dataset
from feedbackloop.errors import SettingsError, StoreError, UnknownName
from feedbackloop.graders import create
from feedbackloop.identity import utcnow
from feedbackloop.models import Run, Task, Variant
from feedbackloop.pipeline.batch import BatchPart
from feedbackloop.pipeline.charges import refuse_unknown_prices
from feedbackloop.pipeline.engine import Engine
from feedbackloop.pipeline.extending import More, extended
from feedbackloop.pipeline.part import Part
from feedbackloop.pipeline.progress import Progress, RunResult
from feedbackloop.pipeline.resilience import Clock
from feedbackloop.providers import Provider
from feedbackloop.registry import near
from feedbackloop.settings import Limits, Settings, parse
from feedbackloop.spec import RunSpec, TaskSpec, VariantSpec
from feedbackloop.store import Store

EXECUTORS: dict[str, type[Part]] = {"async": Part, "batch": BatchPart}
"""Ways to ask what is missing: call by call in this process, or by batches of the provider."""


async def run(
    dataset: Any,
    variants: Sequence[Variant | VariantSpec | Mapping[str, Any]],
    *,
    store: Store | str | os.PathLike[str],
    task: str | Task = "default",
    graders: Sequence[Any] = (),
    threshold: float | None = None,
    limits: Limits | None = None,
    repeats: int = 1,
    budget_usd: float | None = None,
    limit: int | None = None,
    priority: int = 5,
    cache: bool | None = None,
    stream: bool = False,
    executor: str = "async",
    allow_unknown_price: bool = False,
    settings: Settings | None = None,
    id_column: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: asyncio.Event | None = None,
    wrap: Callable[[Provider], Provider] | None = None,
    clock: Clock | None = None,
) -> RunResult:
    """Put a dataset to some variants and store what they answer.

    Args:
        dataset: a path, a DataFrame, or an iterable of mappings, texts or cases (`datasets.open_dataset`).
        variants: records, or mappings with the keys of a spec's variant.
        store: where everything goes; a URL or a store.
        task: the feature that is judged.
        graders: as in a spec (`"json_valid"`, `{"contains": "refund"}`), or functions `(case, response) -> verdict`.
        threshold: the weighted score from which on an answer passes, 0 to 1; by default it passes if all its checks do.
        limits: how hard targets may be asked; by default those of the settings.
        repeats: how often each case is put to each variant.
        budget_usd: no call is made that could take the spend beyond this.
        limit: only the first rows.
        priority: 1 to 10, of cases whose metadata name none; higher ones are asked first.
        cache: whether answers to the very same question are used again; by default yes, but not when only trying (`limit`).
        stream: have answers streamed, so that the time to their first token and their tokens a second are known.
        executor: `async` asks call by call; `batch` submits what is missing to OpenAI's Batch API, for half the price and within
            a day.
        allow_unknown_price: ask models too that are charged for at a price that nobody knows; no budget holds for these.
        id_column: which column of the dataset is a row's id, if not `id`.
        progress: called about four times a second, and at the end.
        stop: set it to stop cleanly: calls in flight are waited for.
        wrap: put around each provider (`Recorder`).

    Raises:
        DatasetError: the dataset cannot be read, or a row lacks a variable; before anything is asked or stored.
        SettingsError: a variant, grader or model cannot work, or its price is not known; before anything is asked or stored.
        StoreError: the store cannot be written; what was written before stays, and `resume` goes on.
    """
    settings = settings or Settings.load()
    records = _variants(variants)
    _check_numbers(repeats=repeats, limit=limit, priority=priority, budget_usd=budget_usd)
    made_by = _executor(executor, wrap)
    opened = open_dataset(dataset, id_column=id_column)
    limits = limits or settings.limits
    cache = limit is None if cache is None else cache
    kept = {
        "base": str(settings.base),
        "source": opened.source,
        "id_column": id_column,
        "graders": [grader for grader in graders if isinstance(grader, str | dict)],
        "own_graders": sum(not isinstance(grader, str | dict) for grader in graders),
        "threshold": threshold,
        "limits": limits.model_dump(exclude_defaults=True),
        "budget_usd": budget_usd,
        "limit": limit,
        "priority": priority,
        "cache": cache,
        "stream": stream,
        "executor": executor,
        "allow_unknown_price": allow_unknown_price,
    }
    clock = clock or Clock()
    made = Run(
        task=task.name if isinstance(task, Task) else task,
        dataset=opened.name,
        fingerprint="",
        variants=[variant.id for variant in records],
        repeats=repeats,
        settings=kept,
        git_commit=_git_commit(settings.base),
        created_at=clock.utc(),
    )
    return await _go(
        made,
        records,
        opened,
        graders,
        made_by=made_by,
        store=Store(store) if isinstance(store, str | os.PathLike) else store,
        task=task if isinstance(task, Task) else None,
        allow_unknown_price=allow_unknown_price,
        settings=settings,
        progress=progress,
        stop=stop,
        wrap=wrap,
        clock=clock,
    )


async def run_spec(
    spec: RunSpec,
    store: Store,
    *,
    settings: Settings | None = None,
    dataset: Any = None,
    variants: Sequence[Variant] | None = None,
    **options: Any,
) -> RunResult:
    """Run what a spec says. `options` are those of `run` that a spec does not hold: progress, stop, wrap, clock, cache, limit.

    `executor` may be among them too: it wins over the spec's.

    Args:
        dataset: in place of the spec's, such as some of its cases.
        variants: in place of the spec's, such as some of them.
    """
    settings = (settings or Settings.load()).model_copy(update={"base": spec.base})
    if options.get("limit") is None:
        options["limit"] = spec.limit
    return await run(
        spec.dataset_path if dataset is None else dataset,
        spec.variant_records() if variants is None else variants,
        store=store,
        task=_task(spec.task, store),
        graders=spec.graders,
        threshold=spec.threshold,
        limits=spec.limits or settings.limits,
        repeats=spec.repeats,
        budget_usd=spec.budget_usd,
        priority=spec.priority,
        stream=spec.stream,
        settings=settings,
        id_column=spec.id_column,
        executor=options.pop("executor", None) or spec.executor,
        **options,
    )


async def resume(
    store: Store,
    run_id: str | None = None,
    *,
    dataset: Any = None,
    id_column: str | None = None,
    variants: Sequence[Variant | VariantSpec | Mapping[str, Any]] = (),
    repeats: int | None = None,
    limit: int | None = None,
    spec: RunSpec | None = None,
    retry_failed: bool = False,
    graders: Sequence[Any] | None = None,
    limits: Limits | None = None,
    budget_usd: float | None = None,
    allow_unknown_price: bool | None = None,
    settings: Settings | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: asyncio.Event | None = None,
    wrap: Callable[[Provider], Provider] | None = None,
    clock: Clock | None = None,
) -> RunResult:
    """Go on with a run: ask only the cells without a completed answer for their present key. Failed cells are asked again.

    Args:
        run_id: the beginning of its id; by default the newest run that is not finished.
        dataset: in place of the one it began with: the same in another place, or with more rows.
        id_column: of that dataset.
        variants: those that the run has not got yet are added to it.
        repeats: how often each case is put to each variant; may only be more than it began with.
        limit: only the first so many rows; 0 takes all of a run that began with some.
        spec: stands for these arguments, as far as they are not given: the run is brought to what the spec says now.
        retry_failed: ask only the cells that have failed, and none that were never asked.
        graders: needed if it began with functions given from Python.
        limits: how hard targets may be asked; by default as it began.
        budget_usd: for the whole run, what it spent before included, from now on; by default the spec's, or what it had before.
        allow_unknown_price: as in `run`; by default what it began with.

    Raises:
        StoreError: there is no such run.
        DatasetError, SettingsError: as in `run`.
    """
    _check_numbers(limit=limit or None, budget_usd=budget_usd)
    status = queries.find_run(store, run_id, unfinished=not retry_failed)
    kept = status.run.settings
    if status.state == "running":
        raise queries.still_running(status.run.id)
    if "imported" in kept:
        raise StoreError(f"run {status.run.id[:8]} holds answers made elsewhere; import them again to complete it")
    more = More(dataset, id_column, _variants(variants) if variants else (), repeats, limit, limits, budget_usd)
    if spec is not None:
        more = more.or_as_in(spec, status.run)
    base = Path(kept.get("base") or Path.cwd())
    settings = (settings or Settings.load()).model_copy(update={"base": base})
    source = kept.get("source") if more.dataset is None else more.dataset
    if source is None:
        raise SettingsError(
            f"the dataset of run {status.run.id[:8]} was given from Python; give it again: resume(..., dataset=...)"
        )
    if graders is None:
        if kept.get("own_graders"):
            raise SettingsError(
                f"run {status.run.id[:8]} had graders given from Python; give them again: resume(..., graders=...)"
            )
        graders = kept.get("graders") or []
    made = extended(status.run, queries.variants(store, status.run.variants), more)
    going = made.run.settings
    opened = open_dataset(source, id_column=going.get("id_column"))
    if allow_unknown_price is None:
        # Runs that began before prices were asked for have nothing written down, and may go on.
        allow_unknown_price = kept.get("allow_unknown_price", True)
    return await _go(
        made.run.model_copy(update={"dataset": opened.name, "settings": going | {"source": opened.source}}),
        made.variants,
        opened,
        graders,
        made_by=_executor(kept.get("executor") or "async", wrap),
        store=store,
        before=status.run,
        only_failed=retry_failed,
        allow_unknown_price=allow_unknown_price,
        settings=settings,
        progress=progress,
        stop=stop,
        wrap=wrap,
        clock=clock or Clock(),
    )


async def _go(
    run: Run,
    variants: Sequence[Variant],
    dataset: Dataset,
    graders: Sequence[Any],
    *,
    made_by: type[Part],
    store: Store,
    task: Task | None = None,
    before: Run | None = None,
    only_failed: bool = False,
    allow_unknown_price: bool,
    settings: Settings,
    progress: Callable[[Progress], None] | None,
    stop: asyncio.Event | None,
    wrap: Callable[[Provider], Provider] | None,
    clock: Clock,
) -> RunResult:
    """Ask as a run's own settings say, from its start or on from `before`; the arguments are those of `run`, `resume` and `Part`."""
    kept = run.settings
    limit = kept.get("limit")
    engine = Engine(
        settings,
        limits=Limits.model_validate(kept.get("limits") or {}),
        budget_usd=kept.get("budget_usd"),
        cache=bool(kept.get("cache", True)),
        stream=bool(kept.get("stream")),
        wrap=wrap,
        clock=clock,
    )
    if not allow_unknown_price:
        refuse_unknown_prices(variants, engine)
    part = made_by(
        store=store,
        run=run,
        task=task,
        before=before,
        only_failed=only_failed,
        variants=variants,
        dataset=dataset.head(limit) if limit else dataset,
        graders=[create(grader, settings.base) for grader in graders],
        engine=engine,
        clock=clock,
        progress=progress,
        stop=stop or asyncio.Event(),
    )
    return await part.go()


def _executor(name: str, wrap: Callable[[Provider], Provider] | None) -> type[Part]:
    if name not in EXECUTORS:
        raise UnknownName(f"there is no executor '{name}'{near(name, list(EXECUTORS))}")
    if name == "batch" and wrap is not None:
        raise SettingsError("the answers of a batch cannot be recorded as they come; leave out --record, or --batch")
    return EXECUTORS[name]


def _variants(given: Sequence[Variant | VariantSpec | Mapping[str, Any]]) -> list[Variant]:
    if not given:
        raise SettingsError("there is no variant to ask; give at least one")
    records = [_variant(variant) for variant in given]
    seen: dict[str, Variant] = {}
    for variant in records:
        if variant.name in {other.name for other in seen.values()}:
            raise SettingsError(f"two variants are called '{variant.name}'; every name may stand once")
        if variant.id in seen:
            # A variant is its content: the answers of these two could not be told apart.
            raise SettingsError(
                f"the variants '{seen[variant.id].name}' and '{variant.name}' are the same but for their names; "
                f"leave one out, or raise repeats to ask more than once"
            )
        seen[variant.id] = variant
    return records


def _check_numbers(*, limit: int | None, budget_usd: float | None, repeats: int = 1, priority: int = 5) -> None:
    for name, value in {"limit": limit, "budget_usd": budget_usd, "repeats": repeats, "priority": priority}.items():
        if value is not None and not isinstance(value, int | float):
            raise SettingsError(f"{name} is {value!r}; it must be a number")
    if repeats < 1:
        raise SettingsError(f"repeats is {repeats}; it must be at least 1")
    if limit is not None and limit < 1:
        raise SettingsError(f"limit is {limit}; it must be at least 1, or none for all rows")
    if not 1 <= priority <= 10:
        raise SettingsError(f"priority is {priority}; it must be from 1 to 10")
    if budget_usd is not None and not budget_usd > 0:
        raise SettingsError(f"budget_usd is {budget_usd}; it must be more than 0, or none for no limit")


def _variant(variant: Variant | VariantSpec | Mapping[str, Any]) -> Variant:
    if isinstance(variant, Variant):
        return variant
    if not isinstance(variant, VariantSpec | Mapping):
        raise SettingsError(
            f'variants is a list of such as {{"name": "terse", "model": "openai:gpt-4o-mini"}}; {variant!r} is none'
        )
    return (variant if isinstance(variant, VariantSpec) else parse(VariantSpec, dict(variant), "variants")).record()


def _task(spec: TaskSpec, store: Store) -> Task:
    """The task as the spec says it; what the spec leaves open stays as the store has it."""
    known = queries.task(store, spec.name) if store.exists() else None
    said = spec.model_dump(exclude_none=True)
    return Task(**said) if known is None else known.model_copy(update={**said, "created_at": utcnow()})


def _git_commit(folder: Path) -> str | None:
    """The commit that the folder is at, if it is in a repository."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None
