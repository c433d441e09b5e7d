"""The app as a whole: every page on every kind of store, the URL that goes along, what a wheel carries."""

from __future__ import annotations

import shutil
from pathlib import Path

import big_store
import pytest
from streamlit.testing.v1 import AppTest

import feedbackloop as fl
from feedbackloop.pages import context

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def big_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("big") / "big.duckdb"
    big_store.make(path, answers=4_000, variants=5, runs=2, comparisons=500)
    return path


@pytest.fixture(params=["nothing", "demo", "big"])
def kind(request, monkeypatch, tmp_path, demo_file, big_file) -> str:
    """The kind of store that the app finds."""
    path = tmp_path / "loop.duckdb"
    if request.param != "nothing":
        shutil.copy({"demo": demo_file, "big": big_file}[request.param], path)
    monkeypatch.setenv("FEEDBACKLOOP_STORE", str(path))
    monkeypatch.chdir(tmp_path)
    return request.param


def app(page: str = "home", **query: str) -> AppTest:
    made = AppTest.from_file(str(ROOT / "app.py"), default_timeout=20)
    for name, value in query.items():
        made.query_params[name] = value
    made.run()
    if page != "home":
        made.switch_page(str(context.PAGES[page].path)).run()
    return made


@pytest.mark.parametrize("page", list(context.PAGES))
def test_every_page_opens_on_every_kind_of_store(kind, page) -> None:
    opened = app(page)
    assert not opened.exception
    assert not [error.value for error in opened.error]
    assert opened.title[0].value == context.PAGES[page].title


def test_looking_makes_no_store(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("FEEDBACKLOOP_STORE", str(tmp_path / "loop.duckdb"))
    monkeypatch.chdir(tmp_path)
    for page in context.PAGES:
        app(page)
    assert not list(tmp_path.iterdir())


def test_what_goes_wrong_on_purpose_is_a_sentence(monkeypatch, tmp_path) -> None:
    (tmp_path / "loop.duckdb").write_text("this is no database")
    monkeypatch.setenv("FEEDBACKLOOP_STORE", str(tmp_path / "loop.duckdb"))
    opened = app("compare")
    assert not opened.exception
    assert "cannot be opened as a store" in opened.error[0].value


def test_an_answer_is_remembered_until_the_store_changes(tmp_path) -> None:
    script = """
import streamlit as st
from feedbackloop import queries
from feedbackloop.pages import context
from feedbackloop.store import Store
asked = st.session_state.setdefault("asked", [])
def names(store):
    asked.append(1)
    return queries.tasks(store)
st.session_state["tasks"] = context.read(names)
"""
    store = fl.Store(tmp_path / "loop.duckdb")
    store.append([fl.Task(name="first")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEEDBACKLOOP_STORE", str(store.path))
        test = AppTest.from_string(script).run().run()
        assert not test.exception
        assert (test.session_state["tasks"], len(test.session_state["asked"])) == (["first"], 1)
        store.append([fl.Task(name="second")])
        test.run()
        assert len(test.session_state["asked"]) == 2
        assert set(test.session_state["tasks"]) == {"first", "second"}
