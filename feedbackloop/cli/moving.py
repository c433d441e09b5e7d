"""The command that brings data in."""
# ruff: noqa: PLC0415, D301 - see the package's docstring; \b keeps the lines of examples as they are

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from feedbackloop.cli.options import StoreOption, open_store, same_store
from feedbackloop.cli.wording import printable
from feedbackloop.wording import count

if TYPE_CHECKING:
    from feedbackloop.importers import AnswerMapping
    from feedbackloop.store import Store

ANSWERS = "Answers"
VOTES = "Votes"


def import_(  # noqa: PLR0917 - Typer makes options of them
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="CSV, JSON Lines, JSON, YAML or Parquet; what a rating pack saved; another store (.duckdb, postgres:...).",
        ),
    ],
    store: StoreOption = None,
    task: Annotated[str, typer.Option(help="The feature that these answers or votes are about.")] = "default",
    answers: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A,B",
            help="Columns with answers, one for each variant.",
            show_default="guessed",
            rich_help_panel=ANSWERS,
        ),
    ] = None,
    variant_column: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Where each row is one answer: the column that names the variant ...",
            rich_help_panel=ANSWERS,
        ),
    ] = None,
    output_column: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="... and the one that holds the answer.", rich_help_panel=ANSWERS),
    ] = None,
    dataset: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The cases that the answers refer to by id, if they have no prompts.",
            rich_help_panel=ANSWERS,
        ),
    ] = None,
    id_column: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="The column with the case's id.", show_default="guessed", rich_help_panel=ANSWERS
        ),
    ] = None,
    votes: Annotated[
        bool, typer.Option("--votes", help="The file holds votes on answers that the store has.", rich_help_panel=VOTES)
    ] = False,
    blind: Annotated[
        bool,
        typer.Option(
            "--blind/--not-blind", help="Whether the voters did not know whose answers they saw.", rich_help_panel=VOTES
        ),
    ] = True,
) -> None:
    """Bring in answers or votes made elsewhere, or another store.

    Which columns hold the answers is guessed from their names, and shown. Importing the same file again adds nothing.

    \b
    Examples:
      [cyan]feedbackloop import answers.csv --task support[/]
      [cyan]feedbackloop import answers.csv --answers gpt4,claude[/]
      [cyan]feedbackloop import battles.jsonl --votes --task support[/]
      [cyan]feedbackloop import Anna-votes.json[/]
      [cyan]feedbackloop import colleague.duckdb[/]
    """
    of_answers = answers or variant_column or output_column or dataset or id_column
    if votes and of_answers:
        raise typer.BadParameter("--votes takes none of the options for answers; import the answers first")
    from feedbackloop.importers import is_rating_pack

    opened, _ = open_store(store)
    file = Path(source)
    if file.suffix in {".duckdb", ".db"} or source.startswith(("postgres:", "postgresql:")):
        if votes or of_answers:
            raise typer.BadParameter("a store is merged as it is; leave the other options out")
        _merge(source, opened)
    elif is_rating_pack(file):
        if of_answers or not blind:
            raise typer.BadParameter("the votes of a rating pack are taken in as they are; leave the other options out")
        _rating_pack(file, opened)
    elif votes:
        _votes(file, opened, task, blind=blind)
    else:
        _answers(
            file,
            opened,
            task,
            mapping=_mapping(answers, variant_column, output_column),
            dataset=dataset,
            id_column=id_column,
            url=store,
        )


def _merge(source: str, store: Store) -> None:
    from feedbackloop.cli import drawing
    from feedbackloop.store import Store

    other = Store(source)
    new = {table: rows for table, rows in store.merge(other).items() if rows}
    if not new:
        drawing.say(f"Nothing new: {store.url} has all that is in {other.url}.")
        return
    drawing.say(f"Merged {other.url} into {store.url}:")
    drawing.pairs((table, f"{rows:,} new") for table, rows in new.items())


def _rating_pack(file: Path, store: Store) -> None:
    from feedbackloop.cli import drawing
    from feedbackloop.importers import import_rating_pack

    found = import_rating_pack(file, store)
    held = f"{count(found.votes, 'vote')} and {count(found.issues, 'issue')} by {printable(found.rater)}"
    if found.new:
        drawing.say(f"Imported {held} for the task {found.task}; the file may be sent again, it counts once.")
    else:
        drawing.say(f"Nothing new: {store.url} has all of {file} ({held}).")
    if found.not_blind:
        drawing.say(f"Note: {count(found.not_blind, 'vote')} on answers seen with their names before: shown apart.")
    if found.older:
        drawing.say(
            f"Note: {count(found.older, 'entry', 'entries')} left out, since the store has newer ones on the same pairs."
        )


def _votes(file: Path, store: Store, task: str, *, blind: bool) -> None:
    from feedbackloop.cli import drawing
    from feedbackloop.importers import import_votes

    found = import_votes(file, store, task=task, blind=blind)
    held = f"{count(found.votes, 'vote')} and {count(found.issues, 'issue')} by {', '.join(found.raters)}"
    if not found.new:
        drawing.say(f"Nothing new: {store.url} has all of {file} ({held}).")
        return
    kind = "blind" if blind else "not blind, so shown apart from those that count"
    drawing.say(f"Imported {held} ({kind}) for the task {task}.")
    if found.repeated:
        drawing.say(
            f"Note: {count(found.repeated, 'row')} stood there more than once, to the letter, and counted once."
        )


def _answers(
    file: Path,
    store: Store,
    task: str,
    *,
    mapping: AnswerMapping | None,
    dataset: Path | None,
    id_column: str | None,
    url: str | None,
) -> None:
    from feedbackloop.cli import drawing
    from feedbackloop.importers import import_answers

    found = import_answers(file, store, task=task, mapping=mapping, cases=dataset, id_column=id_column)
    held = (
        f"{count(found.answers, 'answer')} of {count(len(found.variants), 'variant')} to {count(found.cases, 'case')}"
    )
    if found.new:
        drawing.say(f"Imported {held} from {file} for the task {task}.")
    else:
        drawing.say(f"Nothing new: {store.url} has all of {file} ({held}).")
    drawing.pairs(_columns(found.mapping, found.variants, guessed=mapping is None))
    for note in found.notes:
        drawing.say(f"Note: {note}")
    if found.repeated:
        drawing.say(
            f"Note: {count(found.repeated, 'answer')} stood there more than once, to the letter, and counted once."
        )
    if found.new:
        drawing.blank()
        drawing.steps((f"feedbackloop status {found.run_id[:8]}{same_store(url)}", "what came in, by variant"))


def _mapping(answers: list[str] | None, variant_column: str | None, output_column: str | None) -> AnswerMapping | None:
    if not answers and variant_column is None and output_column is None:
        return None
    from feedbackloop.importers import AnswerMapping

    names = tuple(name.strip() for given in answers or () for name in given.split(",") if name.strip())
    return AnswerMapping(answers=names, variant=variant_column, output=output_column)


def _columns(mapping: AnswerMapping, variants: tuple[str, ...], *, guessed: bool) -> list[tuple[str, str]]:
    how = " (guessed)" if guessed else ""
    if mapping.answers:
        return [(f"answers{how}", f"a column for each variant: {', '.join(mapping.answers)}")]
    return [
        (f"variant{how}", f"column '{mapping.variant}': {', '.join(variants)}"),
        (f"answer{how}", f"column '{mapping.output}'"),
    ]
