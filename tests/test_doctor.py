"""What the doctor finds, and that it never tells a key."""

from __future__ import annotations

import asyncio
import fcntl
import shutil
from pathlib import Path

import pytest

from feedbackloop import Store, Task
from feedbackloop.doctor import Check, examine
from feedbackloop.schema import MIGRATIONS

SECRET = "sk-very-secret-1234"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def found(store: str | None = None) -> dict[str, Check]:
    return {check.name: check for check in asyncio.run(examine(store))}


def test_a_fresh_folder_without_network_and_settings_has_no_problem(tmp_path: Path) -> None:
    checks = found()
    assert {check.state for check in checks.values()} == {"ok", "warning"}
    assert "OPENAI_API_KEY is not set" in checks["provider openai"].found
    assert "not there yet" in checks["store"].found
    assert "duckdb" in checks["packages"].found
    assert list(tmp_path.iterdir()) == []


def test_settings_that_make_no_sense_are_a_problem_and_the_rest_goes_on() -> None:
    Path("feedbackloop.toml").write_text("stor = 1")
    checks = found()
    assert checks["settings"].state == "problem"
    assert "did you mean 'store'" in checks["settings"].found
    assert checks["file locks"].state == "ok"


def test_a_key_is_named_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    checks = found()
    assert checks["provider openai"].state == "warning"
    assert "OPENAI_API_KEY" in checks["provider openai"].found
    assert SECRET not in str(checks)


def test_every_configured_provider_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("feedbackloop.toml").write_text(
        'default_provider = "simulated"\n[providers.near]\nbase_url = "http://127.0.0.1:9/v1"\n'
        '[providers.wrong]\nbase_url = "ftp://x"\n[providers.keyed]\nbase_url = "http://127.0.0.1:9/v1"\napi_key_env = "MY_KEY"\n'
    )
    checks = found()
    assert checks["provider simulated"].state == "ok"
    assert checks["provider near"].state == "warning"
    assert "wants no key" in checks["provider near"].found
    assert checks["provider wrong"].state == "problem"
    assert "MY_KEY is not set" in checks["provider keyed"].found
    assert "provider openai" not in checks


def test_a_store_is_opened_and_counted() -> None:
    Store("loop.duckdb").append([Task(name="t")])
    checks = found()
    assert checks["store"].state == "ok"
    assert f"schema {len(MIGRATIONS)}" in checks["store"].found
    Path("else.duckdb").write_text("no database")
    assert (found("else.duckdb"))["store"].state == "problem"
    assert (found("nowhere/loop.duckdb"))["store"].state == "problem"
    assert (found("ducklake:x"))["store"].state == "problem"


def test_a_store_that_somebody_holds_is_a_problem_that_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feedbackloop.doctor.STORE_TIMEOUT_S", 0.1)
    Store("loop.duckdb").append([Task(name="t")])
    with Path("loop.duckdb.lease").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        checks = found()
    assert checks["store"].state == "problem"
    assert "has been in use" in checks["store"].found


def test_locks_that_do_not_lock_and_a_full_disk_are_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))
    checks = found()
    assert checks["file locks"].state == "problem"
    assert "local disk" in (checks["file locks"].advice or "")
    assert checks["disk space"].state == "problem"
