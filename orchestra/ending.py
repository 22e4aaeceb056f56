"""The end of all that waits on an event loop: a service that is told to end leaves nobody who waits in it without a word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from orchestra.errors import Interrupted


class Ending:
    """Waits that are ended all at once; what would begin to wait afterwards is ended as well."""

    def __init__(self) -> None:
        self.over = False
        self._waits: set[asyncio.Timeout] = set()

    @asynccontextmanager
    async def wait(self) -> AsyncIterator[None]:
        """What is waited for in here. Raises `Interrupted` where it is ended."""
        if self.over:
            raise Interrupted()
        try:
            async with asyncio.timeout(None) as wait:
                self._waits.add(wait)
                try:
                    yield
                finally:
                    self._waits.discard(wait)
        except TimeoutError:
            if wait.expired():
                raise Interrupted() from None
            raise

    def end(self) -> None:
        """Ends them; to be called on their loop."""
        self.over = True
        for wait in self._waits:
            wait.reschedule(0.0)
        self._waits.clear()
