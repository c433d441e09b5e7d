"""What came of asking the same thing several times: how often the answers agree, and how far apart the best and the worst are."""

from __future__ import annotations

import pandas as pd

from feedbackloop.store import Store

# Two answers are the same if they differ in case, white space, accents' encoding, or a full stop at the end at most.
_SAME = r"regexp_replace(trim(regexp_replace(lower(nfc_normalize(output)), '[\s\x{00a0}]+', ' ', 'g')), '[ .!]+$', '')"

# Of the run $1 and the case $2.
_ONE_CASE = f"""
    samples AS MATERIALIZED (
        SELECT *, CASE WHEN status = 'completed' THEN {_SAME} END AS said
        FROM answers WHERE run_id = $1 AND case_id = $2 AND variant_id IS NOT NULL
    ), said AS MATERIALIZED (
        SELECT case_id, variant_id, said, count(*) AS times, min(repeat) AS earliest FROM samples
        WHERE said IS NOT NULL GROUP BY case_id, variant_id, said
    ), agreed AS (
        SELECT case_id, variant_id, count(*) AS different, max(times) AS most, sum(times) AS answers,
               arg_min(said, (-times, earliest)) AS commonest
        FROM said GROUP BY case_id, variant_id
    ), cells AS (
        SELECT case_id, variant_id, any_value(external_id) AS external_id, any_value(segment) AS segment,
               any_value(input) AS input, any_value(variant) AS variant, count(*) AS asked,
               count(*) FILTER (status = 'failed') AS failed, max(checks) AS best, min(checks) AS worst,
               avg(checks) AS mean, stddev_samp(checks) AS stability,
               arg_max(response_id, (checks, -repeat)) FILTER (checks IS NOT NULL) AS best_response,
               arg_min(response_id, (checks, repeat)) FILTER (checks IS NOT NULL) AS worst_response
        FROM samples GROUP BY case_id, variant_id HAVING count(*) > 1
    ), measured AS (
        SELECT cells.*, coalesce(agreed.answers, 0) AS answers, coalesce(agreed.different, 0) AS different,
               CASE WHEN agreed.answers > 1 THEN agreed.most / agreed.answers END AS agreement,
               (SELECT arg_min(sample.output, sample.repeat) FROM samples sample WHERE sample.case_id = cells.case_id
                AND sample.variant_id = cells.variant_id AND sample.said = agreed.commonest) AS commonest
        FROM cells LEFT JOIN agreed USING (case_id, variant_id)
    )
"""
_EVERY_CASE = _ONE_CASE.replace("case_id = $2", "case_id IS NOT NULL")


def repeats(store: Store, run_id: str, case_id: str | None = None) -> pd.DataFrame:
    """How a run's repeated cells turned out, a row per case and variant that was asked more than once; least agreement first.

    Args:
        case_id: only of this case.

    Columns: case_id, external_id, segment, input, variant, variant_id; asked (repeats), failed, answers (those that came);
    different (answers that are not the same; case, white space and a full stop at the end are overlooked), agreement (share of the
    commonest one among the answers, null below two), commonest (its text, as it was first given); best, worst, mean (of the
    answers' checks, 0 to 1), stability (standard deviation of the checks, 0 for answers that are equally good; null below two
    checked answers), best_response, worst_response (ids; of equals the first asked).
    """
    return store.read(
        f"""
        WITH {_EVERY_CASE if case_id is None else _ONE_CASE}
        SELECT case_id, external_id, segment, input, variant, variant_id, asked, failed, CAST(answers AS BIGINT) AS answers,
               different, agreement, commonest, best, worst, mean, stability, best_response, worst_response
        FROM measured ORDER BY agreement NULLS FIRST, stability DESC NULLS LAST, variant, case_id
        """,
        [run_id] if case_id is None else [run_id, case_id],
    )


def steadiness(store: Store, run_id: str) -> pd.DataFrame:
    """How steady the variants of a run are, a row per variant with repeated cells, in the order of the spec.

    Columns: variant, variant_id, cases (asked more than once), asked, failed, agreement (mean over cases), unanimous (share of cases
    whose answers are all the same), best, mean, worst (of the checks, means over cases: what the best of k, one, and the worst of k
    samples come to), stability (mean standard deviation of the checks within a case).
    """
    return store.read(
        f"""
        WITH listed AS (
            SELECT unnest(variants) AS variant_id, generate_subscripts(variants, 1) AS place FROM current_runs WHERE id = $1
        ), {_EVERY_CASE}
        SELECT any_value(variant) AS variant, variant_id, count(*) AS cases, CAST(sum(asked) AS BIGINT) AS asked,
               CAST(sum(failed) AS BIGINT) AS failed, avg(agreement) AS agreement,
               avg(CAST(different = 1 AS INTEGER)) FILTER (answers > 1) AS unanimous,
               avg(best) AS best, avg(mean) AS mean, avg(worst) AS worst, avg(stability) AS stability
        FROM measured LEFT JOIN listed USING (variant_id) GROUP BY variant_id ORDER BY min(listed.place), variant_id
        """,
        [run_id],
    )


def samples(store: Store, run_id: str, case_id: str, variant_id: str) -> pd.DataFrame:
    """The answers of one repeated cell, a row per repeat, in order.

    Columns: repeat, status, error, output, wording (1 for the commonest answer and those that are the same, 2 for the next, null
    for failures), checks, latency_ms, cost_usd, cached, response_id.
    """
    return store.read(
        f"""
        WITH {_ONE_CASE}, ranked AS (
            SELECT said, row_number() OVER (ORDER BY times DESC, earliest) AS wording FROM said
            WHERE variant_id = $3
        )
        SELECT repeat, status, error, output, wording, checks, latency_ms, cost_usd, cached, response_id
        FROM samples LEFT JOIN ranked USING (said) WHERE variant_id = $3 ORDER BY repeat
        """,
        [run_id, case_id, variant_id],
    )
