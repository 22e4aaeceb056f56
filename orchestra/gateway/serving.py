"""Services on their ports: taken before anything starts, ended in order, all of one process together."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import chain
from typing import NamedTuple
from urllib.parse import urlsplit

import uvicorn
from starlette.types import ASGIApp

from orchestra.errors import ConfigError, PortTaken, UsageError
from orchestra.errors.system import why
from orchestra.gateway.app import Gateway, turned_away
from orchestra.gateway.limits import protocol
from orchestra.model.hosts import daemon_url
from orchestra.settings import Settings

AIRPLAY = 5000
LAST_WORDS = 2  # seconds after an answer's time, in which it says that it was broken off
MAKE_TOKEN = "export ORCHESTRA_TOKEN=$(python3 -c 'import secrets; print(secrets.token_urlsafe(32))')"


class Service(NamedTuple):
    """An app and where it listens: at `host`, and on the same port at `beside`, where that is given."""

    app: ASGIApp
    host: str
    port: int
    beside: str = ""

    def listening(self) -> Iterator[socket.socket]:
        """Its sockets, each made when it is asked for. Raises `PortTaken`."""
        yield (first := self.bound())
        if self.beside:
            yield self._replace(host=self.beside, port=first.getsockname()[1]).bound()

    def bound(self) -> socket.socket:
        """The socket at `host`, listening. Raises `PortTaken`."""
        try:
            family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
            listening = socket.create_server((self.host, self.port), family=family, backlog=2048)
            # asyncio does so only where a socket names its protocol: without it a small piece may wait 40 ms for an acknowledgement
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return listening
        except (OSError, OverflowError) as error:
            raise PortTaken(port=self.port, detail=taken(self.port, error), detail_zh=taken(self.port, error, "zh")) from None


def taken(port: int, error: Exception, language: str = "en", platform: str = sys.platform) -> str:
    """Why a port could not be had; on macOS it is known who has 5000."""
    reason = why(error).text(language)
    if port == AIRPLAY and platform == "darwin" and getattr(error, "errno", None) == errno.EADDRINUSE:
        return reason + {
            "en": " (on macOS the AirPlay receiver has it: System Settings > General > AirDrop & Handoff)",
            "zh": "（macOS 的“隔空播放接收器”占用该端口：系统设置 > 通用 > 隔空投送与接力）",
        }[language]
    return reason


async def serve(services: Sequence[Service], settings: Settings, ready: Callable[[list[str]], object]) -> None:
    """Serve until SIGINT or SIGTERM: then nobody new is let in, answers get `settings.grace` seconds; a second one ends at once.

    `ready` is told the addresses once they can be reached. Raises `PortTaken` before any of them is, `UsageError` for an
    address that others can reach while there is no token, and `ConfigError` where `OLLAMA_HOST` names one of them.
    """
    for host in chain.from_iterable((service.host, service.beside or service.host) for service in services):
        guarded(host, settings)
    with ExitStack() as held:
        sockets = [[held.enter_context(one) for one in service.listening()] for service in services]
        for sock in chain.from_iterable(sockets):
            not_itself(sock, settings)
        servers = [_Server(service, settings) for service in services]
        with _signals(servers):
            running = [asyncio.ensure_future(server.serve(each)) for server, each in zip(servers, sockets, strict=True)]
            ready([_url(service.host, each[0]) for service, each in zip(services, sockets, strict=True)])
            try:
                await asyncio.wait(running)
            except asyncio.CancelledError:
                _end(servers)
                await asyncio.wait(running)
                raise
            for task in running:
                task.result()


def guarded(host: str, settings: Settings) -> None:
    """Raises `UsageError` for an address that others can reach while there is no token."""
    if settings.token or settings.tokens or _loopback(host):
        return
    raise UsageError(
        detail=f"{host} can be reached by others, and there is no token",
        detail_zh=f"其他机器可以访问 {host}，但没有设置令牌",
        fix=f"make one: {MAKE_TOKEN} - or leave --host at 127.0.0.1",
        fix_zh=f"生成令牌：{MAKE_TOKEN}；或将 --host 保持为 127.0.0.1",
    )


def not_itself(sock: socket.socket, settings: Settings) -> None:
    """Raises `ConfigError` where the daemon's address is that of this socket: the service would ask itself."""
    daemon, (here, port) = urlsplit(daemon_url(settings.host)), sock.getsockname()[:2]
    if daemon.port != port:
        return
    reached = _addresses(daemon.hostname or "")
    everywhere = ipaddress.ip_address(here).is_unspecified
    if here in reached or (everywhere and any(_own(address) for address in reached)):
        raise ConfigError(
            name="OLLAMA_HOST", value=settings.host, detail="that is the address of this service, which would ask itself",
            detail_zh="这是本服务自身的地址，它会向自己提问", example="OLLAMA_HOST=http://127.0.0.1:11434 orchestra serve",
        )  # fmt: skip


def _own(address: str) -> bool:
    """Whether the address is one of this machine: only such a one can be bound."""
    with suppress(OSError), socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((address, 0))
        return True
    return False


def _addresses(host: str) -> set[str]:
    """What a name stands for; nothing where nobody knows it."""
    with suppress(ValueError):
        return {str(ipaddress.ip_address(host))}
    try:
        return {str(row[4][0]) for row in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return set()


def _loopback(host: str) -> bool:
    """Whether everything that the name stands for is this machine alone."""
    found = _addresses(host) if host else set()
    return bool(found) and all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in found)


class _Server(uvicorn.Server):
    """One of several in a process: signals are for all of them, so none takes them for itself.

    Answers that have not ended after their time are broken off, and have a moment to say so.
    """

    def __init__(self, service: Service, settings: Settings) -> None:
        super().__init__(_config(service, settings))
        self._app, self._grace = service.app, settings.grace

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        timer = None
        if isinstance(self._app, Gateway):
            timer = asyncio.get_running_loop().call_later(self._grace, self._app.interrupt)
        try:
            await super().shutdown(sockets)
        finally:
            if timer is not None:
                timer.cancel()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _config(service: Service, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        service.app, http=protocol(settings, partial(turned_away, settings)), log_config=None, log_level="error", access_log=False,
        server_header=False, proxy_headers=False, timeout_graceful_shutdown=max(1, round(settings.grace)) + LAST_WORDS, lifespan="on",
    )  # fmt: skip


def _end(servers: Sequence[uvicorn.Server]) -> None:
    """Told once, they end in order; told twice, at once."""
    for server in servers:
        server.force_exit = server.should_exit
        server.should_exit = True


@contextmanager
def _signals(servers: Sequence[uvicorn.Server]) -> Iterator[None]:
    loop, caught = asyncio.get_running_loop(), (signal.SIGINT, signal.SIGTERM)
    with suppress(NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
        for one in caught:
            loop.add_signal_handler(one, _end, servers)
    try:
        yield
    finally:
        with suppress(NotImplementedError, RuntimeError, ValueError):
            for one in caught:
                loop.remove_signal_handler(one)


def _url(host: str, sock: socket.socket) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{sock.getsockname()[1]}"
