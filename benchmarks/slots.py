"""What it costs that slots are shared and waits are shown: CPU beside a plain semaphore, and beside a task for each part."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from statistics import median

from bounds import Row, shown

from orchestra.gateway.waiting import Parts
from orchestra.runtime import Looped
from orchestra.slots import Asker, Slots

TITLE = "slots and waits, CPU"
TIMES, ROUNDS = 5_000, 5
WAITING = 128  # as many as the gateway answers at once
EACH = 200.0  # us a request may take to have its slot, of the 5 ms that a chat may add


async def _semaphore() -> None:
    limit = asyncio.Semaphore(1)
    for _ in range(TIMES):
        async with limit:
            pass


async def _slot() -> None:
    runtime = Looped(parallel=1)
    for _ in range(TIMES):
        async with runtime.slot():
            pass


async def _handed_on() -> None:
    """Each turn that ends wakes the next of many, who all come again."""
    slots, held = Slots(1), list[Asker]()
    turns = {asker: slots.enter(asker, lambda: None) for asker in (Asker(f"h{n % 4}", f"u{n % 16}") for n in range(WAITING))}
    for _ in range(TIMES // 10):
        held = [asker for asker, turn in turns.items() if turn.held]
        slots.leave(turns[held[0]])
        turns[held[0]] = slots.enter(held[0], lambda: None)


async def _made() -> AsyncGenerator[int]:
    for number in range(TIMES):
        await asyncio.sleep(0)
        yield number


async def _parts() -> None:
    async for _ in Parts(_made(), 10).all():
        pass


async def _tasks() -> None:
    source = _made()

    async def following() -> int:
        return await anext(source, -1)

    coming = asyncio.ensure_future(following())
    while True:
        await asyncio.wait((coming,), timeout=10)
        if coming.result() < 0:
            return
        coming = asyncio.ensure_future(following())


def _took(work: Callable[[], Coroutine[None, None, None]], times: int = TIMES) -> float:
    """Microseconds of CPU each time, the median of some rounds."""

    def once() -> float:
        started = time.process_time()
        asyncio.run(work())
        return (time.process_time() - started) / times * 1e6

    return median(once() for _ in range(ROUNDS))


def measured() -> list[Row]:
    """The figures."""
    slot, plain, handed = _took(_slot), _took(_semaphore), _took(_handed_on, TIMES // 10)
    parts, tasks = _took(_parts), _took(_tasks)
    return [
        Row("a slot that is free", slot, EACH, " us", detail=f"a semaphore takes {plain:.2f} us"),
        Row(f"a slot handed on where {WAITING} wait", handed, 10 * EACH, " us"),
        Row("a part of an answer, beside a task for each part", parts / tasks, 0.5, detail=f"{parts:.1f} us beside {tasks:.1f} us"),
    ]


if __name__ == "__main__":
    shown(TITLE, measured())
