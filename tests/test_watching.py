"""The line that a run shows while it goes on."""

from __future__ import annotations

from dataclasses import replace

from feedbackloop.cli.watching import _figures
from feedbackloop.pipeline import Progress

HALF = Progress(
    run_id="r",
    total=2000,
    done=1000,
    completed=997,
    failed=3,
    cached=0,
    skipped=0,
    spent_usd=0.25,
    unpriced=0,
    elapsed_s=20.0,
    places={"openai:gpt-4o": 64},
)


def test_the_present_limit_is_in_the_line() -> None:
    assert _figures(HALF) == "1,000/2,000, 3 failed, 50/s, $0.25, 20 s left, limit 64 at once"


def test_once_calls_were_refused_the_line_says_how_fast_it_asks_and_how_many_were() -> None:
    slowed = replace(HALF, paces={"openai:gpt-4o": 49.6}, refused=12, late=2)
    assert _figures(slowed).endswith("limit 64 at once and 50/s (12 refused), 2 late")
    assert _figures(replace(HALF, paces={"openai:gpt-4o": 0.84})).endswith("limit 64 at once and 0.8/s")


def test_several_targets_have_a_limit_each() -> None:
    two = replace(HALF, places={"openai:gpt-4o": 64, "up:small": 16}, paces={"up:small": 20.0})
    assert _figures(two).endswith("limit gpt-4o 64 at once; small 16 at once and 20/s")


def test_before_the_first_call_there_is_none_to_tell() -> None:
    assert "limit" not in _figures(replace(HALF, places={}))
