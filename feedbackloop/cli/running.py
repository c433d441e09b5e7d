"""Commands that start runs, go on with them, and show how they stand."""
# ruff: noqa: PLC0415, D301 - see the package's docstring; \b keeps the lines of examples as they are

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from feedbackloop.cli.options import StoreOption, open_store, same_store
from feedbackloop.cli.paying import MaxCostOption, UnknownPriceOption, YesOption, agree_to_resume, agree_to_run, lower
from feedbackloop.cli.reporting import FailUnderOption, OutputOption, Reporting
from feedbackloop.errors import ProviderError
from feedbackloop.wording import ago, count, duration, file_name, goes_on, spend

if TYPE_CHECKING:
    import pandas as pd

    from feedbackloop.cli.watching import Going, Watch
    from feedbackloop.pipeline import RunResult
    from feedbackloop.queries import RunStatus
    from feedbackloop.store import Store


def run(  # noqa: PLR0917 - Typer passes options by name
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="A run spec (YAML); `feedbackloop init` writes one.")],
    store: StoreOption = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Only the first N cases, to try the spec.", show_default="all"),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.jsonl", help="Write every answer to this file, for replaying it with recorded:FILE.jsonl."
        ),
    ] = None,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Ask again even what was asked before in the very same words.")
    ] = False,
    batch: Annotated[
        bool, typer.Option("--batch", help="By OpenAI's Batch API: half the price, answers within a day.")
    ] = False,
    max_cost: MaxCostOption = None,
    allow_unknown_price: UnknownPriceOption = False,
    yes: YesOption = False,
    output: OutputOption = None,
    fail_under: FailUnderOption = None,
) -> None:
    """Put a dataset to models as a spec says, and store the answers.

    What it comes to is said first. The whole dataset is checked before the first call is paid for. Ctrl-C stops cleanly; [cyan]feedbackloop resume[/] goes on. Exits with 100 if the answers do not pass as they should, with 1 on an error or if a variant has no answer at all.

    \b
    Examples:
      [cyan]feedbackloop run spec.yaml --limit 3[/]
      [cyan]feedbackloop run spec.yaml --store team.duckdb --max-cost 5[/]
      [cyan]feedbackloop run spec.yaml --fail-under 0.9 --output results.xml --output results.html[/]
    """
    from feedbackloop.cli.watching import Watch
    from feedbackloop.pipeline import run_spec
    from feedbackloop.providers.recorded import Recorder
    from feedbackloop.spec import load_spec

    opened, settings = open_store(store)
    read = load_spec(spec)
    reporting = Reporting(output or (), fail_under)
    reporting.refuse(read.graders)
    executor = "batch" if batch else read.executor
    read = read.model_copy(update={"budget_usd": lower(read.budget_usd, max_cost), "executor": executor})
    cache = False if no_cache or record else None
    agree_to_run(read, opened, settings, limit=limit, cache=cache, yes=yes, unknown_price=allow_unknown_price)
    wrap = None if record is None else lambda provider: Recorder(provider, record)
    watch = Watch()
    _see(
        watch,
        lambda progress, stop: run_spec(
            read,
            opened,
            settings=settings,
            limit=limit,
            cache=cache,
            allow_unknown_price=allow_unknown_price,
            wrap=wrap,
            progress=progress,
            stop=stop,
        ),
        opened,
        store,
        reporting,
    )


def resume(  # noqa: PLR0917 - Typer passes options by name
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="How the run's id begins.", show_default="the newest that is not finished"),
    ] = None,
    store: StoreOption = None,
    max_cost: Annotated[
        float | None,
        typer.Option(
            "--max-cost",
            "--budget",
            min=0.0,
            metavar="USD",
            help="For the whole run, with what it spent before; may be more than it began with.",
            show_default="the run's own",
        ),
    ] = None,
    spec: Annotated[
        Path | None,
        typer.Option(
            metavar="SPEC", help="Bring the run to what this spec says now: more rows, more variants, more repeats."
        ),
    ] = None,
    dataset: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The dataset with more rows, or where it lies now.", show_default="the run's own"
        ),
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Put each case to each variant so often.", show_default="the run's own"),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Only the first N cases; 0 takes all.", show_default="the run's own"),
    ] = None,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed",
            help="Ask only what has failed, and nothing that was never asked. A failure is shown until there is an answer.",
        ),
    ] = False,
    allow_unknown_price: UnknownPriceOption = False,
    yes: YesOption = False,
) -> None:
    """Go on with a run: ask only what is missing or failed.

    Rows, variants and repeats can be added to it at any time: answers that are there stay.

    \b
    Examples:
      [cyan]feedbackloop resume 3f2a[/]
      [cyan]feedbackloop resume 3f2a --spec spec.yaml[/]
      [cyan]feedbackloop resume 3f2a --retry-failed[/]
    """
    from feedbackloop.cli.watching import Watch
    from feedbackloop.pipeline import resume as go_on
    from feedbackloop.pipeline.extending import More
    from feedbackloop.spec import load_spec

    opened, settings = open_store(store)
    read = None if spec is None else load_spec(spec)
    more = More(dataset=dataset, repeats=repeats, limit=limit, budget_usd=max_cost)
    agree_to_resume(
        opened,
        run,
        settings,
        more=more,
        spec=read,
        retry_failed=retry_failed,
        yes=yes,
        unknown_price=allow_unknown_price,
    )
    watch = Watch()
    _see(
        watch,
        lambda progress, stop: go_on(
            opened,
            run,
            spec=read,
            dataset=dataset,
            repeats=repeats,
            limit=limit,
            retry_failed=retry_failed,
            settings=settings,
            budget_usd=max_cost,
            allow_unknown_price=allow_unknown_price or None,
            progress=progress,
            stop=stop,
        ),
        opened,
        store,
        Reporting(),
    )


def status(
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="How a run's id begins: shows that run.", show_default="a list of all"),
    ] = None,
    store: StoreOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """List the runs, or show one with its figures and failures.

    \b
    Examples:
      [cyan]feedbackloop status[/]
      [cyan]feedbackloop status 3f2a[/]
      [cyan]feedbackloop status --json[/]
    """
    from feedbackloop import queries
    from feedbackloop.cli import drawing
    from feedbackloop.queries.paid import Lost, lost_calls
    from feedbackloop.queries.repeats import steadiness

    opened, _ = open_store(store)
    if run is None:
        listed, counts = queries.runs(opened), queries.counts(opened)
        if as_json:
            drawing.data({"store": opened.url, "counts": counts, "runs": [_facts(one) for one in listed]})
            return
        _list(opened, listed, counts, store)
        return
    found = queries.find_run(opened, run)
    summary, failures = queries.summary(opened, found.run.id), queries.failures(opened, found.run.id)
    steady = steadiness(opened, found.run.id) if found.run.repeats > 1 else None
    if as_json:
        told = {} if steady is None else {"steadiness": drawing.records(steady)}
        drawing.data(
            {**_facts(found), "summary": drawing.records(summary), "failures": drawing.records(failures), **told}
        )
        return
    lost = 0 if found.state == "running" else lost_calls(opened, found.run.id).get(found.run.id, Lost()).calls
    _show(found, summary, failures, queries.check_errors(opened, found.run.id), store, steady=steady, lost=lost)


def _see(watch: Watch, go: Going, store: Store, url: str | None, reporting: Reporting) -> None:
    """Watch a run or a part of it to its end, and tell what came of it."""
    from feedbackloop import queries
    from feedbackloop.cli import drawing

    result = watch.watch(go)
    last = result.progress if result is not None else watch.last
    if last is None:
        drawing.say("Stopped before anything was asked.")
        raise typer.Exit(130)
    summary = queries.summary(store, last.run_id)
    drawing.blank()
    drawing.results(summary)
    if last.failed:
        drawing.blank()
        drawing.failures(queries.failures(store, last.run_id))
    drawing.blank()
    short, same = last.run_id[:8], same_store(url)
    code = reporting.settle(store, last.run_id)
    for note in result.notes if result is not None else ():
        drawing.say(f"Note: {note}")
    drawing.check_errors(queries.check_errors(store, last.run_id))
    if unknown := drawing.without_price(summary):
        drawing.say(
            f"Note: the price of {' and '.join(unknown)} is not known; [prices] in feedbackloop.toml can say it."
        )
    reason = _reason(result, watch)
    if reason is not None:
        drawing.say(f"Run {short} stopped at {last.done:,} of {count(last.total, 'answer')}: {reason}.", "yellow")
        if last.waiting:
            drawing.say(f"The {last.waiting}, {goes_on(last.waiting)}.")
        drawing.steps((_resume(last.run_id, reason, url), _resuming(last.waiting)))
        raise typer.Exit(130 if watch.asked else 1)
    assert result is not None
    drawing.say(_finished(result, short), "green" if not last.failed else "")
    steps = drawing.reading(short, same)
    if last.failed:
        steps.insert(0, (f"feedbackloop resume {short}{same}", f"asks again what failed ({last.failed:,})"))
    drawing.steps(*steps)
    if silent := drawing.without_answers(summary):
        raise ProviderError(f"there is no answer at all of {' and '.join(silent)}")
    if code:
        raise typer.Exit(code)


def _resume(run_id: str, reason: str | None, url: str | None) -> str:
    # With the budget that stopped it, it would stop again at once.
    more = " --max-cost USD" if (reason or "").startswith("the budget of") else ""
    return f"feedbackloop resume {run_id[:8]}{more}{same_store(url)}"


def _resuming(waiting: str) -> str:
    return "fetches its answers, and asks only what is missing" if waiting else "asks only what is missing"


def _reason(result: RunResult | None, watch: Watch) -> str | None:
    if result is None:
        return "you cut it short, and calls in flight were dropped"
    if result.stopped is not None and not watch.asked:
        return result.stopped.rstrip(".")
    return "you asked it to" if result.progress.done < result.progress.total else None


def _finished(result: RunResult, short: str) -> str:
    progress = result.progress
    if not progress.asked:
        return f"Run {short} is complete: nothing was missing."
    failed = f", {progress.failed:,} failed," if progress.failed else ""
    told = f"Run {short} is complete: {count(progress.completed, 'answer')}{failed} in {duration(progress.elapsed_s)}"
    if progress.cached:
        told += f", {progress.cached:,} of them used again from before"
    told += f"; spent{' in all' if progress.done > progress.asked else ''}"
    return f"{told}: {spend(progress.spent_usd, progress.unpriced)}."


def _list(store: Store, listed: list[RunStatus], counts: dict[str, int], url: str | None) -> None:
    from feedbackloop.cli import drawing
    from feedbackloop.identity import utcnow

    if not listed:
        drawing.say(f"{store.url}: there are no runs yet.")
        drawing.steps(
            ("feedbackloop demo", "look around with made-up data"),
            ("feedbackloop init", "write an example spec of your own"),
            (f"feedbackloop import answers.csv{same_store(url)}", "bring in answers made elsewhere"),
        )
        return
    drawing.say(f"{store.url}: {drawing.counted(counts)}")
    drawing.blank()
    drawing.runs(listed, utcnow())
    for one in listed:
        if one.state == "interrupted" or (one.state == "stopped" and one is listed[0]):
            drawing.blank()
            drawing.steps((_resume(one.run.id, one.counts.get("reason"), url), f"goes on with the {one.state} run"))
            break


def _show(
    found: RunStatus,
    summary: pd.DataFrame,
    failures: pd.DataFrame,
    errors: pd.DataFrame,
    url: str | None,
    *,
    steady: pd.DataFrame | None,
    lost: int,
) -> None:
    from feedbackloop.cli import drawing
    from feedbackloop.identity import utcnow

    run = found.run
    state = f"{found.state}, {drawing.done(found)} done"
    waiting = drawing.waiting(found)
    if found.state == "stopped" and found.counts.get("reason"):
        state += f" ({found.counts['reason']})"
    begun = f"{run.created_at.astimezone():%Y-%m-%d %H:%M} ({ago(run.created_at, utcnow())})"
    facts = [
        ("run", run.id),
        ("task", run.task),
        ("dataset", file_name(run.dataset)),
        ("state", state),
        ("begun", begun),
    ]
    if waiting:
        facts.insert(4, ("waiting for", waiting))
    if run.git_commit:
        facts.append(("commit", run.git_commit[:12]))
    facts.append(("spent", drawing.spent_in_all(summary)))
    if lost:
        facts.append(("not counted", f"{count(lost, 'call')} under way when it was interrupted"))
    drawing.pairs(facts)
    drawing.blank()
    drawing.results(summary)
    drawing.legend(summary)
    if steady is not None:
        drawing.steadiness(steady)
    if not failures.empty:
        drawing.blank()
        drawing.failures(failures)
    drawing.check_errors(errors)
    drawing.blank()
    steps = drawing.reading(run.id[:8], same_store(url))
    if found.state in {"stopped", "interrupted"}:
        steps.insert(0, (_resume(run.id, found.counts.get("reason"), url), _resuming(waiting)))
    drawing.steps(*steps)


def _facts(found: RunStatus) -> dict[str, Any]:
    run = found.run
    return {
        "id": run.id,
        "task": run.task,
        "dataset": run.dataset,
        "variants": found.variants,
        "state": found.state,
        "created_at": run.created_at.isoformat(),
        "last_event": found.last_event.isoformat(),
        "counts": found.counts,
    }
