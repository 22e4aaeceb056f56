"""What a task may take: steps, tokens, time, shared by all who work on it.

A budget that each agent had to itself would multiply down the tree of agents that ask agents (OWASP LLM10, unbounded
consumption): whoever is asked is given its share of what is left. The last part is kept back for the answer, so that
whatever ends the steps, the task still lands.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TypeVar

from orchestra.agents.lineage import Lineage
from orchestra.agents.tool import CALLS, CallContext, Step, asked_in_all
from orchestra.model.messages import FinishReason, Options, Usage
from orchestra.runtime import Runtime

Number = TypeVar("Number", int, float)

STEPS = 5
LANDING = 0.25  # the part of tokens and time that is kept for the answer
SOONEST = 0.001  # seconds: the shortest deadline that the client takes


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most that a task may take; None = not bounded by this one.

    `steps` are the coordinator's, `tokens` all that are generated, `calls` the questions to experts, `at_once` how many
    of them at a time (None: as many as the daemon has slots).
    """

    steps: int = STEPS
    tokens: int | None = None
    seconds: float | None = None
    calls: int = CALLS
    at_once: int | None = None


class Budget:
    """What is left of the limits. `lineage` says through whom the task has come: how deep agents may ask agents is bounded there."""

    def __init__(self, limits: Limits | None = None, *, lineage: Lineage | None = None) -> None:
        self.limits = limits or Limits()
        self.lineage = lineage or Lineage()
        self._steps = 0
        self._tokens = 0
        self._calls = 0
        self._begun = time.monotonic()

    def step(self) -> None:
        """One step more of this coordinator."""
        self._steps += 1

    def asked(self, step: Step) -> None:
        """One question to an expert, with those that it asked for it."""
        self._calls += asked_in_all([step])

    @property
    def tokens(self) -> int:
        """How many were generated so far."""
        return self._tokens

    @property
    def calls(self) -> int:
        """How many experts may still be asked."""
        return max(0, self.limits.calls - self._calls)

    def spend(self, usage: Usage) -> None:
        """What one answer took."""
        self._tokens += usage.completion_tokens or 0

    @property
    def spent(self) -> FinishReason | None:
        """Which limit allows no further step, None while there is room."""
        tokens, seconds = self._left(LANDING)
        if self._steps >= self.limits.steps or not self.calls:
            return FinishReason.STEP_LIMIT
        return self._over(tokens, seconds)

    @property
    def exhausted(self) -> FinishReason | None:
        """The same without regard to steps: whether an expert can still be asked."""
        return self._over(*self._left(LANDING)) or (None if self.calls else FinishReason.STEP_LIMIT)

    def context(self, runtime: Runtime, options: Options, *, share: int, waves: int, at_once: int) -> CallContext:
        """In what each of `share` tools is asked at the same time, the first of `waves`: its share of all that is left."""
        return CallContext(
            runtime=runtime,
            options=self.options(options, share=share, waves=waves),
            lineage=self.lineage,
            calls=max(0, self.calls - share) // share,
            at_once=max(1, at_once // share),
        )

    def options(self, options: Options, *, share: int = 1, waves: int = 1, landing: bool = False) -> Options:
        """`options` within what is left, for one of `share` answers at a time the first of `waves`, or for the task's (`landing`)."""
        tokens, seconds = self._left(0.0 if landing else LANDING)
        if tokens is not None:
            most = max(1, tokens // (share * waves))
            options = replace(options, max_tokens=min(options.max_tokens or most, most))
        if seconds is not None:
            seconds = max(SOONEST, seconds / waves)
            options = replace(options, deadline=min(options.deadline or seconds, seconds))
        return options

    def _left(self, kept: float) -> tuple[int | None, float | None]:
        limits = self.limits
        tokens = None if limits.tokens is None else int(limits.tokens * (1 - kept)) - self._tokens
        seconds = None if limits.seconds is None else limits.seconds * (1 - kept) - (time.monotonic() - self._begun)
        return tokens, seconds

    @staticmethod
    def _over(tokens: int | None, seconds: float | None) -> FinishReason | None:
        if seconds is not None and seconds <= 0:
            return FinishReason.DEADLINE
        return FinishReason.TOKEN_LIMIT if tokens is not None and tokens <= 0 else None


def least(one: Number | None, other: Number | None) -> Number | None:
    """The smaller of two bounds, where None is no bound."""
    return min((bound for bound in (one, other) if bound is not None), default=None)
