"""`/v1`: personas as models for clients of the OpenAI protocol, over real sockets."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

import httpx
import pytest
from served import Served
from services import everything_logged  # noqa: F401 - a fixture

from orchestra.agents.lineage import Lineage
from orchestra.errors import OrchestraError, PromptTooLong
from orchestra.gateway import answering, waiting
from orchestra.gateway.answering import sources_text
from orchestra.gateway.dialogue import Dialogue
from orchestra.gateway.discretion import HINTS, hint_of
from orchestra.gateway.openai_wire import citations
from orchestra.gateway.voices import PersonaVoice
from orchestra.model.messages import Piece
from orchestra.retrieval.passages import Source
from orchestra.standin import Scripted, StandIn

ASK = {"model": "orchestra/lawyer", "messages": [{"role": "user", "content": "违约金过高可以调整吗？"}]}
OPEN_WEBUI = {"X-OpenWebUI-Chat-Id": "c1"}


def events(client: httpx.Client, body: dict[str, Any], **headers: str) -> list[Any]:
    """What is streamed, `[DONE]` as None and a comment as a text."""
    with client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}, headers=headers) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line]
    return [line if line.startswith(":") else None if line == "data: [DONE]" else json.loads(line[6:]) for line in lines]


def text_of(said: list[Any]) -> str:
    chunks = [one for one in said if isinstance(one, dict) and one.get("choices")]
    return "".join(one["choices"][0]["delta"].get("content", "") for one in chunks)


def ends(said: list[Any]) -> list[Any]:
    return [one["choices"][0]["finish_reason"] for one in said if isinstance(one, dict) and one.get("choices")]


def test_everybody_is_listed_in_the_words_of_the_reader(served: Served) -> None:
    client = served()
    listed = client.get("/v1/models", headers={"Accept-Language": "zh-CN"}).json()["data"]
    names = [one["id"] for one in listed]
    assert names[:3] == ["orchestra/auto", "orchestra/coordinator", "orchestra/search"]
    assert {"orchestra/lawyer", "orchestra/support"} <= set(names)
    (lawyer,) = [one for one in listed if one["id"] == "orchestra/lawyer"]
    assert "法律" in lawyer["info"]["meta"]["description"]
    assert lawyer["info"]["meta"]["suggestion_prompts"]
    assert lawyer["info"]["meta"]["capabilities"]["builtin_tools"] is False
    assert client.get("/v1/models/orchestra/lawyer").json()["id"] == "orchestra/lawyer"
    assert "seed" not in json.dumps(listed)


def test_a_persona_answers_in_one(served: Served, daemon: StandIn) -> None:
    said = served().post("/v1/chat/completions", json={**ASK, "max_tokens": 30, "tools": [{"type": "function"}]}).json()
    assert said["object"] == "chat.completion"
    assert said["choices"][0]["message"]["content"]
    assert said["choices"][0]["finish_reason"] in ("stop", "length")
    assert said["usage"]["total_tokens"] == said["usage"]["prompt_tokens"] + said["usage"]["completion_tokens"]
    (sent,) = daemon.asked("/api/chat")
    assert "法律专家" in sent["messages"][0]["content"]
    assert sent["options"]["num_predict"] <= 30
    assert "tools" not in sent


def test_a_dialogue_goes_on_and_a_wish_stands_after_the_seed_memory(served: Served, daemon: StandIn) -> None:
    messages = [
        {"role": "system", "content": "请用很短的句子。"},
        {"role": "user", "content": [{"type": "text", "text": "我叫小明。"}]},
        {"role": "assistant", "content": "你好，小明。"},
        {"role": "user", "content": "我叫什么？"},
    ]
    served().post("/v1/chat/completions", json={**ASK, "messages": messages, "max_tokens": 8})
    (sent,) = daemon.asked("/api/chat")
    assert [one["role"] for one in sent["messages"]] == ["system", "user", "assistant", "user"]
    assert "很短的句子" not in sent["messages"][0]["content"]
    assert sent["messages"][1]["content"].startswith("请用很短的句子。\n\n我叫小明。")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat"])
def test_an_answer_that_was_cut_goes_on(served: Served, daemon: StandIn, path: str) -> None:
    """Open WebUI's "Continue response": what was said of the answer stands last."""
    cut = {"role": "assistant", "content": "可以请求法院"}
    assert served().post(path, json={**ASK, "messages": [*ASK["messages"], cut], "stream": False}).status_code == 200
    (sent,) = daemon.asked("/api/chat")
    assert [one["role"] for one in sent["messages"]] == ["system", "user", "assistant", "user"]
    assert sent["messages"][-2] == cut
    assert "请从中断处接着说" in sent["messages"][-1]["content"]


@pytest.mark.parametrize(("kind", "what"), [("image_url", "images"), ("input_audio", "anything but text")])
def test_nobody_answers_without_having_seen_what_was_sent(served: Served, daemon: StandIn, kind: str, what: str) -> None:
    parts = [{"type": "text", "text": "Who is that?"}, {"type": kind, kind: {"url": "data:image/png;base64,AAAA"}}]
    answer = served().post("/v1/chat/completions", json={**ASK, "messages": [{"role": "user", "content": parts}]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "model_unsupported")
    assert f"does not support {what}" in answer.json()["error"]["message"]
    assert "--model" not in answer.json()["error"]["message"], "who asks over HTTP has no command line"
    assert daemon.asked("/api/chat") == []


def test_a_stream_has_its_pieces_its_usage_and_an_end(served: Served) -> None:
    said = events(served(), {**ASK, "max_tokens": 20, "stream_options": {"include_usage": True}})
    assert said[-1] is None
    assert len([one for one in said if one and one.get("choices")]) > 3
    assert text_of(said)
    roles = [one["choices"][0]["delta"].get("role") for one in said if one and one.get("choices")]
    assert roles == ["assistant"] + [None] * (len(roles) - 1), "the first chunk says whose it is"
    assert ends(said)[-1] in ("stop", "length")
    assert said[-2]["choices"] == []
    assert said[-2]["usage"]["completion_tokens"] > 0
    assert not any("event" in one for one in said if one), "nobody asked for events"


def test_the_true_end_stands_beside_that_of_the_protocol(served: Served, daemon: StandIn) -> None:
    daemon.script("很好，" * 40)
    said = events(served(), {**ASK, "model": "orchestra/general"})
    (end,) = [one for one in said if one and "orchestra" in one]
    assert (end["choices"][0]["finish_reason"], end["orchestra"]["finish_reason"]) == ("length", "repetition")
    assert text_of(said).endswith("\n\n> 回答开始重复，已停止")


def test_whoever_sees_no_field_is_told_that_an_answer_was_stopped(served: Served, daemon: StandIn) -> None:
    client, states = served(), []
    for text in ("很好，" * 40, "很好。"):
        daemon.script(text)
        said = events(client, {**ASK, "model": "orchestra/general"}, **OPEN_WEBUI)
        states.append([one["event"]["data"] for one in said if one and "event" in one])
    assert states == [[{"description": "回答开始重复，已停止", "done": True}], []]


def test_the_coordinator_tells_its_steps_to_clients_that_show_them(served: Served) -> None:
    said = events(served(), {**ASK, "model": "orchestra/coordinator", "max_tokens": 20}, **OPEN_WEBUI)
    states = [one["event"]["data"] for one in said if one and "event" in one]
    if " · " in states[-1]["description"]:  # it has been cut, which is said once more after its last step
        assert states.pop()["description"].startswith(states[-1]["description"])
    assert {"计算机科学家", "法律专家"} <= {one["description"].split()[0] for one in states}
    assert [one["done"] for one in states] == [False] * (len(states) - 1) + [True]
    assert states[-1]["description"].startswith("✓ ")
    assert "法律专家" in states[-1]["description"], "who has worked on it stays with the answer"
    assert text_of(said)


def test_what_a_model_says_is_no_event(served: Served, daemon: StandIn) -> None:
    daemon.script('好：{"event": {"type": "execute", "data": {"code": "alert(1)"}}}\n\ndata: {"event": {"type": "execute"}}\n\n')
    said = events(served(), {**ASK, "model": "orchestra/general"}, **OPEN_WEBUI)
    assert not any("event" in one for one in said if one)
    assert "execute" in text_of(said), "it is text"


def test_sources_are_citations_there_and_text_elsewhere(served: Served) -> None:
    body = {"model": "orchestra/search", "messages": [{"role": "user", "content": "What is the capital of France?"}]}
    client = served()
    said = events(client, body, **OPEN_WEBUI)
    sources = [one["event"]["data"] for one in said if one and one.get("event", {}).get("type") == "source"]
    assert sources
    assert all(one["metadata"][0]["external"] is True for one in sources)
    plain = text_of(events(client, body))
    assert "\n[1] France\n" in plain


def test_open_webui_counts_each_passage_as_a_source_of_its_own() -> None:
    urls = ["https://a.example/x", "", "https://a.example/x", "https://a.example/y#z", "https://a.example/y#z", ""]
    lines = citations([Source(n=n, title="T", url=url, snippet=str(n)) for n, url in enumerate(urls, 1)])
    told = [json.loads(one.removeprefix("data: "))["event"]["data"] for one in lines]
    # as its page does: the address, else the id
    assert len({each["metadata"][0].get("source", each["source"]["id"]) for each in told}) == len(urls)
    assert [each["source"]["url"] for each in told] == urls
    assert told[2]["metadata"][0]["source"] == "https://a.example/x#source-3"


@pytest.mark.parametrize("shown", [sources_text, lambda sources: "".join(citations(sources))])
def test_no_hit_of_a_search_becomes_an_image_or_a_script(shown: Callable[[list[Source]], str]) -> None:
    """Whoever shows the answer would fetch it, and so tell somebody else what was read."""
    image, page = "![x](http://evil.example/q.png)", "https://b.example/capital of (france)?x=%20&y=法"
    hits = [("A <img src=//evil.example/p.png>", f"http://a.example/x){image}", f"<img src=//evil.example> {image}"),
            (f"`{image}\\", "javascript:alert(1)", "\ud800"), ("Capital", page, "Paris")]  # fmt: skip
    text = shown([Source(n=n, title=title, url=url, snippet=said) for n, (title, url, said) in enumerate(hits, 1)])
    assert not [sign for sign in ("![", "](http://evil", "<img", "javascript:", "`!", "x)!", "\ud800") if sign in text], text
    assert "https://b.example/capital%20of%20%28france%29?x=%20&y=%E6%B3%95" in text


def test_auto_says_whom_it_chose(served: Served, daemon: StandIn) -> None:
    daemon.script("可以。")
    said = events(served(), {**ASK, "model": "orchestra/auto"}, **OPEN_WEBUI)
    states = [one["event"]["data"] for one in said if one and "event" in one]
    assert [(one["description"], one["done"]) for one in states] == [("→ 法律专家", False), ("→ 法律专家", True)]


def test_an_error_before_the_answer_has_its_status_and_one_in_its_middle_is_seen(served: Served, daemon: StandIn) -> None:
    client = served()
    for body, status in (
        ({**ASK, "model": "orchestra/nobody"}, 404),
        ({**ASK, "messages": []}, 422),
        ({**ASK, "messages": [{"role": "assistant", "content": "x"}]}, 422),
        ({**ASK, "messages": [*ASK["messages"], {"role": "assistant", "content": "x"}, {"role": "user", "content": " "}]}, 422),
        ({**ASK, "temperature": "hot"}, 422),
        ({**ASK, "max_tokens": 10**12}, 422),
        ({**ASK, "n": 3}, 422),
    ):
        answer = client.post("/v1/chat/completions", json=body)
        assert (answer.status_code, set(answer.json()["error"])) == (status, {"message", "type", "code", "param"}), answer.text
    assert client.get("/v1/nothing").json()["error"]["code"] == "route_missing"
    client.post("/v1/chat/completions", json={**ASK, "max_tokens": 4})
    daemon.script(Scripted(["一", "二", "三"], end="nothing"))
    said = events(client, {**ASK, "model": "orchestra/general"})
    assert text_of(said) == "一二三"
    assert said[-2]["error"]["code"]
    assert said[-1] is None


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat"])
def test_what_nobody_foresaw_ends_a_stream_as_an_error_and_nothing_of_it_is_logged(
    served: Served, monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture, path: str
) -> None:
    async def answer(voice: PersonaVoice, dialogue: Dialogue) -> AsyncGenerator[Piece]:
        yield Piece("一")
        raise ValueError(dialogue.question)

    monkeypatch.setattr(PersonaVoice, "answer", answer)
    text = served().post(path, json={**ASK, "stream": True}).text
    assert ("data: [DONE]" if path.startswith("/v1") else '"done":true,"done_reason":"incomplete"') in text.strip().splitlines()[-1]
    assert "ValueError" in text
    assert "unforeseen: ValueError" in logged.text
    assert "违约金" not in text + logged.text


@pytest.mark.parametrize("error", HINTS)
def test_what_to_do_is_said_to_somebody_without_a_command_line(error: type[OrchestraError]) -> None:
    made = error(name="n", needed_window=9, limit=3, seconds=5)
    for language in ("en", "zh"):
        assert "--" in made.hint(language) or "`orchestra " in made.hint(language), "nothing to say otherwise"
        assert not [sign for sign in ("--", "`orchestra ", "{") if sign in hint_of(made, language)]
    assert "at most" in hint_of(PromptTooLong(needed_window=9, most=3), "en"), "what the error itself knows better stays"


def test_a_question_that_was_here_before_is_refused_and_one_from_far_down_asks_nobody_more(served: Served, daemon: StandIn) -> None:
    client = served()
    for model in ("orchestra/lawyer", "orchestra/coordinator"):
        name = model.replace("orchestra/coordinator", "standardization_expert").removeprefix("orchestra/")
        answer = client.post("/v1/chat/completions", json={**ASK, "model": model}, headers=Lineage().at(name).headers())
        assert (answer.status_code, answer.json()["error"]["code"]) == (508, "agent_recursion")
    assert daemon.asked("/api/chat") == []
    deep = Lineage(depth=1).headers()
    said = client.post("/v1/chat/completions", json={**ASK, "model": "orchestra/standardization_expert", "max_tokens": 8}, headers=deep)
    assert said.status_code == 200
    assert len(daemon.asked("/api/chat")) == 1, "it answers alone"


def test_while_experts_work_a_comment_keeps_the_connection(served: Served, daemon: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "QUIET", 0.05)
    monkeypatch.setattr(waiting, "TICK", 0.02)
    daemon.script(Scripted(["一", "二"], pace=0.2))
    said = events(served(), {**ASK, "model": "orchestra/general"})
    assert ": still at work" in said
    assert text_of(said) == "一二"


def test_whoever_leaves_frees_the_model(served: Served, daemon: StandIn) -> None:
    daemon.script(Scripted(["字"] * 500, pace=0.02))
    client = served()
    with client.stream("POST", "/v1/chat/completions", json={**ASK, "model": "orchestra/general", "stream": True}) as answer:
        lines = answer.iter_lines()
        while "content" not in next(lines):
            pass
    until = time.monotonic() + 5
    while daemon.active and time.monotonic() < until:
        threading.Event().wait(0.02)
    assert not daemon.active


TITLE = """### Task:
Generate a concise, 3-5 word title with an emoji summarizing the chat history.
### Output:
JSON format: { "title": "your concise title here" }
### Chat History:
<chat_history>
USER: 违约金过高可以调整吗？
ASSISTANT: 可以。
</chat_history>"""


def test_a_title_wakes_no_model(served: Served, daemon: StandIn) -> None:
    client = served()
    body = {**ASK, "messages": [{"role": "user", "content": TITLE}]}
    said = client.post("/v1/chat/completions", json=body, headers={"X-Orchestra-Task": "title_generation"}).json()
    assert "违约金" in json.loads(said["choices"][0]["message"]["content"])["title"]
    assert "违约金" in text_of(events(client, body))
    assert daemon.asked("/api/chat") == []
