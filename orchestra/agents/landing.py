"""How a task lands: what its answer is made of, what it lacks, and what stands in its place where none comes.

The coordinator that answers at once and a dialogue in which the task is a turn land in the same way.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace

from orchestra.agents.contributions import missing, shorter
from orchestra.agents.reasoning import Reasoning, Thought
from orchestra.agents.tool import Tool
from orchestra.errors import EmptyReply, FirstTokenTimeout, PromptTooLong
from orchestra.model.messages import FinishReason, Language, Options, Piece, Receipt, Usage

SHORTENED = "shortened"  # the note of a receipt whose contributions were
INTEGRATE = {
    "zh": "请把以上意见整合成一份完整、可实施的方案。",
    "en": "Integrate what they said into one complete plan that can be implemented.",
}
EACH = {
    "zh": "请根据以上意见，逐一回答上面的各个问题。",
    "en": "Answer each of the questions above, from what they said.",
}
_LACKING = {
    "zh": "以下专家没有回答：{names}。请写明方案因此缺少哪部分。",
    "en": "These experts did not answer: {names}. Say which part the plan lacks for it.",
}
_NOTICE = {"zh": "（以下专家没有回答，方案缺少其意见：{names}。）", "en": "(No answer came from {names}; the plan lacks that part.)"}
_VERBATIM = {"zh": "（没能整合，以下是各位专家的原话。）", "en": "(They could not be integrated; this is what the experts said.)"}
_REASONS = {FirstTokenTimeout: FinishReason.DEADLINE, EmptyReply: FinishReason.INCOMPLETE, PromptTooLong: FinishReason.CONTEXT_FULL}


def lacking(run: Reasoning) -> list[Tool]:
    """The experts whose part is missing: asked in vain, or not asked where they should have been."""
    return list({one.name: one for one in [*missing(run.said), *run.left_out()]}.values())


def notice(experts: Sequence[Tool], language: Language) -> str:
    """What is said before an answer that lacks these experts' part."""
    return _NOTICE[language].format(names=_listed(experts, language)) if experts else ""


def shaped(options: Options) -> bool:
    """Whether the answer has a form: what a program reads holds no word of ours."""
    return options.schema is not None or options.format is not None


def note(experts: Sequence[Tool]) -> str:
    """The same for its receipt."""
    return f"missing: {', '.join(one.name for one in experts)}" if experts else ""


def beside(run: Reasoning, experts: Sequence[Tool], *, closing: dict[str, str] = INTEGRATE) -> Iterator[tuple[str, bool]]:
    """What stands after the task: as in the steps before, so that the daemon has read it; then what to do with it.

    Of `experts` it is said that they did not answer. First whole, then ever shorter (True), for whoever has less room.
    """
    for said, most in shorter(run.said):
        yield _beside(run, run.material(said, most), experts, closing), most > 0 or len(said) < len(run.said)


def _beside(run: Reasoning, material: str, experts: Sequence[Tool], closing: dict[str, str]) -> str:
    parts = [
        run.team_text() if any(isinstance(part, Thought) for part in run.trace) else "",
        material,
        closing[run.language] if material else "",
        _LACKING[run.language].format(names=_listed(experts, run.language)) if experts else "",
    ]
    return "\n\n".join(part for part in parts if part)


async def landed(pieces: AsyncGenerator[Piece], run: Reasoning, *, typed: bool) -> AsyncGenerator[Piece]:
    """The answer; where it has no time or room for its first word, what the experts said, as they said it, unless it is `typed`."""
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
    except tuple(_REASONS) as error:
        if said or not own:
            raise
        reason = next(reason for kind, reason in _REASONS.items() if isinstance(error, kind))
        yield Piece(own)
        yield _ended(Piece("", finish_reason=reason, usage=Usage(), receipt=Receipt()), run)


def noted(piece: Piece, *notes: str) -> Piece:
    """The piece; its receipt, where it has one, with these notes."""
    if piece.receipt is None or not notes:
        return piece
    return piece._replace(receipt=replace(piece.receipt, notes=(*piece.receipt.notes, *notes)))


def _ended(piece: Piece, run: Reasoning) -> Piece:
    """The last piece: it says which limit ended the steps, where nothing else ended the answer."""
    if run.ended is not None and piece.finish_reason is FinishReason.STOP:
        piece = piece._replace(finish_reason=run.ended)
    return noted(piece, *run.notes)


def _verbatim(run: Reasoning) -> str:
    """The contributions under their names."""
    good = [f"{one.expert.titled(run.language)}:\n{one.step.answer}" for one in run.said if one.step.ok]
    return "\n\n".join([_VERBATIM[run.language], *good]) if good else ""


def _listed(experts: Sequence[Tool], language: Language) -> str:
    return ("、" if language == "zh" else ", ").join(one.titled(language) for one in experts)
