"""Quality, latency and cost from run to run and over time: tables by hand, zones, versions, what belongs to which day."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from votes_store import START, Votes, make

import feedbackloop as fl
from feedbackloop import plots
from feedbackloop.errors import SettingsError, StoreError, UnknownName
from feedbackloop.findings import results, timeline, trends
from feedbackloop.findings.timeline import qualities
from feedbackloop.models import AIRequest, AIResponse, Policy
from feedbackloop.queries.verdicts import Selection


@pytest.fixture
def two_runs(tmp_path) -> Votes:
    """terse and steps in two runs a week apart, the second with a new version of steps."""
    return make(
        tmp_path / "loop.duckdb",
        ["terse", "steps", "steps:2"],
        cases=20,
        runs=[["terse", "steps"], ["terse", "steps:2"]],
        costs={"terse": 0.001, "steps": 0.004, "steps:2": None},
    )


def test_a_run_is_a_step_and_a_name_a_line(two_runs) -> None:
    two_runs.votes("terse", "steps", ["b"] * 5 + ["a"] * 15)
    two_runs.votes("terse", "steps:2", ["b"] * 15 + ["a"] * 5, run=1)
    found = trends(two_runs.store)
    assert [rung.id for rung in found.rungs] == [run.id for run in two_runs.runs]
    assert [rung.label for rung in found.rungs] == [
        f"1 Mar 12:00 ({two_runs.runs[0].id[:8]})",
        f"8 Mar 12:00 ({two_runs.runs[1].id[:8]})",
    ]
    first, second = found.of("steps")
    assert (first.quality.estimate, second.quality.estimate) == (0.25, 0.75)
    assert (first.changed, second.changed) == (False, True)
    assert second.version == two_runs.variants["steps:2"].label
    assert second.variant_id == two_runs.variants["steps:2"].id
    assert [point.quality for point in found.of("terse")] == [None, None]
    assert first.latency_p50_ms.estimate == pytest.approx(109.5)
    assert first.cost_usd.estimate == pytest.approx(0.004)
    assert (second.unpriced, second.cost_usd.estimate) == (20, None)


def test_quality_is_the_same_as_in_results(two_runs) -> None:
    two_runs.votes("terse", "steps:2", ["b"] * 12 + ["a"] * 5 + ["tie"] * 3, run=1)
    assert trends(two_runs.store).of("steps")[1].quality == results(two_runs.store).rows[0].win_rate


def test_a_vote_belongs_to_the_day_of_its_answer_in_the_viewers_zone(tmp_path) -> None:
    # Answers from 23:30 UTC on the 1st: in Berlin that is the 2nd.
    made = make(tmp_path / "loop.duckdb", cases=4)
    late = make(tmp_path / "late.duckdb", cases=4)
    move(late, timedelta(hours=11, minutes=30))
    late.votes("terse", "steps", ["b"] * 4, created_at=START + timedelta(days=90))
    for zone, day in (("UTC", 1), ("Europe/Berlin", 2), ("America/New_York", 1)):
        found = trends(late.store, by="day", zone=zone)
        assert [rung.id for rung in found.rungs] == [f"2026-03-0{day} 00:00:00"]
        assert (
            found.rungs[0].moment.utcoffset() == datetime(2026, 3, day, tzinfo=found.rungs[0].moment.tzinfo).utcoffset()
        )
        assert found.of("steps")[0].quality.n == 4
    assert trends(made.store, by="week").rungs[0].label == "23 Feb to 1 Mar 2026"
    assert trends(made.store, by="hour").rungs[0].label == "1 Mar 12:00"


def move(made: Votes, by: timedelta) -> None:
    """Let all answers have been made later."""
    with made.store.lease() as connection:
        for table in ("requests", "responses"):
            connection.execute(f"UPDATE {table} SET created_at = created_at + to_seconds({by.total_seconds()})")


def test_only_what_is_newer(two_runs) -> None:
    found = trends(two_runs.store, since=START + timedelta(days=3))
    assert [rung.id for rung in found.rungs] == [two_runs.runs[1].id]
    assert trends(two_runs.store, since=START + timedelta(days=300)).points == ()


def test_quality_is_what_there_is(two_runs) -> None:
    assert trends(two_runs.store).quality is None
    two_runs.store.append(
        [
            *(two_runs.rate(n, "terse", "ok", value=n % 2, rater="ok@1", rater_kind="grader") for n in range(20)),
            *(two_runs.rate(n, "terse", "clarity", value=4.0) for n in range(20)),
        ]
    )
    found = trends(two_runs.store)
    assert [one.title for one in found.qualities] == ["checks", "clarity (people)"]
    assert found.quality.title == "checks"
    assert found.of("terse")[0].quality.estimate == 0.5
    rated = trends(two_runs.store, quality="clarity (people)")
    assert (rated.of("terse")[0].quality.estimate, rated.quality.scale) == (4.0, (1.0, 5.0))
    two_runs.votes("terse", "steps", ["b"])
    assert trends(two_runs.store).quality.title == "win rate"
    with pytest.raises(SettingsError, match="can be measured by 'win rate', 'checks', 'clarity"):
        trends(two_runs.store, quality="beauty")


def test_several_checks_are_also_offered_one_by_one(two_runs) -> None:
    for metric in ("ok", "short"):
        two_runs.store.append([two_runs.rate(0, "terse", metric, value=1.0, rater=f"{metric}@1", rater_kind="grader")])
    assert [one.title for one in qualities(two_runs.store, Selection("support"))] == [
        "checks",
        "ok (checks)",
        "short (checks)",
    ]


def test_kinds_of_raters_are_measures_of_their_own(two_runs) -> None:
    two_runs.votes("terse", "steps", ["b"] * 5, rater="u1", rater_kind="user")
    found = trends(two_runs.store)
    assert found.quality.title == "win rate (end users)"
    assert found.of("steps")[0].quality.n == 5


def test_answers_without_a_run_have_no_run_but_a_day(two_runs) -> None:
    request = AIRequest(
        input="", task="support", variant_id=two_runs.variants["terse"].id, case_id="c", created_at=START
    )
    response = AIResponse(request_id=request.id, output="x", model_used="m", latency_ms=1.0, created_at=START)
    two_runs.store.append([request, response])
    assert trends(two_runs.store, by="run").of("terse")[0].answers == 20
    assert trends(two_runs.store, by="day").of("terse")[0].answers == 21


def test_the_oldest_of_too_many_steps_are_left_out(two_runs, monkeypatch) -> None:
    monkeypatch.setattr(timeline, "MOST_STEPS", 1)
    found = trends(two_runs.store)
    assert ([rung.id for rung in found.rungs], found.left_out) == ([two_runs.runs[1].id], 1)
    assert {point.rung for point in found.points} == {0}
    # That the version changed is known all the same.
    assert found.of("steps")[0].changed


def test_many_steps_have_bands_and_not_bars(tmp_path) -> None:
    ran = [["terse", "steps"]] * 45
    made = make(tmp_path / "loop.duckdb", cases=2, runs=ran, apart=timedelta(hours=25))
    figure = plots.trends(trends(made.store, by="day"))
    assert sum(trace.fill == "tonexty" for trace in figure.data) == 6
    assert all(trace.error_y.array is None for trace in figure.data)
    assert sum(bool(trace.showlegend) for trace in figure.data) == 2


def test_the_chart_marks_versions_and_leads_to_rows(two_runs) -> None:
    two_runs.votes("terse", "steps:2", ["b"] * 5, run=1)
    found = trends(two_runs.store)
    figure = plots.trends(found)
    assert any(two_runs.variants["steps:2"].label in annotation.text for annotation in figure.layout.annotations)
    for trace in figure.data:
        assert all(found.points[place].player == trace.name for place in trace.customdata)
    sizes = [trace.marker.size for trace in figure.data if trace.name == "steps" and len(trace.x) == 2]
    assert sizes
    assert all(first < second for first, second in sizes)
    assert figure.layout.legend.itemclick == "toggleothers"


def test_versions_that_came_in_the_same_run_are_named_below_each_other(tmp_path) -> None:
    names = ["terse", "<i>steps</i>", "terse:2", "<i>steps</i>:2"]
    made = make(tmp_path / "loop.duckdb", names, cases=2, runs=[names[:2], names[2:]])
    figure = plots.trends(trends(made.store))
    (words,) = (one.text for one in figure.layout.annotations if one.y == 1)
    first, second = words.split("<br>")
    assert f">{made.variants['terse:2'].label}<" in first
    assert "&lt;i&gt;steps" in second
    one = plots.trends(trends(make(tmp_path / "one.duckdb", names[:3], cases=2, runs=[names[:2], names[2:3]]).store))
    # A line more has its own room, and the panels keep theirs.
    assert figure.layout.height - one.layout.height == figure.layout.margin.t - one.layout.margin.t > 10
    assert figure.layout.legend.y > one.layout.legend.y


def released(made: Votes, *weights: dict[str, float], days: float = 3.5) -> None:
    """Policies, a minute after each other, so many days after the first run."""
    made.store.append(
        Policy(
            task="support",
            weights={"*": {made.variants[name].id: share for name, share in one.items()}},
            created_at=START + timedelta(days=days, minutes=n),
        )
        for n, one in enumerate(weights)
    )


def test_releases_and_ways_back_are_marks_in_words(two_runs) -> None:
    released(two_runs, {"terse": 1.0}, {"steps": 0.1, "terse": 0.9}, {"terse": 1.0})
    old = two_runs.variants["steps"].label
    found = trends(two_runs.store, zone="Europe/Berlin")
    assert [(mark.words, mark.back) for mark in found.marks] == [
        ("released terse", False),
        (f"released terse 90%, {old} 10%", False),
        ("rolled back to terse", True),
    ]
    assert f"{found.marks[0].moment:%d %H:%M %Z}" == "05 01:00 CET"
    # What was released before anything that is shown is not shown either.
    assert trends(two_runs.store, since=START + timedelta(days=5)).marks == ()


@pytest.mark.parametrize("by", ["run", "day"])
def test_decisions_are_lines_with_a_word_on_hover_apart_from_those_of_versions(two_runs, by) -> None:
    released(two_runs, {"terse": 1.0}, {"steps:2": 1.0}, {"terse": 1.0})
    released(two_runs, {"steps:2": 1.0}, days=9)
    found = trends(two_runs.store, by=by)
    bare = plots.trends(replace(found, marks=()))
    figure = plots.trends(found)
    fresh = figure.layout.annotations[len(bare.layout.annotations) :]
    assert [mark.text for mark in fresh] == ["▲", "▲", "▼", "▲"]
    assert [mark.hovertext.split("<br>")[0] for mark in fresh][2:] == [
        "rolled back to terse",
        f"released {two_runs.variants['steps:2'].label}",
    ]
    # Versions have their word above the panels, decisions their sign within the lowest; traces and legend stay as they were.
    assert {mark.y for mark in bare.layout.annotations} == {1}
    assert {mark.y for mark in fresh} == {0}
    assert len(figure.data) == len(bare.data)
    if by == "run":
        assert [mark.x for mark in fresh] == [0.25, 0.5, 0.75, 1.5]
        assert figure.layout.xaxis.range[1] > 1.5
        assert {mark.x for mark in fresh}.isdisjoint(mark.x for mark in bare.layout.annotations)
    else:
        assert [mark.x for mark in fresh] == [mark.moment.replace(tzinfo=None) for mark in found.marks]


def test_a_name_in_a_mark_is_text(tmp_path) -> None:
    made = make(tmp_path / "loop.duckdb", ["terse", "<b>x</b>"], cases=2)
    released(made, {"<b>x</b>": 1.0})
    (mark,) = (one for one in plots.trends(trends(made.store)).layout.annotations if one.text == "▲")
    assert mark.hovertext.startswith("released &lt;b&gt;x")


def test_the_table_can_be_taken_away(two_runs) -> None:
    two_runs.votes("terse", "steps", ["b"] * 5)
    found = trends(two_runs.store, zone="Europe/Berlin")
    frame = pd.read_csv(io.StringIO(found.to_csv()))
    assert len(frame) == 4
    assert frame["variant"].tolist() == ["terse", "steps", "terse", "steps"]
    assert frame.loc[1, ["quality", "judged", "quality_by"]].tolist() == [1.0, 5, "win rate"]
    assert frame.loc[0, "began"].startswith("2026-03-01 13:00:00")


def test_a_name_that_is_a_formula_is_none_in_a_spreadsheet(tmp_path) -> None:
    made = make(tmp_path / "loop.duckdb", ["terse", "=1+1"], cases=2)
    assert ",'=1+1," in trends(made.store).to_csv()


def test_what_people_wrote_stays_text_in_a_notebook(tmp_path) -> None:
    made = make(tmp_path / "loop.duckdb", ["terse", "<script>alert(1)</script>"], cases=2)
    assert "<script" not in trends(made.store)._repr_html_()
    assert repr(trends(made.store)) == "Trends of support: 1 run, 2 variants, nothing judged"


def test_faults_of_the_caller_are_sentences(two_runs, tmp_path) -> None:
    with pytest.raises(SettingsError, match="trends go by run, hour, day or week"):
        trends(two_runs.store, by="month")
    with pytest.raises(SettingsError, match="no such time zone"):
        trends(two_runs.store, zone="Mars/Olympus")
    with pytest.raises(UnknownName, match="no variant 'steps3'"):
        trends(two_runs.store, baseline="steps3")
    with pytest.raises(StoreError):
        trends(fl.Store(tmp_path / "none.duckdb"))


def test_the_demo_shows_the_new_prompt(demo_file) -> None:
    found = trends(fl.Store(demo_file))
    assert [round(point.quality.estimate, 2) for point in found.of("steps")] == [0.44, 0.44, 0.74]
    assert [point.changed for point in found.of("steps")] == [False, False, True]
    assert found.rungs[0].moment.tzinfo is not None
    assert found.rungs[0].moment < datetime.now(UTC)
