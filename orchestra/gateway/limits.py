"""What one caller may cost the others: places, time and memory.

uvicorn waits for a request as long as its sender likes, and for a reader likewise; here each has its time. A caller
for whom there is no place is told so at once, and when to come again: waiting unseen helps nobody.
"""

from __future__ import annotations

import json
from asyncio import TimerHandle
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from orchestra.errors import GatewayFault, HeadersTooLarge, Overloaded, RequestInvalid, RequestTooSlow
from orchestra.gateway.access import HEADER_LIMIT
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


def protocol(settings: Settings) -> Any:
    """What makes uvicorn's connections: each with the patience of these settings."""
    return partial(Bounded, settings)


class Bounded(H11Protocol):
    """A connection whose head and body come in time, and whose reader reads; else it is ended."""

    def __init__(self, settings: Settings, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._patience = {"head": settings.header_timeout, "body": settings.body_timeout}
        self._reader = settings.reader_timeout
        self._awaited = ""
        self._deadline: TimerHandle | None = None
        self._stall: TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await("head")

    def connection_lost(self, exc: Exception | None) -> None:
        self._await("")
        self._unstall()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
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


def _answer(error: GatewayFault) -> bytes:
    """An answer to who has not said yet in which language, or which protocol."""
    language = interface_language()
    said = {"code": error.code(), "message": error.message(language), "hint": error.hint(language)}
    body = json.dumps({"error": said}, ensure_ascii=False).encode()
    phrase = HTTPStatus(error.status).phrase
    head = f"HTTP/1.1 {error.status} {phrase}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return head.encode() + body
