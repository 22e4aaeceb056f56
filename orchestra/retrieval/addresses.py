"""Which addresses may be read when a page, a model or a search result named them: public ones, and no others.

A URL is taken apart once, here, and the connection goes to the very address that was judged: what another parser
would make of the same text, or what the same name means a moment later, does not matter. Anything that two parsers
could read in two ways is refused. Addresses that the operator named (the daemon, a SearXNG, a proxy) do not come here.
"""

from __future__ import annotations

import re
import socket
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import quote, urljoin, urlsplit

import httpx

from orchestra.errors import BlockedAddress, PageFault, SchemeRefused

Resolver = Callable[[str, int], Sequence[str]]

PORTS = {80, 443, 8000, 8008, 8080, 8081, 8443, 8888}
LONGEST = 2048  # characters of a URL

# The registries of special-purpose addresses (https://www.iana.org/assignments/iana-ipv4-special-registry and -ipv6-),
# multicast, and what clouds use inside; Python's own `is_global` differs from version to version.
_BLOCKED4 = [
    IPv4Network(block)
    for block in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
        "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24",
        "203.0.113.0/24", "224.0.0.0/3",
        "168.63.129.16/32",  # Azure's metadata stand on a public-looking address
    )
]  # fmt: skip
_GLOBAL6 = IPv6Network("2000::/3")
_BLOCKED6 = [
    IPv6Network(block)
    for block in (
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32", "3fff::/20",  # documentation
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",
    )
]  # fmt: skip
_NAT64 = IPv6Network("64:ff9b::/96")
_ISATAP = (0x00005EFE, 0x02005EFE)

# Names that mean something on this side of the network only (RFC 6761, 6762, 7686, 8375, 9476, and by habit).
_INNER = (
    "localhost localdomain local internal intranet private corp home lan home.arpa test example invalid onion alt i2p "
    "ip6-localhost ip6-loopback in-addr.arpa ip6.arpa"
).split()

_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\\\u2028\u2029]")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+")
_NAME = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A URL that may be asked for, taken apart; `host` is a name in ASCII or an IP address, `target` path and query."""

    url: str
    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"


def address(url: str) -> Address:
    """`url` taken apart. Raises `SchemeRefused`, `BlockedAddress`, or `PageFault` where it is no address of a public page."""
    url = url.strip(" ")
    scheme = _SCHEME.match(url)
    if not scheme or scheme[1].lower() not in ("http", "https"):
        raise SchemeRefused(url=url)
    if len(url) > LONGEST:
        raise _refused(url, "the address is too long", "地址过长")
    if _UNSAFE.search(url) or not url[scheme.end() :].startswith("//"):
        raise _refused(url, "the address is malformed", "地址格式有误")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _refused(url, "the address is malformed", "地址格式有误") from None
    if "@" in parts.netloc:
        raise _refused(url, "the address carries a user name or a password", "地址中含有用户名或密码")
    host = _host(url, parts.hostname or "", literal=parts.netloc.startswith("["))
    port = (443 if parts.scheme == "https" else 80) if port is None else port
    if port not in PORTS:
        raise _refused(url, f"no page is read from port {port}", f"不从端口 {port} 读取网页")
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    target += "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~-._?[]") if parts.query else ""
    return Address(url=url, scheme=parts.scheme, host=host, port=port, target=target)


def onward(here: Address, location: str) -> Address:
    """Where a redirect leads; judged like any other address."""
    where = location.encode("latin-1", "replace").decode("utf-8", "replace").strip(" \t")
    if _UNSAFE.search(where):
        raise _refused(here.url, "it redirects to a malformed address", "重定向的地址格式有误")
    try:
        return address(urljoin(here.url, where))
    except ValueError:
        raise _refused(here.url, "it redirects to a malformed address", "重定向的地址格式有误") from None


def public(ip: str) -> bool:
    """Whether this IP address belongs to the public network, also where it wraps up another one."""
    try:
        address = ip_address(ip)
    except ValueError:
        return False
    return _public4(address) if isinstance(address, IPv4Address) else _public6(address)


def resolved(place: Address, resolve: Resolver | None = None) -> tuple[str, ...]:
    """The public IP addresses of the host. Raises `BlockedAddress` where one of them is not public, `PageFault` where there is none."""
    found = tuple(dict.fromkeys((resolve or _addresses)(place.host, place.port)))
    if not found:
        raise _refused(place.url, f"the name {place.host} is not known", f"域名 {place.host} 无法解析")
    for ip in found:
        if not public(ip):
            raise BlockedAddress(url=place.url, address=ip)
    return found


def _addresses(host: str, port: int) -> list[str]:
    try:
        return [str(row[4][0]) for row in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        return []


def _host(url: str, host: str, *, literal: bool) -> str:
    """The host in the one form in which it is looked up; numbers in every spelling become the IP address they mean."""
    if literal:
        if not public(host):
            raise BlockedAddress(url=url, address=host)
        return str(ip_address(host))
    name = _ascii(host)
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        numeric = _dotted(labels)
        if numeric is None:
            raise _refused(url, "the address is malformed", "地址格式有误")
        if not _public4(numeric):
            raise BlockedAddress(url=url, address=str(numeric))
        return str(numeric)
    if any(name == inner or name.endswith("." + inner) for inner in _INNER) or (name and "." not in name):
        raise BlockedAddress(url=url, address=name)
    if not _NAME.fullmatch(name):
        raise _refused(url, "the address has no valid name", "地址中没有有效的域名")
    return name


def _ascii(host: str) -> str:
    # full-width digits and the ideographic full stops are digits and dots to a resolver
    name = re.sub("[\u3002\uff0e\uff61]", ".", unicodedata.normalize("NFKC", host)).lower().removesuffix(".")
    if name.isascii():
        return name
    try:
        return httpx.URL(scheme="http", host=name).raw_host.decode("ascii").lower()
    except (httpx.InvalidURL, UnicodeError):
        return ""


def _dotted(labels: Sequence[str]) -> IPv4Address | None:
    """The IPv4 address that `inet_aton` and browsers read in these parts: decimal, octal or hexadecimal, four or fewer."""
    if len(labels) > 4 or not all(len(label) < 64 and _NUMBER.fullmatch(label) for label in labels):
        return None
    try:
        numbers = [_number(label) for label in labels]
    except ValueError:
        return None
    *first, last = numbers
    if any(number > 255 for number in first) or last >= 256 ** (5 - len(labels)):
        return None
    return IPv4Address(sum(number << 8 * (3 - place) for place, number in enumerate(first)) + last)


def _number(label: str) -> int:
    if label[:2].lower() == "0x":
        return int(label[2:] or "0", 16)
    return int(label, 8 if label.startswith("0") and len(label) > 1 else 10)


def _public4(ip: IPv4Address) -> bool:
    return not any(ip in block for block in _BLOCKED4)


def _public6(ip: IPv6Address) -> bool:
    inner = IPv4Address(int(ip) & 0xFFFFFFFF)
    if ip.scope_id:
        return False
    if ip.ipv4_mapped or ip in _NAT64:
        return _public4(inner)
    if ip not in _GLOBAL6 or any(ip in block for block in _BLOCKED6):
        return False
    return int(ip) >> 32 & 0xFFFFFFFF not in _ISATAP or _public4(inner)


def _refused(url: str, detail: str, detail_zh: str) -> PageFault:
    return PageFault(url=url, detail=detail, detail_zh=detail_zh)
