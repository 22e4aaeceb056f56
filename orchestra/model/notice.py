"""A line before an answer that says what the answer lacks, as a stage of the stream.

Whether a model mentions that it had no source, or that an expert did not answer, is its own mood. What is
known before it begins is therefore said before it begins.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

from orchestra.model.messages import Piece


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
