"""Formats of other tools: one `Format` for each, known by what is in the file."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from feedbackloop.datasets import Row, document, rows
from feedbackloop.errors import DatasetError
from feedbackloop.importers.intake import Entry
from feedbackloop.importers.left_out import LeftOut
from feedbackloop.registry import Registry
from feedbackloop.store import Store

FORMATS = Registry(
    kind="import format",
    entries={
        "promptfoo": "feedbackloop.importers.promptfoo_results:PROMPTFOO",
        "promptfoo-config": "feedbackloop.importers.promptfoo_config:PROMPTFOO_CONFIG",
        "openai-batch": "feedbackloop.importers.openai_batch:OPENAI_BATCH",
        "openai-batch-input": "feedbackloop.importers.openai_batch:OPENAI_BATCH_INPUT",
        "alpaca-eval": "feedbackloop.importers.alpaca_eval:ALPACA_EVAL",
        "alpaca-eval-annotations": "feedbackloop.importers.alpaca_eval:ALPACA_EVAL_ANNOTATIONS",
        "arena": "feedbackloop.importers.arena:ARENA",
        "llmperf": "feedbackloop.importers.llmperf:LLMPERF",
        "chat": "feedbackloop.importers.chat:CHAT",
    },
    group="feedbackloop.importers",
)
"""All of them by name, the surest to be recognised first; other packages announce a `Format` of their own in the entry-point
group `feedbackloop.importers`."""

COLUMNS = ("answers", "votes")
"""Tables whose columns are mapped; what no format recognises is taken for one."""

_PEEKED = 20


@dataclass(frozen=True)
class Sample:
    """The beginning of a file, by which its format is known."""

    rows: tuple[Row, ...] = ()
    """Its first rows, if it has rows."""
    whole: Mapping[str, Any] | None = None
    """What it holds, if it is a single mapping."""

    def has(self, *names: str, but: tuple[str, ...] = ()) -> bool:
        """Whether every row has all of these keys and none of the others."""
        return bool(self.rows) and all(
            row.values.keys() >= set(names) and not row.values.keys() & set(but) for row in self.rows
        )


@dataclass(frozen=True)
class Source:
    """A file that is being read, and what is known beside it."""

    path: Path
    store: Store
    cases: Path | None = None
    """The file that its answers refer to by id."""
    blind: bool = True
    """Whether voters did not know whose answers they saw, where the file does not say."""
    left_out: LeftOut = field(default_factory=LeftOut)
    notes: dict[str, None] = field(default_factory=dict)
    """What a reader of the results should know, a sentence each."""

    def note(self, sentence: str) -> None:
        """Tell something, once."""
        self.notes[sentence] = None


@dataclass(frozen=True)
class Format:
    """A format of another tool. It has one of `read` and `convert`."""

    what: str
    """What such a file is, with its article."""
    recognises: Callable[[Sample], bool]
    read: Callable[[Source], Iterator[Entry]] | None = None
    """What is in it; the file is read anew each time."""
    convert: Callable[[Source, str], Conversion] | None = None
    """For a file that asks and does not answer: write what `feedbackloop run` takes, for a task."""


@dataclass(frozen=True)
class Conversion:
    """Files written beside the one that was read."""

    files: tuple[Path, ...]
    """The spec first."""
    new: int
    """How many of them were not there."""
    cases: int
    variants: tuple[str, ...]
    checks: int = 0


def sample(path: Path) -> Sample:
    """The beginning of a file.

    Raises:
        DatasetError: it cannot be read.
    """
    try:
        return Sample(rows=tuple(itertools.islice(rows(path), _PEEKED)))
    except DatasetError:
        # JSON and YAML may hold something else than rows; of a file that is no such thing, the first error is the better one.
        if not {".json", ".yaml", ".yml"} & set(path.suffixes):
            raise
        whole = document(path)
        if not isinstance(whole, Mapping):
            raise
        return Sample(whole=whole)


def recognise(path: Path) -> str:
    """The name of a file's format: one of `FORMATS`, or `votes` or `answers`.

    Raises:
        DatasetError: the file cannot be read, or is a single mapping of no known kind.
    """
    begin = sample(path)
    for name in (*FORMATS.entries, *(name for name in FORMATS.names() if name not in FORMATS.entries)):
        found: Format = FORMATS.get(name)
        if found.recognises(begin):
            return name
    if begin.has("case_id", "winner") or begin.has("variant_a", "variant_b", "winner"):
        return "votes"
    if begin.has("variant_a", "variant_b", "case_id"):
        raise DatasetError(
            "these look like votes, but there is no column 'winner'; say which one holds it (--column winner=NAME), or which "
            "columns hold answers (--answers A,B)",
            file=str(path),
        )
    if begin.whole is not None and {"dataset", "variants"} <= begin.whole.keys():
        raise DatasetError(
            "this is a run spec and holds no answers; `feedbackloop run SPEC` asks for them", file=str(path)
        )
    if begin.whole is not None:
        raise DatasetError(
            f"this holds {', '.join(list(begin.whole)[:5])}, which is no format that is known here; --format names one of "
            f"{', '.join(FORMATS.names())}",
            file=str(path),
        )
    return "answers"
