"""The only place that waits: one async source, two runtimes.

Everything above is written once, as coroutines, and waits only through a `Runtime`. `Looped` really waits, on
the event loop of a server or of the command line. `Blocking` has the same async signatures over blocking
calls, so that its coroutines finish at their first step; `finish` completes them without any loop, in the
caller's own thread: scripts and notebooks need no loop, and tracebacks, `pdb` and Ctrl-C behave.

What cannot be interrupted by the code that waits for it - a read of a socket - is ended from outside: each
request knows its socket, and a deadline, Ctrl-C or `close` shuts that socket down.
"""

from __future__ import annotations

import asyncio
import functools
import heapq
import socket
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

import httpx

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Breakage(Enum):
    """How a request ended that did not end well."""

    CONNECT = "connect"
    DISCONNECTED = "disconnected"
    PROTOCOL = "protocol"
    TIMEOUT = "timeout"
    DEADLINE = "deadline"
    CLOSED = "closed"


class Broken(Exception):
    """A request that did not come to its end; the caller says what that means."""

    def __init__(self, how: Breakage, detail: str) -> None:
        super().__init__(detail)
        self.how = how


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request with its patience in seconds; `deadline` is a moment of `time.monotonic()`."""

    method: str
    url: str
    body: bytes | None = None
    connect: float = 5.0
    first: float = 60.0
    between: float = 60.0
    deadline: float | None = None


class Answer(Protocol):
    """An HTTP answer whose head has come; its body is read as it comes."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    def chunks(self) -> AsyncGenerator[bytes]: ...


class Runtime(Protocol):
    """The powers that need a world outside."""

    def send(self, request: Request) -> AbstractAsyncContextManager[Answer]: ...
    def slot(self) -> AbstractAsyncContextManager[None]: ...
    async def call(self, fn: Callable[[], T]) -> T: ...
    async def together(self, jobs: Sequence[Callable[[], Coroutine[Any, Any, T]]]) -> list[T]: ...
    async def pause(self, seconds: float) -> None: ...
    async def close(self) -> None: ...


class _Call:
    """A request on its way: it knows its socket, so that somebody else can end it."""

    __slots__ = ("ended", "socket", "thread")

    def __init__(self) -> None:
        self.ended: Breakage | None = None
        self.socket: socket.socket | None = None
        self.thread = threading.get_ident()

    def seen(self, event: str, info: dict[str, Any]) -> None:
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self.socket = info["return_value"].get_extra_info("socket")
            if self.ended:
                self.end(self.ended)

    async def seen_async(self, event: str, info: dict[str, Any]) -> None:
        self.seen(event, info)

    def end(self, why: Breakage) -> None:
        self.ended = self.ended or why
        if self.socket is not None:
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)

    def broken(self, error: Exception) -> Broken:
        """What the HTTP library raised, in our few words."""
        detail = str(error) or type(error).__name__
        if self.ended:
            return Broken(self.ended, detail)
        match error:
            case httpx.ConnectTimeout() | httpx.ConnectError():
                return Broken(Breakage.CONNECT, detail)
            case httpx.TimeoutException():
                return Broken(Breakage.TIMEOUT, detail)
            case httpx.RemoteProtocolError() if "disconnect" not in detail and "closed" not in detail:
                return Broken(Breakage.PROTOCOL, detail)
            case _:
                return Broken(Breakage.DISCONNECTED, detail)


def _extensions(request: Request, trace: Any) -> dict[str, Any]:
    # a dictionary of our own: the patience between chunks replaces that for the first byte once the head has come
    patience = {"connect": request.connect, "read": request.first, "write": request.first, "pool": None}
    return {"timeout": patience, "trace": trace}


# The daemon is asked for plain bytes, and never through the environment's proxies. Connections are not kept:
# on loopback a new one costs 0.1 ms, and only a connection of its own can be shut down for one request.
_HEADERS = {"accept-encoding": "identity", "content-type": "application/json", "user-agent": "orchestra"}
_CLIENT: dict[str, Any] = {
    "trust_env": False,
    "follow_redirects": False,
    "limits": httpx.Limits(max_keepalive_connections=0),
    "headers": _HEADERS,
}


class _LoopedAnswer:
    def __init__(self, response: httpx.Response, call: _Call) -> None:
        self.status, self.headers = response.status_code, response.headers
        self._response, self._call = response, call

    async def chunks(self) -> AsyncGenerator[bytes]:
        try:
            async for chunk in self._response.aiter_raw():
                yield chunk
        except httpx.HTTPError as error:
            raise self._call.broken(error) from error
        if self._call.ended:
            raise Broken(self._call.ended, "ended from outside")


class Looped:
    """For code that has an event loop."""

    def __init__(self, *, parallel: int = 1) -> None:
        self._parallel = max(1, parallel)
        # by loop: neither a client nor a limiter can cross to another one
        self._clients: dict[tuple[int, bool], httpx.AsyncClient] = {}
        self._limits: dict[int, asyncio.Semaphore] = {}

    def _client(self, secure: bool) -> httpx.AsyncClient:
        key = (id(asyncio.get_running_loop()), secure)
        if key not in self._clients:
            self._clients[key] = httpx.AsyncClient(verify=secure, **_CLIENT)
        return self._clients[key]

    @asynccontextmanager
    async def send(self, request: Request) -> AsyncIterator[Answer]:
        client = self._client(request.url.startswith("https:"))
        call = _Call()
        extensions = _extensions(request, call.seen_async)
        sending = client.build_request(request.method, request.url, content=request.body, extensions=extensions)
        timer = None
        if request.deadline is not None:
            loop = asyncio.get_running_loop()
            timer = loop.call_later(max(0.0, request.deadline - time.monotonic()), call.end, Breakage.DEADLINE)
        try:
            try:
                response = await client.send(sending, stream=True)
            except httpx.HTTPError as error:
                raise call.broken(error) from error
            extensions["timeout"]["read"] = request.between
            try:
                yield _LoopedAnswer(response, call)
            finally:
                await response.aclose()
        finally:
            if timer:
                timer.cancel()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        key = id(asyncio.get_running_loop())
        async with self._limits.setdefault(key, asyncio.Semaphore(self._parallel)):
            yield

    async def call(self, fn: Callable[[], T]) -> T:
        return await asyncio.to_thread(fn)

    async def together(self, jobs: Sequence[Callable[[], Coroutine[Any, Any, T]]]) -> list[T]:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(job()) for job in jobs]
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None
        return [task.result() for task in tasks]

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        clients = list(self._clients.values())
        self._clients.clear()
        self._limits.clear()
        for client in clients:
            with suppress(RuntimeError):  # one whose loop is gone has nothing left to close
                await client.aclose()


class _Watchdog:
    """One thread that ends requests at their deadline, and the registry of all that are on their way."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls: set[_Call] = set()
        self._due: list[tuple[float, int, _Call]] = []
        self._thread: threading.Thread | None = None

    @contextmanager
    def over(self, call: _Call, deadline: float | None) -> Iterator[None]:
        with self._changed:
            self._calls.add(call)
            if deadline is not None:
                heapq.heappush(self._due, (deadline, id(call), call))
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="orchestra-watchdog", daemon=True)
                    self._thread.start()
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._calls.discard(call)

    def end(self, why: Breakage, threads: set[int] | None = None) -> None:
        with self._changed:
            for call in self._calls:
                if threads is None or call.thread in threads:
                    call.end(why)

    def _run(self) -> None:
        with self._changed:
            while True:
                while self._due and self._due[0][2] not in self._calls:
                    heapq.heappop(self._due)
                if not self._due:
                    self._changed.wait()
                    continue
                left = self._due[0][0] - time.monotonic()
                if left > 0:
                    self._changed.wait(left)
                else:
                    heapq.heappop(self._due)[2].end(Breakage.DEADLINE)


class _BlockingAnswer:
    def __init__(self, response: httpx.Response, call: _Call) -> None:
        self.status, self.headers = response.status_code, response.headers
        self._response, self._call = response, call

    async def chunks(self) -> AsyncGenerator[bytes]:
        try:
            for chunk in self._response.iter_raw():
                yield chunk
        except httpx.HTTPError as error:
            raise self._call.broken(error) from error
        if self._call.ended:
            raise Broken(self._call.ended, "ended from outside")


class Blocking:
    """For scripts and notebooks: nothing in here ever waits on a loop."""

    def __init__(self, *, parallel: int = 1) -> None:
        self._limit = threading.BoundedSemaphore(max(1, parallel))
        self._clients: dict[bool, httpx.Client] = {}
        self._watchdog = _Watchdog()
        self._lock = threading.Lock()

    def _client(self, secure: bool) -> httpx.Client:
        with self._lock:
            if secure not in self._clients:
                self._clients[secure] = httpx.Client(verify=secure, **_CLIENT)
            return self._clients[secure]

    @asynccontextmanager
    async def send(self, request: Request) -> AsyncIterator[Answer]:
        client = self._client(request.url.startswith("https:"))
        call = _Call()
        extensions = _extensions(request, call.seen)
        sending = client.build_request(request.method, request.url, content=request.body, extensions=extensions)
        with self._watchdog.over(call, request.deadline):
            try:
                response = client.send(sending, stream=True)
            except httpx.HTTPError as error:
                raise call.broken(error) from error
            extensions["timeout"]["read"] = request.between
            try:
                yield _BlockingAnswer(response, call)
            finally:
                response.close()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        with self._limit:
            yield

    async def call(self, fn: Callable[[], T]) -> T:
        return fn()

    async def together(self, jobs: Sequence[Callable[[], Coroutine[Any, Any, T]]]) -> list[T]:
        threads: set[int] = set()

        def run(job: Callable[[], Coroutine[Any, Any, T]]) -> T:
            threads.add(threading.get_ident())
            return finish(job())

        with ThreadPoolExecutor(len(jobs) or 1) as pool:
            futures = [pool.submit(run, job) for job in jobs]
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
            except BaseException:
                # Ctrl-C or the first that failed: the pool would wait for the others to their very end
                for future in futures:
                    future.cancel()
                self._watchdog.end(Breakage.CLOSED, threads)
                raise
        return [future.result() for future in futures]

    async def pause(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 - there is no loop to block

    async def close(self) -> None:
        self._watchdog.end(Breakage.CLOSED)
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()


def finish(coro: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never really waits, to its end."""
    try:
        coro.send(None)
    except StopIteration as stop:
        return cast(T, stop.value)
    finally:
        coro.close()
    raise RuntimeError("a coroutine of the sync face waited for something that is not a Runtime's")


def blocking(method: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]) -> Callable[Concatenate[Any, P], R]:
    """The sync twin of an async method, with its signature and docstring; it runs on `self._core`."""

    @functools.wraps(method)
    def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return finish(method(self._core, *args, **kwargs))

    return call


def stepping(method: Callable[Concatenate[Any, P], AsyncIterator[T]]) -> Callable[Concatenate[Any, P], Iterator[T]]:
    """The sync twin of an async generator method; leaving it early closes the source."""

    @functools.wraps(method)
    def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        stream: Any = method(self._core, *args, **kwargs)
        try:
            while True:
                try:
                    piece = finish(stream.__anext__())
                except StopAsyncIteration:
                    return
                yield piece
        finally:
            finish(stream.aclose())

    return call
