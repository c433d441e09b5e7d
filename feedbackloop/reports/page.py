"""A run as one page that needs nothing else: no script, no address, nothing that runs; light or dark as the reader's system is."""

from __future__ import annotations

import html
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from feedbackloop.findings.wording import percent, short
from feedbackloop.reports.answer import JudgedAnswer, State
from feedbackloop.reports.markdown import columns, heading
from feedbackloop.reports.outcomes import Outcome, VariantOutcome
from feedbackloop.wording import count, dollars, file_name, milliseconds

LISTED = 500
"""Answers of a variant and a state that stand on the page; a browser bears some thousands."""
LONGEST = 20_000
"""Characters of a text that stand on the page."""

_TEMPLATE = Path(__file__).with_name("page.html")
_NOT_HTML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_STATES: dict[State, str] = {
    "failed": "did not pass",
    "error": "never came",
    "unchecked": "not checked",
    "passed": "passed",
}
_MARKS: dict[State, str] = {"failed": "✗", "error": "!", "unchecked": "?", "passed": "✓"}


def write_page(outcome: Outcome, file: Path, fail_under: float | None = None) -> None:
    """Write the run as a page: the verdict, the variants' figures, each check, and the answers, those that did not pass first."""
    title = f"{outcome.run.task}: {heading(outcome, fail_under)}"
    filled = {"TITLE": _text(title), "BODY": "\n".join(_body(outcome, fail_under))}
    template = _TEMPLATE.read_text(encoding="utf-8")
    # In one go: what is put in may itself look like a place to be filled.
    page = re.sub(r"\{\{(TITLE|BODY)\}\}", lambda place: filled[place[1]], template)
    file.write_text(page, encoding="utf-8", newline="\n")


def _body(outcome: Outcome, fail_under: float | None) -> Iterator[str]:
    run = outcome.run
    yield f"<h1>{_text(run.task)}</h1>"
    facts = [file_name(run.dataset), f"{run.created_at:%d %B %Y, %H:%M} UTC", f"run {run.id[:8]}"]
    facts += [f"commit {run.git_commit[:12]}"] if run.git_commit else []
    facts += [f"each case asked {run.repeats} times"] if run.repeats > 1 else []
    if not outcome.complete:
        of = "" if outcome.total is None else f" of {outcome.total:,}"
        facts.append(f"{outcome.state} at {outcome.answered:,}{of}")
    yield f'<p class="quiet">{_text(" · ".join(facts))}</p>'
    yield from _verdict(outcome, fail_under)
    yield from _variants(outcome)
    yield from _checks(outcome)
    yield from _answers(outcome)


def _verdict(outcome: Outcome, fail_under: float | None) -> Iterator[str]:
    shortfalls = outcome.shortfalls(fail_under)
    kind = "verdict bad" if shortfalls else "verdict"
    rule = "An answer passes if all its checks do."
    if outcome.mark is not None:
        rule = (
            f"An answer passes with a weighted score of {outcome.mark:g} or more, if nothing that is required failed."
        )
    if not outcome.checks:
        rule = "No checks were made."
    reasons = "".join(f"<li>{_text(reason)}</li>" for reason in shortfalls)
    yield f'<div class="{kind}"><b>{_text(heading(outcome, fail_under))}</b>{f"<ul>{reasons}</ul>" if reasons else ""}</div>'
    yield f'<p class="quiet">{_text(rule)}</p>'


def _variants(outcome: Outcome) -> Iterator[str]:
    titles = columns(outcome)
    head = "".join(f"<th>{_text(title)}</th>" for title, _ in titles)
    yield f'<div class="scroll"><table><thead><tr><th>variant</th>{head}</tr></thead><tbody>'
    for place, variant in enumerate(outcome.variants):
        cells = "".join(
            f"<td>{_text(texts[place])}{_bar(variant) if title == 'passed' else ''}</td>" for title, texts in titles
        )
        yield f"<tr><td><b>{_text(variant.variant)}</b></td>{cells}</tr>"
    yield "</tbody></table></div>"


def _bar(variant: VariantOutcome) -> str:
    return "" if variant.rate is None else f'<span class="bar"><i style="width: {variant.rate * 100:.1f}%"></i></span>'


def _checks(outcome: Outcome) -> Iterator[str]:
    if not outcome.checks:
        return
    head = "".join(f"<th>{_text(variant.variant)}</th>" for variant in outcome.variants)
    yield f'<h2>Checks</h2><div class="scroll"><table><thead><tr><th>check</th>{head}</tr></thead><tbody>'
    for place, name in enumerate(outcome.checks):
        counts = [variant.checks[place] for variant in outcome.variants]
        required = " <span class='quiet'>required</span>" if any(one.required for one in counts) else ""
        cells = "".join(
            f"<td>{percent(one.passed / one.judged) if one.judged else '-'} ({one.passed:,} of {one.judged:,})"
            f"{f', {one.errors:,} not computed' if one.errors else ''}</td>"
            for one in counts
        )
        yield f"<tr><td>{_text(name)}{required}</td>{cells}</tr>"
    yield "</tbody></table></div>"


def _answers(outcome: Outcome) -> Iterator[str]:
    kept: dict[tuple[str, State], list[JudgedAnswer]] = defaultdict(list)
    for answer in outcome.answers():
        known = kept[answer.variant_id, answer.state]
        if len(known) < LISTED:
            known.append(answer)
    for variant in outcome.variants:
        yield f"<h2>Answers of {_text(variant.variant)}</h2>"
        for state, words in _STATES.items():
            total = _number(variant, state)
            if total:
                yield from _group(outcome, kept[variant.variant_id, state], total, state, words)


def _number(variant: VariantOutcome, state: State) -> int:
    return {"failed": variant.failed, "error": variant.errors, "unchecked": variant.unchecked}.get(
        state, variant.passed
    )


def _group(outcome: Outcome, answers: Sequence[JudgedAnswer], total: int, state: State, words: str) -> Iterator[str]:
    opened = " open" if state in ("failed", "error") or (state == "unchecked" and not outcome.checks) else ""
    # Without checks nothing could be checked, which need not be said of each.
    title = (
        count(total, "answer") if state == "unchecked" and not outcome.checks else f"{count(total, 'answer')} {words}"
    )
    yield f'<details class="group"{opened}><summary>{title}</summary>'
    for answer in answers:
        yield _answer(answer, repeated=outcome.run.repeats > 1)
    if total > len(answers):
        yield f'<p class="quiet">{total - len(answers):,} more are left out here; a report in .csv or .json holds all.</p>'
    yield "</details>"


def _answer(answer: JudgedAnswer, *, repeated: bool) -> str:
    again = f" #{answer.repeat + 1}" if repeated else ""
    why = f' <span class="why">{_text(short("; ".join(answer.reasons), 160))}</span>' if answer.reasons else ""
    mark = f'<span class="mark {answer.state}" title="{_STATES[answer.state]}">{_MARKS[answer.state]}</span>'
    parts = [_part("Input", answer.input)]
    if answer.expected is not None:
        parts.append(_part("Expected", _value(answer.expected)))
    if answer.output or answer.state != "error":
        parts.append(_part("Answer", answer.output))
    if answer.state == "error":
        parts.append(_part("Error", "\n".join(answer.reasons)))
    checks = "".join(
        f'<li class="{"passed" if check.passed else "failed"}">{"✓" if check.passed else "✗"} '
        f"{_text(check.name if check.passed else check.told)}</li>"
        for check in answer.score.checks
        if check.passed is not None
    )
    parts += [f'<dt>Checks</dt><dd><ul class="checks">{checks}</ul></dd>'] if checks else []
    parts.append(f'<dt>Figures</dt><dd class="quiet">{_text(_figures(answer))}</dd>')
    return (
        f"<details><summary>{mark}{_text(answer.name)}{again}{why}</summary>"
        f'<div class="inside"><dl>{"".join(parts)}</dl></div></details>'
    )


def _figures(answer: JudgedAnswer) -> str:
    told = [answer.model_used] if answer.model_used != "none" else []
    told += [milliseconds(answer.latency_ms)] if answer.latency_ms is not None else []
    told += [count(answer.tokens_used, "token")] if answer.tokens_used is not None else []
    told += [dollars(answer.cost_usd)] if answer.cost_usd is not None else []
    told += [f"score {answer.score.score:.2f}"] if answer.score.score is not None else []
    return " · ".join([*told, *(["from the cache"] if answer.cached else []), f"answer {answer.response_id[:8]}"])


def _part(title: str, text: str) -> str:
    cut = "" if len(text) <= LONGEST else f"\n… and {len(text) - LONGEST:,} characters more"
    return f'<dt>{title}</dt><dd><pre dir="auto">{_text(text[:LONGEST])}{cut}</pre></dd>'


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)


def _text(text: str) -> str:
    """Somebody's text as text: nothing in it is markup, and what no page may hold is marked."""
    return html.escape(_NOT_HTML.sub("\ufffd", text))
