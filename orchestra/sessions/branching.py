"""Dialogues of clients that send all of it each time: what is stored of one is found, and only what is new is added.

Such a client holds the dialogue itself. Its user edits a message, has an answer made again, goes back to another one: what
is sent decides what was said, and the store follows it. The new turn begins after the last one that both know, beside
whatever else was said after that; nothing is taken away by it, and nothing is stored twice.
"""

from __future__ import annotations

import re
import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Unpack

from orchestra.errors import StoreFault
from orchestra.model.messages import FinishReason, Message
from orchestra.sessions import turns
from orchestra.sessions.journal import Journal
from orchestra.sessions.records import About, SessionRecord, Turn, digest, named, paired, storable
from orchestra.sessions.store import Store, described, insert_closed

_SOURCE = re.compile(r"\[\d{1,3}\] ")  # a line of the list of sources that stands below an answer for clients that show only text
_LOOPED = (FinishReason.REPETITION, FinishReason.LOW_QUALITY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where such a dialogue is kept: in the session `name`; without one in that which it goes on with, else in a new one.

    `prefix` begins the names of all sessions of the same caller: nobody else's turns are gone on with.
    """

    prefix: str
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A turn that has begun, for a session to answer. Without a `journal` it is kept nowhere, and `said` is what was before it.

    `wishes` are its client's own instructions: they hold for this answer, and are no part of what is kept. `lost` is told of a
    store that fails, where the reader is not to hear of it.
    """

    record: SessionRecord
    journal: Journal | None = None
    said: tuple[Message, ...] = ()
    wishes: str = ""
    lost: Callable[[StoreFault], object] | None = None

    @property
    def answered(self) -> bool:
        """Whether the turn was asked and answered before."""
        return self.journal is not None and not self.journal.new


def unkept(said: Sequence[Message] = (), *, wishes: str = "", **about: Unpack[About]) -> Begun:
    """A turn that is kept nowhere."""
    return Begun(record=described(SessionRecord(id="", name=""), about), said=tuple(said), wishes=wishes)


def continued(
    store: Store, place: Place, said: Sequence[Message], question: str, *, turn_id: str | None = None, **about: Unpack[About]
) -> Begun:
    """Begins the turn of `question` after all that was `said` before it; `about` is for a session that is made now.

    A `turn_id` under which this question was answered in that session gives that turn back (`journal.new` is False). A
    session that is recognised goes on only from its end: from anywhere else on, a new one shares its past.
    """
    pairs = [(storable(asked), storable(answer)) for asked, answer in paired(said)]
    turn = Turn(id=turns.random_id(), session="", question=storable(question), turn_id=turn_id, created=turns.now())
    owner = store.database.owner()

    def work(connection: sqlite3.Connection) -> tuple[SessionRecord, turns.TurnRow, bool]:
        turns.settle(connection, owner.alive)
        session = turns.session_row(connection, place.name) if place.name else None
        known = turns.turn_asked(connection, session.seq, turn_id) if session and turn_id else None
        if session and known and known.turn.status == "done" and known.turn.question == turn.question:
            return session.record, known, False
        past = _common(connection, pairs, place, session)
        if not place.name and past.length == len(pairs):
            session = _ending_in(connection, past.seq, place)
        seq = session.seq if session else _new(connection, place, past.seq, about)
        parent = past.seq
        for asked, answer in pairs[past.length :]:
            parent = insert_closed(connection, Turn(id="", session="", question=asked, answer=answer), seq, parent)
        begun = turns.insert_turn(connection, replace(turn, turn_id=None) if known else turn, seq, parent, owner=owner.id)
        row = turns.turn_row(connection, begun)
        found = None if row is None else turns.session_row(connection, row.turn.session)
        if row is None or found is None:
            raise ValueError("a turn was not written")
        return found.record, row, True

    record, row, new = store.database.write(work)
    return Begun(record=record, journal=Journal(store.database, row, new=new))


class _Past(NamedTuple):
    """The last turn that is stored of a dialogue, by its number, and how many of its exchanges lead to it."""

    seq: int | None = None
    length: int = 0


class _Candidate(NamedTuple):
    seq: int
    session: int
    depth: int
    answer: str
    status: str
    reason: str | None


_CANDIDATES = "SELECT t.seq, t.session, t.depth, t.answer, t.status, t.finish_reason FROM turn t "
_OF_DIGEST = _CANDIDATES + "JOIN session s ON s.seq = t.session WHERE t.digest = ? AND substr(s.name, 1, length(?)) = ?"


def _common(connection: sqlite3.Connection, pairs: Sequence[tuple[str, str]], place: Place, session: turns.SessionRow | None) -> _Past:
    """Follows the dialogue through the stored turns as far as both are the same.

    It begins with any turn of its session - some clients leave out the oldest - or of another one of the same caller, where
    a chat was copied. Of equal ones the session's own counts, then the one as deep as the dialogue is long, then the newest.
    """
    own, past = session.seq if session else 0, _Past()
    candidates: list[int] = []
    for count, (asked, answer) in enumerate(pairs, start=1):
        rows = _children(connection, candidates, asked) if candidates else _beginnings(connection, asked, answer, place, own)
        found = [row for row in rows if _same(row, answer)]
        if not found:
            break
        best = max(found, key=lambda row: (row.session == own, row.depth == count, row.seq))
        candidates, past = [row.seq for row in found], _Past(best.seq, count)
    return past


def _beginnings(connection: sqlite3.Connection, asked: str, answer: str, place: Place, own: int) -> list[_Candidate]:
    rows = connection.execute(_CANDIDATES + "WHERE t.session = ? AND t.question = ?", (own, asked)).fetchall()
    for text in _undressed(answer):
        rows += connection.execute(_OF_DIGEST, (digest(None, asked, text), place.prefix, place.prefix)).fetchall()
    return [_Candidate(*row) for row in rows]


def _children(connection: sqlite3.Connection, parents: Sequence[int], asked: str) -> list[_Candidate]:
    return [
        _Candidate(*row)
        for parent in parents
        for row in connection.execute(_CANDIDATES + "WHERE t.parent = ? AND t.question = ?", (parent, asked))
    ]


def _ending_in(connection: sqlite3.Connection, turn: int | None, place: Place) -> turns.SessionRow | None:
    """The caller's session that ends with this turn, the one last talked in where several do."""
    found = connection.execute(
        "SELECT name FROM session WHERE head = ? AND substr(name, 1, length(?)) = ? ORDER BY activity DESC LIMIT 1",
        (turn, place.prefix, place.prefix),
    ).fetchone()
    return None if found is None else turns.session_row(connection, found[0])


def _new(connection: sqlite3.Connection, place: Place, head: int | None, about: About) -> int:
    """The number of a new session, which goes on after the turn `head`."""
    name, stamp = place.name or f"{place.prefix}{time.strftime('%Y-%m-%d')}-{secrets.token_hex(6)}", turns.now()
    record = SessionRecord(id=turns.random_id(), name=named(name), created=stamp, changed=stamp)
    return turns.insert_session(connection, described(record, about), head)


def _same(row: _Candidate, answer: str) -> bool:
    """Whether a stored answer is what its client was told: the same, dressed for its reader, or as far as it came."""
    told, kept = answer.strip(), row.answer.strip()
    if row.status == "open" or told == kept:  # one that is open has been left by its client: what came is about to be kept
        return True
    if row.status != "done" and kept.startswith(told):
        return True
    if not kept:
        return False
    # what went wrong stands below an answer as a quotation; of a loop its reader has seen more than is kept
    more = (row.reason in _LOOPED and told.startswith(kept)) or told.startswith(f"{kept}\n\n> ")
    return more or kept in map(str.strip, _undressed(answer))


def _undressed(answer: str) -> set[str]:
    """An answer without what is only shown with it: the notice in a paragraph before it, the list of sources below it."""
    lines = answer.split("\n")
    while lines and _SOURCE.match(lines[-1]):
        lines.pop()
    plain = "\n".join(lines)
    bare = {answer, plain.removesuffix("\n")}
    return bare | {text.partition("\n\n")[2] for text in bare if "\n\n" in text}
