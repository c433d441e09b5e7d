"""Answers and votes made elsewhere as the records that the store keeps, with ids by their content."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from feedbackloop import queries
from feedbackloop.identity import content_id
from feedbackloop.importers.intake import Answer, Passage, Placed, Vote
from feedbackloop.importers.mapping import INPUT_COLUMNS
from feedbackloop.models import (
    AIRequest,
    AIResponse,
    Attempt,
    Case,
    Comparison,
    ProcessingStatus,
    Rating,
    Record,
    Run,
    RunEvent,
    Task,
    Variant,
)
from feedbackloop.store import Store

BATCH = 2_000
"""Answers written at a time: what an interruption can cost, and what is in memory."""


def write(store: Store, run: Run, variants: Iterable[Variant], passage: Passage) -> int:
    """Store a run and all that a passage places; returns how many rows were new."""
    records: list[Record] = [run, _event(run, "started", pid=os.getpid())]
    if queries.task(store, run.task) is None:
        records.append(Task(name=run.task))
    stored = {variant.id for variant in queries.variants(store, run.variants)}
    records += [variant for variant in variants if variant.id not in stored]
    written: set[str] = set()
    new = done = failed = 0
    stream = passage.placed()
    batch = list(itertools.islice(stream, BATCH))
    while batch:
        cases: dict[str, Case] = {}
        for placed in batch:
            case = placed.answer.case if isinstance(placed, Placed) else placed
            if isinstance(case, Case) and case.id not in written:
                cases.setdefault(case.id, case)
            if isinstance(placed, Placed):
                records += _of_answer(placed, run)
                done += 1
                failed += placed.answer.failed
            elif isinstance(placed, Vote):
                records += _of_vote(placed, run)
        written.update(cases)
        records += _unknown(store, cases)
        batch = list(itertools.islice(stream, BATCH))
        if not batch:
            counts = {"done": done, "completed": done - failed, "failed": failed, "cached": 0, "total": done}
            records.append(_event(run, "finished", counts=counts))
        new += store.append(records, new_only=True)
        records = []
    return new


def write_cases(store: Store, passage: Passage) -> int:
    """Store the cases of a file that has no answers; returns how many rows were new."""
    new = 0
    stream = (placed for placed in passage.placed() if isinstance(placed, Case))
    while batch := {case.id: case for case in itertools.islice(stream, BATCH)}:
        new += store.append(_unknown(store, batch))
    return new


def _event(run: Run, kind: str, **fields: Any) -> RunEvent:
    return RunEvent.model_validate({"id": content_id(run.id, kind), "run_id": run.id, "kind": kind, **fields})


def _request_id(placed: Placed, run: Run) -> str:
    return content_id("request", run.id, *placed.identity)


def _response_id(placed: Placed, run: Run) -> str:
    return content_id("response", _request_id(placed, run))


def _of_answer(placed: Placed, run: Run) -> list[Record]:
    answer = placed.answer
    at = answer.at or run.created_at
    request = AIRequest(
        id=_request_id(placed, run),
        input=_input(answer.case),
        model=answer.variant.model,
        created_at=at,
        task=run.task,
        run_id=run.id,
        case_id=answer.case.id,
        variant_id=answer.variant.id,
        messages=list(answer.messages),
        params=answer.variant.params,
        repeat=placed.repeat,
    )
    figures = dict(answer.figures)
    failed = answer.failed
    latency, cost = figures.pop("latency_ms", None), figures.pop("cost_usd", None)
    tokens = (figures.get("input_tokens"), figures.get("output_tokens"))
    response = AIResponse(
        id=_response_id(placed, run),
        request_id=request.id,
        output=answer.output,
        model_used="none" if failed else answer.variant.model,
        status=ProcessingStatus.FAILED if failed else ProcessingStatus.COMPLETED,
        # A failure has no successful attempt; what was waited and paid for it is in the totals.
        latency_ms=None if failed else latency,
        total_ms=latency,
        cost_usd=None if failed else cost,
        # Whoever made it has paid for it: nothing is spent here.
        spent_usd=0.0,
        attempts=[_in_vain(answer, at, latency, cost)] if failed and cost is not None else [],
        tokens_used=None if failed or None in tokens else sum(t for t in tokens if t is not None),
        metadata={"repaired": answer.repaired} if answer.repaired else {},
        created_at=at,
        **figures,
    )
    ratings = [
        Rating(
            id=content_id("said", response.id, number, said.metric, said.rater),
            response_id=response.id,
            created_at=at,
            **{name: getattr(said, name) for name in said.__dataclass_fields__},
        )
        for number, said in enumerate(answer.said)
    ]
    return [request, response, *ratings]


def _in_vain(answer: Answer, at: datetime, latency_ms: float | None, cost_usd: float) -> Attempt:
    """What a failed answer cost, which has no cost of its own."""
    return Attempt(
        model=answer.variant.model,
        start=at,
        latency_ms=latency_ms,
        cost_usd=cost_usd,
        error_type=answer.figures.get("error_type"),
        error=answer.figures.get("error"),
    )


def _of_vote(vote: Vote, run: Run) -> list[Record]:
    duel = vote.duel
    at = duel.at or run.created_at
    id_ = content_id("vote", run.id, vote.identity)
    found: list[Record] = []
    judge_response_id = None
    if duel.judged is not None:
        request = AIRequest(
            id=content_id("judge request", id_),
            input=_input(duel.a.case),
            model=duel.rater,
            purpose="judge",
            task=run.task,
            case_id=duel.a.case.id,
            # It belongs to no run, and was paid for elsewhere all the same.
            metadata={"imported": run.id},
            created_at=at,
        )
        judge_response_id = content_id("judge response", id_)
        failed = duel.judged.error is not None
        response = AIResponse(
            id=judge_response_id,
            request_id=request.id,
            output=duel.judged.output,
            model_used="none" if failed else duel.rater,
            status=ProcessingStatus.FAILED if failed else ProcessingStatus.COMPLETED,
            latency_ms=None if failed else duel.judged.latency_ms,
            total_ms=duel.judged.latency_ms,
            cost_usd=None if failed else duel.judged.cost_usd,
            spent_usd=duel.judged.cost_usd,
            error=duel.judged.error,
            metadata=dict(duel.judged.metadata),
            created_at=at,
        )
        found += [request, response]
    if duel.winner is not None:
        comparison = Comparison(
            id=id_,
            task=run.task,
            case_id=duel.a.case.id,
            response_a=_response_id(vote.a, run),
            response_b=_response_id(vote.b, run),
            variant_a=duel.a.variant.id,
            variant_b=duel.b.variant.id,
            winner=duel.winner,
            rater=duel.rater,
            rater_kind=duel.rater_kind,
            judge_response_id=judge_response_id,
            blind=duel.blind,
            comment=duel.comment,
            created_at=at,
        )
        found.append(comparison)
    return found


def _unknown(store: Store, cases: dict[str, Case]) -> Iterator[Case]:
    """The cases that the store has not, and new editions of those of which this file knows more."""
    query = "SELECT * FROM cases WHERE id IN (SELECT unnest(?)) ORDER BY created_at"
    stored = {case.id: case for case in store.load(Case, query, [list(cases)])} if store.exists() else {}
    for case in cases.values():
        known = stored.get(case.id)
        if known is None:
            yield case
            continue
        details = {name: getattr(case, name) for name in ("external_id", "expected", "segment", "metadata")}
        more = {
            name: value for name, value in details.items() if value not in (None, {}) and value != getattr(known, name)
        }
        if more:
            yield known.model_copy(update={**more, "created_at": case.created_at})


def _input(case: Case) -> str:
    for name in (*INPUT_COLUMNS, *(name.title() for name in INPUT_COLUMNS)):
        if isinstance(case.inputs.get(name), str):
            return str(case.inputs[name])
    if case.inputs or not isinstance(case.messages[-1].get("content"), str):
        return json.dumps(case.inputs or case.messages, ensure_ascii=False)
    return str(case.messages[-1]["content"])
