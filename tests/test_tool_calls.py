"""Tools at the client: how they are offered, and how what a model wants called comes back, whoever is at the other end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestra.cli.outcome import shown
from orchestra.errors import FirstTokenTimeout, ModelUnsupported, PromptTooLong
from orchestra.model import wire
from orchestra.model.answering import Answering
from orchestra.model.client import Client
from orchestra.model.messages import FinishReason, Message, Options, Receipt, Reply, ToolCall, gathered
from orchestra.runtime import Blocking, finish
from orchestra.settings import Settings
from orchestra.standin import Scripted, StandIn
from orchestra.standin.tools import Calls

RECORDED = Path(__file__).parent / "wire" / "more.jsonl"
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "lookup",
        "description": "Looks up.",
        "parameters": {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]},
    },
}
MODEL = "tiny-tools"


def asked(daemon: StandIn, *, tools: Any = (TOOL,), text: str = "Where is it?", patience: float = 5.0, **options: Any) -> Reply:
    async def reply() -> Reply:
        client = Client(Blocking(), Settings(host=daemon.url, piece_timeout=patience, first_token_timeout=patience, prompt_token_time=0.0))
        stream = client.chat([Message("user", text)], model=MODEL, tools=tools, options=Options(**options))
        return gathered([piece async for piece in stream])

    return finish(reply())


def calling(*calls: tuple[str, Any]) -> str:
    return json.dumps([{"name": name, "parameters": arguments} for name, arguments in calls])


# --- lines of the daemon


def heard(*events: dict[str, Any], tools: bool = True) -> Reply:
    """What comes of lines, as the client reads them."""
    run = Answering(
        model="m", asked=wire.Asked(url="", model="m"), bound=100, receipt=Receipt(), observe=lambda phase: None, offered=tools
    )
    return gathered([piece for event in events for piece in run.pieces(event)])


def line(message: Any, **rest: Any) -> dict[str, Any]:
    return {"message": message, "done": False, **rest}


LAST: dict[str, Any] = {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}


@pytest.mark.parametrize(
    ("case", "calls", "text"),
    [
        ("tools-call-stream", [{"number": 3}], ""),
        ("tools-call", [{"number": 3}], ""),
        ("tools-two-calls-stream", [{"number": 3}, {"number": 1}], ""),
        ("tools-two-calls", [{"number": 3}, {"number": 1}], ""),
        ("tools-call-logprobs-stream", [{"number": 3}], ""),
        ("tools-unknown-name-stream", [], '[\n\n                    { "name" :"nobody", "parameters" :{ "number" :3 }}]'),
        ("tools-cut-stream", [], "[\n\n          "),
        ("tools-prose", [], "The learchistant to the 2024 2025."),
    ],
)
def test_what_a_daemon_sent(case: str, calls: list[dict[str, Any]], text: str) -> None:
    (found,) = [row for row in map(json.loads, RECORDED.read_text(encoding="utf-8").splitlines()) if row["case"] == case]
    reply = heard(*(wire.parsed(row.encode()) for row in found["response"]["body"].splitlines()))
    assert [call.arguments for call in reply.tool_calls] == calls
    assert all(call.name == "lookup_order" and call.id.startswith("call_") for call in reply.tool_calls)
    assert reply.text == text
    assert reply.finish_reason in (FinishReason.STOP, FinishReason.LENGTH)
    assert reply.logprobs == (), "nobody asked for them"


@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        ({"number": 5}, {"number": 5}),
        ('{"number": 5}', {"number": 5}),
        ("", {}),
        ({}, {}),
        (None, None),
        ("5", None),
        ('{"number": ', None),
        ("[" * 5000, None),
        ([1], None),
        (5, None),
    ],
)
def test_arguments_are_an_object_or_its_json(arguments: Any, read: Any) -> None:
    reply = heard(line({"tool_calls": [{"function": {"name": "lookup", "arguments": arguments}}]}), LAST)
    assert reply.tool_calls == (ToolCall("lookup", read),)


def test_text_and_calls_of_one_line_are_both_there() -> None:
    call = {"function": {"name": "lookup", "arguments": {}}}
    reply = heard(line({"content": "I ask. "}), line({"content": "Now.", "thinking": "hm", "tool_calls": [call]}), LAST)
    assert (reply.text, reply.thinking, len(reply.tool_calls)) == ("I ask. Now.", "hm", 1)
    last = {**LAST, "message": {"content": "", "tool_calls": [call, call]}}
    assert len(heard(last).tool_calls) == 2, "an answer in one line"


def test_nobody_calls_tools_that_were_not_offered() -> None:
    assert heard(line({"tool_calls": [{"function": {"name": "rm", "arguments": {}}}]}), LAST, tools=False).tool_calls == ()


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.sampled_from(["{", '{"a": 1}', "[]", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["function", "name", "arguments", "id", "x"]), inner),
    max_leaves=10,
)


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(_VALUES, st.lists(_VALUES, max_size=3))
def test_lines_of_garbage_raise_nothing(message: Any, calls: list[Any]) -> None:
    for event in (line(message), line({"tool_calls": message}), line({"tool_calls": [message, *calls, {"function": message}]})):
        for call in heard(event, LAST).tool_calls:
            assert isinstance(call.name, str)
            assert isinstance(call.id, str)
            assert call.arguments is None or isinstance(call.arguments, dict)


def test_a_list_of_calls_without_end_is_cut() -> None:
    calls = [{"function": {"name": "lookup", "arguments": {}}}] * 1000
    assert len(heard(line({"tool_calls": calls}), LAST).tool_calls) == wire.MOST_CALLS


def test_json_has_calls_as_objects_and_nothing_where_there_are_none() -> None:
    call = ToolCall("lookup", {"number": 5}, "call_1")
    shape = {"name": "lookup", "arguments": {"number": 5}, "id": "call_1"}
    assert shown(Reply(text="", finish_reason=FinishReason.STOP, tool_calls=(call,)))["tool_calls"] == [shape]
    assert "tool_calls" not in shown(Reply(text="", finish_reason=FinishReason.STOP))


# --- the whole way


def test_a_call_comes_back_typed() -> None:
    with StandIn([calling(("lookup", {"number": 5}), ("lookup", {"number": 6}))], models=[MODEL]) as daemon:
        reply = asked(daemon)
        (body,) = daemon.asked("/api/chat")
    assert [(call.name, call.arguments) for call in reply.tool_calls] == [("lookup", {"number": 5}), ("lookup", {"number": 6})]
    assert (reply.text, reply.finish_reason) == ("", FinishReason.STOP)
    assert body["tools"] == [TOOL]
    assert reply.receipt.calls == 1


def test_tools_cannot_smuggle_control_tokens() -> None:
    function = {"name": "lookup", "description": "a<|eot_id|>b\ud83d", "parameters": {"properties": {"<|x|>": {"enum": ["<|y|>", 1]}}}}
    with StandIn(["No."], models=[MODEL]) as daemon:
        asked(daemon, tools=[{"type": "function", "function": function}])
        sent = daemon.asked("/api/chat")[0]["tools"][0]["function"]
    assert sent["description"] == "a<| eot_id |>b\ufffd"
    assert sent["parameters"] == {"properties": {"<| x |>": {"enum": ["<| y |>", 1]}}}


def test_a_model_without_tools_says_so() -> None:
    async def reply(client: Client) -> None:
        async for _ in client.chat([Message("user", "?")], model="llama3", tools=[TOOL]):
            pass

    with StandIn() as daemon, pytest.raises(ModelUnsupported, match="does not support tools"):
        finish(reply(Client(Blocking(), Settings(host=daemon.url))))


def slow_call(pace: float) -> Scripted:
    return Scripted(["[", '{"name"', ": ", '"lookup", ', '"parameters"', ": ", '{"number"', ": 5}", "}", "]"], pace=pace)


def test_a_call_that_is_long_in_coming_is_no_stall() -> None:
    """The daemon holds back what may be a call; the log-probabilities that come meanwhile say that it is at work."""
    with StandIn([slow_call(0.1)], models=[MODEL]) as daemon:
        reply = asked(daemon, patience=0.4)
    assert len(reply.tool_calls) == 1
    assert reply.logprobs == ()


def test_red_control_without_a_sign_of_life_it_is_one() -> None:
    """A daemon of a version that has no log-probabilities yet."""
    with StandIn([slow_call(0.1)], models=[MODEL], version="0.12.10") as daemon, pytest.raises(FirstTokenTimeout):
        asked(daemon, patience=0.4)


def test_an_answer_beside_tools_is_watched_and_bounded() -> None:
    with StandIn(["the same words again and again, " * 60, "one two three four five six seven"], models=[MODEL]) as daemon:
        assert asked(daemon).finish_reason is FinishReason.REPETITION
        reply = asked(daemon, max_tokens=5)
        assert reply.finish_reason is FinishReason.LENGTH
        assert daemon.asked("/api/chat")[1]["options"]["num_predict"] == 5


def test_tools_count_where_the_prompt_must_fit() -> None:
    long = {"type": "function", "function": {**TOOL["function"], "description": "word " * 3000}}
    with StandIn(["No."], models=[MODEL], window=1024) as daemon:
        with pytest.raises(PromptTooLong):
            asked(daemon, tools=[long], max_tokens=200)
        shorter = {"type": "function", "function": {**TOOL["function"], "description": "word " * 60}}
        reply = asked(daemon, tools=[shorter], max_tokens=200)
    assert (reply.receipt.counted, reply.receipt.calls) == ("measured", 2)
    assert reply.receipt.used is not None
    assert reply.receipt.used <= 1024


# --- the stand-in's own reader, which is held to recordings elsewhere, cut anywhere


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 9), max_size=30), st.sampled_from([
    calling(("lookup", {"number": 5}), ("lookup", {"a": {"b": "]}"}})), calling(("nobody", {})), "[1, 2] and more", "[", " {x} ", "prose [",
]))  # fmt: skip
def test_calls_are_the_same_however_the_text_is_cut(cuts: list[int], text: str) -> None:
    from random import Random

    def told(pieces: list[str]) -> tuple[str, list[Any]]:
        calls = Calls([TOOL], "[", Random(0))
        for piece in pieces:
            calls.push(piece)
        return calls.text + calls.rest(), [call["function"] for call in calls.found]

    pieces, at = [], 0
    for cut in cuts:
        pieces.append(text[at : at + cut])
        at += cut
    assert told([*pieces, text[at:]]) == told([text])
