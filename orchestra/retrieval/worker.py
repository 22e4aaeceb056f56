"""A process for work that somebody else's data may spoil: started for the first piece, kept for the next, killed when late.

Whatever a page or a file does to its reader - endless time, all memory, a crash - it does to that process. It has
limits, none of this process's environment beyond what an interpreter needs, and it ends by itself when this one is
gone: its input ends, or its alarm rings. `Worker` is this side; the other is a module that calls `limited` and `serve`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

STARTING = 20.0
"""Seconds that the process may take to start, on a busy machine."""
_INHERITED = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR", "HOME")


class Worker:
    """Runs `module` as a process and gives it one piece of work at a time; threads wait for each other.

    An answer has at most `longest` bytes.
    """

    def __init__(self, module: str, *, longest: int) -> None:
        self._module, self._longest = module, longest
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize[[subprocess.Popen[bytes]], Worker] | None = None

    @property
    def pid(self) -> int | None:
        """The process that was started last; None where there is none."""
        return self._process.pid if self._process else None

    def ask(self, data: bytes, *, seconds: float, deadline: float = float("inf"), **how: str) -> dict[str, Any]:
        """What the work on `data` gives, in at most so many seconds and before the moment `deadline` (of `time.monotonic`).

        Waiting for other threads and for the start does not count as work. Raises `TimeoutError` for what comes too
        late, `ChildProcessError` where the process broke over it; the next piece gets a new one.
        """
        if not self._lock.acquire(timeout=min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX)):
            raise TimeoutError
        try:
            process = self._process
            if process is None or process.poll() is not None:
                process = self._started()
                _answer(process, min(STARTING, deadline - time.monotonic()), self._longest)
            seconds = max(0.0, min(seconds, deadline - time.monotonic()))
            head = json.dumps({"size": len(data), "seconds": seconds, "how": how})
            return _answer(process, seconds, self._longest, head.encode() + b"\n", data)
        except BaseException:  # Ctrl-C too: the answer would be taken for the next one's
            self.close()
            raise
        finally:
            self._lock.release()

    def close(self) -> None:
        """Ends the process; the next piece of work starts another one."""
        if self._end is not None:
            self._end()
        self._process = self._end = None

    def _started(self) -> subprocess.Popen[bytes]:
        self.close()
        environment = {name: value for name, value in os.environ.items() if name in _INHERITED}
        # the modules are found where this process found them, never in the folder that the user stands in (-P)
        environment |= {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PYTHONUTF8": "1"}
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", self._module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # Ctrl-C is this process's affair
        )
        self._process, self._end = process, weakref.finalize(self, _ended, process)
        return process


def _answer(process: subprocess.Popen[bytes], seconds: float, longest: int, *message: bytes) -> dict[str, Any]:
    """The next line of the process, which is killed when it does not come in time."""
    until = time.monotonic() + seconds
    killer = threading.Timer(max(0.0, seconds), process.kill)
    killer.daemon = True
    killer.start()
    try:
        assert process.stdin
        assert process.stdout
        with suppress(OSError, ValueError):  # it has died, or was closed meanwhile
            process.stdin.writelines(message)
            process.stdin.flush()
            line = process.stdout.readline(longest)
            answer = json.loads(line) if line.endswith(b"\n") else None
            if isinstance(answer, dict):
                return answer
    finally:
        killer.cancel()
    if time.monotonic() >= until:
        raise TimeoutError
    raise ChildProcessError


def _ended(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            with suppress(OSError, ValueError):  # what it did not read any more
                pipe.close()


# --- in the process


def limited(memory: int) -> None:
    """So many bytes of address space, no files, no core dump: for whatever the data makes of this process."""
    try:
        import resource
    except ImportError:  # not on this system
        return
    for limit, most in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
        with suppress(OSError, ValueError):  # nor everywhere each of them
            resource.setrlimit(limit, (most, most))


def serve(work: Callable[..., dict[str, Any]]) -> None:
    """Does `work(data, **how)` piece by piece until no more comes: each a line of JSON and the bytes, a line of JSON back.

    An empty object comes first: all is loaded, and the time of each piece is its own.
    """
    asked = sys.stdin.buffer
    with os.fdopen(os.dup(1), "wb") as told:
        os.dup2(2, 1)  # what a library prints is no answer
        _tell(told, {})
        while line := asked.readline():
            head = json.loads(line)
            data = asked.read(head["size"])
            _alarm(head["seconds"] + 1)  # nobody may be left who would end this process in time
            answer = work(data, **head["how"])
            _alarm(0)
            _tell(told, answer)


def _tell(told: Any, answer: dict[str, Any]) -> None:
    told.write(json.dumps(answer).encode() + b"\n")
    told.flush()


def _alarm(seconds: float) -> None:
    if hasattr(signal, "setitimer"):  # not on every system
        signal.setitimer(signal.ITIMER_REAL, seconds)
