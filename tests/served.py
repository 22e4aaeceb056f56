"""Apps of the gateway, served on free ports in threads for as long as a test needs them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import httpx

from orchestra.gateway import create_app
from orchestra.gateway.serving import Service, serve
from orchestra.settings import Settings

Served = Callable[..., httpx.Client]


@contextmanager
def running(app: Any, settings: Settings, beside: str = "") -> Iterator[str]:
    """The address of an app that is served in a thread, and at `beside` as well."""
    told: list[str] = []
    ready = threading.Event()
    tasks: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []

    def announced(addresses: list[str]) -> None:
        told.extend(addresses)
        ready.set()

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append((asyncio.get_running_loop(), task))
        with suppress(asyncio.CancelledError):
            await serve([Service(app, "127.0.0.1", 0, beside)], settings, announced)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert ready.wait(10)
    try:
        yield told[0]
    finally:
        loop, task = tasks[0]
        loop.call_soon_threadsafe(task.cancel)
        thread.join(10)


@contextmanager
def serving(url: str) -> Iterator[Served]:
    """Serves apps on free ports in threads, over the daemon at `url`; gives clients of them."""
    with ExitStack() as ends:

        def run(*given: Any, token: str = "", body_limit: int = 2**20, **named: Any) -> httpx.Client:
            settings = Settings.read(host=url, token=token, body_limit=body_limit, language="en")
            address = ends.enter_context(running(create_app(*given, settings=settings, **named), settings))
            return ends.enter_context(httpx.Client(base_url=address, timeout=20, trust_env=False))

        yield run
