"""One request: what is asked, how it may break, and who ends it from outside.

What cannot be interrupted by the code that waits for it - a read of a socket - is ended by shutting down that
socket: at a deadline, at Ctrl-C, at `close`. So each request knows its socket, and a registry knows the requests.
"""

from __future__ import annotations

import heapq
import re
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, Literal, Protocol, TypeVar

import httpx

from orchestra.errors import Interrupted

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
    headers: Mapping[str, str] | None = None
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


def over(why: Breakage, detail: str) -> Broken | Interrupted:
    """What is raised for a request that was ended from outside: where we are ended ourselves nobody else is to blame."""
    return Interrupted() if why is Breakage.CLOSED else Broken(why, detail)


CONNECTED = ("connection.connect_tcp.complete", "connection.start_tls.complete")


class Call:
    """A request on its way: it knows its socket, so that somebody else can end it, and how the answer began."""

    __slots__ = ("ended", "heard", "merge", "socket", "thread")

    def __init__(self) -> None:
        self.ended: Breakage | None = None
        self.heard = b""
        self.merge = Merging().push
        self.socket: socket.socket | None = None
        self.thread = threading.get_ident()

    def seen(self, event: str, info: dict[str, Any]) -> None:
        """Told by the HTTP library what happens; the socket is all that we want to know."""
        if event in CONNECTED:
            stream = info["return_value"]
            read = stream.read

            def listening(*given: Any, **named: Any) -> bytes:
                return self._heard(read(*given, **named))

            stream.read = listening
            self._connected(stream)

    def over(self, stream: Any) -> None:
        """Told of the connection, where it is one of an event loop."""
        read = stream.read

        async def listening(*given: Any, **named: Any) -> bytes:
            return self._heard(await read(*given, **named))

        stream.read = listening
        self._connected(stream)

    def _connected(self, stream: Any) -> None:
        self.socket = stream.get_extra_info("socket")
        if self.ended:
            self.end(self.ended)

    def _heard(self, data: bytes) -> bytes:
        # the library does not say whether anything came before a connection was closed
        self.heard = self.heard or data[:5]
        return self.merge(data)

    def end(self, why: Breakage) -> None:
        """End it now, or as soon as it has a socket."""
        self.ended = self.ended or why
        if self.socket is not None:
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)

    def lasts(self) -> None:
        """Raises what ended it from outside: what is received then looks like an end."""
        if self.ended:
            raise over(self.ended, "ended from outside")

    def broken(self, error: Exception) -> Broken | Interrupted:
        """What the HTTP library raised, in our few words."""
        detail = str(error) or type(error).__name__
        if self.ended:
            return over(self.ended, detail)
        match error:
            case httpx.ConnectTimeout() | httpx.ConnectError():
                return Broken(Breakage.CONNECT, detail)
            case httpx.TimeoutException():
                return Broken(Breakage.TIMEOUT, detail)
            case httpx.RemoteProtocolError() if not b"HTTP/".startswith(self.heard):
                return Broken(Breakage.PROTOCOL, detail)
            case httpx.RemoteProtocolError() if "disconnect" not in detail and "closed" not in detail:
                return Broken(Breakage.PROTOCOL, detail)
            case _:
                return Broken(Breakage.DISCONNECTED, detail)


class Aside(Generic[T]):
    """Somebody else's code - a search library, a user's function - in a thread that nobody has to wait for.

    The thread is a daemon: one that hangs keeps neither an answer nor the end of the program from coming.
    """

    def __init__(self, fn: Callable[[], T], ended: Callable[[], object]) -> None:
        self.done = False
        self._fn, self._ended = fn, ended
        self._value: T
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name="orchestra-aside", daemon=True).start()

    def _run(self) -> None:
        with self:
            self._value = self._fn()
        self.done = True
        self._ended()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        # it belongs to whoever asks for the result
        self._error = error
        return True

    def result(self) -> T:
        """What the function returned or raised; once it is `done`."""
        if self._error is not None:
            raise self._error
        return self._value


_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")
_SIZE_BEGUN = re.compile(rb"[0-9A-Fa-f]{1,8}\r?")
LONGEST_HEAD = 65536


class Merging:
    """Chunks that came together pass as one: the HTTP library takes as long over a few bytes as over many.

    A filter over what one connection receives for one answer. Nothing is kept back, and whatever is not plain
    chunked framing passes as it came, for the library to judge.
    """

    __slots__ = ("_begun", "_head", "_inside", "_part")

    def __init__(self) -> None:
        self._part: Literal["head", "body", "rest"] = "head"
        self._head = b""
        self._begun = b""  # the line with a chunk's size, as far as it has come
        self._inside = 0  # how much of a chunk, with its line end, is still to come

    def push(self, data: bytes) -> bytes:
        """What was received, with its whole chunks in one."""
        if self._part == "body":
            return self._merged(data)
        return self._after_head(data) if self._part == "head" else data

    def _after_head(self, data: bytes) -> bytes:
        seen = self._head + data
        end = seen.find(b"\r\n\r\n") + 4
        if end < 4:
            self._head = seen
            self._part = "head" if data and len(seen) <= LONGEST_HEAD else "rest"
            return data
        chunked = b"\r\ntransfer-encoding: chunked\r\n" in seen[: end - 2].lower() and seen[9:10] == b"2"
        self._part, self._head = "body" if chunked else "rest", b""
        return data[: end - len(seen) or None] + self.push(seen[end:])

    def _merged(self, data: bytes) -> bytes:
        whole, known = self._begun + data, len(self._begun)
        start = at = self._inside
        parts: list[bytes] = []
        self._begun, self._inside = b"", 0
        while at < len(whole):
            line = _SIZE.match(whole, at)
            end = line.end() + int(line[1], 16) if line else 0
            if line and len(whole) < end + 2 and end > line.end():
                self._inside = end + 2 - len(whole)
                break
            if line is None and _SIZE_BEGUN.fullmatch(whole, at):
                self._begun = whole[at:]
                break
            if line is None or end == line.end() or whole[end : end + 2] != b"\r\n":
                self._part = "rest"
                break
            parts.append(whole[line.end() : end])
            at = end + 2
            if known > start:  # the library has the beginning of this one already
                parts, start = [], at
        else:
            self._inside = at - len(whole)
        if len(parts) < 2:
            return data
        merged = b"".join(parts)
        return b"%b%x\r\n%b\r\n%b" % (whole[known:start], len(merged), merged, whole[at:])


class Watchdog:
    """One thread that ends requests at their deadline, and the registry of all that are on their way."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls: set[Call] = set()
        self._due: list[tuple[float, int, Call]] = []
        self._leaving: set[int] = set()
        self._thread: threading.Thread | None = None

    @contextmanager
    def over(self, call: Call, deadline: float | None) -> Iterator[None]:
        """Keeps an eye on the call while the block runs."""
        with self._changed:
            self._calls.add(call)
            if call.thread in self._leaving:
                call.end(Breakage.CLOSED)
            if deadline is not None:
                heapq.heappush(self._due, (deadline, id(call), call))
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="orchestra-watchdog", daemon=True)
                    self._thread.start()
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._calls.discard(call)
                call.socket = None  # its place in the heap is kept until the deadline

    def close(self) -> None:
        """Ends all that are on their way, and the thread; the next deadline starts another one."""
        with self._changed:
            for call in self._calls:
                call.end(Breakage.CLOSED)
            self._due.clear()
            self._thread = None
            self._changed.notify_all()

    def leave(self, threads: set[int]) -> None:
        """Ends what these threads ask for, now and until they are `back`."""
        with self._changed:
            self._leaving |= threads
            for call in self._calls:
                if call.thread in threads:
                    call.end(Breakage.CLOSED)
            self._changed.notify_all()

    def back(self, threads: set[int]) -> None:
        """These threads are gone; new ones may bear their numbers."""
        with self._changed:
            self._leaving -= threads

    def pause(self, seconds: float) -> None:
        """Waits, in a thread that may be told to leave meanwhile: then `Broken`."""
        self.until(lambda: False, seconds)

    def until(self, done: Callable[[], bool], seconds: float) -> bool:
        """Waits for what another thread does (it calls `nudge` then), at most so long; the last word on `done`."""
        me = threading.get_ident()
        with self._changed:
            self._changed.wait_for(lambda: me in self._leaving or done(), seconds)
            if me in self._leaving:
                raise Interrupted()
            return done()

    def nudge(self) -> None:
        """Has those who wait look again."""
        with self._changed:
            self._changed.notify_all()

    def _run(self) -> None:
        with self._changed:
            while self._thread is threading.current_thread():
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
