"""The way to the daemon: requests with retries before the first byte, answers within limits, faults as our errors."""

from __future__ import annotations

import json
import random
import time
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from orchestra.errors import (
    DaemonBusy,
    DaemonDisconnected,
    DaemonError,
    DaemonUnreachable,
    EmptyReply,
    FirstTokenTimeout,
    LineTooLong,
    NotOllama,
    OrchestraError,
    ReplyTooLarge,
    StreamCorrupt,
)
from orchestra.model import wire
from orchestra.model.hosts import daemon_url
from orchestra.request import Answer, Breakage, Broken, Request
from orchestra.runtime import Runtime
from orchestra.settings import Settings

TRIES = 3
LONGEST_RETRY_AFTER = 30.0
BRIEF = 30.0
# Nothing compressed was asked for; what comes so all the same is read within a tight bound.
COMPRESSED_LIMIT = 8 * 2**20
ERROR_BODY_LIMIT = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Seconds until the first byte and between two; `deadline` is a moment of `time.monotonic()`."""

    first: float = 60.0
    between: float = 60.0
    deadline: float | None = None


class Connection:
    """Requests to one daemon. It knows statuses and framing, not what the answers mean."""

    def __init__(self, runtime: Runtime, settings: Settings) -> None:
        self.runtime = runtime
        self.settings = settings
        self.url = daemon_url(settings.host)
        self.server = ""  # what the last answer called itself; a stand-in says so here

    @property
    def stand_in(self) -> bool:
        """Whether the last answer came from Orchestra's stand-in, whose words are no model's."""
        return self.server == wire.STAND_IN

    async def ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, model: str = "", patience: Patience | None = None
    ) -> dict[str, Any]:
        """One JSON object for one request; every fault as an `OrchestraError`."""
        asked = wire.Asked(url=self.url, model=model)
        return await self.whole(method, path, body, asked=asked, patience=patience or self._briefly())

    async def whole(
        self, method: str, path: str, body: dict[str, Any] | None, *, asked: wire.Asked, patience: Patience
    ) -> dict[str, Any]:
        """The same, for a caller who knows more about whom it asks."""
        try:
            async with self.opened(method, path, body, asked=asked, patience=patience) as answer:
                whole = b"".join([chunk async for chunk in self._bounded(answer, self.settings.reply_limit)])
                kind = answer.headers.get("content-type", "")
        except Broken as broken:
            if broken.how in (Breakage.TIMEOUT, Breakage.DEADLINE):
                raise FirstTokenTimeout(model=asked.model or self.url, seconds=shown(patience.first)) from broken
            raise DaemonDisconnected(url=self.url) from broken
        if not whole.strip():
            raise EmptyReply()
        if odd := wire.unlike_ollama(self.url, kind, whole[:64]):
            raise odd
        try:
            said = wire.parsed(whole)
        except wire.Corrupt as error:
            raise NotOllama(url=self.url, detail=f"{path} answers no JSON object ({error})") from None
        if said.get("error"):
            raise wire.said(200, wire.error_words(said["error"]), asked)
        return said

    @asynccontextmanager
    async def opened(
        self, method: str, path: str, body: dict[str, Any] | None, *, asked: wire.Asked, patience: Patience,
        retried: Callable[[], None] = lambda: None,
    ) -> AsyncIterator[Answer]:  # fmt: skip
        """An answer with status 200, its body unread. Tries at most 3 times, never after the first byte, never on 4xx.

        `retried` is told of each try after the first.
        """
        content = None if body is None else json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        request = Request(
            method=method,
            url=self.url + path,
            body=content,
            connect=self.settings.connect_timeout,
            first=patience.first,
            between=patience.between,
            deadline=patience.deadline,
        )
        async with AsyncExitStack() as stack:
            yield await self._entered(stack, request, asked, retried)

    async def _entered(
        self, stack: AsyncExitStack, request: Request, asked: wire.Asked, retried: Callable[[], None]
    ) -> Answer:
        for attempt in range(1, TRIES + 1):
            wait = random.uniform(0.05, 0.25) * 2**attempt
            try:
                answer = await stack.enter_async_context(self.runtime.send(request))
                self.server = answer.headers.get("server", "")
                if answer.status == 200:
                    return answer
                error, wait = await self._refusal(answer, asked, wait)
            except Broken as broken:
                error = self.unopened(broken, request, asked)
            again = isinstance(error, DaemonDisconnected | DaemonBusy) and wait <= LONGEST_RETRY_AFTER
            late = request.deadline is not None and time.monotonic() + wait > request.deadline
            if attempt == TRIES or not again or late:
                raise error
            await stack.aclose()
            await self.runtime.pause(wait)
            retried()
        raise AssertionError("the last try returns or raises")

    async def _refusal(self, answer: Answer, asked: wire.Asked, wait: float) -> tuple[OrchestraError, float]:
        try:
            body = b"".join([chunk async for chunk in self._bounded(answer, ERROR_BODY_LIMIT)])
        except (Broken, OrchestraError):  # the status says enough
            body = b""
        after = answer.headers.get("retry-after", "")
        if after.isascii() and after.isdigit():
            wait = float(after[:6])
        return wire.problem(answer.status, answer.headers.get("location", ""), body, asked), wait

    def unopened(self, broken: Broken, request: Request, asked: wire.Asked) -> OrchestraError:
        """What it means that no answer began. Raises `broken` itself where it is the caller's own doing."""
        detail = str(broken)
        match broken.how:
            case Breakage.CONNECT:
                return DaemonUnreachable(url=self.url, **_plain(detail))
            case Breakage.TIMEOUT:
                return FirstTokenTimeout(model=asked.model or self.url, seconds=shown(request.first))
            case Breakage.PROTOCOL if "too long" in detail.lower():
                return DaemonError(status="?", detail="its answer's head is too long")
            case Breakage.PROTOCOL:
                return NotOllama(url=self.url, detail="it does not speak HTTP")
            case Breakage.DISCONNECTED:
                return DaemonDisconnected(url=self.url)
            case _:
                raise broken

    async def events(self, answer: Answer) -> AsyncGenerator[dict[str, Any]]:
        """The JSON objects of a stream."""
        line = 0
        async with aclosing(self.lines(answer)) as chunks:
            async for chunk in chunks:
                for part in chunk:
                    line += 1
                    if part.strip():
                        yield self._parsed(part, line)

    async def lines(self, answer: Answer) -> AsyncGenerator[list[bytes]]:
        """The lines of a stream, those together that came together, split on byte 0x0A alone: a U+2028 inside a text is no line end."""
        pending: list[bytes] = []
        size, limit = 0, self.settings.line_limit
        if odd := wire.unlike_ollama(self.url, answer.headers.get("content-type", ""), b""):
            raise odd
        async with aclosing(self._bounded(answer, self.settings.reply_limit)) as chunks:
            async for chunk in chunks:
                *whole, rest = chunk.split(b"\n")
                if whole:
                    whole[0] = b"".join((*pending, whole[0]))
                    pending, size = [], 0
                    if max(map(len, whole)) > limit:
                        yield list(takewhile(lambda line: len(line) <= limit, whole))
                        raise LineTooLong(limit=limit)
                    yield whole
                pending.append(rest)
                size += len(rest)
                if size > limit:
                    raise LineTooLong(limit=limit)
        if (rest := b"".join(pending)).strip():
            yield [rest]

    def _parsed(self, part: bytes, line: int) -> dict[str, Any]:
        try:
            return wire.parsed(part)
        except wire.Corrupt as error:
            if odd := wire.unlike_ollama(self.url, "", part[:64]):
                raise odd from None
            raise StreamCorrupt(line=line, detail=str(error)) from None

    async def _bounded(self, answer: Answer, limit: int) -> AsyncGenerator[bytes]:
        encoding = answer.headers.get("content-encoding", "identity").lower()
        total = 0
        async with aclosing(answer.chunks()) as chunks:
            source = chunks if encoding in ("", "identity") else _inflated(chunks, self.url, encoding)
            limit = limit if source is chunks else min(limit, COMPRESSED_LIMIT)
            async with aclosing(source):
                async for chunk in source:
                    total += len(chunk)
                    if total > limit:
                        raise ReplyTooLarge(limit=limit)
                    if chunk:
                        yield chunk

    def patience(self, *, prompt_tokens: int, deadline: float | None) -> Patience:
        """How long to wait for an answer to a prompt of that many tokens."""
        first = self.settings.first_token_timeout + self.settings.prompt_token_time * prompt_tokens
        return Patience(first=first, between=self.settings.piece_timeout, deadline=deadline)

    def _briefly(self) -> Patience:
        """How long to wait for what the daemon knows by heart."""
        return Patience(first=min(BRIEF, self.settings.first_token_timeout), between=min(BRIEF, self.settings.piece_timeout))

    def loading(self, deadline: float | None = None) -> Patience:
        """How long to wait for a model to be loaded: the daemon itself ends a load that stands still."""
        return Patience(first=self.settings.load_timeout, between=self.settings.piece_timeout, deadline=deadline)


def shown(seconds: float) -> str:
    """A patience as an error says it: "60", "0.2"."""
    return f"{round(seconds, 1):g}"


async def _inflated(chunks: AsyncGenerator[bytes], url: str, encoding: str) -> AsyncGenerator[bytes]:
    """Decompressed 64 KiB at a time, so that a small answer cannot become a huge one in memory."""
    if encoding not in ("gzip", "deflate", "x-gzip"):
        raise NotOllama(url=url, detail=f"it compresses its answers ({encoding})")
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)
    async for chunk in chunks:
        try:
            yield inflate.decompress(chunk, 65536)
            while inflate.unconsumed_tail:
                yield inflate.decompress(inflate.unconsumed_tail, 65536)
        except zlib.error as error:
            raise NotOllama(url=url, detail=f"its compressed answer is broken ({error})") from None


def _plain(detail: str) -> dict[str, str]:
    """Why there is no connection, in both languages; what the system says where it is none of the usual reasons."""
    lowered = detail.lower()
    if any(words in lowered for words in ("name or service", "nodename", "name resolution", "getaddrinfo", "no address")):
        return {"detail": "its name is not found", "detail_zh": "找不到该主机名"}
    if "refused" in lowered or "all connection attempts failed" in lowered:
        return {"detail": "nothing listens there", "detail_zh": "该地址没有服务在监听"}
    if "timed out" in lowered or not detail:
        return {"detail": "it does not answer in time", "detail_zh": "连接超时"}
    return {"detail": detail}
