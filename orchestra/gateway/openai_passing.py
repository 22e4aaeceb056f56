"""The daemon's own models at `/v1`, with the guard: its own `/v1` can bound nothing and loses errors, so they are asked natively.

What the answer says is told as this protocol has it; there is one guard for both.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Send

from orchestra.errors import FieldInvalid, OrchestraError
from orchestra.gateway import openai_wire as wire
from orchestra.gateway.access import language_for
from orchestra.gateway.attending import listed
from orchestra.gateway.bodies import bounded, understood, value_of
from orchestra.gateway.discretion import in_one_line
from orchestra.gateway.lines import Line, merged
from orchestra.gateway.openai_native import Chat, Completion
from orchestra.gateway.passing import Attended, Passing, asks, framed
from orchestra.gateway.reporting import report_of
from orchestra.gateway.voices import PREFIX
from orchestra.model.window import full_name
from orchestra.model.wire import text_of, usage_of

CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
_NATIVE = {CHAT: "/api/chat", COMPLETIONS: "/api/generate"}
_FINGERPRINT = "fp_ollama"
_MARK = "\x00"


class OwnModels:
    """The daemon's own models, for clients of this protocol."""

    def __init__(self, passing: Passing) -> None:
        self._passing = passing

    @property
    def guarded(self) -> bool:
        """Whether they are looked after, and not passed on as they are."""
        return self._passing.guard != "off"

    async def listed(self) -> list[dict[str, Any]]:
        """What the daemon lists in this protocol; nothing where it cannot be asked."""
        try:
            connection = self._passing.client.connection
            rows = (await listed(connection.ask("GET", "/v1/models"), connection.url)).get("data")
        except OrchestraError:
            return []
        return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []

    async def model(self, name: str) -> dict[str, Any]:
        """One of them. Raises `ModelMissing`."""
        for row in await self.listed():
            if full_name(str(row.get("id"))) == full_name(name):
                return {**row, "id": name}
        await self._passing.client.show(name)
        return {"id": name, "object": "model", "created": 0, "owned_by": "library"}

    def passed(self, path: str, raw: bytes, body: dict[str, Any], language: str) -> Response:
        """The answer to a `body` that was sent to `path`, as `raw`."""
        return Attended(partial(self._answer, path, raw, body, language), partial(refusal, language=language))

    def through(self, path: str, raw: bytes, language: str) -> Response:
        """The daemon's own answer to it, byte for byte, when a slot is free for it."""
        return Attended(lambda send, _: self._passing.in_turn(path, raw, send), partial(refusal, language=language))

    async def _answer(self, path: str, raw: bytes, body: dict[str, Any], language: str, send: Send, request: Request) -> None:
        report_of(request.scope).model = str(body.get("model"))
        if not asks(_NATIVE[path], {**body, "_debug_render_only": False}):  # which these paths do not know
            return await self._passing.verbatim("POST", path, raw, send)
        if self._passing.guard == "off":
            return await self._passing.in_turn(path, raw, send)
        chat = path == CHAT
        wanted: Chat | Completion = understood(Chat, body) if chat else understood(Completion, body)
        told = AsEvents(wanted, language, chat=chat)
        await self._passing.guarded(_NATIVE[path], wanted.native(), told, send, request)


def mount(app: FastAPI, own: OwnModels) -> None:
    """Adds the routes that only the daemon's own models have."""
    settings = app.state.orchestra.settings

    @app.post(COMPLETIONS)
    async def completions(request: Request) -> Response:
        raw = await bounded(request, settings.body_limit)
        body = value_of(raw)
        if not names_own(body):
            raise FieldInvalid(field="model", detail=f"who is asked at {CHAT}", detail_zh=f"该名称请在 {CHAT} 询问")
        return own.passed(COMPLETIONS, raw, body, language_for(request.headers, settings))

    @app.post(EMBEDDINGS)
    async def embeddings(request: Request) -> Response:
        raw = await bounded(request, settings.body_limit)
        return own.through(EMBEDDINGS, raw, language_for(request.headers, settings))


def names_own(body: Any) -> bool:
    """Whether a body names a model of the daemon's own, or none at all."""
    return isinstance(body, dict) and not str(body.get("model") or "").startswith(PREFIX)


def refusal(error: OrchestraError, language: str) -> Response:
    """An error in the protocol's shape, with the status that the daemon gives."""
    return JSONResponse(_fault(error, language), **framed(error))


def _fault(error: OrchestraError, language: str) -> dict[str, Any]:
    return wire.error(in_one_line(error, (), language), error.code())


# --- what is answered


class AsEvents:
    """An answer of the daemon's own as this protocol tells it: events, or one object.

    Why it ended is `stop`, `tool_calls` or, for all else, `length`; the true reason stands beside it.
    """

    kind, aloud = "text/event-stream", False

    def __init__(self, wanted: wire.Wishes, language: str, *, chat: bool) -> None:
        self.stream = wanted.stream
        self._usage, self._language, self._chat = wanted.usage_wanted(), language, chat
        self._first, self._called = chat, False
        self._about = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{secrets.token_hex(12)}",
            "object": ("chat.completion.chunk" if wanted.stream else "chat.completion") if chat else "text_completion",
            "created": int(time.time()),
            "model": wanted.model,
            "system_fingerprint": _FINGERPRINT,
        }
        # most events are a piece of text and nothing else: only that is written anew each time
        self._before, _, self._after = self._event([self._choice(self._worded(_MARK))]).partition(json.dumps(_MARK))

    def some(self, lines: Sequence[Line]) -> bytes:
        """Lines of a stream as they come."""
        return "".join([self._told(line.event) for line in lines]).encode()

    def end(self, error: OrchestraError | None = None) -> bytes:
        """The mark that ends a stream, after the error that broke it off."""
        fault = [] if error is None else [_line(_fault(error, self._language))]
        return "".join([*fault, wire.DONE]).encode()

    def whole(self, lines: Sequence[Line]) -> bytes:
        """All lines in one object."""
        event = merged(lines, self._chat)
        if not self._chat:
            choice = self._choice({"text": text_of(event)[0]})
        else:
            choice = {"index": 0, "message": {"role": "assistant", **self._delta(event)}, **_logprobs(event)}
        choice["finish_reason"] = self._finish(event)
        return json.dumps({**self._about, "choices": [choice], "usage": _counted(event), **_truly(event)}).encode()

    def _told(self, event: dict[str, Any]) -> str:
        said = event.get("message") if self._chat else event
        if not self._first and isinstance(said, dict) and not (_MORE & said.keys() or _MORE & event.keys() or event.get("done")):
            text = said.get("content" if self._chat else "response")
            if isinstance(text, str):
                return f"{self._before}{json.dumps(text)}{self._after}"
        return "".join(self._events(event))

    def _events(self, event: dict[str, Any]) -> list[str]:
        """The events that one line is, whatever it says."""
        done, told = event.get("done") is True, []
        delta = self._delta(event) if self._chat else {"text": text_of(event)[0]}
        if not done or any(delta.values()):
            if self._first:
                self._first, delta = False, {"role": "assistant", **delta}
            told.append(self._event([self._choice(delta) | (_logprobs(event) if self._chat else {})]))
        if done:
            last = self._choice({} if self._chat else {"text": ""}) | {"finish_reason": self._finish(event)}
            told.append(self._event([last], **_truly(event)))
            if self._usage:
                told.append(self._event([], usage=_counted(event)))
        return told

    def _delta(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """What one message says."""
        text, thinking = text_of(dict(event))
        message = event.get("message")
        calls = message.get("tool_calls") if isinstance(message, dict) else None
        delta: dict[str, Any] = {"content": text}
        if thinking:
            delta["reasoning"] = thinking
        if isinstance(calls, list) and calls:
            self._called = True
            delta["tool_calls"] = [_called(call, place) for place, call in enumerate(calls) if isinstance(call, dict)]
        return delta

    def _finish(self, event: Mapping[str, Any]) -> Literal["stop", "tool_calls", "length"]:
        if event.get("done_reason") != "stop":
            return "length"
        return "tool_calls" if self._called else "stop"

    def _worded(self, text: str) -> dict[str, Any]:
        return {"content": text} if self._chat else {"text": text}

    def _choice(self, said: dict[str, Any]) -> dict[str, Any]:
        return {"index": 0, **({"delta": said} if self._chat else said), "finish_reason": None}

    def _event(self, choices: list[dict[str, Any]], **more: Any) -> str:
        return _line({**self._about, "choices": choices, **more})


_MORE = {"thinking", "tool_calls", "logprobs"}


def _called(call: Mapping[str, Any], place: int) -> dict[str, Any]:
    """A call as clients of this protocol read it: its arguments as JSON in a text."""
    function = call.get("function")
    function = function if isinstance(function, dict) else {}
    arguments, number = function.get("arguments"), function.get("index")
    return {
        "id": str(call.get("id") or f"call_{secrets.token_hex(4)}"),
        "index": number if isinstance(number, int) else place,
        "type": "function",
        "function": {
            "name": str(function.get("name") or ""),
            "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False),
        },
    }


def _logprobs(event: Mapping[str, Any]) -> dict[str, Any]:
    return {"logprobs": {"content": event["logprobs"]}} if event.get("logprobs") else {}


def _truly(event: Mapping[str, Any]) -> dict[str, Any]:
    return {"orchestra": {"finish_reason": str(event.get("done_reason"))}}


def _counted(event: Mapping[str, Any]) -> dict[str, Any]:
    usage = usage_of(dict(event))
    read, said = usage.prompt_tokens or 0, usage.completion_tokens or 0
    return {"prompt_tokens": read, "completion_tokens": said, "total_tokens": read + said}


def _line(value: Mapping[str, Any]) -> str:
    # in ASCII: a U+2028 as such would be a line end to some clients
    return f"data: {json.dumps(value)}\n\n"
