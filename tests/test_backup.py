"""`sessions backup` while somebody writes: what was confirmed before it began is in it, and it is a sound store."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from command_line import Line, line  # noqa: F401 - a fixture

from orchestra.errors import OrchestraError
from orchestra.sessions.store import Store

HERE = Path(__file__).parent


class Writer:
    """A process that says the number of each turn when it is on disk."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, str(HERE / "store_writer.py"), str(folder), "busy", "turns", "1000000"]
        environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=environment)

    def until(self, number: int) -> int:
        """Waits until that turn is confirmed."""
        assert self.process.stdout is not None
        while (said := int(self.process.stdout.readline())) < number:
            pass
        return said

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


@pytest.fixture
def writer(home: Path) -> Iterator[Writer]:
    """Writes to the store of the test's home, as fast as it can."""
    with Store(home) as store:
        store.create("busy")
    writer = Writer(home)
    yield writer
    writer.stop()


def turns(folder: Path) -> list[tuple[str, str]]:
    with Store(folder) as store:
        return [(turn.question, turn.answer) for turn in store.history(store.session("busy").id)]


def sound(file: Path) -> bool:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        try:
            return bool(connection.execute("PRAGMA integrity_check").fetchone() == ("ok",))
        except sqlite3.DatabaseError:
            return False


def test_backup_while_a_chat_is_running(writer: Writer, line: Line, home: Path, tmp_path: Path) -> None:  # noqa: F811
    confirmed = 0
    for number in range(3):
        confirmed = writer.until(confirmed + 20)
        copy = tmp_path / f"copy-{number}"
        copy.mkdir()
        done = line("sessions", "backup", str(copy / "sessions.db"), "--json")
        assert done.code == 0
        assert writer.process.poll() is None, "the writer was not disturbed"
        assert sound(copy / "sessions.db")
        assert not list(copy.glob("*-wal")), "one file holds everything"
        kept = turns(copy)
        assert len(kept) > confirmed
        finished = kept[: confirmed + 1]
        assert finished == [(f"busy {each}", f"answer {each}") for each in range(confirmed + 1)]
    writer.until(confirmed + 20)


def test_red_a_copied_file_has_less(writer: Writer, home: Path, tmp_path: Path) -> None:
    """The control: copying the file alone leaves out what stands in the log beside it."""
    writer.until(40)
    writer.process.kill()
    writer.process.wait()
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copyfile(home / "sessions.db", copy / "sessions.db")
    kept: list[tuple[str, str]] = []
    with suppress(OrchestraError):
        kept = turns(copy)
    assert len(kept) < len(turns(home))
