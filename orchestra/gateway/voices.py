"""Who can be talked to as a model: each persona, whoever fits (auto), search, the coordinator.

A voice answers a dialogue as its client has sent it; what happens on the way - who was chosen, steps of experts, sources -
comes as values among the pieces, and each face shows them in its own protocol.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from orchestra.agents.budget import least
from orchestra.agents.coordinator import Plan
from orchestra.agents.expert import Expert
from orchestra.agents.lineage import Lineage
from orchestra.agents.reasoning import Thought
from orchestra.agents.router import AUTO, Route, Router
from orchestra.agents.tool import Step
from orchestra.api import AsyncOrchestra, TaskFields
from orchestra.errors import FieldInvalid
from orchestra.gateway.roster import SEARCH as SEARCHING
from orchestra.gateway.roster import Roster
from orchestra.gateway.waiting import Waiting
from orchestra.model.messages import Message, Options, Piece, Reply, gathered
from orchestra.model.persona import Persona
from orchestra.retrieval.pipeline import Answer
from orchestra.texts import Words

PREFIX = "orchestra/"
SEARCH = SEARCHING.removeprefix(PREFIX)
COORDINATOR = "coordinator"
Part = Piece | Thought | Step | Route | Answer | Plan | Waiting
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialogue:
    """What a client has sent: what was `said`, user and assistant in turn, and the `question` that ends it.

    `lineage` says through which agents it has come, `most` how many tokens all that work on the answer may generate together.
    """

    said: tuple[Message, ...] = ()
    question: str
    options: Options = field(default_factory=Options)
    lineage: Lineage = field(default_factory=Lineage)
    most: int | None = None

    @property
    def task(self) -> TaskFields:
        """The dialogue as a task for several."""
        return TaskFields(said=self.said, lineage=self.lineage, max_total_tokens=self.most)

    @classmethod
    def of(cls, messages: Sequence[Message], options: Options, lineage: Lineage) -> Dialogue:
        """The dialogue in a client's messages. Raises `FieldInvalid` where none of them asks anything.

        A client's system messages are wishes of its user: they stand before the first question, for the seed memory of
        a persona is the only text that speaks as the system.
        """
        wishes = "\n\n".join(one.content for one in messages if one.role == "system" and one.content.strip())
        said = [one for one in messages if one.role in ("user", "assistant") and one.content.strip()]
        while said and said[0].role == "assistant":
            del said[0]
        if not said or said[-1].role != "user":
            raise FieldInvalid(field="messages", detail="the last message is no user's", detail_zh="最后一条不是用户的消息")
        if wishes:
            said[0] = replace(said[0], content=f"{wishes}\n\n{said[0].content}")
        return cls(said=tuple(said[:-1]), question=said[-1].content, options=options, lineage=lineage)


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
        if persona.experts and not dialogue.lineage.deepest:
            parts: AsyncGenerator[Part] = orchestra.integrate_stream(
                dialogue.question, experts=persona.experts, coordinator=persona, options=dialogue.options, **dialogue.task
            )
        else:
            model = persona.model or await orchestra.model_for()
            expert = Expert(persona=persona, client=orchestra.client, model=model, ground=orchestra.grounds(persona))
            most = least(dialogue.most, dialogue.options.max_tokens)
            options = replace(dialogue.options, max_tokens=least(most, persona.options.max_tokens))
            parts = expert.stream(dialogue.question, options=options, said=dialogue.said)
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
        """Whoever fits; who led the dialogue so far is found out by its own words, for nobody here remembers it."""
        orchestra = self.orchestra
        router = Router(await orchestra.runtime.call(orchestra.personas.all))
        current = ""
        for message in dialogue.said:
            if message.role == "user":
                current = router.lexical(message.content, current=current).persona
        route = await router.route(dialogue.question, client=orchestra.client, current=current)
        yield route
        persona = router.personas[route.persona]
        if route.experts:
            persona = replace(persona, experts=tuple(route.experts))
        async with aclosing(PersonaVoice(orchestra=orchestra, persona=persona).answer(dialogue)) as stream:
            async for part in stream:
                yield part

    def _search(self, dialogue: Dialogue) -> AsyncGenerator[Part]:
        return self.orchestra.ask_stream(dialogue.question, said=dialogue.said, options=dialogue.options)

    def _coordinated(self, dialogue: Dialogue) -> AsyncGenerator[Part]:
        task: TaskFields = {**dialogue.task, "descriptions": self.roster.descriptions}
        return self.orchestra.integrate_stream(
            dialogue.question, experts=self.roster.experts, coordinator=self.roster.coordinator, options=dialogue.options, **task
        )


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
