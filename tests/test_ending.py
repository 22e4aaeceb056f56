"""Told to end, a service leaves nobody who waits in it without a word, and blames nobody else for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest
from starlette.types import Message, Receive, Scope, Send

from orchestra import AsyncOrchestra
from orchestra.errors import Interrupted
from orchestra.gateway.app import Border
from orchestra.gateway.identity import Users
from orchestra.gateway.keys import Keys
from orchestra.model.messages import Piece
from orchestra.request import Broken
from orchestra.runtime import Looped
from orchestra.settings import Settings
from orchestra.standin import Scripted, StandIn

PROMPTLY = 1.0


async def a_slot(runtime: Looped) -> None:
    async with runtime.slot(time.monotonic() + 60):
        raise AssertionError("there is none")


WAITS: dict[str, Callable[[Looped], Awaitable[None]]] = {
    "a slot": a_slot,
    "a pause": lambda runtime: runtime.pause(60),
    "somebody else's code": lambda runtime: runtime.aside(lambda: time.sleep(2), seconds=60),
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=list(WAITS))
def test_whatever_waits_is_told(wait: Callable[[Looped], Awaitable[None]]) -> None:
    async def main() -> None:
        runtime = Looped()
        async with runtime.slot():
            waiting = asyncio.ensure_future(wait(runtime))
            await asyncio.sleep(0.05)
            assert not waiting.done()
            runtime.interrupt()
            for late in (waiting, asyncio.ensure_future(wait(runtime))):  # what would begin to wait now is told as well
                with pytest.raises(Interrupted):
                    await asyncio.wait_for(late, PROMPTLY)

    asyncio.run(main())


def test_a_time_that_is_over_is_no_end_of_the_service() -> None:
    async def main() -> None:
        runtime = Looped()
        with pytest.raises(Broken):
            await runtime.aside(lambda: time.sleep(0.2), seconds=0.05)
        async with runtime.slot():
            with pytest.raises(Broken):
                await asyncio.create_task(within(runtime, 0.05))

    async def within(runtime: Looped, seconds: float) -> None:
        async with runtime.slot(time.monotonic() + seconds):
            raise AssertionError("there is none")

    asyncio.run(main())


def test_an_answer_that_is_broken_off_keeps_what_came_and_does_not_blame_the_daemon() -> None:
    async def main(daemon: StandIn) -> None:
        async with AsyncOrchestra(host=daemon.url) as orchestra:
            runtime = orchestra.runtime
            assert isinstance(runtime, Looped)
            waiting, said = list[asyncio.Task[None]](), list[str]()

            async def told() -> None:
                async for piece in orchestra.session("a").stream("Tell."):
                    said.append(piece.text)
                    if len(said) == 1:
                        waiting.append(asyncio.create_task(_drained(orchestra.session("b").stream("Wait."))))
                    if len(said) == 9:
                        runtime.interrupt()

            with pytest.raises(Interrupted) as ended:
                await told()
            assert "Ollama" not in ended.value.message("en") + ended.value.message("zh")
            assert ended.value.status == 503, "whoever asks again later is answered"
            assert ended.value.reply is not None
            assert ended.value.reply.text == "".join(said)
            with pytest.raises(Interrupted):
                await asyncio.wait_for(waiting[0], PROMPTLY)
            [turn] = orchestra.store.history("a")
            assert (turn.answer, turn.status) == ("".join(said), "interrupted")

    with StandIn([Scripted("".join(chr(0x4E00 + 7 * place) for place in range(400)), pace=0.02)]) as daemon:
        asyncio.run(main(daemon))


def test_what_is_cancelled_at_the_very_end_is_told_to_its_caller_without_a_traceback() -> None:
    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/begun":
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.Event().wait()

    async def told(path: str) -> list[Message]:
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": [(b"host", b"127.0.0.1:1")], "server": ("127.0.0.1", 1)}
        settings = Settings.read()
        work = asyncio.ensure_future(Border(endless, settings, Keys.of(settings), Users.of(settings))(scope, receive, send))
        await asyncio.sleep(0.05)
        work.cancel()
        await work
        return sent

    start, body = asyncio.run(told("/chat"))
    assert (start["status"], dict(start["headers"])[b"retry-after"]) == (503, b"2")
    assert b"interrupted" in body["body"]
    [start] = asyncio.run(told("/begun"))
    assert start["status"] == 200, "what has begun ends where it is"


async def _drained(pieces: AsyncGenerator[Piece]) -> None:
    async for _ in pieces:
        pass
