"""The file of the knowledge bases, beside that of the sessions.

It can be made anew from the documents. So a commit does not wait for the disk (`synchronous = NORMAL`: a loss of power
may take the last commits back, and never damages the file), and no copy is written before its schema changes.
"""

from __future__ import annotations

import sqlite3

from orchestra.sessions.migrations import Migration, Schema

STEPS: list[Migration] = []
SCHEMA = Schema(
    file="knowledge.db",
    application=0x4F52434B,  # "ORCK"
    steps=lambda: STEPS,
    pragmas=("PRAGMA synchronous = NORMAL", "PRAGMA cache_size = -8192"),
    copied=False,
)


def step(migration: Migration) -> Migration:
    """Adds a step to the end of the list, under the function's name."""
    STEPS.append(migration)
    return migration


@step
def bases(connection: sqlite3.Connection) -> None:
    """A base has documents, a document its chunks; the words of each base are an index of their own."""
    # `cut`: how its texts were cut into words; `chunks`: how many it has, counted along;
    # `revision` grows with every change; `mean` is what the signs are taken around, of the first `centred` vectors
    connection.execute(
        """CREATE TABLE base (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            name TEXT NOT NULL UNIQUE,
            cut TEXT NOT NULL,
            model TEXT NOT NULL DEFAULT '',
            digest TEXT NOT NULL DEFAULT '',
            prefixes TEXT NOT NULL DEFAULT '',
            dimensions INTEGER NOT NULL DEFAULT 0,
            mean BLOB,
            centred INTEGER NOT NULL DEFAULT 0,
            chunks INTEGER NOT NULL DEFAULT 0,
            revision INTEGER NOT NULL DEFAULT 0,
            changed REAL NOT NULL)"""
    )
    connection.execute(
        """CREATE TABLE document (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            base INTEGER NOT NULL REFERENCES base(seq) ON DELETE CASCADE,
            uri TEXT NOT NULL,
            title TEXT NOT NULL,
            language TEXT NOT NULL,
            digest TEXT NOT NULL,
            mtime_ns INTEGER NOT NULL,
            size INTEGER NOT NULL,
            UNIQUE (base, uri))"""
    )
    connection.execute(
        """CREATE TABLE chunk (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            base INTEGER NOT NULL,
            document INTEGER NOT NULL REFERENCES document(seq) ON DELETE CASCADE,
            heading TEXT NOT NULL,
            text TEXT NOT NULL,
            start INTEGER NOT NULL,
            "end" INTEGER NOT NULL,
            page INTEGER NOT NULL)"""
    )
    connection.execute("CREATE INDEX chunk_document ON chunk(document)")
    connection.execute("CREATE INDEX chunk_base ON chunk(base)")


@step
def vectors(connection: sqlite3.Connection) -> None:
    """A chunk has a vector where an embedding model was named."""
    # `state`: "whole", "shortened" (of the text's beginning alone) or "failed" (no vector, and not asked for again)
    connection.execute(
        """CREATE TABLE vector (
            chunk INTEGER PRIMARY KEY REFERENCES chunk(seq) ON DELETE CASCADE,
            base INTEGER NOT NULL,
            state TEXT NOT NULL,
            value BLOB)"""
    )
    connection.execute("CREATE INDEX vector_state ON vector(base, state)")
    # the signs of the vectors stand apart and side by side: a search reads all of them, and few of the vectors
    connection.execute(
        """CREATE TABLE sign (
            base INTEGER NOT NULL,
            chunk INTEGER NOT NULL,
            bits BLOB NOT NULL,
            PRIMARY KEY (base, chunk)) WITHOUT ROWID"""
    )
    connection.execute(
        """CREATE TRIGGER chunk_gone AFTER DELETE ON chunk
            BEGIN DELETE FROM sign WHERE base = old.base AND chunk = old.seq; END"""
    )
