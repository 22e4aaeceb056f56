"""Experts of experts: a persona that lists experts coordinates them, within its share of everything, and never in a circle."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestra import Orchestra, StandIn, tool
from orchestra.agents import budget as budgets
from orchestra.agents import lineage
from orchestra.agents.budget import Budget, Limits, Wave
from orchestra.agents.contributions import Step
from orchestra.agents.coordinator import Plan, as_json, solve
from orchestra.agents.expert import Expert
from orchestra.agents.lineage import Lineage
from orchestra.agents.personas import Library
from orchestra.agents.reasoning import Team
from orchestra.agents.subteam import Subteam
from orchestra.agents.tool import CallContext, asked_in_all
from orchestra.errors import AgentRecursion
from orchestra.model.client import Client
from orchestra.model.messages import FinishReason, Options, Piece, Receipt, Usage
from orchestra.model.persona import Persona
from orchestra.runtime import Blocking, Looped, finish
from orchestra.settings import Settings
from orchestra.standin import Scripted

TASK = "制定人工智能合规标准"
DONE = json.dumps({"thought": "够了", "actions": []}, ensure_ascii=False)


def act(*calls: tuple[str, str]) -> str:
    return json.dumps({"thought": "想", "actions": [{"expert": name, "question": asked} for name, asked in calls]}, ensure_ascii=False)


def persona(home: Path, name: str, *experts: str, more: str = "") -> None:
    listed = "".join(f"\n  - {expert}" for expert in experts)
    front = f"name: {name}\ndescription:\n  zh: 负责{name}{more}" + (f"\nexperts:{listed}" if experts else "")
    (home / "personas").mkdir(parents=True, exist_ok=True)
    (home / "personas" / f"{name}.md").write_text(f"---\n{front}\n---\n<!-- zh -->\n你是{name}。\n", "utf-8")


@contextmanager
def working(home: Path, replies: list[Any], **settings: Any) -> Iterator[tuple[Orchestra, StandIn]]:
    with StandIn(replies) as daemon, Orchestra(host=daemon.url, home=str(home), **settings) as orchestra:
        yield orchestra, daemon


def speakers(daemon: StandIn) -> list[str]:
    """Who was asked for each answer, by its seed memory."""
    return [body["messages"][0]["content"].removeprefix("你是").removesuffix("。") for body in daemon.asked("/api/chat")]


def test_a_persona_with_experts_coordinates_them_and_its_steps_stand_in_its_own(home: Path) -> None:
    persona(home, "head", "deputy")
    persona(home, "deputy", "clerk")
    persona(home, "clerk")
    replies = [act(("deputy", "怎么办？")), act(("clerk", "查什么？")), "查到了。", "副手的意见。", DONE, "方案。"]
    with working(home, replies) as (orchestra, daemon):
        plan = orchestra.integrate(TASK, experts=["deputy"], coordinator="head")
        who = speakers(daemon)
    assert who == ["head", "deputy", "clerk", "deputy", "head", "head"]
    assert plan.text == "方案。"
    [step] = plan.steps
    assert (step.expert, step.answer, step.ok) == ("deputy", "副手的意见。", True)
    assert [(inner.expert, inner.question, inner.answer) for inner in step.steps] == [("clerk", "查什么？", "查到了。")]
    assert json.loads(json.dumps(as_json(plan)))["steps"][0]["steps"][0]["expert"] == "clerk"
    assert plan.receipt.calls == 6, "the calls of the experts' experts are on the receipt"


def circle(home: Path, replies: list[Any]) -> Step:
    persona(home, "a", "b")
    persona(home, "b", "a")
    with working(home, replies) as (orchestra, _):
        [step] = orchestra.integrate(TASK, experts=["b"], coordinator="a", steps=1).steps
    return step


def test_a_circle_is_cut_with_a_fault(home: Path) -> None:
    step = circle(home, [act(("b", "甲？")), act(("a", "乙？")), "没有别人可问。", "方案。"])
    assert step.ok
    [inner] = step.steps
    assert (inner.expert, inner.ok) == ("a", False)
    assert inner.error == "智能体递归：此前已经问过：a > b > a"


def test_red_control_the_names_on_the_way_cut_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lineage, "at", lambda self, name: self)
    step = circle(home, [act(("b", "甲？")), act(("a", "乙？")), "我还是 a。", "没有别人可问。", "方案。"])
    assert step.steps[0].ok


def test_too_far_down_it_answers_alone(home: Path) -> None:
    for name, expert in (("a", "b"), ("b", "c"), ("c", "d")):
        persona(home, name, expert)
    persona(home, "d")
    with working(home, [act(("b", "甲？")), act(("c", "乙？")), "我自己答。", "意见。", "方案。"]) as (orchestra, daemon):
        [step] = orchestra.integrate(TASK, experts=["b"], coordinator="a", steps=1).steps
        assert speakers(daemon) == ["a", "b", "c", "b", "a"]
    assert [(inner.expert, inner.answer, inner.steps) for inner in step.steps] == [("c", "我自己答。", ())]


def test_red_control_the_limit_keeps_it_from_asking_on(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "DEEPEST", 3)
    for name, expert in (("a", "b"), ("b", "c"), ("c", "d")):
        persona(home, name, expert)
    persona(home, "d")
    replies = [act(("b", "甲？")), act(("c", "乙？")), act(("d", "丙？")), "丁。", "丙。", "意见。", "方案。"]
    with working(home, replies) as (orchestra, daemon):
        orchestra.integrate(TASK, experts=["b"], coordinator="a", steps=1)
        assert "d" in speakers(daemon)


def test_an_expert_of_an_expert_that_is_not_there_is_an_observation(home: Path) -> None:
    persona(home, "head", "deputy")
    persona(home, "deputy", "nobody")
    with working(home, [act(("deputy", "怎么办？")), DONE, "方案。"]) as (orchestra, _):
        plan = orchestra.integrate(TASK, experts=["deputy"], coordinator="head")
    assert plan.missing == ("deputy",)
    assert "nobody" in plan.steps[0].error


def test_the_way_of_a_question() -> None:
    top = Lineage().at("a")
    assert top.beneath("b") == Lineage(depth=1, visited=("a", "b"))
    assert top.beneath("b").beneath("c").deepest
    with pytest.raises(AgentRecursion):
        top.beneath("a")
    with pytest.raises(AgentRecursion):
        top.beneath("b").beneath("c").beneath("d")


# --- what an expert said before


def test_an_expert_that_is_asked_again_knows_what_it_said(home: Path) -> None:
    persona(home, "head")
    persona(home, "clerk")
    replies = [act(("clerk", "第一问？")), "第一答。", act(("clerk", "那第二问？")), "第二答。", DONE, "方案。"]
    with working(home, replies) as (orchestra, daemon):
        orchestra.integrate(TASK, experts=["clerk"], coordinator="head")
        asked = [[each["content"].split("\n")[0] for each in body["messages"]] for body in daemon.asked("/api/chat")]
    assert asked[1] == ["你是clerk。", "第一问？"]
    assert asked[3] == ["你是clerk。", "第一问？", "第一答。", "那第二问？"]


def test_one_with_experts_of_its_own_does_too(home: Path) -> None:
    tree(home)
    once = [act(("clerk", "查？")), "查到了。", "意见。"]
    replies = [act(("deputy", "第一问？")), *once, act(("deputy", "第二问？")), *once, DONE, "方案。"]
    with working(home, replies) as (orchestra, daemon):
        orchestra.integrate(TASK, experts=["deputy"], coordinator="head")
        asked = [body["messages"] for body in daemon.asked("/api/chat") if body["messages"][0]["content"] == "你是deputy。"]
    assert [len(messages) for messages in asked] == [2, 2, 4, 4]
    assert [each["content"] for each in asked[-1][1:3]] == ["第一问？", "意见。"]


def remembered(home: Path) -> list[str]:
    """What of two long answers stands before the third question."""
    persona(home, "head")
    persona(home, "clerk")
    long = "，".join(f"第{number}条是{number * 7919 % 1000}" for number in range(80))
    steps = [part for number in range(3) for part in (act(("clerk", f"第{number}问？")), f"{number}：{long}")]
    with working(home, [*steps, DONE, "方案。"]) as (orchestra, daemon):
        orchestra.integrate(TASK, experts=["clerk"], coordinator="head")
        [last] = [body for body in daemon.asked("/api/chat") if body["messages"][-1]["content"].startswith("第2问")]
    return [each["content"].partition("条")[0].partition("\n")[0] for each in last["messages"][1:-1]]


def test_what_it_said_is_bounded_by_the_window(home: Path) -> None:
    """Whole exchanges go, the oldest first."""
    assert remembered(home) == ["第1问？", "1：第0"]


def test_red_control_the_share_of_the_window_decides(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestra.agents.expert.SAID_PART", 1)
    assert remembered(home) == ["第0问？", "0：第0", "第1问？", "1：第0"]


def function(name: str) -> Any:
    return tool(lambda text: text, name=name, description="d")


def near(name: str) -> Any:
    """One that takes a slot of the daemon."""
    return Expert(persona=Persona(name=name, seed_memory={}), client=Client(Looped(), Settings()), model="llama3")


def asked_in(parallel: int, calls: Any, **limits: Any) -> list[list[str]]:
    return [[question for _, question in wave.calls] for wave in Budget(Limits(**limits)).waves(calls, parallel)]


def test_questions_to_one_expert_stand_together() -> None:
    """With one slot its seed memory is then read once."""
    a, b = near("a"), near("b")
    calls = [(a, "1"), (b, "2"), (a, "3")]
    assert asked_in(1, calls) == [["1"], ["3"], ["2"]]
    assert asked_in(2, calls) == [["1", "3"], ["2"]]


def test_who_takes_no_slot_waits_for_none() -> None:
    calls = [(near("a"), "1"), (function("f"), "2"), (near("b"), "3"), (function("g"), "4"), (function("f"), "5")]
    assert asked_in(1, calls) == [["1", "2", "5", "4"], ["3"]]
    assert asked_in(4, calls, slots=1) == asked_in(1, calls)
    assert asked_in(1, calls, at_once=2) == [["1", "2"], ["5", "3"], ["4"]], "one with a slot, one without"
    assert asked_in(9, calls, at_once=1) == [["1"], ["3"], ["2"], ["5"], ["4"]]
    assert asked_in(1, []) == []


def test_red_control_what_does_not_say_whether_it_takes_a_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "takes_slot", lambda tool: True)
    with pytest.raises(AssertionError):
        test_who_takes_no_slot_waits_for_none()


# --- shared down the tree


SLOW = Scripted(["甲"] + [f"，乙{number}" for number in range(400)] + ["。"], pace=0.01)
LONG = Scripted(["甲"] + [f"，乙{number}" for number in range(400)] + ["。"])


def tree(home: Path) -> None:
    persona(home, "head", "deputy")
    persona(home, "deputy", "clerk")
    persona(home, "clerk")


def test_tokens_of_experts_of_experts_count(home: Path) -> None:
    tree(home)
    with working(home, [act(("deputy", "甲？")), act(("clerk", "乙？")), LONG, LONG, LONG]) as (orchestra, daemon):
        plan = orchestra.integrate(TASK, experts=["deputy"], coordinator="head", max_total_tokens=300)
        asked = [body["options"]["num_predict"] for body in daemon.asked("/api/chat")]
    assert plan.usage.completion_tokens is not None
    assert plan.usage.completion_tokens <= 300
    assert asked[2] < asked[0] < 300, "whoever stands beneath has a share of a share"
    assert plan.text


def test_red_control_tokens_that_are_not_handed_down(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestra.agents.subteam.least", lambda one, other: None)
    tree(home)
    with working(home, [act(("deputy", "甲？")), act(("clerk", "乙？")), LONG, LONG, LONG]) as (orchestra, _):
        plan = orchestra.integrate(TASK, experts=["deputy"], coordinator="head", max_total_tokens=300)
    assert (plan.usage.completion_tokens or 0) > 300


def test_time_is_shared_down_the_tree(home: Path) -> None:
    tree(home)
    with working(home, [act(("deputy", "甲？")), act(("clerk", "乙？")), SLOW, SLOW, SLOW]) as (orchestra, _):
        started = time.monotonic()
        plan = orchestra.integrate(TASK, experts=["deputy"], coordinator="head", deadline=1.5)
        took = time.monotonic() - started
    assert plan.text
    assert took <= 1.5 + 0.25


def broken_off(home: Path) -> Any:
    """A deputy whose answer breaks off after its expert has spoken for long."""
    tree(home)
    replies = [act(("deputy", "甲？")), act(("clerk", "乙？")), LONG, Scripted("我认", end="nothing"), DONE, "方案。"]
    with working(home, replies) as (orchestra, _):
        return orchestra.integrate(TASK, experts=["deputy"], coordinator="head")


def test_what_a_team_took_that_did_not_land_is_spent(home: Path) -> None:
    plan = broken_off(home)
    [step] = plan.steps
    assert (step.ok, step.answer, plan.missing) == (False, "我认", ("deputy",))
    assert [inner.expert for inner in step.steps] == ["clerk"]
    assert (plan.usage.completion_tokens or 0) > 400


def test_red_control_it_would_be_forgotten(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Budget, "tokens", 0)
    assert (broken_off(home).usage.completion_tokens or 0) < 400


class Crowd:
    """Functions that count how many of them are at work at once, and how often they were asked."""

    def __init__(self) -> None:
        self.lock, self.now, self.most, self.asked = threading.Lock(), 0, 0, 0

    def __call__(self, text: str) -> str:
        with self.lock:
            self.asked += 1
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.03)
        with self.lock:
            self.now -= 1
        return "好。"


def crowded(home: Path, **limits: Any) -> tuple[Crowd, Any]:
    """Three deputies, of whom each asks three; the functions at the bottom are the crowd."""
    crowd = Crowd()
    below = [tool(crowd, name=f"f{number}", description="d") for number in range(3)]
    names = [f"deputy{number}" for number in range(3)]
    for name in ("head", *names):
        persona(home, name)
    library = Library([home / "personas"])

    def said(messages: Any) -> str:
        if "决定下一步" not in messages[-1]["content"]:
            return "好。"
        number = len(messages[-1]["content"])
        return act(*((name, f"问{number}？") for name in (names if "head" in messages[0]["content"] else ["f0", "f1", "f2"])))

    async def run(url: str) -> Any:
        runtime = Blocking(parallel=4)
        client = Client(runtime, Settings(host=url, parallel=4))

        async def beneath(seconds: float) -> list[Any]:
            return list(below)

        deputies = [Subteam(tool=Expert(persona=library.persona(name), client=client, model="llama3"), experts=beneath) for name in names]
        team = Team(client=client, model="llama3", coordinator=library.persona("head"), experts=deputies)
        try:
            budget = Budget(Limits(**limits), lineage=Lineage().at("head"))
            return [part async for part in solve(TASK, team=team, budget=budget) if isinstance(part, Plan)][-1]
        finally:
            await runtime.close()

    with answering(said) as url:
        return crowd, finish(run(url))


@contextmanager
def answering(said: Any) -> Iterator[str]:
    """A daemon whose every answer is made of the messages that it reads."""
    with StandIn(slots=4) as daemon, pytest.MonkeyPatch.context() as patch:
        async def chat(self: Client, messages: Any, **_: Any) -> Any:
            told = [{"role": each.role, "content": each.content} for each in messages]
            yield Piece(said(told), finish_reason=FinishReason.STOP, usage=Usage(completion_tokens=9), receipt=Receipt())

        patch.setattr(Client, "chat", chat)
        yield daemon.url


def test_how_many_at_a_time_is_shared_down_the_tree(home: Path) -> None:
    crowd, plan = crowded(home, steps=1, at_once=4)
    assert crowd.asked == 9
    assert crowd.most <= 4
    assert asked_in_all(plan.steps) == 12


def test_red_control_each_with_slots_of_its_own(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true = Budget.context

    def wide(self: Budget, *given: Any, **named: Any) -> CallContext:
        return replace(true(self, *given, **named), at_once=4)

    monkeypatch.setattr(Budget, "context", wide)
    assert crowded(home, steps=1, at_once=4)[0].most > 4


@pytest.mark.parametrize("calls", [1, 4, 7, 12, 20])
def test_questions_are_shared_down_the_tree(home: Path, calls: int) -> None:
    crowd, plan = crowded(home, steps=5, calls=calls)
    assert asked_in_all(plan.steps) <= calls
    assert crowd.asked <= calls
    assert plan.finish_reason is FinishReason.STEP_LIMIT
    assert plan.text.endswith("好。")
    assert isinstance(plan.trace[-1], Step), "nobody thinks on once nobody can be asked"


def test_red_control_questions_that_nobody_counts(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Budget, "asked", lambda self, step: None)
    assert asked_in_all(crowded(home, steps=5, calls=7)[1].steps) > 7


def test_a_share_of_what_is_left() -> None:
    budget = Budget(Limits(calls=20, at_once=8))
    context = budget.context(Looped(), Options(), Wave(calls=[(tool(Crowd(), name="f", description="d"), "?")] * 4, slots=3, answers=4, waves=1))
    assert (context.calls, context.at_once, context.slots) == (4, 2, 3)
    budget.asked(Step(expert="a", question="?", steps=(Step(expert="b", question="?"), Step(expert="c", question="?"))))
    assert budget.calls == 17
    assert budgets.least(None, 3) == 3
    assert budgets.least(None, None) is None
