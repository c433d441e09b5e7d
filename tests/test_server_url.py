"""URLs of Postgres databases: read as libpq would, shown without their password."""

from __future__ import annotations

import pytest

from feedbackloop.cli.options import same_store
from feedbackloop.errors import SettingsError, StoreError
from feedbackloop.places.server_url import parse
from feedbackloop.settings import Settings
from feedbackloop.store import Store


@pytest.mark.parametrize(
    ("url", "options", "password", "shown"),
    [
        ("postgres:", {}, None, "postgres:"),
        ("postgres:team", {"dbname": "team"}, None, "postgres:team"),
        ("postgres:dbname=x  host=h", {"dbname": "x", "host": "h"}, None, "postgres:dbname=x host=h"),
        ("postgres:host=h password=se#cr=et", {"host": "h"}, "se#cr=et", "postgres:host=h password=***"),
        (
            r"postgres:password = 'a \'b\\' user='x y'",
            {"user": "x y"},
            r"a 'b" + "\\",
            "postgres:password=*** user='x y'",
        ),
        ("postgresql://", {}, None, "postgresql://"),
        ("postgresql:///db", {"dbname": "db"}, None, "postgresql:///db"),
        ("postgres://u@h:1/db", {"host": "h", "port": "1", "user": "u", "dbname": "db"}, None, "postgres://u@h:1/db"),
        (
            "postgresql://u%40x:p%40%2F@h/d%20b?sslmode=require",
            {"host": "h", "user": "u@x", "dbname": "d b", "sslmode": "require"},
            "p@/",
            "postgresql://u%40x:***@h/d%20b?sslmode=require",
        ),
        ("postgresql://u:p@ss@h/db", {"host": "h", "user": "u", "dbname": "db"}, "p@ss", "postgresql://u:***@h/db"),
        (
            "postgresql://h/db?password=geheim",
            {"host": "h", "dbname": "db"},
            "geheim",
            "postgresql://h/db?password=***",
        ),
        (
            "postgres:postgresql://u:geheim@h/db",
            {"host": "h", "user": "u", "dbname": "db"},
            "geheim",
            "postgresql://u:***@h/db",
        ),
        (
            "postgresql://a:1,[::1]:2,c/db",
            {"host": "a,::1,c", "port": "1,2,", "dbname": "db"},
            None,
            "postgresql://a:1,[::1]:2,c/db",
        ),
        ("postgresql://%2Frun%2Fpg/db", {"host": "/run/pg", "dbname": "db"}, None, "postgresql://%2Frun%2Fpg/db"),
    ],
)
def test_a_url_is_taken_apart_and_shown_without_its_password(url, options, password, shown) -> None:
    found = parse(url)
    assert (found.options, found.password, found.shown) == (options, password, shown)
    store = Store(url)
    assert (store.url, store.address, store.is_shared) == (shown, url, True)
    assert repr(store) == f"Store({shown!r})"
    assert password is None or password not in same_store(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:geh/eim@h/db",
        "postgresql://u:geh#eim@h/db",
        "postgres:password='geheim",
        "postgres:password=geheim nonsense",
        "postgresql://h/db?sslpassword=geheim",
        "postgresql://u:***@h/db",
        "postgres:host=h password=***",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_repeating_what_may_be_secret(url: str) -> None:
    with pytest.raises(StoreError) as error:
        Store(url)
    assert "eim" not in str(error.value)
    assert "geh" not in str(error.value)


def test_a_connection_string_is_quoted_and_has_no_password() -> None:
    text = parse(r"postgres:user='o\'b\\x' password=p").connection_string(connect_timeout="3", user="other")
    assert text == r"connect_timeout='3' user='o\'b\\x'"


def test_what_is_no_postgres_url_is_a_file(tmp_path) -> None:
    store = Store(tmp_path / "loop.duckdb")
    assert not store.is_shared
    assert store.address == str(store.path)
    assert store.folder == tmp_path
    with pytest.raises(StoreError, match="not a file"):
        _ = Store("postgres:x").path


def test_settings_keep_no_password_in_a_file_and_show_none(tmp_path) -> None:
    for url in ("postgresql://u:geheim@h/db", "postgres:host=h password=geheim"):
        (tmp_path / "feedbackloop.toml").write_text(f'store = "{url}"')
        with pytest.raises(SettingsError, match="FEEDBACKLOOP_STORE") as error:
            Settings.load(tmp_path, {})
        assert "geheim" not in str(error.value)
        (tmp_path / "feedbackloop.toml").unlink()
        loaded = Settings.load(tmp_path, {"FEEDBACKLOOP_STORE": url})
        assert loaded.store == url
        assert "geheim" not in repr(loaded)
    (tmp_path / "feedbackloop.toml").write_text('store = "postgresql://u@h/db"')
    assert Settings.load(tmp_path, {}).store == "postgresql://u@h/db"
