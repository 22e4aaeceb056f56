"""A line for each request that the gateway has answered, on stderr as it ends: aligned for a person, in fixed fields for a file.

A terminal that is held (Ctrl-S, a marked text) or a pipe that nobody reads stops a write: that waits in a thread of its
own, and what it cannot take is left out and counted, while the gateway goes on.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import IO

from orchestra.cli.tables import width
from orchestra.cli.terminal import colourful
from orchestra.cli.words import LANGUAGE, say
from orchestra.gateway.reporting import REQUESTS, Report

MOST = 1000  # lines that wait for a reader
LEAVING_SECONDS = 1.0  # for what still waits when the gateway ends
WIDEST = 34  # places of a column that others are aligned by: one long path does not push the rest off the screen
DIM, RED, YELLOW = "2", "31", "33"


class Lines(logging.Handler):
    """Shows reports on a stream."""

    def __init__(self, stream: IO[str]) -> None:
        super().__init__()
        self._stream, self._person = stream, colourful(stream)
        self._widths: list[int] = []
        self._waiting: queue.Queue[str | None] = queue.Queue(MOST)
        self._left_out = 0
        self._writer = threading.Thread(target=self._written, name="requests", daemon=True)
        self._writer.start()

    def emit(self, record: logging.LogRecord) -> None:
        line = self.line(vars(record)["report"], datetime.fromtimestamp(record.created))
        if self._left_out:
            line = say(f"({self._left_out} lines were left out)\n", f"（略去 {self._left_out} 行）\n") + line
        try:
            self._waiting.put_nowait(line)
            self._left_out = 0
        except queue.Full:
            self._left_out += 1

    def close(self) -> None:
        """Shows what still waits, as far as somebody reads it."""
        with suppress(queue.Full):
            self._waiting.put_nowait(None)
        self._writer.join(LEAVING_SECONDS)
        super().close()

    def _written(self) -> None:
        with suppress(OSError, ValueError):  # whoever read it has left
            while (line := self._waiting.get()) is not None:
                self._stream.write(line + "\n")
                self._stream.flush()

    def line(self, report: Report, when: datetime) -> str:
        """One report. In a file an empty field is a dash, so that each stays in its place."""
        cells = report.cells(LANGUAGE)
        if not self._person:
            return "  ".join([when.isoformat(sep=" ", timespec="seconds"), *(cell or "-" for cell in cells)])
        self._widths = self._widths or [0] * len(cells)
        self._widths = [min(WIDEST, max(place, width(cell))) for place, cell in zip(self._widths, cells, strict=True)]
        *padded, _ = (cell + " " * (place - width(cell)) for cell, place in zip(cells, self._widths, strict=True))
        head = f"\x1b[{DIM}m{when:%H:%M:%S}  {'  '.join(padded)}\x1b[0m"
        return f"{head}  \x1b[{_colour(report)}m{cells[-1]}\x1b[0m"


def _colour(report: Report) -> str:
    if report.status >= 400:
        return RED
    return DIM if report.finish in ("stop", "") else YELLOW


@contextmanager
def watching() -> Iterator[None]:
    """Each request is a line on stderr for as long as the block runs."""
    lines = Lines(sys.stderr)
    before = REQUESTS.level, REQUESTS.propagate
    REQUESTS.addHandler(lines)
    REQUESTS.setLevel(logging.INFO)
    REQUESTS.propagate = False
    try:
        yield
    finally:
        REQUESTS.removeHandler(lines)
        lines.close()
        REQUESTS.setLevel(before[0])
        REQUESTS.propagate = before[1]
