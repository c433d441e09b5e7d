"""Which variant answers a request: the live policy of its task says so, and a user stays with a variant.

Requests are told apart by a hash of their user and the task, so that a user meets the same variant again, in every process and
after every change of the shares that does not take it away: when a variant's share grows, users only move towards it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from feedbackloop.errors import PromptError, SettingsError
from feedbackloop.models import AIRequest, Case, Message, Policy, Variant
from feedbackloop.pipeline.cells import Asking
from feedbackloop.pipeline.engine import Engine
from feedbackloop.prompts import Prompt, last_user_text
from feedbackloop.providers import model_name
from feedbackloop.queries.policies import EVERYONE, Released, named, released
from feedbackloop.store import Store

logger = logging.getLogger(__name__)

FRESH_S = 1.0
"""What was read so long ago is good; then the store is looked at again."""
STALE_S = 2.0
"""What was read longer ago is only used if the store does not answer."""
PATIENCE_S = 0.5
"""How long a request waits for the store where older policies are at hand."""


@dataclass(frozen=True)
class Routed:
    """A request made ready for the engine."""

    request: AIRequest
    models: tuple[str, ...]
    """Whom to ask in turn: the variant's model, its fallbacks, and those of the policy."""
    variant: Variant | None
    """None where a model was asked for by its own name."""


class Router:
    """Obeys the newest policies of a store within two seconds.

    Args:
        now: a monotonic clock, in seconds.
    """

    def __init__(self, store: Store, engine: Engine, *, now: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._engine = engine
        self._now = now
        self._known: Released | None = None
        self._version: object = None
        self._read_at = -math.inf
        self._reading: asyncio.Task[None] | None = None
        self._askings: dict[str, Asking] = {}

    async def released(self) -> Released:
        """The live policies and the variants that are known, as of at most two seconds ago.

        Raises:
            StoreError: the store cannot be read, and nothing is known from before.
        """
        age = self._now() - self._read_at
        known = self._known
        if known is not None and age < FRESH_S:
            return known
        reading = self._reading
        # What another event loop had begun is never going to end.
        if reading is None or reading.done() or reading.get_loop() is not asyncio.get_running_loop():
            self._reading = asyncio.ensure_future(self._read())
        assert self._reading is not None
        if known is None:
            await asyncio.shield(self._reading)
        elif age >= STALE_S:
            await asyncio.wait([self._reading], timeout=PATIENCE_S)
        assert self._known is not None
        return self._known

    async def route(self, request: AIRequest) -> Routed | None:
        """The request as its task's policy has it; None if the task has no policy.

        The segment stands in `metadata["segment"]`. Requests without a user are spread by chance.

        Raises:
            PromptError: the chosen prompt needs a variable that the request lacks.
            SettingsError: the policy names variants that the store does not hold.
            StoreError: as for `released`.
        """
        now = await self.released()
        policy = now.policies.get(request.task or "")
        if policy is None:
            return None
        shares = _eligible(policy, request, now.by_id)
        chosen = now.by_id[choose(shares, request.user_id or request.id, salt=policy.task)]
        return self.ask(request, chosen, policy=policy, propensities=shares)

    async def find(self, name: str) -> Variant | None:
        """The variant of this name (the newest), `name@version` or id."""
        return named((await self.released()).variants, name)

    def ask(
        self,
        request: AIRequest,
        variant: Variant,
        *,
        policy: Policy | None = None,
        propensities: dict[str, float] | None = None,
    ) -> Routed:
        """The request put to a variant: its prompt rendered around the conversation, its model and its parameters.

        Raises:
            PromptError: the prompt needs a variable that the request lacks, or the last message is not the user's.
        """
        asking = self._asking(variant)
        conversation: list[Message] = request.messages or [{"role": "user", "content": request.input}]
        inputs = dict(request.inputs or {})
        others: list[Any] = []
        if asking.prompt is None or asking.prompt.asks:
            *conversation, question = conversation
            if question.get("role") != "user":
                raise PromptError(
                    f"the last message must be the user's: the prompt of '{variant.name}' is put around it"
                )
            text, others = _parts(question)
            inputs = {"input": text, **inputs}
        made = asking.request(Case(id="", inputs=inputs, messages=conversation), request.repeat)
        messages = made.messages
        if others and asking.prompt is not None:
            messages = _with_parts(messages or [{"role": "user", "content": made.input}], others)
        known: dict[str, Any] = {"inputs": inputs, **({"policy": policy.id} if policy else {})}
        fallback = [model_name(model, self._engine.settings) for model in (policy.fallback if policy else ())]
        return Routed(
            request.model_copy(
                update={
                    "input": made.input,
                    "model": made.model,
                    "messages": messages,
                    # A variant is what was judged: what it says of its parameters holds, whatever the caller says.
                    "params": {**request.params, **variant.params},
                    "inputs": made.inputs,
                    "key": made.key,
                    "variant_id": variant.id,
                    "propensities": propensities,
                    "metadata": {**request.metadata, "variant": variant.name, **known},
                }
            ),
            tuple(dict.fromkeys((*asking.models, *fallback))),
            variant,
        )

    async def _read(self) -> None:
        began = self._now()
        try:
            # A file tells by a glance whether anything was written at all.
            version = await asyncio.to_thread(lambda: self._store.version)
            if self._known is None or version != self._version:
                mark = self._known.mark if self._known else None
                news = await asyncio.to_thread(released, self._store, mark)
                self._known = news or self._known
                self._version = version
            self._read_at = began
        except Exception:
            if self._known is None:
                raise
            # Whoever is in the way will be gone; until then the last known policy is better than no answer.
            logger.warning(
                "the policies in %s cannot be read; those read before stay in force", self._store.url, exc_info=True
            )

    def _asking(self, variant: Variant) -> Asking:
        # Without asking the providers whether they have a key: a fallback that lacks one is no reason to answer nobody.
        if variant.id not in self._askings:
            settings, engine = self._engine.settings, self._engine
            models = tuple(dict.fromkeys(model_name(model, settings) for model in (variant.model, *variant.fallbacks)))
            function = getattr(engine.provider(models[0]), "takes_inputs", False)
            self._askings[variant.id] = Asking(variant, models, None if function else Prompt.of(variant), None)
        return self._askings[variant.id]


def choose(shares: Mapping[str, float], key: str, *, salt: str) -> str:
    """The variant for a key, each with the probability of its share, and always the same one.

    Weighted rendezvous hashing: each variant draws a waiting time from the hash of key and variant, exponential with its share
    as rate, and the shortest wins. A share that grows only ever shortens its own variant's times.
    """

    def wait(variant: str) -> float:
        digest = hashlib.blake2b(f"{salt}\0{key}\0{variant}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
        drawn = (int.from_bytes(digest) + 0.5) / 2**64
        return -math.log(drawn) / shares[variant]

    return min(shares, key=wait)


def _eligible(policy: Policy, request: AIRequest, variants: Mapping[str, Variant]) -> dict[str, float]:
    segment = request.metadata.get("segment")
    shares = policy.weights.get(segment if isinstance(segment, str) else EVERYONE) or policy.weights.get(EVERYONE) or {}
    known = {variant: share for variant, share in shares.items() if variant in variants and share > 0}
    if not known:
        raise SettingsError(
            f"the live policy of '{policy.task}' names no variant that the store holds; promote one: "
            f"feedbackloop promote {policy.task} VARIANT"
        )
    total = sum(known.values())
    return {variant: share / total for variant, share in known.items()}


def _parts(question: Message) -> tuple[str, list[Any]]:
    """A message's text, and its other parts, such as images."""
    content = question.get("content")
    if not isinstance(content, list):
        return last_user_text([question]), []
    texts = [part for part in content if isinstance(part, dict) and part.get("type") == "text"]
    return "\n".join(str(part.get("text", "")) for part in texts), [part for part in content if part not in texts]


def _with_parts(messages: Sequence[Message], others: list[Any]) -> list[Message]:
    """The last user message with these parts behind its text."""
    last = max(place for place, message in enumerate(messages) if message.get("role") == "user")
    content = messages[last]["content"]
    texts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    return [*messages[:last], {**messages[last], "content": [*texts, *others]}, *messages[last + 1 :]]
