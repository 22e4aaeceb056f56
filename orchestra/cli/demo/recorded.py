"""Exchanges recorded from a running Ollama daemon, and a socket that gives them again, byte for byte.

A daemon that fails cannot be had on demand, and an imitation of its failures would prove nothing. So what the
left side of the demo shows was recorded once, and a plain client is let loose on it, here and now.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from types import TracebackType
from typing import Any, NamedTuple

from orchestra.standin.link import Link
from orchestra.standin.server import Server


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request and the answer to it; `chunks` are the HTTP chunks of the body as they came."""

    case: str
    method: str
    path: str
    request: dict[str, Any]
    status: int
    headers: tuple[tuple[str, str], ...]
    chunks: tuple[str, ...]
    broken_off: str = ""

    @property
    def lines(self) -> list[str]:
        """The lines of the body."""
        return "".join(self.chunks).splitlines()

    @property
    def last(self) -> dict[str, Any]:
        """The last line, read."""
        value: dict[str, Any] = json.loads(self.lines[-1])
        return value


class Recording(NamedTuple):
    """The exchanges of one scene, and the daemon that they were recorded from."""

    daemon: str
    exchanges: tuple[Exchange, ...]

    def cases(self, prefix: str) -> list[Exchange]:
        """The exchanges whose case begins like that, in order."""
        return [exchange for exchange in self.exchanges if exchange.case.startswith(prefix)]


@cache
def recording(scene: str) -> Recording:
    """What was recorded for a scene."""
    text = files("orchestra.cli.demo").joinpath("recorded", f"{scene}.json").read_text("utf-8")
    value = json.loads(text)
    rows = [
        Exchange(**{**row, "headers": tuple((name, held) for name, held in row["headers"]), "chunks": tuple(row["chunks"])})
        for row in value["exchanges"]
    ]
    return Recording(value["daemon"], tuple(rows))


class Replay:
    """A socket that answers each request with the next recorded exchange."""

    def __init__(self, exchanges: Sequence[Exchange]) -> None:
        self._left = list(exchanges)
        self._lock = threading.Lock()

    def __enter__(self) -> str:
        self._server = Server(0, self._serve)
        return f"http://127.0.0.1:{self._server.port}"

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.stop()

    def _serve(self, link: Link) -> None:
        with self._lock:
            exchange = self._left.pop(0) if self._left else None
        if exchange is None:
            link.hang_up()
            return
        head = [f"HTTP/1.1 {exchange.status} {HTTPStatus(exchange.status).phrase}"]
        head += [f"{name}: {value}" for name, value in exchange.headers]
        link.raw("\r\n".join([*head, "", ""]).encode("latin-1"))
        if ("Transfer-Encoding", "chunked") not in exchange.headers:
            link.raw("".join(exchange.chunks).encode())
            return
        for chunk in exchange.chunks:
            link.chunk(chunk.encode())
        link.chunk(b"")


class Heard(NamedTuple):
    """What a plain client made of one answer: its parts, the tokens it says were read, whether it complained."""

    text: str
    parts: int
    read: int | None
    complaint: str


def plain_client(exchanges: Sequence[Exchange]) -> list[Heard]:
    """The recorded requests, made again with the `ollama` package against the recorded answers.

    It is the client that most programs use, so it is the one to look at; Orchestra itself does not ask it for answers.
    """
    from ollama import Client, ResponseError

    heard = []
    with Replay(exchanges) as url, Client(url, trust_env=False, timeout=10.0) as client:
        for exchange in exchanges:
            asked = exchange.request
            parts: list[Any] = []
            complaint = ""
            try:
                answer = client.chat(asked["model"], asked["messages"], options=asked["options"], stream=asked.get("stream", True))
                parts = [answer] if hasattr(answer, "message") else list(answer)
            except ResponseError as error:
                complaint = error.error or "refused"
            text = "".join(part.message.content or "" for part in parts)
            read = parts[-1].prompt_eval_count if parts else None
            heard.append(Heard(text, len(parts), read, complaint))
    return heard


def plain_client_version() -> str:
    """Its version."""
    from importlib.metadata import version

    return version("ollama")
