"""Queues: what is to be rated, opened once and found again."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from feedbackloop.comparisons.dealing import dealer, known_dealer
from feedbackloop.comparisons.deck import Deck
from feedbackloop.comparisons.items import Slot
from feedbackloop.errors import SettingsError, UnknownName
from feedbackloop.models import Queue, Variant
from feedbackloop.queries import pairs as reading
from feedbackloop.queries import records
from feedbackloop.registry import check_choice, near
from feedbackloop.store import Store

Purpose = Literal["decision", "leaderboard", "single"]


@dataclass(frozen=True)
class QueueStatus:
    """A queue and how far it is."""

    queue: Queue
    size: int
    """Pairs, or single answers; about, where not all of a large queue has been looked at (`exact`)."""
    exact: bool
    left_out: int
    """Pairs whose two answers read the same: there is nothing to choose."""
    votes: int
    """Verdicts that count towards what the queue asks for."""
    raters: tuple[str, ...]
    """Who has judged, in alphabetical order."""

    @property
    def wanted(self) -> int:
        """Verdicts that the queue asks for."""
        return self.size * self.queue.overlap

    @property
    def is_open(self) -> bool:
        """Whether something is left to be judged."""
        return self.votes < self.wanted


@dataclass(frozen=True)
class Outlook:
    """What a queue would consist of."""

    size: int
    exact: bool
    left_out: int
    judged: int
    """Which the rater has judged already; they are not in `size`."""
    seconds_per_vote: float

    def minutes(self, count: int | None = None) -> int:
        """How long so many votes, or all of them, take one person."""
        return max(1, round((self.size if count is None else count) * self.seconds_per_vote / 60))


def open_queue(
    store: Store,
    task: str,
    variants: Sequence[str | Variant],
    *,
    purpose: Purpose = "decision",
    cases: Sequence[str] = (),
    runs: Sequence[str] = (),
    overlap: int = 1,
    blind: bool = True,
    seed: int | None = None,
    criteria: Sequence[str] = (),
    limit: int | None = None,
    rater: str | None = None,
    rule: Mapping[str, Any] | None = None,
) -> Queue:
    """Open a queue, or find an equal one that has something left to be judged.

    Args:
        variants: ids, names (the newest version) or `name@version`; a decision is between two, a leaderboard among more.
        cases: ids; none means all that the variants answered.
        runs: ids; none means each variant's newest completed answer, whatever run it is from.
        overlap: how many raters see the same pair.
        seed: fixes the order and the sides; drawn unless given.
        criteria: what single answers are rated on, from 1 to 5; none means a thumb.
        limit: only so many pairs, or single answers, drawn at random: each case is as likely as any other, and so is each pair of
            variants; no case has a second pair before each has one.
        rater: choose among those that this rater has not judged yet.
        rule: what a decision must show of the second variant, where it is not the usual (`improve.rules.Rule.unusual`).

    Raises:
        SettingsError: these cannot make a queue.
        UnknownName: the task has no such variant.
        StoreError: the store cannot be used.
    """
    check_choice("purpose", purpose, get_args(Purpose))
    ids = _variant_ids(store, task, variants)
    fewest = 1 if purpose == "single" else 2
    if len(set(ids)) < max(fewest, len(ids)):
        raise SettingsError(f"a queue for a {purpose} needs {fewest} different variants or more, each once")
    if purpose == "decision" and len(ids) != 2:
        raise SettingsError("a decision is between two variants; take purpose='leaderboard' for more")
    if overlap < 1 or (limit is not None and limit < 1):
        raise SettingsError("a queue needs one rater and one pair at least")
    if criteria and purpose != "single":
        raise SettingsError("criteria are for single answers: take purpose='single', or leave them out")
    wanted = Queue(
        task=task,
        purpose=purpose,
        variants=ids,
        cases=sorted(set(cases)),
        runs=sorted(set(runs)),
        criteria=list(dict.fromkeys(criteria)),
        overlap=overlap,
        blind=blind,
        seed=secrets.randbelow(2**31) if seed is None else seed,
        rule=dict(rule or {}),
    )
    for known in reading.queues(store, task):
        if _equal(known, wanted, limit) and (seed is None or known.seed == seed) and status(store, known).is_open:
            return known
    if limit is not None:
        drawn = _sample(store, wanted, limit, rater)
        found = {"cases": sorted({slot.case_id for slot in drawn}), "slots": [list(slot.key) for slot in drawn]}
        wanted = wanted.model_copy(update=found)
    store.append([wanted])
    return wanted


def queue(store: Store, id_: str) -> Queue:
    """The queue with this id.

    Raises:
        UnknownName: there is none.
    """
    found = reading.find_queue(store, id_) if store.exists() else None
    if found is None:
        raise UnknownName(f"this store has no queue '{id_[:40]}'; open the page Rate to choose or to make one")
    return found


def queues(store: Store, task: str) -> list[QueueStatus]:
    """The queues of a task and how far they are, newest first; sizes are estimates unless a queue was at work in this process."""
    found = reading.queues(store, task)
    progress = reading.queue_progress(store, found)
    made = []
    for one in found:
        known = known_dealer(store, one)
        count = len(one.variants)
        each = count if one.purpose == "single" else count * (count - 1) // 2
        if known is None and not one.cases:
            known = dealer(store, one)
        size, exact, left_out = len(one.slots) or len(one.cases) * each, bool(one.slots) or each == 1, 0
        if known is not None:
            size, exact, left_out = known.deck.size, known.deck.complete, known.deck.left_out
        so_far = progress.get(one.id, reading.Progress())
        made.append(QueueStatus(one, size, exact, left_out, so_far.filled, so_far.raters))
    return made


def status(store: Store, queue: Queue) -> QueueStatus:
    """How far a queue is."""
    deck = dealer(store, queue).deck
    so_far = reading.queue_progress(store, [queue]).get(queue.id, reading.Progress())
    return QueueStatus(queue, deck.size, deck.complete, deck.left_out, so_far.filled, so_far.raters)


def answers_of(store: Store, queue: Queue) -> list[tuple[str, list[str]]]:
    """All answers that a queue may show: pairs of a case's id and the ids of its answers."""
    deck = dealer(store, queue).deck
    while deck.read_on():
        pass
    found: dict[str, dict[str, None]] = {}
    for slot in deck.read:
        found.setdefault(slot.case_id, {}).update(dict.fromkeys(slot.responses))
    return [(case_id, list(ids)) for case_id, ids in found.items()]


def outlook(
    store: Store,
    task: str,
    variants: Sequence[str],
    purpose: Purpose = "decision",
    *,
    runs: Sequence[str] = (),
    rater: str | None = None,
) -> Outlook:
    """What a queue of these variants (ids) would hold for a rater, and at which pace people have voted on this task."""
    deck = Deck(store, Queue(task=task, purpose=purpose, variants=list(variants), runs=list(runs)))
    deck.read_on()
    known = _compared(store, task, rater)
    judged = sum(frozenset(slot.responses) in known for slot in deck.read)
    pace = reading.seconds_per_vote(store, task)
    return Outlook(deck.size - judged, deck.complete, deck.left_out, judged, pace)


def _compared(store: Store, task: str, rater: str | None) -> set[frozenset[str]]:
    if rater is None:
        return set()
    return store.query(lambda connection: reading.compared(connection, task, rater))


def _variant_ids(store: Store, task: str, variants: Sequence[str | Variant]) -> list[str]:
    known = records.task_variants(store, task)
    by_name: dict[str, str] = {}
    for variant in known:  # of several versions of a name the newest comes first
        by_name.setdefault(variant.name, variant.id)
    by_name |= {variant.label: variant.id for variant in known} | {variant.id: variant.id for variant in known}
    found = []
    for one in variants:
        name = one.id if isinstance(one, Variant) else one
        if name not in by_name:
            names = list(dict.fromkeys(variant.name for variant in known))
            raise UnknownName(f"the task '{task}' has no answers of a variant '{name}'{near(name, names)}")
        found.append(by_name[name])
    return found


def _equal(known: Queue, wanted: Queue, limit: int | None) -> bool:
    def mark(one: Queue) -> tuple[object, ...]:
        variants = one.variants if one.rule else sorted(one.variants)
        return one.purpose, variants, one.rule, one.runs, one.criteria, one.overlap, one.blind

    same = known.cases == wanted.cases and not known.slots if limit is None else len(known.slots) == limit
    return mark(known) == mark(wanted) and same


def _sample(store: Store, wanted: Queue, limit: int, rater: str | None) -> list[Slot]:
    """The first in the order of the queue's seed that this rater has not judged, as many as that."""
    deck, known = Deck(store, wanted), _compared(store, wanted.task, rater)
    drawn: list[Slot] = []
    place = 0
    while len(drawn) < limit and deck.read_on():
        drawn += [slot for slot in deck.read[place:] if frozenset(slot.responses) not in known]
        place = len(deck.read)
    return drawn[:limit]
