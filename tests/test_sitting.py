"""A rater at a queue: which presses count, and that the store knows where they are."""

from __future__ import annotations

from datetime import timedelta

import pytest
from test_comparisons import TASK, a_case, a_variant, fill, forget, standing

from feedbackloop import comparisons
from feedbackloop.comparisons import Pair, Single, Sitting
from feedbackloop.models import Case, Queue, Rating, Task
from feedbackloop.store import Store


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def _filled(store: Store) -> None:
    fill(store)


@pytest.fixture
def queue(store: Store) -> Queue:
    return comparisons.open_queue(store, TASK, ["umbra", "lumen"])


def sit(store: Store, queue: Queue, clock: Clock, rater: str = "Anna") -> Sitting:
    sitting = Sitting(store, queue, rater, clock=clock)
    sitting.shown()
    return sitting


def on_screen(sitting: Sitting) -> Pair:
    assert isinstance(sitting.item, Pair)
    return sitting.item


def press(sitting: Sitting, clock: Clock, verdict: str, *, after: float = 2.0) -> None:
    """A press on what is on the screen, and what it brings on the screen."""
    clock.now += after
    sitting.vote(on_screen(sitting).id, verdict)
    sitting.shown()


def test_a_press_counts_once_the_pair_was_there_for_a_second(store: Store, queue: Queue, clock: Clock) -> None:
    sitting = sit(store, queue, clock)
    first = on_screen(sitting)
    press(sitting, clock, "left", after=0.9)
    assert (sitting.hint, standing(store), on_screen(sitting)) == ("too quick", [], first)
    press(sitting, clock, "left", after=0.7)
    assert sitting.hint == ""
    (vote,) = standing(store)
    assert (vote.case_id, vote.seconds) == (first.case.id, 1.6)
    assert on_screen(sitting).case.id != first.case.id
    assert (sitting.done, sitting.left) == (1, 5)


def test_a_double_press_votes_once(store: Store, queue: Queue, clock: Clock) -> None:
    sitting = sit(store, queue, clock)
    first = on_screen(sitting)
    press(sitting, clock, "left")
    second = on_screen(sitting)
    # The second press was made on the first pair, or just as the next one came.
    sitting.vote(first.id, "left")
    sitting.vote(second.id, "left")
    assert len(standing(store)) == 1
    assert on_screen(sitting) == second


@pytest.mark.parametrize("delay", [0.25, 0.5, 0.66, 0.9])
def test_a_held_key_votes_once(store: Store, queue: Queue, clock: Clock, delay: float) -> None:
    sitting = sit(store, queue, clock)
    press(sitting, clock, "left")
    press(sitting, clock, "left", after=delay)
    for _ in range(100):
        press(sitting, clock, "left", after=0.033)
    assert len(standing(store)) == 1
    assert sitting.hint == "too quick"
    press(sitting, clock, "left", after=0.7)
    assert len(standing(store)) == 2


def test_another_key_counts_at_once(store: Store, queue: Queue, clock: Clock) -> None:
    sitting = sit(store, queue, clock)
    press(sitting, clock, "left", after=0.95)
    press(sitting, clock, "right", after=0.1)
    assert len(standing(store)) == 1


def test_a_reload_goes_on_where_it_was(store: Store, queue: Queue, clock: Clock) -> None:
    sitting = sit(store, queue, clock)
    press(sitting, clock, "left")
    sitting.label(sitting.last.id, "wrong tone")
    forget()
    again = sit(store, queue, clock)
    assert on_screen(again) == on_screen(sitting)
    assert again.last == sitting.last
    assert (again.done, again.left) == (1, 5)


def test_a_pair_judged_in_another_window_is_not_judged_again(store: Store, queue: Queue, clock: Clock) -> None:
    one, two = sit(store, queue, clock), sit(store, queue, clock)
    assert on_screen(one) == on_screen(two)
    press(one, clock, "left")
    press(two, clock, "right", after=0.0)
    assert len(standing(store)) == 1
    assert two.hint == "elsewhere"
    assert on_screen(two).case.id == on_screen(one).case.id
    press(two, clock, "right")
    assert len(standing(store)) == 2


def test_undo_shows_the_pair_again_and_then_the_one_before(store: Store, queue: Queue, clock: Clock) -> None:
    sitting = sit(store, queue, clock)
    pairs = []
    for _ in range(3):
        pairs.append(on_screen(sitting))
        press(sitting, clock, "left")
    fourth = on_screen(sitting)
    for pair in reversed(pairs[1:]):
        clock.now += 1
        sitting.undo(sitting.last.id)
        sitting.shown()
        assert on_screen(sitting).case.id == pair.case.id
        assert on_screen(sitting).a_shown_left == pair.a_shown_left
    assert (len(standing(store)), sitting.done, sitting.left) == (1, 1, 5)
    for pair in (pairs[1], pairs[2], fourth):
        assert on_screen(sitting).case.id == pair.case.id
        press(sitting, clock, "right")
    assert [vote.winner for vote in standing(store)].count(None) == 0
    assert len(standing(store)) == 4


def test_undo_held_down_takes_back_one(store: Store, queue: Queue, clock: Clock) -> None:
    sitting = sit(store, queue, clock)
    for _ in range(3):
        press(sitting, clock, "left")
    clock.now += 1
    for _ in range(50):
        sitting.undo(sitting.last.id)
        clock.now += 0.033
    assert len(standing(store)) == 2


def test_one_key_labels_the_answer_that_lost(store: Store, queue: Queue, clock: Clock) -> None:
    store.append([Task(name=TASK, issues=["wrong tone", "invented fact"])])
    sitting = sit(store, queue, clock)
    pair = on_screen(sitting)
    press(sitting, clock, "left")
    last = sitting.last
    assert last.said == "left"
    sitting.label(last.id, "wrong tone")
    sitting.label(last.id, "wrong tone")
    sitting.label("another", "invented fact")
    (rating,) = store.load(Rating, "SELECT * FROM current_ratings")
    loser = pair.response_b if pair.a_shown_left else pair.response_a
    assert (rating.response_id, rating.label, rating.queue, rating.blind) == (loser, "wrong tone", queue.id, True)
    assert sitting.last.labels == {"wrong tone"}


def test_both_bad_labels_both_and_a_tie_neither(store: Store, queue: Queue, clock: Clock) -> None:
    sitting = sit(store, queue, clock)
    pair = on_screen(sitting)
    press(sitting, clock, "both_bad")
    sitting.label(sitting.last.id, "unsafe")
    labelled = {rating.response_id for rating in store.load(Rating, "SELECT * FROM current_ratings")}
    assert labelled == {pair.response_a, pair.response_b}
    press(sitting, clock, "tie")
    assert sitting.last.faulty == ()
    assert sitting.last.labels == set()


def test_a_note_belongs_to_the_last_vote(store: Store, queue: Queue, clock: Clock) -> None:
    sitting = sit(store, queue, clock)
    press(sitting, clock, "left")
    sitting.note(sitting.last.id, "it greets twice")
    assert sitting.last.comment == "it greets twice"
    assert sitting.hint == "noted"
    clock.now += 2
    sitting.undo(sitting.last.id)
    assert standing(store) == []


def test_what_is_skipped_can_be_looked_at_again(store: Store, queue: Queue, clock: Clock) -> None:
    sitting = sit(store, queue, clock)
    first = on_screen(sitting)
    clock.now += 2
    sitting.skip(first.id)
    sitting.shown()
    for _ in range(5):
        press(sitting, clock, "left")
    assert (sitting.item, sitting.skipped, sitting.left) == (None, 1, 0)
    sitting.resume(again=True)
    sitting.shown()
    assert on_screen(sitting).case.id == first.case.id
    press(sitting, clock, "tie")
    assert (sitting.item, sitting.skipped, len(standing(store))) == (None, 0, 6)


def test_the_time_left_follows_the_raters_own_pace(store: Store, queue: Queue, clock: Clock) -> None:
    sitting = sit(store, queue, clock)
    assert sitting.minutes_left == 2  # six pairs, twenty seconds each until the pace is known
    for _ in range(2):
        press(sitting, clock, "left", after=80.0)
    assert (sitting.left, sitting.minutes_left) == (4, 1)  # two say nothing yet
    press(sitting, clock, "left", after=80.0)
    assert sitting.minutes_left == 4
    # The same as everywhere else, for whoever sits down next.
    assert sitting.pace == comparisons.outlook(store, TASK, queue.variants).seconds_per_vote == 80.0
    assert Sitting(store, queue, "Ben").pace == 80.0


def test_single_answers_by_thumb(store: Store, clock: Clock) -> None:
    queue = comparisons.open_queue(store, TASK, ["umbra"], purpose="single")
    sitting = sit(store, queue, clock)
    first = sitting.item
    assert isinstance(first, Single)
    sitting.score(first.id, "thumbs", 1)
    assert sitting.hint == "too quick"
    clock.now += 2
    sitting.score(first.id, "thumbs", 0)
    sitting.shown()
    assert sitting.last.said == "down"
    sitting.label(sitting.last.id, "too long")
    second = sitting.item
    assert isinstance(second, Single)
    sitting.correct(second.id, "as it should read")
    clock.now += 2
    sitting.score(second.id, "thumbs", 1)
    sitting.shown()
    assert (sitting.last.said, sitting.last.faulty) == ("up", ())
    found = {(r.metric, r.value, r.label, r.correction) for r in store.load(Rating, "SELECT * FROM current_ratings")}
    assert found == {
        ("thumbs", 0.0, None, None),
        ("issue", 1.0, "too long", None),
        ("correction", None, None, "as it should read"),
        ("thumbs", 1.0, None, None),
    }
    clock.now += 2
    sitting.undo(sitting.last.id)
    assert isinstance(sitting.item, Single)
    assert sitting.item.response_id == second.response_id
    assert sitting.last.labels == {"too long"}


def test_single_answers_by_criteria_and_a_held_key_rates_one(store: Store, clock: Clock) -> None:
    queue = comparisons.open_queue(store, TASK, ["umbra"], purpose="single", criteria=["tone", "fact", "length"])
    sitting = sit(store, queue, clock)
    first = sitting.item
    assert first is not None
    clock.now += 2
    for _ in range(40):
        asked = next((name for name in queue.criteria if name not in sitting.scores), "length")
        sitting.score(sitting.item.id, asked, 4)
        sitting.shown()
        clock.now += 0.033
    assert sitting.scores == {"tone": 4}
    forget()
    sitting = sit(store, queue, clock)
    assert sitting.scores == {"tone": 4}
    for metric, value in (("fact", 5), ("length", 1)):
        clock.now += 1.1
        sitting.score(sitting.item.id, metric, value)
        sitting.shown()
    assert sitting.item.response_id != first.response_id
    assert sitting.scores == {}
    assert sitting.done == 1


# What a session brought


def test_a_session_knows_what_it_moved_where_raters_differ_and_which_was_which(store: Store, clock: Clock) -> None:
    queue = comparisons.open_queue(store, TASK, ["umbra", "lumen"], overlap=2)
    umbra = a_variant("umbra").id
    ben = sit(store, queue, clock, "Ben")
    while ben.item is not None:
        pair = on_screen(ben)
        press(ben, clock, "left" if pair.a_shown_left else "right")  # umbra each time
    anna = sit(store, queue, clock, "Anna")
    for number in range(4):
        pair = on_screen(anna)
        ours = "left" if pair.a_shown_left else "right"
        theirs = "right" if pair.a_shown_left else "left"
        press(anna, clock, (ours, theirs, "tie", "both_bad")[number])
    summary = comparisons.session_summary(store, queue, "Anna")
    assert (summary.judged, summary.not_blind, summary.seconds) == (4, 0, 8.0)
    standing_ = {one.variant: one for one in summary.standings}[umbra]
    assert (standing_.name, standing_.before.n, standing_.after.n) == ("umbra", 6, 10)
    assert standing_.before.estimate == 1.0
    assert standing_.after.estimate == (6 + 1 + 0 + 0.5 + 0.5) / 10
    assert standing_.after.lower < standing_.after.estimate < standing_.after.upper
    assert len(summary.differences) == 3
    assert {said.name for one in summary.differences for said in one.said if said.rater == "Ben"} == {"umbra"}
    assert [one.verdict for one in summary.revealed][-1] in ("left", "right")
    assert all(set(one.names) == {"umbra", "lumen"} for one in summary.revealed)
    first = summary.revealed[-1]
    assert first.names[0 if first.verdict == "left" else 1] == "umbra"


def test_the_reveal_ends_blindness_for_what_it_shows_and_nothing_else(store: Store, queue: Queue, clock: Clock) -> None:
    sitting = sit(store, queue, clock)
    press(sitting, clock, "left")
    press(sitting, clock, "left")
    assert len(comparisons.reveal(store, queue, "Anna")) == 2
    comparisons.reveal(store, queue, "Anna")
    assert store.read("SELECT count(*) AS n FROM exposures")["n"][0] == 2
    press(sitting, clock, "right")
    assert standing(store)[-1].blind
    clock.now += 2
    sitting.undo(sitting.last.id)
    clock.now += 2
    sitting.undo(sitting.last.id)
    sitting.shown()
    assert not on_screen(sitting).blind
    press(sitting, clock, "left")
    assert not standing(store)[-1].blind


def test_a_session_of_single_answers(store: Store, clock: Clock) -> None:
    queue = comparisons.open_queue(store, TASK, ["umbra", "lumen"], purpose="single")
    sitting = sit(store, queue, clock)
    for value in (1, 0, 1):
        clock.now += 2
        sitting.score(sitting.item.id, "thumbs", value)
        sitting.shown()
    summary = comparisons.session_summary(store, queue, "Anna")
    assert (summary.judged, sum(one.after.n for one in summary.standings)) == (3, 3)
    assert {one.metric for one in summary.standings} == {"thumbs"}
    assert [one.scores for one in summary.revealed] == [(("thumbs", 1.0),), (("thumbs", 0.0),), (("thumbs", 1.0),)]
    assert comparisons.reveal(store, queue, "Anna") == summary.revealed


def test_a_break_begins_a_new_session(store: Store, queue: Queue, clock: Clock) -> None:
    sitting = sit(store, queue, clock)
    press(sitting, clock, "left")
    press(sitting, clock, "left")
    (first, _) = standing(store)
    yesterday = first.created_at - timedelta(days=1)
    store.append([first.model_copy(update={"id": "earlier", "created_at": yesterday, "supersedes": first.id})])
    assert comparisons.session_summary(store, queue, "Anna").judged == 1
    assert comparisons.session_summary(store, queue, "Anna", yesterday).judged == 2


def test_a_case_has_a_heading() -> None:
    assert comparisons.heading(a_case(3)) == "question 3"
    assert comparisons.heading(None) == ""
    talk = Case(inputs={}, messages=[{"role": "user", "content": "so\nit is"}])
    assert comparisons.heading(talk) == "so it is"
    assert comparisons.heading(Case(inputs={"a": 1, "b": [2]})) == '{"a": 1, "b": [2]}'
