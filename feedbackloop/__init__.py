"""feedbackloop: run prompts through language models, compare and rate the answers blind, and turn the votes into a proven change.

import feedbackloop as fl

store = fl.Store("loop.duckdb")
result = await fl.run("cases.jsonl", [{"name": "terse", "model": "openai:gpt-4o-mini"}], store=store, task="support")
store.sql("SELECT variant, avg(checks) FROM answers GROUP BY variant")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from feedbackloop import plots
    from feedbackloop.comparisons import (
        correct,
        label_issue,
        next_pair,
        next_single,
        note,
        open_queue,
        rate,
        undo,
        vote,
    )
    from feedbackloop.datasets import Dataset, open_dataset
    from feedbackloop.errors import FeedbackLoopError
    from feedbackloop.findings import Results, results, trends
    from feedbackloop.findings.costs import costs, recompute_costs
    from feedbackloop.importers import import_answers, import_votes
    from feedbackloop.improve import ExportResult, export_preferences
    from feedbackloop.improve.gate import assess, decide
    from feedbackloop.improve.policy import promote, rollback
    from feedbackloop.improve.rules import Rule
    from feedbackloop.models import (
        AIRequest,
        AIResponse,
        Case,
        Comparison,
        Policy,
        ProcessingStatus,
        Rating,
        Run,
        Task,
        Variant,
    )
    from feedbackloop.pipeline import Engine, FeedbackLoop, Progress, RunResult, resume, run, run_spec
    from feedbackloop.pipeline import FeedbackLoop as FeedbackLoopArchitecture
    from feedbackloop.pipeline.monitor import monitor
    from feedbackloop.reports import Outcome, outcome, report
    from feedbackloop.settings import Limits, Settings
    from feedbackloop.spec import RunSpec, load_spec
    from feedbackloop.store import Store

# Looked up at first use: `feedbackloop --help` should not wait for pydantic, DuckDB and pandas.
_HOMES = {
    "AIRequest": "models",
    "AIResponse": "models",
    "Case": "models",
    "Comparison": "models",
    "Dataset": "datasets",
    "Engine": "pipeline",
    "ExportResult": "improve",
    "FeedbackLoop": "pipeline",
    "FeedbackLoopArchitecture": "pipeline:FeedbackLoop",
    "FeedbackLoopError": "errors",
    "Limits": "settings",
    "Outcome": "reports",
    "Policy": "models",
    "ProcessingStatus": "models",
    "Progress": "pipeline",
    "Rating": "models",
    "Results": "findings",
    "Rule": "improve.rules",
    "Run": "models",
    "RunResult": "pipeline",
    "RunSpec": "spec",
    "Settings": "settings",
    "Store": "store",
    "Task": "models",
    "Variant": "models",
    "assess": "improve.gate",
    "correct": "comparisons",
    "costs": "findings.costs",
    "decide": "improve.gate",
    "export_preferences": "improve",
    "import_answers": "importers",
    "import_votes": "importers",
    "label_issue": "comparisons",
    "load_spec": "spec",
    "monitor": "pipeline.monitor",
    "next_pair": "comparisons",
    "next_single": "comparisons",
    "note": "comparisons",
    "open_dataset": "datasets",
    "open_queue": "comparisons",
    "outcome": "reports",
    "plots": "plots:*",
    "promote": "improve.policy",
    "rate": "comparisons",
    "recompute_costs": "findings.costs",
    "report": "reports",
    "results": "findings",
    "resume": "pipeline",
    "rollback": "improve.policy",
    "run": "pipeline",
    "run_spec": "pipeline",
    "trends": "findings",
    "undo": "comparisons",
    "vote": "comparisons",
}

__all__ = [
    "AIRequest",
    "AIResponse",
    "Case",
    "Comparison",
    "Dataset",
    "Engine",
    "ExportResult",
    "FeedbackLoop",
    "FeedbackLoopArchitecture",
    "FeedbackLoopError",
    "Limits",
    "Outcome",
    "Policy",
    "ProcessingStatus",
    "Progress",
    "Rating",
    "Results",
    "Rule",
    "Run",
    "RunResult",
    "RunSpec",
    "Settings",
    "Store",
    "Task",
    "Variant",
    "assess",
    "correct",
    "costs",
    "decide",
    "export_preferences",
    "import_answers",
    "import_votes",
    "label_issue",
    "load_spec",
    "monitor",
    "next_pair",
    "next_single",
    "note",
    "open_dataset",
    "open_queue",
    "outcome",
    "plots",
    "promote",
    "rate",
    "recompute_costs",
    "report",
    "results",
    "resume",
    "rollback",
    "run",
    "run_spec",
    "trends",
    "undo",
    "vote",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'feedbackloop' has no attribute '{name}'")
    module, _, attribute = _HOMES[name].partition(":")
    home = importlib.import_module(f"feedbackloop.{module}")
    value = home if attribute == "*" else getattr(home, attribute or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
