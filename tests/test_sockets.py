"""Connections for the HTTP library: patience, backpressure, ends of every kind."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import httpcore
import httpx
import pytest

from orchestra.request import Broken, Request
from orchestra.runtime import Looped
from orchestra.sockets import HELD, Socket, connected

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
            stream = await connected("127.0.0.1", server.sockets[0].getsockname()[1], timeout=5)
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
        asyncio.run(connected("127.0.0.1", port, timeout=5))


# --- secure ones


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate for 127.0.0.1, signed by itself."""
    folder = tmp_path_factory.mktemp("tls")
    subject = ["-subj", "/CN=here", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2", "-nodes"]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", *subject, "-keyout", "key.pem", "-out", "cert.pem"]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("openssl is not here")
    return folder


def test_a_secure_answer_comes_from_whom_the_certificate_names(certified: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certified / "cert.pem", certified / "key.pem")
    heard: list[bytes] = []

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(2))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nto the end")  # no length: the end of the connection is that of the answer
        writer.close()

    async def asked() -> bytes:
        async with await asyncio.start_server(peer, "127.0.0.1", 0, ssl=context) as server:
            url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/path?query"
            request = Request(method="POST", url=url, body=b"hi", headers={"Authorization": "Bearer key"})
            async with Looped().send(request) as answer:
                return b"".join([chunk async for chunk in answer.chunks()])

    with pytest.raises(Broken, match="certificate"):
        asyncio.run(asked())
    assert not heard
    monkeypatch.setattr(httpx, "create_ssl_context", lambda **_: ssl.create_default_context(cafile=str(certified / "cert.pem")))
    assert asyncio.run(asked()) == b"to the end"
    assert heard[0].startswith(b"POST /path?query HTTP/1.1\r\nhost: 127.0.0.1:")
    assert b"authorization: Bearer key\r\n" in heard[0]
