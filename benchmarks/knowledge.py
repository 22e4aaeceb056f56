"""What a search of a large knowledge base takes: by words alone, and by words and vectors; taking in; memory; growth.

The texts are made up, half Chinese and half English, in words that come as often as words do (Zipf and Mandelbrot);
the questions are phrases of them between words that all have. The vectors lie in a hundred groups on one side of the
origin, as those of embedding models do. The time of the embedding model itself is not in the figures.
`BENCH_FULL=1` goes on to 1,000,000 chunks.
"""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, cast

import numpy
from bounds import Row, shown

from orchestra.model.client import Client
from orchestra.retrieval.knowledge.chunks import Chunk, Document
from orchestra.retrieval.knowledge.embedding import VERSION
from orchestra.retrieval.knowledge.index import Index
from orchestra.retrieval.knowledge.search import Knowledge
from orchestra.retrieval.knowledge.vectors import Embedded, Space
from orchestra.runtime import Blocking, finish

LARGE = 100_000
SIZES = (1_000, 10_000, LARGE, 1_000_000) if os.environ.get("BENCH_FULL") else (1_000, 10_000, LARGE)
DIMENSIONS = 768
CHUNKS = 10  # of a document
LOT = 2_000  # chunks that are taken in at a time
LOTS = 10  # that are made at a time
QUESTIONS = 200
SPACE = Space(model="bench", digest="bench", prefixes=VERSION)
SYLLABLES = [c + v for c in "b c d f g h k l m n p r s t v w z st tr pr ch sh".split() for v in "a e i o u ai ea ou".split()]


class Language:
    """Made-up words, the common ones short, drawn as often as words of their rank are."""

    def __init__(self, made: Callable[[], str], count: int, joined: str, seed: int) -> None:
        chance = random.Random(seed)
        words: dict[str, None] = {}
        while len(words) < count:
            words[made()] = None
        self.words = numpy.array(sorted(words, key=lambda word: len(word) + 4 * chance.random()), dtype=object)
        self.joined = joined
        weights = numpy.cumsum(1 / (numpy.arange(count) + 2.7))
        self._shares = weights / weights[-1]
        self._chance = numpy.random.default_rng(seed)

    def texts(self, length: int, size: int) -> Iterator[str]:
        """Texts of `length` words, cut to `size` characters."""
        while True:
            drawn = self.words[numpy.searchsorted(self._shares, self._chance.random(500 * length))].tolist()
            for place in range(0, len(drawn), length):
                yield self.joined.join(drawn[place : place + length])[:size]


def english() -> Iterator[str]:
    """Chunks of 800 characters."""
    chance = random.Random(1)
    endings = ("", "", "n", "s", "ing", "ed")
    return Language(
        lambda: "".join(chance.choices(SYLLABLES, k=chance.choice((1, 2, 2, 3, 3, 4)))) + chance.choice(endings), 60_000, " ", 1
    ).texts(140, 800)


def chinese() -> Iterator[str]:
    """Chunks of 400 characters; most words have two."""
    chance = random.Random(2)
    characters = [chr(code) for code in range(0x4E00, 0x4E00 + 4_000)]
    chance.shuffle(characters)
    weights = [1 / (place + 5) for place in range(len(characters))]
    return Language(
        lambda: "".join(chance.choices(characters, weights, k=chance.choice((1, 2, 2, 2, 2, 3)))) + chance.choice(("", "", "", "，")),
        40_000, "", 2,
    ).texts(240, 400)  # fmt: skip


def chunks() -> Iterator[Chunk]:
    """One in English, one in Chinese."""
    for pair in zip(english(), chinese(), strict=True):
        for text in pair:
            yield Chunk(text=text, heading="Part > Section", start=1, end=9)


def documents(coming: Iterator[Chunk], first: int, count: int) -> list[tuple[Document, list[Chunk]]]:
    """So many chunks, in documents."""
    return [
        (
            Document(uri=f"/bench/{number}.md", title=f"Document {number}", language="en", digest="0" * 64, mtime_ns=1, size=1),
            list(islice(coming, CHUNKS)),
        )
        for number in range(first, first + count // CHUNKS)
    ]


def grown(index: Index, coming: Iterator[Chunk], had: int, size: int) -> float:
    """The base with as many chunks and vectors as `size`; the seconds that taking in the words of the new ones took."""
    seconds = 0.0
    for begin in range(had, size, LOTS * LOT):
        lots = [documents(coming, first // CHUNKS, min(LOT, size - first)) for first in range(begin, min(begin + LOTS * LOT, size), LOT)]
        started = time.perf_counter()
        writing = [index.putting("bench", lot) for lot in lots]  # as an ingest does
        for future in writing:
            future.result()
        seconds += time.perf_counter() - started
    index.vectors.adopt("bench", SPACE)
    index.database.write(partial(_vectors, had=had, size=size))
    # the last one as it always is: it gives all of them their signs
    index.vectors.put("bench", SPACE, [Embedded(size, "whole", vector) for vector in near(1)])
    return seconds


def _vectors(connection: sqlite3.Connection, *, had: int, size: int) -> None:
    """Written as the index writes them, but many at once, and without a detour over Python's numbers."""
    for first in range(had + 1, size, LOT):
        count = min(LOT, size - first)
        rows = _groups(count, seed=first)
        connection.executemany(
            "INSERT INTO vector VALUES (?, 1, 'whole', ?)", ((first + place, row.tobytes()) for place, row in enumerate(rows))
        )
    connection.execute("UPDATE base SET dimensions = ?", (DIMENSIONS,))


def _groups(count: int, *, seed: int) -> Any:
    fixed = numpy.random.default_rng(0)
    side, centres = fixed.normal(size=DIMENSIONS) * 2, fixed.normal(size=(100, DIMENSIONS))
    chance = numpy.random.default_rng(seed)
    rows = side + centres[chance.integers(0, 100, count)] + chance.normal(size=(count, DIMENSIONS))
    return (rows / numpy.linalg.norm(rows, axis=1, keepdims=True)).astype(numpy.float32)


def near(count: int) -> list[list[float]]:
    """Vectors of questions."""
    return cast(list[list[float]], _groups(count, seed=2**40).tolist())


def questions(index: Index, size: int) -> list[str]:
    """Phrases of the chunks, as somebody would ask."""
    chance = random.Random(3)
    asked = []
    for number in (chance.randrange(1, size + 1) for _ in range(QUESTIONS)):
        text = index.chunks([number])[number].chunk.text
        if text.isascii():
            words = text.split()
            start = chance.randrange(len(words) - 12)
            asked.append(f"{words[0]} {words[3]} {' '.join(words[start : start + chance.randrange(3, 12)])}?")
        else:
            start = chance.randrange(len(text) - 30)
            asked.append(text[start : start + chance.randrange(6, 26)] + "？")
    return asked


class Instant:
    """In place of the daemon's client: an embedding model that takes no time."""

    def __init__(self) -> None:
        self.runtime = Blocking()
        self._coming = iter(near(2 * QUESTIONS))

    async def tags(self) -> list[dict[str, str]]:
        return [{"name": SPACE.model + ":latest", "digest": SPACE.digest}]

    async def embed(self, model: str, texts: Sequence[str]) -> list[list[float]]:
        return [next(self._coming) for _ in texts]


def timed(deed: Callable[[str], object], asked: Sequence[str]) -> tuple[float, float]:
    """Milliseconds for each question, in order: the median, and what 95 % stay below."""
    times = []
    for question in asked:
        started = time.perf_counter()
        deed(question)
        times.append(1000 * (time.perf_counter() - started))
    times.sort()
    return times[len(times) // 2], times[int(0.95 * len(times))]


def searches(index: Index, asked: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Both kinds of search, warm."""
    client = Instant()
    words = Knowledge(index, "bench", runtime=client.runtime)
    both = Knowledge(index, "bench", runtime=client.runtime, client=cast(Client, client))
    kinds = {"full text": words, "hybrid": both}
    for knowledge in kinds.values():
        found = finish(knowledge.search(asked[0]))
        assert found.mode == ("hybrid" if knowledge is both else "full_text")
    return {kind: timed(partial(_searched, knowledge), asked) for kind, knowledge in kinds.items()}


def _searched(knowledge: Knowledge, question: str) -> None:
    finish(knowledge.search(question))


def missed(index: Index) -> Row:
    """How many of the true ten nearest the signs do not lead to."""
    asked, found = near(10), 0
    for vector in asked:
        exact = {match.chunk for match in index.vectors.nearest("bench", vector, 10, exact=True)}
        found += len(exact & {match.chunk for match in index.vectors.nearest("bench", vector, 10)})
    share = 100 - 100 * found / (10 * len(asked))
    return Row("of the ten nearest by all their numbers, not found by signs", share, 5, unit=" %", detail=f"{LARGE:,} chunks")


def memory(folder: Path) -> Row:
    """The most memory of a process of its own that searches."""
    command = [sys.executable, __file__, str(folder)]
    peak = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return Row("a process that searches by both, memory at most", peak, 200, unit=" MiB", detail=f"{LARGE:,} chunks, Python and numpy included")


def searching(folder: Path) -> None:
    """Searches as another process, and prints its peak of memory in MiB (Linux)."""
    with Index(folder) as index:
        searches(index, questions(index, LARGE)[:50])
    # not `getrusage`: what that says begins with the memory of the process that started this one
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(int(peak.split()[1]) / 1024)


def measured() -> list[Row]:
    """The large base with its bounds, then how it grew to that."""
    rows, growth = [], []
    with tempfile.TemporaryDirectory(prefix="orchestra-bench-") as folder, Index(Path(folder)) as index:
        coming = chunks()
        for had, size in pairwise((0, *SIZES)):
            seconds = grown(index, coming, had, size)
            found = searches(index, questions(index, size))
            sizes = sum(file.stat().st_size for file in Path(folder).glob("knowledge.db*"))
            (text, text95), (both, both95) = found["full text"], found["hybrid"]
            detail = f"full text p95 {text95:.1f} ms; hybrid p50 {both:.1f} ms, p95 {both95:.1f} ms; {sizes / 2**20:,.0f} MiB on the disk"
            growth.append(Row(f"full text in {size:,} chunks, p50", text, unit=" ms", detail=detail))
            if size == LARGE:
                each = seconds / (size - had)
                rate = f"{1 / each:,.0f} chunks/s, without reading and cutting the files"
                rows += [
                    Row("taking a chunk in, full text alone", 1000 * each, 0.5, unit=" ms", detail=rate),
                    Row("full text, p50", text, 12, unit=" ms"),
                    Row("full text, p95", text95, 50, unit=" ms"),
                    Row("hybrid, p50", both, 30, unit=" ms", detail=f"p95 {both95:.1f} ms"),
                    missed(index),
                    memory(Path(folder)),
                ]
    return rows + growth


if __name__ == "__main__":
    if len(sys.argv) > 1 and not sys.argv[1].startswith("--"):
        searching(Path(sys.argv[1]))
    else:
        started = time.perf_counter()
        rows = measured()
        shown(f"a knowledge base of {LARGE:,} chunks, {QUESTIONS} questions ({time.perf_counter() - started:.0f} s in all)", rows)
