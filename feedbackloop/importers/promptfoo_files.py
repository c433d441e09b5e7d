"""What a promptfoo config names instead of writing: `file://` beside it, and nothing outside its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from feedbackloop.datasets import document, rows
from feedbackloop.errors import DatasetError

_LARGEST = 16 * 2**20


class Unreadable(Exception):
    """A reference that cannot be followed; the message says why."""


def text_of(reference: str, folder: Path) -> str:
    """The text of the file that a reference names.

    Raises:
        Unreadable: it is a program, lies outside the folder, is not there, or is too large.
    """
    path = path_of(reference, folder)
    try:
        if path.stat().st_size > _LARGEST:
            raise Unreadable(f"{reference} is larger than {_LARGEST // 2**20} MB")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Unreadable(f"{reference} cannot be read") from error


def value_of(reference: str, folder: Path) -> Any:
    """What the file that a reference names holds: a value of JSON or YAML, rows of a table, else its text.

    Raises:
        Unreadable: it cannot be followed.
    """
    path = path_of(reference, folder)
    try:
        if path.suffix in {".json", ".yaml", ".yml"}:
            return document(path)
        if path.suffix in {".csv", ".tsv", ".jsonl"}:
            return [row.values for row in rows(path)]
    except DatasetError as error:
        raise Unreadable(str(error)) from error
    return text_of(reference, folder)


def path_of(reference: str, folder: Path) -> Path:
    """Where the file lies that a reference names.

    Raises:
        Unreadable: it is a program, lies outside the folder, or is not there.
    """
    name = reference.removeprefix("file://")
    if Path(name.partition(":")[0]).suffix in {".js", ".cjs", ".mjs", ".ts", ".py", ".rb", ".sh", ".go"}:
        raise Unreadable(f"{reference} is a program, and none is run for an import")
    try:
        path = (folder / name).resolve()
    except (OSError, ValueError) as error:
        raise Unreadable(f"{reference!r} is no name of a file") from error
    if not path.is_relative_to(folder.resolve()):
        raise Unreadable(f"{reference} lies outside the config's folder")
    if any(mark in name for mark in "*?[") or not path.is_file():
        raise Unreadable(f"{reference} is not there, or names several files")
    return path


def as_yaml(values: Any) -> str:
    """A value as YAML that people can read and change."""
    return yaml.safe_dump(json.loads(json.dumps(values)), sort_keys=False, allow_unicode=True, width=120)
