"""Chat logs and fine-tuning files: a conversation on each line, whose last answer is the one that counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from feedbackloop.datasets import Row, as_text, case_of, fault, rows
from feedbackloop.importers.figures import spoken, words
from feedbackloop.importers.formats import Format, Sample, Source
from feedbackloop.importers.intake import Answer, Entry, Variants
from feedbackloop.text import storable, storable_value

_OF_CASE = ("id", "context", "expected", "segment", "metadata")


def _recognises(begin: Sample) -> bool:
    return begin.has("messages", but=("output", "answer", "response", "completion", "result")) and any(
        isinstance(message, dict) and message.get("role") == "assistant"
        for row in begin.rows
        if isinstance(row.values["messages"], list)
        for message in row.values["messages"]
    )


def _read(source: Source) -> Iterator[Entry]:
    variants = Variants()
    stem = words(source.path.name.partition(".")[0])
    for row in rows(source.path):
        messages = row.values.get("messages")
        if not isinstance(messages, list) or not all(
            isinstance(message, dict) and isinstance(message.get("role"), str) for message in messages
        ):
            raise fault('\'messages\' must be a list like [{"role": "user", "content": "..."}]', source.path, row.line)
        last = max((at for at, message in enumerate(messages) if message["role"] == "assistant"), default=0)
        output = spoken(messages[last]) if last else None
        if output is None:
            source.left_out.add("a conversation without a question and an answer to it", row.line)
            continue
        if len(messages) > last + 1:
            source.left_out.add("what follows the last answer of a conversation", row.line)
        for name in sorted(row.values.keys() - {"messages", "model", *_OF_CASE}):
            source.left_out.add(f"`{name}` beside the messages", row.line)
        if any("weight" in message for message in messages):
            source.left_out.add("`weight` of messages", row.line)
        case = case_of(_question(row, messages[:last]), source.path)
        text, repaired = storable(output)
        variant = variants.of(words(as_text(row.values.get("model")) or stem))
        yield Answer(row.line, case, variant, text, repaired=repaired)


def _question(row: Row, messages: list[dict[str, Any]]) -> Row:
    """The row of the case: what was said before the answer."""
    plain = [{name: value for name, value in message.items() if name != "weight"} for message in messages]
    known = {name: row.values[name] for name in _OF_CASE if name in row.values}
    return Row(row.line, {**known, "messages": storable_value(plain).value})


CHAT = Format("a log of conversations or a fine-tuning file", _recognises, _read)
