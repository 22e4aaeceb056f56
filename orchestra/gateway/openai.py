"""`/v1`: personas, search and the coordinator as models for every client of the OpenAI protocol, Open WebUI first.

While experts work nothing of the answer can be shown yet: a comment now and then keeps the connection, and clients that
can show it are told each step.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fastapi import FastAPI, Request
from starlette.responses import Response, StreamingResponse

from orchestra.agents.coordinator import Plan
from orchestra.agents.reasoning import Thought
from orchestra.agents.router import Route
from orchestra.agents.tool import Step
from orchestra.api import AsyncOrchestra
from orchestra.errors import OrchestraError
from orchestra.gateway import openai_wire as wire
from orchestra.gateway.access import language_for
from orchestra.gateway.attending import attended
from orchestra.gateway.bodies import read
from orchestra.gateway.discretion import discreet
from orchestra.gateway.tasks import answer, recognised
from orchestra.gateway.voices import Dialogue, Part, Voice, Voices
from orchestra.model.language import language_of
from orchestra.model.messages import FinishReason, Piece, Receipt, Usage
from orchestra.model.persona import Persona
from orchestra.retrieval.passages import Source
from orchestra.retrieval.pipeline import Answer

PATH = "/v1/"
QUIET = 10.0  # seconds without a chunk, after which a comment says that somebody is at work
SHOWS_EVENTS = ("x-openwebui-chat-id", "x-openwebui-user-id", "x-openwebui-user-jwt", "x-orchestra-chat")
_LONGEST = 120  # characters of a status line



def mount(app: FastAPI, orchestra: AsyncOrchestra, voices: Voices) -> None:
    """Adds the routes."""

    @app.get("/v1/models")
    async def models(request: Request) -> Any:
        language = language_for(request.headers, orchestra.settings)
        return {"object": "list", "data": [wire.model_entry(voice, language) for voice in await voices.all()]}

    @app.get("/v1/models/{name:path}")
    async def model(request: Request, name: str) -> Any:
        return wire.model_entry(await voices.voice(name), language_for(request.headers, orchestra.settings))

    @app.post("/v1/chat/completions")
    async def completions(request: Request) -> Any:
        body = await read(request, wire.Completion, orchestra.settings.body_limit, lenient=True)
        voice = await voices.voice(body.model)
        said = body.said()
        if task := recognised(request.headers, said):
            return wire.Told(voice.id).at_once(answer(task, examples=voice.starters), stream=body.stream)
        dialogue = Dialogue.of(said, body.options(), request.state.lineage)
        language = language_of(dialogue.question)
        events = any(name in request.headers for name in SHOWS_EVENTS)
        usage = body.stream_options is not None and body.stream_options.include_usage
        answered = _Answer(voice, dialogue, _How(language, events, usage, voices.roster.known))
        if not body.stream:
            return await attended(request, answered.whole())
        first = await attended(request, answered.begun())
        if isinstance(first, Response):  # the caller has left
            return first
        return StreamingResponse(answered.lines(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


class _How(NamedTuple):
    """How an answer is told: in which language, with events, with usage; and whom its errors do not give away."""

    language: str
    events: bool
    usage: bool
    known: Callable[[], Iterable[Persona]]


@dataclass(slots=True)
class _Sum:
    """What is known of an answer when it has ended."""

    text: list[str] = field(default_factory=list)
    thinking: list[str] = field(default_factory=list)
    reason: FinishReason = FinishReason.INCOMPLETE
    usage: Usage = field(default_factory=Usage)
    receipt: Receipt = field(default_factory=Receipt)
    sources: Sequence[Source] = ()


def fault(error: OrchestraError, language: str, personas: Iterable[Persona]) -> dict[str, Any]:
    """An error in the protocol's shape, without the seed memory of the `personas`."""
    return wire.error(f"{discreet(error.message(language), personas, language)} ({error.hint(language)})", error.code())


class _Answer:
    """One answer on its way out; `known` are the personas whose seed memory no error repeats."""

    def __init__(self, voice: Voice, dialogue: Dialogue, how: _How) -> None:
        self._parts = voice.answer(dialogue)
        self._language, self._events, self._usage, self._known = how
        self._told, self._sum = wire.Told(voice.id), _Sum()
        self._first: list[Part] = []
        self._asked: list[str] = []
        self._busy = ""  # the status line that has to be ended

    async def begun(self) -> None:
        """Waits for the first part: what fails before it is an error with a status of its own."""
        async for part in self._parts:
            self._first.append(part)
            return

    async def whole(self) -> dict[str, Any]:
        """The answer in one, its sources below it."""
        async with aclosing(self._parts) as parts:
            async for part in parts:
                self._take(part)
        done = self._sum
        text = "".join(done.text) + wire.sources_text(done.sources)
        return self._told.whole(text, "".join(done.thinking), done.reason, done.usage, done.receipt)

    async def lines(self) -> AsyncGenerator[str]:
        """The answer as it comes; an error in its middle is seen, and there is always an end."""
        try:
            async with aclosing(self._parts), aclosing(self._beating()) as parts:
                async for part in parts:
                    for one in [wire.BEAT] if part is None else self._shown(part):
                        yield one
            for one in self._ended():
                yield one
        except OrchestraError as failure:
            for one in self._rested("✗"):
                yield one
            yield wire.line(fault(failure, self._language, self._known()))
        yield wire.DONE

    async def _beating(self) -> AsyncGenerator[Part | None]:
        """The parts; None each time nothing came for a while."""
        for part in self._first:
            yield part
        coming = asyncio.ensure_future(_next(self._parts))
        try:
            while True:
                done, _ = await asyncio.wait((coming,), timeout=QUIET)
                if not done:
                    yield None
                    continue
                came = coming.result()
                if came is None:
                    return
                yield came
                coming = asyncio.ensure_future(_next(self._parts))
        finally:
            coming.cancel()
            await asyncio.wait((coming,))

    def _shown(self, part: Part) -> list[str]:
        self._take(part)
        if isinstance(part, Piece):
            if not part.text:
                return []
            return [*self._rested("✓"), self._told.delta(**{"reasoning_content" if part.kind == "thinking" else "content": part.text})]
        said = _said(part, self._language)
        if not said or not self._events:
            return []
        self._busy = said[:_LONGEST]
        return [wire.status(self._busy)]

    def _rested(self, mark: str) -> list[str]:
        """The end of the status line: it stays with the answer, and names who has worked on it."""
        said, self._busy = self._busy, ""
        names = ", ".join(dict.fromkeys(self._asked))
        return [wire.status(f"{mark} {names}" if names else said, done=True)] if said else []

    def _ended(self) -> list[str]:
        done = self._sum
        lines = self._rested("✓")
        if self._events:
            lines += [wire.source(one) for one in done.sources]
        elif done.sources:
            lines.append(self._told.delta(content=wire.sources_text(done.sources)))
        lines.append(self._told.end(done.reason))
        return lines + ([self._told.usage(done.usage, done.receipt)] if self._usage else [])

    def _take(self, part: Part) -> None:
        done = self._sum
        if isinstance(part, Piece):
            (done.thinking if part.kind == "thinking" else done.text).append(part.text)
            if part.finish_reason is not None:
                done.reason = part.finish_reason
                done.usage, done.receipt = part.usage or done.usage, part.receipt or done.receipt
        elif isinstance(part, Step) and part.ok:
            self._asked.append(part.expert)
        elif isinstance(part, Answer | Plan):
            done.reason, done.usage, done.receipt = part.finish_reason, part.usage, part.receipt
            done.sources = part.sources if isinstance(part, Answer) else ()


async def _next(parts: AsyncGenerator[Part]) -> Part | None:
    """The next part, None at the end."""
    async for part in parts:
        return part
    return None


def _said(part: Part, language: str) -> str:
    """What happens, in a line of our own words and the names of personas."""
    zh = language == "zh"
    if isinstance(part, Route):
        return f"→ {part.persona}"
    if isinstance(part, Thought):
        names = "、".join(dict.fromkeys(call.expert for call in part.calls))
        return (f"询问：{names}" if zh else f"asking: {names}") if names else ""
    if isinstance(part, Step):
        if part.ok is None:
            return f"{part.expert} …"
        if part.ok:
            return f"{part.expert} ✓ {part.duration:.1f} s"
        return f"{part.expert} 没有回答" if zh else f"{part.expert} did not answer"
    return ""
