"""A file made elsewhere, of whatever kind: recognised, read, stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from feedbackloop.datasets import fault, find_file
from feedbackloop.errors import UnknownName
from feedbackloop.identity import content_id, fingerprint
from feedbackloop.importers.answers import import_answers
from feedbackloop.importers.formats import COLUMNS, FORMATS, Format, Source, recognise
from feedbackloop.importers.intake import Imported, Passage
from feedbackloop.importers.records import write, write_cases
from feedbackloop.importers.votes import ImportedVotes, import_votes
from feedbackloop.models import Run
from feedbackloop.registry import near
from feedbackloop.store import Store

if TYPE_CHECKING:
    from feedbackloop.importers.mapping import AnswerMapping


def import_file(
    source: str | Path,
    store: Store,
    *,
    task: str = "default",
    format: str | None = None,
    mapping: AnswerMapping | None = None,
    cases: str | Path | None = None,
    id_column: str | None = None,
    ignore: Sequence[str] = (),
    keep: Sequence[str] = (),
    blind: bool = True,
    columns: Mapping[str, str] | None = None,
    winners: Mapping[str, str] | None = None,
) -> Imported:
    """Store what a file holds: answers, what was said of them, votes. Again with the same file, it adds nothing.

    The file is read to its end before anything is written, so that a faulty one leaves no trace.

    Args:
        source: a file of any kind that `open_dataset` reads.
        store: where to.
        task: the feature that it is about; made if the store has none of that name.
        format: a name of `FORMATS`, or `answers` or `votes` for tables; recognised by what is in the file unless given.
        mapping: tables of answers: which columns hold them; guessed if not given.
        cases: the file that the answers refer to by id, where they come without their prompts.
        id_column: tables of answers: the column with the case's id; guessed if not given.
        ignore: tables of answers: columns that are left out, beside those that are plainly about an answer or a verdict.
        keep: tables of answers: columns that are part of the case, though they seem to be about an answer or a verdict.
        blind: votes: whether the voters did not know whose answers they saw, where the file does not say.
        columns: tables of votes: what the file calls their columns (see `import_votes`).
        winners: tables of votes: what its words for the winner mean.

    Raises:
        DatasetError: the file cannot be read as what it is; with file and line.
        UnknownName: there is no such format.
        StoreError: the store cannot be used.
    """
    path = find_file(source)
    of_answers = mapping is not None or id_column is not None or ignore or keep
    told = "answers" if of_answers else "votes" if columns or winners else None
    name = format or told or recognise(path)
    if name == "answers":
        return import_answers(
            path, store, task=task, mapping=mapping, cases=cases, id_column=id_column, ignore=ignore, keep=keep
        )
    if name == "votes":
        return _of_votes(import_votes(path, store, task=task, blind=blind, columns=columns, winners=winners))
    return _of_tool(Source(path, store, None if cases is None else find_file(cases), blind), name, task)


def known_formats() -> list[str]:
    """What `format` may be."""
    return [*COLUMNS, *FORMATS.names()]


def _of_votes(found: ImportedVotes) -> Imported:
    return Imported(
        run_id="",
        cases=0,
        variants=(),
        answers=0,
        new=found.new,
        repeated=found.repeated,
        mapping=None,
        notes=found.notes,
        votes=found.votes,
        ratings=found.issues,
        format="votes",
        raters=found.raters,
    )


def _of_tool(source: Source, name: str, task: str) -> Imported:
    if name not in FORMATS:
        raise UnknownName(f"There is no import format called '{name}'{near(name, known_formats())}")
    known: Format = FORMATS.get(name)
    path, store = source.path, source.store
    if known.convert is not None:
        made = known.convert(source, task)
        return Imported(
            *("", made.cases, made.variants, 0, made.new, 0, None, ()),
            left_out=source.left_out.told(),
            format=name,
            files=made.files,
        )
    assert known.read is not None
    first = Passage(path, known.read(source))
    content = first.print()
    # The second reading meets the same things.
    again = Passage(path, known.read(Source(path, store, source.cases, source.blind)))
    notes, left_out = tuple(source.notes), source.left_out.told()
    if not first.count:
        if not first.asked:
            raise fault(_nothing(source), path)
        new = write_cases(store, again)
        return Imported("", first.asked, (), 0, new, first.repeated, None, notes, left_out=left_out, format=name)
    variants = list(first.variants.values())
    run = Run(
        id=content_id("run", task, name, content),
        task=task,
        dataset=path.name,
        fingerprint=fingerprint(first.answered),
        variants=[variant.id for variant in variants],
        repeats=first.repeats,
        settings={"imported": path.name, "format": name},
    )
    new = write(store, run, variants, again)
    return Imported(
        run_id=run.id,
        cases=len(first.answered),
        variants=tuple(first.variants),
        answers=first.count,
        new=new,
        repeated=first.repeated,
        mapping=None,
        notes=notes,
        votes=first.votes,
        ratings=first.ratings,
        left_out=left_out,
        format=name,
        raters=tuple(first.raters),
    )


def _nothing(source: Source) -> str:
    """The sentence for a file of which nothing could be taken."""
    told = source.left_out.told()
    return f"there is nothing in it that could be taken: {told[0]}" if told else "there is nothing in it to take"
