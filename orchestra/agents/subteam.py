"""A persona with experts of its own: to whoever asks, one expert; beneath, a coordinator with its team.

What it may take is its share of what the asker has left - time, tokens, questions, how many at a time - and how deep
agents may ask agents is bounded by the way that the question has come. Too far down it answers alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any

from orchestra.agents.budget import LANDING, STEPS, Budget, Limits, least
from orchestra.agents.coordinator import Plan, solve
from orchestra.agents.expert import Expert, observed
from orchestra.agents.lineage import Lineage
from orchestra.agents.reasoning import Team
from orchestra.agents.tool import QUESTION, CallContext, Contribution, Tool, bounded
from orchestra.errors import OrchestraError
from orchestra.model.language import language_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Subteam:
    """`expert` leads those whom `experts` gives within so many seconds, when it is asked: files may name each other."""

    expert: Expert
    experts: Callable[[float], Coroutine[Any, Any, list[Tool]]]

    @property
    def name(self) -> str:
        """The name by which other agents ask for it."""
        return self.expert.name

    @property
    def parameters(self) -> Mapping[str, Any]:
        """It takes a text."""
        return QUESTION

    def titled(self, language: str) -> str:
        """The persona's title."""
        return self.expert.titled(language)

    def described(self, language: str) -> str:
        """The persona's description."""
        return self.expert.described(language)

    async def ask(self, question: str, context: CallContext) -> Contribution:
        """What it says once its own experts were asked; their steps stand in the contribution."""
        started = time.monotonic()
        language = context.options.language or language_of(question)
        try:
            here = context.lineage.beneath(self.name)
            if here.deepest or not context.calls:
                return await self.expert.ask(question, context)
            plan = await self._solved(question, context, here)
        except OrchestraError as failure:
            return replace(observed(failure, language), duration=round(time.monotonic() - started, 6))
        return Contribution(
            answer=bounded(plan.text.strip(), language),
            duration=round(time.monotonic() - started, 6),
            usage=plan.usage,
            receipt=plan.receipt,
            steps=plan.steps,
        )

    async def _solved(self, question: str, context: CallContext, here: Lineage) -> Plan:
        own, expert = self.expert.persona.limits, self.expert
        limits = Limits(
            steps=here.steps(STEPS),
            tokens=least(context.options.max_tokens, own.tokens),
            seconds=least(context.options.deadline, own.seconds),
            calls=min(context.calls, own.steps or context.calls),
            at_once=context.at_once,
        )
        budget = Budget(limits, lineage=here)
        experts = await self.experts(math.inf if limits.seconds is None else limits.seconds * LANDING)
        team = Team(client=expert.client, model=expert.model, coordinator=expert.persona, experts=experts)
        options = replace(context.options, max_tokens=None, deadline=None)
        before = await expert.remembered(context.said, options)
        parts = solve(question, team=team, options=options, budget=budget, before=before)
        return [part async for part in parts if isinstance(part, Plan)][-1]
