"""Which columns of a file hold answers: told, or guessed from their names as tools usually choose them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from feedbackloop.datasets import KEYS
from feedbackloop.errors import DatasetError
from feedbackloop.importers.figures import FIGURES

INPUT_COLUMNS = ("input", "prompt", "question", "instruction", "query", "text")
"""What the column with the case's text is usually called, the likeliest first."""

_ID_COLUMNS = ("id", "case_id", "prompt_id", "idx")
_VARIANT_COLUMNS = ("variant", "model", "generator", "system")
_OUTPUT_COLUMNS = ("output", "answer", "response", "completion", "result")
_WORD = "(answer|output|response|completion)"
_ANSWER = re.compile(rf"({_WORD}|model|variant)([ _.-].+|\d+)|.+[ _.-]{_WORD}", re.IGNORECASE)
_NO_ANSWER = re.compile(
    r"(expected|reference|correct|gold|golden|ideal|target|true|truth)[ _.-].*"
    r"|.*[ _.-](id|name|version|tokens?|time|ms|seconds|length|chars|type|format)",
    re.IGNORECASE,
)
_VERDICT = re.compile(r"(.+[ _.-])?(winner|preferred|preference|verdict|annotator)(\d+|[ _.-].+)?", re.IGNORECASE)
_PERHAPS_VERDICT = re.compile(
    r"(.+[ _.-])?(winning|chosen|choice|label|vote|better|best|pick|picked)(\d+|[ _.-].+)?", re.IGNORECASE
)
_FIGURE = re.compile(
    r"(scores?|latency|cost|created|tokens?|(input|output|prompt|completion|total)_tokens)([ _.-].+)?"
    r"|.+[ _.-](scores?|latency|cost|tokens?|ms|seconds)",
    re.IGNORECASE,
)
_LONGEST_NAME = (
    100  # a column called `model` or `system` whose texts are longer holds something else, e.g. system prompts
)


@dataclass(frozen=True)
class AnswerMapping:
    """Where the answers are: wide (each of `answers` is a variant's column) or long (a row for each answer)."""

    answers: tuple[str, ...] = ()
    variant: str | None = None
    """Long: the column that names the variant."""
    output: str | None = None
    """Long: the column that holds the answer."""
    ignored: tuple[str, ...] = ()
    """Columns that are not read: they are about the answers, and who sees the case must not see them."""

    def __post_init__(self) -> None:
        long = self.variant is not None and self.output is not None and self.variant != self.output
        half = (self.variant is None) != (self.output is None)
        if half or long == bool(self.answers) or len(set(self.answers)) != len(self.answers):
            raise DatasetError(
                "name either the columns that hold answers, each once (--answers a,b), or both the column that names the "
                "variant and the one that holds the answer (--variant-column, --output-column)"
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that it names."""
        return self.answers or tuple(name for name in (self.variant, self.output) if name is not None)

    @property
    def not_of_the_case(self) -> frozenset[str]:
        """Columns that say something of the answer; all others are the case."""
        return frozenset((*self.columns, *self.ignored, *(() if self.answers else FIGURES)))


def guess_id_column(columns: Iterable[str]) -> str | None:
    """The column that most likely holds the case's id, if there is one."""
    return _first(_ID_COLUMNS, list(columns))


def guess_mapping(columns: Sequence[str], first_rows: Sequence[Mapping[str, Any]]) -> AnswerMapping:
    """What the columns of a file most likely mean: what the CLI and the app propose.

    Raises:
        DatasetError: it cannot be told; lists the columns and the options that say it.
    """
    variant, output = _first(_VARIANT_COLUMNS, columns), _first(_OUTPUT_COLUMNS, columns)
    if variant is not None and output is not None and _names_variants(row.get(variant) for row in first_rows):
        return AnswerMapping(variant=variant, output=output)
    free = [name for name in columns if name not in KEYS and name.lower() not in (*FIGURES, *_ID_COLUMNS)]
    found = [name for name in free if _ANSWER.fullmatch(name) and not _NO_ANSWER.fullmatch(name)]
    if found:
        return AnswerMapping(answers=tuple(found))
    others = [
        name
        for name in free
        if name.lower() not in INPUT_COLUMNS
        and _holds_texts(row.get(name) for row in first_rows)
        and not _is_about_answers(name, [row.get(name) for row in first_rows], free)
    ]
    if _first((*INPUT_COLUMNS, *_ID_COLUMNS, "inputs", "messages"), columns) is not None and len(others) > 1:
        return AnswerMapping(answers=tuple(others))
    raise DatasetError(
        f"cannot tell which columns hold the answers; there is {', '.join(columns)}. Name them: --answers a,b (a column for each "
        f"variant), or --variant-column and --output-column (a row for each answer)"
    )


def guess_ignored(
    columns: Sequence[str], first_rows: Sequence[Mapping[str, Any]], mapping: AnswerMapping
) -> tuple[str, ...]:
    """Columns that are plainly about an answer or a verdict, and so no part of the case.

    These are figures by their names (`score_a`, `latency`, `cost_usd`, `created`, `total_tokens`), verdicts by their names
    (`winner`, `preferred_model`, `annotator1`), and of columns like `label` or `choice` those that hold names of variants.
    """
    variants = mapping.answers or [str(row.get(str(mapping.variant))) for row in first_rows]
    taken = {*mapping.columns, *KEYS, *(() if mapping.answers else FIGURES)}
    return tuple(
        name
        for name in columns
        if name not in taken
        and name.lower() not in (*INPUT_COLUMNS, *_ID_COLUMNS)
        and _is_about_answers(name, [row.get(name) for row in first_rows], variants)
    )


def _is_about_answers(name: str, values: Sequence[Any], variants: Iterable[str]) -> bool:
    if name.lower() in FIGURES or _FIGURE.fullmatch(name) or _VERDICT.fullmatch(name):
        return True
    said = {str(value) for value in values if value not in (None, "")}
    return bool(_PERHAPS_VERDICT.fullmatch(name)) and bool(said & set(variants))


def _first(wanted: Iterable[str], columns: Sequence[str]) -> str | None:
    by_name = {name.lower(): name for name in reversed(columns)}
    return next((by_name[name] for name in wanted if name in by_name), None)


def _names_variants(values: Iterable[Any]) -> bool:
    return all(len(str(value)) <= _LONGEST_NAME and "\n" not in str(value) for value in values)


def _holds_texts(values: Iterable[Any]) -> bool:
    return any(
        isinstance(value, str) and re.search(r"[^\W\d_]{2}", value) and value.lower() not in ("true", "false")
        for value in values
    )
