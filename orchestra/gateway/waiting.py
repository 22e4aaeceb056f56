"""What a caller sees while it waits: its place in the queue, the model that is being loaded.

The daemon says neither, and its clients take the silence for a fault. So it is said where every client shows it, as thinking
before the thinking; whoever sends a dialogue back without sorting it out is helped by `unwaited`.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any, Generic, NamedTuple, TypeVar

from orchestra.slots import Asker, asking

SOON = 0.35  # seconds of waiting that are not worth a word
TICK = 0.4  # seconds between two looks
OFTEN = 1.0  # seconds between two words
AGAIN = 10  # seconds after which it is said again that a model is still loading
AHEAD = 500  # parts that are made before the first of them is read: whoever reads slowly is to keep no slot
CLOCK = "⏳"  # each of our lines begins with it
FENCE = "\n---\n\n"  # between our words and the model's own thinking
_OURS = re.compile(r"(?:⏳ [^\n]{1,200}(?:\n|\Z))+(?:\n---(?:\n\n)?)?")
_ENDINGS = {1: "st", 2: "nd", 3: "rd"}

T = TypeVar("T")


class Waiting(NamedTuple):
    """What is waited for: a `model` that has been loading for so many `seconds`, else the turn at this `place`, where 1 is the next."""

    place: int = 0
    model: str = ""
    seconds: int = 0

    def told(self, language: str) -> str:
        """The same in words."""
        if self.model:
            since = f" {self.seconds} s" if self.seconds else ""
            return f"{CLOCK} {'正在加载' if language == 'zh' else 'loading'} {self.model} …{since}"
        if language == "zh":
            return f"{CLOCK} 排队中：第 {self.place} 位"
        ending = "th" if self.place % 100 in (11, 12, 13) else _ENDINGS.get(self.place % 10, "th")
        return f"{CLOCK} {self.place}{ending} in the queue"


def unwaited(thinking: str) -> str:
    """The model's own thinking, without the lines of ours that stand before it."""
    ours = _OURS.match(thinking)
    return thinking[ours.end() :] if ours else thinking


class Lookout:
    """Tells what an asker waits for, when there is something new to say."""

    def __init__(self, asker: Asker) -> None:
        self._asker, self._last, self._told = asker, Waiting(), 0.0

    def news(self) -> Waiting | None:
        """What is worth a word now."""
        if not self._asker.turns and not self._asker.loads:
            return None
        now = time.monotonic()
        waiting = self._waiting(now)
        if waiting is None or waiting == self._last or now - self._told < OFTEN:
            return None
        self._last, self._told = waiting, now
        return waiting

    def _waiting(self, now: float) -> Waiting | None:
        for load in self._asker.loads:
            if now - load.since >= SOON:
                return Waiting(model=load.model, seconds=int((now - load.since) / AGAIN) * AGAIN)
        turns = self._asker.turns
        if not turns or any(turn.held for turn in turns) or now - min(turn.since for turn in turns) < SOON:
            return None
        return Waiting(min(turn.place for turn in turns))


async def awaited(work: Awaitable[T], show: Callable[[Waiting], Awaitable[None]]) -> T:
    """What the work gives; `show` is told what it waits for. Whoever ends this ends the work."""
    task, lookout = asyncio.ensure_future(work), Lookout(asking())
    try:
        while not (await asyncio.wait((task,), timeout=TICK))[0]:
            if waiting := lookout.news():
                await show(waiting)
        return task.result()
    finally:
        await _ended(task)


class Parts(Generic[T]):
    """The parts of `source`, as a task of its own makes them; where none comes, what its asker waits for.

    One task reads the source from its first part to its last: a task for each part would cost more than most parts.
    """

    def __init__(self, source: AsyncGenerator[T], quiet: float) -> None:
        self._source, self._quiet = source, quiet
        self._came: deque[T] = deque()
        self._waiting: Waiting | None = None
        self._stirred, self._room = asyncio.Event(), asyncio.Event()
        self._lookout, self._heard = Lookout(asking()), time.monotonic()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def begun(self) -> None:
        """Until there is something to show. Raises what the source raises before its first part."""
        task = self._working()
        try:
            while not (self._came or self._waiting or task.done()):
                await self._stir()
        except BaseException:
            await self.close()
            raise
        if task.done() and not self._came:
            await self.close()
            task.result()

    async def all(self) -> AsyncGenerator[T | Waiting | None]:
        """The parts, and between them what is waited for; None each time nothing was to be said for `quiet` seconds."""
        task = self._working()
        try:
            while True:
                if self._came:
                    self._room.set()
                    self._heard = time.monotonic()
                    yield self._came.popleft()
                elif task.done():
                    task.result()
                    return
                elif self._waiting or time.monotonic() - self._heard >= self._quiet:
                    waiting, self._waiting, self._heard = self._waiting, None, time.monotonic()
                    yield waiting
                else:
                    await self._stir()
        finally:
            await self.close()

    async def close(self) -> None:
        """Ends the work, if it has not ended."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is None:
            await self._source.aclose()
        else:
            await _ended(self._task)

    def _working(self) -> asyncio.Task[None]:
        if self._task is None:
            self._task = asyncio.ensure_future(self._work())
            self._task.add_done_callback(lambda _: self._stirred.set())
            self._timer = asyncio.get_running_loop().call_later(TICK, self._look)
        return self._task

    async def _work(self) -> None:
        async with aclosing(self._source) as parts:
            async for part in parts:
                self._came.append(part)
                self._stirred.set()
                if len(self._came) >= AHEAD:
                    self._room.clear()
                    await self._room.wait()

    async def _stir(self) -> None:
        self._stirred.clear()
        await self._stirred.wait()

    def _look(self) -> None:
        self._waiting = self._waiting or self._lookout.news()
        if self._waiting or time.monotonic() - self._heard >= self._quiet:
            self._stirred.set()
        self._timer = asyncio.get_running_loop().call_later(TICK, self._look)


async def _ended(task: asyncio.Task[Any]) -> None:
    """Ends a task and waits for its end: a caller that leaves cancels again and again, but nobody may close what still runs."""
    task.cancel()
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait((task,))
    if not task.cancelled():
        task.exception()  # seen: whoever has left is not told
