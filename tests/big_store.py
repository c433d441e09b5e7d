"""Stores of a size that nobody rates by hand, filled in seconds by SQL: for benchmarks and for pages that must stay quick.

python tests/big_store.py FILE [--answers 1000000] [--variants 10] [--runs 1] [--comparisons 10000]
"""

from __future__ import annotations

import argparse
import json
from datetime import timedelta
from pathlib import Path

from feedbackloop.identity import utcnow
from feedbackloop.models import Run, RunEvent, Task, Variant
from feedbackloop.store import Store

TASK = "big"
RATERS = ("Anna", "Ben", "Cleo")


def make(path: Path, *, answers: int = 100_000, variants: int = 4, runs: int = 1, comparisons: int = 10_000) -> Store:
    """`answers` responses: cases x variants x runs, every cell answered; a check per answer, votes, issues, some failures."""
    store = Store(path)
    now = utcnow()
    cases = max(answers // (variants * runs), 1)
    made = [
        Variant(
            name=f"v{n}",
            model=f"openai:model-{n}",
            prompt=f"You are number {n}. Answer briefly: {{{{ input }}}}",
            params={"temperature": n / 10},
            created_at=now - timedelta(days=90),
        )
        for n in range(variants)
    ]
    ids = [variant.id for variant in made]
    started = [now - timedelta(days=7 * (runs - n)) for n in range(runs)]
    run_records = [
        Run(
            task=TASK,
            dataset="big.jsonl",
            fingerprint="0",
            variants=ids,
            settings={"graders": ["json_valid"], "source": "big.jsonl", "base": "."},
            created_at=at,
        )
        for at in started
    ]
    each = cases * variants
    events = [
        RunEvent(
            run_id=run.id,
            kind=kind,
            pid=1,
            counts={
                "total": each,
                "done": each,
                "completed": each,
                "failed": 0,
                "cached": 0,
                "skipped": 0,
                "spent_usd": each * 0.0004,
                "unpriced": 0,
            }
            if kind == "finished"
            else {"total": each, "done": 0},
            created_at=run.created_at + timedelta(hours=hours),
        )
        for run in run_records
        for kind, hours in (("started", 0), ("finished", 2))
    ]
    store.append([Task(name=TASK, created_at=now - timedelta(days=90)), *made, *run_records, *events])
    with store.lease() as connection:
        connection.execute(
            "CREATE TEMP TABLE v AS SELECT unnest(?) AS variant_id, generate_subscripts(?, 1) - 1 AS n", [ids, ids]
        )
        connection.execute(
            "CREATE TEMP TABLE r AS SELECT unnest(?) AS run_id, generate_subscripts(?, 1) - 1 AS n, unnest(?::TIMESTAMP[]) AS began",
            [
                [run.id for run in run_records],
                [run.id for run in run_records],
                [at.replace(tzinfo=None) for at in started],
            ],
        )
        connection.execute(
            f"""
            INSERT INTO cases BY NAME
            SELECT format('case-{{:07d}}', c) AS id, format('row-{{}}', c) AS external_id,
                   json_object('input', format('Question {{}}: what happens to order {{}} if it comes back late?', c, c * 7919 % 1000003)) AS inputs,
                   '[]' AS messages, '[]' AS context, format('segment {{}}', c % 5) AS segment, '{{}}' AS metadata,
                   TIMESTAMP '{(now - timedelta(days=90)).replace(tzinfo=None)}' AS created_at
            FROM range({cases}) t(c)
            """
        )
        cells = f"""
            SELECT r.run_id, r.began + to_milliseconds(c * {7_200_000 // max(cases, 1)}) AS moment, c, v.n AS vn, r.n AS rn, v.variant_id,
                   format('q-{{}}-{{}}-{{}}', r.n, v.n, c) AS request_id, format('a-{{}}-{{}}-{{}}', r.n, v.n, c) AS response_id,
                   hash(c * 31 + v.n * 7 + r.n) AS h
            FROM range({cases}) t(c), v, r
        """
        connection.execute(
            f"""
            INSERT INTO requests BY NAME
            SELECT request_id AS id, format('Question {{}}: what happens to order {{}} if it comes back late?', c, c * 7919 % 1000003) AS input,
                   format('openai:model-{{}}', vn) AS model, 5 AS priority, '{{}}' AS metadata, moment AS created_at, 'answer' AS purpose,
                   '{TASK}' AS task, run_id, format('case-{{:07d}}', c) AS case_id, variant_id, '[]' AS messages, '{{}}' AS params,
                   0 AS repeat, md5(request_id) AS key
            FROM ({cells})
            """
        )
        connection.execute(
            f"""
            INSERT INTO responses BY NAME
            SELECT response_id AS id, request_id,
                   CASE WHEN h % 500 = 0 THEN '' ELSE format('Answer {{}} of v{{}}: it goes back to the shelf. {{}}', c, vn,
                        repeat('The customer is told by mail. ', CAST(h % 12 AS INTEGER))) END AS output,
                   CASE WHEN h % 500 = 0 THEN 'none' ELSE format('openai:model-{{}}', vn) END AS model_used,
                   CASE WHEN h % 500 <> 0 THEN 300 + vn * 120 + (h % 1000) * 1.7 END AS latency_ms,
                   CAST(80 + h % 300 AS BIGINT) AS tokens_used, CAST(60 AS BIGINT) AS input_tokens, CAST(20 + h % 300 AS BIGINT) AS output_tokens,
                   CASE WHEN h % 500 = 0 THEN 0.0 ELSE 0.0002 + vn * 0.0001 + (h % 100) * 0.000002 END AS cost_usd,
                   CASE WHEN h % 500 = 0 THEN 0.0 ELSE 0.0002 + vn * 0.0001 + (h % 100) * 0.000002 END AS spent_usd,
                   CASE WHEN h % 500 = 0 THEN 'failed' ELSE 'completed' END AS status,
                   CASE WHEN h % 500 = 0 THEN 'ProviderTimeout' END AS error_type,
                   CASE WHEN h % 500 = 0 THEN 'no complete answer within 60 s' END AS error,
                   500.0 AS total_ms, false AS cached, false AS truncated, '[]' AS attempts, '{{}}' AS metadata, moment AS created_at
            FROM ({cells})
            """
        )
        connection.execute(
            f"""
            INSERT INTO ratings BY NAME
            SELECT format('g-{{}}', response_id) AS id, response_id, 'contains' AS metric,
                   CASE WHEN h % (3 + vn) = 0 THEN 0.0 ELSE 1.0 END AS value, 'contains@1234' AS rater, 'grader' AS rater_kind,
                   true AS blind, moment AS created_at
            FROM ({cells}) WHERE h % 500 <> 0
            """
        )
        connection.execute(
            f"""
            INSERT INTO comparisons BY NAME
            SELECT format('vote-{{}}', k) AS id, '{TASK}' AS task, format('case-{{:07d}}', c) AS case_id,
                   format('a-{runs - 1}-{{}}-{{}}', x, c) AS response_a, format('a-{runs - 1}-{{}}-{{}}', y, c) AS response_b,
                   va.variant_id AS variant_a, vb.variant_id AS variant_b,
                   CASE WHEN h % 10 < 2 THEN 'tie' WHEN h % 10 = 2 THEN 'both_bad' WHEN h % 10 < 6 + (y > x)::INT THEN 'b' ELSE 'a' END AS winner,
                   'preference' AS metric, {json.dumps(list(RATERS)).replace('"', "'")}[1 + CAST(h % {len(RATERS)} AS INTEGER)] AS rater,
                   'human' AS rater_kind, true AS blind, (h % 2 = 0) AS a_shown_left, 1.0 AS pair_propensity, 6.0 + h % 9 AS seconds,
                   TIMESTAMP '{now.replace(tzinfo=None)}' - to_seconds(k % 600000) AS created_at
            FROM (
                SELECT k, k % {cases} AS c, CAST(hash(k) % {variants} AS INTEGER) AS x,
                       CAST((hash(k) % {variants} + 1 + hash(k * 3) % {max(variants - 1, 1)}) % {variants} AS INTEGER) AS y, hash(k * 17) AS h
                FROM range({comparisons if variants > 1 else 0}) t(k)
            ) JOIN v va ON va.n = x JOIN v vb ON vb.n = y
            """
        )
        connection.execute("DROP TABLE v; DROP TABLE r")
    return store


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--answers", type=int, default=100_000)
    parser.add_argument("--variants", type=int, default=4)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--comparisons", type=int, default=10_000)
    options = vars(parser.parse_args())
    made = make(options.pop("file"), **options)
    print(made.read("SELECT (SELECT count(*) FROM responses) AS answers, (SELECT count(*) FROM comparisons) AS votes"))
