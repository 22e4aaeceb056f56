"""Who may ask: the checks before a request reaches any route, and the headers that keep agents from asking in circles.

A page on the web can make a browser send requests to a local address, directly (Origin) or through a name that it
points there (Host, "DNS rebinding"); so both are looked at, with a token or without. CVE-2024-28224 is the same hole
in a daemon, CVE-2025-66416 in a protocol's server.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.types import Scope

from orchestra.agents.lineage import Lineage
from orchestra.agents.remote import MAX_TOKENS, MOST_TOKENS
from orchestra.errors import FieldInvalid, HeadersTooLarge, HostRefused, OriginRefused
from orchestra.gateway.identity import NOBODY, Users
from orchestra.gateway.keys import OWNER, Keys
from orchestra.settings import Settings
from orchestra.texts import interface_language

_NUMBER = re.compile(r"[0-9]{1,8}")
HEADER_LIMIT = 16 * 1024  # as h11 has it for what has not come whole; here for all
OPEN = ("/healthz", "/docs")  # that the process runs, and how it is asked: a browser has no key to send


class Caller(NamedTuple):
    """Whose key a request carries, through which agents it has come, and which user of that holder it speaks for."""

    holder: str
    lineage: Lineage
    user: str = NOBODY


def admit(scope: Scope, settings: Settings, keys: Keys, users: Users) -> Caller:
    """Lets a request through, and says who asks; raises what it is refused with."""
    headers = Headers(scope=scope)
    _size(scope)
    _host(headers, scope, settings)
    _origin(headers, settings)
    if scope["path"] in OPEN:
        return Caller(OWNER, Lineage.of(headers))
    holder = keys.holder(headers.getlist("authorization"))
    return Caller(holder, Lineage.of(headers), users.user(scope, keyed=bool(keys.digests)))


def allotted(headers: Mapping[str, str]) -> int | None:
    """The most tokens that the caller gives the answer of its own budget; None = it says nothing. Raises `FieldInvalid`."""
    given = headers.get(MAX_TOKENS, "").strip()
    if not given:
        return None
    if not _NUMBER.fullmatch(given) or not 0 < int(given) <= MOST_TOKENS:
        raise FieldInvalid(field=MAX_TOKENS, detail=f"a number from 1 to {MOST_TOKENS}", detail_zh=f"应为 1 到 {MOST_TOKENS} 的整数")
    return int(given)


def language_for(headers: Mapping[str, str], settings: Settings) -> str:
    """The language of an error: the first that the caller accepts, else the one that is set, else that of the locale."""
    accepted = headers.get("accept-language", "").strip().lower()
    if accepted[:2] in ("zh", "en"):
        return accepted[:2]
    if settings.language:
        return "zh" if settings.language.lower().startswith("zh") else "en"
    return interface_language()


def _size(scope: Scope) -> None:
    size = len(scope["raw_path"]) + len(scope["query_string"]) + sum(len(name) + len(value) + 4 for name, value in scope["headers"])
    if size > HEADER_LIMIT:
        raise HeadersTooLarge(limit=HEADER_LIMIT)


def _host(headers: Headers, scope: Scope, settings: Settings) -> None:
    hosts = headers.getlist("host")
    host = hosts[0] if len(hosts) == 1 else ""
    name = host_name(host)
    if name == "localhost" or name in settings.allowed_hosts.lower().split():
        return
    here = (scope.get("server") or ("", 0))[0]
    if not name or not _same_machine(name, str(here)):
        raise HostRefused(host=host)


def host_name(host: str) -> str:
    """The name in a Host header, without its port."""
    host = host.strip().lower()
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def _same_machine(name: str, here: str) -> bool:
    """Whether a literal address is the one that the caller has reached; a name is none, so no name can be pointed here."""
    try:
        named, reached = ipaddress.ip_address(name), ipaddress.ip_address(here)
    except ValueError:
        return False
    return named == reached or (named.is_loopback and reached.is_loopback)


def _origin(headers: Headers, settings: Settings) -> None:
    for origin in headers.getlist("origin"):
        own = [f"{scheme}://{headers.get('host', '').lower()}" for scheme in ("http", "https")]
        if origin.lower() not in (*own, *settings.allowed_origins.lower().split()):
            raise OriginRefused(origin=origin)
