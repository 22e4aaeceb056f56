"""The store of sessions: what was said is on disk before anybody relies on it.

A session is a name for the end of a chain of turns. Forks share the chain, a turn that breaks off keeps what came,
and a turn whose process has died counts as interrupted for whoever looks next.
"""

from __future__ import annotations

import contextlib
import random
import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, Unpack

from orchestra.errors import SessionBusy, SessionExists, SessionMissing, StorageFull, StoreBusy, UsageError
from orchestra.model.messages import Message
from orchestra.sessions import search, turns
from orchestra.sessions.database import Database, Work
from orchestra.sessions.journal import Journal
from orchestra.sessions.records import About, Hit, Outcome, SessionRecord, Turn, digest, named, paired, storable

T = TypeVar("T")
Then = Callable[[sqlite3.Connection, Sequence[int]], None]
NAMES_COMPARED = 1000
POLL = 0.03  # seconds between two looks at a turn that another process is answering


class Store:
    """The sessions in `folder`. Opens nothing before first use; `timeout` is the patience for locks, in seconds.

    Wherever a session is named, its id is taken as well. All methods may be called from any thread.
    """

    def __init__(self, folder: Path, *, timeout: float = 60.0) -> None:
        self.database = Database(folder, timeout=timeout)
        self.path = self.database.path
        self.timeout = timeout

    def close(self) -> None:
        """Writes what is waiting and lets go of the file."""
        self.database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- sessions

    def create(
        self, name: str | None = None, *, history: Sequence[Message] = (), **about: Unpack[About]
    ) -> SessionRecord:
        """A new session, with `history` as finished turns; without a name it gets one made of the date.

        Raises `SessionExists`, and `UsageError` for a name or a history that cannot be.
        """
        said = [Turn(id="", session="", question=question, answer=answer) for question, answer in paired(history)]
        return restored(self, described(_new("" if name is None else named(name)), about), said)

    def find(self, name: str) -> SessionRecord | None:
        """The session, or None."""
        row = self._read(lambda connection: turns.session_row(connection, name))
        return None if row is None else row.record

    def session(self, name: str) -> SessionRecord:
        """The session. Raises `SessionMissing` with the names that are nearest."""
        return self._read(lambda connection: _named(connection, name)).record

    def sessions(self) -> list[SessionRecord]:
        """All sessions, the one with the newest turn first."""
        return [row.record for row in self._read(turns.session_rows)]

    def update(self, name: str, **about: Unpack[About]) -> SessionRecord:
        """Changes what is known of a session; only what is given."""

        def work(connection: sqlite3.Connection) -> SessionRecord:
            row = _named(connection, name)
            turns.change_session(connection, row.seq, described(row.record, about))
            return _named(connection, row.record.id).record

        return self.database.write(work)

    def rename(self, old: str, new: str) -> SessionRecord:
        """Gives the session another name. Raises `SessionExists` where it is taken."""
        chosen = named(new)

        def work(connection: sqlite3.Connection) -> SessionRecord:
            row = _named(connection, old)
            if chosen != row.record.name:
                _free(connection, chosen)
            turns.change_session(connection, row.seq, replace(row.record, name=chosen))
            return _named(connection, row.record.id).record

        return self.database.write(work)

    def delete(self, name: str) -> None:
        """Removes the session and the turns that no other session shares, also from the search."""
        self.database.write(lambda connection: turns.delete_session(connection, _named(connection, name).seq))

    def fork(self, name: str, new: str | None = None, *, at: str | int | None = None) -> SessionRecord:
        """A new session that shares this one's past, all of it, up to the turn `at`, or its first `at` turns.

        Raises `SessionExists`, and `UsageError` where there is no such turn.
        """
        chosen = None if new is None else named(new)

        def work(connection: sqlite3.Connection) -> SessionRecord:
            row = _named(connection, name)
            head = row.head if at is None else _point(connection, row, at)
            free = _free(connection, chosen or _numbered(connection, row.record.name))
            stamp, last = turns.now(), None if head is None or not row.record.auto else turns.turn_row(connection, head)
            persona = (last and last.turn.persona) or row.record.persona
            record = replace(row.record, id=turns.random_id(), name=free, persona=persona, created=stamp, changed=stamp)
            turns.insert_session(connection, record, head)
            return _named(connection, free).record

        return self.database.write(work)

    # --- turns

    def begin(
        self,
        session: str,
        question: str,
        *,
        turn_id: str | None = None,
        branch: bool = False,
        wait: float | None = None,
    ) -> Journal:
        """Begins a turn; the question is on disk when this returns.

        A `turn_id` that the session knows gives that turn back (`journal.new` is False). While another turn is
        being answered this waits up to `wait` seconds (by default the store's timeout) and raises `SessionBusy`;
        with `branch` it begins beside that turn instead, as another child of its parent.
        """
        turn = Turn(
            id=turns.random_id(),
            session=session,
            question=storable(question),
            turn_id=None if turn_id is None else storable(turn_id),
            created=turns.now(),
        )
        deadline = time.monotonic() + (self.timeout if wait is None else wait)
        try:
            while (journal := self._begun(turn, branch=branch)) is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise SessionBusy(name=session)
                time.sleep(min(left, random.uniform(POLL / 2, POLL * 2)))
        except (KeyboardInterrupt, SystemExit):
            self.database.submit(lambda connection: turns.abandon(connection, turn.id))
            raise
        return journal

    def history(self, session: str, *, at: str | int | None = None, last: int | None = None) -> list[Turn]:
        """The turns along the session's head, oldest first; the last one may be open.

        With `at` those that lead to that turn, which may be on another branch, or the first so many; with `last`
        the last so many of them, which takes the same time however long the session is.
        """

        def work(connection: sqlite3.Connection) -> list[turns.TurnRow]:
            row = _named(connection, session)
            return turns.chain(connection, row.head if at is None else _point(connection, row, at), last=last)

        return [row.turn for row in self._read(work)]

    def search(self, words: str, *, limit: int = 20) -> list[Hit]:
        """Messages with these words, best first. Of a word in Latin script the beginning is enough."""

        def work(connection: sqlite3.Connection) -> list[Hit]:
            hits = []
            for found in search.lookup(connection, words, limit):
                row = turns.turn_row(connection, found.turn)
                if row is not None:
                    hits.append(_hit(row.turn, words, answer=found.answer))
            return hits

        return self._read(work)

    def _begun(self, turn: Turn, *, branch: bool) -> Journal | None:
        owner = self.database.owner()

        def work(connection: sqlite3.Connection) -> tuple[turns.TurnRow, bool] | None:
            turns.settle(connection, owner.alive)
            row = _named(connection, turn.session)
            if turn.turn_id is not None:
                known = turns.turn_asked(connection, row.seq, turn.turn_id)
                if known is not None:
                    return known, False
            parent = row.head
            head = None if parent is None else turns.turn_row(connection, parent)
            if head is not None and head.turn.status == "open":
                if not branch:
                    return None
                parent = head.parent
            seq = turns.insert_turn(connection, turn, row.seq, parent, owner=owner.id)
            begun = turns.turn_row(connection, seq)
            return None if begun is None else (begun, True)

        answer = self.database.write(work)
        return None if answer is None else Journal(self.database, answer[0], new=answer[1])

    def _read(self, work: Work[T]) -> T:
        """What is there, after the turns of those who died have been closed."""
        owner = self.database.owner()

        found: list[T] = []

        def look(connection: sqlite3.Connection) -> None:
            if all(owner.alive(other) for other in turns.open_owners(connection)):
                found.append(work(connection))

        self.database.read(look)
        if found:
            return found[0]
        with contextlib.suppress(StorageFull, StoreBusy):  # what was said can be read all the same
            self.database.write(lambda connection: turns.settle(connection, owner.alive))
        return self.database.read(work)


def restored(store: Store, record: SessionRecord, said: Sequence[Turn], *, then: Then | None = None) -> SessionRecord:
    """A new session with these turns under new ids, all or none; an empty name is replaced by a free one.

    `then` writes what else belongs to them, given their numbers, in the same transaction.
    """

    def work(connection: sqlite3.Connection) -> SessionRecord:
        fresh = replace(record, id=turns.random_id(), name=_free(connection, record.name))
        session, written = turns.insert_session(connection, fresh), list[int]()
        for turn in said:
            written.append(insert_closed(connection, turn, session, written[-1] if written else None))
        if then is not None:
            then(connection, written)
        return _named(connection, fresh.id).record

    return store.database.write(work)


def recognised(store: Store, said: Sequence[Message]) -> tuple[Turn, int] | None:
    """The stored turn that ends the longest known beginning of these messages, and how many of them it covers.

    For clients that send the whole dialogue each time.
    """
    pairs = paired(said)

    def work(connection: sqlite3.Connection) -> tuple[Turn, int] | None:
        value, best = None, None
        for count, (question, answer) in enumerate(pairs, start=1):
            value = digest(value, storable(question), storable(answer))
            row = turns.turn_of_digest(connection, value)
            if row is None:
                break
            best = row.turn, count
        return best

    found = store.database.read(work)
    return None if found is None else (found[0], sum(bool(side) for pair in pairs[: found[1]] for side in pair))


def described(record: SessionRecord, about: About) -> SessionRecord:
    """The record with what is given in `about`."""
    fields: dict[str, Any] = dict(about)
    if "speakers" in fields:
        fields["speakers"] = tuple(fields["speakers"])
    return replace(record, **fields)


def _new(name: str) -> SessionRecord:
    stamp = turns.now()
    return SessionRecord(id=turns.random_id(), name=name, created=stamp, changed=stamp)


def _named(connection: sqlite3.Connection, name: str) -> turns.SessionRow:
    row = turns.session_row(connection, name)
    if row is not None:
        return row
    from difflib import get_close_matches

    known = [other.record.name for other in turns.session_rows(connection)[:NAMES_COMPARED]]
    near = get_close_matches(name[:100], known, n=3, cutoff=0.5)
    listed = ", ".join(repr(other) for other in near)
    raise SessionMissing(
        name=name,
        nearest=f"; there is {listed}" if near else "",
        nearest_zh=f"；相近的有 {listed}" if near else "",
    )


def _free(connection: sqlite3.Connection, name: str) -> str:
    if not name:
        name = f"{time.strftime('%Y-%m-%d')}-{secrets.token_hex(3)}"
    if turns.session_row(connection, name) is not None:
        raise SessionExists(name=name)
    return name


def _numbered(connection: sqlite3.Connection, name: str) -> str:
    count = 2
    while turns.session_row(connection, f"{name[:280]}-{count}") is not None:
        count += 1
    return f"{name[:280]}-{count}"


def _point(connection: sqlite3.Connection, row: turns.SessionRow, at: str | int) -> int | None:
    past = turns.chain(connection, row.head)
    if isinstance(at, int) and 0 <= at <= len(past):
        return past[at - 1].seq if at else None
    if isinstance(at, str):
        for turn in past:
            if turn.turn.id == at:
                return turn.seq
        other = turns.turn_named(connection, at)
        if other is not None and other.turn.session == row.record.name:  # a branch that the head left aside
            return other.seq
    raise UsageError(
        detail=f"the session {row.record.name!r} has {len(past)} turns, and no turn {at!r}",
        detail_zh=f"会话 {row.record.name!r} 共有 {len(past)} 轮，没有第 {at!r} 轮",
        fix="`orchestra sessions show` lists its turns",
        fix_zh="`orchestra sessions show` 可列出各轮对话",
    )


def insert_closed(connection: sqlite3.Connection, turn: Turn, session: int, parent: int | None) -> int:
    """Adds a turn that has ended, under a new id, as the head of the session of this number; gives the turn's number."""
    created = turn.created or turns.now()
    fresh = replace(
        turn, id=turns.random_id(), turn_id=None, question=storable(turn.question), model=storable(turn.model), created=created
    )
    seq = turns.insert_turn(connection, fresh, session, parent, owner="")
    row = turns.turn_row(connection, seq)
    if row is None:
        raise ValueError("a turn was not written")
    answered = replace(row.turn, answer=storable(turn.answer), thinking=storable(turn.thinking))
    status = "interrupted" if turn.status == "open" else turn.status
    outcome = Outcome(
        status=status, finish_reason=turn.finish_reason, model=turn.model, usage=turn.usage, receipt=turn.receipt, ground=turn.ground,
        persona=turn.persona,
    )  # fmt: skip
    turns.close_turn(connection, row._replace(turn=answered), outcome)
    return seq


def _hit(turn: Turn, words: str, *, answer: bool) -> Hit:
    text = turn.answer if answer else turn.question
    return Hit(
        session=turn.session,
        turn=turn.id,
        role="assistant" if answer else "user",
        text=search.snippet(text, words),
        created=turn.created,
    )
