"""The full text of one base: an FTS5 index that holds words and their places, and no text.

The texts are cut as those of the sessions are, so that Chinese words of any length are found; SQLite only splits
at blanks and stems English (Porter). BM25 ranks what is found.

A question has many words that say little. Of its words the rarest are asked for, as long as they lead to few chunks:
BM25 takes about 3 us for each. For 200 questions over 100,000 chunks twelve words took 23 ms in the 95th percentile and
197 ms all words; the bound on chunks takes it to 11 ms, and the chunk that a question had been taken from was among
the best five as often (96 %).
"""

from __future__ import annotations

import json
import sqlite3
import threading
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from orchestra.retrieval.terms import COMMON, GRAMMAR
from orchestra.sessions.cutting import LONGEST_WORD, entries, pairs, runs

# an index whose texts were cut in another way cannot be changed in place: the words to take out would be others
CUT = f"1/{unicodedata.unidata_version}"
MOST_WORDS = 12
LEAST_WORDS = 3
MOST_RANKED = 3_000  # chunks that the words lead to, unless the fewest words lead to more: to compare one takes about 3 us
COMMON_SHARE = 0.05  # of the chunks: from there on a word says little
FEW = 500  # as many chunks may always have it
MOST_KEPT = 20_000  # words whose counts are kept
LONGEST_QUERY = 10_000  # characters
MOST_CONSIDERED = 200  # words of one query: each is looked up
MOST_SINGLE = 4
LOT = 4_000  # chunks that one statement enters
SEGMENT = 16 * 2**20  # bytes of new words kept before they are written: few large pieces are built and read faster


class Match(NamedTuple):
    """A chunk and how well its words fit; more is better."""

    chunk: int
    score: float


def create(connection: sqlite3.Connection, base: int) -> None:
    """An empty index for the base."""
    connection.execute(f"CREATE VIRTUAL TABLE words_{base:d} USING fts5(text, content='', tokenize='porter ascii')")
    connection.execute(f"CREATE VIRTUAL TABLE vocabulary_{base:d} USING fts5vocab(words_{base:d}, 'row')")
    connection.execute(f"INSERT INTO words_{base:d}(words_{base:d}, rank) VALUES ('hashsize', ?)", (SEGMENT,))


def drop(connection: sqlite3.Connection, base: int) -> None:
    """Takes the whole index away."""
    connection.execute(f"DROP TABLE vocabulary_{base:d}")
    connection.execute(f"DROP TABLE words_{base:d}")


def cut(heading: str, text: str) -> str:
    """What a chunk is indexed under."""
    return " ".join(entries(f"{heading}\n{text}"))


def enter(connection: sqlite3.Connection, base: int, rows: Iterable[tuple[int, str]]) -> None:
    """Enters chunks by their numbers, each with what `cut` gave."""
    # many by one statement: it runs outside of the interpreter's lock, and other threads work meanwhile
    statement = f"INSERT INTO words_{base:d}(rowid, text) SELECT CAST(key AS INTEGER), value FROM json_each(?)"
    coming = iter(rows)
    while lot := dict(islice(coming, LOT)):
        connection.execute(statement, (json.dumps(lot, ensure_ascii=False),))


def remove(connection: sqlite3.Connection, base: int, rows: Iterable[tuple[int, str]]) -> None:
    """Takes chunks out; each with exactly what was entered."""
    statement = f"INSERT INTO words_{base:d}(words_{base:d}, rowid, text) VALUES ('delete', ?, ?)"
    connection.executemany(statement, rows)


class Spread:
    """In how many chunks the words of an index are, as far as a search needs to know; kept for words that are in many.

    To count those takes longest, and for them an old count does as well as a new one.
    """

    def __init__(self) -> None:
        self._many: dict[tuple[int, str], tuple[int, int]] = {}

    def chunks(self, connection: sqlite3.Connection, base: int, stem: str, of: int) -> int:
        """How many have the word, or had it when the base was at least half and at most twice as large; `of` is how many there are."""
        count, then = self._many.get((base, stem), (0, 0))
        if then / 2 <= of <= 2 * then:
            return count
        row = connection.execute(f"SELECT doc FROM vocabulary_{base:d} WHERE term = ?", (stem,)).fetchone()
        count = int(row[0]) if row else 0
        if count > FEW:
            if len(self._many) >= MOST_KEPT:
                self._many.clear()
            self._many[base, stem] = (count, of)
        return count


def lookup(connection: sqlite3.Connection, base: int, query: str, *, chunks: int, limit: int, spread: Spread) -> list[Match]:
    """The chunks that share most with the query, the best first; `chunks` is how many the base has."""
    many = max(FEW, COMMON_SHARE * chunks)
    expression = _expression(_counted(connection, base, query, chunks, many, spread), many)
    if not expression:
        return []
    # ordered outside of the index: its own way, `ORDER BY rank` on the table, takes a fifth longer
    scored = f"SELECT rowid AS chunk, bm25(words_{base:d}) AS rank FROM words_{base:d} WHERE words_{base:d} MATCH ?"
    found = connection.execute(f"SELECT chunk, rank FROM ({scored}) ORDER BY rank, chunk LIMIT ?", (expression, limit))
    return [Match(chunk, -rank) for chunk, rank in found]


def _counted(connection: sqlite3.Connection, base: int, query: str, chunks: int, many: float, spread: Spread) -> list[tuple[int, str]]:
    """The words of the query that any chunk has, the rarest first, each with how many have it."""
    words, single = _words(query)
    # documents are statements: there "how" and "which" are rare, and would pass for words that tell
    telling = tuple(word for word in words if word not in COMMON and GRAMMAR.isdisjoint(word))
    words = telling if telling or single else words
    terms = [(spread.chunks(connection, base, stem, chunks), f'"{word}"') for word, stem in zip(words, stemmed(words), strict=True)]
    for character in single:
        terms += _begun(connection, base, character, many)
    return sorted(term for term in terms if term[0])


def _begun(connection: sqlite3.Connection, base: int, character: str, many: float) -> list[tuple[int, str]]:
    """The entries that begin with a character, as a beginning; of more than are compared, as many as are, by name."""
    rows = connection.execute(
        f"SELECT term, doc FROM vocabulary_{base:d} WHERE term >= ? AND term < ?", (character, character + "\U0010ffff")
    )
    entries, total = [], 0
    for entry, count in rows:
        entries.append((count, f'"{entry}"'))
        total += count
        if total > many:
            return entries
    return [(total, f'"{character}"*')]


def _expression(counted: list[tuple[int, str]], many: float) -> str:
    """The rarest words, any of which may be there; the query itself can hold no operator."""
    taken: list[str] = []
    total = 0
    for count, term in [entry for entry in counted if entry[0] <= many][:MOST_WORDS] or counted[:2]:
        total += count
        if len(taken) >= LEAST_WORDS and total > MOST_RANKED:
            break
        taken.append(term)
    return " OR ".join(taken)


def _words(query: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The query's words, in a script without blanks its pairs; and the characters of such a script that stand alone."""
    words: dict[str, None] = {}
    single: dict[str, None] = {}
    for run, word in runs(query[:LONGEST_QUERY]):
        if len(run) == 1:
            single[run] = None
        else:
            words.update(dict.fromkeys(pairs(run) if run else (word[:LONGEST_WORD],)))
    return tuple(words)[:MOST_CONSIDERED], tuple(single)[:MOST_SINGLE]


@lru_cache(maxsize=256)
def stemmed(words: tuple[str, ...]) -> Sequence[str]:
    """The words as SQLite's tokenizer enters them: asked of SQLite itself, so that both are always the same."""
    with _STEMMING:
        stemmer = _stemmer()
        stemmer.execute("BEGIN")
        try:
            stemmer.execute("INSERT INTO words VALUES (?)", (" ".join(words),))
            return [stem for (stem,) in stemmer.execute("SELECT term FROM stems ORDER BY offset")]
        finally:
            stemmer.execute("ROLLBACK")


@lru_cache(maxsize=1)
def _stemmer() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    connection.execute("CREATE VIRTUAL TABLE words USING fts5(text, tokenize='porter ascii')")
    connection.execute("CREATE VIRTUAL TABLE stems USING fts5vocab(words, 'instance')")
    return connection


_STEMMING = threading.Lock()
