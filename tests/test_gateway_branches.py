"""Sessions behind clients that send the whole dialogue each time, over real sockets."""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import Served, serving

from orchestra.errors import StorageFull
from orchestra.gateway import branches
from orchestra.gateway.branches import prefix_of
from orchestra.sessions.journal import Journal
from orchestra.sessions.store import Store
from orchestra.settings import Settings
from orchestra.standin import Scripted, StandIn

CHAT = {"X-OpenWebUI-Chat-Id": "c1", "X-OpenWebUI-User-Id": "anna"}
NAME = "@anna/c1"


@pytest.fixture
def store() -> Iterator[Store]:
    with Store(Settings.read().folder()) as store:
        yield store


def messages(*texts: str) -> list[dict[str, str]]:
    return [{"role": "assistant" if place % 2 else "user", "content": text} for place, text in enumerate(texts)]


def say(client: httpx.Client, *texts: str, model: str = "orchestra/general", head: dict[str, str] | None = None, **body: Any) -> str:
    asked = {"model": model, "messages": messages(*texts), "max_tokens": 12, **body}
    answer = client.post("/v1/chat/completions", json=asked, headers=CHAT if head is None else head)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


def shown(store: Store, name: str = NAME) -> list[tuple[str, str]]:
    return [(turn.question, turn.answer) for turn in store.history(name)]


def names(store: Store) -> list[str]:
    return sorted(record.name for record in store.sessions())


def eventually(found: Callable[[], bool]) -> None:
    until = time.monotonic() + 5
    while not found():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_chat_is_a_session_whose_turns_are_stored_once(served: Served, store: Store) -> None:
    client = served()
    first = say(client, "我叫小明。")
    second = say(client, "我叫小明。", first, "我叫什么？")
    assert shown(store) == [("我叫小明。", first), ("我叫什么？", second)]
    (listed,) = client.get("/sessions").json()["sessions"]
    assert (listed["name"], listed["user"], listed["chat"], listed["turns"]) == (NAME, "anna", "c1", 2)
    assert second in client.get(f"/sessions/{NAME}").text
    again = say(client, "我叫小明。", first, "我叫什么？")
    assert shown(store) == [("我叫小明。", first), ("我叫什么？", again)], "made again: beside the other"
    edited = say(client, "我叫小红。")
    assert shown(store) == [("我叫小红。", edited)]
    assert names(store) == [NAME]


def test_what_is_sent_decides_what_the_model_is_shown(served: Served, daemon: StandIn) -> None:
    client = served()
    say(client, "My name is Anna.")
    say(client, "My name is Bert.", "Hello Bert, edited.", "What is my name?")
    sent = [one["content"] for one in daemon.asked("/api/chat")[-1]["messages"]]
    assert sent[1].startswith("My name is Bert.")
    assert sent[2] == "Hello Bert, edited."
    assert "Anna" not in "".join(sent[1:])


def test_a_chat_belongs_to_its_user_and_to_its_key(served: Served, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRA_TOKENS", "alice=key-a bob=key-b")
    client = served(token="main")
    for key, user in [("main", "anna"), ("main", "bert"), ("key-a", "anna"), ("key-b", "alice")]:
        client.headers["Authorization"] = f"Bearer {key}"
        say(client, "hello", head={"X-OpenWebUI-Chat-Id": "c1", "X-OpenWebUI-User-Id": user})
    assert names(store) == ["@anna/c1", "@bert/c1", "alice/@anna/c1", "bob/@alice/c1"]
    assert [one["name"] for one in client.get("/sessions").json()["sessions"]] == ["@alice/c1"]
    assert client.get("/sessions/@anna/c1").status_code == 404
    assert client.get("/sessions/alice/@anna/c1").status_code == 404


def test_red_control_a_name_without_its_user_is_everybodys(served: Served, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branches, "prefix_of", lambda holder, user: "@/")
    client = served()
    for user in ("anna", "bert"):
        say(client, "hello", head={"X-OpenWebUI-Chat-Id": "c1", "X-OpenWebUI-User-Id": user})
    assert names(store) == ["@/c1"]


def test_whatever_a_chat_is_called_its_name_is_short_and_its_users_own(served: Served, store: Store) -> None:
    chats = ["../@bert/c1", "a/b", "@bert/c1", "x" * 10_000, "对话" * 100, "a\tb", "..", "a~b", "%2e%2e%2f", "%00%0a", "x \u202ey"]
    client = served()
    for chat in [*chats, *chats]:
        sent: Any = {"X-Orchestra-Chat": chat.encode(), "X-OpenWebUI-User-Id": "anna"}
        say(client, "hello", head=sent)
    assert len(names(store)) == len(chats)
    for name in names(store):
        assert name.startswith("@anna/")
        assert name.count("/") == 1
        assert len(name) <= 120
        assert name.isprintable()
        assert client.get(f"/sessions/{name}").status_code == 200


def test_what_differs_has_names_that_differ() -> None:
    holders = ["", "alice"]
    users = ["", "anna", "x" * 200, "x" * 201, "a/b", "a_b", "a~b"]
    assert len({prefix_of(holder, user) for holder in holders for user in users}) == len(holders) * len(users)


def test_what_is_not_to_be_kept_is_not_kept(served: Served, store: Store) -> None:
    client, chat = served(), "X-OpenWebUI-Chat-Id"
    for head in ({chat: "temporary:x1"}, {chat: "local:x1"}, {"X-Orchestra-Chat": "a", chat: "Temporary:x"}, {}):
        first = say(client, "hello", head=head)
        assert say(client, "hello", first, "and now?", head=head)
    assert names(store) == []


def test_red_control_what_is_not_known_to_pass_is_kept(served: Served, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branches, "PASSING", ("nothing",))
    say(served(), "hello", head={"X-OpenWebUI-Chat-Id": "temporary:x1"})
    assert names(store) == ["@/temporary:x1"]


def test_the_title_of_a_chat_is_no_turn_of_it(served: Served, store: Store) -> None:
    say(served(), "hello", head={**CHAT, "X-Orchestra-Task": "title_generation"})
    assert names(store) == []


def test_a_client_that_names_no_chat_is_recognised_where_all_is_kept(
    served: Served, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRA_RECORD", "1")
    client = served()
    question = "What is the capital of France?"
    first = say(client, question, head={}, model="orchestra/search")
    assert "\n[1] France\n" in first, "the sources below an answer are none of its words"
    say(client, question, first, "And a tree?", head={})
    (record,) = store.sessions()
    assert [turn.question for turn in store.history(record.name)] == [question, "And a tree?"]
    say(client, "temporary", head={"X-OpenWebUI-Chat-Id": "temporary:x"})
    assert len(store.sessions()) == 1


def test_an_answer_is_given_once_for_the_same_message(served: Served, daemon: StandIn, store: Store) -> None:
    client = served()
    for model in ("general", "auto", "search", "coordinator"):
        head = {"X-Orchestra-Chat": model, "X-Orchestra-Message": "m1"}
        first = say(client, "hello", head=head, model=f"orchestra/{model}")
        asked = len(daemon.asked("/api/chat"))
        assert say(client, "hello", head=head, model=f"orchestra/{model}") == first
        assert len(daemon.asked("/api/chat")) == asked
        assert len(store.history(f"@/{model}")) == 1


def test_who_stops_in_mid_stream_leaves_what_came(served: Served, daemon: StandIn, store: Store) -> None:
    daemon.script(Scripted("one two three four five six seven eight nine ten " * 20, pace=0.01))
    client = served()
    body = {"model": "orchestra/general", "messages": messages("count"), "stream": True}
    with client.stream("POST", "/v1/chat/completions", json=body, headers=CHAT) as answer:
        lines = answer.iter_lines()
        came = ""
        while len(came) < 20:
            line = next(lines)
            if line.startswith("data: {"):
                came += json.loads(line[6:])["choices"][0]["delta"].get("content", "")
    eventually(lambda: store.history(NAME)[0].status == "interrupted")
    (turn,) = store.history(NAME)
    assert turn.answer.startswith(came)
    assert turn.finish_reason == "cancelled"
    say(client, "count", came, "go on")
    assert [one.question for one in store.history(NAME)] == ["count", "go on"], "what the client has of it is recognised"


def test_an_answer_comes_though_it_cannot_be_kept(
    served: Served, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(branches, "PATIENCE", 0.2)
    client = served()
    say(client, "hello")
    holding = sqlite3.connect(store.path, isolation_level=None)
    holding.execute("BEGIN IMMEDIATE")
    with caplog.at_level(logging.WARNING, "orchestra.gateway"):
        begun = time.monotonic()
        assert say(client, "hello", "Hi, what is it?", "are you there?")
        assert time.monotonic() - begun < 5
    assert "not kept" in caplog.text
    assert "are you there" not in caplog.text
    holding.execute("ROLLBACK")
    holding.close()


def test_an_answer_whose_end_cannot_be_kept_has_its_end_all_the_same(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StorageFull(path="sessions.db")

    monkeypatch.setattr(Journal, "finish", full)
    body = {"model": "orchestra/general", "messages": messages("hello"), "stream": True, "max_tokens": 8}
    with caplog.at_level(logging.WARNING, "orchestra.gateway"):
        told = served().post("/v1/chat/completions", json=body, headers=CHAT).text
        eventually(lambda: "not kept: storage_full" in caplog.text)
    assert '"finish_reason": "length"' in told
    assert '"error"' not in told


def test_whoever_fits_is_remembered_and_every_model_of_a_chat_writes_into_one_session(
    served: Served, store: Store, daemon: StandIn
) -> None:
    client = served()
    first = say(client, "违约金过高可以调整吗？", model="orchestra/auto")
    second = say(client, "违约金过高可以调整吗？", first, "那怎么举证？", model="orchestra/auto")
    past = ["违约金过高可以调整吗？", first, "那怎么举证？", second]
    third = say(client, *past, "What is the capital of France?", model="orchestra/search")
    past += ["What is the capital of France?", third]
    fourth = say(client, *past, "制定一份人工智能合规清单", model="orchestra/coordinator")
    say(client, *past, "制定一份人工智能合规清单", fourth, "谢谢，再说一遍？", model="orchestra/translator")
    turns = store.history(NAME)
    assert [turn.persona for turn in turns][:2] == ["lawyer", "lawyer"]
    assert turns[2].ground, "its sources are kept"
    assert turns[3].ground
    assert {"trace", "missing"} <= set(turns[3].ground)
    assert store.session(NAME).auto
    assert len(turns) == 5
    shown = [one["content"] for one in daemon.asked("/api/chat")[-1]["messages"]]
    assert any("违约金" in one for one in shown), "who is asked by name reads the whole dialogue"


def test_a_dialogue_that_outgrows_the_window_is_summarised_and_said_in_one_prefix(store: Store) -> None:
    with StandIn(window=2048) as daemon, serving(daemon.url) as served:
        client, past = served(), list[str]()
        for number in range(14):
            past.append(f"Question {number}: " + "what about this matter, and that one, and another? " * 6)
            past.append(say(client, *past, max_tokens=40))
        eventually(lambda: bool(_summaries(store.path)))
        past.append("And what was the first question?")
        say(client, *past)
        sent = daemon.asked("/api/chat")[-1]["messages"]
    assert len(sent) < len(past)
    assert any("What was said before" in one["content"] for one in sent)
    assert len(store.history(NAME)) == 15, "the store keeps every word"


def test_what_does_not_fit_and_is_kept_nowhere_is_left_out_in_large_steps_and_said() -> None:
    with StandIn(window=2048) as daemon, serving(daemon.url) as served:
        client, past, begins = served(), list[str](), list[str]()
        for number in range(20):
            past.append(f"Question {number}: " + "what about this matter, and that one, and another? " * 6)
            past.append(say(client, *past, head={}, max_tokens=40))
            begins.append(daemon.asked("/api/chat")[-1]["messages"][1]["content"][:12])
        sent = daemon.asked("/api/chat")[-1]["messages"]
    assert past[-1].startswith("[The ")
    assert not past[3].startswith("[The ")
    assert not any("did not fit" in one["content"] for one in sent), "the model reads none of our words as its own"
    assert 1 < len(set(begins)) <= 6, "the prompt keeps its beginning for several turns"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_task_at_the_end_of_a_long_dialogue_says_what_it_does_not_stand_on(language: str) -> None:
    about = {"en": "what about this matter, and that one, and another? ", "zh": "这件事怎么办，那件事又怎么办？"}[language]
    past = [text for number in range(20) for text in (f"Question {number}: " + about * 12, "Noted.")]
    with StandIn(window=4096) as daemon, serving(daemon.url) as served:
        client, model = served(), "orchestra/coordinator"
        short = say(client, *past[-2:], about, model=model, head={})
        answer = say(client, *past, about, model=model, head={})
        asked = [[one["content"] for one in sent["messages"]] for sent in daemon.asked("/api/chat")]
        again = say(client, *past, about, answer, about, model=model, head={})
        last = [[one["content"] for one in sent["messages"]] for sent in daemon.asked("/api/chat")][len(asked) :]
    assert not short.startswith(("[The ", "［最早"))
    assert answer.startswith({"en": "[The ", "zh": "［最早的 "}[language]), answer[:80]
    assert again.startswith(("[The ", "［最早"))
    assert "4096" in answer.splitlines()[0]
    assert all(past[0] not in said for said in asked), "neither a step nor the answer is more than the window holds"
    assert any(past[-2] in said for said in asked)
    assert not any("did not fit" in text or "已略去" in text for said in last for text in said)


def _summaries(path: Path) -> list[Any]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute("SELECT text FROM compaction WHERE fault IS NULL").fetchall()
    finally:
        connection.close()
