"""One web page, fetched with care: every hop judged, the judged address connected to, nothing told about the reader.

`http.client` is given a socket that stands already, so that no library looks a name up again: a name that is public
when it is judged and private a moment later (rebinding) gains nothing. Bodies are read up to a limit, in bytes and in time,
and unpacked up to another; what is over is cut, and the page says so. No cookie, no authorization, no referrer is sent.

The environment's proxies are used, but they are not asked to look names up, since what they would find cannot be judged
here: a proxy gets CONNECT with the IP address that was judged, also for plain http. A name that has no public address on this
machine is therefore not read through a proxy either, and a proxy that is not HTTP (SOCKS) is an error, not gone around.
"""

from __future__ import annotations

import base64
import socket
import ssl
import time
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import NoReturn
from urllib.parse import SplitResult, unquote, urlsplit

import httpx

from orchestra.errors import PageFault
from orchestra.request import Breakage, Call, Watchdog
from orchestra.retrieval.addresses import Address, Resolver, address, onward, resolved
from orchestra.retrieval.kinds import Kind, kind_of

REDIRECTS = 5
WIRE_LIMIT = 2 * 2**20
"""Bytes of a body that are received."""
LIMIT = 5 * 2**20
"""Bytes of a body when it is unpacked."""
CHUNK = 65536
CONNECT = 5.0
"""Seconds for one of a host's addresses to answer."""
ADDRESSES = 4
_MOVED = {301, 302, 303, 307, 308}
_HEADERS = {
    "User-Agent": "Mozilla/5.0 (compatible; orchestra)",
    "Accept": "text/html,application/xhtml+xml,text/markdown;q=0.9,text/plain;q=0.8",
    "Accept-Encoding": "identity, gzip",
    "Connection": "close",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A page as it came: `declared` is the encoding that its head names, `truncated` says that a limit cut it."""

    url: str
    final_url: str
    body: bytes
    kind: Kind
    declared: str
    truncated: bool


class Fetcher:
    """Fetches pages, in the caller's thread; `resolve` and `context` take the place of the system's names and certificates."""

    def __init__(self, *, resolve: Resolver | None = None, context: ssl.SSLContext | None = None) -> None:
        self._resolve = resolve
        self._context = context
        self._watchdog = Watchdog()

    def fetch(self, url: str, *, deadline: float) -> Fetched:
        """The page at `url`, until the moment `deadline` of `time.monotonic()`. Raises `PageFault` and its kinds."""
        place = address(url)
        for _ in range(REDIRECTS + 1):
            with self._asked(place, deadline) as response:
                location = response.getheader("Location") if response.status in _MOVED else None
                if location is None:
                    return _fetched(url, place, response, deadline)
            place = onward(place, location)
        raise PageFault(url=url, detail=f"it redirects more than {REDIRECTS} times", detail_zh=f"重定向超过 {REDIRECTS} 次")

    def close(self) -> None:
        """Ends what is on its way."""
        self._watchdog.close()

    @contextmanager
    def _asked(self, place: Address, deadline: float) -> Iterator[HTTPResponse]:
        """The head of the answer, its body to come; whatever breaks in the block is a `PageFault` of this place."""
        call = Call()
        with self._watchdog.over(call, deadline):
            try:
                with closing(self._connected(place, call, deadline)) as sock, closing(HTTPConnection(place.host, place.port)) as connection:
                    connection.sock = sock
                    connection.putrequest("GET", place.target, skip_host=True, skip_accept_encoding=True)
                    for name, value in {"Host": place.authority, **_HEADERS}.items():
                        connection.putheader(name, value)
                    connection.endheaders()
                    with closing(connection.getresponse()) as response:
                        yield response
            except (OSError, HTTPException, ValueError) as error:
                _broken(place, call, error)

    def _connected(self, place: Address, call: Call, deadline: float) -> socket.socket:
        """A connection to one of the addresses that the host has now, all of them public."""
        trouble: OSError = TimeoutError()
        proxy = _proxy(place)
        for ip in resolved(place, self._resolve)[:ADDRESSES]:
            patience = min(CONNECT, deadline - time.monotonic())
            if patience <= 0 or call.ended:
                break
            try:
                sock = _through(proxy, ip, place.port, patience) if proxy else _direct(ip, place.port, patience)
            except OSError as error:
                trouble = error
                continue
            _watched(call, sock)
            sock.settimeout(max(0.001, deadline - time.monotonic()))
            return self._secured(sock, place.host, call) if place.scheme == "https" else sock
        raise trouble

    def _secured(self, sock: socket.socket, host: str, call: Call) -> ssl.SSLSocket:
        if self._context is None:
            self._context = httpx.create_ssl_context()
        with sock:  # what is left of it once the other one has taken it over
            secured = self._context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
        with _open(secured):
            _watched(call, secured)
            secured.do_handshake()
        return secured


def _direct(ip: str, port: int, patience: float) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM)
    with _open(sock):
        sock.settimeout(patience)
        sock.connect((ip, port))
    return sock


def _proxy(place: Address) -> SplitResult | None:
    """The environment's proxy for this place, where it has one."""
    found = urllib.request.getproxies()
    named = found.get(place.scheme) or found.get("all")
    if not named or urllib.request.proxy_bypass(place.host):
        return None
    proxy = urlsplit(named if "://" in named else f"http://{named}")
    if proxy.scheme != "http" or not proxy.hostname:
        kind = proxy.scheme or "?"
        raise PageFault(url=place.url, detail=f"pages are not read through a {kind} proxy", detail_zh=f"不支持通过 {kind} 代理读取网页")
    return proxy


def _through(proxy: SplitResult, ip: str, port: int, patience: float) -> socket.socket:
    """A tunnel to the IP address that was judged; the proxy has no name to look up."""
    where = f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
    lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}"]
    if proxy.username is not None:
        secret = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(secret.encode()).decode()}")
    sock = socket.create_connection((proxy.hostname, proxy.port or 80), patience)
    with _open(sock):
        sock.sendall("\r\n".join([*lines, "", ""]).encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = sock.recv(1)  # one by one: what follows belongs to the page's own connection
            if not byte or len(head) > 8192:
                raise ConnectionError("the proxy ended the connection")
            head += byte
        if head.split(b" ", 2)[1:2] != [b"200"]:
            raise ConnectionError(f"the proxy refused: {head.splitlines()[0][:80].decode('latin-1')}")
    return sock


@contextmanager
def _open(sock: socket.socket) -> Iterator[None]:
    """Leaves the socket open, unless something goes wrong."""
    try:
        yield
    except BaseException:
        sock.close()
        raise


def _watched(call: Call, sock: socket.socket) -> None:
    call.socket = sock
    if call.ended:  # it was ended before there was a socket to end
        call.end(call.ended)


def _fetched(url: str, place: Address, response: HTTPResponse, deadline: float) -> Fetched:
    if response.status not in (200, 203):
        raise PageFault(url=url, detail=f"HTTP {response.status}")
    packed = (response.getheader("Content-Encoding") or "identity").strip().lower()
    framing = (response.getheader("Transfer-Encoding") or "chunked").strip().lower()
    if packed not in ("identity", "gzip", "x-gzip") or framing != "chunked":
        how = (packed if framing == "chunked" else framing)[:40]
        raise PageFault(url=url, detail=f"it is packed in a way that was not asked for ({how})", detail_zh=f"使用了未请求的压缩方式（{how}）")
    body, truncated = _body(response, packed != "identity", deadline)
    declared = response.headers.get_content_charset("")
    kind = kind_of(url, response.getheader("Content-Type") or "", body)
    return Fetched(url=url, final_url=place.url, body=body, kind=kind, declared=declared, truncated=truncated)


def _body(response: HTTPResponse, packed: bool, deadline: float) -> tuple[bytes, bool]:
    """The body within the limits, and whether they cut it; what broke after its beginning is cut there."""
    body, received, inflate = bytearray(), 0, zlib.decompressobj(31)
    try:
        while chunk := response.read1(CHUNK):
            received += len(chunk)
            while packed and chunk:
                body += inflate.decompress(chunk, LIMIT - len(body) + 1)
                over = len(body) > LIMIT
                chunk = inflate.unused_data if inflate.eof and not over else b""
                inflate = zlib.decompressobj(31) if chunk else inflate  # one more member of the same file
            body += chunk
            if len(body) > LIMIT or received > WIRE_LIMIT or time.monotonic() > deadline:
                return bytes(body[: LIMIT if packed else min(LIMIT, WIRE_LIMIT)]), True
    except (OSError, HTTPException, zlib.error):
        if not body:
            raise
        return bytes(body), True
    late = time.monotonic() > deadline  # ended from outside, which looks like an end
    if late and not body:
        raise TimeoutError
    return bytes(body), late or bool(response.length) or (packed and not inflate.eof)


def _broken(place: Address, call: Call, error: Exception) -> NoReturn:
    detail, detail_zh = str(error) or type(error).__name__, ""
    if call.ended is Breakage.DEADLINE or isinstance(error, TimeoutError):
        detail, detail_zh = "it does not answer in time", "未能及时应答"
    elif isinstance(error, ssl.SSLCertVerificationError):
        detail, detail_zh = f"its certificate is not valid ({error.verify_message})", f"证书无效（{error.verify_message}）"
    elif isinstance(error, HTTPException):
        detail, detail_zh = f"its answer is no HTTP ({detail})", f"应答不是有效的 HTTP（{detail}）"
    raise PageFault(url=place.url, detail=detail, detail_zh=detail_zh or detail) from error
