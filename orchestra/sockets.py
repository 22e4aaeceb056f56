"""Connections of an event loop, and requests over them by the HTTP library's lower half.

Its upper half - cookies, redirects, sessions, none of which is wanted here - takes as long for a request as this one. By
itself the library watches over each read with a scope and a timer of its own and has the socket watched anew for it: of all that
happens to a token on its way that is a quarter. Here a read that waits costs one future, and one timer serves them all.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

import httpcore
import httpx

from orchestra.request import Request

# ruff: noqa: ASYNC109 - the library's own signatures

HELD = 2**16  # bytes that wait to be read, above which the peer has to wait
_ATTEMPTS = 0.25  # seconds after which the next address of a name is tried beside the first (RFC 8305)


class Connections:
    """HTTP over connections that are used once, and ended with their answer."""

    def __init__(self, *, secure: bool) -> None:
        self._trusted = httpx.create_ssl_context(trust_env=False) if secure else None
        self._open: set[httpcore.AsyncHTTP11Connection] = set()

    async def answer(
        self, request: Request, headers: Mapping[str, str], patience: Mapping[str, float | None], seen: Callable[[Socket], None]
    ) -> Answer:
        """The answer's head; its body is read as it comes. Raises `httpx.TransportError`.

        The `patience`, by the library's names, may change until the last byte; `seen` is told of the connection.
        """
        target, host = _target(request.url)
        own = {name.lower(): value for name, value in (request.headers or {}).items()}
        sent = {"host": host, **headers, **own}
        if request.body or request.method != "GET":
            sent["content-length"] = str(len(request.body or b""))
        origin, body, extensions = target.origin, request.body, {"timeout": patience}
        asking = httpcore.Request(request.method, target, headers=list(sent.items()), content=body, extensions=extensions)
        with _as_httpx():
            stream = await connected(origin.host.decode("ascii"), origin.port, patience["connect"], self._trusted)
            connection = httpcore.AsyncHTTP11Connection(origin, stream)
            self._open.add(connection)
            try:
                seen(stream)
                return Answer(await connection.handle_async_request(asking), partial(self._ended, connection))
            except BaseException:
                await self._ended(connection)
                raise

    async def _ended(self, connection: httpcore.AsyncHTTP11Connection) -> None:
        self._open.discard(connection)
        await connection.aclose()

    async def aclose(self) -> None:
        """Closes what is still open."""
        for connection in list(self._open):
            await self._ended(connection)


@lru_cache(maxsize=64)
def _target(url: str) -> tuple[httpcore.URL, str]:
    """Where a request goes, and the host that it names there. The library's own reading of it takes longer than the way."""
    read = httpx.URL(url)
    return httpcore.URL(scheme=read.raw_scheme, host=read.raw_host, port=read.port, target=read.raw_path), read.netloc.decode("ascii")


class Answer:
    """An answer whose head has come; `end` ends its connection."""

    def __init__(self, answer: httpcore.Response, end: Callable[[], Awaitable[None]]) -> None:
        self.status, self.headers = answer.status, httpx.Headers(answer.headers)
        self._answer, self._end = answer, end

    async def parts(self) -> AsyncIterator[bytes]:
        """Its body as it comes. Raises `httpx.TransportError`."""
        with _as_httpx():
            async for part in self._answer.aiter_stream():
                yield part

    async def aclose(self) -> None:
        """Ends it, wherever it is."""
        await self._end()


@contextmanager
def _as_httpx() -> Iterator[None]:
    """What goes wrong bears the same names one floor up."""
    try:
        yield
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol) as error:
        raise getattr(httpx, type(error).__name__)(str(error)) from error


async def connected(host: str, port: int, timeout: float | None = None, trusted: ssl.SSLContext | None = None) -> Socket:
    """A connection, a secure one where somebody is `trusted`. Raises `httpcore.ConnectTimeout` and `httpcore.ConnectError`."""
    attempts = None if ":" in host or host[:1].isdecimal() else _ATTEMPTS  # an address is the only one
    try:
        async with asyncio.timeout(timeout):
            making = asyncio.get_running_loop().create_connection(Socket, host, port, ssl=trusted, happy_eyeballs_delay=attempts)
            return (await making)[1]
    except TimeoutError as error:
        raise httpcore.ConnectTimeout(str(error)) from error
    except ConnectionRefusedError as error:
        raise httpcore.ConnectError("connection refused") from error
    except OSError as error:
        raise httpcore.ConnectError(str(error)) from error


class Socket(asyncio.Protocol, httpcore.AsyncNetworkStream):
    """One connection. It is read by one task at a time, as HTTP is."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._received = b""
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._due = 0.0  # when the reader's patience ends
        self._timer: asyncio.TimerHandle | None = None
        self._held = self._at_end = self._closed = False
        self._error: Exception | None = None

    # --- told by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps what is written to."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Keeps it for the reader; a peer that is faster has to wait."""
        self._received += data
        _woken(self._reader)
        if len(self._received) > HELD and not self._held:
            self._held = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """The peer has said all; what is still to be said to it may be said."""
        self._at_end = True
        _woken(self._reader)
        return self._transport.get_extra_info("sslcontext") is None  # a secure connection ends as a whole

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more will come or go."""
        self._at_end = self._closed = True
        self._error = exc
        _woken(self._reader)
        self.resume_writing()

    def pause_writing(self) -> None:
        """The peer is behind."""
        self._writer = self._loop.create_future()

    def resume_writing(self) -> None:
        """It has caught up."""
        _woken(self._writer)
        self._writer = None

    # --- asked by the HTTP library

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """What has come, as soon as anything has; nothing at the end. Raises `httpcore.ReadTimeout` and `httpcore.ReadError`."""
        if not self._received and not self._at_end:
            self._reader = self._loop.create_future()
            self._limited(timeout)
            try:
                await self._reader
            finally:
                self._reader = None
        data, self._received = self._received[:max_bytes], self._received[max_bytes:]
        if self._held and len(self._received) <= HELD and not self._closed:
            self._held = False
            self._transport.resume_reading()
        if self._error is not None and not data:
            raise httpcore.ReadError(str(self._error)) from self._error
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Sends it. Raises `httpcore.WriteTimeout` where the peer does not take it, and `httpcore.WriteError`."""
        if not self._closed:
            self._transport.write(buffer)
            if self._writer is not None:
                try:
                    async with asyncio.timeout(timeout):
                        await self._writer
                except TimeoutError as error:
                    raise httpcore.WriteTimeout(str(error)) from error
        if self._closed:
            raise httpcore.WriteError(str(self._error or "the connection is closed"))

    async def aclose(self) -> None:
        """Leaves at once: what has not been sent by now is not wanted any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._transport.abort()
        await asyncio.sleep(0)  # then its descriptor is free

    def get_extra_info(self, info: str) -> Any:
        """What the loop knows of the connection: its `socket`."""
        return self._transport.get_extra_info(info)

    def _limited(self, timeout: float | None) -> None:
        """The reader waits no longer than that. The timer of an earlier read looks again when it is due."""
        if timeout is None:
            self._due = math.inf
            return
        self._due = self._loop.time() + timeout
        if self._timer is not None and self._timer.when() > self._due:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_at(self._due, self._late)

    def _late(self) -> None:
        self._timer = None
        if self._reader is None or self._reader.done() or self._due == math.inf:
            return
        if self._loop.time() < self._due:
            self._timer = self._loop.call_at(self._due, self._late)
        else:
            self._reader.set_exception(httpcore.ReadTimeout())


def _woken(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
