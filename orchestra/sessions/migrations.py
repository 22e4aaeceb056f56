"""The schema, as an append-only list of steps: a step that was released is never changed, only followed by another.

Each runs in a transaction of its own together with its record, so that a crash leaves a file at a step and never
between two. Before the first step of a file that holds something, a copy of it is written beside it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestra.errors import StoreCorrupt, StoreTooNew

Migration = Callable[[sqlite3.Connection], None]

MIGRATIONS: list[Migration] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """What one kind of file is: its name, the number in its header, its steps.

    `pragmas` are its own, beside those of every file; `copied` says that a copy is written before it is changed, which
    a file that can be made anew does not need.
    """

    file: str
    application: int
    steps: Callable[[], Sequence[Migration]]
    pragmas: tuple[str, ...] = ()
    copied: bool = True


SESSIONS = Schema(file="sessions.db", application=0x4F524348, steps=lambda: MIGRATIONS)  # "ORCH"


def migration(step: Migration) -> Migration:
    """Adds a step to the end of the list, under the function's name."""
    MIGRATIONS.append(step)
    return step


@migration
def sessions(connection: sqlite3.Connection) -> None:
    """A session points at its last turn."""
    connection.execute(
        """CREATE TABLE session (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,
            name TEXT NOT NULL UNIQUE,
            title TEXT, persona TEXT, model TEXT, language TEXT,
            mode TEXT NOT NULL,
            speakers TEXT NOT NULL,
            head INTEGER REFERENCES turn(seq),
            activity INTEGER NOT NULL,
            created REAL NOT NULL,
            changed REAL NOT NULL)"""
    )
    connection.execute("CREATE INDEX session_activity ON session(activity)")
    connection.execute("CREATE INDEX session_head ON session(head)")


@migration
def turns(connection: sqlite3.Connection) -> None:
    """A turn points at the one before it: forks share their past."""
    # `session` is where the turn was said, or after that one's deletion another that shares it
    connection.execute(
        """CREATE TABLE turn (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,
            session INTEGER NOT NULL REFERENCES session(seq),
            parent INTEGER REFERENCES turn(seq),
            root INTEGER NOT NULL,
            depth INTEGER NOT NULL,
            turn_id TEXT,
            owner TEXT,
            question TEXT NOT NULL,
            answer TEXT NOT NULL,
            thinking TEXT NOT NULL,
            status TEXT NOT NULL,
            finish_reason TEXT,
            model TEXT NOT NULL,
            usage TEXT,
            receipt TEXT,
            digest TEXT,
            created REAL NOT NULL,
            UNIQUE (session, turn_id))"""
    )
    connection.execute("CREATE INDEX turn_parent ON turn(parent)")
    connection.execute("CREATE INDEX turn_digest ON turn(digest)")
    connection.execute("CREATE INDEX turn_open ON turn(owner) WHERE status = 'open'")
    # an answer while it grows: small rows, because lengthening one long row would write it anew each time
    connection.execute(
        """CREATE TABLE growth (
            seq INTEGER PRIMARY KEY,
            turn INTEGER NOT NULL REFERENCES turn(seq) ON DELETE CASCADE,
            kind TEXT NOT NULL,
            text TEXT NOT NULL)"""
    )
    connection.execute("CREATE INDEX growth_turn ON growth(turn)")


@migration
def words(connection: sqlite3.Connection) -> None:
    """The full-text index; its words are cut in `search`, so the tokenizer only has to split at blanks."""
    connection.execute("CREATE VIRTUAL TABLE words USING fts5(text, content='', tokenize='ascii')")


@migration
def compactions(connection: sqlite3.Connection) -> None:
    """The summaries in which older turns stand: each belongs to the last turn that it covers, and so to all forks of it."""
    # `root` is that of the turn; `fault` says why an attempt gave no summary, and its text is empty then
    connection.execute(
        """CREATE TABLE compaction (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,
            turn INTEGER NOT NULL REFERENCES turn(seq) ON DELETE CASCADE,
            root INTEGER NOT NULL,
            text TEXT NOT NULL,
            model TEXT NOT NULL,
            tokens INTEGER,
            fault TEXT,
            created REAL NOT NULL)"""
    )
    connection.execute("CREATE INDEX compaction_root ON compaction(root)")
    connection.execute("CREATE INDEX compaction_turn ON compaction(turn)")


@migration
def grounds(connection: sqlite3.Connection) -> None:
    """A turn keeps what its answer was given to read: sources, citations, how they were found, as one JSON object."""
    connection.execute("ALTER TABLE turn ADD COLUMN ground TEXT")


@migration
def segments(connection: sqlite3.Connection) -> None:
    """A turn says who led it, and a session whether whoever fits does: where the two make segments of it."""
    connection.execute("ALTER TABLE turn ADD COLUMN persona TEXT")
    connection.execute("ALTER TABLE session ADD COLUMN auto INTEGER NOT NULL DEFAULT 0")


def migrate(connection: sqlite3.Connection, path: Path, schema: Schema = SESSIONS) -> list[str]:
    """Brings the file to the newest step and says which were made.

    Raises `StoreTooNew` for steps that are not known here and `StoreCorrupt` for another program's database;
    both leave the file as it was.
    """
    chosen = schema.steps()
    done = applied(connection, path, schema)
    unknown = sorted(done - {step.__name__ for step in chosen})
    if unknown:
        raise StoreTooNew(path=str(path), detail=", ".join(unknown))
    missing = [step for step in chosen if step.__name__ not in done]
    if missing and done and schema.copied:
        copy(connection, path.with_name(f"{path.stem}-before-{missing[0].__name__}-{secrets.token_hex(3)}.db"))
    return [step.__name__ for step in missing if _made(connection, step, path, schema)]


def applied(connection: sqlite3.Connection, path: Path, schema: Schema = SESSIONS) -> set[str]:
    """The names of the steps that the file has behind it."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (objects,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != schema.application:
        if objects or application:
            raise StoreCorrupt(path=str(path), detail="it is another program's database")
        return set()
    return {str(name) for (name,) in connection.execute("SELECT name FROM migration")}


def copy(connection: sqlite3.Connection, file: Path) -> None:
    """Writes the whole store to a new file, readable by its owner alone, while others go on writing."""
    # created here, so that no moment passes in which others may read it; SQLite takes an empty file
    os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        connection.execute("VACUUM INTO ?", (str(file),))
    except BaseException:
        with contextlib.suppress(OSError):
            file.unlink()
        raise


def _made(connection: sqlite3.Connection, step: Migration, path: Path, schema: Schema) -> bool:
    connection.execute("BEGIN IMMEDIATE")
    try:
        done = applied(connection, path, schema)
        if step.__name__ in done:  # another process was quicker
            connection.execute("ROLLBACK")
            return False
        if not done:
            pragma = f"PRAGMA application_id = {schema.application}"  # a pragma takes no parameters
            connection.execute(pragma)
            connection.execute("CREATE TABLE migration (name TEXT PRIMARY KEY, applied REAL NOT NULL)")
        step(connection)
        connection.execute("INSERT INTO migration VALUES (?, ?)", (step.__name__, time.time()))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return True
