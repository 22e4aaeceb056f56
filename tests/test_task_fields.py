"""What a task is given in Python: limits that allow nothing are refused, a single expert may be named as he is."""

from __future__ import annotations

from typing import Any

import pytest

from orchestra import Orchestra
from orchestra.agents.contributions import Answered, beneath
from orchestra.agents.remote import Remote
from orchestra.agents.tool import Contribution, Step
from orchestra.errors import UsageError
from orchestra.standin import StandIn


@pytest.mark.parametrize("fields", [{"steps": 0}, {"steps": -1}, {"max_total_tokens": 0}, {"steps": 0, "session": "s"}])
def test_a_limit_that_allows_nothing(standin: StandIn, fields: dict[str, Any]) -> None:
    with Orchestra(host=standin.url) as orchestra:
        with pytest.raises(UsageError, match="the limit on"):
            orchestra.integrate("task", **fields)
        assert orchestra.store.sessions() == []
    assert standin.asked("/api/chat") == []


@pytest.mark.parametrize("more", [{}, {"session": "s"}])
def test_a_single_expert(standin: StandIn, more: dict[str, Any]) -> None:
    with Orchestra(host=standin.url) as orchestra:
        plan = orchestra.integrate("Is it legal?", experts="lawyer", panel=True, **more)
    assert [step.expert for step in plan.steps] == ["lawyer"]


def step(expert: str, ok: bool, *steps: Step) -> Answered:
    tool = Remote(name=expert, url="http://localhost:1")
    return Answered(tool, Step(expert=expert, question="q", ok=ok, steps=steps), Contribution())


def test_whom_experts_asked_in_vain_is_missing_by_the_way_there() -> None:
    gone, there = Step(expert="c", question="q", ok=False), Step(expert="d", question="q", ok=True)
    deep = Step(expert="b", question="q", ok=True, steps=(gone, there, gone))
    assert beneath([step("a", True, deep, gone), step("x", False, gone)]) == ["a > b > c", "a > c"]
    assert beneath([step("a", True, there)]) == []
    again = Step(expert="c", question="once more", ok=True)
    assert beneath([step("a", True, gone, again)]) == [], "in the end it answered"
