"""Readers are kept and used again; each reading sees the newest state all the same, and nobody gets another's."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestra.errors import StoreFault
from orchestra.sessions import database
from orchestra.sessions.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path) as opened:
        opened.create("s")
        yield opened


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[sqlite3.Connection]:
    """Every connection that is opened from now on."""
    connections: list[sqlite3.Connection] = []
    connected = database.connected

    def noting(path: Path, *, timeout: float, create: bool = False) -> sqlite3.Connection:
        connections.append(connected(path, timeout=timeout, create=create))
        return connections[-1]

    monkeypatch.setattr(database, "connected", noting)
    return connections


def test_one_reader_serves_one_reading_after_the_other_and_sees_what_is_new(store: Store, opened: list[sqlite3.Connection]) -> None:
    with Store(store.path.parent) as other:
        other.create("t")
        before = len(opened)
        for name in ("u", "v", "w"):
            other.create(name)
            assert store.find(name) is not None
        assert len(opened) - before <= 1


def test_red_control_a_reading_that_stays_open_sees_nothing_new(store: Store) -> None:
    with Store(store.path.parent) as other:
        kept = store.database.read(lambda c: c)
        kept.execute("BEGIN")
        assert kept.execute("SELECT count(*) FROM session").fetchone() == (1,)
        other.create("t")
        assert kept.execute("SELECT count(*) FROM session").fetchone() == (1,)
        kept.execute("COMMIT")


def test_two_who_read_at_once_have_a_reader_each(store: Store, opened: list[sqlite3.Connection]) -> None:
    meeting = threading.Barrier(5, timeout=10)
    met: list[sqlite3.Connection] = []

    def look(connection: sqlite3.Connection) -> None:
        met.append(connection)
        meeting.wait()

    threads = [threading.Thread(target=store.database.read, args=(look,)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(set(map(id, met))) == 5
    closed = 0
    for connection in opened:
        try:
            connection.execute("SELECT 1")
        except sqlite3.ProgrammingError:
            closed += 1
    assert len(met) - closed <= database.IDLE_READERS


def test_a_reading_that_fails_takes_its_reader_with_it(store: Store) -> None:
    store.find("s")
    found: list[sqlite3.Connection] = []

    def fail(connection: sqlite3.Connection) -> None:
        found.append(connection)
        connection.execute("SELECT nonsense")

    with pytest.raises(StoreFault):
        store.database.read(fail)
    with pytest.raises(sqlite3.ProgrammingError):
        found[0].execute("SELECT 1")
    assert store.find("s") is not None


def test_a_reader_cannot_write(store: Store) -> None:
    for _ in range(2):
        with pytest.raises(StoreFault):
            store.database.read(lambda c: c.execute("DELETE FROM session"))
    assert store.find("s") is not None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python 3.12 and later warn of a fork beside threads
def test_closing_closes_the_readers_and_a_forked_child_has_its_own(store: Store) -> None:
    reader = store.database.read(lambda c: c)
    child = os.fork()
    if not child:
        own = store.database.read(lambda c: c)
        os._exit(0 if own is not reader else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.database.read(lambda c: c) is reader
    store.close()
    with pytest.raises(sqlite3.ProgrammingError):
        reader.execute("SELECT 1")


def test_the_last_turns_of_a_session_are_found_without_its_past(store: Store) -> None:
    for number in range(30):
        with store.begin("s", f"q{number}") as journal:
            journal.append(f"a{number}")
            journal.finish()
    whole = store.history("s")
    for count in (0, 1, 7, 29, 30, 31):
        assert store.history("s", last=count) == whole[len(whole) - min(count, 30) :]
    assert store.history("s", at=20, last=5) == whole[15:20]
    steps = {last: work(store, last) for last in (5, None)}
    assert steps[5] < steps[None] / 3


def work(store: Store, last: int | None) -> int:
    """How much SQLite did for one history, in tens of its own steps."""
    done = 0

    def step() -> int:
        nonlocal done
        done += 1
        return 0

    reader = store.database.read(lambda c: c)
    reader.set_progress_handler(step, 10)
    store.history("s", last=last)
    reader.set_progress_handler(None, 0)
    return done


def test_a_turn_that_is_missing_among_the_last_is_noticed(store: Store) -> None:
    for number in range(6):
        store.begin("s", f"q{number}").finish()
    store.database.write(lambda c: (c.execute("PRAGMA foreign_keys = 0"), c.execute("UPDATE turn SET depth = 9 WHERE depth = 5")))
    assert len(store.history("s", last=1)) == 1
    with pytest.raises(StoreFault):
        store.history("s", last=3)
