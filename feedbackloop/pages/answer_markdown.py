"""Markdown from a model, read and written anew with nothing in it but what may come through.

Streamlit's Markdown loads images, makes links of addresses, sets LaTeX, draws diagrams, and has signs of its own for icons, emoji,
colours. To look for all these in the text and take them out would be a race with its parser. So the text is parsed here, and from
the parts that are known a new one is written, in which every letter of the original stands escaped.
"""

from __future__ import annotations

import re

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

_JOINER = "\u2060"
"""A sign without width: it parts what Streamlit would still see as a sign of its own after an escape."""

_DEEPEST = 24
"""Levels of nesting; each list takes two. What stands deeper is no longer meant to be read as Markdown."""

_PARSER = (
    MarkdownIt("commonmark", {"html": False, "maxNesting": _DEEPEST + 1})
    .enable(["table", "strikethrough"])
    # So that what was escaped can be told from what was not; and a sign's code stands as it was written.
    .disable(["text_join", "entity"])
)
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
_SPECIAL = re.compile(r"(?<=[:@])(?!\s)|(?<=[wW][wW][wW])(?!\w)|(?<=[-<>~])(?=[-=>])|(?<==)(?=>)")
"""Where icons, emoji, addresses and arrows are cut in two."""

_MARKS = {"strong": "**", "em": "*", "s": "~~"}
_LANGUAGES = re.compile(
    "bash|c|cpp|csharp|css|diff|go|html|http|ini|java|javascript|js|json|jsx|kotlin|lua|makefile|php|python|py|r|ruby|rust|"
    "scala|sh|shell|sql|swift|toml|ts|tsx|typescript|xml|yaml"
)
"""Those that are only coloured; to Streamlit some names are more, a formula or a diagram to be drawn."""


def safe(text: str) -> str:
    """Markdown for `st.markdown` that shows headings, lists, quotes, code, tables and emphasis of `text`, and nothing else.

    Images become their caption and links their text, both with the address beside as text; HTML, LaTeX, and what only Streamlit
    knows are shown as they were written. A text that is nested too deeply comes whole, as code.
    """
    try:
        tokens = _PARSER.parse(text)
        if all(token.level < _DEEPEST for token in tokens):
            return _blocks(SyntaxTreeNode(tokens))
    except RecursionError:
        # Emphasis within emphasis, a thousandfold.
        pass
    return _code(text)


def escaped(text: str) -> str:
    """Text of which Markdown, Streamlit's included, takes nothing as a sign."""
    return _PUNCTUATION.sub(r"\\\1", _SPECIAL.sub(_JOINER, text))


def _blocks(node: SyntaxTreeNode) -> str:
    made: list[str] = []
    after_list = False
    for number, child in enumerate(node.children):
        # Two lists in a row would become one if they had the same mark.
        after_list = number > 0 and not after_list and child.type == node.children[number - 1].type
        made.append(_block(child, after_list=after_list))
    return "\n\n".join(made)


def _block(node: SyntaxTreeNode, *, after_list: bool) -> str:
    match node.type:
        case "heading":
            # An answer's headings must not outgrow the page's.
            made = f"{'#' * min(int(node.tag[1]) + 3, 6)} {_line(node)}"
        case "fence":
            made = _code(node.content, node.info.strip().lower())
        case "code_block":
            made = _code(node.content)
        case "hr":
            made = "---"
        case "blockquote":
            made = _indented(_blocks(node), "> ", "> ")
        case "bullet_list":
            mark = "* " if after_list else "- "
            made = "\n".join(_indented(_blocks(item), mark, "  ") for item in node.children)
        case "ordered_list":
            start = int(node.attrGet("start") or 0) if "start" in node.attrs else 1
            marks = [f"{start + place}{')' if after_list else '.'} " for place in range(len(node.children))]
            parts = zip(marks, node.children, strict=True)
            made = "\n".join(_indented(_blocks(item), mark, " " * len(mark)) for mark, item in parts)
        case "table":
            made = _table(node)
        case _:
            made = _inline(node)
    return made


def _inline(node: SyntaxTreeNode) -> str:
    return "".join(_span(child) for child in node.children)


def _span(node: SyntaxTreeNode) -> str:
    match node.type:
        case "text_special" if node.info == "escape" and node.content in "()[]":
            # A formula's brackets in LaTeX, which is shown as it was written.
            made = escaped(node.markup)
        case "code_inline":
            made = _code_span(node.content)
        case "softbreak" | "hardbreak":
            made = "\\\n"
        case "strong" | "em" | "s":
            made = _inline(node)
            if made and made.strip() == made:
                made = f"{_MARKS[node.type]}{made}{_MARKS[node.type]}"
        case "link":
            made = _with_address(_inline(node), str(node.attrGet("href") or ""))
        case "image":
            made = _with_address(_inline(node) or "image", str(node.attrGet("src") or ""))
        case _:
            made = _inline(node) if node.children else escaped(node.content)
    return made


def _with_address(words: str, address: str) -> str:
    shown = escaped(address)
    return words if words == shown else f"{words} \\({shown}\\)"


def _line(node: SyntaxTreeNode) -> str:
    return _inline(node).replace("\\\n", " ").replace("\n", " ")


def _code(content: str, language: str = "") -> str:
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", content)), default=0))
    body = content if content.endswith("\n") or not content else f"{content}\n"
    return f"{fence}{language if _LANGUAGES.fullmatch(language) else ''}\n{body}{fence}"


def _code_span(content: str) -> str:
    fence = "`" * (1 + max(map(len, re.findall("`+", content)), default=0))
    gap = " " if content[:1] in "` " or content[-1:] in "` " else ""
    return f"{fence}{gap}{content}{gap}{fence}"


def _table(node: SyntaxTreeNode) -> str:
    rows = [[_line(cell) for cell in row.children] for part in node.children for row in part.children]
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def _indented(text: str, first: str, other: str) -> str:
    lines = text.split("\n")
    return "\n".join([first + lines[0], *(f"{other}{line}" if line else other.rstrip() for line in lines[1:])])
