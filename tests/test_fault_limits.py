"""Redirects, retries, memory: the limits of what a bad daemon can make the client do, and clients that break them."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from runtimes import RUNTIMES, asked, noted_pauses, outcome, run
from test_faults import BY_NAME, check, met

import orchestra.errors as e
from orchestra.model import wire
from orchestra.model.client import Client
from orchestra.model.connection import Connection
from orchestra.model.messages import FinishReason, Options
from orchestra.request import Answer
from orchestra.standin import Scripted, StandIn
from orchestra.standin.faults import FAULTS
from orchestra.standin.link import Link


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses before a retry, which are not waited for."""
    return noted_pauses(monkeypatch)


# --- retries


def test_a_retry_may_succeed(unhurried: list[float]) -> None:
    for kind in RUNTIMES:
        with StandIn(["Fine."]) as daemon:
            daemon.fail("reset_before_headers")
            daemon.fail("busy_503")
            found = outcome(kind, host=daemon.url)
            assert found.streamed == "Fine."
            assert len(daemon.asked("/api/chat")) == 3
            assert found.reply is not None
            assert found.reply.receipt.retries == 2


def test_retry_after_is_waited_for() -> None:
    with StandIn(["Fine."]) as daemon:
        daemon.fail("too_many_429")
        found = outcome("looped", host=daemon.url)
    assert found.streamed == "Fine."
    assert 1.0 <= found.seconds < 2.0


def test_a_long_retry_after_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, unhurried: list[float]) -> None:
    def later(link: Link) -> None:
        """429 for an hour."""
        link.whole(429, b"{}", None, (("Retry-After", "3600"),))

    monkeypatch.setitem(FAULTS, "too_many_429", later)
    with StandIn() as daemon:
        found, tries = met(daemon, "too_many_429")
    assert (type(found.error), tries, unhurried) == (e.DaemonBusy, 1, [])


def test_a_retry_that_would_come_too_late_is_not_made(unhurried: list[float]) -> None:
    with StandIn() as daemon:
        found, tries = met(daemon, "too_many_429", deadline=0.5)
    assert (type(found.error), tries, unhurried) == (e.DaemonBusy, 1, [])


# --- redirects


@contextmanager
def redirecting(target: str) -> Iterator[str]:
    """The address of something that sends every request on to `target`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response(307)
            self.send_header("Location", target + self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def no_redirect_is_followed(kind: str) -> None:
    with StandIn() as target, redirecting(target.url) as url:
        found = outcome(kind, host=url)
        assert target.requests == []
        assert type(found.error) is e.RedirectRefused
        assert target.url in str(found.error)


@pytest.mark.parametrize("kind", RUNTIMES)
def test_a_prompt_is_never_sent_to_a_redirects_target(kind: str) -> None:
    no_redirect_is_followed(kind)


def test_a_client_that_follows_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    original = httpx.Client  # the requests of a loop know nothing of redirects
    following = type("Client", (original,), {"__init__": lambda self, **kw: original.__init__(self, **{**kw, "follow_redirects": True})})
    monkeypatch.setattr(httpx, "Client", following)
    with pytest.raises(AssertionError):
        no_redirect_is_followed("blocking")


# --- red controls: a broken client fails the same check


def broken(case: str) -> None:
    with StandIn() as daemon:
        check(BY_NAME[case], *met(daemon, case))


def test_splitting_at_every_line_break_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def events(self: Connection, answer: Answer) -> AsyncGenerator[dict[str, Any]]:
        whole = b"".join([chunk async for chunk in answer.chunks()])
        for line in whole.decode("utf-8", "replace").splitlines():
            yield wire.parsed(line.encode())

    broken("raw_u0085_u2028")
    monkeypatch.setattr(Connection, "events", events)
    with pytest.raises(AssertionError):
        broken("raw_u0085_u2028")


def test_taking_any_end_for_a_success_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Connection.events

    async def events(self: Connection, answer: Answer) -> AsyncGenerator[dict[str, Any]]:
        async with aclosing(original(self, answer)) as sound:
            async for event in sound:
                yield event
        yield {"done": True, "done_reason": "stop"}

    broken("cut_mid")
    monkeypatch.setattr(Connection, "events", events)
    with pytest.raises(AssertionError):
        broken("cut_mid")
    with pytest.raises(AssertionError):
        broken("empty_200")


def test_retrying_a_404_is_noticed(monkeypatch: pytest.MonkeyPatch, unhurried: list[float]) -> None:
    broken("missing_model")
    monkeypatch.setattr(wire, "problem", lambda *_: e.DaemonBusy(url="", detail=""))
    with pytest.raises(AssertionError):
        broken("missing_model")


def test_endless_patience_is_noticed() -> None:
    with StandIn() as daemon:
        found, tries = met(daemon, "stall_mid", piece_timeout=30.0, deadline=0.5)
    with pytest.raises(AssertionError):
        check(BY_NAME["stall_mid"], found, tries)


# --- bounds


def endless(limit: int) -> Callable[..., AsyncGenerator[dict[str, Any]]]:
    async def events(self: Connection, answer: Answer) -> AsyncGenerator[dict[str, Any]]:
        for number in range(limit):
            yield {"message": {"content": f"{number} "}, "done": False}

    return events


def test_an_answer_that_knows_no_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "events", endless(20_000))
    with StandIn(window=1024) as daemon:
        found = outcome("blocking", host=daemon.url)
    assert found.reply is not None
    assert found.reply.finish_reason is FinishReason.LENGTH
    assert len(found.pieces) < 1024 // 4 + 40


@pytest.mark.parametrize("kind", RUNTIMES)
def test_a_loop_that_ends_without_a_word_is_named(kind: str) -> None:
    async def work(client: Client) -> None:
        async for _ in asked(client, "complete", "The sky is", model="tiny-loop", options=Options(on_repetition="ignore")):
            pass

    with StandIn(models=["tiny-loop"]) as daemon, pytest.raises(e.StreamTruncated) as caught:
        run(kind, work, host=daemon.url)
    assert caught.value.reply.finish_reason is FinishReason.REPETITION
    assert caught.value.reply.text.startswith(" blue blue blue")


def test_an_engine_that_breaks_down_leaves_what_it_said() -> None:
    with StandIn([Scripted("It is going well", end="error")]) as daemon:
        found = outcome("looped", host=daemon.url)
    assert isinstance(found.error, e.DaemonError)
    assert found.error.reply.text == "It is going well"


# --- memory

MEASURE = """
import re, sys
sys.path.insert(0, {tests!r})
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read()).group(1)) // 1024
import orchestra.model.connection as connection
from runtimes import outcome
import orchestra.errors as e
settings = {settings!r}
if "line_limit" in settings:
    connection.COMPRESSED_LIMIT = settings["line_limit"]
outcome("blocking", host={warm!r})
before = peak()
error = outcome("blocking", host={url!r}, **settings).error
print(type(error).__name__, peak() - before)
"""


def memory(fault: str, **settings: Any) -> tuple[str, int]:
    """The error's name and the MiB that meeting the fault took, in a process of its own."""
    with StandIn(["Warm."]) as warm, StandIn() as daemon:
        daemon.fail(fault)
        script = MEASURE.format(tests=str(Path(__file__).parent), settings=settings, warm=warm.url, url=daemon.url)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)
    name, grown = done.stdout.split()
    return name, int(grown)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("fault", "error"), [("huge_line", "LineTooLong"), ("gzip_bomb", "ReplyTooLarge")])
def test_memory_stays_bounded(fault: str, error: str) -> None:
    name, grown = memory(fault)
    assert name == error
    assert grown < 64


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_limit_that_is_too_high_is_noticed() -> None:
    assert memory("huge_line", line_limit=120 * 2**20)[1] >= 64
