"""A task for all kinds of experts at once: a persona, a function, a service - and what becomes of it when some of them fail."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest
from services import Seen, Told, serving

from orchestra import AsyncOrchestra, Orchestra, StandIn, tool
from orchestra.agents.coordinator import Plan
from orchestra.agents.experts import Named
from orchestra.agents.lineage import Lineage
from orchestra.errors import AgentRecursion, PersonaMissing, UsageError

TASK = "订单 12345 延迟了，如何答复客户？"


def lookup_order(text: str) -> str:
    """Where an order is."""
    return "订单 12345 已到上海"


def answering(text: str) -> Told:
    return Told(body=json.dumps({"response": text}, ensure_ascii=False).encode())


def test_a_persona_a_function_and_a_service_together() -> None:
    with serving() as service, StandIn(["可以道歉。", "完整的答复。"]) as daemon, Orchestra(host=daemon.url) as orchestra:
        service.told = lambda seen: answering("明天送达") if seen.path == "/chat" else Told(status=404)
        plan = orchestra.integrate(TASK, experts=["lawyer", lookup_order, f"carrier={service.url}"], panel=True)
        last = daemon.asked("/api/chat")[-1]["messages"][-1]["content"]
    assert plan.text == "完整的答复。"
    assert plan.missing == ()
    assert [(step.expert, step.answer, step.ok) for step in plan.steps] == [
        ("lawyer", "可以道歉。", True),
        ("lookup_order", "订单 12345 已到上海", True),
        ("carrier", "明天送达", True),
    ]
    assert "已到上海" in last
    assert "明天送达" in last
    assert plan.receipt.calls == 2, "functions and services take no call of the model"


def test_it_lands_without_those_that_fail_and_names_them() -> None:
    stuck = threading.Event()

    def hangs(text: str) -> str:
        stuck.wait(10)
        return ""

    def breaks(text: str) -> str:
        raise KeyError("12345")

    def broken(seen: Seen) -> Told:
        return Told(status=500, body=b"Traceback")

    with serving() as gone:
        url = gone.url
    with serving() as service, StandIn(["可以道歉。", "答复。"]) as daemon, Orchestra(host=daemon.url) as orchestra:
        service.told = broken
        experts: list[Named] = [
            "lawyer",
            tool(hangs, description="hangs", seconds=0.2),
            tool(breaks, description="breaks"),
            f"broken={service.url}",
            f"gone={url}/chat",
        ]
        plan = orchestra.integrate(TASK, experts=experts, panel=True)
    stuck.set()
    assert plan.missing == ("hangs", "breaks", "broken", "gone")
    assert plan.text.endswith("答复。")
    assert "hangs" in plan.text
    errors = {step.expert: step.error for step in plan.steps}
    assert errors["hangs"] == "0.2 秒内没有应答"
    assert "KeyError" in errors["breaks"]
    assert errors["broken"] == "HTTP 500"
    assert errors["gone"] == f"{url} 没有应答"


def test_what_an_operator_got_wrong_is_said_before_anybody_is_asked() -> None:
    with StandIn([]) as daemon, Orchestra(host=daemon.url) as orchestra:
        with pytest.raises(PersonaMissing):
            orchestra.integrate(TASK, experts=["lawyer", "lawyre"])
        with pytest.raises(UsageError):
            orchestra.integrate(TASK, experts=["x=nowhere"])
        with pytest.raises(UsageError):
            orchestra.integrate(TASK, experts=["lawyer", "lawyer"])
        with pytest.raises(UsageError, match="the expert lawyer is the coordinator itself"):
            orchestra.integrate(TASK, experts=["computer_scientist", "lawyer"], coordinator="lawyer")
        with pytest.raises(UsageError, match="the expert general is the coordinator itself"):
            orchestra.integrate(TASK, experts=["general=http://127.0.0.1:1"], coordinator="general", session="s")
        assert not daemon.asked("/api/chat")


def test_a_persona_that_searches_looks_the_question_up_and_the_reader_is_told() -> None:
    told: list[str] = []
    hit = {"url": "http://example.org/paris", "title": "Paris", "content": "Paris is the capital of France."}

    async def main(url: str, searxng: str) -> Plan:
        tell = told.append
        async with AsyncOrchestra(host=url, search="searxng", searxng=searxng, tell=lambda words: tell(words.text("en"))) as orchestra:
            return await orchestra.integrate("What is the capital of France?", experts=["researcher"], panel=True)

    with serving() as service, StandIn(["Paris. [1]", "It is Paris."]) as daemon:
        service.told = Told(body=json.dumps({"results": [hit]}).encode(), headers={"content-type": "application/json"})
        plan = asyncio.run(main(daemon.url, service.url))
        first = daemon.asked("/api/chat")[0]["messages"][-1]["content"]
    assert plan.missing == ()
    assert hit["content"] in first, "what was found stands beside the question"
    assert told
    assert told[0].startswith("your question is sent to SearXNG")


def test_a_service_that_does_not_say_what_it_is_for_is_described_by_the_operator() -> None:
    with serving() as service, StandIn(["答复。"]) as daemon, Orchestra(host=daemon.url) as orchestra:
        service.told = lambda seen: answering("明天送达") if seen.path == "/chat" else Told(status=404)
        found = orchestra.integrate(TASK, experts=[f"carrier={service.url}"], panel=True, descriptions={"carrier": "运输"})
        assert found.missing == ()
        headers = next(seen.headers for seen in service.seen if seen.path == "/chat")
    assert headers["orchestra-depth"] == "1"
    assert headers["orchestra-visited"] == "standardization_expert"


def test_a_task_that_was_here_before_is_not_begun_again() -> None:
    with StandIn([]) as daemon, Orchestra(host=daemon.url) as orchestra, pytest.raises(AgentRecursion):
        orchestra.integrate(TASK, lineage=Lineage(depth=2, visited=("standardization_expert", "b")))
