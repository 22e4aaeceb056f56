"""The rows of bases, documents and chunks, within somebody's transaction."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import Any, NamedTuple

from orchestra.errors import KnowledgeMissing, UsageError
from orchestra.retrieval.knowledge import words
from orchestra.retrieval.knowledge.chunks import Chunk, Document
from orchestra.sessions.records import storable

LONGEST_NAME = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """One knowledge base. `embedding` is the model of its vectors, empty where it has none; `changed` in seconds since 1970.

    Of its chunks `vectors` have one, `shortened` of them one of their beginning alone; for `failed` ones the model gave none.
    """

    name: str
    documents: int
    chunks: int
    embedding: str = ""
    dimensions: int = 0
    vectors: int = 0
    shortened: int = 0
    failed: int = 0
    changed: float = 0.0


class Located(NamedTuple):
    """A chunk and the document that it stands in."""

    document: Document
    chunk: Chunk


class Prepared(NamedTuple):
    """A document that is to be taken in; `words` holds for each chunk what it is found under."""

    document: Document
    chunks: Sequence[Chunk]
    words: Sequence[str]


_DOCUMENT = "d.uri, d.title, d.language, d.digest, d.mtime_ns, d.size"
_LOCATED = f"""SELECT {_DOCUMENT}, c.heading, c.text, c.start, c."end", c.page
    FROM chunk c JOIN document d ON d.seq = c.document WHERE c.seq = ?"""


def seq_of(connection: sqlite3.Connection, name: str) -> int:
    """The number of the base. Raises `KnowledgeMissing` with the names that are nearest."""
    row = connection.execute("SELECT seq FROM base WHERE name = ?", (storable(name),)).fetchone()
    if row is not None:
        return int(row[0])
    from difflib import get_close_matches

    known = [other for (other,) in connection.execute("SELECT name FROM base ORDER BY changed DESC LIMIT 1000")]
    listed = ", ".join(repr(other) for other in get_close_matches(name[:100], known, n=3, cutoff=0.5))
    en, zh = (f"; there is: {listed}", f"；已有：{listed}") if listed else ("", "")
    raise KnowledgeMissing(name=name, nearest=en, nearest_zh=zh)


def named(name: str) -> str:
    """The name as it is stored; raises `UsageError` for one that is empty or longer than 300 characters."""
    if name.strip() and len(name) <= LONGEST_NAME:
        return storable(name)
    raise UsageError(
        detail="a knowledge base's name has 1 to 300 characters",
        detail_zh="知识库名称须为 1 到 300 个字符",
        fix="choose another name with --name",
        fix_zh="请用 --name 换一个名称",
    )


def all_bases(connection: sqlite3.Connection) -> list[Base]:
    """Every base, by name."""
    return [described(connection, seq) for (seq,) in connection.execute("SELECT seq FROM base ORDER BY name").fetchall()]


def described(connection: sqlite3.Connection, base: int) -> Base:
    """What a base is and has."""
    name, model, dimensions, chunks, changed = connection.execute(
        "SELECT name, model, dimensions, chunks, changed FROM base WHERE seq = ?", (base,)
    ).fetchone()
    (documents,) = connection.execute("SELECT count(*) FROM document WHERE base = ?", (base,)).fetchone()
    states = dict(connection.execute("SELECT state, count(*) FROM vector WHERE base = ? GROUP BY state", (base,)))
    return Base(
        name=name, documents=documents, chunks=chunks, embedding=model, dimensions=dimensions, changed=changed,
        vectors=states.get("whole", 0) + states.get("shortened", 0),
        shortened=states.get("shortened", 0), failed=states.get("failed", 0),
    )  # fmt: skip


def documents_of(connection: sqlite3.Connection, name: str) -> dict[str, Document]:
    """The documents of a base by their `uri`; none where there is no such base."""
    statement = f"SELECT {_DOCUMENT} FROM document d JOIN base b ON d.base = b.seq WHERE b.name = ?"
    return {row[0]: _document(row) for row in connection.execute(statement, (storable(name),))}


def located(connection: sqlite3.Connection, number: int) -> Located | None:
    """A chunk by its number."""
    row = connection.execute(_LOCATED, (number,)).fetchone()
    if row is None:
        return None
    heading, text, start, end, page = row[6:]
    return Located(_document(row[:6]), Chunk(heading=heading, text=text, start=start, end=end, page=page))


def _document(row: Sequence[Any]) -> Document:
    uri, title, language, digest, mtime_ns, size = row
    return Document(uri=uri, title=title, language=language, digest=digest, mtime_ns=mtime_ns, size=size)


# --- changes


def opened(connection: sqlite3.Connection, name: str) -> int:
    """The number of the base, which is made where there is none."""
    row = connection.execute("SELECT seq FROM base WHERE name = ?", (name,)).fetchone()
    if row is not None:
        return int(row[0])
    made = connection.execute("INSERT INTO base (name, cut, changed) VALUES (?, ?, ?)", (name, words.CUT, time.time()))
    base = int(made.lastrowid or 0)
    words.create(connection, base)
    return base


def replace(connection: sqlite3.Connection, base: int, items: Iterable[Prepared]) -> list[tuple[int, str]]:
    """Takes documents in; each replaces what its `uri` had, and chunks that are as before keep their vectors.

    Returns what is still to be entered into the base's words, in the same transaction.
    """
    _recut(connection, base)
    coming: list[tuple[int, str]] = []
    for item in {storable(item.document.uri): item for item in items}.values():
        kept = _vectors(connection, base, item.document.uri)
        _take_out(connection, base, item.document.uri)
        first = _enter(connection, base, item)
        coming += enumerate(item.words, first)
        for number, chunk in enumerate(item.chunks, first):
            if had := kept.get((storable(chunk.heading), storable(chunk.text))):
                state, value, bits = had
                connection.execute("INSERT INTO vector VALUES (?, ?, ?, ?)", (number, base, state, value))
                if bits is not None:
                    connection.execute("INSERT INTO sign VALUES (?, ?, ?)", (base, number, bits))
    _touch(connection, base)
    return coming


def remove(connection: sqlite3.Connection, base: int, uris: Iterable[str]) -> int:
    """Takes documents out; returns how many were there."""
    _recut(connection, base)
    count = sum(_take_out(connection, base, uri) for uri in uris)
    _touch(connection, base)
    return count


def drop(connection: sqlite3.Connection, base: int) -> None:
    """Takes a whole base away."""
    words.drop(connection, base)
    connection.execute("DELETE FROM base WHERE seq = ?", (base,))


def _recut(connection: sqlite3.Connection, base: int) -> None:
    """Cuts all texts of a base anew where another version of the cutting, or of Unicode, has cut them."""
    (done,) = connection.execute("SELECT cut FROM base WHERE seq = ?", (base,)).fetchone()
    if done == words.CUT:
        return
    words.drop(connection, base)
    words.create(connection, base)
    rows = connection.execute("SELECT seq, heading, text FROM chunk WHERE base = ? ORDER BY seq", (base,))
    words.enter(connection, base, ((seq, words.cut(heading, text)) for seq, heading, text in rows))
    connection.execute("UPDATE base SET cut = ? WHERE seq = ?", (words.CUT, base))


def _touch(connection: sqlite3.Connection, base: int) -> None:
    connection.execute("UPDATE base SET changed = ?, revision = revision + 1 WHERE seq = ?", (time.time(), base))


def _vectors(connection: sqlite3.Connection, base: int, uri: str) -> dict[tuple[str, str], tuple[str, bytes | None, bytes | None]]:
    """What the document's chunks have, by heading and text."""
    rows = connection.execute(
        """SELECT c.heading, c.text, v.state, v.value, s.bits
            FROM document d JOIN chunk c ON c.document = d.seq JOIN vector v ON v.chunk = c.seq
            LEFT JOIN sign s ON s.base = c.base AND s.chunk = c.seq WHERE d.base = ? AND d.uri = ?""",
        (base, storable(uri)),
    )
    return {(heading, text): (state, value, bits) for heading, text, state, value, bits in rows}


def _take_out(connection: sqlite3.Connection, base: int, uri: str) -> bool:
    """Whether the document was there."""
    row = connection.execute("SELECT seq FROM document WHERE base = ? AND uri = ?", (base, storable(uri))).fetchone()
    if row is None:
        return False
    chunks = connection.execute("SELECT seq, heading, text FROM chunk WHERE document = ?", row).fetchall()
    words.remove(connection, base, ((seq, words.cut(heading, text)) for seq, heading, text in chunks))
    connection.execute("UPDATE base SET chunks = chunks - ? WHERE seq = ?", (len(chunks), base))
    connection.execute("DELETE FROM document WHERE seq = ?", row)
    return True


def _enter(connection: sqlite3.Connection, base: int, item: Prepared) -> int:
    """The number of the first chunk; the others follow."""
    document, chunks, _ = item
    values = [storable(value) if isinstance(value, str) else value for value in astuple(document)]
    made = connection.execute(
        "INSERT INTO document (base, uri, title, language, digest, mtime_ns, size) VALUES (?, ?, ?, ?, ?, ?, ?)", (base, *values)
    )
    # they are numbered here, so that both tables take many rows at once
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'chunk'").fetchone()
    first = 1 + (row[0] if row else 0)
    connection.executemany(
        "INSERT INTO chunk VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            (number, base, made.lastrowid, storable(c.heading), storable(c.text), c.start, c.end, c.page)
            for number, c in enumerate(chunks, first)
        ),
    )
    connection.execute("UPDATE base SET chunks = chunks + ? WHERE seq = ?", (len(chunks), base))
    return first
