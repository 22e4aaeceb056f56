"""A dialogue that remembers: each turn is on disk before the model is asked, its answer as it grows.

The spine is a pipe of stages: history and question -> prompt, fitted into the loaded window -> client ->
stopping criteria -> journal -> caller. An instruct model gets messages; a base model gets a transcript
("Customer: ... / Support: ...") that stops at the next speaker's label, as in the lesson.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import NamedTuple, Unpack

from orchestra.errors import OrchestraError, StorageFull, StoreFault, UsageError
from orchestra.model.budget import Shares, first_kept
from orchestra.model.catalog import chosen, is_base
from orchestra.model.client import Client
from orchestra.model.language import Language, language_of, with_language
from orchestra.model.messages import (
    FinishReason,
    Message,
    OptionFields,
    Options,
    Piece,
    Receipt,
    Reply,
    gathered,
)
from orchestra.model.persona import Persona
from orchestra.model.tokens import PER_MESSAGE, most_tokens
from orchestra.model.window import Fit, answer_share
from orchestra.sessions.journal import Journal
from orchestra.sessions.records import About, SessionRecord, Turn, paired
from orchestra.sessions.store import Store, described

QUESTION_SHARE = 8  # of the window, one part in so many is set aside for the question
SPEAKERS = {"en": ("User", "Assistant"), "zh": ("用户", "助手")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """How a session begins, where it does not exist yet; `model` also overrides the one of a session that does.

    `known` finds the persona that a session was begun with, by its name.
    """

    persona: Persona | None = None
    known: Callable[[str], Persona] | None = None
    model: str = ""
    base: bool | None = None
    language: str = ""
    history: tuple[Message, ...] = ()
    speakers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prompt:
    """What the model is asked with: messages, or for a base model a transcript."""

    messages: tuple[Message, ...] = ()
    transcript: str = ""
    stop: tuple[str, ...] = ()
    fit: Fit | None = None
    dropped: int = 0


class _Talk(NamedTuple):
    """What a prompt is made of."""

    record: SessionRecord
    seed: str
    past: Sequence[Turn]
    text: str
    base: bool


class AsyncSession:
    """One named dialogue. It is made on its first turn, and goes on where it stopped."""

    def __init__(
        self, *, store: Store, client: Client, name: str | None = None, opening: Opening | None = None, options: Options | None = None
    ) -> None:
        self.name = name
        self._store = store
        self._client = client
        self._opening = opening or Opening()
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
        """One turn as it comes. A `turn_id` that was already answered gives that answer again; `branch` forks here."""
        if not text.strip():
            raise UsageError(detail="the message is empty", detail_zh="消息为空", fix="say something", fix_zh="请输入内容")
        options = Options(**fields).over(options).over(self._options)
        record, fault = await self._record(text)
        journal = None
        if fault is None:
            journal, fault = await self._begun(record, text, turn_id=turn_id, branch=branch)
        if journal is not None and not journal.new:
            for piece in _again(journal.turn):
                yield piece
            return
        pieces = self._answer(record, journal.turn if journal else None, text, options)
        async with aclosing(self._recorded(pieces, journal, fault)) as stored:
            async for piece in stored:
                yield piece

    async def turns(self) -> list[Turn]:
        """What was said, oldest first."""
        name = self.name
        if name is None:
            return []
        found = await self._client.runtime.call(lambda: self._store.find(name))
        return await self._client.runtime.call(lambda: self._store.history(name)) if found else []

    # --- stages

    async def _record(self, text: str) -> tuple[SessionRecord, StoreFault | None]:
        """The session, made now if there is none; its language is that of its first message.

        A store without room gives one that is nowhere stored (its `id` is empty), and the fault.
        """
        opening = self._opening
        language = opening.language or language_of(text)
        about: About = {
            "persona": opening.persona.name if opening.persona else None,
            "model": opening.model or None,
            "language": language,
            "mode": "transcript" if opening.speakers else "chat",
            "speakers": opening.speakers or SPEAKERS[language if language in SPEAKERS else "en"],
        }
        try:
            found = await self._client.runtime.call(lambda: self._found_or_made(about))
        except StorageFull as fault:
            return described(SessionRecord(id="", name=self.name or ""), about), fault
        self.name = found.name
        return found, None

    def _found_or_made(self, about: About) -> SessionRecord:
        found = self._store.find(self.name) if self.name is not None else None
        return found or self._store.create(self.name, history=self._opening.history, **about)

    async def _past(self, record: SessionRecord, turn: Turn | None) -> list[Turn]:
        """What was said before this turn and has an answer."""
        if record.id:
            history = await self._client.runtime.call(lambda: self._store.history(record.name))
        else:
            history = [Turn(id="", session="", question=said, answer=answer) for said, answer in paired(self._opening.history)]
        return [each for each in history if (turn is None or each.id != turn.id) and each.answer]

    def _persona(self, record: SessionRecord) -> Persona | None:
        opening = self._opening
        if opening.persona is None and opening.known is not None and record.persona:
            return opening.known(record.persona)
        return opening.persona

    async def _begun(
        self, record: SessionRecord, text: str, *, turn_id: str | None, branch: bool
    ) -> tuple[Journal | None, StoreFault | None]:
        """The turn's journal; a store without room does not keep the question from being answered."""
        try:
            return await self._client.runtime.call(
                lambda: self._store.begin(record.name, text, turn_id=turn_id, branch=branch)
            ), None
        except StorageFull as fault:
            return None, fault

    async def _answer(
        self, record: SessionRecord, turn: Turn | None, text: str, options: Options
    ) -> AsyncGenerator[Piece]:
        client = self._client
        persona = self._persona(record)
        own = persona.model if persona else None
        model = self._opening.model or record.model or own or await chosen(client, purpose="base" if self._opening.base else "chat")
        facts = await client.facts(model)
        base = self._opening.base if self._opening.base is not None else is_base(model, facts)
        if persona is not None:
            options = options.over(persona.options)
        seed = persona.speaks(record.language or "en") if persona else ""
        prompt = await self._fitted(_Talk(record, seed, await self._past(record, turn), text, base), model=model, options=options)
        if base:
            options = replace(options, stop=(*(options.stop or ()), *prompt.stop))
            pieces = _unindented(client.complete(prompt.transcript, model=model, options=options, raw=True, fit=prompt.fit))
        else:
            pieces = client.chat(prompt.messages, model=model, options=options, fit=prompt.fit)
        async with aclosing(pieces):
            async for piece in pieces:
                if piece.receipt is not None:
                    piece = piece._replace(receipt=replace(piece.receipt, dropped=prompt.dropped))
                yield piece

    async def _fitted(self, talk: _Talk, *, model: str, options: Options) -> _Prompt:
        """The prompt, older turns left out in one step where the history has outgrown its share.

        The share does not depend on the question, or each would cut elsewhere and the prompt lose its prefix; a
        question that needs more than is set aside for it leaves out more, for this once.
        """
        loaded = await self._client.ready(model, options)
        template = "" if talk.base else str((await self._client.facts(model)).get("template", ""))
        fixed = most_tokens(talk.seed) + most_tokens(template) + 6 * PER_MESSAGE
        answer = answer_share(loaded.window, options, self._client.settings)
        question, aside = most_tokens(talk.text), loaded.window // QUESTION_SHARE
        costs = _costs(talk.past, model, sum(map(most_tokens, _labels(talk.record))) if talk.base else 0)
        start = first_kept(costs, Shares(window=loaded.window, fixed=fixed + aside, answer=answer).history)
        if question > aside:
            start = max(start, first_kept(costs, Shares(window=loaded.window, fixed=fixed + question, answer=answer).history))
        kept = talk.past[start:]
        fit = Fit(loaded=loaded, most=fixed + question + sum(costs[start:]))
        if talk.base:
            transcript, stop = _transcript(talk.record, talk.seed, kept, talk.text)
            return _Prompt(transcript=transcript, stop=stop, fit=fit, dropped=start)
        return _Prompt(messages=_messages(talk.record, talk.seed, kept, talk.text), fit=fit, dropped=start)

    async def _recorded(
        self, pieces: AsyncGenerator[Piece], journal: Journal | None, fault: StoreFault | None
    ) -> AsyncGenerator[Piece]:
        """The stage of the journal: what was said is kept, however the stream is left.

        A store that fails does not take the answer from the reader; its error comes after the answer.
        """
        closed = journal is None
        said: list[Piece] = []
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    said.append(piece)
                    if journal is not None:
                        journal.append(piece.text, kind=piece.kind)
                        if piece.finish_reason is not None:
                            closed = True
                            fault = await self._closed(journal, piece) or fault
                    if piece.receipt is not None and fault is not None:
                        piece = piece._replace(receipt=_noted(piece.receipt, "not_stored"))
                    yield piece
            if fault is not None:
                fault.reply = gathered(said)
                raise fault
        except OrchestraError as error:
            if journal is not None and not closed:
                closed = True
                reply = error.reply
                ending = Piece(
                    "",
                    finish_reason=reply.finish_reason if reply else FinishReason.INCOMPLETE,
                    receipt=reply.receipt if reply else None,
                    model=reply.model if reply else "",
                )
                await self._closed(journal, ending, failed=True)
            raise
        finally:
            if journal is not None and not closed:  # the caller left, was cancelled, or pressed Ctrl-C
                await self._closed(journal, Piece("", finish_reason=FinishReason.CANCELLED), failed=True)

    async def _closed(self, journal: Journal, last: Piece, *, failed: bool = False) -> StoreFault | None:
        try:
            await self._client.runtime.call(
                lambda: journal.finish(
                    keep=last.keep,
                    status="interrupted" if failed else "done",
                    finish_reason=last.finish_reason,
                    model=last.model,
                    usage=last.usage,
                    receipt=last.receipt,
                )
            )
        except StoreFault as fault:
            return fault
        return None


def _noted(receipt: Receipt, note: str) -> Receipt:
    return replace(receipt, notes=(*receipt.notes, note))


def _again(turn: Turn) -> list[Piece]:
    """A turn that was answered before, as pieces."""
    usage = None
    receipt = Receipt(calls=0, notes=("already_answered",))
    reason = turn.finish_reason or FinishReason.STOP
    return [Piece(turn.answer), Piece("", finish_reason=reason, usage=usage, receipt=receipt, model=turn.model)]


def _costs(turns: Sequence[Turn], model: str, labels: int = 0) -> list[int]:
    """The most tokens that each turn can take in a prompt: as the daemon counted them for `model`, else the bound in bytes.

    Two turns in a row, the prompt of the second holding the whole first: the difference of their totals is what
    the second added. A turn's cost never changes once it is finished, so that the same turns are dropped each time.
    `labels` is what the speakers' labels take, in each turn of a transcript.
    """
    costs: list[int] = []
    before: tuple[int, int] | None = None
    for turn in turns:
        bound = most_tokens(with_language(turn.question, language_of(turn.question))) + most_tokens(turn.answer)
        bound += 2 * PER_MESSAGE + labels
        usage, receipt = turn.usage or {}, turn.receipt or {}
        prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
        now = None
        if turn.status == "done" and turn.model == model and isinstance(prompt, int) and isinstance(completion, int):
            now = (prompt + completion, int(receipt.get("dropped") or 0))
            bound = min(bound, now[0] + PER_MESSAGE)  # the whole prompt held the question
        if now and before and now[1] == before[1] and isinstance(completion, int):
            # never below the answer alone: the persona may have been another one at the turn before
            bound = min(bound, max(now[0] - before[0], completion) + PER_MESSAGE)
        costs.append(bound)
        before = now
    return costs


def _messages(record: SessionRecord, seed: str, kept: Sequence[Turn], text: str) -> tuple[Message, ...]:
    """Persona, dialogue, question. Each question ends with its language line, always the same: the prefix stays."""
    default: Language = "zh" if record.language == "zh" else "en"
    messages = [Message("system", seed)] if seed else []
    for turn in kept:
        if turn.question:
            messages.append(Message("user", with_language(turn.question, language_of(turn.question, default))))
        messages.append(Message("assistant", turn.answer))
    messages.append(Message("user", with_language(text, language_of(text, default))))
    return tuple(messages)


def _labels(record: SessionRecord) -> tuple[str, str]:
    asks, answers = record.speakers[:2] if len(record.speakers) >= 2 else SPEAKERS["en"]
    return asks, answers


def _transcript(record: SessionRecord, seed: str, kept: Sequence[Turn], text: str) -> tuple[str, tuple[str, ...]]:
    """The dialogue as a text to be continued, and the labels that end the answer."""
    asks, answers = _labels(record)
    lines = [seed, ""] if seed else []
    for turn in kept:
        if turn.question:
            lines.append(f"{asks}: {turn.question}")
        lines.append(f"{answers}: {turn.answer.strip()}")
    lines += [f"{asks}: {text}", f"{answers}:"]
    return "\n".join(lines), (f"\n{asks}:", f"\n{answers}:")


async def _unindented(pieces: AsyncGenerator[Piece]) -> AsyncGenerator[Piece]:
    """A base model's answer begins with the space after the label; it is no part of what was said."""
    cut: int | None = None
    async with aclosing(pieces):
        async for piece in pieces:
            if cut is None and piece.text:
                text = piece.text.lstrip(" ")
                cut = len(piece.text) - len(text)
                piece = piece._replace(text=text)
            if piece.keep is not None:
                piece = piece._replace(keep=max(0, piece.keep - (cut or 0)))
            yield piece


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
