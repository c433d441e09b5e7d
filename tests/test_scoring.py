"""What the checks of one answer come to."""

from __future__ import annotations

from datetime import timedelta

import pytest
from engines import ask
from fakes import answer
from hypothesis import given, settings
from hypothesis import strategies as st

from feedbackloop.graders import Grader, create, score
from feedbackloop.identity import utcnow
from feedbackloop.models import Case, Rating
from feedbackloop.pipeline.grading import grade


def rated(grader: Grader, value=None, **fields) -> Rating:
    fields = {"metric": grader.name, "rater": grader.rater, "rater_kind": "grader", **fields}
    return Rating(response_id="r", value=value, **fields)


def checks(*specs) -> list[Grader]:
    return [create(spec) for spec in specs]


@pytest.mark.parametrize(
    ("specs", "values", "total", "passed"),
    [
        (["json_valid"], [1], 1.0, True),
        (["json_valid"], [0], 0.0, False),
        ([{"contains": "a"}, "json_valid"], [1, 0], 0.5, False),
        ([{"contains": "a", "weight": 3}, "json_valid"], [1, 0], 0.75, False),
        ([{"contains": "a"}, {"json_valid": None, "weight": 0}], [1, 0], 1.0, True),
        ([{"json_valid": None, "weight": 0}], [0], None, None),
        ([{"contains": "a"}, {"json_valid": None, "weight": 0, "required": True}], [1, 0], 1.0, False),
        (["rouge_l"], [0.5], 0.5, True),
        (["rouge_l"], [0.49], 0.49, False),
        ([{"rouge_l": "x", "threshold": 0.8}], [0.7], 0.7, False),
        ([{"not_rouge_l": "x", "threshold": 0.8}], [0.3], 0.3, True),
        ([{"not_rouge_l": "x", "threshold": 0.8}], [0.1], 0.1, False),
        ([{"contains": "a"}, "json_valid"], [1, None], 1.0, True),
        (["json_valid"], [None], None, None),
        ([], [], None, None),
    ],
)
def test_a_score_is_the_mean_by_weight_and_a_pass_is_that_of_all_that_count(specs, values, total, passed) -> None:
    made = checks(*specs)
    row = score(made, [rated(grader, value) for grader, value in zip(made, values, strict=True) if value is not None])
    assert (row.score, row.passed) == (total if total is None else pytest.approx(total), passed)
    assert [check.name for check in row.checks] == [grader.name for grader in made]


def test_a_check_that_failed_itself_has_not_passed() -> None:
    [first, second] = checks({"contains": "a", "required": True}, "json_valid")
    row = score([first, second], [rated(first, error="ValueError: no"), rated(second, 1)])
    assert (row.score, row.passed) == (0.5, False)
    assert row.checks[0].error == "ValueError: no"
    assert [check.name for check in row.required_failed] == ["contains"]


def test_a_required_check_outweighs_any_score() -> None:
    made = checks({"contains": "a", "required": True}, {"json_valid": None, "weight": 99})
    row = score(made, [rated(made[0], 0), rated(made[1], 1)])
    assert row.score == 0.99
    assert not row.reaches(0.5)
    assert row.reasons(0.5) == ("contains: not passed",)
    assert row.reasons(1.0) == ("score 0.99, 1 wanted", "contains: not passed")
    others = checks("contains", {"json_valid": None, "weight": 99})
    assert score(others, [rated(others[0], 0), rated(others[1], 1)]).reaches(0.99)


def test_an_answer_that_failed_scores_nothing() -> None:
    row = score(checks("json_valid"), [], answered=False)
    assert (row.score, row.passed, row.reaches(0.0)) == (0.0, False, False)


def test_a_number_on_another_scale_counts_by_whether_it_passed() -> None:
    def tone(case, response):
        return 7

    from dataclasses import replace

    made = replace(create(tone), threshold=6)
    row = score([made], [rated(made, 7)])
    assert (row.checks[0].value, row.score, row.passed) == (7, 1.0, True)
    assert score([made], [rated(made, 5)]).score == 0.0


def test_several_metrics_of_one_grader_are_one_check() -> None:
    made = create(lambda case, response: None)
    both = [
        rated(made, 1.0, metric="g.tone"),
        rated(made, 0.4, metric="g.form"),
        rated(made, label="x", metric="g.kind"),
    ]
    [check] = score([made], both).checks
    assert (check.value, check.passed) == (pytest.approx(0.7), False)


def test_a_label_alone_is_no_verdict() -> None:
    made = create("json_valid")
    assert score([made], [rated(made, label="good")]).score is None


def test_only_the_newest_rating_of_this_version_counts() -> None:
    made, before = create({"contains": "a"}), create({"contains": "b"})
    old = rated(made, 0, created_at=utcnow() - timedelta(days=1))
    others = [rated(before, 0), rated(made, 0, rater_kind="human"), rated(made, 0, rater="anna")]
    assert score([made], [rated(made, 1), old, *others]).score == 1.0


def test_a_changed_threshold_judges_old_ratings_anew() -> None:
    strict, lax = checks({"rouge_l": "x", "threshold": 0.8}, {"rouge_l": "x", "threshold": 0.2})
    assert [score([one], [rated(strict, 0.5)]).passed for one in (strict, lax)] == [False, True]


async def test_from_an_answer_to_its_score() -> None:
    made = checks(
        {"contains": "refund", "weight": 2},
        {"not_contains_any": ["sorry", "afraid"], "required": True},
        {"length": {"max": 5, "unit": "words"}},
        {"latency": 1},
        "equals",
    )
    response = answer(ask(), "You get your refund in five days, afraid not sooner")
    row = score(made, await grade(made, Case(inputs={"input": "x"}), response))
    assert [check.passed for check in row.checks] == [True, False, False, False, None]
    assert row.score == pytest.approx(2 / 5)
    assert [check.name for check in row.required_failed] == ["not_contains_any"]
    assert row.checks[2].reason == "10 words, at most 5 wanted"
    assert [check.name for check in row.failed] == ["not_contains_any", "length", "latency"]


@given(st.lists(st.tuples(st.floats(0, 10), st.none() | st.floats(-2, 2), st.booleans(), st.floats(0, 1)), max_size=6))
@settings(max_examples=100, deadline=None)
def test_a_score_is_between_0_and_1_whatever_the_weights(rows) -> None:
    made = [
        Grader(f"g{place}", "abcd", lambda case, response: None, weight, threshold, required)
        for place, (weight, _, required, threshold) in enumerate(rows)
    ]
    row = score(
        made, [rated(grader, value) for grader, (_, value, _, _) in zip(made, rows, strict=True) if value is not None]
    )
    assert row.score is None or -1e-9 <= row.score <= 1 + 1e-9
    assert not (row.passed and row.required_failed)
