"""What Compare puts side by side: variants, runs of one variant, or versions of one name. Kept in the URL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, cast

import streamlit as st

from feedbackloop.models import Run, Variant
from feedbackloop.pages import address, context
from feedbackloop.pages.answer import escaped
from feedbackloop.queries import shown
from feedbackloop.queries.table import Column

Kind = Literal["variants", "runs", "versions"]
Value = TypeVar("Value")

MOST_COLUMNS = 4

WHERE = "compare"
"""Begins the keys of what is chosen on this page."""

_KINDS: Mapping[Kind, str] = {"variants": "Variants", "runs": "Runs", "versions": "Versions"}


@dataclass(frozen=True)
class Compared:
    """The columns, the first of which is what the others are compared with."""

    kind: Kind
    columns: tuple[Column, ...]
    variants: tuple[Variant, ...]
    runs: tuple[Run, ...]
    names: tuple[str, ...]
    """What the columns are called on the screen; each name once."""
    run_id: str
    """The run that was chosen, where variants are compared; a column whose variant was not in it is of another."""
    run_name: str
    """What it is called."""

    @property
    def chosen(self) -> dict[str, str]:
        """What the URL has to say to lead to these columns, whatever the defaults have become."""
        ids = [column.variant_id for column in self.columns]
        said = {"columns": str(self.kind)}
        if self.kind == "variants":
            return said | {"run": self.run_id, "shown": ",".join(ids[1:])}
        if self.kind == "versions":
            return said | {"name": self.variants[0].name, "versions": ",".join(ids)}
        return said | {"of": ids[0], "runs": ",".join(run.id for run in self.runs)}

    @property
    def title(self) -> str:
        """What is compared, in a few words of Markdown."""
        if self.kind == "variants":
            return f"Variants in the run of **{self.run_name}**"
        return f"{_KINDS[self.kind]} of **{escaped(self.variants[0].name)}**"


@dataclass(frozen=True)
class Nothing:
    """Why there is nothing to compare."""

    reason: str
    needs_run: bool = False
    """Another run would help."""


@dataclass(frozen=True)
class Offer:
    """What there is to choose from."""

    runs: tuple[Run, ...]
    """Newest first; those of the period before all others."""
    names: Mapping[str, str]
    """Of the runs, by id."""
    variants: Mapping[str, Variant]
    labels: Mapping[str, str]
    """Of the variants, by id."""
    baseline: Variant
    note: str | None
    """What is to be said of it above all."""

    @property
    def kinds(self) -> list[Kind]:
        """What the columns can be."""
        kinds: list[Kind] = ["variants"] if len(self.variants) > 1 else []
        kinds += ["runs"] if any(len(self.of(id_)) > 1 for id_ in self.variants) else []
        return [*kinds, "versions"] if self.several else kinds

    @property
    def several(self) -> list[str]:
        """Names with several versions that ran."""
        names = [variant.name for id_, variant in self.variants.items() if self.of(id_)]
        return [name for name in dict.fromkeys(names) if names.count(name) > 1]

    def of(self, variant_id: str) -> list[Run]:
        """The runs of a variant, newest first."""
        return [run for run in self.runs if variant_id in run.variants]


def offer(scope: context.Scope) -> Offer | Nothing:
    """What there is to choose from in this scope."""
    runs = context.read(shown.task_runs, scope.task)
    if scope.baseline is None or not runs:
        return Nothing("There are no answers of this task yet.", needs_run=True)
    lately = [run for run in runs if scope.since is None or run.created_at >= scope.since]
    known = {variant.id: variant for variant in scope.variants}
    if len(known) == 1 and len(runs) == 1:
        return Nothing("One variant only: add a second.", needs_run=True)
    note = None
    if len(known) == 1:
        note = "One variant only: add a second. Until then its runs can be compared."
    elif not lately:
        note = "No run of this task falls into the period; these are older."
    return Offer(
        runs=(*lately, *(run for run in runs if run not in lately)),
        names=_run_names(runs),
        variants=known,
        labels=context.labelled(scope.variants),
        baseline=scope.baseline,
        note=note,
    )


def choose(offer: Offer) -> Compared | Nothing:
    """Draw the choice of columns."""
    kinds = offer.kinds
    kind = kinds[0]
    if len(kinds) > 1:
        kind = address.segments(WHERE, "Columns are", kinds, "columns", format_func=_KINDS.__getitem__)
    if kind == "variants":
        return _variants(offer)
    return _runs(offer) if kind == "runs" else _versions(offer)


def say_unknown(offer: Offer, compared: Compared) -> None:
    """Say what a link asks for that is not there."""
    if compared.kind == "variants":
        address.say_unknown("run", "This task has no run", compared.run_name)
    elif compared.kind == "runs":
        address.say_unknown("of", "This task has no several runs of", compared.variants[0].name)
    else:
        address.say_unknown("name", "This task has no several versions of", compared.variants[0].name)
    name = "shown" if compared.kind == "variants" else compared.kind
    known = offer.names if compared.kind == "runs" else offer.labels
    strange = [id_ for id_ in st.query_params.get(name, "").split(",") if id_ and id_ not in known]
    if strange:
        what = "run" if compared.kind == "runs" else "variant"
        address.say_unknown(name, f"This task has no {what}", ", ".join(compared.names), part=strange[0])


def _variants(offer: Offer) -> Compared | Nothing:
    ids = [run.id for run in offer.runs]
    first = _lasting("run", offer.runs[0].task, lambda: _wanted_run(offer))
    run_id = address.control(
        WHERE,
        "run",
        first,
        lambda key: st.selectbox("Run", ids, format_func=offer.names.__getitem__, key=key, width=260),
        read=lambda text: next((id_ for id_ in ids if id_ == text), None),
        write=str,
    )
    run = next(run for run in offer.runs if run.id == run_id)
    baseline = _baseline_of(offer, run)
    others = [id_ for id_ in offer.variants if id_ != baseline.id]

    def here() -> list[str]:
        found = [id_ for id_ in run.variants if id_ in others] or others
        focus = st.query_params.get("variant")
        return [focus, *found] if focus in others and focus not in found[: MOST_COLUMNS - 1] else found

    title = f"Against {escaped(offer.labels[baseline.id])}"
    first_of = _lasting("shown", (run_id, baseline.id), here)
    chosen = _several_of("shown", title, others, first_of, offer.labels, most=MOST_COLUMNS - 1)
    if not chosen:
        return Nothing(f"Choose what is to be compared with {escaped(offer.labels[baseline.id])}, under Change.")
    columns, names = [], []
    for variant_id in (baseline.id, *chosen):
        at = run if variant_id in run.variants else next(iter(offer.of(variant_id)), run)
        columns.append(Column(at.id, variant_id))
        names.append(offer.labels[variant_id] + ("" if at is run else f" ({offer.names[at.id]})"))
    return _compared(offer, "variants", columns, names, run_id)


def _runs(offer: Offer) -> Compared | Nothing:
    several = [id_ for id_ in offer.variants if len(offer.of(id_)) > 1]
    focus = st.query_params.get("variant", offer.baseline.id)
    variant_id = address.control(
        WHERE,
        "of",
        focus if focus in several else several[0],
        lambda key: st.selectbox("Variant", several, format_func=offer.labels.__getitem__, key=key, width=220),
        read=lambda text: next((id_ for id_ in several if id_ == text), None),
        write=str,
    )
    ids = [run.id for run in offer.of(variant_id)]
    newest = _lasting("runs", variant_id, lambda: ids[:2])
    chosen = _several_of("runs", "Runs, against the oldest of them", ids, newest, offer.names, most=MOST_COLUMNS)
    if len(chosen) < 2:
        return Nothing("Choose two runs or more, under Change.")
    order = [run.id for run in sorted(offer.runs, key=lambda run: run.created_at) if run.id in chosen]
    return _compared(offer, "runs", [Column(id_, variant_id) for id_ in order], [offer.names[id_] for id_ in order])


def _versions(offer: Offer) -> Compared | Nothing:
    several = offer.several
    focus = offer.variants.get(st.query_params.get("variant", ""), offer.baseline).name
    name = address.control(
        WHERE,
        "name",
        focus if focus in several else several[0],
        lambda key: st.selectbox("Variant", several, key=key, width=220),
        read=lambda text: next((known for known in several if known == text), None),
        write=str,
    )
    # Of several versions of a name the newest comes first.
    ids = [id_ for id_, variant in offer.variants.items() if variant.name == name]
    newest = _lasting("versions", name, lambda: ids[:2])
    title = "Versions, against the oldest of them"
    chosen = _several_of("versions", title, ids, newest, offer.labels, most=MOST_COLUMNS)
    if len(chosen) < 2:
        return Nothing("Choose two versions or more, under Change.")
    order = [id_ for id_ in reversed(ids) if id_ in chosen]
    runs = [next(iter(offer.of(id_)), offer.runs[0]) for id_ in order]
    names = [f"{offer.labels[id_]} ({offer.names[run.id]})" for id_, run in zip(order, runs, strict=True)]
    columns = [Column(run.id, id_) for id_, run in zip(order, runs, strict=True)]
    return _compared(offer, "versions", columns, names)


def _several_of(
    name: str, title: str, ids: Sequence[str], default: Sequence[str], labels: Mapping[str, str], *, most: int
) -> list[str]:
    """Some of these ids, in the order in which they are offered.

    Args:
        labels: of these, and of others that were chosen rightly when something else was.
    """
    first = [id_ for id_ in ids if id_ in default[:most]]

    def read(text: str) -> list[str] | None:
        known = [id_ for id_ in ids if id_ in text.split(",")][:most]
        return known if known or not text else None

    chosen = address.control(
        WHERE,
        name,
        first,
        lambda key: st.multiselect(title, ids, format_func=labels.__getitem__, max_selections=most, key=key, width=460),
        read=read,
        write=",".join,
    )
    return [id_ for id_ in ids if id_ in chosen]


def _lasting(name: str, of: object, first: Callable[[], Value]) -> Value:
    """A default as it was when the page was opened: neither a new run nor a filter or a case that was chosen since changes it.

    Args:
        of: what it is a choice of; for another one it is worked out anew.
    """
    key = f"{WHERE}-first-{name}"
    # Streamlit forgets the widget once another page was drawn.
    if f"{WHERE}-{name}" not in st.session_state or st.session_state.get(key, (None,))[0] != of:
        st.session_state[key] = (of, first())
    return cast("Value", st.session_state[key][1])


def _wanted_run(offer: Offer) -> str:
    """The newest run that shows what a link asks for, else the newest."""
    variant, issue, case = (st.query_params.get(name) for name in ("variant", "issue", "case"))
    ids = [run.id for run in offer.runs]
    task = offer.runs[0].task
    found: list[str] = []
    if case:
        found = context.read(shown.runs_with_case, task, case)
    elif variant and issue:
        found = [one.run_id for one in context.read(shown.runs_with_issue, task, variant, issue)]
    if variant and not (issue and not case):
        having = [run.id for run in offer.of(variant)]
        found = [id_ for id_ in found if id_ in having] if found else having
    return next((id_ for id_ in found if id_ in ids), ids[0])


def _baseline_of(offer: Offer, run: Run) -> Variant:
    """The scope's baseline; unless it was chosen by hand, the version of it that was in the run."""
    baseline = offer.baseline
    if baseline.id not in run.variants and "baseline" not in st.query_params:
        versions = (offer.variants[id_] for id_ in run.variants if id_ in offer.variants)
        return next((version for version in versions if version.name == baseline.name), baseline)
    return baseline


def _compared(
    offer: Offer, kind: Kind, columns: Sequence[Column], names: Sequence[str], run_id: str | None = None
) -> Compared:
    run_id = run_id or columns[0].run_id
    by_id = {run.id: run for run in offer.runs}
    return Compared(
        kind,
        tuple(columns),
        tuple(offer.variants[column.variant_id] for column in columns),
        tuple(by_id[column.run_id] for column in columns),
        tuple(names),
        run_id,
        offer.names[run_id],
    )


def _run_names(runs: Sequence[Run]) -> dict[str, str]:
    """What runs are called: when they were made; several of one minute get a number."""
    names: dict[str, str] = {}
    for run in reversed(runs):
        moment = context.local(run.created_at)
        name = f"{moment.day} {moment:%b %Y, %H:%M}"
        again = sum(known == name or known.startswith(f"{name} #") for known in names.values())
        names[run.id] = f"{name} #{again + 1}" if again else name
    return names
