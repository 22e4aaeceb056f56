"""The stand-in daemon as its users hold it: start it, script it, let it fail, and look at what it was asked."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import KW_ONLY, InitVar, dataclass
from types import TracebackType
from typing import Any

from orchestra.errors import StandInFault
from orchestra.standin.engine import engine
from orchestra.standin.faults import FAULTS, takes_place
from orchestra.standin.inference import House
from orchestra.standin.library import Library
from orchestra.standin.link import Exchange, Link
from orchestra.standin.scheduler import Scheduler
from orchestra.standin.script import Reply, Script
from orchestra.standin.server import Server, respond
from orchestra.standin.versions import profile
from orchestra.standin.weights import STANDARD, known

INFERENCE = {
    "/api/generate": "prompt", "/api/chat": "messages", "/api/embed": "input", "/api/embeddings": "prompt",
    "/v1/chat/completions": "messages", "/v1/completions": "prompt", "/v1/embeddings": "input",
}  # fmt: skip


@dataclass(eq=False)
class StandIn:
    """A daemon in this process, on a port of its own, with a mechanical engine in place of a model.

    `replies`: what it shall say, one for each generation; `models`: names it has (default `llama3`, `llama3:text`);
    `window`: the context that a model is loaded with where nobody says otherwise; `slots`: answers at once; `pace` and
    `load_seconds`: seconds between two pieces and for a load; `version`: the daemon that it behaves like; `max_queue`:
    requests that may wait for a model to be loaded; `seed`: where the requests bring none.
    Raises `StandInFault` for a model it does not know, and at the end of a `with` block for replies that are left over.
    """

    replies: InitVar[Iterable[Reply] | None] = None
    _: KW_ONLY
    models: InitVar[Iterable[str] | None] = None
    window: int = 4096
    slots: int = 1
    pace: float | None = None
    load_seconds: float = 0.0
    version: str = "0.32.15"
    max_queue: int = 512
    seed: int = 0
    port: int = 0

    def __post_init__(self, replies: Iterable[Reply] | None, models: Iterable[str] | None) -> None:
        self._house = House(
            library=Library(known(name) for name in (STANDARD if models is None else models)),
            scheduler=Scheduler(slots=self.slots, load_seconds=self.load_seconds, max_queue=self.max_queue),
            script=Script(replies or ()),
            engine=engine(),
            profile=profile(self.version),
            window=self.window,
            pace=self.pace or 0.0,
            seeds=random.Random(self.seed),
            seeds_lock=threading.Lock(),
        )
        self._server: Server | None = None
        self._lock = threading.Lock()
        self._requests: list[Exchange] = []
        self._faults: deque[tuple[str, str | None, int | None]] = deque()

    def start(self) -> StandIn:
        """Listen. Raises `OSError` where the port is taken."""
        if self._server is None:
            self._server = Server(self.port, self._serve)
        return self

    def stop(self) -> None:
        """Close all connections; generations that still run are given up."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()

    def __enter__(self) -> StandIn:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        left = self._house.script.left()
        if kind is None and left:
            raise StandInFault(detail=f"{len(left)} scripted replies were not asked for, the first is {left[0].pieces!r}")

    @property
    def url(self) -> str:
        """Where it listens. Raises `StandInFault` before it was started."""
        if self._server is None:
            raise StandInFault(detail="it has not been started")
        return f"http://127.0.0.1:{self._server.port}"

    @property
    def requests(self) -> list[Exchange]:
        """All requests so far, in order."""
        with self._lock:
            return list(self._requests)

    def asked(self, path: str) -> list[dict[str, Any]]:
        """The JSON bodies that were sent to a path, in order."""
        return [each.body for each in self.requests if each.path == path and each.body is not None]

    @property
    def loads(self) -> int:
        """How often a model was loaded that was not."""
        return self._house.scheduler.loads

    @property
    def reloads(self) -> int:
        """How often a model was loaded again because a request wanted it otherwise."""
        return self._house.scheduler.reloads

    @property
    def active(self) -> int:
        """Generations that run now."""
        return self._house.scheduler.active

    @property
    def cancelled(self) -> int:
        """Generations whose client left, running or still waiting for a slot."""
        return self._house.scheduler.cancelled

    def kill(self) -> None:
        """Let the loaded models die, as if their processes were killed: answers end with an error, the next request loads again."""
        self._house.scheduler.kill()

    def script(self, *replies: Reply) -> None:
        """More scripted replies."""
        self._house.script.add(replies)

    def fail(self, fault: str, times: int = 1, path: str | None = None, *, at: int | None = None) -> None:
        """Let the next `times` inference requests (or requests to `path`) meet a fault; `at` which byte, where that can be said.

        Raises `StandInFault` for a fault that it does not know, or that happens at no byte.
        """
        if fault not in FAULTS:
            raise StandInFault(detail=f"it knows no fault {fault!r}, only {', '.join(sorted(FAULTS))}")
        if at is not None and not takes_place(fault):
            raise StandInFault(detail=f"the fault {fault!r} happens at no byte that could be chosen")
        with self._lock:
            self._faults.extend([(fault, path, at)] * times)

    def _serve(self, link: Link) -> None:
        with self._lock:
            self._requests.append(link.exchange)
            fault = self._next_fault(link.exchange)
        if fault is None:
            respond(self._house, link)
        else:
            name, at = fault
            FAULTS[name](link, **({} if at is None else {"at": at}))

    def _next_fault(self, exchange: Exchange) -> tuple[str, int | None] | None:
        for entry in self._faults:
            fault, path, at = entry
            if exchange.path == path or (path is None and _infers(exchange)):
                self._faults.remove(entry)
                return fault, at
        return None


def _infers(exchange: Exchange) -> bool:
    """Whether a request asks the model for something; one that only loads does not."""
    field = INFERENCE.get(exchange.path)
    return field is not None and bool((exchange.body or {}).get(field))
