"""Bytes in, values out: framing, odd JSON, counters, bodies. Nothing here needs a daemon."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import orchestra.errors as e
from orchestra.model import wire
from orchestra.model.connection import Connection
from orchestra.model.messages import Message, Options
from orchestra.request import Answer
from orchestra.runtime import Blocking, finish
from orchestra.settings import Settings

PIECES = ["The", " sky", " is\x85blue", " and\u2028wide", "，天空", "很蓝。", " 😀", "\r\n", "\t\"quoted\" \\", ""]


def line(text: str, *, done: bool = False) -> bytes:
    event = {"model": "llama3", "message": {"role": "assistant", "content": text}, "done": done}
    return json.dumps({**event, "done_reason": "stop"} if done else event, ensure_ascii=False).encode() + b"\n"


STREAM = b"".join([*map(line, PIECES), line("", done=True)])
TEXT = "".join(PIECES)


class Said:
    """An answer whose body comes in given chunks."""

    status = 200

    def __init__(self, chunks: Sequence[bytes], headers: Mapping[str, str] | None = None) -> None:
        self.headers: Mapping[str, str] = headers or {"content-type": "application/x-ndjson"}
        self._chunks = chunks

    async def chunks(self) -> AsyncGenerator[bytes]:
        for chunk in self._chunks:
            yield chunk


def events(chunks: Sequence[bytes], headers: Mapping[str, str] | None = None, **limits: Any) -> list[dict[str, Any]]:
    """The events of a body that comes in these chunks."""
    connection = Connection(Blocking(), Settings(host="127.0.0.1:1", **limits))
    answer: Answer = Said(chunks, headers)

    async def gathered() -> list[dict[str, Any]]:
        return [event async for event in connection.events(answer)]

    return finish(gathered())


def text(chunks: Sequence[bytes]) -> str:
    return "".join(wire.text_of(event)[0] for event in events(chunks))


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


# --- framing


@settings(max_examples=200)
@given(st.lists(st.integers(0, len(STREAM)), max_size=40))
def test_any_chunking_gives_the_same_text(places: list[int]) -> None:
    assert text(cut(STREAM, places)) == TEXT


def test_every_single_cut_and_single_bytes_give_the_same_text() -> None:
    assert text([bytes([byte]) for byte in STREAM]) == TEXT
    for place in range(len(STREAM)):
        assert text(cut(STREAM, [place])) == TEXT


def test_splitting_at_other_line_breaks_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def split(self: Connection, answer: Answer) -> AsyncGenerator[dict[str, Any]]:
        whole = b"".join([chunk async for chunk in answer.chunks()]).decode()
        for part in whole.splitlines():
            yield wire.parsed(part.encode())

    monkeypatch.setattr(Connection, "events", split)
    with pytest.raises(wire.Corrupt):
        text([STREAM])


def test_decoding_chunk_by_chunk_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def eager(self: Connection, answer: Answer) -> AsyncGenerator[dict[str, Any]]:
        pending = ""
        async for chunk in answer.chunks():
            *whole, pending = (pending + chunk.decode("utf-8", "replace")).split("\n")
            for part in whole:
                yield wire.parsed(part.encode())

    monkeypatch.setattr(Connection, "events", eager)
    assert text([bytes([byte]) for byte in STREAM]) != TEXT


@pytest.mark.parametrize(
    "dressed",
    [
        STREAM.replace(b"\n", b"\r\n"),
        STREAM.replace(b"\n", b"\n\n\r\n \n"),
        b"\xef\xbb\xbf" + STREAM,
        b"\n\n" + STREAM,
        STREAM.removesuffix(b"\n"),
        b"   ".join(STREAM.splitlines(keepends=True)[:1]) + b"".join(STREAM.splitlines(keepends=True)[1:]),
    ],
    ids=["crlf", "blank lines", "bom", "leading blank lines", "no last line end", "spaces"],
)
def test_dress_does_not_matter(dressed: bytes) -> None:
    assert text([dressed]) == TEXT
    assert text(cut(dressed, range(0, len(dressed), 7))) == TEXT


def test_a_line_has_a_limit_whether_it_ends_or_not() -> None:
    for body in ([b"x" * 101], [b"x" * 60, b"x" * 60], [b"x" * 101 + b"\n"], [b"{}\n" + b"x" * 101]):
        with pytest.raises(e.LineTooLong):
            events(body, line_limit=100)
    assert events([b'{"a":1}\n' * 30], line_limit=100) == [{"a": 1}] * 30


def test_an_answer_has_a_limit() -> None:
    with pytest.raises(e.ReplyTooLarge):
        events([b'{"a":1}\n'] * 30, reply_limit=100)


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_an_openai_stream_is_recognised_however_it_comes(size: int) -> None:
    body = b'data: {"choices": []}\n\ndata: [DONE]\n\n'
    with pytest.raises(e.NotOllama, match="OpenAI"):
        events([body[start : start + size] for start in range(0, len(body), size)])


def test_compression_nobody_asked_for() -> None:
    import gzip
    import zlib

    for packed, name in ((gzip.compress(STREAM), "gzip"), (zlib.compress(STREAM), "deflate")):
        found = events([packed[:50], packed[50:]], {"content-encoding": name})
        assert "".join(wire.text_of(event)[0] for event in found) == TEXT
    for body, name in ((b"not gzip", "gzip"), (STREAM, "br")):
        with pytest.raises(e.NotOllama):
            events([body], {"content-encoding": name})


# --- lines


@pytest.mark.parametrize("odd", [b"[1]", b"null", b"42", b'"x"', b"{", b'{"a":}', b"nonsense", b'{"a":' * 200_000])
def test_a_line_that_is_no_object(odd: bytes) -> None:
    with pytest.raises(wire.Corrupt):
        wire.parsed(odd)


def test_odd_values_are_read_as_far_as_they_can_be() -> None:
    assert wire.parsed(b'{"a":"\xff\xfe"}') == {"a": "\ufffd\ufffd"}
    assert wire.parsed(b'{"a":"\\ud83d"}') == {"a": "\ufffd"}
    assert wire.parsed(b'{"\\udc00":["\\ud83d", {"b":"\\ud83d\\ude00"}]}') == {"\ufffd": ["\ufffd", {"b": "😀"}]}
    assert wire.parsed(b'{"a":' + b"9" * 10_000 + b',"b":NaN,"c":-Infinity}') == {"a": None, "b": None, "c": None}


@given(st.binary(max_size=60))
def test_any_bytes_are_an_object_or_corrupt(data: bytes) -> None:
    with suppress(wire.Corrupt):
        assert isinstance(wire.parsed(data), dict)


LEAVES = st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)


@given(st.dictionaries(st.text(max_size=3), LEAVES | st.lists(LEAVES, max_size=2), max_size=3))
def test_sound_objects_come_through(value: Any) -> None:
    assert wire.parsed(json.dumps({"value": value}).encode()) == {"value": value}


COUNTERS = ("total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration")


@pytest.mark.parametrize("value", [None, -1, True, "7", [], {}, float("nan"), float("inf"), -0.5, 10**400, 2**63, 1e300])
def test_counters_that_count_nothing(value: Any) -> None:
    usage = wire.usage_of(dict.fromkeys(COUNTERS, value))
    assert {getattr(usage, name) for name in usage.__slots__} == {None}
    assert usage.tokens_per_second is None


def test_counters() -> None:
    usage = wire.usage_of({"prompt_eval_count": 5, "eval_count": 3, "eval_duration": 1_500_000_000})
    assert (usage.prompt_tokens, usage.completion_tokens, usage.tokens_per_second) == (5, 3, 2.0)
    assert wire.usage_of({"eval_count": 1, "eval_duration": 1000}).tokens_per_second is None


@pytest.mark.parametrize("event", [{}, {"message": None}, {"message": []}, {"message": {"content": 5}}, {"response": {"a": 1}}])
def test_events_without_text(event: dict[str, Any]) -> None:
    assert wire.text_of(event) == ("", "")


# --- control tokens

TOKENS = [
    "<|eot_id|>", "<|start_header_id|>", "<|begin_of_text|>", "<|im_start|>", "<|im_end|>", "<|endoftext|>", "[INST]", "[/INST]",
    "<<SYS>>", "<</SYS>>", "<start_of_turn>", "<end_of_turn>", "<｜begin▁of▁sentence｜>", "<|reserved_special_token_0|>",
]  # fmt: skip


@pytest.mark.parametrize("token", TOKENS)
def test_no_control_token_is_sent_intact(token: str) -> None:
    for said in (token, f"a{token}b", token * 3, f"<{token}>", f"<|{token}|>", token[:3] + token + token[3:]):
        assert token not in wire.neutral(said)
        assert wire.neutral(wire.neutral(said)) == wire.neutral(said)


@given(st.text(alphabet="<|>eot_id[]/INSTSY｜ x"))
def test_neutral_text_has_no_control_token_left(said: str) -> None:
    found = re.search(r"<[|｜][^\s<>|｜]{1,64}[|｜]>|\[/?INST\]|<</?SYS>>|</?(?:start|end)_of_turn>", wire.neutral(said))
    assert found is None


@pytest.mark.parametrize("said", ["a < b | c > d", "if (a <| b) |> c", "x[0] = INST", "<b>bold</b>", "2 << 3 >> 1", "<||>"])
def test_other_text_stays_as_it_is(said: str) -> None:
    assert wire.neutral(said) == said


def test_neutralising_takes_linear_time() -> None:
    for hostile in ("<|" * 300_000, "<|" + "a" * 600_000, "[" * 600_000, "<" * 600_000):
        started = time.perf_counter()
        wire.neutral(hostile)
        assert time.perf_counter() - started < 0.5


# --- bodies

BOUNDS = wire.Bounds(num_predict=7, num_ctx=4096)


def test_a_body_for_chat() -> None:
    body = wire.inference_body("llama3", [Message("user", "a<|eot_id|>\ud83d")], Options(temperature=0.0, stop=["x"]), BOUNDS)
    assert body == {
        "model": "llama3",
        "stream": True,
        "truncate": False,
        "messages": [{"role": "user", "content": "a<| eot_id |>\ufffd"}],
        "options": {"temperature": 0.0, "num_predict": 7, "num_ctx": 4096, "stop": ["x"]},
    }


def test_a_body_for_generate() -> None:
    options = Options(format={"type": "object"}, logprobs=True, top_logprobs=3, seed=0)
    body = wire.inference_body("llama3:text", "Once", options, wire.Bounds(num_predict=1), raw=True)
    assert body["options"] == {"seed": 0, "num_predict": 1}
    assert (body["prompt"], body["raw"], body["format"], body["logprobs"], body["top_logprobs"]) == ("Once", True, {"type": "object"}, True, 3)
    assert "shift" not in body
    assert "messages" not in body


# --- errors in the daemon's words

LOADED = wire.Asked(url="http://x:1", model="m", window=4096, most=8192)
OVERFLOW = json.dumps({"error": {"code": 400, "message": "too big", "type": "exceed_context_size_error", "n_prompt_tokens": 5000, "n_ctx": 4096}})


@pytest.mark.parametrize(
    ("status", "detail", "error"),
    [
        (400, OVERFLOW, e.PromptTooLong),
        (400, "the input length exceeds the context length", e.PromptTooLong),
        (400, '"m" does not support chat', e.ModelUnsupported),
        (400, "invalid model name", e.ModelUnsupported),
        (401, "unauthorized", e.AuthFailed),
        (403, "", e.AuthFailed),
        (404, "model 'm' not found", e.ModelMissing),
        (429, "", e.DaemonBusy),
        (503, "server busy", e.DaemonBusy),
        (500, "llama runner process has terminated: exit status 2", e.DaemonError),
        (500, "", e.DaemonError),
        (200, "unexpected EOF", e.DaemonError),
    ],
)
def test_what_the_daemons_words_mean(status: int, detail: str, error: type[e.OrchestraError]) -> None:
    assert type(wire.said(status, detail, LOADED)) is error


def test_numbers_of_an_overflow() -> None:
    message = wire.said(400, OVERFLOW, LOADED).message()
    assert "5000" in message
    assert "4096" in message
    assert "904" in message
    odd = OVERFLOW.replace("5000", '"many"').replace('"n_ctx": 4096', '"n_ctx": null')
    assert "4096" in wire.said(400, odd, LOADED).message()


def test_a_load_that_fails() -> None:
    unloaded = wire.Asked(url="http://x:1", model="m")
    for words in ("timed out waiting for llama runner", "llama runner process has terminated", "model requires more system memory (9 GiB)"):
        assert type(wire.said(500, words, unloaded)) is e.LoadFailed


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("\x1b[31msignal: killed\x1b[0m", "signal: killed"),
        ("a\x1b]52;c;ZXZpbA==\x07b", "a b"),
        ("a\r\nb\tc\x9b", "a b c"),
        ("x" * 9000, "x" * 500),
    ],
)
def test_somebody_elses_words_are_one_harmless_line(words: str, shown: str) -> None:
    assert wire.readable(words) == shown


def test_pages_are_not_shown() -> None:
    error = wire.problem(502, "", b"<html><body>Bad Gateway</body></html>", LOADED)
    assert "html" not in error.message()
    assert "502" in error.message()


def test_framing_is_the_same_on_a_loop() -> None:
    connection = Connection(Blocking(), Settings(host="127.0.0.1:1"))

    async def gathered() -> str:
        return "".join([wire.text_of(event)[0] async for event in connection.events(Said(cut(STREAM, range(0, 900, 3))))])

    assert asyncio.run(gathered()) == TEXT
