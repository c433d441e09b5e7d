"""What differs between the columns themselves: model, parameters, prompt; or, of runs, when and on what."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from feedbackloop.pages import answer
from feedbackloop.pages.comparing import texts
from feedbackloop.pages.comparing.columns import Compared
from feedbackloop.pages.comparing.texts import Facet
from feedbackloop.wording import count, file_name

_SHORT = 110
"""A fold's title this long says the values too."""


def draw(compared: Compared) -> None:
    """Draw what differs between the columns, above the table: in a line, and in full when it is unfolded."""
    facets = [facet for facet in (*texts.facets(compared.variants), *_of_runs(compared)) if facet.differs]
    prompts = [texts.prompt(variant) for variant in compared.variants]
    differing = len(set(prompts)) > 1
    if not facets and not differing:
        st.caption("Nothing differs between the columns but when they were asked.")
        return
    ending = ["prompt"] if differing else []
    title = ", ".join([f"{facet.name} ({', '.join(facet.texts)})" for facet in facets] + ending)
    if len(title) > _SHORT:
        title = ", ".join([facet.name for facet in facets] + ending)
    same = "" if differing or not any(prompts) else "; the prompt is the same"
    with st.expander(f"What differs: {answer.escaped(title)}{same}", icon=":material/difference:"):
        if facets:
            _table(compared.names, facets)
        if differing:
            _prompts(compared.names, prompts)


def _of_runs(compared: Compared) -> list[Facet]:
    if compared.kind == "variants" and len({run.id for run in compared.runs}) == 1:
        return []
    runs = compared.runs
    return [
        Facet("data", tuple(file_name(run.dataset) for run in runs)),
        Facet("cases", tuple(f"set {run.fingerprint[:6]}" for run in runs)),
        Facet("repeats", tuple(str(run.repeats) for run in runs)),
        Facet("git commit", tuple((run.git_commit or "none")[:10] for run in runs)),
    ]


def _table(names: Sequence[str], facets: Sequence[Facet]) -> None:
    head = ["", *(answer.escaped(facet.name) for facet in facets)]
    rows = [
        [f"**{answer.escaped(name)}**", *(_cell(facet.texts[place]) for facet in facets)]
        for place, name in enumerate(names)
    ]
    lines = [head, ["---"] * len(head), *rows]
    answer.keep_tables_inside()
    st.markdown("\n".join(f"| {' | '.join(cells)} |" for cells in lines))


def _cell(value: str) -> str:
    return answer.escaped(value if len(value) <= 300 else f"{value[:300]} … ({count(len(value), 'character')})")


def _prompts(names: Sequence[str], prompts: Sequence[str]) -> None:
    for place, (column, name) in enumerate(zip(st.columns(len(names)), names, strict=True)):
        with column, st.container(border=True, key=f"compare-prompt-{place}"):
            # With two, each is read against the other; with more, each against the first.
            other = prompts[1] if not place and len(prompts) == 2 else prompts[0]
            st.caption(f"Prompt of {answer.escaped(name)}")
            if prompts[place]:
                answer.show_pieces(texts.words(prompts[place], other), key=f"compare-prompt-{place}")
            else:
                st.caption("No template: the case's messages as they are.")
