"""What one caller may cost the others: senders that dally, readers that do not read, too many at once, heads without end."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import httpx
import pytest
from served import Served, running
from test_gateway import SEED, error, served  # noqa: F401 - a fixture

from orchestra.agents.router import Route, Router
from orchestra.gateway.access import Caller, admit
from orchestra.model.tokens import Counter
from orchestra.sessions import prompt
from orchestra.settings import Settings
from orchestra.standin import Scripted, StandIn

HEAD = b"POST /chat HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


@contextmanager
def connected(client: httpx.Client, *sent: bytes) -> Iterator[socket.socket]:
    """A connection over which these bytes were sent."""
    with socket.create_connection(("127.0.0.1", client.base_url.port or 0), timeout=10) as sock:
        for piece in sent:
            sock.sendall(piece)
        yield sock


def heard(sock: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    whole = b""
    with suppress(ConnectionError):
        while piece := sock.recv(65536):
            whole += piece
    return whole


def one_object(sock: socket.socket) -> bytes:
    """An answer that ends with an object's end, on a connection that stays."""
    whole = b""
    while not whole.endswith(b"}"):
        whole += sock.recv(65536)
    return whole


def refused(answer: bytes, status: int, code: str) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == str(status).encode(), answer
    assert json.loads(body)["error"]["code"] == code


# --- time


@pytest.fixture
def hasty(served: Served, monkeypatch: pytest.MonkeyPatch) -> httpx.Client:  # noqa: F811
    monkeypatch.setenv("ORCHESTRA_HEADER_TIMEOUT", "0.5")
    monkeypatch.setenv("ORCHESTRA_BODY_TIMEOUT", "0.5")
    return served(SEED)


def test_heads_that_never_end_hold_nobody_up(hasty: httpx.Client) -> None:
    with ExitStack() as open_ones:
        slow = [open_ones.enter_context(connected(hasty, HEAD)) for _ in range(100)]
        before = time.monotonic()
        assert hasty.get("/persona").status_code == 200
        assert time.monotonic() - before < 1
        for sock in slow:
            refused(heard(sock), 408, "request_too_slow")
        assert time.monotonic() - before < 3


@pytest.mark.parametrize(
    ("sent", "drop"),
    [
        (b"GET /persona HTTP/1.1\r\nhost: localhost\r\nx: ", b"x"),
        (HEAD + b"content-length: 1000\r\n\r\n", b" "),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    ],
)
def test_a_byte_now_and_then_buys_no_time(sent: bytes, drop: bytes, hasty: httpx.Client) -> None:
    before = time.monotonic()
    with connected(hasty, sent) as sock:
        sock.settimeout(0.05)
        answer = b""
        while not answer and time.monotonic() - before < 5:
            with suppress(TimeoutError):
                sock.sendall(drop)
                answer = sock.recv(65536)
        refused(answer, 408, "request_too_slow")
    assert 0.4 < time.monotonic() - before < 2


def test_without_these_times_they_would_be_waited_for(served: Served) -> None:  # noqa: F811
    """The red control: with the default patience both are still open."""
    client = served(SEED)
    with connected(client, HEAD) as one, connected(client, HEAD + b"content-length: 5\r\n\r\n") as other:
        for sock in (one, other):
            sock.settimeout(0.7)
            with pytest.raises(TimeoutError):
                sock.recv(1)


def test_the_second_request_of_a_connection_has_its_own_time(hasty: httpx.Client) -> None:
    whole = b"GET /persona HTTP/1.1\r\nhost: localhost\r\n\r\n"
    with connected(hasty, whole) as sock:
        assert b" 200 " in one_object(sock)
        time.sleep(0.7)
        sock.sendall(whole[:20])
        time.sleep(0.2)
        sock.sendall(whole[20:])
        assert b" 200 " in one_object(sock)
    with connected(hasty, whole + HEAD + b"content-length: 5\r\n\r\n") as sock:  # the head of a second one behind the first
        answer = heard(sock)
    assert answer.startswith(b"HTTP/1.1 200 ")
    refused(answer[answer.index(b"HTTP/1.1 408") :], 408, "request_too_slow")


def test_an_answer_takes_the_time_that_it_takes(hasty: httpx.Client, standin: StandIn) -> None:
    standin.script(Scripted("好" * 14, pace=0.05))
    assert hasty.post("/chat", json={"intent": "说很久"}).status_code == 200


# --- size


def test_a_head_beyond_the_limit(served: Served) -> None:  # noqa: F811
    client = served(SEED)
    for headers in ({"x": "x" * 20_000}, {f"x{i}": "x" * 100 for i in range(200)}, {"authorization": "Bearer " + "x" * 100_000}):
        error(client.get("/persona", headers=headers), 431, "headers_too_large")
    error(client.get("/persona?" + "x" * 20_000), 431, "headers_too_large")
    with connected(client, HEAD) as sock:
        with suppress(ConnectionError):
            for _ in range(40):
                sock.sendall(b"x: " + b"x" * 1000 + b"\r\n")
                time.sleep(0.001)
        refused(heard(sock), 431, "headers_too_large")
    assert client.get("/persona", headers={"x": "x" * 15_000}).status_code == 200


def test_what_is_no_http(served: Served) -> None:  # noqa: F811
    with connected(served(SEED), b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n") as sock:
        refused(heard(sock), 400, "request_invalid")


def test_a_body_in_chunks_beyond_the_limit(served: Served) -> None:  # noqa: F811
    client = served(SEED, body_limit=1000)
    response = client.post("/chat", content=iter([b" " * 400] * 3), headers={"content-type": "application/json"})
    error(response, 413, "body_too_large")


# --- at once


def test_whom_there_is_no_place_for_is_told_at_once(
    served: Served, standin: StandIn, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:
    monkeypatch.setenv("ORCHESTRA_IN_FLIGHT", "2")
    standin.script(*[Scripted("好" * 30, pace=0.03)] * 2, "好。")
    client = served(SEED)
    with ThreadPoolExecutor(2) as asking:
        answers = [asking.submit(client.post, "/chat", json={"intent": "说很久"}) for _ in range(2)]
        time.sleep(0.3)  # who looks takes a place as well, and must not take theirs
        assert answered(client, 429)
        took = []
        for _ in range(20):
            before = time.monotonic()
            turned_away = client.post("/chat", json={"intent": "还有位置吗？"})
            took.append(time.monotonic() - before)
            assert "ORCHESTRA_IN_FLIGHT" in error(turned_away, 429, "overloaded")["hint"]
            assert int(turned_away.headers["retry-after"]) > 0
        assert sorted(took)[10] < 0.1
        assert client.get("/healthz").status_code == 200
        assert [answer.result().status_code for answer in answers] == [200, 200]
    assert client.post("/chat", json={"intent": "现在呢？"}).status_code == 200


ASKED = b"GET /persona HTTP/1.1\r\nhost: localhost\r\n"


UNENDED = HEAD + b"content-length: 100\r\n\r\n{"


@contextmanager
def occupied(client: httpx.Client, standin: StandIn, places: int) -> Iterator[None]:
    """All places of a service taken, by a question that is answered slowly and those that wait for its slot."""
    body = json.dumps({"intent": "说很久"}).encode()
    standin.script(Scripted("好" * 100, pace=0.1))
    with ExitStack() as open_ones:
        for _ in range(places):
            open_ones.enter_context(connected(client, HEAD + b"content-length: %d\r\n\r\n" % len(body) + body))
        assert answered(client, 429)
        until = time.monotonic() + 5
        while not standin.active and time.monotonic() < until:
            time.sleep(0.01)
        yield


def answered(client: httpx.Client, status: int) -> bool:
    """Whether a request is soon answered like this."""
    until = time.monotonic() + 5
    while (last := client.get("/persona").status_code) != status and time.monotonic() < until:
        time.sleep(0.01)
    return last == status


def test_bodies_that_never_end_keep_no_place_from_others(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """More of them than there are places: those that began first are let go, and who sends at once is served."""
    monkeypatch.setenv("ORCHESTRA_IN_FLIGHT", "3")
    client = served(SEED)
    with ExitStack() as open_ones:
        socks = [open_ones.enter_context(connected(client, UNENDED)) for _ in range(8)]
        for _ in range(4):
            assert client.post("/chat", json={"intent": "还有位置吗？"}).status_code == 200
        for sock in socks[:5]:
            refused(heard(sock), 408, "request_too_slow")
        socks[-1].settimeout(0.2)
        with pytest.raises(TimeoutError):
            socks[-1].recv(1)


def test_who_leaves_while_its_body_comes_is_no_error(
    served: Served, caplog: pytest.LogCaptureFixture  # noqa: F811
) -> None:
    client = served(SEED)
    with caplog.at_level("INFO", logger="orchestra.requests"):
        with connected(client, UNENDED):
            time.sleep(0.1)
        until = time.monotonic() + 5
        while not caplog.records and time.monotonic() < until:
            time.sleep(0.01)
    assert [(record.levelname, record.name) for record in caplog.records] == [("INFO", "orchestra.requests")]
    assert caplog.messages[0].endswith("left")


def test_each_protocol_hears_in_its_own_words_that_there_is_no_place(
    served: Served, standin: StandIn, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:
    monkeypatch.setenv("ORCHESTRA_IN_FLIGHT", "1")
    client = served(SEED)
    with occupied(client, standin, 1):
        for content in (b"{}", iter([b"{}"])):  # one that has come whole, and one in chunks, which goes the usual way
            told = client.post("/v1/chat/completions", content=content, headers={"accept-language": "zh"})
            assert (told.status_code, told.json()["error"]["code"]) == (429, "overloaded")
            assert "\u4e00" <= told.json()["error"]["message"][0] <= "\u9fff"
            assert int(told.headers["retry-after"]) > 0
        assert isinstance(client.post("/api/chat", json={}).json()["error"], str)
        with connected(client, ASKED[:20]) as halved, connected(client, ASKED + b"\r\n" + ASKED + b"\r\n") as doubled:
            time.sleep(0.05)
            halved.sendall(ASKED[20:] + b"\r\n")
            assert all(sock.recv(65536).startswith(b"HTTP/1.1 429 ") for sock in (halved, doubled))
        assert client.get("/healthz").status_code == 200
    assert answered(client, 200)


@pytest.mark.parametrize(("unusual", "begun"), [(b"", 0), (b"transfer-encoding: chunked\r\n\r\n0\r\n", 200)])
def test_nothing_is_begun_for_whom_there_is_no_place(
    unusual: bytes, begun: int, served: Served, standin: StandIn, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:
    """Each is answered as it is read; the second row is the red control: what goes the usual way is begun."""
    monkeypatch.setenv("ORCHESTRA_IN_FLIGHT", "2")
    client = served(SEED)
    with occupied(client, standin, 2), ExitStack() as open_ones:
        admitted: list[int] = []

        def counted(*given: Any) -> Caller:
            admitted.append(1)
            return admit(*given)

        monkeypatch.setattr("orchestra.gateway.app.admit", counted)
        socks = [open_ones.enter_context(connected(client)) for _ in range(200)]
        before = time.monotonic()
        for sock in socks:
            sock.sendall(ASKED + unusual + b"\r\n")
        assert all(sock.recv(65536).startswith(b"HTTP/1.1 429 ") for sock in socks)
        assert time.monotonic() - before < 2
        assert begun <= len(admitted) <= begun + 2  # those who have the places may just have come in


# --- work for one that others would wait for


def test_a_long_dialogue_holds_nobody_up(served: Served, standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """Who leads it is told by its last messages, and it is counted where no other request waits."""
    lexical, measure, counted = Router.lexical, Counter.measure, prompt.counted
    asked: list[str] = []
    threads: set[threading.Thread] = set()

    def told(self: Router, message: str, **named: Any) -> Route:
        asked.append(message)
        return lexical(self, message, **named)

    def noted(count: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*given: Any, **named: Any) -> Any:
            threads.add(threading.current_thread())
            return count(*given, **named)

        return noting

    monkeypatch.setattr(Router, "lexical", told)
    monkeypatch.setattr(Counter, "measure", noted(measure))
    monkeypatch.setattr("orchestra.sessions.compaction.counted", noted(counted))
    client = served()
    said = [{"role": "user" if turn % 2 == 0 else "assistant", "content": f"My contract, part {turn}."} for turn in range(601)]
    assert client.post("/v1/chat/completions", json={"model": "orchestra/auto", "messages": said}).status_code == 200
    assert len(asked) < 30
    threads.clear()
    huge = {"model": "orchestra/lawyer", "messages": [{"role": "user", "content": "word " * 20_000}]}
    assert client.post("/v1/chat/completions", json=huge).status_code == 413
    assert threads
    assert not any("lambda" in thread.name for thread in threads)  # `served` calls that of its loop so


# --- readers


@contextmanager
def flowing(patience: float, sent: list[int]) -> Iterator[httpx.Client]:
    """A service that answers without end, 64 KiB at a time; `sent` counts them, -1 says that the reader has gone."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        left = asyncio.ensure_future(receive())
        while not left.done():
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            sent.append(65536)
            await asyncio.sleep(0)
        sent.append(-1)

    settings = Settings(reader_timeout=patience, grace=1)
    with running(app, settings) as url, httpx.Client(base_url=url, trust_env=False) as client:
        yield client


def settled(sent: list[int], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while -1 not in sent and time.monotonic() < until:
        time.sleep(0.02)
    return -1 in sent


GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"


def test_who_reads_nothing_is_let_go() -> None:
    sent: list[int] = []
    with flowing(0.5, sent) as client, connected(client, GET):
        assert settled(sent, 5)
        assert sum(sent) < 8 * 2**20


def test_who_reads_slowly_is_not() -> None:
    sent: list[int] = []
    with flowing(0.5, sent) as client, connected(client, GET) as sock:
        until = time.monotonic() + 1.1
        while time.monotonic() < until:
            assert sock.recv(2**20)
            time.sleep(0.05)
        assert -1 not in sent


def test_without_that_patience_it_would_be_held() -> None:
    """The red control."""
    sent: list[int] = []
    with flowing(60, sent) as client, connected(client, GET):
        assert not settled(sent, 0.8)
