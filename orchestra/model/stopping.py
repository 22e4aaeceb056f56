"""When to stop reading an answer, judged from its text alone.

The daemon enforces the bound on tokens and the stop strings, the client the deadline. Here are the two
criteria that must look at the text: it repeats itself, or it is garbage. Both are told the answer piece by
piece, and both give the same verdict at the same place however it was cut into pieces.
"""

from __future__ import annotations

from typing import NamedTuple

from orchestra.model import outline
from orchestra.model.messages import FinishReason, Piece
from orchestra.model.quality import BLOCK, Doubt, Quality
from orchestra.model.repetition import REACH, STEP, STRIDE, Periods, Recurrence

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
        self._due = STRIDE
        self._line = 0
        self._fence = ""
        self._verdict: Verdict | None = None

    def push(self, text: str) -> Verdict | None:
        """Takes one piece of the answer; None = go on. Once there is a verdict it stays."""
        self._held += text
        return None if len(self._held) < self._due else self._advance()

    def finish(self) -> Verdict | None:
        """The verdict at the end of the answer, for its last few characters too."""
        if not self._verdict and self._held and self._periods:
            text, fresh = self._text + self._held, len(self._held)
            keep = self._periods.advance(text, self._before, fresh, bool(self._fence))
            if keep is None and self._recurrence and not self._fence:
                keep = self._recurrence.advance(text + "\n", self._before)
            if keep is not None:
                self._verdict = Verdict(FinishReason.REPETITION, self._stripped(text, keep))
        return self._verdict

    def _advance(self) -> Verdict | None:
        held, at, due = self._held, 0, self._due
        # out of the attribute, so that `+=` can grow the string where it stands
        window, self._text = self._text, ""
        while not self._verdict and len(held) - at >= due:
            window += held[at : at + due]
            at += due
            verdict = self._look(window, due)
            self._verdict = verdict and verdict._replace(keep=self._stripped(window, verdict.keep))
            near = self._periods and self._periods.near
            due = STEP if near else STRIDE - (self._before + len(window)) % STRIDE
            if len(window) >= 2 * _WINDOW:
                self._before += len(window) - _WINDOW
                window = window[-_WINDOW:]
        self._text = window
        self._held, self._due = ("", 0) if self._verdict else (held[at:], due)
        return self._verdict

    def _look(self, text: str, fresh: int) -> Verdict | None:
        before = self._before
        if "\n" in text[-fresh:]:
            self._lines(text, fresh)
        keep = self._periods.advance(text, before, fresh, bool(self._fence)) if self._periods else None
        whole = not (before + len(text)) % BLOCK and not self._fence
        if keep is None and whole and self._quality:
            keep = self._quality.advance(text, before)
            if keep is not None:
                return Verdict(FinishReason.LOW_QUALITY, keep)
        if keep is None and whole and self._recurrence:
            keep = self._recurrence.advance(text, before)
        return None if keep is None else Verdict(FinishReason.REPETITION, keep)

    def _stripped(self, text: str, keep: int) -> int:
        """`keep` without the blanks before it, as far back as the text is at hand."""
        shown = text[: max(keep - self._before, 0)]
        return keep - len(shown) + len(shown.rstrip())

    def _lines(self, text: str, fresh: int) -> None:
        """Follows the lines that ended among the `fresh` characters, for the fences."""
        end = text.find("\n", len(text) - fresh)
        while end >= 0:
            fence = outline.fence(text[max(self._line - self._before, 0) : end], self._fence)
            self._line = self._before + end + 1
            if fence != self._fence:
                self._fence = fence
                if self._recurrence:
                    self._recurrence.reset(self._line)
                if self._quality:
                    self._quality = Quality()
            end = text.find("\n", end + 1)


class Watch:
    """The criteria over the pieces of one answer: its text and its thinking, each by itself."""

    def __init__(self) -> None:
        self._criteria = {"text": Criteria(), "thinking": Criteria()}
        self._doubt = Doubt()
        self._length = 0

    def push(self, piece: Piece) -> Verdict | None:
        """Takes one piece. A verdict keeps of the text what is sound, all of it where the thinking was not."""
        kind, text = piece.kind, piece.text
        if kind == "text":
            self._length += len(text)
        verdict = self._criteria[kind].push(text) if text else None
        if piece.logprobs and verdict is None and self._doubt.push(piece.logprobs):
            verdict = Verdict(FinishReason.LOW_QUALITY, self._length)
        if piece.finish_reason is not None:
            return self._last(piece, verdict)
        if piece.keep is not None:  # the answer begins anew
            self._criteria["text"], self._length = Criteria(), piece.keep
        return verdict if verdict is None or kind == "text" else verdict._replace(keep=self._length)

    def _last(self, piece: Piece, verdict: Verdict | None) -> Verdict | None:
        """An answer that ended by itself is judged to its last character."""
        if piece.keep is not None or piece.finish_reason not in _BY_ITSELF:
            return None
        return verdict or self._criteria["text"].finish()


_BY_ITSELF = (FinishReason.STOP, FinishReason.LENGTH, FinishReason.CONTEXT_FULL)


def examine(text: str, *, size: int = 4) -> Verdict | None:
    """The verdict on a whole text that comes in pieces of `size` characters."""
    criteria = Criteria()
    for at in range(0, len(text), size):
        verdict = criteria.push(text[at : at + size])
        if verdict:
            return verdict
    return None
