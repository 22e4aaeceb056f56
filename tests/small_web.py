"""A web for tests: names and public addresses that lead to servers in this process, with a record of every connection.

The record is taken where a socket connects, so that it says where the code under test really went.
"""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from typing import Any

import pytest

PUBLIC = "93.184.216.34"
Answer = Callable[[str, socket.socket], None]


class Asked(dict[str, str]):
    """The header fields of a request, by lower-case name; `line` is the request's first line."""

    line = ""


class SmallWeb:
    """`names` gives a name its addresses (an iterator: other ones each time), `sites` an address its server."""

    def __init__(self) -> None:
        self.names: dict[str, list[str] | Iterator[list[str]]] = {}
        self.sites: dict[str, tuple[str, int]] = {}
        self.connected: list[str] = []
        self.looked_up: list[str] = []
        self.asked: list[Asked] = []
        self.answers: dict[str, Answer] = {}

    def page(self, path: str, body: bytes, *, kind: str = "text/html; charset=utf-8", status: str = "200 OK", **fields: str) -> None:
        """What a path answers; `fields` are further header fields (`content_encoding="gzip"`)."""
        head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"] + ([f"Content-Type: {kind}"] if kind else [])
        head += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        self.answers[path] = lambda path, sock: sock.sendall("\r\n".join([*head, "", ""]).encode() + body)

    def raw(self, path: str, answer: Answer) -> None:
        """What a path answers, written to its socket by hand."""
        self.answers[path] = answer

    def moved(self, path: str, location: str, status: str = "302 Found", **fields: str) -> None:
        """A redirect."""
        self.page(path, b"", status=status, location=location, **fields)

    @contextmanager
    def running(self, patch: pytest.MonkeyPatch) -> Iterator[SmallWeb]:
        """The web in place of the system's names and connections."""
        web = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):
                    asked = request(self.request)
                    web.asked.append(asked)
                    path = asked.line.split(" ")[1]
                    web.answers.get(path, missing)(path, self.request)

        with serving(Handler) as address:
            self.sites[PUBLIC] = address
            self._patch(patch)
            yield self

    def _patch(self, patch: pytest.MonkeyPatch) -> None:
        connect, look_up = socket.socket.connect, socket.getaddrinfo

        def connecting(sock: socket.socket, address: Any) -> None:
            host, port = address[:2]
            self.connected.append(f"{host}:{port}")
            if host in self.sites:
                connect(sock, self.sites[host])
            elif address in self.sites.values():  # a proxy, which is named by its own address
                connect(sock, address)
            else:
                raise ConnectionRefusedError(f"nothing at {host}")

        def looking(host: Any, port: Any, *given: Any, **named: Any) -> Any:
            if host in ("127.0.0.1", "localhost"):
                return look_up(host, port, *given, **named)
            found: list[str] | Iterator[list[str]]
            try:
                found = [str(ip_address(host))]
            except ValueError:
                self.looked_up.append(host)
                found = self.names.get(host, [])
            addresses = found if isinstance(found, list) else next(found)
            if not addresses:
                raise socket.gaierror(-2, "Name or service not known")
            return [
                (socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in addresses
            ]

        patch.setattr(socket.socket, "connect", connecting)
        patch.setattr(socket, "getaddrinfo", looking)


def request(sock: socket.socket) -> Asked:
    """The head of a request, as it came."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = sock.recv(4096)
        if not part:
            raise ConnectionError("nobody asks")
        data += part
    first, *lines = data.decode("latin-1").split("\r\n\r\n")[0].split("\r\n")
    asked = Asked((name.lower(), value) for name, _, value in (line.partition(": ") for line in lines))
    asked.line = first
    return asked


def missing(path: str, sock: socket.socket) -> None:
    sock.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")


@contextmanager
def serving(handler: type[socketserver.BaseRequestHandler]) -> Iterator[tuple[str, int]]:
    """A server on loopback; its threads end with their connections."""

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=lambda: server.serve_forever(0.01), daemon=True)
        thread.start()
        try:
            yield ("127.0.0.1", int(server.server_address[1]))
        finally:
            server.shutdown()
            thread.join()
