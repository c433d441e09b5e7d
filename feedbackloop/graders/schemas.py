"""Checks of JSON answers by a JSON Schema, with `jsonschema`; bounded, since an answer is anybody's text.

That library is kept from three things: fetching schemas from the network, matching patterns without a time limit, and taking
as long as a document of hostile size and shape asks for.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import regex as regular
from jsonschema import Draft202012Validator, SchemaError, ValidationError, validators
from jsonschema_specifications import REGISTRY
from referencing import Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from feedbackloop.graders.grader import Grade, GraderFunction, verdict
from feedbackloop.graders.structure import READ, document, documents
from feedbackloop.models import AIResponse, Case

STEPS = 30_000
"""Keywords of a schema that are tried on one answer: half a second, or one where most of them find a fault."""
PATTERNS_S = 1.0
"""For all matching of patterns on one answer."""


def json_schema(schema: Any) -> GraderFunction:
    """The answer is JSON, whole (a Markdown fence around it is forgiven), and fits the schema.

    An answer of more than a million characters, one that takes more than 30,000 steps to check, and one whose texts keep the schema's
    patterns busy for more than a second are errors of the check.

    Raises:
        TypeError: it is no schema.
        ValueError: it is a schema with a fault, or one that cannot be checked in bounded time.
    """
    checker = _Checker.of(schema)

    def grade(case: Case, response: AIResponse) -> Grade:  # noqa: ARG001  the shape of all graders
        if len(response.output) > READ:
            raise ValueError(
                f"the answer has {len(response.output):,} characters; a schema is tried on {READ:,} at most"
            )
        try:
            value = document(response.output)
        except ValueError as error:
            return verdict(passed=False, reason=f"no JSON: {error}")
        [fault] = checker.faults([value])
        return verdict(fault is None, fault or "")

    return grade


def contains_json(schema: Any = None) -> GraderFunction:
    """Somewhere in the first million characters of the answer stands a JSON object or list; with a schema, one that fits it.

    Raises:
        TypeError: it is no schema.
        ValueError: it is a schema with a fault, or one that cannot be checked in bounded time.
    """
    checker = None if schema is None else _Checker.of(schema)

    def grade(case: Case, response: AIResponse) -> Grade:  # noqa: ARG001  the shape of all graders
        found = documents(response.output)
        if not found or checker is None:
            return verdict(bool(found), "no JSON object or list in it")
        faults = checker.faults(found)
        return verdict(None in faults, faults[0] or "")

    return grade


@dataclass
class _Effort:
    """What one answer may still cost."""

    steps: int = STEPS
    seconds: float = PATTERNS_S

    def begin(self) -> None:
        self.steps, self.seconds = STEPS, PATTERNS_S

    def step(self) -> None:
        self.steps -= 1
        if self.steps < 0:
            raise ValueError(f"checking the answer against the schema takes more than {STEPS:,} steps; it is too large")

    def found(self, pattern: str, text: str) -> bool:
        if self.seconds <= 0:
            raise TimeoutError(f"the schema's patterns take more than {PATTERNS_S:g} s on this answer")
        began = time.perf_counter()
        try:
            return regular.search(pattern, text, timeout=self.seconds) is not None
        finally:
            self.seconds -= time.perf_counter() - began


@dataclass(frozen=True)
class _Checker:
    validator: Any
    effort: _Effort

    @classmethod
    def of(cls, schema: Any) -> _Checker:
        """Raises TypeError if it is no schema, ValueError if one with a fault, or that cannot be checked in bounded time."""
        if not isinstance(schema, dict | bool):
            raise TypeError(
                "give it a schema, as in {json_schema: {type: object, required: [answer]}}, or a file that holds one"
            )
        dialect: Any = validators.validator_for(schema, default=Draft202012Validator)
        try:
            dialect.check_schema(schema)
        except SchemaError as error:
            place = "/".join(str(part) for part in error.path)
            raise ValueError(f"this is no JSON Schema: {error.message}{f' (at {place})' if place else ''}") from error
        parts = list(_parts(schema))
        _check_patterns(parts)
        _check_references(schema, parts)
        effort = _Effort()
        own = {name: functools.partial(check, effort) for name, check in _OWN.items()}
        checks = {name: _counted(check, effort) for name, check in {**dialect.VALIDATORS, **own}.items()}
        # With the dialect named in it, a recursion to the schema's root would leave this class for the library's own.
        plain = {k: v for k, v in schema.items() if k != "$schema"} if isinstance(schema, dict) else schema
        # An explicit registry: the library's own default asks the network.
        return cls(_extend(dialect, checks)(plain, registry=REGISTRY), effort)

    def faults(self, values: list[Any]) -> list[str | None]:
        """The first fault of each value, or None for one that fits."""
        self.effort.begin()
        return [_said(next(self.validator.iter_errors(value), None)) for value in values]


_extend: Any = validators.extend  # its types are not known


def _said(error: ValidationError | None) -> str | None:
    if error is None:
        return None
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
    return f"{place.removeprefix('.')}: {error.message}" if place else error.message


def _counted(check: Callable[..., Any], effort: _Effort) -> Callable[..., Any]:
    def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        effort.step()
        return check(validator, value, instance, schema)

    return counted


def _parts(schema: Any) -> Iterator[Mapping[str, Any]]:
    """All mappings of a schema, whatever they mean there."""
    if isinstance(schema, Mapping):
        yield schema
    for value in schema.values() if isinstance(schema, Mapping) else schema if isinstance(schema, list) else ():
        yield from _parts(value)


def _check_patterns(parts: list[Mapping[str, Any]]) -> None:
    for part in parts:
        keyed = part.get("patternProperties")
        if keyed and "unevaluatedProperties" in part:
            raise ValueError("`unevaluatedProperties` beside `patternProperties` cannot be checked with a time limit")
        patterns = list(keyed) if isinstance(keyed, Mapping) else []
        for pattern in [*patterns, *([part["pattern"]] if isinstance(part.get("pattern"), str) else [])]:
            try:
                regular.compile(pattern)
            except regular.error as error:
                raise ValueError(f"'{pattern}' is no regular expression: {error}") from error


def _check_references(schema: Any, parts: list[Mapping[str, Any]]) -> None:
    # With names of its own in it, what a reference means depends on where it stands: then it is found out at the answer.
    if any("$id" in part or "id" in part for part in parts):
        return
    resource = Resource.from_contents(schema, default_specification=DRAFT202012)
    resolver = REGISTRY.with_resource("", resource).resolver()
    for reference in (part["$ref"] for part in parts if isinstance(part.get("$ref"), str)):
        try:
            resolver.lookup(reference)
        except Unresolvable as error:
            raise ValueError(f"it refers to {reference}, which is not in it (nothing is fetched)") from error


def _pattern(effort: _Effort, validator: Any, pattern: str, instance: Any, _: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not effort.found(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(
    effort: _Effort, validator: Any, patterns: Mapping[str, Any], instance: Any, _: Any
) -> Iterator[ValidationError]:
    if validator.is_type(instance, "object"):
        for pattern, inner in patterns.items():
            for key, value in instance.items():
                if effort.found(pattern, key):
                    yield from validator.descend(value, inner, path=key, schema_path=pattern)


def _additional_properties(
    effort: _Effort, validator: Any, allowed: Any, instance: Any, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    extras = [key for key in instance if key not in known and not any(effort.found(one, key) for one in patterns)]
    if validator.is_type(allowed, "object"):
        for key in extras:
            yield from validator.descend(instance[key], allowed, path=key)
    elif not allowed and extras:
        named = ", ".join(repr(key) for key in extras[:3])
        yield ValidationError(f"may not have {named}{f' and {len(extras) - 3} more' if len(extras) > 3 else ''}")


def _unique_items(effort: _Effort, validator: Any, unique: bool, instance: Any, _: Any) -> Iterator[ValidationError]:  # noqa: ARG001
    # The library compares each with each where items cannot be sorted.
    if unique and validator.is_type(instance, "array") and len({_written(item) for item in instance}) < len(instance):
        yield ValidationError("its items are not all different")


def _written(value: Any) -> str:
    """Equal for values that are equal as JSON Schema sees it: 1 is 1.0, and the order of keys does not matter."""
    return json.dumps(_whole(value), sort_keys=True)


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    return value


_OWN: dict[str, Callable[..., Iterator[ValidationError]]] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
}
