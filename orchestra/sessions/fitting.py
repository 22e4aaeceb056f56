"""The prompt of one turn, fitted into the window: what was said, and what stands beside the question for this once.

Where it would not fit, older turns are summarised first. What a summary has lost is recalled word for word, and a ground
may give its material; both stand in the last user message, after the question, and are not kept in the history: the
prompt before that message is the same with them and without.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orchestra.errors import OrchestraError, StoreFault
from orchestra.model.budget import PASSAGES_PART, RECALL_PART
from orchestra.model.client import Client
from orchestra.model.language import language_of, wanted
from orchestra.model.messages import Language, Message, Options, Receipt
from orchestra.model.persona import Persona
from orchestra.model.tokens import Counter, most_tokens
from orchestra.model.window import Fit
from orchestra.sessions.compaction import Compactor, Measured, fit_of, left_out
from orchestra.sessions.excerpts import GAP, material
from orchestra.sessions.grounding import Ground, Inquiry, Material
from orchestra.sessions.journal import Journal
from orchestra.sessions.prompt import SPEAKERS, Frame, Past, labels_of, messages, transcript
from orchestra.sessions.recall import Recalled, recalled
from orchestra.sessions.records import SessionRecord, Turn, paired
from orchestra.sessions.segments import lines, view
from orchestra.sessions.store import Store
from orchestra.sessions.summaries import compactions, latest

RECALLED = 2  # turns, at most
BETWEEN = 2  # tokens that may come of putting texts together


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One turn on its way; `frame` and `past` are known once the model is, `material` once the ground was asked.

    `routing` counts the calls that it took to find who answers, who may bring a `ground`. `segment` is the persona whose
    segment the turn belongs to, empty in a dialogue that has none. `wishes` stand before the dialogue for this once.
    """

    record: SessionRecord
    text: str
    options: Options
    journal: Journal | None = None
    routing: int = 0
    ground: Ground | None = None
    segment: str = ""
    wishes: str = ""
    frame: Frame | None = None
    past: Past = field(default_factory=Past)
    material: Material = field(default_factory=Material)

    def keep(self, ground: Mapping[str, Any]) -> None:
        """What is to be stored with the turn, however it ends."""
        if self.journal is not None:
            self.journal.ground = ground or self.journal.ground

    @property
    def turn(self) -> Turn | None:
        """The turn as it was begun; None where the store had no room for it."""
        return self.journal.turn if self.journal else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What the model is asked with: messages or, for a base model, a transcript; and what that took."""

    subject: tuple[Message, ...] | str
    fit: Fit
    dropped: int = 0
    compacted: int = 0
    recalled: tuple[int, ...] = ()
    beside: int = 0
    calls: int = 0
    notes: tuple[str, ...] = ()

    def on(self, receipt: Receipt) -> Receipt:
        """The receipt with what the prompt took."""
        return replace(
            receipt,
            dropped=self.dropped,
            compacted=self.compacted,
            recalled=self.recalled,
            beside=self.beside,
            calls=receipt.calls + self.calls,
            notes=(*receipt.notes, *self.notes),
        )


class Fitter:
    """Makes the prompts of a session. `history` is what was said before in a session that the store could not take.

    `known` finds a persona by its name, for the lines of other segments.
    """

    def __init__(
        self, store: Store, client: Client, *, history: Sequence[Message] = (), known: Callable[[str], Persona] | None = None
    ) -> None:
        self.compactor = Compactor(store, client)
        self._store = store
        self._client = client
        self._history = history
        self._known = known

    async def past(self, exchange: Exchange, model: str) -> Past:
        """What was said before this turn and has an answer."""
        past = await self._said(exchange, model)
        return replace(past, others=(exchange.wishes, *past.others)) if exchange.wishes else past

    async def _said(self, exchange: Exchange, model: str) -> Past:
        record, turn = exchange.record, exchange.turn
        if not record.id:
            said = paired(self._history)
            return Past(turns=tuple(Turn(id="", session="", question=asked, answer=answer) for asked, answer in said if answer))
        if turn is not None and turn.parent is None:  # the first of its dialogue: there is nothing to be read
            return Past.of((), (), model)
        if exchange.segment:
            return await self._client.runtime.call_store(lambda: self._segment(exchange, model))
        history, made = await self._client.runtime.call_store(lambda: latest(self._store, record.id, turns=record.turns + 1))
        return Past.of([each for each in history if turn is None or each.id != turn.id], made, model)

    def _segment(self, exchange: Exchange, model: str) -> Past:
        """The turns of the own segment, and a line for each other one."""
        record, turn = exchange.record, exchange.turn
        seen = view([each for each in self._store.history(record.id) if turn is None or each.id != turn.id], exchange.segment)
        past = Past.of(seen.own, compactions(self._store, record.id), model)
        return replace(
            past,
            compaction=past.compaction and replace(past.compaction, turns=past.start),  # of the own turns alone
            others=lines(seen.others, self._known, "zh" if record.language == "zh" else "en"),
            reopened=seen.reopened,
            turned=seen.turned,
        )

    def reserved(self, frame: Frame, past: Past) -> Frame:
        """The frame with what has to be left free for the next question's material and for recalled turns."""
        part = PASSAGES_PART if frame.ground is not None else RECALL_PART if past.start or past.others else 0
        return replace(frame, reserve=frame.loaded.window // part if part else 0, beside=0)

    async def fitted(self, frame: Frame, exchange: Exchange, *, compacts: bool = True) -> Prompt:
        """The prompt. Where it would not fit, older turns are summarised first; where that fails or is not to be, they are left out.

        A question that needs more than is usually set aside for it leaves out more, for this once.
        """
        text, notes = exchange.text, list[str]()
        frame = self.reserved(frame, exchange.past)
        exchange.material = found = await self._asked(frame, exchange)
        counter = await self._client.counter(frame.model) if found.text else None
        frame = replace(frame, beside=_tokens(counter, found.text))
        measured, made = await self.compactor.measured(frame, exchange.past, text), None
        if not measured.fits and compacts:
            made = await self.compactor.compact(frame, exchange.past, text=text)
            if made is not None:
                notes += ["compacted"] if made.fault is None else []
                exchange.past = await self.past(exchange, frame.model)
                measured = await self.compactor.measured(frame, exchange.past, text)
        past = exchange.past
        dropped = left_out(measured, past)
        start = min(len(past.turns), past.start + dropped)
        if measured.sizes.head > measured.room:  # not even the summary fits beside this question
            dropped, start = past.summarised + len(past.standing), len(past.turns)
            wishes = (exchange.wishes,) if exchange.wishes else ()  # those are never left out in silence
            notes += ["segments_left_out"] if past.others != wishes else []
            past = replace(past, compaction=None, others=wishes)
        again, turns, measured = await self._recalled(frame, exchange, past, start, measured)
        beside = frame.beside + _tokens(measured.counter, again)
        most = measured.sizes.fixed + measured.sizes.question + _standing(measured, past, start) + beside
        compose = transcript if frame.base else messages
        subject = compose(frame, past, text, start=start, beside="\n\n".join(part for part in (again, found.text) if part))
        return Prompt(
            subject=subject,
            fit=fit_of(frame, measured, subject, most=most),
            dropped=dropped,
            compacted=past.summarised,
            recalled=tuple(turn.number for turn in turns),
            beside=beside,
            calls=found.calls + (made is not None),
            notes=(*notes, *found.notes),
        )

    async def _asked(self, frame: Frame, exchange: Exchange) -> Material:
        """What the ground gives for the question; where it fails, nothing, and a note that says so."""
        if frame.ground is None:
            return Material()
        counter = await self._client.counter(frame.model)
        room = frame.loaded.window // PASSAGES_PART
        said = [message for turn in exchange.past.standing for message in turn.messages()]
        inquiry = Inquiry(
            question=exchange.text,
            said=said,
            model=frame.model,
            language=wanted(exchange.text, frame.options.language) or language_of(exchange.text),
            room=room - BETWEEN,
            tokens=counter.count,
            keep=exchange.keep,
        )
        try:
            found = await frame.ground(inquiry)
        except OrchestraError:
            return Material(notes=("ground_failed",))
        if counter.count(found.text) + BETWEEN > room:
            return replace(found, text="", notes=(*found.notes, "ground_too_long"))
        return found

    async def _recalled(
        self, frame: Frame, exchange: Exchange, past: Past, start: int, measured: Measured
    ) -> tuple[str, tuple[Recalled, ...], Measured]:
        """The earlier turns that the question needs, as far as they no longer stand word for word; and what that was measured by."""
        first = past.turns[start] if start < len(past.turns) else exchange.turn
        if not exchange.record.id or not (start or exchange.segment) or first is None:
            return "", (), measured
        found = await self._found(exchange, past, past.turns[start:], before=first.id)
        language: Language = "zh" if frame.record.language == "zh" else "en"
        speakers = labels_of(frame.record) if frame.base else SPEAKERS[language]

        def shown(measured: Measured) -> tuple[str, tuple[Recalled, ...]]:
            count = measured.counter.count if measured.counter else most_tokens
            share = replace(measured.shares, passages=frame.beside).recall
            room = min(share, measured.room - _standing(measured, past, start)) - BETWEEN
            return material(found, room, count, language=language, speakers=speakers, remarks=frame.base)

        text, turns = shown(measured)
        if measured.counter is None and (len(turns) < len(found) or GAP in text):  # the bound is too high: it is worth counting
            measured = await self.compactor.counted(frame, past, exchange.text)
            text, turns = shown(measured)
        return text, turns, measured

    async def _found(self, exchange: Exchange, past: Past, stands: Sequence[Turn], *, before: str) -> list[Recalled]:
        previous, standing = past.turns[-1].question if past.turns else "", list[str]()
        if exchange.segment and exchange.turn:  # what was said elsewhere later than the own turns that stand counts as well
            before, standing = exchange.turn.id, [turn.id for turn in stands]
        try:
            found = await self._client.runtime.call_store(
                lambda: recalled(self._store, before, exchange.text, previous=previous, standing=standing, limit=RECALLED)
            )
        except StoreFault:  # what cannot be recalled keeps nobody from an answer
            return []
        return [turn for turn in found if turn.fits]


def _standing(measured: Measured, past: Past, start: int) -> int:
    """The tokens of summary and turns that stand in the prompt."""
    head = measured.sizes.head if past.headed else 0
    return head + sum(measured.sizes.turns[start - past.start :])


def _tokens(counter: Counter | None, text: str) -> int:
    """The most tokens that a text put beside others can take."""
    if not text:
        return 0
    return BETWEEN + (counter.count(text) if counter else most_tokens(text))
