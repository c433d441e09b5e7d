"""From cases and variants to requests: what exactly is asked, in which order, and under which key."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from feedbackloop.errors import SettingsError
from feedbackloop.identity import request_key, utcnow
from feedbackloop.models import AIRequest, Case, Message, Variant
from feedbackloop.pipeline.engine import Engine
from feedbackloop.prompts import Prompt, last_user_text
from feedbackloop.providers import model_name


@dataclass(frozen=True)
class Asking:
    """A variant made ready to be asked: its prompt compiled, its models checked."""

    variant: Variant
    models: tuple[str, ...]
    """The model and its fallbacks, as `provider:model`."""
    prompt: Prompt | None
    """None for a function, which gets the case's inputs instead."""
    source: str | None
    """Hash of a function's source."""

    @classmethod
    def of(cls, variant: Variant, engine: Engine) -> Asking:
        """Make a variant ready.

        Raises:
            FeedbackLoopError: its prompt does not compile, or one of its models cannot be asked at all.
        """
        models = tuple(
            dict.fromkeys(model_name(model, engine.settings) for model in (variant.model, *variant.fallbacks))
        )
        source = engine.prepare(models)[models[0]]
        if getattr(engine.provider(models[0]), "takes_inputs", False):
            if variant.prompt is not None or variant.exemplars:
                raise SettingsError(
                    f"the variant '{variant.name}' is a function, which gets the case's inputs; leave its prompt and exemplars out"
                )
            return cls(variant, models, None, source)
        return cls(variant, models, Prompt.of(variant), source)

    def render(self, case: Case) -> list[Message]:
        """The messages for a case; for a function the conversation so far.

        Raises:
            PromptError: a variable is missing, or nothing is left to send.
        """
        return self.prompt.render(case) if self.prompt else case.messages

    def request(self, case: Case, repeat: int, **known: Any) -> AIRequest:
        """The request that puts the case to this variant."""
        variant = self.variant
        messages = self.render(case)
        inputs = None
        if self.prompt is None:
            inputs = {**case.inputs, **({"messages": messages} if messages else {})}
            if case.context:
                inputs["context"] = case.context
        text = last_user_text(messages) if inputs is None else _text(case)
        key = request_key(messages if inputs is None else inputs, self.models[0], variant.params, repeat, self.source)
        # A single user message is its text: `input` says it all, and the store need not keep it twice.
        plain = len(messages) == 1 and messages[0] == {"role": "user", "content": text}
        metadata = {"variant": variant.name}
        if case.external_id is not None:
            metadata["external_id"] = case.external_id
        return AIRequest(
            input=text,
            model=self.models[0],
            case_id=case.id,
            variant_id=variant.id,
            messages=[] if plain else messages,
            params=variant.params,
            repeat=repeat,
            key=key,
            inputs=inputs,
            metadata=metadata,
            **known,
        )


@dataclass(frozen=True)
class Cell:
    """One thing to ask: a request, and the case that its answer is graded against."""

    case: Case
    request: AIRequest
    models: tuple[str, ...]


def cells(
    cases: Iterable[Case],
    asking: Sequence[Asking],
    *,
    repeats: int,
    priority: int,
    priorities: Iterable[int | None],
    utc: Callable[[], datetime] = utcnow,
    **known: Any,
) -> Iterator[Cell]:
    """All cells of a run, higher priorities first, variants in turns.

    Args:
        cases: iterated once per priority that occurs.
        priority: of cases whose metadata name none.
        priorities: those that the cases name; None stands for the default.
        utc: the time of day.
        known: fields that all requests share.
    """
    levels = sorted({priority if level is None else level for level in priorities} or {priority}, reverse=True)
    for level in levels:
        number = -1
        for case in cases:
            own = case.metadata.get("priority")
            if len(levels) > 1 and (priority if own is None else own) != level:
                continue
            number += 1
            for repeat in range(repeats):
                for turn in range(len(asking)):
                    one = asking[(number + repeat + turn) % len(asking)]
                    yield Cell(case, one.request(case, repeat, priority=level, created_at=utc(), **known), one.models)


def cell_hash(request: AIRequest) -> int:
    """Hash of the cell that a request is for, as in `queries.reuse.ended_cells`."""
    return hash((request.case_id, request.variant_id, request.repeat))


def cell_mark(request: AIRequest) -> int:
    """Hash of the cell that a request is for, and of what it asks: whether it is answered, `queries.finished_cells` tells."""
    return hash((request.case_id, request.variant_id, request.repeat, request.key))


def _text(case: Case) -> str:
    only = case.inputs.get("input")
    return only if isinstance(only, str) else json.dumps(case.inputs, ensure_ascii=False, default=_iso)


def _iso(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
