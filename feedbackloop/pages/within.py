"""Links from a page to another view of the same page."""

from __future__ import annotations

import streamlit as st

from feedbackloop.pages import context


def link(page: str, text: str, *, key: str, icon: str | None = None, **parameters: str) -> None:
    """What `context.link` is between pages.

    Within one page Streamlit's own links change what is drawn but not the address, and the next click draws what the address says.

    Args:
        text: fit for Markdown.
        key: names this place on the page.
    """
    if st.button(text, key=key, icon=icon, type="tertiary"):
        context.go(page, **parameters)
