"""The tests of a promptfoo config as cases: variables, and the checks that each of them asks for."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from feedbackloop.datasets import as_text
from feedbackloop.errors import FeedbackLoopError
from feedbackloop.graders import create
from feedbackloop.graders.promptfoo import translate
from feedbackloop.importers.figures import listed, mapping
from feedbackloop.importers.left_out import LeftOut
from feedbackloop.importers.promptfoo_files import Unreadable, value_of

MOST = 100_000
"""Tests that lists of values may come to; a config of a few lines can ask for billions."""

_VARIABLE = re.compile(r"\{\{-?\s*([A-Za-z_]\w*)\s*-?\}\}")
_SHORT = re.compile(
    r"(?P<type>(?:not-)?[a-z]+(?:-[a-z]+)*)(?:\((?P<threshold>[0-9.]+)\))?(?::\s*(?P<value>.*))?", re.DOTALL
)
_LISTS = {"contains-any", "contains-all", "icontains-any", "icontains-all"}
_WITHOUT_VALUE = {
    "is-json",
    "contains-json",
    "is-refusal",
    "is-html",
    "is-xml",
    "is-sql",
    "latency",
    "cost",
    "perplexity",
}
_CARRIED = {"vars", "assert", "metadata", "description"}
_NOTHING: tuple[Any, ...] = (None, "", {}, [], False)


@dataclass
class Test:
    """A test as it stands for itself, with what the default adds."""

    place: str
    inputs: dict[str, Any]
    checks: list[dict[str, Any]] = field(default_factory=list)
    """Entries of a spec's `graders`."""
    expected: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass
class Tests:
    """Reads the tests of a config."""

    folder: Path
    templates: Mapping[str, Any]
    """`assertionTemplates`, which assertions may refer to."""
    left_out: LeftOut

    def of(self, config: Mapping[str, Any]) -> list[Test]:
        """Every test, lists of values written out."""
        default = config.get("defaultTest") or {}
        if isinstance(default, str):
            default = self._file(default, "defaultTest") or {}
        default = default if isinstance(default, Mapping) else {}
        self._name_lost(default, "defaultTest")
        found: list[Test] = []
        for place, test in self._all(config):
            if not isinstance(test, Mapping):
                self.left_out.add("what is no test", place)
                continue
            self._name_lost(test, place)
            for inputs in self._inputs({**mapping(default.get("vars")), **mapping(test.get("vars"))}, place):
                if len(found) >= MOST:
                    self.left_out.add(f"tests beyond the first {MOST:,}", place)
                    return found
                found.append(self._test(default, test, inputs, place))
        return found

    def _all(self, config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        tests = config.get("tests")
        scenarios = config.get("scenarios") or []
        if not tests and not scenarios:
            # Without tests, a prompt is asked once, as it stands.
            yield "the prompts themselves", {}
        number = 0
        for item in self._listed(tests, "tests"):
            number += 1
            yield f"test {number}", item
        for at, scenario in enumerate(scenarios if isinstance(scenarios, list) else [], 1):
            known = self._file(scenario, f"scenario {at}") if isinstance(scenario, str) else scenario
            parts = (self._listed(mapping(known).get(name), f"scenario {at}") for name in ("config", "tests"))
            configs, of_scenario = (list(part) for part in parts)
            for outer, inner in itertools.product(configs, of_scenario or [{}]):
                number += 1
                yield f"test {number} (scenario {at})", _together(mapping(outer), mapping(inner))

    def _listed(self, tests: Any, place: str) -> Iterator[Any]:
        """The items of a list, files in it followed."""
        for item in tests if isinstance(tests, list) else [] if tests in _NOTHING else [tests]:
            if not isinstance(item, str):
                yield item
                continue
            read = self._file(item, place)
            table = item.endswith((".csv", ".tsv"))
            for row in read if isinstance(read, list) else [] if read is None else [read]:
                yield _test_of_row(row) if table and isinstance(row, Mapping) else row

    def _file(self, reference: str, place: str) -> Any:
        try:
            return value_of(reference, self.folder)
        except Unreadable as error:
            self.left_out.add(str(error), place)
            return None

    def _inputs(self, variables: Mapping[str, Any], place: str) -> Iterator[dict[str, Any]]:
        """The variables of a test; a list stands for a test with each of its items."""
        choices: list[list[tuple[str, Any]]] = []
        for name, value in variables.items():
            items = value if isinstance(value, list) and value else [value]
            read = [
                self._file(item, place) if isinstance(item, str) and item.startswith("file://") else item
                for item in items
            ]
            choices.append([(str(name), "" if item is None else item) for item in read])
        for chosen in itertools.product(*choices):
            values = dict(chosen)
            yield {name: _filled(value, values) for name, value in values.items()}

    def _test(self, default: Mapping[str, Any], test: Mapping[str, Any], inputs: dict[str, Any], place: str) -> Test:
        metadata = {**mapping(default.get("metadata")), **mapping(test.get("metadata"))}
        if test.get("description"):
            metadata["description"] = str(test["description"])
        made = Test(place, inputs, metadata=metadata)
        wanted = []
        for assertion in self._assertions([*listed(default.get("assert")), *listed(test.get("assert"))], place):
            known = {name: _filled(value, inputs) for name, value in assertion.items()}
            try:
                translation = translate(known)
                self._follow(translation.spec)
                create(translation.spec)
            except (FeedbackLoopError, Unreadable) as error:
                self.left_out.add(f"`{assertion.get('type')}`: {str(error).rstrip('.')}", place)
                continue
            for note in translation.notes:
                self.left_out.add(f"`{assertion.get('type')}`, in part: {note}", place)
            made.checks.append(translation.spec)
            if known.get("type") == "equals" and isinstance(known.get("value"), str):
                wanted.append(known["value"])
        made.expected = wanted[0] if len(wanted) == 1 else None
        return made

    def _follow(self, spec: dict[str, Any]) -> None:
        """Write a JSON Schema that a check names as a file into the check."""
        for name, value in spec.items():
            if name.removeprefix("not_") in {"json_schema", "contains_json"} and isinstance(value, str):
                spec[name] = value_of(value, self.folder)

    def _assertions(self, assertions: list[Any], place: str) -> Iterator[dict[str, Any]]:
        """Assertions one by one: those of a set, and those that refer to a template."""
        for item in assertions:
            assertion = _short(item) if isinstance(item, str) else dict(mapping(item))
            reference = assertion.get("$ref")
            if isinstance(reference, str):
                assertion = dict(mapping(self.templates.get(reference.rpartition("/")[2])))
            if assertion.get("type") != "assert-set":
                yield assertion
                continue
            for name in ("threshold", "weight", "metric"):
                if assertion.get(name) is not None:
                    self.left_out.add(f"`{name}` of an assert-set, whose assertions count one by one", place)
            yield from self._assertions(listed(assertion.get("assert")), place)

    def _name_lost(self, test: Mapping[str, Any], place: str) -> None:
        for name in sorted(test.keys() - _CARRIED):
            if test[name] in _NOTHING:
                continue
            parts = sorted(mapping(test[name])) if name == "options" else []
            for part in parts or [""]:
                self.left_out.add(f"`{name}{'.' if part else ''}{part}` of tests", place)


def _together(outer: Mapping[str, Any], inner: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **outer,
        **inner,
        "vars": {**mapping(outer.get("vars")), **mapping(inner.get("vars"))},
        "assert": [*listed(outer.get("assert")), *listed(inner.get("assert"))],
    }


def _test_of_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a table of tests: a column for each variable, and columns whose names begin with two underscores."""
    test: dict[str, Any] = {"vars": {}, "assert": [], "metadata": {}}
    for name, value in row.items():
        text = as_text(value)
        if not name.startswith("__"):
            test["vars"][name] = value
        elif text is None:
            continue
        elif re.fullmatch(r"__expected\d*", name):
            test["assert"].append(_short(text))
        elif name.startswith("__metadata:"):
            test["metadata"][name.partition(":")[2]] = value
        elif name in ("__description", "__metric"):
            test[name[2:]] = text
        else:
            test.setdefault("options", {})[name[2:]] = value
    return test


def _short(text: str) -> dict[str, Any]:
    """An assertion as tables write it: `contains: refund`, `levenshtein(5): hello`, `is-json`; a text alone is what is expected."""
    for prefix, type_ in (
        ("fn:", "javascript"),
        ("eval:", "javascript"),
        ("python:", "python"),
        ("grade:", "llm-rubric"),
    ):
        if text.startswith(prefix):
            return {"type": type_, "value": text.removeprefix(prefix).strip()}
    match = _SHORT.fullmatch(text.strip())
    if match is None or (match["value"] is None and match["type"].removeprefix("not-") not in _WITHOUT_VALUE):
        return {"type": "equals", "value": text}
    found: dict[str, Any] = {"type": match["type"]}
    if match["value"] is not None:
        value = match["value"].strip()
        found["value"] = [item.strip() for item in value.split(",")] if match["type"] in _LISTS else value
    if match["threshold"] is not None:
        found["threshold"] = float(match["threshold"])
    return found


def _filled(value: Any, variables: Mapping[str, Any]) -> Any:
    """A value with plain variables in its texts written out; what else a template can do is left to be refused."""
    if isinstance(value, str):
        return _VARIABLE.sub(_of(variables), value) if "{{" in value else value
    if isinstance(value, list):
        return [_filled(item, variables) for item in value]
    if isinstance(value, Mapping):
        return {str(name): _filled(item, variables) for name, item in value.items()}
    return value


def _of(variables: Mapping[str, Any]) -> Callable[[re.Match[str]], str]:
    def text(match: re.Match[str]) -> str:
        value = variables.get(match[1])
        return match[0] if value is None else as_text(value) or ""

    return text
