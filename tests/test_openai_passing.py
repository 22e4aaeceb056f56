"""The daemon's own models at `/v1`: asked natively and bounded, told as clients of the OpenAI protocol read it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from served import running
from test_gateway_tasks import EN, prompt

from orchestra.errors import DaemonBusy
from orchestra.gateway import create_app
from orchestra.gateway.openai_passing import refusal
from orchestra.settings import Settings
from orchestra.standin import Scripted, StandIn

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
ASK: dict[str, Any] = {"model": "llama3", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}
LOOP = "It is blue because it is so, and so it is. " * 80
TOOLS = "tiny-tools"
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
WAITS = {"first_token_timeout": 0.3, "prompt_token_time": 0.0, "piece_timeout": 0.2}


@pytest.fixture(scope="module")
def daemon(clean_environment: object) -> Iterator[StandIn]:
    with StandIn(models=["llama3", TOOLS, "thinker", "tiny-embed"]) as daemon:
        yield daemon


class Gateways:
    """Gateways over one daemon, one for each way to set one up."""

    def __init__(self, daemon: StandIn, ends: ExitStack) -> None:
        self._url, self._ends = daemon.url, ends
        self._running: dict[str, httpx.Client] = {}

    def __call__(self, **given: Any) -> httpx.Client:
        key = str(given)
        if key not in self._running:
            settings = Settings.read(host=self._url, language="en", **given)
            url = self._ends.enter_context(running(create_app(settings=settings), settings))
            self._running[key] = self._ends.enter_context(httpx.Client(base_url=url, timeout=10, trust_env=False))
        return self._running[key]


@pytest.fixture(scope="module")
def through(daemon: StandIn) -> Iterator[Gateways]:
    with ExitStack() as ends:
        yield Gateways(daemon, ends)


def events(response: httpx.Response) -> list[Any]:
    """What is streamed, `[DONE]` as None; split where any client may split."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in response.text.splitlines() if line]
    assert all(line.startswith("data: ") for line in lines), lines
    return [None if line == "data: [DONE]" else json.loads(line[6:]) for line in lines]


def streamed(client: httpx.Client, body: dict[str, Any], path: str = CHAT) -> list[Any]:
    return events(client.post(path, json={**body, "stream": True}))


def choices(said: list[Any]) -> list[dict[str, Any]]:
    return [one["choices"][0] for one in said if one and one.get("choices")]


def text_of(said: list[Any]) -> str:
    return "".join(one.get("text") or one.get("delta", {}).get("content", "") for one in choices(said))


def ending(said: list[Any]) -> tuple[str, str]:
    """The reason in the protocol's words, and the true one."""
    assert said[-1] is None
    (last,) = [one for one in said if one and "orchestra" in one]
    return last["choices"][0]["finish_reason"], last["orchestra"]["finish_reason"]


# --- who is there


def test_the_daemons_own_models_are_listed_beside_orchestras(through: Gateways, daemon: StandIn) -> None:
    listed = through().get("/v1/models").json()["data"]
    names = [one["id"] for one in listed]
    assert {"llama3:latest", f"{TOOLS}:latest", "orchestra/lawyer"} <= set(names)
    assert through().get("/v1/models/llama3").json() == httpx.get(daemon.url + "/v1/models/llama3").json()
    missing = through().get("/v1/models/llama4")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_missing")


def test_without_a_daemon_orchestras_are_listed_and_one_expert_alone_has_no_others(daemon: StandIn) -> None:
    for host, alone in (("http://127.0.0.1:9", ""), (daemon.url, "You count.")):
        settings = Settings.read(host=host)
        with running(create_app(alone, settings=settings), settings) as url, httpx.Client(base_url=url, trust_env=False) as client:
            assert [one for one in client.get("/v1/models").json()["data"] if not one["id"].startswith("orchestra/")] == []
            assert client.get("/v1/models/llama3").status_code == (422 if alone else 503)
            assert client.post(COMPLETIONS, json={"model": "llama3", "prompt": "x"}).status_code == (404 if alone else 503)
            assert client.post(CHAT, json=ASK).status_code == (422 if alone else 503)


# --- what the daemon is asked


def test_a_question_is_bounded_and_says_what_the_daemons_own_v1_would_have_said(through: Gateways, daemon: StandIn) -> None:
    daemon.script("Because.")
    wishes = {"temperature": 0.5, "top_p": 0.7, "seed": 3, "stop": "END", "presence_penalty": 0.1, "frequency_penalty": 0.2, "max_tokens": 40}
    answer = through().post(CHAT, json={**ASK, **wishes, "n": 2, "logit_bias": {"1": 2}, "user": "x"}).json()
    assert answer["choices"] == [{"index": 0, "message": {"role": "assistant", "content": "Because."}, "finish_reason": "stop"}]
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"] > 0
    assert (answer["object"], answer["model"], answer["orchestra"]) == ("chat.completion", "llama3", {"finish_reason": "stop"})
    asked = daemon.asked("/api/chat")[-1]
    wanted = {"temperature": 0.5, "top_p": 0.7, "seed": 3, "stop": ["END"], "presence_penalty": 0.1, "frequency_penalty": 0.2}
    assert asked["options"] == {**wanted, "num_predict": 40, "num_ctx": 4096}
    assert (asked["truncate"], asked["messages"]) == (False, ASK["messages"])
    through().post(CHAT, json={**ASK, "max_tokens": 40, "max_completion_tokens": 7})
    options = daemon.asked("/api/chat")[-1]["options"]
    assert (options["num_predict"], options["temperature"], options["top_p"]) == (7, 1.0, 1.0)
    through().post(CHAT, json={**ASK, "max_tokens": -1})
    assert 3000 < daemon.asked("/api/chat")[-1]["options"]["num_predict"] < 4096


def test_messages_arrive_as_the_daemon_takes_them(through: Gateways, daemon: StandIn) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What is this?"}, picture]},
        {"role": "assistant", "content": None, "reasoning": "I look.", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
        {"role": "user", "content": "And?"},
    ]
    through().post(CHAT, json={"model": TOOLS, "messages": messages, "tools": [WEATHER], "logprobs": True, "top_logprobs": 2})
    asked = daemon.asked("/api/chat")[-1]
    assert asked["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is this?"},
        {"role": "user", "content": "", "images": ["aGk="]},
        {"role": "assistant", "content": "", "thinking": "I look.",
         "tool_calls": [{"id": "call_1", "function": {"name": "weather", "arguments": {"city": "Paris"}}}]},
        {"role": "tool", "content": "rain", "tool_name": "weather", "tool_call_id": "call_1"},
        {"role": "user", "content": "And?"},
    ]  # fmt: skip
    assert (asked["tools"], asked["logprobs"], asked["top_logprobs"]) == ([WEATHER], True, 2)


@pytest.mark.parametrize(
    ("wish", "field", "value"),
    [
        ({"response_format": {"type": "json_object"}}, "format", "json"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}}, "format", {"type": "object"}),
        ({"response_format": {"type": "text"}}, "format", None),
        ({"reasoning_effort": "none"}, "think", False),
        ({"reasoning": {"effort": "minimal"}, "model": "thinker"}, "think", "low"),
    ],
)
def test_forms_and_efforts_are_said_in_the_daemons_words(
    through: Gateways, daemon: StandIn, wish: dict[str, Any], field: str, value: Any
) -> None:
    daemon.script("{}")
    through().post(CHAT, json={**ASK, **wish})
    assert daemon.asked("/api/chat")[-1].get(field) == value


@pytest.mark.parametrize(
    "wrong",
    [
        {"messages": "hi"}, {"messages": [1]}, {"messages": [{"role": "user"}]}, {"messages": [{"content": "hi"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}]},
        {"messages": [{"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "f", "arguments": "{"}}]}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"function": []}]}]},
        {"temperature": "hot"}, {"temperature": -1}, {"max_tokens": 10**12}, {"stop": ["x"] * 10_000}, {"reasoning_effort": "some"},
        {"model": 3}, {"model": None}, {"tools": "all"}, {"stream": "perhaps"},
    ],
)  # fmt: skip
def test_what_is_wrong_is_a_400_in_the_protocols_shape(through: Gateways, daemon: StandIn, wrong: dict[str, Any]) -> None:
    before = len(daemon.asked("/api/chat"))
    answer = through().post(CHAT, json={**ASK, **wrong})
    assert (answer.status_code, set(answer.json()["error"])) == (400, {"message", "type", "code", "param"})
    assert len(daemon.asked("/api/chat")) == before


def test_what_asks_nothing_and_what_only_the_daemon_can_answer_is_passed_on(through: Gateways, daemon: StandIn) -> None:
    client = through()
    assert client.post(CHAT, json={**ASK, "messages": []}).json()["error"]["message"] == "[] is too short - 'messages'"
    assert client.post(COMPLETIONS, json={"model": "llama3", "prompt": ""}).json()["choices"][0]["finish_reason"] == "load"
    body = {"model": "tiny-embed", "input": ["a", "b"]}
    assert client.post("/v1/embeddings", json=body).json() == httpx.post(daemon.url + "/v1/embeddings", json=body).json()
    refused = client.post(COMPLETIONS, json={"model": "orchestra/lawyer", "prompt": "x"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "field_invalid")


# --- how it is told


def test_a_stream_has_its_role_its_pieces_its_end_and_its_usage(through: Gateways, daemon: StandIn) -> None:
    daemon.script(["Because", " \u2028of", " it."])
    said = streamed(through(), {**ASK, "stream_options": {"include_usage": True}})
    assert [one["delta"] for one in choices(said)] == [
        {"role": "assistant", "content": "Because"}, {"content": " \u2028of"}, {"content": " it."}, {}
    ]  # fmt: skip
    assert ending(said) == ("stop", "stop")
    assert said[-2]["choices"] == []
    assert said[-2]["usage"]["completion_tokens"] >= 3
    assert len({(one["id"], one["object"], one["model"]) for one in said[:-1]}) == 1


def test_a_text_is_continued(through: Gateways, daemon: StandIn) -> None:
    daemon.script("blue today", "grey")
    body = {"model": "llama3", "prompt": "The sky is", "max_tokens": 9}
    answer = through().post(COMPLETIONS, json=body).json()
    assert (answer["object"], answer["choices"]) == ("text_completion", [{"index": 0, "text": "blue today", "finish_reason": "stop"}])
    said = streamed(through(), {**body, "stream_options": {"include_usage": True}}, COMPLETIONS)
    assert (text_of(said), ending(said), said[-2]["usage"]["completion_tokens"] > 0) == ("grey", ("stop", "stop"), True)
    assert daemon.asked("/api/generate")[-1]["truncate"] is False


def test_thinking_calls_and_logprobs_are_told_in_the_protocols_words(through: Gateways, daemon: StandIn) -> None:
    daemon.script(Scripted(["It", " rains"], thinking=["Let me", " see"]))
    said = streamed(through(), {**ASK, "model": "thinker", "logprobs": True})
    assert "".join(one["delta"].get("reasoning", "") for one in choices(said)) == "Let me see"
    assert all(one["logprobs"]["content"] for one in choices(said) if one["delta"].get("content"))
    daemon.script(Scripted('[{"name": "weather", "parameters": {"city": "Paris"}}]'))
    body = {**ASK, "model": TOOLS, "tools": [WEATHER]}
    said = streamed(through(), body)
    (call,) = [call for one in choices(said) for call in one["delta"].get("tool_calls", ())]
    assert call["id"]
    assert (call["index"], call["type"], call["function"]["name"]) == (0, "function", "weather")
    assert json.loads(call["function"]["arguments"]) == {"city": "Paris"}
    assert ending(said) == ("tool_calls", "stop")


# --- bounds, loops and faults


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("path", "body"), [(CHAT, ASK), (COMPLETIONS, {"model": "llama3", "prompt": "The sky is"})])
def test_a_loop_is_broken_off(through: Gateways, daemon: StandIn, path: str, body: dict[str, Any], stream: bool) -> None:
    daemon.script(LOOP)
    if stream:
        said = streamed(through(), body, path)
        assert (ending(said), len(text_of(said)) < len(LOOP) / 2) == (("length", "repetition"), True)
    else:
        answer = through().post(path, json=body).json()
        assert (answer["choices"][0]["finish_reason"], answer["orchestra"]["finish_reason"]) == ("length", "repetition")
        assert len(answer["choices"][0].get("text") or answer["choices"][0]["message"]["content"]) < 200


def test_equal_pieces_that_the_daemon_cuts_are_a_loop_and_no_error(through: Gateways, daemon: StandIn) -> None:
    daemon.script([" yes"] * 60)
    assert ending(streamed(through(), ASK)) == ("length", "repetition")


@pytest.mark.parametrize("fault", ["reset_mid", "cut_mid", "error_line", "stall_mid", "bad_json_line"])
def test_an_error_in_the_middle_is_seen_and_there_is_an_end(through: Gateways, daemon: StandIn, fault: str) -> None:
    client = through(**WAITS)
    daemon.fail(fault, path="/api/chat")
    said = streamed(client, ASK)
    assert "The sky is".startswith(text_of(said))
    assert said[-2]["error"]["message"]
    assert said[-1] is None
    daemon.fail(fault, path="/api/chat")
    whole = client.post(CHAT, json=ASK)
    assert whole.status_code >= 500
    assert whole.json()["error"]["code"] == said[-2]["error"]["code"]


def test_an_error_before_the_answer_has_its_status(through: Gateways, daemon: StandIn) -> None:
    client = through(**WAITS)
    missing = client.post(CHAT, json={**ASK, "model": "nobody"})
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_missing")
    busy = refusal(DaemonBusy(url="", detail="x"), "en")
    assert (busy.status_code, busy.headers["retry-after"]) == (503, "2")
    unsupported = client.post(CHAT, json={**ASK, "tools": [WEATHER]})
    assert (unsupported.status_code, "does not support tools" in unsupported.text) == (400, True)


def dialogue(turns: int) -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = []
    for turn in range(turns):
        said += [{"role": "user", "content": f"question {turn} " + "word " * 40}, {"role": "assistant", "content": f"answer {turn}"}]
    return [*said, {"role": "user", "content": [{"type": "text", "text": "And now?"}]}]


def test_a_long_history_loses_its_oldest_turns_and_says_so(through: Gateways, daemon: StandIn) -> None:
    daemon.script("Here.", "Again.")
    history = dialogue(150)
    said = streamed(through(), {"model": "llama3", "messages": history})
    assert text_of(said).startswith("[The ")
    assert text_of(said).endswith("and were left out.]\n\nHere.")
    more = [*history, {"role": "assistant", "content": text_of(said)}, {"role": "user", "content": "And then?"}]
    assert through().post(CHAT, json={"model": "llama3", "messages": more}).status_code == 200
    assert daemon.asked("/api/chat")[-1]["messages"][-2]["content"] == "Here."


@pytest.mark.parametrize(
    ("guard", "more"),
    [("strict", {}), ("on", {"response_format": {"type": "json_object"}}), ("on", {"model": TOOLS, "tools": [WEATHER]})],
)
def test_what_is_not_shortened_is_a_400_with_the_numbers(through: Gateways, guard: str, more: dict[str, Any]) -> None:
    answer = through(guard=guard).post(CHAT, json={"model": "llama3", "messages": dialogue(150), **more})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "prompt_too_long")
    assert "holds 4096" in answer.json()["error"]["message"]


def test_without_the_guard_the_daemons_own_v1_answers(through: Gateways, daemon: StandIn) -> None:
    client = through(guard="off")
    before = len(daemon.asked("/api/chat"))
    daemon.script(LOOP)
    said = streamed(client, ASK)
    assert text_of(said) == LOOP
    assert said[0]["id"].removeprefix("chatcmpl-").isdigit()
    assert len(daemon.asked("/api/chat")) == before
    assert client.post(CHAT, json={**ASK, "messages": "hi"}).status_code == 400


def test_what_open_webui_asks_beside_a_chat_wakes_no_model(through: Gateways, daemon: StandIn) -> None:
    beside = {"model": "llama3", "messages": [{"role": "user", "content": prompt("title", EN)}]}
    before = len(daemon.requests)
    said = through().post(CHAT, json=beside).json()
    through(guard="off").post(CHAT, json=beside)
    assert json.loads(said["choices"][0]["message"]["content"])["title"].startswith("Which duties")
    asked = [each.path for each in daemon.requests[before:] if each.path in ("/api/chat", "/v1/chat/completions")]
    assert asked == ["/v1/chat/completions"], "without the guard it is passed on"


def test_whoever_leaves_frees_the_daemon(through: Gateways, daemon: StandIn) -> None:
    daemon.script(Scripted([f" {number}" for number in range(2000)], pace=0.01))
    cancelled = daemon.cancelled
    with through().stream("POST", CHAT, json={**ASK, "stream": True}) as answer:
        next(answer.iter_raw())
    gone = time.monotonic()
    while daemon.cancelled == cancelled:
        assert time.monotonic() - gone < 0.5
        time.sleep(0.005)


# --- a good neighbour

_NATIVE = [
    ("/api/chat", ASK),
    ("/api/chat", {**ASK, "options": {"num_ctx": 2048}}),
    ("/api/embed", {"model": "tiny-embed", "input": "a"}),
    ("/api/generate", {"model": "llama3", "prompt": "The sky is", "options": {"num_ctx": 2048}, "keep_alive": "9m"}),
    ("/api/chat", {**ASK, "options": {"num_ctx": 2048, "num_batch": 256}}),
    ("/api/chat", {**ASK, "keep_alive": 0}),
    ("/api/generate", {"model": "llama3", "keep_alive": "1m"}),
    ("/api/chat", ASK),
]
_OPENAI = [
    (CHAT, ASK),
    ("/v1/embeddings", {"model": "tiny-embed", "input": "a"}),
    (COMPLETIONS, {"model": "llama3", "prompt": "The sky is", "keep_alive": 0}),
    ("/api/generate", {"model": "llama3", "options": {"num_ctx": 2048}}),
    (CHAT, {**ASK, "num_ctx": 1024, "options": {"num_ctx": 1024}}),
    (CHAT, {**ASK, "response_format": {"type": "json_object"}}),
]


def test_the_same_requests_load_no_more_models_through_the_gateway() -> None:
    def loaded(url: str, daemon: StandIn) -> list[int]:
        loads = []
        client = ends.enter_context(httpx.Client(base_url=url, timeout=20, trust_env=False))
        for path, body in [*_NATIVE, *_OPENAI]:
            body = {**body, "options": {**body.get("options", {}), "num_predict": 4}, "max_tokens": 4}
            assert client.post(path, json=body).status_code == 200
            loads.append(daemon.loads + daemon.reloads)
        return loads

    with ExitStack() as ends:
        plain, daemon = (ends.enter_context(StandIn(models=["llama3", "tiny-embed"])) for _ in range(2))
        settings = Settings.read(host=daemon.url)
        url = ends.enter_context(running(create_app(settings=settings), settings))
        through, straight = loaded(url, daemon), loaded(plain.url, plain)
    assert [ours <= theirs for ours, theirs in zip(through, straight, strict=True)] == [True] * len(straight), (through, straight)
    assert straight[-1] > 6, "there was something to load again"
