"""When to stop reading an answer, judged from its text alone.

The daemon enforces the bound on tokens and the stop strings, the client the deadline. Here are the two
criteria that must look at the text: it repeats itself, or it is garbage. Both are told the answer piece by
piece, and both give the same verdict at the same place however it was cut into pieces.
"""

from __future__ import annotations

from typing import NamedTuple

from orchestra.model import outline
from orchestra.model.messages import FinishReason
from orchestra.model.quality import BLOCK, Quality
from orchestra.model.repetition import HOP, REACH, Periods, Recurrence

_WINDOW = REACH + 128


class Verdict(NamedTuple):
    """Why to stop, and how many characters of all the text pushed so far the reply keeps."""

    reason: FinishReason
    keep: int


class Criteria:
    """Looks at an answer as it comes and says when to stop; memory does not grow with the answer."""

    def __init__(self, *, repetition: bool = True, quality: bool = True) -> None:
        self._periods = Periods() if repetition else None
        self._recurrence = Recurrence() if repetition else None
        self._quality = Quality() if quality else None
        self._text = ""
        self._before = 0
        self._held = ""
        self._line = 0
        self._fence = ""
        self._verdict: Verdict | None = None

    def push(self, text: str) -> Verdict | None:
        """Takes one piece of the answer; None = go on. Once there is a verdict it stays."""
        held = self._held + text
        if len(held) < HOP or self._verdict:
            self._held = held if not self._verdict else ""
            return self._verdict
        # out of the attribute, so that `+=` can grow the string where it stands
        window, self._text = self._text, ""
        at = HOP
        while at <= len(held):
            window += held[at - HOP : at]
            at += HOP
            self._verdict = self._look(window)
            if self._verdict:
                return self._verdict
            if len(window) >= 2 * _WINDOW:
                window = self._trimmed(window)
        self._text = window
        self._held = held[at - HOP :]
        return None

    def _look(self, text: str) -> Verdict | None:
        """Judges the text up to here; called at every `HOP` characters of it."""
        before = self._before
        if "\n" in text[-HOP:]:
            self._lines(text)
        keep = None
        if self._periods and self._recurrence:
            keep = self._periods.advance(text, before, bool(self._fence))
            if keep is None and not self._fence:
                keep = self._recurrence.advance(text, before)
            if keep is not None:
                return Verdict(FinishReason.REPETITION, keep)
        if self._quality and not self._fence and not (before + len(text)) % BLOCK:
            keep = self._quality.advance(text, before)
            if keep is not None:
                return Verdict(FinishReason.LOW_QUALITY, keep)
        return None

    def _lines(self, text: str) -> None:
        """Follows the lines that ended within the last hop, for the fences."""
        end = text.find("\n", len(text) - HOP)
        while end >= 0:
            line = text[max(self._line - self._before, 0) : end]
            fence = outline.fence(line, self._fence)
            self._line = self._before + end + 1
            if fence != self._fence:
                self._fence = fence
                if self._recurrence:
                    self._recurrence.reset(self._line)
                if self._quality:
                    self._quality.reset()
            end = text.find("\n", end + 1)

    def _trimmed(self, text: str) -> str:
        kept = text[-_WINDOW:]
        self._before += len(text) - len(kept)
        if self._periods:
            self._periods.forget(self._before)
        return kept


def examine(text: str, *, size: int = 4) -> Verdict | None:
    """The verdict on a whole text that comes in pieces of `size` characters."""
    criteria = Criteria()
    for at in range(0, len(text), size):
        verdict = criteria.push(text[at : at + size])
        if verdict:
            return verdict
    return None
