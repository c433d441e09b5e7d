"""Tables and sentences on the terminal. Whatever came from models or files is shown as plain text, never as markup."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import pandas as pd
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from feedbackloop.cli.wording import printable
from feedbackloop.doctor import Check
from feedbackloop.improve.receipt import guard_cells
from feedbackloop.models import Decision
from feedbackloop.queries import RunStatus
from feedbackloop.wording import ago, batches, count, dollars, file_name, milliseconds, spend

_STATES = {"finished": "green", "running": "cyan", "stopped": "yellow", "interrupted": "yellow"}
_MARKS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "problem": ("problem", "bold red")}


class _Output(Console):
    """A console that falls silent when nobody reads it any more (`| head`): a run goes on all the same."""

    def on_broken_pipe(self) -> None:
        """Send what is still to come nowhere."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def console() -> Console:
    """Standard output as it is now."""
    return _Output(file=sys.stdout, highlight=False, emoji=False)


def say(text: str, style: str = "") -> None:
    """A sentence. It is not broken where output goes to a file, so that lines can be searched for."""
    out = console()
    out.print(Text(printable(text), style=style), soft_wrap=not out.is_terminal)


def data(value: Any) -> None:
    """The same for programs, as JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=False))  # noqa: T201 - not the console's: nothing of it may be broken into lines


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A table for `data`: a mapping for each row, null where a figure is not known."""
    rows: list[dict[str, Any]] = json.loads(frame.to_json(orient="records", double_precision=12))
    return rows


def blank() -> None:
    """An empty line."""
    console().print()


def steps(*commands: tuple[str, str]) -> None:
    """What can be done next: commands, each with what it is good for, as they can be pasted into a shell."""
    shown = [(printable(command), purpose) for command, purpose in commands]
    out = console()
    widest = max(len(command) for command, _ in shown)
    if any(widest + len(purpose) + 7 > out.width for _, purpose in shown):
        widest = 0
    out.print(Text("Next:"))
    for command, purpose in shown:
        line = Text("  ")
        line.append(command.ljust(widest), style="cyan")
        line.append(f"   # {purpose}", style="dim")
        out.print(line, soft_wrap=True)


def reading(run: str, same_store: str) -> list[tuple[str, str]]:
    """The steps from a run to its answers: by eye and by vote, one by one, all in a table."""
    return [
        (f"feedbackloop app{same_store}", "compare and rate the answers in the browser"),
        (f"feedbackloop report {run} -o report.html{same_store}", "which answers pass, on one page"),
        (f"feedbackloop export answers.csv --run {run}{same_store}", "every answer, for a spreadsheet"),
    ]


def results(summary: pd.DataFrame) -> None:
    """What a run came to, a row for each variant. Columns that would be empty for all of them are left out."""
    rows = summary.to_dict("records")
    table = _table()
    table.add_column("variant", overflow="fold", min_width=8)
    columns: list[tuple[str, list[str]]] = [
        ("answers", [f"{row['answers']:,}" for row in rows]),
        ("failed", [f"{row['failed']:,}" for row in rows]),
    ]
    if any(row["cached"] for row in rows):
        columns.append(("reused", [f"{row['cached']:,}" for row in rows]))
    if not all(_missing(row["checks"]) for row in rows):
        columns.append(("checks", ["-" if _missing(row["checks"]) else f"{row['checks']:.0%}" for row in rows]))
    columns.append(("median time", [milliseconds(_number(row["latency_p50_ms"])) for row in rows]))
    columns.append(("$/1,000", [_per_thousand(row) for row in rows]))
    if any(row["wins"] + row["losses"] + row["ties"] for row in rows):
        columns.append(("won-lost-tied", [f"{row['wins']}-{row['losses']}-{row['ties']}" for row in rows]))
    if any(row["issues"] for row in rows):
        columns.append(("issues", [f"{row['issues']:,}" for row in rows]))
    for title, _ in columns:
        table.add_column(title, justify="right", no_wrap=True)
    for number, row in enumerate(rows):
        failed = "red" if row["failed"] else ""
        cells = [Text(values[number], style=failed if title == "failed" else "") for title, values in columns]
        table.add_row(Text(printable(row["variant"]), style="bold"), *cells)
    console().print(table)


def steadiness(found: pd.DataFrame) -> None:
    """How far answers to the same question agree, a row for each variant that was asked several times."""
    if found.empty:
        return
    blank()
    say("Cases that were asked several times:")
    table = _table()
    table.add_column("variant", overflow="fold", min_width=8)
    titles = {"agreement": "same answer", "unanimous": "all the same", "best": "best", "mean": "mean", "worst": "worst"}
    shown = {name: title for name, title in titles.items() if found[name].notna().any()}
    for title in shown.values():
        table.add_column(title, justify="right", no_wrap=True)
    checked = bool(found["stability"].notna().any())
    if checked:
        table.add_column("spread", justify="right", no_wrap=True)
    for row in found.to_dict("records"):
        cells = ["-" if _missing(row[name]) else f"{row[name]:.0%}" for name in shown]
        cells += ["-" if _missing(row["stability"]) else f"{row['stability']:.2f}"] if checked else []
        table.add_row(Text(printable(row["variant"]), style="bold"), *cells)
    console().print(table)
    told = "same answer: share of the commonest one; all the same: share of such cases"
    if checked:
        told += "; best, mean, worst: of a case's checks; spread: their standard deviation, 0 is steady"
    say(f"{told}.", "dim")


def legend(summary: pd.DataFrame) -> None:
    """What the columns of `results` mean, as far as they do not say it themselves."""
    told = ["median time: of an answer", "$/1,000: cost of so many answers"]
    if summary["checks"].notna().any():
        told.insert(0, "checks: share passed")
    if (summary["wins"] + summary["losses"] + summary["ties"]).any():
        told.append("won-lost-tied: in blind votes")
    if summary["issues"].any():
        told.append("issues: faults that raters named")
    say("; ".join(told) + ".", "dim")


def spent_in_all(summary: pd.DataFrame) -> str:
    """What a run's answers cost together."""
    return spend(float(summary["spent_usd"].fillna(0.0).astype(float).sum()), int(summary["unpriced"].sum()))


def check_errors(found: pd.DataFrame) -> None:
    """A line for each check that raised: its answers have no grade."""
    for row in found.to_dict("records"):
        failed = count(int(row["failed"]), "answer")
        say(f"Check {row['metric']} failed itself on {failed}: {printable(row['example'], 200)}", "yellow")


def without_price(summary: pd.DataFrame) -> list[str]:
    """Variants that answered at a price that nobody knows."""
    return [str(row["variant"]) for row in summary.to_dict("records") if row["answers"] and _missing(row["cost_usd"])]


def without_answers(summary: pd.DataFrame) -> list[str]:
    """Variants of which everything failed that they were asked."""
    return [f"'{row['variant']}'" for row in summary.to_dict("records") if row["failed"] and not row["answers"]]


def failures(found: pd.DataFrame) -> None:
    """What failed, a row for each kind and variant, with one of the reasons."""
    if found.empty:
        return
    table = _table()
    table.add_column("failed", justify="right", style="red")
    table.add_column("variant", overflow="fold")
    table.add_column("kind", no_wrap=True)
    table.add_column("for example", overflow="fold")
    for row in found.to_dict("records"):
        example = "" if row["example"] is None else printable(row["example"], 200)
        table.add_row(
            f"{row['failed']:,}", *(Text(printable(row[name])) for name in ("variant", "error_type")), Text(example)
        )
    console().print(table)


def runs(listed: Sequence[RunStatus], now: datetime) -> None:
    """The list of runs."""
    table = _table()
    table.add_column("run", no_wrap=True)
    table.add_column("begun", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("done", justify="right", no_wrap=True)
    table.add_column("failed", justify="right", no_wrap=True)
    table.add_column("task, dataset and variants", overflow="fold")
    for status in listed:
        failed = int(status.counts.get("failed", 0))
        what = Text(printable(f"{status.run.task} on {file_name(status.run.dataset)}"))
        what.append(f"\n{printable(', '.join(status.variants))}", style="dim")
        if told := waiting(status):
            what.append(f"\n{printable(told)}")
        table.add_row(
            Text(status.run.id[:8], style="cyan"),
            ago(status.run.created_at, now),
            Text(status.state, style=_STATES[status.state]),
            done(status),
            Text(f"{failed:,}", style="red" if failed else ""),
            what,
        )
    console().print(table)


def done(status: RunStatus) -> str:
    """How far a run has come."""
    answered = int(status.counts.get("done", status.counts.get("completed", 0)))
    total = status.counts.get("total")
    return f"{answered:,}" if total is None else f"{answered:,}/{int(total):,}"


def waiting(status: RunStatus) -> str:
    """The batches that an unfinished run waits for."""
    return "" if status.state == "finished" else batches(status.counts.get("batches") or ())


def pairs(rows: Iterable[tuple[str, str]]) -> None:
    """Names and what they stand for, one below the other."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(printable(value)))
    console().print(Padding(table, (0, 0, 0, 2)))


def history(rows: Iterable[tuple[str, str, str]]) -> None:
    """What was live: its name, since when, and who answers by it, which may be long."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console().print(Padding(table, (0, 0, 0, 2)))


def checks(found: Sequence[Check]) -> None:
    """What `doctor` found."""
    table = _table()
    table.add_column("check", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("found", overflow="fold")
    for check in found:
        mark, style = _MARKS[check.state]
        told = Text(printable(check.found))
        if check.advice:
            told.append(f"\n{printable(check.advice)}", style="dim")
        table.add_row(Text(printable(check.name)), Text(mark, style=style), told)
    console().print(table)


def sums(columns: Sequence[tuple[str, Sequence[str]]]) -> None:
    """A table of figures: titles with their cells; the first column names the rows, and the last row is the total."""
    table = _table()
    for number, (title, _) in enumerate(columns):
        table.add_column(title, justify="right" if number else "left", no_wrap=bool(number), overflow="fold")
    lines = list(zip(*(cells for _, cells in columns), strict=True))
    for number, cells in enumerate(lines, 1):
        style = "bold" if number == len(lines) else ""
        table.add_row(*(Text(printable(cell), style=style) for cell in cells))
    console().print(table)


def counted(counts: dict[str, int]) -> str:
    """The loop as numbers."""
    answers = count(counts["answers"], "answer")
    if counts["failed"]:
        answers += f" ({counts['failed']:,} failed)"
    return ", ".join(
        [
            count(counts["runs"], "run"),
            count(counts["cases"], "case"),
            answers,
            count(counts["votes"], "vote"),
            count(counts["decisions"], "decision"),
        ]
    )


def _table() -> Table:
    return Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))


def _per_thousand(row: Mapping[Any, Any]) -> str:
    if not row["answers"]:
        return "-"
    return "unknown" if _missing(row["cost_usd"]) else dollars(float(row["cost_usd"]) * 1000).removeprefix("$")


def _number(value: Any) -> float | None:
    return None if _missing(value) else float(value)


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def guards(decision: Decision) -> None:
    """What a candidate may not make worse, a row for each."""
    if not decision.guards:
        return
    table = _table()
    for title in ("guard", "baseline", "candidate", "change (95% bounds)", "allowed", ""):
        table.add_column(title)
    for name, guard in decision.guards.items():
        table.add_row(*guard_cells(name, guard))
    console().print(table)
