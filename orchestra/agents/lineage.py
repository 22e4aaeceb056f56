"""Through which agents a question has come, so that agents that ask each other come to an end.

The depth travels in the header `Orchestra-Depth`, the names in `Orchestra-Visited`. The limit does not travel: it is
each process's own, and no header can raise it. A header that claims less than its list of names shows is not believed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote

from orchestra.errors import AgentRecursion

DEPTH, VISITED = "Orchestra-Depth", "Orchestra-Visited"
DEEPEST = 2
_NUMBER = re.compile(r"[0-9]{1,4}")
_LONGEST = 2048  # characters of the list of names


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """How many agents away the user is, and who they were; without either the question is the user's own."""

    depth: int = 0
    visited: tuple[str, ...] = ()

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Lineage:
        """What a request's headers say (names in any case). Raises `AgentRecursion` beyond the limit or where they cannot be read."""
        found = {name.lower(): value.strip() for name, value in headers.items()}
        depth, names = found.get(DEPTH.lower(), "0"), found.get(VISITED.lower(), "")
        if not _NUMBER.fullmatch(depth) or len(names) > _LONGEST:
            raise _too_deep("?")
        visited = tuple(unquote(name.strip()) for name in names.split(",") if name.strip())
        here = cls(depth=max(int(depth), len(visited)), visited=visited)
        if here.depth > DEEPEST:
            raise _too_deep(here.depth)
        return here

    def at(self, name: str) -> Lineage:
        """The same with the agent that has been reached. Raises `AgentRecursion` where the question was there before."""
        if name in self.visited:
            way = " > ".join((*self.visited, name))
            raise AgentRecursion(detail=f"asked before: {way}", detail_zh=f"此前已经问过：{way}")
        return replace(self, visited=(*self.visited, name))

    def beneath(self, name: str) -> Lineage:
        """Where `name` is when it is asked from here. Raises `AgentRecursion` where the question was there before, or is too far down."""
        if self.depth >= DEEPEST:
            raise _too_deep(self.depth + 1)
        return replace(self, depth=self.depth + 1).at(name)

    @property
    def deepest(self) -> bool:
        """Whether nobody may be asked from here any more."""
        return self.depth >= DEEPEST

    def leads_to(self, name: str) -> bool:
        """Whether another agent, `name`, may still be asked from here."""
        return self.depth < DEEPEST and name not in self.visited

    def steps(self, most: int) -> int:
        """How many steps a coordinator here may take: one that another one asks takes a single one, else they would multiply."""
        return most if self.depth == 0 else min(most, 1)

    def headers(self) -> dict[str, str]:
        """What the request to the next agent says of it."""
        named = {VISITED: ",".join(quote(name, safe="") for name in self.visited)} if self.visited else {}
        return {DEPTH: str(self.depth + 1), **named}


def _too_deep(depth: int | str) -> AgentRecursion:
    return AgentRecursion(detail=f"depth {depth}, at most {DEEPEST}", detail_zh=f"深度 {depth}，上限 {DEEPEST}")
