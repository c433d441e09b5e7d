"""What people type wrong in a notebook gets one sentence that helps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import feedbackloop as fl
from feedbackloop.errors import FeedbackLoopError


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> fl.Store:
    store = fl.Store(tmp_path_factory.mktemp("wrong") / "loop.duckdb")
    variants = [
        fl.Variant(name=name, model="simulated:x", params={"seed": n}) for n, name in enumerate(("terse", "steps"))
    ]
    run = fl.Run(task="support", dataset="d", fingerprint="", variants=[variant.id for variant in variants])
    store.append([*variants, run, fl.Task(name="support")])
    return store


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda s: fl.costs(s, by="modle"), "by is 'modle', which it cannot be; did you mean 'model'?"),
        (lambda s: fl.costs(s, since="2026-01-01"), "since is '2026-01-01'; give a moment such as datetime"),
        (lambda s: fl.recompute_costs(s, since="x"), "since is 'x'"),
        (lambda s: fl.results(s, task="suport"), "there is no task 'suport'; did you mean 'support'?"),
        (lambda s: fl.results(s, baseline="tersee"), "there is no variant 'tersee'"),
        (lambda s: fl.results(s, since="2026"), "since is '2026'"),
        (lambda s: fl.results(s, rater_kind="humn"), "rater_kind is 'humn', which it cannot be; did you mean 'human'?"),
        (lambda s: fl.results(s, by="nme"), "by is 'nme', which it cannot be; did you mean 'name'?"),
        (lambda s: fl.results(s, scope="all"), "scope is 'all', which it cannot be; there is raters like these"),
        (lambda s: fl.trends(s, since="2026"), "since is '2026'"),
        (lambda s: fl.assess(s, "suport", "steps"), "there is no task 'suport'; did you mean 'support'?"),
        (lambda s: fl.assess(s, "support", "stps"), "has no variant 'stps'; did you mean 'steps'?"),
        (
            lambda s: fl.open_queue(s, "support", ["terse", "steps"], purpose="decide"),
            "there is decision, leaderboard, single",
        ),
        (lambda _: fl.open_dataset(3), "a dataset is a file's path, a DataFrame or a list of rows; 3 is none of these"),
        (lambda _: fl.FeedbackLoop("simulated:x"), "'simulated:x' is no config; give a mapping such as"),
    ],
)
def test_a_wrong_argument_is_told_in_a_sentence(store: fl.Store, ask: Callable[[fl.Store], Any], sentence: str) -> None:
    with pytest.raises(FeedbackLoopError) as caught:
        ask(store)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"variants": "terse"}, "variants is a list of such as"),
        ({"variants": ["simulated:x"]}, "'simulated:x' is none"),
        ({"repeats": "3"}, "repeats is '3'; it must be a number"),
        ({"budget_usd": "1"}, "budget_usd is '1'; it must be a number"),
    ],
)
async def test_a_run_of_wrong_arguments_is_told_in_a_sentence(
    store: fl.Store, wrong: dict[str, Any], sentence: str
) -> None:
    given: dict[str, Any] = {"variants": [{"name": "terse", "model": "simulated:x"}], **wrong}
    with pytest.raises(FeedbackLoopError) as caught:
        await fl.run(["a"], store=store, **given)
    assert sentence in str(caught.value)


async def test_a_text_is_no_request() -> None:
    processor = fl.FeedbackLoop({"primary_model": "simulated:x"})
    with pytest.raises(FeedbackLoopError) as caught:
        await processor.process("hi")  # type: ignore[arg-type]
    assert str(caught.value) == "'hi' is no request; put it as process(AIRequest(input='hi'))"
