"""One answer: tokens in, chunks out, until one of the ways in which an answer ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

from orchestra.standin.engine import Token
from orchestra.standin.link import ClientGone, Link
from orchestra.standin.pieces import Chunk, Circle, Pieces
from orchestra.standin.refusal import CRASH, GARBLED, LOOPED, Refusal
from orchestra.standin.script import End

THOUGHT = Token(-2, b"", 0.0, ())
"""No token of the model's, and not counted: what came before it was thinking."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Where an answer must end: `most` tokens, the window (`room` None where it may shift), `equal` pieces in a row.

    `equal` is 0 where loops are not cut; `outcry`: whether a cut is told. `native`: whether the daemon passes on what
    its engine complains about. `crashed` says that the engine is no more.
    """

    most: int
    room: int | None
    equal: int
    outcry: bool
    native: bool
    crashed: Callable[[], bool]


class Generation:
    """The chunks of one answer, and afterwards how it ended: `reason` None means without a word."""

    def __init__(self, tokens: Iterator[Token], pieces: Pieces, bounds: Bounds, *, end: End, pace: float) -> None:
        self.reason: str | None = None
        self.count = 0
        self.text = self.thinking = ""
        self._tokens, self._pieces, self._bounds = tokens, pieces, bounds
        self._end, self._pace = end, pace
        self._began = self._ended = 0

    @property
    def duration(self) -> int:
        """Nanoseconds of the tokens after the first; for one token the daemon reports a microsecond."""
        return max((self._ended - self._began) // 1000, 1) * 1000 if self.count > 1 else 1000

    def chunks(self, link: Link) -> Generator[Chunk, None, None]:
        """The answer as it grows. Raises `ClientGone`, and `Refusal` for an engine that breaks down."""
        circle = Circle(self._bounds.equal)
        for chunk in self._spoken(link):
            if circle.closed(chunk.text):
                self.reason = None
                if self._bounds.outcry:
                    raise Refusal(500, LOOPED)
                return
            if chunk.thinking:
                self.thinking += chunk.text
            else:
                self.text += chunk.text
            yield chunk

    def _spoken(self, link: Link) -> Generator[Chunk, None, None]:
        for token in self._tokens:
            if token is THOUGHT:
                yield from self._rest()
                self._pieces.thinking = False
                continue
            if self.count:
                self._breathe(link)
            self._ended = time.perf_counter_ns()
            self._began = self._began or self._ended
            self.count += 1
            if token.id >= 0 and not token.data:
                self.reason = "stop"
                break
            chunk = self._pieces.push(token)
            if chunk is not None:
                yield chunk
            if self._pieces.stopped:
                self.reason = "stop"
                return
            if self.count >= self._bounds.most or (self._bounds.room is not None and self.count >= self._bounds.room):
                self.reason = "length"
                break
        else:
            self._run_out()
        yield from self._rest()

    def _rest(self) -> Generator[Chunk, None, None]:
        rest = self._pieces.flush()
        if rest is not None:
            yield rest

    def _breathe(self, link: Link) -> None:
        if self._pace:
            link.pause(self._pace)
        elif link.gone():
            raise ClientGone
        if self._bounds.crashed():
            raise Refusal(500, CRASH)

    def _run_out(self) -> None:
        if self._end == "error":
            raise Refusal(500, CRASH)
        if self._end == "garbled" and self._bounds.native:
            raise Refusal(500, GARBLED)
        self.reason = "length" if self._end == "length" else None
