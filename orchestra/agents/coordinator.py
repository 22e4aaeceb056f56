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

from orchestra.agents.budget import Budget, Limits
from orchestra.agents.contributions import LEAST, Step, accounts, missing
from orchestra.agents.expert import Expert
from orchestra.agents.reasoning import Reasoning, Team, Thought
from orchestra.agents.tool import Tool
from orchestra.errors import EmptyReply, FirstTokenTimeout, PromptTooLong, UsageError
from orchestra.model.client import Client
from orchestra.model.messages import FinishReason, Language, Options, Piece, Receipt, Usage, gathered
from orchestra.model.notice import announced
from orchestra.model.persona import Persona

_INTEGRATE = {
    "zh": "请把以上意见整合成一份完整、可实施的方案。",
    "en": "Integrate what they said into one complete plan that can be implemented.",
}
_LACKING = {
    "zh": "以下专家没有回答：{names}。请写明方案因此缺少哪部分。",
    "en": "These experts did not answer: {names}. Say which part the plan lacks for it.",
}
_NOTICE = {"zh": "（以下专家没有回答，方案缺少其意见：{names}。）", "en": "(No answer came from {names}; the plan lacks that part.)"}
_VERBATIM = {"zh": "（来不及整合，以下是各位专家的原话。）", "en": "(There was no time to integrate; this is what the experts said.)"}
_SHORTENED = "shortened"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What came of a task: the answer, the steps to it, the experts whose part is `missing`; usage and receipt of it all.

    `value` is what the answer says where a schema was asked for; `trace` has the coordinator's own steps as well.
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


async def integrate(
    task: str, *, client: Client, model: str, coordinator: Persona, experts: Sequence[Persona], options: Options | None = None
) -> AsyncGenerator[Step | Piece | Plan]:
    """Asks every expert the whole task, and integrates: `solve` as a panel, with personas for experts."""
    told = [Expert(persona=persona, client=client, model=model) for persona in experts]
    team = Team(client=client, model=model, coordinator=coordinator, experts=told)
    async with aclosing(solve(task, team=team, options=options, panel=True)) as parts:
        async for part in parts:
            if not isinstance(part, Thought):
                yield part


async def solve(
    task: str, *, team: Team, options: Options | None = None, panel: bool = False, budget: Budget | None = None
) -> AsyncGenerator[Thought | Step | Piece | Plan]:
    """Solves `task` with the team: steps as they begin and end, the pieces of the answer, at last the `Plan`.

    The coordinator decides whom it asks what; a `panel` asks all of them the task. `options` hold for all, but their
    length and form (`max_tokens`, `format`) for the plan alone, and their deadline for the whole. Raises what the
    client raises when the coordinator itself cannot answer.
    """
    if not task.strip():
        raise UsageError(detail="the task is empty", detail_zh="任务为空", fix="say what to do", fix_zh="请说明要做什么")
    started = time.monotonic()
    options = options or Options()
    budget = budget or Budget(Limits(seconds=options.deadline or team.client.settings.deadline))
    shared = replace(options, max_tokens=None, format=None, schema=None, deadline=None)
    run = Reasoning(task, team, shared, budget)
    async with aclosing(run.whole(panel=panel)) as happening:
        async for part in happening:
            yield part
    lacking = list({one.name: one for one in [*missing(run.said), *run.left_out()]}.values())
    pieces: list[Piece] = []
    async with aclosing(_told(task, run, team, replace(options, deadline=None), lacking, budget)) as stream:
        async for piece in stream:
            pieces.append(piece)
            yield piece
    final = gathered(pieces)
    yield Plan(
        text=final.text,
        finish_reason=final.finish_reason,
        model=final.model,
        steps=tuple(one.step for one in run.said),
        missing=tuple(one.name for one in lacking),
        value=final.value,
        trace=tuple(run.trace),
        **accounts([*run.replies, final], time.monotonic() - started),
    )


def _told(
    task: str, run: Reasoning, team: Team, options: Options, lacking: Sequence[Tool], budget: Budget
) -> AsyncGenerator[Piece]:
    """The answer as it comes, what it lacks before its first word, why the steps ended in its end."""
    names = _listed(lacking, run.language)
    options = budget.options(options.over(team.coordinator.options), landing=True)
    pieces = _landed(_integrated(task, run, team, options, names), run, typed=options.schema is not None)
    return announced(
        pieces,
        notice=_NOTICE[run.language].format(names=names) if lacking else "",
        note=f"missing: {', '.join(one.name for one in lacking)}" if lacking else "",
    )


async def _integrated(task: str, run: Reasoning, team: Team, options: Options, names: str) -> AsyncGenerator[Piece]:
    """What the coordinator makes of it; where that is more than the window holds, contributions are shortened, and it is noted."""
    expert = Expert(persona=team.coordinator, client=team.client, model=team.model)
    most, begun = 0, False
    while True:
        try:
            stream = expert.stream(task, options=options, material=_beside(run, names, most))
            async with aclosing(stream) as pieces:
                async for piece in pieces:
                    begun = True
                    yield _noted(piece, _SHORTENED) if most else piece
            return
        except PromptTooLong:
            longest = max((len(one.step.answer) for one in run.said if one.step.ok), default=0)
            most = min(most or longest, longest) // 2
            if begun or most < LEAST:
                raise


def _beside(run: Reasoning, names: str, most: int) -> str:
    """What stands after the task: as in the steps before, so that the daemon has read it; then what to do with it."""
    material = run.material(most)
    parts = [
        run.team_text() if any(isinstance(part, Thought) for part in run.trace) else "",
        material,
        _INTEGRATE[run.language] if material else "",
        _LACKING[run.language].format(names=names) if names else "",
    ]
    return "\n\n".join(part for part in parts if part)


async def _landed(pieces: AsyncGenerator[Piece], run: Reasoning, *, typed: bool) -> AsyncGenerator[Piece]:
    """The answer; where its time ends before its first word, what the experts said, as they said it."""
    said = False
    own = "" if typed else _verbatim(run)
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                said = said or bool(piece.kind == "text" and piece.text.strip())
                if piece.finish_reason is None:
                    yield piece
                    continue
                if not said and own:
                    yield Piece(own)
                    piece = piece._replace(keep=None)
                yield _ended(piece, run)
    except (EmptyReply, FirstTokenTimeout) as error:
        if said or not own:
            raise
        reason = FinishReason.DEADLINE if isinstance(error, FirstTokenTimeout) else FinishReason.INCOMPLETE
        yield Piece(own)
        yield _ended(Piece("", finish_reason=reason, usage=Usage(), receipt=Receipt()), run)


def _ended(piece: Piece, run: Reasoning) -> Piece:
    """The last piece: it says which limit ended the steps, where nothing else ended the answer."""
    if run.ended is not None and piece.finish_reason is FinishReason.STOP:
        piece = piece._replace(finish_reason=run.ended)
    return _noted(piece, *run.notes)


def _noted(piece: Piece, *notes: str) -> Piece:
    if piece.receipt is None or not notes:
        return piece
    return piece._replace(receipt=replace(piece.receipt, notes=(*piece.receipt.notes, *notes)))


def _verbatim(run: Reasoning) -> str:
    """The contributions under their names."""
    good = [f"{one.expert.titled(run.language)}:\n{one.step.answer}" for one in run.said if one.step.ok]
    return "\n\n".join([_VERBATIM[run.language], *good]) if good else ""


def _listed(experts: Sequence[Tool], language: Language) -> str:
    return ("、" if language == "zh" else ", ").join(one.titled(language) for one in experts)


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
