"""Files to begin from: those that came through the browser, kept beside the store, and those that lie here already.

What is uploaded is untrusted. It gets a name of its own that is only a name, is read as data and never as anything else, and
only what was listed here can be chosen.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import shutil
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from feedbackloop.bundled import bundled
from feedbackloop.datasets import Checked, open_dataset, rows
from feedbackloop.datasets.counting import READ
from feedbackloop.errors import DatasetError
from feedbackloop.models import Case
from feedbackloop.store import Store
from feedbackloop.wording import file_name

ENDINGS = ("csv", "tsv", "jsonl", "ndjson", "json", "yaml", "yml", "parquet")
"""What may be uploaded. Compressed files may not: a small one can hold more than the machine does."""

FOLDER = "uploads"
PEEKED = 50
"""Rows that are shown, and that prompts are tried on."""

_HERE = ("*.jsonl", "*.ndjson", "*.csv", "*.tsv", "*.parquet", "*.jsonl.gz", "*.csv.gz")
_MOST = 200
_LARGEST_YAML = 20_000_000


@dataclass(frozen=True)
class Peek:
    """The beginning of a file."""

    columns: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    """The first 50."""


def save(name: str, data: bytes, store: Store) -> Path:
    """Keep an uploaded file beside the store; the same content again is the same file.

    Raises:
        DatasetError: its ending is none that is read here, or it is YAML that would grow when read.
    """
    stem, _, ending = name.rpartition(".")
    ending = ending.lower()
    if ending not in ENDINGS or not stem:
        raise DatasetError(f"files of this kind are not read; known are {', '.join(ENDINGS)}", file=safe_name(name))
    if ending in {"yaml", "yml"}:
        _refuse_growing(data, safe_name(name))
    digest = hashlib.sha256(data).hexdigest()[:10]
    file = store.folder / FOLDER / f"{digest}-{safe_name(stem)}.{ending}"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f".{file.name}.part")
        part.write_bytes(data)
        part.replace(file)
    return file


def safe_name(name: str) -> str:
    """A name that is only a name: letters, digits, dots, dashes, at most 60 of them, none of it a path."""
    plain = unicodedata.normalize("NFKC", name.replace("\\", "/").rpartition("/")[2])
    return re.sub(r"[^\w.-]+", "_", plain).strip("._-")[:60] or "file"


def own_name(file: Path) -> str:
    """What a file is called, as a name that is only a name: without its ending, and an upload without the digits in front."""
    return safe_name(file_name(file.stem))


def uploaded(name: str, store: Store) -> Path | None:
    """The uploaded file of this name, if there is one."""
    folder = store.folder / FOLDER
    return next((file for file in folder.glob("*") if file.name == name and _is_data(file)), None)


def at_hand(store: Store, folder: Path, sources: Iterable[Path]) -> list[Path]:
    """Files that can be chosen: uploaded ones and what earlier runs used, newest first; then data files in `folder` and one below.

    Args:
        store: which uploads lie beside.
        folder: where people keep their data.
        sources: what earlier runs were about; files that are gone are passed over.
    """
    uploads = [file for file in (store.folder / FOLDER).glob("*") if _is_data(file)]
    used = [file for file in dict.fromkeys(sources) if file.is_file()]
    recent = sorted(
        {*(file.absolute() for file in uploads), *used}, key=lambda file: file.stat().st_mtime, reverse=True
    )
    here = sorted(
        file.absolute()
        for pattern in _HERE
        for file in itertools.chain(folder.glob(pattern), folder.glob(f"*/{pattern}"))
        if not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )
    return list(dict.fromkeys([*recent, *here]))[:_MOST]


def example(store: Store) -> Path:
    """The starter's five questions, copied to where uploads lie."""
    target = store.folder / FOLDER / "example.jsonl"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(bundled("data") / "starter" / "cases.jsonl", target)
    return target


def peek(file: Path) -> Peek:
    """The beginning of a file.

    Raises:
        DatasetError: it cannot be read; says where.
    """
    first = [row.values for row in itertools.islice(rows(file), PEEKED)]
    return Peek(tuple(dict.fromkeys(name for values in first for name in values)), tuple(first))


def first_cases(file: Path, id_column: str | None) -> tuple[Case, ...]:
    """The first cases of a file, each once, for trying prompts on and for a guess at what they cost.

    Raises:
        DatasetError: a row of these is no case.
    """
    first = itertools.islice(open_dataset(file, id_column=id_column), READ)
    return tuple({case.id: case for case in first}.values())


def check(file: Path, id_column: str | None) -> Checked:
    """Go through a whole file as a run would.

    Raises:
        DatasetError: a row cannot be read; says where.
    """
    return open_dataset(file, id_column=id_column).check()


def _is_data(file: Path) -> bool:
    return file.is_file() and not file.name.startswith(".") and file.suffix.lower().removeprefix(".") in ENDINGS


def _refuse_growing(data: bytes, name: str) -> None:
    """A few lines of YAML whose aliases name one another can stand for more than fits into memory."""
    if len(data) > _LARGEST_YAML:
        raise DatasetError("YAML of this size is not read here; save it as JSON Lines", file=name)
    if b"*" not in data or b"&" not in data:
        return
    try:
        alias = next(
            (token for token in yaml.scan(data.decode("utf-8", "replace")) if isinstance(token, yaml.AliasToken)), None
        )
    except yaml.YAMLError:
        return  # whoever reads it says what is wrong, and where
    if alias is not None:
        raise DatasetError(
            "aliases are not read from uploaded YAML; write the value out", file=name, line=alias.start_mark.line + 1
        )
