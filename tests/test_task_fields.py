"""What a task is given in Python: limits that allow nothing are refused, a single expert may be named as he is."""

from __future__ import annotations

from typing import Any

import pytest

from orchestra import Orchestra
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
