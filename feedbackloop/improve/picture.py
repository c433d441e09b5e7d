"""A decision as a picture beside its receipt: an SVG that needs nothing else, the same for the same decision.

It brings its own ground, light or dark as the reader's system is, so that it can be read wherever it is pasted.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Mapping

from feedbackloop.findings.wording import listed, short
from feedbackloop.improve import receipt
from feedbackloop.improve.rules import line, rule_of
from feedbackloop.models import Decision
from feedbackloop.palette import BLUE, GREEN, RED
from feedbackloop.text import fit_for_xml
from feedbackloop.wording import count

WIDTH = 720
"""Pixels; the height is what the lines of text need."""

_EDGE = 28
_LEFT, _RIGHT = 44.0, WIDTH - 44.0
"""Where 0 % and 100 % stand."""
_NAME = 40
"""Characters of a name that somebody gave."""

_FONTS = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
_COLOURS = {"promote": GREEN, "keep": RED, "undecided": BLUE}

_STYLE = """
  .ground { fill: #ffffff; stroke: #d0d7de; } .text { fill: #1f2328; } .soft { fill: #59636e; }
  .rule { stroke: #d0d7de; } .goal { stroke: #1f2328; } .halo { stroke: #ffffff; }
  .holds { fill: #0b7a60; } .fails { fill: #b3202f; } .open { fill: #59636e; }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #10171e; stroke: #3d444d; } .text { fill: #f0f6fc; } .soft { fill: #9aa5b1; }
    .rule { stroke: #3d444d; } .goal { stroke: #f0f6fc; } .halo { stroke: #10171e; }
    .holds { fill: #3ecfa8; } .fails { fill: #ff7b86; } .open { fill: #9aa5b1; }
  }
"""

_SIGNS = {
    "holds": "M-5 0 L-1.5 4 L5 -4",
    "fails": "M-4 -4 L4 4 M4 -4 L-4 4",
    "open": "M-5 0 L5 0",
}
"""Tick, cross and dash: no state is told by its colour alone."""

_TURNING = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Characters by which a name would turn the text around it."""


def picture(decision: Decision) -> str:
    """The verdict in a sentence, the win rate's interval against the line that it must lie above, the guards, votes and raters.

    Returns:
        SVG, with every text escaped; the same decision gives the same characters.
    """
    parts: list[str] = []
    y = 44.0
    # Bold letters are wider.
    for row in _wrapped(receipt.sentence(decision), 18, most=6, letter=0.68):
        parts.append(_text(row, _EDGE, y, 18, weight=600))
        y += 25
    for row in _wrapped(_whose(decision), 14, most=4):
        parts.append(_text(row, _EDGE, y, 14, style="soft"))
        y += 20
    if decision.estimate is not None:
        parts += _interval(decision, decision.estimate, y + 14)
        y += 136
    if decision.guards:
        y += 12
        for name, guard in decision.guards.items():
            made, y = _guard(name, guard, y)
            parts += made
    y += 12
    parts.append(f'<line class="rule" x1="{_EDGE}" x2="{WIDTH - _EDGE}" y1="{y:.1f}" y2="{y:.1f}"/>')
    y += 22
    for row in _wrapped(_small_print(decision), 12, most=4):
        parts.append(_text(row, _EDGE, y, 12, style="soft"))
        y += 17
    height = round(y + 8)
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="{_FONTS}">',
            f"<title>{_safe(receipt.sentence(decision))}</title>",
            f"<desc>{_safe(receipt.evidence(decision))}</desc>",
            f"<style>{_STYLE}</style>",
            f'<rect class="ground" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="10"/>',
            *parts,
            "</svg>",
            "",
        ]
    )


def _whose(decision: Decision) -> str:
    if decision.estimate is None:
        return receipt.evidence(decision)
    raters = [short(name, _NAME) for name in decision.raters[: receipt.MOST_NAMED]]
    cases = count(int(decision.evidence.get("cases", 0)), "case")
    return f"{count(decision.n, 'blind vote')} on {cases} by {listed(raters, len(decision.raters))}"


def _small_print(decision: Decision) -> str:
    confidence = decision.evidence.get("confidence", 0.95)
    said = [f"{short(decision.task, _NAME)}, {decision.created_at:%Y-%m-%d %H:%M} UTC."]
    if decision.estimate is not None:
        said.append(
            f"The share is of {receipt.unit(decision)}; its interval holds at {confidence:.0%} however often it is looked at, and "
            f"speaks of {decision.evidence.get('scope', 'these raters')}."
        )
        said += receipt.besides(decision)
    return " ".join(said)


def _interval(decision: Decision, estimate: float, top: float) -> list[str]:
    """The axis from 0 to 100 %, the line of the goal, the bar from bound to bound with the estimate on it; 116 px high."""
    goal, low, high = line(rule_of(decision)), decision.lower or 0.0, 1.0 if decision.upper is None else decision.upper
    middle, axis, colour = top + 46, top + 88, _COLOURS[decision.verdict]
    candidate = short(receipt.named(decision, decision.candidate), 24)
    baseline = short(receipt.named(decision, decision.baseline), 24)
    made = [f'<line class="rule" x1="{_LEFT:.1f}" x2="{_RIGHT:.1f}" y1="{axis:.1f}" y2="{axis:.1f}"/>']
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = _x(tick)
        made.append(f'<line class="rule" x1="{x:.1f}" x2="{x:.1f}" y1="{axis:.1f}" y2="{axis + 5:.1f}"/>')
        made.append(_text(f"{tick:.0%}", x, axis + 19, 12, style="soft", anchor="middle"))
    x = _x(goal)
    made.append(
        f'<line class="goal" x1="{x:.1f}" x2="{x:.1f}" y1="{top + 6:.1f}" y2="{axis:.1f}" stroke-width="1.5" stroke-dasharray="5 4"/>'
    )
    made.append(_text(f"release above {goal:.0%}", x, top, 12, anchor="middle"))
    made.append(_text(f"{baseline} preferred", _LEFT, top, 12, style="soft"))
    made.append(_text(f"{candidate} preferred", _RIGHT, top, 12, style="soft", anchor="end"))
    made.append(
        f'<rect x="{_x(low):.1f}" y="{middle - 5:.1f}" width="{max(_x(high) - _x(low), 2):.1f}" height="10" rx="5" fill="{colour}" fill-opacity="0.45"/>'
    )
    made.append(f'<circle cx="{_x(estimate):.1f}" cy="{middle:.1f}" r="8" fill="{colour}"/>')
    made.append(_text(f"{estimate:.0%}", _x(estimate), middle - 15, 16, weight=600, anchor="middle", halo=True))
    if (low, high) == (0.0, 1.0):
        ends = [("nothing is shown yet", 0.5)]
    elif high - low < 0.12:
        ends = [(f"{low:.0%} to {high:.0%}", (low + high) / 2)]
    else:
        ends = [(f"{low:.0%}", low), (f"{high:.0%}", high)]
    made += [_text(said, _x(at), middle + 23, 13, anchor="middle", halo=True) for said, at in ends]
    return made


def _guard(name: str, guard: Mapping[str, object], y: float) -> tuple[list[str], float]:
    """A guard's sign, what it says, and its state; and where the next one begins."""
    what, base, other, change, allowed, words = receipt.guard_cells(name, guard)
    state = str(guard.get("state"))
    state = state if state in _SIGNS else "open"
    told = f"{what}: {base} before, {other} after, {change}" + (f"; allowed {allowed}" if allowed else "")
    centre = y + 10
    sign = f'<circle class="{state}" r="9"/><path d="{_SIGNS[state]}" fill="none" class="halo" stroke-width="2"/>'
    made = [
        f'<g transform="translate({_EDGE + 8} {centre - 5:.1f})">{sign}</g>',
        _text(words, WIDTH - _EDGE, centre, 13, style=state, weight=600, anchor="end"),
    ]
    for row in _wrapped(told, 13, most=2, across=WIDTH - 2 * _EDGE - 130):
        made.append(_text(row, _EDGE + 26, centre, 13))
        centre += 18
    return made, centre - 18 + 16


def _x(share: float) -> float:
    return _LEFT + min(max(share, 0.0), 1.0) * (_RIGHT - _LEFT)


def _text(
    said: str,
    x: float,
    y: float,
    size: int,
    *,
    style: str = "text",
    weight: int = 400,
    anchor: str = "start",
    halo: bool = False,
) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}"'
    behind = f'<text class="halo" {place} stroke-width="4" stroke-linejoin="round">{_safe(said)}</text>' if halo else ""
    return f'{behind}<text class="{style}" {place}>{_safe(said)}</text>'


def _safe(said: str) -> str:
    return html.escape(_TURNING.sub("", fit_for_xml(" ".join(said.split()))), quote=True)


def _wrapped(said: str, size: int, *, most: int, across: float = WIDTH - 2 * _EDGE, letter: float = 0.58) -> list[str]:
    """The text in lines that fit, by how wide a letter is about, as a share of its size; what is too much ends in dots."""
    room = across / (letter * size)
    rows, row = [], ""
    for word in _pieces(" ".join(said.split()).split(" "), room):
        longer = f"{row} {word}".strip()
        if row and _wide(longer) > room:
            rows.append(row)
            row = word
        else:
            row = longer
    rows.append(row)
    return rows if len(rows) <= most else [*rows[: most - 1], f"{rows[most - 1][:-1].rstrip()}…"]


def _pieces(words: Iterable[str], room: float) -> Iterable[str]:
    """The words, cut where one alone would not fit."""
    for word in words:
        rest = word
        while _wide(rest) > room:
            fits = next(n for n in range(len(rest), 0, -1) if n == 1 or _wide(rest[:n]) <= room)
            yield rest[:fits]
            rest = rest[fits:]
        yield rest


def _wide(said: str) -> float:
    """How many letters of usual width it takes."""
    return sum(1.8 if unicodedata.east_asian_width(letter) in "WF" else 1.0 for letter in said)
