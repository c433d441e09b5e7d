"""The command that brings data in."""
# ruff: noqa: PLC0415, D301 - see the package's docstring; \b keeps the lines of examples as they are

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from feedbackloop.cli.options import StoreOption, open_store, same_store
from feedbackloop.cli.wording import printable
from feedbackloop.wording import count

if TYPE_CHECKING:
    from feedbackloop.importers import AnswerMapping, Imported
    from feedbackloop.store import Store

ANSWERS = "Answers"
VOTES = "Votes"

_NAMED = 4  # raters; there may be thousands


def import_(  # noqa: PLR0917 - Typer makes options of them
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="CSV, JSON Lines, JSON, YAML or Parquet: tables, or files of other tools; what a rating pack saved; another "
            "store (.duckdb, postgres:...).",
        ),
    ],
    store: StoreOption = None,
    task: Annotated[str, typer.Option(help="The feature that these answers or votes are about.")] = "default",
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            metavar="NAME",
            help="answers or votes for tables; promptfoo, promptfoo-config, openai-batch, openai-batch-input, chat, alpaca-eval, "
            "alpaca-eval-annotations, arena, llmperf.",
            show_default="by what is in the file",
        ),
    ] = None,
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
            help="The cases that the answers refer to by id, if they have no prompts; of a batch's output, its input file.",
            rich_help_panel=ANSWERS,
        ),
    ] = None,
    id_column: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="The column with the case's id.", show_default="guessed", rich_help_panel=ANSWERS
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="A column that is left out, so that raters do not see it; repeatable.",
            show_default="what is plainly of an answer or a verdict, as score_a or winner",
            rich_help_panel=ANSWERS,
        ),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="A column that is part of the case, though it seems to be of an answer or a verdict; repeatable.",
            rich_help_panel=ANSWERS,
        ),
    ] = None,
    votes: Annotated[
        bool, typer.Option("--votes", help="The file holds votes on answers that the store has.", rich_help_panel=VOTES)
    ] = False,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=COLUMN",
            help="What the file calls case_id, variant_a, variant_b, winner, rater ...: --column winner=label; repeatable.",
            show_default="as here; case_id guessed",
            rich_help_panel=VOTES,
        ),
    ] = None,
    winner: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WORD=SIDE",
            help="What its words for the winner mean: --winner 1=a --winner 2=b --winner 0=tie.",
            show_default="a, b, tie, both_bad, or the variant's name",
            rich_help_panel=VOTES,
        ),
    ] = None,
    blind: Annotated[
        bool,
        typer.Option(
            "--blind/--not-blind", help="Whether the voters did not know whose answers they saw.", rich_help_panel=VOTES
        ),
    ] = True,
) -> None:
    """Bring in answers or votes made elsewhere, or another store.

    Files of other tools are known by what is in them; of a table, which columns hold the answers is guessed from their names, and shown. What cannot be carried over is listed. Importing the same file again adds nothing. A promptfoo config becomes a run spec and a dataset beside it.

    \b
    Examples:
      [cyan]feedbackloop import answers.csv --task support[/]
      [cyan]feedbackloop import answers.csv --answers gpt4,claude --ignore notes[/]
      [cyan]feedbackloop import battles.jsonl --votes --task support[/]
      [cyan]feedbackloop import labels.csv --column case_id=nr --column winner=label --winner 1=a --winner 2=b[/]
      [cyan]feedbackloop import promptfooconfig.yaml --task support[/]
      [cyan]feedbackloop import batch_output.jsonl --dataset batch_input.jsonl[/]
      [cyan]feedbackloop import Anna-votes.json[/]
      [cyan]feedbackloop import colleague.duckdb[/]
    """
    of_columns = answers or variant_column or output_column or id_column or ignore or keep
    if votes and (of_columns or dataset):
        raise typer.BadParameter("--votes takes none of the options for answers; import the answers first")
    votes = votes or bool(column or winner)
    if votes and of_columns:
        raise typer.BadParameter("a file is of answers or of votes: leave the options of one of them out")
    if votes and format not in (None, "votes"):
        raise typer.BadParameter(f"the options for votes and --format {format} contradict each other; leave one out")
    if of_columns and format not in (None, "answers"):
        raise typer.BadParameter(f"{format} has no columns to be named; leave the options for them out")
    from feedbackloop.importers import is_rating_pack

    opened, _ = open_store(store)
    file = Path(source)
    if file.suffix in {".duckdb", ".db"} or source.startswith(("postgres:", "postgresql:")):
        if votes or format or of_columns or dataset:
            raise typer.BadParameter("a store is merged as it is; leave the other options out")
        _merge(source, opened)
    elif format is None and is_rating_pack(file):
        if of_columns or dataset or column or winner or not blind:
            raise typer.BadParameter("the votes of a rating pack are taken in as they are; leave the other options out")
        _rating_pack(file, opened)
    else:
        mapping = _mapping(answers, variant_column, output_column)
        _file(
            file,
            opened,
            Wanted(
                task,
                "votes" if votes else format,
                mapping,
                dataset,
                id_column,
                ignore=tuple(ignore or ()),
                keep=tuple(keep or ()),
                blind=blind,
                columns=_meanings("--column", column),
                winners=_meanings("--winner", winner),
            ),
            url=store,
        )


@dataclass(frozen=True)
class Wanted:
    """How a file is to be taken."""

    task: str
    format: str | None
    mapping: AnswerMapping | None
    dataset: Path | None
    id_column: str | None
    ignore: tuple[str, ...]
    keep: tuple[str, ...]
    blind: bool
    columns: dict[str, str]
    winners: dict[str, str]


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


def _file(file: Path, store: Store, wanted: Wanted, *, url: str | None) -> None:
    from feedbackloop.cli import drawing
    from feedbackloop.importers import import_file

    found = import_file(
        file,
        store,
        task=wanted.task,
        format=wanted.format,
        mapping=wanted.mapping,
        cases=wanted.dataset,
        id_column=wanted.id_column,
        ignore=wanted.ignore,
        keep=wanted.keep,
        blind=wanted.blind,
        columns=wanted.columns,
        winners=wanted.winners,
    )
    if found.files:
        _converted(file, found)
    elif found.new:
        drawing.say(f"Imported {_held(found, wanted)} from {file} for the task {wanted.task}.")
    else:
        drawing.say(f"Nothing new: {store.url} has all of {file} ({_held(found, wanted)}).")
    if found.mapping is not None:
        drawing.pairs(_columns(found.mapping, found, wanted))
    for note in found.notes:
        drawing.say(f"Note: {note}")
    if found.repeated:
        what = "row" if found.format == "votes" else "entry" if found.votes else "answer"
        drawing.say(
            f"Note: {count(found.repeated, what, 'entries' if what == 'entry' else None)} stood there more than once, to the "
            "letter, and counted once."
        )
    if found.left_out:
        drawing.say("Not carried over:", "yellow")
        drawing.pairs(("-", what) for what in found.left_out)
    if found.files:
        drawing.blank()
        drawing.steps((f"feedbackloop run {shlex.quote(str(found.files[0]))}{same_store(url)}", "ask the models"))
    elif found.new and found.run_id:
        drawing.blank()
        drawing.steps(
            (f"feedbackloop status {found.run_id[:8]}{same_store(url)}", "what came in, by variant"),
            (f"feedbackloop app{same_store(url)}", "compare and rate the answers in the browser"),
        )
    elif found.new and found.votes:
        drawing.blank()
        drawing.steps((f"feedbackloop app{same_store(url)}", "who is better, by these votes (the page Results)"))


def _held(found: Imported, wanted: Wanted) -> str:
    """What was in a file, in words."""
    parts = []
    if found.answers:
        variants, cases = count(len(found.variants), "variant"), count(found.cases, "case")
        parts.append(f"{count(found.answers, 'answer')} of {variants} to {cases}")
    elif found.cases:
        parts.append(f"{count(found.cases, 'case')} without answers")
    if found.votes:
        blind = "" if found.format != "votes" else " (blind)" if wanted.blind else " (not blind, so shown apart)"
        who = printable(", ".join(found.raters[:_NAMED])) + (" and others" if len(found.raters) > _NAMED else "")
        issues = f" and {count(found.ratings, 'issue')}" if found.format == "votes" and found.ratings else ""
        parts.append(f"{count(found.votes, 'vote')}{issues} by {who}{blind}")
    if found.ratings and found.format != "votes":
        parts.append(count(found.ratings, "verdict of its checks", "verdicts of its checks"))
    return ", ".join(parts)


def _converted(file: Path, found: Imported) -> None:
    from feedbackloop.cli import drawing

    held = f"{count(found.cases, 'case')} and {count(len(found.variants), 'variant')}"
    spec, dataset = found.files
    done = "Wrote" if found.new else "Nothing new: as before,"
    drawing.say(f"{done} {spec} and {dataset.name}: {held} of {file}.")


def _meanings(option: str, given: list[str] | None) -> dict[str, str]:
    """Pairs of NAME=VALUE."""
    found = {}
    for item in given or ():
        name, sign, value = item.partition("=")
        if not (name.strip() and sign and value.strip()):
            raise typer.BadParameter(f"{option} {item}: write it like {option} NAME=VALUE")
        found[name.strip()] = value.strip()
    return found


def _mapping(answers: list[str] | None, variant_column: str | None, output_column: str | None) -> AnswerMapping | None:
    if not answers and variant_column is None and output_column is None:
        return None
    from feedbackloop.importers import AnswerMapping

    names = tuple(name.strip() for given in answers or () for name in given.split(",") if name.strip())
    return AnswerMapping(answers=names, variant=variant_column, output=output_column)


def _columns(mapping: AnswerMapping, found: Imported, wanted: Wanted) -> list[tuple[str, str]]:
    """Which column was taken for what."""
    how = " (guessed)" if wanted.mapping is None else ""
    if mapping.answers:
        told = [(f"answers{how}", f"a column for each variant: {', '.join(mapping.answers)}")]
    else:
        told = [
            (f"variant{how}", f"column '{mapping.variant}': {', '.join(found.variants)}"),
            (f"answer{how}", f"column '{mapping.output}'"),
        ]
    if found.case:
        told.append(("case (guessed)", f"columns: {', '.join(found.case)}"))
    if guessed := [name for name in mapping.ignored if name not in wanted.ignore]:
        told.append(("left out (guessed)", f"{', '.join(guessed)}; --keep COLUMN makes one part of the case"))
    if wanted.ignore:
        told.append(("left out", ", ".join(wanted.ignore)))
    return told
