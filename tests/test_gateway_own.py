"""The stored dialogues, answers with sources, local documents and search over HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import Served, serving
from test_gateway import JSON, SEED, error, idle, served  # noqa: F401 - with fixtures

from orchestra.api import Orchestra
from orchestra.model.messages import Message
from orchestra.retrieval.passages import Passage
from orchestra.sessions.store import Store
from orchestra.standin import Scripted, StandIn

ACTS = [("GET", ""), ("DELETE", ""), ("GET", "/export"), ("POST", "/fork")]
SAID = [Message("user", "我的代号是白鹭。"), Message("assistant", "记住了。"), Message("user", "代号？"), Message("assistant", "白鹭。")]


@pytest.fixture(name="store")
def a_store(home: Path) -> Store:
    """What this test's services keep, closed after each use so that nobody waits."""
    return Store(home)


@pytest.fixture(name="client")
def a_client(served: Served, store: Store) -> httpx.Client:  # noqa: F811
    """Everybody, with one dialogue of two turns."""
    with store:
        store.create("lesson", history=SAID, persona="lawyer")
    return served()


@pytest.fixture(name="everybody", scope="module")
def a_service_that_refuses(idle: StandIn) -> Iterator[httpx.Client]:  # noqa: F811
    """For what is refused before anybody is asked."""
    with serving(idle.url) as served_over:
        yield served_over()


# --- sessions


def test_sessions_are_listed_and_read(client: httpx.Client, standin: StandIn) -> None:
    (listed,) = client.get("/sessions").json()["sessions"]
    assert (listed["name"], listed["turns"], listed["persona"]) == ("lesson", 2, "lawyer")
    read = client.get("/sessions/lesson").json()
    assert [message["content"] for message in read["messages"]] == [message.content for message in SAID]
    assert {key: read[key] for key in listed} == listed
    assert not standin.requests


def test_what_is_said_in_chat_is_read_there(client: httpx.Client, standin: StandIn) -> None:
    standin.script("好的。")
    client.post("/chat", json={"intent": "你好", "session": "a/b 草稿?"})
    assert client.get("/sessions/a%2Fb%20%E8%8D%89%E7%A8%BF%3F").json()["messages"][1]["content"] == "好的。"


def test_a_session_is_forked(client: httpx.Client) -> None:
    forked = client.post("/sessions/lesson/fork", json={"name": "other", "at": 1})
    assert (forked.status_code, forked.json()["name"], forked.json()["turns"]) == (201, "other", 1)
    assert client.post("/sessions/lesson/fork", json={}).json()["name"] == "lesson-2"
    assert "other" in error(client.post("/sessions/lesson/fork", json={"name": "other"}), 409, "session_exists")["message"]
    error(client.post("/sessions/lesson/fork", json={"at": 9}), 422, "usage_error")
    assert len(client.get("/sessions").json()["sessions"]) == 3


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"at": -1}, "at: must be at least 0"),
        ({"at": "1"}, "at: must be a whole number"),
        ({"name": ""}, "name: must not be empty"),
        ({"to": "x"}, "to: is not known; there is: name, at"),
        ([], 'body: must be an object: {"field": value}'),
    ],
)
def test_a_fork_that_cannot_be(body: Any, message: str, everybody: httpx.Client) -> None:
    assert error(everybody.post("/sessions/lesson/fork", json=body), 422, "field_invalid")["message"] == message
    error(everybody.post("/sessions/lesson/fork", content=b"{}", headers={"content-type": "text/plain"}), 415, "media_type_refused")


def test_a_session_is_exported_as_a_file(client: httpx.Client) -> None:
    exported = client.get("/sessions/lesson/export")
    lines = [json.loads(line) for line in exported.text.splitlines()]
    assert [line["content"] for line in lines[1:]] == [message.content for message in SAID]
    assert exported.headers["content-type"] == "application/jsonl; charset=utf-8"
    assert exported.headers["content-disposition"] == "attachment; filename*=UTF-8''lesson.jsonl"
    page = client.get("/sessions/lesson/export", params={"format": "md"})
    assert "我的代号是白鹭。" in page.text
    assert page.headers["x-content-type-options"] == "nosniff"
    assert error(client.get("/sessions/lesson/export?format=html"), 422, "field_invalid")["message"] == "format: must be 'jsonl' or 'md'"


def test_a_session_is_deleted(client: httpx.Client) -> None:
    deleted = client.delete("/sessions/lesson")
    assert (deleted.status_code, deleted.content) == (204, b"")
    error(client.delete("/sessions/lesson"), 404, "session_missing")
    assert client.get("/sessions").json() == {"sessions": []}


def test_a_session_that_is_not_there(client: httpx.Client) -> None:
    for name in ("nobody", "lesso", "..%2F..%2Fetc%2Fpasswd", "%00", "%ff", "x" * 5000, ""):
        for method, path in ACTS:
            said = error(client.request(method, f"/sessions/{name}{path}", content=b"{}", headers=JSON), 404, "session_missing")
            assert "'lesson'" not in said["message"], "no other name is told"


def test_a_session_belongs_to_its_key(
    served: Served, store: Store, standin: StandIn, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:
    with store:
        store.create("lesson", history=SAID)
    monkeypatch.setenv("ORCHESTRA_TOKENS", "alice=key-a bob=key-b")
    client = served(token="key-o")
    owner, alice, bob = ({"authorization": f"Bearer key-{who}"} for who in "oab")
    standin.script("好。")
    client.post("/chat", json={"intent": "我是爱丽丝", "session": "mine"}, headers=alice)
    names = [[each["name"] for each in client.get("/sessions", headers=who).json()["sessions"]] for who in (owner, alice, bob)]
    assert names == [["lesson"], ["mine"], []]
    assert client.get("/sessions/mine", headers=alice).json()["session"] == "mine"
    assert client.post("/sessions/mine/fork", json={"name": "more"}, headers=alice).json()["name"] == "more"
    for name in ("mine", "alice/mine", "lesson"):
        for method, path in ACTS:
            for who in (bob, owner) if name != "lesson" else (alice, bob):
                said = error(client.request(method, f"/sessions/{name}{path}", content=b"{}", headers={**JSON, **who}), 404, "session_missing")
                assert f"session {name!r}" in said["message"]
    error(client.get("/sessions/mine"), 401, "token_refused")
    with monkeypatch.context() as unguarded:
        unguarded.setattr("orchestra.gateway.keys.Keys.session", lambda self, holder, name: name)
        assert client.get("/sessions/alice/mine", headers=bob).status_code == 200, "the red control: the names by key are what refuses"
    assert client.delete("/sessions/mine", headers=alice).status_code == 204


def test_a_user_sees_their_own_alone(served: Served, store: Store, standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """Everybody at Open WebUI asks with one key."""
    with store:
        store.create("lesson", history=SAID)
        store.create("@u2/secret", history=SAID)
        store.create("@u2/lesson", history=SAID)
    client = served()
    one, two = ({"x-openwebui-user-id": name} for name in ("u1", "u2"))
    standin.script("好。")
    assert client.post("/chat", json={"intent": "我是一", "session": "mine"}, headers=one).json()["session"] == "mine"
    names = [{each["name"] for each in client.get("/sessions", headers=who).json()["sessions"]} for who in ({}, one, two)]
    assert names == [{"lesson", "@u2/secret", "@u2/lesson", "@u1/mine"}, {"@u1/mine"}, {"@u2/secret", "@u2/lesson"}]
    assert [client.get(f"/sessions/{name}", headers=one).json()["name"] for name in ("mine", "@u1/mine")] == ["@u1/mine"] * 2
    for name in ("lesson", "secret", "@u2/secret"):
        for method, path in ACTS:
            error(client.request(method, f"/sessions/{name}{path}", content=b"{}", headers={**JSON, **one}), 404, "session_missing")
        standin.script("好。")
        client.post("/chat", json={"intent": "代号？", "session": name}, headers=one)
        assert "白鹭" not in json.dumps(standin.asked("/api/chat")[-1], ensure_ascii=False), "a dialogue of another user's goes on"
    with monkeypatch.context() as unguarded:
        unguarded.setattr("orchestra.gateway.owning._of_user", lambda request: "")
        assert client.get("/sessions/@u2/secret", headers=one).status_code == 200, "the red control: the names by user are what refuses"
    assert client.delete("/sessions/@u1/mine", headers=one).status_code == 204


# --- looking things up


def test_a_question_is_answered_with_its_sources(client: httpx.Client, standin: StandIn) -> None:
    standin.script("Paris is the capital of France [1].")
    answer = client.post("/ask", json={"question": "What is the capital of France?", "search": "offline"}).json()
    assert answer["response"] == answer["text"] == "Paris is the capital of France [1]."
    assert (answer["sources"][0]["n"], answer["sources"][0]["cited"], answer["finish_reason"]) == (1, True, "stop")
    assert answer["ledger"]["attempts"][0]["name"] == "offline"


def test_a_question_is_a_turn_where_a_session_is_named(client: httpx.Client, standin: StandIn) -> None:
    standin.script("Paris [1].")
    client.post("/ask", json={"question": "What is the capital of France?", "session": "facts"}, headers={"Orchestra-Max-Tokens": "7"})
    assert standin.asked("/api/chat")[0]["options"]["num_predict"] == 7
    read = client.get("/sessions/facts").json()["messages"]
    assert [message["content"] for message in read] == ["What is the capital of France?", "Paris [1]."]
    assert read[1]["ground"]["sources"]


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/ask", {}, "question: is missing"),
        ("/ask", {"question": " "}, "question: it is empty"),
        ("/ask", {"question": "x", "results": 21}, "results: must be at most 20"),
        ("/ask", {"question": "x", "strategy": "deep"}, "strategy: must be 'auto', 'direct' or 'draft'"),
        ("/ask", {"question": "x", "base_url": "http://x"}, None),
        ("/ask", {"question": "x", "knowledge": "notes"}, "knowledge: must be a list"),
        ("/knowledge/search", {"query": ""}, "query: it is empty"),
        ("/knowledge/search", {"query": "x", "limit": 0}, "limit: must be at least 1"),
        ("/knowledge/search", {"query": "x" * 2001}, "query: is longer than 2000 characters"),
        ("/search", {"query": 5}, "query: must be a text"),
        ("/search", {"query": "x", "count": 10_000}, "count: must be at most 20"),
        ("/search", {"query": "x", "engine": "y"}, "engine: is not known; there is: query, count"),
    ],
)
def test_a_body_that_is_not_what_was_asked_for(path: str, body: Any, message: str | None, everybody: httpx.Client) -> None:
    said = error(everybody.post(path, json=body), 422, "field_invalid")["message"]
    assert message in (None, said)
    error(everybody.post(path, content=b"{", headers=JSON), 400, "body_invalid")


def test_what_is_named_and_not_there(client: httpx.Client) -> None:
    error(client.post("/ask", json={"question": "x y z", "knowledge": ["nowhere"]}), 404, "knowledge_missing")
    error(client.post("/ask", json={"question": "x y z", "search": "/etc/passwd"}), 422, "usage_error")
    error(client.post("/knowledge/search", json={"query": "x", "name": "nowhere"}), 404, "knowledge_missing")


def test_local_documents_are_found(client: httpx.Client, standin: StandIn, tmp_path: Path) -> None:
    note = tmp_path / "egret.md"
    note.write_text("# Birds\n\nThe egret nests in colonies near water.\n", "utf-8")
    with Orchestra(host=standin.url) as orchestra:
        orchestra.knowledge.add(note, name="birds")
    found = client.post("/knowledge/search", json={"query": "where does the egret nest", "name": "birds"}).json()
    assert "colonies" in found["hits"][0]["text"]
    assert (found["hits"][0]["source"], found["mode"], found["why"]) == (str(note), "full_text", "")


def test_search_is_an_engine_for_open_webui(client: httpx.Client, standin: StandIn) -> None:
    results = client.post("/search", json={"query": "capital of France", "count": 2}).json()
    assert isinstance(results, list)
    assert 1 <= len(results) <= 2
    assert set(results[0]) == {"link", "title", "snippet"}
    assert "Paris" in results[0]["snippet"]
    assert client.post("/search", json={"query": "zxqv wvut"}).json() == []
    assert not standin.requests


def test_what_cannot_be_seen_is_no_part_of_a_result(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    hit = Passage(title="A\u202e\x1b[1m\nB", url="https://a.example/", text="x\u200b y\n\n" + "z" * 5000)
    monkeypatch.setattr("orchestra.retrieval.offline.Offline.search", lambda self, query, *, results: [hit])
    (result,) = client.post("/search", json={"query": "anything at all"}).json()
    assert result["title"] == "A[1m B"
    assert result["snippet"].startswith("x y zzz")
    assert len(result["snippet"]) == 1000


def test_where_no_service_answers_it_is_said(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> list[Passage]:
        raise OSError("away")

    monkeypatch.setattr("orchestra.retrieval.offline.Offline.search", away)
    assert "offline" in error(client.post("/search", json={"query": "anything at all"}), 504, "search_unreachable")["message"]


def test_a_caller_that_leaves_frees_the_model(client: httpx.Client, standin: StandIn) -> None:
    standin.script(Scripted(" ".join(map(str, range(400))), pace=0.05))
    with pytest.raises(httpx.ReadTimeout):
        client.post("/ask", json={"question": "What is the capital of France?"}, timeout=0.7)
    until = time.monotonic() + 5
    while not standin.cancelled and time.monotonic() < until:
        time.sleep(0.02)
    assert (standin.cancelled, standin.active) == (1, 0)


# --- who is served


def test_one_expert_alone_keeps_its_owners_dialogues(served: Served, store: Store) -> None:  # noqa: F811
    with store:
        store.create("lesson", history=SAID)
    alone = served(SEED)
    for method, path in [("GET", "/sessions"), ("GET", "/sessions/lesson"), ("POST", "/ask"), ("POST", "/search")]:
        error(alone.request(method, path), 404, "route_missing")


def test_the_routes_are_described(everybody: httpx.Client) -> None:
    paths = everybody.get("/openapi.json").json()["paths"]
    assert {"/sessions", "/sessions/{name}", "/sessions/{name}/fork", "/sessions/{name}/export", "/ask", "/knowledge/search", "/search"} <= set(paths)
    schema = paths["/search"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert (set(schema["properties"]), schema["additionalProperties"]) == ({"query", "count"}, False)
