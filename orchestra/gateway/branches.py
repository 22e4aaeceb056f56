"""Where the dialogues of clients are kept that send all of it with each request.

A client that names its chat (Open WebUI does) has it kept under that name, within what its key and its user may see: the name
tells chats apart, and opens none of somebody else. A client that names none is kept where the service records everything
(`serve --record`); its dialogue is recognised by what it sends again. What is sent decides what was said: see
`orchestra.sessions.branching`. An answer matters more than its record: what cannot be kept is told in the log.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from starlette.requests import Request

from orchestra.api import AsyncOrchestra
from orchestra.errors import StoreFault
from orchestra.gateway.dialogue import Dialogue, Kept
from orchestra.model.messages import Piece
from orchestra.sessions.branching import Begun, Place, continued
from orchestra.sessions.recording import again, recorded
from orchestra.sessions.records import About

CHAT = ("x-orchestra-chat", "x-openwebui-chat-id")
TURN = ("idempotency-key", "x-orchestra-message")
PASSING = ("temporary:", "local:")  # chats of Open WebUI that are nowhere kept
PATIENCE = 5.0  # seconds for the store to take a question: whoever waits for an answer does not wait longer
LONGEST_USER, LONGEST_CHAT = 64, 100  # characters of a name; a longer one is cut, and told apart by its hash
_MARK, _HASH = "~", 32
_log = logging.getLogger("orchestra.gateway")


class Chat(NamedTuple):
    """What the name of a stored session says: whose chat it is, and which."""

    user: str
    chat: str


class Branches:
    """Keeps the dialogues of a service's clients.

    A face gives `keeping(request)` to the dialogue that a voice answers. Who passes on the words of somebody else's model
    has a turn `begun`, and lets the pieces go through `recorded`.
    """

    def __init__(self, orchestra: AsyncOrchestra) -> None:
        self._orchestra = orchestra

    def place(self, request: Request) -> Place | None:
        """Where the dialogue of a request is kept; None: nowhere."""
        chats = _sent(request.headers, CHAT)
        if any(chat.lower().startswith(PASSING) for chat in chats) or not (chats or self._orchestra.settings.record):
            return None
        chat = next(iter(chats), "")
        prefix = prefix_of(request.state.holder, getattr(request.state, "user", ""))
        return Place(prefix=prefix, name=prefix + _segment(chat, LONGEST_CHAT) if chat else "")

    def keeping(self, request: Request) -> Kept:
        """What begins the turn of a dialogue that this request has brought."""
        return partial(self.begun, request)

    async def begun(self, request: Request, dialogue: Dialogue, about: About) -> Begun:
        """The turn of a dialogue's question, begun where its chat is kept; `about` describes a session that is made now.

        What was asked and answered before under the same `Idempotency-Key` or `X-Orchestra-Message` is given back.
        """
        place = self.place(request)
        if place is None:
            return dialogue.unkept(about)
        turn_id = next((_segment(name, LONGEST_CHAT) for name in _sent(request.headers, TURN)), None)
        begin = partial(continued, self._orchestra.store, place, dialogue.said, dialogue.question, turn_id=turn_id, **about)
        try:
            async with asyncio.timeout(PATIENCE):
                begun = await self._orchestra.runtime.call_store(begin)
            return replace(begun, wishes=dialogue.wishes, lost=_lost)
        except TimeoutError:  # a turn that begins after all has nobody to finish it, and is closed as interrupted
            _log.warning("what was said is not kept: the store was busy for %g s", PATIENCE)
        except StoreFault as fault:
            _lost(fault)
        return dialogue.unkept(about)

    async def recorded(self, begun: Begun, pieces: AsyncGenerator[Piece]) -> AsyncGenerator[Piece]:
        """The pieces, kept on their way as the answer of a turn; that of a turn which was answered before, in their place."""
        journal = begun.journal
        if journal is not None and begun.answered:
            await pieces.aclose()
            for piece in again(journal.turn):
                yield piece
            return
        async with aclosing(recorded(pieces, journal, self._orchestra.runtime, lost=begun.lost)) as stream:
            async for piece in stream:
                yield piece


def prefix_of(holder: str, user: str) -> str:
    """How the names of all sessions begin that belong to a user of the holder of a key."""
    # no key has a name with @ in it: what it begins is nobody's but the holder's
    return (f"{holder}/" if holder else "") + f"@{_segment(user, LONGEST_USER)}/"


def chat_of(name: str) -> Chat | None:
    """The chat that a session is, by the name that its holder knows it under; None where it is none."""
    user, slash, chat = name.partition("/")
    return Chat(user[1:], chat) if slash and user.startswith("@") else None


def _segment(text: str, longest: int) -> str:
    """A text as a part of a name: as it is where that is short and plain, else its beginning and its hash, never another's."""
    plain = text.isprintable() and not set(text) & set("/" + _MARK) and text == text.strip() and text not in (".", "..")
    if plain and len(text) <= longest:
        return text
    begins = "".join(one if one.isprintable() and one not in "/" + _MARK else "_" for one in text[: longest - _HASH - 1])
    return begins + _MARK + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH]


def _sent(headers: Mapping[str, str], names: tuple[str, ...]) -> list[str]:
    """What these headers say, where they say anything; Open WebUI writes what is not ASCII with percents, curl in UTF-8."""
    values = (unquote_to_bytes(headers.get(name, "").encode("latin-1")).decode("utf-8", "replace").strip() for name in names)
    return list(filter(None, values))


def _lost(fault: StoreFault) -> None:
    _log.warning("what was said is not kept: %s", fault.code())
