"""A persona with experts of its own: to whoever asks, one expert; beneath, a coordinator with its team.

What it may take is its share of what the asker has left - time, tokens, questions, how many at a time - and how deep
agents may ask agents is bounded by the way that the question has come. Too far down it answers alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from orchestra.agents.budget import LANDING, STEPS, Budget, Limits, least
from orchestra.agents.coordinator import Plan, solve
from orchestra.agents.expert import Expert, observed
from orchestra.agents.lineage import Lineage
from orchestra.agents.reasoning import Team
from orchestra.agents.tool import Behind, CallContext, Contribution, Step, Tool, bounded
from orchestra.errors import AgentRecursion, OrchestraError
from orchestra.model.language import language_of
from orchestra.model.messages import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Subteam(Behind):
    """The expert `tool` leads those whom `experts` gives within so many seconds, when it is asked: files may name each other."""

    tool: Expert
    experts: Callable[[float], Coroutine[Any, Any, list[Tool]]]

    async def ask(self, question: str, context: CallContext) -> Contribution:
        """What it says once its own experts were asked; their steps stand in the contribution."""
        started = time.monotonic()
        language = context.options.language or language_of(question)
        try:
            here = context.lineage.beneath(self.name)
        except AgentRecursion as failure:
            return observed(failure, language)
        if here.deepest or not context.calls:
            return await self.tool.ask(question, context)
        budget, steps = Budget(self._limits(context, here), lineage=here), list[Step]()
        try:
            plan = await self._solved(question, context, budget, steps)
            found = Contribution(answer=bounded(plan.text.strip(), language), usage=plan.usage, receipt=plan.receipt)
        except OrchestraError as failure:
            found = observed(failure, language)  # what its experts took is spent all the same
            found = replace(found, usage=Usage(completion_tokens=budget.tokens + (found.usage.completion_tokens or 0)))
        return replace(found, duration=round(time.monotonic() - started, 6), steps=tuple(steps))

    def _limits(self, context: CallContext, here: Lineage) -> Limits:
        own = self.tool.persona.limits
        return Limits(
            steps=here.steps(STEPS),
            tokens=least(context.options.max_tokens, own.tokens),
            seconds=least(context.options.deadline, own.seconds),
            calls=min(context.calls, own.steps or context.calls),
            at_once=context.at_once,
            slots=context.slots,
        )

    async def _solved(self, question: str, context: CallContext, budget: Budget, steps: list[Step]) -> Plan:
        """The plan; `steps` has those that have ended, whatever comes of it."""
        expert, seconds = self.tool, budget.limits.seconds
        experts = await self.experts(math.inf if seconds is None else seconds * LANDING)
        team = Team(client=expert.client, model=expert.model, coordinator=expert.persona, experts=experts)
        options = replace(context.options, max_tokens=None, deadline=None)
        before = await expert.remembered(context.said, options)
        async with aclosing(solve(question, team=team, options=options, budget=budget, before=before)) as parts:
            async for part in parts:
                if isinstance(part, Step) and part.ok is not None:
                    steps.append(part)
                elif isinstance(part, Plan):
                    return part
        raise OrchestraError(detail="the answer has no end")
