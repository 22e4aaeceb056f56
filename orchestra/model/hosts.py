"""Where the daemon is: `OLLAMA_HOST` in every form that Ollama's own command line accepts."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import quote

from orchestra.errors import ConfigError

DEFAULT_PORT = 11434
_PORTS = {"http": 80, "https": 443}
# What a server binds to in order to be reachable from anywhere is no address to call.
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


def daemon_url(host: str) -> str:
    """The base URL for a value of `OLLAMA_HOST`; `ConfigError` where it names none.

    A host without a scheme gets port 11434, `http://` 80, `https://` 443; quotes and spaces around are
    dropped; a path is kept as prefix; 0.0.0.0 and [::] become loopback.
    """
    text = host.strip().strip("\"'").strip()
    scheme, mark, rest = text.partition("://")
    if not mark:
        scheme, rest = ("https" if text.partition("/")[0] == "ollama.com" else "http"), text
    scheme = scheme.lower()
    if scheme not in _PORTS:
        raise _refused(host, f"{scheme!r} is not http or https", f"{scheme!r} 不是 http 或 https")
    fallback = _PORTS[scheme] if mark or scheme == "https" else DEFAULT_PORT
    place, _, path = rest.partition("/")
    if "@" in place:
        raise _refused(host, "credentials in an address are not sent", "地址中的用户名和密码不会被发送")
    name, port = _split(host, place, fallback)
    name = _ANYWHERE.get(name, name)
    shown = f"[{name}]" if ":" in name else name
    prefix = "/" + quote(path.strip("/"), safe="/%:") if path.strip("/") else ""
    return f"{scheme}://{shown}:{port}{prefix}"


def _split(host: str, place: str, fallback: int) -> tuple[str, int]:
    bare = place.strip("[]")
    if bare.count(":") > 1 and not place.startswith("["):
        return _address(host, bare), fallback
    if place.startswith("["):
        inner, _, after = place[1:].partition("]")
        if after and not after.startswith(":"):
            raise _refused(host, f"{after!r} is no port", f"{after!r} 不是端口号")
        return _address(host, inner), _port(host, after[1:], fallback)
    name, colon, port = place.partition(":")
    labels = name.removesuffix(".").split(".") if name else []
    if any(c.isspace() or c in "\\?#%<>\"'" for c in name) or not all(0 < len(label) < 64 for label in labels):
        raise _refused(host, f"{name!r} is no host name", f"{name!r} 不是主机名")
    return name, _port(host, port, fallback) if colon else fallback


def _address(host: str, text: str) -> str:
    try:
        return str(ip_address(text.partition("%")[0]))
    except ValueError:
        raise _refused(host, f"{text!r} is no address", f"{text!r} 不是地址") from None


def _port(host: str, text: str, fallback: int) -> int:
    if not text:
        return fallback
    if not (text.isascii() and text.isdigit() and int(text[:6]) in range(1, 65536)):
        raise _refused(host, f"{text!r} is no port", f"{text!r} 不是端口号")
    return int(text)


def _refused(host: str, detail: str, detail_zh: str) -> ConfigError:
    return ConfigError(
        name="OLLAMA_HOST", value=host, detail=detail, detail_zh=detail_zh, example="http://127.0.0.1:11434"
    )
