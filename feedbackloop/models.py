"""The records: what is asked, answered, judged and decided.

Inert and frozen: they neither load nor save themselves. One table per class, its columns derived from the fields
(`store.py`). Identity is content where it can be (cases, variants), a uuid4 elsewhere. Times are aware and UTC.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from feedbackloop.identity import content_id, new_id, utcnow

Message = dict[str, Any]
"""A chat message as OpenAI writes it: `role` and `content`, and whatever else an endpoint understands."""

RaterKind = Literal["human", "user", "grader", "judge"]
"""A person who was asked, an end user, a function, or a model."""

Purpose = Literal["answer", "judge", "optimize", "shadow"]


class Record(BaseModel):
    """What all records share: frozen, and strict about field names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Task(Record):
    """The feature that is judged, and what raters are asked about its answers. The newest row of a name is the one in force."""

    name: str
    question: str = "Which answer is better?"
    criteria: list[str] = Field(default_factory=list)
    """What a single answer is rated on, if the task asks for more than a preference."""
    issues: list[str] = Field(
        default_factory=lambda: ["invented fact", "wrong tone", "incomplete", "unsafe", "too long"]
    )
    """Known faults, offered as one-key labels for a losing answer."""
    baseline: str | None = None
    """Name of the variant that others are compared with; none means the first of the run."""
    created_at: datetime = Field(default_factory=utcnow)


class Case(Record):
    """A row of a dataset. Its id is the hash of inputs, messages and context, so that correcting `expected` keeps its votes."""

    id: str
    external_id: str | None = None
    """The `id` that the dataset gave this row, to find it again there."""
    inputs: dict[str, Any]
    """Template variables."""
    messages: list[Message] = Field(default_factory=list)
    """A conversation so far."""
    context: list[Any] = Field(default_factory=list)
    """Documents: texts, or mappings with at least `text`."""
    expected: Any = None
    segment: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    created_at: datetime = Field(default_factory=utcnow)

    @model_validator(mode="before")
    @classmethod
    def _identify(cls, values: Any) -> Any:
        if isinstance(values, dict) and "id" not in values:
            identity = content_id(values.get("inputs"), values.get("messages") or [], values.get("context") or [])
            return {"id": identity, **values}
        return values


class Exemplar(Record):
    """One worked example (few-shot): a user turn, rendered from the prompt's own template, and the answer to it."""

    inputs: dict[str, Any]
    output: str


class Variant(Record):
    """What is compared, promoted and routed: a model, a prompt and parameters. The id is the hash of these; the name moves on."""

    id: str
    name: str
    model: str
    """`provider:model`, e.g. `openai:gpt-4o-mini`, `recorded:answers.jsonl#terse`, `python:my_app.py:answer`."""
    prompt: str | list[Message | str] | None = None
    """A template for one user message, or a list of messages; the words `messages` and `exemplars` in it are slots."""
    params: dict[str, Any] = Field(default_factory=dict)
    fallbacks: list[str] = Field(default_factory=list)
    exemplars: list[Exemplar] = Field(default_factory=list)
    created_at: datetime = Field(default_factory=utcnow)

    @model_validator(mode="before")
    @classmethod
    def _identify(cls, values: Any) -> Any:
        if isinstance(values, dict) and "id" not in values:
            exemplars = [e.model_dump() if isinstance(e, Exemplar) else e for e in values.get("exemplars") or []]
            content = (values.get("model"), values.get("prompt"), values.get("params") or {})
            return {"id": content_id(*content, values.get("fallbacks") or [], exemplars), **values}
        return values

    @property
    def label(self) -> str:
        """The name with the version behind it: `terse@3f2a`."""
        return f"{self.name}@{self.id[:4]}"


class Run(Record):
    """A dataset put to some variants. What is added to it later is a further row of the same id."""

    id: str = Field(default_factory=new_id)
    task: str
    dataset: str
    fingerprint: str
    """Hash over the ids of the dataset's cases."""
    variants: list[str]
    """Variant ids, in the order of the spec."""
    repeats: int = 1
    settings: dict[str, Any] = Field(default_factory=dict)
    """What is needed to go on with it: graders, limits, budget, limit, priority, and the folder that relative paths start from."""
    git_commit: str | None = None
    created_at: datetime = Field(default_factory=utcnow)


class RunEvent(Record):
    """A sign of life, or the end, of a run; the only way in which processes watch and stop one another's runs."""

    id: str = Field(default_factory=new_id)
    run_id: str
    kind: Literal["started", "heartbeat", "batch", "stop_asked", "stopped", "finished"]
    """A sign of life; `batch`: one was made, submitted or fetched, as `counts["batch"]` says."""
    pid: int | None = None
    counts: dict[str, Any] = Field(default_factory=dict)
    created_at: datetime = Field(default_factory=utcnow)


class ProcessingStatus(StrEnum):
    """How a request ended."""

    COMPLETED = "completed"
    FAILED = "failed"


class AIRequest(Record):
    """One question to one model. `AIRequest(input="...")` is enough; runs and the gateway fill in the rest."""

    id: str = Field(default_factory=new_id)
    input: str
    """The text of the last user message."""
    model: str = "gpt-4o-mini"
    priority: int = Field(default=5, ge=1, le=10)
    """10 is admitted first."""
    metadata: dict[str, Any] = Field(default_factory=dict)
    created_at: datetime = Field(default_factory=utcnow)
    purpose: Purpose = "answer"
    task: str | None = None
    run_id: str | None = None
    case_id: str | None = None
    variant_id: str | None = None
    messages: list[Message] = Field(default_factory=list)
    """The rendered messages; empty means the single user message `input`."""
    params: dict[str, Any] = Field(default_factory=dict)
    repeat: int = 0
    key: str | None = None
    """Hash of messages, model, parameters and repeat (for a function its source too): equal keys may share an answer."""
    user_id: str | None = None
    propensities: dict[str, float] | None = None
    """Probability with which each eligible variant could have been chosen, by variant id."""
    inputs: dict[str, Any] | None = Field(default=None, exclude=True)
    """The case's variables, for providers that are functions; not stored, since the case holds them."""


class Attempt(Record):
    """One call to one target, whether it worked or not."""

    model: str
    provider_model: str | None = None
    start: datetime
    latency_ms: float | None = None
    usage: dict[str, Any] | None = None
    cost_usd: float | None = None
    error_type: str | None = None
    error: str | None = None
    maybe_charged: bool = False
    """It failed when a model may have worked on it already, where its kind of error does not say so."""


class AIResponse(Record):
    """What came back. Figures are those of the answer that is returned, also when a fallback gave it.

    A FAILED response has an empty output, `model_used="none"`, no tokens and no cost, and its `latency_ms` is null,
    since no attempt succeeded; `total_ms`, `spent_usd` and `attempts` tell what was waited, paid and tried. Only a stream that
    broke off, or whose reader left, keeps the text and the model that had begun.
    """

    request_id: str
    output: str
    model_used: str
    """`provider:model` as configured; "none" when nothing answered."""
    latency_ms: float | None = None
    """The successful attempt alone, from sending to the last byte."""
    tokens_used: int | None = None
    cost_usd: float | None = None
    """Null when the price is unknown, never 0 instead."""
    status: ProcessingStatus = ProcessingStatus.COMPLETED
    id: str = Field(default_factory=new_id)
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    usage: dict[str, Any] | None = None
    """As the endpoint reported it, so that costs can be recomputed."""
    ttft_ms: float | None = None
    """Time to first token, when streamed."""
    total_ms: float | None = None
    """What the caller waited: retries, back-off and fallback included, our own queue not."""
    spent_usd: float | None = None
    """Sum over all attempts; null when one that may have cost something has no known price."""
    finish_reason: str | None = None
    cached: bool = False
    truncated: bool = False
    """The text is longer than what the engine hands to a caller; the store keeps all of it."""
    error_type: str | None = None
    error: str | None = None
    provider_model: str | None = None
    """The model that the endpoint says it used."""
    attempts: list[Attempt] = Field(default_factory=list)
    metadata: dict[str, Any] = Field(default_factory=dict)
    created_at: datetime = Field(default_factory=utcnow)

    @property
    def tokens_per_s(self) -> float | None:
        """Visible tokens a second from the first to the last one, when streamed; the first one's time is `ttft_ms`."""
        if self.latency_ms is None or self.ttft_ms is None or self.output_tokens is None:
            return None
        if self.latency_ms <= self.ttft_ms or self.output_tokens < 2:
            return None
        # Reasoning is over when the first token is seen.
        seen = max(self.output_tokens - (self.reasoning_tokens or 0) - 1, 0)
        return seen * 1000 / (self.latency_ms - self.ttft_ms)


class Queue(Record):
    """What is to be rated, by how many, and under which seed."""

    id: str = Field(default_factory=new_id)
    task: str
    purpose: Literal["decision", "leaderboard", "single"]
    variants: list[str]
    cases: list[str] = Field(default_factory=list)
    """Case ids; none means all cases of the task that these variants answered."""
    slots: list[list[str]] = Field(default_factory=list)
    """Of a sample, what was drawn: a case's id, then the ids of the two variants of a pair, or of the one; none means all of the cases."""
    runs: list[str] = Field(default_factory=list)
    """Run ids; none means each variant's newest completed answer, whatever run it is from."""
    criteria: list[str] = Field(default_factory=list)
    """What single answers are rated on, from 1 to 5; none means a thumb up or down."""
    overlap: int = 1
    """How many raters see the same pair."""
    blind: bool = True
    seed: int = 0
    """The order of the cases and which answer stands left come from it."""
    rule: dict[str, Any] = Field(default_factory=dict)
    """Of a decision, where it is not the usual one: what must be shown of the second variant. Then the first is the baseline."""
    created_at: datetime = Field(default_factory=utcnow)


class Assignment(Record):
    """A slot of a queue that one rater holds until `expires`."""

    id: str = Field(default_factory=new_id)
    queue: str
    case_id: str
    pair: list[str]
    seat: int = 0
    rater: str
    expires: datetime
    created_at: datetime = Field(default_factory=utcnow)


class Exposure(Record):
    """Names or metrics of these answers were on this rater's screen: from then on their votes on them are not blind."""

    id: str = Field(default_factory=new_id)
    rater: str
    case_id: str
    response_ids: list[str]
    page: str
    created_at: datetime = Field(default_factory=utcnow)


class Rating(Record):
    """What someone or something says of one answer. A failed grader is a row with `error`, not a crash."""

    id: str = Field(default_factory=new_id)
    response_id: str
    metric: str
    value: float | None = None
    label: str | None = None
    reason: str | None = None
    error: str | None = None
    correction: str | None = None
    comment: str | None = None
    rater: str
    """Graders and judges carry their version: `contains@3f2a`."""
    rater_kind: RaterKind
    judge_response_id: str | None = None
    blind: bool = True
    queue: str | None = None
    seconds: float | None = None
    created_at: datetime = Field(default_factory=utcnow)
    supersedes: str | None = None
    """Id of the very row that this one replaces; value and label null then mean withdrawn."""


class Comparison(Record):
    """Which of two answers to the same case is better."""

    id: str = Field(default_factory=new_id)
    task: str
    case_id: str
    response_a: str
    response_b: str
    variant_a: str
    variant_b: str
    winner: Literal["a", "b", "tie", "both_bad"] | None
    """Null withdraws the row that `supersedes` names."""
    metric: str = "preference"
    rater: str
    rater_kind: RaterKind
    judge_response_id: str | None = None
    blind: bool = True
    queue: str | None = None
    a_shown_left: bool | None = None
    pair_propensity: float | None = None
    seconds: float | None = None
    comment: str | None = None
    created_at: datetime = Field(default_factory=utcnow)
    supersedes: str | None = None


class Decision(Record):
    """The verdict on a candidate against the baseline, with the evidence it rests on."""

    id: str = Field(default_factory=new_id)
    task: str
    baseline: str
    candidate: str
    goal: Literal["better", "no_worse"]
    verdict: Literal["promote", "keep", "undecided"]
    reason: str
    """`better`, `no_worse`, `worse`, `too_few`, or `guard:NAME`."""
    estimate: float | None = None
    lower: float | None = None
    upper: float | None = None
    n: int = 0
    raters: list[str] = Field(default_factory=list)
    guards: dict[str, Any] = Field(default_factory=dict)
    rule: dict[str, Any] = Field(default_factory=dict)
    evidence: dict[str, Any] = Field(default_factory=dict)
    more_needed: int | None = None
    created_at: datetime = Field(default_factory=utcnow)


class Policy(Record):
    """Which variant answers, by segment: what the router obeys."""

    id: str = Field(default_factory=new_id)
    task: str
    weights: dict[str, dict[str, float]]
    """By segment (`*` for all others): variant id to share."""
    fallback: list[str] = Field(default_factory=list)
    decision_id: str | None = None
    created_at: datetime = Field(default_factory=utcnow)


TABLES: dict[str, type[Record]] = {
    "tasks": Task,
    "cases": Case,
    "variants": Variant,
    "runs": Run,
    "run_events": RunEvent,
    "requests": AIRequest,
    "responses": AIResponse,
    "queues": Queue,
    "assignments": Assignment,
    "exposures": Exposure,
    "ratings": Rating,
    "comparisons": Comparison,
    "decisions": Decision,
    "policies": Policy,
}
"""Table name to record class: the plural nouns that people type in a notebook."""
