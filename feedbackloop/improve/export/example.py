"""One example to learn from: a prompt as it was sent, an answer or two, and what the label rests on."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from feedbackloop.models import Message

ALIKE = 0.9
"""Two answers that share more of their 3-grams than this teach nothing."""

LENGTHS = 4.0
"""From this ratio on, the longer of two answers may have won or lost by its length: such pairs are flagged."""

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_CUT = {"length", "max_tokens", "max_output_tokens"}
_REFUSED = re.compile(
    r"""
    \s* (?: as\ an\ (?:ai|artificial\ intelligence)\b .{0,60}? \bi\b
          | (?: (?:i['\u2019]m|i\ am)\ (?:\w+\ )?sorry | sorry | (?:my|i)\ apolog\w+ | unfortunately )? [\s,.:]* (?:but\ )? i )
    (?: \ (?:can['\u2019]?t|can\ ?not|won['\u2019]?t|will\ not|must\ decline\ to)
      | ['\u2019]m\ (?:unable|not\ able)\ to | \ am\ (?:unable|not\ able)\ to )
    \ (?: help | assist | comply | fulfil | engage | continue\ with
        | (?:provide|answer|do|discuss|create|generate|write|produce|share)\ (?:that|this|such|any|assistance|help|content) )
    """,
    re.IGNORECASE | re.VERBOSE,
)
# A long answer that begins with a refusal goes on to say something.
_LONGEST_REFUSAL = 400


@dataclass(frozen=True)
class Example:
    """What a format makes a row of."""

    prompt: list[Message]
    """Text messages of the roles system, user and assistant, a user's last."""
    chosen: str
    """The better answer of a pair; the only one otherwise."""
    rejected: str | None
    label: bool
    """Whether the answer is a good one."""
    evidence: Mapping[str, Any]
    """Where it comes from: case, ids of votes and ratings, confidence, weight, source, flags."""


class Unusable(Exception):
    """A label whose texts cannot be trained on; the message is the reason, a key of `REASONS`."""


def read_example(row: Mapping[str, Any], *, keep_refusals: bool = False, same_prompt: bool = False) -> Example:
    """An example from a row that `queries.preferences.gather` wrote.

    Raises:
        Unusable: an answer is empty, cut, a refusal, or nearly the other one; or the prompt is not a chat of texts.
    """
    corrected = row["correction"] is not None
    chosen = row["correction"] if corrected else row["output"]
    # A demonstration that was corrected knows the answer it replaces, which is nothing to learn from.
    rejected = row["other_output"] if row["kind"] == "pairs" else None
    _check(chosen, "" if corrected else row["finish_reason"], not corrected and row["truncated"], keep_refusals)
    if rejected is not None:
        _check(rejected, row["other_finish_reason"], row["other_truncated"], keep_refusals)
        if row["likeness"] > ALIKE:
            raise Unusable("near_identical")
        if same_prompt and not row["same_prompt"]:
            raise Unusable("prompts_differ")
    return Example(_chat(row["messages"], row["input"]), chosen, rejected, bool(row["label"]), _evidence(row, chosen))


def alternates(prompt: list[Message]) -> bool:
    """Whether, after the system messages, user and assistant take turns: some platforms refuse anything else."""
    turns = [message["role"] for message in prompt]
    while turns and turns[0] == "system":
        turns.pop(0)
    return all(role == ("user", "assistant")[number % 2] for number, role in enumerate(turns))


def _check(text: str, finish_reason: str | None, truncated: bool, keep_refusals: bool) -> None:
    if not text.strip():
        raise Unusable("empty")
    if truncated or (finish_reason or "").lower() in _CUT:
        raise Unusable("truncated")
    filtered = (finish_reason or "").lower() == "content_filter"
    if not keep_refusals and (filtered or (len(text) <= _LONGEST_REFUSAL and _REFUSED.match(text))):
        raise Unusable("refused")


def _chat(messages: str | None, input: str) -> list[Message]:
    sent = json.loads(messages) if messages else []
    chat = [_text_message(message) for message in sent or [{"role": "user", "content": input}]]
    if chat[-1]["role"] != "user" or not chat[-1]["content"].strip():
        raise Unusable("prompt_without_question")
    return chat


def _text_message(message: Message) -> Message:
    content = message.get("content")
    # One part that is a text is what it says.
    if isinstance(content, list) and len(content) == 1 and content[0].get("type") == "text":
        content = content[0].get("text")
    role = _ROLES.get(str(message.get("role")))
    if role is None or not isinstance(content, str) or message.get("tool_calls") or message.get("function_call"):
        raise Unusable("prompt_not_text")
    return {"role": role, "content": content}


def _evidence(row: Mapping[str, Any], chosen: str) -> dict[str, Any]:
    pair = row["kind"] == "pairs"
    corrected = row["source"] == "correction"
    q = round(row["q"], 6)
    flags = []
    if pair:
        lengths = sorted((len(chosen), len(row["other_output"])))
        if lengths[1] > LENGTHS * lengths[0]:
            flags.append("length_ratio")
        if not row["same_prompt"]:
            flags.append("prompts_differ")
    evidence = {
        "case_id": row["case_id"],
        "external_id": row["external_id"],
        "segment": row["segment"],
        "source": row["source"],
        # A correction is somebody's own text: there is nothing to be unsure of.
        "q": None if corrected else q,
        "weight": 1.0 if corrected else round(2 * q - 1, 6),
        "for": row["up"],
        "against": row["down"],
        "undecided": row["ties"],
        "votes": row["votes"],
        "ratings": row["ratings"],
        "raters": row["raters"],
        "response": row["good"],
        "variant": row["variant"],
        "flags": flags,
    }
    if pair:
        return evidence | {"rejected_response": row["worse"], "rejected_variant": row["other_variant"]}
    return evidence
