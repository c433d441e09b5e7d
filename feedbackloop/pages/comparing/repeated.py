"""A case that was asked several times: which of its answers are the same, and how far apart the best and the worst are."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from feedbackloop.pages import answer, context
from feedbackloop.queries.repeats import repeats, samples
from feedbackloop.queries.table import Column
from feedbackloop.wording import count


def draw(column: Column, case_id: str, key: str) -> None:
    """Say in a line how steady a variant's answers to this case are, and list the distinct ones, the commonest first."""
    cells = context.read(repeats, column.run_id, case_id)
    cells = cells[cells["variant_id"] == column.variant_id]
    if cells.empty:
        return
    found = context.read(samples, column.run_id, case_id, column.variant_id)
    st.caption(answer.escaped(_sentence(cells.iloc[0], found)), help=_HELP)
    distinct = found[found["wording"].notna()].groupby("wording", sort=True)
    if len(distinct) < 2:
        return
    with st.expander(f"{len(distinct)} different answers", icon=":material/call_split:"):
        for number, (_, same) in enumerate(distinct):
            which = ", ".join(str(place + 1) for place in same["repeat"])
            named = "answer" if len(same) == 1 else "answers"
            st.caption(f"**{count(len(same), 'time')}** ({named} {which})")
            answer.show(str(same["output"].iloc[0]), key=f"{key}-{number}")


_HELP = (
    "Answers are the same if they differ in case, white space and a full stop at the end at most. Best and worst: by their checks. "
    "Spread: standard deviation of the checks, 0 is steady."
)


def _sentence(cell: pd.Series, found: pd.DataFrame) -> str:
    """`3 answers, 2 of them different; 67% agree; best 100% (answer 1), worst 0% (answer 2), spread 0.58`."""
    told = [count(int(cell["answers"]), "answer")]
    if cell["answers"] > 1:
        different = int(cell["different"])
        told[0] += ", all the same" if different == 1 else f", {different} of them different"
        told.append(f"{cell['agreement']:.0%} agree")
    if cell["failed"]:
        told.append(f"{int(cell['failed'])} failed")
    if not pd.isna(cell["best"]):
        numbers = dict(zip(found["response_id"], found["repeat"] + 1, strict=True))
        best, worst = (numbers.get(cell[name]) for name in ("best_response", "worst_response"))
        if cell["best"] == cell["worst"]:
            told.append(f"checks {cell['best']:.0%}")
        else:
            told.append(f"best {cell['best']:.0%} (answer {best}), worst {cell['worst']:.0%} (answer {worst})")
    if not pd.isna(cell["stability"]):
        told.append(f"spread {cell['stability']:.2f}")
    return "; ".join(told)
