"""A run in Markdown, as a comment on a pull request: how the variants did, and what did not pass."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

from feedbackloop.findings.wording import percent, short
from feedbackloop.reports.answer import JudgedAnswer
from feedbackloop.reports.outcomes import Outcome, VariantOutcome
from feedbackloop.wording import count, dollars, file_name, milliseconds, spend

LISTED = 20
"""Answers that are listed; GitHub takes 65,536 characters for a comment, and a reader fewer."""

_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def write_markdown(outcome: Outcome, file: Path, fail_under: float | None = None) -> None:
    """Write what `markdown` says."""
    file.write_text(markdown(outcome, fail_under), encoding="utf-8", newline="\n")


def markdown(outcome: Outcome, fail_under: float | None = None) -> str:
    """The verdict, a table of the variants with their pass rate, cost and 95th percentile, and the first answers that did not pass.

    Whatever comes from models, files and people stands in code spans, where it can neither link, nor mention, nor draw anything.
    """
    run = outcome.run
    lines = [f"### {heading(outcome, fail_under)}", ""]
    shortfalls = outcome.shortfalls(fail_under)
    lines += [*(f"- {code(reason, table=False)}" for reason in shortfalls), ""] if shortfalls else []
    lines += _table(outcome)
    missed = sum(variant.failed + variant.errors for variant in outcome.variants)
    if missed:
        lines += ["", *_missed(outcome, missed)]
    facts = [
        f"run {code(run.id[:8], table=False)}",
        f"task {code(run.task, table=False)}",
        f"dataset {code(file_name(run.dataset), table=False)}",
    ]
    facts += [f"commit {code(run.git_commit[:12], table=False)}"] if run.git_commit else []
    if not outcome.complete:
        of = "" if outcome.total is None else f" of {outcome.total:,}"
        facts.append(f"**{outcome.state}** at {outcome.answered:,}{of}")
    return "\n".join([*lines, "", ", ".join(facts), ""])


def heading(outcome: Outcome, fail_under: float | None = None) -> str:
    """What came of it, in a few words that hold nobody else's."""
    passed, judged = (sum(getattr(variant, name) for variant in outcome.variants) for name in ("passed", "judged"))
    told = f"{passed:,} of {count(judged, 'answer')} passed" if outcome.checks else count(outcome.answered, "answer")
    if outcome.shortfalls(fail_under):
        return f"Not good enough: {told}"
    return f"Good enough: {told}" if fail_under is not None else told


def code(text: str, longest: int = 200, *, table: bool = True) -> str:
    """Somebody else's text as a code span on one line.

    Args:
        text: the text.
        longest: cut at so many characters.
        table: it stands in a table, where a bar would end the cell even so.
    """
    flat = short(_OBEYED.sub("\ufffd", text), longest) or " "
    if table:
        flat = re.sub(r"\\*\|", r"\\|", flat)
    fence = "`" * (max((len(ticks) for ticks in re.findall("`+", flat)), default=0) + 1)
    pad = " " if "`" in (flat[0], flat[-1]) else ""
    return f"{fence}{pad}{flat}{pad}{fence}"


def columns(outcome: Outcome) -> list[tuple[str, list[str]]]:
    """The figures of the variants as titles and texts, those left out that say nothing of any of them."""
    variants = outcome.variants
    found: list[tuple[str, list[str]]] = []
    if outcome.checks:
        found.append(("passed", [_rate(variant) for variant in variants]))
        found.append(("score", ["-" if variant.score is None else f"{variant.score:.2f}" for variant in variants]))
    found.append(("answers", [f"{variant.answers - variant.errors:,}" for variant in variants]))
    found.append(("never came", [f"{variant.errors:,}" for variant in variants]))
    if outcome.checks and any(variant.unchecked for variant in variants):
        found.append(("not checked", [f"{variant.unchecked:,}" for variant in variants]))
    if any(variant.agreement is not None for variant in variants):
        found.append(("same answers", [_share(variant.agreement) for variant in variants]))
    if any(variant.stability is not None for variant in variants):
        found.append(
            ("spread", ["-" if variant.stability is None else f"{variant.stability:.2f}" for variant in variants])
        )
    found.append(("median time", [milliseconds(variant.latency_p50_ms) for variant in variants]))
    found.append(("p95", [milliseconds(variant.latency_p95_ms) for variant in variants]))
    per_thousand = [None if variant.cost_usd is None else variant.cost_usd * 1000 for variant in variants]
    found.append(("cost of 1,000", [dollars(amount) for amount in per_thousand]))
    found.append(("spent", [spend(variant.spent_usd, variant.unpriced) for variant in variants]))
    return found


def _rate(variant: VariantOutcome) -> str:
    return "-" if variant.rate is None else f"{percent(variant.rate, 1)} ({variant.passed:,} of {variant.judged:,})"


def _share(value: float | None) -> str:
    return "-" if value is None else percent(value)


def _table(outcome: Outcome) -> list[str]:
    titles = columns(outcome)
    rows = [
        " | ".join([code(variant.variant, 60), *(cells[place] for _, cells in titles)])
        for place, variant in enumerate(outcome.variants)
    ]
    head = " | ".join(["variant", *(title for title, _ in titles)])
    return [f"| {head} |", f"|---|{'---:|' * len(titles)}", *(f"| {row} |" for row in rows)]


def _missed(outcome: Outcome, missed: int) -> list[str]:
    shown = list(islice((answer for answer in outcome.answers() if answer.state in ("failed", "error")), LISTED))
    title = f"{count(missed, 'answer')} did not pass" + (f", the first {LISTED}" if missed > LISTED else "")
    lines = [f"<details><summary>{title}</summary>", "", "| variant | case | why |", "|---|---|---|"]
    lines += [
        f"| {code(answer.variant, 60)} | {_case(answer)} | {code('; '.join(answer.reasons))} |" for answer in shown
    ]
    return [*lines, "", "</details>"]


def _case(answer: JudgedAnswer) -> str:
    return code(answer.name) + (f" #{answer.repeat + 1}" if answer.repeat else "")
