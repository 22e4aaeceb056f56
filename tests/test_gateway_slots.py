"""The daemon's slots shared by holder and user: who is next, whatever happens on the way; and through a gateway."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import AbstractAsyncContextManager
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from orchestra import slots as slots_module
from orchestra.gateway.app import Border
from orchestra.gateway.identity import Users
from orchestra.gateway.keys import Keys
from orchestra.request import Broken
from orchestra.runtime import Looped
from orchestra.settings import Settings
from orchestra.slots import MOST_BEFORE, Asker, Slots, Turn, asking, on_behalf_of

HOLDERS, USERS = ("alice", "bob"), ("1", "2")


class House:
    """Slots, and what has happened at them."""

    def __init__(self, places: int = 1) -> None:
        self.slots = Slots(places)
        self.waiting: list[Turn] = []
        self.holding: list[Turn] = []
        self.granted: list[Turn] = []

    def enter(self, holder: str = "", user: str = "", *, task: bool = False) -> Turn:
        asker = Asker(holder, user, task=task)
        turn = self.slots.enter(asker, lambda: self._woken(asker))
        (self.holding if turn.held else self.waiting).append(turn)
        if turn.held:
            self.granted.append(turn)
        return turn

    def leave(self, turn: Turn) -> None:
        (self.holding if turn.held else self.waiting).remove(turn)
        self.slots.leave(turn)

    def order(self) -> list[str]:
        """Who is served from now on, one after the other, if nobody comes."""
        before = len(self.granted)
        while self.holding:
            self.leave(self.holding[0])
        return [turn.asker.user or turn.asker.holder for turn in self.granted[before:]]

    def _woken(self, asker: Asker) -> None:
        turn = asker.turns[0]
        assert turn.held
        self.waiting.remove(turn)
        self.holding.append(turn)
        self.granted.append(turn)


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("enter"), st.sampled_from(HOLDERS), st.sampled_from(USERS), st.booleans()),
        st.tuples(st.sampled_from(["done", "gone"]), st.integers(0, 20)),
    ),
    max_size=60,
)


@given(st.integers(1, 3), EVENTS)
def test_the_places_are_taken_and_no_more_than_these(places: int, events: list[tuple[object, ...]]) -> None:
    house = House(places)
    for what, *which in events:
        if what == "enter":
            house.enter(str(which[0]), str(which[1]), task=bool(which[2]))
        elif turns := house.holding if what == "done" else house.waiting:
            house.leave(turns[int(str(which[0])) % len(turns)])
        assert house.slots.held == len(house.holding) <= places
        assert not house.waiting or len(house.holding) == places  # nobody waits beside a free place
        assert sorted(turn.place for turn in house.waiting) == list(range(1, len(house.waiting) + 1))
    everybody = len(house.waiting)
    assert len(house.order()) == everybody
    assert (house.slots.held, house.slots._shares, house.slots._waiting) == (0, {}, [])


@given(EVENTS)
def test_between_two_turns_of_who_waits_everybody_else_has_one(events: list[tuple[object, ...]]) -> None:
    assert not impatient(House(), events)


def impatient(house: House, events: list[tuple[object, ...]]) -> str:
    """Who has waited while another holder, or another user of the same holder, had two turns; with one place."""
    had: dict[tuple[str, ...], Counter[tuple[str, ...]]] = {}
    for what, *which in events:
        seen = len(house.granted)
        if what == "enter":
            house.enter(str(which[0]), str(which[1]), task=bool(which[2]))
        elif turns := house.holding if what == "done" else house.waiting:
            house.leave(turns[int(str(which[0])) % len(turns)])
        waiting = {key for turn in house.waiting for key in keys(turn)}
        had = {key: had.get(key, Counter()) for key in waiting}
        for turn in house.granted[seen:]:
            for key in waiting:
                if key in keys(turn):
                    had[key].clear()
                    continue
                had[key].update(other for other in keys(turn) if len(other) == len(key) and other[:-1] == key[:-1])
                if had[key] and max(had[key].values()) > 1:
                    return f"{key} waits: {had[key]}"
    return ""


def keys(turn: Turn) -> tuple[tuple[str, ...], ...]:
    return (turn.asker.holder,), (turn.asker.holder, turn.asker.user)


@pytest.mark.parametrize(("known", "users"), [(slice(2, 5), "123"), (slice(0, 2), "111")], ids=["no holders", "no users"])
def test_red_control_less_is_known_of_who_asks(monkeypatch: pytest.MonkeyPatch, known: slice, users: str) -> None:
    rank = Slots._rank
    monkeypatch.setattr(Slots, "_rank", lambda self, turn: rank(self, turn)[known])
    other = ("enter", "bob", "1", False) if users == "123" else ("enter", "alice", "2", False)
    assert impatient(House(), [*(("enter", "alice", user, False) for user in users), other, *[("done", 0)] * 4])


def test_holders_in_turn_then_their_users() -> None:
    house = House()
    house.enter("x", "running")
    for holder, user in [("a", "a1"), ("a", "a1"), ("a", "a2"), ("a", "a2"), ("b", "b1"), ("b", "b1")]:
        house.enter(holder, user)
    foreseen = [turn.asker.user for turn in house.slots.order()]
    assert foreseen == house.order() == ["a1", "b1", "a2", "b1", "a1", "a2"]


def test_who_has_just_had_a_turn_comes_after_who_comes_now() -> None:
    """A task with one turn running and one waiting: the newcomer is next all the same."""
    house = House()
    running = house.enter("team", "task", task=True)
    house.enter("team", "task", task=True)
    house.enter("team", "newcomer")
    house.leave(running)
    assert house.granted[-1].asker.user == "newcomer"


def test_with_two_places_nobody_has_both_while_another_waits() -> None:
    house = House(2)
    long, short = house.enter("a", "long"), house.enter("b", "short")
    for user in ("long", "short"):
        house.enter("a" if user == "long" else "b", user)
    house.leave(short)
    assert house.granted[-1].asker.user == "short"  # the other holds a place already
    house.leave(house.granted[-1])
    assert house.granted[-1].asker.user == "long"
    assert long.held


def test_talk_goes_before_a_task_of_the_same_user_but_not_for_ever() -> None:
    house = House()
    house.enter("", "u")
    house.enter("", "u", task=True)
    for _ in range(MOST_BEFORE + 2):
        house.enter("", "u")
    house.order()
    assert [turn.task for turn in house.granted[1:]] == [*[False] * MOST_BEFORE, True, False, False]


def test_red_control_talk_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots_module, "MOST_BEFORE", 100)
    with pytest.raises(AssertionError):
        test_talk_goes_before_a_task_of_the_same_user_but_not_for_ever()


# --- on an event loop


def order_of(*users: str, leaves: int | None = None) -> list[str]:
    """Who gets the one slot, in the order in which they get it; one of them leaves while it waits."""
    runtime, order = Looped(parallel=1), list[str]()

    async def turn(user: str) -> None:
        with on_behalf_of(Asker("", user)):
            async with runtime.slot():
                order.append(user)
                await asyncio.sleep(0)

    async def main() -> None:
        async with runtime.slot():
            tasks = [asyncio.ensure_future(turn(user)) for user in users]
            await asyncio.sleep(0)
            if leaves is not None:
                tasks[leaves].cancel()
                await asyncio.sleep(0)
        await asyncio.wait(tasks)

    asyncio.run(main())
    return order


def test_a_slot_is_given_by_turns_and_who_leaves_is_passed_over() -> None:
    assert order_of("a", "a", "b") == ["a", "b", "a"]
    assert order_of("a", "a", "b", "b", leaves=2) == ["a", "b", "a"]


def test_who_leaves_in_the_moment_of_its_turn_hands_it_on() -> None:
    runtime = Looped(parallel=1)

    async def main() -> None:
        async with runtime.slot():
            first = asyncio.ensure_future(held(runtime))
            second = asyncio.ensure_future(held(runtime))
            await asyncio.sleep(0)
        first.cancel()  # its turn has come, it has not run yet
        await asyncio.wait((first, second), timeout=5)
        assert (first.cancelled(), second.done()) == (True, True)

    asyncio.run(main())


async def held(runtime: Looped) -> None:
    async with runtime.slot():
        pass


def test_a_slot_outlives_the_task_that_took_it() -> None:
    """Python gives the number of an ended task to the next: it is not taken for the one that holds the slot."""
    runtime = Looped(parallel=1)

    async def late() -> None:
        with pytest.raises(Broken):
            async with runtime.slot(time.monotonic()):
                pass

    async def main() -> None:
        slot = runtime.slot()
        await asyncio.ensure_future(entered(slot))
        for _ in range(50):
            await asyncio.ensure_future(late())
        await slot.__aexit__(None, None, None)
        await held(runtime)

    asyncio.run(main())


async def entered(slot: AbstractAsyncContextManager[None]) -> None:
    await slot.__aenter__()


def test_turns_are_in_order_of_arrival_where_nobody_says_who_asks() -> None:
    asker = [Asker("", "") for _ in range(5)]
    house = House()
    turns = [house.enter() for _ in asker]
    house.order()
    assert house.granted == turns
    assert all(one.since <= other.since for one, other in pairwise(turns))


# --- at the gateway's border


def asker_of(settings: Settings, client: str = "127.0.0.1", **headers: str) -> Asker:
    """For whom a request with these headers is answered."""
    seen: list[Asker] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.ensure_future(answered())  # whatever task works on it

    async def answered() -> None:
        seen.append(asking())

    async def nothing(*_: Any) -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    given = {"host": "localhost", **{name.replace("_", "-"): value for name, value in headers.items()}}
    scope = {
        "type": "http", "method": "POST", "path": "/chat", "raw_path": b"/chat", "query_string": b"", "state": {},
        "client": (client, 5), "server": ("127.0.0.1", 5002), "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }  # fmt: skip
    asyncio.run(Border(app, settings, Keys.of(settings), Users.of(settings))(scope, nothing, nothing))
    return seen[0]


def test_a_request_is_its_keys_and_its_users() -> None:
    keyed = Settings(tokens="alice=a-key-of-alice bob=a-key-of-bob")
    alice = asker_of(keyed, authorization="Bearer a-key-of-alice", x_openwebui_user_id="u1")
    assert (alice.holder, alice.user) == ("alice", "u1")
    assert asker_of(keyed, "10.0.0.7", authorization="Bearer a-key-of-bob").user == "10.0.0.7"
    assert asker_of(Settings()).holder == asking().holder == asking().user == ""
