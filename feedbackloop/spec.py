"""The run spec: what is run, as people write it in YAML, and as the app shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from feedbackloop.errors import SettingsError
from feedbackloop.models import Exemplar, Message, Task, Variant
from feedbackloop.registry import near
from feedbackloop.settings import Limits, Options, parse


class TaskSpec(Options):
    """The feature that is judged. `task: support` in a spec is short for `task: {name: support}`."""

    name: str = "default"
    question: str | None = None
    criteria: list[str] | None = None
    issues: list[str] | None = None
    baseline: str | None = None

    def record(self) -> Task:
        """The task, with defaults for what is not said."""
        return Task(**self.model_dump(exclude_none=True))


class VariantSpec(Options):
    """One variant of a spec."""

    name: str = Field(min_length=1)
    model: str = Field(min_length=1)
    prompt: str | list[Message | str] | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    fallbacks: list[str] = Field(default_factory=list)
    exemplars: list[Exemplar] = Field(default_factory=list)

    @field_validator("exemplars", mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        # {input: ..., output: ...} is short for {inputs: {input: ...}, output: ...}.
        if not isinstance(value, list):
            return value
        return [
            {"inputs": {k: v for k, v in item.items() if k != "output"}, "output": item.get("output")}
            if isinstance(item, dict) and "inputs" not in item
            else item
            for item in value
        ]

    @field_validator("params")
    @classmethod
    def _no_secrets(cls, value: dict[str, Any]) -> dict[str, Any]:
        if name := _secret_in(value):
            raise ValueError(
                f"'{name}' is a secret, and parameters are stored; name its environment variable as api_key_env in a "
                "[providers.NAME] table of feedbackloop.toml"
            )
        return value

    def record(self) -> Variant:
        """The variant, identified by its content."""
        return Variant(**{name: getattr(self, name) for name in type(self).model_fields})


class RunSpec(Options):
    """A whole run: `feedbackloop run SPEC.yaml`."""

    task: TaskSpec = TaskSpec()
    dataset: str
    id_column: str | None = None
    variants: list[VariantSpec] = Field(min_length=1)
    graders: list[str | dict[str, Any]] = Field(default_factory=list)
    threshold: float | None = Field(default=None, ge=0, le=1)
    """The weighted score from which on an answer passes; without one it passes if all its checks do."""
    limits: Limits | None = None
    budget_usd: float | None = Field(default=None, gt=0)
    repeats: int = Field(default=1, ge=1)
    stream: bool = False
    """Have answers streamed, so that the time to the first token and the tokens a second are known. Not part of what is asked."""
    limit: int | None = Field(default=None, ge=1)
    """Only the first rows of the dataset."""
    priority: int = Field(default=5, ge=1, le=10)
    """Of cases that name none in their metadata."""
    executor: Literal["async", "batch"] = "async"
    """`batch`: by OpenAI's Batch API, for half the price, within a day."""
    base: Path = Field(default_factory=Path.cwd, exclude=True)
    """Folder that relative paths start from: the spec's own."""

    @field_validator("task", mode="before")
    @classmethod
    def _task_by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _names_fit(self) -> RunSpec:
        names = [variant.name for variant in self.variants]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two variants are called '{twice.pop()}'; every name may stand once")
        if self.task.baseline is not None and self.task.baseline not in names:
            raise ValueError(
                f"the baseline '{self.task.baseline}' is none of the variants{near(self.task.baseline, names)}"
            )
        return self

    def variant_records(self) -> list[Variant]:
        """The variants, in the order of the spec."""
        return [variant.record() for variant in self.variants]

    @property
    def dataset_path(self) -> Path:
        """Where the dataset lies."""
        return self.base / self.dataset


def _secret_in(value: Any) -> str | None:
    """The first key, at whatever depth, that holds a secret by its name."""
    if isinstance(value, dict):
        for key, item in value.items():
            if str(key).lower().replace("-", "_") in {"api_key", "apikey", "x_api_key", "authorization"}:
                return str(key)
            if found := _secret_in(item):
                return found
    if isinstance(value, list):
        return next((found for item in value if (found := _secret_in(item))), None)
    return None


def load_spec(path: str | Path) -> RunSpec:
    """Read a run spec from a YAML file.

    Raises:
        SettingsError: the file is missing, no YAML, or says something that makes no sense; names the place.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        specs = sorted({*file.parent.glob("*.yaml"), *file.parent.glob("*.yml")}) if file.parent.is_dir() else []
        hint = near(file.name, [spec.name for spec in specs]) or "; `feedbackloop init` writes an example"
        raise SettingsError(f"{file}: there is no such spec{hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: cannot be read as a UTF-8 text: {error}") from error
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else str(file)
        raise SettingsError(f"{place}: this is not valid YAML: {getattr(error, 'problem', None) or error}") from error
    if not isinstance(values, dict):
        raise SettingsError(
            f"{file}: a spec is a mapping with `dataset` and `variants`; `feedbackloop init` writes an example"
        )
    if "base" in values:
        raise SettingsError(f"{file}: unknown key 'base'")
    return parse(RunSpec, {**values, "base": file.parent.absolute()}, str(file))
