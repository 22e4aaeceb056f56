"""A task for several experts: each is asked, one answer is made of what they said.

It always lands. An expert that does not answer is a step that failed; the plan is made without it, and says so
before its first word. Where no time is left to make one, what the experts said is the answer, as they said it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from orchestra.agents.budget import Budget
from orchestra.agents.contributions import Step, accounts, beneath
from orchestra.agents.expert import Expert
from orchestra.agents.landing import SHORTENED, beside, lacking, landed, note, noted, notice, shaped
from orchestra.agents.reasoning import Reasoning, Team, Thought
from orchestra.agents.tool import Tool
from orchestra.errors import PromptTooLong, UsageError
from orchestra.model.messages import FinishReason, Message, Options, Piece, Receipt, Usage, gathered
from orchestra.model.notice import LEFT_OUT, announced, left_out
from orchestra.slots import asking


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What came of a task: the answer, the steps to it, the experts whose part is `missing`; usage and receipt of it all.

    Whom an expert that answered asked in vain is missing too, as "expert > whom it asked". `value` is what the answer says
    where a schema was asked for; `trace` has the coordinator's own steps as well.
    """

    text: str
    finish_reason: FinishReason
    model: str = ""
    steps: tuple[Step, ...] = ()
    missing: tuple[str, ...] = ()
    usage: Usage = field(default_factory=Usage)
    receipt: Receipt = field(default_factory=Receipt)
    value: Any = None
    trace: tuple[Thought | Step, ...] = ()


async def solve(
    task: str, *, team: Team, options: Options | None = None, panel: bool = False, budget: Budget | None = None,
    before: Sequence[Message] = (),
) -> AsyncGenerator[Thought | Step | Piece | Plan]:  # fmt: skip
    """Solves `task` with the team: steps as they begin and end, the pieces of the answer, at last the `Plan`.

    The coordinator decides whom it asks what; a `panel` asks all of them the task. `options` hold for all, but their
    length and form (`max_tokens`, `format`) for the plan alone, and their deadline for the whole. `before` is the dialogue in
    which the task stands; where its oldest part does not fit, the answer says so first. Raises what the client raises when
    the coordinator itself cannot answer.
    """
    if not task.strip():
        raise UsageError(detail="the task is empty", detail_zh="任务为空", fix="say what to do", fix_zh="请说明要做什么")
    started = time.monotonic()
    asking().task = True
    options = options or Options()
    kept = await _leader(team).remembered(before, options)
    run = Reasoning(task, team, options, budget, kept)
    async with aclosing(run.whole(panel=panel)) as happening:
        async for part in happening:
            yield part
    missed = lacking(run)
    pieces: list[Piece] = []
    told = _told(task, run, team, replace(options, deadline=None), missed)
    if gone := len(before) - len(kept):
        window = (await team.client.ready(team.coordinator.model or team.model, options.over(team.coordinator.options))).window
        line = left_out(gone, window, run.language).rstrip()
        told = announced(told, notice="" if shaped(options) else line, note=LEFT_OUT)
    async with aclosing(told) as stream:
        async for piece in stream:
            pieces.append(piece)
            yield piece
    final = gathered(pieces)
    yield Plan(
        text=final.text,
        finish_reason=final.finish_reason,
        model=final.model,
        steps=tuple(one.step for one in run.said),
        missing=(*(one.name for one in missed), *beneath(run.said)),
        value=final.value,
        trace=tuple(run.trace),
        **accounts([*run.replies, final], time.monotonic() - started),
    )


def _leader(team: Team) -> Expert:
    """The coordinator as the one who answers."""
    return Expert(persona=team.coordinator, client=team.client, model=team.model)


def _told(task: str, run: Reasoning, team: Team, options: Options, missed: Sequence[Tool]) -> AsyncGenerator[Piece]:
    """The answer as it comes, what it lacks before its first word, why the steps ended in its end."""
    options = run.budget.options(options.over(team.coordinator.options), landing=True)
    pieces = landed(_integrated(task, run, team, options, missed), run, typed=shaped(options))
    return announced(pieces, notice="" if shaped(options) else notice(missed, run.language), note=note(missed))


async def _integrated(
    task: str, run: Reasoning, team: Team, options: Options, missed: Sequence[Tool]
) -> AsyncGenerator[Piece]:
    """What the coordinator makes of it; where that is more than the window holds, contributions are shortened, and it is noted."""
    expert = _leader(team)
    begun, refused = False, None
    for text, cut in beside(run, missed):
        try:
            async with aclosing(expert.stream(task, options=options, material=text, said=run.before)) as pieces:
                async for piece in pieces:
                    begun = True
                    yield noted(piece, SHORTENED) if cut else piece
            return
        except PromptTooLong as error:
            if begun:
                raise
            refused = error
    if refused is not None:
        raise refused


def as_json(plan: Plan) -> dict[str, Any]:
    """The plan as plain JSON values."""
    whole = {
        **asdict(plan),
        "finish_reason": str(plan.finish_reason),
        "steps": [asdict(step) for step in plan.steps],
        "missing": list(plan.missing),
        "trace": trace_as_json(plan.trace),
    }
    return {name: part for name, part in whole.items() if name != "value" or part is not None}


def trace_as_json(trace: Sequence[Thought | Step]) -> list[dict[str, Any]]:
    """What happened, in order: a thought has `by`, a question to an expert has `expert`."""
    return [
        {**asdict(part), "calls": [call._asdict() for call in part.calls]} if isinstance(part, Thought) else asdict(part)
        for part in trace
    ]
