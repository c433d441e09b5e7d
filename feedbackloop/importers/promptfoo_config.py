"""promptfoo's configs as what `feedbackloop run` takes: a run spec and its dataset, written beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from feedbackloop.datasets import document, fault
from feedbackloop.errors import DatasetError, FeedbackLoopError
from feedbackloop.importers.figures import mapping
from feedbackloop.importers.formats import Conversion, Format, Sample, Source
from feedbackloop.importers.intake import Variants
from feedbackloop.importers.promptfoo_files import Unreadable, as_yaml, text_of
from feedbackloop.importers.promptfoo_models import model_of
from feedbackloop.importers.promptfoo_tests import Test, Tests
from feedbackloop.models import Message, Variant
from feedbackloop.prompts import Prompt
from feedbackloop.text import storable_value

_PARAMS = {
    *("temperature", "max_tokens", "max_completion_tokens", "top_p", "top_k", "seed", "stop", "n", "frequency_penalty"),
    *("presence_penalty", "response_format", "reasoning_effort", "tools", "tool_choice", "verbosity", "logit_bias"),
}
_CARRIED = {
    *("description", "prompts", "providers", "targets", "tests", "defaultTest", "scenarios", "evaluateOptions"),
    *("assertionTemplates", "$schema"),
}
_PROGRAMS = (
    "file:",
    "exec:",
    "python:",
    "http:",
    "https:",
    "webhook:",
    "ws:",
    "golang:",
    "ruby:",
    "package:",
    "promptfoo:",
    "echo",
)
_LABEL = 40


def _recognises(begin: Sample) -> bool:
    return (
        begin.whole is not None
        and "prompts" in begin.whole
        and bool(begin.whole.keys() & {"providers", "targets", "tests", "defaultTest", "scenarios"})
    )


def _convert(source: Source, task: str) -> Conversion:
    config = document(source.path)
    if not isinstance(config, Mapping) or "prompts" not in config:
        raise fault("a promptfoo config is a mapping with `prompts`, `providers` and `tests`", source.path)
    for name in sorted(config.keys() - _CARRIED):
        if config[name] not in (None, "", {}, [], False):
            source.left_out.add(f"`{name}`", "the config")
    folder = source.path.parent
    tests = Tests(folder, mapping(config.get("assertionTemplates")), source.left_out).of(config)
    variants = list(_variants(config, source))
    if not variants:
        told = source.left_out.told()
        raise fault(f"no prompt and provider of it can be carried over{': ' + told[0] if told else ''}", source.path)
    if not tests:
        raise fault("there is no test in it that could be carried over", source.path)
    stem = source.path.name.partition(".")[0]
    dataset, spec = folder / f"{stem}.cases.jsonl", folder / f"{stem}.feedbackloop.yaml"
    shared, lines = _dataset(tests)
    graders: list[Any] = list(shared)
    if any("checks" in line.get("metadata", {}) for line in lines):
        graders.append({"case_checks": None, "threshold": 1})
    values: dict[str, Any] = {"task": task, "dataset": dataset.name, "variants": [_spec_of(one) for one in variants]}
    if graders:
        values["graders"] = graders
    values |= _options(config, source)
    about = "".join(f"# {line}\n" for line in str(config.get("description") or "").splitlines())
    texts = {
        spec: about + as_yaml(storable_value(values).value),
        dataset: "".join(json.dumps(storable_value(line).value, ensure_ascii=False) + "\n" for line in lines),
    }
    new = _write(texts)
    checks = len(shared) + sum(len(line.get("metadata", {}).get("checks", [])) for line in lines)
    return Conversion((spec, dataset), new, len(lines), tuple(one.name for one in variants), checks)


def _write(texts: Mapping[Path, str]) -> int:
    """Write what is not there, and nothing over what says something else."""
    there = {}
    for path, text in texts.items():
        try:
            there[path] = path.read_bytes() if path.exists() else None
        except OSError as error:
            raise DatasetError(f"it cannot be read: {error.strerror}", file=str(path)) from error
        if there[path] not in (None, text.encode()):
            raise DatasetError(
                "it is there already and says something else, perhaps because somebody changed it; move it away and "
                "import the config again",
                file=str(path),
            )
    for path, text in texts.items():
        if there[path] is None:
            try:
                path.write_text(text, encoding="utf-8", newline="\n")
            except OSError as error:
                raise DatasetError(f"it cannot be written: {error.strerror}", file=str(path)) from error
    return sum(found is None for found in there.values())


def _dataset(tests: list[Test]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The checks that all tests share, and a row for each test with those of its own."""
    shared = [check for check in tests[0].checks if all(check in test.checks for test in tests)]
    names = list(dict.fromkeys(name for test in tests for name in test.inputs))
    own = [[check for check in test.checks if check not in shared] for test in tests]
    # Where each test only names its text, that text is what is expected, and one check will do.
    plain = any(own) and all(
        test.expected is not None and checks in ([], [{"equals": test.expected}])
        for test, checks in zip(tests, own, strict=True)
    )
    lines = []
    for number, (test, checks) in enumerate(zip(tests, own, strict=True), 1):
        # What a test lacks that others have is empty there, and an error here.
        inputs = {name: test.inputs.get(name, "") for name in names} or {"input": ""}
        line: dict[str, Any] = {"id": str(number), "inputs": inputs}
        if test.expected is not None:
            line["expected"] = test.expected
        metadata = {**test.metadata, **({"checks": checks} if checks and not plain else {})}
        lines.append({**line, **({"metadata": metadata} if metadata else {})})
    return [*shared, *([{"equals": None}] if plain else [])], lines


def _variants(config: Mapping[str, Any], source: Source) -> Iterator[Variant]:
    prompts = list(_prompts(config.get("prompts"), source))
    names = Variants()
    for place, provider in enumerate(_providers(config, source), 1):
        model = model_of(provider["id"])
        settings = mapping(provider.get("config"))
        for name in sorted(settings.keys() - _PARAMS):
            advice = " (write it into a [providers.NAME] table of feedbackloop.toml)" if name.startswith("api") else ""
            source.left_out.add(f"`{name}` of the provider's config{advice}", f"provider {place}")
        for name in sorted(provider.keys() - {"id", "label", "config", "prompts"}):
            source.left_out.add(f"`{name}` of a provider", f"provider {place}")
        wanted = provider.get("prompts")
        name = str(provider.get("label") or model.rpartition(":")[2] or model)
        for label, prompt in prompts:
            if isinstance(wanted, list) and label not in wanted:
                continue
            params = {key: value for key, value in settings.items() if key in _PARAMS}
            made = names.of(f"{name}: {label}" if len(prompts) > 1 else name, model, prompt=prompt, params=params)
            yield made.model_copy(update={"model": model})


def _prompts(given: Any, source: Source) -> Iterator[tuple[str, str | list[Message]]]:
    """Labels and prompts, those in files included."""
    number = 0
    for place, item in enumerate(given if isinstance(given, list) else [given], 1):
        known = {"raw": item} if isinstance(item, str) else mapping(item)
        raw = known.get("raw") or known.get("id")
        if not isinstance(raw, str):
            source.left_out.add("what is no prompt", f"prompt {place}")
            continue
        try:
            texts = _texts(raw, source.path.parent)
        except (Unreadable, DatasetError) as error:
            source.left_out.add(str(error), f"prompt {place}")
            continue
        for text in texts:
            number += 1
            prompt = _chat(text)
            try:
                Prompt.of(Variant.model_validate({"name": f"prompt {place}", "model": "x", "prompt": prompt}))
            except FeedbackLoopError as error:
                source.left_out.add(f"a template that Jinja2 cannot read: {error}", f"prompt {place}")
                continue
            if "env." in text:
                source.left_out.add("`env` in a template", f"prompt {place}")
            yield str(known.get("label") or f"prompt {number}")[:_LABEL], prompt


def _texts(raw: str, folder: Path) -> list[str]:
    """The prompts that an entry stands for: itself, or those in the file it names, between lines of three dashes."""
    endings = (".txt", ".json", ".md", ".yaml", ".yml", ".js", ".py", ".ts")
    if not (raw.startswith("file://") or ("\n" not in raw and raw.endswith(endings))):
        return [raw]
    text = text_of(raw, folder)
    if raw.endswith((".yaml", ".yml")):
        return [json.dumps(document(folder / raw.removeprefix("file://")))]
    parts = [part.strip() for part in text.split("\n---\n")] if raw.endswith(".txt") else [text]
    return [part for part in parts if part]


def _chat(text: str) -> str | list[Message]:
    if text.lstrip().startswith("["):
        try:
            read = json.loads(text)
        except (ValueError, RecursionError):
            return text
        if read and all(isinstance(item, dict) and "role" in item and "content" in item for item in read):
            return list(read)
    return text


def _providers(config: Mapping[str, Any], source: Source) -> Iterator[dict[str, Any]]:
    given = config.get("providers", config.get("targets"))
    for place, item in enumerate(given if isinstance(given, list) else [] if given is None else [given], 1):
        known: dict[str, Any] = {"id": item} if isinstance(item, str) else dict(mapping(item))
        if "id" not in known and len(known) == 1:
            # The short form: {"openai:gpt-4o": {config: ...}}.
            [(name, options)] = known.items()
            known = {"id": name, **mapping(options)}
        if not isinstance(known.get("id"), str):
            source.left_out.add("what is no provider", f"provider {place}")
        elif known["id"].startswith(_PROGRAMS):
            source.left_out.add(
                f"the provider {known['id']} (a Python function can be a model here: python:my_app.py:answer)",
                f"provider {place}",
            )
        else:
            yield known


def _spec_of(variant: Variant) -> dict[str, Any]:
    made: dict[str, Any] = {"name": variant.name, "model": variant.model, "prompt": variant.prompt}
    return {**made, "params": variant.params} if variant.params else made


def _options(config: Mapping[str, Any], source: Source) -> dict[str, Any]:
    """What the spec says of how to run."""
    options = mapping(config.get("evaluateOptions"))
    found: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    for name, value in options.items():
        whole = isinstance(value, int) and not isinstance(value, bool) and value > 0
        if name == "repeat" and whole:
            found["repeats"] = value
        elif name == "maxConcurrency" and whole:
            limits["concurrency"] = value
        elif name == "timeoutMs" and whole:
            limits["timeout_s"] = value / 1000
        elif name != "showProgressBar" and value not in (None, "", False):
            source.left_out.add(f"`evaluateOptions.{name}`", "the config")
    return {**found, "limits": limits} if limits else found


PROMPTFOO_CONFIG = Format("a config of promptfoo", _recognises, convert=_convert)
