"""Who is asked at the same time, who is asked no more, and how long anybody waits for those at addresses - over real sockets."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from obedient import act, decides, obeying
from services import Seen, Told, serving

from orchestra import AsyncOrchestra, Orchestra, StandIn, tool
from orchestra.agents import budget as budgets
from orchestra.agents.coordinator import Plan
from orchestra.agents.reasoning import Team, Thought
from orchestra.agents.remote import Remote
from orchestra.model.client import Client
from orchestra.runtime import Blocking
from orchestra.settings import Settings

TASK = "Draft a compliance standard for AI."
SLOW = 0.3  # seconds that a service takes for its answer


def slowly(seen: Seen) -> Told:
    if seen.path != "/chat":
        return Told(status=404)
    time.sleep(SLOW)
    return Told(body=b'{"response": "Yes."}')


def panel(count: int, **how: Any) -> tuple[Plan, float]:
    """What comes of a task for so many slow services, with one slot, and in how many seconds."""
    with ExitStack() as stack:
        services = [stack.enter_context(serving()) for _ in range(count)]
        for service in services:
            service.told = slowly
        daemon = stack.enter_context(StandIn(["Hello.", "The plan."]))
        orchestra = stack.enter_context(Orchestra(host=daemon.url, parallel=1))
        orchestra.generate("Hello.", model="llama3")
        started = time.monotonic()
        plan = orchestra.integrate(TASK, experts=[f"e{number}={one.url}" for number, one in enumerate(services)], panel=True, **how)
        return plan, time.monotonic() - started


def test_six_services_are_asked_at_the_same_time() -> None:
    plan, seconds = panel(6)
    assert [step.answer for step in plan.steps] == ["Yes."] * 6
    assert seconds < 2 * SLOW


def test_red_control_as_if_they_took_the_daemons_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "takes_slot", lambda tool: True)
    assert panel(3)[1] > 3 * SLOW


def test_a_deadline_is_theirs_together_not_a_sixth_each() -> None:
    plan, _ = panel(6, deadline=4 * SLOW)
    assert plan.missing == ()


# --- who is down


def asking(told: Any, *, steps: int = 4, expert_timeout: float = SLOW, **how: Any) -> tuple[Plan, list[Seen]]:
    """A coordinator that asks the counsel something else in each step; what came of it, and the questions that reached it."""
    numbers = iter(range(99))

    def said(messages: list[dict[str, Any]]) -> str:
        return act(("counsel", f"Is it legal ({next(numbers)})?"), ("clock", f"now ({next(numbers)})")) if decides(messages) else "The plan."

    def clock(text: str) -> str:
        """What time it is."""
        return "noon"

    with serving() as service, obeying(said) as daemon, Orchestra(host=daemon.url, expert_timeout=expert_timeout) as orchestra:
        service.told = lambda seen: told if seen.path == "/chat" else Told(status=404)
        plan = orchestra.integrate(TASK, experts=[f"counsel={service.url}", clock], steps=steps, **how)
        return plan, [seen for seen in service.seen if seen.path == "/chat"]


@pytest.mark.parametrize(("told", "asked"), [(Told(hang=True), 1), (Told(status=503), 2), (Told(status=404), 4), (Told(body=b"{}"), 4)])
def test_one_that_is_down_is_asked_no_more(told: Told, asked: int) -> None:
    plan, seen = asking(told)
    assert len(seen) == asked
    assert plan.missing == ("counsel",)
    assert sum(step.expert == "clock" and bool(step.ok) for step in plan.steps) == 4, "the others go on"
    faults = [part.fault for part in plan.trace if isinstance(part, Thought)]
    assert [fault == "counsel does not answer any more." for fault in faults] == [number >= asked for number in range(4)]


def test_red_control_without_the_circuit_breaker_it_is_waited_for_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestra.agents.reasoning.DOWN", 99)
    assert len(asking(Told(hang=True), steps=3)[1]) == 3


def test_one_where_nothing_answers_is_down_and_one_that_answers_again_is_not() -> None:
    with serving() as gone:
        url = gone.url
    steps = [act(("far", "甲？")), act(("far", "乙？")), act(("far", "丙？")), "方案。"]
    with StandIn(steps) as daemon, Orchestra(host=daemon.url) as orchestra:
        plan = orchestra.integrate("制定标准", experts=[f"far={url}"])
    assert [step.question for step in plan.steps] == ["甲？"]
    turns = iter([500, 200, 500, 200])
    steps = [act(("far", f"问{number}？")) for number in range(4)]
    with serving() as service, StandIn([*steps, act(), "方案。"]) as daemon, Orchestra(host=daemon.url) as orchestra:
        service.told = lambda seen: Told(status=next(turns), body=b'{"response": "Yes."}') if seen.path == "/chat" else Told(status=404)
        plan = orchestra.integrate("制定标准", experts=[f"far={service.url}"])
    assert [step.ok for step in plan.steps] == [False, True, False, True]


def test_a_function_that_hangs_is_called_once() -> None:
    stuck, calls = threading.Event(), list[str]()

    def hangs(text: str) -> str:
        calls.append(text)
        stuck.wait(5)
        return ""

    steps = [act(("hangs", "甲？")), act(("hangs", "乙？")), act(("hangs", "丙？")), "方案。"]
    with StandIn(steps) as daemon, Orchestra(host=daemon.url) as orchestra:
        plan = orchestra.integrate("制定标准", experts=[tool(hangs, description="hangs", seconds=0.2)])
    stuck.set()
    assert calls == ["甲？"]
    assert plan.missing == ("hangs",)


def test_while_steps_may_follow_nobody_at_an_address_has_all_the_time() -> None:
    """The last step, and a panel, leave it all."""
    def took(**how: Any) -> float:
        [step] = [step for step in asking(Told(hang=True), deadline=2.4, expert_timeout=9.0, **how)[0].steps if step.expert == "counsel"]
        return step.duration

    assert took(steps=2) < 0.75
    assert took(steps=1) > 0.9


# --- whom the coordinator's own file lists


def test_one_that_is_listed_by_its_address_is_asked_whatever_it_is_called(home: Path) -> None:
    with serving() as service, StandIn([act(("lawyer", "谁？")), "开发者。", act(), "方案。"]) as daemon, Orchestra(host=daemon.url, home=str(home)) as orchestra:
        service.told = lambda seen: Told(body=b'{"response": "Yes."}') if seen.path == "/chat" else Told(status=404)
        (home / "personas").mkdir(parents=True, exist_ok=True)
        listed = f"experts:\n  - {service.url}\n"
        (home / "personas" / "head.md").write_text(f"---\nname: head\ndescription:\n  zh: 带头\n{listed}---\n<!-- zh -->\n你带头。\n", "utf-8")
        plan = orchestra.integrate("制定标准", experts=["lawyer", f"counsel={service.url}/chat"], coordinator="head")
        other = orchestra.personas.persona("head")
    assert [step.expert for step in plan.steps] == ["lawyer", "counsel"]
    assert plan.steps[1].question == "制定标准"
    team = Team(client=Client(Blocking(), Settings()), model="", coordinator=other, experts=[Remote(name="far", url="http://127.0.0.1:1")])
    assert team.asked_always() == set(), "another address is another expert"


def in_turn(seen: list[str]) -> list[Any]:
    """Two experts: the first answers only when whoever asks has heard of the second's answer."""
    heard = threading.Event()

    def slow(question: str) -> str:
        return "in time" if heard.wait(5) else "nobody was told"

    def fast(question: str) -> str:
        return "at once"

    def note(part: Any) -> None:
        if getattr(part, "ok", None):
            seen.append(part.expert)
            heard.set()

    return [tool(slow, description="slow"), tool(fast, description="fast"), note]


def test_an_answer_is_told_when_it_comes_and_stands_where_it_was_asked_for() -> None:
    seen: list[str] = []
    *experts, note = in_turn(seen)
    with StandIn(["The plan."]) as daemon, Orchestra(host=daemon.url) as orchestra:
        parts = []
        for part in orchestra.integrate_stream(TASK, experts=experts, panel=True):
            parts.append(part)
            note(part)
    assert seen == ["fast", "slow"]
    assert isinstance(parts[-1], Plan)
    assert [(step.expert, step.answer) for step in parts[-1].steps] == [("slow", "in time"), ("fast", "at once")]
    assert [part.expert for part in parts[-1].trace if not isinstance(part, Thought)] == ["slow", "fast"]


def test_the_same_on_an_event_loop() -> None:
    seen: list[str] = []
    *experts, note = in_turn(seen)

    async def work(url: str) -> Any:
        async with AsyncOrchestra(host=url) as orchestra:
            async for part in orchestra.integrate_stream(TASK, experts=experts, panel=True):
                note(part)
            return part

    with StandIn(["The plan."]) as daemon:
        plan = asyncio.run(work(daemon.url))
    assert seen == ["fast", "slow"]
    assert [step.answer for step in plan.steps] == ["in time", "at once"]
