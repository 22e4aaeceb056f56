"""Thinking told from the answer, however a model marks it.

Where the daemon knows the model's habit it sends thinking in a field of its own. Where it does not - a model
imported without its template's tags - the thinking comes in the text: between `<think>` tags, or, where the
prompt itself opened the tag, before a closing one that nothing opened. Tags come cut in pieces anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from orchestra.model.messages import Piece, Reply, gathered

_OPEN = re.compile(r"\s*<think(?:ing)?>\s*")
_CLOSE = re.compile(r"</think(?:ing)?>")
_OPEN_TAGS = ("<think>", "<thinking>")
_CLOSE_TAGS = ("</think>", "</thinking>")
_QUOTES = "`\"'“‘「『《"
"""Before a tag these say that the answer speaks of the tag."""


def unspent(facts: Mapping[str, Any]) -> bool | None:
    """`Options.think` for an answer of a few tokens: False where a model with these `facts` would spend them on thinking, else None."""
    return False if "thinking" in (facts.get("capabilities") or ()) else None


def opens_thinking(prompt: object) -> bool:
    """Whether a prompt or template ends by opening the thinking, so that the answer begins in it."""
    return isinstance(prompt, str) and prompt.rstrip().endswith(_OPEN_TAGS)


class Thoughts:
    """Sorts the pieces of one answer into text and thinking. What it says does not depend on where they were cut.

    A closing tag that nothing opened makes all the text before it thinking: a piece with `keep` 0 says so.
    `opened` says that the prompt opened the thinking.
    """

    def __init__(self, *, opened: bool = False) -> None:
        self._step = self._thinking if opened else self._beginning
        self._plain = False
        self._watching = False
        self._held = ""
        self._last = ""
        self._ticks = 0
        self._raw = 0
        self._kept = 0

    def push(self, piece: Piece) -> Sequence[Piece]:
        """The piece as what it is: itself, nothing yet, or several."""
        text = piece.text
        if piece.kind == "thinking":
            self._plain = not self._raw or self._plain  # the daemon tells thinking apart by itself
            return (piece,)
        if self._plain and not self._held:
            return (piece,) if piece.keep is None else (self._ended(piece),)
        self._raw += len(text)
        if self._watching and not self._held and "<" not in text and piece.finish_reason is None:
            self._follow(text)
            return (piece,) if text else ()
        said = self._sorted(text, last=piece.finish_reason is not None)
        if piece.finish_reason is not None:
            return (*said, self._ended(piece._replace(text="")))
        if said and piece.logprobs:
            said[0] = said[0]._replace(logprobs=piece.logprobs)
        return said

    def _ended(self, piece: Piece) -> Piece:
        return piece if piece.keep is None else piece._replace(keep=max(0, piece.keep - self._raw + self._kept))

    def _sorted(self, text: str, *, last: bool = False) -> list[Piece]:
        said: list[Piece] = []
        rest = self._held + text
        self._held = ""
        while rest:
            before, step = len(rest), self._step
            rest = self._step(rest, said)
            if len(rest) == before and self._step == step:
                break
        if rest and last:
            self._step = self._text if self._step == self._beginning else self._step
            said.append(Piece(rest, "thinking" if self._step == self._thinking else "text"))
            self._kept += 0 if self._step == self._thinking else len(rest)
        else:
            self._held = rest
        return said

    def _beginning(self, text: str, said: list[Piece]) -> str:
        opened = _OPEN.match(text)
        if opened:
            self._step = self._before_thinking
            return text[opened.end() :]
        if not text.lstrip() or any(tag.startswith(text.lstrip()) for tag in _OPEN_TAGS):
            return text
        self._step, self._watching = self._text, True
        return text

    def _before_thinking(self, text: str, said: list[Piece]) -> str:
        self._step = self._thinking if text.strip() else self._step
        return text.lstrip()

    def _thinking(self, text: str, said: list[Piece]) -> str:
        closed = _CLOSE.search(text)
        end = closed.start() if closed else len(text) - _partial(text)
        if end:
            said.append(Piece(text[:end], "thinking"))
        if closed:
            self._step = self._before_answer
            return text[closed.end() :]
        return text[end:]

    def _before_answer(self, text: str, said: list[Piece]) -> str:
        text = text.lstrip()
        self._step = self._answer if text else self._step
        return text

    def _answer(self, text: str, said: list[Piece]) -> str:
        """After the thinking everything is the answer, whatever tags it speaks of."""
        said.append(Piece(text))
        self._kept += len(text)
        self._plain = True
        return ""

    def _text(self, text: str, said: list[Piece]) -> str:
        for closed in _CLOSE.finditer(text):
            before = text[: closed.start()]
            mark = (before or self._last)[-1:]
            if (mark and mark in _QUOTES) or (self._ticks + before.count("`")) % 2:
                continue
            if before:
                said.append(Piece(before))
            said.append(Piece("", "thinking", keep=0))
            self._kept, self._watching, self._step = 0, False, self._before_answer
            return text[closed.end() :]
        end = len(text) - _partial(text)
        if end:
            said.append(Piece(text[:end]))
            self._follow(text[:end])
        return text[end:]

    def _follow(self, text: str) -> None:
        if text:
            self._kept += len(text)
            self._last = text[-1]
            self._ticks += text.count("`")


def _partial(text: str) -> int:
    """How many characters at the end of `text` may be the beginning of a closing tag."""
    at = text.rfind("<", -len(_CLOSE_TAGS[1]))
    return len(text) - at if at >= 0 and any(tag.startswith(text[at:]) for tag in _CLOSE_TAGS) else 0


def told_apart(reply: Reply, *, opened: bool = False) -> Reply:
    """A reply whose text may still hold its thinking, with each where it belongs."""
    if not opened and "</think" not in reply.text and not _OPEN.match(reply.text):
        return reply
    found = gathered(Thoughts(opened=opened).push(Piece(reply.text, finish_reason=reply.finish_reason)))
    return replace(reply, text=found.text, thinking=reply.thinking + found.thinking)
