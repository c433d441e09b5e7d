from __future__ import annotations

import asyncio
import math
from decimal import Decimal

import numpy as np
import pytest
from engines import FAILED, ask
from fakes import answer
from hypothesis import given, settings
from hypothesis import strategies as st

from feedbackloop.graders import Grader
from feedbackloop.models import Case
from feedbackloop.pipeline.grading import grade

CASE = Case(inputs={"input": "hi"})
RESPONSE = answer(ask(), "fine")


def returning(result, name="g"):
    return Grader(name, "abcdef", lambda case, response: result)


async def said(result):
    ratings = await grade([returning(result)], CASE, RESPONSE)
    return [(rating.metric, rating.value, rating.label, rating.reason, rating.error) for rating in ratings]


@pytest.mark.parametrize(
    ("result", "value"),
    [
        (True, 1.0),
        (False, 0.0),
        (0.5, 0.5),
        (3, 3.0),
        (-1, -1.0),
        (Decimal("0.25"), 0.25),
        (np.float64(0.5), 0.5),
        (np.bool_(True), 1.0),
    ],
)
async def test_a_bool_or_number_is_a_value(result, value):
    assert await said(result) == [("g", value, None, None, None)]


async def test_a_text_is_a_label():
    assert await said("polite") == [("g", None, "polite", None, None)]


async def test_none_is_no_opinion():
    assert await said(None) == []


async def test_a_mapping_is_several_metrics_and_none_among_them_no_opinion():
    assert await said({"tone": 0.5, "kind": "letter", "length": None}) == [
        ("g.tone", 0.5, None, None, None),
        ("g.kind", None, "letter", None, None),
    ]


@pytest.mark.parametrize(
    ("result", "ratings"),
    [
        ({"value": True, "reason": "because"}, [("g", 1.0, None, "because", None)]),
        ({"label": "bad", "reason": 7}, [("g", None, "bad", "7", None)]),
        ({"value": 0.5, "label": "so-so"}, [("g", 0.5, "so-so", None, None)]),
        ({"value": "good"}, [("g", None, "good", None, None)]),
        ({"value": None, "reason": "could not tell"}, []),
        ({"reason": "alone it is a metric"}, [("g.reason", None, "alone it is a metric", None, None)]),
        ({"value": 1, "other": 2}, [("g.value", 1.0, None, None, None), ("g.other", 2.0, None, None, None)]),
        ({}, []),
    ],
)
async def test_a_value_or_label_with_its_reason_is_one_verdict(result, ratings):
    assert await said(result) == ratings


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, [1], {1}, object(), 10**400, 1j])
async def test_what_is_no_verdict_is_an_error(odd):
    [(metric, value, label, _, error)] = await said(odd)
    assert (metric, value, label) == ("g", None, None)
    assert error.startswith("the grader returned")


async def test_one_odd_metric_does_not_take_the_others_with_it():
    ratings = await said({"good": True, "odd": [1, 2]})
    assert ratings[0] == ("g.good", 1.0, None, None, None)
    assert ratings[1][0] == "g.odd"
    assert ratings[1][4] == "the grader returned [1, 2], which is no verdict"


@pytest.mark.parametrize("error", [ValueError("bad\x00 \ud800"), KeyError("x"), SystemExit(2), RecursionError()])
async def test_a_grader_that_fails_is_a_rating_with_the_error_and_the_next_is_asked(error):
    def failing(case, response):
        raise error

    first, second = await grade([Grader("f", "1234", failing), returning(True)], CASE, RESPONSE)
    assert (first.metric, first.value, first.rater) == ("f", None, "f@1234")
    assert first.error.startswith(type(error).__name__)
    assert "\x00" not in first.error
    assert second.value == 1.0


async def test_a_grader_may_be_async_by_any_means():
    async def slowly(case, response):
        await asyncio.sleep(0)
        return 0.5

    class Callable:
        async def __call__(self, case, response):
            return "label"

    ratings = await grade([Grader("a", "1", slowly), Grader("b", "1", Callable())], CASE, RESPONSE)
    assert [(rating.value, rating.label) for rating in ratings] == [(0.5, None), (None, "label")]


async def test_a_failed_answer_is_not_graded():
    asked = []
    grader = Grader("g", "1", lambda case, response: asked.append(case))
    assert await grade([grader], CASE, answer(ask(), "", status=FAILED)) == []
    assert asked == []


async def test_a_rating_names_the_answer_and_the_graders_version():
    [rating] = await grade([returning(True, "polite")], CASE, RESPONSE)
    assert (rating.response_id, rating.rater, rating.rater_kind) == (RESPONSE.id, "polite@abcd", "grader")
    assert rating.created_at == RESPONSE.created_at


async def test_cancelling_is_not_swallowed():
    async def forever(case, response):
        await asyncio.Event().wait()

    task = asyncio.create_task(grade([Grader("g", "1", forever)], CASE, RESPONSE))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


ANY = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=4),
    max_leaves=8,
)


@given(ANY)
@settings(max_examples=150, deadline=None)
def test_whatever_a_grader_returns_is_kept_or_said_to_be_none(result):
    for rating in asyncio.run(grade([returning(result)], CASE, RESPONSE)):
        assert (rating.value is not None) or (rating.label is not None) or rating.error
        assert rating.value is None or math.isfinite(rating.value)
