"""The long variants of what a bad daemon may do: every fault, every byte, 100,000 framings, an answer of 1 GB.

`make soak` runs them; each prints what it measured. The gate runs samples of them in test_faults, test_wire, test_stopping.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import pytest
from runtimes import RUNTIMES, WAYS, noted_pauses, outcome, patience
from test_faults import CASES, FRAMED, check, met
from test_stopping import TOKEN, pieces, stream
from test_wire import STREAM, TEXT, cut, text

from orchestra.errors import EmptyReply, OrchestraError, StreamTruncated
from orchestra.standin import StandIn
from orchestra.standin.faults import FAULTS
from orchestra.standin.link import Link

pytestmark = pytest.mark.slow

MODES = 51
RECHUNKINGS = 100_000
MOST_CUTS = 60
PLACES = 800  # the short answer has fewer bytes
BEFORE_THE_END = 400  # its closing line is not whole before
FLOOD = 10**9
DOSE = 2_000_000
LONGEST_TOKEN = 50.0  # microseconds
MOST_GROWTH = 16  # MiB
EARLY = 20 * 2**20  # bytes, after which memory has its size


# --- every fault, every byte


def test_each_mode_has_one_outcome_in_every_way(monkeypatch: pytest.MonkeyPatch) -> None:
    noted_pauses(monkeypatch)
    ends: Counter[str] = Counter()
    for case in CASES:
        for kind in RUNTIMES:
            for way in WAYS:
                with StandIn() as daemon:
                    found, tries = met(daemon, case.fault, kind, way)
                check(case, found, tries)
                assert found.error is None or isinstance(found.error, OrchestraError)
                ends[type(found.error).__name__] += 1
    sound = ends.pop("NoneType")
    print(f"\n{len(CASES)} modes in {len(RUNTIMES) * len(WAYS)} ways: {sound} sound answers, {sum(ends.values())} errors of {len(ends)} kinds")
    assert (len(CASES), sound + sum(ends.values())) == (MODES, MODES * len(RUNTIMES) * len(WAYS))


@pytest.mark.parametrize("kind", RUNTIMES)
def test_a_connection_that_drops_at_every_byte_is_never_a_whole_answer(kind: str) -> None:
    whole = kept = 0
    with StandIn() as daemon:
        for at in range(PLACES):
            daemon.fail("drop_at_byte", at=at)
            found = outcome(kind, WAYS[at % 2], host=daemon.url, **patience("drop_at_byte"))
            if found.error is None:
                whole += 1
                assert found.streamed == FRAMED, at
                assert at > BEFORE_THE_END, at
            else:
                assert isinstance(found.error, StreamTruncated | EmptyReply), (at, repr(found.error))
                assert FRAMED.startswith(found.streamed), at
                kept += bool(found.streamed)
    print(f"\n{kind}: {PLACES} places, {whole} after the end of the answer, {kept} with the text that came")
    assert whole
    assert kept


@pytest.mark.parametrize("kind", RUNTIMES)
def test_an_answer_in_two_chunks_is_the_same_wherever_it_is_cut(kind: str) -> None:
    with StandIn() as daemon:
        for at in range(PLACES):
            daemon.fail("split_at_byte", at=at)
            found = outcome(kind, WAYS[at % 2], host=daemon.url, **patience("split_at_byte"))
            assert (found.error, found.streamed) == (None, FRAMED), at
    print(f"\n{kind}: {PLACES} cuts, one answer")


# --- framing


def framings(count: int) -> Iterator[list[bytes]]:
    """The stream cut into chunks in so many ways: few and many cuts, near each other and far."""
    source = random.Random(20)
    for _ in range(count):
        near = source.randrange(len(STREAM))
        reach = source.choice((8, 64, len(STREAM)))
        places = [near + source.randrange(reach) for _ in range(source.randrange(MOST_CUTS))]
        chunks = cut(STREAM, places)
        if source.random() < 0.1:
            chunks = [b"\xef\xbb\xbf", *chunks]
        yield chunks


def test_100_000_framings_give_one_text() -> None:
    chunks = 0
    for framing in framings(RECHUNKINGS):
        chunks += len(framing)
        assert text(framing) == TEXT, framing
    print(f"\n{RECHUNKINGS} framings, {chunks / RECHUNKINGS:.1f} chunks each, one text")


# --- an answer of 1 GB

READER = """
import re, sys, time
from contextlib import aclosing
from orchestra.model import wire
from orchestra.model.connection import Connection, Patience
from orchestra.model.messages import Piece
from orchestra.model.stopping import Watch
from orchestra.runtime import Blocking, finish
from orchestra.settings import Settings

url, early, keep = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "keep"

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read()).group(1)) // 1024

async def read():
    connection = Connection(Blocking(), Settings(host=url, reply_limit=2**40))
    watch, tokens, characters, first, kept = Watch(), 0, 0, 0, []
    asked = wire.Asked(url=url, model="llama3")
    body = {"model": "llama3", "messages": [{"role": "user", "content": "on and on"}]}
    async with (
        connection.opened("POST", "/api/chat", body, asked=asked, patience=Patience()) as answer,
        aclosing(connection.events(answer)) as events,
    ):
        async for event in events:
            said = wire.text_of(event)[0]
            assert watch.push(Piece(said)) is None, (tokens, said)
            tokens += 1
            characters += len(said)
            if keep:
                kept.append(said + " ")
            if not first and tokens * 100 > early:
                first = peak()
    print(tokens, characters, time.process_time(), peak() - first)

finish(read())
"""


def dose() -> bytes:
    """Sound text as the lines of a stream, a token each; it is sent again and again."""
    def line(said: str) -> bytes:
        event = {"model": "llama3", "created_at": "2026-11-21T17:53:10.840190567Z", "message": {"role": "assistant", "content": said}}
        return json.dumps({**event, "done": False}, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    return b"".join(map(line, pieces(stream(DOSE))))


def flooded(monkeypatch: pytest.MonkeyPatch, size: int, *, keep: bool = False) -> tuple[int, int, float, int]:
    """Tokens and characters that a client read of so many bytes, its seconds of work, and the MiB that it grew by."""
    block = dose()
    blocks = [block[start : start + 65536] for start in range(0, len(block), 65536)]

    def flood(link: Link) -> None:
        """An answer that goes on."""
        link.open()
        for _ in range(size // len(block) or 1):
            for part in blocks:
                link.chunk(part)
        link.close()

    monkeypatch.setitem(FAULTS, "flood", flood)
    with StandIn() as daemon:
        daemon.fail("flood")
        arguments = [sys.executable, "-c", READER, daemon.url, str(EARLY), "keep" if keep else "go"]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=850)
    assert done.returncode == 0, done.stderr
    tokens, characters, seconds, grown = done.stdout.split()
    return int(tokens), int(characters), float(seconds), int(grown)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.timeout(880)
def test_a_gigabyte_is_read_in_the_memory_of_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, characters, seconds, grown = flooded(monkeypatch, FLOOD)
    token = seconds / tokens * 1e6
    print(f"\n{FLOOD / 1e9:g} GB, {tokens} tokens of {characters / tokens:.1f} characters: {token:.1f} us a token, {grown} MiB more at the end")
    assert characters / tokens <= TOKEN
    assert token < LONGEST_TOKEN
    assert grown < MOST_GROWTH


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_red_a_client_that_keeps_what_it_read_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert flooded(monkeypatch, FLOOD // 5, keep=True)[3] >= MOST_GROWTH
