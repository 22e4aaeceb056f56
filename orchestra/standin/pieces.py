"""From tokens to the pieces of text that leave the daemon.

Tokens are bytes. What is sent are whole characters; what may be the beginning of a stop text is held back until that
is decided; and where the answer turns in circles the daemon gives up without a word.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Any, NamedTuple

from orchestra.standin.engine import Token


class Chunk(NamedTuple):
    """A piece of text, and what the model thought of it where that was asked for."""

    text: str
    logprobs: list[dict[str, Any]]
    thinking: bool = False


class Pieces:
    """Takes tokens, gives chunks. `stopped` tells that a stop text was found; it is never given out."""

    def __init__(self, stops: Sequence[str], *, logprobs: bool, top: int, thinking: bool = False) -> None:
        self.stopped = False
        self.thinking = thinking
        self._stops = stops
        self._logprobs, self._top = logprobs, top
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def push(self, token: Token) -> Chunk | None:
        """What can be sent now that the token is there; None where nothing can."""
        self._held += self._decoder.decode(token.data)
        found = min((place for stop in self._stops if (place := self._held.find(stop)) >= 0), default=-1)
        if found >= 0:
            self.stopped = True
            return self._give(self._held[:found], token)
        if self._decoder.getstate()[0] or self._may_stop():
            return None
        return self._give(self._held, token)

    def flush(self) -> Chunk | None:
        """What was held back when the answer ends; an unfinished character is dropped."""
        text, self._held = self._held, ""
        return Chunk(text, [], self.thinking) if text else None

    def _may_stop(self) -> bool:
        return any(
            self._held.endswith(stop[:length]) for stop in self._stops for length in range(1, min(len(stop), len(self._held) + 1))
        )

    def _give(self, text: str, token: Token) -> Chunk | None:
        self._held = ""
        if not text:
            return None
        return Chunk(text, [self._entry(text, token)] if self._logprobs and not self.stopped else [], self.thinking)

    def _entry(self, text: str, token: Token) -> dict[str, Any]:
        """One entry a piece: the whole text with the log-probability of its last token, as the daemon reports it."""
        entry: dict[str, Any] = {"token": text, "logprob": token.logprob, "bytes": list(text.encode())}
        if self._top:
            entry["top_logprobs"] = [_alternative(data, logprob) for _, data, logprob in token.top[: self._top]]
        return entry


def _alternative(data: bytes, logprob: float) -> dict[str, Any]:
    text = data.decode("utf-8", "replace")
    return {"token": text, "logprob": logprob, **({"bytes": list(text.encode())} if text else {})}


class Circle:
    """Notices more than `most` equal pieces in a row (0: never); whitespace around them does not count."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._last, self._equal = "", 0

    def closed(self, text: str) -> bool:
        """Whether this piece is one too many."""
        trimmed = text.strip()
        self._equal = self._equal + 1 if trimmed == self._last else 0
        self._last = trimmed
        return 0 < self._most < self._equal
