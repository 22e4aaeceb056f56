"""The parts of the stand-in one by one: pieces, templates, names, bodies, doors - and that its guards can fail."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from orchestra.standin import StandIn, versions
from orchestra.standin.access import foreign_host, foreign_origin
from orchestra.standin.decoding import duration, read
from orchestra.standin.encoding import compact, stamp, stamp_in
from orchestra.standin.engine import Token
from orchestra.standin.link import ClientGone, Exchange, Link
from orchestra.standin.names import parse
from orchestra.standin.pieces import Chunk, Pieces
from orchestra.standin.refusal import Refusal
from orchestra.standin.script import Scripted
from orchestra.standin.template import PLAIN, Template, native
from orchestra.standin.weights import LLAMA3_TEMPLATE


def pushed(*data: bytes, stops: tuple[str, ...] = (), logprobs: bool = False, top: int = 0) -> list[Chunk | None]:
    """What `Pieces` gives for each token, and at last what it still held."""
    held = Pieces(stops, logprobs=logprobs, top=top)
    tokens = [Token(7, each, -float(n), ((7, each, -float(n)), (1, b"", -9.0))) for n, each in enumerate(data, 1)]
    return [*(held.push(token) for token in tokens), held.flush()]


def texts(chunks: list[Chunk | None]) -> list[str | None]:
    """Only the texts."""
    return [chunk and chunk.text for chunk in chunks]


# --- pieces


def test_a_character_is_sent_when_it_is_whole() -> None:
    first, second = "很好".encode()[:2], "很好".encode()[2:]
    assert texts(pushed(first, second)) == [None, "很好", None]
    assert texts(pushed("很".encode(), "好".encode())) == ["很", "好", None]


def test_what_is_cut_inside_a_character_is_dropped() -> None:
    assert texts(pushed("很".encode(), "好".encode()[:2])) == ["很", None, None]


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert texts(pushed(b"a\xff", b"b")) == ["a\ufffd", "b", None]


def test_one_entry_a_piece_with_the_last_tokens_logprob() -> None:
    (_, chunk, _) = pushed(b"\xe5", b"\xbe\x88", logprobs=True, top=2)
    assert chunk is not None
    (entry,) = chunk.logprobs
    assert (entry["token"], entry["logprob"], entry["bytes"]) == ("很", -2.0, [229, 190, 136])
    halves, control = entry["top_logprobs"]
    assert set(halves["token"]) == {"\ufffd"}
    assert control == {"token": "", "logprob": -9.0}


def test_no_entry_for_what_ends_the_answer() -> None:
    chunk = pushed(b"a", b" b:", stops=(":",), logprobs=True)[1]
    assert chunk == Chunk(" b", [])


def test_the_earliest_stop_counts() -> None:
    assert texts(pushed(b"one two three", stops=("three", "two")))[0] == "one "


def test_a_script_is_cut_into_words_and_han_characters() -> None:
    said = [token.data.decode() for token in Scripted("Hello, 世界 and  more\n").tokens()]
    assert said == ["Hello,", " 世", "界", " and", "  more", "\n", ""]
    assert "".join(said) == "Hello, 世界 and  more\n"


# --- templates, names


def turns(*said: tuple[str, str]) -> list[dict[str, str]]:
    """Messages."""
    return [{"role": role, "content": content} for role, content in said]


def test_a_template_with_branches_and_trimming() -> None:
    template = Template("{{- if .System }}<{{ .System }}>\n{{- else }}-{{ end -}}\n {{ .Prompt }}!")
    assert template.render(turns(("user", "u"))) == "-u!"
    assert template.render(turns(("system", "s"), ("user", "u"))) == "<s>u!"


@pytest.mark.parametrize("source", ["{{ .System", "{{ if .System }}x", "{{ foo .System }}", "{{ end }}"])
def test_a_template_that_cannot_be_read(source: str) -> None:
    with pytest.raises(Refusal) as refusal:
        Template(source)
    assert refusal.value.status == 500


def test_llama3_forgets_tools_and_leaves_an_empty_answer_before_a_second_system() -> None:
    llama3 = Template(LLAMA3_TEMPLATE)
    assert "12:00" not in llama3.render(turns(("user", "u"), ("tool", "12:00")))
    assert "assistant<|end_header_id|>\n\n<|eot_id|>" in llama3.render(turns(("user", "a"), ("system", "b"), ("user", "c")))
    assert Template(PLAIN).render(turns(("system", "s"), ("user", "u1"), ("assistant", "a"), ("user", "u2"))) == "u1au2"
    assert "12:00" in native(turns(("user", "u"), ("tool", "12:00")))


@pytest.mark.parametrize(
    ("text", "short", "full"),
    [
        ("llama3", "llama3:latest", "registry.ollama.ai/library/llama3:latest"),
        ("llama3:text", "llama3:text", "registry.ollama.ai/library/llama3:text"),
        ("me/mine:v1", "me/mine:v1", "registry.ollama.ai/me/mine:v1"),
        ("host:9/ns/m", "host:9/ns/m:latest", "host:9/ns/m:latest"),
    ],
)
def test_names_and_their_parts(text: str, short: str, full: str) -> None:
    assert (parse(text).short, parse(text).full) == (short, full)
    assert parse(text.upper()).key == parse(text).key


@pytest.mark.parametrize("text", ["bad name", "a/b/c/d", "", "..", "a:", "x" * 81, "a\n"])
def test_names_that_are_not_allowed(text: str) -> None:
    with pytest.raises(Refusal, match="invalid model name"):
        parse(text)


# --- bodies


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"  \n", "missing request body"),
        (b'{"model"', "unexpected EOF"),
        (b'{"model": "a', "unexpected EOF"),
        (b"{model: 1}", "invalid character 'm' looking for beginning of object key string"),
        (b'{"model" 1}', "invalid character '1' after object key"),
        (b'{"model": x}', "invalid character 'x' looking for beginning of value"),
        (b'{"model": NaN}', "invalid character 'N' looking for beginning of value"),
        (b'{"model": 1 2}', "invalid character '2' after object key:value pair"),
        (b'{"model": "a\nb"}', "invalid character '\\n' in string literal"),
        (b'{"model": 1}', "json: cannot unmarshal number into Go struct field GenerateRequest.model of type string"),
        (b'{"num": ' + b"[" * 100_000, "exceeded max depth"),
        (b'{"num": ' + b"9" * 5000 + b"}", "json: cannot unmarshal number into Go value"),
        (b'{"context": "x"}', "json: cannot unmarshal string into Go struct field GenerateRequest.context of type []int"),
        (b'{"think": "hard"}', "invalid think value: 'hard' (must be \"high\", \"medium\", \"low\", \"max\", true, or false)"),
    ],
)
def test_bodies_that_cannot_be_read(raw: bytes, error: str) -> None:
    with pytest.raises(Refusal) as refusal:
        read(raw, "GenerateRequest")
    assert (refusal.value.status, refusal.value.error) == (400, error)


def test_bodies_are_read_generously() -> None:
    body = read(b'{"MODEL": "m", "Prompt": "\\ud800\xff", "unknown": 1, "system": null} trailing', "GenerateRequest")
    assert body == {"model": "m", "prompt": "\ufffd\ufffd"}
    assert read(b"null", "ChatRequest") == {}


@pytest.mark.parametrize(
    ("given", "seconds"), [(30, 30), (0, 0), (-1, -1), ("5m", 300), ("1h30m", 5400), ("-1m", -1), ("0", 0), ("1.5s", 1.5), ("10ms", 0.01)]
)
def test_durations(given: Any, seconds: float) -> None:
    assert duration(given) == pytest.approx(seconds)


@pytest.mark.parametrize(("given", "error"), [("300", "missing unit"), ("soon", "invalid"), ("", "invalid"), (True, "Unsupported type")])
def test_durations_that_are_none(given: Any, error: str) -> None:
    with pytest.raises(Refusal, match=error):
        duration(given)


def test_json_and_times_as_go_writes_them() -> None:
    assert compact({"a": "<&>\u2028\x85"}) == '{"a":"\\u003c\\u0026\\u003e\\u2028\x85"}'
    assert stamp(1_500_000_000) == "1970-01-01T00:00:01.5Z"
    assert stamp(2 * 10**9) == "1970-01-01T00:00:02Z"
    assert stamp_in(-1).startswith("23")


# --- doors


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:11434", "[::1]:1", "10.0.0.7", "0.0.0.0", "box.local:1", "a.internal", ""])
def test_hosts_of_this_machine(host: str) -> None:
    assert not foreign_host({"Host": host})


@pytest.mark.parametrize("host", ["evil.example", "ollama:11434", "8.8.8.8", "local", "localhost.evil.example"])
def test_hosts_of_others(host: str) -> None:
    assert foreign_host({"Host": host})


def test_origins() -> None:
    for origin in ("http://localhost:3000", "https://127.0.0.1", "app://x", "http://me.example"):
        assert not foreign_origin({"Origin": origin, "Host": "me.example"})
    for origin in ("null", "http://evil.example", "http://localhost.evil.example", "http://192.168.1.5:3000"):
        assert foreign_origin({"Origin": origin, "Host": "me.example"})


# --- connections

GENERATE = b'POST /api/generate HTTP/1.1\r\nContent-Length: 34\r\n\r\n{"model": "llama3", "prompt": "x"}'


def talk(daemon: StandIn, sent: bytes, *, until: bytes) -> bytes:
    """Send bytes, and read until the answer holds something."""
    with socket.create_connection(("127.0.0.1", int(daemon.url.rpartition(":")[2])), timeout=5) as connection:
        connection.sendall(sent)
        answer = b""
        while until not in answer:
            part = connection.recv(65536)
            assert part, answer
            answer += part
        return answer


def test_a_connection_serves_several_requests(standin: StandIn) -> None:
    get = b"GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = talk(standin, get + get + get.replace(b"version", b"nothing"), until=b"404 page not found")
    assert answer.count(b'{"version":"0.32.15"}') == 2


def test_a_pipelined_request_is_not_a_client_that_left(standin: StandIn) -> None:
    standin.script("one two three four")
    answer = talk(standin, GENERATE + b"GET / HTTP/1.1\r\n\r\n", until=b"Ollama is running")
    assert b'"done_reason":"stop"' in answer


def test_a_chunked_body_is_read(standin: StandIn) -> None:
    head = b"POST /api/show HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert b"404" in talk(standin, head + b'b\r\n{"model": "\r\n4;x=y\r\nno"}\r\n0\r\n\r\n', until=b"not found")
    assert standin.asked("/api/show") == [{"model": "no"}]


@pytest.mark.parametrize("head", [b"Content-Length: many", b"Transfer-Encoding: chunked\r\n\r\nzz"])
def test_a_length_that_is_no_number_is_a_bad_request(standin: StandIn, head: bytes) -> None:
    assert b"400" in talk(standin, b"POST /api/show HTTP/1.1\r\n" + head + b"\r\n\r\n", until=b"400")


# --- guards that can fail


def begun(daemon: StandIn) -> socket.socket:
    """A connection whose generation runs."""
    connection = socket.create_connection(("127.0.0.1", int(daemon.url.rpartition(":")[2])), timeout=5)
    connection.sendall(GENERATE)
    answer = b""
    while b'"response"' not in answer:
        answer += connection.recv(65536)
    return connection


@pytest.mark.parametrize("looking", [True, False])
def test_without_looking_at_the_client_nobody_would_be_seen_to_leave(looking: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not looking:
        monkeypatch.setattr(Link, "gone", lambda self: False)
        monkeypatch.setattr(Link, "pause", lambda self, seconds: time.sleep(seconds))
    with StandIn([["a", *[""] * 30]], pace=0.01) as daemon:
        begun(daemon).close()
        time.sleep(0.06)
        assert daemon.active == (0 if looking else 1)


@pytest.mark.parametrize(("most", "whole"), [(versions.MOST_EQUAL, False), (1000, True)])
def test_without_the_loop_breaker_a_circle_would_end_well(most: int, whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "MOST_EQUAL", most)
    with StandIn([["x"] * 40]) as daemon:
        answer = talk(daemon, GENERATE, until=b"\r\n0\r\n\r\n")
    assert (b'"done":true' in answer) is whole


def test_a_fault_of_the_stand_in_itself_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Any] = []
    monkeypatch.setattr("threading.excepthook", heard.append)
    monkeypatch.setattr("orchestra.standin.daemon.respond", lambda house, link: 1 / 0)
    with StandIn() as daemon, pytest.raises(AssertionError):
        talk(daemon, b"GET / HTTP/1.1\r\n\r\n", until=b"never")
    assert [each.exc_type for each in heard] == [ZeroDivisionError]


def test_a_stopped_daemon_lets_nobody_wait() -> None:
    near, far = socket.socketpair()
    with near, far:
        stopping = threading.Event()
        link = Link(near, Exchange("GET", "/", {}, None, b""), stopping)
        assert not link.gone()
        stopping.set()
        with pytest.raises(ClientGone):
            link.pause(10)


# --- the package


def test_the_fixture_fails_a_test_that_leaves_replies_over(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "from orchestra.standin.plugin import standin\n"
        "def test_used(standin):\n    assert standin.url.startswith('http://127.0.0.1:')\n"
        "def test_left_over(standin):\n    standin.script('never asked')\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)]
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    root = Path(__file__).parent.parent
    ran = subprocess.run(command, cwd=root, env=alone, capture_output=True, text=True, timeout=30, check=False)
    assert "2 passed, 1 error" in ran.stdout, ran.stdout
    assert "StandInFault" in ran.stdout


def test_the_package_is_cheap_to_import() -> None:
    code = "import json, sys, orchestra.standin; print(json.dumps([m for m in sys.modules if 'standin.' in m or m == 'http.server']))"
    root = Path(__file__).parent.parent
    ran = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=30, check=True)
    assert json.loads(ran.stdout) == []
