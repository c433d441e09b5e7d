"""A chart on a page: its title, the figure, and one small icon that shows the line of Python that makes the same figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from feedbackloop.pages import context

CONFIG: dict[str, Any] = {
    "displaylogo": False,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
    "toImageButtonOptions": {"format": "png", "scale": 2},
}
"""Plotly's own buttons: zoom, pan, back again, and the picture as a file."""


def heading(title: str, line: str, *, key: str, help: str | None = None) -> None:
    """The chart's title, and beside it the icon behind which the line of Python stands."""
    with st.container(horizontal=True, vertical_alignment="center", key=f"{key}-heading"):
        st.subheader(title, anchor=False, help=help, width="content")
        with st.popover("", icon=":material/code:", type="tertiary", help="The same in Python", key=f"{key}-code"):
            st.code(
                f"import feedbackloop as fl\n\nstore = fl.Store({context.store().url!r})\n{line}", language="python"
            )


def draw(figure: Any, *, key: str, alt: str, picture: str) -> None:
    """A figure that only shows.

    Args:
        figure: from `plots`.
        key: names this place on the page.
        alt: what it shows, for who cannot see it.
        picture: name of the file that its camera button makes.
    """
    st.plotly_chart(figure, key=key, config=_config(picture), alt=alt)


def pick(figure: Any, *, key: str, alt: str, picture: str) -> Sequence[Any]:
    """A figure whose marks can be clicked; returns what the clicked ones carry as `customdata`."""
    event = st.plotly_chart(
        figure, key=key, config=_config(picture), alt=alt, on_select="rerun", selection_mode="points"
    )
    return [point["customdata"] for point in event["selection"]["points"] if point.get("customdata") is not None]


def _config(picture: str) -> dict[str, Any]:
    options = CONFIG["toImageButtonOptions"] | {"filename": picture}
    return CONFIG | {"toImageButtonOptions": options}
