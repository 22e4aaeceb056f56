"""A dialogue as its client has sent it: what was said, the question that ends it, and what its client wishes for the answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Unpack

from orchestra.agents.budget import least
from orchestra.agents.lineage import Lineage
from orchestra.api import TaskFields
from orchestra.errors import FieldInvalid
from orchestra.model.language import language_of
from orchestra.model.messages import Message, Options
from orchestra.model.notice import without_notice
from orchestra.model.persona import Persona
from orchestra.sessions.branching import Begun, unkept
from orchestra.sessions.records import About
from orchestra.texts import Words

_GO_ON = Words("Go on exactly where you stopped, and repeat nothing.", "请从中断处接着说，不要重复。")
Kept = Callable[["Dialogue", About], Awaitable[Begun]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialogue:
    """What a client has sent: what was `said`, user and assistant in turn, and the `question` that ends it.

    `wishes` are the client's own instructions, for the dialogue as a whole. `lineage` says through which agents it has come,
    `most` how many tokens all that work on the answer may generate together. `kept` begins the turn where it is stored.
    """

    said: tuple[Message, ...] = ()
    question: str
    wishes: str = ""
    options: Options = field(default_factory=Options)
    lineage: Lineage = field(default_factory=Lineage)
    most: int | None = None
    kept: Kept | None = None

    @property
    def task(self) -> TaskFields:
        """The dialogue as a task for several."""
        return TaskFields(lineage=self.lineage, max_total_tokens=self.most)

    @property
    def whole(self) -> list[Message]:
        """All of it, for whoever takes no wishes apart: they stand before what was said first."""
        first, *others = (*self.said, Message("user", self.question))
        return [replace(first, content=f"{self.wishes}\n\n{first.content}") if self.wishes else first, *others]

    def bounded(self, persona: Persona) -> Options:
        """What the client wishes for an answer of the persona, within the bounds of both."""
        wished, own, limits = self.options, persona.options, persona.limits
        tokens = least(least(self.most, wished.max_tokens), least(own.max_tokens, limits.tokens))
        return replace(wished, max_tokens=tokens, deadline=least(wished.deadline or own.deadline, limits.seconds))

    async def begun(self, **about: Unpack[About]) -> Begun:
        """The turn of the question; `about` is for a session that is made now."""
        about.setdefault("language", language_of(self.question))
        return self.unkept(about) if self.kept is None else await self.kept(self, about)

    def unkept(self, about: About) -> Begun:
        """The same, stored nowhere."""
        return unkept(self.said, wishes=self.wishes, **about)

    @classmethod
    def of(cls, messages: Sequence[Message], options: Options, lineage: Lineage, kept: Kept | None = None) -> Dialogue:
        """The dialogue in a client's messages. Raises `FieldInvalid` where none of them asks anything.

        A client's system messages are wishes of its user: the seed memory of a persona is the only text that speaks as the
        system. Where the assistant has spoken last its answer was cut, and it is asked to go on ("Continue response" of a
        chat). `kept` is what begins the turn, where it is stored.
        """
        wishes = "\n\n".join(one.content for one in messages if one.role == "system" and one.content.strip())
        turns = [_as_said(one) for one in messages if one.role in ("user", "assistant")]
        said = [one for one in turns if one.content.strip()]
        while said and said[0].role == "assistant":
            del said[0]
        if not said or (said[-1].role == "assistant" and turns[-1].role == "user"):
            raise FieldInvalid(field="messages", detail="the last of a user's says nothing", detail_zh="最后一条用户消息没有内容")
        if said[-1].role == "assistant":
            said.append(Message("user", _GO_ON.text(language_of(said[-2].content))))
        return cls(said=tuple(said[:-1]), question=said[-1].content, wishes=wishes, options=options, lineage=lineage, kept=kept)


def _as_said(message: Message) -> Message:
    """A message without the line of ours that an answer may have begun with."""
    return replace(message, content=without_notice(message.content)) if message.role == "assistant" else message
