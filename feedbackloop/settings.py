"""Settings: argument over environment over `feedbackloop.toml` over default.

Built once, by whoever faces the user (the CLI, the app, the gateway, a notebook's call), then passed down. Secrets are
named by environment variable and read at the moment of use; a settings object never holds one.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from feedbackloop.errors import SettingsError
from feedbackloop.registry import near

FILE = "feedbackloop.toml"
DEFAULT_STORE = "loop.duckdb"

Model = TypeVar("Model", bound=BaseModel)


class Options(BaseModel):
    """A group of settings: frozen, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(Options):
    """How hard a target may be asked, and how long to wait for it."""

    concurrency: int = Field(default=64, ge=1)
    """Calls in flight at once."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    tokens_per_minute: float | None = Field(default=None, gt=0)
    timeout_s: float = Field(default=60.0, gt=0)
    """Bounds one attempt."""
    deadline_s: float | None = Field(default=None, gt=0)
    """Bounds a whole request, retries and fallbacks included; none means ten times `timeout_s`."""
    retries: int = Field(default=3, ge=0)
    """Further attempts per target after the first; a 429 that is waited for uses up none."""

    @property
    def deadline(self) -> float:
        """Seconds that a whole request may take."""
        return self.deadline_s if self.deadline_s is not None else 10 * self.timeout_s


class ProviderSettings(Options):
    """A `[providers.NAME]` table: an endpoint of one's own."""

    kind: str = "openai"
    """Which provider class serves it; `openai` is right for everything that speaks OpenAI's protocol."""
    base_url: str | None = None
    api_key_env: str | None = None
    """Name of the environment variable that holds the key; none means that the endpoint wants no key."""
    limits: Limits | None = None


class Price(Options):
    """USD per million tokens, for models that the price table does not know or knows wrongly."""

    input_per_million: float = Field(ge=0)
    output_per_million: float = Field(ge=0)
    cached_per_million: float | None = Field(default=None, ge=0)
    """Input tokens read from the provider's cache; none means the price of input."""
    cache_write_per_million: float | None = Field(default=None, ge=0)


class Settings(Options):
    """Everything that is set outside a run spec."""

    store: str = Field(default=DEFAULT_STORE, repr=False)
    """A path, or the URL of a database, which may hold a password when it comes from the environment."""
    default_provider: str = "openai"
    """Whom a bare model name is put to."""
    providers: dict[str, ProviderSettings] = Field(default_factory=dict)
    prices: dict[str, Price] = Field(default_factory=dict)
    """By `provider:model`."""
    limits: Limits = Limits()
    base: Path = Field(default_factory=Path.cwd)
    """Folder that relative paths in model names and graders start from."""

    @classmethod
    def load(
        cls, directory: str | Path | None = None, environ: Mapping[str, str] | None = None, **arguments: Any
    ) -> Settings:
        """Read `feedbackloop.toml` in `directory` (the working directory unless given) and the environment.

        Args:
            environ: stands in for `os.environ`; `FEEDBACKLOOP_STORE` and `FEEDBACKLOOP_DEFAULT_PROVIDER` are read.
            arguments: fields of this class; one that is not None wins over file and environment.

        Raises:
            SettingsError: the file is no TOML, a key is unknown, or a value makes no sense.
        """
        folder = Path(directory) if directory is not None else Path.cwd()
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {"base": folder}
        file = folder / FILE
        if file.is_file():
            try:
                values |= tomllib.loads(file.read_text(encoding="utf-8"))
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                raise SettingsError(f"{file}: this is not valid TOML: {error}") from error
            _refuse_secrets(values, file)
        for name in ("store", "default_provider"):
            if text := environ.get(f"FEEDBACKLOOP_{name.upper()}"):
                values[name] = text
        values |= {name: value for name, value in arguments.items() if value is not None}
        return parse(cls, values, str(file) if file.is_file() else "settings")

    def limits_of(self, provider: str, limits: Limits) -> Limits:
        """How a provider may be asked: as `limits` say, but for what a `limits` table of its own names."""
        table = self.providers.get(provider)
        own = table.limits if table else None
        if own is None:
            return limits
        return limits.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})


def parse(model: type[Model], values: Any, place: str) -> Model:
    """`model(**values)` with the first fault as one sentence that says where it is.

    Raises:
        SettingsError: a key is unknown (the near one is named), missing, or its value makes no sense.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise SettingsError(f"{place}: {_sentence(model, error)}") from error


def _sentence(model: type[BaseModel], error: ValidationError) -> str:
    # A mistyped key shows up as one unknown and one missing; the unknown one says more.
    first = min(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    path = first["loc"]
    where = ".".join(str(part) for part in path)
    if first["type"] == "extra_forbidden":
        return f"unknown key '{where}'{near(str(path[-1]), known_keys(model, path[:-1]))}"
    if first["type"] == "missing":
        return f"'{where}' is missing"
    message = first["msg"].removeprefix("Value error, ")
    return f"'{where}': {message[0].lower()}{message[1:]}" if where else message


def known_keys(model: type[BaseModel], path: Iterable[Any]) -> list[str]:
    """The keys that `model` knows at `path` (field names, indexes and mapping keys), for naming the near one."""
    current: Any = model
    for part in path:
        if current is not None and str(part) in current.model_fields:
            current = _inner_model(current.model_fields[str(part)].annotation)
        # Otherwise it is an index or a mapping's key, and the model inside stays the same.
    return list(current.model_fields) if current is not None else []


def _inner_model(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if (inner := _inner_model(argument)) is not None:
            return inner
    return None


def _refuse_secrets(values: Mapping[str, Any], file: Path) -> None:
    if re.search(r"//[^/@]*:[^@?]*@|password\s*=", str(values.get("store", ""))):
        raise SettingsError(
            f"{file}: store holds a password; put the whole URL into the environment variable FEEDBACKLOOP_STORE, "
            "or the password into PGPASSWORD or ~/.pgpass"
        )
    tables = values.get("providers")
    for name, table in tables.items() if isinstance(tables, dict) else ():
        if isinstance(table, dict) and "api_key" in table:
            raise SettingsError(
                f"{file}: [providers.{name}] holds a key; put it into an environment variable "
                f'and name that one instead: api_key_env = "{name.upper()}_API_KEY"'
            )
