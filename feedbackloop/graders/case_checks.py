"""Checks that a case names itself, where what is wanted differs from case to case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from feedbackloop.errors import FeedbackLoopError
from feedbackloop.graders.grader import Grade, Grader, GraderFunction
from feedbackloop.graders.promptfoo import ALIASES
from feedbackloop.graders.specs import GRADERS, OPTIONS, create
from feedbackloop.identity import content_id
from feedbackloop.models import AIResponse, Case

KEY = "checks"
"""Where a case has them, in its metadata."""

_NAMES = {*GRADERS.entries, *ALIASES} - {"case_checks"}


def case_checks(argument: None = None) -> GraderFunction:
    """The share of the case's own checks that the answer passes, by their weights; no opinion where a case has none.

    They stand in the case's metadata as they would stand in a spec: `{"checks": [{"contains": "refund"}, "json_valid"]}`. Only
    checks that come with feedbackloop can: a dataset is data, and runs no functions. With `threshold: 1` all of them must pass.

    Raises:
        TypeError: it was given an argument.
    """
    if argument is not None:
        raise TypeError("it takes no argument; each case names its checks in its metadata, under 'checks'")
    known: dict[str, list[Grader]] = {}

    def grade(case: Case, response: AIResponse) -> Grade:
        specs = case.metadata.get(KEY)
        if not specs:
            return None
        if (version := content_id(specs)) not in known:
            known[version] = make(specs)
        passed = total = 0.0
        failed = []
        for grader in known[version]:
            result = cast("Grade", grader.function(case, response))
            value = result.get("value") if isinstance(result, Mapping) else result
            if value is None:
                continue
            total += grader.weight
            if grader.passes(float(cast("Any", value))):
                passed += grader.weight
            else:
                reason = result.get("reason") if isinstance(result, Mapping) else None
                failed.append(f"{grader.name}: {reason}" if reason else grader.name)
        if not total:
            return None
        return {"value": passed / total, "reason": "; ".join(failed)} if failed else {"value": passed / total}

    return grade


def make(specs: Any) -> list[Grader]:
    """The graders that a case names.

    Raises:
        ValueError: it is no list of checks that have a name.
    """
    if not isinstance(specs, Sequence) or isinstance(specs, str):
        raise ValueError("'checks' must be a list of checks as a spec has them")  # noqa: TRY004 - of the data, not of a caller
    for spec in specs:
        names = [spec] if isinstance(spec, str) else [name for name in spec if name not in OPTIONS]
        # Those of this package alone: they are plain functions, and run nothing of one's own.
        if not {name.removeprefix("not_").removeprefix("not-") for name in names} <= _NAMES:
            raise ValueError(f"a case can name only the checks of feedbackloop itself, not {spec!r}")
        # They would read a file that the dataset names.
        if isinstance(spec, Mapping) and any(
            isinstance(spec.get(name), str)
            for name in spec
            if name.removeprefix("not_") in {"json_schema", "contains_json"}
        ):
            raise ValueError(f"a case writes its JSON Schema itself and names no file: {spec!r}")
    try:
        return [create(spec) for spec in specs]
    except FeedbackLoopError as error:
        raise ValueError(str(error)) from error
