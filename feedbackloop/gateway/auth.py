"""Who may ask: whoever has the key; without a key only this machine itself."""

from __future__ import annotations

import hmac
import ipaddress

from starlette.requests import Request

from feedbackloop.gateway.refusals import Refused

KEY_VARIABLE = "FEEDBACKLOOP_API_KEY"


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine and nobody else."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def admit(request: Request, key: str | None) -> None:
    """Let a request pass, or not.

    Raises:
        Refused: the key is missing or wrong; or there is none, and the request was not meant for this machine's own name, as
            that of a web page which has turned its own name towards it.
    """
    if key is None:
        host = request.url.hostname or ""
        if not is_loopback(host):
            raise Refused(
                403,
                f"without {KEY_VARIABLE} this service answers only as localhost, not as '{host[:100]}'",
                code="forbidden",
            )
        return
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not given:
        raise Refused(401, "no API key was given; send it as 'Authorization: Bearer KEY'", code="invalid_api_key")
    if not hmac.compare_digest(given.strip().encode(), key.encode()):
        raise Refused(401, f"this API key is wrong; it must be the one in {KEY_VARIABLE}", code="invalid_api_key")


async def read_body(request: Request, longest: int) -> bytes:
    """A JSON body, as long as it may be.

    Raises:
        Refused: it is too long, or not said to be JSON (a web page of somebody else's could send it so without being asked).
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(415, "send the body as content-type application/json", code="unsupported_media_type")
    too_long = Refused(413, f"the body is longer than {longest / 1e6:g} MB", code="body_too_large")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > longest:
        raise too_long
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > longest:
            raise too_long
        pieces.append(piece)
    return b"".join(pieces)
