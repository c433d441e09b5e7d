"""One's own function as a model: `python:PATH.py:FUNCTION` or `python:package.module:FUNCTION`."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import functools
import hashlib
import importlib
import importlib.util
import inspect
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from feedbackloop.errors import (
    InvalidRequest,
    OutputInvalid,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    SettingsError,
)
from feedbackloop.identity import new_id
from feedbackloop.models import AIRequest, AIResponse, ProcessingStatus
from feedbackloop.providers.endpoint import scrub
from feedbackloop.registry import near
from feedbackloop.settings import Settings
from feedbackloop.text import storable

THREADS = 64
"""Synchronous functions that run at the same time."""


@dataclass(frozen=True)
class _Function:
    call: Callable[[dict[str, Any]], Any]
    file: Path | None
    modified: int
    source: str
    """Hash of the source file; of a module without one, its name."""
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
        if known is None or known.modified != _modified(known.file):
            known = self._functions[model] = _load(model, self._base, reload=known is not None)
        return known.source

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
                outcome = _Outcome(await function.call(inputs), (time.perf_counter() - started) * 1000)
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
        result = function.call(inputs)
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
    own = [frame for frame in frames if function.file and frame.filename == str(function.file)]
    place = (own or frames)[-1:]
    where = f" ({Path(place[0].filename).name}:{place[0].lineno})" if place else ""
    text = str(error)
    message = scrub(f"{model} raised {type(error).__name__}{f': {text}' if text else ''}{where}")
    if isinstance(error, TimeoutError):
        return ProviderTimeout(message)
    if isinstance(error, ConnectionError):
        return ProviderUnavailable(message)
    return ProviderError(message)


_importing = threading.RLock()
_neighbours: dict[str, Path] = {}
"""Modules that files brought in from their own folder, so that another folder's of the same name can take their place."""


def _load(model: str, base: Path, *, reload: bool) -> _Function:
    target, _, name = model.partition(":")[2].rpartition(":")
    if not target or not name:
        raise SettingsError(
            f"'{model}' names no function: write python:PATH.py:FUNCTION or python:package.module:FUNCTION"
        )
    with _importing:
        if target.endswith(".py"):
            module = _from_file((base / Path(target).expanduser()).resolve(), reload=reload)
        else:
            module = _from_name(target, base.resolve(), reload=reload)
    call = getattr(module, name, None)
    if call is None:
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise SettingsError(f"{target} has no function '{name}'{near(name, known)}")
    if not callable(call):
        raise SettingsError(f"'{name}' in {target} is no function, but {_kind(call)}")
    file = Path(module.__file__) if module.__file__ else None
    source = file.read_bytes() if file else target.encode()
    waits = inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(getattr(call, "__call__", None))  # noqa: B004
    return _Function(call, file, _modified(file), hashlib.sha256(source).hexdigest()[:32], waits)


def _modified(file: Path | None) -> int:
    try:
        return file.stat().st_mtime_ns if file else 0
    except OSError:
        return 0


def _from_file(path: Path, *, reload: bool) -> ModuleType:
    if not path.is_file():
        others = [other.name for other in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise SettingsError(f"There is no file {path}{near(path.name, others)}")
    folder = path.parent
    for name, place in list(_neighbours.items()):
        shadowed = place != folder and ((folder / f"{name}.py").exists() or (folder / name).is_dir())
        if shadowed or (reload and place == folder):
            for loaded in [key for key in sys.modules if key == name or key.startswith(f"{name}.")]:
                del sys.modules[loaded]
            del _neighbours[name]
    # Named by its whole path, so that files of one name in several folders stay apart.
    private = f"_feedbackloop_function_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
    module = ModuleType(private)
    module.__file__ = str(path)
    before = set(sys.modules)
    sys.modules[private] = module
    importlib.invalidate_caches()
    try:
        with _folder_on_path(folder), _as_settings_error(str(path)):
            # Compiled here and not by a loader, which takes an edit within one second for the cached bytecode.
            exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), vars(module))  # noqa: S102
    except SettingsError:
        del sys.modules[private]
        raise
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if name.partition(".")[0] == name and file and folder in Path(file).parents:
            _neighbours[name] = folder
    return module


def _from_name(target: str, base: Path, *, reload: bool) -> ModuleType:
    with _folder_on_path(base), _as_settings_error(target):
        importlib.invalidate_caches()
        module = importlib.import_module(target)
        return importlib.reload(module) if reload else module


@contextmanager
def _folder_on_path(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


@contextmanager
def _as_settings_error(target: str) -> Iterator[None]:
    try:
        yield
    except SyntaxError as error:
        raise SettingsError(f"{error.filename}:{error.lineno}: this is not valid Python: {error.msg}") from error
    except ModuleNotFoundError as error:
        if error.name and (target == error.name or target.startswith(f"{error.name}.")):
            raise SettingsError(f"There is no module '{error.name}' to import {target} from") from error
        raise SettingsError(f"{target} cannot be imported: {error}") from error
    except (Exception, SystemExit) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        message = scrub(f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})")
        raise SettingsError(f"{target} cannot be imported: {message}") from error
