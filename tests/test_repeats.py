"""Cells that were asked several times: how far their answers agree, and how good the best and the worst are."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from feedbackloop.graders import create
from feedbackloop.models import AIRequest, AIResponse, Case, ProcessingStatus, Rating, Run, Variant
from feedbackloop.queries.repeats import repeats, samples, steadiness
from feedbackloop.store import Store

TERSE, STEPS = Variant(name="terse", model="m:a"), Variant(name="steps", model="m:b")
CASES = [Case(inputs={"input": text}, external_id=text, segment="s") for text in ("one", "two")]


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "loop.duckdb")


def fill(store, cells, run="r", repeats=3):
    """`cells`: (case, variant), by name, to its answers, each a text, or a text and what its check said, or None for a failure."""
    records = [
        Run(id=run, task="t", dataset="d", fingerprint="f", variants=[STEPS.id, TERSE.id], repeats=repeats),
        *CASES,
        TERSE,
        STEPS,
    ]
    ids = {}
    for (case_name, variant_name), answers in cells.items():
        case = {"one": CASES[0], "two": CASES[1]}[case_name]
        variant = {"terse": TERSE, "steps": STEPS}[variant_name]
        for repeat, said in enumerate(answers):
            text, value = said if isinstance(said, tuple) else (said, None)
            request = AIRequest(
                input="x", task="t", run_id=run, case_id=case.id, variant_id=variant.id, repeat=repeat, key=f"k{repeat}"
            )
            failed = text is None
            response = AIResponse(
                request_id=request.id,
                output=text or "",
                model_used="none" if failed else "m:a",
                status=ProcessingStatus.FAILED if failed else ProcessingStatus.COMPLETED,
            )
            records += [request, response]
            ids[case.external_id, variant.name, repeat] = response.id
            if value is not None:
                rater = create({"contains": "x"}).rater
                records.append(
                    Rating(response_id=response.id, metric="contains", value=value, rater=rater, rater_kind="grader")
                )
    store.append(records)
    return ids


def test_a_run_without_repeats_has_nothing_to_say(store) -> None:
    fill(store, {("one", "terse"): ["yes"], ("two", "steps"): ["no"]}, repeats=1)
    assert repeats(store, "r").empty
    assert steadiness(store, "r").empty
    assert repeats(store, "another").empty


@pytest.mark.parametrize(
    ("answers", "different", "agreement", "commonest"),
    [
        (["yes", "yes", "yes"], 1, 1.0, "yes"),
        (["Yes.", " yes", "YES!\n"], 1, 1.0, "Yes."),
        (["no", "yes", "yes"], 2, 2 / 3, "yes"),
        (["b", "a", "c"], 3, 1 / 3, "b"),
        (["4\n\n is  it", "4 is it", "5"], 2, 2 / 3, "4\n\n is  it"),
        (["é", "e\u0301", None], 1, 1.0, "é"),
        (["-4", "4", "4"], 2, 2 / 3, "4"),
        (["4.5", "45", None], 2, 1 / 2, "4.5"),
        (["Я", "я", "a\u00a0b"], 2, 2 / 3, "Я"),
        ([".", "!", "..."], 1, 1.0, "."),
    ],
)
def test_agreement_is_the_share_of_the_commonest_answer(store, answers, different, agreement, commonest) -> None:
    fill(store, {("one", "terse"): answers})
    [row] = repeats(store, "r").to_dict("records")
    assert (row["different"], row["commonest"], row["asked"]) == (different, commonest, 3)
    assert row["agreement"] == pytest.approx(agreement)
    assert (row["answers"], row["failed"]) == (3 - answers.count(None), answers.count(None))


def test_best_worst_and_stability_are_those_of_the_checks(store) -> None:
    ids = fill(
        store,
        {
            ("one", "terse"): [("a", 0.0), ("b", 1.0), ("c", 1.0)],
            ("two", "terse"): [("a", 1.0), ("a", 1.0), (None, None)],
        },
    )
    shaky, steady = repeats(store, "r").to_dict("records")
    assert (shaky["best"], shaky["worst"]) == (1.0, 0.0)
    assert shaky["mean"] == pytest.approx(2 / 3)
    assert shaky["stability"] == pytest.approx(math.sqrt(1 / 3))
    assert (shaky["best_response"], shaky["worst_response"]) == (ids["one", "terse", 1], ids["one", "terse", 0])
    assert (steady["best"], steady["worst"], steady["stability"], steady["failed"]) == (1.0, 1.0, 0.0, 1)


def test_what_cannot_be_known_is_null(store) -> None:
    fill(store, {("one", "terse"): [None, None, None], ("two", "terse"): ["a", None, None]})
    for row in repeats(store, "r").to_dict("records"):
        assert all(pd.isna(row[name]) for name in ("agreement", "best", "worst", "stability"))
    none, one = sorted(repeats(store, "r").to_dict("records"), key=lambda row: row["answers"])
    assert (none["different"], none["failed"], one["different"], one["commonest"]) == (0, 3, 1, "a")


def test_variants_stand_in_the_order_of_the_spec_with_means_over_their_cases(store) -> None:
    fill(
        store,
        {
            ("one", "terse"): [("a", 1.0), ("a", 1.0), ("a", 1.0)],
            ("two", "terse"): [("a", 0.0), ("b", 1.0), (None, None)],
            ("one", "steps"): [("a", 1.0), ("a.", 1.0), ("A", 1.0)],
        },
    )
    steps, terse = steadiness(store, "r").to_dict("records")
    assert (steps["variant"], steps["cases"], steps["agreement"], steps["unanimous"]) == ("steps", 1, 1.0, 1.0)
    assert (terse["variant"], terse["cases"], terse["asked"], terse["failed"]) == ("terse", 2, 6, 1)
    assert (terse["agreement"], terse["unanimous"]) == (0.75, 0.5)
    assert (terse["best"], terse["mean"], terse["worst"]) == (1.0, 0.75, 0.5)
    assert terse["stability"] == pytest.approx(math.sqrt(0.5) / 2)


def test_a_cell_asked_again_after_a_failure_counts_once(store) -> None:
    fill(store, {("one", "terse"): ["a", None]})
    again = AIRequest(input="x", task="t", run_id="r", case_id=CASES[0].id, variant_id=TERSE.id, repeat=1, key="k1")
    store.append([again, AIResponse(request_id=again.id, output="a", model_used="m:a")])
    [row] = repeats(store, "r").to_dict("records")
    assert (row["asked"], row["answers"], row["failed"], row["agreement"]) == (2, 2, 0, 1.0)


def test_the_samples_of_a_cell_say_which_are_the_same(store) -> None:
    fill(store, {("one", "terse"): ["no", "Yes", "yes.", None], ("one", "steps"): ["no"] * 4})
    frame = samples(store, "r", CASES[0].id, TERSE.id)
    assert list(frame["repeat"]) == [0, 1, 2, 3]
    assert [None if pd.isna(number) else int(number) for number in frame["wording"]] == [2, 1, 1, None]
    assert list(frame["status"]) == ["completed"] * 3 + ["failed"]


def test_runs_are_kept_apart(store) -> None:
    fill(store, {("one", "terse"): ["a", "b"]}, run="r")
    fill(store, {("one", "terse"): ["a", "a"]}, run="s")
    assert [repeats(store, run)["agreement"][0] for run in ("r", "s")] == [0.5, 1.0]
