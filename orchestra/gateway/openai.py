"""`/v1`: personas, search and the coordinator as models for every client of the OpenAI protocol, Open WebUI first.

While experts work nothing of the answer can be shown yet: a comment now and then keeps the connection, and clients that
can show it are told each step.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing, suppress
from functools import cached_property
from typing import Any, NamedTuple

from fastapi import FastAPI, Request
from starlette.responses import Response

from orchestra.api import AsyncOrchestra
from orchestra.errors import OrchestraError
from orchestra.gateway import openai_passing
from orchestra.gateway import openai_wire as wire
from orchestra.gateway.access import language_for
from orchestra.gateway.answering import Answering, Beforehand, Streamed, below, ended, said
from orchestra.gateway.attending import attended
from orchestra.gateway.bodies import bounded, understood, value_of
from orchestra.gateway.dialogue import Dialogue
from orchestra.gateway.discretion import in_one_line
from orchestra.gateway.openai_passing import OwnModels, names_own
from orchestra.gateway.passing import Passing
from orchestra.gateway.reporting import Report, report_of
from orchestra.gateway.tasks import answer, recognised
from orchestra.gateway.voices import PREFIX, Part, Voice, Voices
from orchestra.gateway.waiting import CLOCK, Waiting
from orchestra.model.language import language_of
from orchestra.model.messages import Piece
from orchestra.model.persona import Persona

PATH = "/v1/"
SHOWS_EVENTS = ("x-openwebui-chat-id", "x-openwebui-user-id", "x-openwebui-user-jwt", "x-orchestra-chat")
_LONGEST = 120  # characters of a status line


def mount(app: FastAPI, orchestra: AsyncOrchestra, voices: Voices) -> None:
    """Adds the routes; where everybody is served, the daemon's own models are too."""
    own = OwnModels(Passing(orchestra.client)) if voices.roster.alone is None else None
    if own:
        openai_passing.mount(app, own)

    @app.get("/v1/models")
    async def models(request: Request) -> Any:
        language = language_for(request.headers, orchestra.settings)
        listed = [wire.model_entry(voice, language) for voice in await voices.all()]
        return {"object": "list", "data": listed + (await own.listed() if own else [])}

    @app.get("/v1/models/{name:path}")
    async def model(request: Request, name: str) -> Any:
        if own and not name.startswith(PREFIX):
            return await own.model(name)
        return wire.model_entry(await voices.voice(name), language_for(request.headers, orchestra.settings))

    @app.post("/v1/chat/completions")
    async def completions(request: Request) -> Any:
        raw = await bounded(request, orchestra.settings.body_limit)
        value = value_of(raw)
        if own and names_own(value):
            language = language_for(request.headers, orchestra.settings)
            return _beside(own, request, value) or own.passed(openai_passing.CHAT, raw, value, language)
        body = understood(wire.Completion, value)
        body.check()
        voice = await voices.voice(body.model)
        report = report_of(request.scope)
        report.model = voice.id
        messages = body.said()
        if task := recognised(request.headers, messages):
            return wire.Told(voice.id).at_once(answer(task, examples=voice.starters), stream=body.stream)
        kept = request.app.state.branches.keeping(request)
        dialogue = Dialogue.of(messages, body.options(), request.state.lineage, kept)
        language = language_of(dialogue.question)
        events = any(name in request.headers for name in SHOWS_EVENTS)
        answered = _Told(voice, dialogue, _How(language, events, body.usage_wanted(), voices.roster.known), report)
        if not body.stream:
            return await attended(request, answered.whole())
        first = await attended(request, answered.answering.begun())
        if isinstance(first, Response):  # the caller has left
            return first
        return Streamed(answered.answering, answered.lines(), "text/event-stream")


def _beside(own: OwnModels, request: Request, value: dict[str, Any]) -> Any:
    """What Open WebUI asks beside a chat with one of the daemon's own models, answered without it; None for the chat."""
    with suppress(OrchestraError):  # whoever answers the chat says what is wrong with it
        body = understood(wire.Completion, value)
        if own.guarded and (task := recognised(request.headers, body.said())):
            return wire.Told(body.model).at_once(answer(task), stream=body.stream)
    return None


class _How(NamedTuple):
    """How an answer is told: in which language, with events, with usage; and whom its errors do not give away."""

    language: str
    events: bool
    usage: bool
    known: Callable[[], Iterable[Persona]]


def fault(error: OrchestraError, language: str, personas: Iterable[Persona]) -> dict[str, Any]:
    """An error in the protocol's shape, without the seed memory of the `personas`."""
    return wire.error(in_one_line(error, personas, language), error.code())


class _Told:
    """One answer in this protocol; `known` are the personas whose seed memory no error repeats."""

    def __init__(self, voice: Voice, dialogue: Dialogue, how: _How, report: Report) -> None:
        self.answering, self._report = Answering(voice.answer(dialogue), report), report
        self._language, self._events, self._usage, self._known = how
        self._shaped, self._beforehand = bool(dialogue.options.format), Beforehand()
        self._told = wire.Told(voice.id)
        self._busy = self._stays = ""  # the status line that has to be ended, and the one that has been

    async def whole(self) -> dict[str, Any]:
        """The answer in one, its sources below it."""
        done = await self.answering.whole()
        return self._told.whole("".join(done.text) + self._below(), "".join(done.thinking), done.reason, done.usage, done.receipt)

    async def lines(self) -> AsyncGenerator[str]:
        """The answer as it comes; an error in its middle is seen, and there is always an end."""
        try:
            async with aclosing(self.answering.parts()) as parts:
                async for part in parts:
                    for one in [wire.BEAT] if part is None else self._shown(part):
                        yield one
            for one in self._ended():
                yield one
        except OrchestraError as failure:
            self._report.failed(failure)
            for one in self._rested("✗"):
                yield one
            yield wire.line(fault(failure, self._language, self._known()))
        yield wire.DONE

    def _shown(self, part: Part) -> list[str]:
        if isinstance(part, Piece):
            if not part.text:
                return []
            kind = "reasoning_content" if part.kind == "thinking" else "content"
            return [*self._rested("✓"), self._told.delta(**{kind: self._beforehand.fenced(part)})]
        if isinstance(part, Waiting) and not self._events:
            line = "" if self._shaped else self._beforehand.line(part, self._language)
            return [self._told.delta(reasoning_content=line)] if line else []
        line = said(part, self._language, self._called)
        if not line or not self._events:
            return []
        self._busy = line[:_LONGEST]
        return [wire.status(self._busy)]

    @cached_property
    def _titles(self) -> dict[str, str]:
        return {persona.name: persona.titled(self._language) for persona in self._known()}

    def _called(self, name: str) -> str:
        """The title of a persona, for people; of somebody else the name."""
        return self._titles.get(name, name)

    def _rested(self, mark: str) -> list[str]:
        """The end of the status line: it stays with the answer, and names who has worked on it."""
        line, self._busy = self._busy, ""
        if not line:
            return []
        names = ("、" if self._language == "zh" else ", ").join(dict.fromkeys(map(self._called, self.answering.outcome.asked)))
        # nobody has to read later that there was a wait
        hidden = not names and line.startswith(CLOCK)
        self._stays = "" if hidden else f"{mark} {names}" if names else line
        return [wire.status(self._stays or line, done=True, hidden=hidden)]

    def _ended(self) -> list[str]:
        done = self.answering.outcome
        lines = self._rested("✓")
        if self._events:
            lines += wire.citations(done.sources)
            if why := ended(done.reason, self._language):
                lines.append(wire.status(" · ".join(filter(None, (self._stays, why))), done=True))
        elif text := self._below():
            lines.append(self._told.delta(content=text))
        lines.append(self._told.end(done.reason))
        return lines + ([self._told.usage(done.usage, done.receipt)] if self._usage else [])

    def _below(self) -> str:
        return "" if self._shaped else below(self.answering.outcome, self._language)
