"""Tokens of experts at addresses (RFC 6750): each is sent to its own origin - scheme, host and port - and to nobody else.

They stand in a setting and never in an address, which is shown in traces, errors and logs.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from orchestra.errors import ConfigError

Origin = tuple[str, str, int]
_ENTRY = re.compile(r"((?:https?://)?[^=/\s@]{1,300})/?=([!-~]{1,4096})", re.IGNORECASE)
_PORTS = {"http": 80, "https": 443}


def origin(url: str) -> Origin:
    """What a token belongs to. Raises `ValueError` for what is no address."""
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError("no host")
    return parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme]


def tokens(setting: str, variable: str = "ORCHESTRA_EXPERT_TOKENS") -> dict[Origin, str]:
    """The tokens of such a setting: `http://localhost:5001=TOKEN` or `localhost:5001=TOKEN`, blanks between them.

    Raises `ConfigError`, which repeats nothing of it.
    """
    found: dict[Origin, str] = {}
    for place, entry in enumerate(setting.split(), 1):
        read = _ENTRY.fullmatch(entry)
        try:
            if read is None:
                raise ValueError("no entry")
            found[origin(read[1] if "://" in read[1] else f"http://{read[1]}")] = read[2]
        except ValueError:
            raise ConfigError(
                name=variable, value="***", detail=f"entry {place} is no ADDRESS=TOKEN",
                detail_zh=f"第 {place} 项不是 地址=令牌", example=f"{variable}=http://localhost:5001=TOKEN",
            ) from None  # fmt: skip
    return found
