"""Told to end, a service leaves nobody who waits in it without a word, and blames nobody else for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest

from orchestra import AsyncOrchestra
from orchestra.errors import Interrupted
from orchestra.model.messages import Piece
from orchestra.request import Broken
from orchestra.runtime import Looped
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


async def _drained(pieces: AsyncGenerator[Piece]) -> None:
    async for _ in pieces:
        pass
