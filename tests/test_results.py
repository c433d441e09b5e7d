"""What votes amount to: against tables worked out by hand, in words, and where there is little or nothing to say."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from datetime import timedelta

import big_store
import pytest
from votes_store import START, Votes, make

import feedbackloop as fl
from feedbackloop.errors import StoreError, UnknownName
from feedbackloop.findings import results, sentence, wording
from feedbackloop.findings.verdict import Raters
from feedbackloop.models import AIRequest, AIResponse, Case, ProcessingStatus
from feedbackloop.stats.interval import Interval
from feedbackloop.wording import dollars


@pytest.fixture
def pair(tmp_path) -> Votes:
    """Two variants, terse and steps, with 40 answers each and no votes."""
    return make(tmp_path / "loop.duckdb")


def decided(wins: int, losses: int, ties: int = 0, both_bad: int = 0) -> list[str]:
    return ["b"] * wins + ["a"] * losses + ["tie"] * ties + ["both_bad"] * both_bad


# ---- the sentence


def test_a_clear_result_says_who_by_how_much_and_whose_taste(pair) -> None:
    # Worked out by hand: (24 + 8/2)/40 = 70 %; plus-four: m = 30/44, q = 28/44, SE = sqrt((q - m^2)/44) = 0.06243.
    pair.votes("terse", "steps", decided(24, 8, 5, 3))
    found = results(pair.store)
    (row,) = found.rows
    assert found.sentence == "steps is preferred to terse in 70% of comparisons (56 to 80; 40 votes; Anna)"
    assert (row.wins, row.losses, row.ties, row.both_bad, row.votes) == (24, 8, 5, 3, 40)
    assert row.win_rate.estimate == pytest.approx(0.7)
    assert row.win_rate.lower == pytest.approx(0.559458, abs=1e-5)
    assert row.win_rate.upper == pytest.approx(0.804179, abs=1e-5)
    assert row.both_bad_rate.estimate == pytest.approx(3 / 40)
    assert "One rater: this is the taste of Anna." in found.verdict.notes


def test_the_side_of_the_record_does_not_matter(pair, tmp_path) -> None:
    pair.votes("terse", "steps", decided(24, 8, 5, 3))
    other = make(tmp_path / "other.duckdb")
    turned = {"a": "b", "b": "a"}
    other.votes("steps", "terse", [turned.get(word, word) for word in decided(24, 8, 5, 3)])
    assert results(other.store).rows[0].win_rate == results(pair.store).rows[0].win_rate


def test_a_better_baseline_is_named_first(pair) -> None:
    pair.votes("terse", "steps", decided(8, 24, 5, 3))
    said = results(pair.store).sentence
    assert said == "terse is preferred to steps in 70% of comparisons (56 to 80; 40 votes; Anna)"


def test_an_open_result_leaves_what_would_tell_to_the_decision(pair) -> None:
    """The gate plans for an interval that is looked at after every vote, by its rule: two numbers would contradict each other."""
    pair.votes("terse", "steps", decided(20, 16, 4))
    assert results(pair.store).sentence == "No difference shown yet: steps 55% against terse (41 to 69; 40 votes; Anna)"


def test_few_votes_are_counted_and_not_celebrated(pair) -> None:
    pair.votes("terse", "steps", decided(8, 2))
    said = results(pair.store).sentence
    assert said.startswith("Few votes yet: steps won 8 of 10 comparisons with terse and lost 2 (")
    assert said.endswith("%; Anna); rate 20 more pairs, 7 minutes")


def test_one_vote_is_no_result(pair) -> None:
    pair.votes("terse", "steps", ["b"])
    found = results(pair.store)
    assert found.sentence.startswith("Few votes yet: steps won 1 of 1 comparison with terse and lost 0 (")
    assert found.rows[0].win_rate.lower < 0.5 < found.rows[0].win_rate.upper


def test_only_ties_show_no_difference(pair) -> None:
    pair.votes("terse", "steps", ["tie"] * 40)
    found = results(pair.store)
    assert found.sentence.startswith("No difference shown yet: steps 50% against terse (")
    assert found.rows[0].win_rate.estimate == 0.5


def test_without_votes_it_says_what_to_do(pair) -> None:
    assert results(pair.store).sentence == "80 answers, no votes: rate 20 pairs, 7 minutes"


def test_few_cases_make_few_pairs(tmp_path) -> None:
    made = make(tmp_path / "loop.duckdb", cases=3)
    assert results(made.store).sentence == "6 answers, no votes: rate 3 pairs, 1 minute"


def test_the_pace_is_that_of_this_task(pair) -> None:
    pair.store.append([pair.vote(n, "terse", "steps", "b", seconds=120.0, blind=False) for n in range(3)])
    assert results(pair.store).sentence == "80 answers, no blind votes: rate 20 pairs, 40 minutes"


def test_one_variant_has_nothing_to_be_compared_with(tmp_path) -> None:
    made = make(tmp_path / "loop.duckdb", ["terse"])
    found = results(made.store)
    assert found.sentence == "One variant only, 40 answers: add a second to compare it with"
    assert found.rows == ()
    assert len(found.to_frame()) == 1


def test_a_task_that_is_only_described_has_no_answers(tmp_path) -> None:
    store = fl.Store(tmp_path / "loop.duckdb")
    store.append([fl.Task(name="support")])
    found = results(store)
    assert found.sentence == "No answers yet"
    assert found.baseline is None
    assert found.to_frame().empty
    assert "No answers yet" in found._repr_html_()


def test_of_several_candidates_the_best_is_the_sentence(tmp_path) -> None:
    made = make(tmp_path / "loop.duckdb", ["terse", "steps", "careless"])
    made.votes("terse", "careless", decided(5, 35))
    made.votes("terse", "steps", decided(30, 10), rater="Ben")
    found = results(made.store)
    assert found.sentence == "steps is preferred to terse in 75% of comparisons (60 to 86; 40 votes; Ben)"
    assert [row.player.label for row in found.rows] == ["steps", "careless"]
    assert found.verdict.notes[0].startswith("The others: careless 12% (")
    assert str(found.verdict.raters) == "Anna and Ben"


def test_a_candidate_with_few_votes_does_not_lead(tmp_path) -> None:
    made = make(tmp_path / "loop.duckdb", ["terse", "steps", "lucky"])
    made.votes("terse", "steps", decided(26, 14))
    made.votes("terse", "lucky", decided(3, 0))
    found = results(made.store)
    assert [row.player.label for row in found.rows] == ["steps", "lucky"]
    assert "lucky 100% (few votes yet, " in found.verdict.notes[0]


def test_a_baseline_that_was_never_compared_is_said_so(tmp_path) -> None:
    made = make(tmp_path / "loop.duckdb", ["terse", "steps", "careless"])
    made.votes("steps", "careless", decided(5, 35))
    assert results(made.store).sentence == "terse was never compared with the others: rate 20 pairs, 7 minutes"


def test_two_thirds_bad_are_not_passed_over(pair) -> None:
    pair.votes("terse", "steps", decided(12, 2, 0, 26))
    assert "In 65% of these comparisons both answers were bad." in results(pair.store).verdict.notes


# ---- which votes count


def test_only_blind_votes_count_and_the_others_are_said(pair) -> None:
    pair.votes("terse", "steps", decided(24, 16))
    pair.votes("terse", "steps", decided(0, 12), blind=False)
    found = results(pair.store)
    assert (found.rows[0].wins, found.rows[0].losses, found.rows[0].not_blind) == (24, 16, 12)
    assert "12 votes by raters who knew whose answers they saw: left out." in found.verdict.notes


def test_withdrawn_and_replaced_votes_do_not_count(pair) -> None:
    first, second, third = (pair.vote(case, "terse", "steps", "a") for case in range(3))
    changed = pair.vote(0, "terse", "steps", "b", supersedes=first.id)
    gone = pair.vote(1, "terse", "steps", None, supersedes=second.id)
    pair.store.append([first, second, third, changed, gone])
    row = results(pair.store).rows[0]
    assert (row.wins, row.losses) == (1, 1)


def test_kinds_of_raters_stand_apart(pair) -> None:
    pair.votes("terse", "steps", decided(24, 16))
    pair.votes("terse", "steps", decided(35, 5), rater="user-7", rater_kind="user")
    pair.votes("terse", "steps", decided(2, 38), rater="judge:better@3f2a", rater_kind="judge")
    assert results(pair.store).rows[0].wins == 24
    assert results(pair.store, rater_kind="user").sentence.endswith("40 votes; 1 end user)")
    assert results(pair.store, rater_kind="judge").sentence.endswith("40 votes; judged by judge:better@3f2a)")
    assert results(pair.store, rater_kind="grader").verdict.votes == 0


def test_another_metric_is_another_question(pair) -> None:
    pair.votes("terse", "steps", decided(24, 16))
    pair.votes("terse", "steps", decided(5, 5), metric="tone")
    assert results(pair.store, metric="tone").rows[0].votes == 10


def test_a_vote_belongs_to_the_time_of_its_answers(tmp_path) -> None:
    made = make(tmp_path / "loop.duckdb", runs=[["terse", "steps"], ["terse", "steps"]])
    made.votes("terse", "steps", decided(30, 10))
    made.votes("terse", "steps", decided(5, 35), run=1)
    found = results(made.store, since=START + timedelta(days=3))
    assert (found.rows[0].wins, found.rows[0].losses) == (5, 35)
    assert found.figures[0].answers == 40
    assert results(made.store, since=START + timedelta(days=300)).sentence == "No answers in this period"


def test_versions_of_a_name_are_apart_unless_asked(tmp_path) -> None:
    made = make(
        tmp_path / "loop.duckdb", ["terse", "steps", "steps:2"], runs=[["terse", "steps"], ["terse", "steps:2"]]
    )
    made.votes("terse", "steps", decided(10, 30))
    made.votes("terse", "steps:2", decided(30, 10), run=1)
    old, new = made.variants["steps"], made.variants["steps:2"]
    apart = results(made.store)
    assert [row.player.label for row in apart.rows] == [new.label, old.label]
    assert apart.sentence.startswith(f"{new.label} is preferred to terse in 75% of comparisons")
    assert f"steps has 2 versions, each counted by itself: {new.label} (newest), {old.label}." in apart.verdict.notes
    together = results(made.store, by="name")
    assert [(row.player.label, row.wins, row.losses) for row in together.rows] == [("steps", 40, 40)]
    assert together.rows[0].player.versions == (new.id, old.id)
    assert together.rows[0].player.variant_id == new.id


def test_one_version_against_another_can_be_asked(tmp_path) -> None:
    made = make(tmp_path / "loop.duckdb", ["steps", "steps:2"])
    made.votes("steps", "steps:2", decided(30, 10))
    old, new = made.variants["steps"], made.variants["steps:2"]
    found = results(made.store, baseline=old.label)
    assert found.sentence.startswith(f"{new.label} is preferred to {old.label} in 75%")
    assert results(made.store, baseline=old.id).sentence == found.sentence
    # Together they are one, and one is not compared with itself.
    assert results(made.store, by="name", baseline=old.label).verdict.votes == 0


def test_whoever_is_unknown_is_named(pair) -> None:
    with pytest.raises(UnknownName, match="no variant 'stepps' in this task; did you mean 'steps'"):
        results(pair.store, baseline="stepps")
    with pytest.raises(UnknownName, match="no task 'suport'"):
        results(pair.store, task="suport")


def test_looking_makes_no_store(tmp_path) -> None:
    with pytest.raises(StoreError, match="no such store yet"):
        results(fl.Store(tmp_path / "none.duckdb"))
    assert not list(tmp_path.iterdir())


# ---- whose taste


def test_cases_rated_twice_are_not_two_independent_cases(pair) -> None:
    pair.votes("terse", "steps", decided(24, 16))
    once = results(pair.store).rows[0].win_rate
    pair.votes("terse", "steps", decided(24, 16), rater="Ben")
    twice = results(pair.store).rows[0].win_rate
    assert (once.clusters, twice.clusters, twice.n) == (40, 40, 80)
    assert twice.half_width == pytest.approx(once.half_width, rel=0.03)


def test_raters_like_these_need_five(pair) -> None:
    for rater in ("Anna", "Ben", "Cleo", "Dora"):
        pair.votes("terse", "steps", decided(24, 16), rater=rater)
    four = results(pair.store, scope="raters like these")
    assert four.rows[0].win_rate.scope == "these raters"
    assert "Fewer than five raters: the interval speaks of these raters only." in four.verdict.notes
    pair.votes("terse", "steps", decided(34, 6), rater="Emil")
    five = results(pair.store, scope="raters like these")
    assert five.rows[0].win_rate.scope == "raters like these"
    assert "raters like Anna, Ben, Cleo, Dora and Emil)" in five.sentence
    narrow = results(pair.store).rows[0].win_rate
    assert five.rows[0].win_rate.half_width > narrow.half_width
    assert five.rows[0].win_rate.estimate == pytest.approx(narrow.estimate)


def test_raters_are_named_while_they_are_few() -> None:
    assert str(Raters(2, ("Ben", "Anna"))) == "Anna and Ben"
    assert str(Raters(9, ("Ben", "Anna", "Cleo"))) == "Ben, Anna, Cleo and 6 others"
    assert str(Raters(1204, ("u1",), "user")) == "1,204 end users"
    assert str(Raters(0)) == "nobody"


# ---- figures, checks, ratings, issues, segments


def test_cost_and_latency_have_intervals_and_say_what_has_no_price(tmp_path) -> None:
    made = make(tmp_path / "loop.duckdb", costs={"terse": 0.002, "steps": None})
    found = {one.player.label: one for one in results(made.store).figures}
    assert found["terse"].cost_usd.estimate == pytest.approx(0.002)
    assert found["terse"].latency_p50_ms.estimate == pytest.approx(119.5)
    # Of 40 values the 14th and the 27th bound the median.
    assert (found["terse"].latency_p50_ms.lower, found["terse"].latency_p50_ms.upper) == (113.0, 126.0)
    assert math.isinf(found["terse"].latency_p95_ms.upper)
    assert (found["steps"].unpriced, found["steps"].cost_usd.estimate) == (40, None)
    assert wording.cost(found["steps"].cost_usd, found["steps"].unpriced) == "unknown, 40 unpriced"


def test_of_a_cell_that_was_asked_again_the_newest_completed_answer_counts(pair) -> None:
    case, variant, run = pair.cases[0], pair.variants["terse"], pair.runs[0]
    later = START + timedelta(hours=1)
    asked = [
        AIRequest(input="", task="support", run_id=run.id, case_id=case.id, variant_id=variant.id, created_at=later)
        for _ in range(2)
    ]
    completed = AIResponse(
        request_id=asked[0].id, output="x", model_used="m", latency_ms=9.0, cost_usd=1.0, created_at=later
    )
    failed = AIResponse(
        request_id=asked[1].id,
        output="",
        model_used="none",
        status=ProcessingStatus.FAILED,
        created_at=later + timedelta(hours=1),
    )
    pair.store.append([*asked, completed, failed])
    found = next(one for one in results(pair.store).figures if one.player.label == "terse")
    assert (found.answers, found.failed) == (40, 0)
    assert found.cost_usd.estimate == pytest.approx((39 * 0.001 + 1.0) / 40)


def test_cached_answers_are_left_out_of_latency(pair) -> None:
    copy = pair.answers[0, 0, "terse"].model_copy(update={"id": "copy", "cached": True, "latency_ms": 9_999.0})
    request = AIRequest(
        input="", task="support", run_id="other", case_id=pair.cases[0].id, variant_id=pair.variants["terse"].id
    )
    pair.store.append([request, copy.model_copy(update={"request_id": request.id})])
    found = next(one for one in results(pair.store).figures if one.player.label == "terse")
    assert (found.answers, found.cached, found.latency_p50_ms.n, found.cost_usd.n) == (41, 1, 40, 40)


def test_checks_are_means_by_case_and_their_newest_version_counts(pair) -> None:
    early, late = START + timedelta(days=1), START + timedelta(days=2)
    pair.store.append(
        [
            pair.rate(n, "terse", "ok", value=float(n < 30), rater="ok@1", rater_kind="grader", created_at=late)
            for n in range(40)
        ]
    )
    found = results(pair.store)
    assert found.checks_of(pair.variants["terse"].id).mean.estimate == pytest.approx(0.75)
    assert [row.metric for row in found.checks.rows] == ["ok"]
    pair.store.append(
        [pair.rate(n, "terse", "ok", value=0.0, rater="ok@0", rater_kind="grader", created_at=early) for n in range(40)]
    )
    pair.store.append(
        [
            pair.rate(n, "terse", "short", value=1.0, rater="short@1", rater_kind="grader", created_at=late)
            for n in range(40)
        ]
    )
    found = results(pair.store)
    assert {row.metric for row in found.checks.rows} == {"ok@0", "ok@1", "short"}
    overall = found.checks_of(pair.variants["terse"].id).mean
    assert overall.estimate == pytest.approx((30 + 40) / 80)
    assert overall.clusters == 40
    assert sentence.of_checks(found.checks).startswith("Checks passed: terse 88% (")


def test_checks_that_answer_in_words_are_shares_and_errors_are_counted(pair) -> None:
    pair.store.append(
        [
            *(pair.rate(n, "terse", "tone", label="formal", rater="tone@1", rater_kind="grader") for n in range(3)),
            pair.rate(3, "terse", "tone", label="warm", rater="tone@1", rater_kind="grader"),
            pair.rate(4, "terse", "tone", error="boom", rater="tone@1", rater_kind="grader"),
        ]
    )
    found = results(pair.store).checks
    assert {row.metric: row.mean.estimate for row in found.rows} == {"tone: formal": 0.75, "tone: warm": 0.25}
    assert found.errors == 1
    assert found.overall == ()


def test_ratings_know_their_scale(tmp_path) -> None:
    made = make(tmp_path / "loop.duckdb", criteria=["clarity"])
    made.store.append(
        [
            *(made.rate(n, "steps", "clarity", value=1.0 + n % 5) for n in range(40)),
            *(made.rate(n, "steps", "thumbs", value=float(n % 4 > 0)) for n in range(40)),
            *(made.rate(n, "steps", "words", value=80.0 + n) for n in range(40)),
            made.rate(0, "terse", "thumbs", value=0.0, blind=False),
        ]
    )
    found = {row.metric: row for row in results(made.store).ratings.rows}
    assert {name: row.scale for name, row in found.items()} == {
        "clarity": (1.0, 5.0),
        "thumbs": (0.0, 1.0),
        "words": None,
    }
    assert found["clarity"].mean.estimate == pytest.approx(3.0)
    assert found["thumbs"].mean.estimate == pytest.approx(0.75)
    assert wording.score(found["words"].mean, None).startswith("99.5 (")


def test_issues_are_answers_and_not_labels(pair) -> None:
    pair.votes("terse", "steps", decided(20, 0))
    pair.store.append(
        [
            pair.rate(0, "terse", "issue", label="too long"),
            pair.rate(0, "terse", "issue", label="too long", rater="Ben"),
            pair.rate(1, "terse", "issue", label="too long"),
            pair.rate(2, "terse", "issue", label="wrong tone", blind=False),
        ]
    )
    found = {issue.label: issue for issue in results(pair.store).issues}
    assert (found["too long"].answers, found["too long"].judged) == (2, 20)
    assert found["too long"].share.estimate == pytest.approx(0.1)
    assert (found["wrong tone"].answers, found["wrong tone"].open_answers) == (0, 1)


def test_segments_begin_with_the_greatest_loser(tmp_path) -> None:
    made = make(tmp_path / "loop.duckdb", segments=["invoices", "returns"])
    made.votes("terse", "steps", ["b" if case % 2 else "a" for case in range(40)])
    found = results(made.store)
    assert [(row.segment, row.wins, row.losses) for row in found.segments] == [("invoices", 0, 20), ("returns", 20, 0)]
    # The correction of a case moves its votes along.
    made.store.append(
        [Case(**made.cases[0].model_dump() | {"segment": "returns", "created_at": START + timedelta(days=1)})]
    )
    assert [(row.segment, row.wins, row.losses) for row in results(made.store).segments] == [
        ("invoices", 0, 19),
        ("returns", 20, 1),
    ]


def test_cases_of_one_kind_have_no_segments(pair) -> None:
    pair.votes("terse", "steps", decided(24, 16))
    assert results(pair.store).segments == ()


# ---- ratings from all comparisons


def test_four_variants_are_ranked_and_three_are_not(tmp_path) -> None:
    names = ["terse", "steps", "careless", "wordy"]
    made = make(tmp_path / "loop.duckdb", names)
    made.votes("terse", "steps", decided(30, 10))
    made.votes("terse", "careless", decided(10, 30))
    assert results(made.store).ranking is None
    made.votes("steps", "wordy", decided(15, 25))
    found = results(made.store).ranking
    assert [row.player.label for row in found.rows] == ["steps", "wordy", "terse", "careless"]
    assert all(row.remarks == () for row in found.rows)


def test_remarks_are_words(tmp_path) -> None:
    made = make(tmp_path / "loop.duckdb", ["terse", "steps", "careless", "wordy", "shy", "calm"])
    made.votes("terse", "steps", decided(40, 0))
    made.votes("terse", "careless", decided(20, 20))
    made.votes("wordy", "shy", decided(3, 2))
    found = {row.player.label: row.remarks for row in results(made.store).ranking.rows}
    assert found["steps"] == ("never compared with shy: rate 10 pairs", "won everything so far")
    assert found["wordy"] == ("few votes yet", "never compared with steps: rate 10 pairs")
    assert "calm" not in found


def test_the_side_is_looked_at(pair) -> None:
    pair.store.append(
        [pair.vote(case, "terse", "steps", "b" if case < 24 else "a", a_shown_left=case % 2 == 0) for case in range(40)]
    )
    found = results(pair.store).verdict
    # Left was chosen where terse (a) stood left and won, and where steps stood left and won: 8 and 12 of 40.
    assert found.left.estimate == pytest.approx(20 / 40)
    assert sentence.about_ties(found)[1].endswith("of 40 decided votes: no sign that the side mattered.")


def test_side_unknown_is_said(pair) -> None:
    pair.votes("terse", "steps", decided(24, 16))
    assert (
        sentence.about_ties(results(pair.store).verdict)[1]
        == "On which side an answer stood is not known of these votes."
    )


# ---- as an object


def test_the_frame_has_a_row_per_variant_the_baseline_first(demo_file) -> None:
    frame = results(fl.Store(demo_file)).to_frame()
    assert frame["variant"].tolist()[0] == "terse"
    assert frame["baseline"].tolist() == [True, False, False, False]
    assert frame["votes"].tolist() == [0, 49, 53, 34]
    assert frame.loc[1, "win_rate"] == pytest.approx((33 + 3.5) / 49)
    assert (frame["latency_p50_ms_lower"] < frame["latency_p50_ms"]).all()


def test_the_demo_says_that_the_new_prompt_is_better(demo_file) -> None:
    found = results(fl.Store(demo_file))
    label = found.rows[0].player.label
    assert found.sentence == f"{label} is preferred to terse in 74% of comparisons (61 to 83; 49 votes; Anna and Ben)"
    assert repr(found).splitlines()[0] == found.sentence
    assert found.issues[0].label == "incomplete"
    assert found.segments[0].segment == "extraction"


def test_what_people_wrote_stays_text_in_a_notebook(tmp_path) -> None:
    bad = "<img src=x onerror=alert(1)>"
    made = make(tmp_path / "loop.duckdb", ["terse", bad])
    made.votes("terse", bad, decided(24, 16), rater="<script>alert(2)</script>")
    html = results(made.store)._repr_html_()
    assert "<img" not in html
    assert "<script" not in html
    assert "&lt;img src=x" in html


def test_long_names_are_cut_and_lines_joined(tmp_path) -> None:
    made = make(tmp_path / "loop.duckdb", ["terse", "a\nb" + "x" * 200])
    made.votes("terse", "a\nb" + "x" * 200, decided(24, 8, 8), rater="R" * 99)
    said = results(made.store).sentence
    assert "\n" not in said
    assert len(said) < 220


def test_figures_are_rounded_to_what_they_can_bear() -> None:
    def interval(estimate: float, lower: float, upper: float) -> Interval:
        return Interval(estimate, lower, upper, 0.1, 10, 10, "plus-four")

    assert wording.rate(interval(0.634, 0.55, 0.71)) == "63% (55 to 71)"
    assert wording.rate(interval(0.5034, 0.5012, 0.5051)) == "50.3% (50.1 to 50.5)"
    assert wording.percent(0.9996) == "over 99%"
    assert wording.percent(0.0004) == "under 1%"
    assert wording.percent(1.0) == "100%"
    assert wording.duration(400) == "7 minutes"
    assert wording.duration(3) == "1 minute"
    assert wording.duration(9000) == "2.5 hours"
    assert dollars(0.000128) == "$0.00013"
    assert (
        wording.latency(Interval(900.0, 800.0, math.inf, None, 10, 10, "order statistics")) == "900 ms (800 ms or more)"
    )


def test_every_one_of_a_hundred_thousand_votes_counts(tmp_path) -> None:
    store = big_store.make(tmp_path / "big.duckdb", answers=100_000, comparisons=100_000)
    found = results(store)
    assert found.verdict.votes == 100_000


def test_results_do_not_change_the_demo(demo_file, tmp_path) -> None:
    copy = tmp_path / "demo.duckdb"
    shutil.copy(demo_file, copy)
    store = fl.Store(copy)
    before = store.version
    results(store)
    assert store.version == before


def test_results_can_be_called_whatever_was_imported_before() -> None:
    # `feedbackloop.findings` is a folder too: whoever imports it first must not take the function's place.
    code = "import feedbackloop as fl\n{}\nfl.plots.forest(fl.results(fl.Store('none.duckdb')))"
    started = [
        subprocess.Popen([sys.executable, "-c", code.format(before)], stderr=subprocess.PIPE, text=True)
        for before in ("fl.plots", "fl.results", "from feedbackloop.findings import trends")
    ]
    for complaint in [process.communicate()[1] for process in started]:
        assert "none.duckdb: there is no such store yet" in complaint, complaint
