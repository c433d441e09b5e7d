"""URLs of Postgres databases: what to connect with, and how to show it without its password."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlencode

from feedbackloop.errors import StoreError

HIDDEN = "***"

_FORMS = "postgresql://USER@HOST:PORT/DATABASE, or postgres:host=HOST dbname=DATABASE user=USER"

_PAIR = re.compile(r"\s*(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|[^\s'\\]\S*|)\s*", re.DOTALL)


@dataclass(frozen=True)
class ServerUrl:
    """A database as libpq knows it; what is left out comes from its variables (`PGHOST`, ...) and `~/.pgpass`."""

    options: dict[str, str]
    """libpq's keywords, but for the password."""
    password: str | None
    shown: str
    """The URL with its password hidden."""

    def connection_string(self, **defaults: str) -> str:
        """For libpq, without the password; `defaults` for what the URL does not say."""
        return " ".join(f"{name}={_quoted(value)}" for name, value in {**defaults, **self.options}.items())


def parse(url: str) -> ServerUrl:
    """Take a URL apart.

    Raises:
        StoreError: it cannot be read as one. The message does not repeat it, since what cannot be read cannot be hidden.
    """
    rest = url.partition(":")[2]
    if rest.startswith(("postgres://", "postgresql://")):  # the prefix put before a whole URL
        url, rest = rest, rest.partition(":")[2]
    found = _from_url(url, rest[2:]) if rest.startswith("//") else _from_pairs(rest.strip())
    if "sslpassword" in found.options:
        raise StoreError("a postgres URL cannot hold sslpassword, which errors would show; use a key that wants none")
    if found.password == HIDDEN:
        raise StoreError(
            f"{found.shown}: this URL has been shown without its password; put that in, or into PGPASSWORD or ~/.pgpass"
        )
    return found


def _from_url(url: str, rest: str) -> ServerUrl:
    place, _, query = rest.partition("?")
    authority, slash, database = place.partition("/")
    if "@" in database or "#" in url:
        raise StoreError(
            "this postgres URL cannot be read; write what is special in its password as %40 for @, %2F for /, %23 for #"
        )
    login, at, hosts = authority.rpartition("@")
    user, colon, password = login.partition(":")
    options: dict[str, str] = {}
    names, ports = [], []
    for host in hosts.split(",") if hosts else []:
        # An address of IPv6 stands in brackets, since it has colons itself.
        match = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::(\d*))?", host)
        if match is None:
            raise StoreError(f"the host of this postgres URL cannot be read; give {_FORMS}")
        names.append(unquote(match[1].strip("[]")))
        ports.append(match[2] or "")
    if any(names):
        options["host"] = ",".join(names)
    if any(ports):
        options["port"] = ",".join(ports)
    if user:
        options["user"] = unquote(user)
    if database:
        options["dbname"] = unquote(database)
    extra = parse_qsl(query, keep_blank_values=True)
    options |= dict(extra)
    given = options.pop("password", unquote(password) if colon else None)
    shown_query = urlencode([(name, HIDDEN if name == "password" else value) for name, value in extra], safe="*/")
    shown = f"{url.partition(':')[0]}://{user}{f':{HIDDEN}' if colon else ''}{at}{hosts}{slash}{database}"
    return ServerUrl(options, given, shown + (f"?{shown_query}" if shown_query else ""))


def _from_pairs(text: str) -> ServerUrl:
    if text and "=" not in text and " " not in text:
        return ServerUrl({"dbname": text}, None, f"postgres:{text}")
    options: dict[str, str] = {}
    shown = []
    position = 0
    while position < len(text):
        match = _PAIR.match(text, position)
        if match is None or match.end() == position:
            raise StoreError(f"this postgres URL cannot be read; give {_FORMS}")
        name, written = match[1], match[2]
        value = re.sub(r"\\(.)", r"\1", written[1:-1]) if written.startswith("'") else written
        options[name] = value
        shown.append(f"{name}={HIDDEN if name == 'password' else written}")
        position = match.end()
    password = options.pop("password", None)
    return ServerUrl(options, password, "postgres:" + " ".join(shown))


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
