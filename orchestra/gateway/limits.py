"""What one caller may cost the others: places, time and memory.

uvicorn waits for a request as long as its sender likes, and for a reader likewise; here each has its time. A caller
for whom there is no place is told so at once, and when to come again: waiting unseen helps nobody.
"""

from __future__ import annotations

import json
import time
from asyncio import Timeout, TimerHandle, get_running_loop, timeout
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from http import HTTPStatus
from typing import Any

import h11
from starlette.responses import Response
from starlette.types import Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

from orchestra.errors import GatewayFault, HeadersTooLarge, Overloaded, RequestInvalid, RequestTooSlow
from orchestra.gateway.access import HEADER_LIMIT, OPEN
from orchestra.settings import Settings
from orchestra.texts import interface_language

RETRY_AFTER = 2  # seconds


class Places:
    """The requests that are being answered, at most `most` at once."""

    def __init__(self, most: int) -> None:
        self.most, self.taken = max(1, most), 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """A place for as long as the block runs. Raises `Overloaded` where none is left."""
        if self.taken >= self.most:
            raise Overloaded(most=self.most, seconds=RETRY_AFTER)
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


class Arrivals:
    """The bodies that are still on their way, at most `most` at once: one more ends the wait for the one that began first.

    So whoever sends slowly, or never ends, takes no place from those who send at once, and what is kept of bodies has a bound.
    """

    def __init__(self, most: int) -> None:
        self._most = max(1, most)
        self._awaited: dict[Timeout, None] = {}  # in the order in which they began

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Room to wait for a body in. Raises `RequestTooSlow` in the block whose body has come for the longest, where there is no more."""
        if len(self._awaited) >= self._most:
            oldest = next(iter(self._awaited))
            del self._awaited[oldest]
            oldest.reschedule(get_running_loop().time())
        began = time.monotonic()
        patience = timeout(None)
        try:
            async with patience:
                self._awaited[patience] = None
                try:
                    yield
                finally:
                    self._awaited.pop(patience, None)
        except TimeoutError:
            raise RequestTooSlow(seconds=f"{time.monotonic() - began:.1f}") from None


def protocol(settings: Settings, full: Callable[[Scope], Response]) -> Any:
    """What makes uvicorn's connections: each with the patience of these settings; `full` answers for whom there is no place."""
    return partial(Bounded, settings, Door(settings.in_flight, full))


class Door:
    """Counts the requests of one server that have come whole, until they are answered, and turns away whom there is no place for.

    `Places` has the same bound, for what comes another way; but it counts only when a request's work begins, and of a thousand
    that come together that has begun for all before one is refused.
    """

    def __init__(self, most: int, full: Callable[[Scope], Response]) -> None:
        self._most, self._inside, self.full = max(1, most), 0, full

    @property
    def shut(self) -> bool:
        """Whether all places are taken."""
        return self._inside >= self._most

    def passed(self, steps: int) -> None:
        """One has come in (1) or has gone (-1)."""
        self._inside += steps


class Bounded(H11Protocol):
    """A connection whose head and body come in time, and whose reader reads; else it is ended."""

    def __init__(self, settings: Settings, door: Door, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._door, self._inside = door, False
        self._patience = {"head": settings.header_timeout, "body": settings.body_timeout}
        self._reader = settings.reader_timeout
        self._awaited = ""
        self._deadline: TimerHandle | None = None
        self._stall: TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await("head")

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        self._await("")
        self._unstall()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        # nothing is begun for whom there is no place: of a thousand at once the last would wait for all that is begun before it
        scope = _whole(data) if self._door.shut and self._between else None
        if scope is None:
            super().data_received(data)
        else:
            answer = self._door.full(scope)
            self.transport.write(_written(answer.status_code, answer.raw_headers, bytes(answer.body)))
            self.transport.close()

    @property
    def _between(self) -> bool:
        """Whether what comes now begins a request."""
        return self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]

    def on_response_complete(self) -> None:
        self._leave()
        super().on_response_complete()

    def _leave(self) -> None:
        if self._inside:
            self._inside = False
            self._door.passed(-1)

    def handle_events(self) -> None:
        super().handle_events()
        if not self._inside and self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body:
            self._inside = True
            self._door.passed(1)
        if not self.transport.is_closing():
            # between two requests uvicorn's own patience counts: the next head has its time from its first byte on
            begun = self.conn.their_state is not h11.IDLE or self._awaited == "head" or bool(self.conn.trailing_data[0])
            self._await({h11.IDLE: "head", h11.SEND_BODY: "body"}.get(self.conn.their_state, "") if begun else "")

    def send_400_response(self, msg: str) -> None:
        """What h11 refuses, in the shape of every error."""
        large = len(self.conn.trailing_data[0]) > HEADER_LIMIT
        self._refuse(HeadersTooLarge(limit=HEADER_LIMIT) if large else RequestInvalid())

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        self._unstall()
        super().resume_writing()

    def _await(self, what: str) -> None:
        """The time for a head or a body begins once, however often a byte of it comes."""
        if what == self._awaited:
            return
        if self._deadline is not None:
            self._deadline.cancel()
        self._awaited = what
        self._deadline = self.loop.call_later(self._patience[what], self._late, what) if what else None

    def _late(self, what: str) -> None:
        self._refuse(RequestTooSlow(seconds=f"{self._patience[what]:g}"))

    def _refuse(self, error: GatewayFault) -> None:
        silent = self.cycle is None or self.cycle.response_complete or not self.cycle.response_started
        if silent and self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.write(_answer(error))
        self.transport.close()

    def _watch(self) -> None:
        self._unstall()
        self._stall = self.loop.call_later(self._reader, self._stalled, self.transport.get_write_buffer_size())

    def _stalled(self, before: int) -> None:
        """A reader that takes anything at all is a slow one; one that takes nothing has gone."""
        if self.transport.get_write_buffer_size() < before:
            self._watch()
        else:
            self.transport.abort()

    def _unstall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None


def _whole(data: bytes) -> Scope | None:
    """What is asked for in these bytes, if they are one whole request that needs a place; whatever is unusual takes the usual way."""
    head, end, body = data.partition(b"\r\n\r\n")
    first, *rows = head.split(b"\r\n")
    asked = first.split(b" ")
    if not end or len(head) > HEADER_LIMIT or len(asked) != 3 or asked[2] != b"HTTP/1.1":
        return None
    pairs = (row.partition(b":") for row in rows)
    headers = [(name.lower(), value.strip()) for name, _, value in pairs]
    length = dict(headers).get(b"content-length", b"0")
    path, _, query = asked[1].partition(b"?")
    if b"transfer-encoding" in dict(headers) or length != b"%d" % len(body) or path.decode("latin-1") in OPEN:
        return None
    return {
        "type": "http", "method": asked[0].decode("latin-1"), "path": path.decode("latin-1"), "raw_path": path,
        "query_string": query, "headers": headers, "state": {},
    }  # fmt: skip


def _answer(error: GatewayFault) -> bytes:
    """An answer to who has not said yet in which language, or which protocol."""
    language = interface_language()
    said = {"code": error.code(), "message": error.message(language), "hint": error.hint(language)}
    body = json.dumps({"error": said}, ensure_ascii=False).encode()
    return _written(error.status, [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))], body)


def _written(status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bytes:
    """An answer after which the connection is closed."""
    first = b"HTTP/1.1 %d %b" % (status, HTTPStatus(status).phrase.encode())
    rows = [name + b": " + value for name, value in (*headers, (b"connection", b"close"))]
    return b"\r\n".join([first, *rows, b"", body])
