"""Leaving, deadlines, Ctrl-C: what a stream costs the daemon ends when its reader does, in both runtimes."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path

import httpx
import pytest
from runtimes import LONG, PROMPTLY, RUNTIMES, asked, drained, run, within

from orchestra import AsyncOrchestra, Orchestra
from orchestra.model.client import Client
from orchestra.model.messages import FinishReason, Options, Piece
from orchestra.standin import StandIn


@contextmanager
def busy(daemon: StandIn) -> Iterator[None]:
    """Somebody else's long answer holds a slot of the daemon while the block runs."""
    body = {"model": "llama3", "prompt": "hi", "options": {"num_ctx": daemon.window}}
    active = daemon.active
    with httpx.stream("POST", f"{daemon.url}/api/generate", json=body, timeout=10, trust_env=False):
        assert within(1, lambda: daemon.active > active)
        yield


# --- leaving early


def test_a_break_closes_the_connection() -> None:
    with StandIn([LONG]) as daemon, Orchestra(host=daemon.url) as orchestra:
        for _ in orchestra.stream("Count."):
            break
        assert within(PROMPTLY, lambda: (daemon.cancelled, daemon.active) == (1, 0))


def test_closing_a_stream_closes_the_connection() -> None:
    async def main() -> None:
        async with AsyncOrchestra(host=daemon.url) as orchestra:
            stream = orchestra.stream("Count.")
            async with aclosing(stream):
                await anext(stream)
            assert await asyncio.to_thread(within, PROMPTLY, lambda: (daemon.cancelled, daemon.active) == (1, 0))

    with StandIn([LONG]) as daemon:
        asyncio.run(main())


@pytest.mark.parametrize("first", [True, False], ids=["in mid-answer", "before the first token"])
def test_cancelling_a_task_closes_the_connection(first: bool) -> None:
    pieces: list[Piece] = []

    async def read(orchestra: AsyncOrchestra) -> None:
        async for piece in orchestra.stream("Count."):
            pieces.append(piece)

    async def main() -> None:
        async with AsyncOrchestra(host=daemon.url) as orchestra:
            task = asyncio.create_task(read(orchestra))
            waiting = (lambda: bool(pieces)) if first else (lambda: bool(daemon.asked("/api/generate")[1:]))
            assert await asyncio.to_thread(within, 2, waiting)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(within, PROMPTLY, lambda: daemon.cancelled == 1)

    if first:
        with StandIn([LONG]) as daemon:
            asyncio.run(main())
    else:
        with StandIn([LONG]) as daemon, busy(daemon):
            asyncio.run(main())
            assert not pieces


def test_a_client_that_does_not_close_is_noticed() -> None:
    """The control: a stream that is held is not cancelled."""
    with StandIn([LONG]) as daemon, Orchestra(host=daemon.url) as orchestra:
        stream = orchestra.stream("Count.")
        next(stream)
        assert not within(0.2, lambda: daemon.cancelled == 1)
        stream.close()
        assert within(PROMPTLY, lambda: daemon.cancelled == 1)


# --- deadlines


def timed(kind: str, daemon: StandIn, deadline: float) -> tuple[float, FinishReason, str]:
    async def work(client: Client) -> tuple[float, FinishReason, str]:
        started = time.monotonic()
        reply = await drained(asked(client))
        return time.monotonic() - started, reply.finish_reason, reply.text

    return run(kind, work, host=daemon.url, deadline=deadline)


@pytest.mark.parametrize("kind", RUNTIMES)
@pytest.mark.parametrize(("fault", "text"), [("stall_mid", "The sky is"), ("stall_before_headers", "")])
def test_a_deadline_ends_what_stands_still(kind: str, fault: str, text: str) -> None:
    with StandIn() as daemon:
        daemon.fail(fault)
        seconds, reason, said = timed(kind, daemon, 0.5)
    assert (reason, said) == (FinishReason.DEADLINE, text)
    assert seconds == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize("kind", RUNTIMES)
def test_a_deadline_ends_what_goes_on_and_on(kind: str) -> None:
    with StandIn([LONG]) as daemon:
        seconds, reason, said = timed(kind, daemon, 0.4)
        assert within(PROMPTLY, lambda: daemon.cancelled == 1)
    assert reason is FinishReason.DEADLINE
    assert said.startswith("0 1 2 ")
    assert seconds == pytest.approx(0.4, abs=0.1)


@pytest.mark.parametrize("kind", RUNTIMES)
def test_a_deadline_covers_the_wait_in_the_daemons_line(kind: str) -> None:
    with StandIn([LONG]) as daemon, busy(daemon):
        seconds, reason, _ = timed(kind, daemon, 0.3)
        assert within(PROMPTLY, lambda: daemon.cancelled == 1)
    assert reason is FinishReason.DEADLINE
    assert seconds < 0.5


@pytest.mark.parametrize("kind", RUNTIMES)
def test_a_deadline_covers_the_wait_for_a_slot_of_ours(kind: str) -> None:
    async def work(client: Client) -> list[FinishReason]:
        async def one(deadline: float) -> FinishReason:
            return (await drained(asked(client, options=Options(deadline=deadline)))).finish_reason

        async def first() -> FinishReason:
            return await one(0.4)

        async def second() -> FinishReason:
            while not daemon.active:
                await client.runtime.pause(0.01)
            reason = await one(0.1)
            assert daemon.active
            return reason

        return await client.runtime.together([first, second])

    with StandIn([LONG]) as daemon:
        assert run(kind, work, host=daemon.url) == [FinishReason.DEADLINE] * 2


# --- Ctrl-C

PRELUDE = """
import sys
from orchestra import Orchestra
from orchestra.model.client import Client
from orchestra.model.messages import Message
from orchestra.runtime import Blocking, finish
from orchestra.settings import Settings
url = sys.argv[1]

def main():
"""
STREAM = """
    with Orchestra(host=url) as orchestra:
        for piece in orchestra.stream("Count."):
            pass
"""
TOGETHER = """
    runtime = Blocking(parallel={parallel})
    client = Client(runtime, Settings(host=url))
    async def one():
        return [piece async for piece in client.chat([Message("user", "Count.")], model="llama3")]
    finish(runtime.together([one] * 3))
"""
MAIN = """
try:
    main()
except KeyboardInterrupt:
    sys.exit(130)
"""


def interrupted(script: str, daemon: StandIn, ready: Callable[[], bool]) -> tuple[int, float]:
    """Exit code of a script that gets SIGINT when it is ready, and the seconds that it took to end."""
    process = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + textwrap.indent(textwrap.dedent(script), "    ") + MAIN, daemon.url],
        stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    try:
        assert within(10, ready), process.poll()
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=10)
        assert said == ""
        return process.returncode, time.monotonic() - started
    finally:
        process.kill()
        process.wait()


def test_ctrl_c_before_the_first_token() -> None:
    with StandIn([LONG]) as daemon, busy(daemon):
        code, seconds = interrupted(STREAM, daemon, lambda: len(daemon.asked("/api/generate")) == 2)
        assert within(PROMPTLY, lambda: daemon.cancelled == 1)
    assert code == 130
    assert seconds < PROMPTLY


def test_ctrl_c_in_mid_answer() -> None:
    with StandIn([LONG]) as daemon:
        code, seconds = interrupted(STREAM, daemon, lambda: daemon.active == 1)
        assert within(PROMPTLY, lambda: daemon.cancelled == 1)
    assert code == 130
    assert seconds < PROMPTLY


@pytest.mark.parametrize("parallel", [3, 1])
def test_ctrl_c_with_three_streams_together(parallel: int) -> None:
    with StandIn([LONG] * parallel, slots=3) as daemon:
        code, seconds = interrupted(TOGETHER.format(parallel=parallel), daemon, lambda: daemon.active == parallel)
        assert within(PROMPTLY, lambda: (daemon.cancelled, daemon.active) == (parallel, 0))
        assert len(daemon.asked("/api/chat")) == parallel
    assert code == 130
    assert seconds < PROMPTLY


