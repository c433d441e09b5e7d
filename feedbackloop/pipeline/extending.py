"""What may be added to a run that was begun: rows, variants and repeats. Nothing of it is ever taken away."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from feedbackloop.errors import SettingsError
from feedbackloop.models import Run, Variant
from feedbackloop.settings import Limits
from feedbackloop.spec import RunSpec


@dataclass(frozen=True)
class More:
    """What a run is brought to; None (or nothing) leaves it as it was."""

    dataset: Any = None
    id_column: str | None = None
    variants: Sequence[Variant] = ()
    """Those that the run has got already may be among them."""
    repeats: int | None = None
    limit: int | None = None
    """The first so many rows; 0 takes all."""
    limits: Limits | None = None
    budget_usd: float | None = None
    """For the whole run, what it spent before included."""

    def or_as_in(self, spec: RunSpec, run: Run) -> More:
        """This, and for what it leaves open what a spec says now.

        Raises:
            SettingsError: the spec is about another task.
        """
        if spec.task.name != run.task:
            raise SettingsError(
                f"the spec is about the task '{spec.task.name}', and run {run.id[:8]} about '{run.task}'"
            )
        said = spec.repeats if "repeats" in spec.model_fields_set else None
        return More(
            dataset=spec.dataset_path if self.dataset is None else self.dataset,
            id_column=self.id_column or (spec.id_column if self.dataset is None else None),
            variants=self.variants or spec.variant_records(),
            repeats=said if self.repeats is None else self.repeats,
            limit=(spec.limit or 0) if self.limit is None else self.limit,
            limits=self.limits or spec.limits,
            budget_usd=spec.budget_usd if self.budget_usd is None else self.budget_usd,
        )


@dataclass(frozen=True)
class Extended:
    """A run as it will be."""

    run: Run
    variants: list[Variant]


def extended(run: Run, known: Sequence[Variant], more: More) -> Extended:
    """A run with what is added to it.

    Args:
        run: as it is.
        known: its variants.
        more: what is added.

    Raises:
        SettingsError: another variant of the run has the name of a new one, or there would be fewer repeats than before.
    """
    variants = [*known, *(variant for variant in more.variants if variant.id not in run.variants)]
    names = [variant.name for variant in known]
    for variant in variants[len(known) :]:
        if variant.name in names:
            # Nobody could tell them apart.
            raise SettingsError(
                f"run {run.id[:8]} has another variant called '{variant.name}'; give the new one a name of its own"
            )
        names.append(variant.name)
    repeats = run.repeats if more.repeats is None else more.repeats
    if repeats < run.repeats:
        raise SettingsError(
            f"repeats is {repeats}, and run {run.id[:8]} has {run.repeats} already: it can only be given more"
        )
    settings = dict(run.settings)
    if more.dataset is not None:
        is_path = isinstance(more.dataset, str | os.PathLike)
        settings["source"] = os.fspath(more.dataset) if is_path else None
    if more.id_column is not None:
        settings["id_column"] = more.id_column
    if more.limit is not None:
        settings["limit"] = more.limit or None
    if more.limits is not None:
        settings["limits"] = more.limits.model_dump(exclude_defaults=True)
    if more.budget_usd is not None:
        settings["budget_usd"] = more.budget_usd
    changed = {"variants": [variant.id for variant in variants], "repeats": repeats, "settings": settings}
    return Extended(run.model_copy(update=changed), variants)
