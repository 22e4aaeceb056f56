"""The daemon's own models, passed on with the guard: the answer has a bound, loops are broken off, and its end is always said.

An answer that has begun ends with `done:true` and why: what the daemon says, or `length`,
`repetition`, `incomplete`. Whoever leaves ends the generation.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from typing import Any, Literal, TypeVar, cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from orchestra.errors import (
    BodyInvalid,
    DaemonBusy,
    DaemonDisconnected,
    DaemonError,
    EmptyReply,
    FirstTokenTimeout,
    ModelMissing,
    OrchestraError,
    PersonaMissing,
    StreamStalled,
    StreamTruncated,
)
from orchestra.gateway.attending import attended
from orchestra.gateway.bounding import Sent, bounded, question_language, read_by_people, spelt
from orchestra.gateway.discretion import in_one_line
from orchestra.gateway.keeping import kept
from orchestra.gateway.limits import RETRY_AFTER
from orchestra.gateway.lines import AsLines, Line, Run, Told, ours
from orchestra.gateway.reporting import Report, report_of
from orchestra.gateway.voices import PREFIX
from orchestra.gateway.waiting import FENCE, Waiting, awaited
from orchestra.model import wire
from orchestra.model.client import Client
from orchestra.model.connection import shown
from orchestra.model.persona import Persona
from orchestra.request import Breakage, Broken
from orchestra.request import Request as Asking

T = TypeVar("T")
Guard = Literal["on", "strict", "off"]
_AS_THE_DAEMON = {413: 400, 422: 400, 500: 502}  # what a client of the daemon knows in place of our own status
_OF_THE_CALLER = ('option "', "invalid format")  # what the daemon says with a 500, and is wrong with the request
_EMBEDDING = ("/api/embed", "/api/embeddings")  # the model works for these as for a question
_HANDED_ON = ("content-type", "retry-after")


class Passing:
    """Passes requests on to the daemon behind `client`. `guard` "strict" never shortens, "off" changes no byte."""

    def __init__(self, client: Client, guard: Guard | None = None) -> None:
        self.client = client
        self.guard: Guard = guard or cast(Guard, client.settings.guard)

    def passed(self, path: str, raw: bytes, body: Mapping[str, Any], language: str = "en") -> Response:
        """The answer to a `body`, sent as `raw` to `/api/chat` or `/api/generate`; errors in the daemon's own shape."""
        if self.guard != "off" and (plain := spelt(body)) != body:
            raw, body = json.dumps(plain).encode(), plain
        told = AsLines(str(body.get("model")), stream=body.get("stream") is not False, chat=path == "/api/chat", language=language)
        return Attended(partial(self._answer, path, raw, body, told), partial(refusal, language=language))

    def embedded(self, path: str, raw: bytes, body: Mapping[str, Any], language: str = "en") -> Response:
        """Texts as vectors. A text that is too long the daemon cuts in silence; where nothing may be shortened it refuses it."""
        if self.guard == "strict" and path == "/api/embed" and (plain := spelt(body)).get("truncate") is None:
            raw = json.dumps({**plain, "truncate": False}).encode()
        return self.through("POST", path, raw, language)

    def through(self, method: str, path: str, raw: bytes = b"", language: str = "en") -> Response:
        """The daemon's answer to any request, byte for byte; errors, where there is none, in its own shape."""

        async def answer(send: Send, _: Request) -> None:
            await (self.in_turn(path, raw, send) if path in _EMBEDDING else self.verbatim(method, path, raw, send))

        return Attended(answer, partial(refusal, language=language))

    async def _answer(self, path: str, raw: bytes, body: Mapping[str, Any], told: Told, send: Send, request: Request) -> None:
        report_of(request.scope).model = str(body.get("model"))
        if not asks(path, body):
            await self.verbatim("POST", path, raw, send)
        elif self.guard == "off":
            await self.in_turn(path, raw, send)
        else:
            await self.guarded(path, body, told, send, request)

    # --- with the guard

    async def guarded(self, path: str, body: Mapping[str, Any], told: Told, send: Send, request: Request) -> None:
        """Sends the answer to a body of the daemon's own, bounded and looked after. Raises what is wrong before anything was sent."""
        report = report_of(request.scope)
        sending = _Sending(path, body, told, send)
        async with aclosing(await kept(request, path, body, told, self._lines(path, body, told.aloud, report))) as answered:
            if not told.stream:
                whole = told.whole([line async for lines in answered for line in lines])
                return await _begun(send, 200, "application/json; charset=utf-8", whole)
            try:
                await sending.some(await sending.waited(anext(answered)))
                async for lines in answered:
                    await sending.some(lines)
                end = told.end()
            except OrchestraError as error:
                if not sending.begun:
                    raise
                report.failed(error)
                end = told.end(error)
            await _more(send, end, last=True)

    async def _lines(self, path: str, body: Mapping[str, Any], aloud: bool, report: Report) -> AsyncGenerator[list[Line]]:
        """The answer's lines, as many at once as came together. Raises what broke it off: in its middle only where not said `aloud`."""
        sent = await bounded(self.client, path, body, strict=self.guard == "strict")
        run = Run(sent)
        connection = self.client.connection
        try:
            async with (
                self._turn(sent.patience.deadline),
                connection.opened("POST", sent.path, sent.body, asked=sent.asked, patience=sent.patience) as answer,
                aclosing(connection.lines(answer)) as chunks,
            ):
                async for chunk in chunks:
                    try:
                        for raw in filter(bytes.strip, chunk):
                            run.take(raw)
                    finally:  # what came before a bad line is sound
                        lines = run.given()
                        if lines:
                            report.speaks()
                            yield lines
                    if run.ended:
                        _reported(lines, report)
                        return
        except (Broken, OrchestraError) as broken:
            error = _meaning(broken, sent, begun=run.begun)
        else:
            error = StreamTruncated() if run.begun else EmptyReply()
        if not run.looped():
            if not (run.begun and aloud):
                raise error
            run.broken(error)
        lines = run.given()
        _reported(lines, report)
        yield lines

    # --- without it

    async def in_turn(self, path: str, raw: bytes, send: Send) -> None:
        """Sends the daemon's answer to a question byte for byte, when a slot is free for it."""
        async with self._turn(time.monotonic() + self.client.settings.deadline):
            await self.verbatim("POST", path, raw, send)

    @asynccontextmanager
    async def _turn(self, deadline: float | None) -> AsyncIterator[None]:
        """One of the daemon's slots. Raises `DaemonBusy` where none is free in time."""
        async with AsyncExitStack() as held:
            try:
                await held.enter_async_context(self.client.runtime.slot(deadline))
            except Broken as broken:
                raise DaemonBusy(url=self.client.connection.url, detail=str(broken)) from broken
            yield

    async def verbatim(self, method: str, path: str, raw: bytes, send: Send) -> None:
        """Sends the daemon's answer byte for byte. Raises where there is none, and where it breaks off: then ours has no end either."""
        settings, url = self.client.settings, self.client.connection.url
        asking = Asking(
            method=method, url=url + path, body=raw or None, connect=settings.connect_timeout, first=settings.load_timeout,
            between=settings.load_timeout, deadline=time.monotonic() + max(settings.deadline, settings.load_timeout),
        )  # fmt: skip
        begun = False
        try:
            async with self.client.runtime.send(asking) as answer, aclosing(answer.chunks()) as chunks:
                headers = [(name.encode(), answer.headers[name].encode()) for name in _HANDED_ON if name in answer.headers]
                encoding = answer.headers.get("content-encoding")
                headers += [(b"content-encoding", encoding.encode())] if encoding else []
                await send({"type": "http.response.start", "status": answer.status, "headers": headers})
                begun = True
                async for chunk in chunks:
                    await _more(send, chunk)
                await _more(send, b"", last=True)
        except Broken as broken:
            if begun:
                raise StreamTruncated() from broken
            raise self.client.connection.unopened(broken, asking, wire.Asked(url=url)) from broken


class _Sending:
    """A stream on its way out; before its first line, what it waits for, where somebody may read that."""

    def __init__(self, path: str, body: Mapping[str, Any], told: Told, send: Send) -> None:
        self._told, self._send, self._chat, self._body = told, send, path == "/api/chat", body
        self.begun = self._fenced = False

    async def some(self, lines: Sequence[Line]) -> None:
        """Sends lines as they come."""
        if not self.begun:
            self.begun = True
            await self._send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", self._told.kind.encode())]})
        if self._fenced and any(map(any, (wire.text_of(line.event) for line in lines))):
            self._fenced = False
            if any(wire.text_of(line.event)[1] for line in lines):
                lines = [self._thought(FENCE), *lines]
        await _more(self._send, self._told.some(lines))

    async def waited(self, first: Awaitable[T]) -> T:
        """The first of an answer; meanwhile what it waits for is shown as thinking."""
        return await (awaited(first, self._show) if read_by_people(self._body) else first)

    async def _show(self, waiting: Waiting) -> None:
        self._fenced = False
        await self.some([self._thought(waiting.told(question_language(self._body)) + "\n")])
        self._fenced = True

    def _thought(self, thinking: str) -> Line:
        return ours(str(self._body.get("model")), thinking=thinking, chat=self._chat)


class Attended(Response):
    """A response that is worked on for as long as its caller waits: leaving ends all work for it, whatever it waits for."""

    def __init__(self, work: Callable[[Send, Request], Coroutine[Any, Any, None]], refused: Callable[[OrchestraError], Response]) -> None:
        super().__init__()
        self._sending, self._refused = work, refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, report = Request(scope, receive), report_of(scope)
        try:
            await attended(request, self._work(send, request))
        except OrchestraError as error:
            report.failed(error)
            if not report.status:  # in the middle of an answer nothing can be said any more: the connection is closed
                await self._refused(error)(scope, receive, send)

    async def _work(self, send: Send, request: Request) -> None:
        try:
            await self._sending(send, request)
        except Broken as broken:  # its time was over before the daemon was asked
            raise DaemonBusy(url="", detail=str(broken)) from broken


def refusal(error: OrchestraError, language: str, personas: Iterable[Persona] = ()) -> JSONResponse:
    """An error in the daemon's own shape, without the seed memory of the `personas`; a missing model in words that clients look for."""
    said = in_one_line(error, personas, language)
    if isinstance(error, ModelMissing | PersonaMissing):
        name = error.facts.get("model") or PREFIX + str(error.facts.get("name"))
        said = f"model '{name}' not found: {said}"
    return JSONResponse({"error": said}, **framed(error))


def framed(error: OrchestraError) -> dict[str, Any]:
    """Status and headers of an error, as clients of the daemon know them; what it refuses itself keeps its status."""
    status = _AS_THE_DAEMON.get(error.status, error.status)
    if isinstance(error, DaemonError):
        told, detail = error.facts.get("status"), str(error.facts.get("detail"))
        status = told if isinstance(told, int) and 400 <= told < 500 else 400 if detail.startswith(_OF_THE_CALLER) else status
    return {"status_code": status, "headers": {"Retry-After": str(RETRY_AFTER)} if status in (429, 503) else {}}


async def _more(send: Send, data: bytes, *, last: bool = False) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": not last})


async def _begun(send: Send, status: int, kind: str, data: bytes) -> None:
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(data)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await _more(send, data, last=True)


def parsed(raw: bytes) -> dict[str, Any]:
    """The body, leniently: whatever its content type, unknown fields and all."""
    try:
        return wire.parsed(raw)
    except wire.Corrupt as error:
        raise BodyInvalid(detail=str(error), detail_zh="无法读取", offset=0) from None


def asks(path: str, body: Mapping[str, Any]) -> bool:
    """Whether something is to be generated: a request with nothing in it loads or unloads the model, another shows the prompt."""
    body = spelt(body)
    return bool(body.get("messages" if path == "/api/chat" else "prompt")) and not body.get("_debug_render_only")


def _reported(lines: Sequence[Line], report: Report) -> None:
    """Why an answer ended, by its last line."""
    last = lines[-1].event
    report.ended(str(last.get("done_reason")), wire.usage_of(last))


def _meaning(broken: Broken | OrchestraError, sent: Sent, *, begun: bool) -> OrchestraError:
    """What it means that the daemon's answer broke off, or that none began."""
    if isinstance(broken, OrchestraError):
        return broken
    late = broken.how in (Breakage.TIMEOUT, Breakage.DEADLINE)
    if begun:
        return StreamStalled(seconds=shown(sent.patience.between)) if late else StreamTruncated()
    if late:
        return FirstTokenTimeout(model=sent.asked.model, seconds=shown(sent.patience.first))
    return DaemonDisconnected(url=sent.asked.url)
