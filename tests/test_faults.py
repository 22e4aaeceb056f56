"""What a daemon does on a bad day, in both runtimes, by chat and by complete: one error of ours, or a sound answer.

Each check is shown to fail on a deliberately broken client.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from runtimes import RUNTIMES, WAYS, Outcome, asked, noted_pauses, outcome, patience, run

import orchestra.errors as e
from orchestra.errors import OrchestraError
from orchestra.model.client import Client
from orchestra.model.messages import FinishReason
from orchestra.standin import StandIn
from orchestra.standin.faults import FAULTS
from orchestra.standin.framings import WHOLE

PARTIAL = "The sky is"
FRAMED = "".join(WHOLE)
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
    Case("error_502_html", e.DaemonError),
    Case("nested_error", e.DaemonError),
    Case("foreign_403", e.AuthFailed),
    Case("slow_first_token", None, PARTIAL),
    Case("string_line", e.StreamCorrupt, PARTIAL),
    Case("bytes_apart", None, FRAMED),
    Case("one_chunk", None, FRAMED),
    Case("odd_chunks", None, FRAMED),
    Case("split_at_byte", None, FRAMED),
    Case("drop_at_byte", e.StreamTruncated, "The sky"),
    Case("bom_first", None, FRAMED),
    Case("bad_chunk_size", e.StreamTruncated, PARTIAL),
    Case("stall_after_done", None, FRAMED),
]
BY_NAME = {case.fault: case for case in CASES}


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses before a retry, which are not waited for."""
    return noted_pauses(monkeypatch)


def met(daemon: StandIn, fault: str, kind: str = "blocking", way: str = "chat", **settings: Any) -> tuple[Outcome, int]:
    """What becomes of a question that meets the fault at every try, and how many tries there were."""
    daemon.fail(fault, times=9)
    found = outcome(kind, way, host=daemon.url, **{**patience(fault), **settings})
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


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("missing_model", ["llama3", "ollama pull llama3"]),
        ("error_500_json", ["signal: killed"]),
        ("bad_json_line", ["line 2"]),
        ("html_200", ["text/html"]),
        ("redirect_307", ["elsewhere.invalid"]),
        ("huge_line", ["8388608 bytes"]),
        ("stall_mid", ["0.1 s"]),
        ("sse", ["OpenAI", "/v1"]),
    ],
)
def test_the_errors_say_what_happened(fault: str, words: list[str], standin: StandIn) -> None:
    standin.fail(fault)
    error = outcome("blocking", host=standin.url, piece_timeout=0.1).error
    assert isinstance(error, OrchestraError)
    for word in words:
        assert word in f"{error.message()} {error.hint()}"


def test_odd_counters_are_not_said() -> None:
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


# --- faults of the requests around an answer


AROUND = {"/api/generate": 1, "/api/show": 2, "/api/ps": 2, "/api/tags": 3, "/api/embed": 3}


@pytest.mark.parametrize("path", [*AROUND])
def test_no_other_error_leaves_either(path: str, unhurried: list[float]) -> None:
    """`/api/generate` is the request that loads the model. The runtimes take turns; elsewhere every so manieth fault is met."""

    async def work(client: Client) -> None:
        if path == "/api/tags":
            await client.tags()
        elif path == "/api/embed":
            await client.embed("tiny-embed", ["one"])
        else:
            async for _ in asked(client):
                pass

    share = AROUND[path]
    for number, fault in enumerate(list(FAULTS)[[*AROUND].index(path) % share :: share]):
        kind = RUNTIMES[number % 2]
        with StandIn(models=["llama3", "tiny-embed"]) as daemon:
            daemon.fail(fault, times=9, path=path)
            with suppress(OrchestraError):
                run(kind, work, host=daemon.url, **patience(fault))
            assert sum(each.path == path for each in daemon.requests) <= 3, fault


def test_a_load_that_fails_has_its_own_error(unhurried: list[float]) -> None:
    with StandIn() as daemon:
        daemon.fail("error_500_json", path="/api/generate")
        assert type(outcome("blocking", host=daemon.url).error) is e.LoadFailed


