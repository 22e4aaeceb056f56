"""What `serve` does: the apps that are asked for, on their ports, until Ctrl-C."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from orchestra.agents.remote import address
from orchestra.api import DEFAULT_COORDINATOR, DEFAULT_EXPERTS
from orchestra.cli.outcome import Wish
from orchestra.cli.terminal import tell
from orchestra.cli.words import LANGUAGE
from orchestra.gateway import require
from orchestra.settings import Settings

LESSON_PORT = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What is to be served, as the command line has it."""

    persona: str = ""
    coordinator: bool = False
    experts: tuple[str, ...] = ()
    descriptions: Mapping[str, str] = field(default_factory=dict)
    lesson: bool = False
    port: int = 5002
    host: str = "127.0.0.1"
    guard: str | None = None
    record: bool = False
    for_docker: bool = False
    quiet: bool = False


def serve_until_told(served: Served, wish: Wish) -> None:
    """Serve until SIGINT or SIGTERM."""
    require()
    from orchestra.cli.containers import bridge, reachable, started
    from orchestra.cli.greeting import Door, announced, behind, greet, pasted
    from orchestra.cli.watching import watching
    from orchestra.gateway.serving import Service, serve

    settings = Settings.read(guard=served.guard, record=1 if served.record else None)
    beside = ""
    if served.for_docker:
        settings, beside = reachable(settings), bridge()
    made = apps(served, settings)
    services = [Service(app, served.host, port, beside) for app, port in made]
    notices = {app.state.notice for app, _ in made if app.state.notice}
    tasks: list[asyncio.Task[None]] = []

    def ready(addresses: list[str]) -> None:
        for (app, _), url in zip(made, addresses, strict=True):
            greet(announced(app.state.roster, url))
        if not served.quiet:
            last = made[-1][0].state
            door = Door.of(last.roster, addresses[-1], settings)
            greet([*pasted(door), *(started(door, settings, beside) if served.for_docker else [])])
            tasks.append(asyncio.ensure_future(_said(behind(last.orchestra))))  # asked when it answers already
        for notice in notices:
            tell(notice.text(LANGUAGE))

    with nullcontext() if served.quiet else watching():
        asyncio.run(serve(services, settings, ready=ready))


async def _said(text: Awaitable[str]) -> None:
    tell(await text)


def apps(served: Served, settings: Settings) -> list[tuple[Any, int]]:
    """The apps that are asked for, each with its port. Raises `UsageError` or `PersonaMissing` for an expert that nobody could ask."""
    from orchestra.gateway import create_app

    coordinator = DEFAULT_COORDINATOR if served.coordinator or served.experts or served.lesson else ""
    if not served.lesson:
        app = create_app(
            persona=served.persona, experts=served.experts, coordinator=coordinator, descriptions=served.descriptions, settings=settings
        )
        for each in served.experts:  # now, and not with the first task
            if address(each) is None:
                app.state.roster.library.persona(each)
        return [(app, served.port)]
    # in one process the coordinator asks the personas themselves: neither a token nor an address comes between
    experts = [(create_app(persona=name, settings=settings), LESSON_PORT + i) for i, name in enumerate(DEFAULT_EXPERTS)]
    return [*experts, (create_app(coordinator=coordinator, settings=settings), LESSON_PORT + len(experts))]
