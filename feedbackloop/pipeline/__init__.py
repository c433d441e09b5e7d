"""From a request to an answer one can rely on, and from a dataset to a finished run.

`Engine` answers one request; `FeedbackLoop` is the pattern's own face of it; `run` puts a whole dataset to several variants.
"""

from __future__ import annotations

from feedbackloop.pipeline.engine import Engine
from feedbackloop.pipeline.loop import FeedbackLoop
from feedbackloop.pipeline.progress import Progress, RunResult
from feedbackloop.pipeline.runner import resume, run, run_spec

__all__ = ["Engine", "FeedbackLoop", "Progress", "RunResult", "resume", "run", "run_spec"]
