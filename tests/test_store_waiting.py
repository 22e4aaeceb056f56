"""Who waits for the store keeps nobody else waiting: a session that is busy, a file that another process has locked."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
from served import serving

from orchestra import AsyncOrchestra
from orchestra.errors import SessionBusy
from orchestra.gateway import branches
from orchestra.standin import StandIn

MANY = 33  # more than the threads that an event loop has by itself
PROMPTLY = 2.0


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """The store as it is while another process writes to it."""
    with closing(sqlite3.connect(home / "sessions.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def test_many_that_wait_for_a_busy_session_hold_nothing_up_and_may_leave(standin: StandIn) -> None:
    async def main() -> None:
        async with AsyncOrchestra(host=standin.url) as orchestra:
            orchestra.store.create("s")
            busy = orchestra.store.begin("s", "first")
            waiting = [asyncio.create_task(orchestra.session("s").ask("later")) for _ in range(MANY)]
            await asyncio.sleep(0.3)
            async with asyncio.timeout(PROMPTLY):
                assert await orchestra.runtime.call(lambda: "done") == "done"
                assert len(await orchestra.session("s").turns()) == 1
                for task in waiting:
                    task.cancel()
                await asyncio.gather(*waiting, return_exceptions=True)
            busy.finish()
            await asyncio.sleep(0.2)
            assert [turn.question for turn in orchestra.store.history("s")] == ["first"], "whoever has left asks nothing any more"

    asyncio.run(main())


def test_a_busy_session_is_waited_for_and_not_for_ever(standin: StandIn) -> None:
    async def main() -> None:
        async with AsyncOrchestra(host=standin.url, store_timeout=1) as orchestra:
            orchestra.store.create("s")
            busy = orchestra.store.begin("s", "first")
            with pytest.raises(SessionBusy):
                await orchestra.session("s").ask("too early")
            second = asyncio.create_task(orchestra.session("s").ask("in time"))
            await asyncio.sleep(0.2)
            busy.finish()
            await second
            assert [turn.question for turn in orchestra.store.history("s")] == ["first", "in time"]

    asyncio.run(main())


def test_a_locked_store_holds_up_no_request_longer_than_it_is_worth(standin: StandIn, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branches, "PATIENCE", 0.2)

    def ask(client: httpx.Client, chat: str) -> int:
        asked = {"model": "orchestra/lawyer", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
        return client.post("/v1/chat/completions", json=asked, headers={"X-Orchestra-Chat": chat} if chat else {}).status_code

    with serving(standin.url) as run:
        client = run()
        assert ask(client, "c") == 200
        with locked(home), ThreadPoolExecutor(MANY) as asking:
            before = time.monotonic()
            answers = [asking.submit(ask, client, f"c{place}") for place in range(MANY)]
            assert {answer.result() for answer in answers} == {200}
            assert ask(client, "") == 200
            assert time.monotonic() - before < 10
        assert [one["chat"] for one in client.get("/sessions").json()["sessions"]].count("c") == 1
