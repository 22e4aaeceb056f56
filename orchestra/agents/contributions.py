"""What the experts say to a task: asked for, kept apart from each other, and put where the coordinator reads it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from orchestra.agents.tool import CallContext, Contribution, Tool
from orchestra.agents.tool import Step as Step  # what is asked is known here
from orchestra.model.language import language_of
from orchestra.model.messages import Language, Receipt, Reply
from orchestra.model.stages import summed
from orchestra.model.untrusted import Entry, fenced

MODEST, LEAST = 240, 80  # characters of a contribution that is shortened: up to there rather than leaving one out; less says nothing
_LABELS = {"zh": ("专家意见", "专家意见结束"), "en": ("what the experts said", "end of what the experts said")}
_SAID = {"zh": "以下是各位专家对这项任务的意见。", "en": "Below is what the experts said to this task."}
_EMPTY = {"zh": "回答为空", "en": "the answer is empty"}
_SHORTENED = {"zh": "……（此处有删节）", "en": " ... (shortened here)"}


class Answered(NamedTuple):
    """What came of asking one expert: the step as it is told, and what it took."""

    expert: Tool
    step: Step
    contribution: Contribution


async def asked(expert: Tool, question: str, context: CallContext) -> Answered:
    """One step. What keeps an expert from answering is a fact of the step; the others go on."""
    started = time.monotonic()
    said = await expert.ask(question, context)
    error = said.error or ("" if said.answer else _EMPTY[context.options.language or language_of(question)])
    step = Step(
        expert=expert.name,
        question=question,
        answer=said.answer,
        ok=not error,
        duration=round(time.monotonic() - started, 6),
        tokens=said.usage.completion_tokens,
        error=error,
        steps=said.steps,
    )
    return Answered(expert, step, said)


def shorter(said: Sequence[Answered]) -> Iterator[tuple[Sequence[Answered], int]]:
    """Ever less of what was said, each time with the most characters of a contribution; first all of it (0: whole).

    Long ones are shortened, then whoever said several loses the oldest; one of each expert stays to the last.
    """
    yield said, 0
    most = longest(said)
    while most > MODEST:
        most = max(MODEST, most * 3 // 4)
        yield said, most
    kept = [one for one in said if one.step.ok]
    while (first := _repeated(kept)) is not None:
        kept = [one for one in kept if one is not first]
        yield kept, most
    while most > LEAST:
        most = max(LEAST, most * 3 // 4)
        yield kept, most


def _repeated(said: Sequence[Answered]) -> Answered | None:
    """The oldest contribution of an expert who has a later one."""
    counts = Counter(one.expert.name for one in said)
    return next((one for one in said if counts[one.expert.name] > 1), None)


def longest(said: Sequence[Answered]) -> int:
    """The characters of the longest contribution."""
    return max((len(one.step.answer) for one in said if one.step.ok), default=0)


def material(said: Sequence[Answered], task: str, language: Language, *, nonce: str = "", most: int = 0) -> str:
    """What the coordinator reads beside the task: the contributions, named and fenced, each of `most` characters (0: whole).

    With the same `nonce` a longer list begins as a shorter one does, so that the daemon has read it already.
    """
    good = [Entry(_title(one, task, language, most), _within(one.step.answer, most, language)) for one in said if one.step.ok]
    return f"{_SAID[language]}\n\n{fenced(good, *_LABELS[language], nonce=nonce)}" if good else ""


def _title(one: Answered, task: str, language: Language, most: int) -> str:
    name, question = one.expert.titled(language), one.step.question
    if question == task:
        return name
    question = _within(question, most, language)
    return f"{name}（{question}）" if language == "zh" else f"{name} ({question})"


def _within(text: str, most: int, language: Language) -> str:
    return text if not most or len(text) <= most else text[:most].rstrip() + _SHORTENED[language]


def missing(said: Sequence[Answered]) -> list[Tool]:
    """The experts who were asked and never answered, each once."""
    answered = {one.expert.name for one in said if one.step.ok}
    return list({one.expert.name: one.expert for one in said if one.expert.name not in answered}.values())


def beneath(said: Sequence[Answered]) -> list[str]:
    """Whom experts that answered asked in vain, each with the way there: "standardization_expert > lawyer"."""
    return list(dict.fromkeys(_beneath([one.step for one in said], ())))


def _beneath(steps: Sequence[Step], way: tuple[str, ...]) -> Iterator[str]:
    answered = {step.expert for step in steps if step.ok}
    for step in steps:
        if step.expert in answered:
            yield from _beneath(step.steps, (*way, step.expert))
        elif way:
            yield " > ".join((*way, step.expert))


def accounts(replies: Sequence[Reply | Contribution], seconds: float) -> dict[str, Any]:
    """Usage and receipt of all replies together; `used` and `window` are the last one's, the coordinator's."""
    last = replies[-1]
    receipt: Receipt = replace(
        last.receipt,
        calls=sum(reply.receipt.calls for reply in replies),
        loads=sum(reply.receipt.loads for reply in replies),
        reloads=sum(reply.receipt.reloads for reply in replies),
        retries=sum(reply.receipt.retries for reply in replies),
        seconds=round(seconds, 6),
    )
    return {"usage": summed([reply.usage for reply in replies]), "receipt": receipt}
