"""The rows of sessions and turns: every statement about them, each inside somebody's transaction.

A turn is said in one session (`turn.session`); it belongs as well to every session whose head it leads to. A turn's
number is always greater than its parent's, which gives the order and keeps a damaged file from leading in circles.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from orchestra.errors import StoreCorrupt
from orchestra.model.messages import FinishReason
from orchestra.sessions import search
from orchestra.sessions.records import MODES, STATUSES, Outcome, SessionRecord, Turn, digest, jsonable, storable

FIRST_WORDS = 80
LONGEST_CHAIN = 2**62

_SESSION = """
    SELECT s.seq, s.id, s.name, s.title, s.persona, s.auto, s.model, s.language, s.mode, s.speakers,
           s.created, s.changed, h.seq, h.id, h.depth, r.question
    FROM session s LEFT JOIN turn h ON h.seq = s.head LEFT JOIN turn r ON r.seq = h.root """
_TURN = """
    SELECT t.seq, t.id, s.name, p.id, t.turn_id, t.question, t.answer, t.thinking, t.status, t.finish_reason,
           t.model, t.usage, t.receipt, t.ground, t.persona, t.created, t.digest, t.depth, t.owner, t.parent
    FROM turn t LEFT JOIN session s ON s.seq = t.session LEFT JOIN turn p ON p.seq = t.parent """
_CHAIN = (
    """
    WITH RECURSIVE chain(seq, parent, length) AS (
        SELECT seq, parent, 1 FROM turn WHERE seq = :head
        UNION ALL
        SELECT t.seq, t.parent, c.length + 1 FROM turn t JOIN chain c ON t.seq = c.parent AND t.seq < c.seq
        WHERE c.length < :last)
    """
    + _TURN
    + "WHERE t.seq IN (SELECT seq FROM chain) ORDER BY t.seq"
)


class SessionRow(NamedTuple):
    """A session with the numbers that stand for it and for its head in the file."""

    seq: int
    head: int | None
    record: SessionRecord


class TurnRow(NamedTuple):
    """A turn with the numbers that stand for it and its parent, and who is answering it."""

    seq: int
    parent: int | None
    depth: int
    owner: str | None
    turn: Turn


# --- reading


def session_row(connection: sqlite3.Connection, name: str) -> SessionRow | None:
    """The session of that name, else of that id."""
    for condition in ("WHERE s.name = ?", "WHERE s.id = ?"):
        row = connection.execute(_SESSION + condition, (storable(name),)).fetchone()
        if row is not None:
            return _session(row)
    return None


def session_rows(connection: sqlite3.Connection) -> list[SessionRow]:
    """All sessions, the one where something was last said or changed first."""
    return [_session(row) for row in connection.execute(_SESSION + "ORDER BY s.activity DESC, s.seq DESC")]


def turn_row(connection: sqlite3.Connection, seq: int) -> TurnRow | None:
    """One turn by its number."""
    row = connection.execute(_TURN + "WHERE t.seq = ?", (seq,)).fetchone()
    return None if row is None else _turn(connection, row)


def turn_asked(connection: sqlite3.Connection, session: int, turn_id: str) -> TurnRow | None:
    """The turn that the caller gave this id in this session."""
    row = connection.execute(_TURN + "WHERE t.session = ? AND t.turn_id = ?", (session, turn_id)).fetchone()
    return None if row is None else _turn(connection, row)


def turn_named(connection: sqlite3.Connection, turn: str) -> TurnRow | None:
    """One turn by its id."""
    row = connection.execute(_TURN + "WHERE t.id = ?", (storable(turn),)).fetchone()
    return None if row is None else _turn(connection, row)


def turn_of_digest(connection: sqlite3.Connection, value: str) -> TurnRow | None:
    """The newest turn after which exactly the same had been said."""
    row = connection.execute(_TURN + "WHERE t.digest = ? ORDER BY t.seq DESC LIMIT 1", (value,)).fetchone()
    return None if row is None else _turn(connection, row)


def chain(connection: sqlite3.Connection, head: int | None, *, last: int | None = None) -> list[TurnRow]:
    """The turns that lead to `head`, or the last so many of them; oldest first."""
    if last is not None and last <= 0:
        return []
    found = connection.execute(_CHAIN, {"head": head, "last": LONGEST_CHAIN if last is None else last})
    rows = [_turn(connection, row) for row in found]
    first = rows[0].depth if rows else 1
    whole = len(rows) == last or first == 1
    if not whole or [row.depth for row in rows] != list(range(first, first + len(rows))) or (head is not None and not rows):
        raise ValueError("a turn of the session is missing")
    return rows


def open_owners(connection: sqlite3.Connection) -> list[str]:
    """Who is said to be answering something."""
    return [str(owner) for (owner,) in connection.execute("SELECT DISTINCT owner FROM turn WHERE status = 'open'")]


def _session(row: Iterable[Any]) -> SessionRow:
    seq, id_, name, title, persona, auto, model, language, mode, speakers, created, changed, head, head_id, depth, first = row
    if mode not in MODES:
        raise ValueError(f"unknown mode {mode!r}")
    record = SessionRecord(
        id=str(id_),
        name=str(name),
        title=title,
        persona=persona,
        auto=bool(auto),
        model=model,
        language=language,
        mode=mode,
        speakers=tuple(json.loads(speakers)),
        turns=int(depth or 0),
        first=" ".join(str(first or "")[: 4 * FIRST_WORDS].split())[:FIRST_WORDS],
        head=head_id,
        created=float(created),
        changed=float(changed),
    )
    return SessionRow(int(seq), head, record)


def _turn(connection: sqlite3.Connection, row: Iterable[Any]) -> TurnRow:
    (seq, id_, session, parent_id, turn_id, question, answer, thinking, status, finish_reason,
     model, usage, receipt, ground, persona, created, hashed, depth, owner, parent) = row  # fmt: skip
    if status not in STATUSES:
        raise ValueError(f"unknown status {status!r}")
    if status == "open":
        answer += grown(connection, seq, "text")
        thinking += grown(connection, seq, "thinking")
    turn = Turn(
        id=str(id_),
        session=str(session),
        question=question,
        answer=answer,
        parent=parent_id,
        turn_id=turn_id,
        thinking=thinking,
        status=status,
        finish_reason=None if finish_reason is None else FinishReason(finish_reason),
        model=str(model),
        usage=None if usage is None else json.loads(usage),
        receipt=None if receipt is None else json.loads(receipt),
        ground=None if ground is None else json.loads(ground),
        persona=persona,
        created=float(created),
        digest=hashed,
    )
    return TurnRow(int(seq), parent, int(depth), owner, turn)


# --- writing


def random_id() -> str:
    """128 random bits."""
    return secrets.token_hex(16)


def now() -> float:
    """The time as it is stored, to the microsecond."""
    return round(time.time(), 6)


def insert_session(connection: sqlite3.Connection, record: SessionRecord, head: int | None = None) -> int:
    """A new session, its name known to be free."""
    cursor = connection.execute(
        """INSERT INTO session (id, name, title, persona, model, language, mode, speakers, auto, head, activity,
                                created, changed)
           SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, coalesce(max(activity), 0) + 1, ?, ? FROM session""",
        (record.id, record.name, *_about(record), head, record.created, record.changed),
    )
    return _number(cursor)


def change_session(connection: sqlite3.Connection, seq: int, record: SessionRecord) -> None:
    """Writes what is known of a session."""
    connection.execute(
        """UPDATE session SET name = ?, title = ?, persona = ?, model = ?, language = ?, mode = ?, speakers = ?, auto = ?
           WHERE seq = ?""",
        (record.name, *_about(record), seq),
    )


def _about(record: SessionRecord) -> tuple[Any, ...]:
    texts = (record.title, record.persona, record.model, record.language)
    return (
        *(None if text is None else storable(text) for text in texts),
        record.mode,
        storable(json.dumps(record.speakers, ensure_ascii=False)),
        int(record.auto),
    )


def insert_turn(connection: sqlite3.Connection, turn: Turn, session: int, parent: int | None, *, owner: str) -> int:
    """A new open turn, which becomes the session's head; of `turn`, what is known before the answer is written."""
    before = None if parent is None else connection.execute(
        "SELECT root, depth FROM turn WHERE seq = ?", (parent,)
    ).fetchone()
    root, depth = before or (0, 0)
    cursor = connection.execute(
        """INSERT INTO turn (id, session, parent, root, depth, turn_id, owner, question, answer, thinking, status,
                             model, created)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, '', '', 'open', ?, ?)""",
        (turn.id, session, parent, root, depth + 1, turn.turn_id, owner, turn.question, turn.model, turn.created),
    )
    seq = _number(cursor)
    if not before:
        connection.execute("UPDATE turn SET root = seq WHERE seq = ?", (seq,))
    connection.execute(
        """UPDATE session SET head = ?, changed = ?, activity = (SELECT max(activity) + 1 FROM session)
           WHERE seq = ?""",
        (seq, now(), session),
    )
    search.add(connection, seq, turn.question, answer=False)
    return seq


def lead(connection: sqlite3.Connection, turn: str, persona: str) -> None:
    """Writes who leads a turn (by its id)."""
    connection.execute("UPDATE turn SET persona = ? WHERE id = ?", (storable(persona), turn))


def grow(connection: sqlite3.Connection, seq: int, kind: str, text: str) -> None:
    """Adds to an answer; one that was closed or deleted meanwhile stays so."""
    connection.execute(
        "INSERT INTO growth (turn, kind, text) SELECT seq, ?, ? FROM turn WHERE seq = ? AND status = 'open'",
        (kind, storable(text), seq),
    )


def stand(connection: sqlite3.Connection, seq: int, ground: Any) -> None:
    """Writes on what an answer stands so far, unless it was closed meanwhile."""
    connection.execute("UPDATE turn SET ground = ? WHERE seq = ? AND status = 'open'", (jsonable(ground), seq))


def grown(connection: sqlite3.Connection, seq: int, kind: str) -> str:
    """What was added to an answer so far."""
    rows = connection.execute("SELECT text FROM growth WHERE turn = ? AND kind = ? ORDER BY seq", (seq, kind))
    return "".join(text for (text,) in rows)


def close_turn(connection: sqlite3.Connection, row: TurnRow, outcome: Outcome, *, keep: int | None = None) -> None:
    """Gives a turn its end: what grew becomes its answer, cut to `keep` characters, and can be found."""
    turn = row.turn
    answer = turn.answer if keep is None else turn.answer[: max(0, keep)]
    before = None if row.parent is None else connection.execute(
        "SELECT digest FROM turn WHERE seq = ?", (row.parent,)
    ).fetchone()
    connection.execute(
        """UPDATE turn SET answer = ?, thinking = ?, status = ?, finish_reason = ?, model = ?, usage = ?, receipt = ?,
                           ground = coalesce(?, ground), persona = coalesce(?, persona), digest = ?, owner = NULL
           WHERE seq = ?""",
        (
            answer,
            turn.thinking,
            outcome.status,
            outcome.finish_reason,
            storable(outcome.model) or turn.model,
            jsonable(outcome.usage),
            jsonable(outcome.receipt),
            jsonable(outcome.ground),
            None if outcome.persona is None else storable(outcome.persona),
            digest(before[0] if before else None, turn.question, answer),
            row.seq,
        ),
    )
    connection.execute("DELETE FROM growth WHERE turn = ?", (row.seq,))
    search.add(connection, row.seq, answer, answer=True)


def settle(connection: sqlite3.Connection, alive: Callable[[str], bool]) -> None:
    """Turns that nobody is answering any more keep what they have and count as interrupted."""
    for owner in open_owners(connection):
        if alive(owner):
            continue
        rows = connection.execute(_TURN + "WHERE t.status = 'open' AND t.owner = ? ORDER BY t.seq", (owner,))
        for row in [_turn(connection, row) for row in rows.fetchall()]:
            close_turn(connection, row, Outcome(status="interrupted", finish_reason=FinishReason.INCOMPLETE))


def abandon(connection: sqlite3.Connection, turn: str) -> None:
    """Closes a turn whose caller left while it was being begun."""
    row = turn_named(connection, turn)
    if row is not None and row.turn.status == "open":
        close_turn(connection, row, Outcome(status="interrupted", finish_reason=FinishReason.CANCELLED))


def delete_session(connection: sqlite3.Connection, seq: int) -> None:
    """Removes a session with the turns that no other one shares; the shared ones pass to an heir."""
    connection.execute("UPDATE session SET head = NULL WHERE seq = ?", (seq,))
    # children have greater numbers, so that each has been dealt with before its parent
    for turn, question, answer, status in connection.execute(
        "SELECT seq, question, answer, status FROM turn WHERE session = ? ORDER BY seq DESC", (seq,)
    ).fetchall():
        heir = connection.execute(
            "SELECT seq FROM session WHERE head = ? UNION ALL SELECT session FROM turn WHERE parent = ? LIMIT 1",
            (turn, turn),
        ).fetchone()
        if heir is not None:
            connection.execute("UPDATE turn SET session = ?, turn_id = NULL WHERE seq = ?", (heir[0], turn))
            continue
        search.remove(connection, turn, question, answer=False)
        if status != "open":
            search.remove(connection, turn, answer, answer=True)
        connection.execute("DELETE FROM turn WHERE seq = ?", (turn,))
    connection.execute("DELETE FROM session WHERE seq = ?", (seq,))


def _number(cursor: sqlite3.Cursor) -> int:
    if cursor.lastrowid is None:
        raise StoreCorrupt(path="sessions.db", detail="a row was not written")
    return cursor.lastrowid

