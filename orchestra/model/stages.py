"""Stages between the client and the caller that may ask once more: the wrong language, a loop to be skipped.

Each takes how to ask and the question, and yields pieces. What was streamed is never taken back; what a second
question replaces was held back before, or is cut off by a piece that says so. All that a stage spends stands in
the receipt of the last piece.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from typing import Any

from orchestra.errors import OrchestraError, SchemaMismatch
from orchestra.model.language import Heard, insisting
from orchestra.model.messages import FinishReason, Language, Message, Options, Piece, Receipt, Usage, cut_back
from orchestra.model.window import Fit, answer_share
from orchestra.settings import Settings

MORE_PENALTY = 0.2  # what is added to the repeat penalty for the text after a skipped loop,
LONGER_MEMORY = 256  # ... and how many tokens back it then reaches: a loop is longer than the usual 64

ASKED_AGAIN = "asked_again"
OTHER_LANGUAGE = "other_language"
SKIPPED = "repetition_skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a model is asked: messages, or a text to go on from; `raw` leaves the model's template out.

    `tools`, in the daemon's form, are what the model may call. `begun` is told what the preparation took: who leaves
    an answer early sees no last piece with its receipt.
    """

    subject: Sequence[Message] | str
    options: Options
    raw: bool = False
    fit: Fit | None = None
    tools: Sequence[Mapping[str, Any]] = ()
    begun: Callable[[Receipt], None] | None = None


Ask = Callable[[Question], AsyncGenerator[Piece]]


async def in_language(ask: Ask, question: Question, *, language: Language) -> AsyncGenerator[Piece]:
    """An answer in Chinese: its first piece waits until the script shows; in another one it is asked for again."""
    opening = _Opening()
    fault: OrchestraError | None = None
    started = time.monotonic()
    try:
        async with aclosing(ask(replace(question, begun=opening.begun))) as pieces:
            async for piece in pieces:
                for ready in opening.push(piece):
                    yield ready
                if opening.foreign:
                    break
    except OrchestraError as error:
        fault = error
    if not opening.foreign:
        for piece in opening.held:
            yield piece
    if fault is not None:
        raise fault
    if opening.foreign:
        before = replace(opening.receipt, seconds=time.monotonic() - started)
        async with aclosing(_insisted(ask, question, language, before)) as second:
            async for piece in second:
                yield piece


class _Opening:
    """The first pieces of an answer that shall be Chinese, until its script shows."""

    def __init__(self) -> None:
        self.held: list[Piece] = []
        self.receipt = Receipt()
        self._heard = Heard()

    @property
    def foreign(self) -> bool:
        """Whether the answer is in another script."""
        return self._heard.foreign

    def begun(self, receipt: Receipt) -> None:
        """Told what the preparation of the answer took."""
        self.receipt = receipt

    def push(self, piece: Piece) -> Sequence[Piece]:
        """The pieces that may go on."""
        if self._heard.decided or (piece.kind == "thinking" and piece.keep is None):
            return (piece,)
        held, self.held = self.held, []
        if piece.kind == "thinking":  # all that was held has shown to be thinking
            self._heard = Heard()
            return [thought._replace(kind="thinking") for thought in held]
        held.append(piece)
        self._heard.push(piece.text)
        if self._heard.foreign and piece.finish_reason is not None:  # too short to be worth another question
            self._heard.foreign = False
        if self._heard.decided or piece.finish_reason is not None:
            return () if self._heard.foreign else held
        self.held = held
        return ()


async def _insisted(ask: Ask, question: Question, language: Language, before: Receipt) -> AsyncGenerator[Piece]:
    """The answer to the question with a firmer line, whatever its language is."""
    heard = Heard()
    firmer = replace(question, subject=insisting(question.subject, language), fit=None)
    async with aclosing(ask(firmer)) as pieces:
        async for piece in pieces:
            if not heard.decided and piece.kind == "text":
                heard.push(piece.text)
            notes = (ASKED_AGAIN, OTHER_LANGUAGE) if heard.foreign else (ASKED_AGAIN,)
            yield spent(piece, before=before, notes=notes)


async def skipping(ask: Ask, question: Question, *, first: Ask, settings: Settings) -> AsyncGenerator[Piece]:
    """An answer that loops is cut to its clean text, and goes on from there, once, with a stronger penalty.

    `first` asks for the answer, `ask` for what follows it.
    """
    text: list[str] = []
    last = Piece("")
    async with aclosing(first(question)) as pieces:
        async for piece in pieces:
            if piece.kind == "text":
                text.append(piece.text)
            if piece.finish_reason is FinishReason.REPETITION and piece.kind == "text":
                last = piece
                break
            yield piece
    if last.finish_reason is None:
        return
    kept = "".join(text)[: last.keep]
    more = _more(question, kept, last, settings)
    if more is None:
        yield last
        return
    if last.text:
        yield Piece(last.text, logprobs=last.logprobs)
    yield Piece("", keep=len(kept))
    async with aclosing(_after(ask(more), kept, last)) as pieces:
        async for piece in pieces:
            yield piece


async def _after(pieces: AsyncGenerator[Piece], kept: str, last: Piece) -> AsyncGenerator[Piece]:
    """The pieces that follow `kept`, whose own last piece was `last`."""
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                if piece.keep is not None:
                    piece = piece._replace(keep=piece.keep + len(kept))
                if piece.usage is not None and last.usage is not None:
                    piece = piece._replace(usage=added(last.usage, piece.usage))
                yield spent(piece, before=last.receipt, notes=(SKIPPED,))
    except OrchestraError as error:
        if error.reply is not None:
            error.reply = replace(error.reply, text=kept + error.reply.text)
        raise


def _more(question: Question, kept: str, last: Piece, settings: Settings) -> Question | None:
    """The question that goes on after `kept`; None where the bound on the answer leaves nothing."""
    options = question.options
    spent_tokens = (last.usage and last.usage.completion_tokens) or 0
    bound = answer_share(last.receipt.window or 0, options, settings) if last.receipt else options.max_tokens or spent_tokens
    if bound <= spent_tokens:
        return None
    firmer = replace(
        options,
        max_tokens=bound - spent_tokens,
        repeat_penalty=(options.repeat_penalty or settings.repeat_penalty) + MORE_PENALTY,
        repeat_last_n=max(options.repeat_last_n or 0, LONGER_MEMORY),
    )
    return replace(question, subject=continued(question.subject, kept, raw=question.raw), options=firmer, fit=None)


def continued(subject: Sequence[Message] | str, kept: str, *, raw: bool) -> Sequence[Message] | str:
    """The subject with `kept` as the beginning of its answer: a template continues a last message of the assistant."""
    if not kept:
        return subject
    if isinstance(subject, str):
        return subject + kept if raw else [Message("user", subject), Message("assistant", kept)]
    return [*subject, Message("assistant", kept)]


def spent(piece: Piece, *, before: Receipt | None, notes: tuple[str, ...] = ()) -> Piece:
    """The piece; its receipt, where it has one, with what earlier requests of the same answer took."""
    receipt = piece.receipt
    if receipt is None:
        return piece
    before = before or Receipt(calls=0)
    return piece._replace(
        receipt=replace(
            receipt,
            calls=receipt.calls + before.calls,
            loads=receipt.loads + before.loads,
            reloads=receipt.reloads + before.reloads,
            retries=receipt.retries + before.retries,
            first_token=before.first_token or receipt.first_token,
            seconds=None if receipt.seconds is None else round(receipt.seconds + (before.seconds or 0), 6),
            notes=tuple(dict.fromkeys((*before.notes, *notes, *receipt.notes))),
        )
    )


def summed(usages: Sequence[Usage]) -> Usage:
    """What several answers took together; None where nobody said."""
    told = [asdict(usage) for usage in usages]
    known = {name: [each[name] for each in told if each[name] is not None] for name in asdict(Usage())}
    return Usage(**{name: round(sum(values), 9) for name, values in known.items() if values})


def added(first: Usage, then: Usage) -> Usage:
    """The tokens and times of an answer in two parts; the prompt is the first one's."""

    def total(name: str) -> float | None:
        known = [value for usage in (first, then) if (value := getattr(usage, name)) is not None]
        return sum(known) if known else None

    names = ("total_duration", "load_duration", "prompt_duration", "eval_duration")
    return Usage(
        prompt_tokens=first.prompt_tokens if first.prompt_tokens is not None else then.prompt_tokens,
        completion_tokens=(first.completion_tokens or 0) + (then.completion_tokens or 0),
        **{name: total(name) for name in names},
    )


async def settled(pieces: AsyncGenerator[Piece]) -> AsyncGenerator[Piece]:
    """For readers of the whole: thinking as it comes, the text once it is known what of it is kept."""
    text: list[str] = []
    fault: OrchestraError | None = None
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                if piece.kind == "thinking" and piece.keep is None:
                    yield piece
                    continue
                text.append(piece.text)
                if piece.keep is not None:
                    text, cut = cut_back(text, piece.keep)
                    if piece.kind == "thinking" and cut:
                        yield Piece(cut, "thinking")
                if piece.finish_reason is not None:
                    whole, text = "".join(text), []
                    yield piece._replace(text=whole, keep=None)
    except OrchestraError as error:
        fault = error
    if fault is not None:
        if text and not isinstance(fault, SchemaMismatch):
            yield Piece("".join(text))
        raise fault
