"""What Orchestra adds to the time until the first token: `ps`, `show` kept from before, the request, the store.

The store's folder is in memory where the system has such a place, so that the disk's own time is apart; the last row
has it on the disk all the same.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from statistics import median

import httpx
from bounds import Row, shown
from scripted import MODEL, scripted

from orchestra.api import Orchestra
from orchestra.model.client import Client
from orchestra.model.messages import Message
from orchestra.runtime import Blocking, stepping
from orchestra.settings import Settings

ROUNDS = 100
SESSIONS = 20  # in turn, so that none of them grows long
BOUND = 3.0
MEMORY = Path("/dev/shm")
ASKED = "Tell me everything."
Way = Callable[[], Generator[object]]


class _Face:
    """`Client.chat` for code without an event loop."""

    def __init__(self, core: Client) -> None:
        self._core = core

    chat = stepping(Client.chat)


def ways(url: str, memory: str, disk: str) -> dict[str, Way]:
    """Each begins one answer."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": ASKED}], "stream": True}
    plain = httpx.Client(trust_env=False, timeout=60)
    face = _Face(Client(Blocking(), Settings.read(host=url)))

    def raw() -> Generator[object]:
        with plain.stream("POST", url + "/api/chat", json=body) as response:
            for line in response.iter_lines():
                yield json.loads(line)["message"]["content"]

    def session(home: str) -> Way:
        orchestra = Orchestra(host=url, home=home)
        dialogues = cycle([orchestra.session(f"s{number}", model=MODEL) for number in range(SESSIONS)])
        for _ in range(SESSIONS):
            next(dialogues).ask(ASKED)
        return lambda: next(dialogues).stream(ASKED)

    found: dict[str, Way] = {"raw": raw, "Client.chat": lambda: face.chat([Message("user", ASKED)], model=MODEL)}
    if memory:
        found["Session.stream, stored in memory"] = session(memory)
    return {**found, "Session.stream, stored on the disk": session(disk)}


def until_first(way: Way) -> float:
    """Milliseconds until the first token; what is left of the answer is not waited for."""
    started = time.perf_counter()
    answer = way()
    next(answer)
    spent = 1000 * (time.perf_counter() - started)
    answer.close()
    return spent


def measured() -> list[Row]:
    """Milliseconds added over raw httpx, medians of one round after the other."""
    with scripted(20) as url, ExitStack() as stack:
        disk = stack.enter_context(tempfile.TemporaryDirectory(prefix="orchestra-bench-"))
        memory = stack.enter_context(tempfile.TemporaryDirectory(dir=MEMORY)) if MEMORY.is_dir() else ""
        found = ways(url, memory, disk)
        times: dict[str, list[float]] = {name: [] for name in found}
        for number in range(ROUNDS + 1):
            for name, way in found.items():
                spent = until_first(way)
                if number:
                    times[name].append(spent)
    plain = median(times.pop("raw"))
    return [
        Row(f"{name} - raw httpx", median(each) - plain, None if "disk" in name else BOUND, unit=" ms", detail=f"raw {plain:.2f} ms")
        for name, each in times.items()
    ]


if __name__ == "__main__":
    shown(f"time until the first token, median of {ROUNDS} rounds in turn", measured())
