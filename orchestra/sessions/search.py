"""Finding what was said: the words of questions and answers, in any script."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from orchestra.sessions.cutting import LONGEST_WORD, pairs, runs
from orchestra.sessions.cutting import entries as entries

MOST_TERMS = 32
SNIPPET = 96


class Term(NamedTuple):
    """One word of a query: the entries that must follow each other, the last one perhaps only begun."""

    entries: tuple[str, ...]
    prefix: bool


class Found(NamedTuple):
    """A row of the index: the turn's number and the side of it."""

    turn: int
    answer: bool


def terms(query: str) -> list[Term]:
    """The words of a query. A word of a script with blanks need only be begun."""
    found = []
    for run, word in runs(query):
        if len(run) > 1:
            found.append(Term(tuple(pairs(run)), prefix=False))
        else:
            found.append(Term((run or word[:LONGEST_WORD],), prefix=True))
    return list(dict.fromkeys(found))[:MOST_TERMS]


def add(connection: sqlite3.Connection, turn: int, text: str, *, answer: bool) -> None:
    """Enters one side of a turn."""
    if words := " ".join(entries(text)):
        connection.execute("INSERT INTO words(rowid, text) VALUES (?, ?)", (2 * turn + answer, words))


def remove(connection: sqlite3.Connection, turn: int, text: str, *, answer: bool) -> None:
    """Takes one side of a turn out; `text` must be what was entered."""
    if words := " ".join(entries(text)):
        connection.execute(
            "INSERT INTO words(words, rowid, text) VALUES ('delete', ?, ?)", (2 * turn + answer, words)
        )


def lookup(connection: sqlite3.Connection, query: str, limit: int) -> list[Found]:
    """Messages that hold all words of the query, best first; where none does, those that hold some of it."""
    wanted = terms(query)
    for expression in (_all_of(wanted), _any_of(wanted)) if wanted else ():
        rows = connection.execute(
            "SELECT rowid FROM words WHERE words MATCH ? ORDER BY rank, rowid DESC LIMIT ?", (expression, limit)
        ).fetchall()
        if rows:
            return [Found(row // 2, bool(row % 2)) for (row,) in rows]
    return []


def snippet(text: str, query: str) -> str:
    """The part of the text around the first word of the query, in one line."""
    places = [place for run, word in runs(query) if (place := text.lower().find(run or word)) >= 0]
    start = max(0, min(places, default=0) - SNIPPET // 3)
    part = " ".join(text[start : start + SNIPPET].split())
    return ("…" if start else "") + part + ("…" if start + SNIPPET < len(text) else "")


def _all_of(wanted: list[Term]) -> str:
    return " AND ".join(_quoted(" ".join(term.entries), prefix=term.prefix) for term in wanted)


def _any_of(wanted: list[Term]) -> str:
    single = [_quoted(entry, prefix=term.prefix) for term in wanted for entry in term.entries]
    return " OR ".join(single[: 4 * MOST_TERMS])


def _quoted(words: str, *, prefix: bool) -> str:
    # nothing that a query can hold is a quote here: it is punctuation, and cut away
    return f'"{words}"' + ("*" if prefix else "")
