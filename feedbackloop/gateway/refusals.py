"""Errors as OpenAI writes them, whatever went wrong, so that every client library understands them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from feedbackloop.errors import FeedbackLoopError, PromptError, StoreError, UnknownName
from feedbackloop.models import AIResponse

logger = logging.getLogger(__name__)


class Refused(Exception):
    """A request that is not answered: what OpenAI would say of it.

    Args:
        status: of the HTTP answer.
        message: what is wrong and what to do.
        kind: OpenAI's `type`.
        code: for programs.
        param: the parameter at fault.
        headers: further ones, such as how long to wait.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.code = code
        self.param = param
        self.headers = dict(headers or {})

    @property
    def error(self) -> dict[str, Any]:
        """The body's `error` object."""
        return {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}

    @property
    def body(self) -> bytes:
        """The whole body."""
        return json.dumps({"error": self.error}, ensure_ascii=False).encode("utf-8", "replace")


@dataclass(frozen=True)
class Meaning:
    """What a kind of failure is to a client."""

    status: int
    kind: str
    code: str | None = None


_SERVER = "server_error"
MEANINGS = {
    "RateLimited": Meaning(429, "rate_limit_error", "rate_limit_exceeded"),
    "ProviderTimeout": Meaning(504, _SERVER, "timeout"),
    "ProviderUnavailable": Meaning(502, _SERVER, "upstream_unavailable"),
    # The client's own key was right: the one at fault is the service's, for the model behind it.
    "AuthenticationFailed": Meaning(502, _SERVER, "upstream_authentication"),
    "InvalidRequest": Meaning(400, "invalid_request_error", "invalid_request"),
    "ContextTooLong": Meaning(400, "invalid_request_error", "context_length_exceeded"),
    "ContentFiltered": Meaning(400, "invalid_request_error", "content_filter"),
    "OutputInvalid": Meaning(502, _SERVER, "invalid_output"),
    "CircuitOpen": Meaning(503, _SERVER, "upstream_unavailable"),
    "BudgetExceeded": Meaning(429, "insufficient_quota", "insufficient_quota"),
}
"""By the error type of a failed response; any other is a 502."""


def failed(response: AIResponse) -> Refused:
    """The refusal that stands for a failed response."""
    meaning = MEANINGS.get(response.error_type or "", Meaning(502, _SERVER, "upstream_error"))
    # What could be tried again was tried again here; a client that does so too would multiply the attempts.
    headers = {"x-should-retry": "false"}
    return Refused(
        meaning.status, response.error or "no model answered", kind=meaning.kind, code=meaning.code, headers=headers
    )


def raised(error: FeedbackLoopError) -> Refused:
    """The refusal that stands for an error of ours."""
    if isinstance(error, UnknownName):
        return Refused(404, str(error), code="model_not_found", param="model")
    if isinstance(error, PromptError):
        return Refused(400, str(error), code="prompt_error", param="messages")
    if isinstance(error, StoreError):
        # Where the store is, and who holds it, is for the operator.
        logger.warning("a request was refused, for the store cannot be used: %s", error)
        said = "the store cannot be used at the moment; try again"
        return Refused(503, said, kind=_SERVER, code="store_unavailable", headers={"retry-after": "1"})
    return Refused(500, str(error), kind=_SERVER, code="misconfigured")
