"""What every page works with: the store, the scope line, reads that are cached, links to other pages."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from zoneinfo import ZoneInfo

import streamlit as st

from feedbackloop import queries
from feedbackloop.errors import FeedbackLoopError
from feedbackloop.identity import utcnow
from feedbackloop.models import Variant
from feedbackloop.pages import address, answer, memory, seen
from feedbackloop.settings import Settings
from feedbackloop.store import Store

Parameters = ParamSpec("Parameters")
Value = TypeVar("Value")

_FOLDER = Path(__file__).parent

ICON = _FOLDER / "icon.png"
"""Of the browser's tab: a file, since Streamlit fetches its own signs from elsewhere."""

DEMO_FILE = "demo.duckdb"
"""The demo's own store, in the working directory; the user's is never touched by it."""

PERIODS: dict[str, timedelta | None] = {
    "all time": None,
    "last 7 days": timedelta(days=7),
    "last 30 days": timedelta(days=30),
    "last 90 days": timedelta(days=90),
}


@dataclass(frozen=True)
class Page:
    """One page of the app."""

    title: str
    icon: str
    group: str
    path: Path


GROUPS = ("Answers", "Judgement", "Verdict")

PAGES = {
    name: Page(title, f":material/{icon}:", group, _FOLDER / f"{name}.py")
    for name, title, icon, group in (
        ("home", "Home", "home", "Answers"),
        ("runs", "Runs", "play_circle", "Answers"),
        ("compare", "Compare", "difference", "Answers"),
        ("rate", "Rate", "how_to_vote", "Judgement"),
        ("results", "Results", "leaderboard", "Verdict"),
        ("trends", "Trends", "show_chart", "Verdict"),
        ("decide", "Decide", "gavel", "Verdict"),
    )
}
"""By the name that stands in the URL."""


@dataclass(frozen=True)
class Scope:
    """What a page looks at."""

    task: str
    baseline: Variant | None
    """None where the task has no variant yet."""
    variants: tuple[Variant, ...]
    """Of the task, in the order in which they first ran; the newest version of each name first among its versions."""
    since: datetime | None
    """Only what is newer; None means all."""


def run(page: Any) -> None:
    """Run a page; what goes wrong on purpose is one sentence on the screen."""
    memory.freeze_modules()
    try:
        # Whatever way the name came, and before this page shows anything to be judged.
        if (name := rater()) is not None:
            seen.write(store(), name)
        page.run()
    except FeedbackLoopError as error:
        st.error(answer.escaped(str(error)), icon=":material/error:")


def fill() -> None:
    """What the theme cannot say: less room above each page, and a chosen segment whose word stands out on dark as well."""
    st.html(
        "<style>[data-testid=stMainBlockContainer] { padding-top: 3rem; } "
        "[data-variant=segmented_control][data-selected][aria-checked] { color: inherit; font-weight: 600; }</style>"
    )


def store() -> Store:
    """The store that this session looks at: the user's, or the demo's where the URL says `demo=1`."""
    if is_demo():
        return _open(str(Path.cwd() / DEMO_FILE))
    return _open(settings().store)


def is_demo() -> bool:
    """Whether this session looks at the demo."""
    return st.query_params.get("demo") == "1"


def settings() -> Settings:
    """Settings as the environment and `feedbackloop.toml` have them now."""
    return Settings.load()


def read(question: Callable[..., Value], *arguments: Any, **named: Any) -> Value:
    """`question(store, ...)`, remembered until the store changes. The answer is a copy: it may be changed."""
    opened = store()
    name = f"{question.__module__}.{question.__qualname__}"
    return _remembered(opened.address, opened.version, name, arguments, named, _question=question)  # type: ignore[no-any-return]


def rater() -> str | None:
    """Who is rating: from the URL, so that a reload and an invitation both keep it."""
    return " ".join((st.query_params.get("rater") or "").split()) or None


def is_raters_link() -> bool:
    """Whether the URL is an invitation to rate, which shows the Rate page alone."""
    return bool(st.query_params.get("queue")) and rater() is not None and st.query_params.get("only") == "rate"


def scope(*, period: bool = True) -> Scope | None:
    """Draw the scope line, kept in the URL, and say what it stands on; None where the store holds no task yet.

    Args:
        period: whether the page looks at a period; a decision rests on all votes.
    """
    tasks = read(queries.tasks) if store().exists() else []
    if not tasks:
        return None
    with st.container(horizontal=True, vertical_alignment="bottom", key="scope"):
        task = address.choice("Task", tasks, "task", width=205)
        variants = tuple(read(queries.task_variants, task))
        labels = labelled(variants)
        first = read(queries.baseline, task)
        baseline = None
        if first is not None:
            names = list(labels.values())
            chosen = address.choice("Baseline", names, "baseline", default=labels[first.id], width=180)
            baseline = variants[names.index(chosen)]
        length = address.choice("Period", list(PERIODS), "period", width=130) if period else None
    address.say_unknown("task", "This store has no task", task)
    if baseline is not None:
        address.say_unknown("baseline", "This task has no variant", labels[baseline.id])
    if length is not None:
        address.say_unknown("period", "There is no period", length)
    back = PERIODS[length] if length else None
    return Scope(task, baseline, variants, None if back is None else utcnow().replace(second=0, microsecond=0) - back)


def label(variant: Variant, among: tuple[Variant, ...] | list[Variant]) -> str:
    """A variant's name, with its version where several have that name."""
    return variant.label if sum(other.name == variant.name for other in among) > 1 else variant.name


def labelled(variants: tuple[Variant, ...] | list[Variant]) -> dict[str, str]:
    """What each variant is called among these, by id."""
    return {variant.id: label(variant, variants) for variant in variants}


def link(page: str, text: str, *, icon: str | None = None, **parameters: str) -> None:
    """A link to another page that keeps the demo and the scope, and adds what is given."""
    st.page_link(PAGES[page].path, label=text, icon=icon, query_params=address.kept(**parameters))


def go(page: str, **parameters: str) -> None:
    """Go to another page at once, with what a link would keep."""
    st.switch_page(PAGES[page].path, query_params=address.kept(**parameters))


def local(moment: datetime) -> datetime:
    """A time in the viewer's zone."""
    zone = st.context.timezone
    try:
        return moment.astimezone(ZoneInfo(zone)) if zone else moment.astimezone()
    except (KeyError, ValueError):
        return moment


def sidebar() -> None:
    """What stands below the pages' names: which store this is."""
    with st.sidebar:
        if is_demo():
            st.info("You are looking at the demo. Everything in it is made up.", icon=":material/science:")
            if st.button("Leave the demo", width="stretch"):
                leave_demo()
        else:
            opened = store()
            where = opened.url if opened.is_shared else os.path.relpath(opened.path)
            st.caption(answer.escaped(f"Store: {where}"))


def enter_demo() -> None:
    """Go to the demo's Home. Its store must exist."""
    address.forget()
    st.switch_page(PAGES["home"].path, query_params={"demo": "1"})


def leave_demo() -> None:
    """Go back to the user's own store."""
    address.forget()
    st.switch_page(PAGES["home"].path, query_params={})


@st.cache_resource
def _open(url: str) -> Store:
    return Store(url)


@st.cache_data(max_entries=256, show_spinner=False)
def _remembered(
    address: str,
    version: tuple[int | str, ...],
    name: str,
    arguments: tuple[Any, ...],
    named: dict[str, Any],
    *,
    _question: Callable[..., Any],
) -> Any:
    del version, name
    return _question(_open(address), *arguments, **named)
