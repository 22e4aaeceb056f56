"""Work for as long as somebody waits for it: a caller that leaves takes its question back, and the model is free for the next."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive

from orchestra.errors import DaemonUnreachable, OrchestraError

LEFT = 499  # what proxies note for a caller that did not wait; nobody reads it
LISTING = 4.0  # seconds: Open WebUI asks for a list of models before a page is shown, and gives it 10
_log = logging.getLogger("orchestra.gateway")
T = TypeVar("T")


async def attended(request: Request, work: Coroutine[Any, Any, T]) -> T | Response:
    """The work's result; where its caller has left, an answer that nobody reads."""
    with unforeseen():
        result = await within(request.receive, work)
    return Response(status_code=LEFT) if result is None else result[0]


@contextmanager
def unforeseen() -> Iterator[None]:
    """What ends the work in it unforeseen becomes an `OrchestraError`, which its caller is told."""
    try:
        yield
    except OrchestraError:
        raise
    except Exception as error:
        # its text may hold what was said: only its kind is noted
        _log.error("unforeseen: %s", type(error).__name__)
        raise OrchestraError(detail=type(error).__name__) from error


async def within(receive: Receive, work: Coroutine[Any, Any, T]) -> tuple[T] | None:
    """The work's result, in a tuple; None where the caller left before, whereupon the work is ended and what it stores is stored."""
    task, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait((task, leaving), return_when=asyncio.FIRST_COMPLETED)
        return (task.result(),) if task.done() else None
    finally:
        for one in (task, leaving):
            one.cancel()
        await asyncio.wait((task,))
        if not task.cancelled():
            task.exception()  # seen: whoever has left is not told


async def listed(work: Coroutine[Any, Any, T], url: str) -> T:
    """What the daemon at `url` lists: that takes no time, or never ends. Raises `DaemonUnreachable`."""
    try:
        async with asyncio.timeout(LISTING):
            return await work
    except TimeoutError:
        raise DaemonUnreachable(url=url, detail=f"no answer within {LISTING:g} s", detail_zh=f"{LISTING:g} 秒内没有回答") from None


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
