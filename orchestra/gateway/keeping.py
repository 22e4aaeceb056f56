"""Dialogues with the daemon's own models, kept as sessions where the service records everything (`serve --record`).

What is kept is what was said: pictures, tools and our own words beside an answer are not. A dialogue that ends with
something else than a question - the result of a tool - is a step of a program, and is not kept.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from starlette.requests import Request

from orchestra.agents.lineage import Lineage
from orchestra.errors import FieldInvalid, OrchestraError, StreamTruncated
from orchestra.gateway.bounding import own_words
from orchestra.gateway.branches import Branches
from orchestra.gateway.dialogue import Dialogue
from orchestra.gateway.lines import Line, Told, ours
from orchestra.gateway.tasks import recognised
from orchestra.model.language import language_of
from orchestra.model.messages import FinishReason, Message, Options, Piece, Role
from orchestra.model.wire import text_of, usage_of
from orchestra.sessions.branching import Begun
from orchestra.sessions.records import About

Lines = AsyncGenerator[list[Line]]
ROLES: Mapping[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}


async def kept(request: Request, path: str, body: Mapping[str, Any], told: Told, lines: Lines) -> Lines:
    """The lines of an answer to `body`, kept on their way where everything is recorded."""
    branches: Branches | None = getattr(request.app.state, "branches", None)
    if branches is None or not request.app.state.orchestra.settings.record:
        return lines
    dialogue = _dialogue(request, body) if path == "/api/chat" else None
    if dialogue is None:
        return lines
    model = str(body.get("model"))
    begun = await branches.begun(request, dialogue, About(model=model, language=language_of(dialogue.question)))
    return lines if begun.journal is None else _kept(branches, begun, lines, model=model, streamed=told.stream)


async def _kept(branches: Branches, begun: Begun, lines: Lines, *, model: str, streamed: bool) -> Lines:
    """One line's pieces are taken before the next lines come, so that a caller who leaves has what it has seen kept."""
    coming: list[list[Line]] = []

    async def pieces() -> AsyncGenerator[Piece]:
        async with aclosing(lines):
            async for some in lines:
                coming.append(some)
                for piece in _pieces(some, model, streamed=streamed):
                    yield piece
                if some[-1].event.get("done_reason") == FinishReason.INCOMPLETE:
                    raise StreamTruncated()  # for the record: its reader is told by the line itself

    async with aclosing(branches.recorded(begun, pieces())) as stream:
        try:
            async for piece in stream:
                if begun.journal is not None and not begun.journal.new:
                    yield [_line(piece, model)]
                while coming:
                    yield coming.pop(0)
        except OrchestraError:
            if not coming:
                raise
            yield coming.pop(0)


def _dialogue(request: Request, body: Mapping[str, Any]) -> Dialogue | None:
    given = body.get("messages")
    messages = [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []
    said = [Message(role, _text(one)) for one in messages if (role := ROLES.get(str(one.get("role")).lower()))]
    if not messages or str(messages[-1].get("role")).lower() != "user" or recognised(request.headers, said):
        return None
    try:
        return Dialogue.of(said, Options(), Lineage())
    except FieldInvalid:  # it says nothing
        return None


def _text(message: Mapping[str, Any]) -> str:
    text = message.get("content")
    return own_words(text) if isinstance(text, str) else ""


def _pieces(lines: Sequence[Line], model: str, *, streamed: bool) -> list[Piece]:
    """What lines that came together say, without our words. Of a loop that was `streamed` its client has all, and sends all back."""
    said = [text_of(line.event) for line in lines if not line.aside]
    text, thinking = ("".join(parts) for parts in zip(*said, strict=True)) if said else ("", "")
    pieces = [*([Piece(thinking, kind="thinking")] if thinking else []), Piece(text)]
    last = lines[-1]
    reason = str(last.event.get("done_reason"))
    if last.event.get("done") is True and reason != FinishReason.INCOMPLETE:
        ending = FinishReason(reason) if reason in set(FinishReason) else FinishReason.STOP
        pieces.append(Piece("", finish_reason=ending, usage=usage_of(last.event), model=model, keep=None if streamed else last.keep))
    return pieces


def _line(piece: Piece, model: str) -> Line:
    """A piece of an answer that was given before."""
    if piece.finish_reason is None:
        return ours(model, piece.text, chat=True)
    return ours(model, chat=True, done=True, done_reason=str(piece.finish_reason))
