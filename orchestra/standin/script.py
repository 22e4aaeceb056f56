"""Scripted replies: what the stand-in shall say, word for word, in place of its engine.

A test that scripts its replies says what it expects to be asked: one reply for each generation, and none left over.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from orchestra.standin.engine import Token
from orchestra.standin.vocabulary import END_OF_TURN

SCRIPTED = -1
End = Literal["stop", "length", "nothing", "error", "garbled"]
_PIECE = re.compile(r"\s*[\u3400-\u9fff\uf900-\ufaff]|\s*[^\s\u3400-\u9fff\uf900-\ufaff]+|\s+")


@dataclass(frozen=True, slots=True)
class Scripted:
    """One reply: a text (cut into a piece a word or Han character) or its pieces, and how it ends.

    `end`: "stop" as a model ends, "length" as if its bound were reached, "nothing" without the closing line, "error"
    with an error line, "garbled" as after bytes that are no UTF-8. `pace`: seconds between two pieces, None for the
    daemon's. `thinking`: what a model that thinks says before.
    """

    pieces: str | Sequence[str]
    end: End = "stop"
    pace: float | None = None
    thinking: str | Sequence[str] = ""

    def tokens(self) -> Iterator[Token]:
        """The pieces as tokens of certain probability, and an end token where the reply ends by itself."""
        yield from spoken(self.pieces)
        if self.end == "stop":
            yield Token(END_OF_TURN, b"", 0.0, ())


Reply = str | Sequence[str] | Scripted


def spoken(pieces: str | Sequence[str]) -> Iterator[Token]:
    """A text, cut into a piece a word or Han character, or its pieces, as tokens of certain probability."""
    for piece in _PIECE.findall(pieces) if isinstance(pieces, str) else pieces:
        data = piece.encode("utf-8", "surrogatepass")
        yield Token(SCRIPTED, data, 0.0, ((SCRIPTED, data, 0.0),))


class Script:
    """The replies that are still to be given."""

    def __init__(self, replies: Iterable[Reply]) -> None:
        self._lock = threading.Lock()
        self._replies: deque[Scripted] = deque()
        self.add(replies)

    def add(self, replies: Iterable[Reply]) -> None:
        """More replies, after those that are there."""
        with self._lock:
            self._replies.extend(reply if isinstance(reply, Scripted) else Scripted(reply) for reply in replies)

    def next(self) -> Scripted | None:
        """The reply for one generation; None where nothing is scripted (any more)."""
        with self._lock:
            return self._replies.popleft() if self._replies else None

    def left(self) -> list[Scripted]:
        """The replies that nobody has asked for."""
        with self._lock:
            return list(self._replies)
