"""How fast models answer: the same prompt, several times, to any mix of Ollama daemons and OpenAI-compatible endpoints.

All sides are timed from outside, with one clock, from the sending of the request; what a daemon says of its own times stands
beside that. Each gets the same greedy request - temperature 0, no penalties asked for, the same bound on tokens - one side
after the other, and each run a number of its own before the prompt: what was read in an earlier run is in the cache of most
servers, and reading it again would take no time. The first answer, which a server may still load or compile for, stands apart.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol, TypedDict

from orchestra.errors import OrchestraError, UsageError
from orchestra.instruments.spread import METRICS, Metric, Spread, Work

PROMPT = (
    "Rain fell on the harbour all night, and by morning the boats lay low in the grey water. The old pilot counted them from "
    "his window, as he had done every day for thirty years, and found that one was missing. Nobody had heard an engine. The "
    "watchman at the lock had drunk his tea and seen nothing; the woman at the fish stall had noticed only that the gulls were "
    "quiet; the boy who slept under the nets had dreamt of a bell. He put on his coat, took the lamp from its hook, and went "
    "down the steps to ask each of them again, because a boat does not leave without somebody who wants it to. Go on with this "
    "story, in as much detail as you can, and do not stop before the boat is found."
)
# Seconds. What comes closer together was held back on its way, or waited here until this process was given the processor: on a
# real daemon that generated 12 tokens in 5 ms all of them were read at once, which made 200,000 a second of its 2,000.
SHORTEST = 0.02


class PlanFields(TypedDict, total=False):
    """The fields of `Plan`, for `**fields` in signatures (PEP 692)."""

    prompt: str
    tokens: int
    runs: int
    cold: int
    base: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What each side is asked: `tokens` is the bound of an answer, `cold` how often the model is loaded anew before the `runs`.

    `base` True sends the prompt as it is, False in the model's template; None is by the model's kind, endpoints get a dialogue.
    """

    prompt: str = PROMPT
    tokens: int = 64
    runs: int = 5
    cold: int = 0
    base: bool | None = None

    def __post_init__(self) -> None:
        if not self.prompt.strip() or self.tokens < 2 or self.runs < 1 or self.cold < 0:
            raise UsageError(
                detail="there is nothing to measure", detail_zh="没有可测量的内容",
                fix="give it a prompt, 2 tokens or more and at least one run", fix_zh="请给出提示词、至少 2 个 token 和至少一次运行",
            )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One answer. Times in seconds from the sending of the request, speeds in tokens a second, None = cannot be said.

    `speed` is that of the tokens after the first, `prompt_speed` all of the prompt's by the time to the first. The `daemon`'s
    are its own, of the tokens that were not in its cache. `counted` says whether the side itself has counted its tokens.
    """

    first_token: float
    seconds: float
    prompt_tokens: int | None = None
    tokens: int | None = None
    counted: bool = True
    finish_reason: str = ""
    daemon_prompt_speed: float | None = None
    daemon_speed: float | None = None

    @property
    def prompt_speed(self) -> float | None:
        """Tokens of the prompt a second, all that happens before the first token of the answer counted in."""
        return self.prompt_tokens / self.first_token if self.prompt_tokens and self.first_token > 0 else None

    @property
    def speed(self) -> float | None:
        """Generated tokens a second, after the first; None where they came so close together that it is not their pace."""
        left = self.seconds - self.first_token
        return (self.tokens - 1) / left if self.tokens and self.tokens > 1 and not self.in_one_go else None

    @property
    def in_one_go(self) -> bool:
        """Whether it has several tokens that came too close together to be timed."""
        return bool(self.tokens and self.tokens > 1 and self.seconds - self.first_token < SHORTEST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What is known of a side so far. Memory in bytes, `loads` in seconds, "" and None = not said.

    `raw` says that the prompt was sent as it is, `first` is the answer before the `runs`, `error` why there are no more of them.
    """

    name: str
    kind: str
    url: str
    model: str
    precision: str = ""
    parameters: str = ""
    weights: str = ""
    version: str = ""
    window: int | None = None
    memory: int | None = None
    vram: int | None = None
    raw: bool = False
    stand_in: bool = False
    loads: tuple[float, ...] = ()
    first: Run | None = None
    runs: tuple[Run, ...] = ()
    error: OrchestraError | None = None

    def spread(self, metric: Metric) -> Spread | None:
        """The figures of the runs that have one; None where none has."""
        values = [value for run in self.runs if (value := getattr(run, metric)) is not None]
        return Spread(tuple(values)) if values else None

    def work(self) -> Work:
        """What the side did, to be put beside another's."""
        return Work(
            name=self.name, precision=self.precision, mechanical=self.stand_in, runs=len(self.runs),
            exact=all(run.counted for run in self.runs),
            figures={metric: found for metric in METRICS if (found := self.spread(metric))},
            prompt_tokens=frozenset(run.prompt_tokens for run in self.runs), tokens=frozenset(run.tokens for run in self.runs),
        )  # fmt: skip


class Contestant(Protocol):
    """Somebody who answers, and can be timed."""

    @property
    def name(self) -> str: ...
    async def look(self, plan: Plan) -> Side:
        """Who it is; nothing is asked of the model yet. Raises what makes it impossible to measure."""

    async def load(self, *, anew: bool) -> float | None:
        """The seconds that loading takes; None where the model is loaded, and not to be loaded `anew`, or where it cannot be said."""

    async def run(self, prompt: str, plan: Plan) -> Run:
        """One answer, timed."""
        ...

    async def memory(self, side: Side) -> Side:
        """The side with what the model takes now, where that is said."""
        ...


async def benched(contestants: Sequence[Contestant], plan: Plan) -> AsyncGenerator[Side]:
    """Each side as it is known after each step. One that fails on the way keeps what was measured; the others go on.

    Raises `UsageError` for two of one name, and at once what makes a side impossible to measure; the first error of all where
    nothing was measured.
    """
    names = [contestant.name for contestant in contestants]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise UsageError(
            detail=f"{twice} is named twice", detail_zh=f"{twice} 出现了两次", fix="give each a name of its own", fix_zh="请为每一个取不同的名称"
        )
    sides = [await contestant.look(plan) for contestant in contestants]
    for side in sides:
        yield side
    # digit by digit, which are equally many tokens to most models; none twice, since two sides may be two doors of one server
    marks = iter(random.sample(range(100_000, 1_000_000), (plan.runs + 1) * len(contestants)))
    for place, contestant in enumerate(contestants):
        prompts = [f"[{' '.join(str(mark))}] {plan.prompt}" for mark in islice(marks, plan.runs + 1)]
        async with aclosing(_measured(contestant, sides[place], plan, prompts)) as states:
            async for sides[place] in states:
                yield sides[place]
    failed = [side.error for side in sides if side.error is not None]
    if failed and not any(side.runs for side in sides):
        raise failed[0]


async def _measured(contestant: Contestant, side: Side, plan: Plan, prompts: Sequence[str]) -> AsyncGenerator[Side]:
    try:
        for _ in range(plan.cold or 1):
            seconds = await contestant.load(anew=plan.cold > 0)
            if seconds is not None:
                side = replace(side, loads=(*side.loads, seconds))
                yield side
        side = await contestant.memory(replace(side, first=await contestant.run(prompts[0], plan)))
        yield side
        for prompt in prompts[1:]:
            side = replace(side, runs=(*side.runs, await contestant.run(prompt, plan)))
            yield side
    except OrchestraError as error:
        yield replace(side, error=error)
