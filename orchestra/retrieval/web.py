"""One exchange with a search service: bounded in bytes and time, and every way in which it can fail is one of our errors.

What a service writes is read, never repeated: an error of ours has no word of its answer and no part of the address, since
either may hold the key. Search goes through the environment's proxies, as the daemon's client does not.
"""

from __future__ import annotations

import json
import ssl
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, NoReturn
from urllib.parse import urljoin, urlsplit

import httpx

from orchestra.errors import BadResponse, KeyRefused, RateLimited, SearchFault, SearchUnreachable

LARGEST = 2 * 2**20  # bytes of an answer, unpacked
COOL_DOWN = 900.0  # seconds for which a service that did not say how long is left alone
LONGEST_WAIT = 86400.0
HOPS = 2
USER_AGENT = "orchestra-ollama/0.1 (question answering on one person's machine) python-httpx"
_LOOPBACK = ("localhost", "127.", "::1")
_PACKED = zlib.MAX_WBITS | 32  # gzip or zlib, told by its head


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What is asked of the service `provider`; `variable` names the setting that has its key, `headers` hold it."""

    provider: str
    url: str
    params: Mapping[str, str | int] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    variable: str = ""
    seconds: float = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """An answer with the status 200."""

    content: bytes
    charset: str = ""


def fetched(asked: Exchange) -> Fetched:
    """The answer of a service, at most 2 MB of it.

    Raises `SearchUnreachable`, `RateLimited`, `KeyRefused`, `BadResponse` or, for what is left, `SearchFault`.
    """
    if not all(value.isascii() and value.isprintable() for value in asked.headers.values()):
        # said here: what the library says of it holds the key
        what = said("it has characters that no key has", "包含密钥不应有的字符")
        raise KeyRefused(provider=asked.provider, variable=asked.variable, **what)
    ends = time.monotonic() + asked.seconds
    url = asked.url
    with _client(asked) as client:
        for _ in range(HOPS + 1):
            with _answered(asked), client.stream(**_request(asked, url)) as response:
                if not response.has_redirect_location:
                    refuse(asked, response.status_code, response.headers.get("retry-after", ""))
                    content = b"".join(_unpacked(asked, response, ends))
                    return Fetched(content=content, charset=response.charset_encoding or "")
                url = _onward(asked, url, response.headers["location"])
    raise BadResponse(provider=asked.provider, **said("it redirects again and again", "不断重定向"))


def fetched_json(asked: Exchange) -> dict[str, Any]:
    """The JSON object that a service answers with. Raises what `fetched` raises."""
    answer = fetched(asked)
    try:
        value = json.loads(_text(answer))
    except (ValueError, RecursionError):
        page = answer.content.lstrip()[:1] == b"<"
        what = said("a page, not JSON", "是网页而不是 JSON") if page else said("no JSON", "不是 JSON")
        raise BadResponse(provider=asked.provider, **what) from None
    if not isinstance(value, dict):
        raise BadResponse(provider=asked.provider, **OTHER_SHAPE)
    return value


def refuse(asked: Exchange, status: int, retry_after: str = "") -> None:
    """Raises the error that a status means; 200 means none."""
    detail = f"HTTP {status}"
    if status == 200:
        return
    if status == 429 or (status == 503 and retry_after):
        limited(asked.provider, said(detail), _seconds(retry_after))
    if status in (401, 403):
        if asked.variable:
            raise KeyRefused(provider=asked.provider, variable=asked.variable, **said(detail))
        limited(asked.provider, said(f"{detail}: it serves no programs from here", f"{detail}：拒绝来自此处的程序"))
    if status in (402, 432, 433):
        limited(asked.provider, said(f"{detail}: the plan is used up", f"{detail}：套餐额度已用完"))
    raise SearchFault(provider=asked.provider, **said(detail))


def limited(provider: str, detail: Mapping[str, str], retry_after: float | None = None) -> NoReturn:
    """Raises `RateLimited`; without `retry_after`, in seconds, its hint names the time that we choose ourselves."""
    seconds = COOL_DOWN if retry_after is None else retry_after
    raise RateLimited(provider=provider, retry_after=retry_after, seconds=round(seconds), **detail)


def said(english: str, chinese: str = "") -> dict[str, str]:
    """What happened, as the facts of an error; one text for both languages where there is only one."""
    return {"detail": english, "detail_zh": chinese or english}


OTHER_SHAPE = said("JSON of another shape", "JSON 结构不符")


def _request(asked: Exchange, url: str) -> dict[str, Any]:
    method = "GET" if asked.body is None else "POST"
    params = dict(asked.params) if url == asked.url and asked.params else None
    return {"method": method, "url": url, "params": params, "json": asked.body, "headers": dict(asked.headers)}


def _client(asked: Exchange) -> httpx.Client:
    # a SearXNG on this machine is not on the proxy's side
    near = (urlsplit(asked.url).hostname or "").startswith(_LOOPBACK)
    # unpacked here, and in no other form: the library unpacks a chunk whole, however large it becomes
    headers = {"user-agent": USER_AGENT, "accept-encoding": "gzip"}
    try:
        return httpx.Client(verify=_trust(), trust_env=not near, timeout=asked.seconds, headers=headers, follow_redirects=False)
    except (ValueError, ImportError, httpx.InvalidURL):
        # the value may hold a password
        what = said("the environment names a proxy that cannot be used", "环境变量中的代理无法使用")
        raise SearchUnreachable(provider=asked.provider, **what) from None


@cache
def _trust() -> ssl.SSLContext:
    """Whom to believe who they are; read once, which takes as long as a quick search."""
    return httpx.create_ssl_context()


@contextmanager
def _answered(asked: Exchange) -> Iterator[None]:
    """What the HTTP library raises, in our words: its own may hold the address, and its errors hold the request."""
    try:
        yield
    except httpx.ConnectTimeout:
        what = said("no connection in time", "连接超时")
    except httpx.TimeoutException:
        what = _late(asked)
    except httpx.ProxyError:
        what = said("the proxy of the environment does not let it through", "环境变量中的代理未放行")
    except httpx.ConnectError:
        what = said("no connection", "无法连接")
    except (httpx.HTTPError, httpx.InvalidURL):
        what = said("the connection broke", "连接中断")
    else:
        return
    raise SearchUnreachable(provider=asked.provider, **what) from None


def _late(asked: Exchange) -> dict[str, str]:
    return said(f"nothing whole within {asked.seconds:.3g} s", f"{asked.seconds:.3g} 秒内未收到完整应答")


def _unpacked(asked: Exchange, response: httpx.Response, ends: float) -> Iterator[bytes]:
    """The body, piece by piece, until it is too large or takes too long."""
    packing = response.headers.get("content-encoding", "identity").lower()
    if packing not in ("identity", "gzip", "x-gzip", "deflate", ""):
        raise BadResponse(provider=asked.provider, **said("packed in a way that was not asked for", "使用了未请求的压缩方式"))
    unpacking = None if packing in ("identity", "") else zlib.decompressobj(_PACKED)
    left = LARGEST
    for chunk in response.iter_raw():
        try:
            piece = chunk if unpacking is None else unpacking.decompress(chunk, left + 1)
        except zlib.error:
            raise BadResponse(provider=asked.provider, **said("it cannot be unpacked", "无法解压")) from None
        left -= len(piece)
        if left < 0:
            raise BadResponse(provider=asked.provider, **said(f"more than {LARGEST // 2**20} MB", f"超过 {LARGEST // 2**20} MB"))
        if time.monotonic() > ends:
            raise SearchUnreachable(provider=asked.provider, **_late(asked))
        yield piece


def _onward(asked: Exchange, url: str, location: str) -> str:
    """The next address: the same host, on whose way nobody else gets the question or the key."""
    there = urljoin(url, location)
    old, new = urlsplit(url), urlsplit(there)
    if new.hostname != old.hostname or new.scheme not in ("https", old.scheme):
        raise BadResponse(provider=asked.provider, **said("it redirects elsewhere", "重定向到其他地址"))
    return there


def _text(answer: Fetched) -> str:
    """JSON is UTF-8, whatever its header says; what is not is read as the header says, then as Chinese pages lie."""
    for charset in ("utf-8-sig", answer.charset, "gb18030"):
        try:
            return answer.content.decode(charset)
        except (LookupError, UnicodeDecodeError, ValueError):
            continue
    return answer.content.decode("utf-8", "replace")


def _seconds(retry_after: str) -> float | None:
    """`Retry-After` in seconds, given as such or as a date (RFC 9110, 10.2.3); at most a day."""
    try:
        wait = float(retry_after) if retry_after.isdigit() else parsedate_to_datetime(retry_after).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(0.0, wait), LONGEST_WAIT)
