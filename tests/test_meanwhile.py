"""Steps that are told before an answer, work that goes on after it: neither is lost, neither outlives its reader for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import pytest

from orchestra.errors import StoreFault
from orchestra.gateway.meanwhile import Tell, released, with_told
from orchestra.slots import Asker, asking, on_behalf_of


def test_what_is_told_comes_as_it_happens_and_before_the_first_part() -> None:
    gate = asyncio.Event()

    async def made(tell: Tell[str]) -> AsyncGenerator[str]:
        tell("asking")
        await gate.wait()
        tell("answered")
        yield "a"
        yield "b"

    async def main() -> list[str]:
        seen = []
        async with aclosing(with_told(made)) as parts:
            async for part in parts:
                seen.append(part)
                gate.set()  # nothing but what was told can have come by now
        return seen

    assert asyncio.run(main()) == ["asking", "answered", "a", "b"]


def test_what_fails_before_the_first_part_fails_for_its_reader_and_who_leaves_ends_the_work() -> None:
    ended = []

    async def broken(tell: Tell[str]) -> AsyncGenerator[str]:
        tell("asking")
        raise StoreFault
        yield ""

    async def endless(tell: Tell[str]) -> AsyncGenerator[str]:
        tell("asking")
        try:
            await asyncio.Event().wait()
            yield ""
        finally:
            ended.append(True)

    async def main() -> None:
        with pytest.raises(StoreFault):
            assert [part async for part in with_told(broken)]
        async with aclosing(with_told(endless)) as parts:
            assert await anext(parts) == "asking"

    asyncio.run(main())
    assert ended


@pytest.mark.parametrize(("reads", "after"), [(3, ["summary"]), (1, ["left"])])
def test_after_the_last_part_the_rest_is_done_without_a_reader(reads: int, after: list[str]) -> None:
    done: list[str] = []
    asker = Asker()

    async def work() -> AsyncGenerator[str]:
        try:
            yield "a"
            yield "b"
            yield "end"
            assert asking().task, "whoever talks goes before it"
            done.append("summary")
            yield "more"
        except GeneratorExit:
            done.append("left")
            raise

    async def main() -> list[str]:
        last: Callable[[str], bool] = "end".__eq__
        with on_behalf_of(asker):
            async with aclosing(released(work(), last)) as parts:
                seen = [await anext(parts) for _ in range(reads)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return seen

    assert asyncio.run(main()) == ["a", "b", "end"][:reads]
    assert done == after
