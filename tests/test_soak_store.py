"""The store for a long time: killed a thousand times, eight writers at once, a full disk, locks, damage.

The shorter forms of these are in test_store_crash.py and test_store_files.py, with their red controls.
`ORCHESTRA_TEST_KILLS` sets the number of kills.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import quantiles

import pytest
from test_store_crash import locker, lost
from test_store_files import HISTORY, use

from orchestra.errors import OrchestraError, StorageFull, StoreBusy
from orchestra.sessions.store import Store

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("ORCHESTRA_TEST_KILLS", "1000"))
WRITERS = 4
MOST_TURNS = 100  # that a writer confirms before it is killed
# forked from a process that has the store loaded: a writer starts in a hundredth of the time
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["orchestra.sessions.store", "orchestra.sessions.database"])


def write(folder: str, session: str, told: Connection, *, early: bool = False) -> None:
    """In a process of its own: turns until it is killed, each confirmed when it is on disk - or too early."""
    with Store(Path(folder), timeout=30) as store:
        for number in range(10**6):
            running = store.begin(session, f"{session} {number}")
            running.append(f"answer {number}")
            if early:
                told.send_bytes(b".")
            running.finish()
            if not early:
                told.send_bytes(b".")


def confirmed(folder: Path, session: str, after: int, *, early: bool) -> tuple[multiprocessing.process.BaseProcess, Connection]:
    ours, theirs = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=write, args=(str(folder), session, theirs), kwargs={"early": early}, daemon=True)
    process.start()
    theirs.close()
    return process, ours


def rounds(folder: Path, kills: int, *, early: bool = False) -> Iterator[tuple[int, int]]:
    """Some writers at a time, each killed at a random point; of each the confirmed turns and the lost ones."""
    chance = random.Random(11)
    for number in range(-(-kills // WRITERS)):
        here = folder / f"store-{number // 25}"
        names = [f"{number}-{letter}" for letter in "abcd"[:WRITERS]]
        with Store(here) as store:
            for name in names:
                store.create(name)
        running = [confirmed(here, name, 0, early=early) for name in names]
        counts = []
        for process, told in running:
            count = chance.randrange(1, MOST_TURNS)
            for _ in range(count):
                told.recv_bytes()
            process.kill()
            with contextlib.suppress(EOFError):
                while told.recv_bytes():
                    count += 1
            process.join()
            told.close()
            counts.append(count)
        for name, count in zip(names, counts, strict=True):
            yield count, lost(here, name, count)


@pytest.mark.timeout(1200)
def test_a_thousand_kills_lose_nothing(tmp_path: Path) -> None:
    found = list(rounds(tmp_path, KILLS))
    turns = sum(count for count, _ in found)
    print(f"\nkill -9: {len(found)} writers killed, {turns} turns confirmed, {sum(gone for _, gone in found)} lost")
    assert sum(gone for _, gone in found) == 0
    assert turns >= 40 * len(found)


def test_red_control_confirming_before_the_commit_loses_turns(tmp_path: Path) -> None:
    assert any(gone for _, gone in rounds(tmp_path, 40, early=True))


# --- eight at once


def say(folder: str, session: str, count: int, told: Connection) -> None:
    """In a process of its own: so many turns, and how long each took to begin and to end."""
    waits = []
    with Store(Path(folder), timeout=60) as store:
        for number in range(count):
            started = time.monotonic()
            with store.begin(session, f"{os.getpid()} {number}") as journal:
                journal.append("x")
                journal.finish()
            waits.append(time.monotonic() - started)
    told.send(waits)
    told.close()


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("together", "count"), [(False, 500), (True, 500)], ids=["separate sessions", "one session"])
def test_eight_writers(tmp_path: Path, together: bool, count: int) -> None:
    with Store(tmp_path) as store:
        names = ["s"] * 8 if together else [f"s{number}" for number in range(8)]
        for name in dict.fromkeys(names):
            store.create(name)
    writers = []
    started = time.monotonic()
    for name in names:
        ours, theirs = CONTEXT.Pipe(duplex=False)
        process = CONTEXT.Process(target=say, args=(str(tmp_path), name, count, theirs))
        process.start()
        theirs.close()
        writers.append((process, ours))
    waits = [wait for _, told in writers for wait in told.recv()]
    for process, _ in writers:
        process.join()
        assert process.exitcode == 0
    seconds = time.monotonic() - started
    with Store(tmp_path) as store:
        histories = [store.history(name) for name in dict.fromkeys(names)]
    said = [turn.question for history in histories for turn in history]
    assert len(said) == len(set(said)) == len(waits) == 8 * count
    assert {turn.status for history in histories for turn in history} == {"done"}
    p99 = quantiles(waits, n=100)[98]
    print(f"\neight writers, {'one session' if together else 'a session each'}: {len(said)} turns in {seconds:.0f} s; "
          f"p99 {1000 * p99:.0f} ms, longest {1000 * max(waits):.0f} ms")  # fmt: skip
    assert max(waits) < (30 if together else 5)


# --- no room, no lock


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB; skips where none may be mounted."""
    folder = tmp_path / "small"
    folder.mkdir()
    if not shutil.which("mount") or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", folder], capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(store: Store) -> None:
    for number in range(10_000):
        with store.begin("s", f"question {number} " + "x" * 500) as journal:
            journal.append("y" * 2000)
            journal.finish()


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    with Store(small_disk) as store:
        store.create("s")
        with pytest.raises(StorageFull) as caught:
            fill(store)
        confirmed = sum(turn.status == "done" for turn in store.history("s"))
        assert confirmed > 100
        assert str(small_disk) in caught.value.message()
        for path in (lambda: store.create("t"), lambda: store.rename("s", "u"), lambda: store.fork("s"), lambda: store.begin("s", "more", wait=0)):
            with contextlib.suppress(OrchestraError):  # some of them may still fit; none may do harm
                path()
    with Store(small_disk) as store:
        name = store.sessions()[-1].name
        history = store.history(name)
        assert [turn.status for turn in history[:confirmed]] == ["done"] * confirmed
        assert store.database.read(lambda c: c.execute("PRAGMA integrity_check").fetchone()) == ("ok",)
    subprocess.run(["mount", "-o", "remount,size=32m", small_disk], check=True)
    with Store(small_disk) as store:
        with store.begin(name, "room again", wait=0) as journal:
            journal.finish()
        assert store.history(name)[-1].question == "room again"
    print(f"\na full disk: {confirmed} turns confirmed in 8 MiB, none lost, writing goes on when there is room")


@pytest.mark.parametrize("seconds", [3.0, 20.0])
def test_a_lock_that_is_held_for_long(tmp_path: Path, seconds: float) -> None:
    patience = 10.0
    with Store(tmp_path, timeout=patience) as store:
        store.create("s")
        with locker(tmp_path, seconds) as holder:
            begun = time.monotonic()
            if seconds < patience:
                store.create("t")
                assert time.monotonic() - begun < seconds + 1
            else:
                with pytest.raises(StoreBusy):
                    store.create("t")
                assert abs(time.monotonic() - begun - patience) <= 0.5
            holder.kill()


# --- damage


def test_a_thousand_damaged_files(tmp_path: Path) -> None:
    with Store(tmp_path / "whole") as store:
        for number in range(3):
            store.create(f"s{number}", history=HISTORY * 10)
        whole = store.path
    refused = 0
    for seed in range(1000):
        chance = random.Random(1000 + seed)
        content = bytearray(whole.read_bytes())
        if seed % 4:
            for _ in range(1 + seed % 40):
                content[chance.randrange(len(content))] = chance.randrange(256)
        else:
            del content[chance.randrange(1, len(content)) :]
        folder = tmp_path / f"damaged-{seed % 8}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "sessions.db").write_bytes(content)
        try:
            with Store(folder, timeout=0.2) as store:
                assert list(use(store))
        except OrchestraError:
            refused += 1
        assert (folder / "sessions.db").stat().st_size > 0
    print(f"\ndamage: of 1000 damaged files {refused} were refused with an error of ours, {1000 - refused} were read")
    assert 0 < refused < 1000
