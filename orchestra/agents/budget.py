"""What a task may take: steps, tokens, time, shared by all who work on it.

A budget that each agent had to itself would multiply down the tree of agents that ask agents (OWASP LLM10, unbounded
consumption): whoever is asked is given its share of what is left. The last part is kept back for the answer, so that
whatever ends the steps, the task still lands.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar, overload

from orchestra.agents.lineage import Lineage
from orchestra.agents.tool import AT_ONCE, CALLS, CallContext, Step, Tool, asked_in_all, takes_slot
from orchestra.errors import UsageError
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
    of them at a time, `slots` how many of those that take a slot of the daemon (None: as many as it has). Raises
    `UsageError` for less than one step or token.
    """

    steps: int = STEPS
    tokens: int | None = None
    seconds: float | None = None
    calls: int = CALLS
    at_once: int = AT_ONCE
    slots: int | None = None

    def __post_init__(self) -> None:
        for name, most in (("steps", self.steps), ("tokens", self.tokens)):
            if most is not None and most < 1:
                raise UsageError(
                    detail=f"the limit on {name} is {most}", detail_zh=f"{name} 的上限为 {most}",
                    fix="allow at least 1, or leave it out", fix_zh="请至少允许 1，或省略该上限",
                )  # fmt: skip


class Wave(NamedTuple):
    """Questions asked at the same time, each with so many `slots`; of all that are planned `answers` and `waves` are left, with these."""

    calls: Sequence[tuple[Tool, str]]
    slots: int
    answers: int
    waves: int


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

    def waves(self, calls: Sequence[tuple[Tool, str]], slots: int) -> Iterator[Wave]:
        """The questions as they are asked: as many at a time as there are slots, what takes none beside the first of them.

        One that only waits for a slot has not begun. What one expert is asked stands together: with one slot its seed memory
        is read once.
        """
        slots, names = self.limits.slots or slots, [tool.name for tool, _ in calls]
        left = sorted(range(len(calls)), key=lambda place: names.index(names[place]))
        planned: list[list[int]] = []
        while left:
            near = [place for place in left if takes_slot(calls[place][0])][: min(slots, self.limits.at_once)]
            far = [place for place in left if not takes_slot(calls[place][0])][: max(0 if near else 1, self.limits.at_once - len(near))]
            planned.append([place for place in left if place in near or place in far])
            left = [place for place in left if place not in planned[-1]]
        for number, wave in enumerate(planned):
            near_count = sum(takes_slot(calls[place][0]) for place in wave)
            yield Wave(
                calls=[calls[place] for place in wave],
                slots=max(1, slots // max(1, near_count)),
                answers=sum(map(len, planned[number:])),
                waves=len(planned) - number,
            )

    def context(self, runtime: Runtime, options: Options, wave: Wave) -> CallContext:
        """In what each of a wave is asked: its share of all that is left."""
        share = len(wave.calls)
        return CallContext(
            runtime=runtime,
            options=self.options(options, answers=wave.answers, waves=wave.waves),
            lineage=self.lineage,
            calls=max(0, self.calls - share) // share,
            at_once=max(1, self.limits.at_once // share),
            slots=wave.slots,
        )

    def options(self, options: Options, *, answers: int = 1, waves: int = 1, landing: bool = False) -> Options:
        """`options` within what is left, for one of so many `answers` in so many `waves`, or for the task's own (`landing`)."""
        tokens, seconds = self._left(0.0 if landing else LANDING)
        most = None if tokens is None else max(1, tokens // answers)
        longest = None if seconds is None else max(SOONEST, seconds / waves)
        return replace(options, max_tokens=least(options.max_tokens, most), deadline=least(options.deadline, longest))

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


@overload
def least(one: Number, other: Number | None) -> Number: ...
@overload
def least(one: Number | None, other: Number | None) -> Number | None: ...
def least(one: Number | None, other: Number | None) -> Number | None:
    """The smaller of two bounds, where None is no bound."""
    return min((bound for bound in (one, other) if bound is not None), default=None)
