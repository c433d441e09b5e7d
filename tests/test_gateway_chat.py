"""Chat completions over real sockets with the unmodified `openai` client."""

from __future__ import annotations

import http.client
import json

import openai
import pytest
from gateways import STEPS, TERSE, Gateway
from openai_server import Reply

from feedbackloop.gateway import service as services
from feedbackloop.improve.policy import rollback
from feedbackloop.models import Variant
from feedbackloop.settings import Limits

HI = [{"role": "user", "content": "hi"}]


@pytest.fixture
def gateway(tmp_path):
    with Gateway(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def lasting(tmp_path_factory):
    """One for all tests that ask for nothing and leave nothing behind."""
    with Gateway(tmp_path_factory.mktemp("lasting")) as made:
        yield made


@pytest.fixture
def client(gateway):
    with gateway.client() as made:
        yield made


def post(gateway, body, path="/v1/chat/completions", headers=None, host=None):
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    known = {"content-type": "application/json", **({"host": host} if host else {}), **(headers or {})}
    connection.request("POST", path, raw, known)
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    return answer.status, json.loads(said)


# Who answers


def test_a_model_by_its_own_name(gateway, client):
    answer = client.chat.completions.create(model="up:m", messages=HI, temperature=0.3, user="u1")
    assert answer.choices[0].message.content == "You said: hi"
    assert (answer.choices[0].finish_reason, answer.object, answer.model) == ("stop", "chat.completion", "up:m")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    asked = gateway.up.requests[0]
    assert (asked.model, asked.body["temperature"], asked.body["messages"]) == ("m", 0.3, HI)
    (row,) = gateway.rows()
    assert (row["id"], row["request_id"]) == (answer.id, answer._request_id)
    assert (row["asked"], row["user_id"], row["output"], row["status"]) == ("up:m", "u1", "You said: hi", "completed")


def test_a_task_is_answered_by_its_live_policy_and_the_header_says_by_whom(gateway):
    policy = gateway.promote(STEPS.id)
    with gateway.client() as client:
        raw = client.chat.completions.with_raw_response.create(
            model="support", messages=HI, user="u1", metadata={"segment": "de"}
        )
    assert raw.headers["x-feedbackloop-variant"] == STEPS.label
    assert raw.parse().model == "up:large"
    assert gateway.up.requests[0].body["messages"][0] == {"role": "system", "content": "Think."}
    (row,) = gateway.rows()
    assert (row["task"], row["variant_id"]) == ("support", STEPS.id)
    assert json.loads(row["propensities"]) == {STEPS.id: 1.0}
    assert json.loads(row["metadata"]) == {
        "segment": "de",
        "variant": "steps",
        "inputs": {"input": "hi"},
        "policy": policy.id,
    }


def test_a_promotion_and_a_rollback_are_obeyed_while_it_runs(gateway, client):
    def answered(name):
        raw = client.chat.completions.with_raw_response.create(model="support", messages=HI)
        return raw.headers["x-feedbackloop-variant"].startswith(name)

    gateway.promote(TERSE.id)
    assert answered("terse")
    gateway.promote(STEPS.id)
    assert answered("steps")
    rollback(gateway.store, "support")
    gateway.look()
    assert answered("terse")


def test_a_variant_by_name_or_version(gateway, client):
    for name in (STEPS.label, STEPS.id):
        raw = client.chat.completions.with_raw_response.create(model=name, messages=HI)
        assert raw.headers["x-feedbackloop-variant"] == STEPS.label
    raw = client.chat.completions.with_raw_response.create(model="steps", messages=HI, metadata={"task": "support"})
    assert raw.headers["x-feedbackloop-variant"].startswith("steps@")
    assert [row["task"] == "support" for row in gateway.rows()] == [False, False, True]


def test_a_conversation_and_variables_reach_the_prompt(tmp_path):
    polite = Variant(name="polite", model="up:m", prompt="To {{ who }}: {{ input }}")
    with Gateway(tmp_path, polite) as gateway, gateway.client() as client:
        talk = [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
            {"role": "user", "content": "c"},
        ]
        client.chat.completions.create(model="polite", messages=talk, extra_body={"inputs": {"who": "Eve"}})
        assert gateway.up.requests[0].body["messages"] == [*talk[:2], {"role": "user", "content": "To Eve: c"}]
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model="polite", messages=HI)
        assert (caught.value.code, "'who' is undefined" in caught.value.message) == ("prompt_error", True)


def test_the_variants_own_parameters_hold(tmp_path):
    cool = Variant(name="cool", model="up:m", params={"temperature": 0.1})
    with Gateway(tmp_path, cool) as gateway, gateway.client() as client:
        client.chat.completions.create(model="cool", messages=HI, temperature=1.0, top_p=0.5)
        body = gateway.up.requests[0].body
        assert (body["temperature"], body["top_p"]) == (0.1, 0.5)


def test_the_fallback_chain_answers_when_the_first_fails(gateway, client):
    gateway.promote(TERSE.id, fallback=["up:spare"])
    gateway.up.plans = {"small": ["error"]}
    answer = client.chat.completions.create(model="support", messages=HI)
    assert answer.model == "up:spare"
    (row,) = gateway.rows()
    assert (row["model_used"], row["asked"], len(json.loads(row["attempts"]))) == ("up:spare", "up:small", 2)


async def test_the_async_client_and_many_at_once(gateway):
    import asyncio

    async with gateway.async_client() as client:
        answers = await asyncio.gather(
            *(
                client.chat.completions.create(model="up:m", messages=[{"role": "user", "content": str(n)}])
                for n in range(40)
            )
        )
    assert {answer.choices[0].message.content for answer in answers} == {f"You said: {n}" for n in range(40)}
    assert {row["id"] for row in gateway.rows()} == {answer.id for answer in answers}


def test_what_may_be_asked_for_is_listed(gateway, client):
    gateway.store.append([Variant(name="made elsewhere", model="imported:x")])
    gateway.promote(STEPS.id)
    ids = [model.id for model in client.models.list()]
    assert ids[0] == "support"
    assert {"steps", STEPS.label, TERSE.label, "up:small", "up:large"} <= set(ids)
    assert "made elsewhere" not in ids
    assert len(ids) == len(set(ids))
    assert client.models.retrieve("up:small").id == "up:small"
    assert client.models.retrieve("support").owned_by == "feedbackloop:task"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody")


# Errors


def test_a_task_without_a_policy_names_the_next_step(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="support", messages=HI)
    assert caught.value.code == "model_not_found"
    assert "feedbackloop promote support VARIANT" in caught.value.message


def test_models_that_are_unknown_or_not_for_clients_are_refused(gateway, client):
    for model in ("nobody:m", "python:os.py:system", "recorded:/etc/passwd.jsonl"):
        with pytest.raises(openai.NotFoundError) as caught:
            client.chat.completions.create(model=model, messages=HI)
        assert caught.value.param == "model"
    assert gateway.rows() == []


def test_a_misspelt_task_is_not_asked_as_a_model(gateway, client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="suport", messages=HI)
    told = "'suport' is no task and no variant (a model is written with its provider, as 'openai:suport'); did you mean 'support'?"
    assert caught.value.body["message"] == told
    assert client.chat.completions.create(model="up/m", messages=HI).choices[0].message.content == "You said: hi"
    assert [row["asked"] for row in gateway.rows()] == ["up:m"]


REFUSALS = {
    "error": (502, "upstream_unavailable"),
    "rate_limited": (429, "rate_limit_exceeded"),
    "forbidden": (502, "upstream_authentication"),
    "bad_request": (400, "invalid_request"),
    "context": (400, "context_length_exceeded"),
    "filter": (400, "content_filter"),
    "error_in_200": (502, "upstream_unavailable"),
    "empty": (502, "invalid_output"),
    "drop": (502, "upstream_unavailable"),
}


@pytest.mark.parametrize("stream", [False, True])
def test_upstream_faults_are_errors_in_openais_shape_and_rows(tmp_path, stream):
    limits = Limits(retries=0, deadline_s=0.5)
    with Gateway(tmp_path, limits=limits) as gateway, gateway.client() as client:
        failed = []
        for number, (fault, meant) in enumerate(REFUSALS.items()):
            gateway.up.plan = [fault]
            with pytest.raises(openai.APIStatusError) as caught:
                # Each from a model of its own: a 429 closes one for a while.
                client.chat.completions.create(model=f"up:m{number}", messages=HI, stream=stream)
            assert (caught.value.status_code, caught.value.code) == meant, fault
            assert caught.value.body["message"]
            assert caught.value.response.headers["x-should-retry"] == "false"
            failed.append(caught.value.request_id)
        rows = gateway.rows()
        assert [row["request_id"] for row in rows] == failed
        assert {row["status"] for row in rows} == {"failed"}


def test_a_slow_upstream_is_a_timeout(tmp_path):
    with (
        Gateway(tmp_path, faults=["silent"], limits=Limits(retries=0, timeout_s=0.1)) as gateway,
        gateway.client() as client,
    ):
        with pytest.raises(openai.APIStatusError) as caught:
            client.chat.completions.create(model="up:m", messages=HI)
        assert (caught.value.status_code, caught.value.code) == (504, "timeout")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (
            b'{"model": "up:m", "messages": [{"role": "user", "content": "hi"}], "temperature": NaN}',
            "NaN is no JSON number",
        ),
        (b"\xff\xfe", "not valid JSON"),
        (b'{"a":' * 100_000, "not valid JSON"),
        ({}, "'model': Field required"),
        ({"model": "up:m"}, "'messages': Field required"),
        ({"model": "up:m", "messages": []}, "'messages'"),
        ({"model": "", "messages": HI}, "'model'"),
        ({"model": "x" * 300, "messages": HI}, "'model'"),
        ({"model": 7, "messages": HI}, "'model'"),
        ({"model": "up:m", "messages": "hi"}, "'messages'"),
        ({"model": "up:m", "messages": [{"role": "boss", "content": "hi"}]}, "'messages.0.role'"),
        ({"model": "up:m", "messages": [{"role": "user", "content": 7}]}, "'messages.0.content"),
        ({"model": "up:m", "messages": HI, "n": 2}, "'n'"),
        ({"model": "up:m", "messages": HI, "stream": "yes"}, "'stream'"),
        ({"model": "up:m", "messages": HI, "user": 7}, "'user'"),
        ({"model": "up:m", "messages": HI, "metadata": {"a": 1}}, "'metadata.a'"),
        ({"model": "up:m", "messages": HI, "tools": [{"type": "function"}]}, "'tools' is not supported here"),
        ({"model": "up:m", "messages": HI, "logprobs": True}, "'logprobs' is not supported here"),
        ({"model": "up:m", "messages": HI, "modalities": ["audio"]}, "only the modality 'text'"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_parameters_name(lasting, body, says):
    status, said = post(lasting, body)
    assert status == 400
    assert set(said["error"]) == {"message", "type", "param", "code"}
    assert says in said["error"]["message"]
    assert not lasting.up.requests


def test_paths_methods_types_and_sizes_are_errors_in_openais_shape_too(gateway, monkeypatch):
    assert post(gateway, {}, path="/v1/nothing")[0] == 404
    assert post(gateway, {}, path="/health")[0] == 405
    status, said = post(gateway, {"model": "up:m", "messages": HI}, headers={"content-type": "text/plain"})
    assert (status, said["error"]["code"]) == (415, "unsupported_media_type")
    monkeypatch.setattr("feedbackloop.gateway.app.MAX_BODY", 1000)
    status, said = post(gateway, {"model": "up:m", "messages": [{"role": "user", "content": "x" * 2000}]})
    assert (status, said["error"]["code"]) == (413, "body_too_large")
    pieces = [b'{"model": "up:m", ', b" " * 2000, b"}"]
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    connection.request(
        "POST", "/v1/chat/completions", iter(pieces), {"content-type": "application/json"}, encode_chunked=True
    )
    assert connection.getresponse().status == 413
    connection.close()


def test_an_error_nobody_foresaw_is_told_without_its_secrets(gateway, monkeypatch, caplog):
    async def broken(*_):
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(services.Service, "resolve", broken)
    status, said = post(gateway, {"model": "up:m", "messages": HI})
    assert (status, said["error"]["code"]) == (500, "internal_error")
    assert "secret" not in json.dumps(said)
    assert "ZeroDivisionError" in caplog.text


def test_text_that_no_store_could_keep_is_made_storable(gateway):
    status, _ = post(
        gateway, {"model": "up:m", "messages": [{"role": "user", "content": "a\ud800b\x00"}], "user": "\ud800"}
    )
    assert status == 200
    (row,) = gateway.rows()
    assert row["output"] == "You said: a\ufffdb\u2400"


def test_clients_cannot_fill_the_service_with_names(gateway, client, monkeypatch):
    monkeypatch.setattr(services, "MAX_MODELS", 2)
    for name in ("up:a", "up:b", "up:a"):
        client.chat.completions.create(model=name, messages=HI)
    with pytest.raises(openai.NotFoundError, match="other models were asked for already"):
        client.chat.completions.create(model="up:c", messages=HI)


def test_too_many_at_once_are_told_to_come_back(gateway, client, monkeypatch):
    monkeypatch.setattr(services, "MAX_ACTIVE", 0)
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="up:m", messages=HI)
    assert (caught.value.status_code, caught.value.code) == (503, "overloaded")
    assert caught.value.response.headers["retry-after"] == "2"


# Who may ask


def test_with_a_key_only_those_who_have_it_are_answered(tmp_path):
    with Gateway(tmp_path, key="right-key") as gateway:
        with gateway.client() as client:
            assert client.chat.completions.create(model="up:m", messages=HI).id
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="wrong", max_retries=0) as other:
            for call in (
                lambda: other.chat.completions.create(model="up:m", messages=HI),
                other.models.list,
                lambda: other.post("/feedback", body={"id": "x", "thumbs": "up"}, cast_to=object),
            ):
                with pytest.raises(openai.AuthenticationError) as caught:
                    call()
                assert caught.value.code == "invalid_api_key"
                assert "right-key" not in caught.value.message
        assert post(gateway, {"model": "up:m", "messages": HI}, headers={"authorization": "Basic right-key"})[0] == 401
        assert post(gateway, {"model": "up:m", "messages": HI})[0] == 401
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
        for path in ("/health", "/health/ready", "/metrics"):
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200
        connection.close()


def test_without_a_key_only_this_machine_by_its_own_name_is_answered(gateway):
    body = {"model": "up:m", "messages": HI}
    for host in ("localhost", "127.0.0.1:1", "[::1]"):
        assert post(gateway, body, host=host)[0] == 200
    # A page of somebody's whose name was turned to 127.0.0.1 after it was loaded.
    status, said = post(gateway, body, host="evil.example")
    assert (status, said["error"]["code"]) == (403, "forbidden")


# Health


def test_health_ready_and_metrics(gateway, client):
    client.chat.completions.create(model="up:small", messages=HI)
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    for path, status in (("/health", b'{"status":"ok"}'), ("/health/ready", b'{"status":"ok"}')):
        connection.request("GET", path)
        assert connection.getresponse().read() == status
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert answer.headers["content-type"].startswith("text/plain")
    assert 'ai_requests_total{model="up:small",status="success"}' in text
    assert 'ai_tokens_total{kind="output",model="up:small"}' in text
    assert 'ai_cost_usd_total{model="up:small"}' in text
    assert "ai_active_requests 0.0" in text


def test_a_store_that_is_behind_is_said_and_nothing_is_lost(gateway, client, monkeypatch):
    monkeypatch.setattr("feedbackloop.pipeline.writer.AGAIN_S", 0.02)
    append, broken = gateway.store.append, True

    def refusing(records, **options):
        if broken:
            raise services.SettingsError("somebody else holds it")
        return append(records, **options)

    monkeypatch.setattr(gateway.store, "append", refusing)
    answers = [client.chat.completions.create(model="up:m", messages=HI) for _ in range(3)]
    service = gateway.app.state.service
    for _ in range(100):
        if service.trouble:
            break
        client.chat.completions.create(model="up:m", messages=HI)
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    connection.request("GET", "/health")
    assert connection.getresponse().read() == b'{"status":"degraded","store":"behind"}'
    connection.close()
    broken = False
    assert {answer.id for answer in answers} <= {row["id"] for row in gateway.rows()}


def test_an_answer_that_drips_in_is_still_one_answer(tmp_path):
    with Gateway(tmp_path, faults=[Reply(how="drip", drip_s=0.1)]) as gateway, gateway.client() as client:
        assert client.chat.completions.create(model="up:m", messages=HI).choices[0].message.content == "You said: hi"
