"""Small stores made to measure for tests of results: so many cases, these variants, these votes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import feedbackloop as fl
from feedbackloop.models import AIRequest, AIResponse, Case, Comparison, ProcessingStatus, Rating, Run, Task, Variant

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass
class Votes:
    """A store with one task, and what it takes to vote on its answers."""

    store: fl.Store
    variants: dict[str, Variant]
    cases: list[Case]
    runs: list[Run] = field(default_factory=list)
    answers: dict[tuple[int, int, str], AIResponse] = field(default_factory=dict)

    def vote(
        self,
        case: int,
        a: str,
        b: str,
        winner: str | None,
        *,
        rater: str = "Anna",
        run: int = 0,
        **more: Any,
    ) -> Comparison:
        """A blind vote by a person, unless said otherwise; not stored yet."""
        return Comparison(
            task="support",
            case_id=self.cases[case].id,
            response_a=self.answers[run, case, a].id,
            response_b=self.answers[run, case, b].id,
            variant_a=self.variants[a].id,
            variant_b=self.variants[b].id,
            **{
                "winner": winner,
                "rater": rater,
                "rater_kind": "human",
                "created_at": START + timedelta(days=30),
                "seconds": 20.0,
            }
            | more,
        )

    def votes(self, a: str, b: str, outcomes: Iterable[str], **more: Any) -> None:
        """Store a vote on each case in turn: a word for each, `a`, `b`, `tie` or `both_bad`."""
        self.store.append([self.vote(case, a, b, winner, **more) for case, winner in enumerate(outcomes)])

    def rate(self, case: int, variant: str, metric: str, *, run: int = 0, **more: Any) -> Rating:
        """A rating by a person, unless said otherwise; not stored yet."""
        return Rating(
            response_id=self.answers[run, case, variant].id,
            metric=metric,
            **{"rater": "Anna", "rater_kind": "human", "created_at": START + timedelta(days=30)} | more,
        )


def make(
    path: Path,
    names: Sequence[str] = ("terse", "steps"),
    *,
    cases: int = 40,
    segments: Sequence[str | None] = (None,),
    costs: dict[str, float | None] | None = None,
    criteria: Sequence[str] = (),
    runs: Sequence[Sequence[str]] | None = None,
    apart: timedelta = timedelta(days=7),
) -> Votes:
    """A task whose variants all answered all cases, in one run or in several.

    Args:
        path: the store's file.
        names: the variants; `steps:2` is a second version of `steps`.
        cases: how many.
        segments: taken in turn by the cases.
        costs: USD of an answer by variant; 0.001 unless given.
        criteria: of the task.
        runs: which variants ran in each; all in one unless given.
        apart: time from one run to the next.
    """
    store = fl.Store(path)
    variants = {
        name: Variant(
            name=name.partition(":")[0],
            model="recorded:x",
            params={"of": name},
            created_at=START + timedelta(minutes=n),
        )
        for n, name in enumerate(names)
    }
    rows = [
        Case(inputs={"input": f"question {n}"}, segment=segments[n % len(segments)], created_at=START)
        for n in range(cases)
    ]
    made = Votes(store, variants, rows)
    records: list[Any] = [Task(name="support", criteria=list(criteria), created_at=START), *variants.values(), *rows]
    for number, ran in enumerate(runs or [names]):
        at = START + number * apart
        run = Run(
            task="support", dataset="x.jsonl", fingerprint="0", variants=[variants[n].id for n in ran], created_at=at
        )
        made.runs.append(run)
        records.append(run)
        for place, case in enumerate(rows):
            for name in ran:
                moment = at + timedelta(seconds=place)
                request = AIRequest(
                    input="",
                    task="support",
                    run_id=run.id,
                    case_id=case.id,
                    variant_id=variants[name].id,
                    created_at=moment,
                )
                cost = (costs or {}).get(name, 0.001)
                response = AIResponse(
                    request_id=request.id,
                    output=f"answer {place} of {name}",
                    model_used="recorded:x",
                    latency_ms=100.0 + place,
                    cost_usd=cost,
                    spent_usd=cost,
                    status=ProcessingStatus.COMPLETED,
                    created_at=moment,
                )
                made.answers[number, place, name] = response
                records += [request, response]
    store.append(records)
    return made
