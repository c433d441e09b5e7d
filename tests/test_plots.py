"""Every figure from every state of a store: it can be built, sent and read; what people wrote stays text in it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from votes_store import Votes, make

import feedbackloop as fl
from feedbackloop import plots
from feedbackloop.findings import Results, results, trends
from feedbackloop.plots import look
from feedbackloop.stats.interval import Interval

FIGURES = {
    name: getattr(plots, name)
    for name in ("forest", "checks", "quality_cost", "quality_latency", "issues", "segments", "ratings", "win_matrix")
}

BAD = "<img src=x onerror=alert(1)> $x^2$ <a href='https://evil.example'>free</a>"


def nothing(path) -> Votes:
    return make(path, cases=3)


def one_variant(path) -> Votes:
    return make(path, ["terse"], cases=3)


def one_vote(path) -> Votes:
    made = make(path, cases=3)
    made.votes("terse", "steps", ["b"])
    return made


def only_ties(path) -> Votes:
    made = make(path, cases=6)
    made.votes("terse", "steps", ["tie", "both_bad"] * 3)
    return made


def unpriced(path) -> Votes:
    made = make(path, cases=6, costs={"terse": None, "steps": None})
    made.votes("terse", "steps", ["b", "a"] * 3)
    return made


def two_versions(path) -> Votes:
    made = make(path, ["terse", "steps", "steps:2"], cases=8, runs=[["terse", "steps"], ["terse", "steps:2"]])
    made.votes("terse", "steps", ["a", "b"] * 4)
    made.votes("terse", "steps:2", ["b"] * 8, run=1)
    return made


def many(path) -> Votes:
    names = ["terse", *(f"v{n}" for n in range(14))]
    made = make(
        path, names, cases=6, segments=["one", "two", None], costs={name: 10.0**-n for n, name in enumerate(names)}
    )
    for n, (a, b) in enumerate(itertools.pairwise(names)):
        made.votes(a, b, ["a", "b", "tie", "a", "both_bad", "b"][: 3 + n % 4])
    made.votes("terse", "v3", ["b"] * 6)
    made.store.append(
        [
            *(made.rate(case, name, "issue", label=f"fault {case}") for case in range(3) for name in names[:5]),
            *(
                made.rate(case, name, "ok", value=1.0, rater="ok@1", rater_kind="grader")
                for case in range(3)
                for name in names
            ),
        ]
    )
    return made


def separated(path) -> Votes:
    made = make(path, ["terse", "steps", "wordy", "shy"], cases=40)
    made.votes("terse", "steps", ["b"] * 40)
    made.votes("wordy", "shy", ["a"] * 3)
    return made


def hostile(path) -> Votes:
    made = make(path, ["terse", BAD, "third", "fourth"], cases=6, segments=[BAD, "calm"])
    for name in (BAD, "third", "fourth"):
        made.votes("terse", name, ["b", "a", "b", "a", "tie", "b"], rater=BAD)
    made.store.append([made.rate(case, BAD, "issue", label=BAD) for case in range(4)])
    made.store.append([made.rate(case, "terse", BAD, value=1.0, rater="x@1", rater_kind="grader") for case in range(4)])
    return made


STATES: dict[str, Callable[..., Votes]] = {
    one.__name__: one
    for one in (nothing, one_variant, one_vote, only_ties, unpriced, two_versions, many, separated, hostile)
}


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> dict[str, fl.Store]:
    folder = tmp_path_factory.mktemp("states")
    return {name: state(folder / f"{name}.duckdb").store for name, state in STATES.items()}


@pytest.fixture(scope="module")
def found(states) -> dict[str, Results]:
    return {name: results(store) for name, store in states.items()}


def texts(figure: Any) -> Iterator[str]:
    """Every text that the browser gets."""

    def walk(part: Any) -> Iterator[str]:
        if isinstance(part, dict):
            for name, value in part.items():
                yield name
                yield from walk(value)
        elif isinstance(part, list):
            for value in part:
                yield from walk(value)
        elif isinstance(part, str):
            yield part

    yield from walk(json.loads(figure.to_json()))


@pytest.mark.parametrize("state", list(STATES))
@pytest.mark.parametrize("name", list(FIGURES))
def test_every_figure_is_built_from_every_state(found, state, name) -> None:
    figure = FIGURES[name](found[state])
    assert json.loads(figure.to_json())["data"] is not None
    assert "NaN" not in figure.to_json()
    assert figure.layout.paper_bgcolor == "rgba(0,0,0,0)"
    assert figure.layout.plot_bgcolor == "rgba(0,0,0,0)"
    # What has nothing to show says why.
    assert figure.data or figure.layout.annotations


@pytest.mark.parametrize("step", ["run", "hour", "day", "week"])
@pytest.mark.parametrize("state", list(STATES))
def test_trends_are_built_from_every_state(states, state, step) -> None:
    figure = plots.trends(trends(states[state], by=step))
    assert figure.data
    assert "NaN" not in figure.to_json()


@pytest.mark.parametrize("name", [*FIGURES, "trends"])
def test_what_people_wrote_stays_text(found, states, name) -> None:
    figure = plots.trends(trends(states["hostile"])) if name == "trends" else FIGURES[name](found["hostile"])
    tags = ("<br>", "<extra></extra>")
    for text in texts(figure):
        bare = text
        for tag in tags:
            bare = bare.replace(tag, "")
        # Ids of data points are never drawn.
        if bare != BAD:
            assert "<" not in bare
            assert "$" not in bare


def test_hostile_names_are_seen_as_they_are_written(found) -> None:
    assert any("&lt;img src=x onerror=alert(1)&gt;" in text for text in texts(plots.forest(found["hostile"])))


def test_names_like_numbers_stay_names(tmp_path) -> None:
    made = make(tmp_path / "loop.duckdb", ["1", "2026-01-01", "3"], cases=4)
    for name in ("2026-01-01", "3"):
        made.votes("1", name, ["b"] * 4)
    figure = plots.forest(results(made.store))
    assert [text.partition("<br>")[0] for text in figure.layout.yaxis.ticktext] == ["2026-01-01", "3"]
    assert list(figure.layout.yaxis.tickvals) == [0, -1]


def test_the_forest_has_its_line_and_its_bounds(demo_file) -> None:
    found = results(fl.Store(demo_file))
    figure = plots.forest(found)
    row, trace = found.rows[0], figure.data[0]
    assert figure.layout.shapes[0].x0 == 0.5
    assert trace.x[0] == row.win_rate.estimate
    assert trace.x[0] - trace.error_x.arrayminus[0] == pytest.approx(row.win_rate.lower)
    assert trace.x[0] + trace.error_x.array[0] == pytest.approx(row.win_rate.upper)
    assert "49 votes by Anna and Ben" in trace.hovertext[0]


def test_few_votes_are_hollow(found) -> None:
    assert plots.forest(found["one_vote"]).data[0].marker.symbol.endswith("-open")
    assert not plots.forest(found["separated"]).data[0].marker.symbol.endswith("-open")


def test_what_won_everything_is_drawn_to_the_edge(found) -> None:
    figure = plots.ratings(found["separated"])
    rows = {row.player.label: place for place, row in enumerate(found["separated"].ranking.rows)}
    steps = figure.data[rows["steps"]]
    assert steps.x[0] + steps.error_x.array[0] == pytest.approx(figure.layout.xaxis.range[1])
    assert "won everything so far" in steps.hovertext[0]


def test_costs_that_differ_more_than_tenfold_are_drawn_by_factors(found, demo_file) -> None:
    assert plots.quality_cost(found["many"]).layout.xaxis.type == "log"
    assert plots.quality_cost(results(fl.Store(demo_file))).layout.xaxis.type == "log"
    assert plots.quality_cost(found["two_versions"]).layout.xaxis.type is None


def test_unpriced_answers_leave_no_mark_on_the_cost(found) -> None:
    assert not plots.quality_cost(found["unpriced"]).data
    assert "price" in plots.quality_cost(found["unpriced"]).layout.annotations[0].text
    assert plots.quality_latency(found["unpriced"]).data


def test_a_diagram_without_anything_to_show_takes_no_room(states) -> None:
    priced, unpriced = (plots.trends(trends(states[state])) for state in ("one_vote", "unpriced"))
    assert [axis.title.text for axis in unpriced.select_yaxes()][1:] == ["latency p50, s", "latency p95, s"]
    assert unpriced.layout.height < priced.layout.height


def test_without_votes_quality_is_the_checks(tmp_path) -> None:
    made = make(tmp_path / "loop.duckdb", cases=4)
    made.store.append([made.rate(n, "steps", "ok", value=1.0, rater="ok@1", rater_kind="grader") for n in range(4)])
    figure = plots.quality_cost(results(made.store))
    assert figure.layout.yaxis.title.text == "checks passed"
    assert len(figure.data) == 1


# ---- colours


def contrast(colour: str, ground: str) -> float:
    def light(text: str) -> float:
        parts = [int(text[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((light(colour), light(ground)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("ground", ["#FFFFFF", "#10171E"])
def test_colours_stand_out_on_light_and_dark(ground) -> None:
    assert all(contrast(colour, ground) >= 3 for colour in look.COLOURS)


def test_a_variant_keeps_its_colour(demo_file) -> None:
    found = results(fl.Store(demo_file))
    ids = [variant.id for variant in fl_variants(demo_file)]
    assert list(found.verdict.players.variant_ids) == ids
    palette = plots.colours(ids)
    assert len(set(palette.values())) == 4
    drawn = {trace.customdata[0]: trace.marker.color for trace in plots.forest(found).data}
    assert all(palette[id_] == colour for id_, colour in drawn.items())
    line = next(trace for trace in plots.trends(trends(fl.Store(demo_file))).data if trace.name == "steps")
    assert line.line.color == palette[found.rows[0].player.variant_id]


def fl_variants(path) -> list[fl.Variant]:
    from feedbackloop import queries

    return queries.task_variants(fl.Store(path), "demo-support")


def test_more_variants_than_colours_differ_by_shape() -> None:
    ids = [f"v{n}" for n in range(56)]
    colours, symbols = plots.colours(ids), plots.symbols(ids)
    assert len({(colours[id_], symbols[id_]) for id_ in ids}) == 56
    assert plots.colours(["a", "a", "b"]) == {"a": look.COLOURS[0], "b": look.COLOURS[1]}


def test_an_open_bound_has_no_bar() -> None:
    interval = Interval(5.0, 4.0, float("inf"), None, 10, 10, "order statistics")
    assert look.reach(interval) == (1.0, 0.0)
    assert look.reach(Interval(None, None, None, None, 0, 0, "no data")) == (0.0, 0.0)
    assert look.reach(Interval(0.5, -0.5, 1.0, None, 10, 10, "t"), floor=0.0) == (0.5, 0.5)


def test_ticks_by_factors_frame_the_values() -> None:
    assert look.factors(0.03, 0.9) == [0.02, 0.05, 0.1, 0.2, 0.5, 1.0]
    assert look.factors(1.0, 10.0) == [1.0, 2.0, 5.0, 10.0]
