"""What a daemon, or what stands between it and a client, does on a bad day: one name, one function, one line each.

A fault takes over one request and writes its bytes by hand. Where it breaks off an answer, the answer has begun with
two sound pieces, so that a client can show what it keeps.
"""

from __future__ import annotations

import functools
import inspect
import zlib

from orchestra.standin.encoding import encoded
from orchestra.standin.framings import BEGINNING, FRAMINGS, Fault, begin, end, event
from orchestra.standin.link import JSON, LINES, Link
from orchestra.standin.refusal import BUSY, CRASH

__all__ = ["BEGINNING", "BOMB", "FAULTS", "Fault", "takes_place"]

FAULTS: dict[str, Fault] = {}
LONGEST_STALL = 600.0
SLOW = 0.05
MOST_BYTES = 256 * 2**20
BOMB = 512 * 2**20
DEPTH = 200_000


def takes_place(fault: str) -> bool:
    """Whether a fault happens at a byte that may be chosen."""
    return "at" in inspect.signature(FAULTS[fault]).parameters


def _fault(function: Fault) -> Fault:
    FAULTS[function.__name__] = function
    return function


def _odd_line(link: Link, line: bytes) -> None:
    """A line in the middle of an otherwise sound answer."""
    begin(link)
    link.chunk(line + b"\n")
    end(link)
    link.close()


def _html(title: str) -> bytes:
    return f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\n".encode()


# --- before an answer begins


@_fault
def reset_before_headers(link: Link) -> None:
    """The connection is reset before anything is answered."""
    link.reset()


@_fault
def close_before_headers(link: Link) -> None:
    """The connection is closed, politely, before anything is answered."""
    link.hang_up()


@_fault
def not_http(link: Link) -> None:
    """Something answers that does not speak HTTP."""
    link.raw(b"SSH-2.0-OpenSSH_9.6\r\n")
    link.hang_up()


@_fault
def html_200(link: Link) -> None:
    """A portal answers 200 with a page of its own."""
    link.whole(200, _html("Please sign in"), "text/html; charset=utf-8")


@_fault
def missing_model(link: Link) -> None:
    """404: the model is not there."""
    link.json({"error": f"model '{(link.exchange.body or {}).get('model', '')}' not found"}, 404)


@_fault
def error_500_json(link: Link) -> None:
    """500 in the daemon's own words, with a terminal escape among them."""
    link.json({"error": "llama-server process has terminated: \x1b[31msignal: killed\x1b[0m"}, 500)


@_fault
def error_500_html(link: Link) -> None:
    """500 with a proxy's page."""
    link.whole(500, _html("500 Internal Server Error"), "text/html")


@_fault
def error_502_empty(link: Link) -> None:
    """502 with nothing in it."""
    link.whole(502)


@_fault
def error_502_html(link: Link) -> None:
    """502 with a proxy's page, as it stands before a daemon that is not there."""
    link.whole(502, _html("502 Bad Gateway"), "text/html")


@_fault
def nested_error(link: Link) -> None:
    """500 whose error is JSON inside a text, as the engine's own errors are handed on."""
    link.json({"error": '{"error":{"code":500,"message":"Compute error.","type":"server_error"}}'}, 500)


@_fault
def foreign_403(link: Link) -> None:
    """403 and nothing in it, as for a Host or an Origin that is not allowed."""
    link.whole(403)


@_fault
def busy_503(link: Link) -> None:
    """503: the queue is full."""
    link.json({"error": BUSY}, 503)


@_fault
def too_many_429(link: Link) -> None:
    """429, to be tried again after one second."""
    link.whole(429, encoded({"error": "too many requests"}), JSON, (("Retry-After", "1"),))


@_fault
def unauthorized_401(link: Link) -> None:
    """401, with the address to sign in at."""
    link.json({"error": "unauthorized", "signin_url": "https://ollama.com/connect?name=standin"}, 401)


@_fault
def redirect_307(link: Link) -> None:
    """307 to a foreign address, which a prompt must not follow."""
    link.whole(307, b"", None, (("Location", "http://elsewhere.invalid/api/chat"),))


@_fault
def stall_before_headers(link: Link) -> None:
    """Nothing at all, for as long as the client waits."""
    link.pause(LONGEST_STALL)


@_fault
def slow_first_token(link: Link) -> None:
    """The first piece is late; all is well after it."""
    link.open()
    link.pause(SLOW)
    begin(link)
    end(link)
    link.close()


@_fault
def huge_header(link: Link) -> None:
    """A response header of 200 kB."""
    link.head(200, ("Content-Type", LINES), ("X-Padding", "x" * 200_000), ("Content-Length", "0"))


# --- an answer that breaks off


@_fault
def reset_mid(link: Link) -> None:
    """The connection is reset in mid-answer."""
    begin(link)
    # Long enough for the pieces to be read: a reset throws away what is still on its way.
    link.pause(0.05)
    link.reset()


@_fault
def cut_mid(link: Link) -> None:
    """The answer ends as HTTP wants it, and without its closing line."""
    begin(link)
    link.close()


@_fault
def empty_200(link: Link) -> None:
    """200 and not one byte."""
    link.close()


@_fault
def bad_json_line(link: Link) -> None:
    """The second line is cut off in the middle of its JSON."""
    link.line(event(link, BEGINNING[0]))
    link.chunk(encoded(event(link, BEGINNING[1]))[:-12] + b"\n")
    link.close()


@_fault
def error_line(link: Link) -> None:
    """An error line in mid-answer."""
    begin(link)
    link.refuse(500, CRASH)


@_fault
def error_object_line(link: Link) -> None:
    """An error line whose error is an object, as some proxies make it."""
    begin(link)
    link.line({"error": {"message": "the engine has stopped", "type": "server_error", "code": 500}})
    link.close()


@_fault
def stall_mid(link: Link) -> None:
    """The answer stands still after two pieces, for as long as the client waits."""
    begin(link)
    link.pause(LONGEST_STALL)


@_fault
def content_length_short(link: Link) -> None:
    """A length is promised and half of it comes."""
    body = encoded(event(link, "The sky is blue.", done=True, done_reason="stop"))
    link.head(200, ("Content-Type", JSON), ("Content-Length", str(len(body))))
    link.raw(body[: len(body) // 2])
    link.hang_up()


# --- lines that are no answer's


@_fault
def huge_line(link: Link) -> None:
    """A line that does not end, for as long as it is read."""
    begin(link)
    link.chunk(b'{"model":"llama3","response":"')
    block = b"a" * 65536
    for _ in range(MOST_BYTES // len(block)):
        link.chunk(block)
    link.hang_up()


@_fault
def array_line(link: Link) -> None:
    """A line that is a JSON array."""
    _odd_line(link, b"[1,2,3]")


@_fault
def null_line(link: Link) -> None:
    """A line that is null."""
    _odd_line(link, b"null")


@_fault
def number_line(link: Link) -> None:
    """A line that is a number."""
    _odd_line(link, b"42")


@_fault
def string_line(link: Link) -> None:
    """A line that is a text."""
    _odd_line(link, b'"The sky is blue."')


@_fault
def sse(link: Link) -> None:
    """Server-sent events, as under the OpenAI path."""
    link.open(200, "text/event-stream")
    for piece in BEGINNING:
        link.chunk(b"data: " + encoded({"choices": [{"delta": {"content": piece}}]}) + b"\n\n")
    link.chunk(b"data: [DONE]\n\n")
    link.close()


@_fault
def deep_json(link: Link) -> None:
    """A line nested 200,000 deep."""
    _odd_line(link, b'{"deep":' * DEPTH + b"1" + b"}" * DEPTH)


# --- answers that are sound apart from one thing


@_fault
def huge_int(link: Link) -> None:
    """The closing line has a counter of 10,000 digits."""
    begin(link)
    closing = encoded(event(link, "", done=True, done_reason="stop", eval_count=0))
    link.chunk(closing.replace(b'"eval_count":0', b'"eval_count":' + b"9" * 10_000) + b"\n")
    link.close()


@_fault
def nan_number(link: Link) -> None:
    """The closing line has counters that are NaN and Infinity, which JSON does not know."""
    begin(link)
    closing = encoded(event(link, "", done=True, done_reason="stop", eval_count=0, eval_duration=1))
    odd = closing.replace(b'"eval_count":0', b'"eval_count":NaN').replace(b'"eval_duration":1', b'"eval_duration":Infinity')
    link.chunk(odd + b"\n")
    link.close()


@_fault
def raw_u0085_u2028(link: Link) -> None:
    """The text holds U+0085 and U+2028 unescaped: line ends to some readers, and none in JSON lines."""
    begin(link)
    piece = encoded(event(link, " blue@and#wide")).replace(b"@", "\x85".encode()).replace(b"#", "\u2028".encode())
    link.chunk(piece + b"\n")
    end(link)
    link.close()


@_fault
def bad_utf8(link: Link) -> None:
    """The text holds bytes that are no UTF-8."""
    begin(link)
    link.chunk(encoded(event(link, " blue@")).replace(b"@", b"\xff\xfe\xe4") + b"\n")
    end(link)
    link.close()


@_fault
def lone_surrogate(link: Link) -> None:
    """The text holds half of a surrogate pair, escaped."""
    begin(link)
    link.chunk(encoded(event(link, " blue@")).replace(b"@", b"\\ud83d") + b"\n")
    end(link)
    link.close()


@_fault
def text_after_done(link: Link) -> None:
    """Text goes on after the closing line."""
    begin(link)
    end(link)
    link.line(event(link, " and more"))
    link.close()


@_fault
def done_twice(link: Link) -> None:
    """Two closing lines, with different counts."""
    begin(link)
    end(link)
    end(link, eval_count=99)
    link.close()


@_fault
def negative_counters(link: Link) -> None:
    """The closing line counts below zero."""
    begin(link)
    end(link, prompt_eval_count=-1, eval_count=-2, eval_duration=-3, total_duration=-4)
    link.close()


@_fault
def blank_lines_crlf(link: Link) -> None:
    """Lines end with CR LF, and there are empty ones between them."""
    link.open()
    for piece in BEGINNING:
        link.chunk(encoded(event(link, piece)) + b"\r\n\r\n")
    link.chunk(b"\n")
    end(link)
    link.close()


@_fault
def gzip_bomb(link: Link) -> None:
    """A compressed answer that nobody asked for: half a megabyte on the wire, 512 MiB when unpacked."""
    body = _bomb()
    link.head(200, ("Content-Type", LINES), ("Content-Encoding", "gzip"), ("Content-Length", str(len(body))))
    link.raw(body)


@functools.cache
def _bomb() -> bytes:
    """A gzip stream of one endless line. Its blocks are all the same, so only one of them is ever compressed."""
    block = b" " * 2**20
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    crc = 0
    for _ in range(BOMB // len(block)):
        crc = zlib.crc32(block, crc)
    end = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS).flush()
    header = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"
    return header + packed * (BOMB // len(block)) + end + crc.to_bytes(4, "little") + (BOMB % 2**32).to_bytes(4, "little")


FAULTS.update(FRAMINGS)
