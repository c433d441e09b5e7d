"""Files of OpenAI's Batch API: what was asked (input), and what came of it (output and errors), tied by `custom_id`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from feedbackloop.datasets import Row, as_text, case_of, fault, open_dataset, rows
from feedbackloop.importers.answers import cases_by_id
from feedbackloop.importers.figures import error_of_status, listed, mapping, moment, spoken, tokens_of, words
from feedbackloop.importers.formats import Format, Sample, Source
from feedbackloop.importers.intake import Answer, Entry, Variants
from feedbackloop.models import Case
from feedbackloop.text import storable, storable_value

_ASKED = {"messages", "prompt", "input", "instructions", "model", "stream", "stream_options"}
_BY_NAME = "SELECT * FROM cases WHERE external_id IN (SELECT unnest(?)) ORDER BY created_at"


@dataclass(frozen=True)
class _Asked:
    """A request of an input file."""

    case: Case
    model: str | None
    params: dict[str, Any]


def _recognises_input(begin: Sample) -> bool:
    return begin.has("custom_id", "body")


def _recognises_output(begin: Sample) -> bool:
    return begin.has("custom_id", but=("body",)) and all(
        row.values.keys() & {"response", "error"} for row in begin.rows
    )


def _read_input(source: Source) -> Iterator[Entry]:
    for row in rows(source.path):
        asked = _asked(row, source)
        if asked is not None:
            yield asked.case
    source.note("These are questions without answers: import the batch's output file next.")


def _asked(row: Row, source: Source) -> _Asked | None:
    name, body = as_text(row.values.get("custom_id")), row.values.get("body")
    if name is None or not isinstance(body, dict):
        raise fault("a request of a batch has a `custom_id` and a `body`", source.path, row.line)
    messages = _messages(body)
    if messages is None:
        url = row.values.get("url")
        source.left_out.add(f"requests to {url}, which ask for no text", row.line)
        return None
    model = as_text(body.get("model"))
    params = {key: value for key, value in storable_value(body).value.items() if key not in _ASKED}
    values = {"id": name, "messages": messages, "metadata": {"batch": {"model": model, "params": params}}}
    return _Asked(case_of(Row(row.line, values), source.path), model, params)


def _messages(body: Mapping[str, Any]) -> list[Any] | None:
    """What a request asks, as chat messages, whichever endpoint it is for; None if it asks for no text."""
    if isinstance(body.get("messages"), list):
        return list(body["messages"])
    given = body.get("prompt")
    if given is None and ("instructions" in body or "max_output_tokens" in body or isinstance(body.get("input"), list)):
        given = body.get("input")
    system = [{"role": "system", "content": body["instructions"]}] if isinstance(body.get("instructions"), str) else []
    if isinstance(given, list) and all(isinstance(item, dict) and "role" in item for item in given):
        return [*system, *given]
    if isinstance(given, str):
        return [*system, {"role": "user", "content": given}]
    # Embeddings and moderations have an `input` too.
    return None


def _read_output(source: Source) -> Iterator[Entry]:
    known = _known(source)
    variants = Variants()
    for row in rows(source.path):
        name = as_text(row.values.get("custom_id"))
        if name is None:
            raise fault("'custom_id' is missing", source.path, row.line)
        if name not in known:
            raise fault(
                f"nothing is known of the request '{name}'; import the batch's input file first, or name it: --dataset INPUT.jsonl",
                source.path,
                row.line,
            )
        yield from _answers(row, known[name], variants, source)


def _answers(row: Row, asked: _Asked, variants: Variants, source: Source) -> Iterator[Answer]:
    """What came of one request: its answers, or its failure."""
    response = mapping(row.values.get("response"))
    body = mapping(response.get("body"))
    model = words(asked.model or as_text(body.get("model")) or "unknown model")
    variant = variants.of(model, params=asked.params)
    figures = tokens_of(body.get("usage"))
    if isinstance(body.get("model"), str):
        figures["provider_model"] = words(body["model"])
    try:
        at = moment(body.get("created") or body.get("created_at"))
    except ValueError as error:
        raise fault(f"'created' is no time: it must be {error}", source.path, row.line) from error
    failure = _failure(row, response, body)
    said = [] if failure else _said(body)
    if not failure and not said:
        failure = {"error_type": "OutputInvalid", "error": "there is no answer in the response"}
    if failure:
        yield Answer(row.line, asked.case, variant, "", {**figures, **failure}, 0, at=at)
    for number, (output, reason) in enumerate(said):
        text, repaired = storable(output)
        if reason:
            figures["finish_reason"] = words(reason)
        yield Answer(row.line, asked.case, variant, text, dict(figures), number, repaired, at=at)
        # The usage is that of all choices together.
        figures = {key: value for key, value in figures.items() if key == "provider_model"}
    if len(said) > 1:
        source.note("Of a request with several answers, tokens are counted with the first.")


def _failure(row: Row, response: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any] | None:
    """What went wrong, as fields of a response; none if nothing did."""
    status = response.get("status_code")
    error = row.values.get("error") or body.get("error")
    if not error and (status is None or status == 200) and response:
        return None
    told = error if isinstance(error, dict) else {"message": error}
    message = told.get("message") or told.get("code") or f"status {status}"
    kind = error_of_status(status) if isinstance(status, int) and status != 200 else "ProviderError"
    # Of a batch that ended before its turn came, nothing was sent.
    kind = "ProviderTimeout" if told.get("code") == "batch_expired" else kind
    return {"error_type": kind, "error": words(message)}


def _said(body: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """The answers in a response and why each ended, whichever endpoint it is of."""
    found = []
    for choice in listed(body.get("choices")):
        if isinstance(choice, dict):
            message = choice.get("message")
            text = spoken(message) if isinstance(message, dict) else choice.get("text")
            if isinstance(text, str):
                found.append((text, as_text(choice.get("finish_reason"))))
    items = body.get("output")
    if isinstance(items, list):
        texts = [spoken(item) for item in items if isinstance(item, dict) and item.get("type") == "message"]
        if any(text is not None for text in texts):
            found.append(("".join(text or "" for text in texts), as_text(body.get("status"))))
        elif calls := [item for item in items if isinstance(item, dict) and item.get("type") == "function_call"]:
            found.append((json.dumps(calls, ensure_ascii=False), as_text(body.get("status"))))
    return found


def _known(source: Source) -> dict[str, _Asked]:
    """The requests that an output file can refer to."""
    if source.cases is not None:
        beside = Source(source.cases, source.store)
        first = next(rows(source.cases))
        if "body" not in first.values:
            return {name: _of_case(case) for name, case in cases_by_id(open_dataset(source.cases)).items()}
        found = {}
        for row in rows(source.cases):
            if (asked := _asked(row, beside)) is not None and asked.case.external_id is not None:
                found[asked.case.external_id] = asked
        return found
    if not source.store.exists():
        return {}
    names = [name for row in rows(source.path) if (name := as_text(row.values.get("custom_id"))) is not None]
    by_name: dict[str, Case] = {}
    for case in source.store.load(Case, _BY_NAME, [names]):
        other = by_name.setdefault(str(case.external_id), case)
        if other.id != case.id:
            raise fault(
                f"the store has two cases called '{case.external_id}'; name the batch's input file: --dataset INPUT.jsonl",
                source.path,
            )
        by_name[str(case.external_id)] = case
    return {name: _of_case(case) for name, case in by_name.items()}


def _of_case(case: Case) -> _Asked:
    batch = mapping(case.metadata.get("batch"))
    return _Asked(case, batch.get("model"), batch.get("params") or {})


OPENAI_BATCH = Format("the output of an OpenAI batch", _recognises_output, _read_output)
OPENAI_BATCH_INPUT = Format("the input of an OpenAI batch", _recognises_input, _read_input)
