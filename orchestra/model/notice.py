"""A line before an answer that says what the answer lacks, as a stage of the stream.

Whether a model mentions that it had no source, or that an expert did not answer, is its own mood. What is
known before it begins is therefore said before it begins.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

from orchestra.model.messages import Piece
from orchestra.texts import Words

LEFT_OUT = "older_left_out"  # the note of a receipt whose answer does not stand on the whole dialogue
_LEFT_OUT = Words(
    "[The {count} oldest messages did not fit into the window of {window} tokens and were left out.]\n\n",
    "［最早的 {count} 条消息超出了 {window} 个 token 的上下文窗口，已略去。］\n\n",
)
_OUR_LINE = re.compile(r"(?:\[The \d{1,9} oldest messages did not fit into the window of|［最早的 \d{1,9} 条消息超出了)[^\n]{1,80}\n\n")


async def announced(
    pieces: AsyncGenerator[Piece], *, notice: str | Callable[[], str] = "", note: str = ""
) -> AsyncGenerator[Piece]:
    """`pieces`, with `notice` as a paragraph before the first text, and `note` in the receipt at the end.

    A `notice` that is known only when the first text comes is given as a function.
    """
    said, begun = "", False
    async with aclosing(pieces):
        async for piece in pieces:
            if not begun and piece.kind == "text":
                begun = True
                told = notice() if callable(notice) else notice
                if told:
                    said = told + "\n\n"
                    yield Piece(said)
            if said and piece.keep is not None:
                piece = piece._replace(keep=piece.keep + len(said))
            if note and piece.receipt is not None:
                piece = piece._replace(receipt=replace(piece.receipt, notes=(*piece.receipt.notes, note)))
            yield piece


def left_out(count: int, window: int, language: str) -> str:
    """What an answer begins with that does not stand on the whole dialogue."""
    return _LEFT_OUT.text(language, {"count": count, "window": window})


def without_notice(answer: str) -> str:
    """An answer as its model has said it: a client sends the line back with the rest."""
    return _OUR_LINE.sub("", answer, count=1) if _OUR_LINE.match(answer) else answer
