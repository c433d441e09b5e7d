"""Rating: what is dealt to whom, what a vote writes, and that nothing is lost or counted twice."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedbackloop import comparisons, schema
from feedbackloop.comparisons import dealing, items, seats
from feedbackloop.comparisons.deck import Deck
from feedbackloop.comparisons.queues import _sample
from feedbackloop.errors import SettingsError, StoreError, UnknownName
from feedbackloop.identity import utcnow
from feedbackloop.models import (
    TABLES,
    AIRequest,
    AIResponse,
    Assignment,
    Case,
    Comparison,
    ProcessingStatus,
    Queue,
    Rating,
    Run,
    Task,
    Variant,
)
from feedbackloop.queries import pairs as reading
from feedbackloop.store import Store

TASK = "support"


def a_case(number: int) -> Case:
    return Case(inputs={"input": f"question {number}"}, expected="the right one", segment="s", metadata={"k": 1})


def a_variant(name: str) -> Variant:
    return Variant(name=name, model=f"simulated:{name}", prompt="{{ input }}")


def fill(
    store: Store,
    *,
    cases: int = 6,
    variants: tuple[str, ...] = ("umbra", "lumen"),
    text: Callable[[str, int], str] = lambda name, number: f"the {name} text on {number}",
    missing: frozenset[tuple[str, int]] = frozenset(),
    run_id: str = "run-1",
    cached: bool = False,
    later: timedelta = timedelta(0),
) -> Run:
    made = [a_variant(name) for name in variants]
    run = Run(id=run_id, task=TASK, dataset="d", fingerprint="f", variants=[variant.id for variant in made])
    rows: list = [Task(name=TASK), run, *made] if run_id == "run-1" else [run]
    for number in range(cases):
        case = a_case(number)
        rows += [case] if run_id == "run-1" else []
        for variant in made:
            request = AIRequest(input="q", task=TASK, run_id=run_id, case_id=case.id, variant_id=variant.id)
            failed = (variant.name, number) in missing
            response = AIResponse(
                request_id=request.id,
                output="" if failed else text(variant.name, number),
                model_used="none" if failed else variant.model,
                status=ProcessingStatus.FAILED if failed else ProcessingStatus.COMPLETED,
                cached=cached,
                created_at=utcnow() + later,
            )
            rows += [request, response]
    store.append(rows)
    return run


@pytest.fixture
def filled(store: Store) -> Store:
    fill(store)
    return store


def standing(store: Store) -> list[Comparison]:
    return store.load(Comparison, "SELECT * FROM current_comparisons ORDER BY created_at")


def forget() -> None:
    """As a new process would begin."""
    dealing._dealers.clear()


def rate_all(store: Store, queue: Queue, rater: str, winner: items.Verdict = "left") -> list[Comparison]:
    votes = []
    while (pair := comparisons.next_pair(store, queue, rater)) is not None:
        votes.append(comparisons.vote(store, pair, winner, rater, 5.0))
    return votes


# Queues


def test_an_older_store_gets_the_new_columns_and_its_queues_stay(tmp_path: Path) -> None:
    path = tmp_path / "old.duckdb"
    new = {"cases", "slots", "runs", "criteria", "rule"}
    with duckdb.connect(str(path), config={"storage_compatibility_version": "v1.5.0"}) as old:
        old.execute("CREATE TABLE schema_version (version BIGINT, created_at TIMESTAMP DEFAULT current_timestamp)")
        for table, record in TABLES.items():
            columns = schema.columns(record).items()
            names = [f"{name} {c.type}" for name, c in columns if table != "queues" or name not in new]
            old.execute(f"CREATE TABLE {table} ({', '.join(names)})")
        old.execute("INSERT INTO schema_version (version) VALUES (1)")
        old.execute(
            "INSERT INTO queues BY NAME SELECT 'q' AS id, 't' AS task, 'decision' AS purpose, ['a', 'b'] AS variants, "
            "1 AS overlap, true AS blind, 3 AS seed, TIMESTAMP '2026-01-01' AS created_at"
        )
    store = Store(path)
    found = comparisons.queue(store, "q")
    assert (found.variants, found.cases, found.runs, found.criteria) == (["a", "b"], [], [], [])
    assert found.slots == []
    assert found.rule == {}
    store.append([Queue(task="t", purpose="single", variants=["a"], criteria=["tone"])])
    assert {tuple(queue.criteria) for queue in reading.queues(store, "t")} == {(), ("tone",)}
    assert store.sql("SELECT max(version) AS v FROM schema_version")["v"][0] == len(schema.MIGRATIONS)


def test_an_equal_open_queue_is_found_again(filled: Store) -> None:
    first = comparisons.open_queue(filled, TASK, ["umbra", "lumen"])
    assert comparisons.open_queue(filled, TASK, ["lumen", "umbra"]).id == first.id
    assert comparisons.open_queue(filled, TASK, ["umbra", "lumen"], overlap=2).id != first.id
    assert comparisons.open_queue(filled, TASK, ["umbra", "lumen"], seed=first.seed + 1).id != first.id
    rate_all(filled, first, "Anna")
    assert comparisons.open_queue(filled, TASK, ["umbra", "lumen"]).id != first.id


def test_variants_are_named_by_id_name_or_version(filled: Store) -> None:
    umbra, lumen = a_variant("umbra"), a_variant("lumen")
    queue = comparisons.open_queue(filled, TASK, [umbra, lumen.label])
    assert queue.variants == [umbra.id, lumen.id]
    with pytest.raises(UnknownName, match="did you mean 'umbra'"):
        comparisons.open_queue(filled, TASK, ["umbar", "lumen"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"variants": ["umbra"]},
        {"variants": ["umbra", "umbra"]},
        {"variants": ["umbra", "lumen"], "overlap": 0},
        {"variants": ["umbra", "lumen"], "limit": 0},
        {"variants": ["umbra", "lumen"], "criteria": ["tone"]},
    ],
)
def test_what_makes_no_queue_is_refused(filled: Store, wrong: dict) -> None:
    with pytest.raises(SettingsError):
        comparisons.open_queue(filled, TASK, **wrong)


def test_a_decision_is_between_two(store: Store) -> None:
    fill(store, variants=("umbra", "lumen", "ochre"))
    with pytest.raises(SettingsError, match="leaderboard"):
        comparisons.open_queue(store, TASK, ["umbra", "lumen", "ochre"])


def test_a_queue_knows_how_far_it_is(filled: Store) -> None:
    queue = comparisons.open_queue(filled, TASK, ["umbra", "lumen"], overlap=2)
    for rater, count in (("Anna", 4), ("Ben", 2)):
        for _ in range(count):
            pair = comparisons.next_pair(filled, queue, rater)
            comparisons.vote(filled, pair, "tie", rater, 3.0)
    status = comparisons.status(filled, queue)
    assert (status.size, status.exact, status.wanted, status.votes) == (6, True, 12, 6)
    assert status.raters == ("Anna", "Ben")
    (listed,) = comparisons.queues(filled, TASK)
    assert (listed.size, listed.votes, listed.is_open) == (6, 6, True)


def test_a_queue_may_be_a_sample_of_what_a_rater_has_not_judged(store: Store) -> None:
    fill(store, cases=20)
    first = comparisons.open_queue(store, TASK, ["umbra", "lumen"], limit=8, rater="Anna")
    assert len(first.cases) == 8
    assert comparisons.open_queue(store, TASK, ["umbra", "lumen"], limit=8, rater="Anna").id == first.id
    rate_all(store, first, "Anna")
    second = comparisons.open_queue(store, TASK, ["umbra", "lumen"], limit=8, rater="Anna")
    assert not set(first.cases) & set(second.cases)
    assert comparisons.outlook(store, TASK, first.variants, rater="Anna").size == 12
    assert comparisons.outlook(store, TASK, first.variants, rater="Ben").size == 20


def test_a_sample_is_of_so_many_pairs_also_of_three_variants(store: Store) -> None:
    names = ("umbra", "lumen", "ochre")
    fill(store, cases=6, variants=names)
    queue = comparisons.open_queue(store, TASK, names, purpose="leaderboard", limit=6, rater="Anna", seed=3)
    forget()
    (listed,) = comparisons.queues(store, TASK)
    assert (listed.size, listed.exact, listed.wanted) == (6, True, 6)
    assert comparisons.open_queue(store, TASK, names, purpose="leaderboard", limit=6, rater="Anna").id == queue.id
    assert comparisons.open_queue(store, TASK, names, purpose="leaderboard", cases=queue.cases).id != queue.id
    # Answers that come meanwhile change nothing in it.
    fill(store, cases=6, variants=names, text=lambda *_: "one and the same", run_id="run-2", cached=True)
    votes = rate_all(store, queue, "Anna")
    assert (len(votes), len({vote.case_id for vote in votes})) == (6, 6)
    assert {vote.pair_propensity for vote in votes} == {1 / 3}
    assert not comparisons.status(store, queue).is_open
    # Then the rest of them, a case's second pair only after each has had its first.
    rest = comparisons.open_queue(store, TASK, names, purpose="leaderboard", limit=60, rater="Anna")
    assert len(rest.slots) == comparisons.status(store, rest).size == 12
    single = comparisons.open_queue(store, TASK, names, purpose="single", limit=5)
    assert (comparisons.status(store, single).size, len(single.cases)) == (5, 5)


def test_a_sample_is_balanced_over_cases_and_pairs(store: Store) -> None:
    names = ("umbra", "lumen", "ochre")
    fill(store, cases=30, variants=names)
    ids = [a_variant(name).id for name in names]
    drawn: Counter[tuple[str, ...]] = Counter()
    for seed in range(40):
        wanted = Queue(task=TASK, purpose="leaderboard", variants=ids, seed=seed)
        drawn.update(slot.key for slot in _sample(store, wanted, 15, None))
    for place, kinds in ((slice(0, 1), 30), (slice(1, 3), 3)):
        counts = Counter[tuple[str, ...]]()
        for key, n in drawn.items():
            counts[key[place]] += n
        expected = 600 / kinds
        assert len(counts) == kinds
        # About five standard deviations of a binomial count.
        assert all(abs(n - expected) < 5 * math.sqrt(expected) for n in counts.values())


# What is dealt


def test_pairs_are_the_cases_that_both_answered_with_different_texts(store: Store) -> None:
    fill(
        store,
        cases=8,
        missing=frozenset({("umbra", 0)}),
        text=lambda name, number: (
            " the same\n" if number == 1 and name == "umbra" else "the same" if number == 1 else name
        ),
    )
    queue = comparisons.open_queue(store, TASK, ["umbra", "lumen"])
    assert {vote.case_id for vote in rate_all(store, queue, "Anna")} == {a_case(number).id for number in range(2, 8)}
    status = comparisons.status(store, queue)
    assert (status.size, status.left_out, status.is_open) == (6, 1, False)


def test_what_a_rater_sees_holds_neither_the_right_answer_nor_the_group(filled: Store) -> None:
    queue = comparisons.open_queue(filled, TASK, ["umbra", "lumen"])
    pair = comparisons.next_pair(filled, queue, "Anna")
    assert pair is not None
    assert pair.case.inputs["input"].startswith("question")
    assert (pair.case.expected, pair.case.segment, pair.case.metadata) == (None, None, {})
    assert {pair.left, pair.right} == {pair.output_a, pair.output_b}
    assert "umbra" in pair.output_a
    assert pair.variant_a == a_variant("umbra").id


def test_the_newest_completed_answer_is_shown_and_a_copy_stands_behind_what_it_copies(store: Store) -> None:
    fill(store, cases=1, text=lambda name, _: f"{name} first")
    fill(store, cases=1, text=lambda name, _: f"{name} second", run_id="run-2", later=timedelta(hours=1))
    fill(store, cases=1, text=lambda name, _: f"{name} first", run_id="run-3", later=timedelta(hours=2), cached=True)
    fill(store, cases=1, run_id="run-4", later=timedelta(hours=3), missing=frozenset({("umbra", 0), ("lumen", 0)}))
    queue = comparisons.open_queue(store, TASK, ["umbra", "lumen"])
    pair = comparisons.next_pair(store, queue, "Anna")
    assert pair is not None
    assert pair.output_a == "umbra second"
    of_third = comparisons.open_queue(store, TASK, ["umbra", "lumen"], runs=["run-3"])
    pair = comparisons.next_pair(store, of_third, "Anna")
    assert pair is not None
    assert pair.output_a == "umbra first"


def test_only_the_cases_that_were_sent_are_shown(filled: Store) -> None:
    wanted = [a_case(1).id, a_case(4).id]
    queue = comparisons.open_queue(filled, TASK, ["umbra", "lumen"], cases=wanted)
    assert {vote.case_id for vote in rate_all(filled, queue, "Anna")} == set(wanted)


def test_the_order_is_the_seeds_and_the_same_for_every_rater(store: Store) -> None:
    fill(store, cases=40)

    def order(seed: int) -> list[str]:
        deck = Deck(
            store,
            Queue(task=TASK, purpose="decision", variants=[a_variant(n).id for n in ("umbra", "lumen")], seed=seed),
        )
        deck.read_on()
        return [slot.case_id for slot in deck.read]

    assert order(1) == order(1) != order(2)
    assert sorted(order(1)) == sorted(order(2))
    places = [order(seed).index(a_case(0).id) for seed in range(60)]
    assert 10 < sum(places) / len(places) < 29  # uniform over 0..39: mean 19.5, standard error 1.5


def test_sides_are_balanced_and_the_same_at_each_look() -> None:
    def views(rater: str) -> list[bool]:
        slots = [items.Slot(f"case {n}", ("a", "b"), ("x", "y"), 1.0) for n in range(200)]
        return [items.a_left(17, rater, slot) for slot in slots]

    anna, ben = views("Anna"), views("Ben")
    assert anna == views("Anna")
    assert anna != ben
    limit = 4 * math.sqrt(200 / 4)  # four standard deviations of a fair coin
    assert abs(sum(anna) - 100) < limit
    assert abs(sum(ben) - 100) < limit
    assert abs(sum(a == b for a, b in zip(anna, ben, strict=True)) - 100) < limit


def test_the_pairs_that_are_dealt_stand_as_drawn(store: Store) -> None:
    fill(store, cases=40)
    queue = comparisons.open_queue(store, TASK, ["umbra", "lumen"], seed=5)
    pair = comparisons.next_pair(store, queue, "Anna")
    sides, firsts = [], []
    while pair is not None:
        sides.append(pair.a_shown_left)
        firsts.append(pair.left == pair.output_a)
        pair = comparisons.vote_and_deal(store, pair, "left", "Anna", 1.0).next
    assert len(sides) == 40
    assert sides == firsts
    assert abs(sum(sides) - 20) < 4 * math.sqrt(40 / 4)
    votes = standing(store)
    assert all((vote.winner == "a") == vote.a_shown_left for vote in votes)


@given(seed=st.integers(0, 2**31), rater=st.text(min_size=1), case=st.text(min_size=1))
@settings(max_examples=100, deadline=None)
def test_any_name_draws_the_same_side_twice(seed: int, rater: str, case: str) -> None:
    slot = items.Slot(case, ("a", "b"), ("x", "y"), 1.0)
    assert items.a_left(seed, rater, slot) == items.a_left(seed, rater, slot)


def test_a_leaderboard_draws_pairs_with_the_propensity_it_stores(store: Store) -> None:
    names = ("umbra", "lumen", "ochre")
    # A third of the cases lack one variant: there the only pair has probability 1.
    fill(store, cases=90, variants=names, missing=frozenset(("ochre", n) for n in range(0, 90, 3)))
    queue = comparisons.open_queue(store, TASK, names, purpose="leaderboard", seed=3)
    deck = Deck(store, queue)
    deck.read_on()
    assert len(deck.read) == 30 + 60 * 3 == deck.size
    first_round = deck.read[:90]
    assert len({slot.case_id for slot in first_round}) == 90
    full = [slot for slot in first_round if slot.propensity != 1.0]
    assert {slot.propensity for slot in full} == {1 / 3}
    counts = Counter(slot.variants for slot in full)
    assert len(counts) == 3
    assert all(abs(count - 20) < 4 * math.sqrt(60 * 1 / 3 * 2 / 3) for count in counts.values())
    pair = comparisons.next_pair(store, queue, "Anna")
    assert pair is not None
    vote = comparisons.vote(store, pair, "right", "Anna", 2.0)
    assert vote.pair_propensity == pair.propensity == deck.read[0].propensity


def test_a_large_queue_is_read_a_part_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store, cases=30)
    monkeypatch.setattr("feedbackloop.comparisons.deck._PART", 20)
    queue = comparisons.open_queue(store, TASK, ["umbra", "lumen"])
    deck = dealing.dealer(store, queue).deck
    assert (len(deck.read), deck.complete, deck.size) == (20, False, 30)
    assert len(rate_all(store, queue, "Anna")) == 30
    assert deck.complete


def test_answers_that_come_later_are_dealt_too(filled: Store) -> None:
    queue = comparisons.open_queue(filled, TASK, ["umbra", "lumen"])
    assert len(rate_all(filled, queue, "Anna")) == 6
    more = [a_case(number) for number in range(6, 9)]
    rows: list = [*more]
    for case in more:
        for name in ("umbra", "lumen"):
            request = AIRequest(input="q", task=TASK, run_id="run-2", case_id=case.id, variant_id=a_variant(name).id)
            rows += [request, AIResponse(request_id=request.id, output=name, model_used="m")]
    filled.append(rows)
    assert {vote.case_id for vote in rate_all(filled, queue, "Anna")} == {case.id for case in more}


# Seats


def test_raters_share_a_queue_without_meeting(filled: Store) -> None:
    queue = comparisons.open_queue(filled, TASK, ["umbra", "lumen"])
    anna, ben = (comparisons.next_pair(filled, queue, rater) for rater in ("Anna", "Ben"))
    assert anna is not None
    assert ben is not None
    assert anna.case.id != ben.case.id
    forget()
    again = comparisons.next_pair(filled, queue, "Anna")
    assert again is not None
    assert again.id == anna.id
    assert again.a_shown_left == anna.a_shown_left


def test_a_pair_with_two_seats_goes_to_two_raters_and_to_neither_twice(filled: Store) -> None:
    queue = comparisons.open_queue(filled, TASK, ["umbra", "lumen"], overlap=2)
    votes = [vote for rater in ("Anna", "Ben", "Cleo") for vote in rate_all(filled, queue, rater)]
    assert Counter(vote.rater for vote in votes) == {"Anna": 6, "Ben": 6}
    assert set(Counter((vote.case_id, vote.rater) for vote in votes).values()) == {1}
    given = filled.load(Assignment, "SELECT * FROM assignments")
    assert set(Counter((one.case_id, one.seat) for one in given).values()) == {1}


@pytest.fixture
def fleeting(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given to a rater is theirs for a moment only."""
    monkeypatch.setattr(seats, "HELD_FOR", timedelta(seconds=0.2))


def test_a_pair_is_held_for_a_quarter_of_an_hour(filled: Store) -> None:
    queue = comparisons.open_queue(filled, TASK, ["umbra", "lumen"], cases=[a_case(0).id])
    pair = comparisons.next_pair(filled, queue, "Anna")
    assert pair is not None
    assert pair.assignment.expires - pair.assignment.created_at == timedelta(minutes=15)
    assert comparisons.next_pair(filled, queue, "Ben") is None


def test_an_abandoned_pair_goes_to_somebody_else(filled: Store, fleeting: None) -> None:
    queue = comparisons.open_queue(filled, TASK, ["umbra", "lumen"], cases=[a_case(0).id])
    left = comparisons.next_pair(filled, queue, "Anna")
    assert left is not None
    time.sleep(0.25)
    taken = comparisons.next_pair(filled, queue, "Ben")
    assert taken is not None
    assert taken.case.id == left.case.id
    vote = comparisons.vote(filled, taken, "left", "Ben", 1.0)
    assert comparisons.next_pair(filled, queue, "Anna") is None
    assert standing(filled) == [vote]


def test_who_comes_back_late_is_still_heard(filled: Store, fleeting: None) -> None:
    queue = comparisons.open_queue(filled, TASK, ["umbra", "lumen"], cases=[a_case(0).id])
    left = comparisons.next_pair(filled, queue, "Anna")
    time.sleep(0.25)
    assert left is not None
    comparisons.vote(filled, left, "tie", "Anna", 2000.0)
    assert [vote.rater for vote in standing(filled)] == ["Anna"]


def test_a_pair_judged_elsewhere_is_not_shown_again(filled: Store) -> None:
    queue = comparisons.open_queue(filled, TASK, ["umbra", "lumen"], cases=[a_case(0).id, a_case(1).id])
    judged = rate_all(filled, queue, "Anna")
    everything = comparisons.open_queue(filled, TASK, ["umbra", "lumen"])
    assert everything.id != queue.id
    assert {vote.case_id for vote in rate_all(filled, everything, "Anna")}.isdisjoint(v.case_id for v in judged)


def test_what_was_skipped_comes_back_only_if_asked_for(filled: Store) -> None:
    queue = comparisons.open_queue(filled, TASK, ["umbra", "lumen"], overlap=1)
    first = comparisons.next_pair(filled, queue, "Anna")
    assert first is not None
    following = comparisons.skip(filled, first, "Anna").next
    assert following is not None
    forget()
    now = comparisons.next_pair(filled, queue, "Anna")
    assert now is not None
    assert now.case.id == following.case.id
    assert len(rate_all(filled, queue, "Anna")) == 5
    assert dealing.dealer(filled, queue).skipped("Anna") == 1
    again = comparisons.next_pair(filled, queue, "Anna", again=True)
    assert again is not None
    assert again.case.id == first.case.id
    comparisons.vote(filled, again, "left", "Anna", 1.0)
    assert comparisons.next_pair(filled, queue, "Anna", again=True) is None


def test_what_one_skips_another_gets(filled: Store) -> None:
    queue = comparisons.open_queue(filled, TASK, ["umbra", "lumen"], cases=[a_case(0).id])
    pair = comparisons.next_pair(filled, queue, "Anna")
    assert pair is not None
    assert comparisons.skip(filled, pair, "Anna").next is None
    with pytest.raises(StoreError, match="not what you were given last"):
        comparisons.vote(filled, pair, "left", "Anna", 1.0)
    assert comparisons.next_pair(filled, queue, "Ben") is not None


# Votes


def test_a_vote_says_what_was_on_the_screen(filled: Store) -> None:
    queue = comparisons.open_queue(filled, TASK, ["umbra", "lumen"], seed=9)
    for winner in ("left", "right", "tie", "both_bad"):
        pair = comparisons.next_pair(filled, queue, "Anna")
        assert pair is not None
        vote = comparisons.vote(filled, pair, winner, "Anna", 4.5, comment="so it is")
        shown_left = vote.response_a if vote.a_shown_left else vote.response_b
        (text,) = filled.read("SELECT output FROM responses WHERE id = ?", [shown_left])["output"]
        assert text == pair.left
        chosen = {"a": vote.response_a, "b": vote.response_b}.get(vote.winner)
        assert (chosen == shown_left) == (winner == "left")
        assert (vote.winner in ("a", "b")) == (winner in ("left", "right"))
        assert vote in standing(filled)
        assert (vote.queue, vote.seconds, vote.blind, vote.rater_kind) == (queue.id, 4.5, True, "human")


def test_a_vote_and_the_next_pair_take_one_lease(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = comparisons.open_queue(filled, TASK, ["umbra", "lumen"])
    pair = comparisons.next_pair(filled, queue, "Anna")
    taken = []
    opened = Store._open
    monkeypatch.setattr(Store, "_open", lambda self, *use, **named: taken.append(1) or opened(self, *use, **named))
    for _ in range(4):
        assert pair is not None
        pair = comparisons.vote_and_deal(filled, pair, "left", "Anna", 1.0).next
    assert len(taken) == 4
    assert len(filled.load(Comparison, "SELECT * FROM comparisons")) == 4


def test_a_vote_on_the_same_pair_counts_once(filled: Store) -> None:
    queue = comparisons.open_queue(filled, TASK, ["umbra", "lumen"])
    pair = comparisons.next_pair(filled, queue, "Anna")
    assert pair is not None
    first = comparisons.vote_and_deal(filled, pair, "left", "Anna", 1.0)
    second = comparisons.vote_and_deal(filled, pair, "right", "Anna", 1.0)
    assert first.outcome == "stored"
    assert second.outcome == "repeated"
    assert second.comparison == first.comparison
    assert standing(filled) == [first.comparison]


def test_a_vote_on_a_pair_of_another_window_is_refused(filled: Store) -> None:
    queue = comparisons.open_queue(filled, TASK, ["umbra", "lumen"])
    pair = comparisons.next_pair(filled, queue, "Anna")
    assert pair is not None
    following = comparisons.vote_and_deal(filled, pair, "left", "Anna", 1.0).next
    assert following is not None
    with pytest.raises(StoreError, match="given to Anna"):
        comparisons.vote(filled, following, "left", "Ben", 1.0)
    comparisons.skip(filled, following, "Anna")
    with pytest.raises(StoreError, match="another window"):
        comparisons.vote(filled, following, "left", "Anna", 1.0)
    assert len(standing(filled)) == 1


def test_undo_takes_back_the_vote_its_note_and_its_issues_and_the_pair_comes_again(filled: Store) -> None:
    queue = comparisons.open_queue(filled, TASK, ["umbra", "lumen"])
    pair = comparisons.next_pair(filled, queue, "Anna")
    assert pair is not None
    voted = comparisons.vote_and_deal(filled, pair, "left", "Anna", 1.0)
    loser = pair.response_b if pair.a_shown_left else pair.response_a
    comparisons.label_issue(filled, loser, "wrong tone", "Anna", queue.id)
    noted = comparisons.note(filled, voted.comparison, " it greets twice ")
    assert (noted.comment, noted.winner, noted.supersedes) == (
        "it greets twice",
        voted.comparison.winner,
        voted.comparison.id,
    )
    assert standing(filled) == [noted]
    gone = comparisons.undo(filled, voted.comparison)
    assert (gone.winner, gone.supersedes) == (None, noted.id)
    assert standing(filled) == []
    assert filled.load(Rating, "SELECT * FROM current_ratings") == []
    assert comparisons.undo(filled, noted).winner is None
    assert len(filled.load(Comparison, "SELECT * FROM comparisons")) == 3
    forget()
    back = comparisons.next_pair(filled, queue, "Anna")
    assert back is not None
    assert (back.case.id, back.a_shown_left) == (pair.case.id, pair.a_shown_left)
    anew = comparisons.vote_and_deal(filled, back, "right", "Anna", 1.0)
    assert anew.next is not None
    assert voted.next is not None
    assert anew.next.case.id == voted.next.case.id
    with pytest.raises(StoreError, match="taken back"):
        comparisons.note(filled, gone, "too late")


def test_the_same_note_is_stored_once(filled: Store) -> None:
    queue = comparisons.open_queue(filled, TASK, ["umbra", "lumen"])
    pair = comparisons.next_pair(filled, queue, "Anna")
    assert pair is not None
    vote = comparisons.vote(filled, pair, "left", "Anna", 1.0)
    first = comparisons.note(filled, vote, "so")
    assert comparisons.note(filled, vote, "so") == first
    assert comparisons.note(filled, vote, "").comment is None
    assert len(standing(filled)) == 1


def test_an_open_vote_is_not_blind_and_replaces_the_earlier_one(filled: Store) -> None:
    ids = {
        "task": TASK,
        "case_id": a_case(0).id,
        "response_a": "x",
        "response_b": "y",
        "variant_a": "a",
        "variant_b": "b",
    }
    first = comparisons.vote_openly(filled, **ids, winner="a", rater="Anna")
    second = comparisons.vote_openly(filled, **ids, winner="tie", rater="Anna")
    assert not first.blind
    assert second.supersedes == first.id
    assert standing(filled) == [second]


# Blind


def test_who_has_seen_the_names_no_longer_votes_blind(filled: Store) -> None:
    queue = comparisons.open_queue(filled, TASK, ["umbra", "lumen"])
    pair = comparisons.next_pair(filled, queue, "Anna")
    assert pair is not None
    assert pair.blind
    # Between the showing and the vote, in another window.
    comparisons.expose(filled, "Anna", pair.case.id, [pair.response_b, "another"], "compare")
    comparisons.expose(filled, "Anna", pair.case.id, ["another", pair.response_b], "compare")
    vote = comparisons.vote_and_deal(filled, pair, "left", "Anna", 1.0)
    assert vote.comparison is not None
    assert not vote.comparison.blind
    assert not standing(filled)[0].blind
    assert filled.read("SELECT count(*) AS n FROM exposures")["n"][0] == 1
    assert vote.next is not None
    assert vote.next.blind
    ben = comparisons.open_queue(filled, TASK, ["umbra", "lumen"], cases=[pair.case.id], overlap=2)
    other = comparisons.next_pair(filled, ben, "Ben")
    assert other is not None
    assert other.blind


def test_a_pair_that_was_seen_before_says_so(filled: Store) -> None:
    queue = comparisons.open_queue(filled, TASK, ["umbra", "lumen"], cases=[a_case(2).id])
    ids = filled.read(
        "SELECT response.id FROM responses response JOIN requests r ON r.id = request_id WHERE case_id = ?",
        [a_case(2).id],
    )
    comparisons.expose_all(filled, "Anna", [(a_case(2).id, list(ids["id"]))], "reveal")
    pair = comparisons.next_pair(filled, queue, "Anna")
    assert pair is not None
    assert not pair.blind
    assert not comparisons.vote(filled, pair, "left", "Anna", 1.0).blind


def test_a_copy_of_what_was_seen_is_not_blind_either(store: Store) -> None:
    fill(store, cases=2)
    fill(store, cases=2, run_id="run-2", cached=True, later=timedelta(hours=1))
    copy = store.read(
        "SELECT response.id FROM responses response JOIN requests r ON r.id = request_id WHERE case_id = ? AND run_id = 'run-2'",
        [a_case(0).id],
    )
    comparisons.expose(store, "Anna", a_case(0).id, list(copy["id"])[:1], "compare")
    queue = comparisons.open_queue(store, TASK, ["umbra", "lumen"])
    votes = rate_all(store, queue, "Anna")
    assert {vote.case_id: vote.blind for vote in votes} == {a_case(0).id: False, a_case(1).id: True}


# One answer at a time


def test_an_issue_counts_once_and_can_be_taken_back(filled: Store) -> None:
    first = comparisons.label_issue(filled, "x", "too long", "Anna", "q")
    assert comparisons.label_issue(filled, "x", "too long", "Anna", "q") == first
    comparisons.label_issue(filled, "x", "too long", "Ben", "q")
    assert (first.metric, first.value, first.label) == ("issue", 1.0, "too long")
    comparisons.unlabel_issue(filled, first)
    comparisons.unlabel_issue(filled, first)
    assert [rating.rater for rating in filled.load(Rating, "SELECT * FROM current_ratings")] == ["Ben"]


def test_a_rating_replaces_the_raters_earlier_one(filled: Store) -> None:
    first = comparisons.rate(filled, "x", "thumbs", 1, "Anna")
    assert comparisons.rate(filled, "x", "thumbs", 1, "Anna") == first
    second = comparisons.rate(filled, "x", "thumbs", 0, "Anna")
    assert second.supersedes == first.id
    comparisons.rate(filled, "x", "tone", 5, "Anna")
    assert {(r.metric, r.value) for r in filled.load(Rating, "SELECT * FROM current_ratings")} == {
        ("thumbs", 0.0),
        ("tone", 5.0),
    }
    for metric, value in (("thumbs", 2), ("tone", 0), ("tone", 4.5), ("issue", 1)):
        with pytest.raises(SettingsError):
            comparisons.rate(filled, "x", metric, value, "Anna")


def test_a_correction_is_kept_beside_the_answer(filled: Store) -> None:
    (id_, text) = filled.read("SELECT id, output FROM responses LIMIT 1").iloc[0]
    with pytest.raises(StoreError, match="empty or says what"):
        comparisons.correct(filled, id_, f" {text}", "Anna")
    with pytest.raises(StoreError, match="no answer"):
        comparisons.correct(filled, "nothing", "better", "Anna")
    comparisons.correct(filled, id_, "better", "Anna")
    comparisons.correct(filled, id_, "best", "Anna")
    assert [rating.correction for rating in filled.load(Rating, "SELECT * FROM current_ratings")] == ["best"]
    assert filled.read("SELECT output FROM responses WHERE id = ?", [id_])["output"][0] == text


def test_single_answers_are_rated_by_thumb(filled: Store) -> None:
    queue = comparisons.open_queue(filled, TASK, ["umbra", "lumen"], purpose="single", overlap=1)
    assert comparisons.status(filled, queue).size == 12
    single = comparisons.next_single(filled, queue, "Anna")
    seen = []
    while single is not None:
        seen.append(single.response_id)
        rated = comparisons.rate_and_deal(filled, single, "thumbs", len(seen) % 2, seconds=2.0)
        assert rated.complete
        again = comparisons.rate_and_deal(filled, single, "thumbs", 1, seconds=2.0)
        assert again.rating == rated.rating
        single = comparisons.next_single(filled, queue, "Anna")
    assert len(seen) == len(set(seen)) == 12
    assert comparisons.status(filled, queue).votes == 12
    ratings = filled.load(Rating, "SELECT * FROM current_ratings")
    assert sum(rating.value or 0 for rating in ratings) == 6
    assert {(rating.queue, rating.seconds) for rating in ratings} == {(queue.id, 2.0)}


def test_single_answers_are_rated_on_every_criterion_before_the_next_one_comes(filled: Store) -> None:
    queue = comparisons.open_queue(filled, TASK, ["umbra"], purpose="single", criteria=["tone", "fact"])
    single = comparisons.next_single(filled, queue, "Anna")
    assert single is not None
    first = comparisons.rate_and_deal(filled, single, "fact", 4)
    assert not first.complete
    assert first.next == single
    forget()
    same = comparisons.next_single(filled, queue, "Anna")
    assert same is not None
    assert same.response_id == single.response_id
    second = comparisons.rate_and_deal(filled, same, "tone", 2)
    assert second.complete
    assert second.next is not None
    assert second.next.slot.key != single.slot.key
    comparisons.unrate(filled, queue, single.response_id, "Anna")
    assert filled.load(Rating, "SELECT * FROM current_ratings") == []
    back = comparisons.next_single(filled, queue, "Anna")
    assert back is not None
    assert back.response_id == single.response_id


# Many at once


def test_threads_lose_no_vote_and_give_no_seat_twice(store: Store) -> None:
    fill(store, cases=15)
    queue = comparisons.open_queue(store, TASK, ["umbra", "lumen"], overlap=2)
    votes: list[Comparison] = []
    raters = ["Anna", "Ben", "Cleo"]
    threads = [threading.Thread(target=lambda r=rater: votes.extend(rate_all(store, queue, r))) for rater in raters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    check_seats(store, {vote.id for vote in votes}, 30)


RATER = """
import sys, json
from feedbackloop import comparisons
from feedbackloop.store import Store
store = Store(sys.argv[1])
queue = comparisons.queue(store, sys.argv[2])
done = []
pair = comparisons.next_pair(store, queue, sys.argv[3])
while pair is not None:
    voted = comparisons.vote_and_deal(store, pair, "left", sys.argv[3], 1.0)
    done.append(voted.comparison.id)
    pair = voted.next or comparisons.next_pair(store, queue, sys.argv[3])
print(json.dumps(done))
"""


def test_processes_lose_no_vote_and_give_no_seat_twice(store: Store) -> None:
    import json

    fill(store, cases=20)
    queue = comparisons.open_queue(store, TASK, ["umbra", "lumen"], overlap=2)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RATER, store.address, queue.id, rater], stdout=subprocess.PIPE, text=True
        )
        for rater in ("Anna", "Ben", "Cleo")
    ]
    acknowledged = [id_ for process in processes for id_ in json.loads(process.communicate(timeout=60)[0])]
    assert all(process.returncode == 0 for process in processes)
    check_seats(store, set(acknowledged), 40)


def check_seats(store: Store, acknowledged: set[str], wanted: int) -> None:
    votes = standing(store)
    assert {vote.id for vote in votes} == acknowledged
    assert len(votes) == wanted
    assert set(Counter((vote.case_id, vote.rater) for vote in votes).values()) == {1}
    assert set(Counter(vote.case_id for vote in votes).values()) == {2}
    given = store.load(Assignment, "SELECT * FROM assignments")
    taken = Counter((one.case_id, one.seat) for one in given)
    assert set(taken.values()) == {1}
    assert {seat for _, seat in taken} == {0, 1}


# Seats, whatever happens

RATERS = ("Anna", "Ben", "Cleo")


@given(
    overlap=st.integers(1, 3),
    acts=st.lists(
        st.tuples(st.sampled_from(RATERS), st.sampled_from(["come", "vote", "skip", "undo", "leave"])), max_size=40
    ),
)
@settings(max_examples=200, deadline=None)
def test_a_seat_is_never_taken_twice_whoever_comes_and_goes(overlap: int, acts: list[tuple[str, str]]) -> None:
    queue = Queue(task=TASK, purpose="decision", variants=["a", "b"], overlap=overlap)
    slot = items.Slot("case", ("a", "b"), ("x", "y"), 1.0)
    table, now = seats.Seats(queue), utcnow()
    judging: set[str] = set()
    for rater, act in acts:
        now += timedelta(minutes=1)
        held = table.held(slot.key, rater, now)
        if act == "come" and table.is_free(slot.key, rater, now):
            number = table.number(slot.key, rater, now)
            assert 0 <= number < overlap
            table.give(seats.assignment(queue, slot, rater, number, now))
        elif act == "vote" and held is not None:
            table.judge(slot.key, rater, "vote")
            judging.add(rater)
        elif act == "skip" and held is not None:
            table.give(seats.assignment(queue, slot, rater, held.seat, now, skip=True))
            assert table.skipped(slot.key, rater)
        elif act == "undo" and rater in judging:
            table.judge(slot.key, rater, None)
            judging.discard(rater)
        elif act == "leave":
            now += seats.HELD_FOR
        at = {one: table.held(slot.key, one, now) for one in RATERS}
        assert sum(one is not None for one in at.values()) + len(judging) <= overlap
        taken = [one.seat for one in at.values() if one is not None]
        assert len(taken) == len(set(taken))
        assert all(table.holds(rater, now) == ([slot.key] if at[rater] else []) for rater in RATERS)
        assert all(not table.is_free(slot.key, rater, now) for rater in judging)
        assert table.is_full(slot.key) == (len(judging) >= overlap)
