"""Each fault of the stand-in, at the level of bytes: a fault that is not what it says tests nothing."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
import zlib
from typing import Any

import pytest

from orchestra.errors import StandInFault
from orchestra.standin import StandIn
from orchestra.standin.faults import BEGINNING, BOMB, FAULTS, SLOW
from orchestra.standin.framings import HALFWAY, SEVERAL, WHOLE

BODY = {"model": "llama3", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}
STREAM = b"HTTP/1.1 200 OK\r\n"
RESET = "reset"
OPEN = "open"


def connected(daemon: StandIn, body: dict[str, Any] = BODY, path: str = "/api/chat") -> socket.socket:
    """A connection on which a chat was asked for."""
    content = json.dumps(body).encode()
    connection = socket.create_connection(("127.0.0.1", int(daemon.url.rpartition(":")[2])), timeout=10)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(content)}\r\n\r\n"
    connection.sendall(head.encode() + content)
    return connection


def received(daemon: StandIn, most: int = 2**24, patience: float = 5) -> tuple[bytes, str]:
    """All bytes of an answer, and what the connection was afterwards: closed (""), `RESET` or still `OPEN`."""
    found = b""
    with connected(daemon) as connection:
        connection.settimeout(patience)
        try:
            while len(found) < most:
                part = connection.recv(2**20)
                if not part:
                    return found, ""
                found += part
        except ConnectionResetError:
            return found, RESET
        except TimeoutError:
            return found, OPEN
    return found, ""


def unchunked(answer: bytes) -> tuple[bytes, bool]:
    """The body of a chunked answer, and whether it was ended as HTTP wants it."""
    rest, body = answer.partition(b"\r\n\r\n")[2], b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        if int(size, 16) == 0:
            return body, True
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return body, False


def faulty(fault: str, **limits: Any) -> tuple[bytes, str]:
    """The answer to a chat that meets a fault."""
    with StandIn() as daemon:
        daemon.fail(fault)
        return received(daemon, **limits)


def lines(fault: str) -> tuple[list[bytes], bool]:
    """The raw lines of a streamed fault, and whether the stream was ended as HTTP wants it."""
    answer, _ = faulty(fault)
    assert answer.startswith(STREAM)
    body, ended = unchunked(answer)
    return body.split(b"\n")[:-1] if body.endswith(b"\n") else body.split(b"\n"), ended


def said(raw: list[bytes]) -> list[str]:
    """The texts of the sound lines."""
    texts = []
    for line in raw:
        with contextlib.suppress(ValueError, TypeError, KeyError):
            texts.append(json.loads(line)["message"]["content"])
    return texts


def test_without_a_fault_the_answer_is_sound() -> None:
    with StandIn(["The sky is blue."]) as daemon:
        answer, _ = received(daemon)
    body, ended = unchunked(answer)
    assert ended
    assert json.loads(body.splitlines()[-1])["done_reason"] == "stop"


def test_every_fault_has_a_line_of_explanation_and_a_test() -> None:
    with open(__file__, encoding="utf-8") as source:
        tested = source.read()
    for name, function in FAULTS.items():
        assert function.__doc__
        assert f'"{name}"' in tested, f"{name} is not tested"


def test_a_fault_meets_the_next_inference_requests_and_no_others() -> None:
    with StandIn(["sound"]) as daemon:
        daemon.fail("busy_503", times=2)
        daemon.fail("error_502_empty", path="/api/tags")
        expected: list[tuple[str, dict[str, Any], bytes]] = [
            ("/api/show", {"model": "llama3"}, b"200"),
            ("/api/generate", {"model": "llama3", "prompt": ""}, b"200"),
            ("/api/chat", BODY, b"503"),
            ("/api/generate", {"model": "llama3", "prompt": "x"}, b"503"),
            ("/api/chat", BODY, b"200"),
            ("/api/tags", {}, b"502"),
            ("/api/tags", {}, b"405"),
        ]
        for path, body, status in expected:
            with connected(daemon, body, path) as connection:
                assert connection.recv(4096).split(b" ")[1] == status, path


def test_an_unknown_fault_is_refused() -> None:
    with StandIn() as daemon, pytest.raises(StandInFault, match="bad_luck"):
        daemon.fail("bad_luck")


# --- before an answer


@pytest.mark.parametrize(
    ("fault", "answer", "after"),
    [
        ("reset_before_headers", b"", RESET),
        ("close_before_headers", b"", ""),
        ("not_http", b"SSH-2.0-OpenSSH_9.6\r\n", ""),
        ("stall_before_headers", b"", OPEN),
    ],
)
def test_faults_before_the_headers(fault: str, answer: bytes, after: str) -> None:
    assert faulty(fault, patience=0.1) == (answer, after)


@pytest.mark.parametrize(
    ("fault", "status", "holds"),
    [
        ("html_200", 200, b"<html>"),
        ("missing_model", 404, b"model 'llama3' not found"),
        ("error_500_json", 500, b'{"error":"llama-server process has terminated: \\u001b[31m'),
        ("error_500_html", 500, b"<html>"),
        ("error_502_empty", 502, b"Content-Length: 0\r\n\r\n"),
        ("error_502_html", 502, b"<h1>502 Bad Gateway</h1>"),
        ("nested_error", 500, b'{"error":"{\\"error\\":{\\"code\\":500,'),
        ("foreign_403", 403, b"Content-Length: 0\r\n\r\n"),
        ("busy_503", 503, b"please try again.  maximum"),
        ("too_many_429", 429, b"Retry-After: 1\r\n"),
        ("unauthorized_401", 401, b"signin_url"),
        ("redirect_307", 307, b"Location: http://elsewhere.invalid/api/chat\r\n"),
    ],
)
def test_whole_answers_that_are_no_answers(fault: str, status: int, holds: bytes) -> None:
    answer, _ = faulty(fault)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert holds in answer


def test_html_says_that_it_is_html() -> None:
    assert b"Content-Type: text/html" in faulty("html_200")[0]


def test_a_huge_header() -> None:
    assert len(faulty("huge_header")[0].partition(b"\r\n\r\n")[0]) > 200_000


def test_a_first_piece_that_is_late() -> None:
    began = time.monotonic()
    answer, _ = faulty("slow_first_token")
    assert time.monotonic() - began >= SLOW
    assert said(unchunked(answer)[0].splitlines()) == [*BEGINNING, ""]


# --- answers that break off


def test_a_reset_in_mid_answer() -> None:
    answer, after = faulty("reset_mid")
    body, ended = unchunked(answer)
    assert (said(body.splitlines()), ended, after) == ([*BEGINNING], False, RESET)


@pytest.mark.parametrize(("fault", "texts"), [("cut_mid", [*BEGINNING]), ("empty_200", [])])
def test_a_clean_end_without_a_closing_line(fault: str, texts: list[str]) -> None:
    raw, ended = lines(fault)
    assert (said(raw), ended) == (texts, True)
    assert b'"done":true' not in b"".join(raw)


def test_a_stall_in_mid_answer() -> None:
    answer, after = faulty("stall_mid", patience=0.1)
    assert (said(unchunked(answer)[0].splitlines()), after) == ([*BEGINNING], OPEN)


def test_a_stalled_client_that_leaves_is_let_go() -> None:
    daemon = StandIn().start()
    daemon.fail("stall_mid")
    with connected(daemon) as connection:
        connection.recv(100)
    began = time.monotonic()
    daemon.stop()
    assert time.monotonic() - began < 1


def test_a_line_that_is_cut() -> None:
    raw, ended = lines("bad_json_line")
    assert (said(raw), ended) == ([BEGINNING[0]], True)
    with pytest.raises(ValueError, match=r"delimiter|Unterminated|value"):
        json.loads(raw[1])


@pytest.mark.parametrize(("fault", "kind"), [("error_line", str), ("error_object_line", dict)])
def test_an_error_in_mid_answer(fault: str, kind: type) -> None:
    raw, ended = lines(fault)
    assert (said(raw), ended) == ([*BEGINNING], True)
    assert isinstance(json.loads(raw[-1])["error"], kind)


def test_a_length_that_is_not_kept() -> None:
    answer, after = faulty("content_length_short")
    head, _, body = answer.partition(b"\r\n\r\n")
    promised = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
    assert (len(body), after) == (promised // 2, "")


def test_a_chunk_without_a_size() -> None:
    answer, after = faulty("bad_chunk_size")
    assert (answer.endswith(b"\r\nzz\r\n{}\r\n"), after) == (True, "")


@pytest.mark.parametrize("at", [0, 1, HALFWAY, 200, 10_000])
def test_a_connection_that_drops_at_a_byte(at: int) -> None:
    with StandIn() as daemon:
        daemon.fail("drop_at_byte", at=at)
        answer, after = received(daemon)
    body, ended = unchunked(answer)
    assert (ended, after) == (False, "")
    assert len(body) == at or (at > 400 and said(body.splitlines())[: len(WHOLE)] == [*WHOLE])


# --- framings


def framed(fault: str, **fail: Any) -> list[bytes]:
    """The chunks of a sound answer, which is checked."""
    with StandIn() as daemon:
        daemon.fail(fault, **fail)
        answer, _ = received(daemon)
    body, ended = unchunked(answer)
    assert (said(body.removeprefix(b"\xef\xbb\xbf").splitlines()), ended) == ([*WHOLE, ""], True)
    chunks, rest = [], answer.partition(b"\r\n\r\n")[2]
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        chunks.append(rest[: int(size, 16)])
        rest = rest[int(size, 16) + 2 :]
    return chunks[:-1]


def test_framings_are_what_they_say() -> None:
    assert {len(chunk) for chunk in framed("bytes_apart")} == {1}
    assert len(framed("one_chunk")) == 1
    assert {len(chunk) for chunk in framed("odd_chunks")[:-1]} == {SEVERAL}
    assert framed("bom_first")[0] == b"\xef\xbb\xbf"
    for at in (1, HALFWAY, 333):
        assert [len(framed("split_at_byte", at=at)[0]), len(framed("split_at_byte", at=at))] == [at, 2]
    assert len(framed("split_at_byte", at=0)) == 1


def test_a_stream_that_is_not_ended_after_its_last_line() -> None:
    answer, after = faulty("stall_after_done", patience=0.1)
    body, ended = unchunked(answer)
    assert (json.loads(body.splitlines()[-1])["done"], ended, after) == (True, False, OPEN)


def test_a_byte_can_be_chosen_only_where_there_is_one() -> None:
    with StandIn() as daemon, pytest.raises(StandInFault, match="cut_mid"):
        daemon.fail("cut_mid", at=3)


# --- lines that are no answer's


def test_a_line_without_end() -> None:
    answer, _ = faulty("huge_line", most=2**23)
    longest = max(len(line) for line in unchunked(answer)[0].split(b"\n"))
    assert longest > 7 * 2**20


@pytest.mark.parametrize(("fault", "value"), [("array_line", [1, 2, 3]), ("null_line", None), ("number_line", 42), ("string_line", "The sky is blue.")])
def test_a_line_that_is_no_object(fault: str, value: Any) -> None:
    raw, _ = lines(fault)
    assert json.loads(raw[2]) == value
    assert json.loads(raw[3])["done"] is True


def test_server_sent_events() -> None:
    answer, _ = faulty("sse")
    assert b"Content-Type: text/event-stream" in answer
    assert unchunked(answer)[0].startswith(b"data: {")


def test_a_line_too_deep() -> None:
    raw, _ = lines("deep_json")
    assert raw[2].count(b"{") == 200_000
    with pytest.raises(RecursionError):
        json.loads(raw[2])


# --- answers that are sound apart from one thing


def test_numbers_that_no_program_holds() -> None:
    assert b'"eval_count":' + b"9" * 10_000 in lines("huge_int")[0][-1]
    odd = lines("nan_number")[0][-1]
    assert b'"eval_count":NaN' in odd
    assert b'"eval_duration":Infinity' in odd


def test_characters_that_break_readers() -> None:
    raw = lines("raw_u0085_u2028")[0]
    assert said(raw)[2] == " blue\x85and\u2028wide"
    assert "\u2028".encode() in raw[2]
    with pytest.raises(UnicodeDecodeError):
        lines("bad_utf8")[0][2].decode()
    assert b"\\ud83d" in lines("lone_surrogate")[0][2]


def test_what_comes_after_the_end() -> None:
    assert [json.loads(line)["done"] for line in lines("text_after_done")[0]] == [False, False, True, False]
    twice = [json.loads(line) for line in lines("done_twice")[0]]
    assert [line.get("eval_count") for line in twice] == [None, None, 3, 99]


def test_counters_below_zero() -> None:
    last = json.loads(lines("negative_counters")[0][-1])
    assert (last["done"], last["eval_count"], last["prompt_eval_count"]) == (True, -2, -1)


def test_blank_lines_and_crlf() -> None:
    raw = lines("blank_lines_crlf")[0]
    assert raw[0].endswith(b"\r")
    assert b"\r" in raw
    assert json.loads(raw[-1])["done"] is True


def test_a_bomb_is_small_on_the_wire_and_large_inside() -> None:
    answer, _ = faulty("gzip_bomb")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Content-Encoding: gzip" in head
    assert len(body) < 2**20
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
    assert len(unpacker.decompress(body, 2**22)) == 2**22
    assert struct.unpack("<I", body[-4:])[0] == BOMB


@pytest.mark.slow
def test_the_bomb_is_a_whole_gzip_stream() -> None:
    answer, _ = faulty("gzip_bomb")
    unpacker, size, rest = zlib.decompressobj(zlib.MAX_WBITS | 16), 0, answer.partition(b"\r\n\r\n")[2]
    while rest and not unpacker.eof:
        size += len(unpacker.decompress(rest, 2**22))
        rest = unpacker.unconsumed_tail
    assert (unpacker.eof, size) == (True, BOMB)
