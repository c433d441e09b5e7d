from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from feedbackloop.errors import (
    AuthenticationFailed,
    InvalidRequest,
    OutputInvalid,
    ProviderError,
    RateLimited,
    SettingsError,
)
from feedbackloop.models import AIRequest, AIResponse
from feedbackloop.providers import create
from feedbackloop.providers.recorded import FIGURES, RecordedProvider, Recorder
from feedbackloop.providers.simulated import SimulatedProvider
from feedbackloop.settings import Settings

DATA = Path(__file__).parents[2] / "shared/data"


@pytest.fixture
def provider(tmp_path):
    return create("recorded", Settings(base=tmp_path))


@pytest.fixture
def write(tmp_path):
    def written(*lines, name="answers.jsonl"):
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        data = "".join(f"{text}\n" for text in texts).encode("utf-8", "surrogatepass")
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)

    return written


def ask(case=None, model="recorded:answers.jsonl", **fields):
    return AIRequest(input="the question", model=model, case_id=case, **fields)


async def output(provider, request) -> str:
    return (await provider.complete(request)).output


async def test_the_answer_of_the_case_and_its_figures_come_back(provider, write):
    usage = {"prompt_tokens": 3}
    figures = {
        "latency_ms": 12.5,
        "ttft_ms": 3,
        "input_tokens": 3,
        "output_tokens": 4,
        "cached_tokens": 1,
        "usage": usage,
    }
    more = {"cost_usd": 0.25, "finish_reason": "stop", "provider_model": "gpt-9"}
    write({"case_id": "c1", "output": "yes", **figures, **more}, {"case_id": "c2", "output": "no"})
    request = ask("c1")
    response = await provider.complete(request)
    assert response.output == "yes"
    assert response.request_id == request.id
    assert response.model_used == "recorded:answers.jsonl"
    assert {name: getattr(response, name) for name in figures | more} == figures | more
    assert response.tokens_used == 7
    other = await provider.complete(ask("c2"))
    assert (other.output, other.latency_ms, other.tokens_used, other.cost_usd) == ("no", None, None, None)


def test_recorded_answers_are_not_live(provider):
    assert provider.live is False


async def test_the_group_decides_whose_answer_it_is(provider, write):
    write(
        {"case_id": "c", "group": "a", "output": "of a"},
        {"case_id": "c", "variant": "b", "output": "of b"},
        {"case_id": "c", "model": "gpt-4o#2", "output": "of c"},
    )
    assert await output(provider, ask("c", "recorded:answers.jsonl#a")) == "of a"
    assert await output(provider, ask("c", "recorded:answers.jsonl#b")) == "of b"
    assert await output(provider, ask("c", "recorded:answers.jsonl#gpt-4o#2")) == "of c"


def test_a_file_with_several_answers_to_a_case_needs_a_group(provider, write):
    write({"case_id": "c", "group": "a", "output": "1"}, {"case_id": "c", "group": "b", "output": "2"})
    with pytest.raises(SettingsError, match=r"several answers to case c: name a group .*there is a, b"):
        provider.prepare("recorded:answers.jsonl")


async def test_groups_that_share_no_case_need_no_name(provider, write):
    write({"case_id": "c", "group": "a", "output": "1"}, {"case_id": "d", "group": "b", "output": "2"})
    assert await output(provider, ask("d")) == "2"


async def test_the_key_goes_before_the_case_and_the_repeat_before_the_first(provider, write):
    write(
        {"key": "k", "output": "by key"},
        {"case_id": "c", "output": "first"},
        {"case_id": "c", "repeat": 1, "output": "second"},
    )
    assert await output(provider, ask("c", key="k", repeat=1)) == "by key"
    assert await output(provider, ask("c", key="other", repeat=1)) == "second"
    assert await output(provider, ask("c", repeat=0)) == "first"
    assert await output(provider, ask("c", repeat=7)) == "first"


@pytest.mark.parametrize(("recorded", "asked"), [(5, "5"), (5.0, "5"), ("5", 5), ("row-5", "row-5"), ("5", 5.0)])
async def test_the_datasets_own_id_finds_the_answer_too(provider, write, recorded, asked):
    write({"case_id": recorded, "output": "found"})
    assert await output(provider, ask("0123hash", metadata={"external_id": asked})) == "found"


async def test_no_answer_names_file_group_and_case(provider, write):
    write({"case_id": "c", "group": "a", "output": "1"})
    with pytest.raises(InvalidRequest, match=r"answers.jsonl, group a, holds no answer to case row-9") as caught:
        await provider.complete(ask("h", "recorded:answers.jsonl#a", metadata={"external_id": "row-9"}))
    assert caught.value.retryable is False
    with pytest.raises(InvalidRequest, match="holds no answer to case 'the question'"):
        await provider.complete(ask())


@pytest.mark.parametrize(
    "text", ["", "   \n", " kept \t", "a\bb\x0b\x1b[0m", "x" * 65_477, "\u200d\ufeff漢字🙂", "<script>", "=1+1"]
)
async def test_the_text_stays_as_it_came(provider, write, text):
    write({"case_id": "c", "output": text})
    response = await provider.complete(ask("c"))
    assert response.output == text
    assert response.metadata == {}


async def test_only_what_no_store_takes_is_replaced(provider, write):
    write('{"case_id": "c", "output": "a\\u0000b\\ud800"}')
    response = await provider.complete(ask("c"))
    assert response.output == "a\u2400b\ufffd"
    assert response.metadata == {"repaired": 2}


@pytest.mark.parametrize(
    ("value", "text", "kind"),
    [(True, "true", "bool"), (3.5, "3.5", "float"), ({"a": "ü"}, '{"a": "ü"}', "dict"), ([], "[]", "list")],
)
async def test_what_is_no_text_becomes_its_json_and_says_so(provider, write, value, text, kind):
    write({"case_id": "c", "output": value})
    response = await provider.complete(ask("c"))
    assert response.output == text
    assert response.metadata == {"output_type": kind}


async def test_null_is_no_answer(provider, write):
    write({"case_id": "c", "output": None})
    with pytest.raises(OutputInvalid, match="null"):
        await provider.complete(ask("c"))


@pytest.mark.parametrize(
    ("name", "error"),
    [("RateLimited", RateLimited), ("AuthenticationFailed", AuthenticationFailed), ("Other", ProviderError),
     ("StoreError", ProviderError), ("BaseException", ProviderError), ("annotations", ProviderError)],
)  # fmt: skip
async def test_a_recorded_failure_is_raised_again_in_its_class(provider, write, name, error):
    write({"case_id": "c", "error_type": name, "error": "what it said"})
    with pytest.raises(ProviderError, match=r"^what it said$") as caught:
        await provider.complete(ask("c"))
    assert type(caught.value) is error
    assert not caught.value.retryable  # the same failure would be replayed


async def test_a_failure_without_a_message_still_says_something(provider, write):
    write({"case_id": "c", "error_type": "RateLimited", "output": None})
    with pytest.raises(RateLimited, match=r"answers.jsonl records a RateLimited here"):
        await provider.complete(ask("c"))


async def test_several_lines_for_one_request_come_in_turn_and_the_last_stays(provider, write):
    write(
        {"case_id": "c", "error_type": "RateLimited"},
        {"case_id": "c", "output": "then"},
        {"case_id": "d", "output": "d"},
    )
    provider.prepare("recorded:answers.jsonl")
    for _ in range(2):
        with pytest.raises(RateLimited):
            await provider.complete(ask("c"))
        assert await output(provider, ask("d")) == "d"
        assert [await output(provider, ask("c")) for _ in range(3)] == ["then"] * 3
        # A new run starts over.
        provider.prepare("recorded:answers.jsonl")


@pytest.mark.parametrize("name", ["answers.jsonl", "answers.jsonl.gz"])
async def test_plain_and_gzip_files_with_bom_crlf_and_blank_lines(provider, write, name):
    write('\ufeff{"case_id": 1, "output": "one"}\r', "", "  ", {"case_id": 2, "output": "two"}, name=name)
    assert await output(provider, ask("1", f"recorded:{name}")) == "one"
    assert await output(provider, ask("2", f"recorded:{name}")) == "two"


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (
            ['{"case_id": 1, "output": "a"}', '{"case_id": 2, "output" "b"}'],
            r"answers.jsonl:2:25: this is not valid JSON",
        ),
        (["[1]"], r":1: a line must be a JSON object"),
        ([], "is empty"),
        (["", " "], "is empty"),
        ([{"case_id": 1, "ouput": "a"}], r":1: .*neither 'output' nor 'error_type'; did you mean 'ouput'"),
        ([{"id": 1, "output": "a"}], r":1: .*neither 'key' nor 'case_id'"),
        ([{"case_id": True, "output": "a"}], r":1: 'case_id' must be a text or a number"),
        ([{"case_id": 1, "repeat": "x", "output": "a"}], r":1: 'repeat' must be a whole number"),
        ([{"case_id": 1, "latency_ms": "fast", "output": "a"}], r":1: 'latency_ms' makes no sense: \"fast\""),
        ([{"case_id": 1, "usage": 3, "output": "a"}], r":1: 'usage' makes no sense"),
        ([{"case_id": 1, "input_tokens": 1.5, "output": "a"}], r":1: 'input_tokens' must be a whole number"),
        ([{"case_id": 1, "retry_after": "x", "error_type": "RateLimited"}], r":1: 'retry_after' makes no sense"),
    ],
)
async def test_a_file_that_makes_no_sense_is_named_with_its_line(provider, write, lines, says):
    write(*lines)
    with pytest.raises(SettingsError, match=says):
        provider.prepare("recorded:answers.jsonl")
    with pytest.raises(InvalidRequest, match=says):
        await provider.complete(ask("1"))


def test_bytes_that_are_no_utf8_and_broken_gzip_are_named(provider, tmp_path):
    (tmp_path / "latin.jsonl").write_bytes(b'{"output": "\xe9"}\n')
    with pytest.raises(SettingsError, match=r"latin.jsonl:1:13: this is not UTF-8"):
        provider.prepare("recorded:latin.jsonl")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b"x" * 999)[:-12])
    with pytest.raises(SettingsError, match=r"cut.jsonl.gz cannot be read"):
        provider.prepare("recorded:cut.jsonl.gz")
    (tmp_path / "plain.jsonl.gz").write_bytes(b"{}")
    with pytest.raises(SettingsError, match=r"plain.jsonl.gz cannot be read"):
        provider.prepare("recorded:plain.jsonl.gz")


def test_a_missing_file_group_or_name_says_what_there_is(provider, write):
    write({"case_id": "c", "group": "terse", "output": "1"})
    with pytest.raises(SettingsError, match=r"no recording .*answer.jsonl; did you mean 'answers.jsonl'"):
        provider.prepare("recorded:answer.jsonl")
    with pytest.raises(SettingsError, match=r"holds no answers of 'long'; there is terse"):
        provider.prepare("recorded:answers.jsonl#long")
    with pytest.raises(SettingsError, match=r"names no recording: write recorded:PATH.jsonl"):
        provider.prepare("recorded:answers.csv")
    with pytest.raises(SettingsError, match="no recording"):
        provider.prepare("recorded:nowhere/answers.jsonl")


async def test_a_changed_file_is_read_again_and_changes_the_hash_of_its_group_only(provider, write, tmp_path):
    write({"case_id": "c", "group": "a", "output": "old"}, {"case_id": "d", "group": "b", "output": "b"})
    a, b = "recorded:answers.jsonl#a", "recorded:answers.jsonl#b"
    before = provider.prepare(a), provider.prepare(b)
    assert provider.prepare(a) == before[0]
    write({"case_id": "c", "group": "a", "output": "new"}, {"case_id": "d", "group": "b", "output": "b"})
    os.utime(tmp_path / "answers.jsonl", ns=(1, 1))
    assert provider.prepare(a) != before[0]
    assert provider.prepare(b) == before[1]
    assert await output(provider, ask("c", a)) == "new"


def test_a_path_starts_from_the_settings_base_and_may_be_absolute(provider, write, tmp_path):
    write({"case_id": "c", "output": "1"})
    assert provider.prepare("recorded:answers.jsonl") == provider.prepare(f"recorded:{tmp_path}/answers.jsonl")


class Scripted:
    """Answers from a list, errors among them."""

    live = True
    base_url = "http://127.0.0.1:1/v1"

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)
        self.closed = False

    async def complete(self, request):
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome.model_copy(update={"request_id": request.id, "model_used": request.model})

    async def aclose(self):
        self.closed = True


def answered(text, **fields):
    return AIResponse(request_id="", model_used="", output=text, **fields)


async def outcome(provider, request):
    try:
        response = await provider.complete(request)
    except ProviderError as error:
        return type(error), str(error), error.retry_after
    return response.output, {name: getattr(response, name) for name in FIGURES}, response.status


async def test_what_a_recorder_wrote_replays_identically(provider, tmp_path):
    full = answered(
        " 漢\n\b ", latency_ms=1.5, ttft_ms=0.5, tokens_used=9, input_tokens=3, output_tokens=4, cached_tokens=0,
        cache_write_tokens=2, reasoning_tokens=1, usage={"a": {"b": 1}}, cost_usd=0.0, finish_reason="length",
        provider_model="m",
    )  # fmt: skip
    recorder = Recorder(
        Scripted(
            RateLimited("wait\ud800", retry_after=2.5),
            RateLimited("used up", retryable=False),
            full,
            answered(""),
            answered("repeat"),
            answered("loose"),
            answered("other group"),
        ),
        tmp_path / "answers.jsonl",
    )
    terse = {"variant": "terse", "external_id": "row-1"}
    requests = [
        *[ask("c", "openai:gpt", key="k1", metadata=terse)] * 3,
        ask("d", "openai:gpt", key="k2", metadata={"variant": "terse"}),
        ask("d", "openai:gpt", key="k3", repeat=1, metadata={"variant": "terse"}),
        AIRequest(input="no case", model="openai:gpt", metadata={"variant": "terse"}),
        ask("c", "openai:gpt", key="k4"),
    ]
    live = [await outcome(recorder, request) for request in requests]
    live[0] = (live[0][0], "wait\ufffd", *live[0][2:])
    models = ["recorded:answers.jsonl#terse"] * 6 + ["recorded:answers.jsonl#openai:gpt"]
    replayed = [
        request.model_copy(update={"model": model, "key": None})
        for request, model in zip(requests, models, strict=True)
    ]
    assert [await outcome(provider, request) for request in replayed] == live
    # Another dataset hashes the case differently, but its own id still finds it.
    found = replayed[0].model_copy(update={"case_id": "elsewhere"})
    assert (await outcome(RecordedProvider("recorded", Settings(base=tmp_path)), found))[0] is RateLimited


async def test_a_recorder_writes_at_once_and_appends(tmp_path):
    path = tmp_path / "answers.jsonl"
    for text in ("one", "two"):
        await Recorder(Scripted(answered(text)), path).complete(ask(text, "openai:gpt"))
        last = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])
        assert last == {"case_id": text, "group": "openai:gpt", "repeat": 0, "output": text}
    assert len(path.read_text(encoding="utf-8").splitlines()) == 2


async def test_a_recorder_shows_what_the_other_provider_shows(tmp_path):
    inner = Scripted()
    recorder = Recorder(inner, tmp_path / "a.jsonl")
    assert (recorder.live, recorder.base_url) == (True, inner.base_url)
    assert not hasattr(recorder, "prepare")
    await recorder.aclose()
    assert inner.closed
    over = Recorder(RecordedProvider("recorded", Settings(base=tmp_path)), tmp_path / "a.jsonl")
    assert over.live is False
    with pytest.raises(SettingsError, match="no recording"):
        over.prepare("recorded:missing.jsonl")


def test_a_recorder_refuses_a_file_that_could_not_be_replayed(tmp_path):
    with pytest.raises(SettingsError, match=r"to a .jsonl file, not to a.csv"):
        Recorder(Scripted(), tmp_path / "a.csv")


async def test_a_simulated_run_replays_identically(provider, tmp_path):
    recorder = Recorder(SimulatedProvider("simulated", Settings()), tmp_path / "answers.jsonl")
    requests = [
        AIRequest(input=f"question {i}", model="simulated:a", case_id=f"c{i}", params={"failure_rate": 0.3})
        for i in range(50)
        for _ in range(3)
    ]
    live = [await outcome(recorder, request) for request in requests]
    model = "recorded:answers.jsonl#simulated:a"
    assert [await outcome(provider, request.model_copy(update={"model": model})) for request in requests] == live


async def test_all_answers_of_the_data_pack_come_back_unchanged(provider, tmp_path):
    if not DATA.is_dir():
        pytest.skip("the developers' data pack is not here")
    with gzip.open(DATA / "outputs.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    with gzip.open(tmp_path / "outputs.jsonl.gz", "wt", encoding="utf-8", compresslevel=1) as file:
        for row in rows:
            row["case_id"] = row.pop("prompt_id")
            file.write(json.dumps(row) + "\n")
    equal = 0
    for row in rows:
        request = ask(
            "hash", f"recorded:outputs.jsonl.gz#{row['model']}", metadata={"external_id": str(row["case_id"])}
        )
        equal += await output(provider, request) == row["output"]
    assert equal == len(rows) == 4830
    assert len(provider._recordings) == 1
