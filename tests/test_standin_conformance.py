"""The stand-in answers recorded requests as the recorded daemon did: status, framing, fields, texts of errors, counts.

Each file in tests/wire is one exchange with a running daemon, byte for byte; more.jsonl holds one a line. What a model says and how long it takes may
differ; where the recorded answer ended by itself, the stand-in is given its words, so that the end can be compared too.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from orchestra.standin import Scripted, StandIn

WIRE = Path(__file__).parent / "wire"
MORE = {case["case"]: case for case in map(json.loads, (WIRE / "more.jsonl").read_text(encoding="utf-8").splitlines())}
CASES = sorted([*(path.stem for path in WIRE.glob("*.json")), *MORE])
EVERY_MODEL = ("mid", "tiny-loop-native", "llama3", "llama3:text", "tiny-native", "tiny-embed", "tiny-loop", "tiny-tools")
LONGEST_WHOLE = 2048

THREE_LOADED = ("loop-native-chat-endless-noshift", "embed-single", "generate-empty-prompt-load")

V1_AT_FIRST = ("v1-chat", "v1-chat-stream", "v1-embeddings", "v1-models")

# What a case needs to have happened before: other cases, sent first.
BEFORE: dict[str, list[str]] = {
    "show-created": ["create-from-stream"],
    "chat-created-debug": ["create-from-stream"],
    "chat-created-own-system-debug": ["create-from-stream"],
    "delete": ["copy"],
    "delete-persona": ["create-from-stream"],
    "persona-shares-runner": ["persona-create"],
    "persona-other-num_ctx-reloads": ["persona-create-ctx"],
    "persona-delete": ["persona-create-ctx"],
    "persona-ps": ["disconnect-warm", "persona-base-first", "runner-killed-nonstream-next"],
    "ps-loaded": ["generate-empty-prompt-load"],
    "ps-keep-alive-forever": [*THREE_LOADED, "keep_alive-minus1"],
    "ps-after-num_ctx-2048": ["text-nonstream", "num_ctx-change-reload"],
    "ps-after-num_ctx-65536": ["text-nonstream", "num_ctx-over-train"],
    "ps-before-unload": [*THREE_LOADED],
    "ps-right-after-unload": [*THREE_LOADED, "unload-before"],
    "ps-later-after-unload": [*THREE_LOADED, "unload-before"],
    "ps-after-keep_alive-0": [*THREE_LOADED, "keep_alive-0-with-prompt"],
    "ps-keep-alive-30": [*THREE_LOADED, "keep_alive-number"],
    "disconnect-next-request": ["disconnect-midstream"],
    "runner-killed-midstream-next": ["runner-killed-midstream"],
    "runner-killed-nonstream-next": ["runner-killed-nonstream"],
    "delete-q8": ["create-quantize"],
}

# Answers that were cut by their bound and that the engine would end sooner, or not at a bound.
WORDS_NEEDED = {"format-json"}

# Answers in which the engine came upon bytes that are no UTF-8, where the daemon ends without a word, or with an error.
GARBLED = {
    "hot-bytes-stream", "logprobs-zh", "measure-llama3-stream-0", "parallel-llama3-0", "parallel-llama3-2",
    "parallel-mid-1", "parallel-mid-3", *(case for case in MORE if case.startswith("badutf8-")),
}  # fmt: skip

# The clients that left, and the lines that they had read.
LEFT = {"disconnect-midstream": 5}


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, list[str]]
    body: bytes

    @property
    def framing(self) -> str:
        """How the body's end is known."""
        if "transfer-encoding" in self.headers:
            return "chunked"
        return "content-length" if "content-length" in self.headers else "none"

    @property
    def lines(self) -> list[Any]:
        """The body's lines of JSON."""
        lines = [line.removeprefix(b"data: ") for line in self.body.split(b"\n") if line]
        return [json.loads(line) for line in lines if line != b"[DONE]"]


def recorded(case: str) -> dict[str, Any]:
    """The exchange of a case."""
    found: dict[str, Any] = MORE[case] if case in MORE else json.loads((WIRE / f"{case}.json").read_text(encoding="utf-8"))
    return found


def content(request: dict[str, Any]) -> str:
    """The body of a recorded request; a very long one is kept as texts and repetitions."""
    parts = request["body"] if isinstance(request["body"], list) else [request["body"]]
    return "".join(part if isinstance(part, str) else part[0] * part[1] for part in parts)


def send(daemon: StandIn, request: dict[str, Any], most: int = 0) -> Answer:
    """Send a recorded request as it was, and read the answer, or only its first lines."""
    port = int(daemon.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request["head"].encode("latin-1") + content(request).encode())
        with HTTPResponse(connection, method=request["head"].partition(" ")[0]) as response:
            response.begin()
            headers: dict[str, list[str]] = {}
            for name, value in response.getheaders():
                headers.setdefault(name.lower(), []).append(value)
            body = b"".join(response.readline() for _ in range(most)) if most else response.read()
            return Answer(response.status, headers, body)


def expected(case: str) -> Answer:
    """The recorded answer."""
    response = recorded(case)["response"]
    headers: dict[str, list[str]] = {}
    for name, value in response["headers"]:
        headers.setdefault(name.lower(), []).append(value)
    body = response["body"] if "body" in response else "".join(line + "\n" for line in response["lines"])
    return Answer(response["status"], headers, body.encode())


def words(case: str) -> list[Scripted]:
    """The words of a recorded answer that ended by itself, at a stop text or because the engine failed; else none.

    At a bound, and where a model turns in circles, the stand-in's own engine comes to the same end.
    """
    answer = expected(case)
    if answer.headers.get("content-type", [""])[0].startswith("text/plain"):
        return []
    pieces = [said for line in answer.lines if "error" not in line and (said := text(line))] or called(answer)
    if case in LEFT:
        return [Scripted([*pieces, *pieces])]
    if b"unexpected EOF\"}" in answer.body and case.startswith("runner-killed"):
        return [Scripted(pieces, end="error")]
    if case in GARBLED:
        return [Scripted(pieces, end="garbled")]
    ended = b'_reason":"stop"' in answer.body or b'_reason":"tool_calls"' in answer.body
    if answer.status != 200 or not (ended or case in WORDS_NEEDED):
        return []
    if b'"done_reason":"length"' in answer.body:
        return [Scripted(pieces, end="length")]
    asked = json.loads(content(recorded(case)["request"]))
    return [Scripted([*pieces, *asked.get("options", asked).get("stop", [])])]


def called(answer: Answer) -> list[str]:
    """What a model wrote that called tools, as the list that its template asks for, of as many tokens as were counted."""
    calls = [call["function"] for line in answer.lines for call in message(line).get("tool_calls", ())]
    given = [call["arguments"] if isinstance(call["arguments"], dict) else json.loads(call["arguments"]) for call in calls]
    written = [json.dumps({"name": call["name"], "parameters": arguments}) for call, arguments in zip(calls, given, strict=True)]
    whole = [*f"[{', '.join(written)}"] if calls else []
    count = next((line["usage"].get("completion_tokens", 0) for line in answer.lines if "usage" in line), 0)
    return [*whole, *[" "] * (count - len(whole) - 2), "]"] if calls else []


def message(line: dict[str, Any]) -> dict[str, Any]:
    """What is said in one line of an answer."""
    choice = line["choices"][0] if line.get("choices") else line
    found: dict[str, Any] = choice.get("delta", choice.get("message", choice))
    return found


def text(line: dict[str, Any]) -> str:
    """The text in one line of an answer."""
    if line.get("choices"):
        return str(message(line).get("content", line["choices"][0].get("text", "")))
    return str(line["message"]["content"] if "message" in line else line.get("response", ""))


def shape(value: Any) -> Any:
    """The form of a value: names in their order, and the JSON type of each leaf. Lists are as their members are."""
    if isinstance(value, dict):
        if value.get("token") == "":  # a control token among the alternatives has no bytes, and may be there or not
            value = {**value, "bytes": [0]}
        return [(name, shape(each)) for name, each in value.items()]
    if isinstance(value, list):
        return ["list", *sorted({json.dumps(shape(each)) for each in value})]
    if isinstance(value, bool) or value is None:
        return str(type(value).__name__)
    return "number" if isinstance(value, int | float) else "string"


def shapes(lines: list[Any]) -> list[Any]:
    """First line, all kinds of lines between, last line."""
    middle = sorted({json.dumps(shape(line)) for line in lines[1:-1]})
    return [shape(lines[0]), middle, shape(lines[-1])] if lines else []


def conversation(case: str) -> Iterator[tuple[str, Answer]]:
    """The case, and what it needs before it, answered by one stand-in."""
    with StandIn(models=EVERY_MODEL) as daemon:
        for each in [*BEFORE.get(case, []), case]:
            daemon.script(*words(each))
            yield each, send(daemon, recorded(each)["request"], LEFT.get(each, 0))


def answered(case: str) -> Answer:
    """The stand-in's answer to a case."""
    *_, (_, answer) = conversation(case)
    return answer


def differences(ours: Answer, theirs: Answer) -> Iterator[str]:
    """In what an answer is unlike the recorded one. Free texts, times, sizes and vectors are not compared."""
    if ours.status != theirs.status:
        yield f"status {ours.status}, not {theirs.status}: {ours.body[:300]!r}"
    yield from header_differences(ours, theirs)
    if theirs.headers.get("content-type", [""])[0].startswith("text/plain") or not theirs.body:
        if ours.body != theirs.body:
            yield f"body {ours.body!r}, not {theirs.body!r}"
    elif shapes(ours.lines) != shapes(theirs.lines):
        yield f"shapes {shapes(ours.lines)}, not {shapes(theirs.lines)}"
    else:
        yield from value_differences(ours, theirs)


def header_differences(ours: Answer, theirs: Answer) -> Iterator[str]:
    """Headers and framing; the daemon gives a length to bodies that are short enough."""
    own = {"server", "date", "content-length", "transfer-encoding"}
    shown = [{name: values for name, values in answer.headers.items() if name not in own} for answer in (ours, theirs)]
    if shown[0] != shown[1]:
        yield f"headers {shown[0]}, not {shown[1]}"
    alike = (len(ours.body) > LONGEST_WHOLE) == (len(theirs.body) > LONGEST_WHOLE)
    if ours.framing != theirs.framing and (alike or b"\n" in theirs.body):
        yield f"framing {ours.framing}, not {theirs.framing}"


def value_differences(ours: Answer, theirs: Answer) -> Iterator[str]:
    """What must be equal to the letter in the lines."""
    same = ("error", "done", "done_reason", "status", "model", "prompt_eval_count", "version", "cloud", "capabilities")
    for name in (*same, "usage", "object", "_debug_info", "details", "parameters", "template", "system", "messages", "model_info", "tensors"):
        values = [[line.get(name) for line in (answer.lines[0], answer.lines[-1])] for answer in (ours, theirs)]
        if name == "parameters":  # the daemon walks a map, in another order each time
            values = [[sorted(str(each).splitlines()) for each in pair] for pair in values]
        if values[0] != values[1] and not (name == "template" and "{#-" in str(values[1])):
            yield f"{name} {values[0]!r}, not {values[1]!r}"
    reasons = [[choice["finish_reason"] for line in answer.lines for choice in line.get("choices", ())][-1:] for answer in (ours, theirs)]
    if reasons[0] != reasons[1]:
        yield f"reasons {reasons[0]}, not {reasons[1]}"
    if "expires_at" in str(theirs.lines):
        loaded = [[(each["name"], each["context_length"]) for each in answer.lines[0]["models"]] for answer in (ours, theirs)]
        if loaded[0] != loaded[1]:
            yield f"loaded {loaded[0]}, not {loaded[1]}"
    whole = ["".join(map(text, answer.lines)) for answer in (ours, theirs)]
    contexts = [answer.lines[-1].get("context", []) for answer in (ours, theirs)]
    if whole[0] == whole[1] and contexts[0] != contexts[1]:
        yield f"context {contexts[0]}, not {contexts[1]}"


@pytest.mark.parametrize("case", CASES)
def test_a_recorded_request_is_answered_as_it_was(case: str) -> None:
    found = list(differences(answered(case), expected(case)))
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"done_reason":"length"', b'"done_reason":"stop"'),
        (b'"prompt_eval_count":24', b'"prompt_eval_count":25'),
        (b'"done":true,"done_reason":"length"', b'"done_reason":"length","done":true'),
        (b'"eval_count":40', b'"eval_count":"40"'),
        (b',"eval_duration"', b',"eval_time"'),
    ],
)
def test_an_answer_that_differs_is_noticed(old: bytes, new: bytes) -> None:
    sound = expected("chat-stream")
    assert old in sound.body
    assert not list(differences(sound, sound))
    assert list(differences(sound._replace(body=sound.body.replace(old, new)), sound))


@pytest.mark.parametrize(
    ("case", "old", "new"),
    [
        ("v1-chat-stream", b'"finish_reason":"length"', b'"finish_reason":"stop"'),
        ("v1-chat-stream", b'"prompt_tokens":19', b'"prompt_tokens":18'),
        ("v1-chat-loop-stream", b'"object":"chat.completion.chunk"', b'"object":"text_completion"'),
        ("ps-before-unload", b'"context_length":512', b'"context_length":4096'),
        ("runner-killed-midstream", b"unexpected EOF", b"EOF"),
    ],
)
def test_the_other_kinds_of_answers_are_compared_too(case: str, old: bytes, new: bytes) -> None:
    sound = expected(case)
    assert old in sound.body
    assert not list(differences(sound, sound))
    assert list(differences(sound._replace(body=sound.body.replace(old, new)), sound))


def test_framing_status_and_the_text_of_an_error_are_noticed() -> None:
    sound = expected("chat-missing-model")
    unframed = {name: values for name, values in sound.headers.items() if name != "content-length"}
    for other in (
        sound._replace(status=400),
        sound._replace(headers={**unframed, "transfer-encoding": ["chunked"]}),
        sound._replace(headers={**sound.headers, "content-type": ["application/json"]}),
        sound._replace(body=sound.body.replace(b"not found", b"missing")),
    ):
        assert list(differences(other, sound))


def test_all_recordings_are_compared() -> None:
    """None is left out: the 368 of one recording, those of the OpenAI interface and those with tools that were made for this test."""
    own = [case for case in CASES if case.startswith("v1-") and case not in V1_AT_FIRST]
    tools = [case for case in CASES if case.startswith("tools-")]
    assert (len(CASES) - len(own) - len(tools), len(own), len(tools)) == (368, 45, 19)
    assert sum(path.stat().st_size for path in WIRE.iterdir()) < 2_000_000
