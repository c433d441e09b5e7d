"""AlpacaEval's files: a model's outputs, and a model judge's preferences between two of them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from feedbackloop.datasets import Row, as_text, case_of, fault, rows
from feedbackloop.importers.figures import amount, figure, words
from feedbackloop.importers.formats import Format, Sample, Source
from feedbackloop.importers.intake import Answer, Duel, Entry, Judged, Variants, Winner
from feedbackloop.text import storable

_OUTPUT = {"instruction", "input", "output", "generator", "dataset", "price_per_example", "time_per_example"}
_ANNOTATION = {
    *(
        "instruction",
        "input",
        "dataset",
        "output_1",
        "generator_1",
        "output_2",
        "generator_2",
        "annotator",
        "preference",
    ),
    *("price_per_example", "time_per_example", "raw_completion"),
}


def _recognises_outputs(begin: Sample) -> bool:
    return begin.has("instruction", "output", "generator")


def _recognises_annotations(begin: Sample) -> bool:
    return begin.has("instruction", "output_1", "output_2", "preference")


def _read_outputs(source: Source) -> Iterator[Entry]:
    variants = Variants()
    for row in rows(source.path):
        _name_others(row, _OUTPUT, source)
        answer = _answer(row, "output", "generator", variants, source, figures=_cost_and_time(row, source))
        if answer is not None:
            yield answer


def _read_annotations(source: Source) -> Iterator[Entry]:
    variants = Variants()
    for row in rows(source.path):
        _name_others(row, _ANNOTATION, source)
        a = _answer(row, "output_1", "generator_1", variants, source)
        b = _answer(row, "output_2", "generator_2", variants, source)
        if a is None or b is None:
            continue
        if a.variant.id == b.variant.id:
            source.left_out.add("a comparison of a generator with itself", row.line)
            continue
        preference = _preference(row, source)
        figures = _cost_and_time(row, source)
        said = row.values.get("raw_completion")
        if said is None:
            said = {"preference": preference}
        yield Duel(
            row.line,
            a,
            b,
            None if preference is None else _winner(preference),
            rater=f"judge:{words(as_text(row.values.get('annotator')) or 'alpaca_eval')}",
            rater_kind="judge",
            judged=Judged(
                words(said),
                figures.get("cost_usd"),
                figures.get("latency_ms"),
                None if preference is not None else "the judge gave no preference",
                {"preference": preference},
            ),
        )


def _answer(
    row: Row,
    output: str,
    generator: str,
    variants: Variants,
    source: Source,
    *,
    figures: Mapping[str, Any] | None = None,
) -> Answer | None:
    name, text = as_text(row.values.get(generator)), row.values.get(output)
    if name is None:
        raise fault(f"'{generator}' is empty: nothing says whose answer this is", source.path, row.line)
    if not isinstance(text, str):
        source.left_out.add(f"a row whose `{output}` is no text", row.line)
        return None
    asked = {name: row.values[name] for name in ("instruction", "input") if row.values.get(name)}
    if (dataset := as_text(row.values.get("dataset"))) is not None:
        asked["segment"] = dataset
    text, repaired = storable(text)
    case = case_of(Row(row.line, asked), source.path)
    return Answer(row.line, case, variants.of(words(name)), text, figures or {}, repaired=repaired)


def _cost_and_time(row: Row, source: Source) -> dict[str, Any]:
    found = {}
    for column, name, factor in (("price_per_example", "cost_usd", 1), ("time_per_example", "latency_ms", 1000)):
        value = figure(row, column, amount, source.path)
        if value is not None:
            found[name] = value * factor
    return found


def _preference(row: Row, source: Source) -> float | None:
    """From 1 (the first) to 2 (the second); 0 is how older files write a draw. None where the judge failed."""
    value = row.values.get("preference")
    if value is None or value == "":
        source.left_out.add("a vote that the judge failed to give", row.line)
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (number == 0 or 1 <= number <= 2):
        raise fault(f"'preference' is {json.dumps(value)}; it must be a number from 1 to 2", source.path, row.line)
    if number not in (0, 1, 1.5, 2):
        source.note(
            "Preferences between 1 and 2 count for the nearer side; the judge's own figure stays with its answer."
        )
    return number


def _winner(preference: float) -> Winner:
    if preference in (0, 1.5):
        return "tie"
    return "a" if preference < 1.5 else "b"


def _name_others(row: Row, known: set[str], source: Source) -> None:
    for name in sorted(row.values.keys() - known):
        if row.values[name] not in (None, "", {}, []):
            source.left_out.add(f"`{name}`", row.line)


ALPACA_EVAL = Format("a model's outputs of AlpacaEval", _recognises_outputs, _read_outputs)
ALPACA_EVAL_ANNOTATIONS = Format("a judge's annotations of AlpacaEval", _recognises_annotations, _read_annotations)
