"""Votes, ratings and corrections as files that models are trained on."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import pyarrow.parquet as pq

from feedbackloop import queries
from feedbackloop.errors import DatasetError, SettingsError, UnknownName
from feedbackloop.improve.export.confidence import confidence
from feedbackloop.improve.export.example import LENGTHS, Example, Unusable, alternates, read_example
from feedbackloop.improve.export.formats import FORMATS, Format
from feedbackloop.improve.export.sinks import JsonLines, beside, refuse_misplaced
from feedbackloop.models import RaterKind
from feedbackloop.queries.preferences import Gathered, Source, Wanted, gather
from feedbackloop.queries.records import asked_tasks, known_task
from feedbackloop.registry import near
from feedbackloop.store import Store

REASONS = {
    "held_out": "cases held out for tests",
    "near_held_out": "nearly a case held out for tests",
    "both_bad": "somebody found both answers bad",
    "tied": "as many for it as against it",
    "too_few_votes": "fewer votes than asked for",
    "low_agreement": "less agreement than asked for",
    "low_margin": "a smaller margin than asked for",
    "low_confidence": "not sure enough",
    "not_preferred": "not a good answer",
    "corrected": "somebody corrected the answer",
    "identical": "two answers of the same words",
    "near_identical": "two answers of nearly the same words",
    "empty": "an empty answer",
    "truncated": "an answer that was cut off",
    "refused": "an answer that is a refusal",
    "prompt_not_text": "a prompt with tools or pictures",
    "prompt_without_question": "a prompt that does not end with a user's message",
    "prompts_differ": "answers to different prompts",
    "repeated": "the same prompt and answers again",
    "over_per_case": "more of one case than asked for",
}
"""Why a label was dropped, in words; a label is dropped for the first reason that holds."""

LONGER_CHOSEN = 0.65
"""A larger share of pairs whose chosen answer is the longer one teaches length."""

_FEW = 20  # of fewer pairs, a share says little


@dataclass(frozen=True)
class ExportResult:
    """What an export of labels wrote, and what it left out."""

    path: Path
    evidence: Path | None
    """The file that says, line by line, which votes each row rests on; none where the rows themselves do."""
    format: str
    rows: int
    labels: int
    """How many labels there were, dropped ones included."""
    dropped: dict[str, int]
    """Labels left out, by reason (`REASONS` says them in words), most first."""
    sha256: str
    warnings: tuple[str, ...] = ()
    longer_chosen: float | None = None
    """Share of pairs whose chosen answer is the longer one."""
    desirable: int | None = None
    """Of KTO's rows, those with a good answer."""
    weights: tuple[float, float] | None = None
    """KTO's `desirable_weight` and `undesirable_weight` that balance the two."""
    held_out: int = 0
    """Cases held out for tests: nothing of them was written."""


def export_preferences(
    store: Store,
    path: str | Path,
    format: str = "dpo",
    *,
    task: str | None = None,
    run: str | None = None,
    min_confidence: float = 0.85,
    min_votes: int = 1,
    min_agreement: float = 0.0,
    min_margin: int = 0,
    min_rating: float = 4.0,
    sources: Sequence[str] | None = None,
    raters: Sequence[str] = (),
    kinds: Sequence[str] = ("human", "user"),
    blind_only: bool = True,
    metric: str = "preference",
    every_vote: bool = False,
    per_case: int = 4,
    same_prompt: bool = False,
    keep_refusals: bool = False,
    drop_leaks: bool = False,
    raw: bool = False,
) -> ExportResult:
    """Write what votes, ratings and corrections say of answers as a file to train on, in place of what was there before.

    A label is as sure as the probability q that most raters would agree with it (`confidence`): with the default of 0.85, two
    votes to none, or four to one. Prompts are the messages as they were sent; of a pair, those that the chosen answer
    was given to. Cases held out for tests (`metadata.split` is `test`) are never written, nor is what says nearly the same. The
    same store gives the same bytes.

    Args:
        store: where from.
        path: where to; it ends in .jsonl (csv and parquet: .csv, .parquet).
        format: dpo, kto, sft (TRL), openai-dpo, openai-sft; or csv, jsonl, parquet: pairs with all that is known of them.
        task: only of this task.
        run: only answers of the run whose id begins so.
        min_confidence: least q.
        min_votes: fewest voices that a label rests on.
        min_agreement: least share of voices for the label.
        min_margin: fewest voices that those for the label are ahead by.
        min_rating: ratings from 1 to 5 are good from here on, and bad as far below 3; thumbs are good or bad by themselves.
        sources: of votes, ratings and corrections; each format has its own.
        raters: only these; everybody unless given.
        kinds: of human, user, judge and grader. People go first: others' labels are used where people gave none, never mixed.
        blind_only: leave out votes and ratings by raters who knew whose answers they saw.
        metric: which comparisons.
        every_vote: count all votes of a rater on the same two texts, not only the newest (where raters have no names).
        per_case: most rows of one case, the surest first.
        same_prompt: only pairs whose answers were given to the same messages.
        keep_refusals: keep answers that refuse to answer.
        drop_leaks: leave out what says nearly what a held-out case says, instead of refusing to write at all.
        raw: csv: leave texts as they are that a spreadsheet would run as formulas.

    Raises:
        DatasetError: rows to be written say nearly what cases held out for tests say.
        UnknownName: there is no such format or task.
        SettingsError: an argument makes no sense.
        StoreError: there is no such store or run, or the file cannot be written.
    """
    chosen: Format = FORMATS.get(format)
    target = _target(Path(path), chosen, format)
    store.must_exist()
    wanted = Wanted(
        sources=_sources(chosen, format, sources),
        task=None if task is None else known_task(store, task, asked_tasks(store)),
        run=None if run is None else queries.find_run(store, run).run.id,
        kinds=_among(kinds, get_args(RaterKind), "kind of rater"),
        raters=tuple(raters),
        blind_only=blind_only,
        metric=metric,
        min_rating=_within("min_rating", min_rating, 3, 5),
        min_confidence=_within("min_confidence", min_confidence, 0.5, 1),
        min_votes=min_votes,
        min_agreement=_within("min_agreement", min_agreement, 0, 1),
        min_margin=min_margin,
        every_vote=every_vote,
    )
    with beside(target) as folder:
        folder.mkdir()
        found = gather(store, chosen.kind, wanted, folder, confidence=confidence)
        writing = _Writing(chosen, per_case=per_case, keep_refusals=keep_refusals, same_prompt=same_prompt)
        writing.write(_rows(found.files, chosen), folder / "rows", folder / "evidence", raw=raw)
        if not drop_leaks:
            _refuse_leaks(writing)
        with (folder / "rows").open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        evidence = target.with_name(f"{target.name}.meta.jsonl") if chosen.evidence else None
        if evidence is not None:
            (folder / "evidence").replace(evidence)
        (folder / "rows").replace(target)
    return writing.result(target, evidence, format, found, digest, kinds=wanted.kinds)


@dataclass
class _Writing:
    """Going through the labels once, and what was met on the way."""

    format: Format
    per_case: int
    keep_refusals: bool
    same_prompt: bool
    rows: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    leaks: list[tuple[str, str]] = field(default_factory=list)
    """Case and held-out case of those that come too near."""
    met: Counter[str] = field(default_factory=Counter)
    """How many rows have something worth telling."""
    _written: set[int] = field(default_factory=set)
    """Hashes of what was written: 1,000,000 rows take 100 MB."""

    def write(self, rows: Iterator[dict[str, Any]], path: Path, beside: Path, *, raw: bool) -> None:
        """Write every example that can be used, and where it comes from."""
        sink, evidence = self.format.open(path, raw=raw), JsonLines(beside)
        place, of_place = None, 0
        try:
            for row in rows:
                if row["place"] != place:
                    place, of_place = row["place"], 0
                try:
                    example = self._usable(row, of_place)
                except Unusable as unusable:
                    self.dropped[str(unusable)] += 1
                    continue
                of_place += 1
                self.rows += 1
                sink.write(self.format.shape(example))
                evidence.write({"row": self.rows, **example.evidence})
                self._meet(example)
        finally:
            sink.close()
            evidence.close()

    def _usable(self, row: dict[str, Any], of_place: int) -> Example:
        example = read_example(row, keep_refusals=self.keep_refusals, same_prompt=self.same_prompt)
        # Two cases may come to the same prompt; neither a pair nor its reverse is to be learnt from twice.
        prompt = tuple(message["role"] + message["content"] for message in example.prompt)
        answers = frozenset(" ".join(text.split()) for text in (example.chosen, example.rejected or ""))
        known = hash((prompt, answers))
        if known in self._written:
            raise Unusable("repeated")
        if of_place >= self.per_case:
            raise Unusable("over_per_case")
        if row["held_out_id"] is not None:
            self.leaks.append((row["external_id"] or row["place"], row["held_out_id"]))
            raise Unusable("near_held_out")
        self._written.add(known)
        return example

    def _meet(self, example: Example) -> None:
        self.met.update(example.evidence["flags"])
        self.met[f"by {example.evidence['source']}"] += 1
        self.met["desirable"] += example.label
        self.met["longer_chosen"] += example.rejected is not None and len(example.chosen) > len(example.rejected)
        self.met["unalternating"] += not alternates(example.prompt)

    def result(
        self, path: Path, evidence: Path | None, name: str, found: Gathered, digest: str, *, kinds: tuple[str, ...]
    ) -> ExportResult:
        """What came of it, with what should be known before training on it."""
        dropped = Counter(found.dropped) + self.dropped
        pairs, labels = self.format.kind == "pairs", self.format.kind == "labels"
        longer = self.met["longer_chosen"] / self.rows if pairs and self.rows else None
        weights = _balance(self.met["desirable"], self.rows - self.met["desirable"]) if labels else None
        return ExportResult(
            path=path,
            evidence=evidence,
            format=name,
            rows=self.rows,
            labels=found.labels,
            dropped=dict(sorted(dropped.items(), key=lambda item: (-item[1], item[0]))),
            sha256=digest,
            warnings=tuple(self._warnings(found, longer, weights, kinds)),
            longer_chosen=longer,
            desirable=self.met["desirable"] if labels else None,
            weights=weights,
            held_out=found.held_out,
        )

    def _warnings(
        self, found: Gathered, longer: float | None, weights: tuple[float, float] | None, kinds: tuple[str, ...]
    ) -> Iterator[str]:
        if found.single_voices:
            yield (
                f"{found.single_voices:,} of the labels rest on a single voice (q = 0.75): a second rater would make them "
                "sure, and --min-confidence 0.75 takes them as they are"
            )
        if self.rows < self.format.fewest:
            yield f"{self.rows} rows are fewer than the {self.format.fewest} that the format's platforms ask for"
        if longer is not None and longer > LONGER_CHOSEN and self.rows >= _FEW:
            yield f"in {longer:.0%} of the pairs the chosen answer is the longer one: a model may learn length from them"
        if self.met["length_ratio"]:
            yield f"{self.met['length_ratio']:,} pairs have an answer more than {LENGTHS:g} times as long as the other"
        if self.met["prompts_differ"]:
            yield (
                f"{self.met['prompts_differ']:,} pairs have answers to different prompts: the rejected one was given to "
                "another prompt than the one it stands with (--same-prompt, from Python same_prompt=True, leaves them out)"
            )
        if self.format.alternating and self.met["unalternating"]:
            yield f"in {self.met['unalternating']:,} prompts user and assistant do not take turns, which some platforms refuse"
        if "judge" in kinds and self.met["by judge"]:
            yield f"{self.met['by judge']:,} rows rest on model judges alone: compare them with people's votes first"
        if weights is None and self.format.kind == "labels" and self.rows:
            yield "all answers have the same label: KTO needs good and bad ones"
        elif weights not in (None, (1.0, 1.0)):
            assert weights is not None
            yield (
                f"good and bad answers are unbalanced: train with desirable_weight={weights[0]:g}, "
                f"undesirable_weight={weights[1]:g}"
            )


def _balance(desirable: int, undesirable: int) -> tuple[float, float] | None:
    """Weights with which good answers weigh 1 to 4/3 times as much as bad ones, the larger of them as small as may be."""
    if not desirable or not undesirable:
        return None
    ratio = desirable / undesirable
    if ratio < 1:
        return math.ceil(100 / ratio) / 100, 1.0
    return 1.0, max(1.0, math.ceil(75 * ratio) / 100)


def _rows(files: Sequence[Path], format: Format) -> Iterator[dict[str, Any]]:
    for file in files:
        with pq.ParquetFile(file) as opened:
            for batch in opened.iter_batches(batch_size=500):
                for row in batch.to_pylist():
                    yield {**row, "kind": format.kind}


def _refuse_leaks(writing: _Writing) -> None:
    if not writing.leaks:
        return
    near_ones = ", ".join(
        f"'{place}' and the test's '{held_out}'" for place, held_out in list(dict.fromkeys(writing.leaks))[:3]
    )
    raise DatasetError(
        f"{len(writing.leaks):,} of the rows to be written nearly repeat cases held out for tests ({near_ones}), and a test that "
        "was trained on proves nothing: take these cases out of one of the two, or leave the rows out (drop_leaks, on the command line --drop-leaks)"
    )


def _target(target: Path, format: Format, name: str) -> Path:
    if not target.name.lower().endswith(format.ending):
        raise SettingsError(f"{target}: a file of the format {name} ends in {format.ending}")
    refuse_misplaced(target)
    return target


def _sources(format: Format, name: str, wanted: Sequence[str] | None) -> tuple[Source, ...]:
    names = _among(format.sources if wanted is None else wanted, get_args(Source), "source of labels")
    if format.kind == "pairs" and "ratings" in names:
        raise SettingsError(f"{name} holds pairs, which come from votes and corrections; ratings are of single answers")
    if format.kind == "labels" and "corrections" in names:
        raise SettingsError(f"{name} holds answers and whether they are good, which votes and ratings say")
    return tuple(source for source in get_args(Source) if source in names)


def _among(names: Sequence[str], known: Sequence[str], noun: str) -> tuple[str, ...]:
    for name in names:
        if name not in known:
            raise UnknownName(f"there is no {noun} called '{name}'{near(name, known)}")
    if not names:
        raise SettingsError(f"name at least one {noun}: {', '.join(known)}")
    return tuple(names)


def _within(name: str, value: float, least: float, most: float) -> float:
    if not least <= value <= most:
        raise SettingsError(f"{name} is {value:g}; it must be between {least:g} and {most:g}")
    return value
