"""From what a spec says to the grader it means."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Awaitable, Mapping
from pathlib import Path
from typing import Any

import yaml

from feedbackloop.errors import SettingsError
from feedbackloop.functions import load
from feedbackloop.graders import promptfoo
from feedbackloop.graders.arguments import FLAG, NUMBER, SHARE, TEXT, read
from feedbackloop.graders.grader import VERDICT, Grade, Grader, GraderFunction
from feedbackloop.identity import content_id
from feedbackloop.models import AIResponse, Case
from feedbackloop.registry import Registry

GRADERS = Registry(
    kind="grader",
    entries={
        "equals": "feedbackloop.graders.text:equals",
        "contains": "feedbackloop.graders.text:contains",
        "contains_any": "feedbackloop.graders.text:contains_any",
        "contains_all": "feedbackloop.graders.text:contains_all",
        "starts_with": "feedbackloop.graders.text:starts_with",
        "regex": "feedbackloop.graders.text:regex",
        "json_valid": "feedbackloop.graders.structure:json_valid",
        "json_schema": "feedbackloop.graders.schemas:json_schema",
        "contains_json": "feedbackloop.graders.schemas:contains_json",
        "numeric": "feedbackloop.graders.figures:numeric",
        "length": "feedbackloop.graders.figures:length",
        "latency": "feedbackloop.graders.figures:latency",
        "cost": "feedbackloop.graders.figures:cost",
        "levenshtein": "feedbackloop.graders.similarity:levenshtein",
        "rouge_l": "feedbackloop.graders.similarity:rouge_l",
        "bleu": "feedbackloop.graders.bleu:bleu",
        "refusal": "feedbackloop.graders.refusals:refusal",
        "case_checks": "feedbackloop.graders.case_checks:case_checks",
    },
    extras={"bleu": "metrics"},
    group="feedbackloop.graders",
)
"""Entries are makers: called with the spec's argument (or None) they give the function."""

OPTIONS = {"weight": SHARE, "threshold": NUMBER, "required": FLAG, "metric": TEXT}
"""What stands beside the name of any grader: `{contains: refund, weight: 2, required: true}`."""

_FORMS = "a grader is a name, a name with its argument ({contains: refund}), or FILE.py:FUNCTION"


def create(spec: str | Mapping[str, Any] | GraderFunction | Grader, base: Path | None = None) -> Grader:
    """The grader that a spec means.

    Args:
        spec: a name, `{name: argument}` with `weight`, `threshold`, `required` and `metric` beside it if need be, a function of
            one's own or where it stands (`my_graders.py:polite`, or `{python: my_graders.py:polite, weight: 2}`). `not_` before
            a name, or `{not: ...}` around any of these, turns the verdict round.
        base: folder that files are looked for in; the working directory unless given.

    Raises:
        SettingsError: the spec has no such form, its argument makes no sense, or its file or function is not there.
        UnknownName: nothing is called so; the message lists the near names.
        MissingDependency: it needs a package that is not installed; names the extra.
    """
    base = base or Path.cwd()
    if isinstance(spec, Grader):
        return spec
    if callable(spec):
        name = getattr(spec, "__name__", type(spec).__name__)
        return Grader(name, content_id(_source(spec)), spec)
    if isinstance(spec, str):
        return _own(spec, base) if ":" in spec else _named(spec, None, base)
    if isinstance(spec, Mapping):
        names = [name for name in spec if name not in OPTIONS]
        if len(names) == 1:
            made = _named(str(names[0]), spec[names[0]], base)
            return _counting(made, {name: spec[name] for name in spec if name in OPTIONS})
    raise SettingsError(f"{_FORMS}; not {spec!r}")


def _named(name: str, argument: Any, base: Path) -> Grader:
    if name == "not":
        return _negated(create(argument, base))
    if name == "python":
        return _own(argument, base)
    if ":" in name:
        raise SettingsError(f"the grader '{name}' has options: write it as {{python: {name}, weight: 2}}")
    if name in promptfoo.ALIASES:
        meant = promptfoo.ALIASES[name](argument)
        return _named(meant.name, meant.argument, base)
    if name in GRADERS:
        return _made(name, argument, base)
    if name.startswith(("not_", "not-")):
        return _negated(_named(name[4:], argument, base))
    raise promptfoo.unknown(name, GRADERS.names())


def _made(name: str, argument: Any, base: Path) -> Grader:
    if name in {"json_schema", "contains_json"} and isinstance(argument, str):
        argument = _schema(base / argument.removeprefix("file://"))
    maker = GRADERS.get(name)
    try:
        function = maker(argument)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"the grader '{name}' cannot use {_short(argument)}: {error}") from error
    return Grader(name, content_id(name, argument), function)


def _counting(grader: Grader, options: dict[str, Any]) -> Grader:
    """The grader with what its verdicts count for."""
    if not options:
        return grader
    try:
        known = read(options, OPTIONS)
    except TypeError as error:
        raise SettingsError(f"the grader '{grader.name}': {error}") from error
    bounded = grader.negated or grader.name in GRADERS.entries
    if bounded and not 0 <= known.get("threshold", 0) <= 1:
        raise SettingsError(
            f"the grader '{grader.name}': `threshold` is the value that passes, from 0 to 1, not {known['threshold']!r}; "
            "a limit is the argument, as in {latency: 2000}"
        )
    return dataclasses.replace(grader, name=str(known.pop("metric", grader.name)), **known)


def _own(reference: Any, base: Path) -> Grader:
    if not isinstance(reference, str) or ":" not in reference:
        raise SettingsError(f"{_FORMS}; {reference!r} names no function")
    reference = reference.removeprefix("python:")
    loaded = load(reference, base, reload=True)
    name = reference.rpartition(":")[2]
    return Grader(name, content_id(loaded.source, name), loaded.function)


def _negated(grader: Grader) -> Grader:
    if grader.negated:
        raise SettingsError(f"the grader '{grader.name}' is turned round twice; leave both out")
    if grader != Grader(grader.name, grader.version, grader.function):
        raise SettingsError(
            f"the grader '{grader.name}' has options inside `not`; write them beside it: {{not: ..., weight: 2}}"
        )
    function = grader.function

    def grade(case: Case, response: AIResponse) -> Grade | Awaitable[Grade]:
        result = function(case, response)
        return _later(result) if inspect.isawaitable(result) else _opposite(result)

    return Grader(f"not_{grader.name}", content_id("not", grader.version), grade, negated=True)


async def _later(result: Awaitable[Grade]) -> Grade:
    return _opposite(await result)


def _opposite(result: Grade) -> Grade:
    if result is None:
        return None
    if isinstance(result, Mapping):
        if not result.keys() <= VERDICT or result.get("label") is not None:
            raise ValueError("a grader that gives labels or several metrics cannot be turned round")
        return {**result, "value": _opposite(result.get("value"))}
    if isinstance(result, str):
        raise ValueError(f"the label {result!r} cannot be turned round")  # noqa: TRY004  a verdict's value, not a caller's type
    value = float(result)
    if not 0 <= value <= 1:
        raise ValueError(f"only what is between 0 and 1 can be turned round, not {value:g}")
    return 1 - value


def _schema(file: Path) -> Any:
    try:
        text = file.read_text(encoding="utf-8-sig")
        return json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SettingsError(f"{file}: cannot be read as a JSON Schema: {reason}") from error


def _short(argument: Any) -> str:
    said = repr(argument)
    return said if len(said) <= 200 else f"{said[:199]}…"


def _source(function: Any) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return repr(getattr(function, "__qualname__", type(function).__qualname__))
