"""Finding what was said: the words of questions and answers, in any script.

Chinese and Japanese have no blanks between words, and SQLite's own tokenizers find one-character or two-character
words in them badly or not at all. So texts are cut here, on both sides of the search in the same way: runs of such
characters become overlapping pairs, and the last character of a run stands once more alone, so that each character
begins some entry and a prefix finds it. Everything else is cut at blanks and punctuation.
"""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from orchestra.sessions.records import storable

LONGEST_WORD = 64
MOST_TERMS = 32
SNIPPET = 96

# Hangul, ideographic marks, Kana, Bopomofo, Han
_CJK = (
    "\u1100-\u11ff\u3005-\u3007\u3040-\u30ff\u3100-\u318f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff"
)
# what stands between words: controls, ASCII and Latin-1 punctuation, general and CJK punctuation, wide forms of it
_GAP = (
    "\\s\x00-\x2f:-@\\[-`{-\x9f\xa0-\xa9\xab-\xb4\xb6-\xb9\xbb-\xbf\xd7\xf7\u2000-\u206f\u2e00-\u2e7f"
    "\u3000-\u3004\u3008-\u303f\ufe10-\ufe6f\ufeff\uff00-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\ufff0-\uffff"
)
_RUN = re.compile(f"([{_CJK}]+)|([^{_CJK}{_GAP}]+)")
_ACCENTS = re.compile("[\u0300-\u036f]")


class Term(NamedTuple):
    """One word of a query: the entries that must follow each other, the last one perhaps only begun."""

    entries: tuple[str, ...]
    prefix: bool


class Found(NamedTuple):
    """A row of the index: the turn's number and the side of it."""

    turn: int
    answer: bool


def entries(text: str) -> Iterator[str]:
    """What a text is indexed under, in order."""
    for run, word in _runs(text):
        if run:
            yield from _pairs(run)
            yield run[-1]
        else:
            yield word[:LONGEST_WORD]


def terms(query: str) -> list[Term]:
    """The words of a query. A word of a script with blanks need only be begun."""
    found = []
    for run, word in _runs(query):
        if len(run) > 1:
            found.append(Term(tuple(_pairs(run)), prefix=False))
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
    places = [place for run, word in _runs(query) if (place := text.lower().find(run or word)) >= 0]
    start = max(0, min(places, default=0) - SNIPPET // 3)
    part = " ".join(text[start : start + SNIPPET].split())
    return ("…" if start else "") + part + ("…" if start + SNIPPET < len(text) else "")


def folded(text: str) -> str:
    """The text as it is compared: without case, width and accents."""
    plain = _ACCENTS.sub("", unicodedata.normalize("NFKD", storable(text)))
    return unicodedata.normalize("NFKC", plain).lower()


def _runs(text: str) -> Iterator[tuple[str, str]]:
    return ((match[1] or "", match[2] or "") for match in _RUN.finditer(folded(text)))


def _pairs(run: str) -> Iterator[str]:
    return (run[at : at + 2] for at in range(len(run) - 1))


def _all_of(wanted: list[Term]) -> str:
    return " AND ".join(_quoted(" ".join(term.entries), prefix=term.prefix) for term in wanted)


def _any_of(wanted: list[Term]) -> str:
    single = [_quoted(entry, prefix=term.prefix) for term in wanted for entry in term.entries]
    return " OR ".join(single[: 4 * MOST_TERMS])


def _quoted(words: str, *, prefix: bool) -> str:
    # nothing that a query can hold is a quote here: it is punctuation, and cut away
    return f'"{words}"' + ("*" if prefix else "")
