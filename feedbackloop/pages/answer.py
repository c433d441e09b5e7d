"""Text that a model or a dataset wrote, on the screen: it is untrusted, so it is shown and never obeyed.

Plain text is the default. As Markdown it is read here and written anew from a short list of what may come through
(`answer_markdown`), since Streamlit's own Markdown loads images, follows links and knows signs of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import regex
import streamlit as st

from feedbackloop.models import Case, Message
from feedbackloop.pages import answer_markdown
from feedbackloop.text import storable

SHOWN_CHARACTERS = 20_000
"""Of a longer text this much is shown until all of it is asked for."""

ROLES = {"system": "System", "developer": "System", "user": "User", "assistant": "Assistant", "tool": "Tool"}

_WORD_JOINER = "\u2060"
_NEXT_LINE = "\u2060\\\n\u2060"
"""A break that also ends an empty line, which Markdown would take for the paragraph's end."""
_LINE_ENDS = re.compile(f"({re.escape(_NEXT_LINE)})")
_SPACES = re.compile(r"^[ \t]+|[ \t]{2,}|\t")
_CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"} | {
    127: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),
    # What turns the direction of writing would make a text read otherwise than it is written.
    **dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), 0xFFFD),
}
_TABLES_SCROLL = """
<style>[data-testid="stMarkdownContainer"] table {display: block; max-width: 100%; overflow-x: auto; overflow-wrap: break-word}</style>
"""
_PILED_MARKS = regex.compile(r"(\p{M}{8})\p{M}+")
"""More marks on one letter than any language writes: they pile up over what stands above."""


@dataclass(frozen=True)
class Piece:
    """A part of a text, and whether it is to stand out."""

    text: str
    marked: bool


def show(text: str, *, key: str, markdown: bool = False) -> None:
    """Draw a text by a model: as it is, or as Markdown of which nothing runs, loads or leads elsewhere.

    Args:
        key: names this place on the page, for the button that shows all of a long text. It stands in the page's source, so on a
            page that must not give a variant away it holds no variant's name or id.
        markdown: read it as Markdown. Images become their caption, links their text and their address.
    """
    if not text.strip():
        st.caption("Blank: nothing but white space." if text else "Empty.")
        return
    with st.container(key=f"{key}-text", gap="small"):
        part = _shown(text, key)
        if markdown:
            keep_tables_inside()
            st.markdown(answer_markdown.safe(visible(part)), anchors=False)
        else:
            st.text(_kept(visible(part)), width="stretch")
        _more(text, key)


def show_pieces(pieces: Sequence[Piece], *, key: str) -> None:
    """Draw a text as it is, with the pieces that are marked set off by their background."""
    text = "".join(piece.text for piece in pieces)
    if not any(piece.marked for piece in pieces):
        show(text, key=key)
        return
    with st.container(key=f"{key}-text", gap="small"):
        left = len(_shown(text, key))
        written = []
        for marked, group in groupby(pieces, key=lambda piece: piece.marked):
            part = "".join(piece.text for piece in group)[: max(left, 0)]
            left -= len(part)
            body = part.rstrip() if marked else ""
            written += [_mark(visible(body)), _lines(visible(part[len(body) :]))]
        st.markdown("".join(written), anchors=False)
        _more(text, key)


def conversation(messages: Sequence[Message], key: str, *, markdown: bool = False) -> None:
    """Draw a conversation so far, a message below the other with who said it."""
    for number, message in enumerate(messages):
        role = str(message.get("role") or "")
        with st.container(border=True, key=f"{key}-message-{number}", gap="xsmall"):
            st.caption(ROLES.get(role) or escaped(role or "Message"))
            show(_message_text(message), key=f"{key}-{number}", markdown=markdown)


def inputs(case: Case, key: str, *, markdown: bool = False) -> None:
    """Draw what a case asks: its variables, its conversation so far, its documents (folded). Never the rendered prompt."""
    if len(case.inputs) == 1 and not case.messages:
        show(_value_text(next(iter(case.inputs.values()))), key=f"{key}-input", markdown=markdown)
    else:
        values = {name: _value_text(value) for name, value in case.inputs.items()}
        long = any(map(_is_long, values.values())) or bool(case.messages)
        for number, (name, text) in enumerate(values.items()):
            if long and not _is_long(text):
                # Beside a text that fills lines, a word or a number need not stand below its name.
                st.caption(escaped(f"{name}: {text}"))
                continue
            with st.container(gap="xxsmall", key=f"{key}-field-{number}"):
                st.caption(escaped(name))
                show(text, key=f"{key}-input-{number}", markdown=markdown)
    conversation(case.messages, f"{key}-conversation", markdown=markdown)
    if case.context:
        count = len(case.context)
        with st.expander("1 document" if count == 1 else f"{count} documents", icon=":material/description:"):
            for number, document in enumerate(case.context):
                if isinstance(document, Mapping):
                    about = ", ".join(f"{name}: {value}" for name, value in document.items() if name != "text")
                    text = _value_text(document.get("text", document))
                else:
                    about, text = "", _value_text(document)
                st.caption(escaped(f"{number + 1}. {about}"))
                show(text, key=f"{key}-document-{number}", markdown=markdown)


def keep_tables_inside() -> None:
    """Let tables in Markdown scroll inside their place instead of growing out of it. Draws nothing."""
    st.html(_TABLES_SCROLL)


def escaped(text: str) -> str:
    """One line of untrusted text for a place that reads Markdown: a label, a caption, a message, a table's heading."""
    return answer_markdown.escaped(" ".join(visible(text).split()))


def visible(text: str) -> str:
    """The text with signs that cannot be seen, or that would disturb the page, replaced by ones that can be seen."""
    text = storable(text.replace("\r\n", "\n").replace("\r", "\n"))[0]
    return _PILED_MARKS.sub(r"\1", text.translate(_CONTROLS))


def _kept(text: str) -> str:
    """`st.text` takes off white space at both ends and what all lines are indented by; a sign without width keeps it."""
    before = _WORD_JOINER if text[:1].isspace() else ""
    return f"{before}{text}{_WORD_JOINER if text[-1:].isspace() else ''}"


def _message_text(message: Message) -> str:
    content = message.get("content")
    if isinstance(content, str) and set(message) <= {"role", "content"}:
        return content
    parts = [content] if isinstance(content, str) else []
    for part in content if isinstance(content, list) else []:
        known = isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)
        parts.append(part["text"] if known else _value_text(part))
    if isinstance(content, Mapping):
        parts.append(_value_text(content))
    # What else a message carries (a name, calls of tools) belongs to what was said.
    rest = {name: value for name, value in message.items() if name not in ("role", "content") and value is not None}
    return "\n".join([*parts, *([_value_text(rest)] if rest else [])])


def _value_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2, default=str)


def _is_long(text: str) -> bool:
    return len(text) > 80 or "\n" in text.strip()


def _shown(text: str, key: str) -> str:
    return text if st.session_state.get(f"{key}-all") else text[:SHOWN_CHARACTERS]


def _more(text: str, key: str) -> None:
    if len(text) > SHOWN_CHARACTERS:
        whole = bool(st.session_state.get(f"{key}-all"))
        words = f"Show the first {SHOWN_CHARACTERS:,} characters" if whole else f"Show all {len(text):,} characters"
        st.button(words, key=f"{key}-more", on_click=_turn, args=(f"{key}-all", not whole))


def _mark(text: str) -> str:
    return "".join(
        line if line in (_NEXT_LINE, "") else f":orange-background[{line}]" for line in _LINE_ENDS.split(_lines(text))
    )


def _lines(text: str) -> str:
    """Text for Markdown in which every line and every space stays where it was."""
    lines = (_SPACES.sub(lambda run: "\u00a0" * len(run[0].expandtabs(4)), line) for line in text.split("\n"))
    return _NEXT_LINE.join(answer_markdown.escaped(line) for line in lines)


def _turn(name: str, value: bool) -> None:
    st.session_state[name] = value
