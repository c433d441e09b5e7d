"""What the columns of a file of answers stand for: guessed, put right by a person, and the file arranged accordingly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from feedbackloop.datasets import Row, case_of, rows
from feedbackloop.errors import DatasetError
from feedbackloop.importers import AnswerMapping, guess_id_column, guess_ignored, guess_mapping
from feedbackloop.importers.figures import FIGURES
from feedbackloop.pages.starting.files import FOLDER
from feedbackloop.store import Store
from feedbackloop.wording import file_name


class Role(StrEnum):
    """What a column stands for."""

    QUESTION = "question"
    ANSWER = "answer"
    VARIANT = "whose answer"
    ID = "row's id"
    EXPECTED = "expected answer"
    SEGMENT = "segment"
    FIGURE = "measured figure"
    NOTHING = "leave out"


WIDE = (Role.QUESTION, Role.ANSWER, Role.ID, Role.EXPECTED, Role.SEGMENT, Role.NOTHING)
"""Where each variant has a column of answers."""
LONG = (
    Role.QUESTION,
    Role.VARIANT,
    Role.ANSWER,
    Role.ID,
    Role.EXPECTED,
    Role.SEGMENT,
    Role.FIGURE,
    Role.NOTHING,
)
"""Where each row is one answer, and a column says whose."""

_NAMES = {Role.ID: "id", Role.EXPECTED: "expected", Role.SEGMENT: "segment"}
"""What the importer knows a column by."""


@dataclass(frozen=True)
class Guess:
    """What a file most likely is."""

    long: bool
    roles: dict[str, Role]
    sure: bool
    """False where nothing told which columns hold the answers."""


def guess(columns: Sequence[str], first: Sequence[Mapping[str, Any]], *, long: bool | None = None) -> Guess:
    """What the columns most likely stand for.

    Args:
        columns: their names.
        first: the first rows.
        long: the shape, where somebody has said it.
    """
    mapping: AnswerMapping | None
    try:
        mapping = guess_mapping(columns, first)
    except DatasetError:
        mapping = None
    shape = bool(mapping and mapping.variant) if long is None else long
    if mapping is not None and bool(mapping.variant) != shape:
        mapping = None
    id_column = guess_id_column(columns)
    ignored = () if mapping is None else guess_ignored(columns, first, mapping)
    roles = {name: Role.NOTHING if name in ignored else _role(name, mapping, id_column, long=shape) for name in columns}
    return Guess(shape, roles, mapping is not None)


def _role(name: str, mapping: AnswerMapping | None, id_column: str | None, *, long: bool) -> Role:
    if mapping is not None and name == mapping.variant:
        return Role.VARIANT
    if mapping is not None and name in mapping.columns:
        return Role.ANSWER
    if name == id_column:
        return Role.ID
    if name.lower() in FIGURES:
        return Role.FIGURE if long and name in FIGURES else Role.NOTHING
    return {"expected": Role.EXPECTED, "segment": Role.SEGMENT}.get(name, Role.QUESTION)


def mapping_of(roles: Mapping[str, Role], *, long: bool) -> AnswerMapping:
    """The mapping that these roles stand for.

    Raises:
        DatasetError: an answer is missing, or a role that stands once stands twice; says what to choose.
    """
    by_role = {role: [name for name, given in roles.items() if given is role] for role in Role}
    for role in (Role.ID, Role.EXPECTED, Role.SEGMENT, Role.VARIANT):
        if len(by_role[role]) > 1:
            raise DatasetError(f"{' and '.join(by_role[role])} are both the {role}; choose one")
    for role, name in _NAMES.items():
        if roles.get(name) is Role.QUESTION and by_role[role]:
            raise DatasetError(
                f"the column '{name}' would stand for the {role} too; leave it out, or choose it for that"
            )
    answers = by_role[Role.ANSWER]
    if not long:
        if not answers:
            raise DatasetError("choose at least one column that holds answers; with two they can be compared")
        _need_question(by_role)
        return AnswerMapping(answers=tuple(answers))
    if not by_role[Role.VARIANT] or len(answers) != 1:
        raise DatasetError("choose one column that says whose answer it is, and one that holds the answer")
    _need_question(by_role)
    return AnswerMapping(variant=by_role[Role.VARIANT][0], output=answers[0])


def _need_question(by_role: Mapping[Role, Sequence[str]]) -> None:
    if not by_role[Role.QUESTION]:
        raise DatasetError("choose at least one column for the question: what the answers are about")


def id_column(roles: Mapping[str, Role], *, same: bool) -> str | None:
    """The column that the importer takes the id from.

    Args:
        same: the file is imported as it is, and not as `arranged` renamed it.
    """
    name = next((name for name, role in roles.items() if role is Role.ID), None)
    return name if same or name is None else _NAMES[Role.ID]


def first_case(file: Path, roles: Mapping[str, Role], mapping: AnswerMapping) -> str:
    """Id of the case that the first row of an arranged file is about.

    Raises:
        DatasetError: the row is no case.
    """
    row = next(rows(file))
    values = {name: value for name, value in row.values.items() if name not in mapping.not_of_the_case}
    known = id_column(roles, same=True)
    return case_of(Row(row.line, values), file, known if known in values else "id").id


def arranged(file: Path, roles: Mapping[str, Role], store: Store) -> Path:
    """A file whose columns the importer knows by their names: the very same one, or a copy beside the uploads.

    Raises:
        DatasetError: a row cannot be read.
    """
    renamed = {name: _NAMES[role] for name, role in roles.items() if role in _NAMES and name != _NAMES[role]}
    left_out = {name for name, role in roles.items() if role is Role.NOTHING}
    if not renamed and not left_out:
        return file
    digest = hashlib.sha256(file.read_bytes())
    digest.update(json.dumps([renamed, sorted(left_out)], sort_keys=True).encode())
    stem = file_name(file.stem)
    target = store.folder / FOLDER / f"{digest.hexdigest()[:10]}-{stem or 'answers'}.jsonl"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    with part.open("w", encoding="utf-8", errors="surrogatepass") as stream:
        for row in rows(file):
            values = {renamed.get(name, name): value for name, value in row.values.items() if name not in left_out}
            stream.write(json.dumps(values, ensure_ascii=True) + "\n")
    part.replace(target)
    return target
