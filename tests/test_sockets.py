"""Connections for the HTTP library: patience, backpressure, ends of every kind."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import httpcore
import pytest

from orchestra.sockets import HELD, Socket, Sockets

Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def with_peer(peer: Peer, ours: Callable[[Socket], Awaitable[None]]) -> None:
    """Both ends of one connection."""

    async def both() -> None:
        async def there(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await peer(reader, writer)
            finally:
                writer.close()

        async with await asyncio.start_server(there, "127.0.0.1", 0) as server:
            stream = await Sockets().connect_tcp("127.0.0.1", server.sockets[0].getsockname()[1], timeout=5)
            assert isinstance(stream, Socket)
            async with aclosing(stream):
                await asyncio.wait_for(ours(stream), 10)

    asyncio.run(both())


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


def test_each_read_has_its_own_patience() -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(4):
            await asyncio.sleep(0.1)
            writer.write(b"x")
        await reader.read()

    async def ours(stream: Socket) -> None:
        for _ in range(4):  # longer than any of them together: the earlier ones' time is not the later ones'
            assert await stream.read(100, timeout=0.25) == b"x"
        for patience, least in ((30, 0.0), (0.1, 0.1), (0.2, 0.2)):
            before = time.monotonic()
            with pytest.raises(TimeoutError if patience == 30 else httpcore.ReadTimeout):
                await asyncio.wait_for(stream.read(100, timeout=patience), 0.05 if patience == 30 else 5)
            assert least <= time.monotonic() - before < least + 0.5

    with_peer(slow, ours)


def test_a_read_that_was_given_up_loses_nothing() -> None:
    async def later(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.write(b"after all")
        await reader.read()

    async def ours(stream: Socket) -> None:
        waiting = asyncio.ensure_future(stream.read(100))
        await asyncio.sleep(0.02)
        waiting.cancel()
        await asyncio.wait((waiting,))
        await stream.write(b"?")
        await asyncio.sleep(0.05)
        assert await stream.read(5) + await stream.read(100) == b"after all"

    with_peer(later, ours)


def test_a_peer_that_is_faster_waits() -> None:
    sent = [0]

    async def fast(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(512):
            writer.write(b"x" * 65536)
            await writer.drain()
            sent[0] += 65536

    async def ours(stream: Socket) -> None:
        await asyncio.sleep(0.3)
        assert sent[0] < 16 * 2**20  # what the system's own buffers hold, at most
        assert len(await stream.read(2**30)) <= HELD + 2**18  # one more read of the loop's
        left = 0
        while part := await stream.read(65536, timeout=5):
            assert len(part) <= 65536
            left += len(part)
        assert sent[0] == 2**25
        assert left > 2**24

    with_peer(fast, ours)


def test_a_peer_that_reads_nothing_is_not_waited_for_longer_than_that() -> None:
    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(1)

    async def ours(stream: Socket) -> None:
        with pytest.raises(httpcore.WriteTimeout):
            await stream.write(b"x" * 2**25, timeout=0.2)

    with_peer(deaf, ours)


def test_the_ends() -> None:
    async def says_and_goes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")

    async def to_the_end(stream: Socket) -> None:
        await asyncio.sleep(0.05)
        assert [await stream.read(100) for _ in range(3)] == [b"bye", b"", b""]

    async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async def to_the_reset(stream: Socket) -> None:
        await stream.write(b"?")
        with pytest.raises(httpcore.ReadError):
            await stream.read(100, timeout=5)
        with pytest.raises(httpcore.WriteError):
            await stream.write(b"?")

    with_peer(says_and_goes, to_the_end)
    with_peer(resets, to_the_reset)


def test_ended_from_outside_a_waiting_read_ends() -> None:
    async def ours(stream: Socket) -> None:
        waiting = asyncio.ensure_future(stream.read(100))
        await asyncio.sleep(0.02)
        stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        assert await asyncio.wait_for(waiting, 5) == b""

    with_peer(silent, ours)


@pytest.mark.skipif(not os.path.isdir("/dev/fd"), reason="needs a list of open descriptors")
def test_what_is_closed_is_closed_at_once() -> None:
    async def ours(stream: Socket) -> None:
        before = len(os.listdir("/dev/fd"))
        await stream.aclose()
        assert len(os.listdir("/dev/fd")) == before - 1

    with_peer(silent, ours)


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(httpcore.ConnectError, match="refused"):
        asyncio.run(Sockets().connect_tcp("127.0.0.1", port, timeout=5))
