from __future__ import annotations

import asyncio
import gc
import gzip
import json
import socket
import subprocess
import sys
import traceback
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from openai_server import FAULTS, OpenAIServer, Reply, refused, tokens

from feedbackloop.errors import (
    AuthenticationFailed,
    ContentFiltered,
    ContextTooLong,
    InvalidRequest,
    OutputInvalid,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    SettingsError,
)
from feedbackloop.models import AIRequest, AIResponse, ProcessingStatus
from feedbackloop.providers import Allowance, Quota, create
from feedbackloop.providers.arrivals import LARGEST_ANSWER
from feedbackloop.providers.endpoint import allowance, retry_after, scrub, seconds
from feedbackloop.providers.openai import OpenAIProvider
from feedbackloop.settings import ProviderSettings, Settings

DATA = Path(__file__).parents[2] / "shared/data"
KEY = "sk-proj-Ab12_cd34-ef56"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with OpenAIServer() as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.url)
        yield running


@pytest.fixture
async def provider(server):
    made = OpenAIProvider("openai", Settings())
    yield made
    await made.aclose()


def ask(text="What is 2+2?", model="openai:gpt-4o-mini", **fields):
    return AIRequest(input=text, model=model, **fields)


async def failure(provider, request=None) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await provider.complete(request or ask())
    return caught.value


async def test_an_answer_carries_text_figures_and_usage(server, provider):
    response = await provider.complete(ask())
    usage = {
        "prompt_tokens": 3,
        "completion_tokens": tokens("You said: What is 2+2?"),
        "total_tokens": 8,
        "prompt_tokens_details": {"cached_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
    assert response.output == "You said: What is 2+2?"
    assert response.usage == usage
    assert (response.input_tokens, response.output_tokens, response.tokens_used) == (3, 5, 8)
    assert (response.cached_tokens, response.reasoning_tokens, response.cache_write_tokens) == (1, 0, None)
    assert response.model_used == "openai:gpt-4o-mini"
    assert response.provider_model == "gpt-4o-mini-2026-01-01"
    assert response.finish_reason == "stop"
    assert response.status is ProcessingStatus.COMPLETED
    assert response.latency_ms > 0
    assert (response.cost_usd, response.attempts, response.metadata) == (None, [], {})


async def test_the_request_id_is_the_requests(provider):
    request = ask()
    assert (await provider.complete(request)).request_id == request.id


async def test_what_is_sent(server, provider):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    params = {"temperature": 0.2, "top_p": None, "max_tokens": 7}
    await provider.complete(ask("Hi", messages=messages, params=params))
    await provider.complete(ask("Hi"))
    await provider.complete(ask("Hi", params={"max_completion_tokens": 9}))
    assert server.requests[0].body == {
        "model": "gpt-4o-mini",
        "messages": messages,
        "temperature": 0.2,
        "max_tokens": 7,
    }
    assert server.requests[1].body == {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 2048,
    }
    assert "max_tokens" not in server.requests[2].body
    assert server.requests[0].authorization == f"Bearer {KEY}"
    assert params == {"temperature": 0.2, "top_p": None, "max_tokens": 7}


async def test_a_model_name_may_hold_colons(server, provider):
    await provider.complete(ask(model="openai:ft:gpt-4o-mini:acme::abc"))
    assert server.requests[0].model == "ft:gpt-4o-mini:acme::abc"


async def test_the_admin_key_is_never_sent(server, provider, monkeypatch):
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-admin-secret")
    await provider.complete(ask())
    assert server.requests[0].authorization == f"Bearer {KEY}"


async def test_a_model_that_refuses_max_tokens_is_asked_again_and_remembered(server, provider):
    server.wants_completion_tokens = {"o9"}
    first = await provider.complete(ask(model="openai:o9"))
    await provider.complete(ask(model="openai:o9", params={"max_tokens": 5}))
    await provider.complete(ask())
    assert first.output.startswith("You said")
    assert [asked.done for asked in server.requests] == ["max_tokens", "ok", "ok", "ok"]
    assert [asked.body.get("max_completion_tokens") for asked in server.requests] == [None, 2048, 5, None]
    assert server.requests[3].body["max_tokens"] == 2048


async def test_the_second_question_after_refused_max_tokens_may_fail_too(server, provider):
    server.wants_completion_tokens, server.plan = {"o9"}, ["unavailable"]
    assert type(await failure(provider, ask(model="openai:o9"))) is ProviderUnavailable


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        ("rate_limited", RateLimited, "429"),
        ("quota", RateLimited, "quota is used up"),
        ("error", ProviderUnavailable, "500"),
        ("unavailable", ProviderUnavailable, "503"),
        ("forbidden", AuthenticationFailed, "OPENAI_API_KEY"),
        ("not_found", InvalidRequest, "404"),
        ("request_timeout", ProviderTimeout, "408"),
        ("conflict", ProviderUnavailable, "409"),
        ("unprocessable", InvalidRequest, "too large"),
        ("bad_request", InvalidRequest, "top_p must be at most 1"),
        ("context", ContextTooLong, "8192 tokens"),
        ("filter", ContentFiltered, "filtered"),
        ("filtered", ContentFiltered, "content_filter"),
        ("broken_json", OutputInvalid, "JSON"),
        ("html", OutputInvalid, "JSON"),
        ("list", OutputInvalid, "JSON object"),
        ("no_choices", OutputInvalid, "choices"),
        ("no_content", OutputInvalid, "without text"),
        ("parts", OutputInvalid, "without text"),
        ("error_in_200", ProviderUnavailable, "Upstream failed"),
        ("drop", ProviderUnavailable, "failed"),
        ("reset", ProviderUnavailable, "failed"),
        ("cut", ProviderUnavailable, "failed"),
    ],
)
async def test_a_fault_becomes_its_typed_error(server, provider, fault, error, says):
    server.plan = [fault]
    raised = await failure(provider)
    assert type(raised) is error
    assert raised.retryable is (error.default_retryable and fault != "quota")
    assert says in str(raised)
    assert "openai" in str(raised)
    assert "\n" not in str(raised)
    assert raised.attempts == []
    # The next call is not harmed by what happened to this one.
    assert (await provider.complete(ask())).output == "You said: What is 2+2?"
    assert [asked.done for asked in server.requests] == [fault, "ok"]


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(400, refused("Requested tokens exceed context window of 4096", None)), ContextTooLong),
        (Reply(400, refused("This model's maximum context length is 4096 tokens", 400)), ContextTooLong),
        (
            Reply(400, {"error": {"code": "content_filter", "innererror": {"code": "x"}, "message": "m"}}),
            ContentFiltered,
        ),
        (Reply(400, {"error": {"innererror": {"code": "ResponsibleAIPolicyViolation"}}}), ContentFiltered),
        (Reply(400, {"error": "model is missing"}), InvalidRequest),
        (Reply(413, "<html>Too large</html>"), InvalidRequest),
        (Reply(502, "<html><body>Bad gateway</body></html>"), ProviderUnavailable),
        (Reply(504, ""), ProviderUnavailable),
        (Reply(500, [1]), ProviderUnavailable),
        (Reply(body={"error": {"message": "slow down", "code": 429}}), RateLimited),
        (Reply(body={"error": {"message": "no", "type": "invalid_request_error"}}), InvalidRequest),
        (Reply(body={"error": "something broke"}), ProviderUnavailable),
        (
            Reply(body={"choices": [{"error": {"code": 502, "message": "m"}, "message": {"content": "ha"}}]}),
            ProviderUnavailable,
        ),
        (Reply(body={"choices": ["x"]}), OutputInvalid),
        (Reply(body={"choices": [{"message": None}]}), OutputInvalid),
        (Reply(body="[" * 100_000), OutputInvalid),
        (Reply(body="null"), OutputInvalid),
        (Reply(content={"content": None, "refusal": "I cannot help."}), OutputInvalid),
        (Reply(content={"content": None, "tool_calls": [{"id": "1"}]}, finish_reason="tool_calls"), OutputInvalid),
    ],
)
async def test_odd_replies_become_typed_errors(server, provider, reply, error):
    server.plan = [reply]
    raised = await failure(provider)
    assert type(raised) is error
    assert "<html>" not in str(raised)


async def test_undecodable_bytes_are_an_invalid_output(server, provider):
    server.plan = [Reply(body='{"choices": "x"}', headers={"content-encoding": "gzip"})]
    assert isinstance(await failure(provider), OutputInvalid | ProviderUnavailable)


async def test_an_empty_text_is_returned_as_it_is(server, provider):
    server.plan = ["empty"]
    assert (await provider.complete(ask())).output == ""


@pytest.mark.parametrize("fault", ["no_usage", "junk_usage"])
async def test_missing_or_junk_usage_leaves_the_figures_unknown(server, provider, fault):
    server.plan = [fault]
    response = await provider.complete(ask())
    figures = (response.input_tokens, response.output_tokens, response.tokens_used, response.cached_tokens)
    assert figures == (None, None, None, None)
    assert response.usage == FAULTS[fault].usage


async def test_the_sum_stands_in_for_a_missing_total(server, provider):
    server.plan = [Reply(usage={"prompt_tokens": 5, "completion_tokens": 2})]
    assert (await provider.complete(ask())).tokens_used == 7


async def test_text_that_no_store_takes_is_repaired_and_counted(server, provider):
    server.plan = [Reply(content="a\x00b\ud800c\U0001f600")]
    response = await provider.complete(ask())
    assert response.output == "a\u2400b\ufffdc\U0001f600"
    assert response.metadata == {"repaired": 2}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
)
async def test_retry_after_is_carried(server, provider, headers, seconds):
    for status in (429, 503):
        server.plan = [Reply(status, refused("wait"), headers)]
        assert (await failure(provider)).retry_after == seconds


TOLD = {
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-limit-tokens": "150000",
    "x-ratelimit-remaining-requests": "59",
    "x-ratelimit-remaining-tokens": "149984",
    "x-ratelimit-reset-requests": "1s",
    "x-ratelimit-reset-tokens": "6m0s",
}
"""As in the table of https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers."""


async def test_what_the_headers_say_is_known_after_an_answer_a_refusal_and_a_stream(server, provider):
    assert provider.allowance("openai:gpt-4o-mini") is None
    server.plan = [Reply(headers=TOLD)]
    await provider.complete(ask())
    known = provider.allowance("openai:gpt-4o-mini")
    assert known == Allowance(requests=Quota(60, 59, 1.0), tokens=Quota(150_000, 149_984, 360.0))
    assert provider.allowance("openai:gpt-4o") is None
    server.plan = [Reply(429, refused("slow down"), {**TOLD, "x-ratelimit-remaining-requests": "0"})]
    await failure(provider)
    assert provider.allowance("openai:gpt-4o-mini").requests.remaining == 0
    server.plan = [Reply(headers={**TOLD, "x-ratelimit-remaining-requests": "7"})]
    async for _ in provider.stream(ask()):
        pass
    assert provider.allowance("openai:gpt-4o-mini").requests.remaining == 7


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("20ms", 0.02),
        ("1h2m3.5s", 3723.5),
        ("7m12.5s", 432.5),
        ("250µs", 0.00025),
        ("1d", 86400.0),
        ("0.5", 0.5),
        ("12", 12.0),
        ("0", 0.0),
        ("", None),
        ("soon", None),
        ("-3s", None),
        ("5 s", None),
        ("1s later", None),
        ("nan", None),
        ("٣s", None),
    ],
)
def test_durations_are_read_as_they_are_written(text, expected):
    assert seconds(text) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    "odd",
    [
        {"x-ratelimit-reset-requests": "soon"},
        {"x-ratelimit-remaining-requests": "-1"},
        {"x-ratelimit-remaining-requests": "many"},
        {"x-ratelimit-limit-requests": "inf"},
        {"x-ratelimit-limit-requests": "5"},
    ],
)
def test_headers_that_make_no_sense_say_nothing(odd):
    told = {name: value for name, value in TOLD.items() if name.endswith("requests")}
    assert allowance(told) is not None
    assert allowance(told | odd) is None
    assert allowance({}) is None


@pytest.mark.parametrize("way", ["whole", "streamed"])
async def test_an_answer_that_would_fill_the_memory_is_not_read_to_its_end(server, provider, way):
    text = "x" * (LARGEST_ANSWER + 1)
    server.plan = [Reply(content=text)]
    asked = provider.complete(ask()) if way == "whole" else anext(provider.stream(ask()))
    with pytest.raises(OutputInvalid, match="answered with more than 8 MB, which was not read"):
        await asked
    assert (await provider.complete(ask())).status is ProcessingStatus.COMPLETED


def test_retry_after_may_be_a_date():
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 25 < retry_after({"retry-after": soon}) <= 30
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0


async def test_a_refused_connection_is_unavailable_and_not_a_timeout(monkeypatch):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{bound.getsockname()[1]}/v1")
        provider = OpenAIProvider("openai", Settings())
        raised = await failure(provider)
        await provider.aclose()
    assert type(raised) is ProviderUnavailable
    assert "127.0.0.1" in str(raised)


async def test_the_sdks_own_timeout_is_a_timeout(server, provider, monkeypatch):
    monkeypatch.setattr("feedbackloop.providers.openai._TIMEOUT", 0.03)
    server.plan = ["silent", Reply(how="drip", drip_s=0.8)]
    assert type(await failure(provider)) is ProviderTimeout
    assert type(await failure(provider)) is ProviderTimeout


async def test_cancelling_passes_through_and_the_next_call_works(server, provider):
    server.plan = ["silent"]
    call = asyncio.create_task(provider.complete(ask()))
    while not server.requests:
        await asyncio.sleep(0.001)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (await provider.complete(ask())).output


async def test_latency_runs_to_the_last_byte(server, provider):
    server.plan = [Reply(delay_s=0.02, how="drip", drip_s=0.03)]
    response = await provider.complete(ask())
    assert response.output == "You said: What is 2+2?"
    assert 45 < response.latency_ms < 5_000


@pytest.mark.parametrize("params", [{"logit_bias": {1}}, {"temperature": float("nan")}, {"stop": "\ud800"}])
async def test_what_cannot_be_written_as_json_is_an_invalid_request(server, provider, params):
    raised = await failure(provider, ask(params=params))
    assert type(raised) is InvalidRequest
    assert "JSON" in str(raised)
    assert server.requests == []


async def test_streaming_cannot_be_asked_for_by_parameter(server, provider):
    assert "params.stream" in str(await failure(provider, ask(params={"stream": True})))
    assert server.requests == []


async def test_a_wrong_key_names_its_variable_and_never_shows_the_key(server, provider, caplog):
    server.key = "another"
    raised = await failure(provider)
    shown = "".join(traceback.format_exception(raised)) + caplog.text + repr(raised)
    assert type(raised) is AuthenticationFailed
    assert "OPENAI_API_KEY" in str(raised)
    assert KEY not in shown
    assert "sk-" not in shown


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 422, 429, 500, 503, 200])
async def test_no_message_holds_a_secret(server, provider, monkeypatch, status):
    monkeypatch.setenv("OPENAI_API_KEY", "plain-company-key")
    quoted = "key plain-company-key, sk-other-123***9, Authorization: Bearer abc.def "
    server.plan = [Reply(status, refused(quoted * 40))]
    raised = await failure(provider)
    shown = "".join(traceback.format_exception(raised))
    for secret in ("plain-company-key", "sk-other", "abc.def"):
        assert secret not in shown
    assert len(str(raised)) <= 500


def test_scrub_keeps_ordinary_words():
    assert scrub("The task-list is  at\nhttp://h/v1") == "The task-list is at http://h/v1"
    assert scrub("an x here", "x") == "an x here"
    assert scrub("http://user:secret@host/v1?api-key=abc&b=1") == "http://[key]@host/v1?api-key=[key]&b=1"


def test_a_missing_key_is_reported_before_anything_is_sent(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    provider = OpenAIProvider("openai", Settings())
    with pytest.raises(AuthenticationFailed, match=r"^OPENAI_API_KEY is not set: "):
        provider.prepare("openai:gpt-4o-mini")
    with pytest.raises(AuthenticationFailed, match=r"^OPENAI_API_KEY is not set: "):
        asyncio.run(provider.complete(ask()))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert provider.prepare("openai:gpt-4o-mini") is None
    assert provider.base_url == "https://api.openai.com/v1"


def test_a_key_with_odd_characters_is_reported_without_showing_it(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "abcd…efgh")
    with pytest.raises(AuthenticationFailed) as caught:
        OpenAIProvider("openai", Settings()).prepare("openai:gpt-4o")
    assert "efgh" not in str(caught.value)


async def test_a_keys_line_end_is_left_out(server, provider, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n")
    await provider.complete(ask())
    assert server.requests[0].authorization == f"Bearer {KEY}"


async def test_a_custom_endpoint_works_without_a_key(server, provider, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    await provider.complete(ask())
    assert server.requests[0].authorization == "Bearer no-key"
    server.key = "wanted"
    assert "OPENAI_API_KEY is not set" in str(await failure(provider))


async def test_key_and_address_are_read_at_each_call(server, provider, monkeypatch):
    await provider.complete(ask())
    with OpenAIServer(key="second") as other:
        monkeypatch.setenv("OPENAI_API_KEY", "second")
        monkeypatch.setenv("OPENAI_BASE_URL", other.url)
        await provider.complete(ask())
        assert provider.base_url == other.url
        assert [asked.done for asked in other.requests] == ["ok"]
    assert len(server.requests) == 1


def test_an_address_without_scheme_is_named(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "localhost:8000/v1")
    with pytest.raises(InvalidRequest, match="OPENAI_BASE_URL must begin with http"):
        OpenAIProvider("openai", Settings()).prepare("openai:gpt-4o")


async def test_a_table_of_ones_own_uses_its_address_and_key(server, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-private")
    table = ProviderSettings(base_url=server.url, api_key_env="LOCAL_KEY")
    provider = create("local", Settings(providers={"local": table}))
    with pytest.raises(AuthenticationFailed, match=r"^LOCAL_KEY is not set"):
        provider.prepare("local:llama")
    monkeypatch.setenv("LOCAL_KEY", "abcd")
    response = await provider.complete(ask(model="local:llama"))
    await provider.aclose()
    assert response.model_used == "local:llama"
    assert server.requests[0].authorization == "Bearer abcd"
    assert "org-private" not in server.requests[0].headers.values()
    assert provider.base_url == server.url


async def test_a_table_without_a_key_never_sends_openais(server):
    server.key = "wanted"
    provider = create("local", Settings(providers={"local": ProviderSettings(base_url=server.url)}))
    raised = await failure(provider, ask(model="local:llama"))
    await provider.aclose()
    assert server.requests[0].authorization == "Bearer no-key"
    assert "api_key_env" in str(raised)


async def test_the_environments_address_goes_before_the_settings(server, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    provider = create("openai", Settings(providers={"openai": ProviderSettings(base_url="http://127.0.0.1:9/v1")}))
    await provider.complete(ask())
    await provider.aclose()
    assert server.requests[0].authorization == f"Bearer {KEY}"


@pytest.mark.parametrize("base_url", [None, "localhost:8000"])
def test_a_table_needs_a_usable_address(base_url):
    with pytest.raises(SettingsError, match=r"\[providers\.local\].*base_url"):
        create("local", Settings(providers={"local": ProviderSettings(base_url=base_url)}))


async def test_reachable_counts_the_models(server, provider):
    assert await provider.reachable() == "reachable, 2 models"
    server.models = ["one"]
    assert await provider.reachable() == "reachable, 1 model"


async def test_reachable_says_what_is_wrong(server, provider, monkeypatch):
    server.plan = ["not_found", Reply(body={"models": 3}), "error", "broken_json"]
    assert "does not list" in await provider.reachable()
    assert "does not list" in await provider.reachable()
    for error in (ProviderUnavailable, OutputInvalid):
        with pytest.raises(error):
            await provider.reachable()
    server.plan = ["silent"]
    with monkeypatch.context() as hasty:
        hasty.setattr("feedbackloop.providers.openai._REACHABLE_WITHIN_S", 0.03)
        with pytest.raises(ProviderTimeout, match=r"within 0\.03 s"):
            await provider.reachable()
    server.key = "another"
    with pytest.raises(AuthenticationFailed):
        await provider.reachable()


def test_each_event_loop_has_its_own_client_and_nothing_stays_open(server):
    provider = OpenAIProvider("openai", Settings())

    async def twice() -> list[AIResponse]:
        return await asyncio.gather(provider.complete(ask()), provider.complete(ask()))

    # Without aclose: asyncio.run closes what the loop leaves; an unclosed session would be a ResourceWarning.
    for _ in range(3):
        assert len(asyncio.run(twice())) == 2
    assert provider._connections == {}
    gc.collect()


async def test_after_aclose_new_connections_are_opened(server, provider):
    await provider.complete(ask())
    await provider.aclose()
    await provider.aclose()
    await provider.complete(ask())
    assert server.connections == 2


async def test_two_hundred_calls_are_under_way_at_once(server, provider):
    server.delay_s = 0.05
    await asyncio.gather(*(provider.complete(ask(str(i))) for i in range(200)))
    assert server.most_at_once == 200


async def test_connections_are_used_again(server, provider):
    for _ in range(5):
        await provider.complete(ask())
    assert server.connections == 1


async def test_seeded_rates_and_plans_by_model(server, provider):
    server.rates = {"unavailable": 0.5}
    server.plans = {"planned": ["rate_limited"]}
    assert type(await failure(provider, ask(model="openai:planned"))) is RateLimited
    for _ in range(40):
        with suppress(ProviderUnavailable):
            await provider.complete(ask())
    assert 8 < server.counts["unavailable"] < 32
    assert server.counts.total() == 41


async def test_all_recorded_answers_come_through_unchanged(server, provider):
    if not DATA.is_dir():
        pytest.skip("the developers' data pack is not here")
    prompts = {}
    with (DATA / "prompts.jsonl").open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            prompts[row["prompt_id"]] = row["prompt"]
    with gzip.open(DATA / "outputs.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    # Two prompts may be the same text, so the id goes with it.
    texts = {key: f"{key}: {prompt}" for key, prompt in prompts.items()}
    server.answers = {(row["model"], texts[row["prompt_id"]]): row["output"] for row in rows}
    server.keep = False
    waiting = iter(rows)

    async def work() -> int:
        equal = 0
        for row in waiting:
            response = await provider.complete(ask(texts[row["prompt_id"]], model=f"openai:{row['model']}"))
            equal += response.output == row["output"]
        return equal

    assert sum(await asyncio.gather(*(work() for _ in range(64)))) == len(rows) == 4830


def test_the_server_runs_as_a_process_of_its_own(monkeypatch):
    script = Path(__file__).with_name("openai_server.py")
    command = [sys.executable, str(script), "--rates", '{"unavailable": 1}', "--key", "abcd"]
    monkeypatch.setenv("OPENAI_API_KEY", "abcd")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            monkeypatch.setenv("OPENAI_BASE_URL", process.stdout.readline().strip())
            assert type(asyncio.run(failure(OpenAIProvider("openai", Settings())))) is ProviderUnavailable
        finally:
            process.terminate()
