"""One answer on its way: the daemon's lines become pieces, and whatever ends it finds the answer so far."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from orchestra.errors import FirstTokenTimeout, Interrupted, OrchestraError, StreamStalled, StreamTruncated
from orchestra.model import wire
from orchestra.model.connection import shown
from orchestra.model.messages import FinishReason, Piece, Receipt, Reply, ToolCall, Usage
from orchestra.request import Breakage, Broken

# The daemon ends an answer without a word after more than 30 equal pieces in a row.
EQUAL_PIECES = 30
# Words that have come so often in a row are a loop; ended here the answer has its end, which the daemon would keep back.
SOON_CUT = EQUAL_PIECES - 3
# Notes of the receipt, each with the daemon's number of prompt tokens and ours: it read fewer, or more.
TRUNCATED, MISCOUNTED = "truncated", "count differs"


@dataclass(slots=True, kw_only=True)
class Answering:
    """The state of one answer. `bound` is its most tokens; `clamped` says that the window, not the caller, set it.
    `expected` are the prompt's tokens where they were counted exactly, else 0; `counts_all` says whether the daemon's
    own count holds what it had in its cache.

    `watched` is False where the caller wants loops to go on; `offered` says that there are tools to call.
    """

    model: str
    asked: wire.Asked
    bound: int
    receipt: Receipt
    observe: Callable[[str], None]
    clamped: bool = False
    expected: int = 0
    heard: Callable[[int], Awaitable[None]] | None = None
    counts_all: Callable[[], Awaitable[bool]] | None = None
    started: float = field(default_factory=time.monotonic)
    first: float | None = None
    parts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    equal: int = 0
    watched: bool = True
    offered: bool = False
    ended: bool = False

    def pieces(self, event: dict[str, Any]) -> tuple[Piece, ...]:
        """What one line of the daemon says. Raises what an error line means."""
        if event.get("error"):
            raise wire.said(200, wire.error_words(event["error"]), self.asked)
        if self.first is None:
            self.first = time.monotonic()
            self.observe("writing")
        text, thinking = wire.text_of(event)
        if self._usual(event, text, thinking):
            self.equal = 0
            self.parts.append(text)
            return (Piece(text),)
        calls = wire.tool_calls_of(event) if self.offered else ()
        self.calls.extend(calls)
        logprobs = None if self.offered else event.get("logprobs")
        self.equal = self.equal + 1 if self.parts and text == self.parts[-1] else 0
        self.parts.append(text)
        if event.get("done") is True:
            last: Piece | None = self._last(event, text)._replace(logprobs=logprobs)
        elif self.watched and self.equal >= SOON_CUT and text.strip().isalnum():
            last = self.closing(FinishReason.REPETITION)._replace(text=text, keep=self._clean())
        elif len(self.parts) > self.bound + EQUAL_PIECES:  # a daemon that knows no bound
            last = self.closing(FinishReason.LENGTH)
        else:
            last = Piece(text, logprobs=logprobs) if text else None
        if thinking:
            self.thoughts.append(thinking)
        told = (Piece(thinking, "thinking") if thinking else None, Piece("", tool_calls=calls) if calls else None, last)
        return tuple(piece for piece in told if piece is not None)

    def _usual(self, event: dict[str, Any], text: str, thinking: str) -> bool:
        """Whether this is a token like most: nothing ends with it, and nothing is to be said of it."""
        parts = self.parts
        return bool(
            text and not thinking and not self.offered and event.get("done") is False and len(parts) < self.bound
            and parts and text != parts[-1] and "logprobs" not in event
        )  # fmt: skip

    def _clean(self) -> int:
        """The length of the text up to the first of the equal pieces at its end."""
        return sum(map(len, self.parts[: len(self.parts) - self.equal]))

    def _last(self, event: dict[str, Any], text: str) -> Piece:
        reason = FinishReason.LENGTH if event.get("done_reason") == "length" else FinishReason.STOP
        return self.closing(reason, wire.usage_of(event))._replace(text=text)

    def retried(self) -> None:
        """One more try was needed before an answer began."""
        self.receipt = replace(self.receipt, retries=self.receipt.retries + 1)

    def closing(self, reason: FinishReason, usage: Usage | None = None) -> Piece:
        """The last piece. Without the daemon's counters the pieces are counted, each of which is a token or more."""
        self.ended = True
        usage = usage or Usage(completion_tokens=len(self.parts))
        used = None if usage.prompt_tokens is None else usage.prompt_tokens + (usage.completion_tokens or 0)
        window = self.receipt.window
        if reason is FinishReason.LENGTH and (self.clamped or (used and window and used >= window)):
            reason = FinishReason.CONTEXT_FULL
        receipt = replace(
            self.receipt,
            used=used,
            first_token=self.first and round(self.first - self.started, 6),
            seconds=round(time.monotonic() - self.started, 6),
            notes=self._notes(),
        )
        return Piece("", finish_reason=reason, usage=usage, receipt=receipt, model=self.model)

    async def audited(self, piece: Piece) -> Piece:
        """The last piece, with a note where the daemon read other than was sent; its count is heard by whoever counts."""
        prompt = piece.usage.prompt_tokens if piece.usage is not None else None
        if not prompt or piece.receipt is None:
            return piece
        if self.heard is not None:
            await self.heard(prompt)
        if self.expected in (0, prompt) or (prompt < self.expected and self.counts_all is not None and not await self.counts_all()):
            return piece
        note = f"{TRUNCATED if prompt < self.expected else MISCOUNTED}: {prompt}/{self.expected}"
        return piece._replace(receipt=replace(piece.receipt, notes=(*piece.receipt.notes, note)))

    def _notes(self) -> tuple[str, ...]:
        garbled = any("\ufffd" in part for part in self.parts)
        return (*self.receipt.notes, "garbled") if garbled else self.receipt.notes

    def reply(self, *, cancelled: bool = False) -> Reply:
        """The answer so far, for the error that ends it."""
        last = [part.strip() for part in self.parts[-EQUAL_PIECES:]]
        looped = len(last) == EQUAL_PIECES and len(set(last)) == 1
        reason = FinishReason.REPETITION if looped else FinishReason.INCOMPLETE
        reason = FinishReason.CANCELLED if cancelled else reason
        piece = self.closing(reason)
        return Reply(
            text="".join(self.parts),
            finish_reason=reason,
            model=self.model,
            usage=piece.usage or Usage(),
            receipt=piece.receipt or self.receipt,
            thinking="".join(self.thoughts),
            tool_calls=tuple(self.calls),
        )

    def fault(self, error: Broken | OrchestraError, *, first: float, between: float) -> OrchestraError:
        """The error that leaves, with the answer so far; `first` and `between` are the patience in seconds."""
        reply = self.reply(cancelled=isinstance(error, Interrupted)) if self.parts else None
        if isinstance(error, OrchestraError):
            error.reply = error.reply or reply
            return error
        if error.how is Breakage.TIMEOUT and not self.parts:
            return FirstTokenTimeout(model=self.model, seconds=shown(first), reply=reply)
        if error.how is Breakage.TIMEOUT:
            return StreamStalled(seconds=shown(between), reply=reply)
        return StreamTruncated(reply=reply)
