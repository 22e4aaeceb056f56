"""`/api`: personas, search and the coordinator as models for whatever speaks to a daemon, `ollama run` first.

The daemon's own models stand beside them, passed on with the guard. They stay the owner's: who may ask here may not pull,
push, make or delete any.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextlib import aclosing, suppress
from typing import Any, NamedTuple, TypeVar

from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from orchestra.errors import ManagementRefused, ModelMissing, ModelUnsupported, NoModel, OrchestraError
from orchestra.gateway import ollama_wire as wire
from orchestra.gateway.access import language_for
from orchestra.gateway.answering import Answering, Beforehand, Streamed, below
from orchestra.gateway.attending import attended, listed
from orchestra.gateway.bodies import bounded, takes, understood
from orchestra.gateway.dialogue import Dialogue
from orchestra.gateway.discretion import in_one_line
from orchestra.gateway.passing import Passing, asks, parsed
from orchestra.gateway.reporting import Report, report_of
from orchestra.gateway.tasks import answer, recognised
from orchestra.gateway.voices import PREFIX, Part, PersonaVoice, Voice, Voices
from orchestra.model.language import language_of
from orchestra.model.messages import FinishReason, Piece
from orchestra.model.persona import Persona
from orchestra.model.window import full_name, window_of

T = TypeVar("T")
PATH = "/api/"
ALIVE = "Ollama is running"  # word for word what clients look for
MANAGING = {"create": ("POST", "create"), "push": ("POST", "push"), "copy": ("POST", "cp"), "delete": ("DELETE", "rm")}


def mount(app: FastAPI, voices: Voices, passing: Passing | None) -> None:
    """Adds the routes. Without `passing` the voices alone are here."""
    face = _Face(voices, passing)
    for path, told in (("/", face.alive), ("/api/version", face.version), ("/api/tags", face.tags)):
        app.get(path)(told)
        app.head(path, include_in_schema=False)(told)
    app.get("/api/ps")(face.loaded)
    app.post("/api/chat", openapi_extra=takes(wire.Chat))(face.chat)
    app.post("/api/generate", openapi_extra=takes(wire.Generate))(face.generate)
    app.post("/api/show", openapi_extra=takes(wire.Named))(face.show)
    for path in ("/api/embed", "/api/embeddings"):
        app.post(path, openapi_extra=takes(wire.Named))(face.embedded)
    app.post("/api/pull", openapi_extra=takes(wire.Named))(face.pull)
    for name, (method, command) in MANAGING.items():
        app.api_route(PATH + name, methods=[method], include_in_schema=False)(face.refusing(command))
    app.api_route("/api/blobs/{digest}", methods=["HEAD", "POST"], include_in_schema=False)(face.refusing("create"))


class _Face:
    """The routes."""

    def __init__(self, voices: Voices, passing: Passing | None) -> None:
        self._voices, self._passing = voices, passing
        self._orchestra, self._client = voices.orchestra, voices.orchestra.client

    # --- what there is

    async def alive(self) -> Response:
        """What clients look for before they ask."""
        return PlainTextResponse(ALIVE)

    async def version(self) -> Any:
        """The daemon's own, by which clients know what it can do."""
        return {"version": await self._soon(self._client.version())}

    async def tags(self) -> Any:
        """The voices, then the daemon's own models."""
        return await self._soon(self._listed(self._client.tags(), every=True))

    async def loaded(self) -> Any:
        """What is in memory: a voice is where the model is that answers for it."""
        return await self._soon(self._listed(self._client.ps(), every=False))

    async def show(self, request: Request) -> Any:
        """What is known of a model; of a voice all but its seed memory."""
        raw = await bounded(request, self._orchestra.settings.body_limit)
        name = _name(parsed(raw))
        if not name.startswith(PREFIX):
            return self._through(request, raw, name)
        voice = await self._voices.voice(name)
        model = await self._model(voice)
        facts = await self._client.facts(model)
        rows = {full_name(str(row.get("name", ""))): row for row in await self._client.ps()}
        window = window_of(rows.get(full_name(model), {}))
        language = language_for(request.headers, self._orchestra.settings)
        title = f"{voice.titled(language)}: {voice.described(language)}"
        return wire.shown(title, facts, model, window, _persona(voice))

    async def _soon(self, work: Coroutine[Any, Any, T]) -> T:
        return await listed(work, self._client.connection.url)

    async def _listed(self, asked: Coroutine[Any, Any, list[dict[str, Any]]], *, every: bool) -> Any:
        rows = await asked
        return {"models": [*await self._entries(rows, every=every), *(rows if self._passing else ())]}

    async def _entries(self, rows: list[dict[str, Any]], *, every: bool) -> list[dict[str, Any]]:
        known = {full_name(str(row.get("name", ""))): row for row in rows}
        try:
            usual = await self._orchestra.model_for()
        except NoModel:  # nobody can answer yet
            usual = ""
        voices = [(voice, known.get(full_name(_own(voice) or usual), {})) for voice in await self._voices.all()]
        return [wire.entry(voice.id, row) for voice, row in voices if row or every]

    async def _model(self, voice: Voice) -> str:
        """The daemon's model that answers for a voice. Raises `NoModel`."""
        return _own(voice) or await self._orchestra.model_for()

    # --- what is asked

    async def chat(self, request: Request) -> Any:
        """A dialogue goes on, or a model is loaded."""
        return await self._asked(request, wire.Chat)

    async def generate(self, request: Request) -> Any:
        """A prompt is answered, or a model is loaded."""
        return await self._asked(request, wire.Generate)

    async def embedded(self, request: Request) -> Any:
        """Texts as vectors: the daemon's affair."""
        raw = await bounded(request, self._orchestra.settings.body_limit)
        body = parsed(raw)
        name = _name(body)
        if name.startswith(PREFIX):
            raise ModelUnsupported(model=name, detail="does not support embeddings", detail_zh="不支持嵌入向量")
        report_of(request.scope).model = name
        return self._there(name).embedded(request.url.path, raw, body, language_for(request.headers, self._orchestra.settings))

    async def _asked(self, request: Request, kind: type[wire.Asked]) -> Any:
        raw, path = await bounded(request, self._orchestra.settings.body_limit), request.url.path
        body = parsed(raw)
        name = _name(body)
        report = report_of(request.scope)
        report.model = name
        if not name.startswith(PREFIX):
            return self._there(name).passed(path, raw, body, language_for(request.headers, self._orchestra.settings))
        asked = understood(kind, body)
        asked.check()
        voice, told = await self._voices.voice(name), wire.Told(name, chat=kind is wire.Chat)
        report.model = voice.id
        if not asks(path, body):
            return await _told(request, self._empty(voice, asked, told))
        messages = asked.said()
        if task := recognised(request.headers, messages):
            return told.at_once(answer(task, examples=voice.starters), stream=asked.streams)
        kept = request.app.state.branches.keeping(request)
        dialogue = Dialogue.of(messages, asked.wished(), request.state.lineage, kept)
        parts = self._kept(voice.answer(dialogue), voice, asked)
        how = _How(language_of(dialogue.question), bool(asked.format), asked.think is not False, self._voices.roster.known)
        answered = _Answer(Answering(parts, report), told, how, report)
        if not asked.streams:
            return await _told(request, answered.whole())
        first = await attended(request, answered.answering.begun())
        if isinstance(first, Response):  # the caller has left
            return first
        return Streamed(answered.answering, answered.lines(), wire.LINES)

    def _there(self, name: str) -> Passing:
        """What passes on to the daemon. Raises `ModelMissing` where nothing is."""
        if self._passing is None:
            here = PREFIX + self._voices.roster.face().name
            raise ModelMissing(model=name, nearest=f"; here is: {here}", nearest_zh=f"；此处只有：{here}")
        return self._passing

    def _through(self, request: Request, raw: bytes, name: str) -> Response:
        language = language_for(request.headers, self._orchestra.settings)
        report_of(request.scope).model = name
        return self._there(name).through(request.method, request.url.path, raw, language)

    # --- what would change the owner's models

    async def pull(self, request: Request) -> Any:
        """A client pulls what it did not find, some whatever they ask for: a voice is here, or it is said that there is none."""
        name = _name(parsed(await bounded(request, self._orchestra.settings.body_limit)))
        if not name.startswith(PREFIX):
            return await self.refusing("pull")()
        await self._voices.voice(name)
        return JSONResponse({"status": "success"})

    def refusing(self, command: str) -> Callable[[], Coroutine[Any, Any, None]]:
        """What refuses it and says where it is done: by `ollama COMMAND` at the daemon."""

        async def refused() -> None:
            raise ManagementRefused(url=self._client.connection.url, command=command)

        return refused

    # --- the memory

    async def _ready(self, voice: Voice, asked: wire.Asked) -> str:
        """Loads the model of a voice, or takes it out of the memory, as `keep_alive` says; gives which, in the daemon's word."""
        model = await self._model(voice)
        loaded = None if asked.unloads else await self._client.ready(model)
        if asked.keep_alive is not None:
            window = {"num_ctx": loaded.window} if loaded and loaded.told else {}
            body = {"model": model, "stream": False, "keep_alive": asked.stays, "options": window}
            await self._client.connection.ask("POST", "/api/generate", body, model=model)
        return "load" if loaded else "unload"

    async def _empty(self, voice: Voice, asked: wire.Asked, told: wire.Told) -> dict[str, Any]:
        return told.whole("", "", await self._ready(voice, asked))

    async def _kept(self, parts: AsyncGenerator[Part], voice: Voice, asked: wire.Asked) -> AsyncGenerator[Part]:
        """An answer, and what `keep_alive` says of its model: how long it stays is said before it, that it leaves after it."""
        async with aclosing(parts):
            if asked.keep_alive is not None and not asked.unloads:
                await self._ready(voice, asked)
            async for part in parts:
                yield part
        if asked.unloads:
            with suppress(OrchestraError):  # the answer is there
                await self._ready(voice, asked)


class _How(NamedTuple):
    """How an answer is told: in which language, to a program that reads its form, with what happens on the way.

    `known` are the personas whose seed memory no error repeats.
    """

    language: str
    shaped: bool
    eventful: bool
    known: Callable[[], Iterable[Persona]]


class _Answer:
    """One answer in this protocol, which has no place for a status, a source or an error but thinking and text."""

    def __init__(self, answering: Answering, told: wire.Told, how: _How, report: Report) -> None:
        self.answering, self._told, self._how, self._report = answering, told, how, report
        self._beforehand = Beforehand()

    async def whole(self) -> dict[str, Any]:
        """The answer in one, its sources below it."""
        done = await self.answering.whole()
        return self._told.whole("".join(done.text) + self._below(), "".join(done.thinking), done.reason, done.usage)

    async def lines(self) -> AsyncGenerator[bytes]:
        """The answer as it comes; an error in its middle is text, for some clients pass over any other, and there is always an end."""
        told, done = self._told, self.answering.outcome
        try:
            async with aclosing(self.answering.parts()) as parts:
                async for part in parts:
                    if line := self._shown(part):
                        yield line
            if text := self._below():
                yield told.line(text)
            yield told.end(done.reason, done.usage)
        except OrchestraError as failure:
            self._report.failed(failure)
            if not self._how.shaped:
                yield told.line(f"\n\n> {in_one_line(failure, self._how.known(), self._how.language)}")
            yield told.end(FinishReason.INCOMPLETE, done.usage)

    def _shown(self, part: Part | None) -> bytes:
        if part is None:  # nothing for a while: a sign of life
            return self._told.line()
        if isinstance(part, Piece):
            kind = "thinking" if part.kind == "thinking" else "text"
            return self._told.line(**{kind: self._beforehand.fenced(part)}) if part.text else b""
        told = self._how.eventful and not self._how.shaped
        line = self._beforehand.line(part, self._how.language) if told else ""
        return self._told.line(thinking=line) if line else b""

    def _below(self) -> str:
        return "" if self._how.shaped else below(self.answering.outcome, self._how.language)


async def _told(request: Request, work: Coroutine[Any, Any, dict[str, Any]]) -> Response:
    said = await attended(request, work)
    return said if isinstance(said, Response) else JSONResponse(said)


def _name(body: dict[str, Any]) -> str:
    """The model that a body names; older clients call it `name`."""
    return str(body.get("model") or body.get("name") or "")


def _persona(voice: Voice) -> Persona | None:
    return voice.persona if isinstance(voice, PersonaVoice) else None


def _own(voice: Voice) -> str:
    """The model that a persona asks for; "" where any will do."""
    persona = _persona(voice)
    return (persona and persona.model) or ""
