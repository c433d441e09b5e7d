"""Where an OpenAI-compatible endpoint is, whose key it wants, and what its refusals mean.

Status codes, error bodies and broken connections become typed errors of one sentence each, with every secret taken out.
"""

from __future__ import annotations

import functools
import html
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

from feedbackloop.errors import (
    AuthenticationFailed,
    ContentFiltered,
    ContextTooLong,
    InvalidRequest,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
)
from feedbackloop.providers import Allowance, Quota
from feedbackloop.settings import ProviderSettings

DEFAULT_BASE_URL = "https://api.openai.com/v1"
DEFAULT_MAX_TOKENS = 2048
"""How long an answer may be where its request does not say."""
PLACEHOLDER_KEY = "no-key"
"""Sent to an endpoint that wants no key: the SDK insists on one."""

LONGEST_MESSAGE = 500

_SECRETS = re.compile(
    r"(?P<before>\bbearer\s+|://(?=[^/\s@]*@)|\bapi[-_]?key=|\btoken=)[^\s\"',;)}\]&@]+|\bsk-[^\s\"'`,;)}\]]{2,}",
    re.IGNORECASE,
)
_TOO_LONG = re.compile(
    r"maximum context length|context[_ ](length|window|size)[_ ]?(is )?exceed|"
    r"exceeds? (the )?(available |model's )?(maximum )?context|prompt is too long|exceed_context_size",
    re.IGNORECASE,
)
_FILTERED = re.compile(r"content_filter|content_policy_violation|ResponsibleAIPolicyViolation", re.IGNORECASE)


_NUMBER = re.compile(r"\d+(\.\d+)?", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d)", re.ASCII)
_DURATION = re.compile(rf"(?:{_PART.pattern})+", re.ASCII)
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def scrub(text: str, secret: str | None = None) -> str:
    """`text` on one line, without `secret` or anything that looks like a key, at most 500 characters long."""
    text = " ".join(text.split())
    # Shorter ones are dummies ("x"), and taking those out would eat ordinary words.
    if secret and len(secret) >= 4:
        text = _spellings(secret).sub("[key]", text)
    # Bodies can be whole web pages; what could still reach the first 500 characters is enough. Cut any sooner, half a key is none.
    text = text[: 20 * LONGEST_MESSAGE]
    text = _SECRETS.sub(lambda found: f"{found['before'] or ''}[key]", text)
    return text if len(text) <= LONGEST_MESSAGE else text[: LONGEST_MESSAGE - 1] + "…"


@functools.cache
def _spellings(secret: str) -> re.Pattern[str]:
    """A secret as it is, and as JSON, an address or a page may write it."""
    escaped = json.dumps(secret)[1:-1]
    ways = {secret, escaped, escaped.replace("/", "\\/"), quote(secret, safe=""), quote(secret), html.escape(secret)}
    return re.compile("|".join(re.escape(way) for way in sorted(ways, key=len, reverse=True)), re.IGNORECASE)


@dataclass(frozen=True)
class Endpoint:
    """An address and the key that goes with it, as the environment holds them at this moment.

    Attributes:
        name: the provider's name, for messages.
        base_url: what `/chat/completions` is put behind.
        key: what is sent as bearer token.
        variable: environment variable that holds the key; none means that the endpoint wants no key.
    """

    name: str
    base_url: str
    key: str
    variable: str | None

    @classmethod
    def find(cls, name: str, table: ProviderSettings | None) -> Endpoint:
        """The endpoint of the provider `name`.

        Raises:
            AuthenticationFailed: a key is needed and its variable is not set.
            InvalidRequest: `OPENAI_BASE_URL` is no address.
        """
        base_url = find_base_url(name, table)
        if not base_url.startswith(("http://", "https://")):
            raise InvalidRequest(f"OPENAI_BASE_URL must begin with http:// or https://, but it is '{scrub(base_url)}'")
        named = table.api_key_env if table else None
        variable = named or ("OPENAI_API_KEY" if name == "openai" else None)
        key = os.environ.get(variable, "").strip() if variable else ""
        if not key and (named or base_url.rstrip("/") == DEFAULT_BASE_URL):
            hint = f"export it, or change api_key_env in [providers.{name}] of feedbackloop.toml"
            if named is None:
                hint = "export it, or set OPENAI_BASE_URL to an endpoint that wants no key"
            raise AuthenticationFailed(f"{variable} is not set: {hint}")
        if not (key.isascii() and key.isprintable()):
            raise AuthenticationFailed(f"{variable} holds a character that no key has: copy the key again")
        return cls(name, base_url, key or PLACEHOLDER_KEY, variable)

    def scrub(self, text: str) -> str:
        """`text` fit for a message: see the function of that name."""
        return scrub(text, None if self.key == PLACEHOLDER_KEY else self.key)

    def refusal(self, status: int, body: object, headers: Mapping[str, str]) -> ProviderError:  # noqa: PLR0911 - one per meaning
        """What an answer with a status other than 200 means.

        Args:
            status: of the answer.
            body: the error object, or the text if it was no JSON.
            headers: of the answer; they may say how long to wait.
        """
        detail = _detail(body)
        code = _codes(body)
        wait = retry_after(headers)
        if status == 429:
            if "insufficient_quota" in code:
                lead = f"{self.name} says that the account's quota is used up, so waiting does not help"
                return RateLimited(self._sentence(lead, status, detail), retryable=False)
            return RateLimited(self._sentence(f"{self.name} is asked too often", status, detail), retry_after=wait)
        if status in (401, 403):
            return AuthenticationFailed(self._sentence(self._refused_key(), status, detail))
        if status == 408:
            return ProviderTimeout(self._sentence(f"{self.name} gave up waiting", status, detail))
        if status == 409 or status >= 500:
            lead = f"{self.name} cannot answer at the moment"
            return ProviderUnavailable(self._sentence(lead, status, detail), retry_after=wait)
        if "context_length_exceeded" in code or _TOO_LONG.search(code) or _TOO_LONG.search(detail):
            return ContextTooLong(self._sentence(f"The prompt is too long for {self.name}", status, detail))
        if _FILTERED.search(code):
            return ContentFiltered(self._sentence(f"{self.name} withholds the answer", status, detail))
        return InvalidRequest(self._sentence(f"{self.name} refuses the request", status, detail))

    def refusal_in_200(self, body: object) -> ProviderError:
        """What an error body in an answer with status 200 means: some gateways pass on upstream errors so."""
        code = _codes(body)
        found = re.search(r"\b[45]\d\d\b", code)
        if found:
            status = int(found[0])
        elif "rate_limit" in code or "insufficient_quota" in code:
            status = 429
        elif "invalid_request" in code or "context_length_exceeded" in code or _FILTERED.search(code):
            status = 400
        else:
            status = 502
        return self.refusal(status, body, {})

    def broken(self, error: BaseException, *, reached: bool = False) -> ProviderError:
        """What a connection that failed means: a time-out, or anything else that kept the answer from arriving.

        The SDK's aiohttp transport reports refused and dropped connections as time-outs too, so the cause decides.
        """
        causes = [error]
        while (cause := causes[-1].__cause__) is not None:
            causes.append(cause)
        reason = next((text for cause in reversed(causes) if (text := str(cause).strip())), type(error).__name__)
        if any(isinstance(cause, TimeoutError) for cause in causes):
            return ProviderTimeout(self.scrub(f"{self.name} did not answer in time: {reason}"))
        failed = ProviderUnavailable(self.scrub(f"The connection to {self.name} at {self.base_url} failed: {reason}"))
        failed.maybe_charged = reached
        return failed

    def _refused_key(self) -> str:
        if self.variable is None:
            return f"{self.name} wants a key: name its variable as api_key_env in [providers.{self.name}] of feedbackloop.toml"
        if self.key == PLACEHOLDER_KEY:
            return f"{self.name} wants a key, and {self.variable} is not set"
        return f"{self.name} refuses the key in {self.variable}"

    def _sentence(self, lead: str, status: int, detail: str) -> str:
        return self.scrub(f"{lead} ({status}): {detail}" if detail else f"{lead} ({status})")


def find_base_url(name: str, table: ProviderSettings | None) -> str:
    """`OPENAI_BASE_URL` (for `openai` alone), else the settings' address, else OpenAI's: the environment wins over the file."""
    given = os.environ.get("OPENAI_BASE_URL", "").strip() if name == "openai" else ""
    return given or (table.base_url if table and table.base_url else DEFAULT_BASE_URL)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by `retry-after-ms`, or by `retry-after` in seconds or as an HTTP date; none if neither makes sense."""
    for header, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        text = headers.get(header)
        if text is None:
            continue
        try:
            seconds = float(text) / unit
        except ValueError:
            try:
                moment = parsedate_to_datetime(text)
            except ValueError:
                continue
            aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            seconds = max(0.0, (aware - datetime.now(UTC)).total_seconds())
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    return None


def allowance(headers: Mapping[str, str]) -> Allowance | None:
    """What the `x-ratelimit-*` headers of OpenAI and of those who copy it say; None without them.

    Source: https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers
    """
    requests, tokens = _quota(headers, "requests"), _quota(headers, "tokens")
    return Allowance(requests, tokens) if requests or tokens else None


def _quota(headers: Mapping[str, str], unit: str) -> Quota | None:
    given = [headers.get(f"x-ratelimit-{what}-{unit}") for what in ("limit", "remaining", "reset")]
    if None in given:
        return None
    try:
        limit, remaining = float(given[0] or ""), float(given[1] or "")
    except ValueError:
        return None
    reset = seconds(given[2] or "")
    if reset is None or not (0 <= remaining <= limit < math.inf):
        return None
    return Quota(limit, remaining, reset)


def seconds(text: str) -> float | None:
    """A duration as Go writes them (`6m0s`, `20ms`, `1h2m3.5s`), or a number of seconds; None if it is neither."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return float(text)
    if not text or not _DURATION.fullmatch(text):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def _detail(body: object) -> str:
    if isinstance(body, dict):
        for name in ("message", "detail", "error"):
            if value := body.get(name):
                return _detail(value)
    if isinstance(body, str):
        # A proxy's error page says nothing that the status does not.
        return "" if body.lstrip().startswith("<") else body
    return json.dumps(body, ensure_ascii=False, default=str) if body else ""


def _codes(body: object) -> str:
    if not isinstance(body, dict):
        return ""
    inner: Any = body.get("innererror")
    names = [body.get("code"), body.get("type"), inner.get("code") if isinstance(inner, dict) else None]
    return " ".join(str(name) for name in names if name is not None)
