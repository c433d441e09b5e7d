from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import sys
import threading
import time
from textwrap import dedent

import pytest

from feedbackloop.errors import (
    InvalidRequest,
    OutputInvalid,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    SettingsError,
)
from feedbackloop.models import AIRequest
from feedbackloop.providers import create
from feedbackloop.settings import Settings


@pytest.fixture
def provider(tmp_path):
    return create("python", Settings(base=tmp_path))


@pytest.fixture
def write(tmp_path):
    def written(source, name="my_app.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(source), encoding="utf-8")
        return path

    return written


def ask(function="answer", file="my_app.py", **fields):
    fields = {"inputs": {"name": "Ann"}, **fields}
    return AIRequest(input="the text", model=f"python:{file}:{function}", **fields)


async def failure(provider, request=None) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await provider.complete(request or ask())
    return caught.value


async def test_a_function_gets_the_inputs_as_one_dict(provider, write):
    write("def answer(inputs): return f'Hello {inputs}'")
    request = ask()
    response = await provider.complete(request)
    assert response.output == "Hello {'name': 'Ann'}"
    assert (response.request_id, response.model_used) == (request.id, "python:my_app.py:answer")
    assert response.latency_ms > 0
    assert (response.cost_usd, response.tokens_used, response.metadata) == (None, None, {})


async def test_without_inputs_it_gets_the_text_as_input(provider, write):
    write("def answer(inputs): return repr(inputs)")
    assert (await provider.complete(ask(inputs=None))).output == "{'input': 'the text'}"


async def test_an_async_function_is_awaited_and_so_is_a_callable_or_a_returned_coroutine(provider, write):
    write(
        """
        import asyncio, functools, threading
        async def answer(inputs):
            await asyncio.sleep(0)
            return threading.current_thread().name
        def later(inputs): return answer(inputs)
        class Bot:
            async def __call__(self, inputs): return await answer(inputs)
        bot = Bot()
        partial = functools.partial(answer)
        """
    )
    for name in ("answer", "later", "bot", "partial"):
        assert (await provider.complete(ask(name))).output == threading.current_thread().name


async def test_a_function_cannot_change_the_inputs_of_others(provider, write):
    write("def answer(inputs): inputs['list'].append(1); return str(inputs)")
    request = ask(inputs={"list": []})
    for _ in range(2):
        assert (await provider.complete(request)).output == "{'list': [1]}"
    assert request.inputs == {"list": []}


async def test_synchronous_functions_run_side_by_side_with_the_callers_context(provider, write):
    write(
        """
        import threading
        import settings_of_test
        together = threading.Barrier(20)
        def answer(inputs):
            together.wait(5)
            return f"{settings_of_test.variable.get()} {threading.current_thread().name}"
        """
    )
    module = type(sys)("settings_of_test")
    module.variable = contextvars.ContextVar("variable")
    sys.modules["settings_of_test"] = module
    try:

        async def one(number):
            module.variable.set(number)
            return (await provider.complete(ask())).output

        texts = await asyncio.gather(*(asyncio.create_task(one(n)) for n in range(20)))
    finally:
        del sys.modules["settings_of_test"]
    assert [text.split()[0] for text in texts] == [str(n) for n in range(20)]
    assert all("feedbackloop-python" in text for text in texts)


async def test_an_airesponse_keeps_its_own_figures(provider, write):
    write(
        """
        from feedbackloop.models import AIResponse
        kept = AIResponse(request_id="mine", output="a\\0", model_used="mine", latency_ms=3.5, cost_usd=0.1,
                          input_tokens=4, metadata={"own": 1})
        def answer(inputs): return kept
        def bare(inputs): return AIResponse(request_id="x", output="b", model_used="x")
        def failed(inputs): return AIResponse(request_id="x", output="", model_used="x", status="failed", error="why")
        """
    )
    request = ask()
    one, two = await provider.complete(request), await provider.complete(request)
    assert (one.request_id, one.model_used) == (request.id, request.model)
    assert (one.latency_ms, one.cost_usd, one.input_tokens, one.output) == (3.5, 0.1, 4, "a\u2400")
    assert one.metadata == {"own": 1, "repaired": 1}
    assert one.id != two.id
    assert (await provider.complete(ask("bare"))).latency_ms > 0
    assert str(await failure(provider, ask("failed"))) == "why"


@pytest.mark.parametrize(
    ("value", "says"), [("None", "nothing"), ("3", "type int"), ("{'a': 1}", "type dict"), ("b'x'", "type bytes")]
)
async def test_another_return_type_is_an_invalid_output(provider, write, value, says):
    write(f"def answer(inputs): return {value}")
    raised = await failure(provider)
    assert type(raised) is OutputInvalid
    assert says in str(raised)


@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize(
    ("error", "made"),
    [
        ("ValueError('no such order')", ProviderError),
        ("StopIteration()", ProviderError),
        ("SystemExit(2)", ProviderError),
        ("TimeoutError('slow')", ProviderTimeout),
        ("ConnectionResetError('gone')", ProviderUnavailable),
        ("ValueError('two\\nlines, key sk-abcdef12345')", ProviderError),
    ],
)
async def test_an_error_in_the_function_is_one_sentence_with_its_place(provider, write, kind, error, made):
    if kind == "async def" and error == "StopIteration()":
        pytest.skip("Python itself turns it into a RuntimeError there")
    write(f"{kind} answer(inputs):\n    x = 1\n    raise {error}\n")
    raised = await failure(provider)
    assert type(raised) is made
    assert raised.retryable is made.default_retryable
    assert f"python:my_app.py:answer raised {error.partition('(')[0]}" in str(raised)
    assert str(raised).endswith("(my_app.py:3)")
    assert "\n" not in str(raised)
    assert "sk-abc" not in str(raised)


async def test_the_place_is_in_the_users_file_when_a_library_raises(provider, write):
    write("import json\n\ndef answer(inputs):\n    return json.loads('{')\n")
    assert str(await failure(provider)).endswith("(my_app.py:4)")


async def test_provider_errors_pass_as_they_are(provider, write):
    write(
        """
        from feedbackloop.errors import RateLimited
        def answer(inputs): raise RateLimited("busy", retry_after=4)
        """
    )
    raised = await failure(provider)
    assert (type(raised), str(raised), raised.retry_after) == (RateLimited, "busy", 4)


async def test_cancelling_passes_through(provider, write):
    write("import asyncio\nasync def answer(inputs): await asyncio.Event().wait()")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await provider.complete(ask())


def test_prepare_returns_a_hash_that_follows_the_source(provider, write):
    write("def answer(inputs): return 'one'")
    first = provider.prepare("python:my_app.py:answer")
    assert provider.prepare("python:my_app.py:answer") == first
    path = write("def answer(inputs): return 'two'")
    os.utime(path, ns=(1, 1))
    assert provider.prepare("python:my_app.py:answer") != first
    assert asyncio.run(provider.complete(ask())).output == "two"
    write("def answer(inputs): return 'one'")
    assert provider.prepare("python:my_app.py:answer") == first


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("python:my_ap.py:answer", "There is no file .*my_ap.py; did you mean 'my_app.py'"),
        ("python:my_app.py:anwser", "has no function 'anwser'; did you mean 'answer'"),
        ("python:my_app.py:number", "'number' in my_app.py is no function, but a value of type int"),
        ("python:my_app.py", "names no function: write python:PATH.py:FUNCTION"),
        ("python:answer", "names no function"),
        ("python:broken.py:answer", r"broken.py:2: this is not valid Python"),
        ("python:raises.py:answer", r"raises.py cannot be imported: ZeroDivisionError: .*\(raises.py:2\)"),
        ("python:exits.py:answer", r"exits.py cannot be imported: SystemExit: 3"),
        ("python:needs.py:answer", r"needs.py cannot be imported: No module named 'not_there_at_all'"),
        ("python:no_such_package.module:answer", "There is no module 'no_such_package'"),
        ("python:nowhere/my_app.py:answer", "There is no file"),
    ],
)
async def test_what_cannot_be_imported_is_said_before_anything_is_asked(provider, write, model, says):
    write("number = 1\ndef answer(inputs): return ''")
    write("x = 1\ndef answer(:", "broken.py")
    write("x = 1\n1 / 0", "raises.py")
    write("import sys; sys.exit(3)", "exits.py")
    write("import not_there_at_all", "needs.py")
    with pytest.raises(SettingsError, match=says):
        provider.prepare(model)
    with pytest.raises(InvalidRequest, match=says):
        await provider.complete(AIRequest(input="x", model=model))
    assert not [name for name in sys.modules if name.startswith("_feedbackloop_function_") and "raises" in name]


async def test_files_of_one_name_in_several_folders_stay_apart_with_their_neighbours(provider, write):
    for folder in ("a", "b"):
        write("import wording\ndef answer(inputs): return wording.text()", f"{folder}/my_app.py")
        write(f"def text(): return 'from {folder}'", f"{folder}/wording.py")
    path = list(sys.path)
    try:
        for folder in ("a", "b", "a"):
            assert (await provider.complete(ask(file=f"{folder}/my_app.py"))).output == f"from {folder}"
    finally:
        sys.modules.pop("wording", None)
    assert sys.path == path


def test_an_edited_neighbour_is_read_with_the_edited_file(provider, write):
    try:
        for version in ("one", "two"):
            write(f"def text(): return '{version} {'x' * (version == 'two')}'", "wording_edited.py")
            path = write(f"import wording_edited\ndef answer(inputs): return wording_edited.text()  # {version}")
            os.utime(path, ns=(time.time_ns(), 1 if version == "one" else 2))
            provider.prepare("python:my_app.py:answer")
            assert asyncio.run(provider.complete(ask())).output.startswith(version)
    finally:
        sys.modules.pop("wording_edited", None)


async def test_a_dataclass_in_the_file_works(provider, write):
    write(
        """
        from __future__ import annotations
        from dataclasses import dataclass
        @dataclass
        class Wording:
            text: str = "fine"
        def answer(inputs): return Wording().text
        """
    )
    assert (await provider.complete(ask())).output == "fine"


async def test_a_module_by_name_is_found_in_the_settings_base(provider, write):
    write("", "package_of_test/__init__.py")
    path = write("def answer(inputs): return 'from a package'", "package_of_test/inner.py")
    try:
        before = provider.prepare("python:package_of_test.inner:answer")
        assert (await provider.complete(ask(file="package_of_test.inner"))).output == "from a package"
        path.write_text("def answer(inputs): return 'edited, and longer than before'", encoding="utf-8")
        assert provider.prepare("python:package_of_test.inner:answer") != before
        assert (await provider.complete(ask(file="package_of_test.inner"))).output.startswith("edited")
    finally:
        for name in [name for name in sys.modules if name.startswith("package_of_test")]:
            del sys.modules[name]


async def test_text_that_no_store_takes_is_repaired_and_counted(provider, write):
    write("def answer(inputs): return 'a' + chr(0) + chr(0xd800)")
    response = await provider.complete(ask())
    assert (response.output, response.metadata) == ("a\u2400\ufffd", {"repaired": 2})


def test_threads_end_with_the_provider(tmp_path, write):
    write("def answer(inputs): return 'x'")
    before = threading.active_count()
    provider = create("python", Settings(base=tmp_path))
    asyncio.run(provider.complete(ask()))
    del provider
    gc.collect()
    for _ in range(100):
        if threading.active_count() <= before:
            return
        time.sleep(0.005)
    pytest.fail("threads are left")
