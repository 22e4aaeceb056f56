"""Experts over HTTP: one that looks things up, one with experts of its own, and what a coordinator's service is told of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import Line, line  # noqa: F401 - a fixture
from served import Served
from served import serving as served_over
from services import Seen, Told, serving
from test_subteam import DONE, act, persona, speakers

from orchestra import Orchestra
from orchestra.agents.remote import MAX_TOKENS
from orchestra.cli.serving import Served as Wanted
from orchestra.cli.serving import apps
from orchestra.gateway import create_app
from orchestra.settings import Settings
from orchestra.standin import StandIn

QUESTION = "What is the capital of France?"


@pytest.fixture
def served(standin: StandIn) -> Iterator[Served]:
    with served_over(standin.url) as served:
        yield served


def test_a_served_persona_that_searches_looks_the_question_up(served: Served, standin: StandIn) -> None:
    standin.script("The capital of France is Paris. [1]")
    answer = served(persona="researcher").post("/chat", json={"intent": QUESTION}).json()
    assert "Seine" in standin.asked("/api/chat")[-1]["messages"][-1]["content"], "what was found stands beside the question"
    assert answer["response"].startswith("The capital of France is Paris.")
    assert answer["ground"]["sources"][0]["title"] == "France"


def test_red_control_without_its_ground_it_looks_nothing_up(served: Served, standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestra.api.AsyncOrchestra._grounded", lambda self, persona: None)
    standin.script("Paris.")
    answer = served(persona="researcher").post("/chat", json={"intent": QUESTION}).json()
    assert "Seine" not in standin.asked("/api/chat")[-1]["messages"][-1]["content"]
    assert "ground" not in answer


def test_whoever_starts_a_service_is_told_where_questions_go() -> None:
    live = Settings(search="searxng,duckduckgo", searxng="http://localhost:8080")
    notice = create_app(persona="researcher", settings=live).state.notice
    assert "researcher" in notice.en
    assert "SearXNG (localhost:8080)" in notice.en
    assert notice.en.index("SearXNG") < notice.en.index("DuckDuckGo")
    assert "researcher" in notice.zh
    assert "researcher, orchestra/search" in create_app(settings=live).state.notice.en, "everybody is served"
    assert create_app("你是专家。", experts=["researcher"], settings=live).state.notice == notice
    for silent in (create_app(persona="lawyer", settings=live), create_app(settings=Settings(search="offline"))):
        assert silent.state.notice is None


def test_a_served_persona_with_experts_asks_them(home: Path, served: Served, standin: StandIn) -> None:
    persona(home, "head", "clerk")
    persona(home, "clerk")
    standin.script(act(("clerk", "查什么？")), "查到了。", DONE, "意见。")
    answer = served(persona="head").post("/chat", json={"intent": "怎么办？"}).json()
    assert (answer["response"], answer["persona"], answer["missing"]) == ("意见。", "head", [])
    assert speakers(standin) == ["head", "clerk", "head", "head"]


def test_asked_by_agents_too_far_up_it_answers_alone(home: Path, served: Served, standin: StandIn) -> None:
    persona(home, "head", "clerk")
    persona(home, "clerk")
    standin.script("我自己答。")
    headers = {"Orchestra-Depth": "2", "Orchestra-Visited": "a,b"}
    answer = served(persona="head").post("/chat", json={"intent": "怎么办？"}, headers=headers).json()
    assert answer["response"] == "我自己答。"


def test_all_tokens_of_a_task_are_bounded_over_http(served: Served, standin: StandIn) -> None:
    client = served(coordinator="standardization_expert")
    assert client.post("/integrate", json={"task": "制定标准", "max_total_tokens": 400}).status_code == 200
    asked = [body["options"]["num_predict"] for body in standin.asked("/api/chat")]
    assert max(asked) <= 300, "a quarter is kept for the answer"
    for wrong in (0, "400", 1.5):
        assert client.post("/integrate", json={"task": "制定标准", "max_total_tokens": wrong}).status_code == 422


@pytest.mark.parametrize(("given", "most"), [(None, 700), ("50", 50), ("5000", 700)])
def test_whoever_asks_may_give_less_of_its_tokens_never_more(given: str | None, most: int, served: Served, standin: StandIn) -> None:
    standin.script("依法 办理 。")
    answer = served(persona="lawyer").post("/chat", json={"intent": "合法吗？"}, headers={MAX_TOKENS: given} if given else {}).json()
    assert standin.asked("/api/chat")[0]["options"]["num_predict"] == most
    assert answer["usage"]["completion_tokens"] > 3
    assert answer["usage"]["prompt_tokens"] > 100


@pytest.mark.parametrize("given", ["0", "-1", "1e3", "２", "many", "99999999999"])
def test_a_budget_that_is_no_number_is_refused(given: str, served: Served, standin: StandIn) -> None:
    answer = served(persona="lawyer").post("/chat", json={"intent": "合法吗？"}, headers={MAX_TOKENS.encode(): given.encode()})
    assert answer.status_code == 422
    assert MAX_TOKENS in answer.json()["error"]["message"]
    assert not standin.asked("/api/chat")


def spent(served: Served, standin: StandIn) -> int:
    """What a task takes of at most 400 tokens, one of whose experts is a service that could go on for long."""
    long = "，".join(f"第{number}条是{number * 7919 % 1000}" for number in range(80))
    url = str(served(persona="lawyer").base_url)
    standin.script(act(("lawyer", "谁负责？")), long, long)
    with Orchestra(host=standin.url) as orchestra:
        plan = orchestra.integrate("制定标准", experts=[url], coordinator="general", max_total_tokens=400)
    assert plan.missing == ()
    assert len(standin.asked("/api/chat")) == 3
    return plan.usage.completion_tokens or 0


def test_tokens_are_shared_with_services(served: Served, standin: StandIn) -> None:
    assert 300 < spent(served, standin) <= 400
    [service] = [body for body in standin.asked("/api/chat") if "谁负责？" in body["messages"][-1]["content"][:10]]
    assert service["options"]["num_predict"] <= 300


def test_red_control_a_service_that_is_told_of_no_budget_takes_more(served: Served, standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestra.gateway.lesson.allotted", lambda headers: None)
    spent(served, standin)
    [service] = [body for body in standin.asked("/api/chat") if "谁负责？" in body["messages"][-1]["content"][:10]]
    assert service["options"]["num_predict"] == 700


# --- what the operator says of services


def silent(seen: Seen) -> Told:
    return Told(status=404) if seen.path != "/chat" else Told(body=json.dumps({"response": "明天送达"}).encode())


def told_to_the_model(standin: StandIn) -> str:
    return str(standin.asked("/api/chat")[0]["messages"][-1]["content"])


def test_a_service_is_described_on_the_command_line(line: Line, standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("OLLAMA_HOST", standin.url)
    standin.script(act(("carrier", "到哪了？")), "依法。", "技术。", "答复。")
    with serving() as service:
        service.told = silent
        named = ["--expert", f"carrier={service.url}", "--expert-description", "carrier=知道包裹在哪里", "--max-total-tokens", "2000"]
        done = line("integrate", "订单 12345 在哪里？", *named, "--json")
    assert done.code == 0, done.err
    assert "- carrier：知道包裹在哪里" in told_to_the_model(standin)
    assert done.json["missing"] == []


def test_by_its_address_too(line: Line, standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("OLLAMA_HOST", standin.url)
    with serving() as service:
        service.told = silent
        done = line("integrate", "订单在哪里？", "--panel", "--expert", service.url, "--expert-description", f"{service.url}/chat=知道包裹在哪里", "--json")
        port = service.server_port
    assert done.code == 0, done.err
    assert done.json["steps"][0]["expert"] == f"127-0-0-1-{port}"


@pytest.mark.parametrize(("said", "why"), [("carrier", "describes nobody"), ("=x", "describes nobody"), ("carrier= ", "describes nobody"), ("carier=x", "carier is described")])
def test_a_description_of_nobody_is_refused(line: Line, standin: StandIn, monkeypatch: pytest.MonkeyPatch, said: str, why: str) -> None:  # noqa: F811
    monkeypatch.setenv("OLLAMA_HOST", standin.url)
    done = line("integrate", "订单在哪里？", "--expert", "lawyer", "--expert-description", said)
    assert done.code == 2
    assert why in done.err
    assert not standin.asked("/api/chat")


def test_a_served_coordinator_is_told_too(served: Served, standin: StandIn) -> None:
    standin.script(act(("carrier", "到哪了？")), "答复。", "答复。")
    with serving() as service:
        service.told = silent
        client = served(coordinator="standardization_expert", experts=[f"carrier={service.url}"], descriptions={"carrier": "知道包裹在哪里"})
        assert client.post("/integrate", json={"task": "订单在哪里？"}).json()["missing"] == []
    assert "- carrier：知道包裹在哪里" in told_to_the_model(standin)


def test_one_that_was_killed_is_named_as_it_had_named_itself(served: Served, standin: StandIn) -> None:
    """The operator gave an address and no name."""
    who = Told(body=json.dumps({"name": "carrier", "description": "knows parcels"}).encode())
    with serving() as service:
        service.told = lambda seen: who if seen.path == "/persona" else silent(seen)
        client = served(coordinator="standardization_expert", experts=[service.url])
        standin.script(act(("carrier", "到哪了？")), "答复。", "答复。")
        assert client.post("/integrate", json={"task": "订单在哪里？"}).json()["missing"] == []
    standin.script(act(("carrier", "到哪了？")), DONE, "答复。")
    answer = client.post("/integrate", json={"task": "订单在哪里？"}).json()
    assert answer["missing"] == ["carrier"]
    assert answer["response"].endswith("答复。")


def test_serve_takes_descriptions(monkeypatch: pytest.MonkeyPatch, line: Line) -> None:  # noqa: F811
    wanted: list[Any] = []
    monkeypatch.setattr("orchestra.cli.serving.serve_until_told", lambda served, wish: wanted.append(served))
    assert line("serve", "--coordinator", "--expert", "a=http://localhost:1", "--expert-description", "a=b").code == 0
    assert wanted[0].descriptions == {"a": "b"}
    [(app, _)] = apps(Wanted(coordinator=True, experts=("a=http://localhost:1",), descriptions={"a": "b"}), Settings.read())
    assert app.state.notice is None
