"""What tests ask: the cells of a spec in one run for all of them, and single questions."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest

from feedbackloop.datasets import open_dataset
from feedbackloop.errors import FeedbackLoopError, SettingsError
from feedbackloop.findings.wording import short
from feedbackloop.graders import RowScore, create, score
from feedbackloop.identity import content_id
from feedbackloop.lease import Lease
from feedbackloop.models import Case, Variant
from feedbackloop.pipeline import RunResult, run, run_spec
from feedbackloop.pipeline.grading import grade
from feedbackloop.queries.judged import response
from feedbackloop.registry import near
from feedbackloop.reports import JudgedAnswer, outcome
from feedbackloop.settings import Settings
from feedbackloop.spec import RunSpec, VariantSpec, load_spec
from feedbackloop.store import Store
from feedbackloop.wording import count

Result = TypeVar("Result")

_DAY_S = 86_400.0
"""Longer than any run: another worker of the session is at it."""
_SHOWN = 2_000
"""Characters of a text in the message of a failing test."""


@dataclass(frozen=True)
class Cell:
    """What one test is about: a case, put to a variant."""

    spec: Path
    case: Case
    variant: Variant
    repeat: int
    name: str
    """As it stands in the test's id."""

    @property
    def key(self) -> tuple[str, str, int]:
        """What an answer is found by."""
        return self.case.id, self.variant.id, self.repeat


class Answer:
    """An answer in a test's hand.

    Attributes:
        case: what was asked.
        variant: who was asked.
    """

    def __init__(self, store: Store, case: Case, variant: Variant, judged: JudgedAnswer, base: Path) -> None:
        self.case, self.variant = case, variant
        self._store, self._judged = store, judged
        self._base = base
        """Folder that files of graders are looked for in."""

    def __repr__(self) -> str:
        return f"Answer({short(self._judged.output)!r}, state={self._judged.state!r})"

    @property
    def output(self) -> str:
        """The text.

        Raises:
            AssertionError: there is none; says why.
        """
        __tracebackhide__ = True
        if self._judged.state == "error":
            raise AssertionError(f"{self.variant.name} gave no answer: {self._judged.reasons[0]}")
        return self._judged.output

    @property
    def state(self) -> str:
        """`passed` or `failed` by the checks of its run, `error` if it never came, `unchecked` where no check had an opinion."""
        return self._judged.state

    @property
    def score(self) -> RowScore:
        """What the checks of its run came to."""
        return self._judged.score

    @property
    def latency_ms(self) -> float | None:
        """How long it took; of one that was used again, how long it took then."""
        return self._judged.latency_ms

    @property
    def cost_usd(self) -> float | None:
        """What it cost; None where the price is unknown."""
        return self._judged.cost_usd

    @property
    def tokens_used(self) -> int | None:
        """Tokens in and out."""
        return self._judged.tokens_used

    def check(self, *graders: Any, threshold: float | None = None) -> RowScore:
        """Fail the test unless the answer passes.

        Args:
            graders: as in a spec (`"json_valid"`, `{"contains": "refund"}`), or functions `(case, response) -> verdict`; what they say
                is stored. Without any, the checks of the spec decide, and a test is skipped on which none of them has an opinion.
            threshold: the weighted score from which on it passes; by default all these graders must let it pass.

        Returns:
            The score, and what each check said.

        Raises:
            AssertionError: the answer did not pass, or never came; says why.
        """
        __tracebackhide__ = True
        if not graders or self._judged.state == "error":
            return self._judge()
        made = [create(grader, self._base) for grader in graders]
        stored = response(self._store, self._judged.response_id)
        ratings = _await(grade(made, self.case, stored))
        self._store.append(ratings)
        result = score(made, ratings)
        if result.passes(threshold) is not True:
            self._fail(result.reasons(threshold) or ["no check had an opinion on it"])
        return result

    def _judge(self) -> RowScore:
        __tracebackhide__ = True
        judged = self._judged
        if judged.state in ("failed", "error"):
            self._fail(judged.reasons)
        if judged.state == "unchecked":
            if not judged.score.checks:
                raise SettingsError("there is nothing to check by: name graders in the spec, or in check(...)")
            pytest.skip("no check had an opinion on it")
        return judged.score

    def _fail(self, reasons: Sequence[str]) -> NoReturn:
        __tracebackhide__ = True
        judged = self._judged
        lines = [f"{self.variant.name} did not pass on '{judged.name}'", *(f"- {reason}" for reason in reasons)]
        lines += [f"input: {judged.input[:_SHOWN]}"]
        lines += [f"answer: {judged.output[:_SHOWN]}"] if judged.output else []
        raise AssertionError("\n".join(lines))


class Loop:
    """The fixture `feedbackloop`."""

    def __init__(self, session: Session, request: pytest.FixtureRequest, temporary: pytest.TempPathFactory) -> None:
        self._session = session
        self._cell: Cell | None = getattr(request, "param", None)
        self._folder = request.path.parent
        self._temporary = temporary

    @property
    def answer(self) -> Answer:
        """The answer to this test's case; all that the session needs of its spec is asked with the first one.

        Raises:
            SettingsError: the test is not marked.
            FeedbackLoopError: nothing could be asked at all.
        """
        if self._cell is None:
            raise SettingsError(
                'mark the test with @pytest.mark.feedbackloop("spec.yaml"), or use feedbackloop.ask(...)'
            )
        return self._session.answer(self._cell, self._temporary)

    @property
    def case(self) -> Case:
        """The case that this test is about."""
        if self._cell is None:
            raise SettingsError('mark the test with @pytest.mark.feedbackloop("spec.yaml") to give it a case')
        return self._cell.case

    def ask(self, input: str | Mapping[str, Any], *, model: str, expected: Any = None, **variant: Any) -> Answer:
        """Put one question to a model, and store the answer.

        Args:
            input: a text, or a row as it would stand in a dataset.
            model: `provider:model`; a function's file (`python:app.py:answer`) is looked for beside the test.
            expected: what checks compare with, unless the row says it.
            variant: what else a spec may say of a variant: name, prompt, params, fallbacks, exemplars.

        Raises:
            FeedbackLoopError: it cannot be asked at all; a model's failure is an answer without output instead.
        """
        row = {"input": input} if isinstance(input, str) else dict(input)
        if expected is not None:
            row["expected"] = expected
        [case] = open_dataset([row])
        record = VariantSpec(**{"name": model, **variant, "model": model}).record()
        settings = self._session.settings.model_copy(update={"base": self._folder})
        cache = self._session.cache
        made = _await(run([case], [record], store=self._session.store, task="pytest", settings=settings, cache=cache))
        [judged] = outcome(self._session.store, made.run.id).answers()
        return Answer(self._session.store, case, record, judged, self._folder)


@dataclass
class _Asked:
    """A spec of this session, and what came of it once it was asked."""

    spec: RunSpec
    wanted: dict[tuple[str, str, int], Cell] = field(default_factory=dict)
    run_id: str | None = None
    answers: dict[tuple[str, str, int], JudgedAnswer] | None = None
    error: str | None = None
    """Why there are no answers, or not all of them."""


class Session:
    """All that the tests of one session share."""

    def __init__(self, config: pytest.Config) -> None:
        self.settings = Settings.load(store=config.getoption("--feedbackloop-store"))
        self.store = Store(self.settings.store)
        self.cache = not config.getoption("--feedbackloop-no-cache")
        self._shared = hasattr(config, "workerinput")
        """Whether this process is one of several of pytest-xdist's."""
        self._asked: dict[Path, _Asked] = {}

    def want(self, cells: Iterable[Cell]) -> None:
        """Say which cells tests were selected for."""
        for cell in cells:
            self._of(cell).wanted[cell.key] = cell

    def answer(self, cell: Cell, temporary: pytest.TempPathFactory) -> Answer:
        """The answer to a cell.

        Raises:
            FeedbackLoopError: the run could not begin, or ended before it came to this cell.
        """
        asked = self._of(cell)
        asked.wanted.setdefault(cell.key, cell)
        if asked.answers is None:
            asked.answers = {}
            try:
                asked.run_id, asked.error = self._run(cell.spec, asked, temporary)
            except FeedbackLoopError as error:
                asked.error = str(error)
            if asked.run_id is not None:
                found = outcome(self.store, asked.run_id).answers()
                asked.answers = {(one.case_id, one.variant_id, one.repeat): one for one in found}
        if cell.key not in asked.answers:
            raise FeedbackLoopError(f"{cell.spec.name}: this was not asked: {asked.error or 'it was not selected'}")
        return Answer(self.store, cell.case, cell.variant, asked.answers[cell.key], asked.spec.base)

    def summary(self) -> Iterator[str]:
        """A line for each run of this session."""
        for path, asked in self._asked.items():
            if asked.run_id is not None and asked.answers:
                missed = sum(one.state in ("failed", "error") for one in asked.answers.values())
                yield (
                    f"feedbackloop: {path.name}: {count(len(asked.answers), 'answer')}, {missed:,} not passed "
                    f"(feedbackloop report {asked.run_id[:8]} --store {shlex.quote(self.store.url)})"
                )

    def _of(self, cell: Cell) -> _Asked:
        if cell.spec not in self._asked:
            self._asked[cell.spec] = _Asked(load_spec(cell.spec))
        return self._asked[cell.spec]

    def _run(self, path: Path, asked: _Asked, temporary: pytest.TempPathFactory) -> tuple[str | None, str | None]:
        """Ask what is wanted; returns the run's id, and why it is not complete."""
        if not self._shared:
            return self._ask(asked)
        # Every worker has selected the same tests; the first one that needs an answer asks for all of them.
        file = temporary.getbasetemp().parent / f"feedbackloop-{content_id(str(path))[:12]}.json"
        with Lease(file)(_DAY_S):
            if not file.exists():
                found: tuple[str | None, str | None]
                try:
                    found = self._ask(asked)
                except FeedbackLoopError as error:
                    found = (None, str(error))
                file.write_text(json.dumps(found), encoding="utf-8")
            run_id, reason = json.loads(file.read_text(encoding="utf-8"))
            return run_id, reason

    def _ask(self, asked: _Asked) -> tuple[str, str | None]:
        cells = asked.wanted.values()
        cases = {cell.case.id: cell.case for cell in cells}
        variants = {cell.variant.id: cell.variant for cell in cells}
        result: RunResult = _await(
            run_spec(
                asked.spec,
                self.store,
                settings=self.settings,
                dataset=list(cases.values()),
                variants=list(variants.values()),
                cache=self.cache,
                executor="async",  # a test cannot wait for a day
            )
        )
        return result.run.id, result.stopped


def cells(metafunc: pytest.Metafunc, marker: pytest.Mark) -> list[Cell]:
    """The cells that a marker means.

    A spec that cannot be read, or a test that does not take the fixture, fails the collection with one sentence.
    """
    try:
        return _cells(metafunc, *marker.args, **marker.kwargs)
    except FeedbackLoopError as error:
        pytest.fail(str(error), pytrace=False)
    except TypeError:
        pytest.fail(
            f'{metafunc.definition.name}: write @pytest.mark.feedbackloop("spec.yaml"), with limit=N or variants=[...] at most',
            pytrace=False,
        )


def _cells(
    metafunc: pytest.Metafunc, spec: str | Path, *, limit: int | None = None, variants: Sequence[str] | None = None
) -> list[Cell]:
    if "feedbackloop" not in metafunc.fixturenames:
        raise SettingsError(
            f"{metafunc.definition.name} is marked feedbackloop, but does not take the fixture of that name"
        )
    path = _found(Path(spec), metafunc.definition)
    read = load_spec(path)
    names = [variant.name for variant in read.variants]
    if unknown := [name for name in variants or () if name not in names]:
        raise SettingsError(f"{path}: there is no variant '{unknown[0]}'{near(unknown[0], names)}")
    chosen = [one for one in read.variant_records() if variants is None or one.name in variants]
    dataset = open_dataset(read.dataset_path, id_column=read.id_column)
    fewest = min((number for number in (limit, read.limit) if number is not None), default=None)
    return [
        Cell(path, case, variant, repeat, _name(case, variant, repeat, read.repeats))
        for case in (dataset if fewest is None else dataset.head(fewest))
        for variant in chosen
        for repeat in range(read.repeats)
    ]


def _found(spec: Path, definition: pytest.Item) -> Path:
    """The spec's file: beside the test, or in pytest's root."""
    beside, root = definition.path.parent / spec, definition.config.rootpath / spec
    return (root if root.is_file() and not beside.is_file() else beside).absolute()


def _name(case: Case, variant: Variant, repeat: int, repeats: int) -> str:
    text = case.external_id or str(case.inputs.get("input") or "")
    slug = re.sub(r"[^\w.]+", "-", text).strip("-")[:40]
    name = f"{variant.name}-{slug if slug and slug.isascii() else case.id[:8]}"
    return f"{name}-{repeat + 1}" if repeats > 1 else name


def _await(work: Coroutine[Any, Any, Result]) -> Result:
    """Run to its end in a thread, since the test itself may run in an event loop; Ctrl-C cancels it, and what came is kept."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(work)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(_drive, loop, task)
        try:
            return running.result()
        except KeyboardInterrupt:
            loop.call_soon_threadsafe(task.cancel)
            raise


def _drive(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Result]) -> Result:
    with asyncio.Runner(loop_factory=lambda: loop):
        return loop.run_until_complete(task)
