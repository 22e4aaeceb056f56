"""A dialogue that remembers: each turn is on disk before the model is asked, its answer as it grows.

The spine is a pipe of stages: history and question -> prompt, fitted into the loaded window -> client -> stopping
criteria -> journal -> caller; and after the last piece, where the dialogue has outgrown its share, its summary.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, Unpack

from orchestra.errors import OrchestraError, SessionBusy, SessionExists, StorageFull, StoreFault, UsageError
from orchestra.model.catalog import chosen, is_base
from orchestra.model.client import Client
from orchestra.model.firmness import fits, reminder
from orchestra.model.language import language_of
from orchestra.model.messages import (
    Message,
    OptionFields,
    Options,
    Piece,
    Reply,
    gathered,
)
from orchestra.model.notice import announced
from orchestra.model.persona import Persona
from orchestra.model.rendition import Composed, Rendition, rendition
from orchestra.model.stages import summed
from orchestra.model.window import answer_share
from orchestra.sessions.branching import Begun
from orchestra.sessions.fitting import Exchange, Fitter
from orchestra.sessions.grounding import Ground
from orchestra.sessions.journal import Journal
from orchestra.sessions.prompt import SPEAKERS, Frame, stops, unindented
from orchestra.sessions.recording import again, noted, recorded
from orchestra.sessions.records import About, SessionRecord, Turn
from orchestra.sessions.segments import Turned, lead, remembered
from orchestra.sessions.store import POLL, Store, described
from orchestra.texts import Words

Memory = Callable[[str], Sequence[Message]]
SELDOM = 0.5  # seconds between two looks at a turn that takes long


class Leader(NamedTuple):
    """Who answers a turn, why, and how many calls of a model it took to know.

    `ground` is what others say to the message, for whoever leads to read. `turned` is known once the turn's past is. `why` is
    the reason in both languages, for a reader whose language is not the message's.
    """

    persona: Persona
    reason: str = ""
    calls: int = 0
    ground: Ground | None = None
    turned: Turned = ""
    why: Words | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """How a session begins, where it does not exist yet; `model` also overrides the one of a session that does.

    `known` finds the persona that a session was begun with, by its name; `grounded` gives what that persona looks things up in.
    `routed` picks who answers each message, given it, the name of who answered last ("" at first), and what gives the last
    of what was said to somebody: where the session is `auto`, now or since before, and no persona is named.
    """

    persona: Persona | None = None
    known: Callable[[str], Persona] | None = None
    grounded: Callable[[Persona], Ground | None] | None = None
    routed: Callable[[str, str, Memory], Awaitable[Leader]] | None = None
    auto: bool = False
    model: str = ""
    base: bool | None = None
    language: str = ""
    history: tuple[Message, ...] = ()
    speakers: tuple[str, ...] = ()


class AsyncSession:
    """One named dialogue. It is made on its first turn, and goes on where it stopped. `ground` gives material for each question.

    In place of a name it takes a turn that has begun already; that one is answered, and no other.
    """

    def __init__(
        self, *, store: Store, client: Client, name: str | Begun | None = None, opening: Opening | None = None,
        options: Options | None = None, ground: Ground | None = None,
    ) -> None:  # fmt: skip
        self._turn = name if isinstance(name, Begun) else None
        self.name = name.record.name if isinstance(name, Begun) else name
        self.model = ""  # the one that answers, known when a turn turns to it
        self.dropped, self.window = 0, 0  # how many turns did not fit into how large a window, known before the answer begins
        self.leader: Leader | None = None  # whom the opening's `routed` picked for the last turn
        self._store = store
        self._client = client
        self._opening = opening or Opening()
        before = self._turn.said if self._turn else self._opening.history
        self._fitter = Fitter(store, client, history=before, known=self._opening.known)
        self._ground = ground
        self._options = options or Options()

    async def ask(
        self, text: str, *, options: Options | None = None, turn_id: str | None = None, branch: bool = False,
        **fields: Unpack[OptionFields],
    ) -> Reply:  # fmt: skip
        """One turn, whole. Raises what the stream raises; what had come by then is in the session."""
        stream = self.stream(text, options=options, turn_id=turn_id, branch=branch, **fields)
        return gathered([piece async for piece in stream])

    async def stream(
        self, text: str, *, options: Options | None = None, turn_id: str | None = None, branch: bool = False,
        **fields: Unpack[OptionFields],
    ) -> AsyncGenerator[Piece]:  # fmt: skip
        """One turn as it comes. A `turn_id` that was already answered gives that answer again; `branch` forks here.

        After the last piece older turns may be summarised (its receipt notes "compacting"): whoever leaves then has
        the whole answer, and the summary is made when it is needed.
        """
        if not text.strip():
            raise _nothing_said()
        options = Options(**fields).over(options).over(self._options)
        record, journal, fault = await self._begun(text, turn_id=turn_id, branch=branch)
        if journal is not None and not journal.new:
            for piece in again(journal.turn):
                yield piece
            return
        wishes = self._turn.wishes if self._turn else ""
        exchange = Exchange(record=record, text=text, options=options, journal=journal, wishes=wishes)
        lost = self._turn.lost if self._turn else None
        pieces = recorded(self._answer(exchange), journal, self._client.runtime, fault, lost=lost)
        pieces = announced(self._settled(pieces, exchange), notice=lambda: exchange.material.notice)
        async with aclosing(pieces):
            async for piece in pieces:
                if piece.usage is not None:  # the stored one is the answer's own: it tells how long the prompt was
                    piece = piece._replace(usage=summed([exchange.material.usage, piece.usage]))
                yield piece

    async def render(self, text: str, *, options: Options | None = None, **fields: Unpack[OptionFields]) -> Rendition:
        """The exact text that the model would read for this message. No answer is asked for, and nothing is stored.

        Where older turns would have to be summarised first they are left out, and counted.
        """
        if not text.strip():
            raise _nothing_said()
        client, options = self._client, Options(**fields).over(options).over(self._options)
        name = self.name or ""
        found = await client.runtime.call_store(lambda: self._store.find(name)) if name else None
        record = found or described(SessionRecord(id="", name=name), self._about(text))
        exchange = Exchange(record=record, text=text, options=options)
        frame = await self._frame(exchange, await self._led(exchange))
        exchange.past = await self._fitter.past(exchange, frame.model)
        prompt = await self._fitter.fitted(frame, exchange, compacts=False)
        raw = isinstance(prompt.subject, str)
        asked = Composed(model=frame.model, subject=prompt.subject, question=text, options=frame.options, raw=raw, dropped=prompt.dropped)
        return await rendition(client, asked)

    async def turns(self) -> list[Turn]:
        """What was said, oldest first."""
        name = self.name
        if name is None:
            return []
        found = await self._client.runtime.call_store(lambda: self._store.find(name))
        return await self._client.runtime.call_store(lambda: self._store.history(name)) if found else []

    # --- stages

    async def _record(self, text: str) -> tuple[SessionRecord, StoreFault | None]:
        """The session, made now if there is none; its language is that of its first message.

        A store without room gives one that is nowhere stored (its `id` is empty), and the fault.
        """
        about = self._about(text)
        try:
            found = await self._client.runtime.call_store(lambda: self._found_or_made(about))
        except StorageFull as fault:
            return described(SessionRecord(id="", name=self.name or ""), about), fault
        self.name = found.name
        return found, None

    def _about(self, text: str) -> About:
        """What is known of a session that begins with `text`."""
        opening = self._opening
        language = opening.language or language_of(text)
        return {
            "persona": opening.persona.name if opening.persona else None,
            "auto": opening.auto,
            "model": opening.model or None,
            "language": language,
            "mode": "transcript" if opening.speakers else "chat",
            "speakers": opening.speakers or SPEAKERS[language if language in SPEAKERS else "en"],
        }

    def _found_or_made(self, about: About) -> SessionRecord:
        found = self._store.find(self.name) if self.name is not None else None
        try:
            return found or self._store.create(self.name, history=self._opening.history, **about)
        except SessionExists:  # another first turn has made it in the meantime: this one is its second
            if self.name is None:
                raise
            return self._store.session(self.name)

    def _persona(self, record: SessionRecord) -> Persona | None:
        opening = self._opening
        if opening.persona is None and opening.known is not None and record.persona:
            return opening.known(record.persona)
        return opening.persona

    async def _begun(
        self, text: str, *, turn_id: str | None, branch: bool
    ) -> tuple[SessionRecord, Journal | None, StoreFault | None]:
        """The session, and the turn's journal; a store without room does not keep the question from being answered."""
        if self._turn is not None:
            return self._turn.record, self._turn.journal, None
        record, fault = await self._record(text)
        if fault is None:
            begin = partial(self._store.begin, record.name, text, turn_id=turn_id, branch=branch, wait=0.0)
            try:
                return record, await self._when_free(begin), None
            except StorageFull as full:
                fault = full
        return record, None, fault

    async def _when_free(self, begin: Callable[[], Journal]) -> Journal:
        """The turn, once no other one of its session is being answered: who waits for that holds no thread, and may leave."""
        runtime, until, longest = self._client.runtime, time.monotonic() + self._store.timeout, 2 * POLL
        while True:
            try:
                return await runtime.call_store(begin)
            except SessionBusy:
                if time.monotonic() >= until:
                    raise
            await runtime.pause(random.uniform(POLL / 2, longest))
            longest = min(1.5 * longest, SELDOM)

    async def _answer(self, exchange: Exchange) -> AsyncGenerator[Piece]:
        client = self._client
        persona = await self._led(exchange)
        exchange.frame = frame = await self._frame(exchange, persona)
        exchange.past = await self._fitter.past(exchange, frame.model)
        self.leader = self.leader and self.leader._replace(turned=exchange.past.turned)
        prompt = await self._fitter.fitted(frame, exchange)
        self.dropped, self.window = prompt.dropped, frame.loaded.window
        if isinstance(prompt.subject, str):
            options = replace(frame.options, stop=(*(frame.options.stop or ()), *stops(frame)))
            pieces = unindented(client.complete(prompt.subject, model=frame.model, options=options, raw=True, fit=prompt.fit))
        else:
            pieces = client.chat(prompt.subject, model=frame.model, options=frame.options, fit=prompt.fit)
        exchange.keep(exchange.material.kept(""))  # whoever leaves in the middle leaves the sources with what was said
        said: list[Piece] = []
        async with aclosing(exchange.material.stage(pieces)) as shown:
            async for piece in shown:
                said.append(piece)
                if piece.receipt is not None:
                    receipt = prompt.on(piece.receipt)
                    piece = piece._replace(receipt=replace(receipt, calls=receipt.calls + exchange.routing))
                if piece.finish_reason is not None:
                    piece = piece._replace(ground=exchange.material.kept(gathered(said).text) or None)
                yield piece

    async def _chosen(self, exchange: Exchange) -> str:
        """The model for a session that names none; it stays with the session, whatever is installed later.

        Not where turns come begun: each may be for somebody else to answer.
        """
        model = await chosen(self._client, purpose="base" if self._opening.base else "chat")
        if self._turn is None and exchange.journal is not None:
            with suppress(StoreFault):  # a store without room keeps no answer from being given
                await self._client.runtime.call_store(lambda: self._store.update(exchange.record.name, model=model))
        return model

    async def _led(self, exchange: Exchange) -> Persona | None:
        """Who answers this turn; where that is picked anew, the session keeps it for the next, and the turn has a segment."""
        record, opening, journal = exchange.record, self._opening, exchange.journal
        auto, persona, self.leader = opening.auto or record.auto, opening.persona, None
        if auto and persona is None and opening.routed is not None:
            memory = partial(remembered, self._store, record.id)
            self.leader = leader = await opening.routed(exchange.text, record.persona or "", memory)
            exchange.routing, exchange.ground, persona = leader.calls, leader.ground, leader.persona
        persona = persona or self._persona(record)
        if persona is None:
            return None
        name = persona.name
        exchange.segment = name if auto else ""
        if journal is not None:
            journal.persona = name
            if auto and (name != record.persona or not record.auto):  # at once: the turn may be left before it has an end
                with suppress(StoreFault):
                    await self._client.runtime.call_store(lambda: lead(self._store, record.id, journal.turn.id, name))
        return persona

    async def _frame(self, exchange: Exchange, persona: Persona | None) -> Frame:
        """Who answers, and what the prompt has to fit into."""
        client, opening, record, options = self._client, self._opening, exchange.record, exchange.options
        own = persona.model if persona else None
        kept = record.model if self._turn is None else ""
        model = opening.model or kept or own or await self._chosen(exchange)
        self.model = model
        facts = await client.facts(model)
        if persona is not None:
            options = options.over(persona.options)
        loaded = await client.ready(model, options)
        language = record.language or "en"
        seed = persona.speaks(language) if persona else ""
        if persona is not None:
            await fits(persona, seed, client=client, model=model, loaded=loaded)
        return Frame(
            record=record,
            model=model,
            loaded=loaded,
            base=opening.base if opening.base is not None else is_base(model, facts),
            thinks="thinking" in (facts.get("capabilities") or ()),
            seed=seed,
            reminder=reminder(persona, language) if persona else "",
            template=str(facts.get("template", "")),
            answer=answer_share(loaded.window, options, client.settings),
            options=options,
            ground=self._ground or exchange.ground or (opening.grounded(persona) if persona and opening.grounded else None),
            follows=persona is None or persona.follows_language,
        )

    async def _settled(self, pieces: AsyncGenerator[Piece], exchange: Exchange) -> AsyncGenerator[Piece]:
        """The stage after the answer: older turns are summarised before they stand in the next one's way.

        A turn that starts meanwhile, here or in another process, goes first.
        """
        due, journal = False, exchange.journal
        async with aclosing(pieces):
            async for piece in pieces:
                if piece.receipt is not None and journal is not None:
                    due = await self._outgrown(exchange, journal.turn)
                    piece = piece._replace(receipt=noted(piece.receipt, "compacting")) if due else piece
                yield piece
        if due and exchange.frame is not None and journal is not None:
            name, own = exchange.record.id, journal.turn.id

            async def moved() -> bool:
                found = await self._client.runtime.call_store(lambda: self._store.find(name))
                return found is None or found.head != own

            with suppress(OrchestraError):  # the answer is there; whatever is wrong now will be said by the next turn
                await self._fitter.compactor.compact(exchange.frame, exchange.past, moved=moved)

    async def _outgrown(self, exchange: Exchange, turn: Turn) -> bool:
        """Whether the dialogue with this turn leaves no place for the next."""
        if exchange.frame is None or turn.status != "done" or not turn.answer:
            return False
        exchange.past = replace(exchange.past, turns=(*exchange.past.turns, turn))
        exchange.frame = self._fitter.reserved(exchange.frame, exchange.past)
        try:
            return await self._fitter.compactor.due(exchange.frame, exchange.past)
        except OrchestraError:
            return False


def _nothing_said() -> UsageError:
    return UsageError(detail="the message is empty", detail_zh="消息为空", fix="say something", fix_zh="请输入内容")


def labelled(history: Sequence[Message | str]) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """A dialogue given as messages or as lines "Customer: ..." -> messages and the two labels, asking one first."""
    labels: list[str] = []
    messages: list[Message] = []
    for line in history:
        if isinstance(line, Message):
            messages.append(line)
            continue
        label, colon, said = line.replace("：", ":", 1).partition(":")
        label = label.strip()
        if not colon or not label or (label not in labels and len(labels) == 2):
            raise UsageError(
                detail=f"a line of the history is not `Speaker: text` of two speakers: {line[:60]!r}",
                detail_zh=f"历史中的一行不是两位说话人之一的 `说话人: 内容`：{line[:60]!r}",
                fix="write each line as `Customer: ...` or `Support: ...`",
                fix_zh="请将每行写成 `Customer: ...` 或 `Support: ...`",
            )
        if label not in labels:
            labels.append(label)
        messages.append(Message("user" if label == labels[0] else "assistant", said.strip()))
    return tuple(messages), tuple(labels) if len(labels) == 2 else ()
