"""The index of the knowledge bases: their documents, the chunks of these, and the full text over them.

Each base has its own words, so that a search of one costs nothing for the others and dropping one is cheap. What
`put` takes is one transaction: a reader sees all of it or nothing, and what was in before stays searchable meanwhile.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType

from orchestra.retrieval.knowledge import bases, words
from orchestra.retrieval.knowledge.bases import Base as Base
from orchestra.retrieval.knowledge.bases import Located as Located
from orchestra.retrieval.knowledge.chunks import Chunk, Document
from orchestra.retrieval.knowledge.schema import SCHEMA
from orchestra.retrieval.knowledge.vectors import Vectors
from orchestra.retrieval.knowledge.words import Match as Match
from orchestra.sessions.database import Database

Item = tuple[Document, Sequence[Chunk]]


class Index:
    """The bases in `folder`. Opens nothing before first use; `timeout` is the patience for locks, in seconds.

    All methods block, and may be called from any thread. `vectors` holds what embedding models made of the chunks.
    """

    def __init__(self, folder: Path, *, timeout: float = 60.0) -> None:
        self.database = Database(folder, timeout=timeout, schema=SCHEMA)
        self.path = self.database.path
        self.vectors = Vectors(self.database)
        self._spread = words.Spread()

    def close(self) -> None:
        """Lets go of the file; the next use opens it again."""
        self.database.close()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def bases(self) -> list[Base]:
        """All bases, by name."""
        return self.database.read(bases.all_bases)

    def base(self, name: str) -> Base:
        """One base. Raises `KnowledgeMissing` with the names that are nearest."""
        return self.database.read(lambda c: bases.described(c, bases.seq_of(c, name)))

    def documents(self, name: str) -> dict[str, Document]:
        """The documents of a base by their `uri`; none where there is no such base."""
        return self.database.read(lambda c: bases.documents_of(c, name))

    def put(self, name: str, items: Iterable[Item]) -> None:
        """Takes documents in, in one transaction; each replaces what its `uri` had. Makes the base where there is none.

        Raises `UsageError` for a name that cannot be. A few hundred chunks at once are taken in fastest.
        """
        self.putting(name, items).result()

    def putting(self, name: str, items: Iterable[Item]) -> Future[None]:
        """The same without waiting for the words, which take longest: the next documents can be read and cut meanwhile.

        The future is done when the transaction is; it raises what `put` raises.
        """
        name = bases.named(name)
        prepared = [bases.Prepared(d, chunks, [words.cut(c.heading, c.text) for c in chunks]) for d, chunks in items]
        placed = threading.Event()

        def work(connection: sqlite3.Connection) -> None:
            base = bases.opened(connection, name)
            rows = bases.replace(connection, base, prepared)
            placed.set()
            words.enter(connection, base, rows)

        future = self.database.submit(work)
        future.add_done_callback(lambda _: placed.set())
        # many short statements: each waits for the interpreter's lock, which a thread that cuts texts would hold
        placed.wait()
        return future

    def remove(self, name: str, uris: Iterable[str]) -> int:
        """Takes documents out; returns how many were there. Raises `KnowledgeMissing`."""
        gone = list(uris)
        return self.database.write(lambda c: bases.remove(c, bases.seq_of(c, name), gone))

    def drop(self, name: str) -> None:
        """Takes a whole base away. Raises `KnowledgeMissing`."""
        self.database.write(lambda c: bases.drop(c, bases.seq_of(c, name)))

    def text_search(self, name: str, query: str, limit: int = 10) -> list[Match]:
        """The chunks that share most words with the query, the best first. Raises `KnowledgeMissing`."""

        def work(connection: sqlite3.Connection) -> list[Match]:
            base = bases.seq_of(connection, name)
            (chunks,) = connection.execute("SELECT chunks FROM base WHERE seq = ?", (base,)).fetchone()
            return words.lookup(connection, base, query, chunks=chunks, limit=limit, spread=self._spread)

        return self.database.read(work)

    def chunks(self, numbers: Iterable[int]) -> dict[int, Located]:
        """Chunks by the numbers that a search gave; those that are gone are left out."""
        wanted = list(numbers)
        found = self.database.read(lambda c: [(number, bases.located(c, number)) for number in wanted])
        return {number: chunk for number, chunk in found if chunk is not None}
