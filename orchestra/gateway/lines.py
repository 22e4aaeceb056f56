"""One answer on its way through: the daemon's lines as they are, judged by what they say, and an end that is always said.

A line is forwarded as the bytes that came, and written anew only where a client could stumble over it: odd bytes, half
characters, numbers of thousands of digits, characters that some clients take for line ends.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from pydantic_core import from_json

from orchestra.errors import OrchestraError, StreamCorrupt
from orchestra.gateway.asides import LOOPED, aside
from orchestra.gateway.bounding import Sent
from orchestra.model import wire
from orchestra.model.answering import EQUAL_PIECES, SOON_CUT
from orchestra.model.messages import FinishReason
from orchestra.model.stopping import Criteria, Verdict

_LONGEST = 2**63  # the daemon counts in 64 bits
_LINE_ENDS = (b"\xe2\x80\xa8", b"\xe2\x80\xa9", b"\xc2\x85")  # that are line ends to some clients, and none in JSON lines


class Line(NamedTuple):
    """One line for the client, what it says, and in a last one how many characters of the text are sound (None = all).

    An `aside` is a word of ours before or after the answer.
    """

    data: bytes
    event: dict[str, Any]
    keep: int | None = None
    aside: bool = False


class Told(Protocol):
    """How one answer is told in a protocol; `aloud` says that its text names the fault that broke it off."""

    kind: str
    stream: bool
    aloud: bool

    def some(self, lines: Sequence[Line]) -> bytes:
        """Lines of a stream as they come."""

    def end(self, error: OrchestraError | None = None) -> bytes:
        """What follows the last line; `error` broke the stream off."""

    def whole(self, lines: Sequence[Line]) -> bytes:
        """All lines in one object."""


class AsLines:
    """The daemon's own protocol."""

    kind, aloud = "application/x-ndjson", True

    def __init__(self, model: str, *, stream: bool, chat: bool, language: str) -> None:
        self.stream, self._model, self._chat, self._language = stream, model, chat, language

    def some(self, lines: Sequence[Line]) -> bytes:
        """Lines of a stream as they come."""
        return b"".join([line.data for line in lines])

    def end(self, error: OrchestraError | None = None) -> bytes:
        """Nothing: the last line has said it; unless the error came before any."""
        if error is None:
            return b""
        fault = ours(self._model, f"> {error.message(self._language)}", chat=self._chat)
        return self.some([fault, ours(self._model, chat=self._chat, done=True, done_reason="incomplete")])

    def whole(self, lines: Sequence[Line]) -> bytes:
        """All lines in one object."""
        return _encoded(merged(lines, self._chat))


class Run:
    """One answer on its way to a client."""

    def __init__(self, sent: Sent) -> None:
        self._sent, self._chat = sent, sent.path == "/api/chat"
        self._out: list[Line] = []
        self._watch = None if sent.body.get("format") else {"text": Criteria(quality=False), "thinking": Criteria(quality=False)}
        self._last, self._equal, self._pieces, self._length = "", 0, 0, 0
        self.begun = self.ended = False

    def given(self) -> list[Line]:
        """The lines since it was last asked."""
        out, self._out = self._out, []
        return out

    def take(self, raw: bytes) -> None:
        """Takes one line of the daemon's. Raises what an error line means, and `StreamCorrupt`."""
        if self.ended:
            return
        event, sound = _read(raw, self._pieces)
        if event.get("error"):
            raise wire.said(200, wire.error_words(event["error"]), self._sent.asked)
        if ("message" if self._chat else "response") not in event:
            return  # no part of an answer
        if not self.begun:
            self.begun = True
            if self._sent.first:
                self._say(self._sent.first)
        text, thinking = wire.text_of(event)
        verdict = self._judged(text, thinking)
        if event.get("done") is True:
            self._close(event, verdict)
            return
        self._out.append(Line(raw + b"\n" if sound else _encoded(event), event))
        if verdict is not None:
            self._repeated(verdict.keep)
        elif self._pieces > self._sent.bound + EQUAL_PIECES:  # a daemon that knows no bound
            self._end("length")

    def _judged(self, text: str, thinking: str) -> Verdict | None:
        self._pieces += 1
        self._equal = self._equal + 1 if text and text == self._last else 0
        self._last = text
        self._length += len(text)
        if self._watch is None:
            return None
        verdict = self._watch["text"].push(text) if text else None
        if verdict is None and thinking and (looped := self._watch["thinking"].push(thinking)):
            verdict = looped._replace(keep=self._length)
        if verdict is None and self._equal >= SOON_CUT and text.strip().isalnum():
            verdict = Verdict(FinishReason.REPETITION, self._length - self._equal * len(text))
        return verdict

    def _close(self, event: dict[str, Any], verdict: Verdict | None) -> None:
        """The daemon's own last line, without the numbers that no client can hold; a loop at the very end is one too."""
        self.ended = True
        event = {name: value for name, value in event.items() if not _absurd(value)}
        if verdict is None and self._watch is not None and event.get("done_reason") in ("stop", "length"):
            verdict = self._watch["text"].finish()
        if verdict is not None:
            self._aside(LOOPED.text(self._sent.language))
            event["done_reason"] = "repetition"
        event.setdefault("done_reason", "stop")
        self._out.append(Line(_encoded(event), event, None if verdict is None else verdict.keep))

    def looped(self) -> bool:
        """Whether an answer that broke off had only repeated one piece, which daemons end without a word; then this is its end."""
        if self._equal >= EQUAL_PIECES - 1:
            self._repeated(self._length - self._equal * len(self._last))
        return self.ended

    def broken(self, error: OrchestraError) -> None:
        """The end of an answer that broke off: said in its text, where that may be, and in the last line."""
        self._aside(error.message(self._sent.language))
        self._end("incomplete")

    def _repeated(self, keep: int) -> None:
        self._aside(LOOPED.text(self._sent.language))
        self._end("repetition", keep)

    def _aside(self, words: str) -> None:
        """Says how it ended to people, who see no field: not where a program reads the text."""
        if not self._sent.shaped:
            self._say(aside(words))

    def _say(self, text: str) -> None:
        self._out.append(ours(self._sent.asked.model, text, chat=self._chat)._replace(aside=True))

    def _end(self, reason: str, keep: int | None = None) -> None:
        self.ended = True
        line = ours(self._sent.asked.model, chat=self._chat, done=True, done_reason=reason, eval_count=self._pieces)
        self._out.append(line._replace(keep=keep))


def ours(model: str, text: str = "", thinking: str = "", *, chat: bool, **more: Any) -> Line:
    """A line that the daemon has not said."""
    said = {"content" if chat else "response": text} | ({"thinking": thinking} if thinking else {})
    whole = {"message": {"role": "assistant", **said}} if chat else said
    event = {"model": model, "created_at": datetime.now(UTC).isoformat(), **whole, "done": False, **more}
    return Line(_encoded(event), event)


def merged(lines: Sequence[Line], chat: bool) -> dict[str, Any]:
    """The lines of an answer as the one object that a client gets who wants it whole, without what a loop repeated."""
    whole, field = dict(lines[-1].event), "content" if chat else "response"
    parts = [line.event["message"] if chat else line.event for line in lines]
    texts = [str(part.get(field) or "") if isinstance(part, dict) else "" for part in parts]
    text = "".join(text for text, line in zip(texts, lines, strict=True) if not line.aside)
    before, *after = [text if line.aside else "" for text, line in zip(texts, lines, strict=True)]
    said: dict[str, Any] = {field: "".join([before, text[: lines[-1].keep], *after])}
    if thinking := "".join(wire.text_of(line.event)[1] for line in lines):
        said["thinking"] = thinking
    if calls := [call for part in parts if isinstance(part, dict) for call in part.get("tool_calls") or ()]:
        said["tool_calls"] = calls
    if logprobs := [each for line in lines for each in line.event.get("logprobs") or ()]:
        whole["logprobs"] = logprobs
    return {**whole, "message": {"role": "assistant", **said}} if chat else {**whole, **said}


def _read(raw: bytes, line: int) -> tuple[dict[str, Any], bool]:
    """What a line says, and whether any client can read it as it stands."""
    sound = raw.isascii() or not any(end in raw for end in _LINE_ENDS)
    try:
        event = from_json(raw, allow_inf_nan=False)
    except ValueError:
        sound, event = False, None
    if isinstance(event, dict):
        return event, sound
    try:
        return wire.parsed(raw), False
    except wire.Corrupt as error:
        raise StreamCorrupt(line=line + 1, detail=str(error)) from None


def _absurd(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not 0 <= value < _LONGEST)


def _encoded(event: Mapping[str, Any]) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"
