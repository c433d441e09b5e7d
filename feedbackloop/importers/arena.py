"""Battles of an arena: two conversations with models that the voter could not see, and which was better.

The shapes of Chatbot Arena's data sets (`conversation_a`, `conversation_b`), of its battles without texts (`model_a`, `model_b`,
`winner` alone), and of tables with `prompt`, `response_a` and `response_b`.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from feedbackloop.datasets import Row, as_text, case_of, fault, rows
from feedbackloop.importers.figures import moment, spoken, words
from feedbackloop.importers.formats import Format, Sample, Source
from feedbackloop.importers.intake import WINNERS, Answer, Duel, Entry, Variants, Winner
from feedbackloop.models import RaterKind
from feedbackloop.text import storable

_KNOWN = {
    *("question_id", "id", "model_a", "model_b", "winner", "winner_model_a", "winner_model_b", "winner_tie"),
    *("judge", "judge_hash", "conversation_a", "conversation_b", "prompt", "response_a", "response_b"),
    *("tstamp", "timestamp", "anony", "language", "turn", "conv_metadata"),
}
_MODEL = re.compile(r"gpt|claude|gemini|llama|judge", re.IGNORECASE)
_PERSON = re.compile(r"expert|author|human", re.IGNORECASE)


def _recognises(begin: Sample) -> bool:
    whole = begin.has("model_a", "model_b", but=("case_id",))
    return whole and (begin.has("winner") or begin.has("winner_model_a", "winner_model_b"))


def _read(source: Source) -> Iterator[Entry]:
    variants = Variants()
    for row in rows(source.path):
        for name in sorted(row.values.keys() - _KNOWN):
            source.left_out.add(f"`{name}`", row.line)
        names = [as_text(row.values.get(name)) for name in ("model_a", "model_b")]
        if None in names:
            raise fault("'model_a' or 'model_b' is empty: nothing says who answered", source.path, row.line)
        winner = _winner(row, source)
        if names[0] == names[1]:
            source.left_out.add("a battle of a model with itself", row.line)
            continue
        sides = _sides(row, source)
        if sides is None:
            continue
        questions, texts = sides
        case = case_of(Row(row.line, {**questions, **_about(row)}), source.path)
        a, b = (_answer(row, case, variants.of(words(names[at])), texts[at], "ab"[at]) for at in (0, 1))
        rater = row.values.get("judge") or row.values.get("judge_hash")
        rater = " ".join(map(str, rater)) if isinstance(rater, list) else as_text(rater)
        try:
            at = moment(row.values.get("tstamp") or row.values.get("timestamp"))
        except ValueError as error:
            raise fault(f"'tstamp' is no time: it must be {error}", source.path, row.line) from error
        anonymous = row.values.get("anony")
        blind = source.blind if anonymous in (None, "") else str(anonymous).lower() not in ("false", "0")
        yield Duel(row.line, a, b, winner, words(rater or "arena"), _kind(rater), blind, at)


def _winner(row: Row, source: Source) -> Winner:
    said = as_text(row.values.get("winner"))
    if said is None:
        marks = {"a": "winner_model_a", "b": "winner_model_b", "tie": "winner_tie"}
        won = [side for side, name in marks.items() if str(row.values.get(name)) in ("1", "1.0", "True", "true")]
        if len(won) != 1:
            raise fault("nothing says who won: 'winner' is empty", source.path, row.line)
        said = won[0]
    if said.strip().lower() not in WINNERS:
        # Counted as anything, it would be a vote that nobody cast.
        raise fault(f"winner is '{said}'; it must be one of {', '.join(WINNERS)}", source.path, row.line)
    return WINNERS[said.strip().lower()]


_Sides = tuple[dict[str, Any], tuple[str, str]]
"""What was asked, as fields of a case, and what each side answered."""


def _sides(row: Row, source: Source) -> _Sides | None:
    """Both sides of a battle; none where they were asked different things."""
    if "conversation_a" in row.values and "conversation_b" in row.values:
        talks = [_conversation(row, name, source) for name in ("conversation_a", "conversation_b")]
    elif "response_a" in row.values and "response_b" in row.values:
        talks = [_talk(row, name) for name in ("response_a", "response_b")]
    else:
        source.note("The file has no texts: answers are empty, and each battle is a case of its own.")
        return {"inputs": {"battle": _battle(row) or f"line {row.line}"}}, ("", "")
    asked = [[message for message in talk if message["role"] != "assistant"] for talk in talks]
    if not asked[0] or asked[0] != asked[1]:
        source.left_out.add("a battle whose sides were not asked the same thing", row.line)
        return None
    if len(asked[0]) > 1:
        source.note("Of battles of several turns, the answer is the whole conversation from the first answer on.")
    return {"messages": asked[0]}, (_told(talks[0]), _told(talks[1]))


def _battle(row: Row) -> str | None:
    return as_text(row.values.get("question_id")) or as_text(row.values.get("id"))


def _conversation(row: Row, name: str, source: Source) -> list[dict[str, Any]]:
    value = row.values[name]
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = None
    if not isinstance(value, list) or not all(
        isinstance(message, dict) and isinstance(message.get("role"), str) for message in value
    ):
        raise fault(f'\'{name}\' must be a list like [{{"role": "user", "content": "..."}}]', source.path, row.line)
    return [{"role": message["role"], "content": spoken(message) or ""} for message in value]


def _talk(row: Row, name: str) -> list[dict[str, Any]]:
    """The same where questions and answers stand in columns of their own, turn by turn."""
    turns = itertools.zip_longest(_turns(row.values.get("prompt")), _turns(row.values[name]))
    return [
        {"role": role, "content": text}
        for turn in turns
        for role, text in zip(("user", "assistant"), turn, strict=True)
        if text is not None
    ]


def _turns(value: Any) -> list[str]:
    """Texts of a conversation's turns: a text, a list of them, or such a list as JSON."""
    if isinstance(value, str) and value.startswith("["):
        try:
            read = json.loads(value)
        except (ValueError, RecursionError):
            read = None
        value = read if isinstance(read, list) else value
    items = value if isinstance(value, list) else [] if value is None else [value]
    return ["" if item is None else item if isinstance(item, str) else json.dumps(item) for item in items]


def _told(talk: list[dict[str, Any]]) -> str:
    """The conversation from the first answer on."""
    first = next((at for at, message in enumerate(talk) if message["role"] == "assistant"), len(talk))
    told = talk[first:]
    if len(told) <= 1:
        return told[0]["content"] if told else ""
    return "\n\n".join(
        message["content"] if number == 0 else f"[{message['role']}]\n{message['content']}"
        for number, message in enumerate(told)
    )


def _about(row: Row) -> dict[str, Any]:
    known = {"id": _battle(row), "segment": as_text(row.values.get("language"))}
    return {name: value for name, value in known.items() if value is not None}


def _answer(row: Row, case: Any, variant: Any, text: str, side: str) -> Answer:
    figures = {}
    counted = row.values.get("conv_metadata")
    tokens = counted.get(f"sum_assistant_{side}_tokens") if isinstance(counted, Mapping) else None
    if isinstance(tokens, int) and tokens >= 0:
        figures["output_tokens"] = tokens
    text, repaired = storable(text)
    return Answer(row.line, case, variant, text, figures, repaired=repaired)


def _kind(rater: str | None) -> RaterKind:
    if rater is not None and _MODEL.match(rater):
        return "judge"
    return "human" if rater is not None and _PERSON.match(rater) else "user"


ARENA = Format("battles of an arena", _recognises, _read)
