"""CPU of one streamed token through the whole of Orchestra, beside raw httpx and beside the `ollama` package.

All read the same answer from the same process, one after the other in turn; CPU is that of this whole process, the
store's thread included. A daemon that is read as fast as it writes is the case in which CPU counts; the last rows have
one token every two milliseconds, each of which wakes the process up (a stored session's few milliseconds for the turn
itself are spread over fewer tokens there).
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import tempfile
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import httpx
from bounds import Row, shown
from scripted import MODEL, scripted

from orchestra.api import AsyncOrchestra, Orchestra
from orchestra.model.client import Client
from orchestra.model.messages import Message
from orchestra.runtime import Blocking, Looped, finish
from orchestra.settings import Settings

TOKENS = 3000
ROUNDS = 21
PACED_TOKENS = 400
PACED_ROUNDS = 7
PACE = 0.002  # seconds
ASKED = "Tell me everything."
BODY: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": ASKED}], "stream": True}
Way = Callable[[], int]


def raw(url: str) -> Way:
    """What a careful caller writes by hand: httpx, `iter_lines`, `json.loads`."""
    client = httpx.Client(trust_env=False, timeout=60)

    def run() -> int:
        count = 0
        with client.stream("POST", url + "/api/chat", json=BODY) as response:
            for line in response.iter_lines():
                count += bool(json.loads(line)["message"]["content"])
        return count

    return run


def raw_async(url: str, loop: asyncio.AbstractEventLoop) -> Way:
    """The same on an event loop."""
    client = httpx.AsyncClient(trust_env=False, timeout=60)

    async def read() -> int:
        count = 0
        async with client.stream("POST", url + "/api/chat", json=BODY) as response:
            async for line in response.aiter_lines():
                count += bool(json.loads(line)["message"]["content"])
        return count

    return lambda: loop.run_until_complete(read())


def package(url: str) -> Way:
    """The `ollama` package's client."""
    import ollama

    client = ollama.Client(host=url)

    def run() -> int:
        return sum(bool(part.message.content) for part in client.chat(model=MODEL, messages=BODY["messages"], stream=True))

    return run


def session(url: str) -> Way:
    """`Session.stream` with the store on: client, criteria, journal."""
    orchestra = Orchestra(host=url)

    def run() -> int:
        return sum(bool(piece.text) for piece in orchestra.session(model=MODEL).stream(ASKED))

    return run


def session_async(url: str, loop: asyncio.AbstractEventLoop) -> Way:
    """The same on an event loop."""
    orchestra = AsyncOrchestra(host=url)

    async def read() -> int:
        return sum([bool(piece.text) async for piece in orchestra.session(model=MODEL).stream(ASKED)])

    return lambda: loop.run_until_complete(read())


def client(url: str) -> Way:
    """`Client.chat` alone: no store."""
    chat = Client(Blocking(), Settings.read(host=url)).chat

    async def read() -> int:
        return sum([bool(piece.text) async for piece in chat([Message("user", ASKED)], model=MODEL)])

    return lambda: finish(read())


def client_async(url: str, loop: asyncio.AbstractEventLoop) -> Way:
    """The same on an event loop."""
    chat = Client(Looped(), Settings.read(host=url)).chat

    async def read() -> int:
        return sum([bool(piece.text) async for piece in chat([Message("user", ASKED)], model=MODEL)])

    return lambda: loop.run_until_complete(read())


def cost(way: Way, tokens: int) -> float:
    """CPU seconds of one answer of so many tokens."""
    gc.collect()
    started = time.process_time()
    count = way()
    spent = time.process_time() - started
    if count != tokens:
        raise SystemExit(f"{count} tokens came, not {tokens}")
    return spent / tokens


def compared(ways: dict[str, tuple[Way, Way]], tokens: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """CPU seconds a token of both sides, in turn, after one answer of each that is not counted."""
    costs: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, (ours, theirs) in ways.items():
            pair = cost(ours, tokens), cost(theirs, tokens)
            if number:
                costs[name].append(pair)
    return costs


def measured() -> list[Row]:
    """Ratios to raw httpx, pair by pair; the bound is the ratio of the `ollama` package."""
    loop = asyncio.new_event_loop()
    with tempfile.TemporaryDirectory(prefix="orchestra-bench-") as home:
        os.environ["ORCHESTRA_HOME"] = home
        with scripted(TOKENS) as url:
            ways = {
                "the `ollama` package / raw httpx": (package(url), raw(url)),
                "Client.chat / raw httpx": (client(url), raw(url)),
                "Session.stream, stored / raw httpx": (session(url), raw(url)),
                "Client.chat on a loop / raw httpx on a loop": (client_async(url, loop), raw_async(url, loop)),
                "AsyncSession.stream, stored / raw httpx on a loop": (session_async(url, loop), raw_async(url, loop)),
            }
            costs = compared(ways, TOKENS, ROUNDS)
        with scripted(PACED_TOKENS, PACE) as url:
            paced = {
                "paced: the `ollama` package / raw httpx": (package(url), raw(url)),
                "paced: Client.chat / raw httpx": (client(url), raw(url)),
                "paced: Session.stream, stored / raw httpx": (session(url), raw(url)),
            }
            slow = compared(paced, PACED_TOKENS, PACED_ROUNDS)
    loop.close()
    peer = median(a / b for a, b in costs["the `ollama` package / raw httpx"])
    rows = [_row(name, pairs, None if "package" in name else peer) for name, pairs in costs.items()]
    return rows + [_row(name, pairs, None) for name, pairs in slow.items()]


def _row(name: str, pairs: list[tuple[float, float]], bound: float | None) -> Row:
    ratios = sorted(a / b for a, b in pairs)
    ours, theirs = (1e6 * median(pair[side] for pair in pairs) for side in (0, 1))
    aim = "; aim 1.1x" if bound else ""
    detail = f"{ours:.1f} us a token against {theirs:.1f} us{aim}"
    return Row(name, median(ratios), bound, spread=(ratios[0], ratios[-1]), detail=detail)


if __name__ == "__main__":
    shown(f"CPU of a streamed token, median of {ROUNDS} pairs of {TOKENS} tokens", measured())
