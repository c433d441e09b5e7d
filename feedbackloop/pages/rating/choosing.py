"""What to rate: a queue that is open, or a new one of two variants, of all, or of one answer at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal
from urllib.parse import urlencode, urlsplit, urlunsplit

import streamlit as st

from feedbackloop import comparisons, queries
from feedbackloop.comparisons import Outlook, QueueStatus
from feedbackloop.findings.wording import duration, listed
from feedbackloop.models import Queue, Variant
from feedbackloop.pages import address, answer, context, ruling
from feedbackloop.pages.context import Scope
from feedbackloop.wording import count

BEGUN = "rating-begun"
"""Where the queue stands that was last begun here."""

_SHOWN = 6
_SIZES = (20, 50, 100, 200)

Kind = Literal["Two variants", "All variants", "One answer at a time"]


def choose(scope: Scope, rater: str | None) -> None:
    """Go on with a queue, or make one."""
    labels = context.labelled(scope.variants)
    statuses = [one for one in context.read(comparisons.queues, scope.task) if one.is_open][:_SHOWN]
    if statuses:
        st.subheader("Go on with a queue")
        for number, status in enumerate(statuses):
            _queue(status, labels, rater, first=number == 0)
    st.subheader("Choose two variants" if not statuses else "Or begin a new one")
    if not scope.variants:
        st.info("This task has no answers yet.", icon=":material/info:")
        context.link("runs", "Start a run, or bring answers made elsewhere", icon=":material/play_circle:")
        return
    picked = _pick(scope, labels)
    if picked is not None:
        _begin(scope, *picked, rater, first=not statuses)


def name_yourself(key: str) -> None:
    """Ask who is rating, once: the address keeps it."""
    with st.form(f"{key}-form", border=False):
        with st.container(horizontal=True, vertical_alignment="bottom"):
            name = st.text_input("Your name", max_chars=60, width=260, help="It is stored with your votes.")
            go = st.form_submit_button("Begin", type="primary")
        if go:
            if name.strip():
                address.keep("rater", " ".join(name.split()))
                st.rerun()
            st.warning("Type your name first.", icon=":material/info:")


def invite(queue: Queue, key: str) -> None:
    """A link by which somebody else rates the same queue and sees nothing but that."""
    name = st.text_input("Whom do you invite?", max_chars=60, key=f"{key}-name", placeholder="Ben")
    if name.strip():
        # The link says who rates: two people by one name would count as one.
        parameters = {"queue": queue.id, "rater": " ".join(name.split()), "only": "rate"}
        if context.is_demo():
            parameters["demo"] = "1"
        place = urlsplit(str(st.context.url or ""))
        link = urlunsplit((place.scheme, place.netloc, "/", urlencode(parameters), ""))
        st.code(link, language=None, wrap_lines=True)
    each = "Each answer" if queue.purpose == "single" else "Each pair"
    if queue.overlap == 1:
        st.caption(f"{each} goes to one of you: you share the work.")
    else:
        st.caption(f"{each} goes to {queue.overlap} of you: then you see where you differ.")


def _queue(status: QueueStatus, labels: dict[str, str], rater: str | None, *, first: bool) -> None:
    queue = status.queue
    with st.container(border=True, horizontal=True, vertical_alignment="center", key=f"queue-{queue.id}"):
        names = [labels.get(id_, id_[:4]) for id_ in queue.variants]
        about = "" if status.exact else "about "
        noun = "answer" if queue.purpose == "single" else "pair"
        by = f"judged by {listed(status.raters)}" if status.raters else "judged"
        title = " and ".join(names) if len(names) <= 3 else f"{len(names)} variants"
        what = "one answer at a time" if queue.purpose == "single" else f"{count(queue.overlap, 'rater')} a pair"
        st.markdown(
            f"**{answer.escaped(title)}**  \n{answer.escaped(what)} · {about}{count(status.size, noun)} · "
            f"{status.votes:,} of {status.wanted:,} {answer.escaped(by)}",
            width="stretch",
        )
        with st.popover("Invite", icon=":material/person_add:"):
            invite(queue, f"invite-{queue.id}")
        if st.button(
            "Go on" if rater in status.raters else "Rate",
            key=f"open-{queue.id}",
            type="primary" if first else "secondary",
        ):
            context.go("rate", queue=queue.id)


def _pick(scope: Scope, labels: dict[str, str]) -> tuple[list[str], comparisons.Purpose] | None:
    """Which variants, and what for."""
    kinds: list[Kind] = ["Two variants", "All variants", "One answer at a time"]
    if len(scope.variants) < 3:
        kinds.remove("All variants")
    if len(scope.variants) < 2:
        kinds.remove("Two variants")
        st.info("There is one variant only: add a second one to compare.", icon=":material/info:")
    kind = st.segmented_control("What to judge", kinds, default=kinds[0], required=True, key="rating-kind")
    ids = [variant.id for variant in scope.variants]
    if kind == "Two variants":
        return _two(scope, labels), "decision"
    default = _newest(scope.variants) if kind == "All variants" else ids[:1]
    chosen = st.multiselect("Variants", ids, default, format_func=lambda id_: labels[id_], key=f"rating-{kind}")
    fewest = 2 if kind == "All variants" else 1
    if len(chosen) < fewest:
        st.caption(f"Choose at least {'two' if fewest == 2 else 'one'}.")
        return None
    return chosen, "leaderboard" if kind == "All variants" else "single"


def _two(scope: Scope, labels: dict[str, str]) -> list[str]:
    ids = [variant.id for variant in scope.variants]
    base = scope.baseline.id if scope.baseline else ids[0]
    with st.container(horizontal=True):
        first = st.selectbox(
            "Variant", ids, ids.index(base), format_func=lambda id_: labels[id_], key="rating-a", width=260
        )
        others = [id_ for id_ in ids if id_ != first]
        wanted = st.query_params.get("variant")
        start = others.index(wanted) if wanted in others else 0
        second = st.selectbox("against", others, start, format_func=lambda id_: labels[id_], key="rating-b", width=260)
    return [first, second]


def _begin(
    scope: Scope, variants: Sequence[str], purpose: comparisons.Purpose, rater: str | None, *, first: bool
) -> None:
    outlook = context.read(comparisons.outlook, scope.task, tuple(variants), purpose, rater=rater)
    noun = "answer" if purpose == "single" else "pair"
    _what_there_is(outlook, noun, rater)
    if not outlook.size:
        return
    sizes = [*(size for size in _SIZES if size < outlook.size), outlook.size]
    words = {
        size: f"{'about ' if size == outlook.size and not outlook.exact else ''}{count(size, noun)}, {duration(size * outlook.seconds_per_vote)}"
        for size in sizes
    }
    with st.container(horizontal=True, vertical_alignment="bottom"):
        size = st.selectbox(
            "How many", sizes, format_func=lambda size: words[size], key=f"rating-size-{noun}", width=260
        )
        overlap = st.number_input("Raters for each", 1, 20, 1, key="rating-overlap", width=150)
        criteria = _criteria(scope) if purpose == "single" else []
        if rater is None:
            name = st.text_input(
                "Your name", max_chars=60, key="rating-name", width=220, help="It is stored with your votes."
            )
        else:
            name = rater
        go = st.button(
            "Start rating", type="primary" if first else "secondary", key="rating-start", icon=":material/play_arrow:"
        )
    if go:
        if not name.strip():
            st.warning("Type your name first.", icon=":material/info:")
            return
        queue = comparisons.open_queue(
            context.store(),
            scope.task,
            list(variants),
            purpose=purpose,
            rule=ruling.of_queue(scope, variants) if purpose == "decision" else None,
            overlap=int(overlap),
            criteria=criteria,
            limit=None if size == outlook.size else size,
            rater=rater,
        )
        address.keep("rater", " ".join(name.split()))
        st.session_state[BEGUN] = queue.id
        context.go("rate", queue=queue.id)


def _what_there_is(outlook: Outlook, noun: str, rater: str | None) -> None:
    about = "" if outlook.exact else "About "
    parts = [f"{about}{count(outlook.size, noun)} to judge"]
    if outlook.left_out:
        parts.append(f"{count(outlook.left_out, 'pair')} left out, since both answers read the same")
    if outlook.judged:
        parts.append(f"{outlook.judged:,} judged already by {rater}")
    st.caption(answer.escaped("; ".join(parts) + "."))


def _criteria(scope: Scope) -> list[str]:
    task = context.read(queries.task, scope.task)
    known = list(task.criteria) if task else []
    if not known:
        return []
    if st.checkbox(answer.escaped(f"Rate from 1 to 5: {', '.join(known)}"), value=True, key="rating-criteria"):
        return known
    return []


def _newest(variants: Sequence[Variant]) -> list[str]:
    """The newest version of each name."""
    found: dict[str, str] = {}
    for variant in variants:
        found.setdefault(variant.name, variant.id)
    return list(found.values())
