"""What came of a run by its checks: which answers pass, a variant's share of them, and where that falls short of what is wanted."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from feedbackloop import queries
from feedbackloop.findings.wording import percent
from feedbackloop.models import Run
from feedbackloop.queries import RunState
from feedbackloop.queries.judged import write_judged
from feedbackloop.queries.repeats import steadiness
from feedbackloop.reports.answer import JudgedAnswer, State, read_answer
from feedbackloop.reports.checks import Checks, checks_of
from feedbackloop.store import Store, number
from feedbackloop.wording import count

_BATCH = 1000


@dataclass(frozen=True)
class CheckCount:
    """How one check went for one variant."""

    name: str
    passed: int
    judged: int
    """Answers that it had an opinion on, those that it could not be computed on included."""
    errors: int
    """Answers on which it could not be computed: they did not pass it."""
    required: bool


@dataclass(frozen=True)
class VariantOutcome:
    """What came of one variant. An answer is that to one case and repeat, whether it came or not."""

    variant: str
    variant_id: str
    answers: int
    passed: int
    failed: int
    """Answers that came, and did not pass."""
    errors: int
    """Answers that never came; they did not pass either."""
    unchecked: int
    """Answers that no check had an opinion on: they count for nothing."""
    score: float | None
    """Mean weighted score, 0 to 1; that of an answer that never came is 0."""
    checks: tuple[CheckCount, ...]
    seconds: float
    """Sum of what its answers took."""
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    cost_usd: float | None
    """Mean of an answer."""
    spent_usd: float | None
    unpriced: int
    """Answers without a known price: what was spent is then at least `spent_usd`."""
    agreement: float | None
    """Of cells that were asked several times: share of the commonest answer, mean over cases."""
    stability: float | None
    """Of these: standard deviation of the checks within a case, mean over cases; 0 is steady."""

    @property
    def judged(self) -> int:
        """Answers that passed or did not."""
        return self.passed + self.failed + self.errors

    @property
    def rate(self) -> float | None:
        """Share of the judged answers that passed; None where no check had an opinion on any that came."""
        said_nothing = self.unchecked > 0 and not self.passed + self.failed
        return self.passed / self.judged if self.checks and self.judged and not said_nothing else None


@dataclass(frozen=True)
class Outcome:
    """What came of a run, and all its answers to go through."""

    run: Run
    state: RunState
    total: int | None
    """Cells that it was to have; None where that is not known, as for imported answers."""
    variants: tuple[VariantOutcome, ...]
    """In the order of the spec."""
    mark: float | None
    """The weighted score from which on an answer passes; None where all checks must pass."""
    _rows: pq.ParquetFile = field(repr=False)
    _checks: Checks = field(repr=False)

    @property
    def answered(self) -> int:
        """Cells that were gone through."""
        return sum(variant.answers for variant in self.variants)

    @property
    def checks(self) -> tuple[str, ...]:
        """Names of the checks, in the order of the spec."""
        return tuple(grader.name for grader in self._checks.graders)

    @property
    def complete(self) -> bool:
        """Whether no cell is missing, whatever became of those that there are."""
        return self.state == "finished" and (self.total is None or self.answered >= self.total)

    def answers(self, state: State | None = None, variant_id: str | None = None) -> Iterator[JudgedAnswer]:
        """The answers, by variant in the order of the spec, then by case; read from a file as they are asked for.

        Args:
            state: only those that stand so.
            variant_id: only those of this variant.
        """
        for batch in self._rows.iter_batches(_BATCH):
            for row in batch.to_pylist():
                if variant_id is not None and row["variant_id"] != variant_id:
                    continue
                answer = read_answer(row, self._checks, self.mark)
                if state is None or answer.state == state:
                    yield answer

    def shortfalls(self, fail_under: float | None = None) -> tuple[str, ...]:
        """Why the run is not good enough, a sentence each; none if it is.

        A check that is required fails the run on any answer. With `fail_under`, every variant must have had that share of its
        answers pass, 0 to 1, and the run must be complete.
        """
        found = [
            f"{variant.variant}: {count(check.judged - check.passed, 'answer')} did not pass '{check.name}', which is required"
            for variant in self.variants
            for check in variant.checks
            if check.required and check.passed < check.judged
        ]
        if fail_under is None:
            return tuple(found)
        if not self.complete:
            of = "" if self.total is None else f", {self.answered:,} of {count(self.total, 'answer')}"
            found.append(f"the run is not complete ({self.state}{of})")
        for variant in self.variants:
            if variant.rate is None:
                found.append(f"{variant.variant}: nothing was checked")
            elif variant.rate < fail_under:
                found.append(
                    f"{variant.variant}: {variant.passed:,} of {count(variant.judged, 'answer')} passed "
                    f"({percent(variant.rate, 1)}), {fail_under * 100:g}% wanted"
                )
        return tuple(found)


@dataclass
class _Tally:
    """Counting the answers of one variant."""

    states: dict[State, int] = field(default_factory=lambda: {"passed": 0, "failed": 0, "error": 0, "unchecked": 0})
    scores: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """Sum and number."""
    seconds: float = 0.0
    passed: dict[int, int] = field(default_factory=dict)
    judged: dict[int, int] = field(default_factory=dict)
    errors: dict[int, int] = field(default_factory=dict)

    def add(self, answer: JudgedAnswer) -> None:
        self.states[answer.state] += 1
        self.seconds += (answer.latency_ms or 0.0) / 1000
        if answer.score.score is not None:
            self.scores[0] += answer.score.score
            self.scores[1] += 1
        for place, check in enumerate(answer.score.checks):
            if check.passed is not None:
                for counter, more in ((self.judged, True), (self.passed, check.passed), (self.errors, check.error)):
                    counter[place] = counter.get(place, 0) + bool(more)

    @property
    def score(self) -> float | None:
        return self.scores[0] / self.scores[1] if self.scores[1] else None


def outcome(store: Store, run: str | None = None) -> Outcome:
    """What came of a run by its checks.

    An answer passes if all checks that count did (those with a weight, and required ones), or, where the spec names a `threshold`,
    if its weighted score reaches that and nothing required failed. An answer that never came does not pass.

    Args:
        store: where the run is.
        run: how its id begins; by default the newest.

    Raises:
        StoreError: there is no such run, or the store cannot be read.
    """
    store.must_exist()
    found = queries.find_run(store, run)
    rows, raters = _read(store, found.run.id)
    checks, mark = checks_of(found.run, raters), found.run.settings.get("threshold")
    summary = queries.summary(store, found.run.id)
    tallies: dict[str, _Tally] = {}
    empty = Outcome(found.run, found.state, found.counts.get("total"), (), mark, rows, checks)
    for answer in empty.answers():
        tallies.setdefault(answer.variant_id, _Tally()).add(answer)
    steady = steadiness(store, found.run.id).set_index("variant_id") if found.run.repeats > 1 else pd.DataFrame()
    variants = tuple(
        _variant(row, tallies.get(row["variant_id"], _Tally()), checks, steady) for row in summary.to_dict("records")
    )
    return Outcome(found.run, found.state, found.counts.get("total"), variants, mark, rows, checks)


def _read(store: Store, run_id: str) -> tuple[pq.ParquetFile, tuple[str, ...]]:
    """The answers as a file that is gone when nobody reads it any more."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "answers.parquet"
        raters = write_judged(store, run_id, file)
        # Open, it can be read though it has no name any more.
        return pq.ParquetFile(pa.OSFile(str(file))), raters


def _variant(row: dict[Any, Any], tally: _Tally, checks: Checks, steady: pd.DataFrame) -> VariantOutcome:
    variant_id = row["variant_id"]
    repeated = steady.loc[variant_id] if variant_id in steady.index else {}
    return VariantOutcome(
        variant=str(row["variant"]),
        variant_id=variant_id,
        answers=sum(tally.states.values()),
        passed=tally.states["passed"],
        failed=tally.states["failed"],
        errors=tally.states["error"],
        unchecked=tally.states["unchecked"],
        score=tally.score if checks.graders else None,
        checks=tuple(
            CheckCount(
                grader.name,
                tally.passed.get(place, 0),
                tally.judged.get(place, 0),
                tally.errors.get(place, 0),
                grader.required,
            )
            for place, grader in enumerate(checks.graders)
        ),
        seconds=tally.seconds,
        latency_p50_ms=number(row["latency_p50_ms"]),
        latency_p95_ms=number(row["latency_p95_ms"]),
        cost_usd=number(row["cost_usd"]),
        spent_usd=number(row["spent_usd"]),
        unpriced=int(row["unpriced"]),
        agreement=number(repeated.get("agreement")),
        stability=number(repeated.get("stability")),
    )
