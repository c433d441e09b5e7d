"""What was paid, for what and in which tokens, counted where the answers lie.

Nearly every answer took one attempt, and its columns say all: these are summed by SQL. What took several, or failed, is looked at attempt
by attempt, so that each model has its own and what was paid for in vain is there too.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd

from feedbackloop.models import Attempt
from feedbackloop.pricing import SLOT_MINUTES, Tokens, slot_of, spent
from feedbackloop.queries.moments import bound
from feedbackloop.store import Store, fetch
from feedbackloop.usage import Usage, read_usage

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

KEYS = ("day", "task", "purpose", "variant", "model", "elsewhere")
"""What a row of the ledger is about."""

SUMS = (
    "calls", "answers", "failed", "input_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens", "output_tokens",
    "spent_usd", "unpriced",
)  # fmt: skip
"""What it adds up."""

_PRICED_AS = [
    "model", "reported", "batch", "slot", "input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens",
    "calls", "spent_usd", "unpriced",
]  # fmt: skip

# An answer used again was paid for by the call that made it.
_PAID = """
    paid AS (
        SELECT response.*, request.task, request.purpose, request.model AS asked, response.metadata->>'batch' IS NOT NULL AS batch,
               CASE WHEN request.variant_id IS NULL THEN NULL
                    ELSE concat(coalesce(variant.name, '?'), '@', left(request.variant_id, 4)) END AS variant,
               response.model_used LIKE 'recorded:%' OR coalesce(
                   request.run_id IN (SELECT id FROM runs WHERE settings->>'imported' IS NOT NULL), false)
                   OR (request.metadata->>'imported') IS NOT NULL AS elsewhere,
               response.status = 'completed' AND coalesce(json_array_length(response.attempts), 0) < 2 AS plain
        FROM responses response JOIN requests request ON request.id = response.request_id
        LEFT JOIN current_variants variant ON variant.id = request.variant_id
        WHERE NOT response.cached {since}
    )
"""

_LEDGER = """
    SELECT strftime(created_at, '%Y-%m-%d') AS day, task, purpose, variant, model_used AS model, elsewhere,
           count(*) AS calls, count(*) AS answers, 0 AS failed,
           coalesce(sum(input_tokens), 0) AS input_tokens, coalesce(sum(cached_tokens), 0) AS cached_tokens,
           coalesce(sum(cache_write_tokens), 0) AS cache_write_tokens, coalesce(sum(reasoning_tokens), 0) AS reasoning_tokens,
           coalesce(sum(output_tokens), 0) AS output_tokens,
           coalesce(sum(CASE WHEN elsewhere THEN cost_usd ELSE spent_usd END), 0) AS spent_usd,
           count(*) FILTER (spent_usd IS NULL) AS unpriced
    FROM paid WHERE plain GROUP BY ALL
"""

_PRICED = f"""
    SELECT model_used AS model, provider_model AS reported, batch, time_bucket(INTERVAL {SLOT_MINUTES} MINUTE,
               CASE WHEN batch THEN CAST(attempts->0->>'start' AS TIMESTAMPTZ) AT TIME ZONE 'UTC' ELSE created_at END) AS slot,
           input_tokens, output_tokens, cached_tokens, cache_write_tokens, count(*) AS calls,
           coalesce(sum(spent_usd), 0) AS spent_usd, count(*) FILTER (spent_usd IS NULL) AS unpriced
    FROM paid WHERE plain AND NOT elsewhere GROUP BY ALL
"""

_REST = """
    SELECT strftime(created_at, '%Y-%m-%d') AS day, task, purpose, variant, asked AS model, model_used, elsewhere, status = 'completed' AS completed, batch,
           CAST(attempts AS VARCHAR) AS attempts, input_tokens, output_tokens, cached_tokens, cache_write_tokens, reasoning_tokens,
           spent_usd, cost_usd
    FROM paid WHERE NOT plain
"""


@dataclass(frozen=True)
class _Call:
    """An attempt of an answer that took several, or that failed."""

    about: tuple[Any, ...]
    """Its place in the ledger: the values of KEYS."""
    answers: bool
    """Whether it gave the answer."""
    failed: bool
    """Whether it was the last of an answer that never came."""
    usage: Usage
    spent_usd: float | None
    """None where it may have been charged for and nobody knows how much."""
    batch: bool
    reported: str | None = None
    at: datetime | None = None
    """When the answer came; None if nothing was sent."""


def ledger(store: Store, since: datetime | None = None) -> pd.DataFrame:
    """What was spent, as fine as it is told: a row for each day, task, purpose, variant and model.

    Args:
        store: where the answers are.
        since: only answers made from then on.

    Returns:
        Columns: day (UTC, as providers' invoices have it), task, purpose, variant (name and version; null for what a service or a judge
        was asked), model (`provider:model` as configured), elsewhere (answers imported or replayed from a recording: paid elsewhere),
        calls (sent), answers (completed), failed, the tokens, spent_usd (of all attempts, as far as known), unpriced (calls that may
        have been charged for at an unknown price).
    """

    def work(connection: DuckDBPyConnection) -> pd.DataFrame:
        frame = fetch(connection, _ask(_LEDGER, since), _bound(since))
        added: dict[tuple[Any, ...], list[float]] = defaultdict(lambda: [0.0] * len(SUMS))
        for call in _rest(connection, since):
            used = call.usage
            tokens = (used.input, used.cached, used.cache_write, used.reasoning, used.output)
            values = (
                call.at is not None, call.answers, call.failed, *(count or 0 for count in tokens),
                call.spent_usd or 0.0, call.spent_usd is None,
            )  # fmt: skip
            added[call.about] = [sum(pair) for pair in zip(added[call.about], values, strict=True)]
        return _joined(frame, [(*key, *values) for key, values in added.items()], [*KEYS, *SUMS])

    frame = store.query(work) if store.exists() else pd.DataFrame(columns=[*KEYS, *SUMS])
    frame = frame.groupby(list(KEYS), dropna=False, sort=True, as_index=False)[list(SUMS)].sum()
    whole = {name: "int64" for name in SUMS if name != "spent_usd"}
    return frame.astype({**whole, "spent_usd": "float64", "elsewhere": "bool"})


def priced_calls(store: Store, since: datetime | None = None) -> pd.DataFrame:
    """All that a price depends on, with what was reckoned when it was paid: what restating costs works on.

    Returns:
        Columns: model, reported (the endpoint's own name of it), batch (whether it was a line of one, at a lower price, as of when that was
        made), slot (UTC, the beginning of the quarter of an hour), input_tokens,
        output_tokens, cached_tokens, cache_write_tokens (null where not reported), calls, spent_usd, unpriced. Without what was paid
        elsewhere.
    """

    def work(connection: DuckDBPyConnection) -> pd.DataFrame:
        frame = fetch(connection, _ask(_PRICED, since), _bound(since))
        rows = []
        for call in _rest(connection, since):
            _, _, _, _, model, elsewhere = call.about
            # What was refused, or left no trace of what it used, has no other price now than then.
            if call.at is None or elsewhere or (call.usage.input is None and call.spent_usd == 0):
                continue
            tokens = (call.usage.input, call.usage.output, call.usage.cached, call.usage.cache_write)
            known = (model, call.reported, call.batch, slot_of(call.at))
            rows.append((*known, *tokens, 1, call.spent_usd or 0.0, int(call.spent_usd is None)))
        return _joined(frame, rows, _PRICED_AS)

    return store.query(work) if store.exists() else pd.DataFrame(columns=_PRICED_AS)


def ended_by_variant(store: Store, run_id: str) -> dict[str, tuple[int, int]]:
    """How many cells of a run have a completed answer, and how many have only failed, by variant id."""
    frame = store.read(
        """
        SELECT variant_id, count(*) FILTER (completed) AS done, count(*) FILTER (NOT completed) AS failed FROM (
            SELECT request.variant_id, bool_or(response.status = 'completed') AS completed
            FROM requests request JOIN responses response ON response.request_id = request.id
            WHERE request.run_id = ? GROUP BY request.variant_id, request.case_id, request.repeat
        ) GROUP BY variant_id
        """,
        [run_id],
    )
    return {
        str(id_): (int(done), int(failed))
        for id_, done, failed in zip(frame["variant_id"], frame["done"], frame["failed"], strict=True)
    }


def _ask(query: str, since: datetime | None) -> str:
    return f"WITH {_PAID.format(since='' if since is None else 'AND response.created_at >= ?')} {query}"


def _bound(since: datetime | None) -> list[Any]:
    return [] if since is None else [bound(since)]


def _joined(frame: pd.DataFrame, rows: list[tuple[Any, ...]], columns: list[str]) -> pd.DataFrame:
    """A frame with more rows; an empty one would lend its types to the other."""
    more = pd.DataFrame(rows, columns=columns)
    return frame if more.empty else more if frame.empty else pd.concat([frame, more], ignore_index=True)


def _rest(connection: DuckDBPyConnection, since: datetime | None) -> Iterator[_Call]:
    connection.execute(_ask(_REST, since), _bound(since))
    names = [column[0] for column in connection.description or ()]
    while rows := connection.fetchmany(10_000):
        for row in rows:
            yield from _calls(dict(zip(names, row, strict=True)))


def _calls(row: dict[str, Any]) -> Iterator[_Call]:
    completed = row["completed"]
    tried = [Attempt.model_validate(one) for one in json.loads(row["attempts"] or "[]")]
    if not tried:
        yield _Call(
            tuple(row[key] for key in KEYS), completed, not completed, read_usage(None), row["spent_usd"], row["batch"]
        )
    for number, one in enumerate(tried, 1):
        last = number == len(tried)
        used = read_usage(one.usage)
        if last and completed:
            # Providers without a raw usage of their own have told their figures all the same.
            used = Usage(
                input=row["input_tokens"],
                output=row["output_tokens"],
                cached=row["cached_tokens"],
                cache_write=row["cache_write_tokens"],
                reasoning=row["reasoning_tokens"],
                total=None,
            )
        # Of several models, some may have been replayed and some called.
        replayed = one.model.startswith("recorded:")
        elsewhere = replayed or (row["elsewhere"] and not row["model_used"].startswith("recorded:"))
        yield _Call(
            about=tuple({**row, "model": one.model, "elsewhere": elsewhere}[key] for key in KEYS),
            answers=last and completed,
            failed=last and not completed,
            usage=used,
            spent_usd=row["cost_usd"] if elsewhere and last and completed else spent([one]),
            batch=row["batch"],
            reported=one.provider_model,
            at=one.start + timedelta(milliseconds=one.latency_ms or 0.0),
        )


def billed(read: Any, written: Any, cached: Any, stored: Any) -> Tokens | None:
    """What is billed by the counts of a row of `priced_calls`; None where the endpoint did not say, or said what cannot be."""
    if pd.isna(read) or pd.isna(written):
        return None
    cached, stored = (0 if pd.isna(count) else int(count) for count in (cached, stored))
    tokens = Tokens(int(read), int(written), cached, stored)
    return tokens if cached + stored <= tokens.input else None
