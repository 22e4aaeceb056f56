"""What happens beside an answer: steps that are told before its first part, and work that goes on after its last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import TypeVar

from orchestra.errors import OrchestraError
from orchestra.gateway.attending import unforeseen
from orchestra.slots import asking

T = TypeVar("T")
Tell = Callable[[T], object]
_after: set[asyncio.Task[None]] = set()  # a task that nobody holds may be collected while it runs


async def with_told(made: Callable[[Tell[T]], AsyncGenerator[T]]) -> AsyncGenerator[T]:
    """The parts that are made, and before the first of them, as it comes, what their maker is told to tell."""
    told: asyncio.Queue[T | None] = asyncio.Queue()
    async with aclosing(made(told.put_nowait)) as parts:
        first = asyncio.ensure_future(anext(parts, None))
        first.add_done_callback(lambda _: told.put_nowait(None))
        try:
            while (one := await told.get()) is not None:
                yield one
        finally:
            if not first.done():
                first.cancel()
                await asyncio.wait((first,))
        part = first.result()
        while part is not None:
            yield part
            part = await anext(parts, None)


async def released(parts: AsyncGenerator[T], last: Callable[[T], bool]) -> AsyncGenerator[T]:
    """The parts up to the `last` one; what is still done after that - older turns are summarised - keeps nobody waiting."""
    over = False
    try:
        async for part in parts:
            over = last(part)
            yield part
            if over:
                return
    finally:
        if over:
            task = asyncio.ensure_future(_finished(parts))
            _after.add(task)
            task.add_done_callback(_after.discard)
        else:
            await parts.aclose()


async def _finished(parts: AsyncGenerator[T]) -> None:
    asking().task = True  # whoever talks goes before it
    async with aclosing(parts):
        with suppress(OrchestraError), unforeseen():
            async for _ in parts:
                pass
