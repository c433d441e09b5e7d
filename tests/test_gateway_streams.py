"""Streams over real sockets: as they are made, honest about what breaks, and ended when nobody listens."""

from __future__ import annotations

import json
import socket
import time

import openai
import pytest
from gateways import STEPS, Gateway
from openai_server import Reply
from waiting import until

from feedbackloop.models import Variant
from feedbackloop.settings import Limits

HI = [{"role": "user", "content": "one two three"}]
LONG = [{"role": "user", "content": "word " * 150}]


@pytest.fixture
def gateway(tmp_path):
    with Gateway(tmp_path) as made:
        yield made


@pytest.fixture
def client(gateway):
    with gateway.client() as made:
        yield made


def test_chunks_are_openais_and_the_usage_comes_when_it_is_asked_for(gateway, client):
    gateway.promote(STEPS.id)
    stream = client.chat.completions.create(
        model="support", messages=HI, stream=True, stream_options={"include_usage": True}, user="u1"
    )
    assert stream.response.headers["content-type"].startswith("text/event-stream")
    assert stream.response.headers["x-feedbackloop-variant"] == STEPS.label
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert texts == ["", "You", " said:", " one", " two", " three", None]
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices] == [None] * 6 + ["stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens > 0
    assert {chunk.usage for chunk in chunks[:-1]} == {None}
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    (identity,) = {chunk.id for chunk in chunks}
    (row,) = gateway.rows()
    assert (row["id"], row["output"], row["status"], row["user_id"]) == (
        identity,
        "You said: one two three",
        "completed",
        "u1",
    )
    assert row["ttft_ms"] > 0
    assert row["output_tokens"] == chunks[-1].usage.completion_tokens


def test_without_being_asked_for_there_is_no_usage(client):
    chunks = list(client.chat.completions.create(model="up:m", messages=HI, stream=True))
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert "usage" not in chunks[0].model_fields_set


async def test_the_async_client_and_its_stream_helper(gateway):
    async with gateway.async_client() as client, client.chat.completions.stream(model="up:m", messages=HI) as stream:
        texts = [event.delta async for event in stream if event.type == "content.delta"]
        final = await stream.get_final_completion()
    assert "".join(texts) == final.choices[0].message.content == "You said: one two three"


def test_the_first_text_does_not_wait_for_the_last(gateway, client):
    gateway.up.plan = [Reply(how="drip", drip_s=2)]
    began = time.monotonic()
    stream = client.chat.completions.create(model="up:m", messages=LONG, stream=True)
    next(chunk for chunk in stream if chunk.choices[0].delta.content)
    first = time.monotonic() - began
    assert len(list(stream)) > 100
    assert first < 1.5 < time.monotonic() - began


def test_faults_before_the_first_text_are_retried(tmp_path):
    with Gateway(tmp_path, faults=["error"], limits=Limits(retries=1)) as gateway, gateway.client() as client:
        chunks = list(client.chat.completions.create(model="up:m", messages=HI, stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "You said: one two three"
        (row,) = gateway.rows()
        assert len(json.loads(row["attempts"])) == 2


def test_a_stream_that_breaks_off_is_an_error_event_and_keeps_its_text(gateway, client):
    gateway.up.plan = ["reset"]
    stream = client.chat.completions.create(model="up:m", messages=LONG, stream=True)
    texts = []
    with pytest.raises(openai.APIError) as caught:
        texts.extend(chunk.choices[0].delta.content or "" for chunk in stream)
    assert caught.value.body["code"] == "upstream_unavailable"
    (row,) = gateway.rows()
    assert (row["status"], row["error_type"], row["output"]) == ("failed", "ProviderUnavailable", "".join(texts))
    assert texts


def test_a_client_that_leaves_ends_the_call_and_leaves_a_row(gateway, client):
    gateway.up.plan = [Reply(how="drip", drip_s=20.0)]
    stream = client.chat.completions.create(model="up:m", messages=LONG, stream=True)
    texts = [next(stream).choices[0].delta.content for _ in range(4)]
    stream.close()
    until(lambda: not gateway.up.at_once, 5)
    (row,) = gateway.rows()
    assert (row["status"], row["error_type"], row["model_used"]) == ("failed", "cancelled", "up:m")
    assert row["output"].startswith("".join(texts))
    assert json.loads(row["attempts"])[0]["error_type"] == "cancelled"


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_before_the_first_text_leaves_a_row_too(gateway, stream):
    gateway.up.plan = [Reply(delay_s=20.0)]
    body = json.dumps({"model": "up:m", "messages": HI, "stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
        connection.sendall(head.encode() + body)
        until(lambda: gateway.up.at_once, 5)
    until(lambda: not gateway.up.at_once, 5)
    (row,) = gateway.rows()
    assert (row["error_type"], row["output"], row["model_used"]) == ("cancelled", "", "none")


def test_what_cannot_stream_comes_in_one_piece(tmp_path):
    (tmp_path / "mine.py").write_text("def answer(inputs):\n    return 'A whole answer.'\n")
    own = Variant(name="own", model=f"python:{tmp_path}/mine.py:answer")
    with Gateway(tmp_path, own) as gateway, gateway.client() as client:
        chunks = list(client.chat.completions.create(model="own", messages=HI, stream=True))
        assert [chunk.choices[0].delta.content for chunk in chunks] == ["", "A whole answer.", None]


def test_a_text_that_is_too_long_is_cut_for_the_client_and_kept_whole(tmp_path):
    text = "wordwordword " * 4_000
    with Gateway(tmp_path, answers=lambda *_: text) as gateway, gateway.client() as client:
        chunks = list(client.chat.completions.create(model="up:m", messages=HI, stream=True))
        assert len("".join(chunk.choices[0].delta.content or "" for chunk in chunks)) == 50_000
        assert chunks[-1].choices[0].finish_reason == "length"
        (row,) = gateway.rows()
        assert (row["output"], row["truncated"]) == (text, True)
