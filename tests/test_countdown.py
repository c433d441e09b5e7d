"""The countdown of a decision queue: what it says is what the gate would say, without asking the store at each vote."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest
from test_comparisons import TASK, fill, standing
from test_home import in_url, plain
from test_rate_page import press, rate, words

from feedbackloop import comparisons
from feedbackloop.comparisons import items
from feedbackloop.comparisons.deck import Deck
from feedbackloop.identity import utcnow
from feedbackloop.improve import countdown as counting
from feedbackloop.improve.countdown import Countdown, countdown
from feedbackloop.improve.gate import assess
from feedbackloop.improve.rules import Rule, rule_of
from feedbackloop.models import Comparison, Exposure, Queue, Task
from feedbackloop.pages import context
from feedbackloop.store import Store

CASES = 30
DECIDING = 20
"""Votes for one side alone that settle it."""


@pytest.fixture
def store(store_path: Path) -> Store:
    return Store(store_path)


@pytest.fixture(scope="module")
def filled_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Store(tmp_path_factory.mktemp("filled") / "loop.duckdb")
    fill(made, cases=CASES)
    return made.path


@pytest.fixture
def queue(filled_file: Path, store: Store) -> Queue:
    shutil.copy(filled_file, store.path)
    return comparisons.open_queue(store, TASK, ["umbra", "lumen"])


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def for_lumen(store: Store, queue: Queue, rater: str, votes: int) -> list[Comparison]:
    """So many votes of one rater, one after the other."""
    made = []
    for _ in range(votes):
        pair = comparisons.next_pair(store, queue, rater)
        assert pair is not None
        made.append(comparisons.vote(store, pair, side(pair), rater, 5.0))
    return made


def at_once(store: Store, queue: Queue, votes: int) -> None:
    """So many votes of Ben's, for lumen."""
    deck = Deck(store, queue)
    deck.read_on()
    store.append(
        Comparison(
            task=TASK,
            case_id=slot.case_id,
            response_a=slot.responses[0],
            response_b=slot.responses[1],
            variant_a=slot.variants[0],
            variant_b=slot.variants[1],
            winner="b" if slot.variants[1] == queue.variants[1] else "a",
            rater="Ben",
            rater_kind="human",
            queue=queue.id,
        )
        for slot in deck.read[-votes:]
    )


def side(pair: items.Pair, name: str = "lumen") -> items.Verdict:
    """Where its answer stands."""
    return "left" if name in pair.left else "right"


def of_gate(store: Store, queue: Queue) -> tuple[object, ...]:
    found = assess(store, TASK, "lumen", "umbra", rule=rule_of(queue)).decision
    return found.verdict, found.reason, found.n, found.lower, found.upper, found.more_needed


def here(left: Countdown) -> tuple[object, ...]:
    found = left.decision
    return found.verdict, found.reason, found.n, found.lower, found.upper, found.more_needed


def test_after_each_vote_it_says_what_the_gate_would_say(store, queue) -> None:
    left = countdown(store, queue)
    assert left is not None
    assert (left.settled, here(left)) == (False, of_gate(store, queue))
    at_once(store, queue, DECIDING - 3)
    left.look()
    mine: list[Comparison] = []
    for _ in range(3):
        assert not left.settled
        mine += for_lumen(store, queue, "Anna", 1)
        left.follow(mine)
        assert here(left) == of_gate(store, queue)
    assert (left.settled, left.more, left.decision.verdict) == (True, 0, "promote")


def test_a_vote_costs_no_look_into_the_store(store, queue, monkeypatch) -> None:
    left = countdown(store, queue)
    assert left is not None
    mine = for_lumen(store, queue, "Anna", 3)
    monkeypatch.setattr(Store, "query", None)
    left.follow(mine)
    left.follow(mine)
    left.look(after_s=60)
    assert left.decision.n == 3


def test_notes_and_what_is_taken_back_are_followed(store, queue) -> None:
    left = countdown(store, queue)
    assert left is not None
    mine = for_lumen(store, queue, "Anna", 4)
    left.follow(mine)
    mine[-1] = comparisons.note(store, mine[-1], "too long")
    left.follow(mine)
    assert (left.decision.n, here(left)) == (4, of_gate(store, queue))
    comparisons.undo(store, mine.pop())
    left.follow(mine)
    assert (left.decision.n, here(left)) == (3, of_gate(store, queue))


def test_what_others_say_comes_in_now_and_then(store, queue) -> None:
    clock = Clock()
    left = Countdown(store, queue, clock=clock)
    at_once(store, queue, 5)
    left.follow(for_lumen(store, queue, "Anna", 1))
    left.look(after_s=counting.LOOK_AGAIN_S)
    assert left.decision.n == 1
    clock.now += counting.LOOK_AGAIN_S
    left.look(after_s=counting.LOOK_AGAIN_S)
    assert left.decision.n == 6
    assert here(left) == of_gate(store, queue)


def test_only_blind_votes_count_down(store, queue) -> None:
    left = countdown(store, queue)
    assert left is not None
    pair = comparisons.next_pair(store, queue, "Anna")
    comparisons.expose(store, "Anna", pair.case.id, [pair.response_a], "compare")
    left.follow(for_lumen(store, queue, "Anna", 1))
    assert left.decision.n == 0


def test_the_baseline_is_the_tasks_whoever_was_named_first(store, queue) -> None:
    store.append([Task(name=TASK, baseline="lumen")])
    turned = countdown(store, queue)
    assert turned is not None
    assert turned.decision.candidate == queue.variants[0]


def test_a_queue_keeps_the_rule_that_it_was_opened_under(store, queue) -> None:
    rule = Rule(goal="no_worse", margin=0.1, max_failure_increase=None)
    assert Rule().unusual == {}
    kept = comparisons.open_queue(store, TASK, ["umbra", "lumen"], rule=rule.unusual)
    assert kept.id != queue.id
    assert rule_of(comparisons.queue(store, kept.id)) == rule
    assert comparisons.open_queue(store, TASK, ["umbra", "lumen"], rule=rule.unusual).id == kept.id
    # Which of the two is to be shown no worse makes a difference.
    assert comparisons.open_queue(store, TASK, ["lumen", "umbra"], rule=rule.unusual).id != kept.id
    assert rule_of(queue.model_copy(update={"rule": {"goal": "no_worse", "of_later_versions": 1}})).goal == "no_worse"
    left = countdown(store, kept)
    assert left is not None
    assert left.decision.goal == "no_worse"


def test_there_is_none_where_votes_decide_nothing(store, queue) -> None:
    seen = comparisons.open_queue(store, TASK, ["umbra", "lumen"], blind=False)
    single = comparisons.open_queue(store, TASK, ["umbra"], purpose="single")
    board = queue.model_copy(update={"purpose": "leaderboard"})
    judged = queue.model_copy(update={"rule": replace(Rule(), rater_kind="judge").unusual})
    assert [countdown(store, one) for one in (seen, single, board, judged)] == [None] * 4


# On the page


def vote_for_lumen(opened: AppTest) -> AppTest:
    """Press the key of the side on which its answer stands."""
    texts = [text.value for text in opened.text if "text on" in text.value]
    assert len(texts) == 2
    return press(opened, f"vote-{'left' if 'lumen' in texts[0] else 'right'}-")


def nothing_is_named(opened: AppTest) -> bool:
    """Whether the page, which shows no answers now, holds neither a variant's name nor a share."""
    held = "\n".join(repr(one) for part in (opened.main, opened.get("bottom")) for one in part)
    return not re.search(r"lumen|umbra|[0-9]%|blind votes", held) and not opened.dataframe and not opened.table


def votes_of(store: Store, rater: str) -> list[Comparison]:
    return [vote for vote in standing(store) if vote.rater == rater]


def exposed(store: Store) -> list[Exposure]:
    return store.load(Exposure, "SELECT * FROM exposures")


def test_it_counts_down_stops_when_it_is_settled_and_goes_on_by_choice(store, queue, quick) -> None:
    at_once(store, queue, DECIDING - 2)
    opened = rate(queue=queue.id, rater="Anna")
    assert "0 judged · about 2 more votes, 1 minute" in words(opened)
    # The texts name the variants in these tests; nothing else may.
    assert "umbra" not in "".join(caption.value for caption in opened.caption)
    vote_for_lumen(opened)
    assert "1 judged · about 1 more vote, 1 minute" in words(opened)
    vote_for_lumen(opened)
    assert opened.title[0].value == "Settled"
    assert nothing_is_named(opened)
    press(opened, "rating-go-on")
    assert f"2 judged · settled · {CASES - DECIDING} left" in words(opened)
    vote_for_lumen(opened)
    assert f"3 judged · settled · {CASES - DECIDING - 1} left" in words(opened)
    opened = rate(queue=queue.id, rater="Anna")
    assert nothing_is_named(opened)
    assert [vote.blind for vote in votes_of(store, "Anna")] == [True] * 3
    assert exposed(store) == []
    press(opened, "rating-result")
    said = plain(opened.subheader[0].value)
    assert re.fullmatch(r"Release lumen@\w+ in place of umbra@\w+: it is preferred\.", said)
    assert "21 blind votes on 21 cases by Ben and Anna" in words(opened)
    assert "lumen" in str(opened.dataframe[-1].value)
    assert len({one.case_id for one in exposed(store) if one.page == "result" and one.rater == "Anna"}) == CASES
    press(opened, "rating-go-on")
    assert "You have seen these answers with their names" in words(opened)
    vote_for_lumen(opened)
    assert [vote.blind for vote in votes_of(store, "Anna")] == [True] * 3 + [False]


def test_what_is_undone_may_open_it_again(store, queue, quick) -> None:
    at_once(store, queue, DECIDING - 1)
    opened = vote_for_lumen(rate(queue=queue.id, rater="Anna"))
    assert opened.title[0].value == "Settled"
    press(opened, "undo-")
    assert "about 1 more vote" in words(opened)


def test_who_opens_a_settled_queue_is_told_and_who_begins_one_goes_on(store, queue) -> None:
    at_once(store, queue, DECIDING)
    opened = rate(queue=queue.id, rater="Anna")
    assert opened.title[0].value == "Settled"
    assert nothing_is_named(opened)
    press(press(opened, "rating-result"), "rating-decide")
    assert opened.title[0].value == "Decide"
    assert [box.value for box in opened.selectbox if box.label in ("Baseline", "Candidate")] == ["umbra", "lumen"]
    begun = press(rate(rater="Anna"), "rating-start")
    assert "0 judged · settled · " in words(begun)


def test_an_invitation_to_a_settled_queue_names_nothing_until_asked(store, queue, quick) -> None:
    at_once(store, queue, DECIDING)
    invited = rate(queue=queue.id, rater="Cleo", only="rate")
    assert (invited.title[0].value, invited.subheader[0].value) == ("Settled", "The votes suffice: no more are needed.")
    assert nothing_is_named(invited)
    press(invited, "rating-go-on")
    vote_for_lumen(invited)
    # A reload forgets that she meant to go on, and tells no more than before.
    again = rate(queue=queue.id, rater="Cleo", only="rate")
    assert nothing_is_named(again)
    assert ([vote.blind for vote in votes_of(store, "Cleo")], exposed(store)) == ([True], [])
    press(again, "rating-result")
    assert "Release lumen@" in plain(again.subheader[0].value)
    assert not any(button.key == "rating-decide" for button in again.button)
    vote_for_lumen(press(again, "rating-go-on"))
    assert [vote.blind for vote in votes_of(store, "Cleo")] == [True, False]


def test_a_queue_too_small_to_tell_leads_to_more(store, queue, quick) -> None:
    small = comparisons.open_queue(store, TASK, ["umbra", "lumen"], limit=2)
    opened = rate(queue=small.id, rater="Anna")
    assert "· 2 left here" in words(opened)
    for _ in range(2):
        vote_for_lumen(opened)
    assert opened.title[0].value == "You are done"
    assert "Too early to say whether lumen" in opened.subheader[0].value
    press(opened, "rating-more")
    assert in_url(opened, "queue") == queue.id
    assert "0 judged · about" in words(opened)


def test_without_an_end_in_sight_it_says_so(store, queue, monkeypatch) -> None:
    monkeypatch.setattr("feedbackloop.pages.rating.screen.MOST_VOTES", 5)
    assert "over 5 more votes: they hardly differ" in words(rate(queue=queue.id, rater="Anna"))


def test_decide_opens_the_queue_under_its_rule(store, queue) -> None:
    opened = AppTest.from_file(str(Path(__file__).parents[1] / "app.py"), default_timeout=30)
    opened.query_params["goal"] = "no_worse"
    opened.run()
    opened.switch_page(str(context.PAGES["decide"].path)).run()
    next(one for one in opened.button if one.label.startswith("Rate ")).click().run()
    (opened_under,) = (one.queue for one in comparisons.queues(store, TASK) if one.queue.id != queue.id)
    assert opened_under.rule == {"goal": "no_worse"}
    assert in_url(opened, "queue") == opened_under.id


def test_the_rule_of_a_queue_goes_along_to_the_decision_and_into_the_next_queue(store, queue) -> None:
    at_once(store, queue, DECIDING)
    store.append([queue.model_copy(update={"id": "newer", "rule": {"strict": True}, "created_at": utcnow()})])
    begun = press(rate(rater="Anna"), "rating-start")
    assert comparisons.queue(store, in_url(begun, "queue")).rule == {"strict": True}
    opened = press(press(rate(queue=queue.id, rater="Anna"), "rating-result"), "rating-decide")
    assert (opened.title[0].value, in_url(opened, "rule")) == ("Decide", "usual")
    assert not opened.toggle(key="rule-strict").value
