"""Answers while they are made: as reliable as whole ones before the first token, and honest afterwards."""

from __future__ import annotations

import asyncio

import pytest
from engines import COMPLETED, FAILED, ask, engine, idle
from fakes import FakeTime, Scripted, _real_sleep, answer
from openai_server import OpenAIServer, Reply

from feedbackloop.errors import OutputInvalid, ProviderUnavailable
from feedbackloop.pipeline.engine import Engine
from feedbackloop.pipeline.resilience import Clock
from feedbackloop.providers import Chunk
from feedbackloop.settings import Limits, ProviderSettings, Settings


class Spoken:
    """Streams as its script says: texts, exceptions, or None for waiting for ever; the last step repeats."""

    base_url = None

    def __init__(self, *script, **figures):
        self.script = script
        self.figures = figures
        self.calls = 0
        self.closed = 0

    async def complete(self, request):
        raise NotImplementedError

    async def stream(self, request):
        steps = self.script[min(self.calls, len(self.script) - 1)]
        self.calls += 1
        said = []
        try:
            for step in steps:
                if isinstance(step, Exception):
                    raise step
                if step is None:
                    await asyncio.Event().wait()
                await _real_sleep(0)
                said.append(step)
                yield Chunk(step)
            yield Chunk(response=answer(request, "".join(said), **self.figures))
        finally:
            self.closed += 1


async def read(made, *models, **fields):
    texts = []
    async with made.stream(ask(**fields), models or ["a:m"]) as stream:
        texts += [text async for text in stream]
    return texts, stream.response


def quick(*providers, **options):
    return engine(FakeTime().clock(), *providers, **options)


# Through the engine


async def test_texts_come_as_they_are_made_and_the_response_at_the_end():
    made = quick(Spoken(["One ", "two ", "three."], usage={"x": 1}))
    texts, response = await read(made)
    assert texts == ["One ", "two ", "three."]
    assert (response.output, response.status, response.model_used) == ("One two three.", COMPLETED, "a:m")
    assert (response.tokens_used, response.cost_usd, response.spent_usd) == (15, 0.015, 0.015)
    assert response.ttft_ms is not None
    assert len(response.attempts) == 1
    assert idle(made)


async def test_before_the_first_text_failures_are_retried_and_fall_back():
    first = Spoken([ProviderUnavailable("down")])
    second = Spoken([ProviderUnavailable("down")], ["fine"])
    texts, response = await read(quick(first, second, limits=Limits(retries=1)), "a:m", "b:m")
    assert (texts, response.model_used, first.calls, second.calls) == (["fine"], "b:m", 2, 2)
    assert [attempt.error_type for attempt in response.attempts] == ["ProviderUnavailable"] * 3 + [None]


async def test_after_the_first_text_nothing_is_asked_again_and_the_text_is_kept():
    first, second = Spoken(["Half ", ProviderUnavailable("broke")]), Spoken(["no"])
    made = quick(first, second)
    texts, response = await read(made, "a:m", "b:m")
    assert (texts, first.calls, second.calls) == (["Half "], 1, 0)
    assert (response.status, response.output, response.model_used) == (FAILED, "Half ", "a:m")
    assert (response.error_type, response.error) == ("ProviderUnavailable", "broke")
    assert response.ttft_ms is not None
    assert idle(made)


async def test_nothing_but_white_space_is_marked_as_failed_when_it_has_been_read():
    texts, response = await read(quick(Spoken([" \n"])))
    assert (texts, response.status, response.error_type) == ([" \n"], FAILED, "OutputInvalid")


async def test_an_empty_stream_is_retried_like_an_empty_answer():
    texts, response = await read(quick(spoken := Spoken([], ["fine"])))
    assert (texts, spoken.calls, response.status) == (["fine"], 2, COMPLETED)


async def test_what_fails_before_any_text_is_a_failed_response():
    texts, response = await read(quick(Spoken([OutputInvalid("bad")]), limits=Limits(retries=1)))
    assert (texts, response.status, response.output, response.model_used) == ([], FAILED, "", "none")
    assert len(response.attempts) == 2


async def test_a_provider_that_cannot_stream_gives_its_answer_in_one_piece():
    texts, response = await read(quick(Scripted(["  whole answer \n"])))
    assert (texts, response.output) == (["whole answer"], "  whole answer \n")


async def test_a_reader_who_wants_it_whole_gets_it_retried_to_the_end():
    spoken = Spoken(["never asked so"])
    spoken.complete = Scripted([ProviderUnavailable("down"), " whole "]).complete
    made = quick(spoken)
    async with made.stream(ask(), whole=True) as stream:
        texts = [text async for text in stream]
    assert (texts, spoken.calls, len(stream.response.attempts)) == (["whole"], 0, 2)
    assert stream.response.ttft_ms is None


async def test_a_reader_who_leaves_cancels_the_call_and_leaves_a_row():
    spoken = Spoken(["One ", "two ", None])
    made = quick(spoken)
    async with made.stream(ask()) as stream:
        async for text in stream:
            if text == "two ":
                break
    response = stream.response
    assert (response.error_type, response.status, response.output) == ("cancelled", FAILED, "One two ")
    assert (response.model_used, response.spent_usd, response.tokens_used) == ("a:m", None, None)
    assert [attempt.error_type for attempt in response.attempts] == ["cancelled"]
    assert spoken.closed == 1
    assert idle(made)


async def test_a_reader_who_leaves_before_the_first_text_does_so_too():
    spoken = Spoken([ProviderUnavailable("down")], [None])
    made = quick(spoken)
    async with made.stream(ask()) as stream:
        while spoken.calls < 2:
            await _real_sleep(0)
    response = stream.response
    assert (response.error_type, response.output, response.model_used) == ("cancelled", "", "none")
    assert [attempt.error_type for attempt in response.attempts] == ["ProviderUnavailable", "cancelled"]
    assert idle(made)


async def test_a_reader_who_is_cancelled_leaves_a_row_and_nothing_running():
    spoken, responses = Spoken(["One ", None]), []
    made = quick(spoken)

    async def reader():
        stream = made.stream(ask())
        try:
            async with stream:
                async for _ in stream:
                    pass
        finally:
            responses.append(stream.response)

    task = asyncio.ensure_future(reader())
    while not spoken.calls:
        await _real_sleep(0)
    await _real_sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [(response.error_type, response.output) for response in responses] == [("cancelled", "One ")]
    assert idle(made)


async def test_a_stream_that_hangs_ends_at_its_timeout_and_keeps_its_text():
    made = engine(Clock(), Spoken(["One ", None]), limits=Limits(timeout_s=0.05))
    texts, response = await read(made)
    assert (texts, response.error_type, response.output) == (["One "], "ProviderTimeout", "One ")
    assert len(response.attempts) == 1


# Over HTTP


@pytest.fixture
def up():
    with OpenAIServer() as server:
        settings = Settings(providers={"up": ProviderSettings(base_url=server.url)})
        yield server, settings


def real(settings, **limits):
    return Engine(settings, limits=Limits(**limits), clock=Clock(sleep=lambda _: _real_sleep(0)))


async def test_over_http_words_and_figures_arrive(up):
    server, settings = up
    made = real(settings)
    texts, response = await read(made, "up:m", text="one two three")
    assert texts == ["You", " said:", " one", " two", " three"]
    assert (response.output, response.finish_reason) == ("You said: one two three", "stop")
    assert response.provider_model == "m-2026-01-01"
    assert response.tokens_used == response.input_tokens + response.output_tokens
    assert 0 < response.ttft_ms <= response.latency_ms
    assert server.requests[0].body["stream_options"] == {"include_usage": True}
    await made.aclose()


async def test_over_http_the_first_text_does_not_wait_for_the_last(up):
    server, settings = up
    server.plan = [Reply(how="drip", drip_s=1.2)]
    made = real(settings)
    began = asyncio.get_running_loop().time()
    async with made.stream(ask("word " * 200), ["up:m"]) as stream:
        await anext(stream)
        first = asyncio.get_running_loop().time() - began
        texts = [text async for text in stream]
    assert len(texts) > 150
    assert first < 1 < asyncio.get_running_loop().time() - began
    assert stream.response.ttft_ms < 1_000 < stream.response.latency_ms
    await made.aclose()


@pytest.mark.parametrize(
    "fault", ["error", "rate_limited", "drop", "broken_json", "empty", "error_in_200", "list", "html"]
)
async def test_over_http_faults_before_the_first_text_are_retried(up, fault):
    server, settings = up
    server.plan = [fault]
    made = real(settings)
    texts, response = await read(made, "up:m", text="a b")
    assert ("".join(texts), response.status) == ("You said: a b", COMPLETED)
    assert len(response.attempts) == 2
    await made.aclose()


@pytest.mark.parametrize("fault", ["cut", "reset"])
async def test_over_http_a_stream_that_breaks_off_is_failed_with_its_text(up, fault):
    server, settings = up
    server.plan = [fault]
    made = real(settings)
    texts, response = await read(made, "up:m", text="word " * 40)
    assert (response.status, response.error_type) == (FAILED, "ProviderUnavailable")
    assert response.output == "".join(texts)
    assert 0 < len(texts) < 40
    assert len(server.requests) == 1
    await made.aclose()


async def test_over_http_a_refusal_of_a_parameter_is_obeyed(up):
    server, settings = up
    server.wants_completion_tokens = {"m"}
    refused = {
        "error": {
            "message": "Unknown parameter: 'stream_options'",
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        }
    }
    server.plan = [Reply(400, refused)]
    made = real(settings, retries=0)
    texts, response = await read(made, "up:m", text="a")
    assert "".join(texts) == "You said: a"
    assert response.tokens_used is None
    await made.aclose()


async def test_over_http_a_reader_who_leaves_frees_the_connection(up):
    server, settings = up
    server.plan = [Reply(how="drip", drip_s=5.0)]
    made = real(settings)
    async with made.stream(ask("word " * 100), ["up:m"]) as stream:
        await anext(stream)
    assert stream.response.error_type == "cancelled"
    for _ in range(100):
        if not server.at_once:
            break
        await _real_sleep(0.01)
    assert not server.at_once
    await made.aclose()
