"""What `generate` and `chat` do: one answer on the event loop, shown as it comes."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache, partial

from orchestra.agents.contributions import Step
from orchestra.agents.reasoning import Thought
from orchestra.agents.router import AUTO
from orchestra.api import AsyncOrchestra, AsyncSession
from orchestra.cli import words
from orchestra.cli.answers import show
from orchestra.cli.archive import last_name, stored_in
from orchestra.cli.outcome import Wish
from orchestra.cli.running import Patience, complete
from orchestra.cli.sources import ground_below, noticed
from orchestra.cli.steps import Steps, stepped, steps_shown
from orchestra.cli.terminal import tell
from orchestra.cli.tracing import traced
from orchestra.errors import UsageError
from orchestra.model.catalog import Purpose
from orchestra.model.messages import Options, Piece
from orchestra.model.stages import settled
from orchestra.retrieval.places import LookupFields
from orchestra.sessions.conversation import Leader


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialogue:
    """Which dialogue is meant, and how it is led."""

    session: str = ""
    last: bool = False
    persona: str = ""
    model: str = ""
    base: bool | None = None
    lookup: LookupFields = field(default_factory=LookupFields)
    trace: bool = False
    options: Options


@asynccontextmanager
async def at_work(*, window: int | None = None) -> AsyncIterator[tuple[AsyncOrchestra, Patience]]:
    """Orchestra for one command, with a `window` of its own, and the patience of whoever waits; a stand-in is named first."""
    patience = Patience()
    async with AsyncOrchestra(observe=patience.observe, tell=partial(noticed, patience), window=window) as orchestra:
        connection = orchestra.client.connection
        patience.begun = lambda: connection.stand_in and _named_stand_in(connection.url)
        yield orchestra, patience


@cache  # once in a process, which in an interactive dialogue answers many times
def _named_stand_in(url: str) -> None:
    tell(words.say(f"the stand-in at {url} answers: these words are mechanical, no model's", f"由替身服务（{url}）回答：以下文字由机械程序生成，不出自模型"))


def generate_once(prompt: str, *, model: str, base: bool | None, options: Options, wish: Wish) -> None:
    """One completion."""

    async def main() -> None:
        async with at_work() as (orchestra, patience):
            chosen = await named_model(orchestra, "base" if base else "chat", model, wish)
            pieces = readable(orchestra.stream(prompt, model=chosen, base=base, options=options), options)
            await show(pieces, wish, patience)

    complete(main())


def readable(pieces: AsyncGenerator[Piece], options: Options) -> AsyncGenerator[Piece]:
    """The pieces as this output takes them: what a program reads must not hold what was cut off later."""
    skips = options.on_repetition == "skip" and not sys.stdout.isatty()
    return settled(pieces) if skips or options.schema is not None else pieces


def converse(message: str, dialogue: Dialogue, wish: Wish) -> None:
    """One turn, or with nobody's message an interactive dialogue."""
    if not message and not sys.stdin.isatty():
        from orchestra.cli.options import text_of

        message = text_of("-")
        if not message.strip():
            raise UsageError(
                detail="there is no message",
                detail_zh="没有消息",
                fix='say something: orchestra chat "..."',
                fix_zh='请输入内容：orchestra chat "..."',
            )
    if message:
        complete(one_turn(message, dialogue, wish))
        return
    from orchestra.cli.interactive import interact

    interact(dialogue, wish)


async def one_turn(message: str, dialogue: Dialogue, wish: Wish) -> str:
    """One turn of a dialogue; the session's name."""
    async with at_work() as (orchestra, patience):
        name = dialogue.session or (last_name(orchestra.store) if dialogue.last else None)
        found = orchestra.store.find(name) if name else None
        auto = dialogue.persona == AUTO or bool(found and found.auto and not dialogue.persona)
        persona = AUTO if auto else dialogue.persona or (found and found.persona) or None
        led = Led(message, patience, wish)
        session = led.session = orchestra.session(
            name, persona=persona, model=dialogue.model, options=dialogue.options, base=dialogue.base, steps=led.push,
            **looked_up(dialogue.lookup, patience, trace=dialogue.trace, wish=wish),
        )  # fmt: skip
        if not dialogue.model and not (found and found.model) and not wish.json:
            # the session chooses: what was said is stored before anybody asks the daemon which models it has
            patience.turned = lambda: tell(_model_line(session.model))
        pieces = readable(stepped(session.stream(message), led), dialogue.options)
        reply = await show(
            pieces, wish, patience, stored=lambda: stored_in(orchestra.store, session.name, message),
            session=lambda: session.name, **(led.beside() if auto else {}),
        )  # fmt: skip
        if reply.ground and not wish.json:
            ground_below(reply.ground)
        if name is None and not wish.json:
            tell(words.say(f"session: {session.name} (go on with -c)", f"会话：{session.name}（用 -c 继续）"))
        return session.name or ""


class Led(Steps):
    """Who was picked to answer, told before the first word, and before the steps of the experts that a message needs.

    Most messages need none: what shows steps begins with the first of them.
    """

    def __init__(self, message: str, patience: Patience, wish: Wish) -> None:
        self.session: AsyncSession | None = None
        self._message = message
        self._patience = patience
        self._wish = wish
        self._steps: Steps | None = None
        self._told = False
        self._begun, patience.begun = patience.begun, self.named

    @property
    def leader(self) -> Leader | None:
        """Whoever was picked, once somebody was."""
        return self.session.leader if self.session else None

    def named(self) -> None:
        """Say who it is, once; while a model is asked who answers, nobody has been picked yet."""
        self._begun()
        if self.leader and not self._told and not self._wish.json:
            self._told = True
            tell(_led_line(self.leader))

    def push(self, part: Thought | Step) -> None:
        """Show a step of an expert."""
        if self._steps is None:
            self.named()
            self._steps = steps_shown(self._message, self._wish, self._patience)
        self._steps.push(part)

    def close(self) -> None:
        """Leave what was shown as it is."""
        if self._steps is not None:
            self._steps.close()

    def beside(self) -> dict[str, Callable[[], str]]:
        """What stands beside the answer in the one object."""
        return {
            "persona": lambda: self.leader.persona.name if self.leader else "",
            "reason": lambda: self.leader.reason if self.leader else "",
        }


def _led_line(leader: Leader) -> str:
    """Who answers and why, in the reader's language; an arrow where the topic has turned, another where it has come back."""
    name = leader.persona.name
    why = words.say(*leader.why) if leader.why else leader.reason
    match leader.turned:
        case "to":
            return words.say(f"persona -> {name} ({why})", f"角色 -> {name}（{why}）")
        case "back":
            return words.say(f"persona <- back to {name} ({why})", f"角色 <- 回到 {name}（{why}）")
        case _:
            return words.say(f"persona: {name} ({why})", f"角色：{name}（{why}）")


def looked_up(lookup: LookupFields, patience: Patience, *, trace: bool, wish: Wish) -> LookupFields:
    """How a dialogue looks things up, and who is told of it: the reader."""
    if not lookup:
        return lookup
    told = partial(traced, patience=patience, shown=trace, wish=wish)
    return {**lookup, "trace": told, "tell": partial(noticed, patience)}


async def named_model(orchestra: AsyncOrchestra, purpose: Purpose, wanted: str, wish: Wish) -> str:
    """The model that answers, named on stderr where nobody named it."""
    model = await orchestra.model_for(purpose, wanted)
    if not wanted and not wish.json:
        tell(_model_line(model))
    return model


def _model_line(model: str) -> str:
    return words.say(f"model: {model}", f"模型：{model}")
