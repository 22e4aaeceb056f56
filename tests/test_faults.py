"""What a daemon does on a bad day, in both runtimes, by chat and by complete: one error of ours, or a sound answer.

Each check is shown to fail on a deliberately broken client.
"""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from runtimes import IMPATIENT, RUNTIMES, WAYS, Outcome, asked, outcome, run

import orchestra.errors as e
from orchestra.errors import OrchestraError
from orchestra.model import wire
from orchestra.model.client import Client
from orchestra.model.connection import Connection
from orchestra.model.messages import FinishReason, Options
from orchestra.runtime import Answer, Blocking, Looped
from orchestra.standin import Scripted, StandIn
from orchestra.standin.faults import FAULTS
from orchestra.standin.link import Link

PARTIAL = "The sky is"
HANG = 3.0


@dataclass(frozen=True)
class Case:
    """A fault, the error that it means (None: it is tolerated), the text that is kept, the requests that the daemon sees."""

    fault: str
    error: type[OrchestraError] | None = None
    text: str = ""
    tries: int = 1
    note: str = ""


CASES = [
    Case("reset_before_headers", e.DaemonDisconnected, tries=3),
    Case("close_before_headers", e.DaemonDisconnected, tries=3),
    Case("not_http", e.NotOllama),
    Case("html_200", e.NotOllama),
    Case("missing_model", e.ModelMissing),
    Case("error_500_json", e.DaemonError),
    Case("error_500_html", e.DaemonError),
    Case("error_502_empty", e.DaemonError),
    Case("busy_503", e.DaemonBusy, tries=3),
    Case("too_many_429", e.DaemonBusy, tries=3),
    Case("unauthorized_401", e.AuthFailed),
    Case("redirect_307", e.RedirectRefused),
    Case("reset_mid", e.StreamTruncated, PARTIAL),
    Case("cut_mid", e.StreamTruncated, PARTIAL),
    Case("content_length_short", e.StreamTruncated),
    Case("empty_200", e.EmptyReply),
    Case("bad_json_line", e.StreamCorrupt, "The sky"),
    Case("error_line", e.DaemonError, PARTIAL),
    Case("error_object_line", e.DaemonError, PARTIAL),
    Case("stall_before_headers", e.FirstTokenTimeout),
    Case("stall_mid", e.StreamStalled, PARTIAL),
    Case("huge_line", e.LineTooLong, PARTIAL),
    Case("array_line", e.StreamCorrupt, PARTIAL),
    Case("null_line", e.StreamCorrupt, PARTIAL),
    Case("number_line", e.StreamCorrupt, PARTIAL),
    Case("sse", e.NotOllama),
    Case("deep_json", e.StreamCorrupt, PARTIAL),
    Case("huge_int", None, PARTIAL),
    Case("nan_number", None, PARTIAL),
    Case("raw_u0085_u2028", None, PARTIAL + " blue\x85and\u2028wide"),
    Case("bad_utf8", None, PARTIAL + " blue\ufffd\ufffd\ufffd", note="garbled"),
    Case("lone_surrogate", None, PARTIAL + " blue\ufffd", note="garbled"),
    Case("text_after_done", None, PARTIAL),
    Case("done_twice", None, PARTIAL),
    Case("negative_counters", None, PARTIAL),
    Case("blank_lines_crlf", None, PARTIAL),
    Case("gzip_bomb", e.ReplyTooLarge),
    Case("huge_header", e.DaemonError),
]
BY_NAME = {case.fault: case for case in CASES}


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses before a retry, which are not waited for."""
    pauses: list[float] = []

    async def pause(self: Any, seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(Looped, "pause", pause)
    monkeypatch.setattr(Blocking, "pause", pause)
    return pauses


def met(daemon: StandIn, fault: str, kind: str = "blocking", way: str = "chat", **settings: Any) -> tuple[Outcome, int]:
    """What becomes of a question that meets the fault at every try, and how many tries there were."""
    daemon.fail(fault, times=9)
    found = outcome(kind, way, host=daemon.url, **settings)
    path = "/api/chat" if way == "chat" else "/api/generate"
    return found, sum(1 for body in daemon.asked(path) if body.get("messages") or body.get("prompt"))


def check(case: Case, found: Outcome, tries: int) -> None:
    """The promise: this error and no other, the text that came, no more tries than allowed, no hang."""
    assert type(found.error) is (case.error or type(None)), repr(found.error)
    assert tries == case.tries
    assert found.streamed == case.text
    assert found.seconds < HANG
    if case.error is None:
        assert found.reply is not None
        assert (found.reply.text, found.reply.finish_reason) == (case.text, FinishReason.STOP)
        assert case.note in (*found.reply.receipt.notes, "")
        counters = found.reply.usage.completion_tokens, found.reply.usage.eval_duration
        assert all(count is None or count >= 0 for count in counters)
    else:
        assert isinstance(found.error, OrchestraError)
        reply = found.error.reply
        assert (reply.text if reply else "") == case.text
        assert "\x1b" not in found.error.message() + found.error.message("zh")
        assert len(found.error.message()) < 700
        assert found.error.hint()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", RUNTIMES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.fault)
def test_each_fault_has_its_outcome(case: Case, kind: str, way: str, standin: StandIn, unhurried: list[float]) -> None:
    found, tries = met(standin, case.fault, kind, way)
    check(case, found, tries)
    assert len(unhurried) == tries - 1
    assert all(0 < seconds <= 1 for seconds in unhurried)


def test_every_fault_of_the_stand_in_is_a_case() -> None:
    assert set(BY_NAME) == set(FAULTS)


# --- what the errors say


def test_the_errors_say_what_happened(standin: StandIn, unhurried: list[float]) -> None:
    def said(fault: str) -> str:
        error = met(standin, fault)[0].error
        standin.stop()
        standin.start()
        assert isinstance(error, OrchestraError)
        return error.message()

    with StandIn() as other:
        other.fail("missing_model")
        missing = outcome("blocking", host=other.url).error
    assert isinstance(missing, e.ModelMissing)
    assert "ollama pull llama3" in missing.hint()
    assert "llama3" in missing.message()
    with StandIn() as other:
        other.fail("error_500_json")
        assert "signal: killed" in str(outcome("blocking", host=other.url).error)
    with StandIn() as other:
        other.fail("bad_json_line")
        assert "line 2" in str(outcome("blocking", host=other.url).error)
    with StandIn() as other:
        other.fail("html_200")
        assert "text/html" in str(outcome("blocking", host=other.url).error)
    assert "elsewhere.invalid" in said("redirect_307")


def test_odd_counters_are_not_said(standin: StandIn) -> None:
    for fault in ("huge_int", "nan_number", "negative_counters"):
        with StandIn() as other:
            other.fail(fault)
            reply = outcome("blocking", host=other.url).reply
        assert reply is not None
        assert (reply.usage.completion_tokens, reply.usage.tokens_per_second) == (None, None)


def test_the_first_end_counts() -> None:
    with StandIn() as daemon:
        daemon.fail("done_twice")
        reply = outcome("looped", host=daemon.url).reply
    assert reply is not None
    assert reply.usage.completion_tokens == 3


# --- before anything is sent


@pytest.mark.parametrize("kind", RUNTIMES)
def test_a_closed_port(kind: str) -> None:
    with StandIn() as daemon:
        url = daemon.url
    found = outcome(kind, host=url)
    assert type(found.error) is e.DaemonUnreachable
    assert "nothing listens" in str(found.error)
    assert "ollama serve" in found.error.hint()
    assert found.seconds < 1


@pytest.mark.parametrize("kind", RUNTIMES)
def test_an_unknown_host(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def unknown(*_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    found = outcome(kind, host="no-such-host.invalid")
    assert type(found.error) is e.DaemonUnreachable
    assert "name is not found" in str(found.error)


@pytest.mark.parametrize("host", ["localhost:99999", "ftp://localhost", "http://user:secret@localhost", "a..b", "x" * 64])
def test_an_address_that_is_none(host: str) -> None:
    found = outcome("blocking", host=host)
    assert type(found.error) is e.ConfigError
    assert "OLLAMA_HOST" in str(found.error)


# --- retries


def test_a_retry_may_succeed(unhurried: list[float]) -> None:
    for kind in RUNTIMES:
        with StandIn(["Fine."]) as daemon:
            daemon.fail("reset_before_headers")
            daemon.fail("busy_503")
            found = outcome(kind, host=daemon.url)
            assert found.streamed == "Fine."
            assert len(daemon.asked("/api/chat")) == 3


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


@pytest.mark.parametrize("kind", RUNTIMES)
def test_a_client_that_follows_is_noticed(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("Client", "AsyncClient"):
        original = getattr(httpx, name)
        following = type(name, (original,), {"__init__": lambda self, *, _of=original, **kw: _of.__init__(self, **{**kw, "follow_redirects": True})})
        monkeypatch.setattr(httpx, name, following)
    with pytest.raises(AssertionError):
        no_redirect_is_followed(kind)


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
        found, tries = met(daemon, "stall_mid", piece_timeout=30.0, deadline=HANG / 4)
    with pytest.raises(AssertionError):
        check(BY_NAME["stall_mid"], found, tries)


# --- faults of the requests around an answer


AROUND = ["/api/show", "/api/ps", "/api/generate", "/api/tags", "/api/embed"]


@pytest.mark.parametrize("path", AROUND)
def test_no_other_error_leaves_either(path: str, unhurried: list[float]) -> None:
    """`/api/generate` is the request that loads the model. The runtimes take turns."""

    async def work(client: Client) -> None:
        if path == "/api/tags":
            await client.tags()
        elif path == "/api/embed":
            await client.embed("tiny-embed", ["one"])
        else:
            async for _ in asked(client):
                pass

    for number, fault in enumerate(FAULTS):
        kind = RUNTIMES[(number + AROUND.index(path)) % 2]
        with StandIn(models=["llama3", "tiny-embed"]) as daemon:
            daemon.fail(fault, times=9, path=path)
            with suppress(OrchestraError):
                run(kind, work, host=daemon.url, **IMPATIENT)
            assert sum(each.path == path for each in daemon.requests) <= 3, fault


def test_a_load_that_fails_has_its_own_error(unhurried: list[float]) -> None:
    with StandIn() as daemon:
        daemon.fail("error_500_json", path="/api/generate")
        assert type(outcome("blocking", host=daemon.url).error) is e.LoadFailed


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
