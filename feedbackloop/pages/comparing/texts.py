"""What differs: between variants, and between texts, by word or by sentence."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import regex

from feedbackloop.models import Message, Variant
from feedbackloop.pages.answer import Piece

_WORDS = regex.compile(r"\s+|\w+|[^\w\s]")
_LINES = regex.compile(r"[^\n]*\n|[^\n]+")
# A full stop after a figure is rather an ordinal, or the number in a list.
_END = r"(?:(?<!\d)\.|[!?…])[.!?…]*[\"')\]»”]*(?=\s)"
_WIDE_END = r"[\N{IDEOGRAPHIC FULL STOP}\N{FULLWIDTH EXCLAMATION MARK}\N{FULLWIDTH QUESTION MARK}]+"
_SENTENCES = regex.compile(rf"\n+|[^\n]+?(?:{_END}|{_WIDE_END}|(?=\n)|$)[^\S\n]*")

_MANY_WORDS = 1500
"""Comparing word by word takes the square of their number; beyond this it is done line by line."""

_ALIKE = 0.4
"""Texts that have less than this in common are others altogether; what they share is chance."""


@dataclass(frozen=True)
class Facet:
    """One thing in which variants may differ."""

    name: str
    texts: tuple[str, ...]
    """For each variant, as text."""

    @property
    def differs(self) -> bool:
        """Whether the variants differ in it."""
        return len(set(self.texts)) > 1


def facets(variants: Sequence[Variant]) -> list[Facet]:
    """What defines variants apart from the prompt: the model, each parameter, fallbacks, examples."""
    names = list(dict.fromkeys(name for variant in variants for name in variant.params))
    return [
        Facet("model", tuple(variant.model for variant in variants)),
        *(Facet(name, tuple(_shown(variant.params.get(name)) for variant in variants)) for name in names),
        Facet("falls back on", tuple(", ".join(variant.fallbacks) or "nothing" for variant in variants)),
        Facet("examples", tuple(json.dumps([e.model_dump() for e in variant.exemplars]) for variant in variants)),
    ]


def prompt(variant: Variant) -> str:
    """A variant's prompt template as one text."""
    if variant.prompt is None:
        return ""
    if isinstance(variant.prompt, str):
        return variant.prompt
    return "\n\n".join(_turn(message) for message in variant.prompt)


def words(text: str, other: str) -> list[Piece]:
    """The text in pieces; those are marked of which the other one, read along with it, has nothing."""
    parts, others = _WORDS.findall(text), _WORDS.findall(other)
    if max(len(parts), len(others)) > _MANY_WORDS:
        parts, others = _LINES.findall(text), _LINES.findall(other)
    matcher = SequenceMatcher(None, others, parts, autojunk=False)
    if matcher.ratio() < _ALIKE:
        return [Piece(text, marked=True)]
    pieces = [
        Piece("".join(parts[start:end]), marked=kind != "equal")
        for kind, _, _, start, end in matcher.get_opcodes()
        if end > start
    ]
    return [
        # A gap between two words that differ belongs to them.
        Piece(piece.text, marked=True)
        if piece.text.isspace() and 0 < place < len(pieces) - 1 and pieces[place - 1].marked
        else piece
        for place, piece in enumerate(pieces)
    ]


def sentences(text: str, others: Sequence[str]) -> list[Piece]:
    """The text by sentence; those are marked that stand in none of the others."""
    known = {_plain(part) for other in others for part in _SENTENCES.findall(other)}
    return [Piece(part, marked=bool(part.strip()) and _plain(part) not in known) for part in _SENTENCES.findall(text)]


def _plain(sentence: str) -> str:
    return " ".join(sentence.split()).casefold()


def _turn(message: Message | str) -> str:
    if isinstance(message, str):
        return f"[{message}]"
    content = message.get("content")
    return f"{message.get('role')}: {content if isinstance(content, str) else _shown(content)}"


def _shown(value: Any) -> str:
    return "not set" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
