"""For pytest: a case is a test.

    @pytest.mark.feedbackloop("spec.yaml")
    def test_support(feedbackloop):
        feedbackloop.answer.check()

makes a test of every case and variant (and repeat) of a run spec, which lies beside the test's file or in pytest's root. What the selected
tests need is asked once in a session, all at the same time, through the same runner as `feedbackloop run`, and stored: `-k` and
`--lf` ask only what they select, and workers of pytest-xdist share one run. `answer.check()` fails with the reasons of the spec's checks, and
`answer.check({"contains": "refund"}, polite)` with those of others. Without the marker, `feedbackloop.ask` puts a single question:

    def test_greeting(feedbackloop):
        answer = feedbackloop.ask("Say hello.", model="openai:gpt-4o-mini")
        answer.check({"contains": "hello"})
        assert answer.latency_ms < 2000

Answers to the very same question are taken from the store (`--feedbackloop-store`, else `FEEDBACKLOOP_STORE`, else `loop.duckdb`), unless
`--feedbackloop-no-cache` asks anew. Nothing of feedbackloop is loaded before a test uses it: this is, beside the command line, the one
place where functions hold imports.
"""
# ruff: noqa: PLC0415 - see above

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from feedbackloop.pytest_plugin.asking import Loop, Session

__all__: list[str] = []

_MARKER = (
    "feedbackloop(spec, *, limit=None, variants=None): a test for every case and variant of a run spec, with its answer in the fixture "
    "`feedbackloop`; `limit` takes only the first cases, `variants` only those of these names."
)
_SESSION = pytest.StashKey["Session"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options."""
    group = parser.getgroup("feedbackloop", "feedbackloop: cases as tests")
    group.addoption(
        "--feedbackloop-store",
        metavar="PATH",
        help="Where answers are kept: a file, or postgres:... (default: FEEDBACKLOOP_STORE, else loop.duckdb)",
    )
    group.addoption(
        "--feedbackloop-no-cache",
        action="store_true",
        help="Ask again even what was asked before in the very same words.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """The marker, for those who are strict about markers."""
    config.addinivalue_line("markers", _MARKER)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each cell of the spec that the marker names."""
    marker = metafunc.definition.get_closest_marker("feedbackloop")
    if marker is not None:
        from feedbackloop.pytest_plugin.asking import cells

        found = cells(metafunc, marker)
        metafunc.parametrize("feedbackloop", found, ids=[cell.name for cell in found], indirect=True)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Which cells are wanted: only what was selected is asked."""
    marked = [item for item in session.items if item.get_closest_marker("feedbackloop")]
    if marked:
        _session(session.config).want(
            item.callspec.params["feedbackloop"]  # type: ignore[misc]  # pytest_generate_tests put a cell there
            for item in marked
            if isinstance(item, pytest.Function) and "feedbackloop" in item.callspec.params
        )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What was asked, and how to see more of it."""
    if _SESSION in config.stash:
        for line in config.stash[_SESSION].summary():
            terminalreporter.write_line(line)


@pytest.fixture(name="feedbackloop")
def _feedbackloop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Loop:
    """Answers of models to check: of a marked test `answer` to its case, and of any test what `ask` asks."""
    from feedbackloop.pytest_plugin.asking import Loop

    return Loop(_session(request.config), request, tmp_path_factory)


def _session(config: pytest.Config) -> Session:
    if _SESSION not in config.stash:
        from feedbackloop.pytest_plugin.asking import Session

        config.stash[_SESSION] = Session(config)
    return config.stash[_SESSION]
