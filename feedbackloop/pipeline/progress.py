"""How a run stands, and how it ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from feedbackloop.datasets import Checked
from feedbackloop.errors import ProviderTimeout, RateLimited
from feedbackloop.models import AIResponse, ProcessingStatus, Run
from feedbackloop.wording import count, spend


@dataclass(frozen=True)
class Progress:
    """How a run stands, for whoever draws it."""

    run_id: str
    total: int
    """Cells of the whole run, earlier parts included."""
    done: int
    """Cells that have an answer or a failure."""
    completed: int
    """Answered in this part of the run."""
    failed: int
    """Cells that have failed, and have no answer yet."""
    cached: int
    """Used again from before."""
    skipped: int
    """Answered before, in an earlier part of this run."""
    spent_usd: float
    """As far as it is known; what earlier parts of this run spent included."""
    unpriced: int
    """Answers whose price is unknown: the spend is then at least `spent_usd`."""
    elapsed_s: float
    places: Mapping[str, int]
    """Calls that each target is allowed at once, at present."""
    unretried: int = 0
    """Failed in an earlier part of this run and not asked again yet; among `failed`."""
    late: int = 0
    """Calls that did not answer in time; what they may still bring is ignored."""
    refused: int = 0
    """Calls that were refused as too many (429), and asked again later."""
    paces: Mapping[str, float] = field(default_factory=dict)
    """Requests a second that each target is asked at most, at present, where it has refused some."""
    waiting: str = ""
    """What is awaited where that takes hours, such as `batch of 2,000 with OpenAI, 1,200 done`."""

    @property
    def counts(self) -> dict[str, Any]:
        """What an event of the run says: how the whole of it stands, but for `late` and `refused`."""
        names = ("total", "done", "failed", "cached", "spent_usd", "unpriced", "late", "refused")
        earlier = {"completed": self.skipped + self.completed, "skipped": self.skipped + self.unretried}
        return earlier | {name: getattr(self, name) for name in names}

    @property
    def asked(self) -> int:
        """Cells that this part of the run has asked."""
        return self.completed + self.failed - self.unretried

    @property
    def rate(self) -> float:
        """Cells per second in this part of the run."""
        return self.asked / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def eta_s(self) -> float | None:
        """Seconds left at this rate."""
        return (self.total - self.done + self.unretried) / self.rate if self.rate > 0 else None


@dataclass(frozen=True)
class RunResult:
    """How a run, or a part of it, ended."""

    run: Run
    progress: Progress
    stopped: str | None
    """Why it stopped before its end; None when it is finished."""
    failures: Mapping[str, int]
    """Number of failed cells by kind of error."""
    checked: Checked
    notes: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether every cell was gone through."""
        return self.stopped is None

    def __repr__(self) -> str:
        """How it ended, as a sentence."""
        now = self.progress
        failed = f", {now.failed:,} failed" if now.failed else ""
        how = f"is complete: {count(now.done - now.failed, 'answer')}"
        if self.stopped:
            how = f"stopped at {now.done:,} of {count(now.total, 'answer')}: {self.stopped}"
        return f"Run {self.run.id[:8]} {how}{failed}; spent: {spend(now.spent_usd, now.unpriced)}."


@dataclass
class Tally:
    """What was counted so far in this part of the run."""

    completed: int = 0
    failed: int = 0
    cached: int = 0
    skipped: int = 0
    """Cells that have an answer of an earlier part."""
    unretried: int = 0
    """Cells that have failed in an earlier part, and were not asked in this one."""
    spent_usd: float = 0.0
    unpriced: int = 0
    late: int = 0
    refused: int = 0
    failures: Counter[str] = field(default_factory=Counter)

    def add(self, response: AIResponse) -> None:
        """Count a response, but for what it cost."""
        if response.status is ProcessingStatus.COMPLETED:
            self.completed += 1
        else:
            self.failed += 1
            self.failures[response.error_type or "unknown"] += 1
        for attempt in response.attempts:
            if attempt.error_type is not None:
                self.late += attempt.error_type == ProviderTimeout.__name__
                self.refused += attempt.error_type == RateLimited.__name__
        self.cached += response.cached

    def add_spend(self, response: AIResponse) -> None:
        """Count what a response cost."""
        if response.cached:
            return
        if response.spent_usd is None:
            self.unpriced += 1
            self.spent_usd += sum(attempt.cost_usd or 0.0 for attempt in response.attempts)
        else:
            self.spent_usd += response.spent_usd

    @property
    def done(self) -> int:
        """Cells that have an answer or a failure, those of earlier parts included."""
        return self.asked + self.skipped + self.unretried

    @property
    def asked(self) -> int:
        """Cells that this part has asked."""
        return self.completed + self.failed
