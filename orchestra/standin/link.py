"""One request on one connection: what came, and every way of answering.

The daemon's framing is a promise of its own: answers of up to 2,048 bytes carry their length, longer ones are
chunked, a stream is one line a chunk, and a client that leaves is noticed between two of them. So the bytes are
written here by hand, and a fault may write what no HTTP library would.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

from orchestra.standin.encoding import encoded

PLAIN, JSON, JSON_PLAIN, LINES = "text/plain", "application/json; charset=utf-8", "application/json", "application/x-ndjson"
LONGEST_WHOLE = 2048
GLANCE = 0.02


class ClientGone(Exception):
    """The client closed its connection, or the daemon is being stopped."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request as it came: `body` is its JSON object (None where it is none), `raw` the bytes of the body."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any] | None
    raw: bytes


def _watch(connection: socket.socket) -> Callable[[float], bool]:
    """A question: is there something to read within so many seconds? (`select` alone ends at 1,024 open files.)"""
    if not hasattr(select, "poll"):
        return lambda patience: bool(select.select([connection], [], [], patience)[0])
    poller = select.poll()
    poller.register(connection, select.POLLIN)
    return lambda patience: bool(poller.poll(math.ceil(patience * 1000)))


class Connection:
    """The client at the other end: whether it is still there, and bytes for it as they are."""

    def __init__(self, connection: socket.socket, stopping: threading.Event) -> None:
        self.broken = False
        self._connection = connection
        self._stopping = stopping
        self._readable = _watch(connection)

    def gone(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self._stopping.is_set() or self._closed(0)

    def pause(self, seconds: float) -> None:
        """Wait, and raise `ClientGone` as soon as the client leaves or the daemon stops."""
        until = time.perf_counter() + seconds
        while True:
            left = until - time.perf_counter()
            if self._stopping.is_set() or self._closed(min(GLANCE, max(left, 0))):
                raise ClientGone
            if left <= 0:
                return

    def _closed(self, patience: float) -> bool:
        try:
            if not self._readable(patience):
                return False
            if self._connection.recv(1, socket.MSG_PEEK) == b"":
                return True
        except (OSError, ValueError):
            return True
        # The next request is already waiting in the socket: it stays readable, so select no longer waits.
        time.sleep(patience)
        return False

    def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        try:
            self._connection.sendall(data)
        except (OSError, ValueError) as error:
            self.broken = True
            raise ClientGone from error

    def reset(self) -> None:
        """Cut the connection so that the client sees a reset, not an end."""
        with contextlib.suppress(OSError):
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.broken = True
        with contextlib.suppress(OSError):
            # A socket object closes only when its files are closed too, and shuts down politely before.
            os.close(self._connection.detach())

    def hang_up(self) -> None:
        """End the connection after what was sent."""
        self.broken = True


class Link(Connection):
    """The way back to the client of one request."""

    def __init__(self, connection: socket.socket, exchange: Exchange, stopping: threading.Event) -> None:
        super().__init__(connection, stopping)
        self.exchange = exchange
        self.arrived = time.perf_counter()
        self.origin: str | None = None
        self.opened = False
        self.wording: Callable[[int, str], Any] = lambda _, error: {"error": error}
        self.error_type = JSON
        self._chunked = False

    def head(self, status: int, *headers: tuple[str, str]) -> None:
        """Send a status line and headers; the stand-in's own name and the date are added."""
        allowed = [("Access-Control-Allow-Origin", self.origin), ("Vary", "Origin")] if self.origin else []
        fields = [("Server", "orchestra-standin"), ("Date", formatdate(usegmt=True)), *allowed, *headers]
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in fields)]
        self.opened = True
        self.raw("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def chunk(self, data: bytes) -> None:
        """Send one HTTP chunk."""
        self.raw(b"%x\r\n%s\r\n" % (len(data), data))

    def whole(self, status: int, body: bytes = b"", content_type: str | None = None, headers: tuple[tuple[str, str], ...] = ()) -> None:
        """Answer at once, with a length where the daemon gives one."""
        kind = (("Content-Type", content_type),) if content_type else ()
        asked = self.exchange.method != "HEAD"
        if len(body) <= LONGEST_WHOLE:
            self.head(status, *kind, *headers, *((("Content-Length", str(len(body))),) if status != 204 else ()))
            if asked and body:
                self.raw(body)
        elif not asked:
            self.head(status, *kind, *headers)
        else:
            self.head(status, *kind, *headers, ("Transfer-Encoding", "chunked"))
            for start in range(0, len(body), 4096):
                self.chunk(body[start : start + 4096])
            self.chunk(b"")

    def json(self, value: Any, status: int = 200, content_type: str = JSON) -> None:
        """Answer with one JSON document."""
        self.whole(status, encoded(value), content_type)

    def line(self, value: Any) -> None:
        """Send one line of a stream; the first one opens it."""
        self.open()
        self.chunk(encoded(value) + b"\n")

    def open(self, status: int = 200, content_type: str = LINES) -> None:
        """Begin a stream, if it has not begun."""
        if not self.opened:
            self.head(status, ("Content-Type", content_type), ("Transfer-Encoding", "chunked"))
            self._chunked = True

    def close(self) -> None:
        """End the stream as HTTP wants it; for the daemon's clients that says nothing about the answer."""
        self.open()
        if self._chunked:
            self.chunk(b"")
            self._chunked = False

    def refuse(self, status: int, error: str, *, streaming: bool = False) -> None:
        """Say no: as JSON, in a stream's framing (`streaming`), or as a line where the stream has begun."""
        words = self.wording(status, error)
        if self._chunked:
            self.line(words)
            self.close()
        elif streaming:
            self.open(status, JSON_PLAIN)
            self.chunk(encoded(words))
            self.close()
        else:
            self.json(words, status, self.error_type)
