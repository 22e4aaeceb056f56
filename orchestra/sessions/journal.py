"""One turn while it is being answered: pieces go in without waiting, the end is on disk before it is confirmed."""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Mapping
from dataclasses import replace
from itertools import groupby
from types import TracebackType
from typing import Any

from orchestra.errors import SessionMissing
from orchestra.model.messages import FinishReason, Kind
from orchestra.sessions import turns
from orchestra.sessions.database import Database
from orchestra.sessions.records import Outcome, Status, Turn

PIECES = 32  # so many pieces are written without waiting for the half second
CANCELLED = Outcome(status="interrupted", finish_reason=FinishReason.CANCELLED)


class Journal:
    """What is being said in one turn. Left as a context, or dropped, without `finish`, the turn is interrupted.

    `turn` is the turn as it was begun; `new` is False where a turn of the same `turn_id` was already there,
    which is then only to be read: what is appended to it goes nowhere. `persona` is kept with the turn when it ends, `ground`
    as it grows: what was found, or said by experts, until a process was killed is there.
    """

    def __init__(self, database: Database, row: turns.TurnRow, *, new: bool = True) -> None:
        self.turn = row.turn
        self.new = new
        self.persona: str | None = None
        self._database = database
        self._growth = _Growth(row.seq)
        self._pieces = self._growth.pieces
        self._open = new
        if new:
            database.attach(self._growth)
            # a turn that nobody can finish any more would keep its session busy as long as the process lives
            self._dropped = weakref.finalize(self, _abandon, database, self._growth)
            self._dropped.atexit = False

    @property
    def ground(self) -> Mapping[str, Any] | None:
        """What the answer stands on so far; another one takes its place on disk within half a second."""
        return self._growth.ground

    @ground.setter
    def ground(self, ground: Mapping[str, Any] | None) -> None:
        self._growth.ground = ground

    def append(self, text: str, *, kind: Kind = "text") -> None:
        """Adds to the answer. Returns at once; the text is on disk within half a second or 32 pieces."""
        pieces = self._pieces
        pieces.append((kind, text))
        if kind == "text":
            self._growth.length += len(text)
        if len(pieces) == PIECES:
            self._database.nudge()

    def cut(self, keep: int, *, kind: Kind = "text") -> None:
        """Of the answer so far only `keep` characters are kept when it is finished; the rest was thinking where `kind` says so."""
        self._growth.cuts.append((self._growth.length, keep, kind))

    def finish(
        self,
        *,
        keep: int | None = None,
        status: Status = "done",
        finish_reason: FinishReason | None = None,
        model: str = "",
        usage: Any = None,
        receipt: Any = None,
    ) -> Turn:
        """The turn as it is kept, on disk when this returns: what was appended, cut to `keep` characters.

        `usage` and `receipt` are dataclasses or mappings. Raises `StorageFull` and the like, after which it may be
        called again, and `SessionMissing` when the session was deleted meanwhile.
        """
        if not self._open:
            return self.turn
        outcome = Outcome(
            status=status, finish_reason=finish_reason, model=model, usage=usage, receipt=receipt, ground=self.ground,
            persona=self.persona,
        )  # fmt: skip
        closed = self._database.write(lambda connection: self._growth.close(connection, outcome, keep))
        self._open = False
        self._dropped.detach()
        self._database.detach(self._growth)
        if closed is None:
            raise SessionMissing(name=self.turn.session, nearest="", nearest_zh="")
        self.turn = closed
        return closed

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open:
            self.finish(status=CANCELLED.status, finish_reason=CANCELLED.finish_reason)


class _Growth:
    """The pieces of one answer and what it stands on; the writer's thread asks for them."""

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self.ground: Mapping[str, Any] | None = None
        self._grounds: tuple[Mapping[str, Any] | None, ...] = (None, None)  # that was written last, and that is on disk
        self.pieces: list[tuple[Kind, str]] = []
        self.length = 0
        self.cuts: list[tuple[int, int, Kind]] = []

    def waiting(self) -> bool:
        """Whether anything is not on disk yet."""
        return bool(self.pieces) or self.ground is not self._grounds[1]

    def write(self, connection: sqlite3.Connection) -> int:
        """Writes the pieces that are there, those of one kind together, and the ground where it is another; says how many pieces."""
        count, ground = len(self.pieces), self.ground
        if ground is not self._grounds[1]:
            turns.stand(connection, self.seq, ground)
        self._grounds = (ground, self._grounds[1])
        for kind, run in groupby(self.pieces[:count], key=lambda piece: piece[0]):
            turns.grow(connection, self.seq, kind, "".join(text for _, text in run))
        return count

    def written(self, pieces: int) -> None:
        """Forgets so many pieces: they are on disk, and so is the ground."""
        del self.pieces[:pieces]
        self._grounds = (self._grounds[0], self._grounds[0])

    def close(self, connection: sqlite3.Connection, outcome: Outcome, keep: int | None) -> Turn | None:
        """Ends the turn; the pieces stay in the list, so that an attempt that fails can be repeated."""
        self.write(connection)
        row = turns.turn_row(connection, self.seq)
        if row is None or row.turn.status != "open":  # deleted; or an earlier attempt was on disk before it failed
            return None if row is None else row.turn
        if self.cuts:
            row = row._replace(turn=_without(row.turn, self.cuts))
        turns.close_turn(connection, row, outcome, keep=keep)
        closed = turns.turn_row(connection, self.seq)
        return None if closed is None else closed.turn


def _without(turn: Turn, cuts: list[tuple[int, int, Kind]]) -> Turn:
    """The turn without what was cut from its answer, each time when it was so long; thinking goes to the thinking."""
    answer, thinking, read = "", turn.thinking, 0
    for length, keep, kind in cuts:
        answer, read = answer + turn.answer[read:length], length
        thinking += answer[keep:] if kind == "thinking" else ""
        answer = answer[:keep]
    return replace(turn, answer=answer + turn.answer[read:], thinking=thinking)


def _abandon(database: Database, growth: _Growth) -> None:
    database.detach(growth)
    database.submit_if_open(lambda connection: growth.close(connection, CANCELLED, None))
