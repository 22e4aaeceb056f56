"""Who may ask: the daemon's check of Host and Origin, which keeps web pages away from a local address."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Mapping

_LOCAL_ORIGIN = re.compile(r"(https?://(localhost|127\.0\.0\.1|0\.0\.0\.0)(:\d+)?|(app|file|tauri|vscode-webview|vscode-file)://.*)\Z")
_LOCAL_NAMES = (".localhost", ".local", ".internal")
_STAINLESS = (
    "Arch", "Async", "Custom-Poll-Interval", "Helper-Method", "Lang", "Os", "Package-Version", "Poll-Helper",
    "Retry-Count", "Runtime", "Runtime-Version", "Timeout",
)  # fmt: skip
ALLOWED_HEADERS = ",".join(
    ["Authorization", "Content-Type", "User-Agent", "Accept", "X-Requested-With", "Openai-Beta", *(f"X-Stainless-{n}" for n in _STAINLESS)]
)
PREFLIGHT = (
    ("Access-Control-Allow-Headers", ALLOWED_HEADERS),
    ("Access-Control-Allow-Methods", "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"),
    ("Access-Control-Max-Age", "43200"),
)
PREFLIGHT_VARIES = (("Vary", "Access-Control-Request-Method"), ("Vary", "Access-Control-Request-Headers"))


def foreign_origin(headers: Mapping[str, str]) -> bool:
    """Whether the request comes from a page of another origin than those that are allowed."""
    origin = headers.get("Origin")
    if origin is None or _LOCAL_ORIGIN.match(origin):
        return False
    host = headers.get("Host", "")
    return origin not in (f"http://{host}", f"https://{host}")


def foreign_host(headers: Mapping[str, str]) -> bool:
    """Whether the request names a host that this machine is not."""
    host = headers.get("Host", "").lower()
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if not name or name in ("localhost", socket.gethostname().lower()) or name.endswith(_LOCAL_NAMES):
        return False
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return True
    return not (address.is_loopback or address.is_private or address.is_unspecified)
