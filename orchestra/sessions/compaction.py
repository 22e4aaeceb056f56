"""Older turns give way to a summary: one bounded call to the model, and a record of it in the store.

What is sent is the oldest part of the dialogue itself, with the request at its end: the daemon has read it before, so
that a summary costs the request and its own words alone. One that fails leaves the turns where they are, and a record
that says so; it is tried again when more turns have to go.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from orchestra.errors import Interrupted, OrchestraError, StoreFault
from orchestra.model.budget import QUESTION_PART, Shares, first_kept, outgrown
from orchestra.model.client import Client
from orchestra.model.language import language_of, with_language
from orchestra.model.messages import FinishReason, Language, Options, Piece, Reply, gathered
from orchestra.model.tokens import PER_MESSAGE, Counter, Subject, most_tokens
from orchestra.model.window import Fit
from orchestra.sessions.prompt import Frame, Past, Sizes, bounded, counted, messages, stops, told
from orchestra.sessions.records import Compaction, Turn
from orchestra.sessions.store import Store
from orchestra.sessions.summaries import record

PATIENCE = 120.0  # seconds for one summary
LOOK_EVERY = 0.25  # seconds between two looks whether the dialogue has gone on meanwhile
WORDS_PER_TOKEN = 0.6
SHORTENED = "\n[...]\n"
# short, since it has to fit beside what it is about
REQUESTS: dict[Language, str] = {
    "en": "Summarise our conversation so far in at most {words} words: names, numbers, decisions, open questions. Only the summary.",
    "zh": "请用不超过{words}个字总结以上对话，保留人名、数字、决定和未解决的问题，只写摘要。",
}
HEADINGS: dict[Language, str] = {
    "en": "Summary of the dialogue above, with its names, numbers, decisions and open questions:",
    "zh": "以上对话的摘要（保留人名、数字、决定和未解决的问题）：",
}
_SENTENCE_END = re.compile(r"[。！？]|[.!?](?=\s)")

Moved = Callable[[], Awaitable[bool]]


class Measured(NamedTuple):
    """A prompt's parts in tokens, how the window is shared out, and what the dialogue so far may take of it."""

    sizes: Sizes
    shares: Shares
    room: int
    counter: Counter | None = None

    @property
    def fits(self) -> bool:
        """Whether all that stands of the dialogue may go on standing."""
        return self.sizes.history <= self.room


class Compactor:
    """Says when a dialogue has outgrown its share, and has its oldest turns summarised."""

    def __init__(self, store: Store, client: Client) -> None:
        self._store = store
        self._client = client

    async def measured(self, frame: Frame, past: Past, text: str | None = None) -> Measured:
        """The prompt for the question `text`; without one, for a question of the size that is set aside for it.

        By the tokenizer only where the bound does not fit: it takes its time to load.
        """
        found = _measured(frame, bounded(frame, past, text or ""), text)
        return found if found.fits else await self.counted(frame, past, text)

    async def counted(self, frame: Frame, past: Past, text: str | None = None) -> Measured:
        """The same by the model's own counter."""
        counter = await self._client.counter(frame.model)
        sizes = await self._client.runtime.call(partial(counted, frame, past, text or "", counter))  # of a long dialogue it takes seconds
        return _measured(frame, sizes, text)._replace(counter=counter)

    async def due(self, frame: Frame, past: Past) -> bool:
        """Whether the next turn would probably not fit beside the dialogue so far, and a summary could help."""
        return bool(frame.record.id) and wanted(await self.measured(frame, past), past) > 0

    async def compact(
        self, frame: Frame, past: Past, *, text: str | None = None, moved: Moved | None = None
    ) -> Compaction | None:
        """Has the oldest turns summarised, so many that the rest fits beside the question `text`, or any usual one.

        Gives what is on record then, a failed attempt included. None where nothing was to be done, where the store
        could not keep it, where the client was closed, or where `moved` said that the dialogue had gone on meanwhile.
        """
        measured = await self.measured(frame, past, text)
        count = wanted(measured, past) if frame.record.id else 0
        if not count:
            return None
        sizes, most = measured.sizes, measured.shares.summary
        replaced = past.turns[past.start : past.start + count]
        request = _request(replaced, most, frame)
        beside = sizes.fixed + sizes.head + _size(request, measured.counter)
        part, size = _part(past, sizes, count, frame.loaded.window - beside - most)
        last = replaced[-1]
        try:
            reply = await self._heard(self._asked(frame, part, request, measured, beside + size), moved)
        except Interrupted:  # which says nothing about the summary
            return None
        except OrchestraError as error:
            return await self._kept(Compaction(turn=last.id, text="", model=frame.model, fault=error.code()))
        if reply is None:
            return None
        covered = past.turns[past.start : len(part.turns)]
        text, fault = _judged(reply, past.compaction, covered)
        turn = last if fault else covered[-1]
        made = Compaction(turn=turn.id, text=text, model=frame.model, tokens=reply.usage.completion_tokens, fault=fault)
        return await self._kept(made)

    def _asked(self, frame: Frame, part: Past, request: str, measured: Measured, size: int) -> AsyncGenerator[Piece]:
        options = Options(
            max_tokens=measured.shares.summary,
            temperature=0.0,
            num_ctx=frame.options.num_ctx,
            stop=("\n\n", *stops(frame)) if frame.base else None,
            deadline=min(PATIENCE, frame.options.deadline or PATIENCE),
            think=False if frame.thinks else None,
        )
        if frame.base:
            text = "\n".join([*told(frame, part, start=part.start), "", request])
            fit = fit_of(frame, measured, text, most=size)
            return self._client.complete(text, model=frame.model, options=options, raw=True, fit=fit)
        said = messages(frame, part, request, start=part.start)
        return self._client.chat(said, model=frame.model, options=options, fit=fit_of(frame, measured, said, most=size))

    async def _heard(self, pieces: AsyncGenerator[Piece], moved: Moved | None) -> Reply | None:
        """The summary as it was said; None where the dialogue has gone on: who is talking goes first."""
        heard: list[Piece] = []
        looked = time.monotonic()
        async with aclosing(pieces):
            async for piece in pieces:
                heard.append(piece)
                if moved is not None and time.monotonic() - looked >= LOOK_EVERY:
                    looked = time.monotonic()
                    if await moved():
                        return None
        return gathered(heard)

    async def _kept(self, made: Compaction) -> Compaction | None:
        try:
            return await self._client.runtime.call_store(lambda: record(self._store, made))
        except StoreFault:  # nothing is lost: the turns are there, and the next turn tries again
            return None


def wanted(measured: Measured, past: Past) -> int:
    """How many of the turns that stand are to be summarised now.

    None in a window so small that a summary would be all that is left, and none where the last attempt failed
    and no further turn has to go since.
    """
    sizes, shares, room, _ = measured
    if measured.fits or shares.history < shares.window // QUESTION_PART or room <= shares.summary:
        return 0
    if past.tried and past.start + first_kept(sizes.turns, shares.history - sizes.head) <= past.tried:
        return 0
    return outgrown(sizes.turns, share=room, kept=min(shares.kept, room), head=sizes.head, summary=shares.summary)


def left_out(measured: Measured, past: Past) -> int:
    """How many of the turns that stand have to be left out for want of a summary: in one step as well."""
    sizes, shares, room, _ = measured
    if measured.fits and not past.tried:
        return 0
    usual = first_kept(sizes.turns, max(0, shares.history - sizes.head))
    return max(usual, first_kept(sizes.turns, max(0, room - sizes.head)))


def fit_of(frame: Frame, measured: Measured, subject: Subject, *, most: int) -> Fit:
    """What the client has to know of a prompt that takes at most `most` tokens; counted, where a counter is at hand."""
    if measured.counter is None:
        return Fit(loaded=frame.loaded, most=most)
    count = measured.counter.measure(subject, raw=frame.base)
    return Fit(loaded=frame.loaded, most=count.tokens if count.counted == "exact" else min(most, count.tokens), counted=count.counted)


def _measured(frame: Frame, sizes: Sizes, text: str | None) -> Measured:
    shares = frame.shares(sizes.fixed)
    if text is None:
        return Measured(sizes, shares, shares.history)
    # what is set aside for each turn gives way to this one's question: no summary is made before an answer for its sake
    return Measured(sizes, shares, replace(shares, passages=frame.beside).beside(sizes.question))


def _request(replaced: tuple[Turn, ...], most: int, frame: Frame) -> str:
    """What the model is asked, in the dialogue's language."""
    default: Language = "zh" if frame.record.language == "zh" else "en"
    language = language_of("\n".join(turn.question for turn in replaced), default)
    if frame.base:
        return HEADINGS[language]
    return with_language(REQUESTS[language].format(words=max(10, int(most * WORDS_PER_TOKEN))), language)


def _size(request: str, counter: Counter | None) -> int:
    return 2 * PER_MESSAGE + (most_tokens(request) if counter is None else counter.count(request))


def _part(past: Past, sizes: Sizes, count: int, room: int) -> tuple[Past, int]:
    """The oldest turns, at most `count`, that fit into `room` tokens, and how many tokens they take; the first one
    shortened in its middle where it alone is longer."""
    taken = size = 0
    while taken < count and size + sizes.turns[taken] <= room:
        size += sizes.turns[taken]
        taken += 1
    if taken:
        return replace(past, turns=past.turns[: past.start + taken]), size
    first = past.turns[past.start]
    side = max(0, room - 4 * PER_MESSAGE) // 2
    first = replace(first, question=_shortened(first.question, side), answer=_shortened(first.answer, side))
    return replace(past, turns=(*past.turns[: past.start], first)), max(0, room)


def _shortened(text: str, most: int) -> str:
    """`text` in at most so many bytes, by leaving out its middle."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= most:
        return text
    half = max(0, most - len(SHORTENED)) // 2
    return encoded[:half].decode("utf-8", "ignore") + SHORTENED + encoded[len(encoded) - half :].decode("utf-8", "ignore")


def _judged(reply: Reply, former: Compaction | None, covered: tuple[Turn, ...]) -> tuple[str, str | None]:
    """The summary's text, or why there is none."""
    if reply.finish_reason not in (FinishReason.STOP, FinishReason.LENGTH, FinishReason.CONTEXT_FULL):
        return "", str(reply.finish_reason)
    text = reply.text.strip()
    if reply.finish_reason is not FinishReason.STOP:
        ends = [match.end() for match in _SENTENCE_END.finditer(text)]
        if ends and ends[-1] >= len(text) // 2:  # a sentence that broke off says less than nothing
            text = text[: ends[-1]]
    if not text:
        return "", "empty"
    before = sum(most_tokens(turn.question + turn.answer) for turn in covered) + (most_tokens(former.text) if former else 0)
    return (text, None) if most_tokens(text) < before else ("", "too_long")
