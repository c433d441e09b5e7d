"""What may be added to a run that was begun: variants and repeats. Nothing of it is ever taken away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from feedbackloop.errors import SettingsError
from feedbackloop.models import Run, Variant
from feedbackloop.settings import Limits
from feedbackloop.spec import RunSpec, VariantSpec


@dataclass(frozen=True)
class More:
    """What a run is brought to; None (or nothing) leaves it as it was."""

    dataset: Any = None
    id_column: str | None = None
    variants: Sequence[Variant | VariantSpec | Mapping[str, Any]] = ()
    repeats: int | None = None
    limit: int | None = None
    """The first so many rows; 0 takes all."""
    limits: Limits | None = None

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
            variants=self.variants or spec.variants,
            repeats=said if self.repeats is None else self.repeats,
            limit=(spec.limit or 0) if self.limit is None else self.limit,
            limits=self.limits or spec.limits,
        )


def added(run: Run, known: Sequence[Variant], given: Sequence[Variant]) -> list[Variant]:
    """The variants of a run with those of `given` behind them that it has not got yet.

    Raises:
        SettingsError: another variant of the run has the same name, so that nobody could tell them apart.
    """
    more = [variant for variant in given if variant.id not in run.variants]
    names = {variant.name for variant in known}
    for variant in more:
        if variant.name in names:
            raise SettingsError(
                f"run {run.id[:8]} has another variant called '{variant.name}'; give the new one a name of its own"
            )
    return [*known, *more]


def more_repeats(run: Run, repeats: int | None) -> int:
    """How often each case of a run is put to each variant from now on.

    Raises:
        SettingsError: it would be less often than before.
    """
    if repeats is None:
        return run.repeats
    if repeats < run.repeats:
        raise SettingsError(
            f"repeats is {repeats}, and run {run.id[:8]} has {run.repeats} already: it can only be given more"
        )
    return repeats
