"""The pages Results and Trends: on nothing, the demo and odd stores; and in a browser, where a click leads to the rows."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import pytest
from streamlit.testing.v1 import AppTest
from test_home import plain
from votes_store import make

import feedbackloop as fl
from feedbackloop.pages import context

ROOT = Path(__file__).parents[1]

BAD = "<img src=x onerror=alert(1)> **bold** :red[red] $x$"


@pytest.fixture
def demo(store_path, demo_file) -> Path:
    shutil.copy(demo_file, store_path)
    return store_path


def page(name: str, **query: str) -> AppTest:
    made = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    made.run()
    for key, value in query.items():
        made.query_params[key] = value
    made.switch_page(str(context.PAGES[name].path)).run()
    assert not made.exception
    assert not [error.value for error in made.error]
    return made


def subheaders(made: AppTest) -> list[str]:
    return [one.value for one in made.subheader]


def captions(made: AppTest) -> str:
    return plain(" | ".join(one.value for one in made.caption))


@pytest.mark.parametrize("name", ["results", "trends"])
def test_without_a_store_it_says_where_to_begin(store_path, name) -> None:
    made = page(name)
    assert made.info[0].value.startswith("No results yet" if name == "results" else "No trends yet")
    assert not store_path.exists()


@pytest.mark.parametrize("name", ["results", "trends"])
def test_a_task_without_runs_is_no_error(store_path, name) -> None:
    fl.Store(store_path).append([fl.Task(name="support")])
    assert page(name).info


def test_results_begin_with_the_sentence(demo) -> None:
    made = page("results")
    said = plain(made.header[0].value)
    assert said.endswith("is preferred to terse in 74% of comparisons (61 to 83; 49 votes; Anna and Ben)")
    assert plain(made.button(key="results-decide").label) == f"Decide on {said.split()[0]} against terse"
    assert subheaders(made) == [
        "Win rate",
        "Quality against cost",
        "Quality against latency",
        "Issues",
        "Segments, losers first",
        "Ratings",
        "Each against each",
    ]


def test_every_chart_shows_its_line_of_python(demo) -> None:
    made = page("results")
    codes = [one.value for one in made.code]
    assert len(codes) == 7
    namespace: dict[str, Any] = {}
    for code in codes:
        assert f"fl.Store({str(demo)!r})" in code
        body = code.replace("fl.plots", "plots").replace("fl.results", "results").replace("fl.trends", "trends")
        exec("from feedbackloop import plots\nfrom feedbackloop.findings import results, trends\n" + body, namespace)
    (code,) = [one.value for one in page("trends").code]
    body = code.replace("fl.plots", "plots").replace("fl.trends", "trends")
    exec("from feedbackloop import plots\nfrom feedbackloop.findings import trends\n" + body, namespace)


def test_kinds_of_raters_have_tabs(demo) -> None:
    made = page("results", who="Checks")
    assert plain(made.header[0].value).startswith("Checks passed: steps@")
    assert subheaders(made)[:2] == ["Passed", "Checks in numbers"]
    made = page("results", who="End users")
    assert plain(made.header[0].value) == "428 answers, no feedback by end users that compares answers"
    assert "Win rate" not in subheaders(made)


def test_versions_can_be_taken_together(demo) -> None:
    made = page("results", versions="together")
    assert plain(made.header[0].value).startswith("No difference shown yet: steps 59% against terse (48 to 68;")


def test_the_baseline_and_the_period_count(demo) -> None:
    assert "terse is preferred to careless" in plain(page("results", baseline="careless").header[0].value)
    recent = page("results", period="last 30 days")
    assert "49 votes" in plain(recent.header[0].value)
    assert "56 votes" not in captions(recent)


def test_without_votes_rating_is_the_act(store_path) -> None:
    make(store_path, cases=6)
    made = page("results")
    assert plain(made.header[0].value) == "12 answers, no votes: rate 6 pairs, 2 minutes"
    assert made.button(key="results-rate").label == "Rate"
    assert "Win rate" not in subheaders(made)


def test_with_one_variant_there_is_nothing_to_rate(store_path) -> None:
    make(store_path, ["terse"], cases=6)
    made = page("results")
    assert plain(made.header[0].value).startswith("One variant only")
    assert not [button for button in made.button if button.key == "results-rate"]


def test_unpriced_answers_are_said(store_path) -> None:
    made = make(store_path, cases=6, costs={"terse": None})
    made.votes("terse", "steps", ["b"] * 6)
    assert "6 unpriced answers are left out of the cost; 6 have a price." in captions(page("results"))
    assert "6 unpriced answers are left out of the cost." in captions(page("trends"))


def test_ratings_of_single_answers_stand_in_a_table(store_path) -> None:
    made = make(store_path, cases=6, criteria=["clarity"])
    made.store.append([made.rate(n, "steps", "clarity", value=4.0) for n in range(6)])
    shown = page("results")
    assert "Ratings of single answers" in subheaders(shown)
    table = next(frame.value for frame in shown.dataframe if "metric" in frame.value)
    assert table["steps"].tolist()[0].startswith("4 (")
    assert table["steps"].tolist()[0].endswith("; 6")


@pytest.mark.parametrize("name", ["results", "trends"])
def test_what_people_wrote_is_no_markdown(store_path, name) -> None:
    made = make(store_path, ["terse", BAD, "third", "fourth"], cases=6, segments=[BAD, "calm"])
    for variant in (BAD, "third", "fourth"):
        made.votes("terse", variant, ["b"] * 6, rater=BAD)
    made.store.append([made.rate(0, BAD, "issue", label=BAD)])
    shown = page(name)
    for element in (*shown.header, *shown.caption, *shown.markdown, *shown.subheader):
        text = element.value
        assert "**bold**" not in text
        assert ":red[red]" not in text
        assert "<img" not in text.replace("\\<", "")


def test_trends_by_run_and_by_day(demo) -> None:
    made = page("trends")
    assert "Click a point to see its answers" in captions(made)
    table = made.dataframe[0].value
    assert len(table) == 9
    assert table["run"].nunique() == 3
    by_day = page("trends", by="day").dataframe[0].value
    assert by_day["day"].nunique() == 3


def test_quality_can_be_chosen(demo) -> None:
    table = page("trends", quality="checks").dataframe[0].value
    assert table["checks"].tolist()[-1].endswith("; 36")


def test_one_run_is_a_beginning(store_path) -> None:
    make(store_path, cases=4)
    said = captions(page("trends"))
    assert "One run so far: the next one makes a line." in said
    assert "Nothing was judged yet: no votes, checks or ratings." in said


# ---- in a browser


@pytest.fixture(scope="module")
def address(tmp_path_factory, demo_file) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("browser")
    shutil.copy(demo_file, folder / "loop.duckdb")
    with browser.running_app(folder / "loop.duckdb", folder) as url:
        yield url


def opened(chromium: Any, url: str) -> Any:
    tab = chromium.new_page(viewport={"width": 1280, "height": 1400}, timezone_id="Europe/Berlin")
    tab.goto(url)
    tab.wait_for_selector(browser.FINISHED, timeout=30_000)
    return tab


def test_a_click_on_a_point_leads_to_its_rows(chromium, address) -> None:
    tab = opened(chromium, f"{address}/trends")
    point = tab.locator(".st-key-trends .scatterlayer .points path").nth(4)
    point.wait_for(timeout=20_000)
    box = point.bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.wait_for_selector(".st-key-trends .hoverlayer text", timeout=10_000)
    assert "win rate against terse" in tab.locator(".st-key-trends .hoverlayer").text_content()
    tab.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.wait_for_url("**/compare?**", timeout=20_000)
    assert "run=" in tab.url
    assert "variant=" in tab.url
    tab.close()


def test_days_are_those_of_the_viewer(chromium, address) -> None:
    tab = opened(chromium, f"{address}/trends?by=day")
    tab.get_by_text("by day, Europe/Berlin").wait_for(timeout=20_000)
    tab.close()


def test_a_bar_of_issues_leads_to_its_answers(chromium, address) -> None:
    tab = opened(chromium, f"{address}/results")
    bar = tab.locator(".st-key-issues .barlayer .point path").first
    bar.wait_for(timeout=20_000)
    bar.scroll_into_view_if_needed()
    box = bar.bounding_box()
    tab.mouse.click(box["x"] + box["width"] / 3, box["y"] + box["height"] / 2)
    tab.wait_for_url("**/compare?**issue=**", timeout=20_000)
    tab.close()


@pytest.mark.parametrize("name", ["results", "trends"])
def test_nothing_is_wider_than_the_page(chromium, address, name) -> None:
    tab = opened(chromium, f"{address}/{name}")
    for width in (800, 1280):
        tab.set_viewport_size({"width": width, "height": 900})
        tab.locator(".js-plotly-plot").first.wait_for(timeout=20_000)
        main = "document.querySelector('[data-testid=stMain]')"
        assert tab.evaluate(f"{main}.scrollWidth <= {main}.clientWidth"), width
    tab.close()
