"""A file of the data folder: one writer in a thread of its own, readers that come and go.

All writing of a process passes through one connection and one queue, so that writers of the process never wait
for each other's locks, a caller who is interrupted (Ctrl-C, a cancelled task) cannot leave a transaction behind,
and text that is still growing is written without anybody waiting for the disk. Against other processes the writer
takes its lock with BEGIN IMMEDIATE and tries again at random intervals: SQLite's own way of waiting starves
those who come late.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import queue
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar

from orchestra.errors import StoreCorrupt, StoreFault, StoreUnwritable
from orchestra.sessions.faults import is_busy, translated
from orchestra.sessions.migrations import SESSIONS, Schema, applied, copy, migrate
from orchestra.sessions.owners import Owner

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

FLUSH_EVERY = 0.35  # seconds; with the commit itself, text is on disk within half a second
PATIENCE_AT_CLOSE = 5.0
IDLE_READERS = 2
# FULL, because with NORMAL a loss of power takes turns back that were confirmed; fullfsync is for macOS alone
PRAGMAS = (
    "PRAGMA synchronous = FULL",
    "PRAGMA fullfsync = 1",
    "PRAGMA checkpoint_fullfsync = 1",
    "PRAGMA foreign_keys = 1",
    "PRAGMA journal_size_limit = 16777216",
)


class Feeder(Protocol):
    """Something whose text grows: asked from the writer's thread for what it has to write."""

    def write(self, connection: sqlite3.Connection) -> int:
        """Writes what is waiting, inside a transaction; says how many pieces that was."""

    def waiting(self) -> bool:
        """Whether there is something to write."""

    def written(self, pieces: int) -> None:
        """The transaction is on disk: so many pieces need not be written again."""


class Database:
    """Opens nothing before it is first used. `timeout` is the patience for other processes' locks, in seconds."""

    def __init__(self, folder: Path, *, timeout: float, schema: Schema = SESSIONS) -> None:
        self.path = folder / schema.file
        self.timeout = timeout
        self.schema = schema
        self._writer: Writer | None = None
        self._starting = threading.Lock()
        self._readers: list[sqlite3.Connection] = []  # idle, outside of any transaction; for the writer's process

    def read(self, work: Work[T]) -> T:
        """What `work` finds, on a connection of its own that sees one state of the file and cannot write."""
        writer = self.writer()
        with translated(self.path, self.timeout):
            connection = self._reader()
            try:
                connection.execute("BEGIN")
                found = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                connection.close()
                raise
            with self._starting:
                if writer is self._writer and len(self._readers) < IDLE_READERS:
                    self._readers.append(connection)
                    return found
            connection.close()
            return found

    def _reader(self) -> sqlite3.Connection:
        """One that is idle, else a new one: to open one takes longer than to find a session."""
        with self._starting:
            if self._readers:
                return self._readers.pop()
        connection = connected(self.path, timeout=self.timeout)
        for pragma in (*self.schema.pragmas, "PRAGMA query_only = 1"):
            connection.execute(pragma)
        return connection

    def write(self, work: Work[T]) -> T:
        """What `work` returns, after its transaction is on disk; nothing of it is if it raises."""
        return self.submit(work).result()

    def submit(self, work: Work[T]) -> Future[T]:
        """The same without waiting."""
        while True:
            with contextlib.suppress(WriterClosed):
                return self.writer().submit(work)

    def submit_if_open(self, work: Work[Any]) -> None:
        """The same where the file is open; for what is not worth opening it."""
        if self._writer is not None:
            with contextlib.suppress(WriterClosed):
                self._writer.submit(work)

    def writer(self) -> Writer:
        """The running writer, started on first use; the file is open and of the newest schema then."""
        writer = self._writer
        if writer is not None and writer.process == os.getpid():
            return writer
        with self._starting:
            if self._writer is None or self._writer.process != os.getpid():
                if self._writer is not None:
                    _ABANDONED.extend((self._writer, *self._readers))  # a forked child must not touch its parent's connections
                    self._readers.clear()
                self._writer = Writer(self.path, self.timeout, self.schema)
                atexit.register(self.close)
            return self._writer

    def attach(self, feeder: Feeder) -> None:
        """From now on what the feeder has waiting is written every half second."""
        self.writer().attach(feeder)

    def detach(self, feeder: Feeder) -> None:
        """No longer asks it."""
        if self._writer is not None:
            self._writer.detach(feeder)

    def nudge(self) -> None:
        """Has what is waiting written now, without waiting for it."""
        if self._writer is not None:
            self._writer.nudge()

    def owner(self) -> Owner:
        """Who this process is to the others."""
        return self.writer().owner

    def backup(self, file: Path) -> None:
        """Writes the whole store to a new file; raises `StoreUnwritable` where that exists already."""
        self.writer()
        with translated(file, self.timeout), closing(connected(self.path, timeout=self.timeout)) as connection:
            copy(connection, file)

    def close(self) -> None:
        """Writes what is waiting and lets go of the file; the next use opens it again."""
        with self._starting:
            writer, self._writer = self._writer, None
            readers, self._readers = self._readers, []
        if writer is not None and writer.process == os.getpid():
            atexit.unregister(self.close)
            for reader in readers:
                reader.close()
            writer.stop()
        else:
            _ABANDONED.extend(readers)


class WriterClosed(Exception):
    """The writer has ended; a new one can be started."""


class Writer:
    """The one connection of this process that writes, and its thread."""

    def __init__(self, path: Path, timeout: float, schema: Schema) -> None:
        self.process = os.getpid()
        self._path = path
        self._schema = schema
        self._timeout = timeout
        self._connection: sqlite3.Connection | None = None
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._feeders: set[Feeder] = set()
        self._closed = False
        self._gate = threading.RLock()  # a collected journal may speak up in the middle of anything
        self._due = 0.0
        with translated(path, timeout):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._thread = threading.Thread(target=self._run, name="orchestra-store", daemon=True)
        self._thread.start()
        try:
            self.submit(lambda connection: None).result()
            with translated(path, timeout):
                self.owner = Owner(path.with_name("running"))
        except BaseException:
            self._end()
            raise

    def submit(self, work: Work[T]) -> Future[T]:
        """A future that is done when the transaction of `work` is on disk."""
        task = _Task(work, time.monotonic() + self._timeout)
        self._put(task)
        return task.future

    def attach(self, feeder: Feeder) -> None:
        """Asks the feeder for its pieces from now on."""
        self._feeders.add(feeder)
        self.nudge()

    def detach(self, feeder: Feeder) -> None:
        """No longer asks it."""
        self._feeders.discard(feeder)

    def nudge(self) -> None:
        """Writes what the feeders have waiting now."""
        with contextlib.suppress(WriterClosed):  # closed: its last flush has been made
            self._put(_Task(None, 0.0))

    def stop(self) -> None:
        """Does what is in the queue, writes what is waiting and ends."""
        self._end()
        self.owner.leave()

    def _end(self) -> None:
        with self._gate:
            self._closed = True
            self._tasks.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(self._timeout + PATIENCE_AT_CLOSE)

    def _put(self, task: _Task) -> None:
        with self._gate:  # so that nothing stands behind the end in the queue
            if self._closed:
                raise WriterClosed
            self._tasks.put(task)

    # --- in the thread

    def _run(self) -> None:
        while True:
            task = self._next()
            if task is None:
                self._flush(PATIENCE_AT_CLOSE)
                self._drop()
                return
            if task.work is not None:
                with task:
                    task.future.set_result(self._perform(task.work, task.deadline))
            if task.work is None or time.monotonic() >= self._due:
                self._flush(FLUSH_EVERY)
                self._due = time.monotonic() + FLUSH_EVERY

    def _next(self) -> _Task | None:
        if not self._feeders:
            return self._tasks.get()
        try:
            return self._tasks.get(timeout=max(0.001, self._due - time.monotonic()))
        except queue.Empty:
            return _Task(None, 0.0)

    def _flush(self, patience: float) -> None:
        """Text that cannot be written now stays with its feeder and is tried again."""
        counts: list[tuple[Feeder, int]] = []
        waiting = [feeder for feeder in list(self._feeders) if feeder.waiting()]
        if not waiting:
            return
        try:
            self._perform(lambda c: counts.extend((f, f.write(c)) for f in waiting), time.monotonic() + patience)
        except StoreFault as fault:
            _LOG.debug("text of a running answer could not be written yet: %s", fault)
            return
        for feeder, pieces in counts:
            feeder.written(pieces)

    def _perform(self, work: Callable[[sqlite3.Connection], Any], deadline: float) -> Any:
        with translated(self._path, self._timeout):
            connection = self._connection or self._open(deadline)
            try:
                patiently(lambda: connection.execute("BEGIN IMMEDIATE"), deadline)
                result = work(connection)
                connection.execute("COMMIT")
                return result
            except BaseException as error:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error) and not is_busy(error):
                    self._drop()  # after a failed write or sync nothing may be assumed of this handle
                raise

    def _open(self, deadline: float) -> sqlite3.Connection:
        connection = patiently(lambda: prepared(self._path, self._schema), deadline)
        self._connection = connection
        return connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


class _Task:
    """One transaction to make; without work, a call to write what is waiting. As a context it hands any error on."""

    def __init__(self, work: Work[Any] | None, deadline: float) -> None:
        self.work = work
        self.deadline = deadline
        self.future: Future[Any] = Future()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        # it belongs to the caller who waits for the future, and must not end the thread that serves all others
        if error is not None:
            self.future.set_exception(error)
        return True


def patiently(attempt: Callable[[], T], deadline: float) -> T:
    """Tries again at random intervals while the file is locked; at least once, at most until `deadline`."""
    longest = 0.002
    while True:
        try:
            return attempt()
        except sqlite3.OperationalError as error:
            left = deadline - time.monotonic()
            if not is_busy(error) or left <= 0:
                raise
        time.sleep(min(left, random.uniform(0.0005, longest)))
        longest = min(longest * 1.5, 0.05)


def prepared(path: Path, schema: Schema = SESSIONS) -> sqlite3.Connection:
    """A connection that may write, with the newest schema; what is no store is refused before anything is changed."""
    wal = path.with_name(path.name + "-wal")
    if path.exists() and path.stat().st_size == 0 and wal.exists() and wal.stat().st_size > 0:
        # SQLite would take the file for a new one and throw the log away, which may hold everything
        raise StoreCorrupt(path=str(path), detail="it is empty, but its write-ahead log is not")
    connection = connected(path, timeout=0.0, create=True)
    try:
        for pragma in schema.pragmas:
            connection.execute(pragma)
        applied(connection, path, schema)
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)  # before the log is made, which takes over the mode
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StoreUnwritable(path=str(path), detail="its file system cannot hold a write-ahead log")
        migrate(connection, path, schema)
    except BaseException:
        connection.close()
        raise
    return connection


def connected(path: Path, *, timeout: float, create: bool = False) -> sqlite3.Connection:
    """A connection with what every connection of the store needs; `timeout` is SQLite's own patience, in seconds."""
    # never open the file by other means: closing it would take away this process's locks on it
    address = f"{path.absolute().as_uri()}?mode={'rwc' if create else 'rw'}"
    connection = sqlite3.connect(address, uri=True, timeout=timeout, isolation_level=None, check_same_thread=False)
    connection.text_factory = _text
    for pragma in PRAGMAS:
        connection.execute(pragma)
    return connection


def _text(stored: bytes) -> str:
    return stored.decode("utf-8", "replace")


_LOG = logging.getLogger("orchestra")
_ABANDONED: list[Writer | sqlite3.Connection] = []
