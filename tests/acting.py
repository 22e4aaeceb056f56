"""A stand-in whose persona and judge are actors: they answer what they were asked, not in an order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from orchestra.standin import Scripted, StandIn
from orchestra.standin.script import Reply, Script

Act = Callable[[dict[str, Any]], Reply]


class _Acted(Script):
    """Replies that are made of the request; one at a time is answered."""

    def __init__(self, daemon: StandIn, act: Act) -> None:
        super().__init__(())
        self._daemon, self._act = daemon, act

    def next(self) -> Scripted | None:
        reply = self._act(self._daemon.requests[-1].body or {})
        return reply if isinstance(reply, Scripted) else Scripted(reply)


def acting(act: Act, **about: Any) -> StandIn:
    """A stand-in with one slot that says what `act` makes of each body."""
    daemon = StandIn(**about)
    daemon._house = replace(daemon._house, script=_Acted(daemon, act))
    return daemon
