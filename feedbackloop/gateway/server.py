"""The service as a process: what has to hold before it starts, and how it ends."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from typing import NoReturn

import uvicorn

from feedbackloop.errors import SettingsError
from feedbackloop.gateway.app import create_app
from feedbackloop.gateway.auth import KEY_VARIABLE, is_loopback
from feedbackloop.settings import Settings
from feedbackloop.store import Store

REPLICAS_VARIABLE = "FEEDBACKLOOP_REPLICAS"
SHARED = ("postgres", "postgresql", "ducklake")
"""Kinds of stores that several machines can use at once."""

DRAIN_S = 30.0
"""How long requests under way may take to end once the process was told to."""

KEEP_ALIVE_S = 75
"""Longer than clients and balancers keep an idle connection: whoever closes it first should be the other side."""


def serve(
    store: Store, settings: Settings, environ: Mapping[str, str], *, host: str = "127.0.0.1", port: int = 8000
) -> None:
    """Answer until SIGTERM or Ctrl-C; then take nothing new, end what is under way, and store it.

    Args:
        environ: where the key (`FEEDBACKLOOP_API_KEY`) and the number of replicas (`FEEDBACKLOOP_REPLICAS`) stand.
        host: the address to listen on.
        port: 0 takes a free one, which the log names.

    Raises:
        SettingsError: several replicas would share a file, others could ask without a key, or the port is taken.
        StoreError: the store cannot be opened.
    """
    key = environ.get(KEY_VARIABLE, "").strip() or None
    check(store.url, environ, host=host, key=key)
    _check_free(host, port)
    with store.lease():
        pass
    if threading.current_thread() is threading.main_thread():
        # The server raises what it was told to end by once more when it has ended: that is the end, and not an accident.
        signal.signal(signal.SIGTERM, _end)
    app = create_app(store, settings, key=key)
    uvicorn.run(
        app, host=host, port=port, access_log=False, timeout_graceful_shutdown=int(DRAIN_S), server_header=False
    )


def _check_free(host: str, port: int) -> None:
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        # Python adds the address once more; what a name server says has a negative number and its own words.
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else error.strerror
        raise SettingsError(f"cannot listen on {host}:{port} ({reason}); choose another one with --port") from error


def _end(*_: object) -> NoReturn:
    sys.exit(0)


def check(url: str, environ: Mapping[str, str], *, host: str, key: str | None) -> None:
    """Refuse to start where it would go wrong later.

    Raises:
        SettingsError: says what to do instead.
    """
    text = environ.get(REPLICAS_VARIABLE, "").strip() or "1"
    if not text.isdigit() or int(text) < 1:
        raise SettingsError(f"{REPLICAS_VARIABLE} is '{text}'; it is the number of replicas, such as 3")
    if int(text) > 1 and url.partition(":")[0] not in SHARED:
        raise SettingsError(
            f"{text} replicas cannot share the file {url}: each would answer by its own policies and keep its own answers; "
            f"use a shared store: FEEDBACKLOOP_STORE=postgres:..., or set {REPLICAS_VARIABLE}=1"
        )
    if key is None and not is_loopback(host):
        raise SettingsError(
            f"without a key everybody who reaches {host} could ask at your expense; set {KEY_VARIABLE}, "
            "or listen on 127.0.0.1 only"
        )
    if key is not None and not (key.isascii() and key.isprintable()):
        raise SettingsError(f"{KEY_VARIABLE} holds a character that no header can carry; use letters, digits and signs")
