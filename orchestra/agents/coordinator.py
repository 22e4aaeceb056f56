"""A task for several experts: each is asked, one answer is made of what they said.

It always lands. An expert that does not answer is a step that failed; the plan is made without it, and says so
before its first word.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from orchestra.agents.expert import Expert
from orchestra.errors import OrchestraError, UsageError
from orchestra.model.client import Client
from orchestra.model.language import language_of
from orchestra.model.messages import FinishReason, Language, Options, Piece, Receipt, Reply, Usage, gathered
from orchestra.model.notice import announced
from orchestra.model.persona import Persona
from orchestra.model.stages import summed
from orchestra.model.untrusted import Entry, fenced

_LABELS = {"zh": ("专家意见", "专家意见结束"), "en": ("what the experts said", "end of what the experts said")}
_INTEGRATE = {
    "zh": "以下是各位专家对这项任务的意见。请把它们整合成一份完整、可实施的方案。",
    "en": "Below is what the experts said to this task. Integrate it into one complete plan that can be implemented.",
}
_LACKING = {
    "zh": "以下专家没有回答：{names}。请写明方案因此缺少哪部分。",
    "en": "These experts did not answer: {names}. Say which part the plan lacks for it.",
}
_NOTICE = {"zh": "（以下专家没有回答，方案缺少其意见：{names}。）", "en": "(No answer came from {names}; the plan lacks that part.)"}
_EMPTY = {"zh": "回答为空", "en": "the answer is empty"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One question to one expert: `ok` is None while it is being answered; `duration` in seconds; `error` says why not."""

    expert: str
    question: str
    answer: str = ""
    ok: bool | None = None
    duration: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What came of a task: the answer, the steps to it, the experts whose part is `missing`; usage and receipt of it all.

    `value` is what the answer says where a schema was asked for.
    """

    text: str
    finish_reason: FinishReason
    model: str = ""
    steps: tuple[Step, ...] = ()
    missing: tuple[str, ...] = ()
    usage: Usage = field(default_factory=Usage)
    receipt: Receipt = field(default_factory=Receipt)
    value: Any = None


@dataclass(frozen=True, slots=True)
class _Contribution:
    """What came of asking one expert."""

    expert: Expert
    step: Step
    reply: Reply | None


async def integrate(
    task: str, *, client: Client, model: str, coordinator: Persona, experts: Sequence[Persona], options: Options | None = None
) -> AsyncGenerator[Step | Piece | Plan]:
    """Solves `task` with `experts`: their steps as they begin and end, the pieces of the answer, at last the `Plan`.

    `options` hold for all, but their length and form (`max_tokens`, `format`) for the plan alone. Raises what the
    client raises when the coordinator itself cannot answer.
    """
    if not task.strip():
        raise UsageError(detail="the task is empty", detail_zh="任务为空", fix="say what to do", fix_zh="请说明要做什么")
    started = time.monotonic()
    options = options or Options()
    language = options.language or language_of(task)
    shared = replace(options, max_tokens=None, format=None, schema=None)
    said: list[_Contribution] = []
    for group in _groups([Expert(persona=persona, client=client, model=model) for persona in experts], client):
        for expert in group:
            yield Step(expert=expert.name, question=task)
        for contribution in await client.runtime.together([partial(_asked, expert, task, shared) for expert in group]):
            said.append(contribution)
            yield contribution.step
    missing = tuple(contribution.step.expert for contribution in said if not contribution.step.ok)
    names = _listed([one.expert.persona.titled(language) for one in said if not one.step.ok], language)
    stream = announced(
        Expert(persona=coordinator, client=client, model=model).stream(
            task, options=options, material=_material(said, names, language)
        ),
        notice=_NOTICE[language].format(names=names) if missing else "",
        note=f"missing: {', '.join(missing)}" if missing else "",
    )
    pieces: list[Piece] = []
    async with aclosing(stream):
        async for piece in stream:
            pieces.append(piece)
            yield piece
    final = gathered(pieces)
    yield Plan(
        text=final.text,
        finish_reason=final.finish_reason,
        model=final.model,
        steps=tuple(one.step for one in said),
        missing=missing,
        value=final.value,
        **_accounts([*(one.reply for one in said if one.reply), final], time.monotonic() - started),
    )


def _groups(experts: list[Expert], client: Client) -> Iterator[list[Expert]]:
    """As many experts at a time as the daemon has slots: one that only waits for a slot has not begun."""
    size = max(1, client.settings.parallel)
    for start in range(0, len(experts), size):
        yield experts[start : start + size]


async def _asked(expert: Expert, question: str, options: Options) -> _Contribution:
    """One step. What keeps an expert from answering is a fact of the step; the others go on."""
    started = time.monotonic()
    language = options.language or language_of(question)
    error = ""
    reply: Reply | None
    try:
        reply = await expert.answer(question, options=options)
    except OrchestraError as failure:
        reply, error = failure.reply, failure.message(language)
    answer = reply.text.strip() if reply else ""
    error = error or ("" if answer else _EMPTY[language])
    step = Step(
        expert=expert.name,
        question=question,
        answer=answer,
        ok=not error,
        duration=round(time.monotonic() - started, 6),
        error=error,
    )
    return _Contribution(expert, step, reply)


def _material(said: Sequence[_Contribution], missing: str, language: Language) -> str:
    """What the coordinator reads beside the task: the contributions, named and fenced, and who is missing."""
    parts = []
    good = [Entry(one.expert.persona.titled(language), one.step.answer) for one in said if one.step.ok]
    if good:
        parts += [_INTEGRATE[language], fenced(good, *_LABELS[language])]
    if missing:
        parts.append(_LACKING[language].format(names=missing))
    return "\n\n".join(parts)


def _listed(names: Sequence[str], language: Language) -> str:
    return ("、" if language == "zh" else ", ").join(names)


def _accounts(replies: Sequence[Reply], seconds: float) -> dict[str, Any]:
    """Usage and receipt of all replies together; `used` and `window` are the last one's, the coordinator's."""
    last = replies[-1]
    receipt = replace(
        last.receipt,
        calls=sum(reply.receipt.calls for reply in replies),
        loads=sum(reply.receipt.loads for reply in replies),
        reloads=sum(reply.receipt.reloads for reply in replies),
        retries=sum(reply.receipt.retries for reply in replies),
        seconds=round(seconds, 6),
    )
    return {"usage": summed([reply.usage for reply in replies]), "receipt": receipt}


def as_json(plan: Plan) -> dict[str, Any]:
    """The plan as plain JSON values."""
    whole = {
        **asdict(plan),
        "finish_reason": str(plan.finish_reason),
        "steps": [asdict(step) for step in plan.steps],
        "missing": list(plan.missing),
    }
    return {name: part for name, part in whole.items() if name != "value" or part is not None}
