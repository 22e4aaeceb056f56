"""A daemon that says the same to everybody, to many at once, in a process of its own: it costs those who are measured nothing.

    gateway_replay.py TOKENS [SECONDS]

Prints its port, then answers as scripted.py does, all streams on one loop. Where one token comes in so many SECONDS each
line holds the moment at which it was sent, in its `created_at`; without it everything is sent as fast as it is taken.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager

from scripted import LOADED, SHOWN, apart, lines

STAMP = b"2026-11-21T17:53:10.840190567Z"
PLAIN = {"/api/ps": {"models": [LOADED]}, "/api/tags": {"models": [LOADED]}, "/api/show": SHOWN, "/api/version": {"version": "0.32.15"}}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"


class Stream(asyncio.Protocol):
    """One connection, with one request after the other."""

    def __init__(self, said: dict[str, list[bytes]], pause: float) -> None:
        self._said, self._pause, self._received = said, pause, b""
        self._transport: asyncio.Transport
        self._next: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps what it answers to."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        """A caller that leaves ends its stream."""
        if self._next is not None:
            self._next.cancel()

    def data_received(self, data: bytes) -> None:
        """Answers each request that has come whole."""
        self._received += data
        head, end, rest = self._received.partition(b"\r\n\r\n")
        length = int(dict(row.lower().split(b": ") for row in head.split(b"\r\n")[1:]).get(b"content-length", 0)) if end else 0
        if not end or len(rest) < length:
            return
        self._received = rest[length:]
        path = head.split()[1].decode()
        if path in PLAIN:
            body = json.dumps(PLAIN[path]).encode()
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        elif self._pause:
            self._transport.write(HEAD)
            self._paced(iter(self._said[path]), asyncio.get_running_loop().time())
        else:
            self._transport.write(HEAD + b"".join(map(_chunk, self._said[path])) + b"0\r\n\r\n")

    def _paced(self, lines: Iterator[bytes], due: float) -> None:
        line = next(lines, b"")
        if not line:
            self._transport.write(b"0\r\n\r\n")
            return
        self._transport.write(_chunk(line.replace(STAMP, b"%d" % time.monotonic_ns())))
        due += self._pause
        self._next = asyncio.get_running_loop().call_at(due, self._paced, lines, due)


def _chunk(line: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(line), line)


async def main() -> None:
    """Serve until standard input is closed."""
    count, pause = int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    said = {path: list(lines(path, count)) for path in ("/api/chat", "/api/generate")}
    server = await asyncio.get_running_loop().create_server(lambda: Stream(said, pause), "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


def replaying(count: int, pause: float = 0.0) -> AbstractContextManager[str]:
    """The URL of such a daemon while the block runs."""
    return apart(__file__, count, pause)


if __name__ == "__main__":
    asyncio.run(main())
