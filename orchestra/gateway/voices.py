"""Who can be talked to as a model: each persona, whoever fits (auto), search, the coordinator.

A voice answers a dialogue as its client has sent it; what happens on the way - who was chosen, steps of experts, sources -
comes as values among the pieces, and each face shows them in its own protocol.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from orchestra.agents.budget import Budget, Limits
from orchestra.agents.coordinator import Plan
from orchestra.agents.experts import Named, Source
from orchestra.agents.leading import leading
from orchestra.agents.reasoning import Thought
from orchestra.agents.router import AUTO, Router
from orchestra.agents.tool import Step
from orchestra.api import AsyncOrchestra, TaskFields
from orchestra.errors import FieldInvalid
from orchestra.gateway.dialogue import Dialogue
from orchestra.gateway.meanwhile import Tell, released, with_told
from orchestra.gateway.roster import SEARCH as SEARCHING
from orchestra.gateway.roster import Roster
from orchestra.gateway.waiting import Waiting
from orchestra.model.language import language_of
from orchestra.model.messages import Message, Piece, Reply, gathered
from orchestra.model.notice import announced, left_out
from orchestra.model.persona import Persona
from orchestra.retrieval.pipeline import Answer
from orchestra.sessions.branching import Begun
from orchestra.sessions.conversation import AsyncSession, Leader, Opening
from orchestra.sessions.segments import remembered
from orchestra.texts import Words

PREFIX = "orchestra/"
_LEADING = 20  # last messages of a user that tell who leads a dialogue
SEARCH = SEARCHING.removeprefix(PREFIX)
COORDINATOR = "coordinator"
Part = Piece | Thought | Step | Leader | Answer | Plan | Waiting
_TITLES = {
    AUTO: Words("Whoever fits", "自动选择"),
    SEARCH: Words("Search", "检索"),
    COORDINATOR: Words("Coordinator", "协调者"),
}
_PURPOSES = {
    AUTO: Words("Each message is answered by the persona that fits it.", "每条消息由合适的角色回答。"),
    SEARCH: Words("Answers from what is found, with sources and checked citations.", "根据检索到的资料回答，附来源，引用经过核对。"),
    COORDINATOR: Words("A task is put to several experts, and one answer made of theirs.", "把任务交给多位专家，整合成一份回答。"),
}


async def told(parts: AsyncGenerator[Part]) -> Reply | Plan:
    """An answer that is wanted whole: the plan where it was a task, else the reply that its pieces are."""
    pieces: list[Piece] = []
    async with aclosing(parts) as stream:
        async for part in stream:
            if isinstance(part, Plan):
                return part
            if isinstance(part, Piece):
                pieces.append(part)
    return gathered(pieces)


def spoken(session: AsyncSession, dialogue: Dialogue) -> AsyncGenerator[Part]:
    """The answer of a session; first of all it says where the oldest part of the dialogue did not fit."""

    def notice() -> str:
        messages = 2 * session.dropped
        return left_out(messages, session.window, language_of(dialogue.question)).rstrip() if messages else ""

    pieces = session.stream(dialogue.question)
    if dialogue.options.format is None:  # what a program reads holds no word of ours
        pieces = announced(pieces, notice=notice)
    return released(pieces, _last)


async def planned(
    orchestra: AsyncOrchestra, dialogue: Dialogue, begun: Begun, *, experts: Sequence[Named], coordinator: str | Persona,
    descriptions: Mapping[str, str] | None = None,
) -> AsyncGenerator[Part]:  # fmt: skip
    """A dialogue as a task for several: its steps as they happen, the pieces of its answer, at last the `Plan`."""
    how: TaskFields = {**dialogue.task, "descriptions": descriptions or {}}
    ask = partial(orchestra.integrate_stream, experts=experts, coordinator=coordinator, options=dialogue.options)

    async def kept(tell: Tell[Part]) -> AsyncGenerator[Part]:
        turn: TaskFields = {**how, "session": reading(begun), "trace": tell}
        async with aclosing(ask(dialogue.question, **turn)) as parts:
            async for part in parts:
                if not isinstance(part, Thought | Step):  # these were told as they happened
                    yield part

    *said, question = dialogue.whole
    plain: TaskFields = {**how, "said": said}
    parts = ask(question.content, **plain) if begun.journal is None else with_told(kept)
    async with aclosing(released(parts, ended)) as stream:
        async for part in stream:
            yield part


def reading(begun: Begun) -> Begun:
    """The turn for somebody who was asked by name, and reads all of the dialogue, whoever has led it."""
    return replace(begun, record=replace(begun.record, persona=None, auto=False))


def ended(part: Part) -> bool:
    """Whether a part says what an answer was made of: none comes after it."""
    return isinstance(part, Answer | Plan)


def _last(part: Part) -> bool:
    return isinstance(part, Piece) and part.finish_reason is not None


class Voice(Protocol):
    """A name that answers."""

    @property
    def id(self) -> str:
        """The model's name, as clients ask for it."""

    def titled(self, language: str) -> str:
        """The name as people read it."""

    def described(self, language: str) -> str:
        """What it is for."""

    @property
    def starters(self) -> Sequence[str]:
        """Questions to begin with."""

    def answer(self, dialogue: Dialogue) -> AsyncGenerator[Part]:
        """The answer as it comes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonaVoice:
    """One persona, with its own experts where it has some."""

    orchestra: AsyncOrchestra
    persona: Persona

    @property
    def id(self) -> str:
        """`orchestra/lawyer`."""
        return PREFIX + self.persona.name

    def titled(self, language: str) -> str:
        """The persona's title."""
        return self.persona.titled(language)

    def described(self, language: str) -> str:
        """The persona's description."""
        return self.persona.described(language)

    @property
    def starters(self) -> Sequence[str]:
        """The persona's example questions."""
        return self.persona.examples

    async def answer(self, dialogue: Dialogue) -> AsyncGenerator[Part]:
        """The persona's answer; too far down, it answers alone. Raises `AgentRecursion` where the question was there before."""
        persona, orchestra = self.persona, self.orchestra
        dialogue.lineage.at(persona.name)
        begun = await dialogue.begun(persona=persona.name)
        if persona.experts and not dialogue.lineage.deepest:
            parts = planned(orchestra, dialogue, begun, experts=persona.experts, coordinator=persona)
        else:
            parts = spoken(orchestra.session(reading(begun), persona=persona, options=dialogue.bounded(persona)), dialogue)
        async with aclosing(parts) as stream:
            async for part in stream:
                yield part


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherVoice:
    """Whoever fits, search, or the coordinator, each by its name."""

    orchestra: AsyncOrchestra
    roster: Roster
    name: str

    @property
    def id(self) -> str:
        """`orchestra/auto`."""
        return PREFIX + self.name

    def titled(self, language: str) -> str:
        """The name as people read it."""
        return _TITLES[self.name].text(language)

    def described(self, language: str) -> str:
        """What it is for."""
        return _PURPOSES[self.name].text(language)

    @property
    def starters(self) -> Sequence[str]:
        """The coordinator's example tasks; none where anything may be asked."""
        if self.name != COORDINATOR:
            return ()
        return self.roster.library.persona(self.roster.coordinator).examples

    async def answer(self, dialogue: Dialogue) -> AsyncGenerator[Part]:
        """The answer of whom it stands for."""
        parts = {AUTO: self._auto, SEARCH: self._search, COORDINATOR: self._coordinated}[self.name](dialogue)
        async with aclosing(parts) as stream:
            async for part in stream:
                yield part

    async def _auto(self, dialogue: Dialogue) -> AsyncGenerator[Part]:
        """Whoever fits. Who led a dialogue that is kept is remembered, else it is found out by its own words."""
        begun = await dialogue.begun(auto=True)
        current = begun.record.persona or await self._leader(dialogue.said)
        led = partial(self._led, dialogue, begun, current)
        parts = spoken(self.orchestra.session(begun), dialogue) if begun.answered else with_told(led)
        async with aclosing(parts) as stream:
            async for part in stream:
                yield part

    async def _led(self, dialogue: Dialogue, begun: Begun, current: str, tell: Tell[Part]) -> AsyncGenerator[Part]:
        """The turn, led by whoever fits; a message with several experts' questions has each asked its own."""
        orchestra = self.orchestra
        limits = Limits(tokens=dialogue.most, seconds=dialogue.options.deadline or orchestra.settings.deadline)
        source = Source(personas=orchestra.personas, client=orchestra.client, model="", grounded=orchestra.grounds)
        leads = leading(source, options=dialogue.options, trace=tell, budget=partial(Budget, limits, lineage=dialogue.lineage))
        leader = await leads(dialogue.question, current, partial(remembered, orchestra.store, begun.record.id))
        persona = leader.persona
        dialogue.lineage.at(persona.name)
        yield leader
        if dialogue.lineage.deepest:
            leader = leader._replace(ground=None)

        async def led(*_: object) -> Leader:
            return leader

        if persona.experts and leader.ground is None and not dialogue.lineage.deepest:
            parts = planned(orchestra, dialogue, begun, experts=persona.experts, coordinator=persona)
        else:
            opening = Opening(known=orchestra.personas.persona, grounded=orchestra.grounds, routed=led, auto=True)
            options = dialogue.bounded(persona)
            session = AsyncSession(store=orchestra.store, client=orchestra.client, name=begun, opening=opening, options=options)
            parts = spoken(session, dialogue)
        async with aclosing(parts) as stream:
            async for part in stream:
                yield part

    async def _leader(self, said: Sequence[Message]) -> str:
        """Who led a dialogue, by its words."""
        router, current = Router(await self.orchestra.runtime.call(self.orchestra.personas.all)), ""
        for asked in [message.content for message in said if message.role == "user"][-_LEADING:]:
            current = router.lexical(asked, current=current).persona
        return current

    async def _search(self, dialogue: Dialogue) -> AsyncGenerator[Part]:
        begun = await dialogue.begun()
        *said, question = dialogue.whole
        if begun.journal is None:
            parts = self.orchestra.ask_stream(question.content, said=said, options=dialogue.options)
        else:
            parts = released(self.orchestra.ask_stream(dialogue.question, session=reading(begun), options=dialogue.options), ended)
        async with aclosing(parts) as stream:
            async for part in stream:
                yield part

    async def _coordinated(self, dialogue: Dialogue) -> AsyncGenerator[Part]:
        roster = self.roster
        parts = planned(
            self.orchestra, dialogue, await dialogue.begun(), experts=roster.experts, coordinator=roster.coordinator,
            descriptions=roster.descriptions,
        )  # fmt: skip
        async with aclosing(parts) as stream:
            async for part in stream:
                yield part


@dataclass(frozen=True, slots=True, kw_only=True)
class Voices:
    """Everybody who can be talked to here; persona files are read each time, so that a new one is there at once."""

    orchestra: AsyncOrchestra
    roster: Roster

    async def all(self) -> list[Voice]:
        """The others first, then the personas."""
        if self.roster.alone is not None:
            return [PersonaVoice(orchestra=self.orchestra, persona=self.roster.alone)]
        personas = await self.orchestra.runtime.call(self.orchestra.personas.all)
        others = [self._other(name) for name in (AUTO, COORDINATOR, SEARCH)]
        return [*others, *(PersonaVoice(orchestra=self.orchestra, persona=persona) for persona in personas)]

    async def voice(self, model: str) -> Voice:
        """The voice of that name. Raises `PersonaMissing`, and `FieldInvalid` for a name that is not of this kind."""
        if not model.startswith(PREFIX):
            raise FieldInvalid(
                field="model", detail=f"models here are called {PREFIX}NAME", detail_zh=f"此处的模型名称形如 {PREFIX}名称"
            )
        name = model.removeprefix(PREFIX).removesuffix(":latest")
        if self.roster.alone is None and name in _TITLES:
            return self._other(name)
        persona = await self.orchestra.runtime.call(partial(self.roster.speaker, name))
        return PersonaVoice(orchestra=self.orchestra, persona=persona)

    def _other(self, name: str) -> Voice:
        return OtherVoice(orchestra=self.orchestra, roster=self.roster, name=name)
