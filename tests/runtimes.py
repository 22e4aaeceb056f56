"""The client in both runtimes: one piece of work is run on an event loop and without one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
import pytest

from orchestra.model.client import Client
from orchestra.model.messages import Message, Options, Piece, Reply, gathered
from orchestra.runtime import Blocking, Looped, Runtime, finish
from orchestra.settings import Settings
from orchestra.standin import Scripted, StandIn

T = TypeVar("T")
PROMPTLY = 0.5
LONG = Scripted([f"{number} " for number in range(900)], pace=0.02)
INFERENCE = ("/api/chat", "/api/generate")
RUNTIMES = ("looped", "blocking")
WAYS = ("chat", "complete")
PATIENT: dict[str, Any] = {"connect_timeout": 1.0, "deadline": 10.0, "prompt_token_time": 0.0}
# for what stands still; whatever moves must not be given up so soon on a busy machine
IMPATIENT: dict[str, Any] = {**PATIENT, "first_token_timeout": 0.15, "piece_timeout": 0.15, "load_timeout": 0.15}


def patience(fault: str) -> dict[str, Any]:
    """The settings with which a test waits for what comes of a fault."""
    return IMPATIENT if fault.startswith("stall") else PATIENT


def run(kind: str, work: Callable[[Client], Coroutine[Any, Any, T]], **settings: Any) -> T:
    """What `work` gives for a client of its own in that runtime."""

    async def whole(runtime: Runtime) -> T:
        try:
            return await work(Client(runtime, Settings(**settings)))
        finally:
            await runtime.close()

    parallel = settings.get("parallel", 1)
    return asyncio.run(whole(Looped(parallel=parallel))) if kind == "looped" else finish(whole(Blocking(parallel=parallel)))


def asked(client: Client, way: str = "chat", text: str = "Why is the sky blue?", *, model: str = "llama3", **more: Any) -> AsyncGenerator[Piece]:
    """One question, by chat or by complete."""
    if way == "chat":
        return client.chat([Message("user", text)], model=model, **more)
    return client.complete(text, model=model, **more)


async def drained(pieces: AsyncGenerator[Piece]) -> Reply:
    """The whole answer."""
    return gathered([piece async for piece in pieces])


@dataclass(slots=True)
class Outcome:
    """What became of one question: the error or None, the text that came piece by piece, and how long it took."""

    error: BaseException | None = None
    reply: Reply | None = None
    streamed: str = ""
    seconds: float = 0.0
    pieces: list[Piece] = field(default_factory=list)


def outcome(kind: str, way: str = "chat", **settings: Any) -> Outcome:
    """Asks one question and catches whatever comes of it."""
    found = Outcome()

    async def work(client: Client) -> None:
        async for piece in asked(client, way):
            found.pieces.append(piece)

    started = time.monotonic()
    try:
        run(kind, work, **{**PATIENT, **settings})
        found.reply = gathered(found.pieces)
    except BaseException as error:
        found.error = error
    found.seconds = time.monotonic() - started
    found.streamed = "".join(piece.text for piece in found.pieces)
    return found


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Whether a condition comes true in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.002)
    return condition()


def noted_pauses(patch: pytest.MonkeyPatch) -> list[float]:
    """The pauses of both runtimes from now on, none of which is waited for."""
    pauses: list[float] = []

    async def pause(self: Any, seconds: float) -> None:
        pauses.append(seconds)

    patch.setattr(Looped, "pause", pause)
    patch.setattr(Blocking, "pause", pause)
    return pauses


def inferences(daemon: StandIn) -> list[dict[str, Any]]:
    """The bodies that asked a model for something, in order."""
    return [each.body for each in daemon.requests if each.path in INFERENCE and each.body and (each.body.get("messages") or each.body.get("prompt"))]


def answer(kind: str, daemon: StandIn, text: str = "Hello.", way: str = "chat", *, model: str = "llama3", **options: Any) -> Reply:
    """One answer, by a client of its own."""

    async def work(client: Client) -> Reply:
        return await drained(asked(client, way, text, model=model, options=Options(**options)))

    return run(kind, work, host=daemon.url)


def plain(daemon: StandIn, model: str = "llama3", **body: Any) -> dict[str, Any]:
    """What a client that knows nothing of Orchestra asks."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hi."}], "stream": False, **body}
    found = httpx.post(f"{daemon.url}/api/chat", json=body, trust_env=False, timeout=10)
    found.raise_for_status()
    answer: dict[str, Any] = found.json()
    return answer
