"""The table of cases: filters, counts against the first column, and the rows, what got worse first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from feedbackloop.pages import address, answer, context
from feedbackloop.pages.comparing.columns import WHERE, Compared
from feedbackloop.queries import shown
from feedbackloop.queries.table import OUTCOMES, Board, Filters, Measure, Outcome
from feedbackloop.wording import count

ROWS = 200
"""Cases on the screen at once."""

FILTERS = ("status", "variant", "segment", "issue", "find")
"""Their names in the URL."""

_MEASURES: dict[Measure, str] = {
    "votes": "blind votes",
    "checks": "checks",
    "ratings": "ratings",
    "judges": "model judges",
}
_OUTCOMES: dict[Outcome, str] = {
    "worse": "Worse",
    "better": "Better",
    "same": "About the same",
    "failed": "Failed",
    "unjudged": "Not judged",
    "missing": "No answer",
}
_SIGNS = {"better": "▲", "worse": "▼", "same": "="}
# So light that they do on a light page and on a dark one; the sign says the same without colour.
_SHADES = {
    "better": "background-color: rgba(0, 158, 115, 0.13)",
    "worse": "background-color: rgba(213, 94, 0, 0.16)",
    "failed": "background-color: rgba(213, 94, 0, 0.16)",
}
_TABLE = "compare-table"
_PAGE = "compare-page"
_TURNED = "compare-turned"
"""The page that the table is to open on; Streamlit warns of a value that is set for a box with a default, as this one always has."""


@dataclass(frozen=True)
class Picked:
    """What the filters leave."""

    measure: Measure | None
    """What says which answer is better; none where nothing does."""
    filters: Filters
    ids: list[str]
    """Of the cases, in the table's order."""
    acts: DeltaGenerator
    """Where buttons for these cases go, beside the outcomes."""


def pick(compared: Compared, board: Board) -> Picked:
    """Draw the measure, the filters and the counts; all of it is kept in the URL."""
    with st.container(horizontal=True, vertical_alignment="center", key="compare-row-filters"):
        measure = _measure(board)
        filters = _filters(compared, board)
    _counts(compared, board, measure)
    acts = st.container(horizontal=True, vertical_alignment="center", key="compare-acts")
    with acts:
        filters = replace(filters, outcome=_outcome(board, measure, filters))
        st.space("stretch")
    return Picked(measure, filters, board.select(measure, filters), acts)


def clear() -> None:
    """Take all filters off."""
    for name in FILTERS:
        address.keep(name, None)


def turn_to(ids: list[str], case_id: str) -> None:
    """Let the table open on the page where a case stands."""
    if case_id in ids:
        st.session_state[_TURNED] = ids.index(case_id) // ROWS + 1


def draw(compared: Compared, board: Board, picked: Picked) -> None:
    """Draw the table; a click on a row opens it."""
    pages = -(-len(picked.ids) // ROWS)
    turned = st.session_state.pop(_TURNED, 1)
    page = min(st.session_state.get(_PAGE, turned), pages)
    ids = picked.ids[(page - 1) * ROWS : page * ROWS]
    wide = {2: 230, 3: 165}.get(len(compared.names), 130)
    text = st.column_config.TextColumn
    columns = {"case": text("Case", width=150)}
    columns |= {f"text_{place}": text(name, width=wide) for place, name in enumerate(compared.names)}
    st.dataframe(
        _frame(compared, board, picked.measure, ids),
        column_config=columns,
        hide_index=True,
        height=560 if len(ids) > 6 else "content",
        row_height=76,
        key=_TABLE,
        on_select=lambda: _open(ids),
        selection_mode="single-row",
        placeholder="",
        alt="Cases, what got worse first",
    )
    st.caption(
        f"What got worse first{f', by {_MEASURES[picked.measure]}' if picked.measure else ''}. Choose a row by its box to open it."
    )
    if pages > 1:
        st.pagination(pages, default=page, key=_PAGE)


def _open(ids: list[str]) -> None:
    chosen = st.session_state[_TABLE].selection.rows
    if chosen:
        address.keep("case", ids[chosen[0]])


def _measure(board: Board) -> Measure | None:
    known = board.measures()
    if len(known) < 2:
        return known[0] if known else None
    return address.segments(
        WHERE,
        "Judged by",
        known,
        "by",
        format_func=_MEASURES.__getitem__,
        titled=False,
        help="What says which answer is better",
    )


def _filters(compared: Compared, board: Board) -> Filters:
    ids = [column.variant_id for column in board.columns]
    focus = None
    # Runs of one variant cannot be told apart by its id.
    if compared.kind != "runs":
        focus = _one_of("variant", "Column", dict(zip(ids, compared.names, strict=True)), "any column")
    place = None if focus is None else ids.index(focus)
    segment = _one_of("segment", "Segment", {name: name for name in board.segments()}, "all segments")
    labels = {name: name for name in board.labels(place)}
    asked = st.query_params.get("issue")
    # What a link asks for can be chosen, also where nothing here has it.
    issue = _one_of("issue", "Issue", ({asked: asked} if asked else {}) | labels, "any issue")
    find = address.control(
        WHERE,
        "find",
        "",
        lambda key: st.text_input(
            "Find", key=key, placeholder="find in texts", width=150, label_visibility="collapsed"
        ),
        read=str,
        write=str,
    ).strip()
    among = context.read(shown.search, board.columns, find) if find else None
    return Filters(column=place, segment=segment, issue=issue, among=among)


def _one_of(name: str, title: str, options: dict[str, str], none: str) -> str | None:
    if not options:
        return None
    chosen = address.control(
        WHERE,
        name,
        "",
        lambda key: st.selectbox(
            title,
            ["", *options],
            format_func=lambda one: options.get(one, none),
            key=key,
            width=135,
            label_visibility="collapsed",
        ),
        read=lambda text: text if text in options or not text else None,
        write=str,
    )
    return chosen or None


def _outcome(board: Board, measure: Measure | None, filters: Filters) -> Outcome | None:
    tally = board.tally(measure, filters)
    asked = st.query_params.get("status")
    labels = {"": f"All {len(board.select(measure, filters)):,}"} | {
        name: f"{_OUTCOMES[name]} {tally[name]:,}" for name in OUTCOMES if tally[name] or name == asked
    }
    chosen = address.control(
        WHERE,
        "status",
        "",
        lambda key: (
            st.segmented_control(
                "Outcome", list(labels), format_func=labels.__getitem__, key=key, label_visibility="collapsed"
            )
            or ""
        ),
        read=lambda text: text if text in labels else None,
        write=str,
    )
    return next((name for name in OUTCOMES if name == chosen), None)


def _counts(compared: Compared, board: Board, measure: Measure | None) -> None:
    """A line for each candidate: better, worse, about the same, failed."""
    said: tuple[Outcome, ...] = ("better", "worse", "same") if measure else ()
    words = {"same": "about the same", "unjudged": "not judged", "missing": "without an answer"}
    several = len(board.candidates) > 1
    first = answer.escaped(compared.names[0])
    by = f"by {_MEASURES[measure]}" if measure else "nothing says yet which is better"
    lines = [f"Against {first}, {by}:"] if several else []
    for place in board.candidates:
        counts = board.counts(measure, place)
        parts = [f"**{counts[name]:,}** {words.get(name, name)}" for name in said]
        others = [name for name in OUTCOMES if name not in ("better", "worse", "same") and counts[name]]
        parts += [f"{counts[name]:,} {words.get(name, name)}" for name in others]
        head = f"**{answer.escaped(compared.names[place])}**{'' if several else f' against {first}, {by}'}"
        votes = board.votes(measure, place) if measure else 0
        basis = f" ({count(votes, 'vote')})" if votes else ""
        lines.append(f"{head}: {' · '.join(parts)}{basis}")
    st.markdown("  \n".join(lines))


def _frame(compared: Compared, board: Board, measure: Measure | None, ids: list[str]) -> Any:
    """The rows as they are drawn: what is asked, and for each column what is to be said of the answer, above its beginning."""
    texts = context.read(shown.previews, board.columns, tuple(ids))
    here = replace(board, cases=board.cases[board.cases["case_id"].isin(ids)].set_index("case_id", drop=False))
    frame = pd.DataFrame({"case": [_line(text) for text in texts["input"]]})
    shades = pd.DataFrame("", index=frame.index, columns=["case"])
    for place in range(len(compared.columns)):
        parts = zip(texts[f"output_{place}"], texts[f"status_{place}"], texts[f"error_{place}"], strict=True)
        previews = [_preview(*part) for part in parts]
        outcomes = here.outcomes(measure, place)[ids].tolist() if place else [""] * len(ids)
        marks = [_mark(here.cases.loc[id_], measure, place, said) for id_, said in zip(ids, outcomes, strict=True)]
        frame[f"text_{place}"] = [
            f"{mark}: {text}" if mark else text for mark, text in zip(marks, previews, strict=True)
        ]
        shades[f"text_{place}"] = [_SHADES.get(said, "") for said in outcomes]
    return frame.style.apply(lambda _: shades, axis=None)


def _mark(figures: Any, measure: Measure | None, place: int, outcome: str) -> str:
    """What is to be said of a candidate in a row, in a few letters."""
    if measure is None or outcome not in _SIGNS:
        return ""
    if measure in ("votes", "judges"):
        return f"{_SIGNS[outcome]} {outcome}, {count(int(figures[f'{measure}_{place}']), 'vote')}"
    before, after = (f"{figures[f'{measure}_{column}']:.2g}" for column in (0, place))
    return f"{_SIGNS[outcome]} {outcome}, {after if before == after else f'{before} to {after}'}"


def _preview(output: Any, status: Any, error: Any) -> str:
    if pd.isna(status):
        return "(no answer)"
    if status != "completed":
        return f"(failed: {error})"
    return _line(output) or "(blank)"


def _line(text: Any) -> str:
    return "" if pd.isna(text) else " ".join(answer.visible(str(text)).split())
