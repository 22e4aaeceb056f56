"""CPU of one streamed token on its way through the gateway, beside the least that passes a stream on.

Both sides are processes that serve nothing else, asked in turn over the same daemon; CPU is that of the whole process.
Paced, each token wakes the process up, as those of a model do; unpaced, a stream is as fast as it is taken.
"""

from __future__ import annotations

import asyncio
from statistics import median
from typing import NamedTuple

from bounds import Row, shown
from gateway_callers import asking, calls, pairs
from gateway_replay import replaying
from gateway_sides import Side, sides

ROUNDS = 7
TOKENS = 3000
PACED_TOKENS, PACE, STREAMS = 200, 0.02, 8
CHAT = asking("/api/chat")


class Way(NamedTuple):
    """A kind of side, what it is asked, and the most that a token may cost there beside the bare one."""

    kind: str
    sent: bytes
    bound: float


WAYS = {
    "passed on without the guard": Way("off", CHAT, 1.10),
    "passed on with the guard": Way("on", CHAT, 1.25),
    "a persona at /v1": Way("on", asking("/v1/chat/completions"), 1.25),
    "a persona at /v1, kept as a session": Way("kept", asking("/v1/chat/completions"), 1.25),
}


async def cost(side: Side, sent: bytes, streams: int, tokens: int) -> float:
    """CPU seconds of a token."""
    before = side.used()
    answers = await calls(side.port, sent, streams, spread=PACE)
    spent = side.used().cpu - before.cpu
    if not all(answer.whole for answer in answers):
        raise SystemExit(f"not all {streams} answers were whole: {next((a.status, a.tail) for a in answers if not a.whole)}")
    return spent / (streams * tokens)


async def compared(url: str, streams: int, tokens: int) -> dict[str, list[tuple[float, float]]]:
    """CPU seconds a token of each way and of the bare side beside it, in turn."""
    costs: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    kinds = ("bare", "off", "on", "kept")
    with sides(kinds, url, parallel="256", in_flight="512") as found:
        side = dict(zip(kinds, found, strict=True))
        for counted in pairs(ROUNDS):
            for name, way in WAYS.items():
                theirs = await cost(side["bare"], CHAT, streams, tokens)
                ours = await cost(side[way.kind], way.sent, streams, tokens)
                if counted:
                    costs[name].append((ours, theirs))
    return costs


def measured() -> list[Row]:
    """The ratios, pair by pair."""
    rows = []
    for title, streams, tokens, pace in (("paced", STREAMS, PACED_TOKENS, PACE), ("unpaced", 1, TOKENS, 0.0)):
        with replaying(tokens, pace) as url:
            costs = asyncio.run(compared(url, streams, tokens))
        for name, found in costs.items():
            ratios = sorted(ours / theirs for ours, theirs in found)
            ours, theirs = (1e6 * median(pair[side] for pair in found) for side in (0, 1))
            detail = f"{ours:.1f} us a token against {theirs:.1f} us"
            rows.append(Row(f"{title}: {name}", median(ratios), WAYS[name].bound, spread=(ratios[0], ratios[-1]), detail=detail))
    return rows


TITLE = "gateway: CPU of a token on its way through, beside a bare Starlette and httpx"

if __name__ == "__main__":
    shown(TITLE, measured())
