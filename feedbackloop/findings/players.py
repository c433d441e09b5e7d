"""What results compare: variants, each version by itself or all versions of a name together, and what they are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from feedbackloop import queries
from feedbackloop.errors import UnknownName
from feedbackloop.findings import wording
from feedbackloop.models import Variant
from feedbackloop.queries.verdicts import By
from feedbackloop.registry import near
from feedbackloop.store import Store


@dataclass(frozen=True)
class Player:
    """A variant, or all versions of its name."""

    id: str
    """The variant's id, or its name where versions are taken together."""
    label: str
    """The name, with the version behind it where another one has the same name."""
    name: str
    variant_id: str
    """Of the newest version: what links lead to."""
    versions: tuple[str, ...]
    """Ids of the variants that it stands for, the newest first."""

    @property
    def version_labels(self) -> tuple[str, ...]:
        """As versions are called where a name has several."""
        return tuple(f"{self.name}@{id_[:4]}" for id_ in self.versions)

    def version_label(self, variant_id: str) -> str:
        """What one of its versions is called: the label alone where there is but one."""
        several = len(self.versions) > 1
        return f"{wording.short(self.name)}@{variant_id[:4]}" if several else self.label


@dataclass(frozen=True)
class Players:
    """All that ran for a task, in the order in which their names first did; of several versions the newest first."""

    known: tuple[Player, ...]

    def __getitem__(self, id_: str) -> Player:
        """The player with this id; one that nothing is known of is called by the id's beginning."""
        return next((one for one in self.known if one.id == id_), Player(id_, id_[:4], id_[:4], id_, (id_,)))

    @property
    def ids(self) -> tuple[str, ...]:
        """In the same order."""
        return tuple(one.id for one in self.known)

    @property
    def variant_ids(self) -> tuple[str, ...]:
        """All versions, in the same order whether they are taken together or not: what colours are given by."""
        return tuple(id_ for one in self.known for id_ in one.versions)

    def named(self, name: str) -> Player:
        """The player of this name, label or id; of several versions the newest.

        Raises:
            UnknownName: there is none.
        """
        for one in self.known:
            if name in (one.id, one.label) or name in one.versions or name in one.version_labels:
                return one
        for one in self.known:
            if name == one.name:
                return one
        labels = [one.label for one in self.known]
        raise UnknownName(f"there is no variant '{name}' in this task{near(name, labels)}")


def players(store: Store, task: str, by: By = "version", more: Iterable[str] = ()) -> Players:
    """The variants of a task as players.

    Args:
        store: where they ran.
        task: for which task.
        by: whether each version is one, or each name.
        more: ids of players that take part without a run, such as those of live traffic.
    """
    variants = queries.task_variants(store, task)
    missing = set(more) - {variant.id if by == "version" else variant.name for variant in variants}
    if missing:
        newest_first = reversed(queries.variants(store))
        variants += [one for one in newest_first if (one.id if by == "version" else one.name) in missing]
    labels = _labels(variants)
    groups: dict[str, list[Variant]] = {}
    for variant in variants:
        groups.setdefault(variant.id if by == "version" else variant.name, []).append(variant)
    return Players(
        tuple(
            Player(
                id=id_,
                label=labels[group[0].id] if by == "version" else wording.short(id_),
                name=group[0].name,
                variant_id=group[0].id,
                versions=tuple(variant.id for variant in group),
            )
            for id_, group in groups.items()
        )
    )


def _labels(variants: Sequence[Variant]) -> dict[str, str]:
    """A name where it says enough, else the name with as much of the id as tells its versions apart."""
    shared = Counter(variant.name for variant in variants)
    labels = {
        variant.id: _label(variant, 4) if shared[variant.name] > 1 else wording.short(variant.name)
        for variant in variants
    }
    length = 4
    while len(set(labels.values())) < len(labels) and length < 32:
        length *= 2
        doubled = {label for label, count in Counter(labels.values()).items() if count > 1}
        labels = {
            variant.id: _label(variant, length) if labels[variant.id] in doubled else labels[variant.id]
            for variant in variants
        }
    return labels


def _label(variant: Variant, length: int) -> str:
    return f"{wording.short(variant.name)}@{variant.id[:length]}"
