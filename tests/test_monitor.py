"""The figures for Prometheus, kept around any function from a request to a response."""

from __future__ import annotations

import subprocess
import sys

import pytest
from engines import SETTINGS
from fakes import FakeTime, Scripted, answer
from prometheus_client import REGISTRY

from feedbackloop.models import AIRequest
from feedbackloop.pipeline.loop import FeedbackLoop
from feedbackloop.pipeline.monitor import exposition, figures, monitor


def value(name, **labels):
    figures()
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_a_processor_is_monitored_in_process():
    processor = FeedbackLoop(
        {"primary_model": "a:m", "fallback_model": None, "max_retries": 0}, settings=SETTINGS, clock=FakeTime().clock()
    )
    processor._engine._providers["a"] = Scripted(["fine", ValueError("no")])
    answered = monitor(processor.process)
    before = [value("ai_requests_total", model="a:m", status=status) for status in ("success", "error")]
    count = value("ai_request_duration_seconds_count")
    tokens, cost = value("ai_tokens_total", model="a:m", kind="input"), value("ai_cost_usd_total", model="a:m")
    assert (await answered(AIRequest(input="hi", model="a:m"))).output == "fine"
    assert (await answered(AIRequest(input="hi", model="a:m"))).error_type == "ProviderError"
    after = [value("ai_requests_total", model="a:m", status=status) for status in ("success", "error")]
    assert [new - old for new, old in zip(after, before, strict=True)] == [1, 1]
    assert value("ai_request_duration_seconds_count") - count == 2
    assert value("ai_tokens_total", model="a:m", kind="input") - tokens == 10
    assert value("ai_cost_usd_total", model="a:m") - cost == pytest.approx(0.015)
    assert value("ai_active_requests") == 0


async def test_active_requests_are_those_under_way_and_an_exception_is_an_error():
    seen = []

    @monitor
    async def broken(request: AIRequest):
        seen.append(value("ai_active_requests"))
        raise RuntimeError

    before = value("ai_requests_total", model="x:broken", status="error")
    with pytest.raises(RuntimeError):
        await broken(AIRequest(input="hi", model="x:broken"))
    assert seen == [1]
    assert value("ai_active_requests") == 0
    assert value("ai_requests_total", model="x:broken", status="error") - before == 1


async def test_an_unknown_price_is_counted_and_not_taken_for_nothing():
    @monitor
    async def unpriced(request: AIRequest):
        return answer(request, "fine")

    before = value("ai_unpriced_requests_total", model="x:unpriced")
    await unpriced(AIRequest(input="hi", model="x:unpriced"))
    assert value("ai_unpriced_requests_total", model="x:unpriced") - before == 1
    assert value("ai_cost_usd_total", model="x:unpriced") == 0


def test_the_names_are_the_patterns():
    text = exposition().body.decode()
    for name in ("ai_requests_total", "ai_request_duration_seconds", "ai_active_requests", "ai_tokens_total"):
        assert f"# TYPE {name}" in text
    assert "text/plain" in exposition().content_type


def test_without_the_extra_the_sentence_names_it():
    code = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "from feedbackloop.pipeline.monitor import monitor\n"
        "try: monitor(print)\nexcept Exception as error: print(type(error).__name__, error)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.startswith("MissingDependency")
    assert "feedbackloop[serve]" in shown
