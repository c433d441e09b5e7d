"""Settings: which source wins, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from feedbackloop.errors import MissingDependency, SettingsError, UnknownName
from feedbackloop.providers import create, model_name, provider_name
from feedbackloop.registry import Registry
from feedbackloop.settings import ProviderSettings, Settings

TOML = """
store = "file.duckdb"
[providers.local]
base_url = "http://127.0.0.1:8000/v1"
[providers.local.limits]
concurrency = 4
[prices."local:tiny"]
input_per_million = 1.0
output_per_million = 2.0
"""


def test_argument_wins_over_environment_over_file_over_default(tmp_path: Path) -> None:
    assert Settings.load(tmp_path, {}).store == "loop.duckdb"
    (tmp_path / "feedbackloop.toml").write_text(TOML)
    assert Settings.load(tmp_path, {}).store == "file.duckdb"
    environment = {"FEEDBACKLOOP_STORE": "environment.duckdb"}
    assert Settings.load(tmp_path, environment).store == "environment.duckdb"
    assert Settings.load(tmp_path, environment, store="argument.duckdb").store == "argument.duckdb"
    assert Settings.load(tmp_path, environment, store=None).store == "environment.duckdb"


def test_tables_of_the_file_are_read(tmp_path: Path) -> None:
    (tmp_path / "feedbackloop.toml").write_text(TOML)
    settings = Settings.load(tmp_path, {})
    assert settings.providers["local"].limits is not None
    assert settings.providers["local"].limits.concurrency == 4
    assert settings.prices["local:tiny"].output_per_million == 2.0
    assert settings.base == tmp_path


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("store = ", "this is not valid TOML"),
        ('stoer = "x"', "unknown key 'stoer'; did you mean 'store'?"),
        ('[providers.x]\nbase_ulr = "http://x"', "unknown key 'providers.x.base_ulr'; did you mean 'base_url'?"),
        ('[providers.x]\napi_key = "sk-secret"', "[providers.x] holds a key; put it into an environment variable"),
        ("[limits]\nconcurrency = 0", "'limits.concurrency': input should be greater than or equal to 1"),
    ],
)
def test_a_mistake_in_the_file_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "feedbackloop.toml").write_text(text)
    with pytest.raises(SettingsError) as caught:
        Settings.load(tmp_path, {})
    assert f"feedbackloop.toml: {sentence}" in str(caught.value)
    assert "sk-secret" not in str(caught.value)


def test_a_model_is_named_with_its_provider() -> None:
    settings = Settings(providers={"local": ProviderSettings(base_url="http://127.0.0.1:1/v1")})
    assert model_name("gpt-4o-mini", settings) == "openai:gpt-4o-mini"
    assert model_name("openai/gpt-4o", settings) == "openai:gpt-4o"
    assert model_name("local:llama3:8b", settings) == "local:llama3:8b"
    assert model_name("meta-llama/Llama-3.1-8B", settings) == "openai:meta-llama/Llama-3.1-8B"
    assert model_name("x", settings.model_copy(update={"default_provider": "local"})) == "local:x"
    assert provider_name("recorded:a/b.jsonl#c", settings) == "recorded"


def test_an_unknown_provider_names_the_near_one() -> None:
    with pytest.raises(UnknownName, match=r"'opneai', which is not known; did you mean 'openai'\?"):
        model_name("opneai:gpt-4o", Settings())
    with pytest.raises(UnknownName, match="written 'openai:llama3:8b'"):
        model_name("llama3:8b", Settings())


def test_a_provider_of_an_unknown_kind_names_the_near_one() -> None:
    settings = Settings(providers={"x": ProviderSettings(kind="openay")})
    with pytest.raises(UnknownName, match="openai"):
        create("x", settings)


def test_a_missing_package_names_the_extra() -> None:
    registry = Registry("executor", {"ray": "a_package_that_is_not_there:Thing"}, "feedbackloop.x", {"ray": "ray"})
    with pytest.raises(MissingDependency, match=r"pip install 'feedbackloop\[ray\]'"):
        registry.get("ray")
