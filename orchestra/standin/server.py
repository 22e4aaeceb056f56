"""The stand-in's HTTP: connections, one thread each, and the table of its endpoints."""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote

from orchestra.standin import access, management, openai
from orchestra.standin.decoding import read
from orchestra.standin.embedding import embed, embed_one
from orchestra.standin.inference import House, Inference
from orchestra.standin.link import PLAIN, ClientGone, Exchange, Link
from orchestra.standin.refusal import Refusal
from orchestra.standin.voice import Voice

LONGEST_LINE = 65536
PATIENCE = 5.0
Answer = Callable[[House, Mapping[str, Any], Link], None]
Intercept = Callable[[Link], bool]
"""Sees each request first; true where it took it over."""


def _generate(house: House, body: Mapping[str, Any], link: Link) -> None:
    Inference(house, body, Voice(link), chat=False).answer()


def _chat(house: House, body: Mapping[str, Any], link: Link) -> None:
    Inference(house, body, Voice(link), chat=True).answer()


# Path -> method, the Go type of its body, what answers it.
POSTED: dict[str, tuple[str, str, Answer]] = {
    "/api/generate": ("POST", "GenerateRequest", _generate),
    "/api/chat": ("POST", "ChatRequest", _chat),
    "/api/embed": ("POST", "EmbedRequest", embed),
    "/api/embeddings": ("POST", "EmbeddingRequest", embed_one),
    "/api/show": ("POST", "ShowRequest", management.describe),
    "/api/pull": ("POST", "PullRequest", management.pull),
    "/api/create": ("POST", "CreateRequest", management.create),
    "/api/copy": ("POST", "CopyRequest", management.copy),
    "/api/delete": ("DELETE", "DeleteRequest", management.delete),
    "/v1/chat/completions": ("POST", "ChatCompletionRequest", openai.chat),
    "/v1/completions": ("POST", "CompletionRequest", openai.complete),
    "/v1/embeddings": ("POST", "OpenAIEmbedRequest", openai.embed),
}
READ: dict[str, tuple[tuple[str, ...], Callable[[House, Link], None]]] = {
    "/": (("HEAD", "GET"), lambda _, link: link.whole(200, b"Ollama is running", "text/plain; charset=utf-8")),
    "/api/tags": (("HEAD", "GET"), management.tags),
    "/api/version": (("HEAD", "GET"), lambda house, link: link.json({"version": house.profile.version})),
    "/api/ps": (("GET",), management.running),
    "/api/status": (("GET",), lambda _, link: management.status(link)),
    "/v1/models": (("GET",), openai.models),
}
ONE_MODEL = "/v1/models/"


def respond(house: House, link: Link) -> None:
    """Answer one request, whatever becomes of it. Raises `ClientGone`."""
    exchange = link.exchange
    path = exchange.path.partition("?")[0]
    methods = _methods(path)
    if access.foreign_origin(exchange.headers) or access.foreign_host(exchange.headers):
        allow = (("Allow", ", ".join(methods)),) if methods and exchange.method not in methods else ()
        link.whole(403, headers=allow)
        return
    link.origin = exchange.headers.get("Origin")
    if not methods:
        link.whole(404, b"404 page not found", PLAIN)
    elif link.origin and exchange.method == "OPTIONS":
        link.whole(204, headers=(*access.PREFLIGHT, ("Allow", ", ".join(methods)), *access.PREFLIGHT_VARIES))
    elif exchange.method not in methods:
        link.whole(405, b"405 method not allowed", PLAIN, (("Allow", ", ".join(methods)),))
    else:
        if path.startswith("/v1/"):
            link.wording = openai.problem
        _answered(house, link, path)


def _methods(path: str) -> tuple[str, ...]:
    if path in POSTED:
        return (POSTED[path][0],)
    if path.startswith(ONE_MODEL) and path != ONE_MODEL:
        return ("GET",)
    return READ[path][0] if path in READ else ()


def _answered(house: House, link: Link, path: str) -> None:
    streaming = False
    try:
        if path in READ:
            READ[path][1](house, link)
        elif path.startswith(ONE_MODEL):
            openai.model(house, link, unquote(path.removeprefix(ONE_MODEL)))
        else:
            _, shape, answer = POSTED[path]
            body = read(link.exchange.raw, shape)
            streaming = path in STREAMED and body.get("stream", STREAMED[path])
            answer(house, body, link)
    except Refusal as refusal:
        link.refuse(refusal.status, refusal.error, streaming=streaming and refusal.late)


# The paths that stream, and whether they do where the request does not say.
STREAMED = {
    **dict.fromkeys(("/api/generate", "/api/chat", "/api/pull", "/api/create"), True),
    **dict.fromkeys(("/v1/chat/completions", "/v1/completions"), False),
}


class Handler(BaseHTTPRequestHandler):
    """One connection. The library reads requests; all that is written is written by `Link`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def handle_one_request(self) -> None:
        """Read a request and answer it. The connection stays open unless one side ends it."""
        self.close_connection = True
        with contextlib.suppress(ClientGone, ConnectionError):
            self.raw_requestline = self.rfile.readline(LONGEST_LINE + 1)
            if not 0 < len(self.raw_requestline) <= LONGEST_LINE or not self.parse_request():
                return
            exchange = self._exchange()
            wanted, self.close_connection = not self.close_connection, True
            link = Link(self.connection, exchange, self.server.stopping)
            self.server.serve(link)
            self.close_connection = link.broken or not wanted

    def _exchange(self) -> Exchange:
        raw = self._body()
        try:
            body = json.loads(raw) if raw else None
        except (ValueError, RecursionError):
            body = None
        return Exchange(self.command, self.path, self.headers, body if isinstance(body, dict) else None, raw)  # type: ignore[arg-type]

    def _body(self) -> bytes:
        try:
            if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = []
            while size := int(self.rfile.readline(LONGEST_LINE).partition(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline(2)
            while self.rfile.readline(LONGEST_LINE).strip():
                pass
        except ValueError:
            self.send_error(400, "Bad Request")
            raise ClientGone from None
        return b"".join(parts)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: what came is kept in `StandIn.requests`."""


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """The listening socket and its connections, all of which end when it is stopped."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, port: int, serve: Callable[[Link], None]) -> None:
        self.serve = serve
        self.stopping = threading.Event()
        self._open: dict[socket.socket, threading.Thread] = {}
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", port), Handler)
        self._accepting = threading.Thread(target=self._accept, name="standin", daemon=True)
        self._accepting.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    def stop(self) -> None:
        """Close everything, and wait until the requests in hand have noticed."""
        self.stopping.set()
        with contextlib.suppress(OSError):
            # The accepting thread waits without a timeout: a connection of our own wakes it.
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        self._accepting.join(PATIENCE)
        self.server_close()
        with self._lock:
            connections = dict(self._open)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in connections.values():
            thread.join(PATIENCE)

    def _accept(self) -> None:
        while not self.stopping.is_set():
            self.handle_request()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """One connection from its first request to its end."""
        with self._lock:
            self._open[request] = threading.current_thread()
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._open.pop(request, None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Let a fault of the stand-in itself be seen; a connection that breaks is none."""
        raise
