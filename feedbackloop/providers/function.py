"""One's own function as a model: `python:PATH.py:FUNCTION` or `python:package.module:FUNCTION`."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import functools
import inspect
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feedbackloop.errors import (
    InvalidRequest,
    OutputInvalid,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    SettingsError,
)
from feedbackloop.functions import Loaded, load
from feedbackloop.identity import new_id
from feedbackloop.models import AIRequest, AIResponse, ProcessingStatus
from feedbackloop.providers.endpoint import scrub
from feedbackloop.settings import Settings
from feedbackloop.text import storable

THREADS = 64
"""Synchronous functions that run at the same time."""


@dataclass(frozen=True)
class _Function:
    loaded: Loaded
    waits: bool
    """Whether it is called in the event loop."""


@dataclass(frozen=True)
class _Outcome:
    result: Any
    latency_ms: float


class FunctionProvider:
    """Calls a Python function with the case's inputs as one dict, and takes the text or `AIResponse` that it returns.

    Async functions are awaited; others run in threads, with the caller's context variables. A path starts from the
    settings' `base`; a file may import its neighbours at its top.
    """

    live = True
    takes_inputs = True

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self._base = settings.base
        self._functions: dict[str, _Function] = {}
        self._threads: ThreadPoolExecutor | None = None

    def prepare(self, model: str) -> str:
        """Import the function, again if its file has changed; returns a hash of that file.

        Raises:
            SettingsError: there is no such file, module or function, or importing it fails.
        """
        known = self._functions.get(model)
        if known is None or known.loaded.changed():
            known = self._functions[model] = _load(model, self._base, reload=known is not None)
        return known.loaded.source

    async def complete(self, request: AIRequest) -> AIResponse:
        """Call the function once.

        Raises:
            OutputInvalid: it returned neither a text nor an `AIResponse`.
            ProviderTimeout: it raised a `TimeoutError`.
            ProviderUnavailable: it raised a `ConnectionError`.
            ProviderError: it raised that itself, or anything else (then not retryable: a fault in the code stays).
        """
        function = self._functions.get(request.model)
        if function is None:
            try:
                self.prepare(request.model)
            except SettingsError as error:
                raise InvalidRequest(str(error)) from error
            function = self._functions[request.model]
        # A copy: a function that changes its inputs would change them for the other variants too.
        inputs = copy.deepcopy(request.inputs) if request.inputs is not None else {"input": request.input}
        try:
            if function.waits:
                started = time.perf_counter()
                outcome = _Outcome(await function.loaded.function(inputs), (time.perf_counter() - started) * 1000)
            else:
                outcome = await self._in_thread(function, request.model, inputs)
        except ProviderError:
            raise
        except (Exception, SystemExit) as error:
            raise _typed(error, function, request.model) from error
        return _answer(outcome, request)

    async def _in_thread(self, function: _Function, model: str, inputs: dict[str, Any]) -> _Outcome:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix=f"feedbackloop-{self.name}")
        run = functools.partial(contextvars.copy_context().run, _timed, function, model, inputs)
        outcome = await asyncio.get_running_loop().run_in_executor(self._threads, run)
        if isinstance(outcome, ProviderError):
            raise outcome
        if not inspect.isawaitable(outcome.result):
            return outcome
        started = time.perf_counter()
        return _Outcome(await outcome.result, outcome.latency_ms + (time.perf_counter() - started) * 1000)


def _timed(function: _Function, model: str, inputs: dict[str, Any]) -> _Outcome | ProviderError:
    # Typed here, since neither a future nor a coroutine can carry a StopIteration.
    started = time.perf_counter()
    try:
        result = function.loaded.function(inputs)
    except ProviderError as error:
        return error
    except (Exception, SystemExit) as error:
        typed = _typed(error, function, model)
        typed.__cause__ = error
        return typed
    return _Outcome(result, (time.perf_counter() - started) * 1000)


def _answer(outcome: _Outcome, request: AIRequest) -> AIResponse:
    result = outcome.result
    if isinstance(result, str):
        output, repaired = storable(result)
        return AIResponse(
            request_id=request.id,
            output=output,
            model_used=request.model,
            latency_ms=outcome.latency_ms,
            metadata={"repaired": repaired} if repaired else {},
        )
    if not isinstance(result, AIResponse):
        raise OutputInvalid(f"{request.model} must return a text or an AIResponse, but returned {_kind(result)}")
    if result.status is ProcessingStatus.FAILED:
        raise ProviderError(scrub(result.error or f"{request.model} returned a FAILED response without a reason"))
    output, repaired = storable(result.output)
    return result.model_copy(
        update={
            # One response object may be returned for many requests, and rows are told apart by their id.
            "id": new_id(),
            "request_id": request.id,
            "model_used": request.model,
            "output": output,
            "latency_ms": outcome.latency_ms if result.latency_ms is None else result.latency_ms,
            "attempts": [],
            "metadata": result.metadata | {"repaired": repaired} if repaired else result.metadata,
        }
    )


def _kind(result: Any) -> str:
    return "nothing (None)" if result is None else f"a value of type {type(result).__name__}"


def _typed(error: BaseException, function: _Function, model: str) -> ProviderError:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if function.loaded.file and frame.filename == str(function.loaded.file)]
    place = (own or frames)[-1:]
    where = f" ({Path(place[0].filename).name}:{place[0].lineno})" if place else ""
    text = str(error)
    message = scrub(f"{model} raised {type(error).__name__}{f': {text}' if text else ''}{where}")
    if isinstance(error, TimeoutError):
        return ProviderTimeout(message)
    if isinstance(error, ConnectionError):
        return ProviderUnavailable(message)
    return ProviderError(message)


def _load(model: str, base: Path, *, reload: bool) -> _Function:
    reference = model.partition(":")[2]
    if not all(reference.rpartition(":")[::2]):
        raise SettingsError(
            f"'{model}' names no function: write python:PATH.py:FUNCTION or python:package.module:FUNCTION"
        )
    loaded = load(reference, base, reload=reload)
    call = loaded.function
    waits = inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(getattr(call, "__call__", None))  # noqa: B004
    return _Function(loaded, waits)
