"""What was confirmed survives whatever happens to the process, to its neighbours and to the disk.

Every check is also run against a setting that is broken on purpose, and must notice it. `ORCHESTRA_TEST_KILLS`
sets the number of kills for a long run.
"""

from __future__ import annotations

import io
import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestra.errors import SessionBusy, StorageFull, StoreBusy
from orchestra.sessions import database
from orchestra.sessions.store import Store

HERE = Path(__file__).parent
KILLS = int(os.environ.get("ORCHESTRA_TEST_KILLS", "15"))

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `store_writer.py` on the test's folder; none of them outlives the test."""
    running: list[subprocess.Popen[str]] = []

    def begin(session: str, mode: str, count: int = 10**6) -> subprocess.Popen[str]:
        command = [sys.executable, str(HERE / "store_writer.py"), str(tmp_path), session, mode, str(count)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment())
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(HERE.parent)}


def python(code: str, *arguments: object) -> str:
    """What a Python process prints."""
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(code), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment(), cwd=HERE.parent)
    assert result.returncode == 0, result.stderr
    return result.stdout


def killed(process: subprocess.Popen[str], after: int) -> int:
    """Kills the process right after so many confirmations; says how many there were in the end."""
    assert process.stdout is not None
    for _ in range(after):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read()
    process.wait()
    return after + rest.count("\n")


def lost(folder: Path, session: str, confirmed: int) -> int:
    """How many confirmed turns are not there, whole; anything stored twice, out of order or damaged fails at once."""
    with Store(folder) as store:
        history = store.history(session)
        assert store.database.read(lambda c: c.execute("PRAGMA quick_check").fetchone()) == ("ok",)
    assert [turn.question for turn in history] == [f"{session} {number}" for number in range(len(history))]
    assert {turn.status for turn in history[:-1]} <= {"done"}
    assert len(history) <= confirmed + 1
    whole = [turn for number, turn in enumerate(history) if turn.status == "done" and turn.answer == f"answer {number}"]
    return max(0, confirmed - len(whole))


def rounds(folder: Path, start: Start, mode: str, kills: int) -> Iterator[int]:
    """Two writers at a time, each killed at a random point; the losses of each."""
    chance = random.Random(7)
    for number in range((kills + 1) // 2):
        names = [f"{mode}-{number}-a", f"{mode}-{number}-b"]
        with Store(folder) as store:
            for name in names:
                store.create(name)
        writers = [start(name, mode) for name in names]
        counts = [killed(writer, chance.randrange(1, 20)) for writer in writers]
        yield from (lost(folder, name, count) for name, count in zip(names, counts, strict=True))


@pytest.mark.timeout(60 + 4 * KILLS)
def test_kill_9_loses_nothing_that_was_confirmed(tmp_path: Path, start: Start) -> None:
    assert sum(rounds(tmp_path, start, "turns", KILLS)) == 0


def test_red_control_confirming_before_the_commit_loses_turns(tmp_path: Path, start: Start) -> None:
    assert any(rounds(tmp_path, start, "early", 12))


def test_what_was_streamed_up_to_a_second_before_a_kill_is_there(tmp_path: Path, start: Start) -> None:
    modes = {"a": "stream", "b": "stream", "c": "stream", "red": "lazy"}
    with Store(tmp_path) as store:
        for session in modes:
            store.create(session)
    writers = {session: start(session, mode) for session, mode in modes.items()}
    for writer in writers.values():
        assert writer.stdout is not None
        writer.stdout.readline()
    missing = {}
    time.sleep(1.3)
    for session, writer in writers.items():
        time.sleep(random.uniform(0.0, 0.3))
        writer.send_signal(signal.SIGKILL)
        moment = time.monotonic()
        said = (writer.stdout or io.StringIO()).read().split("\n")[:-1]
        due = 1 + sum(float(line.split()[1]) < moment - 1.0 for line in said)
        assert due > 5
        with Store(tmp_path) as store:
            (turn,) = store.history(session)
        assert (turn.question, turn.status, turn.finish_reason) == ("tell me everything", "interrupted", "incomplete")
        kept = turn.answer.split()
        assert kept == [str(number) for number in range(len(kept))]
        missing[session] = max(0, due - len(kept))
    assert missing.pop("red") > 5
    assert set(missing.values()) == {0}


def test_an_interrupted_turn_is_found_and_the_session_goes_on(tmp_path: Path, start: Start) -> None:
    with Store(tmp_path) as store:
        store.create("s")
        writer = start("s", "stream")
        assert writer.stdout is not None
        for _ in range(40):
            writer.stdout.readline()
        assert store.history("s")[0].status == "open"
        with pytest.raises(SessionBusy):
            store.begin("s", "next", wait=0.05)
        writer.kill()
        writer.wait()
        with store.begin("s", "next", wait=5) as journal:
            journal.finish()
        first, second = store.history("s")
        assert (first.status, second.status, second.parent) == ("interrupted", "done", first.id)
        assert store.search("everything")[0].turn == first.id


@pytest.mark.parametrize(("mode", "in_line"), [("same", True), ("branches", False)])
def test_two_processes_in_one_session_take_turns(tmp_path: Path, start: Start, mode: str, in_line: bool) -> None:
    with Store(tmp_path) as store:
        store.create("s")
        writers = [start("s", mode, 40) for _ in range(2)]
        assert [next(iter(writer.stdout or ())) for writer in writers] == ["ready\n", "ready\n"]
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("go\n")
            writer.stdin.flush()
        assert [writer.communicate()[0] for writer in writers] == ["end\n", "end\n"]
        history = store.history("s")
        (stored,) = store.database.read(lambda c: c.execute("SELECT count(*) FROM turn").fetchone())
    assert stored == 80
    # the red control: turns that do not wait for each other cannot all be in one line
    assert (len(history) == 80) is in_line


def locker(folder: Path, seconds: float) -> subprocess.Popen[str]:
    """Another program that holds the write lock."""
    code = """
        import sqlite3, sys, time
        c = sqlite3.connect(sys.argv[1], isolation_level=None)
        c.execute("BEGIN EXCLUSIVE")
        print("locked", flush=True)
        time.sleep(float(sys.argv[2]))
        """
    command = [sys.executable, "-c", textwrap.dedent(code), str(folder / "sessions.db"), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_a_lock_held_by_another_program_is_waited_for_and_then_named(tmp_path: Path) -> None:
    with Store(tmp_path, timeout=0.6) as store:
        store.create("s")
        with locker(tmp_path, 0.3):
            store.create("patient")
        holder = locker(tmp_path, 30)
        begun = time.monotonic()
        with pytest.raises(StoreBusy) as caught:
            store.create("impatient")
        assert 0.5 <= time.monotonic() - begun <= 1.1
        assert str(store.path) in caught.value.message()
        holder.kill()
        holder.communicate()
        store.create("again")
        assert {record.name for record in store.sessions()} == {"s", "patient", "again"}


def test_what_a_transaction_has_read_is_still_so_when_it_writes(tmp_path: Path) -> None:
    with Store(tmp_path) as store, Store(tmp_path) as other:
        store.create("s")
        reading = threading.Event()

        def count_then_write(connection: sqlite3.Connection) -> None:
            (sessions,) = connection.execute("SELECT count(*) FROM session").fetchone()
            reading.set()
            time.sleep(0.1)
            connection.execute("UPDATE session SET title = ?", (str(sessions),))

        first = store.database.submit(count_then_write)
        assert reading.wait(5)
        other.create("t")
        first.result()
        assert {record.name: record.title for record in store.sessions()} == {"s": "1", "t": None}


def test_a_full_disk_is_named_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(tmp_path) as store:
        store.create("s")
        with store.begin("s", "first") as journal:
            journal.append("answer")
            journal.finish()
        running = store.begin("s", "second")
        (pages,) = store.database.read(lambda c: c.execute("PRAGMA page_count").fetchone())
        full = f"PRAGMA max_page_count = {pages + 3}"
        store.database.write(lambda c: c.execute(full))
        with monkeypatch.context() as patched:
            patched.setattr(database, "PRAGMAS", (*database.PRAGMAS, full))
            text = "".join(chr(0x4E00 + (7 * n) % 9000) for n in range(60_000))
            running.append(text)
            with pytest.raises(StorageFull) as caught:
                running.finish()
            with pytest.raises(StorageFull):
                store.create("t", title=text)
            assert "bytes free" in caught.value.message()
            assert caught.value.facts["free"] > 0
            assert [turn.answer for turn in store.history("s")] == ["answer", ""]
        # room again: the same process goes on, and the answer was not lost
        assert running.finish().answer == text
        assert [turn.answer for turn in store.history("s")] == ["answer", text]
        assert store.database.read(lambda c: c.execute("PRAGMA integrity_check").fetchone()) == ("ok",)


def test_a_limit_on_the_size_of_files_is_a_full_disk_too(tmp_path: Path) -> None:
    printed = python(
        """
        import pathlib, resource, sys
        from orchestra.errors import StorageFull
        from orchestra.sessions.store import Store

        with Store(pathlib.Path(sys.argv[1])) as store:
            store.create("s")
            journal = store.begin("s", "question")
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
            text = "no end " * 100_000
            for start in range(0, len(text), 7000):
                journal.append(text[start : start + 7000])
            try:
                journal.finish()
            except StorageFull as full:
                print(full.exit_code)
            print(store.history("s")[0].question)
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            print(journal.finish().answer == text, store.history("s")[0].status)
        """,
        tmp_path,
    )
    assert printed.split() == [str(StorageFull.exit_code), "question", "True", "done"]


def test_every_commit_waits_for_the_disk(tmp_path: Path) -> None:
    # a kill cannot show the difference between FULL and NORMAL, only a loss of power can: so the setting is the test
    with Store(tmp_path) as store:
        names = ("journal_mode", "synchronous", "fullfsync", "checkpoint_fullfsync", "foreign_keys")
        values = store.database.write(lambda c: [c.execute("PRAGMA " + name).fetchone()[0] for name in names])
    assert values == ["wal", 2, 1, 1, 1]


def test_a_forked_child_has_a_writer_of_its_own(tmp_path: Path) -> None:
    printed = python(
        """
        import os, pathlib, sys
        from orchestra.sessions.store import Store

        store = Store(pathlib.Path(sys.argv[1]))
        store.create("parent")
        open_turn = store.begin("parent", "?")
        if child := os.fork():
            os.waitpid(child, 0)
            open_turn.append("still mine")
            open_turn.finish()
            print(sorted(record.name for record in store.sessions()), store.history("parent")[0].status)
            store.close()
        else:
            store.create("child")
            assert store.history("parent")[0].status == "open"
            store.close()
            os._exit(0)
        """,
        tmp_path,
    )
    assert printed.split("\n")[0] == "['child', 'parent'] done"


def test_a_child_does_not_keep_its_dead_parent_s_turns_open(tmp_path: Path) -> None:
    printed = python(
        """
        import os, pathlib, sys, time
        from orchestra.sessions.store import Store

        store = Store(pathlib.Path(sys.argv[1]))
        store.create("s")
        journal = store.begin("s", "?")
        child = os.fork()
        if not child:
            os.close(1), os.close(2)
            time.sleep(30)
        print(child, flush=True)
        os._exit(0)
        """,
        tmp_path,
    )
    try:
        with Store(tmp_path) as store:
            assert store.history("s")[0].status == "interrupted"
    finally:
        os.kill(int(printed), signal.SIGKILL)


def test_a_process_that_just_ends_keeps_what_it_appended(tmp_path: Path) -> None:
    python(
        """
        import pathlib, sys, time
        from orchestra.sessions.store import Store

        store = Store(pathlib.Path(sys.argv[1]))
        store.create("s")
        journal = store.begin("s", "?")
        time.sleep(0.1)
        journal.append("the last word")
        """,
        tmp_path,
    )
    with Store(tmp_path) as store:
        (turn,) = store.history("s")
    assert (turn.answer, turn.status) == ("the last word", "interrupted")
