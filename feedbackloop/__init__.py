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
    from feedbackloop.datasets import Dataset, open_dataset
    from feedbackloop.errors import FeedbackLoopError
    from feedbackloop.importers import import_answers, import_votes
    from feedbackloop.improve.policy import promote, rollback
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
    "FeedbackLoop": "pipeline",
    "FeedbackLoopArchitecture": "pipeline:FeedbackLoop",
    "FeedbackLoopError": "errors",
    "Limits": "settings",
    "Policy": "models",
    "ProcessingStatus": "models",
    "Progress": "pipeline",
    "Rating": "models",
    "Run": "models",
    "RunResult": "pipeline",
    "RunSpec": "spec",
    "Settings": "settings",
    "Store": "store",
    "Task": "models",
    "Variant": "models",
    "import_answers": "importers",
    "import_votes": "importers",
    "load_spec": "spec",
    "monitor": "pipeline.monitor",
    "open_dataset": "datasets",
    "promote": "improve.policy",
    "resume": "pipeline",
    "rollback": "improve.policy",
    "run": "pipeline",
    "run_spec": "pipeline",
}

__all__ = [
    "AIRequest",
    "AIResponse",
    "Case",
    "Comparison",
    "Dataset",
    "Engine",
    "FeedbackLoop",
    "FeedbackLoopArchitecture",
    "FeedbackLoopError",
    "Limits",
    "Policy",
    "ProcessingStatus",
    "Progress",
    "Rating",
    "Run",
    "RunResult",
    "RunSpec",
    "Settings",
    "Store",
    "Task",
    "Variant",
    "import_answers",
    "import_votes",
    "load_spec",
    "monitor",
    "open_dataset",
    "promote",
    "resume",
    "rollback",
    "run",
    "run_spec",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'feedbackloop' has no attribute '{name}'")
    module, _, attribute = _HOMES[name].partition(":")
    value = getattr(importlib.import_module(f"feedbackloop.{module}"), attribute or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
