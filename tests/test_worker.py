"""Work in a process of its own: ended when late, replaced when it broke, limited, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from labour import MEMORY

from orchestra.retrieval import worker as module
from orchestra.retrieval.worker import Worker

MEGABYTE = 2**20


@pytest.fixture(scope="module")
def shared() -> Iterator[Worker]:
    """A worker for all that does not count its processes."""
    worker = Worker("labour", longest=MEGABYTE)
    yield worker
    worker.close()


@pytest.fixture
def own() -> Iterator[Worker]:
    worker = Worker("labour", longest=MEGABYTE)
    yield worker
    worker.close()


def asked(worker: Worker, how: str, data: bytes = b"", *, seconds: float = 15.0) -> dict[str, Any]:
    return worker.ask(data, seconds=seconds, how=how)


def gone(pid: int, seconds: float = 10.0) -> bool:
    """Whether the process ends within so many seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True  # dead; whoever started it has not looked yet
        except FileNotFoundError:
            return True
        time.sleep(0.01)
    return False


# --- what it answers


def test_one_process_does_one_piece_after_another(shared: Worker) -> None:
    sizes = (0, 1, 5 * MEGABYTE, 3)
    found = [asked(shared, "size", b"\n" * size) for size in sizes]
    assert [each["size"] for each in found] == [*sizes]
    assert {each["pid"] for each in found} == {shared.pid}


def test_threads_wait_for_each_other_and_get_their_own_answers(shared: Worker) -> None:
    found: dict[int, int] = {}

    def one(size: int) -> None:
        found[size] = asked(shared, "size", b"x" * size)["size"]

    threads = [threading.Thread(target=one, args=(size,)) for size in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {size: size for size in range(20)}


def test_what_a_library_prints_is_no_answer(shared: Worker) -> None:
    assert asked(shared, "print", b"abc")["size"] == 3
    assert asked(shared, "size", b"abcd")["size"] == 4


# --- what goes wrong in it


@pytest.mark.parametrize("how", ["die", "exit", "raise", "fill"])
def test_a_process_that_broke_is_replaced(shared: Worker, how: str) -> None:
    before = asked(shared, "size")["pid"]
    with pytest.raises(ChildProcessError):
        asked(shared, how)
    assert shared.pid is None
    assert asked(shared, "size")["pid"] != before


def test_one_that_died_between_two_pieces_is_replaced(shared: Worker) -> None:
    pid = asked(shared, "size")["pid"]
    os.kill(pid, signal.SIGKILL)
    assert gone(pid)
    assert asked(shared, "size")["pid"] != pid


def test_a_longer_answer_than_allowed_is_none(shared: Worker) -> None:
    assert len(asked(shared, "long", b"%d" % (MEGABYTE // 2))["text"]) == MEGABYTE // 2
    with pytest.raises(ChildProcessError):
        asked(shared, "long", b"%d" % (2 * MEGABYTE))


def test_a_module_that_is_none_does_not_start() -> None:
    worker = Worker("labour.nowhere", longest=MEGABYTE)
    with pytest.raises(ChildProcessError):
        asked(worker, "size")
    assert worker.pid is None


# --- time


def test_what_is_late_is_killed_and_the_next_piece_gets_its_answer(own: Worker) -> None:
    pid = asked(own, "size")["pid"]
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        asked(own, "sleep", b"20", seconds=0.1)
    assert time.monotonic() - begun < 10
    assert gone(pid)
    assert asked(own, "size", b"ab")["size"] == 2


def test_it_ends_at_the_deadline_also_for_who_waits(own: Worker) -> None:
    asked(own, "size")
    ends: list[float] = []

    def one() -> None:
        with pytest.raises(TimeoutError):
            own.ask(b"20", seconds=15, deadline=begun + 0.2, how="sleep")
        ends.append(time.monotonic() - begun)

    begun = time.monotonic()
    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ends) == 3
    assert 0.2 <= min(ends) <= max(ends) < 10


def test_red_control_within_the_limit_it_goes_on(shared: Worker) -> None:
    assert asked(shared, "sleep", b"0.3", seconds=15)["size"] == 3


def test_a_process_that_does_not_start_in_time_is_given_up(own: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STARTING", 0.001)
    with pytest.raises(TimeoutError):
        asked(own, "size")
    assert own.pid is None


def test_ctrl_c_leaves_no_answer_for_the_next_question(own: Worker) -> None:
    asked(own, "size")
    threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        asked(own, "sleep", b"20")
    assert asked(own, "size", b"abc")["size"] == 3


# --- what it may do


def test_it_has_nothing_of_this_process_s_environment(own: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRA_BOCHA_KEY", "canary-key")
    found = asked(own, "environment")
    assert "canary-key" not in str(found)
    assert set(found) <= {*module._INHERITED, "PYTHONPATH", "PYTHONUTF8", "LC_CTYPE"}


def test_modules_of_the_folder_that_one_stands_in_are_not_run(own: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert asked(own, "size")["size"] == 0


def test_it_writes_no_files(shared: Worker, tmp_path: Path) -> None:
    with pytest.raises(ChildProcessError):
        asked(shared, "write", os.fsencode(tmp_path / "file"))
    assert not (tmp_path / "file").exists() or not (tmp_path / "file").stat().st_size


def test_its_memory_is_bounded(own: Worker) -> None:
    limits = Path(f"/proc/{asked(own, 'size')['pid']}/limits").read_text().splitlines()
    assert [line.split()[-3:-1] for line in limits if line.startswith("Max address space")] == [[str(MEMORY)] * 2]


# --- nothing is left behind


def test_it_ends_when_closed_and_when_forgotten() -> None:
    for forget in (False, True):
        worker = Worker("labour", longest=MEGABYTE)
        pid = asked(worker, "size")["pid"]
        if forget:
            del worker
        else:
            worker.close()
        assert gone(pid)


def test_closing_ends_what_is_under_way(own: Worker) -> None:
    asked(own, "size")
    threading.Timer(0.3, own.close).start()
    with pytest.raises(ChildProcessError):
        asked(own, "sleep", b"20")


SCRIPT = """
import time
from orchestra.retrieval.worker import Worker
worker = Worker("labour", longest=1000)
print(worker.ask(b"", seconds=15, how="size")["pid"], flush=True)
{then}
"""
BUSY = 'worker.ask(b"30", seconds={seconds}, how="sleep")'
ENDS = {
    "at its end": ("pass", None),
    "by an error": ("raise SystemExit(3)", None),
    "by Ctrl-C": ("time.sleep(30)", signal.SIGINT),
    "by Ctrl-C at work": (BUSY.format(seconds=30), signal.SIGINT),
    "killed": ("time.sleep(30)", signal.SIGKILL),
    "killed at work": (BUSY.format(seconds=0.3), signal.SIGKILL),
}


@pytest.mark.parametrize("way", ENDS)
def test_no_process_is_left_behind(way: str) -> None:
    then, how = ENDS[way]
    quiet = subprocess.DEVNULL
    command = [sys.executable, "-c", SCRIPT.format(then=then)]
    path = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=quiet, text=True, start_new_session=True, env=path) as process:
        assert process.stdout
        pid = int(process.stdout.readline())
        if how is not None:
            time.sleep(0.1)
            os.killpg(process.pid, how)
        process.wait(20)
    assert gone(pid)
