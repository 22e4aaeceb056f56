"""The vectors of the chunks, and finding the nearest.

They are kept as 32-bit floats of length 1. From a thousand on, each has a companion of one bit a dimension: the sign
of its distance from the mean of all. A search compares all of these (by counting bits that differ), and the floats of
the few hundred nearest alone; for 100,000 vectors of 768 dimensions it holds 10 MB in memory in place of 300.
The mean matters: real vectors all lie on one side of the origin, and without it most signs would be equal.

It works without numpy too, more slowly.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import nlargest
from itertools import islice
from typing import Literal, NamedTuple

from orchestra.errors import EmbeddingChanged
from orchestra.retrieval.knowledge.arithmetic import Mean, Signs, cosines, packed, signs
from orchestra.retrieval.knowledge.bases import seq_of
from orchestra.retrieval.knowledge.words import Match
from orchestra.sessions.database import Database

State = Literal["whole", "shortened", "failed"]
SIGNED_FROM = 1_000  # vectors; fewer are compared one by one
RESCORED = 800  # of the nearest by their signs
BLOCK = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What makes vectors comparable: the model with its digest, the version of the prefixes, the number of dimensions.

    `dimensions` is 0 before the first vector.
    """

    model: str
    digest: str
    prefixes: str
    dimensions: int = 0


class Pending(NamedTuple):
    """A chunk without a vector."""

    chunk: int
    heading: str
    text: str


class Embedded(NamedTuple):
    """What the model made of a chunk; no `value` where it failed."""

    chunk: int
    state: State
    value: Sequence[float] | None


class Hot(NamedTuple):
    """The signs of a base in memory, and the numbers of their chunks."""

    revision: int
    chunks: array[int]
    signs: Signs


class Vectors:
    """The vectors of all bases. All methods block, and raise `KnowledgeMissing`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._hot: dict[int, Hot] = {}

    def space(self, name: str) -> Space | None:
        """What the vectors of a base are made by; None where it has full text alone."""
        return self._database.read(lambda c: _space(c, seq_of(c, name)))

    def adopt(self, name: str, space: Space) -> None:
        """From now on the base has vectors of this kind; those of another kind are thrown away."""

        def work(connection: sqlite3.Connection) -> None:
            base = seq_of(connection, name)
            had = _space(connection, base)
            if had is not None and _alike(had, space):
                return
            connection.execute("DELETE FROM vector WHERE base = ?", (base,))
            connection.execute("DELETE FROM sign WHERE base = ?", (base,))
            connection.execute(
                """UPDATE base SET model = ?, digest = ?, prefixes = ?, dimensions = 0, mean = NULL, centred = 0,
                    revision = revision + 1 WHERE seq = ?""",
                (space.model, space.digest, space.prefixes, base),
            )

        self._database.write(work)

    def retry(self, name: str) -> None:
        """Has the chunks that failed asked for again."""
        statement = "DELETE FROM vector WHERE base = ? AND state = 'failed'"
        self._database.write(lambda c: c.execute(statement, (seq_of(c, name),)) and None)

    def pending(self, name: str, limit: int, *, after: int = 0) -> list[Pending]:
        """Chunks with a number above `after` that have no vector, in order."""

        def work(connection: sqlite3.Connection) -> list[Pending]:
            rows = connection.execute(
                """SELECT c.seq, c.heading, c.text FROM chunk c WHERE c.base = ? AND c.seq > ?
                    AND NOT EXISTS (SELECT 1 FROM vector v WHERE v.chunk = c.seq) ORDER BY c.seq LIMIT ?""",
                (seq_of(connection, name), after, limit),
            )
            return [Pending(*row) for row in rows]

        return self._database.read(work)

    def put(self, name: str, space: Space, rows: Iterable[Embedded]) -> None:
        """Keeps what the model made of chunks; those that are gone meanwhile are left out.

        Raises `EmbeddingChanged` where the base has vectors of another kind.
        """
        values = [(row.chunk, row.state, None if row.value is None else packed(row.value)) for row in rows]
        dimensions = next((len(row) // 4 for _, _, row in values if row), 0)

        def work(connection: sqlite3.Connection) -> None:
            base = seq_of(connection, name)
            had = _space(connection, base)
            if had is None or not _alike(had, space) or (dimensions and had.dimensions not in (0, dimensions)):
                raise changed(name, had or space)
            if dimensions and not had.dimensions:
                connection.execute("UPDATE base SET dimensions = ? WHERE seq = ?", (dimensions, base))
            connection.executemany(
                "INSERT OR REPLACE INTO vector SELECT seq, base, ?, ? FROM chunk WHERE seq = ? AND base = ?",
                [(state, value, chunk, base) for chunk, state, value in values],
            )
            _sign(connection, base, [(chunk, value) for chunk, _, value in values if value])
            connection.execute("UPDATE base SET revision = revision + 1 WHERE seq = ?", (base,))

        self._database.write(work)

    def nearest(self, name: str, vector: Sequence[float], limit: int, *, exact: bool = False) -> list[Match]:
        """The chunks whose vectors are nearest, by the cosine of their angle, the best first; `exact` compares all floats."""
        return self._database.read(lambda c: self._nearest(c, seq_of(c, name), packed(vector), limit, exact))

    def _nearest(self, connection: sqlite3.Connection, base: int, vector: bytes, limit: int, exact: bool) -> list[Match]:
        revision, mean, dimensions = connection.execute("SELECT revision, mean, dimensions FROM base WHERE seq = ?", (base,)).fetchone()
        if 4 * dimensions != len(vector):
            return []
        if mean is None or exact:
            return _best(_values(connection, base), vector, limit)
        hot = self._hot.get(base)
        if hot is None or hot.revision != revision:
            hot = self._hot[base] = _loaded(connection, base, revision, mean)
        near = [hot.chunks[position] for position in hot.signs.nearest(vector, max(RESCORED, 4 * limit))]
        marks = ", ".join("?" * len(near))
        return _best(connection.execute(f"SELECT chunk, value FROM vector WHERE chunk IN ({marks})", near), vector, limit)


def changed(name: str, space: Space, en: str = "the model of that name is another one now", zh: str = "同名模型现已不同") -> EmbeddingChanged:
    """The error of vectors that cannot be compared with what the model makes now."""
    return EmbeddingChanged(name=name, model=space.model, detail=en, detail_zh=zh)


# --- within a transaction


def _space(connection: sqlite3.Connection, base: int) -> Space | None:
    model, digest, prefixes, dimensions = connection.execute(
        "SELECT model, digest, prefixes, dimensions FROM base WHERE seq = ?", (base,)
    ).fetchone()
    return Space(model=model, digest=digest, prefixes=prefixes, dimensions=dimensions) if model else None


def _alike(one: Space, other: Space) -> bool:
    return (one.digest, one.prefixes) == (other.digest, other.prefixes)


def _sign(connection: sqlite3.Connection, base: int, rows: Sequence[tuple[int, bytes]]) -> None:
    """Gives new vectors their signs; where there are twice as many as when the mean was taken, all anew."""
    mean, centred = connection.execute("SELECT mean, centred FROM base WHERE seq = ?", (base,)).fetchone()
    (count,) = connection.execute("SELECT count(*) FROM vector WHERE base = ? AND state != 'failed'", (base,)).fetchone()
    if count < max(SIGNED_FROM, 2 * centred):
        if mean is not None:
            _write_signs(connection, base, rows, mean)
        return
    taken = Mean()
    for block in _blocks(_values(connection, base)):
        taken.push([value for _, value in block])
    mean = taken.packed()
    connection.execute("UPDATE base SET mean = ?, centred = ? WHERE seq = ?", (mean, taken.count, base))
    for block in _blocks(_values(connection, base)):
        _write_signs(connection, base, block, mean)


def _write_signs(connection: sqlite3.Connection, base: int, rows: Sequence[tuple[int, bytes]], mean: bytes) -> None:
    bits = signs([value for _, value in rows], mean) if rows else []
    connection.executemany(
        "INSERT OR REPLACE INTO sign SELECT base, seq, ? FROM chunk WHERE seq = ? AND base = ?",
        [(row, chunk, base) for (chunk, _), row in zip(rows, bits, strict=True)],
    )


def _values(connection: sqlite3.Connection, base: int) -> Iterator[tuple[int, bytes]]:
    return connection.execute("SELECT chunk, value FROM vector WHERE base = ? AND value IS NOT NULL", (base,))


def _blocks(rows: Iterator[tuple[int, bytes]]) -> Iterator[list[tuple[int, bytes]]]:
    while block := list(islice(rows, BLOCK)):
        yield block


def _loaded(connection: sqlite3.Connection, base: int, revision: int, mean: bytes) -> Hot:
    chunks, rows = array("q"), bytearray()
    for chunk, bits in connection.execute("SELECT chunk, bits FROM sign WHERE base = ? ORDER BY chunk", (base,)):
        chunks.append(chunk)
        rows += bits
    return Hot(revision, chunks, Signs(rows, mean))


def _best(rows: Iterator[tuple[int, bytes]], vector: bytes, limit: int) -> list[Match]:
    """The nearest of the rows, which are compared one by one."""
    found: list[tuple[float, int]] = []
    for block in _blocks(rows):
        scores = cosines([value for _, value in block], vector)
        found = nlargest(limit, [*found, *zip(scores, (chunk for chunk, _ in block), strict=True)])
    return [Match(chunk, score) for score, chunk in found]
