"""The lesson's services over HTTP: what they answer, what they refuse, and that a caller who leaves frees the model."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import Served, serving

from orchestra.agents.lineage import Lineage
from orchestra.errors import PersonaMissing, PortTaken, UsageError
from orchestra.gateway import create_app
from orchestra.gateway.access import Caller
from orchestra.gateway.keys import OWNER
from orchestra.gateway.serving import Service, guarded, serve, taken
from orchestra.settings import Settings
from orchestra.standin import Scripted, StandIn

TASK = "制定人工智能合规标准，避免人工智能伤害人类"
SEED = "你是一名熟悉人工智能的计算机科学家，代号白鹭。"
@pytest.fixture
def served(standin: StandIn) -> Iterator[Served]:
    """A service over this test's daemon."""
    with serving(standin.url) as served:
        yield served


@pytest.fixture(scope="module")
def idle(clean_environment: Path) -> Iterator[StandIn]:
    """A daemon that nobody shall ask."""
    with StandIn() as daemon:
        yield daemon
        assert not daemon.requests


@pytest.fixture(scope="module")
def expert(idle: StandIn) -> Iterator[httpx.Client]:
    """One expert, for what is refused before anybody is asked."""
    with serving(idle.url) as served:
        yield served(SEED)


@pytest.fixture(scope="module")
def closed(idle: StandIn) -> Iterator[httpx.Client]:
    """Everybody, behind a token."""
    with serving(idle.url) as served:
        yield served(token="s3cret-token")


def error(response: httpx.Response, status: int, code: str) -> dict[str, str]:
    """The error of a response, which has the one shape of all errors."""
    assert response.status_code == status, response.text
    found: dict[str, str] = response.json()["error"]
    assert set(found) == {"code", "message", "hint"}
    assert found["code"] == code
    assert all(found.values())
    return found


# --- what it answers


def test_a_seed_memory_is_a_service(served: Served, standin: StandIn) -> None:
    standin.script("你好，我在。")
    answer = served(SEED).post("/chat", json={"intent": "你是谁？"}).json()
    assert answer["response"] == "你好，我在。"
    assert (answer["persona"], answer["finish_reason"]) == ("expert", "stop")
    messages = standin.asked("/api/chat")[0]["messages"]
    assert messages[0] == {"role": "system", "content": SEED}
    assert messages[1]["content"].startswith("你是谁？")


def test_the_lessons_way_to_begin_a_seed_memory_is_no_part_of_it(served: Served, standin: StandIn) -> None:
    standin.script("好。")
    served("system: " + SEED).post("/chat", json={"intent": "你是谁？"})
    assert standin.asked("/api/chat")[0]["messages"][0]["content"] == SEED


def test_one_persona_alone(served: Served, standin: StandIn) -> None:
    standin.script("依法。")
    client = served(persona="lawyer")
    assert client.post("/chat", json={"intent": "数据出境合规吗？", "persona": "lawyer"}).json()["persona"] == "lawyer"
    who = client.get("/persona").json()
    assert who["name"] == "lawyer"
    assert set(who["description"]) == {"en", "zh"}
    assert "lawyer" in error(client.post("/chat", json={"intent": "x", "persona": "general"}), 404, "persona_missing")["message"]
    error(client.post("/integrate", json={"task": TASK}), 404, "route_missing")


def test_everybody(served: Served, standin: StandIn) -> None:
    standin.script("甲。", "乙。")
    client = served()
    assert client.post("/chat", json={"intent": "你好"}).json()["persona"] == "general"
    assert client.post("/chat", json={"intent": "你好", "persona": "lawyer"}).json()["persona"] == "lawyer"
    error(client.post("/chat", json={"intent": "你好", "persona": "../secret"}), 404, "persona_missing")


def test_a_dialogue_is_kept_where_it_is_named(served: Served, standin: StandIn) -> None:
    standin.script("记住了。", "白鹭。")
    client = served(persona="lawyer")
    body = {"intent": "我的代号是白鹭。", "session": "lesson"}
    first = client.post("/chat", json=body, headers={"idempotency-key": "1"}).json()
    assert first["session"] == "lesson"
    assert client.post("/chat", json=body, headers={"idempotency-key": "1"}).json()["response"] == first["response"]
    client.post("/chat", json={"intent": "我的代号是什么？", "session": "lesson"})
    asked = standin.asked("/api/chat")
    assert len(asked) == 2, "a request that is sent again is answered from the store"
    assert "我的代号是白鹭。" in json.dumps(asked[1], ensure_ascii=False)


def test_the_lessons_task(served: Served) -> None:
    answer = served(coordinator="standardization_expert").post("/integrate", json={"task": TASK}).json()
    assert answer["response"].strip()
    assert answer["missing"] == []
    assert {step["expert"] for step in answer["steps"]} == {"computer_scientist", "lawyer"}


def test_a_persona_that_is_not_there_is_said_at_once() -> None:
    for given in ({"persona": "nobody"}, {"coordinator": "nobody"}):
        with pytest.raises(PersonaMissing):
            create_app(**given)  # type: ignore[arg-type]


def test_health(served: Served, standin: StandIn) -> None:
    client = served()
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready", "model": "llama3", "daemon": standin.url}
    standin.stop()
    assert client.get("/healthz").status_code == 200
    error(client.get("/readyz"), 503, "daemon_unreachable")


def test_the_routes_are_described(served: Served) -> None:
    described = served().get("/openapi.json").json()
    assert {"/chat", "/integrate", "/persona", "/healthz", "/readyz"} <= set(described["paths"])
    chat = described["paths"]["/chat"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert set(chat["properties"]) == {"intent", "persona", "session"}
    assert chat["additionalProperties"] is False


# --- what it refuses

JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b'{"intent": "x"}', {"content-type": "text/plain"}, 415, "media_type_refused"),
        (b'{"intent": "x"}', {}, 415, "media_type_refused"),
        (b'{"intent": x}', JSON, 400, "body_invalid"),
        (b'\xff{"intent": "x"}', JSON, 400, "body_invalid"),
        (b"[" * 100_000, JSON, 400, "body_invalid"),
        (b'"intent"', JSON, 422, "field_invalid"),
        (b"{}", JSON, 422, "field_invalid"),
        (b'{"intent": ""}', JSON, 422, "field_invalid"),
        (b'{"intent": " \\n\\u3000"}', JSON, 422, "field_invalid"),
        (b'{"intent": 5}', JSON, 422, "field_invalid"),
        (b'{"intent": "\\ud800"}', JSON, 422, "field_invalid"),
        (b'{"intent": "x", "base_url": "http://example.org"}', JSON, 422, "field_invalid"),
        (b'{"intent": "x", "session": ""}', JSON, 422, "field_invalid"),
    ],
)  # fmt: skip
def test_a_body_that_is_not_what_was_asked_for(
    content: bytes, headers: dict[str, str], status: int, code: str, expert: httpx.Client
) -> None:
    said = error(expert.post("/chat", content=content, headers=headers), status, code)
    assert "白鹭" not in str(said), "no seed memory in an error"


@pytest.mark.parametrize(
    ("content", "en", "zh"),
    [
        ('"intent"', 'body: must be an object: {"field": value}', 'body：应为对象：{"字段": 值}'),
        ("[]", 'body: must be an object: {"field": value}', 'body：应为对象：{"字段": 值}'),
        ("{}", "intent: is missing", "intent：缺少这一项"),
        ('{"intent": 5}', "intent: must be a text", "intent：应为文字"),
        ('{"intent": "x", "sesion": "a"}', "sesion: is not known; there is: session, persona", "sesion：未知的项；可用的有：session, persona"),
        ('{"intent": "x", "base_url": ""}', "base_url: is not known; there is: intent, persona, session",
         "base_url：未知的项；可用的有：intent, persona, session"),
        ('{"intent": "x", "session": ""}', "session: must not be empty", "session：不能为空"),
        ('{"intent": "x", "persona": "' + "a" * 65 + '"}', "persona: is longer than 64 characters", "persona：超过 64 个字符"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_field_is_said_in_words(content: str, en: str, zh: str, expert: httpx.Client) -> None:
    for language, said in (("en", en), ("zh", zh)):
        answer = expert.post("/chat", content=content, headers={**JSON, "accept-language": language})
        assert error(answer, 422, "field_invalid")["message"] == said


def test_where_it_is_no_json(expert: httpx.Client) -> None:
    assert "byte 15" in error(expert.post("/chat", content='{"intent":"好"!}'.encode(), headers=JSON), 400, "body_invalid")["message"]
    assert "byte 11" in error(expert.post("/chat", content=b'{"intent": x}', headers=JSON), 400, "body_invalid")["message"]
    assert "base_url" in expert.post("/chat", json={"intent": "x", "base_url": ""}).json()["error"]["message"]


@pytest.mark.parametrize(
    ("content", "zh"),
    [
        (b'{"intent": x}', "第 11 字节处缺少值"), (b"{intent: 1}", "第 1 字节处缺少双引号括起的键名"), (b'{"intent" 1}', "第 10 字节处缺少冒号"),
        (b'{"intent": "x" "y"}', "第 15 字节处缺少逗号"), (b'{"intent": "x', "第 11 字节处开始的字符串没有闭合"), (b'{"a": 1} b', "第 9 字节处之后有多余内容"),
        (b'{"a": "\\q"}', "第 7 字节处转义无效"), (b'\xff{"intent": "x"}', "第 0 字节处不是 UTF-8"), (b"[" * 100_000, "第 0 字节处嵌套过深"),
    ],
)  # fmt: skip
def test_where_it_is_no_json_in_chinese(content: bytes, zh: str, expert: httpx.Client) -> None:
    said = error(expert.post("/chat", content=content, headers={**JSON, "accept-language": "zh"}), 400, "body_invalid")["message"]
    assert said == f"请求体不是 JSON：{zh}"


def test_a_body_beyond_the_limit(served: Served, standin: StandIn) -> None:
    standin.script("好。")
    client = served(SEED, body_limit=1000)
    assert client.post("/chat", json={"intent": "x" * 900}).status_code == 200
    assert "1000" in error(client.post("/chat", json={"intent": "x" * 1000}), 413, "body_too_large")["message"]


def test_a_path_or_a_method_that_is_not_served(expert: httpx.Client) -> None:
    error(expert.get("/nothing"), 404, "route_missing")
    for method in ("GET", "DELETE", "TRACE", "PUT"):
        refused = expert.request(method, "/chat")
        assert "POST" in error(refused, 405, "method_refused")["hint"]
        assert refused.headers["allow"] == "POST"


def test_errors_speak_the_callers_language(expert: httpx.Client) -> None:
    spoken = [
        expert.post("/chat", json={"intent": ""}, headers=headers).json()["error"]["message"]
        for headers in ({"accept-language": "zh-CN,zh;q=0.9"}, {"accept-language": "en-GB"}, {})
    ]
    assert spoken == ["intent：内容为空", "intent: it is empty", "intent: it is empty"]


def test_what_had_come_stands_beside_the_error(served: Served, standin: StandIn) -> None:
    standin.script(Scripted("一 二 三 四 五 六", end="nothing"))
    response = served(SEED).post("/chat", json={"intent": "数到六"})
    error(response, 502, "stream_truncated")
    assert response.json()["response"]


# --- who may ask


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer wrong", "Basic s3cret-token", "s3cret-token", "Bearer s3cret-toke", "Bearer " + "x" * 15_000,
     "Bearer s3cret-token2", "Bearer 秘密".encode()],
)  # fmt: skip
def test_without_the_token_nobody_is_answered(authorization: Any, closed: httpx.Client) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    bodies = set()
    for method, path in [("POST", "/chat"), ("POST", "/integrate"), ("GET", "/persona"), ("GET", "/readyz"), ("GET", "/openapi.json"), ("GET", "/x")]:
        refused = closed.request(method, path, headers=headers, params={"token": "s3cret-token"})
        error(refused, 401, "token_refused")
        bodies.add(refused.text)
    assert len(bodies) == 1
    assert "s3cret" not in bodies.pop()


def test_with_the_token(served: Served, standin: StandIn) -> None:
    standin.script("好。")
    client = served(SEED, token="s3cret-token")
    right = ("authorization", "Bearer s3cret-token")
    assert client.post("/chat", json={"intent": "你好"}, headers=[right]).status_code == 200
    error(client.get("/persona", headers=[right, right]), 401, "token_refused")
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:5002", "localhost.evil.example", "0.0.0.0", "10.0.0.1", "169.254.169.254", ""])
def test_a_name_that_was_pointed_here_is_refused(host: str, expert: httpx.Client) -> None:
    error(expert.get("/persona", headers={"host": host}), 421, "host_refused")


@pytest.mark.parametrize("host", ["localhost", "localhost:5000", "LOCALHOST", "127.0.0.1:1", "127.0.0.2", "[::1]:5000"])
def test_this_machines_own_names_are_right(host: str, expert: httpx.Client) -> None:
    assert expert.get("/persona", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "file://", "http://localhost:3000", "http://localhost.evil.example"])
def test_pages_of_others_may_not_ask(origin: str, expert: httpx.Client) -> None:
    refused = expert.post("/chat", json={"intent": "x"}, headers={"origin": origin})
    error(refused, 403, "origin_refused")
    assert "access-control-allow-origin" not in refused.headers
    assert expert.get("/persona", headers={"origin": str(expert.base_url).rstrip("/")}).status_code == 200


def test_names_and_pages_that_were_allowed(monkeypatch: pytest.MonkeyPatch, served: Served) -> None:
    monkeypatch.setenv("ORCHESTRA_ALLOWED_HOSTS", "orchestra other")
    monkeypatch.setenv("ORCHESTRA_ALLOWED_ORIGINS", "https://pages.example")
    client = served(SEED)
    assert client.get("/persona", headers={"host": "orchestra:5002", "origin": "https://pages.example"}).status_code == 200


def test_the_checks_are_what_refuses(monkeypatch: pytest.MonkeyPatch, served: Served) -> None:
    """The red control: without them each of the above would be answered."""
    monkeypatch.setattr("orchestra.gateway.app.admit", lambda *_: Caller(OWNER, Lineage()))
    client = served(SEED, token="s3cret-token")
    assert client.get("/persona", headers={"host": "evil.example", "origin": "null"}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Orchestra-Depth": "0"}, 200),
        ({"Orchestra-Depth": "2", "Orchestra-Visited": "a,b"}, 200),
        ({"Orchestra-Depth": "3"}, 508),
        ({"Orchestra-Depth": "-1"}, 508),
        ({"Orchestra-Depth": "0", "Orchestra-Visited": "a,b,c"}, 508),
        ({"Orchestra-Visited": "expert"}, 508),
    ],
)
def test_agents_do_not_ask_in_circles(headers: dict[str, str], status: int, served: Served, standin: StandIn) -> None:
    if status == 200:
        standin.script("好。")
    response = served(SEED).post("/chat", json={"intent": "你好"}, headers=headers)
    assert response.status_code == status
    if status != 200:
        assert "agent recursion" in error(response, 508, "agent_recursion")["message"]
        assert not standin.requests


# --- leaving


def test_a_caller_that_leaves_frees_the_model(served: Served, standin: StandIn) -> None:
    standin.script(Scripted("好" * 400, pace=0.05))
    client = served(SEED)
    with pytest.raises(httpx.ReadTimeout):
        client.post("/chat", json={"intent": "说很久"}, timeout=1.0)
    until = time.monotonic() + 5
    while not standin.cancelled and time.monotonic() < until:
        time.sleep(0.02)
    assert standin.cancelled == 1
    assert standin.active == 0


# --- ports


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortTaken) as raised:
            asyncio.run(serve([Service(create_app(SEED), "127.0.0.1", port)], Settings(), print))
    assert str(port) in raised.value.message()


def test_on_macos_it_is_known_who_has_5000() -> None:
    error = OSError(48, "Address already in use")
    error.errno = __import__("errno").EADDRINUSE
    assert "AirPlay" in taken(5000, error, "en", "darwin")
    assert "隔空播放" in taken(5000, error, "zh", "darwin")
    assert "AirPlay" not in taken(5000, error, "en", "linux")
    assert "AirPlay" not in taken(5001, error, "en", "darwin")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.5", "my-machine"])
def test_a_public_address_needs_a_token(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [(2, 1, 6, "", (address, 0)) for address in ("127.0.1.1", "10.0.0.7")])
    with pytest.raises(UsageError) as raised:
        guarded(host, Settings())
    assert "ORCHESTRA_TOKEN" in raised.value.hint()
    guarded(host, Settings(token="t"))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_an_address_of_this_machine_needs_none(host: str) -> None:
    guarded(host, Settings())
