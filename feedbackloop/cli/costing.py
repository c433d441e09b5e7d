"""The command that says what was spent."""
# ruff: noqa: PLC0415, D301 - see the package's docstring; \b keeps the lines of examples as they are

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from feedbackloop.cli.options import StoreOption, open_store
from feedbackloop.wording import count, dollars

if TYPE_CHECKING:
    import pandas as pd

    from feedbackloop.findings.costs import Costs, Restated
    from feedbackloop.store import Store

_TITLES = {
    "calls": "calls",
    "answers": "answers",
    "failed": "failed",
    "input_tokens": "input",
    "cached_tokens": "cached",
    "cache_write_tokens": "cache-write",
    "output_tokens": "output",
    "reasoning_tokens": "reasoning",
    "unpriced": "unpriced",
}
_ALWAYS = {"calls", "answers", "input_tokens", "output_tokens"}


class By(StrEnum):
    """What the rows are."""

    DAY = "day"
    TASK = "task"
    VARIANT = "variant"
    PURPOSE = "purpose"
    MODEL = "model"


def cost(
    store: StoreOption = None,
    by: Annotated[
        By | None, typer.Option(help="What the rows are; days are UTC, as on invoices.", show_default="day")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="Only answers made since then: 2026-11-01, or 7d.", show_default="all"),
    ] = None,
    recompute: Annotated[
        bool,
        typer.Option("--recompute", help="What the recorded usage comes to by the prices of now; changes nothing."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Say what was spent, on what, and in which tokens.

    Every attempt that was charged for counts, in vain or not. A corrected price (under `prices` in feedbackloop.toml, or a newer genai-prices) shows with --recompute, beside what was reckoned when it was paid.

    \b
    Examples:
      [cyan]feedbackloop cost[/]
      [cyan]feedbackloop cost --by model --since 7d[/]
      [cyan]feedbackloop cost --recompute[/]
    """
    from feedbackloop.cli import drawing
    from feedbackloop.findings.costs import costs, recompute_costs

    moment = _moment(since)
    if recompute and by not in {None, By.MODEL}:
        raise typer.BadParameter("--recompute compares by model; leave --by out", param_hint="--by")
    opened, settings = open_store(store)
    if not recompute:
        found = costs(opened, by=(by or By.DAY).value, since=moment)
        if as_json:
            drawing.data(_facts(found))
        else:
            _show(found, opened.url, 0 if moment else _lost(opened))
        return
    restated = recompute_costs(opened, since=moment, settings=settings)
    if as_json:
        total = {"recorded_usd": restated.recorded_usd, "restated_usd": restated.restated_usd}
        drawing.data({"rows": drawing.records(restated.frame), "total": total})
    elif restated.frame.empty:
        drawing.say(f"{opened.url}: nothing was spent here yet.")
    else:
        _compare(restated)


def _show(found: Costs, url: str, lost: int) -> None:
    from feedbackloop.cli import drawing

    if found.frame.empty:
        drawing.say(f"{url}: nothing was spent here yet.")
    else:
        rows = _dicts(found.frame)
        total = found.frame.drop(columns=found.by).sum().to_dict()
        columns: list[tuple[str, list[str]]] = [
            (found.by, [*("-" if row[found.by] is None else str(row[found.by]) for row in rows), "total"])
        ]
        for name, title in _TITLES.items():
            if name in _ALWAYS or total[name]:
                columns.append((title, [f"{int(row[name]):,}" for row in [*rows, total]]))
        columns.append(("spent", [_known(row["spent_usd"], row["unpriced"]) for row in [*rows, total]]))
        drawing.sums(columns)
        drawing.blank()
        told = []
        if total["cached_tokens"] or total["cache_write_tokens"]:
            told.append("input: cached and cache-write included")
        if total["reasoning_tokens"]:
            told.append("output: reasoning included")
        if total["unpriced"]:
            told.append("unpriced: calls of which nobody knows what they cost, for want of a price or of their usage")
        if told:
            drawing.say("; ".join(told) + ".", "dim")
        drawing.say(repr(found))
    if lost:
        calls = f"{count(lost, 'call')} {'was' if lost == 1 else 'were'} under way when a run was interrupted"
        drawing.say(f"Not counted: {calls}; nobody knows what {'it' if lost == 1 else 'they'} cost.", "dim")
    if found.elsewhere:
        answers = count(found.elsewhere, "answer")
        drawing.say(f"Not counted: {answers} imported or replayed, which say {dollars(found.elsewhere_usd)}.", "dim")


def _lost(store: Store) -> int:
    """Calls that were under way when runs were interrupted."""
    from feedbackloop import queries
    from feedbackloop.queries.paid import lost_calls

    if not store.exists():
        return 0
    lost = lost_calls(store)
    going = {status.run.id for status in queries.runs(store) if status.state == "running"} if lost else set()
    return sum(one.calls for run_id, one in lost.items() if run_id not in going)


def _compare(found: Restated) -> None:
    from feedbackloop.cli import drawing

    rows = _dicts(found.frame)
    total: dict[Any, Any] = found.frame.drop(columns="model").sum().to_dict()
    listed = [*rows, total]
    columns = [
        ("model", [*(str(row["model"]) for row in rows), "total"]),
        ("calls", [f"{int(row['calls']):,}" for row in listed]),
        ("recorded", [_spent(row["recorded_usd"], row["unpriced_before"]) for row in listed]),
        ("by prices of now", [_spent(row["restated_usd"], row["unpriced_now"]) for row in listed]),
        ("difference", [_signed(float(row["difference_usd"])) for row in listed]),
    ]
    drawing.sums(columns)
    drawing.blank()
    if kept := sum(int(row["kept"]) for row in rows if row["recorded_usd"]):
        calls = count(kept, "call")
        drawing.say(f"For {calls} no price is known now; what was recorded of them stands.", "dim")
    drawing.say("The records stay as they are: every page and figure shows what was reckoned at the time.", "dim")


def _known(usd: float, unpriced: float) -> str:
    """What is known to be spent; not `$0` where nothing is known."""
    return "unknown" if unpriced and not usd else _dollars(float(usd))


def _spent(usd: float, unpriced: float) -> str:
    if not unpriced:
        return _dollars(float(usd))
    return f"{f'{_dollars(float(usd))} + ' if usd else ''}{int(unpriced):,} unpriced"


def _dollars(usd: float) -> str:
    """With as many digits in every row, so that they can be added up by eye."""
    return f"${usd:,.4f}"


def _signed(usd: float) -> str:
    return "-" if abs(usd) < 5e-5 else f"{'+' if usd > 0 else '-'}{_dollars(abs(usd))}"


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    if found := re.fullmatch(r"(\d{1,5})d", text.strip()):
        return datetime.now(UTC) - timedelta(days=int(found[1]))
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise typer.BadParameter(
            f"'{text}' is no date; write 2026-11-01, 2026-11-01T12:00 (UTC) or 7d", param_hint="--since"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _facts(found: Costs) -> dict[str, Any]:
    from feedbackloop.cli import drawing

    return {
        "by": found.by,
        "rows": drawing.records(found.frame),
        "total": {"spent_usd": found.spent_usd, "unpriced": found.unpriced},
        "elsewhere": {"answers": found.elsewhere, "usd": found.elsewhere_usd},
    }


def _dicts(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    return [dict(row) for row in frame.to_dict("records")]
