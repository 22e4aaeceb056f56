"""The two sides of the gateway's measurements, each a process of its own that says what it has used when it is asked.

    gateway_sides.py bare|on|off|kept URL

`bare` is the least that passes a stream on: Starlette, httpx and uvicorn as their manuals have it. `on` and `off` are the
gateway, with and without the guard; `kept` is one that keeps every dialogue as a session. A line on standard input is answered with one of JSON.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NamedTuple

import uvicorn


class Used(NamedTuple):
    """CPU seconds, resident KiB, open descriptors and tasks of a process."""

    cpu: float
    memory: int
    descriptors: int
    tasks: int


class Side:
    """One of the two, as whoever measures it sees it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.port = int(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def used(self) -> Used:
        """What it has used so far."""
        assert self._process.stdin is not None
        print(file=self._process.stdin, flush=True)
        return Used(*json.loads(self._line()))


@contextmanager
def sides(kinds: Sequence[str], url: str, **settings: str) -> Iterator[list[Side]]:
    """The sides of these kinds over the daemon at `url`, with these settings of ORCHESTRA_*."""
    with ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory(prefix="orchestra-bench-"))
        named = {f"ORCHESTRA_{name.upper()}": value for name, value in settings.items()}
        environment = {**os.environ, "OLLAMA_HOST": url, "ORCHESTRA_HOME": home, **named}
        found = []
        for kind in kinds:
            command = [sys.executable, __file__, kind, url]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
            stack.callback(process.communicate)
            found.append(Side(process))
        yield found


def bare(url: str) -> Any:
    """An app that passes everything on."""
    import httpx
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.requests import Request
    from starlette.responses import StreamingResponse
    from starlette.routing import Route

    client = httpx.AsyncClient(trust_env=False, timeout=60, limits=httpx.Limits(max_connections=None))

    async def passed(request: Request) -> StreamingResponse:
        asked = client.build_request("POST", url + "/api/chat", content=await request.body())
        answer = await client.send(asked, stream=True)
        return StreamingResponse(
            answer.aiter_raw(), answer.status_code, media_type=answer.headers["content-type"], background=BackgroundTask(answer.aclose)
        )

    return Starlette(routes=[Route("/{path:path}", passed, methods=["POST"])])


def gateway(kind: str) -> Any:
    """The gateway, of everybody."""
    from orchestra.gateway import create_app
    from orchestra.settings import Settings

    return create_app(settings=Settings.read(guard="off" if kind == "off" else "on", record=int(kind == "kept")))


async def main() -> None:
    """Serve until standard input is closed."""
    kind, url = sys.argv[1:]
    ended = asyncio.get_running_loop().create_future()
    threading.Thread(target=_told, args=(asyncio.get_running_loop(), ended), daemon=True).start()
    if kind == "bare":
        server = uvicorn.Server(uvicorn.Config(bare(url), port=0, access_log=False, log_level="error", backlog=2048, lifespan="off"))
        serving = asyncio.ensure_future(server.serve())
        while not server.started:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
        print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    else:
        from orchestra.gateway.serving import Service, serve

        app = gateway(kind)
        told = lambda found: print(found[0].rpartition(":")[2], flush=True)  # noqa: E731
        serving = asyncio.ensure_future(serve([Service(app, "127.0.0.1", 0)], app.state.orchestra.settings, told))
    await ended
    if kind == "bare":
        server.should_exit = True
    else:
        serving.cancel()
    with suppress(asyncio.CancelledError):
        await serving


def _told(loop: asyncio.AbstractEventLoop, ended: asyncio.Future[None]) -> None:
    for _ in sys.stdin:
        spent = time.process_time()
        gc.collect()
        used = Used(spent, _resident(), len(os.listdir("/dev/fd")), len(asyncio.all_tasks(loop)))
        print(json.dumps(used), flush=True)
    loop.call_soon_threadsafe(ended.set_result, None)


def _resident() -> int:
    """KiB, where the system tells them."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * (os.sysconf("SC_PAGESIZE") // 1024)
    except OSError:
        return 0


if __name__ == "__main__":
    asyncio.run(main())
