"""The routes. They read, ask Orchestra and answer, nothing more; what goes wrong leaves here in one shape.

A caller that leaves takes its question back: the generation ends at once and the model is free for the next.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from orchestra import __version__
from orchestra.agents.experts import Named
from orchestra.api import AsyncOrchestra
from orchestra.errors import Interrupted, MethodRefused, OrchestraError, Overloaded, RouteMissing
from orchestra.gateway import guide, lesson, ollama, openai, own, passing
from orchestra.gateway.access import OPEN, admit, language_for
from orchestra.gateway.attending import LEFT
from orchestra.gateway.bodies import WhoAnswers, replayed, whole
from orchestra.gateway.branches import Branches
from orchestra.gateway.discretion import discreet, hint_of
from orchestra.gateway.identity import Users
from orchestra.gateway.keys import OWNER, Keys
from orchestra.gateway.limits import RETRY_AFTER, Arrivals, Places
from orchestra.gateway.passing import Passing
from orchestra.gateway.reporting import report_of, reported
from orchestra.gateway.roster import Roster
from orchestra.gateway.voices import Voices
from orchestra.model.persona import Persona
from orchestra.runtime import Looped
from orchestra.settings import Settings
from orchestra.slots import Asker, on_behalf_of
from orchestra.texts import Words

# Where OpenTelemetry is installed FastAPI would report requests and the texts of exceptions: nothing is sent from here.
SILENT: Any = dict.fromkeys(("tracing", "metrics", "logs", "operation_spans", "auto_configure"), False)
_log = logging.getLogger("orchestra.gateway")


class Gateway(FastAPI):
    """The ASGI app, which `run` also serves."""

    def run(self, port: int = 5002, host: str = "127.0.0.1") -> None:
        """Serve until Ctrl-C or SIGTERM. Raises `PortTaken`, and `UsageError` for a public address without a token."""
        from orchestra.gateway.serving import Service, serve

        def ready(addresses: list[str]) -> None:
            told = [*(f"serving at {address}" for address in addresses), *([self.state.notice.en] if self.state.notice else [])]
            print(*told, sep="\n", file=sys.stderr, flush=True)

        asyncio.run(serve([Service(self, host, port)], self.state.orchestra.settings, ready))

    def interrupt(self) -> None:
        """Ends all answers that are on their way; each says that it broke off, and is stored as far as it came."""
        runtime = self.state.orchestra.runtime
        if isinstance(runtime, Looped):
            runtime.interrupt()


def create_app(
    seed_memory: str = "", *, persona: str = "", experts: Sequence[Named] = (), coordinator: str = "",
    descriptions: Mapping[str, str] | None = None, settings: Settings | None = None,
) -> Gateway:  # fmt: skip
    """A service: one expert of this `seed_memory` or this `persona`; a `coordinator` with its `experts`; else everybody.

    With both, `persona` is the name of the expert with that seed memory. `descriptions` say what services are for that
    do not say it themselves. Raises `PersonaMissing`.
    """
    orchestra = AsyncOrchestra(settings=settings, tell=_seen)
    roster = Roster.of(
        orchestra.personas, seed_memory=seed_memory, persona=persona, experts=experts, coordinator=coordinator,
        descriptions=descriptions or {},
    )  # fmt: skip

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        async with orchestra:
            yield

    # the framework's own pages would bring their scripts from somebody else's server
    app = Gateway(title="Orchestra", version=__version__, lifespan=life, docs_url=None, redoc_url=None, telemetry=SILENT)
    app.state.orchestra, app.state.roster, app.state.keys = orchestra, roster, Keys.of(orchestra.settings)
    app.state.notice, app.state.branches = roster.notice(orchestra.settings), Branches(orchestra)
    app.add_middleware(Border, settings=orchestra.settings, keys=app.state.keys, users=Users.of(orchestra.settings))
    app.add_exception_handler(OrchestraError, _refused)
    app.add_exception_handler(HTTPException, _misdirected)
    lesson.mount(app, orchestra, roster)
    _about(app, orchestra, roster)
    if roster.alone is None:
        own.mount(app, orchestra)
    voices = Voices(orchestra=orchestra, roster=roster)
    openai.mount(app, orchestra, voices)
    ollama.mount(app, voices, Passing(orchestra.client) if roster.alone is None else None)
    guide.mount(app, roster, orchestra.settings)
    return app


def _seen(words: Words) -> None:
    """Which service sees a question for the first time: named at the start already."""
    _log.info(words.en)


# --- the routes


def _about(app: Gateway, orchestra: AsyncOrchestra, roster: Roster) -> None:
    @app.get("/persona", response_model=WhoAnswers)
    async def persona() -> Any:
        face = roster.face()
        return WhoAnswers(name=face.name, description=dict(face.description))

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz(request: Request) -> dict[str, str]:
        await orchestra.client.tags()  # the model is chosen once: only this asks the daemon each time
        ready = {"status": "ready", "model": await orchestra.model_for()}
        # whose gateway it is may know which daemon stands behind it: `doctor` compares it with OLLAMA_HOST
        return ready if request.state.holder != OWNER else {**ready, "daemon": orchestra.client.connection.url}


# --- the border


class Border:
    """Every request passes here first, whatever its path: who asks, and through which agents."""

    def __init__(self, app: ASGIApp, settings: Settings, keys: Keys, users: Users) -> None:
        self.app, self.settings, self.keys, self.users = app, settings, keys, users
        self.places, self.arrivals = Places(settings.in_flight), Arrivals(settings.in_flight)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        with reported(scope) as report, ExitStack() as place:
            send = report.watched(send)
            try:
                caller = admit(scope, self.settings, self.keys, self.users)
                scope["state"].update(lineage=caller.lineage, holder=caller.holder, user=caller.user)
                if scope["path"] not in OPEN:  # a body has its place when it has come, and not while it is waited for
                    async with self.arrivals.one():
                        body = await whole(receive, self.settings.body_limit)
                    receive = replayed(body, receive)
                    place.enter_context(self.places.one())
                address = (scope.get("client") or ("",))[0]  # who has no name here shares slots by machine
                place.enter_context(on_behalf_of(Asker(caller.holder, caller.user or address)))
            except OrchestraError as error:
                report.failed(error)
                await refusal(error, language_for(Headers(scope=scope), self.settings), path=scope["path"])(scope, receive, send)
                return
            except ClientDisconnect:
                await Response(status_code=LEFT)(scope, receive, send)
                return
            try:
                await self.app(scope, receive, send)
            except asyncio.CancelledError:  # it has not ended when a shutdown has: whoever has heard nothing yet is told
                report.failed(cut := Interrupted())
                if not report.status:
                    await refusal(cut, language_for(Headers(scope=scope), self.settings), path=scope["path"])(scope, receive, send)


def refusal(error: OrchestraError, language: str, personas: Iterable[Persona] = (), path: str = "") -> JSONResponse:
    """An error as a program reads it, without the seed memory of the `personas`; with it what had been answered by then.

    Under `/v1/` and `/api/` it has the shape of those protocols.
    """
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
    if error.status in (429, 503):
        headers["Retry-After"] = str(RETRY_AFTER)
    if error.status == 408:  # what is still to come of its body is not waited for
        headers["Connection"] = "close"
    if path.startswith(openai.PATH):
        return JSONResponse(openai.fault(error, language, personas), status_code=error.status, headers=headers)
    if path.startswith(ollama.PATH):
        answer = passing.refusal(error, language, personas)
        answer.headers.update(headers)
        return answer
    message = discreet(error.message(language), personas, language)
    said = {"code": error.code(), "message": message, "hint": hint_of(error, language)}
    so_far = {"response": error.reply.text} if error.reply is not None else {}
    return JSONResponse({"error": said, **so_far}, status_code=error.status, headers=headers)


def turned_away(settings: Settings, scope: Scope) -> Response:
    """What is said to whom there is no place for, where nothing is begun for such a request."""
    error = Overloaded(most=settings.in_flight, seconds=RETRY_AFTER)
    with reported(scope) as report:
        report.refused(error)
        return refusal(error, language_for(Headers(scope=scope), settings), path=scope["path"])


async def _refused(request: Request, error: Any) -> Response:
    state = request.app.state
    report_of(request.scope).failed(error)
    return refusal(error, language_for(request.headers, state.orchestra.settings), state.roster.known(), request.url.path)


async def _misdirected(request: Request, error: Any) -> Response:
    """A path or a method that is not served."""
    allowed = (error.headers or {}).get("Allow", "")
    path, fault = request.url.path, OrchestraError(detail=str(error.detail))
    if error.status_code == 404:
        fault = RouteMissing(path=path)
    elif error.status_code == 405:
        fault = MethodRefused(method=request.method, path=path, allowed=allowed)
    answer = await _refused(request, fault)
    if allowed:
        answer.headers["Allow"] = allowed
    return answer
