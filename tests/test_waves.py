"""Who is asked at the same time, who is asked no more, and how long anybody waits for those at addresses - over real sockets."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

import pytest
from services import Seen, Told, serving

from orchestra import Orchestra, StandIn
from orchestra.agents import budget as budgets
from orchestra.agents.coordinator import Plan

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
