from __future__ import annotations

import pytest
from engines import ask, engine
from fakes import FakeTime, Scripted, answer
from hypothesis import given, settings
from hypothesis import strategies as st

from feedbackloop.errors import OutputInvalid, ProviderUnavailable
from feedbackloop.models import Attempt
from feedbackloop.pipeline.validation import MAX_CHARACTERS, Validate, presented
from feedbackloop.settings import Limits


@pytest.mark.parametrize("text", ["", " ", "\n\t\r\f\v ", "\u00a0\u2003", "\n" * 100_000])
async def test_an_empty_answer_is_an_error_whose_attempt_was_paid_for(text):
    made = engine(FakeTime().clock(), Scripted([text]), limits=Limits(retries=0))
    response = await made.complete(ask())
    assert (response.error_type, response.output, response.model_used) == ("OutputInvalid", "", "none")
    assert [(attempt.error_type, attempt.cost_usd) for attempt in response.attempts] == [("OutputInvalid", 0.015)]
    assert response.spent_usd == 0.015


async def test_an_empty_answer_is_retried_and_both_are_paid():
    provider = Scripted(["", "fine"])
    response = await engine(FakeTime().clock(), provider).complete(ask())
    assert (response.output, response.cost_usd, response.spent_usd) == ("fine", 0.015, 0.03)
    assert [attempt.error_type for attempt in response.attempts] == ["OutputInvalid", None]


async def test_a_recorded_answer_may_be_empty():
    provider = Scripted([" \n"])
    provider.live = False
    response = await engine(FakeTime().clock(), provider).complete(ask())
    assert (response.output, response.status, len(provider.requests)) == (" \n", "completed", 1)


async def test_only_the_empty_attempt_is_called_so():
    class Second:
        async def complete(self, request):
            before = Attempt(model="a:m", start="2026-01-01T00:00:00Z", error_type="ProviderUnavailable")
            own = Attempt(model="a:m", start="2026-01-01T00:00:00Z")
            return answer(request, " ").model_copy(update={"attempts": [before, own]})

    with pytest.raises(OutputInvalid) as caught:
        await Validate(Second()).complete(ask())
    assert [attempt.error_type for attempt in caught.value.attempts] == ["ProviderUnavailable", "OutputInvalid"]


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("x" * MAX_CHARACTERS, False),
        ("x" * (MAX_CHARACTERS + 1), True),
        (" " * 9 + "x" * MAX_CHARACTERS + "\n" * 9, False),
        ("é" * 60_000, True),
    ],
)
async def test_an_answer_that_is_too_long_is_marked_and_left_whole(text, cut):
    response = await engine(FakeTime().clock(), Scripted([text])).complete(ask())
    assert (response.truncated, response.output) == (cut, text)
    assert presented(response).output == text.strip()[:MAX_CHARACTERS]


async def test_errors_pass_through():
    with pytest.raises(ProviderUnavailable):
        await Validate(Scripted([ProviderUnavailable("x")])).complete(ask())


@given(st.text(max_size=200))
@settings(deadline=None)
def test_presenting_twice_changes_nothing_more(text):
    once = presented(answer(ask(), text))
    assert presented(once) is once
    assert once.output == text.strip()
