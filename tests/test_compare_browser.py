"""Compare as people use it: by keyboard, by links, in a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

import browser
import pytest

from feedbackloop.identity import utcnow
from feedbackloop.models import AIRequest, AIResponse, Case, Comparison, Queue, Rating, Run, Task, Variant
from feedbackloop.queries import shown, table
from feedbackloop.queries.table import Column, Filters
from feedbackloop.store import Store

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

WAIT_MS = 60_000
"""Machines that run tests are busy ones."""


@pytest.fixture(scope="module")
def context(chromium: Browser) -> Iterator[BrowserContext]:
    made = chromium.new_context(viewport={"width": 1280, "height": 900})
    made.set_default_timeout(WAIT_MS)
    made.grant_permissions(["clipboard-read", "clipboard-write"])
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    opened = context.new_page()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def store(demo_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = tmp_path_factory.mktemp("compare") / "demo.duckdb"
    shutil.copy(demo_file, path)
    return Store(path)


@pytest.fixture(scope="module")
def address(store: Store) -> Iterator[str]:
    with browser.running_app(store.path, store.path.parent) as url:
        yield f"{url}/compare"


@pytest.fixture(scope="module")
def ids(store: Store) -> list[str]:
    """The demo's cases in the table's order."""
    run = shown.task_runs(store, "demo-support")[0]
    return table.board(store, [Column(run.id, variant) for variant in run.variants]).select("votes", Filters())


def settled(page: Page) -> None:
    page.wait_for_timeout(150)
    page.wait_for_selector(browser.FINISHED)


def opened(page: Page, case: str) -> None:
    """Wait until this case is on the screen."""
    page.wait_for_function("id => location.search.includes(id)", arg=case)
    page.locator(f".st-key-compare-answers-{case}").wait_for()
    settled(page)


def pressed(page: Page, key: str, case: str) -> None:
    """Press a key that leads to a case. On a busy machine the page may be drawn before it listens: then once more."""
    page.keyboard.press(key)
    try:
        page.wait_for_function("id => location.search.includes(id)", arg=case, timeout=10_000)
    except Exception:
        page.keyboard.press(key)
    opened(page, case)


def test_j_and_k_move_and_the_next_case_begins_at_its_top(page: Page, address: str, ids: list[str]) -> None:
    page.goto(f"{address}?case={ids[0]}")
    opened(page, ids[0])
    pressed(page, "j", ids[1])
    page.get_by_text("2 of 48").wait_for()
    pane = page.locator(f".st-key-compare-answers-{ids[1]}")
    pane.evaluate("pane => pane.scrollTo(0, 10000)")
    pressed(page, "j", ids[2])
    assert page.locator(f".st-key-compare-answers-{ids[2]}").evaluate("pane => pane.scrollTop") == 0
    pressed(page, "k", ids[1])
    pressed(page, "k", ids[0])
    # At the first one there is none before it; and who writes a J into a field does not move.
    page.keyboard.press("k")
    settled(page)
    page.get_by_label("Your name").fill("")
    page.get_by_label("Your name").press_sequentially("jk")
    page.wait_for_timeout(400)
    assert ids[0] in page.url


def test_a_click_on_a_row_opens_it_and_all_cases_leads_back(page: Page, address: str, ids: list[str]) -> None:
    page.goto(address)
    settled(page)
    frame = page.get_by_test_id("stDataFrame")
    frame.locator("canvas").first.wait_for()
    box = frame.bounding_box()
    assert box is not None
    # The box at the beginning of the second row, below the head.
    page.mouse.click(box["x"] + 18, box["y"] + 36 + 76 + 38)
    opened(page, ids[1])
    page.get_by_role("button", name="All cases").click()
    page.get_by_test_id("stDataFrame").locator("canvas").first.wait_for()
    settled(page)
    assert "case=" not in page.url


def test_the_link_can_be_copied_and_leads_to_the_same_view(
    page: Page, address: str, ids: list[str], context: BrowserContext
) -> None:
    page.goto(f"{address}?case={ids[3]}&by=checks&segment=support&rater=Dora")
    opened(page, ids[3])
    page.get_by_role("button", name="Link").click()
    code = page.get_by_test_id("stPopoverBody").get_by_test_id("stCode")
    code.wait_for()
    code.hover()
    page.get_by_test_id("stPopoverBody").get_by_test_id("stBaseButton-elementToolbar").click()
    page.wait_for_timeout(300)
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.split("?")[0] == page.url.split("?")[0]
    # All of it but who looks, since whoever follows the link is somebody else; and what is chosen by default.
    asked, shown_here = ({*url.split("?")[1].split("&")} for url in (copied, page.url))
    assert shown_here - asked == {"rater=Dora"}
    assert {part.partition("=")[0] for part in asked - shown_here} == {"task", "baseline", "columns", "run", "shown"}
    other = context.new_page()
    other.goto(copied)
    opened(other, ids[3])
    assert "by=checks" in other.url
    other.close()


def test_back_leads_where_one_came_from_at_the_first_press(page: Page, address: str) -> None:
    app = address.removesuffix("/compare")
    page.goto(f"{app}/trends?by=week")
    settled(page)
    for name, ending in (("Compare", "/compare"), ("Results", "/results"), ("Compare", "/compare")):
        page.get_by_test_id("stSidebarNav").get_by_role("link", name=name).click()
        page.wait_for_url(f"**{ending}")
        page.get_by_role("heading", name=name, exact=True).wait_for()
        settled(page)
    for name, ending in (("Results", "/results"), ("Compare", "/compare"), ("Trends", "/trends?by=week")):
        page.go_back()
        page.get_by_role("heading", name=name, exact=True).wait_for()
        settled(page)
        assert page.url == f"{app}{ending}"
    assert page.get_by_role("radio", name="week").is_checked()


def test_cases_are_sent_to_a_queue(page: Page, address: str, store: Store) -> None:
    page.goto(f"{address}?status=worse")
    settled(page)
    page.get_by_role("button", name="Send these cases to a queue").click()
    page.get_by_role("button", name="Open the queue").click()
    page.get_by_text("The queue is open: 11 cases").wait_for()
    (queue,) = store.load(Queue, "SELECT * FROM queues")
    assert len(queue.cases) == 11
    page.get_by_role("link", name="Rate them now").click()
    page.wait_for_url(f"**/rate?*queue={queue.id}*")


def test_a_vote_is_stored_and_shown(page: Page, address: str, store: Store, ids: list[str]) -> None:
    page.goto(f"{address}?case={ids[5]}&rater=Dora")
    opened(page, ids[5])
    page.get_by_role("button", name="Better", exact=True).first.click()
    page.get_by_text("Dora: steps").wait_for()
    votes = store.sql("SELECT blind, case_id FROM votes WHERE rater = 'Dora'").to_numpy().tolist()
    assert votes == [[False, ids[5]]]


EVIL = "![x](http://example.com/name.png) <img src=http://example.com/n.png onerror=alert(1)> :material/home: $x$ "


def hostile_store(path: Path) -> tuple[Store, Case]:
    """Every text that is not the product's own is an attack: names, ids, prompts, parameters, labels, reasons, errors."""
    variants = [
        Variant(
            name=EVIL + name,
            model=f"m:{EVIL}{name}",
            prompt=f"{EVIL}{name} {{{{ input }}}}",
            params={EVIL: EVIL + name},
        )
        for name in "ab"
    ]
    case = Case(
        inputs={EVIL: EVIL, "other": EVIL * 3},
        messages=[{"role": EVIL, "content": EVIL}],
        context=[{"title": EVIL, "text": EVIL}, "another text"],
        expected=EVIL,
        external_id=EVIL,
        segment=EVIL,
    )
    run = Run(task="t" + EVIL, dataset=EVIL, fingerprint="f", variants=[variant.id for variant in variants])
    records: list[object] = [Task(name="t" + EVIL, issues=[EVIL]), *variants, case, run]
    responses = []
    for variant in variants:
        request = AIRequest(input=EVIL, task=run.task, run_id=run.id, case_id=case.id, variant_id=variant.id)
        response = AIResponse(request_id=request.id, output=EVIL * 2, model_used=EVIL, provider_model=EVIL)
        responses.append(response)
        said = {"response_id": response.id, "rater": EVIL}
        records += [
            request,
            response,
            Rating(**said, metric="issue", label=EVIL, rater_kind="human"),
            Rating(**said, metric=EVIL, value=1.0, reason=EVIL, rater_kind="grader"),
            Rating(**said, metric=EVIL + "2", error=EVIL, rater_kind="grader"),
            Rating(**said, metric=EVIL + "3", label=EVIL, comment=EVIL, correction=EVIL, rater_kind="judge"),
        ]
    failing = AIRequest(input=EVIL, task=run.task, run_id=run.id, case_id=case.id, variant_id=variants[1].id, repeat=1)
    records += [
        failing,
        AIResponse(request_id=failing.id, output="", model_used="none", status="failed", error_type=EVIL, error=EVIL),
    ]
    vote = {
        "response_a": responses[0].id,
        "response_b": responses[1].id,
        "variant_a": variants[0].id,
        "variant_b": variants[1].id,
    }
    records.append(
        Comparison(
            task=run.task,
            case_id=case.id,
            winner="a",
            rater=EVIL,
            rater_kind="human",
            comment=EVIL,
            created_at=utcnow(),
            **vote,
        )
    )
    store = Store(path)
    store.append(records)  # type: ignore[arg-type]
    return store, case


def test_names_and_labels_are_shown_and_do_nothing(page: Page, tmp_path: Path) -> None:
    store, case = hostile_store(tmp_path / "evil.duckdb")
    asked: list[str] = []
    dialogs: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    with browser.running_app(store.path, tmp_path) as url:
        for query in ("", f"?case={case.id}", f"?case={case.id}&rater=Dora"):
            page.goto(f"{url}/compare{query}")
            settled(page)
            page.get_by_text("Variants in the run of").wait_for()
            if query:
                opened(page, case.id)
                for name in ("Markdown", "Mark differences"):
                    page.locator("label", has_text=name).first.click()
                    settled(page)
                page.get_by_text("2 documents").click()
                page.get_by_text("another text").wait_for()
            else:
                page.get_by_text("What differs").click()
                page.get_by_text("Prompt of").first.wait_for()
            folded = ["Change", *(["Filters"] if query else []), *(["Issue"] if "rater" in query else [])]
            for name in folded:
                page.get_by_role("button", name=name).first.click()
                page.get_by_test_id("stPopoverBody").first.wait_for()
                page.keyboard.press("Escape")
                page.get_by_test_id("stPopoverBody").first.wait_for(state="detached")
            assert page.get_by_test_id("stException").count() == 0
            assert page.get_by_test_id("stMain").locator("img").count() == 0
    assert dialogs == []
    outside = {one for one in asked if urlparse(one).netloc != urlparse(url).netloc and not one.startswith("data:")}
    assert not outside
