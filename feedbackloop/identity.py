"""Ids and times, which business code makes and the store keeps as they are."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID


def new_id() -> str:
    """A fresh uuid4 as text."""
    # A run makes some four ids per answer; one system call for each would be a tenth of its own CPU.
    while True:
        try:
            return _ids.pop()
        except IndexError:
            raw = os.urandom(16 * 256)
            _ids.extend(str(UUID(bytes=raw[at : at + 16], version=4)) for at in range(0, len(raw), 16))


_ids: list[str] = []
# A forked process must not draw the ids that its parent draws.
os.register_at_fork(after_in_child=_ids.clear)


def utcnow() -> datetime:
    """The present moment, aware, in UTC."""
    return datetime.now(UTC)


def content_id(*parts: Any) -> str:
    """128 bits of SHA-256 over the parts' canonical JSON, as 32 hex digits: equal content, equal id, on any machine."""
    text = json.dumps(parts, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def request_key(asked: Any, model: str, params: Mapping[str, Any], repeat: int, source: str | None = None) -> str:
    """What makes two requests the same question, whose answer is paid for once.

    Args:
        asked: the messages, or a function's inputs.
        model: `provider:model`.
        params: of the model.
        repeat: which of several answers to the same it is.
        source: what else decides the answer: a hash of a function's file, of a recording.
    """
    return content_id(asked, model, params, repeat, source)


def fingerprint(case_ids: Iterable[str]) -> str:
    """Hash over case ids in their order: equal for equal datasets, whatever file they came in."""
    digest = hashlib.sha256()
    for case_id in case_ids:
        digest.update(case_id.encode())
    return digest.hexdigest()[:32]
