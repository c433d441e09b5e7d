"""What a line of a batch's output comes to: an answer validated and priced as any other, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass

from feedbackloop.errors import BatchIncomplete, OutputInvalid, ProviderError
from feedbackloop.models import AIRequest, AIResponse
from feedbackloop.pipeline.engine import Engine, failure
from feedbackloop.pipeline.resilience import Clock
from feedbackloop.pipeline.spending import Priced
from feedbackloop.pipeline.validation import Validate
from feedbackloop.pricing import Prices, spent
from feedbackloop.providers.batches import BatchState
from feedbackloop.queries.batches import Batch
from feedbackloop.wording import count


@dataclass(frozen=True)
class _Said:
    """A provider that has been asked already."""

    outcome: AIResponse | ProviderError
    base_url: str | None
    live = False  # it took no time that could be measured

    async def complete(self, request: AIRequest) -> AIResponse:  # noqa: ARG002 - what it has said is about this one
        if isinstance(self.outcome, ProviderError):
            raise self.outcome
        return self.outcome


async def taken_in(
    batch: Batch,
    request: AIRequest,
    outcome: AIResponse | ProviderError,
    *,
    prices: Prices,
    engine: Engine,
    clock: Clock,
) -> AIResponse:
    """The response to a request of a batch, through the same layers as an answer to a call; it never raises for a model's fault.

    Latency and waiting time are none: a batch's are not the model's. The attempt began when the batch was made.
    """
    said = _Said(outcome, getattr(engine.provider(batch.model), "base_url", None))
    then = Clock(now=clock.now, sleep=clock.sleep, utc=lambda: batch.made_at)
    try:
        response = await Validate(Priced(said, prices, then)).complete(request)
    except ProviderError as error:
        response = failure(request, error, clock)
    return response.model_copy(
        update={
            "spent_usd": spent(response.attempts),
            "created_at": clock.utc(),
            "metadata": {**response.metadata, "batch": batch.batch_id},
        }
    )


def unsaid(batch: Batch, state: BatchState, broken: int) -> ProviderError:
    """Why a request has no line in its batch's output.

    Args:
        broken: lines of it that could not be read.
    """
    name = batch.model.partition(":")[0]
    if state.status == "failed":
        return BatchIncomplete(f"{name} refused the batch {state.id}: {state.refusal or 'it does not say why'}")
    if state.status in {"expired", "cancelled"}:
        ended = "expired" if state.status == "expired" else "was cancelled"
        return BatchIncomplete(f"the batch {state.id} with {name} {ended} before this was answered")
    unread = f"; {count(broken, 'line')} of it could not be read" if broken else ""
    # It may have been answered, and charged, all the same.
    return OutputInvalid(f"the output of the batch {state.id} with {name} does not hold this answer{unread}")
