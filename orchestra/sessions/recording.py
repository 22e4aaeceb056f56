"""The stage of the journal: what is said in a turn is kept, however its stream is left."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

from orchestra.errors import OrchestraError, StoreFault
from orchestra.model.messages import FinishReason, Piece, Receipt, gathered
from orchestra.runtime import Runtime
from orchestra.sessions.journal import Journal
from orchestra.sessions.records import Turn


async def recorded(
    pieces: AsyncGenerator[Piece], journal: Journal | None, runtime: Runtime, fault: StoreFault | None = None, *,
    lost: Callable[[StoreFault], object] | None = None,
) -> AsyncGenerator[Piece]:  # fmt: skip
    """The pieces, kept in the journal on their way; without one, because of `fault`, only told that they are not.

    A store that fails does not take the answer from the reader; its error comes after the answer, or is told to `lost`.
    """
    closed = journal is None
    said: list[Piece] = []
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                said.append(piece)
                if journal is not None:
                    closed = piece.finish_reason is not None
                    fault = await _taken(journal, runtime, piece) or fault
                if piece.receipt is not None and fault is not None:
                    piece = piece._replace(receipt=noted(piece.receipt, "not_stored"))
                yield piece
        if fault is not None and lost is not None:
            lost(fault)
        elif fault is not None:
            fault.reply = gathered(said)
            raise fault
    except OrchestraError as error:
        if journal is not None and not closed:
            closed = True
            reply = error.reply
            ending = Piece(
                "",
                finish_reason=reply.finish_reason if reply else FinishReason.INCOMPLETE,
                receipt=reply.receipt if reply else None,
                model=reply.model if reply else "",
            )
            await _closed(journal, runtime, ending, failed=True)
        raise
    finally:
        if journal is not None and not closed:  # the caller left, was cancelled, or pressed Ctrl-C
            await _closed(journal, runtime, Piece("", finish_reason=FinishReason.CANCELLED), failed=True)


def again(turn: Turn) -> list[Piece]:
    """A turn that was answered before, as pieces."""
    receipt = Receipt(calls=0, notes=("already_answered",))
    reason = turn.finish_reason or FinishReason.STOP
    return [Piece(turn.answer), Piece("", finish_reason=reason, receipt=receipt, model=turn.model, ground=turn.ground)]


def noted(receipt: Receipt, note: str) -> Receipt:
    """The receipt with one more note."""
    return replace(receipt, notes=(*receipt.notes, note))


async def _taken(journal: Journal, runtime: Runtime, piece: Piece) -> StoreFault | None:
    journal.append(piece.text, kind=piece.kind)
    if piece.finish_reason is not None:
        return await _closed(journal, runtime, piece)
    if piece.keep is not None:
        journal.cut(piece.keep, kind=piece.kind)
    return None


async def _closed(journal: Journal, runtime: Runtime, last: Piece, *, failed: bool = False) -> StoreFault | None:
    journal.ground = last.ground or journal.ground
    try:
        await runtime.call_store(
            lambda: journal.finish(
                keep=last.keep,
                status="interrupted" if failed else "done",
                finish_reason=last.finish_reason,
                model=last.model,
                usage=last.usage,
                receipt=last.receipt,
            )
        )
    except StoreFault as fault:
        return fault
    return None
