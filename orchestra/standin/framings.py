"""One short answer in many framings: HTTP lets a sender cut a stream wherever it likes, and a connection may end anywhere.

The daemon itself sends a line a chunk; what stands between it and a client need not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from orchestra.standin.encoding import encoded, stamp
from orchestra.standin.link import LINES, Link

Fault = Callable[..., None]
FRAMINGS: dict[str, Fault] = {}
BEGINNING = ("The sky", " is")
WHOLE = (*BEGINNING, " blue: 蓝色😀")
"""The pieces of an answer that is sound but for its framing; some of its characters have three bytes, or four."""

SEVERAL = 37
HALFWAY = 150
"""A byte in the second line."""

STALL = 600.0


def event(link: Link, text: str, *, done: bool = False, **rest: Any) -> dict[str, Any]:
    """One event of an answer to the request."""
    body = link.exchange.body or {}
    chat = link.exchange.path.startswith("/api/chat")
    said = {"message": {"role": "assistant", "content": text}} if chat else {"response": text}
    return {"model": body.get("model", "llama3"), "created_at": stamp(), **said, "done": done, **rest}


def begin(link: Link) -> None:
    """The beginning of an answer, as the daemon sends it."""
    for piece in BEGINNING:
        link.line(event(link, piece))


def closing(link: Link, **rest: Any) -> dict[str, Any]:
    """The last event of an answer; `rest` replaces its counts."""
    counts = {
        "total_duration": 1_500_000, "load_duration": 1_000_000, "prompt_eval_count": 5,
        "prompt_eval_duration": 200_000, "eval_count": 3, "eval_duration": 300_000,
    }  # fmt: skip
    return event(link, "", done=True, done_reason="stop", **{**counts, **rest})


def end(link: Link, **rest: Any) -> None:
    """The closing line; `rest` replaces its counts."""
    link.line(closing(link, **rest))


def _framing(function: Fault) -> Fault:
    FRAMINGS[function.__name__] = function
    return function


def _body(link: Link) -> bytes:
    events = [*(event(link, piece) for piece in WHOLE), closing(link)]
    return b"".join(encoded(each) + b"\n" for each in events)


def _send(link: Link, parts: Iterable[bytes]) -> None:
    link.open()
    for part in parts:
        if part:
            link.chunk(part)
    link.close()


@_framing
def bytes_apart(link: Link) -> None:
    """A sound answer, each byte in a chunk of its own."""
    _send(link, (bytes([byte]) for byte in _body(link)))


@_framing
def one_chunk(link: Link) -> None:
    """A sound answer, all lines in one chunk."""
    _send(link, [_body(link)])


@_framing
def odd_chunks(link: Link) -> None:
    """A sound answer, in chunks that end anywhere in a line."""
    body = _body(link)
    _send(link, (body[start : start + SEVERAL] for start in range(0, len(body), SEVERAL)))


@_framing
def split_at_byte(link: Link, at: int = HALFWAY) -> None:
    """A sound answer in two chunks, cut after `at` bytes."""
    body = _body(link)
    _send(link, [body[:at], body[at:]])


@_framing
def drop_at_byte(link: Link, at: int = HALFWAY) -> None:
    """The connection ends after `at` bytes of a sound answer."""
    link.open()
    if at:
        link.chunk(_body(link)[:at])
    link.hang_up()


@_framing
def bom_first(link: Link) -> None:
    """A sound answer after a byte order mark."""
    _send(link, [b"\xef\xbb\xbf", _body(link)])


@_framing
def bad_chunk_size(link: Link) -> None:
    """After two sound pieces, a chunk whose size is no number."""
    begin(link)
    link.raw(b"zz\r\n{}\r\n")
    link.hang_up()


@_framing
def stall_after_done(link: Link) -> None:
    """A sound answer whose stream is not ended after its closing line."""
    link.open(200, LINES)
    link.chunk(_body(link))
    link.pause(STALL)
