"""The answers of a run as data: JSON for programs, CSV for spreadsheets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from feedbackloop.improve.export.sinks import Csv
from feedbackloop.reports.answer import JudgedAnswer
from feedbackloop.reports.outcomes import Outcome, VariantOutcome

# Made once: a new encoder for each row would take longer than the row.
_encode = json.JSONEncoder(ensure_ascii=False).encode


def write_json(outcome: Outcome, file: Path, fail_under: float | None = None) -> None:
    """Write one JSON object: `run`, `shortfalls` (why it is not good enough), `variants` and `answers`."""
    run = outcome.run
    head = {
        "run": {
            "id": run.id,
            "task": run.task,
            "dataset": run.dataset,
            "created_at": run.created_at.isoformat(),
            "git_commit": run.git_commit,
            "repeats": run.repeats,
            "state": outcome.state,
            "answered": outcome.answered,
            "total": outcome.total,
            "threshold": outcome.mark,
        },
        "fail_under": fail_under,
        "shortfalls": list(outcome.shortfalls(fail_under)),
        "variants": [_variant(variant) for variant in outcome.variants],
    }
    with file.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(json.dumps(head, ensure_ascii=False, indent=1).removesuffix("\n}") + ',\n "answers": [')
        for number, answer in enumerate(outcome.answers()):
            stream.write(f"{',' if number else ''}\n  {_encode(_answer(answer))}")
        stream.write("\n ]\n}\n")


def write_csv(outcome: Outcome, file: Path, fail_under: float | None = None) -> None:  # noqa: ARG001 - rows alone
    """Write a row for each answer, with a column for what each check gave; formulas in other people's texts are disarmed."""
    columns = _columns(outcome.checks)
    sink = Csv(file)
    try:
        for answer in outcome.answers():
            sink.write(_row(outcome, answer, columns))
    finally:
        sink.close()


def _variant(variant: VariantOutcome) -> dict[str, Any]:
    return {**asdict(variant), "judged": variant.judged, "rate": variant.rate}


def _figures(answer: JudgedAnswer) -> dict[str, Any]:
    names = ("error_type", "error", "model_used", "latency_ms", "tokens_used", "cost_usd", "cached", "response_id")
    return {name: getattr(answer, name) for name in names}


def _cell(answer: JudgedAnswer) -> dict[str, Any]:
    names = ("case_id", "external_id", "segment", "variant", "variant_id", "repeat", "state")
    return {name: getattr(answer, name) for name in names}


def _answer(answer: JudgedAnswer) -> dict[str, Any]:
    return {
        **_cell(answer),
        "score": answer.score.score,
        "reasons": list(answer.reasons),
        "checks": [asdict(check) for check in answer.score.checks],
        "input": answer.input,
        "expected": answer.expected,
        "output": answer.output,
        **_figures(answer),
    }


def _columns(checks: Sequence[str]) -> list[str]:
    """A column for each check, of one name or not."""
    named: list[str] = []
    for check in checks:
        column, number = f"check_{check}", 2
        while column in named:
            column, number = f"check_{check}_{number}", number + 1
        named.append(column)
    return named


def _row(outcome: Outcome, answer: JudgedAnswer, columns: Sequence[str]) -> dict[str, Any]:
    checks = zip(columns, answer.score.checks, strict=True)
    return {
        "run_id": outcome.run.id,
        **_cell(answer),
        "score": answer.score.score,
        "reasons": "; ".join(answer.reasons),
        "input": answer.input,
        "expected": answer.expected,
        "output": answer.output,
        **{column: check.value for column, check in checks},
        **_figures(answer),
    }
