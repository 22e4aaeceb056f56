"""CPU of whole processes, two commands in turn, so that a machine whose speed drifts does not decide."""

from __future__ import annotations

import os
import subprocess
import sys
from statistics import median
from typing import NamedTuple


class Ratio(NamedTuple):
    """Median CPU seconds of both commands, and the median of the ratios pair by pair with their spread."""

    ours: float
    theirs: float
    ratio: float
    low: float
    high: float


def cpu(command: list[str]) -> float:
    """User and system seconds of one run, as the system accounts for the finished process."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def compared(ours: list[str], theirs: list[str], *, runs: int = 15) -> Ratio:
    """Both commands `runs` times in turn, after one run of each that is not counted."""
    cpu(ours), cpu(theirs)
    pairs = [(cpu(ours), cpu(theirs)) for _ in range(runs)]
    ratios = sorted(a / b for a, b in pairs)
    return Ratio(
        ours=median(a for a, _ in pairs),
        theirs=median(b for _, b in pairs),
        ratio=median(ratios),
        low=ratios[0],
        high=ratios[-1],
    )


def python(code: str) -> list[str]:
    """A command that runs `code` in this interpreter."""
    return [sys.executable, "-c", code]
