"""Files to train on: their keys, what a label rests on, what is left out, and that no test is ever trained on."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel, ConfigDict, Field

import feedbackloop as fl
from feedbackloop import AIRequest, AIResponse, Case, Comparison, Rating, Store, Variant, export_preferences
from feedbackloop.cli import main
from feedbackloop.errors import DatasetError, SettingsError, StoreError, UnknownName
from feedbackloop.improve import FORMATS, REASONS
from feedbackloop.improve.export.confidence import confidence
from feedbackloop.improve.export.preferences import _balance

csv.field_size_limit(10_000_000)
BEGAN = datetime(2026, 2, 1, 12, tzinfo=UTC)
LONG = "It goes back to the shelf, the customer gets a mail, and the money is returned within {} working days."


# What the formats demand, written down from their documentation


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Turn(Strict):
    role: Literal["system", "user", "assistant"]
    content: str


class Answer(Strict):
    role: Literal["assistant"]
    content: Annotated[str, Field(min_length=1)]


class WeightedTurn(Turn):
    weight: Literal[0, 1] = 1


One = Annotated[list[Answer], Field(min_length=1, max_length=1)]
Turns = Annotated[list[Turn], Field(min_length=1)]


class TrlPreference(Strict):
    prompt: Turns
    chosen: One
    rejected: One


class TrlUnpaired(Strict):
    prompt: Turns
    completion: One
    label: bool


class TrlCompletion(Strict):
    prompt: Turns
    completion: One


class OpenAIInput(Strict):
    messages: Turns


class OpenAIPreference(Strict):
    input: OpenAIInput
    preferred_output: One
    non_preferred_output: One


class OpenAIChat(Strict):
    messages: Annotated[list[WeightedTurn], Field(min_length=2)]


SCHEMAS: dict[str, type[Strict]] = {
    "dpo": TrlPreference,
    "kto": TrlUnpaired,
    "sft": TrlCompletion,
    "openai-dpo": OpenAIPreference,
    "openai-sft": OpenAIChat,
}


# A world small enough to say what must come of it


class World:
    """Cases with answers, and what people said of them."""

    def __init__(self, path: Path) -> None:
        self.store = Store(path)
        self.records: list[Any] = [Variant(id=name, name=name, model="simulated:x") for name in ("v0", "v1", "v2")]
        self.count = 0

    def at(self) -> datetime:
        self.count += 1
        return BEGAN + timedelta(seconds=self.count)

    def case(self, name: str, text: str, *answers: str, messages: Any = (), metadata: Any = None, **given: Any) -> None:
        """A case, answered by v0, v1, ...; the answer of variant n is `NAME/n`."""
        self.records.append(
            Case(id=name, external_id=f"my-{name}", inputs={"input": text}, metadata=metadata or {}, created_at=BEGAN)
        )
        for number, output in enumerate(answers):
            self.answer(f"{name}/{number}", text, output, case=name, variant=f"v{number}", messages=messages, **given)

    def answer(
        self,
        id_: str,
        text: str,
        output: str,
        *,
        case: str | None,
        variant: str = "v0",
        messages: Any = (),
        **given: Any,
    ) -> None:
        request = AIRequest(
            id=f"q-{id_}",
            input=text,
            task="t",
            case_id=case,
            variant_id=variant,
            messages=list(messages),
            created_at=BEGAN,
        )
        self.records += [
            request,
            AIResponse(
                id=id_, request_id=request.id, output=output, model_used="simulated:x", created_at=BEGAN, **given
            ),
        ]

    def vote(
        self, case: str, winner: str | None, rater: str = "Anna", *, pair: tuple[int, int] = (0, 1), **given: Any
    ) -> str:
        a, b = pair
        self.records.append(
            vote := Comparison(
                task="t", case_id=case, response_a=f"{case}/{a}", response_b=f"{case}/{b}", variant_a=f"v{a}",
                variant_b=f"v{b}", winner=winner, rater=rater, created_at=self.at(), **{"rater_kind": "human", **given},
            )
        )  # fmt: skip
        return vote.id

    def votes(self, case: str, *winners: str, **given: Any) -> list[str]:
        return [self.vote(case, winner, f"rater {n}", **given) for n, winner in enumerate(winners)]

    def rate(self, response: str, rater: str = "Anna", **given: Any) -> str:
        given = {"metric": "thumbs", "rater_kind": "human", **given}
        self.records.append(rating := Rating(response_id=response, rater=rater, created_at=self.at(), **given))
        return rating.id

    def export(self, format: str = "dpo", **given: Any) -> tuple[fl.ExportResult, list[Any], list[Any]]:
        """The result, the rows, and where they come from."""
        self.store.append(self.records)
        self.records = []
        path = self.store.path.with_name("out.jsonl")
        result = export_preferences(self.store, path, format, **given)
        return result, lines(path), lines(result.evidence) if result.evidence else []


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().decode().split("\n") if line]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "loop.duckdb")


# How sure a label is


def test_confidence_is_the_posterior_of_the_statistics_page() -> None:
    assert [confidence(1, 0), confidence(2, 0), confidence(3, 0), confidence(3, 1)] == pytest.approx(
        [0.75, 0.875, 0.9375, 0.8125], abs=1e-12
    )
    assert confidence(4, 4, 3) == 0.5
    assert 1 - 1e-12 < confidence(500, 0) <= 1


def test_confidence_equals_the_integral_of_the_beta_density() -> None:
    for up, down, ties in ((1, 0, 1), (3, 1, 2), (5, 2, 3), (40, 31, 7)):
        a, b = 1 + up + ties / 2, 1 + down + ties / 2
        steps = [(n + 0.5) / 200_000 for n in range(200_000)]
        density = [x ** (a - 1) * (1 - x) ** (b - 1) for x in steps]
        assert confidence(up, down, ties) == pytest.approx(sum(density[100_000:]) / sum(density), abs=1e-6)


def test_labels_of_poor_raters_are_right_once_they_are_sure(world: World) -> None:
    """Three votes of raters who are right four times in five."""
    draw = random.Random(8)
    for number in range(400):
        world.case(f"c{number}", f"Question {number}", f"good answer {number}", f"poor answer {number}")
        world.votes(f"c{number}", *("a" if draw.random() < 0.8 else "b" for _ in range(3)))
    result, rows, _ = world.export(min_confidence=0.85)
    right = sum(row["chosen"][0]["content"].startswith("good") for row in rows)
    assert 150 < len(rows) < 260  # .8^3 + .2^3 of 400
    assert right / len(rows) >= 0.9
    assert result.dropped == {"low_confidence": 400 - len(rows)}


# What the files look like


@pytest.fixture
def full(world: World) -> World:
    """Everything that a label can come from."""
    few_shot = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "An example?", "name": "Eve"},
        {"role": "assistant", "content": "Like this."},
        {"role": "user", "content": [{"type": "text", "text": "And the question?"}]},
    ]
    world.case("c0", "And the question?", "Yes indeed.", "No.", messages=few_shot)
    world.votes("c0", "a", "a")
    world.case("c1", "Plain?", "Plainly so.", "Hardly.")
    world.votes("c1", "b", "b", "b")
    world.case("c2", "Corrected?", "Nearly right, I think.", "Wrong.")
    world.rate("c2/0", metric="quality", value=3, correction="Right, as an expert says.")
    world.answer("live", "Asked by a user", "Liked by a user", case=None)
    world.rate("live", "u1", rater_kind="user", value=1)
    world.rate("live", "u2", rater_kind="user", value=1)
    world.answer("live-2", "Asked by another", "Disliked by users", case=None)
    world.rate("live-2", "u1", rater_kind="user", value=0)
    world.rate("live-2", "u2", rater_kind="user", value=0)
    return world


PROMPT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "An example?"},
    {"role": "assistant", "content": "Like this."},
    {"role": "user", "content": "And the question?"},
]


def say(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def ask(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_dpo_has_the_prompt_as_it_was_sent_and_one_answer_each(full: World) -> None:
    _, rows, _ = full.export("dpo")
    assert rows == [
        {"prompt": PROMPT, "chosen": say("Yes indeed."), "rejected": say("No.")},
        {"prompt": ask("Plain?"), "chosen": say("Hardly."), "rejected": say("Plainly so.")},
    ]


def test_openai_dpo(full: World) -> None:
    result, rows, _ = full.export("openai-dpo")
    assert rows[0] == {
        "input": {"messages": PROMPT}, "preferred_output": say("Yes indeed."), "non_preferred_output": say("No."),
    }  # fmt: skip
    assert "2 rows are fewer than the 10 that the format's platforms ask for" in result.warnings


def test_kto_takes_votes_and_ratings_of_people_and_users(full: World) -> None:
    result, rows, _ = full.export("kto")
    assert sorted((row["completion"][0]["content"], row["label"]) for row in rows) == [
        ("Disliked by users", False), ("Hardly.", True), ("Liked by a user", True), ("No.", False),
        ("Plainly so.", False), ("Yes indeed.", True),
    ]  # fmt: skip
    assert (result.desirable, result.rows, result.weights) == (3, 6, (1.0, 1.0))


def test_sft_takes_corrections_winners_and_what_was_rated_well(full: World) -> None:
    _, rows, evidence = full.export("sft")
    assert {row["completion"][0]["content"]: row["prompt"] for row in rows} == {
        "Yes indeed.": PROMPT,
        "Hardly.": ask("Plain?"),
        "Right, as an expert says.": ask("Corrected?"),
        "Liked by a user": ask("Asked by a user"),
    }
    assert sorted(row["source"] for row in evidence) == ["correction", "human", "human", "user"]
    correction = next(row for row in evidence if row["source"] == "correction")
    assert (correction["q"], correction["weight"], len(correction["ratings"])) == (None, 1.0, 1)


def test_openai_sft_does_not_learn_the_examples_of_the_prompt(full: World) -> None:
    _, rows, _ = full.export("openai-sft")
    row = next(row for row in rows if len(row["messages"]) > 2)
    assert row == {
        "messages": [
            *PROMPT[:2],
            {"role": "assistant", "content": "Like this.", "weight": 0},
            PROMPT[3],
            *say("Yes indeed."),
        ]
    }


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_demo_fits_every_format_and_each_row_traces_to_its_votes(
    demo_file: Path, tmp_path: Path, name: str
) -> None:
    store = Store(demo_file)
    path = tmp_path / "it's here.jsonl"
    result = export_preferences(store, path, name, task="demo-support", min_confidence=0.7)
    rows, evidence = lines(path), lines(tmp_path / "it's here.jsonl.meta.jsonl")
    assert len(rows) == len(evidence) == result.rows >= 20
    assert result.labels == result.rows + sum(result.dropped.values())
    assert result.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert set(result.dropped) <= set(REASONS)
    votes = {row["id"]: row for row in store.sql("SELECT * FROM votes").to_dict("records")}
    for number, (row, behind) in enumerate(zip(rows, evidence, strict=True), start=1):
        SCHEMAS[name].model_validate(row)
        assert behind["row"] == number
        assert behind["votes"]
        assert behind["q"] == pytest.approx(confidence(behind["for"], behind["against"], behind["undecided"]), abs=1e-6)
        assert behind["weight"] == pytest.approx(2 * behind["q"] - 1)
        text = json.dumps(row)
        outputs = set()
        for id_ in behind["votes"]:
            vote = votes[id_]
            assert vote["case_id"] == behind["case_id"]
            assert vote["blind"]
            assert vote["rater"] in behind["raters"]
            outputs |= {vote["output_a"].strip(), vote["output_b"].strip()}
        used = [message["content"] for key in row for message in (row[key] if isinstance(row[key], list) else [])]
        assert used[-1].strip() in outputs
        assert behind["response"] not in text
    again = tmp_path / "again.jsonl"
    assert export_preferences(store, again, name, task="demo-support", min_confidence=0.7).sha256 == result.sha256
    assert again.read_bytes() == path.read_bytes()


def test_a_pair_follows_the_majority_of_its_votes_in_the_demo(demo_file: Path, tmp_path: Path) -> None:
    store = Store(demo_file)
    export_preferences(store, tmp_path / "o.jsonl", "jsonl", min_confidence=0.7)
    votes = {row["id"]: row for row in store.sql("SELECT * FROM votes").to_dict("records")}
    rows = lines(tmp_path / "o.jsonl")
    assert rows
    for row in rows:
        score = 0
        for id_ in row["votes"]:
            winner = {"a": votes[id_]["output_a"], "b": votes[id_]["output_b"]}.get(votes[id_]["winner"])
            score += (winner == row["chosen"]) - (winner == row["rejected"])
        assert score == row["for"] - row["against"] > 0


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_pairs_as_a_table_hold_all_that_is_known_of_them(full: World, tmp_path: Path, ending: str) -> None:
    full.export()
    path = tmp_path / f"pairs.{ending}"
    result = export_preferences(full.store, path, ending)
    assert result.evidence is None
    assert sorted(file.name for file in tmp_path.glob("pairs*")) == [path.name]
    if ending == "csv":
        rows = list(csv.DictReader(io.StringIO(path.read_text(), newline="")))
    else:
        rows = lines(path) if ending == "jsonl" else pq.read_table(path).to_pylist()
    assert list(rows[0])[:6] == ["prompt", "chosen", "rejected", "weight", "q", "n_votes"]
    assert [float(row["weight"]) for row in rows] == [0.75, 0.875]
    prompt = rows[0]["prompt"]
    assert (prompt if ending == "jsonl" else json.loads(prompt)) == PROMPT
    assert {row["source"] for row in rows} == {"human"}


# Which labels count


def test_ties_are_dropped_and_so_is_what_anybody_found_bad(world: World) -> None:
    for name in ("c0", "c1", "c2", "c3", "c4"):
        world.case(name, f"Question {name}", f"one of {name}", f"other of {name}")
    world.votes("c0", "a", "a", "a", "both_bad")
    world.votes("c1", "a", "b")
    world.votes("c2", "tie", "tie", "tie")
    world.votes("c3", "a")
    world.votes("c4", "a", "a", "a", "tie")
    result, _, evidence = world.export()
    assert [row["case_id"] for row in evidence] == ["c4"]
    assert evidence[0]["q"] == pytest.approx(confidence(3, 0, 1), abs=1e-6)
    assert result.dropped == {"tied": 2, "both_bad": 1, "low_confidence": 1}
    assert any("1 of the labels rest on a single voice" in warning for warning in result.warnings)
    assert world.export(min_confidence=0.75)[0].rows == 2
    assert {row["completion"][0]["content"] for row in world.export("kto", min_confidence=0.75)[1] if not row["label"]} == {
        "other of c0", "other of c3", "other of c4",
    }  # fmt: skip


def test_votes_on_the_same_texts_count_together_whichever_way_they_were_shown(world: World) -> None:
    world.case("c0", "Question", "better", "worse", " better\n")
    mine = [
        world.vote("c0", "a", "Anna"),
        world.vote("c0", "b", "Ben", pair=(1, 0)),
        world.vote("c0", "b", "Cleo", pair=(1, 2)),
    ]
    _, rows, evidence = world.export()
    assert len(rows) == 1
    assert evidence[0]["votes"] == mine
    assert evidence[0]["for"] == 3


def test_of_a_rater_the_newest_vote_on_two_texts_counts_unless_all_are_asked_for(world: World) -> None:
    world.case("c0", "Question", "better", "worse")
    world.vote("c0", "b")
    newest = [world.vote("c0", "a"), world.vote("c0", "a")][-1]
    result, _, _ = world.export()
    assert result.rows == 0
    _, _, evidence = world.export(min_confidence=0.75)
    assert evidence[0]["votes"] == [newest]
    _, _, evidence = world.export(min_confidence=0.6, every_vote=True)
    assert (evidence[0]["for"], evidence[0]["against"]) == (2, 1)


def test_only_blind_votes_by_people_count_unless_asked_otherwise(world: World) -> None:
    for name in ("c0", "c1", "c2"):
        world.case(name, f"Question {name}", f"one of {name}", f"other of {name}")
    world.votes("c0", "a", "a", blind=False)
    for judge in ("j@1", "j@2"):
        world.vote("c1", "a", judge, rater_kind="judge")
        world.vote("c2", "b", judge, rater_kind="judge")
    world.votes("c2", "a", "a")
    assert [row["case_id"] for row in world.export()[2]] == ["c2"]
    assert [row["case_id"] for row in world.export(blind_only=False)[2]] == ["c0", "c2"]
    result, rows, evidence = world.export(kinds=("human", "judge"))
    assert [(row["case_id"], row["source"]) for row in evidence] == [("c1", "judge"), ("c2", "human")]
    assert rows[1]["chosen"] == say("one of c2")
    assert any("1 rows rest on model judges alone" in warning for warning in result.warnings)
    assert [row["chosen"] for row in world.export(kinds=("judge",))[1]] == [say("one of c1"), say("other of c2")]
    assert world.export(raters=("rater 0",), min_confidence=0.75)[0].rows == 1
    assert world.export(metric="tone")[0].labels == 0


def test_votes_agreement_and_margin_can_be_asked_for(world: World) -> None:
    for number, winners in enumerate((("a", "a"), ("a", "a", "a", "b"), ("a", "a", "a", "a", "a", "b", "b"))):
        world.case(f"c{number}", f"Question {number}", f"one of {number}", f"other of {number}")
        world.votes(f"c{number}", *winners)
    low = {"min_confidence": 0.5}
    assert world.export(**low)[0].rows == 3
    assert world.export(**low, min_votes=4)[0].dropped == {"too_few_votes": 1}
    assert world.export(**low, min_agreement=0.8)[0].dropped == {"low_agreement": 2}
    assert (
        world.export(**low, min_margin=3)[0].dropped == {"low_margin": 3 - 1}
        or world.export(**low, min_margin=3)[0].rows == 1
    )


def test_changed_and_withdrawn_votes_are_gone(world: World) -> None:
    world.case("c0", "Question", "better", "worse")
    wrong = world.vote("c0", "b", "Anna")
    world.vote("c0", "a", "Anna", supersedes=wrong)
    gone = world.vote("c0", "b", "Ben")
    world.vote("c0", None, "Ben", supersedes=gone)
    _, rows, evidence = world.export(min_confidence=0.75)
    assert rows[0]["chosen"] == say("better")
    assert evidence[0]["raters"] == ["Anna"]


def test_stars_are_good_from_four_and_bad_up_to_two(world: World) -> None:
    for stars in range(1, 6):
        world.case(f"c{stars}", f"Question {stars}", f"worth {stars}")
        for rater in ("Anna", "Ben"):
            world.rate(f"c{stars}/0", rater, metric="helpfulness", value=stars)
    world.rate("c3/0", metric="issue", label="too long")
    _, rows, evidence = world.export("kto")
    assert [(row["completion"][0]["content"], row["label"]) for row in rows] == [
        ("worth 1", False), ("worth 2", False), ("worth 4", True), ("worth 5", True),
    ]  # fmt: skip
    assert all(len(row["ratings"]) == 2 and not row["votes"] for row in evidence)
    assert [row["completion"][0]["content"] for row in world.export("sft", min_rating=5)[1]] == ["worth 5"]


def test_a_corrected_answer_gives_way_to_its_correction(world: World) -> None:
    world.case("c0", "Question", "Good, with one wrong word.", "Poor.")
    world.votes("c0", "a", "a", "a")
    world.rate("c0/0", "Anna", metric="thumbs", correction="Good, without any wrong word.")
    result, rows, _ = world.export("sft")
    assert [row["completion"][0]["content"] for row in rows] == ["Good, without any wrong word."]
    assert result.dropped == {"corrected": 1, "not_preferred": 1}
    _, rows, evidence = world.export("dpo", sources=("votes", "corrections"))
    assert [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows] == [
        ("Good, without any wrong word.", "Good, with one wrong word."), ("Good, with one wrong word.", "Poor."),
    ]  # fmt: skip
    assert [row["source"] for row in evidence] == ["correction", "human"]


# Which texts can be learnt from


@pytest.mark.parametrize(
    ("one", "other", "given", "reason"),
    [
        ("better", " \n ", {}, "empty"),
        ("better", "cut of", {"finish_reason": "length"}, "truncated"),
        ("better", "cut off", {"truncated": True}, "truncated"),
        ("better", "I'm sorry, but I can\u2019t help with that.", {}, "refused"),
        ("better", "As an AI language model, I cannot provide that information.", {}, "refused"),
        ("better", "withheld", {"finish_reason": "content_filter"}, "refused"),
        (LONG.format(3) * 4, LONG.format(3) * 4 + " Yes.", {}, "near_identical"),
        ("Same words!", "same, words", {}, "near_identical"),
        ("same", "same ", {}, "identical"),
        ("better", "worse", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "prompt_not_text"),
        ("better", "worse", {"messages": [{"role": "tool", "content": "x"}]}, "prompt_not_text"),
        ("better", "worse", {"messages": [{"role": "user", "content": "x"}, *say("Sure:")]}, "prompt_without_question"),
    ],
)
def test_texts_that_teach_nothing_are_left_out(world: World, one: str, other: str, given: Any, reason: str) -> None:
    world.case("c0", "Question", one, other, **given)
    world.votes("c0", "a", "a")
    result, rows, _ = world.export()
    assert rows == []
    assert result.dropped == {reason: 1}


def test_an_apology_in_an_answer_is_no_refusal(world: World) -> None:
    for number, text in enumerate(
        (
            "I'm sorry to hear that! Here is how to get a refund.",
            "I can help with that.",
            "We cannot refund this deposit.",
        )
    ):
        world.case(f"c{number}", f"Question {number}", text, "worse")
        world.votes(f"c{number}", "a", "a")
    assert world.export()[0].rows == 3
    world.case("c9", "Something evil", "I cannot help with that.", "With pleasure: first, take")
    world.votes("c9", "a", "a")
    assert world.export()[0].dropped == {"refused": 1}
    assert world.export(keep_refusals=True)[0].rows == 4


def test_at_most_four_pairs_of_a_case_and_the_surest(world: World) -> None:
    world.case("c0", "Question", *(f"answer number {'x' * n}" for n in range(4)))
    for number, pair in enumerate(((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))):
        world.votes("c0", *["a"] * (number + 2), pair=pair)
    result, _, evidence = world.export()
    assert [row["for"] for row in evidence] == [7, 6, 5, 4]
    assert result.dropped == {"over_per_case": 2}
    assert world.export(per_case=1)[0].rows == 1


def test_no_pair_and_its_reverse_not_even_from_two_cases_with_the_same_prompt(world: World) -> None:
    for name, winner in (("c0", "a"), ("c1", "b"), ("c2", "a")):
        world.case(
            name, "The very same question", "one answer", "the other   answer" if name == "c1" else "the other answer"
        )
        world.votes(name, winner, winner)
    result, rows, _ = world.export()
    assert len(rows) == 1
    assert result.dropped == {"repeated": 2}


def test_every_format_is_announced_and_has_a_schema() -> None:
    assert set(FORMATS.entries) == {*SCHEMAS, "csv", "jsonl", "parquet"}


def test_what_should_be_known_before_training_is_said(world: World) -> None:
    for number in range(30):
        world.case(f"c{number:02}", f"Question {number}", LONG.format(number) * 5, f"No {number}.")
        world.votes(f"c{number:02}", "a", "a")
    world.case("d", "Question", "short", "longer by far than the other one is", messages=ask("x"))
    world.votes("d", "a", "a")
    world.answer("e/0", "Question", "asked so", case="e", messages=ask("asked so?"))
    world.answer("e/1", "Question", "asked otherwise", case="e", messages=ask("asked otherwise?"))
    world.records.append(Case(id="e", inputs={"input": "Question"}))
    world.votes("e", "a", "a")
    result, _, evidence = world.export()
    told = " ".join(result.warnings)
    assert result.longer_chosen == pytest.approx(30 / 32)
    assert "in 94% of the pairs the chosen answer is the longer one" in told
    assert "31 pairs have an answer more than 4 times as long" in told
    assert "1 pairs have answers to different prompts" in told
    assert [row["case_id"] for row in evidence if "prompts_differ" in row["flags"]] == ["e"]
    assert world.export(same_prompt=True)[0].dropped == {"prompts_differ": 1}
    result, _, _ = world.export("kto")
    assert result.desirable == result.rows - result.desirable


@pytest.mark.parametrize(("good", "bad"), [(1, 1), (4, 3), (10, 3), (3, 10), (1, 997), (997, 1), (5, 4)])
def test_suggested_weights_balance_good_and_bad(good: int, bad: int) -> None:
    weights = _balance(good, bad)
    assert weights is not None
    assert 1 - 1e-9 <= good * weights[0] / (bad * weights[1]) <= 4 / 3 + 1e-9
    assert min(weights) == 1.0
    assert _balance(3, 0) is None


# No test is trained on


PROMPTS = [
    "A client cancelled twenty hours before her massage and asks for her deposit back; can I still give it to her today?",
    "How do I connect my own domain to the shop when the old provider still shows the page that I had last year?",
    "Write a friendly reminder for a dance class that starts on Monday evening in the small hall behind the station.",
]  # fmt: skip


def paraphrased(text: str, draw: random.Random) -> str:
    """Five words in a hundred replaced, something said before and after."""
    words = [word if draw.random() > 0.05 else f"other{draw.randrange(1000)}" for word in text.split()]
    return " ".join(["Please", "tell", "me:", *words, "Thanks!"]).upper()


def test_cases_held_out_are_never_written(world: World) -> None:
    world.case("c0", PROMPTS[0], "better", "worse", metadata={"split": "Test"})
    world.case("c1", PROMPTS[1], "better", "worse", metadata={"split": "train"})
    for name in ("c0", "c1"):
        world.votes(name, "a", "a")
    for name in SCHEMAS:
        result, _, evidence = world.export(name)
        assert {row["case_id"] for row in evidence} == {"c1"}
        assert result.held_out == 1
        assert result.dropped["held_out"] >= 1


@pytest.mark.parametrize("seed", range(5))
def test_a_planted_leak_is_refused_and_nothing_is_written(world: World, seed: int) -> None:
    draw = random.Random(seed)
    text = PROMPTS[seed % 3]
    world.case("held", text, metadata={"split": "test"})
    leak = [
        text,
        text.upper() + "!!",
        f"Hello. {text} Thank you.",
        " ".join(text.split()[2:]),
        paraphrased(text, draw),
    ][seed]
    world.case("leak", leak, "better", "worse")
    world.votes("leak", "a", "a")
    world.case("fine", "Something else altogether, about the weather.", "better one", "worse one")
    world.votes("fine", "a", "a")
    before = world.store.path.with_name("out.jsonl")
    before.write_text("before")
    for name in ("dpo", "kto", "sft"):
        with pytest.raises(
            DatasetError, match=r"nearly repeat cases held out for tests \('my-leak' and the test's 'held'\)"
        ):
            world.export(name)
    assert before.read_text() == "before"
    assert sorted(file.name for file in before.parent.iterdir() if "out" in file.name) == ["out.jsonl"]
    result, _, evidence = world.export(drop_leaks=True)
    assert [row["case_id"] for row in evidence] == ["fine"]
    assert result.dropped == {"near_held_out": 1}


def test_nearness_is_passed_on_and_found_in_requests_without_a_case(world: World) -> None:
    chain = " ".join(f"word{n}" for n in range(40)).split()
    world.case("held", " ".join(chain[:20]), metadata={"split": "test"})
    world.case("between", " ".join(chain[4:28]))
    world.case("far", " ".join(chain[10:36]), "better", "worse")
    world.votes("far", "a", "a")
    with pytest.raises(DatasetError, match="my-far"):
        world.export()
    world.answer("live", f"hello {' '.join(chain[:20])}", "liked", case=None)
    world.rate("live", "u1", rater_kind="user", value=1)
    world.rate("live", "u2", rater_kind="user", value=1)
    with pytest.raises(DatasetError, match="nearly repeat"):
        world.export("sft", sources=("ratings",))


def test_paraphrases_are_found_and_others_left_alone(world: World) -> None:
    """A small version of the 200 planted among 20,200; there, 94 % were found."""
    draw = random.Random(3)
    vocabulary = [f"w{n}" for n in range(800)]
    texts = [" ".join(draw.choices(vocabulary, k=draw.randint(12, 60))) for _ in range(450)]
    for number, text in enumerate(texts[:100]):
        world.case(f"held{number}", text, metadata={"split": "test"})
        world.case(f"leak{number}", paraphrased(text, draw), "better", "worse")
        world.votes(f"leak{number}", "a", "a")
    for number, text in enumerate(texts[100:]):
        world.case(f"fine{number}", text, "better", "worse")
        world.votes(f"fine{number}", "a", "a")
    result, _, evidence = world.export(drop_leaks=True)
    assert result.dropped["near_held_out"] >= 90
    assert sum(row["case_id"].startswith("fine") for row in evidence) == 350


def test_short_prompts_are_compared_as_a_whole_and_in_any_script(world: World) -> None:
    world.case("h0", "Hello there", metadata={"split": "test"})
    world.case("h1", "我的押金可以在取消预约二十小时之前退还给客户吗", metadata={"split": "test"})
    world.case("c0", "hello, THERE", "better", "worse")
    world.case("c1", "请问我的押金可以在取消预约二十小时之前退还给客户吗谢谢", "better", "worse")
    world.case("c2", "Hello there, how are you?", "better", "worse")
    for name in ("c0", "c1", "c2"):
        world.votes(name, "a", "a")
    _, _, evidence = world.export(drop_leaks=True)
    assert [row["case_id"] for row in evidence] == ["c2"]


# Other people's texts


HOSTILE = [
    "=cmd|' /C calc'!A0", 'quotes " and \\ and {{ input }}', "line\u2028end\u2029and\u0085more", "tab\tand\r\nreturn",
    "control \x01\x1b[31m\x7f", "emoji \U0001f642 \u202e\ufeff", '</script>{"role":"system"}', "null", "\u2400", "x" * 70_000,
]  # fmt: skip


@pytest.mark.parametrize("name", SCHEMAS)
def test_hostile_texts_come_through_as_they_are_one_row_a_line(world: World, name: str) -> None:
    for number, text in enumerate(HOSTILE):
        world.case(f"c{number}", f"{text}?", text, f"{number} was not meant", metadata={"text": text})
        world.votes(f"c{number}", "a", "a")
    result, rows, evidence = world.export(name)
    path = result.path
    assert len(path.read_text(encoding="utf-8").splitlines()) == len(rows) == len(evidence) == result.rows
    for row in rows:
        SCHEMAS[name].model_validate(row)
    flat = json.dumps(rows)
    assert all(json.dumps(text)[1:-1] in flat for text in HOSTILE)


def test_pairs_in_csv_do_not_run_in_a_spreadsheet(world: World, tmp_path: Path) -> None:
    world.case("c0", "=1+1", "=cmd|' /C calc'!A0", "+other")
    world.votes("c0", "a", "a")
    world.export()
    export_preferences(world.store, tmp_path / "p.csv", "csv")
    row = next(csv.DictReader(io.StringIO((tmp_path / "p.csv").read_text(), newline="")))
    assert (row["chosen"], row["rejected"]) == ("'=cmd|' /C calc'!A0", "'+other")
    export_preferences(world.store, tmp_path / "p.csv", "csv", raw=True)
    assert next(csv.DictReader(io.StringIO((tmp_path / "p.csv").read_text(), newline="")))["rejected"] == "+other"


# Wishes that make no sense, and the command line


def test_bad_wishes_get_a_sentence(world: World, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no such store yet"):
        export_preferences(world.store, tmp_path / "o.jsonl")
    world.case("c0", "Question", "better", "worse")
    world.votes("c0", "a", "a")
    world.export()
    for given, error, sentence in (
        ({"format": "dp"}, UnknownName, "did you mean 'dpo'"),
        ({"task": "tt"}, UnknownName, "there is no task 'tt'"),
        ({"run": "1"}, StoreError, "no runs"),
        ({"kinds": ("people",)}, UnknownName, "no kind of rater called 'people'"),
        ({"kinds": ()}, SettingsError, "at least one kind of rater"),
        ({"sources": ("ratings",)}, SettingsError, "come from votes and corrections"),
        ({"sources": ("corrections",), "format": "kto"}, SettingsError, "whether they are good"),
        ({"min_confidence": 85}, SettingsError, "between 0.5 and 1"),
        ({"format": "parquet"}, SettingsError, r"ends in \.parquet"),
    ):
        with pytest.raises(error, match=sentence):
            export_preferences(world.store, tmp_path / "o.jsonl", **given)
    with pytest.raises(SettingsError, match="there is no folder"):
        export_preferences(world.store, tmp_path / "none" / "o.jsonl")
    assert not (tmp_path / "o.jsonl").exists()


def test_a_store_without_votes_gives_an_empty_file(world: World) -> None:
    world.case("c0", "Question", "better", "worse")
    for name in SCHEMAS:
        result, rows, _ = world.export(name)
        assert (rows, result.rows, result.labels) == ([], 0, 0)


def test_the_command_says_what_was_written_and_what_was_not(
    demo_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    shutil.copy(demo_file, "loop.duckdb")

    def call(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["export", *arguments])
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out + shown.err

    code, told = call("train.jsonl", "--format", "openai-dpo", "--task", "demo-support")
    assert code == 0
    assert "rows of 130 labels as openai-dpo to train.jsonl." in told
    assert "not sure enough" in told
    assert "train.jsonl.meta.jsonl: the votes behind each row" in told
    assert hashlib.sha256(Path("train.jsonl").read_bytes()).hexdigest() in told
    assert "good, bad" in call("kto.jsonl", "-f", "kto", "--min-confidence", "0.75")[1]
    assert "as parquet to pairs.parquet" in call("pairs.parquet", "--what", "preferences", "--raters", "Anna, Ben")[1]
    assert call("table.txt", "--format", "csv", "--what", "cases")[1].startswith("Wrote 48 rows of cases")
    assert call("train.jsonl", "--format", "dpo", "--what", "votes")[0] == 2
    assert "did you mean 'kto'" in call("train.jsonl", "--format", "kt")[1]


@pytest.mark.slow
def test_a_million_answers_are_not_held_in_memory(tmp_path: Path) -> None:
    """600,000 votes on a million answers: DuckDB makes do with its 200 MB, and the rest is read row by row."""
    import subprocess
    import sys

    import big_store

    path = tmp_path / "big.duckdb"
    big_store.make(path, answers=1_000_000, comparisons=600_000)
    code = (
        "import re, pathlib, feedbackloop as fl\n"
        f"store = fl.Store({str(path)!r})\n"
        f"result = fl.export_preferences(store, {str(tmp_path / 'o.jsonl')!r}, min_confidence=.7)\n"
        # Not ru_maxrss: that begins with what the process had which started this one.
        "print(result.rows, int(re.search(r'VmHWM:\\s+(\\d+)', pathlib.Path('/proc/self/status').read_text())[1]) // 1024)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rows, megabytes = map(int, shown.stdout.split())
    assert rows > 300_000
    assert megabytes < 600
