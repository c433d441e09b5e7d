"""The command that takes data out: tables for other tools, labels for training."""
# ruff: noqa: PLC0415, D301 - see the package's docstring; \b keeps the lines of examples as they are

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from feedbackloop.cli.options import StoreOption, open_store, same_store
from feedbackloop.wording import count

if TYPE_CHECKING:
    from feedbackloop.improve import ExportResult

TABLES = "Tables"
TRAINING = "Training files"
PACK = "Rating pack"

_TABLES = ("csv", "jsonl", "parquet")
_PAIRS = "preferences"
_PACK = "rating-pack"


def export(  # noqa: PLR0917 - Typer makes options of them
    context: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="What to write; its ending says how: .csv, .jsonl, .parquet, .csv.gz, .jsonl.gz. With --all, a folder.",
        ),
    ],
    store: StoreOption = None,
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            metavar="NAME",
            help="dpo, kto, sft, openai-dpo or openai-sft to train on; csv, jsonl or parquet for a table; "
            "rating-pack for a page to rate on.",
            show_default="by the ending: a table",
        ),
    ] = None,
    task: Annotated[str | None, typer.Option(help="Only of this feature.", show_default="all tasks")] = None,
    run: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Only what belongs to the run whose id begins so.", show_default="all runs"),
    ] = None,
    what: Annotated[
        str | None,
        typer.Option(
            "--what",
            "--table",
            metavar="NAME",
            help="answers, votes, a table such as ratings or cases; or preferences: pairs with all that is known of them.",
            show_default="answers",
            rich_help_panel=TABLES,
        ),
    ] = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Answers, votes and every table, a file each, into the folder FILE, as --format says (csv).",
            rich_help_panel=TABLES,
        ),
    ] = False,
    raw: Annotated[
        bool,
        typer.Option(
            "--raw",
            help="CSV: no apostrophe before texts that a spreadsheet would run as a formula.",
            rich_help_panel=TABLES,
        ),
    ] = False,
    min_confidence: Annotated[
        float,
        typer.Option(
            help="Least probability that most raters would agree: 2 votes to 0 give 0.875, 1 to 0 gives 0.75.",
            rich_help_panel=TRAINING,
        ),
    ] = 0.85,
    min_votes: Annotated[int, typer.Option(help="Fewest votes for a label.", rich_help_panel=TRAINING)] = 1,
    min_agreement: Annotated[
        float, typer.Option(help="Least share of votes on the label's side.", rich_help_panel=TRAINING)
    ] = 0.0,
    min_margin: Annotated[
        int, typer.Option(help="Fewest votes that the label's side is ahead by.", rich_help_panel=TRAINING)
    ] = 0,
    min_rating: Annotated[
        float, typer.Option(help="From here on a rating of 1 to 5 is a good one.", rich_help_panel=TRAINING)
    ] = 4.0,
    sources: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="Of votes, ratings, corrections.",
            show_default="dpo: votes; kto: votes,ratings; sft: all",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    raters: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Only what these said.", show_default="everybody", rich_help_panel=TRAINING),
    ] = None,
    kinds: Annotated[
        str,
        typer.Option(metavar="A,B", help="Whose word counts: human, user, judge, grader.", rich_help_panel=TRAINING),
    ] = "human,user",
    not_blind: Annotated[
        bool,
        typer.Option(
            "--not-blind", help="Count votes of raters too who knew whose answers they saw.", rich_help_panel=TRAINING
        ),
    ] = False,
    every_vote: Annotated[
        bool,
        typer.Option(
            "--every-vote",
            help="Count all votes of a rater on a pair, not only the newest (where many share a name).",
            rich_help_panel=TRAINING,
        ),
    ] = False,
    per_case: Annotated[int, typer.Option(help="Most rows of one case.", rich_help_panel=TRAINING)] = 4,
    same_prompt: Annotated[
        bool,
        typer.Option(
            "--same-prompt", help="Only pairs whose answers were given to the same prompt.", rich_help_panel=TRAINING
        ),
    ] = False,
    keep_refusals: Annotated[
        bool, typer.Option("--keep-refusals", help="Keep answers that refuse to answer.", rich_help_panel=TRAINING)
    ] = False,
    drop_leaks: Annotated[
        bool,
        typer.Option(
            "--drop-leaks",
            help="Leave out what says nearly what a case held out for tests says, instead of stopping.",
            rich_help_panel=TRAINING,
        ),
    ] = False,
    rater: Annotated[
        str | None, typer.Option(metavar="NAME", help="Whom the page is for.", rich_help_panel=PACK)
    ] = None,
    queue: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="Its pairs: a queue, as the address of the page Rate names it.", rich_help_panel=PACK
        ),
    ] = None,
    variants: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Or a queue between these two, with --task.", rich_help_panel=PACK),
    ] = None,
    pairs: Annotated[int, typer.Option(metavar="N", help="At most so many.", rich_help_panel=PACK)] = 50,
    hold: Annotated[
        float, typer.Option(metavar="DAYS", help="So long nobody else is given these pairs.", rich_help_panel=PACK)
    ] = 30,
) -> None:
    """Write answers, votes or a table, or a file to train on.

    JSON Lines and Parquet tables hold everything exactly as it is stored. In CSV, a text that begins with = + - or @ gets an apostrophe in front, because a spreadsheet would run it as a formula.

    Training files have exactly the keys that TRL or OpenAI expect; FILE.meta.jsonl says which votes each row rests on. Cases whose metadata say "split": "test" are never written.

    A rating pack is one page for somebody without access: blind pairs, rated off line by keyboard. The file that it saves is brought back by feedbackloop import.

    \b
    Examples:
      [cyan]feedbackloop export answers.csv[/]
      [cyan]feedbackloop export votes.jsonl --what votes --run 3f2a[/]
      [cyan]feedbackloop export backup --all --format parquet[/]
      [cyan]feedbackloop export train.jsonl --format openai-dpo --task support[/]
      [cyan]feedbackloop export anna.html --format rating-pack --task support --variants terse,steps --rater Anna[/]
    """
    from feedbackloop.cli import drawing
    from feedbackloop.improve import export as write
    from feedbackloop.improve import export_preferences

    if format == _PACK:
        _refuse(context, TABLES, TRAINING)
        if run is not None:
            raise typer.BadParameter("a rating pack holds the pairs of a queue, not those of a run; leave --run out")
        _rating_pack(store, file, task, rater=rater, queue=queue, variants=variants, pairs=pairs, hold=hold)
        return
    training = what == _PAIRS or (format is not None and format not in _TABLES and not everything)
    if everything:
        if what is not None:
            raise typer.BadParameter("--all writes every table; leave --what out")
    elif training and what not in (None, _PAIRS):
        raise typer.BadParameter(f"--format {format} is made of votes and ratings; leave --what out")
    _refuse(context, *([PACK] if training else [TRAINING, PACK]))
    if everything:
        _everything(store, file, format or "csv", task=task, run=run, raw=raw)
        return
    opened, _ = open_store(store)
    if not training:
        rows = write(opened, file, what or "answers", task=task, run=run, raw=raw, format=format)
        drawing.say(f"Wrote {count(rows, 'row')} of {what or 'answers'} to {file}.")
        return
    result = export_preferences(
        opened,
        file,
        format or file.suffix.lstrip("."),
        task=task,
        run=run,
        min_confidence=min_confidence,
        min_votes=min_votes,
        min_agreement=min_agreement,
        min_margin=min_margin,
        min_rating=min_rating,
        sources=_listed(sources),
        raters=_listed(raters) or (),
        kinds=_listed(kinds) or (),
        blind_only=not not_blind,
        every_vote=every_vote,
        per_case=per_case,
        same_prompt=same_prompt,
        keep_refusals=keep_refusals,
        drop_leaks=drop_leaks,
        raw=raw,
    )
    _report(result)


_ONLY_FOR = {
    TABLES: "for tables",
    TRAINING: "for training files (--format dpo and the like) and --what preferences",
    PACK: f"for --format {_PACK}",
}


def _refuse(context: typer.Context, *panels: str) -> None:
    """Refuse options that say nothing of what is to be written: they would be ignored."""
    for panel in panels:
        given = [
            option.opts[0]
            for option in context.command.params
            if getattr(option, "rich_help_panel", None) == panel and _was_given(context, str(option.name))
        ]
        if given:
            raise typer.BadParameter(
                f"{' and '.join(given)}: only {_ONLY_FOR[panel]}; leave {'it' if len(given) == 1 else 'them'} out"
            )


def _was_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _everything(url: str | None, folder: Path, format: str, *, task: str | None, run: str | None, raw: bool) -> None:
    from feedbackloop.cli import drawing
    from feedbackloop.improve.export import export_all

    opened, _ = open_store(url)
    rows = export_all(opened, folder, format, task=task, run=run, raw=raw)
    drawing.say(f"Wrote {count(len(rows), 'file')} to {folder}:")
    drawing.pairs((f"{name}.{format}", count(number, "row")) for name, number in rows.items())


def _rating_pack(
    url: str | None,
    file: Path,
    task: str | None,
    *,
    rater: str | None,
    queue: str | None,
    variants: str | None,
    pairs: int,
    hold: float,
) -> None:
    from feedbackloop import comparisons
    from feedbackloop.cli import drawing
    from feedbackloop.improve.export import export_rating_pack

    if rater is None:
        raise typer.BadParameter("--rater is missing: whom the page is for")
    if (queue is None) == (variants is None):
        raise typer.BadParameter("give either --queue, or --task and --variants A,B")
    opened, _ = open_store(url)
    if queue is not None:
        found = comparisons.queue(opened, queue)
    else:
        found = comparisons.open_queue(opened, task or "default", _listed(variants) or [])
    pack = export_rating_pack(opened, file, found, rater, pairs=pairs, hold_days=hold)
    drawing.say(
        f"Wrote {count(pack.pairs, 'pair')} for {pack.rater} to {pack.path}; "
        f"they are kept for {pack.rater} until {pack.until:%d %B %Y}."
    )
    drawing.steps(
        (
            f"feedbackloop import {shlex.quote(pack.votes_file)}{same_store(url)}",
            "what the page saves, once it is sent back",
        )
    )


def _listed(names: str | None) -> list[str] | None:
    return None if names is None else [name.strip() for name in names.split(",") if name.strip()]


def _report(result: ExportResult) -> None:
    from feedbackloop.cli import drawing
    from feedbackloop.improve import REASONS

    drawing.say(
        f"Wrote {count(result.rows, 'row')} of {count(result.labels, 'label')} as {result.format} to {result.path}."
    )
    if result.dropped:
        drawing.say("Left out:")
        drawing.pairs((f"{number:>7,}", REASONS.get(reason, reason)) for reason, number in result.dropped.items())
    for warning in result.warnings:
        drawing.say(f"Note: {warning}.", "yellow")
    told = []
    if result.desirable is not None:
        told.append(("good, bad", f"{result.desirable:,}, {result.rows - result.desirable:,}"))
    if result.longer_chosen is not None:
        told.append(("longer one chosen", f"{result.longer_chosen:.0%}"))
    if result.held_out:
        told.append(("held out", f"{count(result.held_out, 'case')} for tests, none of them written"))
    if result.evidence is not None:
        told.append(("evidence", f"{result.evidence}: the votes behind each row"))
    drawing.pairs(told)
    drawing.say(f"sha256 {result.sha256}", "dim")
