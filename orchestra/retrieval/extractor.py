"""The process in which pages are taken apart: started when the first one comes, kept for the next, killed when late.

Whatever a page does to a parser - endless time, all memory, a crash - it does to that process. It has none of this
one's environment, and it ends by itself when this one is gone: its input ends, or its alarm rings.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import weakref
from contextlib import suppress
from typing import Any, NamedTuple

from orchestra.errors import ExtractTimeout, PageFault
from orchestra.retrieval.fetching import Fetched

SECONDS = 5.0
"""What a page's text may take."""
STARTING = 20.0
"""What the process may take to start, on a busy machine."""
LONGEST_ANSWER = 8 * 2**20
_INHERITED = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR", "HOME")


class Extracted(NamedTuple):
    """The text of a page, its title and, where it names one, the day it was published; `cut` says that there was more."""

    title: str
    text: str
    published: str
    cut: bool


class Extractor:
    """Takes the text out of pages, one at a time; threads wait for each other."""

    def __init__(self, *, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize[[subprocess.Popen[bytes]], Extractor] | None = None

    def extract(self, page: Fetched, *, deadline: float) -> Extracted:
        """The text of `page`, before the moment `deadline`. Raises `ExtractTimeout`, and `PageFault` where the page broke the process."""
        if not self._lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise ExtractTimeout(url=page.final_url, seconds=f"{self._seconds:g}")
        try:
            process = self._started(page.final_url, min(STARTING, deadline - time.monotonic()))
            begun = time.monotonic()
            seconds = max(0.0, min(self._seconds, deadline - begun))
            head = {"size": len(page.body), "declared": page.declared, "kind": page.kind, "seconds": seconds}
            answer = _asked(process, seconds, json.dumps(head).encode() + b"\n", page.body)
            if answer is not None:
                return Extracted(**answer)
            self._stopped()
            if time.monotonic() >= begun + seconds:
                raise ExtractTimeout(url=page.final_url, seconds=f"{seconds:g}")
            raise PageFault(url=page.final_url, detail="its text could not be taken out", detail_zh="无法提取正文")
        finally:
            self._lock.release()

    def close(self) -> None:
        """Ends the process; the next page starts another one."""
        self._stopped()

    def _started(self, url: str, patience: float) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._stopped()
        environment = {name: value for name, value in os.environ.items() if name in _INHERITED}
        # the modules are found where this process found them, not in the folder that the user stands in
        environment |= {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PYTHONUTF8": "1"}
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "orchestra.retrieval.extraction"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # Ctrl-C is this process's affair
        )
        self._process = process
        self._end = weakref.finalize(self, _ended, process)
        if _asked(process, patience) is None:
            self._stopped()
            raise PageFault(url=url, detail="the process for its text did not start", detail_zh="提取正文的进程未能启动")
        return process

    def _stopped(self) -> None:
        if self._end is not None:
            self._end()
        self._process = self._end = None


def _asked(process: subprocess.Popen[bytes], seconds: float, *message: bytes) -> dict[str, Any] | None:
    """What the process answers within so many seconds; else it is killed, and the answer is None."""
    asked, told = process.stdin, process.stdout
    if asked is None or told is None:
        return None
    killer = threading.Timer(max(0.0, seconds), process.kill)
    killer.daemon = True
    killer.start()
    try:
        with suppress(OSError, ValueError):  # it has died, or was closed meanwhile
            asked.writelines(message)
            asked.flush()
            line = told.readline(LONGEST_ANSWER)
            if line.endswith(b"\n"):
                answer = json.loads(line)
                return answer if isinstance(answer, dict) else None
        return None
    finally:
        killer.cancel()


def _ended(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            with suppress(OSError, ValueError):
                pipe.close()
