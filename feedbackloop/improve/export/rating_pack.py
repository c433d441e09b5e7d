"""A blind queue as one HTML file, for an expert without access to the app: rated off line, the votes come back as a file.

The page holds the texts and nothing that says whose they are: pairs and answers are named by seals that only the store can read.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from feedbackloop.comparisons.dealing import Dealer, Look, dealer
from feedbackloop.comparisons.items import Slot, Verdict, a_left, shown
from feedbackloop.errors import SettingsError, StoreError
from feedbackloop.identity import utcnow
from feedbackloop.importers.rating_pack import FORMAT, answer_seal, pair_id, verdict_proof
from feedbackloop.improve.export.sinks import beside, refuse_misplaced
from feedbackloop.models import Assignment, Case, Queue, Record, Task
from feedbackloop.queries import pairs as reading
from feedbackloop.queries import records as stored
from feedbackloop.store import Store

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

PAIRS = 50
HOLD_DAYS = 30

_TEMPLATE = Path(__file__).with_name("rating_pack.html")
_CHUNK = 400
_LEAST_HOLD = timedelta(days=1)
"""What is held for less was dealt by the app, for a quarter of an hour."""

_LINE_SEPARATORS = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_BLOCK = "<{0}>(.*?)</{0}>"


@dataclass(frozen=True)
class RatingPack:
    """A pack that was written."""

    path: Path
    queue: Queue
    rater: str
    pairs: int
    until: datetime
    """So long the pairs are kept for this rater."""
    votes_file: str
    """What the page calls the file that it saves."""


@dataclass(frozen=True)
class _Term:
    """From when until when pairs are kept for a rater."""

    start: datetime
    end: datetime


@dataclass(frozen=True)
class _Seat:
    """A pair that this rater is to have, and (own) has already."""

    slot: Slot
    number: int
    own: Assignment | None


@dataclass(frozen=True)
class _Dealt:
    slot: Slot
    given: Assignment


def export_rating_pack(
    store: Store,
    path: str | Path,
    queue: Queue,
    rater: str,
    *,
    pairs: int = PAIRS,
    hold_days: float = HOLD_DAYS,
) -> RatingPack:
    """Write the next pairs of a queue as a page for one rater, and keep them for that rater.

    Made again, it holds the same pairs first, as long as they are not judged: the page then goes on where it was.

    Args:
        path: where to; it ends in .html.
        pairs: at most so many.
        hold_days: so long nobody else is given these pairs.

    Raises:
        SettingsError: the queue is none of blind pairs, nothing is left in it for this rater, or a figure or name makes no sense.
        StoreError: the store cannot be used, or the file cannot be written.
    """
    target, name = Path(path), " ".join(rater.split())
    _check(target, queue, name, pairs, hold_days)
    now = utcnow()
    dealt = _deal(dealer(store, queue), name, pairs, _Term(now, now + timedelta(days=hold_days)))
    if not dealt:
        raise SettingsError(
            f"nothing is left for {name} in this queue: all pairs are judged, or others hold them; open another queue"
        )
    data = _data(store, queue, name, dealt)
    _write(target, _page(data))
    until = min(one.given.expires for one in dealt)
    return RatingPack(target, queue, name, len(dealt), until, data["file"])


def _check(target: Path, queue: Queue, rater: str, pairs: int, hold_days: float) -> None:
    if target.suffix.lower() not in {".html", ".htm"}:
        raise SettingsError(f"a rating pack is a page: give it a name that ends in .html, not '{target.name}'")
    refuse_misplaced(target)
    if queue.purpose == "single" or not queue.blind:
        raise SettingsError("a rating pack holds blind pairs; open a blind queue of two variants or more for it")
    if not rater or len(rater) > 60:
        raise SettingsError("a rating pack is for one person: name them, in at most 60 characters")
    if pairs < 1 or not 0 < hold_days <= 3650:
        raise SettingsError("a rating pack needs one pair at least, and a day or more to come back")


def _deal(dealing: Dealer, rater: str, count: int, term: _Term) -> list[_Dealt]:
    """The pairs of an earlier pack first, then the next ones that are free, reserved as they are chosen."""
    dealing.refresh(rater, renew=True)
    deck = dealing.deck
    held = sorted(
        (
            one
            for one in dealing.store.query(lambda connection: reading.assignments(connection, dealing.queue.id))
            if one.rater == rater and one.expires > term.start and one.expires - one.created_at > _LEAST_HOLD
        ),
        key=lambda one: (one.created_at, one.id),
    )
    first = [slot for one in held if (slot := deck.find((one.case_id, *one.pair))) is not None]
    known = {slot.key for slot in first}
    dealt = _reserve(dealing, rater, first, count, term)
    place = 0
    while len(dealt) < count and (place < len(deck.read) or deck.read_on()):
        chunk = [slot for slot in deck.read[place : place + _CHUNK] if slot.key not in known]
        place += _CHUNK
        later = replace(term, start=term.start + timedelta(microseconds=len(dealt)))
        dealt += _reserve(dealing, rater, chunk, count - len(dealt), later)
    return dealt


def _reserve(dealing: Dealer, rater: str, slots: Sequence[Slot], count: int, term: _Term) -> list[_Dealt]:
    if not slots:
        return []
    made: list[_Dealt] = []

    def plan(look: Look, connection: DuckDBPyConnection) -> tuple[_Seat, ...]:
        elsewhere = reading.compared(connection, dealing.queue.task, rater)
        seats: list[_Seat] = []
        for slot in slots:
            over = look.seats.skipped(slot.key, rater) or frozenset(slot.responses) in elsewhere
            if len(seats) < count and not over and look.seats.is_free(slot.key, rater, term.start):
                own = look.seats.held(slot.key, rater, term.start)
                long = own is not None and own.expires - own.created_at > _LEAST_HOLD
                seats.append(_Seat(slot, look.seats.number(slot.key, rater, term.start), own if long else None))
        return tuple(seats)

    def rows(seats: tuple[_Seat, ...]) -> list[Record]:
        made[:] = [
            _Dealt(
                seat.slot,
                seat.own
                or _assignment(dealing.queue, seat, rater, replace(term, start=term.start + timedelta(microseconds=n))),
            )
            for n, seat in enumerate(seats)
        ]
        return [one.given for one, seat in zip(made, seats, strict=True) if seat.own is None]

    dealing.settle(rater, slots, plan, rows)
    for one in made:
        dealing.gave(one.given)
    return made


def _assignment(queue: Queue, seat: _Seat, rater: str, term: _Term) -> Assignment:
    return Assignment(
        queue=queue.id,
        case_id=seat.slot.case_id,
        pair=list(seat.slot.variants),
        seat=seat.number,
        rater=rater,
        expires=term.end,
        created_at=term.start,
    )


def _data(store: Store, queue: Queue, rater: str, dealt: Sequence[_Dealt]) -> dict[str, Any]:
    """All that the page knows."""
    slots = [one.slot for one in dealt]
    texts = store.query(lambda connection: reading.texts(connection, [id_ for slot in slots for id_ in slot.responses]))
    cases = store.query(lambda connection: reading.cases(connection, [slot.case_id for slot in slots]))
    task = stored.task(store, queue.task) or Task(name=queue.task)
    return {
        "format": FORMAT,
        "queue": queue.id,
        "rater": rater,
        "file": _file_name(rater),
        "question": task.question,
        "issues": list(dict.fromkeys(task.issues)),
        "pairs": [_pair(queue, one, cases.get(one.slot.case_id), texts) for one in dealt],
    }


def _pair(queue: Queue, one: _Dealt, case: Case | None, texts: Mapping[str, str]) -> dict[str, Any]:
    slot, given = one.slot, one.given
    left, right = slot.responses if a_left(queue.seed, given.rater, slot) else slot.responses[::-1]
    seals = answer_seal(given, left), answer_seal(given, right)
    return {
        "id": pair_id(given),
        "case": [] if case is None else _sections(shown(case)),
        "texts": [texts.get(left, ""), texts.get(right, "")],
        "left": seals[0],
        "right": seals[1],
        "propensity": slot.propensity,
        "proofs": {verdict: verdict_proof(given, verdict, *seals, slot.propensity) for verdict in get_args(Verdict)},
    }


def _sections(case: Case) -> list[dict[str, Any]]:
    """What a case asks, as texts with headings: its variables, the conversation so far, its documents."""
    alone = len(case.inputs) == 1 and not case.messages
    found: list[dict[str, Any]] = [
        {"title": "" if alone else name, "text": _text(value)} for name, value in case.inputs.items()
    ]
    for message in case.messages:
        rest = {name: value for name, value in message.items() if name not in ("role", "content") and value is not None}
        content = message.get("content")
        parts = (
            [] if content is None else [_text(part) for part in (content if isinstance(content, list) else [content])]
        )
        role = str(message.get("role") or "message").capitalize()
        found.append({"title": role, "text": "\n".join([*parts, *([_text(rest)] if rest else [])])})
    for number, document in enumerate(case.context, start=1):
        about, text = "", document
        if isinstance(document, Mapping):
            about = ", ".join(f"{name}: {_text(value)}" for name, value in document.items() if name != "text")
            text = document.get("text", document)
        title = f"Document {number}{': ' if about else ''}{about}"
        found.append({"title": title, "text": _text(text), "folded": True})
    return found


def _text(value: Any) -> str:
    if isinstance(value, Mapping) and value.get("type") == "text" and isinstance(value.get("text"), str):
        return str(value["text"])
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2, default=str)


def _file_name(rater: str) -> str:
    name = re.sub(r"[^\w.-]+", "-", rater).strip(".-")
    return f"{name or 'rater'}-votes.json"


def _page(data: Mapping[str, Any]) -> str:
    """The template with the data in it, and a policy under which its own script and style are all that works."""
    template = _TEMPLATE.read_text(encoding="utf-8")
    script, style = (_hash(template, tag) for tag in ("script", "style"))
    policy = f"default-src 'none'; script-src {script}; style-src {style}; base-uri 'none'; form-action 'none'"
    # Everything but ASCII is escaped: surrogates that stand alone, and separators that older scripts take for line ends.
    written = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    for sign, escape in _LINE_SEPARATORS.items():
        written = written.replace(sign, escape)
    title = html.escape(f"Rating for {data['rater']}")
    filled = {"POLICY": policy, "TITLE": title, "DATA": written}
    # In one go: what is put in may itself look like a place to be filled.
    return re.sub(r"\{\{(POLICY|TITLE|DATA)\}\}", lambda place: filled[place[1]], template)


def _hash(template: str, tag: str) -> str:
    found = re.search(_BLOCK.format(tag), template, re.DOTALL)
    assert found is not None
    return f"'sha256-{base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()}'"


def _write(target: Path, page: str) -> None:
    """The file is complete or not there at all."""
    try:
        with beside(target) as temporary:
            temporary.write_text(page, encoding="utf-8", newline="\n")
            temporary.replace(target)
    except StoreError as error:
        raise StoreError(f"{error}; the pairs stay reserved, export again") from error
