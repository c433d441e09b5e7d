"""Prompts: Jinja2 templates in a sandbox, rendered from a case to the messages that a model is sent.

A prompt is one text (a single user message) or a list of messages. Two words may stand in the list as slots: `exemplars` (the
variant's worked examples as user and assistant turns) and `messages` (the case's conversation so far). Where they are not
placed, exemplars follow the system messages, and the conversation precedes the last user message.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from feedbackloop.errors import PromptError
from feedbackloop.models import Case, Exemplar, Message, Variant

DEFAULT = "{{ input }}"
"""The prompt of a variant that names none."""

SLOTS = ("exemplars", "messages")

_ENVIRONMENT = ImmutableSandboxedEnvironment(
    undefined=jinja2.StrictUndefined,
    # An empty cell is nothing, and no word of Python's.
    finalize=lambda value: "" if value is None else value,
    keep_trailing_newline=True,
)
_VERBATIM = frozenset({"role", "name", "tool_call_id", "type"})
_TEXT_FILES = (".txt", ".md", ".j2", ".jinja", ".jinja2", ".prompt")


@dataclass(frozen=True)
class Prompt:
    """A variant's prompt, compiled: `render(case)` gives the messages.

    Raises:
        PromptError: a template does not compile, or the list of messages is not one.
    """

    owner: str
    """The variant's name, for messages."""
    parts: tuple[Any, ...]
    """Compiled messages, and slots as their words."""
    exemplars: tuple[Exemplar, ...] = ()
    varies: bool = True
    """Whether a template names a variable. One that names none says the same to every case, but for the case's conversation."""

    @classmethod
    def of(cls, variant: Variant) -> Prompt:
        """Compile the prompt of a variant."""
        source = variant.prompt
        if source is None or isinstance(source, str):
            source = [{"role": "user", "content": DEFAULT if source is None else source}]
        if not source:
            raise PromptError(f"the prompt of '{variant.name}' is an empty list; give it at least one message")
        parts = [_compile(part, variant.name, number) for number, part in enumerate(source, start=1)]
        last_user = max((i for i, part in enumerate(parts) if _role(part) == "user"), default=len(parts))
        if "messages" not in parts:
            parts.insert(last_user, "messages")
        if "exemplars" not in parts:
            first_turn = next(
                (i for i, part in enumerate(parts) if _role(part) not in {"system", "developer"}), len(parts)
            )
            parts.insert(first_turn, "exemplars")
        if variant.exemplars and not any(_role(part) == "user" for part in parts):
            raise PromptError(f"'{variant.name}' has exemplars but no user message to render them with")
        varies = any(_variables(text) for part in source if isinstance(part, Mapping) for text in _texts(part))
        return cls(variant.name, tuple(parts), tuple(variant.exemplars), varies)

    @property
    def asks(self) -> bool:
        """Whether it has a user message of its own, and does not only go along with a conversation."""
        return any(_role(part) == "user" for part in self.parts)

    def render(self, case: Case) -> list[Message]:
        """The messages for a case.

        Raises:
            PromptError: a variable is missing or a template fails; names the variant, and what the case has.
        """
        variables = {"messages": case.messages, "context": case.context, **case.inputs}
        # A case that is nothing but a conversation has no `input`: the default template then adds no message of its own.
        conversation_only = not case.inputs and bool(case.messages)
        rendered: list[Message] = []
        for part in self.parts:
            if part == "messages":
                rendered.extend(case.messages)
            elif part == "exemplars":
                for exemplar in self.exemplars:
                    rendered.append(
                        self._fill(self._user_template(), {"context": [], "messages": [], **exemplar.inputs})
                    )
                    rendered.append({"role": "assistant", "content": exemplar.output})
            elif not (conversation_only and part["content"] is _DEFAULT_TEMPLATE):
                rendered.append(self._fill(part, variables))
        return rendered

    def _user_template(self) -> Mapping[str, Any]:
        template: Mapping[str, Any] = [part for part in self.parts if _role(part) == "user"][-1]
        return template

    def _fill(self, part: Mapping[str, Any], variables: Mapping[str, Any]) -> Message:
        try:
            return {key: _fill(value, variables) for key, value in part.items()}
        except jinja2.UndefinedError as error:
            known = ", ".join(sorted(key for key in variables if key not in {"messages", "context"})) or "none"
            raise PromptError(
                f"the prompt of '{self.owner}' needs what this case lacks: {error} (it has: {known})"
            ) from error
        except Exception as error:
            raise PromptError(
                f"the prompt of '{self.owner}' fails on this case: {type(error).__name__}: {error}"
            ) from error


def refuse_same_text(variant: Variant, prompt: Prompt | None, case: Case, base: Path) -> None:
    """See to it that a prompt does not put the same text to every case, of several cases without a conversation.

    Args:
        variant: whose prompt it is.
        prompt: compiled; None for a function.
        case: one of the cases, whose variables could be named.
        base: where relative paths start from.

    Raises:
        PromptError: it uses no variable.
    """
    if prompt is None or prompt.varies:
        return
    names = [name for name in ("input", *case.inputs) if name in case.inputs and name.isidentifier()]
    named = f"{{{{ {names[0] if names else 'input'} }}}}"
    if isinstance(variant.prompt, str) and _is_file(variant.prompt, base):
        raise PromptError(
            f"the prompt of '{variant.name}' is '{variant.prompt.strip()}', which looks like a file's name, and every case would "
            f"get just that; write the file's text there instead (`prompt: |`, and the text below it), with {named} where a "
            "case's text goes"
        )
    raise PromptError(
        f"the prompt of '{variant.name}' uses no variable, so every case gets the same text; a variable is written {named}"
    )


def _is_file(text: str, base: Path) -> bool:
    """Whether a prompt seems to name a file instead of being its text."""
    name = text.strip()
    if len(name.split()) == 1 and name.lower().endswith(_TEXT_FILES):
        return True
    try:
        path = (base / name).resolve()
        # Nothing is told of files elsewhere: a prompt may come from somebody's browser.
        return path.is_relative_to(base.resolve()) and path.is_file()
    except (OSError, ValueError):
        return False


def last_user_text(messages: list[Message]) -> str:
    """The text of the last user message, or of the last message if there is none."""
    for message in reversed(messages):
        if message.get("role") == "user" and isinstance(message.get("content"), str):
            return str(message["content"])
    return str(messages[-1].get("content", "")) if messages else ""


def _role(part: Any) -> str:
    return str(part["role"]) if isinstance(part, Mapping) else ""


def _compile(part: Any, owner: str, number: int) -> Any:
    if isinstance(part, str):
        if part in SLOTS:
            return part
        raise PromptError(
            f"message {number} of the prompt of '{owner}' is the text {part[:40]!r}; write it as "
            f"{{role: user, content: ...}}, or one of the slots {' and '.join(SLOTS)}"
        )
    if not isinstance(part, Mapping) or not isinstance(part.get("role"), str) or "content" not in part:
        raise PromptError(f"message {number} of the prompt of '{owner}' needs a role and a content")
    return {key: value if key in _VERBATIM else _template(value, owner, number) for key, value in part.items()}


def _template(value: Any, owner: str, number: int) -> Any:
    if isinstance(value, str):
        if value == DEFAULT:
            return _DEFAULT_TEMPLATE
        try:
            return _ENVIRONMENT.from_string(value)
        except jinja2.TemplateSyntaxError as error:
            raise PromptError(
                f"message {number} of the prompt of '{owner}', line {error.lineno}: {error.message}; "
                "a literal {{ is written {{ '{{' }}"
            ) from error
    if isinstance(value, list):
        return [_template(item, owner, number) for item in value]
    if isinstance(value, dict):
        return {key: item if key in _VERBATIM else _template(item, owner, number) for key, item in value.items()}
    return value


def _texts(value: Any) -> Iterator[str]:
    """The templates in a message."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if key not in _VERBATIM:
                yield from _texts(item)


def _variables(text: str) -> set[str]:
    return jinja2.meta.find_undeclared_variables(_ENVIRONMENT.parse(text)) - set(_ENVIRONMENT.globals)


def _fill(value: Any, variables: Mapping[str, Any]) -> Any:
    if isinstance(value, jinja2.Template):
        return value.render(variables)
    if isinstance(value, list):
        return [_fill(item, variables) for item in value]
    if isinstance(value, dict):
        return {key: _fill(item, variables) for key, item in value.items()}
    return value


_DEFAULT_TEMPLATE = _ENVIRONMENT.from_string(DEFAULT)
