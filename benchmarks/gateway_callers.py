"""Callers of a gateway, as many at once as are wanted, which take what comes and note when it came.

Bytes are looked for, not parsed: what the callers cost is not what is measured, and must not slow it down.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

from scripted import MODEL

_SENT = re.compile(rb'"created_at":"(\d+)"')
_STATUS = re.compile(rb"HTTP/1\.1 (\d+)")
_numbers = count(1)
PATHS = {"/api/chat": MODEL, "/api/generate": MODEL, "/v1/chat/completions": "orchestra/lawyer"}


def asking(path: str, said: str = "Tell me everything.", **more: Any) -> bytes:
    """A request for a streamed answer, after which the connection is closed."""
    body: dict[str, Any] = {"model": PATHS[path], "stream": True, **more}
    body |= {"prompt": said} if path == "/api/generate" else {"messages": [{"role": "user", "content": said}]}
    raw = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {len(raw)}\r\n\r\n"
    return head.encode() + raw


class Caller(asyncio.Protocol):
    """One request, and what came of it."""

    def __init__(self, sent: bytes) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.begun = self.first = self.last = 0.0
        self.status, self.size, self.head = 0, 0, b""
        self.late: list[float] = []  # seconds from a token's sending to its arrival
        self.tail = b""
        self._sent = sent
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asks."""
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.begun = transport, time.perf_counter()
        transport.write(self._sent)

    def data_received(self, data: bytes) -> None:
        """Notes what came, and when."""
        self.last, now = time.perf_counter(), time.monotonic_ns()
        if not self.status:
            self.head += data
            found = _STATUS.match(self.head)
            self.status = int(found[1]) if found else 0
            data = self.head.partition(b"\r\n\r\n")[2]
        if data and not self.first:
            self.first = self.last
        self.size += len(data)
        self.late += [(now - int(each)) / 1e9 for each in _SENT.findall(data)]
        self.tail = (self.tail + data)[-400:]

    def connection_lost(self, error: Exception | None) -> None:
        """The answer has come to its end."""
        if not self.ended.done():
            self.ended.set_result(None)

    @property
    def whole(self) -> bool:
        """Whether the answer ended as it should."""
        return self.status == 200 and self.tail.endswith(b"0\r\n\r\n") and (b'"done":true' in self.tail or b"[DONE]" in self.tail)


async def called(port: int, sent: bytes) -> Caller:
    """A caller that has just asked what nobody asked before: the same question would be the same dialogue once more."""
    sent = sent.replace(b"everything", b"%010d" % next(_numbers))
    _, caller = await asyncio.get_running_loop().create_connection(lambda: Caller(sent), "127.0.0.1", port)
    return caller


async def calls(port: int, sent: bytes, many: int, spread: float = 0.0) -> list[Caller]:
    """So many at once, their beginnings spread over so many seconds; each has ended."""

    async def one(place: int) -> Caller:
        await asyncio.sleep(spread * place / many)
        caller = await called(port, sent)
        await caller.ended
        return caller

    return list(await asyncio.gather(*(one(place) for place in range(many))))


def share(values: Sequence[float], part: float) -> float:
    """The value below which so large a part of them is."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def pairs(rounds: int) -> Iterator[bool]:
    """Rounds after one that is not counted."""
    yield from (number > 0 for number in range(rounds + 1))
