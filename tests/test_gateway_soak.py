"""Callers that leave, many streams one after another, faults for twenty minutes: nothing is held that nobody waits for.

The long variants are slow ones; figures are printed.
"""

from __future__ import annotations

import json
import os
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from command_line import started
from served import running
from test_serving import address

from orchestra.gateway import create_app
from orchestra.settings import Settings
from orchestra.standin import Scripted, StandIn

FELT = 0.5  # seconds
TASK = {"task": "制定人工智能合规标准，避免人工智能伤害人类"}
CHAT = {"model": "llama3", "messages": [{"role": "user", "content": "Tell me everything."}]}
SPOKEN = Scripted([f" {number}" for number in range(2000)], pace=0.01)
CASES = ("before the first token", "in the middle", "not streamed", "between the rounds of agents")
linux = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory and descriptors are read from /proc")


def soon(condition: Callable[[], bool], seconds: float = 10.0) -> float:
    """The seconds until something is so."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds
        time.sleep(0.002)
    return time.monotonic() - began


@contextmanager
def asking(url: str, path: str, body: dict[str, Any]) -> Iterator[socket.socket]:
    """A caller with a connection of its own, who leaves at the end of the block."""
    raw = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(raw)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), timeout=10) as sock:
        sock.sendall(head.encode() + raw)
        yield sock


def felt(case: str, standin: StandIn, url: str) -> float:
    """The seconds after which the daemon feels that a caller of the gateway has left."""
    asked, cancelled = len(standin.asked("/api/chat")), standin.cancelled
    streamed = {**CHAT, "stream": case != "not streamed"}
    if case == "between the rounds of agents":
        with asking(url, "/integrate", TASK):
            soon(lambda: len(standin.asked("/api/chat")) >= asked + 2, 30.0)
        seconds = soon(lambda: not standin.active)
        asked = len(standin.asked("/api/chat"))
        time.sleep(0.05)
        assert len(standin.asked("/api/chat")) == asked, "a round after its caller had left"
        return seconds
    standin.script(SPOKEN)
    if case == "before the first token":  # somebody else has the daemon's only slot
        with httpx.stream("POST", standin.url + "/api/chat", json=CHAT, trust_env=False) as other:
            kept = other.iter_raw()  # whoever lets it go leaves
            next(kept)
            with asking(url, "/api/chat", streamed):
                soon(lambda: len(standin.asked("/api/chat")) == asked + 2)
                assert standin.cancelled == cancelled
            seconds = soon(lambda: standin.cancelled > cancelled)
        soon(lambda: standin.cancelled == cancelled + 2)
        return seconds
    with asking(url, "/api/chat", streamed) as sock:
        soon(lambda: standin.active > 0)
        assert case == "not streamed" or sock.recv(1)
    return soon(lambda: not standin.active)


def left(case: str, times: int) -> list[float]:
    """The seconds of so many callers that leave, sorted."""
    with StandIn(pace=0.002 if "agents" in case else 0.01) as standin:
        settings = Settings.read(host=standin.url, language="en")
        with running(create_app(settings=settings), settings) as url:
            return sorted(felt(case, standin, url) for _ in range(times))


@pytest.mark.parametrize("case", CASES)
def test_the_daemon_feels_a_caller_that_leaves(case: str) -> None:
    assert left(case, 1 if "agents" in case else 4)[-1] <= FELT


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("case", CASES)
def test_the_daemon_feels_two_hundred_callers_that_leave(case: str) -> None:
    seconds = left(case, 200)
    print(f"{case}: p50 {1000 * seconds[100]:.1f} ms, p99 {1000 * seconds[198]:.1f} ms")
    assert seconds[198] <= FELT


# --- what stays


def held(pid: int) -> tuple[float, int]:
    """MiB in memory, and open descriptors."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20, len(os.listdir(f"/proc/{pid}/fd"))


@contextmanager
def served(standin: StandIn) -> Iterator[tuple[int, str]]:
    """A gateway as a process, and its address."""
    more = {"OLLAMA_HOST": standin.url, "ORCHESTRA_PARALLEL": "8", "ORCHESTRA_PIECE_TIMEOUT": "2", "ORCHESTRA_FIRST_TOKEN_TIMEOUT": "2"}
    with started("serve", "--port", "0", "--quiet", **more) as process:
        yield process.pid, address(process)


WAYS: list[tuple[str, dict[str, Any]]] = [
    ("/api/chat", CHAT),
    ("/v1/chat/completions", {**CHAT, "stream": True}),
    ("/v1/chat/completions", {**CHAT, "stream": True, "model": "orchestra/lawyer"}),
    ("/chat", {"intent": "Tell me everything."}),
]


def whole(answer: str) -> bool:
    """Whether an answer ended as the model ended it."""
    return not any(mark in answer for mark in ('"incomplete"', '"repetition"', '"error"')) and any(
        mark in answer for mark in ('"done":true', "[DONE]", '"finish_reason":')
    )


def asked(client: httpx.Client, place: int) -> bool:
    path, body = WAYS[place % len(WAYS)]
    return whole(client.post(path, json=body).text)


@linux
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_streams_one_after_another_leave_nothing(standin: StandIn, home: Path) -> None:
    with served(standin) as (pid, url), httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        for place in range(500):
            standin.script("Yes, of course.")
            assert asked(client, place)
        memory, descriptors = held(pid)
        for place in range(10_000):
            standin.script("Yes, of course.")
            assert asked(client, place)
        after, now = held(pid)
    print(f"10,000 streams: {memory:.1f} MiB before, {after:.1f} after; descriptors {descriptors} and {now}")
    assert after - memory <= 5
    assert now <= descriptors + 1


FAULTS = ("reset_mid", "cut_mid", "error_line", "error_500_json")


@linux
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_minutes_of_faults() -> None:
    """One request in ten meets a fault; nothing is stuck, nothing is kept, and just these fail."""
    minutes, chance = float(os.environ.get("SOAK_MINUTES", "20")), random.Random(7)
    outcomes: Counter[tuple[bool, bool]] = Counter()
    with StandIn(slots=8) as standin, served(standin) as (pid, url), httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        for place in range(200):
            asked(client, place)
        memory, _ = held(pid)
        until = time.monotonic() + 60 * minutes
        while time.monotonic() < until:
            faulty = chance.random() < 0.1
            if faulty:
                standin.fail(chance.choice(FAULTS))
            outcomes[faulty, asked(client, sum(outcomes.values()))] += 1
        soon(lambda: not standin.active)
        after, _ = held(pid)
    total = sum(outcomes.values())
    injected, failed = (outcomes[True, True] + outcomes[True, False]) / total, (outcomes[True, False] + outcomes[False, False]) / total
    print(f"{total} requests in {minutes:g} minutes: {injected:.1%} faulty, {failed:.1%} failed; {memory:.1f} MiB before, {after:.1f} after")
    assert after - memory <= 10
    assert abs(failed - injected) <= 0.01
