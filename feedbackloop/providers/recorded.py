"""Answers that were given before, from a JSON Lines file: model output made elsewhere, or what a `Recorder` wrote.

One object per line. It is found by `key` (the request's), or by `case_id` (the case's, or the dataset's own id) and `repeat`;
`group`, `variant` or `model` says whose answer it is. An answer has `output`; a failure has `error_type` and `error`.
The figures in `FIGURES` are optional.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from feedbackloop import errors
from feedbackloop.errors import InvalidRequest, OutputInvalid, ProviderError, SettingsError
from feedbackloop.identity import content_id
from feedbackloop.models import AIRequest, AIResponse
from feedbackloop.providers import Chunk, Provider
from feedbackloop.registry import near
from feedbackloop.settings import Settings
from feedbackloop.text import storable

FIGURES = (
    "latency_ms",
    "ttft_ms",
    "tokens_used",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "usage",
    "cost_usd",
    "finish_reason",
    "provider_model",
)
"""Fields of a response that a line may carry under the same name."""

Cell = str | tuple[str, int]
"""What a line answers: a request's key, or a case id and a repeat."""

_PLACE = re.compile(r"(?P<path>.+?\.jsonl(?:\.gz)?)(?:#(?P<group>.*))?", re.DOTALL)


@dataclass
class _Recording:
    """A file, read once: its lines as they are, and where each answer stands. Parsed again only when it is asked for."""

    path: Path
    modified: int
    lines: list[bytes] = field(default_factory=list)
    groups: dict[str | None, dict[Cell, list[int]]] = field(default_factory=dict)
    """Line indexes in the file's order, by group; None stands for all lines."""
    mixed: str | None = None
    """A case that several groups answer, so that one has to be named."""


class RecordedProvider:
    """Replays `recorded:PATH#GROUP`: no model is asked, nothing is waited for, the text stays as it came.

    `PATH` starts from the settings' `base`; without `#GROUP` all lines count. Where a file holds several lines for one
    request (an error, then the answer that a retry got), each further time it is asked gives the next, and the last stays.
    """

    live = False
    paid = False

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self._base = settings.base
        self._recordings: dict[Path, _Recording] = {}
        self._views: dict[str, tuple[_Recording, dict[Cell, list[int]]]] = {}
        self._asked: dict[str, dict[Cell, int]] = {}

    def prepare(self, model: str) -> str:
        """Read the file, again if it has changed, and start over; returns a hash of the lines that count, so that a mended one is asked again.

        Raises:
            SettingsError: no such file or group, or a line that makes no sense; the message says where.
        """
        self._views.pop(model, None)
        self._asked.pop(model, None)
        recording, view = self._view(model)
        digest = hashlib.sha256()
        for index in sorted({index for found in view.values() for index in found}):
            digest.update(recording.lines[index])
        return digest.hexdigest()[:32]

    async def complete(self, request: AIRequest) -> AIResponse:
        """The recorded answer.

        Raises:
            ProviderError: the recorded failure, in its own class.
            InvalidRequest: nothing is recorded for this case, or the file cannot be used.
        """
        try:
            recording, view = self._view(request.model)
        except SettingsError as error:
            raise InvalidRequest(str(error)) from error
        for cell in _cells(request):
            if (found := view.get(cell)) is not None:
                break
        else:
            raise InvalidRequest(_nothing(request, recording))
        turn = 0
        if len(found) > 1:
            asked = self._asked.setdefault(request.model, {})
            turn = asked.get(cell, 0)
            asked[cell] = min(turn + 1, len(found) - 1)
        try:
            return _replay(json.loads(recording.lines[found[turn]]), request, recording.path)
        except ProviderError as error:
            # Asking again would replay the same failure: there is nothing to wait for.
            error.retryable = error.retryable and turn + 1 < len(found)
            raise

    def _view(self, model: str) -> tuple[_Recording, dict[Cell, list[int]]]:
        if (known := self._views.get(model)) is not None:
            return known
        place = _PLACE.fullmatch(model.partition(":")[2])
        if place is None:
            raise SettingsError(
                f"'{model}' names no recording: write recorded:PATH.jsonl or recorded:PATH.jsonl.gz#GROUP"
            )
        path, group = self._base / Path(place["path"]).expanduser(), place["group"]
        recording = self._read(path)
        names = [name for name in recording.groups if name is not None]
        if group is None and recording.mixed is not None:
            listed = ", ".join(sorted(names))
            raise SettingsError(
                f"{path} holds several answers to case {recording.mixed}: name a group as {model}#GROUP; there is {listed}"
            )
        if group not in recording.groups:
            raise SettingsError(f"{path} holds no answers of '{group}'{near(group or '', names)}")
        self._views[model] = recording, recording.groups[group]
        return self._views[model]

    def _read(self, path: Path) -> _Recording:
        try:
            modified = path.stat().st_mtime_ns
        except OSError as error:
            others = [other.name for other in path.parent.glob("*.jsonl*")] if path.parent.is_dir() else []
            raise SettingsError(f"There is no recording {path}{near(path.name, others)}") from error
        known = self._recordings.get(path)
        if known is None or known.modified != modified:
            known = self._recordings[path] = _index(path, modified)
        return known


class Recorder:
    """A provider around another that appends every answer and every failure to a file which `RecordedProvider` replays.

    Args:
        provider: whose answers are recorded.
        path: a `.jsonl` file; it is made, or appended to.
    """

    def __init__(self, provider: Provider, path: str | Path) -> None:
        self._provider = provider
        self._path = Path(path)
        if self._path.suffix != ".jsonl":
            raise SettingsError(f"A recording is written to a .jsonl file, not to {self._path.name}")

    def __getattr__(self, name: str) -> Any:
        # `live`, `base_url`, `prepare` and `aclose` are optional: it has those that the other has.
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._provider, name)

    async def complete(self, request: AIRequest) -> AIResponse:
        """Answer as the other does, and write down what it said.

        Raises:
            ProviderError: as the other does.
        """
        try:
            response = await self._provider.complete(request)
        except ProviderError as error:
            self._failed(request, error)
            raise
        self._answered(request, response)
        return response

    async def stream(self, request: AIRequest) -> AsyncIterator[Chunk]:
        """Stream as the other does, or the whole answer in one piece where it does not, and write down what it said.

        Raises:
            ProviderError: as the other does.
        """
        streamed = getattr(self._provider, "stream", None)
        if streamed is None:
            response = await self.complete(request)
            yield Chunk(response.output)
            yield Chunk(response=response)
            return
        try:
            async with aclosing(streamed(request)) as chunks:
                async for chunk in chunks:
                    if chunk.response is not None:
                        self._answered(request, chunk.response)
                    yield chunk
        except ProviderError as error:
            self._failed(request, error)
            raise

    def _failed(self, request: AIRequest, error: ProviderError) -> None:
        self._append(
            request,
            {
                "error_type": type(error).__name__,
                "error": str(error),
                "retryable": error.retryable,
                "retry_after": error.retry_after,
            },
        )

    def _answered(self, request: AIRequest, response: AIResponse) -> None:
        self._append(request, {"output": response.output, **{name: getattr(response, name) for name in FIGURES}})

    def _append(self, request: AIRequest, values: dict[str, Any]) -> None:
        line = {
            "key": request.key if request.key or request.case_id else _own_key(request),
            "case_id": request.case_id,
            "external_id": request.metadata.get("external_id"),
            "group": request.metadata.get("variant") or request.model,
            "repeat": request.repeat,
            **values,
        }
        text = json.dumps({name: value for name, value in line.items() if value is not None}, ensure_ascii=False)
        # One open file per line: nothing is left unwritten or unclosed whenever the program ends.
        with self._path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(storable(text)[0] + "\n")


def _own_key(request: AIRequest) -> str:
    # Unlike a run's key it leaves out the model, which is another one in a replay.
    return content_id(request.messages or request.input, request.params, request.repeat)


def _cells(request: AIRequest) -> Iterator[Cell]:
    cases = [request.case_id, _case(request.metadata.get("external_id"))]
    if request.key is not None:
        yield request.key
    elif not any(cases):
        yield _own_key(request)
    for repeat in (request.repeat, 0):
        for case in cases:
            if case is not None:
                yield case, repeat


def _nothing(request: AIRequest, recording: _Recording) -> str:
    group = request.model.partition("#")[2]
    case = request.metadata.get("external_id") or request.case_id or f"'{request.input[:60]}'"
    return f"{recording.path}{f', group {group},' if group else ''} holds no answer to case {case}"


def _replay(line: dict[str, Any], request: AIRequest, path: Path) -> AIResponse:
    if line.get("error_type") is not None or "output" not in line:
        known = getattr(errors, str(line.get("error_type")), None)
        made = known if isinstance(known, type) and issubclass(known, ProviderError) else ProviderError
        message = line.get("error") or f"{path.name} records a {line.get('error_type')} here"
        raise made(str(message), retryable=line.get("retryable"), retry_after=line.get("retry_after"))
    output = line["output"]
    metadata: dict[str, Any] = {}
    if output is None:
        raise OutputInvalid(f"{path.name} records null as the answer to case {line.get('case_id')}")
    if not isinstance(output, str):
        metadata["output_type"] = type(output).__name__
        output = json.dumps(output, ensure_ascii=False)
    output, repaired = storable(output)
    if repaired:
        metadata["repaired"] = repaired
    figures = {name: line[name] for name in FIGURES if name in line}
    read, written = figures.get("input_tokens"), figures.get("output_tokens")
    if read is not None and written is not None:
        figures.setdefault("tokens_used", read + written)
    return AIResponse(request_id=request.id, output=output, model_used=request.model, metadata=metadata, **figures)


def _index(path: Path, modified: int) -> _Recording:
    recording = _Recording(path, modified, groups={None: {}})
    owners: dict[Cell, str | None] = {}
    for number, raw in enumerate(_raw_lines(path), start=1):
        if not raw.strip():
            continue
        line = _parsed(raw, path, number)
        index = len(recording.lines)
        recording.lines.append(raw)
        names = [str(line[name]) for name in ("group", "variant", "model") if line.get(name) is not None]
        cells = _line_cells(line, f"{path}:{number}")
        for group in dict.fromkeys([None, *names]):
            view = recording.groups.setdefault(group, {})
            for cell in cells:
                view.setdefault(cell, []).append(index)
        owner = names[0] if names else None
        for cell in cells:
            if owners.setdefault(cell, owner) != owner and isinstance(cell, tuple):
                recording.mixed = recording.mixed or cell[0]
    if not recording.lines:
        raise SettingsError(f"{path} is empty: a recording has one JSON object per line")
    return recording


def _raw_lines(path: Path) -> Iterator[bytes]:
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rb") as file:
            for number, line in enumerate(file):
                yield line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line
    except (OSError, EOFError, zlib.error) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from error


def _parsed(raw: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        line = json.loads(raw.decode("utf-8"))
    except json.JSONDecodeError as error:
        raise SettingsError(f"{path}:{number}:{error.colno}: this is not valid JSON: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}:{number}:{error.start + 1}: this is not UTF-8") from error
    if not isinstance(line, dict):
        raise SettingsError(f"{path}:{number}: a line must be a JSON object")
    if "output" not in line and not line.get("error_type") and not line.get("error"):
        raise SettingsError(f"{path}:{number}: the line has neither 'output' nor 'error_type'{near('output', line)}")
    for name in (*FIGURES, "retry_after"):
        value = line.get(name)
        wanted = {"usage": dict, "finish_reason": str, "provider_model": str}.get(name, int | float)
        if value is not None and (not isinstance(value, wanted) or isinstance(value, bool)):
            raise SettingsError(f"{path}:{number}: '{name}' makes no sense: {json.dumps(value)[:60]}")
        if name.startswith(("tokens_", "input_", "output_", "cache", "reasoning_")) and isinstance(value, float):
            raise SettingsError(f"{path}:{number}: '{name}' must be a whole number, not {value}")
    return line


def _line_cells(line: dict[str, Any], place: str) -> list[Cell]:
    repeat = line.get("repeat", 0)
    if type(repeat) is not int:
        raise SettingsError(f"{place}: 'repeat' must be a whole number")
    cells: list[Cell] = [line["key"]] if isinstance(line.get("key"), str) else []
    for name in ("case_id", "external_id"):
        value = line.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, str | int | float)):
            raise SettingsError(f"{place}: '{name}' must be a text or a number")
        case = _case(value)
        if case is not None and (case, repeat) not in cells:
            cells.append((case, repeat))
    if not cells:
        raise SettingsError(f"{place}: the line has neither 'key' nor 'case_id'{near('case_id', line)}")
    return cells


def _case(value: Any) -> str | None:
    if value is None:
        return None
    # 5.0 is what a table with gaps makes of the id 5.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
