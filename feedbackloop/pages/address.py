"""What stands in the address: what goes from page to page, and widgets whose value can be linked.

The address changes by what somebody chooses and by nothing else, since each change is a step of the browser's Back button.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import streamlit as st

from feedbackloop.findings.wording import short
from feedbackloop.pages import answer

Value = TypeVar("Value")
Word = TypeVar("Word", bound=str)

KEPT = ("demo", "task", "baseline", "period", "rater", "rule")
"""What the URL keeps from page to page."""

_CHOICE = "choice"


@dataclass(frozen=True)
class _Seen:
    """A control as it was last drawn."""

    text: str | None
    """What the URL said of it."""
    default: str
    known: bool
    """Whether that was one of its options."""


def control(
    where: str,
    name: str,
    default: Value,
    draw: Callable[[str], Value],
    *,
    read: Callable[[str], Value | None],
    write: Callable[[Value], str],
) -> Value:
    """A widget whose value stands in the URL under `name` once it was chosen, unless it is the default.

    What the URL says and is no option is left there until something is chosen, and `say_unknown` says so.

    Args:
        where: with `name`, the widget's key.
        draw: draws the widget under the key it is given, and returns its value.
        read: a value from the URL's text; None if there is no such choice.
        write: the URL's text for a value.
    """
    key = f"{where}-{name}"
    last: _Seen | None = st.session_state.get(f"seen-{key}")
    text = st.query_params.get(name)
    wanted = None if text is None else read(text)
    if wanted is None and last is not None and last.known and last.text == text is not None:
        # It was an option until something else was chosen here: no link is wrong.
        keep(name, None)
        text = None
    first = default if wanted is None else wanted
    chosen = read(write(st.session_state[key])) if key in st.session_state else None
    # What the URL says anew, by a link or the browser's arrows, goes before what was chosen on this page.
    if chosen is None or last is None or (last.text, last.default) != (text, write(default)):
        st.session_state[key] = first
    value = draw(key)
    if write(value) != write(first):
        text = None if write(value) == write(default) else write(value)
        keep(name, text)
    known = text is None or read(text) is not None
    _mark(name, None if known else text)
    # In another task nothing else is there either, and to say the one thing is enough.
    st.session_state[f"seen-{key}"] = _Seen(text, write(default), known or (name != "task" and bool(unknown("task"))))
    return value


def choice(
    title: str,
    options: Sequence[str],
    name: str,
    *,
    default: str | None = None,
    width: int = 200,
    format_func: Callable[[str], str] = str,
) -> str:
    """A select box as a control; the default is the first option unless another one is named."""

    def draw(key: str) -> str:
        # Set even where it is the same: on another page the box is a new one, and would open at its first option.
        st.session_state[key] = st.session_state[key]
        return str(st.selectbox(title, options, key=key, width=width, format_func=format_func))

    first = options[0] if default is None else default
    return control(_CHOICE, name, first, draw, read=lambda text: text if text in options else None, write=str)


def segments(
    where: str,
    title: str,
    options: Sequence[Word],
    name: str,
    *,
    format_func: Callable[[Any], str] = str,
    titled: bool = True,
    help: str | None = None,
) -> Word:
    """A row of segments as a control, one of which is always chosen; the default is the first.

    Args:
        where: with `name`, the widget's key.
        titled: whether the title is shown, and not only read out.
    """

    def draw(key: str) -> Word:
        label: Literal["visible", "collapsed"] = "visible" if titled else "collapsed"
        chosen = st.segmented_control(
            title, options, format_func=format_func, required=True, key=key, label_visibility=label, help=help
        )
        return chosen or options[0]

    def read(text: str) -> Word | None:
        return next((one for one in options if one == text), None)

    return control(where, name, options[0], draw, read=read, write=str)


def unknown(name: str) -> str | None:
    """What the URL says under this name, where it is no option of the control that was drawn."""
    text = st.session_state.get(f"unknown-{name}")
    return text if text is not None and st.query_params.get(name) == text else None


def say_unknown(name: str, lacks: str, shown: str, *, part: str | None = None) -> None:
    """Say that a link was wrong, where it was.

    Args:
        lacks: the beginning of a sentence that what was asked for ends, such as "This store has no task".
        shown: what is shown in its place.
        part: what is no option where the rest of what was asked for is.
    """
    text = unknown(name) or part
    if text is not None and (name == "task" or unknown("task") is None):
        words = f"{lacks} '{short(text, 60)}'; showing {shown}."
        st.warning(answer.escaped(words), icon=":material/link_off:")


def keep(name: str, value: str | None) -> None:
    """Put a value into the URL, to go along to the next page, or take it out."""
    if value is None:
        st.query_params.pop(name, None)
        st.session_state.pop(f"kept-{name}", None)
    else:
        st.query_params[name] = value
        st.session_state[f"kept-{name}"] = value


def restore() -> None:
    """Put back into the URL what the sidebar's own links leave out. To be called once, before anything else is drawn."""
    for name in KEPT:
        if name not in st.query_params:
            if f"kept-{name}" in st.session_state:
                st.query_params[name] = st.session_state[f"kept-{name}"]
        elif unknown(name) is None:
            st.session_state[f"kept-{name}"] = st.query_params[name]


def kept(**parameters: str) -> dict[str, str]:
    """The part of the URL that goes from page to page."""
    found = {name: value for name in KEPT if (value := st.query_params.get(name)) and unknown(name) is None}
    return found | parameters


def forget() -> None:
    """Keep nothing of what was chosen: another store comes."""
    for name in KEPT:
        for key in (f"kept-{name}", f"{_CHOICE}-{name}", f"seen-{_CHOICE}-{name}", f"unknown-{name}"):
            st.session_state.pop(key, None)


def _mark(name: str, text: str | None) -> None:
    if text is None:
        st.session_state.pop(f"unknown-{name}", None)
    else:
        st.session_state[f"unknown-{name}"] = text
        st.session_state.pop(f"kept-{name}", None)
