"""A search service on this machine that answers as it is told, and a key that nothing may repeat."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

CANARY = "sk-canary-5f1c0a77"


@dataclass
class Told:
    """How one request is answered; `body` may come in pieces, `hang` waits until the service closes before anything is said."""

    status: int = 200
    body: bytes | Iterable[bytes] = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    hang: bool = False


@dataclass
class Seen:
    """One request as the service saw it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Service(ThreadingHTTPServer):
    """Answers with `told`, or with what `told` makes of the request; `seen` are the requests that came."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.told: Told | Callable[[Seen], Told] = Told()
        self.seen: list[Seen] = []
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Service

    def answer(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        seen = Seen(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, self.rfile.read(length))
        self.server.seen.append(seen)
        told = self.server.told(seen) if callable(self.server.told) else self.server.told
        if told.hang:
            self.server.closing.wait(20)
            return
        with suppress(ConnectionError):
            self.send_response(told.status)
            pieces = [told.body] if isinstance(told.body, bytes) else told.body
            if isinstance(told.body, bytes):
                self.send_header("content-length", str(len(told.body)))
            for name, value in told.headers.items():
                self.send_header(name, value)
            self.end_headers()
            for piece in pieces:
                self.wfile.write(piece)
                if self.server.closing.is_set():
                    return

    do_GET = do_POST = answer

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Service]:
    """A service for as long as the block runs."""
    service = Service()
    thread = threading.Thread(target=lambda: service.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    try:
        yield service
    finally:
        service.closing.set()
        service.shutdown()
        service.server_close()
        thread.join()


@pytest.fixture(name="service")
def running_service() -> Iterator[Service]:
    with serving() as running:
        yield running


@pytest.fixture(name="logged")
def everything_logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """All that any library logs, as somebody who looks for a fault would see it."""
    caplog.set_level(logging.DEBUG)
    for name in list(logging.root.manager.loggerDict):
        logging.getLogger(name).setLevel(logging.NOTSET)
    return caplog
