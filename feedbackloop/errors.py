"""Every error that feedbackloop raises on purpose. Each message says what is wrong, where, and what to do.

FeedbackLoopError
+-- ProviderError            a model did not give a usable answer (retryable? retry_after?)
|   +-- RateLimited          429: too many requests or tokens for now
|   +-- ProviderTimeout      no complete answer within the time allowed
|   +-- ProviderUnavailable  refused or reset connection, 5xx
|   +-- AuthenticationFailed the key is missing, wrong or lacks the right
|   +-- InvalidRequest       the endpoint refuses this request as it is (400, 404, 422)
|   +-- ContextTooLong       the prompt does not fit the model's context window
|   +-- ContentFiltered      the provider's filter withheld the answer
|   +-- OutputInvalid        an answer came, but not one that can be used
|   +-- CircuitOpen          not asked: this target kept failing a moment ago
|   +-- BatchIncomplete      its batch expired, or was cancelled or refused, before this was answered
+-- Halted                   given up because nothing more is to be sent
|   +-- BudgetExceeded       the next call could cost more than is left
+-- DatasetError             a file of cases, answers or votes that cannot be read as such
+-- PromptError              a template that does not compile, or a variable that a case lacks
+-- StoreError               the store cannot be opened, locked, read or written
|   +-- RowsRefused          all rows but a few are written; the database refuses these as they are
+-- SettingsError            a setting or a run spec that makes no sense
+-- UnknownName              a name that no registry knows; lists the near ones
+-- MissingDependency        an optional package is not installed; names the extra
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from feedbackloop.models import Attempt

CANCELLED = "cancelled"
"""The `error_type` of an answer whose reader left: nobody is there to catch an exception."""


class FeedbackLoopError(Exception):
    """The root: catch this to catch everything that the package raises on purpose."""


class ProviderError(FeedbackLoopError):
    """A model did not give a usable answer.

    Attributes:
        retryable: whether asking the same target again may help.
        retry_after: seconds that the provider asked to wait, if it said so.
        attempts: what was tried before giving up, oldest first; each layer of the engine adds what it knows.
        usage: what the endpoint says that it used all the same, as it said it.
        provider_model: the model that it says it used.
        maybe_charged: a model may have worked on it: the request was sent, and the connection broke before the answer was here.
    """

    default_retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, retryable: bool | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retryable = self.default_retryable if retryable is None else retryable
        self.retry_after = retry_after
        self.attempts: list[Attempt] = []
        self.usage: dict[str, Any] | None = None
        self.provider_model: str | None = None
        self.maybe_charged = False


class RateLimited(ProviderError):
    """429: too many requests or tokens for now."""

    default_retryable = True


class ProviderTimeout(ProviderError):
    """No complete answer within the time allowed."""

    default_retryable = True


class ProviderUnavailable(ProviderError):
    """Refused or reset connection, or a 5xx."""

    default_retryable = True


class AuthenticationFailed(ProviderError):
    """The key is missing, wrong or lacks the right; the message names its environment variable."""


class InvalidRequest(ProviderError):
    """The endpoint refuses this request as it is."""


class ContextTooLong(ProviderError):
    """The prompt does not fit the model's context window."""


class ContentFiltered(ProviderError):
    """The provider's filter withheld the answer."""


class OutputInvalid(ProviderError):
    """An answer came, but not one that can be used: empty, not JSON, not of the promised shape."""

    default_retryable = True


class CircuitOpen(ProviderError):
    """Not asked: this target kept failing a moment ago."""


class BatchIncomplete(ProviderError):
    """Its batch expired, or was cancelled or refused, before this was answered."""


class Halted(FeedbackLoopError):
    """Given up because nothing more is to be sent, which says nothing of the model.

    Attributes:
        attempts: what was tried before, oldest first.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.attempts: list[Attempt] = []


class BudgetExceeded(Halted):
    """The next call could cost more than is left; nothing was sent."""


class DatasetError(FeedbackLoopError):
    """A file of cases, answers or votes that cannot be read as such.

    Args:
        message: what is wrong and what to do.
        file: the file's name, prefixed to the message with line and column (both from 1), as editors write it.
    """

    def __init__(
        self, message: str, *, file: str | None = None, line: int | None = None, column: int | None = None
    ) -> None:
        place = ":".join(str(part) for part in (file, line, column if line else None) if part is not None)
        super().__init__(f"{place}: {message}" if place else message)
        self.file, self.line, self.column = file, line, column


class PromptError(FeedbackLoopError):
    """A template that does not compile, or a variable that a case lacks."""


class StoreError(FeedbackLoopError):
    """The store cannot be opened, locked, read or written."""


class RowsRefused(StoreError):
    """All rows of a batch but a few are written; the database refuses these as they are."""


class SettingsError(FeedbackLoopError):
    """A setting or a run spec that makes no sense."""


class UnknownName(FeedbackLoopError):
    """A name that no registry knows; the message lists the near ones."""


class MissingDependency(FeedbackLoopError):
    """An optional package is not installed; the message names the extra."""
