"""Slots, jobs, proxies, loops: what the two runtimes promise beyond the end of a stream."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import aclosing, closing
from functools import partial
from typing import Any

import httpx
import pytest
from runtimes import LONG, PROMPTLY, RUNTIMES, asked, drained, run, within

from orchestra import AsyncOrchestra, Orchestra
from orchestra.errors import DaemonUnreachable, OrchestraError, UsageError
from orchestra.model.client import Client
from orchestra.model.messages import FinishReason
from orchestra.request import Breakage, Broken
from orchestra.runtime import Blocking, Looped, Runtime, finish
from orchestra.settings import Settings
from orchestra.standin import Scripted, StandIn

# --- inside of a running loop


def test_the_sync_face_works_in_a_notebook() -> None:
    async def cell() -> None:
        with Orchestra(host=daemon.url) as orchestra:
            assert orchestra.generate("Hello.").text == "Yes."
            for _ in orchestra.stream("Count."):
                break
            assert within(PROMPTLY, lambda: daemon.cancelled == 1)
            with closing(orchestra.session("s").stream("Hello?")) as stream:
                next(stream)
            assert orchestra.session("s").turns()[0].status == "interrupted"

    with StandIn(["Yes.", LONG, LONG]) as daemon:
        asyncio.run(cell())


def test_a_coroutine_that_really_waits_is_refused_at_once() -> None:
    async def really() -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="waited"):
        finish(really())


def test_one_orchestra_may_be_used_on_several_loops() -> None:
    with StandIn(["One.", "Two.", "Three."]) as daemon:
        orchestra = AsyncOrchestra(host=daemon.url)
        assert [asyncio.run(_generated(orchestra)) for _ in range(3)] == ["One.", "Two.", "Three."]
        asyncio.run(orchestra.close())


async def _generated(orchestra: AsyncOrchestra) -> str:
    return (await orchestra.generate("Hello.")).text


# --- the limiter


@pytest.mark.parametrize("kind", RUNTIMES)
@pytest.mark.parametrize("parallel", [1, 2])
def test_no_more_streams_at_once_than_allowed(kind: str, parallel: int) -> None:
    seen: list[int] = []

    async def work(client: Client) -> None:
        async def one() -> None:
            async for _ in asked(client):
                seen.append(daemon.active)

        await client.runtime.together([one] * 3)

    with StandIn([Scripted("one two three four five six", pace=0.01)] * 3, slots=3) as daemon:
        run(kind, work, host=daemon.url, parallel=parallel)
    assert max(seen) == parallel


@pytest.mark.parametrize("kind", RUNTIMES)
def test_one_reader_of_two_answers_does_not_wait_for_itself(kind: str) -> None:
    async def work(client: Client) -> str:
        async with aclosing(asked(client)) as one, aclosing(asked(client)) as two:
            return (await anext(one)).text + (await anext(two)).text

    with StandIn(["a b c", "a b c"], slots=2) as daemon:
        assert run(kind, work, host=daemon.url) == "aa"


@pytest.mark.parametrize("kind", RUNTIMES)
def test_a_slot_is_given_back_whatever_happens(kind: str) -> None:
    async def work(client: Client) -> str:
        for _ in range(3):
            daemon.fail("error_line")
            with pytest.raises(OrchestraError):
                await drained(asked(client))
            async with aclosing(asked(client)) as left:
                await anext(left)
        return (await drained(asked(client))).text

    with StandIn([LONG, LONG, LONG, "Done."], slots=2) as daemon:
        assert run(kind, work, host=daemon.url) == "Done."


# --- the environment's proxies


def reached(kind: str, daemon: StandIn) -> str:
    async def work(client: Client) -> str:
        await client.tags()
        return (await drained(asked(client))).text

    return run(kind, work, host=daemon.url)


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


@pytest.mark.parametrize("kind", RUNTIMES)
def test_proxies_are_not_used(kind: str, proxied: None) -> None:
    with StandIn(["Direct."]) as daemon:
        assert reached(kind, daemon) == "Direct."


def test_a_client_that_uses_them_is_noticed(proxied: None, monkeypatch: pytest.MonkeyPatch) -> None:
    original = httpx.Client  # the connections of a loop know of none
    monkeypatch.setattr(httpx, "Client", lambda **named: original(**{**named, "trust_env": True}))
    with StandIn() as daemon, pytest.raises(DaemonUnreachable):
        reached("blocking", daemon)


def test_management_does_not_use_them_either(proxied: None) -> None:
    with StandIn() as daemon, Orchestra(host=daemon.url) as orchestra:
        assert [step.status for step in orchestra.pull("tiny-embed")][-1] == "success"


# --- together


@pytest.mark.parametrize("kind", RUNTIMES)
@pytest.mark.parametrize("parallel", [2, 1])
def test_a_job_that_fails_ends_the_others(kind: str, parallel: int) -> None:
    async def work(client: Client) -> None:
        async def stream() -> Any:
            return await drained(asked(client))

        async def fail() -> Any:
            while daemon.active < parallel:
                await client.runtime.pause(0.01)
            raise UsageError(detail="no", detail_zh="", fix="", fix_zh="")

        await client.runtime.together([stream, stream, fail])

    with StandIn([LONG] * parallel, slots=2) as daemon:
        started = time.monotonic()
        with pytest.raises(UsageError):
            run(kind, work, host=daemon.url, parallel=parallel)
        assert time.monotonic() - started < 1.0
        assert within(PROMPTLY, lambda: (daemon.cancelled, daemon.active) == (parallel, 0))
        assert len(daemon.asked("/api/chat")) == parallel


@pytest.mark.parametrize("kind", RUNTIMES)
def test_results_come_in_the_order_of_the_jobs(kind: str) -> None:
    def job(client: Client, number: int) -> Callable[[], Coroutine[Any, Any, int]]:
        async def one() -> int:
            await client.runtime.pause(0.03 * (3 - number))
            return number

        return one

    async def work(client: Client) -> list[int]:
        assert await client.runtime.together([]) == []
        started = time.monotonic()
        found = await client.runtime.together([job(client, number) for number in range(3)])
        assert time.monotonic() - started < 0.17
        return found

    assert run(kind, work) == [0, 1, 2]


def test_a_pause_of_a_job_is_ended_too() -> None:
    async def work(client: Client) -> None:
        async def patient() -> None:
            await client.runtime.pause(30)

        async def failing() -> None:
            await client.runtime.pause(0.05)
            raise ValueError("failed")

        await client.runtime.together([patient, failing])

    for kind in RUNTIMES:
        started = time.monotonic()
        with pytest.raises(ValueError, match="failed"):
            run(kind, work)
        assert time.monotonic() - started < 1


# --- closing


def test_close_ends_streams_of_other_threads() -> None:
    found: list[BaseException] = []

    def read() -> None:
        try:
            for _ in orchestra.stream("Count."):
                pass
        except OrchestraError as error:
            found.append(error)

    with StandIn([LONG]) as daemon:
        orchestra = Orchestra(host=daemon.url)
        thread = threading.Thread(target=read)
        thread.start()
        assert within(2, lambda: daemon.active == 1)
        time.sleep(0.05)
        orchestra.close()
        thread.join(PROMPTLY)
        assert not thread.is_alive()
        assert within(PROMPTLY, lambda: daemon.cancelled == 1)
    (error,) = found
    assert isinstance(error, OrchestraError)
    assert error.reply.finish_reason is FinishReason.CANCELLED
    assert error.reply.text.startswith("0 1")


def test_a_pull_that_stands_still_can_be_left() -> None:
    async def main() -> None:
        async with AsyncOrchestra(host=daemon.url) as orchestra:
            task = asyncio.create_task(_pulled(orchestra))
            assert await asyncio.to_thread(within, 2, lambda: bool(daemon.asked("/api/pull")))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    for fault in ("stall_mid", "stall_before_headers"):
        with StandIn() as daemon:
            daemon.fail(fault, path="/api/pull")
            started = time.monotonic()
            asyncio.run(main())
            assert time.monotonic() - started < 1


async def _pulled(orchestra: AsyncOrchestra) -> None:
    async for _ in orchestra.pull("mid"):
        pass


@pytest.mark.parametrize("runtime", [Looped, Blocking])
def test_a_slot_that_does_not_come_in_time(runtime: type[Any]) -> None:
    made = runtime(parallel=1)

    async def held() -> None:
        async with made.slot():
            await made.pause(0.3)

    async def late() -> None:
        await made.pause(0.05)
        with pytest.raises(Broken) as caught:
            async with made.slot(time.monotonic() + 0.05):
                pass
        assert caught.value.how is Breakage.DEADLINE

    async def main() -> None:
        await made.together([held, late])

    if runtime is Looped:
        asyncio.run(main())
    else:
        finish(main())


def test_a_client_of_settings_alone() -> None:
    assert Client(Blocking(), Settings()).connection.url == "http://127.0.0.1:11434"


# --- somebody else's blocking code


@pytest.mark.parametrize("kind", RUNTIMES)
def test_what_hangs_is_left_behind(kind: str) -> None:
    gate = threading.Event()

    async def work(client: Client) -> tuple[str, float]:
        started = time.monotonic()
        with pytest.raises(Broken) as raised:
            await client.runtime.aside(gate.wait, seconds=0.1)
        assert raised.value.how is Breakage.TIMEOUT
        return await client.runtime.aside(lambda: "here", seconds=5), time.monotonic() - started

    said, seconds = run(kind, work)
    gate.set()
    assert said == "here"
    assert 0.1 <= seconds < 2


@pytest.mark.parametrize("kind", RUNTIMES)
def test_what_fails_aside_fails_here(kind: str) -> None:
    async def work(client: Client) -> None:
        with pytest.raises(ZeroDivisionError):
            await client.runtime.aside(lambda: 1 / 0, seconds=5)

    run(kind, work)


@pytest.mark.parametrize("kind", RUNTIMES)
def test_several_aside_take_the_time_of_the_slowest(kind: str) -> None:
    async def work(client: Client) -> float:
        started = time.monotonic()
        await client.runtime.together([lambda: client.runtime.aside(lambda: time.sleep(0.2), seconds=5)] * 4)
        return time.monotonic() - started

    assert run(kind, work) < 0.6


@pytest.mark.parametrize("kind", ["looped", "blocking"])
def test_jobs_come_as_they_end_and_the_first_that_fails_ends_the_others(kind: str) -> None:
    async def after(runtime: Runtime, seconds: float, value: int) -> int:
        await runtime.pause(seconds)
        if value < 0:
            raise KeyError(value)
        return value

    async def work(runtime: Runtime) -> tuple[list[tuple[int, int]], list[int], float]:
        try:
            jobs = [partial(after, runtime, 0.2, 1), partial(after, runtime, 0.0, 2)]
            came = [each async for each in runtime.completed(jobs)]
            ordered = await runtime.together(jobs)
            began = time.monotonic()
            with pytest.raises(KeyError):
                await runtime.together([partial(after, runtime, 30.0, 1), partial(after, runtime, 0.05, -1)])
            async with aclosing(runtime.completed([partial(after, runtime, 30.0, 1), partial(after, runtime, 0.0, 2)])) as early:
                async for place, _ in early:
                    assert place == 1
                    break
            return came, ordered, time.monotonic() - began
        finally:
            await runtime.close()

    came, ordered, took = asyncio.run(work(Looped(parallel=2))) if kind == "looped" else finish(work(Blocking(parallel=2)))
    assert came == [(1, 2), (0, 1)]
    assert ordered == [1, 2]
    assert took < 5, "nobody waits for what nobody wants any more"
