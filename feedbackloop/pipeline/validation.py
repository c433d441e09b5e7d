"""What counts as an answer, and the form in which a caller gets it."""

from __future__ import annotations

from feedbackloop.errors import OutputInvalid
from feedbackloop.models import AIRequest, AIResponse
from feedbackloop.providers import Provider

MAX_CHARACTERS = 50_000
"""Longer answers are cut there for the caller, and marked; the store keeps them whole."""


class Validate:
    """Refuses an empty answer of a live provider, which is then retried like an error, and marks one that is too long."""

    def __init__(self, inner: Provider) -> None:
        self._inner = inner

    async def complete(self, request: AIRequest) -> AIResponse:
        """The inner answer, its text untouched.

        Raises:
            OutputInvalid: it is empty or nothing but white space. It was paid for: its attempt carries the cost.
        """
        response = await self._inner.complete(request)
        if not response.output or response.output.isspace():
            error = OutputInvalid(f"{request.model} gave an empty answer")
            failed = {"error_type": "OutputInvalid", "error": str(error)}
            *before, last = response.attempts
            error.attempts = [*before, last.model_copy(update=failed)]
            raise error
        if len(response.output) > MAX_CHARACTERS and len(response.output.strip()) > MAX_CHARACTERS:
            return response.model_copy(update={"truncated": True})
        return response


def presented(response: AIResponse) -> AIResponse:
    """A live provider's response as a caller gets it: white space stripped, and cut at 50,000 characters."""
    text = response.output.strip()[:MAX_CHARACTERS]
    return response if text == response.output else response.model_copy(update={"output": text})
