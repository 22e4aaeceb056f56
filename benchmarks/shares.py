"""Shares with their intervals, and how many items of each part fit into the time there is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

Z = 1.96  # of 95 %


class Share(NamedTuple):
    """How many of `n` had it."""

    hits: int = 0
    n: int = 0

    def plus(self, hit: bool | Share) -> Share:
        """The share with one more, or with all of another."""
        return Share(self.hits + hit.hits, self.n + hit.n) if isinstance(hit, Share) else Share(self.hits + hit, self.n + 1)

    def interval(self) -> tuple[float, float]:
        """In which the true share lies in 95 of 100 cases (Wilson 1927), from 0 to 1; it holds for small `n` too."""
        if not self.n:
            return 0.0, 1.0
        share, spread = self.hits / self.n, Z * Z / self.n
        middle = (share + spread / 2) / (1 + spread)
        half = Z / (1 + spread) * math.sqrt(share * (1 - share) / self.n + spread / self.n / 4)
        return max(0.0, middle - half), min(1.0, middle + half)


class Left(NamedTuple):
    """Items of a part that are still to be asked, and the seconds that one took so far."""

    items: int
    seconds: float


def planned(left: Mapping[str, Left], seconds: float) -> dict[str, int]:
    """How many more items of each part fit into `seconds`: each part has the same time, and what one does not need the others have."""
    more: dict[str, int] = {}
    for number, (name, part) in enumerate(sorted(left.items(), key=lambda one: one[1].items * one[1].seconds)):
        share = max(0.0, seconds) / (len(left) - number)
        more[name] = min(part.items, int(share / part.seconds)) if part.seconds else part.items
        seconds -= more[name] * part.seconds
    return more
