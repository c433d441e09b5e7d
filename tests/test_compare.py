"""Compare: the board against stores worked out by hand, and the page on stores of every kind."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl

import big_store
import pandas as pd
import pytest
from streamlit.elements.lib import policies
from streamlit.testing.v1 import AppTest

from feedbackloop import queries
from feedbackloop.models import (
    AIRequest,
    AIResponse,
    Attempt,
    Case,
    Comparison,
    Exposure,
    ProcessingStatus,
    Queue,
    Rating,
    Record,
    Run,
    Task,
    Variant,
)
from feedbackloop.pages.comparing import columns as columns_of_page
from feedbackloop.pages.comparing import texts
from feedbackloop.queries import shown, table
from feedbackloop.queries.table import Column, Filters
from feedbackloop.store import Store

START = datetime(2026, 3, 1, 9, tzinfo=UTC)
ROOT = Path(__file__).parents[1]


@dataclass
class Made:
    """A store in the making: records in the order in which they happened."""

    variants: tuple[Variant, ...]
    cases: tuple[Case, ...]
    records: list[Record] = field(default_factory=list)
    minutes: int = 0

    def now(self) -> datetime:
        self.minutes += 1
        return START + timedelta(minutes=self.minutes)

    def run(self, variants: tuple[Variant, ...] | None = None, **fields: object) -> Run:
        chosen = [variant.id for variant in variants or self.variants]
        run = Run(task="t", dataset="d.jsonl", fingerprint="f", variants=chosen, created_at=self.now(), **fields)
        self.records.append(run)
        return run

    def ask(self, run: Run, case: Case, variant: Variant, *, repeat: int = 0) -> AIRequest:
        request = AIRequest(
            input="?",
            task="t",
            run_id=run.id,
            case_id=case.id,
            variant_id=variant.id,
            repeat=repeat,
            created_at=self.now(),
        )
        self.records.append(request)
        return request

    def answer(self, request: AIRequest, output: str | None = "yes", **fields: object) -> AIResponse:
        failed = {
            "status": ProcessingStatus.FAILED,
            "model_used": "none",
            "error_type": "ProviderTimeout",
            "error": "too slow",
        }
        response = AIResponse(
            request_id=request.id,
            output=output or "",
            created_at=self.now(),
            **({"model_used": "m:m"} if output is not None else failed) | fields,
        )
        self.records.append(response)
        return response

    def check(self, response: AIResponse, value: float | None, **fields: object) -> Rating:
        rating = Rating(
            **{
                "response_id": response.id,
                "metric": "check",
                "value": value,
                "rater": "check@1",
                "rater_kind": "grader",
            }
            | {"created_at": self.now()}
            | fields
        )
        self.records.append(rating)
        return rating

    def vote(self, a: AIResponse, b: AIResponse, winner: str | None, **fields: object) -> Comparison:
        requests = {record.id: record for record in self.records if isinstance(record, AIRequest)}
        first, second = requests[a.request_id], requests[b.request_id]
        vote = Comparison(
            **{"task": "t", "case_id": first.case_id, "response_a": a.id, "response_b": b.id, "winner": winner}
            | {"variant_a": first.variant_id, "variant_b": second.variant_id, "rater": "Anna", "rater_kind": "human"}
            | {"created_at": self.now()}
            | fields
        )
        self.records.append(vote)
        return vote

    def store(self, path: Path) -> Store:
        store = Store(path)
        store.append([Task(name="t", created_at=START), *self.variants, *self.cases, *self.records])
        return store


def making(names: str = "ABC", cases: int = 5) -> Made:
    variants = tuple(
        Variant(name=name, model=f"m:{name}", prompt="Say {{ input }}", created_at=START + timedelta(seconds=n))
        for n, name in enumerate(names)
    )
    rows = tuple(
        Case(inputs={"input": f"question {n}"}, external_id=f"row-{n}", segment="xy"[n % 2], created_at=START)
        for n in range(cases)
    )
    return Made(variants, rows)


def columns(made: Made, *runs: Run) -> tuple[Column, ...]:
    return tuple(Column(run.id, variant) for run in runs for variant in run.variants)


@dataclass(frozen=True)
class Known:
    """A small store of which everything is known."""

    made: Made
    run: Run
    store: Store

    @property
    def board(self) -> table.Board:
        return table.board(self.store, columns(self.made, self.run))

    def row(self, case: int) -> pd.Series:
        board = self.board.cases.set_index("case_id")
        return board.loc[self.made.cases[case].id]


@pytest.fixture
def known(tmp_path: Path) -> Known:
    """Five cases. 0: votes level, checks up, asked twice. 1: B worse, after a failure. 2: B failed. 3: B not answered. 4: A failed."""
    made = making()
    a, b, c = made.variants
    run = made.run(repeats=2)
    said = {case.id: {v.name: made.ask(run, case, v) for v in (a, b, c)} for case in made.cases}

    first = said[made.cases[0].id]
    a0, b0, c0 = (
        made.answer(first[name], text) for name, text in (("A", "the base"), ("B", "Banana"), ("C", "cherry"))
    )
    again = made.answer(made.ask(run, made.cases[0], b, repeat=1), "banana once more")
    made.check(a0, 1.0)
    made.check(a0, 0.0, metric="other")
    made.check(a0, 7.0, metric="length")  # no grade from 0 to 1: not a check's share
    made.check(b0, 1.0)
    made.check(again, 1.0)
    wrong = made.check(c0, 1.0)
    made.check(c0, 0.0, supersedes=wrong.id)
    made.vote(a0, b0, "b")
    made.vote(b0, a0, "b", rater="Ben")
    made.vote(a0, b0, "tie", rater="Cleo")
    changed = made.vote(a0, c0, "a")
    made.vote(a0, c0, "b", supersedes=changed.id)
    made.vote(b0, c0, "b", rater="Ben")  # no pair with the first column
    made.vote(a0, c0, "a", rater="Ben", blind=False)

    second = said[made.cases[1].id]
    a1 = made.answer(second["A"], "good")
    made.answer(second["B"], None)
    b1 = made.answer(second["B"], "bad")
    made.answer(second["C"], "fair")
    made.vote(b1, a1, "b")
    taken_back = made.vote(a1, b1, "b", rater="Ben")
    made.vote(a1, b1, None, rater="Ben", supersedes=taken_back.id)
    made.vote(a1, b1, "b", rater="judge@1", rater_kind="judge")
    made.check(b1, None, metric="issue", label="wrong tone", rater="Anna", rater_kind="human")
    made.check(a1, 4.0, metric="quality", rater="Anna", rater_kind="human")
    made.check(b1, 2.0, metric="quality", rater="Anna", rater_kind="human")

    made.answer(said[made.cases[2].id]["A"])
    made.answer(said[made.cases[2].id]["B"], None)
    made.answer(said[made.cases[2].id]["C"])
    made.answer(said[made.cases[3].id]["A"])
    made.answer(said[made.cases[4].id]["A"], None)
    made.answer(said[made.cases[4].id]["B"], "   \n")
    return Known(made, run, made.store(tmp_path / "known.duckdb"))


def test_a_board_counts_what_was_answered_and_how_often(known) -> None:
    first, second = known.row(0), known.row(1)
    assert (first["answered_0"], first["answered_1"], first["completed_1"]) == (1, 2, 2)
    # A failure that was followed by an answer is no failure.
    assert (second["answered_1"], second["completed_1"]) == (1, 1)
    assert (known.row(2)["answered_1"], known.row(2)["completed_1"]) == (1, 0)
    assert known.row(3)["answered_1"] == 0
    assert known.board.cases["segment"].tolist() == list("xyxyx")
    assert known.board.cases["case_id"].tolist() == [case.id for case in known.made.cases]


def test_a_board_takes_means_of_grades_and_leaves_out_what_was_replaced(known) -> None:
    first = known.row(0)
    assert (first["checks_0"], first["checks_1"], first["checks_2"]) == (0.5, 1.0, 0.0)
    assert (known.row(1)["ratings_0"], known.row(1)["ratings_1"]) == (4.0, 2.0)
    assert pd.isna(known.row(1)["checks_0"])


def test_a_board_takes_blind_votes_on_the_pair_with_the_first_column(known) -> None:
    first, second = known.row(0), known.row(1)
    assert (first["votes_1"], first["votes_gain_1"]) == (3, 0.0)
    assert (first["votes_2"], first["votes_gain_2"]) == (1, 1.0)
    assert (second["votes_1"], second["votes_gain_1"]) == (1, -1.0)
    assert (second["judges_1"], second["judges_gain_1"]) == (1, 1.0)


def test_outcomes_are_against_the_first_column(known) -> None:
    board = known.board
    assert board.measures() == ("votes", "checks", "ratings", "judges")
    assert board.outcomes("votes", 1).tolist() == ["same", "worse", "failed", "missing", "unjudged"]
    assert board.outcomes("checks", 1).tolist() == ["better", "unjudged", "failed", "missing", "unjudged"]
    assert board.outcomes("ratings", 1).tolist() == ["unjudged", "worse", "failed", "missing", "unjudged"]
    assert board.outcomes("judges", 1).tolist() == ["unjudged", "better", "failed", "missing", "unjudged"]
    assert board.outcomes(None, 1).tolist() == ["unjudged", "unjudged", "failed", "missing", "unjudged"]
    assert board.counts("votes", 1) == {"worse": 1, "better": 0, "same": 1, "failed": 1, "unjudged": 1, "missing": 1}
    assert board.votes("votes", 1) == 4
    assert board.votes("checks", 1) == 0


def rows(known: Known, **filters: object) -> list[int]:
    ids = [case.id for case in known.made.cases]
    return [ids.index(id_) for id_ in known.board.select("votes", Filters(**filters))]


def test_what_got_worse_comes_first_and_filters_narrow(known) -> None:
    # 2: B failed. 1: B lost. 0: level, C won. 3 and 4: nothing to go by.
    assert rows(known) == [2, 1, 0, 3, 4]
    assert rows(known, outcome="worse") == [1]
    assert rows(known, outcome="better") == [0]
    assert rows(known, outcome="better", column=1) == []
    assert rows(known, outcome="failed") == [2, 4]
    assert rows(known, outcome="failed", column=0) == [4]
    assert rows(known, outcome="failed", column=1) == [2]
    assert rows(known, segment="y") == [1, 3]
    assert rows(known, issue="wrong tone") == [1]
    assert rows(known, issue="wrong tone", column=0) == []
    assert rows(known, issue="no such issue") == []
    assert rows(known, among=frozenset({known.made.cases[3].id})) == [3]
    tally = known.board.tally("votes", Filters(segment="x"))
    assert (tally["better"], tally["failed"], tally["worse"]) == (1, 2, 0)
    assert known.board.segments() == ["x", "y"]
    assert known.board.labels() == ["wrong tone"]
    assert known.board.labels(0) == []


def test_previews_come_in_the_order_asked_for_and_short(known) -> None:
    ids = [known.made.cases[number].id for number in (4, 0, 2)]
    frame = shown.previews(known.store, columns(known.made, known.run), ids)
    assert frame["case_id"].tolist() == ids
    assert frame["input"].tolist() == ["question 4", "question 0", "question 2"]
    assert frame["status_1"].tolist() == ["completed", "completed", "failed"]
    assert frame["output_1"].tolist() == ["   \n", "Banana", ""]
    assert frame["error_1"].tolist()[2] == "ProviderTimeout"
    assert pd.isna(frame["status_2"][0])


def test_previews_of_long_texts_are_cut_in_the_database(tmp_path) -> None:
    made = making("AB", 1)
    run = made.run()
    for variant in made.variants:
        made.answer(made.ask(run, made.cases[0], variant), "x" * 65_477)
    frame = shown.previews(made.store(tmp_path / "s.duckdb"), columns(made, run), [made.cases[0].id])
    assert frame["output_0"].str.len().tolist() == [shown.PREVIEW_CHARACTERS]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"inputs": {"input": "I", "other": "longer than it"}}, "I"),
        ({"inputs": {"anything": "A"}}, "A"),
        ({"inputs": {"id": "1", "prompt": "the longest of them"}}, "the longest of them"),
        ({"inputs": {}, "messages": [{"role": "user", "content": "M"}]}, "M"),
        ({"inputs": {"n": 7}}, "7"),
    ],
)
def test_a_case_is_shown_by_what_a_person_would_call_its_input(tmp_path, fields, expected) -> None:
    store = Store(tmp_path / "s.duckdb")
    case = Case(**fields)
    store.append([case])
    frame = shown.previews(store, [Column("r", "v"), Column("r", "w")], [case.id])
    assert frame["input"].tolist() == [expected]


def test_an_opened_case_has_all_that_was_said_as_it_stands_now(known) -> None:
    opened = shown.opened(known.store, columns(known.made, known.run), known.made.cases[0].id)
    assert opened is not None
    assert [[one.response.output for one in answers] for answers in opened.answers] == [
        ["the base"],
        ["Banana", "banana once more"],
        ["cherry"],
    ]
    assert [[one.repeat for one in answers] for answers in opened.answers] == [[0], [0, 1], [0]]
    assert [rating.value for rating in opened.answers[2][0].ratings] == [0.0]
    assert [(vote.rater, vote.winner, vote.blind) for vote in opened.votes] == [
        ("Anna", "b", True),
        ("Ben", "b", True),
        ("Cleo", "tie", True),
        ("Anna", "b", True),
        ("Ben", "b", True),
        ("Ben", "a", False),
    ]
    second = shown.opened(known.store, columns(known.made, known.run), known.made.cases[1].id)
    assert second is not None
    assert second.answers[1][0].response.output == "bad"
    assert {rating.metric for rating in second.answers[1][0].ratings} == {"issue", "quality"}
    third = shown.opened(known.store, columns(known.made, known.run), known.made.cases[3].id)
    assert third is not None
    assert third.answers[1] == ()
    assert shown.opened(known.store, columns(known.made, known.run), "no such case") is None


def test_a_search_looks_into_answers_inputs_and_ids_whatever_the_case(known) -> None:
    def found(text: str) -> list[int]:
        ids = [case.id for case in known.made.cases]
        return sorted(ids.index(id_) for id_ in shown.search(known.store, columns(known.made, known.run), text))

    assert found("BANANA") == [0]
    assert found("question 3") == [3]
    assert found("row-2") == [2]
    assert found("%") == []
    assert found("Question") == [0, 1, 2, 3, 4]


def test_runs_are_found_by_an_issue_or_a_case(known) -> None:
    b = known.made.variants[1]
    assert shown.runs_with_issue(known.store, "t", b.id, "wrong tone") == [shown.Find(known.run.id, 1)]
    assert shown.runs_with_issue(known.store, "t", b.id, "too long") == []
    assert shown.runs_with_case(known.store, "t", known.made.cases[0].id) == [known.run.id]
    assert [run.id for run in shown.task_runs(known.store, "t")] == [known.run.id]


def test_the_marks_change_with_what_bears_on_a_board_and_with_nothing_else(known) -> None:
    before = table.marks(known.store)
    known.store.append([Exposure(rater="Anna", case_id="c", response_ids=["r"], page="compare")])
    assert table.marks(known.store) == before
    known.store.append([Comparison(**known_vote(known))])
    assert table.marks(known.store) != before


def known_vote(known: Known) -> dict[str, object]:
    votes = [record for record in known.made.records if isinstance(record, Comparison)]
    return votes[0].model_dump(exclude={"id"}) | {"rater": "Dora"}


def test_runs_of_one_variant_are_told_apart(tmp_path) -> None:
    made = making("A", 2)
    first, second = made.run(), made.run()
    old = made.answer(made.ask(first, made.cases[0], made.variants[0]), "old")
    new = made.answer(made.ask(second, made.cases[0], made.variants[0]), "new")
    made.vote(new, old, "a")
    board = table.board(made.store(tmp_path / "s.duckdb"), columns(made, first, second))
    assert board.outcomes("votes", 1).tolist() == ["better"]


def test_the_demo_agrees_with_its_views(demo_file) -> None:
    store = Store(demo_file)
    run = shown.task_runs(store, "demo-support")[0]
    board = table.board(store, [Column(run.id, variant) for variant in run.variants])
    votes = store.sql(
        "SELECT variant_b_id, count(*) AS n, sum(CASE winner WHEN 'b' THEN 1 WHEN 'a' THEN -1 ELSE 0 END) AS net FROM ("
        "  SELECT CASE WHEN variant_a_id = $1 THEN variant_b_id ELSE variant_a_id END AS variant_b_id,"
        "         CASE WHEN variant_a_id = $1 OR winner NOT IN ('a', 'b') THEN winner WHEN winner = 'a' THEN 'b' ELSE 'a' END AS winner"
        "  FROM votes WHERE run_id = $2 AND blind AND $1 IN (variant_a_id, variant_b_id)"
        ") GROUP BY variant_b_id",
        [run.variants[0], run.id],
    ).set_index("variant_b_id")
    for place in board.candidates:
        expected = votes.loc[run.variants[place]]
        cases = board.cases
        assert board.votes("votes", place) == expected["n"]
        assert (cases[f"votes_gain_{place}"] * cases[f"votes_{place}"]).sum() == pytest.approx(expected["net"])
    means = store.sql(
        "SELECT variant_id, avg(checks) AS checks FROM answers WHERE run_id = ? GROUP BY variant_id", [run.id]
    )
    for place, variant in enumerate(run.variants):
        mean = means.loc[means["variant_id"] == variant, "checks"].item()
        assert board.cases[f"checks_{place}"].mean() == pytest.approx(mean)
    labels = store.sql("SELECT count(*) AS n FROM answers WHERE run_id = ? AND len(issues) > 0", [run.id])["n"][0]
    assert len(board.issues.drop_duplicates(["case_id", "place"])) == labels


def test_sentences_are_marked_that_no_other_text_has() -> None:
    pieces = texts.sentences("Same here. New one! On 24. May?\n- item", ["same  here. On 24. May?\n- other"])
    assert [piece.text for piece in pieces if piece.marked] == ["New one! ", "- item"]
    assert "".join(piece.text for piece in pieces) == "Same here. New one! On 24. May?\n- item"
    assert texts.sentences("", ["x"]) == []


def test_prompts_are_compared_by_word() -> None:
    pieces = texts.words("Be very brief. Say {{ input }}", "Be brief. Say {{ input }}")
    assert [piece.text for piece in pieces if piece.marked] == [" very"] or ["very "]
    assert "".join(piece.text for piece in pieces) == "Be very brief. Say {{ input }}"
    assert texts.words("wholly other words", "x: {{ y }}")[0].marked
    long = "word " * 40_000
    assert "".join(piece.text for piece in texts.words(long, long + "more")) == long


def test_facets_tell_what_differs() -> None:
    first = Variant(name="a", model="m:1", params={"temperature": 0}, prompt="p")
    second = Variant(
        name="b", model="m:1", params={"temperature": 0.7, "top_p": 1}, prompt=[{"role": "system", "content": "s"}]
    )
    differing = {facet.name: facet.texts for facet in texts.facets([first, second]) if facet.differs}
    assert differing == {"temperature": ("0", "0.7"), "top_p": ("not set", "1")}
    assert (texts.prompt(first), texts.prompt(second)) == ("p", "system: s")


@pytest.fixture
def page(monkeypatch, tmp_path) -> Callable[..., AppTest]:
    """Opens the page on a store, with these parameters in the URL."""
    monkeypatch.chdir(tmp_path)

    def opened(store: Path, **parameters: str) -> AppTest:
        monkeypatch.setenv("FEEDBACKLOOP_STORE", str(store))
        app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=30)
        for name, value in parameters.items():
            app.query_params[name] = value
        app = app.run().switch_page("feedbackloop/pages/compare.py").run()
        return checked(app)

    return opened


def checked(app: AppTest) -> AppTest:
    assert not app.exception, [error.value for error in app.exception]
    assert not app.error, [error.value for error in app.error]
    return app


def in_url(app: AppTest, name: str) -> str | None:
    value = app.query_params.get(name)
    return value[0] if isinstance(value, list) else value


def all_text(app: AppTest) -> str:
    kinds = (app.markdown, app.caption, app.text, app.info, app.warning, app.title)
    return (
        "\n".join(str(element.value) for elements in kinds for element in elements)
        .replace("\\", "")
        .replace("\u2060", "")
    )


def test_without_answers_the_page_says_so(page, tmp_path) -> None:
    assert "no answers" in all_text(page(tmp_path / "none.duckdb"))
    store = Store(tmp_path / "empty.duckdb")
    store.append([Task(name="t")])
    assert "no answers of this task yet" in all_text(page(tmp_path / "empty.duckdb"))


def test_one_variant_asks_for_a_second(page, tmp_path) -> None:
    made = making("A", 1)
    run = made.run()
    made.answer(made.ask(run, made.cases[0], made.variants[0]))
    made.store(tmp_path / "one.duckdb")
    assert "One variant only: add a second." in all_text(page(tmp_path / "one.duckdb"))


def test_several_runs_of_one_variant_are_compared_all_the_same(page, tmp_path) -> None:
    made = making("A", 1)
    for text in ("old", "new"):
        made.answer(made.ask(made.run(), made.cases[0], made.variants[0]), text)
    made.store(tmp_path / "one.duckdb")
    app = page(tmp_path / "one.duckdb")
    assert "One variant only: add a second. Until then its runs can be compared." in all_text(app)
    assert app.dataframe[0].value.iloc[0, 1:].tolist() == ["old", "new"]


def test_the_demo_shows_counts_and_the_worst_first(page, demo_file) -> None:
    app = page(demo_file)
    text = all_text(app)
    assert "Against terse, by blind votes:" in text
    assert "**27** better · **7** worse · **8** about the same · 6 not judged (49 votes)" in text
    frame = app.dataframe[0].value
    assert len(frame) == 48
    assert frame.iloc[0, 1:].str.contains("worse").any()
    assert "worse" not in " ".join(frame.iloc[-1])


@pytest.mark.parametrize("kind", ["variants", "runs", "versions"])
def test_columns_are_variants_runs_or_versions(page, demo_file, kind) -> None:
    app = page(demo_file, columns=kind)
    assert in_url(app, "columns") == kind
    headings = {"variants": "Variants in the run of", "runs": "Runs of **terse**", "versions": "Versions of **steps**"}
    assert headings[kind] in all_text(app)
    assert len(app.dataframe[0].value) == 48


def test_a_link_names_run_variant_issue_segment_and_status(page, demo_file) -> None:
    store = Store(demo_file)
    run = shown.task_runs(store, "demo-support")[0]
    board = table.board(store, [Column(run.id, variant) for variant in run.variants])
    careless = run.variants[2]
    expected = board.select("votes", Filters(column=2, issue="invented fact"))
    assert expected
    app = page(demo_file, variant=careless, issue="invented fact")
    assert len(app.dataframe[0].value) == len(expected)
    assert len(page(demo_file, segment=board.segments()[0]).dataframe[0].value) == len(
        board.select("votes", Filters(segment=board.segments()[0]))
    )
    assert "No case passes these filters." in all_text(page(demo_file, status="failed"))
    older = shown.task_runs(store, "demo-support")[2]
    assert page(demo_file, run=older.id).selectbox(key="compare-run").value == older.id


def test_what_a_link_names_wrongly_is_passed_over(page, demo_file) -> None:
    app = page(
        demo_file, run="no-run", variant="no-variant", columns="no-kind", status="no-status", by="nothing", shown="x"
    )
    assert len(app.dataframe[0].value) == 48
    assert "no such case" in all_text(page(demo_file, case="no-case"))


def test_filters_chosen_on_the_page_stand_in_the_url(page, demo_file) -> None:
    app = page(demo_file)
    app = checked(app.segmented_control(key="compare-by").set_value("checks").run())
    assert in_url(app, "by") == "checks"
    app = checked(app.segmented_control(key="compare-status").set_value("worse").run())
    assert in_url(app, "status") == "worse"
    worse = len(app.dataframe[0].value)
    assert 0 < worse < 48
    app = checked(app.text_input(key="compare-find").set_value("xyzzy nowhere").run())
    assert "No case passes these filters." in all_text(app)
    app = checked(next(button for button in app.button if button.label == "Take the filters off").click().run())
    assert len(app.dataframe[0].value) == 48


def test_an_opened_case_shows_everything_and_moves_on(page, demo_file, tmp_path) -> None:
    shutil.copy(demo_file, tmp_path / "demo.duckdb")
    store = Store(tmp_path / "demo.duckdb")
    run = shown.task_runs(store, "demo-support")[0]
    ids = table.board(store, [Column(run.id, v) for v in run.variants]).select("votes", Filters())
    app = page(store.path, case=ids[0], rater="Dora")
    text = all_text(app)
    assert "1 of 48" in text
    for part in ("Inputs", "Expected", "contains: passed", "contains: failed", "invented fact", "votes", "tokens"):
        assert part in text, part
    assert app.button(key="compare-before").disabled
    app = checked(app.button(key="compare-after").click().run())
    assert in_url(app, "case") == ids[1]
    exposed = store.load(Exposure, "SELECT * FROM exposures WHERE rater = 'Dora' ORDER BY created_at")
    assert [exposure.case_id for exposure in exposed] == ids[:2]
    assert {len(exposure.response_ids) for exposure in exposed} == {3}
    app = checked(app.button(key="compare-back").click().run())
    assert in_url(app, "case") is None
    assert len(app.dataframe[0].value) == 48


def test_nobody_is_exposed_whose_name_is_unknown(page, demo_file, tmp_path) -> None:
    shutil.copy(demo_file, tmp_path / "demo.duckdb")
    store = Store(tmp_path / "demo.duckdb")
    case = store.sql("SELECT case_id FROM answers LIMIT 1")["case_id"][0]
    app = page(store.path, case=case)
    assert store.sql("SELECT count(*) AS n FROM exposures")["n"][0] == 0
    app = checked(app.text_input(key="compare-name").set_value("Dora").run())
    assert in_url(app, "rater") == "Dora"
    assert store.sql("SELECT count(*) AS n FROM exposures")["n"][0] == 1


def test_votes_issues_and_corrections_are_stored_as_not_blind(page, demo_file, tmp_path) -> None:
    shutil.copy(demo_file, tmp_path / "demo.duckdb")
    store = Store(tmp_path / "demo.duckdb")
    run = shown.task_runs(store, "demo-support")[0]
    case = table.board(store, [Column(run.id, v) for v in run.variants]).select("votes", Filters())[0]
    app = page(store.path, case=case, rater="Dora")
    app = checked(app.button(key="compare-vote-1-b").click().run())
    app = checked(app.button(key="compare-vote-1-tie").click().run())
    votes = store.sql("SELECT winner, blind, variant_b FROM votes WHERE rater = 'Dora'")
    assert votes.to_numpy().tolist() == [["tie", False, "steps"]]

    opened = shown.opened(store, [Column(run.id, v) for v in run.variants], case)
    assert opened is not None
    response = opened.answers[1][0].response
    app = checked(app.button(key=f"compare-label-{response.id}-1").click().run())
    labels = store.load(Rating, "SELECT * FROM current_ratings WHERE rater = 'Dora'")
    assert [(r.metric, r.label, r.blind, r.response_id) for r in labels] == [
        ("issue", "wrong tone", False, response.id)
    ]
    app = checked(app.button(key=f"compare-unlabel-{response.id}-1").click().run())
    assert not store.load(Rating, "SELECT * FROM current_ratings WHERE rater = 'Dora'")

    app = checked(app.button(key=f"compare-correct-{response.id}").click().run())
    app.text_area(key=f"compare-text-{response.id}").set_value("As it should be.")
    app = checked(app.button(key=f"compare-save-{response.id}").click().run())
    corrected = store.load(Rating, "SELECT * FROM current_ratings WHERE rater = 'Dora'")
    assert [(r.metric, r.correction, r.blind) for r in corrected] == [("correction", "As it should be.", False)]
    assert "As it should be." in all_text(app)


def test_the_cases_that_the_filters_leave_go_to_a_queue(page, demo_file, tmp_path) -> None:
    shutil.copy(demo_file, tmp_path / "demo.duckdb")
    store = Store(tmp_path / "demo.duckdb")
    run = shown.task_runs(store, "demo-support")[0]
    worse = table.board(store, [Column(run.id, v) for v in run.variants]).select("votes", Filters(outcome="worse"))
    app = page(store.path, status="worse")
    app = checked(app.button(key="send").click().run())
    app = checked(app.button(key="send-open").click().run())
    (queue,) = store.load(Queue, "SELECT * FROM queues")
    assert sorted(queue.cases) == sorted(worse)
    assert (queue.variants, queue.runs, queue.purpose, queue.blind) == (run.variants, [run.id], "leaderboard", True)


def edges(path: Path) -> Made:
    """Everything that is odd at once: failures, gaps, repeats, no figures, long and blank texts, several attempts, all in one run."""
    made = making("AB", 7)
    a, b = made.variants
    run = made.run(repeats=3)
    requests = {case.id: [made.ask(run, case, variant) for variant in (a, b)] for case in made.cases}
    made.answer(requests[made.cases[0].id][0], None)
    made.answer(requests[made.cases[0].id][1], None)
    made.answer(requests[made.cases[1].id][0], "x" * 65_477)
    made.answer(requests[made.cases[1].id][1], "   \n\t ")
    for repeat in (1, 2):
        made.answer(made.ask(run, made.cases[2], b, repeat=repeat), f"again {repeat}")
    made.answer(requests[made.cases[2].id][1], None)
    failed = Attempt(model="m:A", start=START, error_type="RateLimited", error="429 ![x](http://example.com/y.png)")
    good = Attempt(model="m:other", start=START, latency_ms=12.0)
    made.answer(
        requests[made.cases[3].id][0],
        "by a fallback",
        model_used="m:other",
        attempts=[failed, good],
        cached=True,
        latency_ms=12.0,
    )
    odd = made.answer(
        requests[made.cases[3].id][1],
        "# Title\n\n| a | b |\n|---|---|\n| 1 | 2 |",
        finish_reason="length",
        cost_usd=0.0,
    )
    made.check(odd, None, error="ZeroDivisionError: division by zero")
    made.check(odd, None, metric="kind", label="verbose", reason="It goes on and on.")
    made.check(odd, 0.37, metric="likeness")
    made.check(odd, None, metric="comment", comment="Hm.", rater="Ben", rater_kind="human")
    made.vote(odd, odd, "both_bad", comment="Neither <b>works</b>")
    cases = list(made.cases)
    cases[4] = cases[4].model_copy(update={"inputs": {"a": "x", "b": {"deep": [1, 2]}}, "expected": {"k": [1]}})
    cases[5] = cases[5].model_copy(
        update={
            "inputs": {},
            "messages": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
            ],
            "context": ["a document", {"title": "T", "text": "another"}, {"no": "text"}],
        }
    )
    cases[6] = cases[6].model_copy(update={"inputs": {"input": ""}, "expected": "", "segment": None})
    made.cases = tuple(cases)
    made.store(path)
    return made


def test_the_table_shows_odd_cases_without_a_crash(page, tmp_path) -> None:
    edges(tmp_path / "odd.duckdb")
    frame = page(tmp_path / "odd.duckdb").dataframe[0].value
    cells = set(frame["text_0"]) | set(frame["text_1"])
    assert {"(failed: ProviderTimeout)", "(no answer)", "(blank)"} <= cells


@pytest.mark.parametrize("number", range(7))
@pytest.mark.parametrize("rater", ["", "Dora"])
def test_odd_cases_open_without_a_crash(page, tmp_path, number, rater) -> None:
    made = edges(tmp_path / "odd.duckdb")
    app = page(tmp_path / "odd.duckdb", case=made.cases[number].id, **({"rater": rater} if rater else {}))
    assert "Inputs" in all_text(app)
    for toggle in ("compare-markdown", "compare-marks"):
        app = checked(app.toggle(key=toggle).set_value(True).run())


def test_repeats_can_be_chosen(page, tmp_path) -> None:
    made = edges(tmp_path / "odd.duckdb")
    app = page(tmp_path / "odd.duckdb", case=made.cases[2].id)
    assert "ProviderTimeout: too slow" in all_text(app)
    app = checked(app.segmented_control(key=f"compare-repeat-1-{made.cases[2].id}").set_value(3).run())
    assert "again 2" in all_text(app)


def test_only_a_page_of_rows_is_fetched(page, tmp_path) -> None:
    big_store.make(tmp_path / "big.duckdb", answers=1000, variants=2, comparisons=50)
    app = page(tmp_path / "big.duckdb")
    assert len(app.dataframe[0].value) == 200
    assert "All 500" in str(app.segmented_control(key="compare-status").options)


def test_every_case_of_a_board_passes_some_outcome(known) -> None:
    board = known.board
    for measure in (*board.measures(), None):
        found = [board.select(measure, replace(Filters(column=1), outcome=outcome)) for outcome in table.OUTCOMES]
        assert set().union(*map(set, found)) == set(board.cases["case_id"])


def test_the_demo_task_has_a_baseline(demo_file) -> None:
    assert queries.baseline(Store(demo_file), "demo-support") is not None


def two_runs(path: Path) -> tuple[Made, list[Run]]:
    """An older run of all three variants, and a newer one in which the baseline, A, took no part."""
    made = making()
    a, b, c = made.variants
    runs = [made.run((a, b, c)), made.run((b, c))]
    for run, variants in zip(runs, ((a, b, c), (b, c)), strict=True):
        for case in made.cases:
            for variant in variants:
                made.answer(made.ask(run, case, variant))
    made.store(path)
    return made, runs


def linked(app: AppTest) -> dict[str, str]:
    """What the link that can be copied asks for."""
    return dict(parse_qsl(app.code[-1].value.partition("?")[2]))


def test_the_address_changes_only_by_what_is_chosen(page, tmp_path) -> None:
    made, (older, newer) = two_runs(tmp_path / "two.duckdb")
    (_, b, c) = (variant.id for variant in made.variants)
    for asked in ({}, {"run": newer.id}, {"variant": b}, {"columns": "variants", "shown": f"{b},{c}"}):
        app = page(tmp_path / "two.duckdb", **asked)
        assert {name: in_url(app, name) for name in app.query_params} == asked
        # A link that is copied leads to the same when there are newer runs and another default.
        copied = linked(app)
        assert (copied["run"], copied["shown"]) == (newer.id, f"{b},{c}")
        assert (copied["task"], copied["baseline"], copied["columns"]) == ("t", "A", "variants")
    app = checked(page(tmp_path / "two.duckdb").selectbox(key="compare-run").set_value(older.id).run())
    assert in_url(app, "run") == older.id
    app = checked(app.selectbox(key="compare-run").set_value(newer.id).run())
    assert "run" not in app.query_params


def test_the_columns_stay_as_they_were_opened(page, tmp_path) -> None:
    made, (_, newer) = two_runs(tmp_path / "two.duckdb")
    app = page(tmp_path / "two.duckdb")
    made.records.clear()
    last = made.run()
    made.answer(made.ask(last, made.cases[0], made.variants[0]))
    Store(tmp_path / "two.duckdb").append(made.records)
    # Neither a newer run nor a filter that only the older run has something of leads elsewhere.
    app = checked(app.selectbox(key="compare-variant").set_value(made.variants[0].id).run())
    assert (app.selectbox(key="compare-run").value, "run" in app.query_params) == (newer.id, False)
    assert page(tmp_path / "two.duckdb").selectbox(key="compare-run").value == last.id


@pytest.mark.parametrize("kind", ["runs", "versions"])
def test_a_copied_link_names_runs_and_versions(page, demo_file, kind) -> None:
    app = page(demo_file, columns=kind)
    again = page(demo_file, **linked(app))
    assert again.dataframe[0].value.equals(app.dataframe[0].value)
    assert linked(again) == linked(app)
    assert kind in linked(app)


def test_the_heading_names_the_run_that_was_chosen(page, tmp_path) -> None:
    _, (older, newer) = two_runs(tmp_path / "two.duckdb")
    text = all_text(page(tmp_path / "two.duckdb", run=newer.id))
    names = columns_of_page._run_names([newer, older])
    assert f"Variants in the run of **{names[newer.id]}**" in text
    # The one column that is of another run says so itself.
    assert f"Against A ({names[older.id]})" in text
    assert f"({names[newer.id]})" not in text


def test_a_link_to_what_is_not_there_says_so_until_something_is_chosen(page, tmp_path) -> None:
    made, (older, newer) = two_runs(tmp_path / "two.duckdb")
    (_, b, c) = (variant.id for variant in made.variants)
    app = page(tmp_path / "two.duckdb", run="*none*", shown=f"{b},nobody")
    name = columns_of_page._run_names([newer, older])[newer.id]
    said = [warning.value.replace("\\", "").replace("\u2060", "") for warning in app.warning]
    assert said[0] == f"This task has no run '*none*'; showing {name}."
    assert said[1].startswith("This task has no variant 'nobody'; showing A (")
    assert "*none*" not in app.warning[0].value
    assert in_url(app, "run") == "*none*"
    app = checked(app.selectbox(key="compare-run").set_value(older.id).run())
    app = checked(app.multiselect(key="compare-shown").set_value([c]).run())
    assert not app.warning
    assert (in_url(app, "run"), in_url(app, "shown")) == (older.id, c)


def test_turning_to_a_page_of_the_table_warns_of_nothing(page, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(policies, "_shown_default_value_warning", False)
    big_store.make(tmp_path / "big.duckdb", answers=1000, variants=2, comparisons=50)
    app = page(tmp_path / "big.duckdb")
    second = page_of(tmp_path / "big.duckdb")
    app.query_params["case"] = second
    app = checked(app.run())
    app = checked(app.button(key="compare-back").click().run())
    assert app.session_state["compare-page"] == 2
    app = checked(app.text_input(key="compare-find").set_value("xyzzy nowhere").run())
    app = checked(app.text_input(key="compare-find").set_value("").run())
    assert app.session_state["compare-page"] == 1
    assert not policies._shown_default_value_warning


def page_of(path: Path) -> str:
    """A case that stands on the table's second page."""
    store = Store(path)
    run = shown.task_runs(store, queries.tasks(store)[0])[0]
    board = table.board(store, [Column(run.id, variant) for variant in run.variants])
    return board.select(board.measures()[0], Filters())[250]
