"""Many callers of the gateway at once, beside the least that passes a stream on: how late a token comes, what an idle stream
holds, what becomes of more callers than there are places, and how soon the first token of an answer is there.

These are times, not CPU: they mean something on a machine that does nothing else.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from itertools import product
from statistics import median

from bounds import Row, shown
from gateway_callers import Caller, asking, called, calls, share
from gateway_replay import replaying
from gateway_sides import Side, sides

STREAMS, PACE, TOKENS = 200, 0.05, 200
CROWD, PLACES = 1000, 128
ROUNDS = 100
CHAT, PERSONA = asking("/api/chat"), asking("/v1/chat/completions")
TITLE = "gateway: many at once, and the first token"


async def late(side: Side) -> tuple[list[float], int, float]:
    """How late each token came, in seconds; how many answers were not whole; KiB that a stream holds."""
    await calls(side.port, CHAT, 5)
    before = side.used().memory
    running = asyncio.ensure_future(calls(side.port, CHAT, STREAMS, spread=1.0))
    await asyncio.sleep(TOKENS * PACE / 2)
    held = (side.used().memory - before) / STREAMS
    answers = await running
    return [each for answer in answers for each in answer.late], sum(not answer.whole for answer in answers), held


async def streaming(url: str) -> list[Row]:
    """Many streams at the pace of a model."""
    with sides(("bare", "on"), url, parallel="512", in_flight="512") as (plain, ours):
        (theirs, _, _), (found, broken, held) = await late(plain), await late(ours)
    most = max(0.050, 1.25 * share(theirs, 0.99))
    detail = f"bare {1000 * share(theirs, 0.5):.1f} and {1000 * share(theirs, 0.99):.1f} ms"
    return [
        Row(f"{STREAMS} streams, {1 / PACE:.0f} tokens/s each: answers that broke", broken, 0, unit=""),
        Row("a token comes later by, p50", 1000 * share(found, 0.5), unit=" ms", detail=detail),
        Row("a token comes later by, p99", 1000 * share(found, 0.99), 1000 * most, unit=" ms"),
        Row("memory of a stream", held, 128, unit=" KiB"),
    ]


async def crowded(url: str) -> list[Row]:
    """More callers at once than there are places."""
    with sides(("on",), url, parallel="512", in_flight=str(PLACES)) as (ours,):
        await calls(ours.port, CHAT, 5)
        before = time.perf_counter()
        answers = await calls(ours.port, CHAT, CROWD)
        took = time.perf_counter() - before
        refused = [answer for answer in answers if answer.status == 429]
        waited = [1000 * (answer.last - answer.begun) for answer in refused]
        served = sum(answer.whole for answer in answers)
        again = time.perf_counter()
        whole = (await calls(ours.port, CHAT, 1))[0].whole
        again = time.perf_counter() - again if whole else float("inf")
    statuses = ", ".join(f"{count} x {status}" for status, count in sorted(Counter(answer.status for answer in answers).items()))
    return [
        Row(f"{CROWD} callers at once, {PLACES} places: neither served whole nor told when to come again",
            CROWD - served - sum(b"retry-after" in answer.head.lower() for answer in refused), 0, unit="", detail=statuses),
        Row("served at most", served, PLACES, unit=""),
        Row("turned away after, p50", median(waited), unit=" ms"),
        Row("turned away after, p99", share(waited, 0.99), unit=" ms", detail="from the connection on, with the time until it is read"),
        Row("all have an end after", took, 2, unit=" s"),
        Row("an answer after that", again, 5, unit=" s"),
    ]  # fmt: skip


async def beginning(url: str) -> list[Row]:
    """One caller after the other."""

    async def first(port: int, sent: bytes) -> float:
        caller: Caller = await called(port, sent)
        await caller.ended
        return 1000 * (caller.first - caller.begun)

    kept = "a persona at /v1, kept as a session"
    times: dict[str, list[float]] = {"bare": [], "passed on": [], "a persona at /v1": [], kept: []}
    with sides(("bare", "on", "kept"), url) as (plain, ours, keeping):
        ways = zip(times, (plain, ours, ours, keeping), (CHAT, CHAT, PERSONA, PERSONA), strict=True)
        for number, (name, side, sent) in product(range(ROUNDS + 5), list(ways)):
            spent = await first(side.port, sent)
            if number >= 5:
                times[name].append(spent)
    bare = median(times["bare"])
    detail = f"bare {bare:.2f} ms"
    return [
        Row(f"time until the first token, {name} - bare", median(each) - bare, 5.0 if "persona" in name else None, unit=" ms", detail=detail)
        for name, each in times.items()
        if name != "bare"
    ]


def measured() -> list[Row]:
    """All of it."""
    with replaying(TOKENS, PACE) as url:
        rows = asyncio.run(streaming(url))
    with replaying(20, 0.02) as url:
        rows += asyncio.run(crowded(url))
    with replaying(3, 0.02) as url:  # one after the other, as a model's: what is done for the next is not done before the first
        return rows + asyncio.run(beginning(url))


if __name__ == "__main__":
    shown(TITLE, measured())
