"""A persona at work: it answers in its role, and to every other agent it is a tool with a name and one argument.

One definition serves many questions at once; what belongs to one of them - what was said before, what was found for
it - is never kept in it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from orchestra.agents.budget import least
from orchestra.agents.tool import QUESTION, CallContext, Contribution, bounded
from orchestra.errors import Interrupted, OrchestraError
from orchestra.model.budget import PASSAGES_PART
from orchestra.model.client import Client
from orchestra.model.firmness import fits
from orchestra.model.language import language_of, wanted, with_language
from orchestra.model.messages import Message, Options, Piece, Receipt, Reply, Usage, gathered
from orchestra.model.notice import announced
from orchestra.model.persona import Persona
from orchestra.model.stages import summed
from orchestra.model.tokens import PER_MESSAGE, most_tokens_of
from orchestra.model.window import Fit, Loaded
from orchestra.sessions.grounding import Ground, Inquiry, Material
from orchestra.texts import Words

_EMPTY = Words("the answer is empty", "回答为空")
_SOON = 0.001  # seconds: a time that is over
SAID_PART = 3  # of the window, one part in so many for what was said before
_BETWEEN = 2  # tokens that may come of putting texts together


@dataclass(frozen=True, slots=True, kw_only=True)
class Expert:
    """One definition that serves many questions at once; `model` answers where the persona names none.

    `ground` looks each question up before it is answered.
    """

    persona: Persona
    client: Client
    model: str
    ground: Ground | None = None

    @property
    def name(self) -> str:
        """The name by which other agents ask for it."""
        return self.persona.name

    @property
    def parameters(self) -> Mapping[str, Any]:
        """It takes a text."""
        return QUESTION

    @property
    def takes_slot(self) -> bool:
        """It asks this daemon."""
        return True

    def titled(self, language: str) -> str:
        """The persona's title."""
        return self.persona.titled(language)

    def described(self, language: str) -> str:
        """The persona's description."""
        return self.persona.described(language)

    async def ask(self, question: str, context: CallContext) -> Contribution:
        """What the expert says to `question`; what keeps it from answering, as an error."""
        started = time.monotonic()
        language = context.options.language or language_of(question)
        try:
            reply = await self.answer(question, options=self._allotted(context.options), said=context.said)
        except OrchestraError as failure:
            return replace(observed(failure, language), duration=round(time.monotonic() - started, 6))
        answer = reply.text.strip()
        return Contribution(
            answer=bounded(answer, language),
            error="" if answer else _EMPTY.text(language),
            duration=round(time.monotonic() - started, 6),
            usage=reply.usage,
            receipt=reply.receipt,
        )

    async def stream(
        self, question: str, *, options: Options | None = None, material: str = "", said: Sequence[Message] = ()
    ) -> AsyncGenerator[Piece]:
        """What the expert says to `question`, in its language; `material` is text of others, to be judged, not obeyed.

        The seed memory stands first, then the last of what was `said` before; only the question and what belongs to it stand in
        the user message.
        """
        started, model = time.monotonic(), self.persona.model or self.model
        options = self._within((options or Options()).over(self.persona.options))
        seed = self.persona.speaks(options.language or language_of(question))
        loaded = await self.client.ready(model, options)
        await fits(self.persona, seed, client=self.client, model=model, loaded=loaded)
        said = await self._recent(said, model, loaded.window // SAID_PART)
        found = await self._found(question, said, options, model, loaded)
        line = wanted(question, options.language) if self.persona.follows_language else options.language
        asked = with_language("\n\n".join(filter(None, (question, material, found.text))), line)
        messages = [Message("system", seed), *said, Message("user", asked)]
        facts = await self.client.facts(model)
        fit = Fit(loaded=loaded, most=most_tokens_of(messages, f"{facts.get('template', '')}{facts.get('system', '')}"))
        if options.deadline:  # looking up and loading are part of the time that it has
            options = replace(options, deadline=max(_SOON, options.deadline - (time.monotonic() - started)))
        pieces = announced(found.stage(self.client.chat(messages, model=model, options=options, fit=fit)), notice=found.notice)
        told: list[Piece] = []
        async with aclosing(pieces):
            async for piece in pieces:
                told.append(piece)
                yield _accounted(piece, found, told)

    async def answer(self, question: str, *, options: Options | None = None, said: Sequence[Message] = ()) -> Reply:
        """The same, whole. Raises `OrchestraError`, with what was said so far as its `reply`."""
        async with aclosing(self.stream(question, options=options, said=said)) as pieces:
            return gathered([piece async for piece in pieces])

    def _allotted(self, options: Options) -> Options:
        """What is left for a call is the most that it may take: the persona's own options may be tighter, not wider."""
        own = self.persona.options
        return replace(options, deadline=least(options.deadline, own.deadline), max_tokens=least(options.max_tokens, own.max_tokens))

    def _within(self, options: Options) -> Options:
        """The options within the persona's own limits."""
        limits = self.persona.limits
        return replace(
            options, deadline=least(options.deadline, limits.seconds), max_tokens=least(options.max_tokens, limits.tokens)
        )

    async def remembered(self, said: Sequence[Message], options: Options | None = None) -> Sequence[Message]:
        """The last of what was said, as much of it as may stand before a question."""
        if not said:
            return ()
        model = self.persona.model or self.model
        loaded = await self.client.ready(model, (options or Options()).over(self.persona.options))
        return await self._recent(said, model, loaded.window // SAID_PART)

    async def _recent(self, said: Sequence[Message], model: str, room: int) -> Sequence[Message]:
        """The last exchanges of what was said, whole ones, that take at most `room` tokens together."""
        if most_tokens_of(said) <= room:
            return said
        counter = await self.client.counter(model)
        start = len(said)
        while start and (room := room - counter.count(said[start - 1].content) - PER_MESSAGE) >= 0:
            start -= 1
        while start < len(said) and said[start].role == "assistant":  # its question is gone
            start += 1
        return said[start:]

    async def _found(
        self, question: str, said: Sequence[Message], options: Options, model: str, loaded: Loaded
    ) -> Material:
        """What the ground gives for the question; where it fails, nothing, and a note that says so."""
        if self.ground is None:
            return Material()
        counter = await self.client.counter(model)
        inquiry = Inquiry(
            question=question,
            said=said,
            model=model,
            language=wanted(question, options.language) or language_of(question),
            room=loaded.window // PASSAGES_PART - _BETWEEN,
            tokens=counter.count,
        )
        try:
            found = await self.ground(inquiry)
        except OrchestraError:
            return Material(notes=("ground_failed",))
        if counter.count(found.text) > inquiry.room:
            return replace(found, text="", notes=(*found.notes, "ground_too_long"))
        return found


def observed(failure: OrchestraError, language: str) -> Contribution:
    """What keeps an expert from answering, as a fact for whoever asked. Raises it where it is the task that ends."""
    if isinstance(failure, Interrupted):
        raise failure
    reply = failure.reply
    return Contribution(
        answer=bounded(reply.text.strip(), language) if reply else "",
        error=failure.message(language),
        usage=reply.usage if reply else Usage(),
        receipt=reply.receipt if reply else Receipt(calls=0),
    )


def _accounted(piece: Piece, found: Material, told: Sequence[Piece]) -> Piece:
    """The piece; the last one with what looking up took, and its sources."""
    if piece.finish_reason is None or found == Material():
        return piece
    receipt = piece.receipt or Receipt()
    return piece._replace(
        usage=summed([found.usage, *([piece.usage] if piece.usage else [])]),
        receipt=replace(receipt, calls=receipt.calls + found.calls, notes=(*receipt.notes, *found.notes)),
        ground=found.kept(gathered(told).text) or None,
    )
