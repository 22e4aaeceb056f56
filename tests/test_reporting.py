"""The line for each request: what is told of it, what never is, and what it costs."""

from __future__ import annotations

import io
import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import httpx
import pytest
from served import Served

from orchestra.cli import watching as watching_
from orchestra.cli.watching import Lines, watching
from orchestra.gateway.reporting import REQUESTS, Report, report_of, reported, seen
from orchestra.standin import Scripted, StandIn

SAID = "Kirschkuchen"  # what was said, and is told to nobody


class Reports(logging.Handler):
    """The reports of a test; `one` waits for the next."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Report] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append(vars(record)["report"])

    def one(self) -> Report:
        until = time.monotonic() + 5
        while not self.kept and time.monotonic() < until:
            time.sleep(0.005)
        return self.kept.pop(0)


@pytest.fixture
def reports() -> Iterator[Reports]:
    handler = Reports()
    REQUESTS.addHandler(handler)
    REQUESTS.setLevel(logging.INFO)
    yield handler
    REQUESTS.setLevel(logging.NOTSET)
    REQUESTS.removeHandler(handler)


def completion(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": SAID}], **more}


def ask(client: httpx.Client) -> None:
    client.post("/chat", json={"intent": SAID, "persona": "lawyer"})


def talk(client: httpx.Client) -> None:
    client.post("/chat", json={"intent": SAID, "persona": "lawyer", "session": "s"})


def stream(client: httpx.Client) -> None:
    client.post("/v1/chat/completions", json=completion("orchestra/lawyer", stream=True))


def whole(client: httpx.Client) -> None:
    client.post("/v1/chat/completions", json=completion("orchestra/lawyer"))


@pytest.mark.parametrize(
    ("send", "path", "model", "first"),
    [
        (ask, "/chat", "lawyer", False),
        (talk, "/chat", "lawyer", False),
        (stream, "/v1/chat/completions", "orchestra/lawyer", True),
        (whole, "/v1/chat/completions", "orchestra/lawyer", True),
    ],
)
def test_what_became_of_an_answer(
    served: Served, daemon: StandIn, reports: Reports, send: Callable[[httpx.Client], None], path: str, model: str, first: bool
) -> None:
    daemon.script(Scripted("依法办理。", pace=0.01))
    send(served())
    report = reports.one()
    assert (report.status, report.path, report.model, report.finish) == (200, path, model, "stop")
    assert report.tokens
    assert report.prompt_tokens
    assert (report.first is not None) == first
    assert 0.03 < report.seconds < 5
    if report.first is not None:
        assert report.first < report.seconds
    assert SAID not in f"{report} {report!r}"
    assert "依法" not in f"{report!r}"


def test_who_asked_is_told_by_name_and_never_by_key(served: Served, reports: Reports) -> None:
    client = served(token="s3cret")
    client.get("/persona", headers={"Authorization": "Bearer wrong-key"})
    report = reports.one()
    assert (report.status, report.finish) == (401, "token_refused")
    assert "wrong-key" not in repr(report)
    client.get("/sessions", headers={"Authorization": "Bearer s3cret", "X-OpenWebUI-User-Id": "u1"})
    report = reports.one()
    assert (report.user, report.cells()[3]) == ("u1", "u1")
    assert "s3cret" not in repr(report)


def test_errors_are_told_by_their_code_and_a_session_by_no_name(served: Served, reports: Reports) -> None:
    client = served()
    for path, told, finish in [("/nowhere", "/nowhere", "route_missing"), ("/sessions/my-secret", "/sessions/{name:path}", "session_missing")]:
        client.get(path)
        report = reports.one()
        assert (report.status, report.path, report.finish) == (404, told, finish)
    client.post("/v1/chat/completions", json=completion("orchestra/nobody"))
    assert reports.one().finish == "persona_missing"


def test_an_error_in_mid_stream_is_told(served: Served, daemon: StandIn, reports: Reports) -> None:
    daemon.script(Scripted("依法办理。", end="nothing"))
    stream(served())
    report = reports.one()
    assert (report.status, report.finish) == (200, "stream_truncated")


def test_a_caller_that_leaves_is_told_and_nothing_else(served: Served, reports: Reports, capfd: pytest.CaptureFixture[str]) -> None:
    client = served()
    for patience in (0.15, 0.3):  # while experts work, and the stream has begun
        with pytest.raises(httpx.ReadTimeout):
            client.post("/v1/chat/completions", json=completion("orchestra/coordinator", stream=True), timeout=patience)
        assert reports.one().finish == "left"
    assert "Traceback" not in capfd.readouterr().err


def test_who_watches_over_a_service_is_told_only_of_what_fails(served: Served, reports: Reports) -> None:
    client = served()
    client.get("/healthz")
    client.get("/readyz")
    client.get("/persona")
    assert reports.one().path == "/persona"
    client.get("/readyz", headers={"Host": "elsewhere.example"})
    assert reports.one().finish == "host_refused"


# --- the line


def test_a_line_for_a_file_has_its_fields_in_their_places() -> None:
    report = Report("POST", "/chat", model="x\x1b[31m\u202ey", holder="alice", user="u1", status=200, finish="length", first=0.34, seconds=5.204)
    report.tokens = 212
    line = Lines(io.StringIO()).line(report, datetime(2026, 1, 2, 3, 4, 5))
    assert line == "2026-01-02 03:04:05  200  POST /chat  x?[31m?y  alice/u1  212 tokens  first 340 ms  5.20 s  length"
    assert str(Report("GET", "/", status=404)) == "404 GET / 0.00 s"


def test_on_a_terminal_the_columns_are_aligned() -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    when = datetime(2026, 1, 2, 3, 4, 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TERM", "xterm")
        lines = Lines(Screen())
    first = lines.line(Report("POST", "/v1/chat/completions", model="orchestra/律师", status=200, finish="stop"), when)
    second = lines.line(Report("GET", "/" + "x" * 200, model="m", status=500, finish="internal"), when)
    assert first.startswith("\x1b[2m03:04:05  200  POST /v1/chat/completions  orchestra/律师")
    assert "\x1b[31minternal" in second
    assert "x" * 61 not in second


def record(path: str = "/") -> logging.LogRecord:
    return logging.makeLogRecord({"report": Report("GET", path)})


def test_a_reader_that_has_left_stops_nothing() -> None:
    stream = io.StringIO()
    lines = Lines(stream)
    stream.close()
    lines.handle(record())
    lines.close()


def test_a_reader_that_is_held_stops_nothing_and_is_told_what_it_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = threading.Event()

    class Held(io.StringIO):
        def write(self, text: str) -> int:
            assert reads.wait(10)
            return super().write(text)

    monkeypatch.setattr(watching_, "MOST", 3)
    stream = Held()
    lines = Lines(stream)
    lines.handle(record("/first"))
    until = time.monotonic() + 5
    while not lines._waiting.empty() and time.monotonic() < until:  # the first is being written
        time.sleep(0.001)
    for _ in range(5):
        lines.handle(record())
    reads.set()
    while not lines._waiting.empty() and time.monotonic() < until:
        time.sleep(0.001)
    lines.handle(record("/last"))
    lines.close()
    said = stream.getvalue().splitlines()
    assert len(said) == 1 + 3 + 2
    assert said[-2].startswith(("(2 lines", "（略去 2 行"))
    assert "/last" in said[-1]


def test_it_is_silent_where_nobody_listens(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with reported({"type": "http", "method": "GET", "path": "/"}):
        pass
    assert not caplog.records
    with watching(), reported({"type": "http", "method": "GET", "path": "/"}):
        pass
    assert "GET /" in capfd.readouterr().err
    assert REQUESTS.handlers == []


def test_a_name_that_somebody_made_up_is_short_and_acts_on_nothing() -> None:
    assert seen("a\nb\u2028c\ud800") == "a?b?c?"
    assert len(seen("x" * 1000)) == 61


def test_a_report_costs_microseconds(capfd: pytest.CaptureFixture[str]) -> None:
    """The bound is many times what was measured: it notices a report that waits for something."""
    with watching():
        began = time.perf_counter()
        for _ in range(1000):
            scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/"}
            with reported(scope) as report:
                assert report_of(scope) is report
        each = (time.perf_counter() - began) / 1000
    assert each < 0.001, capfd.readouterr().err[-200:]
