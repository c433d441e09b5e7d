"""The checks of a run as they are read back: what they weigh stands with the run, what they said with its answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feedbackloop.errors import FeedbackLoopError
from feedbackloop.graders import Grade, Grader, create
from feedbackloop.graders.specs import OPTIONS
from feedbackloop.models import AIResponse, Case, Run


@dataclass(frozen=True)
class Checks:
    """Graders to score by, and which raters of the store speak for them."""

    graders: tuple[Grader, ...]
    """In the order of the spec. None of them is run: their verdicts are stored."""
    raters: Mapping[str, str]
    """Rater in the store to the grader it speaks for, where these differ."""

    def as_now(self, rater: str) -> str:
        """The rater as the graders call it."""
        return self.raters.get(rater, rater)


def checks_of(run: Run, seen: Sequence[str]) -> Checks:
    """The checks of a run.

    Functions of one's own are not loaded for this: a report must not run code, and the file may have moved since.

    Args:
        run: its settings hold the checks that its spec named, with their weights.
        seen: raters of its answers' checks, the last to speak first.
    """
    base = Path(run.settings.get("base") or Path.cwd())
    specs = run.settings.get("graders") or []
    graders = [_grader(spec, base) for spec in specs]
    free = [rater for rater in seen if rater not in {grader.rater for grader in graders}]
    raters: dict[str, str] = {}
    for grader in graders:
        # Its version is another one where the function, or the file of its schema, has changed since.
        former = None if grader.rater in seen else next((rater for rater in free if _name(rater) == grader.name), None)
        if former is not None:
            free.remove(former)
            raters[former] = grader.rater
    if not graders or run.settings.get("own_graders"):
        # Given as functions from Python, or from elsewhere with the answers: each counts once, in its newest version.
        known = {grader.name for grader in graders}
        for rater in free:
            if _name(rater) not in known:
                known.add(_name(rater))
                made = Grader(_name(rater), "", _unable)
                graders.append(made)
                raters[rater] = made.rater
    return Checks(tuple(graders), raters)


def _grader(spec: Any, base: Path) -> Grader:
    if not _own(spec):
        try:
            return create(spec, base)
        except FeedbackLoopError:
            pass  # it needs a package or a file that is not here
    options = {name: spec[name] for name in OPTIONS if name in spec} if isinstance(spec, Mapping) else {}
    name = str(options.pop("metric", None) or _called(spec))
    return Grader(name, "", _unable, negated=name.startswith("not_"), **options)


def _own(spec: Any) -> bool:
    """Whether the spec means a function of one's own."""
    if isinstance(spec, Mapping):
        return "python" in spec or _own(spec.get("not"))
    return isinstance(spec, str) and ":" in spec


def _called(spec: Any) -> str:
    if isinstance(spec, Mapping):
        key = next((str(key) for key in spec if key not in OPTIONS), "")
        return f"not_{_called(spec[key])}" if key == "not" else _called(spec[key]) if key == "python" else key
    return str(spec).rpartition(":")[2]


def _name(rater: str) -> str:
    return rater.rpartition("@")[0] or rater


def _unable(case: Case, response: AIResponse) -> Grade:
    raise NotImplementedError("this check is read back, and not run")
