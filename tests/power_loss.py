"""A disk that loses its power: what the store wrote, and every state in which the disk may be found afterwards.

Writes are noted on their way through a file system of SQLite's own kind (the package `apsw`). What was synced is
there; of what was not, any part may be missing, in any order, down to single sectors.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import apsw

SECTOR = 512


class Event(NamedTuple):
    """Something that happened to a file: a write, a sync, a truncation to `offset`, a deletion."""

    kind: str
    name: str
    offset: int = 0
    data: bytes = b""


@dataclass(slots=True)
class Disk:
    """All that happened, and what was promised when so much had happened."""

    events: list[Event] = field(default_factory=list)
    promises: list[tuple[int, str, str]] = field(default_factory=list)

    def promise(self, kind: str, value: str) -> None:
        """From now on this must be found whatever happens."""
        self.promises.append((len(self.events), kind, value))

    def crash(self, at: int, chance: random.Random) -> dict[str, bytes]:
        """The files as they may be found after a loss of power when `at` events had happened."""
        solid: dict[str, bytearray] = {}
        waiting: dict[str, list[Event]] = {}
        entered: set[str] = set()
        for event in self.events[:at]:
            if event.kind != "sync":
                waiting.setdefault(event.name, []).append(event)
                if event.kind == "delete":
                    entered.discard(event.name)
                continue
            done = {event.name}
            if event.name.endswith(("-journal", "-wal")) and event.name not in entered:
                # SQLite syncs the folder together with a journal that is new: what was deleted before stays so
                done |= {name for name, events in waiting.items() if events[-1].kind == "delete"}
            entered.add(event.name)
            for name in done:
                for each in waiting.pop(name, []):
                    _apply(solid, each)
        for events in waiting.values():
            for each in _survivors(events, chance):
                _apply(solid, each)
        return {name: bytes(content) for name, content in solid.items()}


def _survivors(events: list[Event], chance: random.Random) -> Iterator[Event]:
    """Of what was not synced: all, nothing, the beginning, or any sectors of it."""
    mode = chance.randrange(4)
    count = {0: len(events), 1: 0, 2: chance.randrange(len(events) + 1)}.get(mode)
    if count is not None:
        yield from events[:count]
        return
    share = chance.random()
    for event in events:
        if event.kind != "write":
            if chance.random() < share:
                yield event
            continue
        for start in range(0, len(event.data), SECTOR):
            if chance.random() < share:
                yield event._replace(offset=event.offset + start, data=event.data[start : start + SECTOR])


def _apply(files: dict[str, bytearray], event: Event) -> None:
    if event.kind == "delete":
        files.pop(event.name, None)
        return
    content = files.setdefault(event.name, bytearray())
    if event.kind == "truncate":
        del content[event.offset :]
        return
    content.extend(b"\0" * (event.offset - len(content)))
    content[event.offset : event.offset + len(event.data)] = event.data


class Recording(apsw.VFS):
    """The system's own files, with everything noted on a `Disk`."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.name = f"recording-{id(self)}"
        super().__init__(self.name, "")

    def xOpen(self, name: Any, flags: list[int]) -> Any:
        return _File(self.disk, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        self.disk.events.append(Event("delete", Path(filename).name))
        if syncdir:
            self.disk.events.append(Event("sync", Path(filename).name))
        super().xDelete(filename, syncdir)


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        self._disk = disk
        self._name = Path(name.filename() if isinstance(name, apsw.URIFilename) else name or "temporary").name
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.events.append(Event("write", self._name, offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:
        self._disk.events.append(Event("truncate", self._name, newsize))
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:
        super().xSync(flags)
        self._disk.events.append(Event("sync", self._name))


class Connection:
    """As much of `sqlite3.Connection` as the store's writer uses, over a recording file system."""

    def __init__(self, path: Path, vfs: Recording) -> None:
        self._connection = apsw.Connection(str(path), vfs=vfs.name)
        # without shared memory, which the file system here does not have: nobody else opens the file meanwhile
        self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")

    @property
    def in_transaction(self) -> bool:
        return bool(self._connection.in_transaction)

    def execute(self, statement: str, values: Any = ()) -> Any:
        return _Cursor(self._connection.execute(statement, values), self._connection)

    def close(self) -> None:
        self._connection.close()


class _Cursor:
    def __init__(self, cursor: Any, connection: Any) -> None:
        self._cursor = cursor
        self.lastrowid = connection.last_insert_rowid()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._cursor)

    def fetchone(self) -> Any:
        return next(iter(self._cursor), None)

    def fetchall(self) -> list[Any]:
        return list(self._cursor)
