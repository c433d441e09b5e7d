"""Rating in a real browser, by keyboard alone: what counts, what is hidden, where it goes on."""

from __future__ import annotations

import re
from collections.abc import Iterator

import browser
import pytest
from playwright.sync_api import Browser, BrowserContext, Page
from test_comparisons import TASK, a_variant, fill

from feedbackloop import comparisons
from feedbackloop.models import Comparison, Queue, Rating
from feedbackloop.store import Store

CASES = 30
WAIT_MS = 30_000
READ_MS = 1_060
"""A pair counts once it was on the screen for a second."""

LONG = "A sentence that goes on and on. " * 120
HOSTILE = "<script>window.broken = 1</script><img src='https://example.org/x.png' onerror='window.broken = 1'>"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    made = Store(tmp_path_factory.mktemp("rate") / "loop.duckdb")
    fill(
        made,
        cases=CASES,
        text=lambda name, n: f"number {n}, {len(name) * 'x' if name == 'umbra' else 'y'}. {HOSTILE}\n\n{LONG}",
    )
    with made.lease() as connection:
        connection.execute("UPDATE responses SET latency_ms = 98765, cost_usd = 0.87654, tokens_used = 43219")
    return made


@pytest.fixture(scope="module")
def address(store: Store) -> Iterator[str]:
    with browser.running_app(store.path, store.path.parent) as url:
        yield url


@pytest.fixture(scope="module")
def context(chromium: Browser) -> Iterator[BrowserContext]:
    made = chromium.new_context(viewport={"width": 1280, "height": 900})
    made.set_default_timeout(WAIT_MS)
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    opened = context.new_page()
    yield opened
    opened.close()


@pytest.fixture
def queue(store: Store, request: pytest.FixtureRequest) -> Queue:
    """A queue of this test's own."""
    return comparisons.open_queue(store, TASK, ["umbra", "lumen"], seed=sum(request.node.name.encode()))


def pair_id(page: Page) -> str:
    return str(
        page.evaluate(
            """() => [...document.querySelector('[class*="st-key-pair-"]').classList].find(c => c.startsWith('st-key-pair-'))"""
        )
    )


def open_queue(page: Page, address: str, queue: Queue, rater: str = "Anna") -> str:
    """Open a queue as its full page; returns what names the pair on the screen."""
    page.goto(f"{address}/rate?queue={queue.id}&rater={rater}&baseline=lumen")
    return settled(page)


def settled(page: Page) -> str:
    page.locator('[class*="st-key-pair-"]').wait_for()
    page.wait_for_selector(browser.FINISHED)
    return pair_id(page)


def press(page: Page, key: str, *, after: int = READ_MS) -> str:
    """Press a key after a while and wait for another pair; returns what names it."""
    before = pair_id(page)
    page.wait_for_timeout(after)
    page.keyboard.press(key)
    page.wait_for_function(
        """before => { const now = document.querySelectorAll('[class*="st-key-pair-"]');
             return now.length === 1 && !now[0].classList.contains(before); }""",
        arg=before,
    )
    return settled(page)


def votes(store: Store, queue: Queue, rater: str = "Anna") -> list[Comparison]:
    return store.load(
        Comparison,
        "SELECT * FROM current_comparisons WHERE queue = ? AND rater = ? ORDER BY created_at",
        [queue.id, rater],
    )


def number_on_screen(page: Page) -> str:
    """Which case is on the screen; question and both answers are of the same one."""
    (question,) = re.findall(r"question (\d+)", page.locator(".st-key-rating-case").inner_text())
    found = set(re.findall(r"number (\d+),", page.locator('[class*="st-key-pair-"]').inner_text()))
    assert found == {question}
    return str(question)


def assert_blind(page: Page) -> None:
    """Nothing in the page's source or address says whose answers these are, or how they fared."""
    source = (page.content() + page.url).lower()
    for secret in (
        "umbra",
        "lumen",
        "simulated",
        a_variant("umbra").id,
        a_variant("lumen").id,
        "98765",
        "98.8 s",
        "0.87",
        "43219",
    ):
        assert secret.lower() not in source, f"'{secret}' stands in the page"


def test_five_votes_and_an_undo_by_keyboard_alone(page: Page, address: str, store: Store, queue: Queue) -> None:
    broken: list[str] = []
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.on("request", lambda request: broken.append(request.url) if "example.org" in request.url else None)
    open_queue(page, address, queue)
    seen = []
    for key in "12341":
        assert_blind(page)
        seen.append(number_on_screen(page))
        press(page, key)
    assert len(set(seen)) == 5
    cast = votes(store, queue)
    assert [vote.winner for vote in cast][2:4] == ["tie", "both_bad"]
    assert all((vote.winner == "a") == vote.a_shown_left for vote in (cast[0], cast[4]))
    assert (cast[1].winner == "b") == cast[1].a_shown_left
    assert all(vote.blind and vote.queue == queue.id and vote.seconds > 1 for vote in cast)
    page.keyboard.press("q")
    page.locator('[class*="st-key-named-0-"]').wait_for()
    issues = store.load(Rating, "SELECT * FROM current_ratings WHERE queue = ?", [queue.id])
    loser = cast[4].response_b if cast[4].winner == "a" else cast[4].response_a
    assert [(issue.response_id, issue.label) for issue in issues] == [(loser, "invented fact")]
    press(page, "u")
    assert number_on_screen(page) == seen[4]
    assert_blind(page)
    assert len(votes(store, queue)) == 4
    assert store.load(Rating, "SELECT * FROM current_ratings WHERE queue = ?", [queue.id]) == []
    press(page, "2")
    assert len(votes(store, queue)) == 5
    assert page.evaluate("window.broken") is None
    assert broken == []


def test_a_key_held_down_votes_once(page: Page, address: str, store: Store, queue: Queue) -> None:
    open_queue(page, address, queue)
    page.wait_for_timeout(READ_MS)
    page.keyboard.down("1")
    page.wait_for_timeout(500)
    for _ in range(60):
        page.keyboard.down("1")  # which the browser takes for a repetition
        page.wait_for_timeout(33)
    page.keyboard.up("1")
    page.wait_for_timeout(300)
    settled(page)
    assert len(votes(store, queue)) == 1
    press(page, "1")
    assert len(votes(store, queue)) == 2


def test_a_double_press_votes_once_and_presses_too_early_not_at_all(
    page: Page, address: str, store: Store, queue: Queue
) -> None:
    open_queue(page, address, queue)
    page.wait_for_timeout(READ_MS)
    page.keyboard.press("2")
    page.keyboard.press("2")
    # As soon as the next pair is there, and on and on.
    for _ in range(12):
        page.wait_for_timeout(100)
        page.keyboard.press("3")
    page.get_by_text("Not counted: look at it for a second").wait_for()
    settled(page)
    assert len(votes(store, queue)) == 1
    press(page, "3")
    assert [vote.winner for vote in votes(store, queue)][1:] == ["tie"]


def test_a_reload_goes_on_with_the_same_pair_and_the_last_vote(
    page: Page, address: str, store: Store, queue: Queue
) -> None:
    open_queue(page, address, queue)
    press(page, "1")
    page.keyboard.press("m")
    page.get_by_role("button", name="Show as plain text").wait_for()
    assert page.evaluate("window.broken") is None
    page.keyboard.press("m")
    page.get_by_role("button", name="Show as Markdown").wait_for()
    page.wait_for_selector(browser.FINISHED)
    here, texts = number_on_screen(page), page.locator('[class*="st-key-pair-"]').inner_text()
    page.reload()
    settled(page)
    assert number_on_screen(page) == here
    assert page.locator('[class*="st-key-pair-"]').inner_text() == texts
    page.get_by_text("You chose A.").wait_for()
    press(page, "u")
    assert votes(store, queue) == []


def test_the_next_pair_begins_at_its_top_and_the_page_itself_does_not_scroll(
    page: Page, address: str, store: Store, queue: Queue
) -> None:
    open_queue(page, address, queue)
    sizes = "() => {const m = document.querySelector('[data-testid=stMain]'); return [m.scrollHeight, m.clientHeight, document.scrollingElement.scrollHeight]}"
    assert page.evaluate(sizes) == [900, 900, 900]
    scrolled = """() => document.querySelector('[class*="st-key-pair-"]').scrollTop"""
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("""() => document.activeElement.className.includes('st-key-pair-')"""):
            break
    page.keyboard.press("PageDown")
    page.wait_for_function(f"() => ({scrolled})() > 100")
    press(page, "1")
    assert page.evaluate(scrolled) == 0
    # From now on the Tab key leads to the answers at once.
    page.keyboard.press("Tab")
    page.keyboard.press("PageDown")
    page.wait_for_function(f"() => ({scrolled})() > 100")


def test_a_note_is_written_by_keyboard_and_its_letters_are_no_votes(
    page: Page, address: str, store: Store, queue: Queue
) -> None:
    open_queue(page, address, queue)
    press(page, "1")
    page.wait_for_timeout(READ_MS)
    page.keyboard.press("n")
    page.get_by_role("dialog").wait_for()
    page.wait_for_selector(browser.FINISHED)
    page.wait_for_function("() => document.activeElement.matches('[role=dialog] textarea')")
    page.keyboard.type("1 or 2? unsure")
    page.keyboard.press("Control+Enter")
    page.get_by_text("Your note is stored.").wait_for()
    page.get_by_role("dialog").wait_for(state="detached")
    assert [vote.comment for vote in votes(store, queue)] == ["1 or 2? unsure"]
    press(page, "2")
    assert len(votes(store, queue)) == 2
    page.keyboard.press("n")
    page.get_by_role("dialog").wait_for()
    page.wait_for_function("() => document.activeElement.matches('[role=dialog] textarea')")
    page.keyboard.type("12u not this")
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    settled(page)
    assert [vote.comment for vote in votes(store, queue)] == ["1 or 2? unsure", None]


def test_a_second_rater_goes_on_by_link_and_sees_nothing_but_that(
    page: Page, address: str, store: Store, queue: Queue, context: BrowserContext
) -> None:
    open_queue(page, address, queue)
    press(page, "1")
    here = number_on_screen(page)
    other = context.new_page()
    for path in ("rate", ""):
        other.goto(f"{address}/{path}?queue={queue.id}&rater=Ben&only=rate")
        settled(other)
        assert other.get_by_role("dialog").count() == 0
    assert_blind(other)
    assert number_on_screen(other) != here
    assert other.locator("[data-testid=stSidebarNav]").count() == 0
    press(other, "2")
    other.close()
    press(page, "3")
    assert len(votes(store, queue)) == 2
    assert len(votes(store, queue, "Ben")) == 1
    assert len({vote.case_id for rater in ("Anna", "Ben") for vote in votes(store, queue, rater)}) == 3


def test_who_stops_is_shown_which_was_which_only_if_asked(page: Page, address: str, store: Store, queue: Queue) -> None:
    open_queue(page, address, queue)
    press(page, "1")
    page.get_by_role("button", name="Finish for now").click()
    page.get_by_role("heading", name="Enough for now").wait_for()
    page.get_by_role("button", name="Show which was which").wait_for()
    said = page.locator("[data-testid=stMain]").inner_text()
    assert not re.search("umbra|lumen|%|What this session moved", said)
    assert store.read("SELECT count(*) AS n FROM exposures WHERE page = 'reveal'")["n"][0] == 0
    page.get_by_role("button", name="Show which was which").click()
    page.locator("[data-testid=stDataFrame]").wait_for()
    assert store.read("SELECT count(*) AS n FROM exposures WHERE page = 'reveal'")["n"][0] == 1
    page.keyboard.press("g")
    settled(page)
    assert_blind(page)
    press(page, "1")
    assert [vote.blind for vote in votes(store, queue)] == [True, True]
