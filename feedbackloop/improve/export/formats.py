"""What a training file looks like: one `Format` for each, with exactly the keys that its readers expect.

The names and keys are those of TRL's dataset formats (dpo: preference with explicit prompt; kto: unpaired preference; sft:
prompt-completion) and of OpenAI's fine-tuning files, which Together, Fireworks and Azure read too and which may hold no other
key. Where a row comes from therefore stands in a second file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feedbackloop.improve.export.example import Example
from feedbackloop.improve.export.sinks import Csv, JsonLines, Parquet, Sink
from feedbackloop.models import Message
from feedbackloop.queries.preferences import Kind, Source
from feedbackloop.registry import Registry

FORMATS = Registry(
    kind="export format",
    entries={
        name: f"feedbackloop.improve.export.formats:{attribute}"
        for name, attribute in {
            "dpo": "DPO",
            "kto": "KTO",
            "sft": "SFT",
            "openai-dpo": "OPENAI_DPO",
            "openai-sft": "OPENAI_SFT",
            "csv": "CSV",
            "jsonl": "JSONL",
            "parquet": "PARQUET",
        }.items()
    },
    group="feedbackloop.exporters",
)
"""All of them by name; other packages announce a `Format` of their own in the entry-point group `feedbackloop.exporters`."""

TABLES = frozenset({"csv", "jsonl", "parquet"})
"""Formats that hold tables of any kind, and pairs with all that is known of them in the row itself."""


@dataclass(frozen=True)
class Format:
    """How labels become a file."""

    kind: Kind
    """What it is made of: pairs, labelled answers, or demonstrations."""
    shape: Callable[[Example], dict[str, Any]]
    """The row of an example."""
    ending: str = ".jsonl"
    sources: tuple[Source, ...] = ("votes",)
    """What labels come from unless told otherwise."""
    fewest: int = 1
    """A platform refuses files with fewer rows."""
    alternating: bool = False
    """Whether some of its readers insist on user and assistant taking turns."""
    sink: Callable[..., Sink] = JsonLines
    evidence: bool = True
    """Whether a second file says where each row comes from; otherwise the row itself does."""

    def open(self, path: Path, *, raw: bool) -> Sink:
        """The file, to be written to."""
        return self.sink(path, raw=raw)


def _answer(text: str) -> list[Message]:
    return [{"role": "assistant", "content": text}]


def _preference(example: Example) -> dict[str, Any]:
    return {
        "prompt": example.prompt,
        "chosen": _answer(example.chosen),
        "rejected": _answer(str(example.rejected)),
    }


def _unpaired(example: Example) -> dict[str, Any]:
    return {"prompt": example.prompt, "completion": _answer(example.chosen), "label": example.label}


def _completion(example: Example) -> dict[str, Any]:
    return {"prompt": example.prompt, "completion": _answer(example.chosen)}


def _openai_preference(example: Example) -> dict[str, Any]:
    return {
        "input": {"messages": example.prompt},
        "preferred_output": _answer(example.chosen),
        "non_preferred_output": _answer(str(example.rejected)),
    }


def _openai_chat(example: Example) -> dict[str, Any]:
    # Every assistant message is learnt from unless its weight is 0; those of the prompt are nobody's verdict.
    prompt = [{**message, "weight": 0} if message["role"] == "assistant" else message for message in example.prompt]
    return {"messages": [*prompt, *_answer(example.chosen)]}


def _flat(example: Example) -> dict[str, Any]:
    known = dict(example.evidence)
    return {
        "prompt": example.prompt,
        "chosen": example.chosen,
        "rejected": example.rejected,
        "weight": known.pop("weight"),
        "q": known.pop("q"),
        "n_votes": len(known["votes"]),
        **known,
    }


DPO = Format("pairs", _preference)
KTO = Format("labels", _unpaired, sources=("votes", "ratings"))
SFT = Format("demonstrations", _completion, sources=("votes", "ratings", "corrections"))
# Fireworks wants three lines, OpenAI ten.
OPENAI_DPO = Format("pairs", _openai_preference, fewest=10, alternating=True)
OPENAI_SFT = Format(
    "demonstrations", _openai_chat, sources=("votes", "ratings", "corrections"), fewest=10, alternating=True
)
CSV = Format("pairs", _flat, ending=".csv", sink=Csv, evidence=False)
JSONL = Format("pairs", _flat, sink=JsonLines, evidence=False)
PARQUET = Format("pairs", _flat, ending=".parquet", sink=Parquet, evidence=False)
