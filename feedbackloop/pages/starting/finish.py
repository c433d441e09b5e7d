"""Step 3 of a new run: what it comes to, the spec it stands for, and Start."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from feedbackloop.errors import FeedbackLoopError
from feedbackloop.pages import answer, context
from feedbackloop.pages.starting import data, trial
from feedbackloop.pages.starting.data import FILE, Chosen
from feedbackloop.pages.starting.files import own_name, safe_name
from feedbackloop.pages.starting.variants import SLOTS, Drawn
from feedbackloop.pipeline import charges, estimate, foresight, launch
from feedbackloop.pipeline.estimate import Estimate
from feedbackloop.pipeline.launch import Launched
from feedbackloop.queries import overview
from feedbackloop.settings import Settings, parse
from feedbackloop.spec import RunSpec
from feedbackloop.wording import count, dollars, duration

LAUNCHED = "launched"
"""Where the session keeps the process that it started last."""

CHECKS = {
    "contains": "contains the expected answer",
    "equals": "equals the expected answer",
    "json_valid": "is valid JSON",
}


def choose(chosen: Chosen, drawn: Drawn, settings: Settings) -> None:
    """Draw the trial and step 3."""
    asked = st.container()
    st.subheader("3 Estimate and start", anchor=False)
    spec = _spec(chosen, drawn, settings)
    with asked:
        trial.offer(spec if drawn.ready else None)
    if spec is None:
        return
    found = _told(spec, chosen, settings)
    allowed = found is not None and _allowed(found)
    text = launch.spec_text(spec, settings.base)
    with st.expander("The spec that this stands for", icon=":material/code:"):
        st.code(text, language="yaml", wrap_lines=True)
        st.caption("Saved in the store's folder, it runs so too: feedbackloop run spec.yaml")
        st.download_button(
            "Download spec.yaml", text, "spec.yaml", "application/yaml", icon=":material/download:", on_click="ignore"
        )
    unknown = found is not None and bool(found.unknown_prices)
    _start(spec, ready=drawn.ready and found is not None and (allowed or not unknown), unpriced=unknown)


def _spec(chosen: Chosen, drawn: Drawn, settings: Settings) -> RunSpec | None:
    """What all three steps say together; none where that makes no sense, which is said."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        task = data.task(_task(chosen.file), key=f"new-task-{chosen.file.name}", width=240)
        repeats = st.number_input("Times each row is asked", 1, 100, 1, key="new-repeats", width=170)
        budget = st.number_input(
            "Stop at (USD)", 0.01, None, None, 1.0, key="new-budget", placeholder="no limit", width=150
        )
        checks = st.multiselect(
            "Checks of each answer",
            list(CHECKS),
            key="new-checks",
            format_func=CHECKS.__getitem__,
            width=320,
            placeholder="none",
        )
    by_batch = bool(drawn.specs) and all(foresight.has_batches(variant, settings) for variant in drawn.specs)
    if by_batch:
        by_batch = st.checkbox("By batch: half the price, answers within a day", key="new-batch")
    if len(drawn.specs) != len(st.session_state.get(SLOTS) or ()):
        st.caption("One of the variants above makes no sense yet.")
        return None
    values = {
        "task": task,
        "dataset": str(chosen.file),
        "id_column": chosen.id_column if chosen.id_column != "id" else None,
        "variants": [spec.model_dump(exclude_defaults=True) for spec in drawn.specs],
        "graders": checks,
        "repeats": int(repeats or 1),
        "budget_usd": budget,
        "executor": "batch" if by_batch else "async",
        "base": settings.base,
    }
    try:
        return parse(RunSpec, values, "this run")
    except FeedbackLoopError as error:
        st.error(answer.escaped(str(error)), icon=":material/error:")
        return None


def _task(file: Path) -> str:
    """What this file was run for before, else its own name: rows of another kind are hardly another's task."""
    if (status := data.sources().get(file)) is not None:
        return status.run.task
    return own_name(file)


def _told(spec: RunSpec, chosen: Chosen, settings: Settings) -> Estimate | None:
    """How many calls, at what price, in how long, and what they can show; none where that cannot be told."""
    try:
        found = estimate.estimate(spec, context.store(), settings, cases=chosen.cases, sample=chosen.sample, cache=True)
    except FeedbackLoopError as error:
        st.error(answer.escaped(str(error)), icon=":material/error:")
        return None
    calls, cost, time = st.columns(3)
    times = f"{count(found.cases, 'row')} x {count(len(found.variants), 'variant')}"
    with calls, st.container(border=True, gap="xsmall", height="stretch"):
        st.metric("Calls", f"{found.calls:,}")
        st.caption((times if found.repeats == 1 else f"{times} x {found.repeats} times") + estimate.used_again(found))
    with cost, st.container(border=True, gap="xsmall", height="stretch"):
        unknown = found.unpriced
        whole = len(unknown) == len({variant.model for variant in found.variants})
        least = "at least " if unknown or found.unknown_prices else ""
        st.metric("Cost, about", "unknown" if whole else f"{least}{dollars(found.cost_usd)}")
        if found.unknown_prices:
            st.caption("without what has no known price, see below")
        elif unknown:
            st.caption(
                answer.escaped(
                    f"The price of {' and '.join(unknown)} is not known; [prices] in feedbackloop.toml can say it."
                )
            )
        elif found.assumed:
            st.caption(f"if an answer is {estimate.ASSUMED_OUTPUT_TOKENS:.0f} tokens long")
        else:
            st.caption("by the length of earlier answers" if found.cost_usd else "nobody is paid for these")
    with time, st.container(border=True, gap="xsmall", height="stretch"):
        if found.by_batch:
            st.metric("Time", "up to a day")
            st.caption("mostly less; it goes on when this page is closed")
        else:
            st.metric("Time, about", duration(max(found.seconds, 1.0)))
            assumed = f"if an answer takes {estimate.ASSUMED_LATENCY_MS / 1000:.0f} s"
            st.caption(assumed if found.assumed else "by earlier answers")
    st.caption(estimate.power(found) + (" Add a second above." if len(spec.variants) < 2 else ""))
    return found


def _allowed(found: Estimate) -> bool:
    """Whether a run may ask models whose price is not known; asked only where there are some."""
    if not found.unknown_prices:
        return False
    sentence = charges.unknown_price(found.unknown_prices)
    st.warning(answer.escaped(f"{sentence[0].upper()}{sentence[1:]}."), icon=":material/warning:")
    return st.checkbox("Start it all the same: no limit holds for what it costs", key="new-unknown-price")


def _start(spec: RunSpec, *, ready: bool, unpriced: bool) -> None:
    launched: Launched | None = st.session_state.get(LAUNCHED)
    busy = launched is not None and not launched.ended and "started" in st.query_params
    pressed = st.button("Start", type="primary", icon=":material/play_arrow:", disabled=not ready or busy, key="start")
    if not ready:
        st.caption("It can start when what is said above is mended or allowed.")
    if pressed:
        folder = context.store().folder
        file = launch.save_spec(spec, folder, safe_name(spec.task.name))
        launched = st.session_state[LAUNCHED] = launch.start(file, context.store(), allow_unknown_price=unpriced)
        st.query_params["started"] = "1"
        busy = True
    if "started" not in st.query_params or launched is None:
        return
    found = overview.run_of_process(context.store(), launched.pid, launched.began)
    if found is not None:
        forget()
        context.go("runs", run=found)
    elif busy:
        _wait()
    elif launched.error:
        st.error(answer.escaped(launched.error), icon=":material/error:")


@st.fragment(run_every=0.5)
def _wait() -> None:
    launched: Launched | None = st.session_state.get(LAUNCHED)
    if (
        launched is None
        or launched.ended
        or overview.run_of_process(context.store(), launched.pid, launched.began) is not None
    ):
        st.rerun()
    st.caption(
        ":material/hourglass_top: Starting: the whole dataset is read and checked first. It goes on if you leave this page."
    )


def forget() -> None:
    """Begin anew the next time: what was drafted has become a run."""
    for name in (FILE, SLOTS, "new-from", "new-try", "new-try-run"):
        st.session_state.pop(name, None)
