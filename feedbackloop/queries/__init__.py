"""All SQL that reads: what it needs is fetched under the store's lease, and thought about once that is given back."""

from feedbackloop.queries.overview import counts
from feedbackloop.queries.records import baseline, task, task_variants, tasks, variants
from feedbackloop.queries.reports import check_errors, failures, spent, summary
from feedbackloop.queries.reuse import (
    answered_keys,
    answers_by_key,
    case_mark,
    finished_cells,
    known_cases,
    reusable_keys,
)
from feedbackloop.queries.states import (
    RunState,
    RunStatus,
    find_run,
    refuse_if_running,
    runs,
    still_running,
    stop_asked,
)

__all__ = [
    "RunState",
    "RunStatus",
    "answered_keys",
    "answers_by_key",
    "baseline",
    "case_mark",
    "check_errors",
    "counts",
    "failures",
    "find_run",
    "finished_cells",
    "known_cases",
    "refuse_if_running",
    "reusable_keys",
    "runs",
    "spent",
    "still_running",
    "stop_asked",
    "summary",
    "task",
    "task_variants",
    "tasks",
    "variants",
]
