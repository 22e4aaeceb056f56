"""Chunks that come together are handed on as one, and nothing else about an answer changes."""

from __future__ import annotations

import random
from collections.abc import Sequence

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.request import LONGEST_HEAD, Merging

HEAD = b"HTTP/1.1 200 OK\r\nServer: x\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def framed(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)


def cut(data: bytes, at: Sequence[int]) -> list[bytes]:
    places = sorted({place % len(data) for place in at} | {0})
    return [data[a:b] for a, b in zip(places, [*places[1:], len(data)], strict=True)]


def merged(received: Sequence[bytes]) -> list[bytes]:
    merging = Merging()
    return [merging.push(part) for part in received]


def read(received: Sequence[bytes]) -> tuple[list[bytes], str]:
    """What the HTTP library makes of it: the body's parts, and how it ended."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    connection.send(h11.EndOfMessage())
    parts = []
    for data in [*received, b""]:
        try:
            connection.receive_data(data)
            while (event := connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                match event:
                    case h11.Data():
                        parts.append(bytes(event.data))
                    case h11.EndOfMessage():
                        return parts, "end"
        except h11.RemoteProtocolError as error:
            return parts, str(error)
    return parts, "open"


def test_whole_chunks_that_came_together_become_one() -> None:
    assert merged([HEAD, framed(b"a\n", b"b\n", b"c\n") + END]) == [HEAD, framed(b"a\nb\nc\n") + END]
    assert merged([HEAD + framed(b"a", b"b")]) == [HEAD + framed(b"ab")]
    # one alone is not touched, nor is one of which a part was handed on before
    assert merged([HEAD, framed(b"a"), b"3\r\nx", b"yz\r\n" + framed(b"b", b"c")]) == [
        HEAD, framed(b"a"), b"3\r\nx", b"yz\r\n" + framed(b"bc"),
    ]  # fmt: skip
    assert merged([HEAD, framed(b"a") + b"1", b"0\r\n0123456789abcdef\r\n" + framed(b"b", b"c")])[2] == (
        b"0\r\n0123456789abcdef\r\n" + framed(b"bc")
    )


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * LONGEST_HEAD + b"\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_what_is_no_chunked_answer_passes_as_it_came(head: bytes) -> None:
    received = [head[:-1], head[-1:], framed(b"a", b"b"), framed(b"c", b"d")]
    assert merged(received) == received


@pytest.mark.parametrize("odd", [b"0x1\r\na\r\n", b"1 \r\na\r\n", b"1;x=y\r\na\r\n", b"1\r\nab\r\n", b"1\na\r\n", b"+1\r\na\r\n", b"1_0\r\na\r\n"])
def test_odd_framing_is_left_to_the_library(odd: bytes) -> None:
    received = [HEAD, framed(b"a", b"b") + odd + framed(b"c", b"d"), framed(b"e", b"f")]
    assert merged(received) == [HEAD, framed(b"ab") + odd + framed(b"c", b"d"), framed(b"e", b"f")]


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=8),
    st.sampled_from([END, b"0\r\nA: b\r\n\r\n", b""]),
    st.lists(st.integers(0, 10**6), max_size=60),
)
def test_however_it_is_cut_the_library_reads_the_same(chunks: list[bytes], end: bytes, at: list[int]) -> None:
    received = cut(HEAD + framed(*chunks) + end, at)
    parts, ending = read(merged(received))
    expected, expected_ending = read(received)
    assert (b"".join(parts), ending) == (b"".join(expected), expected_ending)
    assert all(merged(received)), "an empty part would be taken for the end"


def test_damaged_framing_is_read_the_same_way_too() -> None:
    chance = random.Random(3)
    told = 0
    for _ in range(2000):
        whole = HEAD + framed(*(chance.randbytes(chance.choice((1, 3, 17, 300))) for _ in range(6))) + END
        at = chance.randrange(len(HEAD), len(whole))
        whole = whole[:at] + chance.randbytes(chance.randrange(3)) + whole[at + chance.randrange(3) :]
        received = cut(whole, [chance.randrange(10**6) for _ in range(chance.choice((0, 1, 4)))])
        parts, ending = read(merged(received))
        expected, expected_ending = read(received)
        assert (b"".join(parts), ending) == (b"".join(expected), expected_ending)
        told += ending not in ("end", "open")
    assert told > 100, "hardly anything was damaged: the test is blind"
