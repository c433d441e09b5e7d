"""Promoting, rolling back and looking at policies from the command line; and when the service refuses to start."""

from __future__ import annotations

import json
import socket

import pytest
from released import STEPS, TERSE, make_store

from feedbackloop.cli import main
from feedbackloop.models import Policy
from feedbackloop.queries.policies import live


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "feedbackloop.toml").write_text('[providers.up]\nbase_url = "http://127.0.0.1:9/v1"\n')
    return make_store(tmp_path / "loop.duckdb")


@pytest.fixture
def call(capsys):
    def called(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return called


def test_a_canary_a_release_its_history_and_the_way_back(call, store):
    code, out, _ = call(
        "promote", "support", "steps", "--canary", "0.1", "--fallback", "up:spare", "--decision", "d" * 12
    )
    assert code == 0
    assert f"Live for support: {TERSE.label} 90%, {STEPS.label} 10%; then up:spare." in out
    assert "feedbackloop rollback support" in out
    assert live(store, "support").decision_id == "d" * 12
    assert f"Live for support: {STEPS.label}; then up:spare." in call("promote", "support", "steps")[1]
    code, out, _ = call("policy", "support")
    first, second = [line for line in out.splitlines() if line.strip()]
    assert "(live)" in first
    assert STEPS.label in first
    assert f"{TERSE.label} 90%" in second
    assert "by decision dddddddd" in second
    assert f"{TERSE.label} 90%, {STEPS.label} 10%" in call("rollback", "support")[1]
    assert "90%" in call("policy")[1]
    listed = json.loads(call("policy", "support", "--json")[1])
    assert Policy.model_validate(listed[0]) == live(store, "support")


def test_shares_and_segments(call, store):
    out = call("promote", "support", "steps", "--share", "steps=0.995", "--share", "terse=0.005")[1]
    assert f"{STEPS.label} 100%, {TERSE.label} 0.005" in out
    named = call("promote", "support", "--share", "steps=0.4", "--share", "terse=0.6")[1]
    assert f"{TERSE.label} 60%, {STEPS.label} 40%" in named
    code, _, err = call("promote", "support")
    assert (code, "name the VARIANT" in err) == (2, True)
    out = call("promote", "support", "terse", "--segment", "de")[1]
    assert f"; de: {TERSE.label}" in out
    code, _, err = call("promote", "support", "steps", "--share", "steps")
    assert (code, "should be VARIANT=SHARE" in err) == (2, True)
    code, _, err = call("promote", "support", "steps", "--share", "steps=0.4")
    assert (code, err) == (1, "Error: the shares add up to 0.4, not to 1\n")


def test_without_a_policy_the_next_step_is_named(call):
    code, out, _ = call("policy", "support")
    assert code == 0
    assert "Nothing is live for support yet" in out
    assert "feedbackloop promote support VARIANT" in out
    assert "Nothing is live in" in call("policy")[1]
    code, _, err = call("rollback", "support")
    assert (code, "no policy yet" in err) == (1, True)
    assert "did you mean 'steps'?" in call("promote", "support", "step")[2]


@pytest.mark.parametrize(
    ("environ", "options", "says"),
    [
        ({"FEEDBACKLOOP_REPLICAS": "3"}, (), "3 replicas cannot share the file loop.duckdb"),
        ({"FEEDBACKLOOP_REPLICAS": "3"}, (), "FEEDBACKLOOP_STORE=postgres:"),
        ({"FEEDBACKLOOP_REPLICAS": "many"}, (), "FEEDBACKLOOP_REPLICAS is 'many'"),
        ({"FEEDBACKLOOP_REPLICAS": "0"}, (), "FEEDBACKLOOP_REPLICAS is '0'"),
        ({}, ("--host", "0.0.0.0"), "set FEEDBACKLOOP_API_KEY"),
        ({"FEEDBACKLOOP_API_KEY": " "}, ("--host", "10.0.0.1"), "set FEEDBACKLOOP_API_KEY"),
        ({"FEEDBACKLOOP_API_KEY": "clé"}, (), "no header can carry"),
    ],
)
def test_the_service_refuses_to_start_where_it_would_go_wrong(call, monkeypatch, environ, options, says):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    code, _, err = call("serve", *options)
    assert code == 1
    assert says in err
    assert err.count("\n") == 1


def test_a_port_that_is_taken_is_one_sentence(call):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, err = call("serve", "--port", str(taken.getsockname()[1]))
    assert code == 1
    assert "Address already in use); choose another one with --port" in err


def test_serving_needs_the_extra(call, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("No module named 'fastapi'", name="fastapi")

    monkeypatch.setattr("importlib.import_module", missing)
    code, _, err = call("serve")
    assert (code, "pip install 'feedbackloop[serve]'" in err) == (1, True)
