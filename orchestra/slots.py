"""The daemon's slots, shared: holder by holder, user by user, who talks before what works through a task.

The daemon itself takes whoever comes first, so that one task with many generations is in everybody's way (and says to
nobody how long: its queue cannot be seen). Here nobody waits for more than one generation of each other: a holder's turn
comes by what it holds now, then by how long ago it had one; likewise among its users.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

MOST_BEFORE = 3  # turns of talk before a turn of the same user's task that waits


@dataclass(slots=True, eq=False)
class Asker:
    """For whom work is done: one request of a `user` with a `holder`'s key; what it waits for can be seen here.

    `task` says that it works through a task of many generations: those of its user that talk go before.
    """

    holder: str = ""
    user: str = ""
    task: bool = False
    turns: list[Turn] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Turn:
    """One generation that waits for a slot (since this moment of `time.monotonic()`), or is `held` in one."""

    asker: Asker
    slots: Slots
    wake: Callable[[], None]
    task: bool
    since: float = field(default_factory=time.monotonic)
    held: bool = False

    @property
    def place(self) -> int:
        """How many turns come before it, itself included: 1 = it is next. As far as can be said, for others may come."""
        return self.slots.order().index(self) + 1


@dataclass(slots=True, eq=False)
class Load:
    """A model that is being loaded for somebody, since this moment of `time.monotonic()`."""

    model: str
    since: float = field(default_factory=time.monotonic)


_ASKER: ContextVar[Asker | None] = ContextVar("asker", default=None)


def asking() -> Asker:
    """For whom this code runs; where nobody has said so, somebody without a name."""
    return _ASKER.get() or Asker()


@contextmanager
def on_behalf_of(asker: Asker) -> Iterator[None]:
    """What runs in this block, and the tasks that it starts, is work for `asker`."""
    token = _ASKER.set(asker)
    try:
        yield
    finally:
        _ASKER.reset(token)


@contextmanager
def loading(model: str) -> Iterator[None]:
    """While this block runs, whoever it runs for waits for a model that is being loaded."""
    loads, load = asking().loads, Load(model)
    loads.append(load)
    try:
        yield
    finally:
        loads.remove(load)


@dataclass(slots=True, eq=False)
class _Share:
    """What a holder or a user has: turns that wait, slots, when it last had a turn; how often talk went before its task."""

    last: int
    waiting: int = 0
    held: int = 0
    passed: int = 0


class Slots:
    """So many `places`, and those that wait for one. It waits for nothing itself: who is next is woken."""

    def __init__(self, places: int) -> None:
        self.places, self.held = max(1, places), 0
        self._waiting: list[Turn] = []
        self._shares: dict[tuple[str, ...], _Share] = {}
        self._count = 0
        self._order: list[Turn] | None = None

    @property
    def full(self) -> bool:
        """Whether somebody who comes now has to wait."""
        return self.held >= self.places

    def enter(self, asker: Asker, wake: Callable[[], None]) -> Turn:
        """A turn, `held` at once where there is a place; `wake` is called when it is held later."""
        turn = Turn(asker, self, wake, asker.task)
        asker.turns.append(turn)
        self._waiting.append(turn)
        for key in _keys(turn):
            self._share(key).waiting += 1
        if self.full:
            self._order = None
        else:
            self._hold(turn)
        return turn

    def leave(self, turn: Turn) -> None:
        """Ends a turn, whether it waited or was held; whoever is next is woken."""
        turn.asker.turns.remove(turn)
        if turn.held:
            self.held -= 1
        else:
            self._waiting.remove(turn)
        for key in _keys(turn):
            share = self._shares[key]
            if turn.held:
                share.held -= 1
                share.last = self._next()
            else:
                share.waiting -= 1
            if not share.held and not share.waiting:
                del self._shares[key]
        self._order = None
        if self._waiting and not self.full:
            following = min(self._waiting, key=self._rank)
            self._hold(following)
            following.wake()

    def order(self) -> list[Turn]:
        """Those that wait, in the order in which they would be held if nobody came: a holder's first turn, another's, its second."""
        if self._order is None:
            users = self._by(sorted(self._waiting, key=lambda turn: turn.task), level=1)
            self._order = self._by(users, level=0)
        return self._order

    def _share(self, key: tuple[str, ...]) -> _Share:
        if key not in self._shares:
            self._shares[key] = _Share(self._next())
        return self._shares[key]

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _rank(self, turn: Turn) -> tuple[int, ...]:
        """Less goes first; among equals who came first."""
        holder, user = (self._shares[key] for key in _keys(turn))
        later = turn.task != (user.passed >= MOST_BEFORE)
        return holder.held, holder.last, user.held, user.last, later

    def _hold(self, turn: Turn) -> None:
        turn.held, self._order = True, None
        self.held += 1
        self._waiting.remove(turn)
        for key in _keys(turn):
            share = self._shares[key]
            share.waiting -= 1
            share.held += 1
            share.last = self._next()
        share.passed = 0 if turn.task or not self._task_waits(turn.asker) else share.passed + 1

    def _task_waits(self, asker: Asker) -> bool:
        return any(one.task and (one.asker.holder, one.asker.user) == (asker.holder, asker.user) for one in self._waiting)

    def _by(self, turns: list[Turn], *, level: int) -> list[Turn]:
        """The turns, in turn by holder (level 0) or by user (1), each one's own in the order in which they are given."""
        ahead = Counter[tuple[str, ...]]()
        ranked: list[tuple[int, bool, int, Turn]] = []
        for turn in turns:
            key = _keys(turn)[level]
            share = self._shares[key]
            ranked.append((share.held + ahead[key], ahead[key] > 0, share.last, turn))
            ahead[key] += 1
        return [turn for *_, turn in sorted(ranked, key=lambda each: each[:3])]


def _keys(turn: Turn) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return (turn.asker.holder,), (turn.asker.holder, turn.asker.user)
