"""What a dashboard wants to know of answers as they are made: counts, durations, tokens and cost, for Prometheus.

`@monitor` around any async function from a request to a response keeps them, in a service, a batch or a notebook alike; the
service shows them at `/metrics`. Needs the extra `[serve]`.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from feedbackloop.errors import MissingDependency
from feedbackloop.models import AIRequest, AIResponse, ProcessingStatus

if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge, Histogram

Answering = TypeVar("Answering", bound=Callable[..., Awaitable[AIResponse]])

# From an answer out of memory to a long reasoning model's.
_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0)


@dataclass(frozen=True)
class Figures:
    """The process's own figures, registered once."""

    requests: Counter
    """By model (as configured) and status (`success` or `error`)."""
    duration: Histogram
    """Seconds that the caller waited."""
    active: Gauge
    tokens: Counter
    """By model and kind (`input` or `output`)."""
    cost: Counter
    """USD by model, all attempts included."""
    unpriced: Counter
    """Requests by model whose cost is unknown, and so not in `cost`."""


@functools.cache
def figures() -> Figures:
    """The figures, made at the first use.

    Raises:
        MissingDependency: prometheus-client is not installed.
    """
    try:
        from prometheus_client import Counter, Gauge, Histogram  # noqa: PLC0415 - an optional package
    except ModuleNotFoundError as error:
        raise MissingDependency(
            "monitoring needs the package 'prometheus-client': pip install 'feedbackloop[serve]'"
        ) from error
    return Figures(
        requests=Counter("ai_requests", "Requests that were answered or failed", ["model", "status"]),
        duration=Histogram("ai_request_duration_seconds", "Seconds until the whole answer", buckets=_BUCKETS),
        active=Gauge("ai_active_requests", "Requests that are being answered"),
        tokens=Counter("ai_tokens", "Tokens read and written", ["model", "kind"]),
        cost=Counter("ai_cost_usd", "USD spent, as far as prices are known", ["model"]),
        unpriced=Counter("ai_unpriced_requests", "Requests whose cost is unknown", ["model"]),
    )


class Watched:
    """One request under way: `with Watched(request) as watched`, then `watched.done(response)`; without it, it is an error."""

    def __init__(self, request: AIRequest) -> None:
        self._figures = figures()
        self._request = request
        self._response: AIResponse | None = None
        self._began = 0.0

    def done(self, response: AIResponse) -> None:
        """Say how it ended."""
        self._response = response

    def __enter__(self) -> Self:
        self._began = time.perf_counter()
        self._figures.active.inc()
        return self

    def __exit__(self, *_: object) -> None:
        kept, response = self._figures, self._response
        kept.active.dec()
        kept.duration.observe(time.perf_counter() - self._began)
        answered = response is not None and response.model_used != "none"
        model = response.model_used if response is not None and answered else self._request.model
        fine = response is not None and response.status is ProcessingStatus.COMPLETED
        kept.requests.labels(model, "success" if fine else "error").inc()
        if response is None or response.cached:
            return
        for kind, count in (("input", response.input_tokens), ("output", response.output_tokens)):
            if count is not None:
                kept.tokens.labels(model, kind).inc(count)
        spent = response.spent_usd if response.spent_usd is not None else response.cost_usd
        if spent is None:
            kept.unpriced.labels(model).inc()
        elif spent > 0:
            kept.cost.labels(model).inc(spent)


def monitor(function: Answering) -> Answering:
    """Count what an async function from a request to a response does, and how long it takes.

        answer = monitor(processor.process)
        response = await answer(AIRequest(input="..."))

    Raises:
        MissingDependency: prometheus-client is not installed.
    """
    figures()

    @functools.wraps(function)
    async def monitored(request: AIRequest, *arguments: Any, **options: Any) -> AIResponse:
        with Watched(request) as watched:
            response = await function(request, *arguments, **options)
            watched.done(response)
            return response

    return cast("Answering", monitored)


@dataclass(frozen=True)
class Exposition:
    """The figures as Prometheus reads them."""

    body: bytes
    content_type: str


def exposition() -> Exposition:
    """All figures of this process.

    Raises:
        MissingDependency: prometheus-client is not installed.
    """
    figures()
    import prometheus_client  # noqa: PLC0415 - an optional package

    made: Any = prometheus_client.generate_latest()
    return Exposition(made, prometheus_client.CONTENT_TYPE_LATEST)
