"""Commands that decide which variant answers, and the service that obeys."""
# ruff: noqa: PLC0415, D301 - see the package's docstring; \b keeps the lines of examples as they are

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from feedbackloop.cli.options import StoreOption, open_store, same_store
from feedbackloop.wording import ago

if TYPE_CHECKING:
    from feedbackloop.models import Policy
    from feedbackloop.store import Store

TaskArgument = Annotated[str, typer.Argument(metavar="TASK", help="The task whose requests are meant.")]


def promote(  # noqa: PLR0917 - Typer passes options by name
    task: TaskArgument,
    variant: Annotated[
        str | None,
        typer.Argument(metavar="VARIANT", help="A name, name@version, or an id.", show_default="the greatest --share"),
    ] = None,
    canary: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Only this share of requests, such as 0.1.", show_default="all of them"),
    ] = None,
    segment: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only this segment.", show_default="every one")
    ] = None,
    share: Annotated[
        list[str] | None,
        typer.Option(metavar="VARIANT=SHARE", help="Say who gets what instead; once for each variant."),
    ] = None,
    fallback: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="Asked when the variant's own models fail.", show_default="as before"),
    ] = None,
    decision: Annotated[
        str | None, typer.Option(metavar="ID", help="The decision that this rests on.", show_default="none")
    ] = None,
    store: StoreOption = None,
) -> None:
    """Let a variant answer a task's requests.

    Whoever serves the task obeys within two seconds. Users keep the variant they have while its share does not shrink.

    \b
    Examples:
      [cyan]feedbackloop promote support steps --canary 0.1[/]
      [cyan]feedbackloop promote support steps[/]
      [cyan]feedbackloop promote support --share steps=0.5 --share terse=0.5[/]
    """
    from feedbackloop.improve import policy as policies

    shares = _shares(share) if share else None
    if not variant:
        if not shares:
            raise typer.BadParameter("name the VARIANT that is to answer, or say who gets what with --share")
        variant = max(shares, key=shares.__getitem__)
    opened, settings = open_store(store)
    made = policies.promote(
        opened,
        task,
        variant,
        weights=shares,
        canary=canary,
        segment=segment,
        decision_id=decision,
        fallback=fallback,
        settings=settings,
    )
    _tell(opened, made, store)


def rollback(
    task: TaskArgument,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="ID", help="How a policy's id begins.", show_default="the one before the live one"
        ),
    ] = None,
    store: StoreOption = None,
) -> None:
    """Restore what answered a task before.

    \b
    Examples:
      [cyan]feedbackloop rollback support[/]
      [cyan]feedbackloop rollback support --to 3f2a[/]
    """
    from feedbackloop.improve import policy as policies

    opened, _ = open_store(store)
    _tell(opened, policies.rollback(opened, task, to), store)


def policy(
    task: Annotated[
        str | None, typer.Argument(metavar="TASK", help="Show its history.", show_default="what is live, for each task")
    ] = None,
    store: StoreOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Show which variants answer, and which did before.

    \b
    Examples:
      [cyan]feedbackloop policy[/]
      [cyan]feedbackloop policy support[/]
    """
    from feedbackloop.cli import drawing
    from feedbackloop.identity import utcnow
    from feedbackloop.queries.policies import policies

    opened, _ = open_store(store)
    found = policies(opened, task)
    if as_json:
        drawing.data([one.model_dump(mode="json") for one in found])
        return
    if not found:
        drawing.say(f"Nothing is live {f'for {task}' if task else f'in {opened.url}'} yet.")
        drawing.steps((f"feedbackloop promote {task or 'TASK'} VARIANT{same_store(store)}", "lets a variant answer"))
        return
    names, now = _names(opened), utcnow()
    rows = []
    for number, one in enumerate(found):
        live = task is None or number == 0
        why = f", by decision {one.decision_id[:8]}" if one.decision_id else ""
        head = f"{one.id[:8]}{' (live)' if live and task else ''}"
        rows.append((one.task if task is None else head, f"{ago(one.created_at, now)}{why}", _words(one, names)))
    drawing.history(rows)


def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to listen.")] = 8000,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="On which address; 0.0.0.0 for all.")] = "127.0.0.1",
    store: StoreOption = None,
) -> None:
    """Answer as OpenAI's API does, by the live policies.

    Clients name a task, a variant or provider:model as their model, and send feedback by an answer's id. FEEDBACKLOOP_API_KEY is the key they must send; without one only this machine is answered. SIGTERM ends what is under way, stores it, and stops.

    \b
    Example:
      [cyan]feedbackloop serve --port 8000[/]
    """
    import importlib
    import os

    from feedbackloop.errors import MissingDependency

    opened, settings = open_store(store)
    try:
        gateway: Any = importlib.import_module("feedbackloop.gateway")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("feedbackloop"):
            raise
        raise MissingDependency(
            f"serving needs the package '{error.name}': pip install 'feedbackloop[serve]'"
        ) from error
    gateway.serve(opened, settings, os.environ, host=host, port=port)


def _shares(given: list[str]) -> dict[str, float]:
    shares = {}
    for text in given:
        name, _, number = text.rpartition("=")
        try:
            shares[name] = float(number)
        except ValueError:
            name = ""
        if not name:
            raise typer.BadParameter(f"'{text}' should be VARIANT=SHARE, such as steps=0.5", param_hint="--share")
    return shares


def _tell(store: Store, made: Policy, url: str | None) -> None:
    from feedbackloop.cli import drawing

    drawing.say(f"Live for {made.task}: {_words(made, _names(store))}.", "green")
    drawing.steps(
        (f"feedbackloop policy {made.task}{same_store(url)}", "shows the history"),
        (f"feedbackloop rollback {made.task}{same_store(url)}", "goes back"),
    )


def _names(store: Store) -> dict[str, str]:
    from feedbackloop import queries

    return {variant.id: variant.label for variant in queries.variants(store)}


def _words(policy: Policy, names: dict[str, str]) -> str:
    """A policy in a line."""
    from feedbackloop.findings.wording import answering

    chain = f"; then {', '.join(policy.fallback)}" if policy.fallback else ""
    return answering(policy.weights, names) + chain
