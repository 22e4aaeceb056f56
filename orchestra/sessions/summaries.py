"""The rows of compactions: what stands for which turns. They are only added, and go with their turn.

A compaction belongs to the last turn that it covers. What a session's prompts use follows from that alone: the one
of the latest turn in its chain, whoever made it, in whichever fork.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

from orchestra.sessions import turns
from orchestra.sessions.records import Compaction, Turn, storable
from orchestra.sessions.store import Store

CANDIDATES = 3  # the latest compactions may be those of other forks; then so many are tried before all turns are read

_ROWS = """
    SELECT c.id, t.id, t.depth, c.text, c.model, c.tokens, c.fault, c.created
    FROM compaction c JOIN turn t ON t.seq = c.turn """
# the rows of one tree of turns; which of them lie in the chain is left to the caller, who holds the turns
_OF_SESSION = (
    _ROWS
    + """
    WHERE c.root = (SELECT r.root FROM session s JOIN turn r ON r.seq = s.head WHERE s.id = ?)
    ORDER BY t.depth, c.seq"""
)


def compactions(store: Store, session: str) -> list[Compaction]:
    """The compactions and failed attempts of a session (its id) and of its forks, those of the earliest turns first."""
    return store.database.read(lambda connection: [_compaction(row) for row in connection.execute(_OF_SESSION, (session,))])


def latest(store: Store, session: str, *, turns: int) -> tuple[list[Turn], list[Compaction]]:
    """What a prompt of the session is made of: the turns since its last compaction, that which it ends with included,
    and the compactions. `turns` is how many there are; where another number is found, all are given.
    """
    made = compactions(store, session)
    for each in reversed([one for one in made if one.fault is None][-CANDIDATES:]):
        if each.turns <= turns:
            found = store.history(session, last=turns - each.turns + 1)
            if found and found[0].id == each.turn:
                return found, made
    return store.history(session), made


def record(store: Store, made: Compaction) -> Compaction | None:
    """Writes a compaction and gives it back as it stands: the first one, where somebody else was quicker.

    None where the turn is gone.
    """

    def work(connection: sqlite3.Connection) -> Compaction | None:
        turn = turns.turn_named(connection, made.turn)
        if turn is None:
            return None
        if made.fault is None:
            known = connection.execute(_ROWS + "WHERE c.turn = ? AND c.fault IS NULL ORDER BY c.seq LIMIT 1", (turn.seq,)).fetchone()
            if known is not None:
                return _compaction(known)
        identity = insert(connection, made, turn.seq)
        return _compaction(connection.execute(_ROWS + "WHERE c.id = ?", (identity,)).fetchone())

    return store.database.write(work)


def insert(connection: sqlite3.Connection, made: Compaction, turn: int) -> str:
    """A new row for the turn of this number; its id."""
    identity = turns.random_id()
    connection.execute(
        """INSERT INTO compaction (id, turn, root, text, model, tokens, fault, created)
           SELECT ?, seq, root, ?, ?, ?, ?, ? FROM turn WHERE seq = ?""",
        (identity, storable(made.text), storable(made.model), made.tokens, made.fault, made.created or turns.now(), turn),
    )
    return identity


def _compaction(row: Iterable[Any]) -> Compaction:
    identity, turn, depth, text, model, tokens, fault, created = row
    return Compaction(
        id=str(identity),
        turn=str(turn),
        turns=int(depth),
        text=str(text),
        model=str(model),
        tokens=tokens,
        fault=fault,
        created=float(created),
    )
