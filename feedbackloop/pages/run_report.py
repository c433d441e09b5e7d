"""One run, opened: its figures by variant, what failed and why, what it ran with, and its answers to take away."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from feedbackloop import queries
from feedbackloop.errors import StoreError
from feedbackloop.identity import utcnow
from feedbackloop.improve import export
from feedbackloop.pages import answer, context, live, within
from feedbackloop.pages.wording import shortened
from feedbackloop.pipeline import launch
from feedbackloop.queries import RunStatus, overview
from feedbackloop.queries.overview import NO_FIGURES
from feedbackloop.queries.repeats import steadiness
from feedbackloop.store import Store
from feedbackloop.wording import ago, batches, count, dollars, goes_on, milliseconds, spend

EXPORTED = 200_000
"""Answers that are made into a file for the browser; more are the command line's business."""

_FORMATS = {"CSV": "csv", "JSON Lines": "jsonl", "Parquet": "parquet"}


def draw(run_id: str) -> None:
    """Draw the run with this id; one that the store has not got is said so."""
    within.link("runs", "All runs", key="all-runs-link", icon=":material/arrow_back:")
    status = next((status for status in live.statuses() if status.run.id == run_id), None)
    if status is None:
        raise StoreError(f"there is no run '{run_id}' in this store")
    _head(status)
    if status.state == "running":
        live.watch(run_id, "")
    _acts(status)
    summary = context.read(queries.summary, run_id)
    _figures(run_id, summary)
    if status.run.repeats > 1:
        _steadiness(run_id)
    _failures(run_id, summary)
    _check_errors(run_id)
    _settings(status)


def _head(status: RunStatus) -> None:
    run = status.run
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(live.title(status), anchor=False, width="content")
        live.badge(status.state)
    at = context.local(run.created_at)
    told = [f"Begun {at:%d %B %Y %H:%M}, {ago(run.created_at, utcnow())}"]
    if "imported" in run.settings:
        told = [f"Imported {at:%d %B %Y %H:%M}"]
    if run.settings.get("limit"):
        told.append(f"the first {count(int(run.settings['limit']), 'row')} only")
    if run.repeats > 1:
        told.append(f"each row asked {run.repeats} times")
    told.append(shortened(status.variants, most=8))
    st.caption(answer.escaped(" · ".join(told)))
    if status.state == "stopped" and (reason := status.counts.get("reason")):
        st.warning(answer.escaped(f"It stopped because {_clause(str(reason))}."), icon=":material/pause_circle:")
    if status.state == "interrupted":
        done, total = int(status.counts.get("done") or 0), int(status.counts.get("total") or 0)
        st.warning(f"It was interrupted at {done:,} of {count(total, 'answer')}. Nothing that was answered is lost.")
    if status.state in {"stopped", "interrupted"} and (waiting := batches(status.counts.get("batches") or ())):
        article = "A " if waiting.startswith("batch ") else ""
        sentence = f"{article}{waiting} when last seen, {goes_on(waiting)}: Resume fetches the answers."
        st.info(answer.escaped(sentence), icon=":material/schedule:")


def _clause(reason: str) -> str:
    """A reason as it goes into a sentence."""
    return reason.rstrip(".")


def _acts(status: RunStatus) -> None:
    run_id = status.run.id
    unfinished = status.state in {"stopped", "interrupted"}
    failed = status.state == "finished" and int(status.counts.get("failed") or 0) > 0
    reason = launch.cannot_resume(status)
    with st.container(horizontal=True, vertical_alignment="center", key="acts"):
        if (unfinished or failed) and reason is None:
            label = "Resume" if unfinished else "Ask again what failed"
            kind = "primary" if unfinished else "secondary"
            if st.button(label, type=kind, icon=":material/play_arrow:", key="resume"):  # type: ignore[arg-type]
                st.session_state["launched"] = launch.resume(context.store(), run_id)
                context.go("runs", run=run_id, started="1")
        kind = "secondary" if unfinished or status.state == "running" else "primary"
        if st.button("Compare the answers", type=kind, icon=":material/difference:"):  # type: ignore[arg-type]
            context.go("compare", run=run_id)
        if "imported" not in status.run.settings and st.button("Run again with changes", icon=":material/edit:"):
            context.go("runs", new="run", like=run_id)
        _download(status)
    if unfinished and reason is not None:
        st.caption(answer.escaped(reason))
    _follow(run_id)


def _follow(run_id: str) -> None:
    """After Resume: wait for the process's first sign of life, or say why there is none."""
    launched = st.session_state.get("launched")
    if "started" not in st.query_params or launched is None:
        return
    if launched.ended and launched.error:
        st.error(answer.escaped(launched.error), icon=":material/error:")
    elif not launched.ended:
        _wait_for(run_id)


@st.fragment(run_every=1.0)
def _wait_for(run_id: str) -> None:
    launched = st.session_state.get("launched")
    begun = launched is not None and overview.run_of_process(context.store(), launched.pid, launched.began)
    if launched is None or launched.ended or begun == run_id:
        if launched is None or not launched.error:
            st.query_params.pop("started", None)
        st.rerun()
    st.caption("Going on: the dataset is read and checked first.")


def _figures(run_id: str, summary: pd.DataFrame) -> None:
    rows = [_row(row) for _, row in summary.iterrows()]
    shown = pd.DataFrame(rows)
    empty = [name for name in shown.columns if name != "variant" and (shown[name].isin(["", "0"])).all()]
    st.dataframe(
        shown.drop(columns=[name for name in empty if name not in {"answers", "failed"}]),
        hide_index=True,
        width="stretch",
        column_config={
            "checks": st.column_config.TextColumn(help="Mean of all checks: share passed"),
            "time": st.column_config.TextColumn(help="Half of the answers came within this time, without retries"),
            "95% within": st.column_config.TextColumn(help="95% of the answers came within this time"),
            "$ per 1,000": st.column_config.TextColumn(help="Cost of so many answers"),
            "won-lost-same": st.column_config.TextColumn(help="In blind votes"),
            "issues": st.column_config.TextColumn(help="Faults that raters named"),
        },
    )
    # Also what was paid for answers that later ones replaced.
    spent = context.read(overview.run_figures, (run_id,)).get(run_id, NO_FIGURES)
    st.caption(answer.escaped(f"Spent: {spend(spent.spent_usd, spent.unpriced)}"))


def _row(row: Any) -> dict[str, str]:
    votes = row["wins"] + row["losses"] + row["ties"]
    return {
        "variant": str(row["variant"]),
        "answers": f"{row['answers']:,}",
        "failed": f"{row['failed']:,}",
        "used again": f"{row['cached']:,}",
        "checks": "" if pd.isna(row["checks"]) else f"{row['checks']:.0%}",
        "time": _milliseconds(row["latency_p50_ms"]),
        "95% within": _milliseconds(row["latency_p95_ms"]),
        "$ per 1,000": "unknown"
        if pd.isna(row["cost_usd"])
        else dollars(float(row["cost_usd"]) * 1000).removeprefix("$"),
        "won-lost-same": f"{row['wins']}-{row['losses']}-{row['ties']}" if votes else "",
        "issues": f"{row['issues']:,}",
    }


def _steadiness(run_id: str) -> None:
    """How far answers to the same question agree, a row per variant."""
    found = context.read(steadiness, run_id)
    if found.empty:
        return
    st.subheader("How steady the answers are", anchor=False)
    shown = pd.DataFrame(
        {
            "variant": found["variant"],
            **{
                title: ["" if pd.isna(value) else f"{value:.0%}" for value in found[name]]
                for name, title in (
                    ("agreement", "same answer"), ("unanimous", "all the same"), ("best", "best"), ("mean", "mean"), ("worst", "worst")
                )
            },
            "spread": ["" if pd.isna(value) else f"{value:.2f}" for value in found["stability"]],
        }
    )  # fmt: skip
    st.dataframe(
        shown.drop(columns=[name for name in shown.columns if (shown[name] == "").all()]),
        hide_index=True,
        width="stretch",
        key="steadiness",
        column_config={
            "same answer": st.column_config.TextColumn(
                help="Share of the commonest of a case's answers; mean over cases"
            ),
            "all the same": st.column_config.TextColumn(help="Cases whose answers are all the same"),
            "best": st.column_config.TextColumn(help="Checks of the best of a case's answers; mean over cases"),
            "mean": st.column_config.TextColumn(help="Checks of all answers; mean over cases"),
            "worst": st.column_config.TextColumn(help="Checks of the worst of a case's answers; mean over cases"),
            "spread": st.column_config.TextColumn(help="Standard deviation of the checks within a case; 0 is steady"),
        },
    )


def _milliseconds(value: float) -> str:
    return "" if pd.isna(value) else milliseconds(float(value))


def _failures(run_id: str, summary: pd.DataFrame) -> None:
    if not summary["failed"].sum():
        return
    ids = dict(zip(summary["variant"], summary["variant_id"], strict=True))
    st.subheader("What failed", anchor=False)
    for number, row in enumerate(context.read(queries.failures, run_id).to_dict("records")):
        with st.container(border=True, key=f"failure-{number}", gap="xsmall"):
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(f"**{row['failed']:,} x {answer.escaped(str(row['error_type']))}**", width="content")
                st.markdown(answer.escaped(str(row["variant"])), width="content")
                variant = {"variant": ids[row["variant"]]} if row["variant"] in ids else {}
                context.link(
                    "compare", "See the rows", icon=":material/arrow_forward:", run=run_id, status="failed", **variant
                )
            answer.show(str(row["example"] or ""), key=f"failure-{number}-example")


def _check_errors(run_id: str) -> None:
    errors = context.read(queries.check_errors, run_id)
    if errors.empty:
        return
    st.subheader("Checks that failed themselves", anchor=False)
    for number, row in enumerate(errors.to_dict("records")):
        with st.container(border=True, key=f"check-{number}", gap="xsmall"):
            on = count(int(row["failed"]), "answer")
            st.markdown(f"**{answer.escaped(str(row['metric']))}** on {on}, which have no grade of it")
            answer.show(str(row["example"] or ""), key=f"check-{number}-example")


def _settings(status: RunStatus) -> None:
    with st.expander("What it ran with", icon=":material/tune:"):
        run = status.run
        for variant in context.read(queries.variants, tuple(run.variants)):
            st.markdown(f"**{answer.escaped(variant.label)}** with {answer.escaped(variant.model)}")
            if isinstance(variant.prompt, str):
                answer.show(variant.prompt, key=f"prompt-{variant.id[:8]}")
            elif variant.prompt is not None:
                slots = [{"role": part, "content": ""} if isinstance(part, str) else part for part in variant.prompt]
                answer.conversation(slots, f"prompt-{variant.id[:8]}")
            rest = {
                name: value
                for name in ("params", "fallbacks", "exemplars")
                if (value := variant.model_dump(mode="json")[name])
            }
            if rest:
                st.json(rest, expanded=1)
        facts = {"run": run.id, "commit": run.git_commit, **run.settings}
        st.json({name: value for name, value in facts.items() if value not in (None, [], {})}, expanded=1)


def _download(status: RunStatus) -> None:
    run_id, opened = status.run.id, context.store()
    answers = int(status.counts.get("completed") or status.counts.get("done") or 0)
    with st.popover("Download the answers", icon=":material/download:"):
        if answers > EXPORTED:
            st.caption("That many answers are written by the command line, and at once:")
            st.code(f"feedbackloop export answers.parquet --run {run_id[:8]}", language="bash")
            return
        for title, ending in _FORMATS.items():
            st.download_button(
                title,
                data=lambda ending=ending: _exported(opened, run_id, ending),  # type: ignore[misc]
                file_name=f"answers-{run_id[:8]}.{ending}",
                key=f"download-{ending}",
                on_click="ignore",
                width="stretch",
            )
        st.caption("In CSV, a text that a spreadsheet would run as a formula has an apostrophe in front.")


def _exported(store: Store, run_id: str, ending: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"answers.{ending}"
        export(store, file, run=run_id)
        return file.read_bytes()
