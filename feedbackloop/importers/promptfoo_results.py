"""Results of promptfoo (`promptfoo eval -o results.json` or `.jsonl`): answers with their figures, and what its checks said."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from feedbackloop.datasets import Row, case_of, document, fault, rows
from feedbackloop.graders.promptfoo import MODEL_GRADED
from feedbackloop.identity import content_id
from feedbackloop.importers.figures import amount, listed, mapping, moment, whole, words
from feedbackloop.importers.formats import Format, Sample, Source
from feedbackloop.importers.intake import Answer, Entry, Said, Variants
from feedbackloop.importers.promptfoo_models import model_of
from feedbackloop.models import Message, RaterKind
from feedbackloop.text import storable, storable_value

_LONGEST_LABEL = 40  # promptfoo calls a prompt by its whole text unless it is given a label
_PASSES = 0.5
_FAILED = 2  # `failureReason`: 0 none, 1 a check, 2 an error
_KNOWN = {
    *(
        "id",
        "promptId",
        "promptIdx",
        "testIdx",
        "provider",
        "prompt",
        "vars",
        "testCase",
        "response",
        "success",
        "score",
    ),
    *("error", "failureReason", "latencyMs", "cost", "tokenUsage", "gradingResult", "namedScores", "description"),
    *("repeatIndex", "evalId"),
}


def _recognises(begin: Sample) -> bool:
    if begin.whole is None:
        return begin.has("provider", "prompt", "vars") and (begin.has("gradingResult") or begin.has("success"))
    results = begin.whole.get("results")
    return isinstance(results, Mapping) and bool(results.keys() & {"results", "table"})


@dataclass(frozen=True)
class _Results:
    """The results of a file and the templates of their prompts, as far as it has them."""

    each: Callable[[], Iterator[tuple[int, Mapping[str, Any]]]]
    """With their number, or line; to be gone through several times."""
    lines: bool
    """Whether they stand on a line each."""
    templates: Mapping[int, str] = field(default_factory=dict)
    at: Any = None


def _results(source: Source) -> _Results:
    if ".jsonl" in source.path.suffixes or ".ndjson" in source.path.suffixes:
        return _Results(lambda: ((row.line, row.values) for row in rows(source.path)), lines=True)
    whole = document(source.path)
    results = mapping(mapping(whole).get("results"))
    if mapping(whole).get("config"):
        source.left_out.add("the configuration within the results (import promptfooconfig.yaml itself)", "config")
    each = results.get("results")
    if not isinstance(each, list):
        each = _of_table(mapping(results.get("table")))
    head = listed(results.get("prompts")) or listed(mapping(mapping(results.get("table")).get("head")).get("prompts"))
    templates = {at: prompt["raw"] for at, prompt in enumerate(head) if isinstance(mapping(prompt).get("raw"), str)}
    numbered = [(number, mapping(result)) for number, result in enumerate(each, 1)]
    return _Results(lambda: iter(numbered), False, templates, results.get("timestamp"))


def _of_table(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The results of an older file: a row for each test, an output for each prompt."""
    head = mapping(table.get("head"))
    names = [str(name) for name in listed(head.get("vars"))]
    prompts = [mapping(prompt) for prompt in listed(head.get("prompts"))]
    found = []
    for at, row in enumerate(mapping(row) for row in listed(table.get("body"))):
        values = dict(zip(names, listed(row.get("vars")), strict=False))
        for number, output in enumerate(mapping(output) for output in listed(row.get("outputs"))):
            prompt = prompts[number] if number < len(prompts) else {}
            made = {
                "testIdx": at,
                "promptIdx": number,
                "vars": values,
                "provider": output.get("provider") or prompt.get("provider"),
                "prompt": {"raw": output.get("prompt"), "label": prompt.get("label") or prompt.get("display")},
                "response": {"output": output.get("text"), "tokenUsage": output.get("tokenUsage")},
                "success": output.get("pass"),
                "testCase": row.get("test") or {},
            }
            known = ("score", "error", "failureReason", "latencyMs", "cost", "gradingResult", "namedScores")
            found.append(made | {name: output[name] for name in known if name in output})
    return found


def _read(source: Source) -> Iterator[Entry]:
    read = _results(source)
    several = len({_label(result) for _, result in read.each()}) > 1
    try:
        at = moment(read.at)
    except ValueError as error:
        raise fault(f"'timestamp' is no time: it must be {error}", source.path) from error
    variants = Variants()
    repeats: dict[tuple[str, str], int] = {}
    for number, result in read.each():
        place: int | str = number if read.lines else f"result {number}"
        for name in sorted(result.keys() - _KNOWN):
            if result[name] not in (None, "", {}, []):
                source.left_out.add(f"`{name}` of results", place)
        label = _label(result)
        provider = _provider(result)
        index = result.get("promptIdx")
        template = read.templates.get(index, label) if isinstance(index, int) else label
        prompt = _chat(template)
        short = label if len(label) <= _LONGEST_LABEL and "\n" not in label else ""
        variant = variants.of(
            words(f"{provider.name}: {short}" if several and short else provider.name),
            words(provider.model),
            **({"prompt": storable_value(prompt).value} if prompt else {}),
        )
        try:
            case = case_of(_question(result, number), source.path)
            figures = _figures(result, source, place)
        except ValueError as error:
            raise fault(f"result {number}: {error}", source.path, number if read.lines else None) from error
        cell = (case.id, variant.id)
        repeats[cell] = repeat = repeats.get(cell, -1) + 1
        output = mapping(result.get("response")).get("output")
        failed = "error" in figures
        text, repaired = ("", 0) if failed else storable(_text(output))
        said = () if failed else tuple(_said(result, source, place))
        sent = _chat(str(mapping(result.get("prompt")).get("raw") or ""))
        messages = sent if isinstance(sent, list) else [{"role": "user", "content": sent}] if sent else []
        messages = storable_value(messages).value
        yield Answer(number, case, variant, text, figures, repeat, repaired, tuple(messages), at, said)


@dataclass(frozen=True)
class _Provider:
    name: str
    model: str


def _provider(result: Mapping[str, Any]) -> _Provider:
    given = result.get("provider")
    known = given if isinstance(given, Mapping) else {"id": given}
    model = model_of(str(known.get("id") or "unknown provider"))
    return _Provider(str(known.get("label") or model), model)


def _label(result: Mapping[str, Any]) -> str:
    prompt = mapping(result.get("prompt"))
    return str(prompt.get("label") or prompt.get("raw") or "")


def _chat(text: str) -> str | list[Message]:
    """A prompt that is a list of messages as JSON as that list."""
    if not text.lstrip().startswith("["):
        return text
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        return text
    chat = isinstance(read, list) and all(isinstance(item, dict) and "role" in item for item in read)
    return read if chat and read else text


def _question(result: Mapping[str, Any], number: int) -> Row:
    values = mapping(result.get("vars")) or mapping(mapping(result.get("testCase")).get("vars"))
    test = mapping(result.get("testCase"))
    inputs = dict(values) or {"input": str(mapping(result.get("prompt")).get("raw") or "")}
    metadata = dict(mapping(test.get("metadata")))
    if test.get("description") or result.get("description"):
        metadata["description"] = test.get("description") or result.get("description")
    made: dict[str, Any] = {"inputs": inputs, "metadata": metadata}
    wanted = [check.get("value") for check in listed(test.get("assert")) if mapping(check).get("type") == "equals"]
    if len(wanted) == 1 and isinstance(wanted[0], str) and "{{" not in wanted[0]:
        made["expected"] = wanted[0]
    return Row(number, made)


def _figures(result: Mapping[str, Any], source: Source, place: int | str) -> dict[str, Any]:
    response = mapping(result.get("response"))
    usage = mapping(response.get("tokenUsage")) or mapping(result.get("tokenUsage"))
    details = mapping(usage.get("completionDetails"))
    cached = bool(response.get("cached"))
    given = {
        "latency_ms": (result.get("latencyMs", response.get("latencyMs")), amount, "latencyMs"),
        "cost_usd": (result.get("cost", response.get("cost")), amount, "cost"),
        "input_tokens": (usage.get("prompt"), whole, "tokenUsage.prompt"),
        "output_tokens": (usage.get("completion"), whole, "tokenUsage.completion"),
        "reasoning_tokens": (details.get("reasoning"), whole, "tokenUsage.completionDetails.reasoning"),
    }
    found: dict[str, Any] = {}
    for name, (value, read, called) in given.items():
        if value is not None:
            try:
                found[name] = read(value)
            except ValueError as error:
                raise ValueError(f"'{called}' is {value!r}; it must be {error}") from error
    # What it does not know the price of costs 0 there.
    if found.get("cost_usd") == 0:
        del found["cost_usd"]
        source.note("A cost of 0 is taken for an unknown one, as promptfoo writes it.")
    if cached:
        # It reports the time of looking it up; that of the call that made the answer is not known.
        found.pop("latency_ms", None)
        found["cached"] = True
    if usage:
        found["usage"] = dict(usage)
    if isinstance(response.get("finishReason"), str):
        found["finish_reason"] = words(response["finishReason"])
    if response.get("metadata"):
        source.left_out.add("`metadata` of responses", place)
    failure, reason = response.get("error") or result.get("error"), result.get("failureReason")
    if reason == _FAILED or (failure and response.get("output") is None and reason != 1):
        found |= {"error_type": "ProviderError", "error": words(failure or "promptfoo reports an error")}
    return found


def _said(result: Mapping[str, Any], source: Source, place: int | str) -> Iterator[Said]:
    grading = mapping(result.get("gradingResult"))
    parts = [mapping(part) for part in listed(grading.get("componentResults"))]
    for part in parts:
        assertion = mapping(part.get("assertion"))
        type_ = str(assertion.get("type") or "check")
        if _differs(part):
            passed = "is" if part.get("pass") else "is not"
            source.left_out.add(f"the threshold of `{type_}`, by which {part.get('score'):g} {passed} a pass", place)
        yield _verdict(part, str(assertion.get("metric") or type_), type_, assertion)
    if grading and not parts and isinstance(grading.get("score"), int | float):
        yield _verdict(grading, "score", "score", {})
    named = {str(mapping(part.get("assertion")).get("metric")) for part in parts}
    for name, score in mapping(result.get("namedScores")).items():
        if name not in named and isinstance(score, int | float):
            yield Said(words(name), "promptfoo:derived", "grader", float(score))


def _differs(part: Mapping[str, Any]) -> bool:
    """Whether the verdict is another one than its score would be here."""
    score = part.get("score")
    return isinstance(score, int | float) and 0 <= score <= 1 and (score >= _PASSES) != bool(part.get("pass"))


def _verdict(part: Mapping[str, Any], metric: str, type_: str, assertion: Mapping[str, Any]) -> Said:
    score = part.get("score")
    value = float(score) if isinstance(score, int | float) else float(bool(part.get("pass")))
    reason = part.get("reason")
    kind: RaterKind = "judge" if type_.removeprefix("not-") in MODEL_GRADED else "grader"
    rater = f"promptfoo:{type_}@{content_id(assertion)[:4]}"
    if type_ == "human":
        kind, rater = "human", "promptfoo viewer"
    return Said(
        *(words(metric), words(rater), kind, value),
        reason=None if reason in (None, "") else words(reason),
        blind=kind != "human",
    )


def _text(output: Any) -> str:
    return output if isinstance(output, str) else "" if output is None else json.dumps(output, ensure_ascii=False)


PROMPTFOO = Format("results of promptfoo", _recognises, _read)
