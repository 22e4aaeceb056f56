"""What outlives a search: found passages, and what is known of the services.

One SQLite file, `search.db`, beside the sessions; each call is one short transaction on a connection of its own. Nothing in it
is worth an error: a broken file is thrown away and made anew, a full or read-only disk means that this process remembers alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from orchestra.retrieval.passages import Passage

T = TypeVar("T")

NOTHING_AGE = 120.0  # seconds for which "nothing was found" is believed
STALE_AGE = 7 * 86400.0  # seconds after which what was found is forgotten
MOST = 2000  # searches that are kept
PATIENCE = 1.0  # seconds for another process that writes
# the file is none of SQLite's, damaged, or made by another version of this program
_USELESS = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_SCHEMA)
_TABLE = """
CREATE TABLE IF NOT EXISTS kept (kind TEXT NOT NULL, name TEXT NOT NULL, at REAL NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, name));
CREATE INDEX IF NOT EXISTS kept_at ON kept (kind, at);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a service once gave, and how many seconds ago."""

    passages: tuple[Passage, ...]
    age: float

    def fresh(self, limit: float) -> bool:
        """Whether it is as good as asking again; `limit` in seconds."""
        return 0 <= self.age <= (limit if self.passages else min(limit, NOTHING_AGE))

    def stale(self) -> tuple[Passage, ...]:
        """The passages for when the service fails, marked as that; none once they are a week old."""
        return tuple(replace(passage, stale=True) for passage in self.passages) if 0 <= self.age <= STALE_AGE else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a service stands: it is left alone until `until`; `pause` is how long it was left alone last time.

    `failures` counts those in a row; `answered` and `away` are when it last answered, and last did not. Times are moments, in seconds.
    """

    until: float = 0.0
    pause: float = 0.0
    failures: int = 0
    answered: float = 0.0
    away: float = 0.0


def asked_key(provider: str, query: str, results: int, language: str) -> str:
    """The name under which an answer is kept; a query's spelling in capitals or full-width letters makes no difference."""
    plain = " ".join(unicodedata.normalize("NFKC", query).lower().split())
    return hashlib.sha256(json.dumps([provider, plain, results, language]).encode()).hexdigest()


class Cache:
    """The file at `path`, or this process's memory alone where none is given; `clock` says the time in seconds."""

    def __init__(self, path: Path | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.place: object = path or id(self)  # where it keeps things: equal for two caches over one file
        self._path = path
        self._here: dict[tuple[str, str], tuple[float, Any]] = {}

    # --- what was found

    def found(self, key: str) -> Kept | None:
        """What is kept under `key`, of whatever age."""
        at, value = self._read("found", key)
        if not isinstance(value, list):
            return None
        with suppress(TypeError):
            return Kept(passages=tuple(Passage(**row) for row in value), age=self.clock() - at)
        return None

    def keep(self, key: str, passages: Sequence[Passage]) -> None:
        """Keeps what a service gave, which may be nothing."""
        self._change("found", key, lambda _: [asdict(passage) for passage in passages])

    # --- what is known of the services

    def standing(self, name: str) -> Standing:
        """How the service stands; one that was never asked stands well."""
        return _standing(self._read("standing", name)[1])

    def stands(self, name: str, change: Callable[[Standing], Standing]) -> Standing:
        """Changes how the service stands, from what it is now."""
        return _standing(self._change("standing", name, lambda old: asdict(change(_standing(old)))))

    def turn(self, name: str, spacing: float) -> float:
        """The moment at which the service may be asked, `spacing` seconds after the one before; it is taken by this."""
        now = self.clock()

        def next_turn(last: Any) -> float:
            # a turn far ahead was taken by a clock that has been set back since
            known = isinstance(last, float) and last < now + 100 * spacing
            return max(now, last + spacing) if known else now

        taken = self._change("turn", name, next_turn)
        return taken if isinstance(taken, float) else now

    def untold(self, service: str) -> bool:
        """Whether the user has still to be told that this service sees the questions."""
        return self._read("told", service)[1] is None

    def told(self, service: str) -> None:
        """The user has been told of it."""
        self._change("told", service, lambda _: True)

    # --- the file

    def _read(self, kind: str, name: str) -> tuple[float, Any]:
        """When it was kept, and what; (0, None) where nothing is."""

        def read(connection: sqlite3.Connection) -> tuple[float, Any]:
            row = connection.execute("SELECT at, value FROM kept WHERE kind = ? AND name = ?", (kind, name)).fetchone()
            return (float(row[0]), _parsed(row[1])) if row else (0.0, None)

        on_disk, here = self._on_disk(read) or (0.0, None), self._here.get((kind, name), (0.0, None))
        return max(on_disk, here, key=lambda kept: kept[0])  # a disk that is full can still be read

    def _change(self, kind: str, name: str, change: Callable[[Any], Any]) -> Any:
        """Keeps what `change` makes of what was kept before, in one transaction; gives what is kept now."""
        now = self.clock()

        def write(connection: sqlite3.Connection) -> tuple[float, Any]:
            connection.execute("BEGIN IMMEDIATE")
            row = connection.execute("SELECT value FROM kept WHERE kind = ? AND name = ?", (kind, name)).fetchone()
            value = change(_parsed(row[0]) if row else None)
            connection.execute("REPLACE INTO kept VALUES (?, ?, ?, ?)", (kind, name, now, json.dumps(value)))
            if kind == "found":
                connection.execute("DELETE FROM kept WHERE kind = 'found' AND at < ?", (now - STALE_AGE,))
                connection.execute(
                    "DELETE FROM kept WHERE kind = 'found' AND at < "
                    "(SELECT at FROM kept WHERE kind = 'found' ORDER BY at DESC LIMIT 1 OFFSET ?)",
                    (MOST - 1,),
                )
            connection.execute("COMMIT")
            return now, value

        kept = self._on_disk(write)
        if kept is None:
            if len(self._here) >= MOST:
                self._here.clear()
            kept = self._here[kind, name] = now, change(self._read(kind, name)[1])
        else:
            self._here.pop((kind, name), None)
        return kept[1]

    def _on_disk(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """What `work` gives on the file; None where there is no file to work on."""
        for _ in range(2):
            if self._path is None:
                return None
            try:
                with closing(self._opened(self._path)) as connection:
                    return work(connection)
            except sqlite3.DatabaseError as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _USELESS:
                    return None
                with suppress(OSError):
                    self._path.unlink(missing_ok=True)
            except OSError:
                return None
        return None

    @staticmethod
    def _opened(path: Path) -> sqlite3.Connection:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))  # questions are private
        connection = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
        # a power loss may break the file, and then it is made anew
        connection.executescript("PRAGMA synchronous = OFF;" + _TABLE)
        return connection


def _parsed(value: Any) -> Any:
    with suppress(ValueError, TypeError):
        return json.loads(value)
    return None


def _standing(value: Any) -> Standing:
    with suppress(TypeError):
        return Standing(**value) if isinstance(value, dict) else Standing()
    return Standing()
