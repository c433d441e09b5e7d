"""The page Rate without a browser: what it offers, what a press stores, what it says at the end."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest
from test_comparisons import TASK, a_case, fill, forget, standing

from feedbackloop import comparisons
from feedbackloop.errors import StoreError
from feedbackloop.models import Exposure, Queue, Rating, Task
from feedbackloop.pages import context
from feedbackloop.store import Store

ROOT = Path(__file__).parents[1]


@pytest.fixture
def store(store_path: Path) -> Store:
    return Store(store_path)


def rate(**query: str) -> AppTest:
    opened = AppTest.from_file(str(ROOT / "app.py"), default_timeout=30)
    for name, value in query.items():
        opened.query_params[name] = value
    opened.run()
    if query.get("only") != "rate":
        opened.switch_page(str(context.PAGES["rate"].path)).run()
    assert not opened.exception
    return opened


def press(opened: AppTest, start: str) -> AppTest:
    """Press the button whose key begins so."""
    (button,) = (one for one in opened.button if (one.key or "").startswith(start))
    button.click().run()
    assert not opened.exception
    return opened


def words(opened: AppTest) -> str:
    """All that the page says in running text."""
    return "\n".join(
        str(one.value)
        for kind in (opened.title, opened.caption, opened.markdown, opened.text, opened.info)
        for one in kind
    ).replace("\\", "")


def a_queue(store: Store, **how: object) -> Queue:
    fill(store, cases=3)
    return comparisons.open_queue(store, TASK, ["umbra", "lumen"], **how)


def test_an_empty_store_leads_to_the_demo_or_to_ones_own_data(store: Store) -> None:
    opened = rate()
    assert opened.title[0].value == "Rate"
    assert "nothing to rate yet" in opened.info[0].value
    assert not store.exists()


def test_two_variants_are_offered_with_what_it_will_take(store: Store, demo_file: Path) -> None:
    shutil.copy(demo_file, store.path)
    forget()
    opened = rate()
    assert "48 pairs to judge." in words(opened)
    # No period: a queue asks for the newest answers, whenever they were made.
    assert [box.label for box in opened.selectbox] == ["Task", "Baseline", "Variant", "against", "How many"]
    assert opened.selectbox(key="rating-size-pair").options[0].startswith("20 pairs, ")
    press(opened, "rating-start")
    assert "Type your name first" in opened.warning[0].value
    opened.text_input(key="rating-name").input("  Cleo ")
    press(opened, "rating-start")
    (status,) = comparisons.queues(store, "demo-support")
    assert (len(status.queue.cases), status.queue.purpose) == (20, "decision")
    assert opened.query_params["rater"] == "Cleo"
    assert opened.query_params["queue"] == status.queue.id
    assert "Which answer would you rather have sent" in words(opened)
    assert any((one.key or "").startswith("vote-left-") for one in opened.button)


def test_an_open_queue_is_offered_with_how_far_it_is(store: Store) -> None:
    queue = a_queue(store, overlap=2)
    pair = comparisons.next_pair(store, queue, "Ben")
    assert pair is not None
    comparisons.vote(store, pair, "left", "Ben", 3.0)
    opened = rate(rater="Anna")
    assert "1 of 6 judged by Ben" in words(opened)
    opened.text_input(key=f"invite-{queue.id}-name").input("Cleo").run()
    (link,) = (code.value for code in opened.code)
    assert f"queue={queue.id}&rater=Cleo&only=rate" in link
    press(opened, "open-")
    assert opened.query_params["queue"] == queue.id


def test_a_leaderboard_and_single_answers_can_be_chosen(store: Store) -> None:
    fill(store, cases=3, variants=("umbra", "lumen", "ochre"))
    store.append([Task(name=TASK, criteria=["tone", "fact"])])
    opened = rate(rater="Anna")
    opened.segmented_control(key="rating-kind").set_value("All variants").run()
    assert "9 pairs to judge" in words(opened)
    opened.multiselect[0].unselect(opened.multiselect[0].value[0]).run()
    assert "3 pairs to judge" in words(opened)
    opened.segmented_control(key="rating-kind").set_value("One answer at a time").run()
    assert "3 answers to judge" in words(opened)
    press(opened, "rating-start")
    (status,) = comparisons.queues(store, TASK)
    assert (status.queue.purpose, status.queue.criteria) == ("single", ["tone", "fact"])


def test_one_variant_only_says_what_is_missing(store: Store) -> None:
    fill(store, variants=("umbra",))
    opened = rate(rater="Anna")
    assert "add a second one" in opened.info[0].value
    assert opened.segmented_control(key="rating-kind").options == ["One answer at a time"]


def test_an_invitation_without_a_name_asks_for_it(store: Store) -> None:
    queue = a_queue(store)
    opened = rate(queue=queue.id)
    opened.text_input[0].input("Cleo")
    opened.button[0].click().run()
    assert opened.query_params["rater"] == "Cleo"
    assert "Which answer is better?" in words(opened)


def test_a_link_to_no_queue_says_so(store: Store) -> None:
    fill(store)
    opened = rate(queue="nothing", rater="Anna")
    assert "no such queue" in opened.warning[0].value
    assert opened.title[0].value == "Rate"


def test_a_press_too_early_stores_nothing(store: Store) -> None:
    queue = a_queue(store)
    opened = press(rate(queue=queue.id, rater="Anna", only="rate"), "vote-left-")
    assert standing(store) == []
    assert "question" in words(opened)


def test_a_whole_queue_by_keys_and_its_end(store: Store, quick: None) -> None:
    queue = a_queue(store)
    opened = rate(queue=queue.id, rater="Anna")
    press(opened, "vote-left-")
    assert "You chose A. Fault of B:" in words(opened)
    press(opened, "issue-0-")
    assert [rating.label for rating in store.load(Rating, "SELECT * FROM current_ratings")] == ["invented fact"]
    press(opened, "undo-")
    assert standing(store) == []
    assert store.load(Rating, "SELECT * FROM current_ratings") == []
    for verdict in ("right", "tie", "both_bad"):
        press(opened, f"vote-{verdict}-")
    assert [vote.winner for vote in standing(store)][1:] == ["tie", "both_bad"]
    assert opened.title[0].value == "You are done"
    assert "You judged 3 pairs" in words(opened)
    assert "umbra" in str(opened.dataframe[-1].value)
    assert store.read("SELECT count(*) AS n FROM exposures WHERE page = 'reveal'")["n"][0] == 3
    assert not any((one.key or "").startswith("vote-") for one in opened.button)


def test_who_could_still_rate_on_is_told_no_names_and_no_figures(store: Store, quick: None) -> None:
    queue = a_queue(store, overlap=2)
    # Ben differs from Anna on the one, and has the others before him.
    pair = comparisons.next_pair(store, queue, "Ben")
    assert pair is not None
    comparisons.vote(store, pair, "both_bad", "Ben", 3.0)
    opened = press(rate(queue=queue.id, rater="Anna"), "vote-left-")
    press(opened, "skip-")
    press(opened, "vote-tie-")
    # What was passed on may be looked at again.
    assert not_told(opened, "You are done")
    press(opened, "rating-result")
    assert "What this session moved" in [one.value for one in opened.subheader]
    assert {one.case_id for one in store.load(Exposure, "SELECT * FROM exposures")} == {a_case(n).id for n in range(3)}
    press(press(opened, "rating-again"), "vote-left-")
    assert votes_of(store, "Anna") == [True, True, False]


def test_while_another_one_holds_a_pair_it_is_not_the_end(store: Store, quick: None) -> None:
    queue = a_queue(store)
    assert comparisons.next_pair(store, queue, "Ben") is not None
    opened = rate(queue=queue.id, rater="Anna")
    for _ in range(2):
        press(opened, "vote-left-")
    assert not_told(opened, "You are done")
    assert store.read("SELECT count(*) AS n FROM exposures")["n"][0] == 0


def not_told(opened: AppTest, title: str) -> bool:
    """Whether it ends so, without tables, names and figures."""
    named = {"What this session moved", "Where raters differ"} & {one.value for one in opened.subheader}
    return (
        opened.title[0].value == title
        and not (named or opened.table or opened.dataframe)
        and "umbra" not in words(opened)
    )


def test_nothing_left_for_this_rater_says_so(store: Store, quick: None) -> None:
    queue = a_queue(store)
    while (pair := comparisons.next_pair(store, queue, "Ben")) is not None:
        comparisons.vote(store, pair, "tie", "Ben", 3.0)
    opened = rate(queue=queue.id, rater="Anna")
    assert opened.title[0].value == "You are done"
    assert "holds nothing for you" in words(opened)


def test_a_pair_that_was_seen_by_name_says_that_it_counts_apart(store: Store) -> None:
    queue = a_queue(store, cases=[a_case(0).id])
    pair = comparisons.next_pair(store, queue, "Anna")
    assert pair is not None
    comparisons.expose(store, "Anna", pair.case.id, [pair.response_a], "compare")
    assert "this vote is counted apart" in words(rate(queue=queue.id, rater="Anna"))


def test_names_are_shown_only_where_the_queue_is_not_blind(store: Store) -> None:
    blind = a_queue(store)
    assert "**A**" in words(rate(queue=blind.id, rater="Anna"))
    open_ = comparisons.open_queue(store, TASK, ["umbra", "lumen"], blind=False)
    shown = words(rate(queue=open_.id, rater="Anna"))
    assert "**A: umbra**" in shown or "**A: lumen**" in shown


def test_single_answers_by_thumb(store: Store, quick: None) -> None:
    queue = a_queue(store, purpose="single")
    opened = press(rate(queue=queue.id, rater="Anna"), "thumb-0-")
    assert "You said: bad. Its fault:" in words(opened)
    press(opened, "issue-4-")
    press(opened, "fix-")
    for _ in range(5):
        press(opened, "thumb-1-")
    assert opened.title[0].value == "You are done"
    found = store.load(Rating, "SELECT * FROM current_ratings")
    assert sorted((r.metric, r.value) for r in found) == [("issue", 1.0), ("thumbs", 0.0), *[("thumbs", 1.0)] * 5]
    assert "Answer of" in opened.dataframe[-1].value.columns


def test_single_answers_by_criteria(store: Store, quick: None) -> None:
    queue = a_queue(store, purpose="single", criteria=["tone", "fact"])
    opened = rate(queue=queue.id, rater="Anna")
    assert "**tone** (1 of 2)" in words(opened)
    press(opened, "score-0-4-")
    assert "**fact** (2 of 2)" in words(opened)
    press(opened, "score-1-2-")
    assert "**tone** (1 of 2)" in words(opened)
    found = store.load(Rating, "SELECT * FROM current_ratings ORDER BY created_at")
    assert [(rating.metric, rating.value) for rating in found] == [("tone", 4.0), ("fact", 2.0)]


# Blind


def votes_of(store: Store, rater: str) -> list[bool]:
    """Whether each of a rater's votes is blind."""
    return [vote.blind for vote in standing(store) if vote.rater == rater]


def looked_around(store: Store, cases: int) -> AppTest:
    """Somebody without a name, who has opened so many cases by J in Compare."""
    opened = AppTest.from_file(str(ROOT / "app.py"), default_timeout=30)
    opened.query_params["task"], opened.query_params["case"] = TASK, a_case(0).id
    opened.run().switch_page(str(context.PAGES["compare"].path)).run()
    for _ in range(cases - 1):
        opened.button(key="compare-after").click().run()
    assert not opened.exception
    assert store.read("SELECT count(*) AS n FROM exposures")["n"][0] == 0
    del opened.query_params["case"]
    return opened.switch_page(str(context.PAGES["rate"].path)).run()


def begin_as(opened: AppTest, name: str) -> AppTest:
    opened.text_input(key="rating-name").input(name)
    return press(opened, "rating-start")


def test_who_looked_before_saying_a_name_votes_openly_on_that_and_on_no_more(store: Store, quick: None) -> None:
    fill(store, cases=3)
    opened = begin_as(looked_around(store, 2), "Peek")
    apart = []
    for _ in range(3):
        apart.append("You have seen these answers with their names" in words(opened))
        press(opened, "vote-left-")
    votes = standing(store)
    assert [vote.blind for vote in votes] == [not seen for seen in apart]
    assert {vote.case_id for vote in votes if not vote.blind} == {a_case(0).id, a_case(1).id}
    exposed = store.load(Exposure, "SELECT * FROM exposures WHERE page = 'compare'")
    assert sorted((one.rater, one.case_id, len(one.response_ids)) for one in exposed) == sorted(
        ("Peek", a_case(number).id, 2) for number in range(2)
    )


def test_another_name_in_the_same_session_has_seen_the_same(store: Store, quick: None) -> None:
    queue = a_queue(store, overlap=3, cases=[a_case(0).id])
    opened = looked_around(store, 1)
    for name in ("Anna", "Ben"):
        opened.query_params["rater"], opened.query_params["queue"] = name, queue.id
        press(opened.run(), "vote-left-")
        assert votes_of(store, name) == [False]
    # Another session has seen nothing.
    press(rate(queue=queue.id, rater="Cleo", only="rate"), "vote-left-")
    assert votes_of(store, "Cleo") == [True]


def test_what_cannot_be_noted_is_neither_shown_nor_forgotten(
    store: Store, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = a_queue(store, cases=[a_case(0).id])
    opened = looked_around(store, 1)

    def refuse(*_: object, **__: object) -> None:
        raise StoreError("the store is away")

    with monkeypatch.context() as away:
        away.setattr("feedbackloop.pages.seen.expose_all", refuse)
        opened.query_params["rater"], opened.query_params["queue"] = "Anna", queue.id
        opened.run()
        assert "the store is away" in opened.error[0].value
        assert not any((one.key or "").startswith("vote-") for one in opened.button)
    press(opened.run(), "vote-left-")
    assert votes_of(store, "Anna") == [False]
