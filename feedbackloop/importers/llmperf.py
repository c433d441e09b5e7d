"""Requests that a load test measured (ray-project/llmperf and its leaderboard): times, tokens and errors, but no texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from feedbackloop.datasets import Row, as_text, rows
from feedbackloop.importers.figures import amount, error_of_status, figure, whole, words
from feedbackloop.importers.formats import Format, Sample, Source
from feedbackloop.importers.intake import Answer, Entry, Variants
from feedbackloop.models import Case

_MEASURED: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "end_to_end_latency_s": ("latency_ms", lambda value: amount(value) * 1000),
    "ttft_s": ("ttft_ms", lambda value: amount(value) * 1000),
    "number_input_tokens": ("input_tokens", whole),
    "number_output_tokens": ("output_tokens", whole),
}
_KNOWN = {*_MEASURED, "run", "request", "model", "error_code", "error_msg"}
_OF_OTHERS = {"inter_token_latency_s", "request_output_throughput_token_per_s", "number_total_tokens"}


def _recognises(begin: Sample) -> bool:
    return begin.has("ttft_s", "end_to_end_latency_s", "error_code")


def _read(source: Source) -> Iterator[Entry]:
    variants = Variants()
    source.note("The file has no texts: questions are numbers of requests, and answers are empty.")
    numbers: dict[str, int] = {}
    for row in rows(source.path):
        values = row.values
        model = as_text(values.get("model"))
        name = words(as_text(values.get("run")) or model or source.path.name.partition(".")[0])
        numbers[name] = number = numbers.get(name, -1) + 1
        figures = _figures(row, source)
        if model is not None:
            figures["provider_model"] = words(model)
        for column in sorted(values.keys() - _KNOWN):
            follows = ", which follows from what is kept" if column in _OF_OTHERS else ""
            source.left_out.add(f"the column `{column}`{follows}", row.line)
        case = Case.model_validate({"inputs": {"request": as_text(values.get("request")) or str(number)}})
        yield Answer(row.line, case, variants.of(name), "", figures)


def _figures(row: Row, source: Source) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for column, (name, read) in _MEASURED.items():
        value = figure(row, column, read, source.path)
        if value is not None:
            found[name] = value
    code, message = as_text(row.values.get("error_code")), as_text(row.values.get("error_msg"))
    if code is None and message is None:
        return found
    # No first token of an answer that never came.
    found.pop("ttft_ms", None)
    found["error"] = words(message or f"error {code}")
    try:
        found["error_type"] = error_of_status(int(float(code))) if code is not None else "ProviderError"
    except (ValueError, OverflowError):
        found["error_type"] = "ProviderError"
    return found


LLMPERF = Format("the requests of a load test by llmperf", _recognises, _read)
